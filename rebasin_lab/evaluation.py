"""Loss and accuracy of parameters on a set of images.

Loss is mean softmax cross-entropy in nats; accuracy is the fraction correct, in [0, 1]. Both are
means over labels: one an image, or as many as a network has rows of logits, such as one a token.
Images are never augmented here, as in the paper's interpolation plots.

Another loss is a `loss_fn(outputs, labels)`, for regression or masked tokens. It returns losses,
one for each label, of which the mean is taken; or the mean over a batch; or losses and weights, a
pair of one shape, for their weighted mean. Accuracy is then NaN, unless labels are still
integers of shape `outputs.shape[:-1]`; weights count there, too.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from rebasin_lab import datasets, pytrees

BATCH_SIZE = 5000  # images per forward pass at most; a 512-wide layer then takes 10 MB
BATCH_BYTES = (
    2**31
)  # of the largest array a network computes: fewer images where it would be larger


class Metrics(NamedTuple):
    """Mean loss, in nats unless a `loss_fn` was given, and fraction correct."""

    loss: float
    accuracy: float


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """The mean softmax cross-entropy of a batch, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def evaluate(
    apply_fn: Callable,
    params: PyTree,
    images: Shaped[Array | np.ndarray, "n ..."],
    labels: Shaped[Array | np.ndarray, "m ..."],
    *,
    loss_fn: Callable | None = None,
) -> Metrics:
    """Mean loss and accuracy over all labels, image by image in order.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure, compiled once per function.
        params: the parameters.
        images: a device array is used where it lies; for many calls, put it there once.
        labels: class indices, of shape `logits.shape[:-1]`; or what `loss_fn` takes.
        loss_fn: `loss_fn(outputs, labels)`, see the module; softmax cross-entropy by default.

    Raises:
        ValueError: if there are no images, or not one label each; for labels that are no classes of
            the network, and for NaN in images, labels or parameters.
    """
    params = pytrees.as_arrays(params)
    check_examples(apply_fn, params, images, labels, loss_fn=loss_fn)
    return measure(apply_fn, params, images, labels, loss_fn=loss_fn)


def measure(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
) -> Metrics:
    """`evaluate` without its checks, for loops that have called `check_examples` before."""
    size = batch_size_for(apply_fn, params, images)
    sums = np.zeros(4)
    for start in range(0, images.shape[0], size):
        batch = slice(start, start + size)
        sums += [float(x) for x in _sums(apply_fn, params, images[batch], labels[batch], loss_fn)]
    loss, weight, correct, count = sums.tolist()
    if not weight:
        raise ValueError(
            "Expected weights of which some are above 0; those of loss_fn sum to 0 over all labels."
        )
    return Metrics(loss / weight, correct / count)


def mean_loss(outputs: Any, labels: Array, loss_fn: Callable | None = None) -> Float[Array, ""]:
    """The mean loss of a batch: softmax cross-entropy in nats, or what `loss_fn` says."""
    if loss_fn is None:
        return cross_entropy(outputs, labels)
    loss, weight, _ = _weighted(outputs, labels, loss_fn)
    return loss / jnp.where(weight == 0, 1, weight)


def batch_size_for(apply_fn: Callable, params: PyTree, images: Array | np.ndarray) -> int:
    """How many images at a time keep the largest array of a forward pass below `BATCH_BYTES`."""
    size = min(BATCH_SIZE, len(images))
    largest = _forward_pass(apply_fn, params, images)[1]
    return size if largest <= BATCH_BYTES else max(1, size * BATCH_BYTES // largest)


def check_data(
    apply_fn: Callable,
    params: PyTree,
    data: datasets.Dataset,
    *,
    loss_fn: Callable | None = None,
    name: str = "data",
) -> None:
    """Check both splits of a data set as `check_examples` does.

    Raises:
        ValueError: as there, and for what is no data set.
    """
    if not isinstance(data, datasets.Dataset):
        raise ValueError(
            f"Expected {name} to be a Dataset: a loss is measured on its images and labels; got "
            f"{type(data).__name__}. Take one from load_dataset, or build a Dataset. (Where only a "
            "matcher looks at batches of your own, give compare_matchers the data set of the lines "
            "as evaluated_on.)"
        )
    for split in ("train", "test"):
        check_examples(
            apply_fn,
            params,
            getattr(data, f"{split}_images"),
            getattr(data, f"{split}_labels"),
            loss_fn=loss_fn,
            name=f"the {split} split of {name}",
        )


def check_examples(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
    name: str = "images",
) -> None:
    """Check that a loss can be measured: labels against outputs, and no NaN, before any work.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: those to measure on.
        labels: theirs.
        loss_fn: as for `evaluate`.
        name: what a message calls the images and labels.

    Raises:
        ValueError: naming what was expected of which, and what came.
    """
    for what, function in (("apply_fn", apply_fn), ("loss_fn", loss_fn)):
        if function is not None or what == "apply_fn":
            check_function(function, what)
    for what, array in (("images", images), ("labels", labels)):
        if not hasattr(array, "shape") or not hasattr(array, "dtype") or not array.ndim:
            raise ValueError(
                f"Expected {what} of {name} to be an array; got {type(array).__name__}. Write "
                "np.asarray(...) around them."
            )
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"Expected images with one label each; got {len(images)} images, {len(labels)} labels "
            f"for {name}."
        )
    _check_no_nan(images, f"the images of {name}", "Look where they come from.")
    check_parameters(params, "the parameters")
    outputs = _forward_pass(apply_fn, params, images)[0]
    expected = min(BATCH_SIZE, len(images))
    if not hasattr(outputs, "shape"):
        if loss_fn is None:
            raise ValueError(
                f"Expected apply_fn to return one array of logits; got {type(outputs).__name__}. "
                "Write a function around it that picks the logits, or give a loss_fn that takes "
                "all."
            )
    elif not outputs.shape or outputs.shape[0] != expected:
        raise ValueError(
            f"Expected apply_fn to return a row for each of {expected} images; got outputs of "
            f"shape {outputs.shape}."
        )
    if loss_fn is None:
        _check_classes(outputs, labels, name)
    else:
        _check_losses(outputs, labels, loss_fn, expected, name)


def check_parameters(params: PyTree, name: str) -> None:
    """Check that a model, real or complex, holds no NaN.

    Raises:
        ValueError: naming the first leaf that does, and how many of its entries.
    """
    for path, leaf in pytrees.flatten(params).items():
        _check_no_nan(leaf, f"{name} '{path}'", "Did their training diverge?")


def check_function(function: Any, name: str) -> None:
    """Check that a function can be called, and compiled once for all calls.

    Raises:
        ValueError: if not, naming it.
    """
    if not callable(function):
        raise ValueError(f"Expected {name} to be a function; got {function!r}.")
    try:
        hash(function)
    except TypeError as error:
        raise ValueError(
            f"Expected {name} to be hashable, as functions and bound methods are; got a "
            f"{type(function).__name__}. Write a lambda around it."
        ) from error


def _check_no_nan(array: Any, name: str, advice: str) -> None:
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "f") in "OSUM":
        raise ValueError(f"Expected numbers in {name}; got {dtype}.")
    if not np.size(array) or (dtype is not None and not jnp.issubdtype(dtype, jnp.inexact)):
        return
    if np.isnan(np.min(np.asarray(array))):
        bad = int(np.isnan(np.asarray(array)).sum())
        raise ValueError(
            f"Expected numbers in {name}; of {np.size(array)} values {name} holds {bad} NaN. "
            f"{advice}"
        )


def _check_classes(outputs: Any, labels: Array | np.ndarray, name: str) -> None:
    """Labels against logits, of which `outputs` has shape and type."""
    other = "Give a loss_fn for another loss than cross-entropy, such as that of a regression."
    if len(outputs.shape) < 2 or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(
            "Expected apply_fn to return logits, floats of shape [images, ..., classes]; got "
            f"{outputs.dtype} of shape {outputs.shape}. {other}"
        )
    num_classes, shape = outputs.shape[-1], (len(labels), *outputs.shape[1:-1])
    if labels.shape != shape:
        advice = other
        if labels.shape == (*shape, 1):
            advice = "Write labels[..., 0]."
        elif labels.shape == (*shape, num_classes):
            advice = "Of one-hot labels write labels.argmax(-1)."
        raise ValueError(
            f"Expected one label for each row of logits, of shape {shape}; the labels of {name} "
            f"have shape {labels.shape}. {advice}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected integers from 0 to {num_classes - 1}, classes, as the labels of {name}; got "
            f"{labels.dtype}. {other}"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"Expected labels from 0 to {num_classes - 1}, since there are {num_classes} logits; "
            f"those of {name} go from {lowest} to {highest}. To leave some out, such as those of "
            "-100, give a loss_fn that returns losses and weights, with weight 0 for these."
        )


def _check_losses(
    outputs: Any, labels: Array | np.ndarray, loss_fn: Callable, size: int, name: str
) -> None:
    """The shapes of what `loss_fn` returns for a batch."""
    _check_no_nan(labels, f"the labels of {name}", "Give losses of them weight 0, and a number.")
    of_batch = jax.ShapeDtypeStruct((size, *labels.shape[1:]), _dtype(labels))
    losses = jax.eval_shape(loss_fn, outputs, of_batch)
    pair = isinstance(losses, tuple) and len(losses) == 2
    shapes = [getattr(one, "shape", None) for one in (losses if pair else (losses,))]
    if None in shapes or (pair and shapes[0] != shapes[1]):
        raise ValueError(
            "Expected loss_fn to return losses, or losses and weights of one shape; got "
            f"{jax.tree.map(lambda one: getattr(one, 'shape', one), losses)}."
        )
    most = max(math.prod(x.shape) for x in (*jax.tree.leaves(outputs), of_batch))
    if shapes[0] and (shapes[0][0] != size or math.prod(shapes[0]) > most):
        raise ValueError(
            f"Expected loss_fn to return a loss for each label; got losses of shape {shapes[0]} "
            f"for labels of shape {of_batch.shape} and outputs of "
            f"{jax.tree.map(lambda one: one.shape, outputs)}. Give both one shape first, or "
            "they are paired all with all."
        )


def _dtype(array: Any) -> Any:
    return array.dtype if isinstance(array, jax.Array) else jnp.result_type(array)


def _forward_pass(
    apply_fn: Callable, params: PyTree, images: Array | np.ndarray
) -> tuple[PyTree, int]:
    """Shapes and types of the outputs of one batch, and the bytes of the largest array of it."""
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf)) for leaf in leaves)
    size = min(BATCH_SIZE, len(images))
    batch = jax.ShapeDtypeStruct((size, *images.shape[1:]), _dtype(images))
    return _traced(apply_fn, structure, shapes, batch)


@functools.lru_cache(maxsize=256)
def _traced(
    apply_fn: Callable, structure: Any, shapes: tuple, batch: jax.ShapeDtypeStruct
) -> tuple[PyTree, int]:
    params = jax.tree.unflatten(structure, shapes)
    jaxpr, outputs = jax.make_jaxpr(apply_fn, return_shape=True)(params, batch)
    return outputs, _largest_bytes(jaxpr.jaxpr)


def _largest_bytes(jaxpr: Any) -> int:
    """Bytes of the largest array that is computed, in loops and calls, too."""
    largest = 0
    for equation in jaxpr.eqns:
        for aval in (variable.aval for variable in equation.outvars):
            itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
            largest = max(largest, math.prod(getattr(aval, "shape", ())) * itemsize)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    largest = max(largest, _largest_bytes(inner))
    return largest


def _weighted(
    outputs: Any, labels: Array, loss_fn: Callable | None
) -> tuple[Array, Array | int, Array | None]:
    """The weighted sum of losses, the sum of weights, and weights if there are any."""
    if loss_fn is None:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        return losses.sum(), losses.size, None
    losses = loss_fn(outputs, labels)
    if isinstance(losses, tuple):
        losses, weights = losses
        return jnp.where(weights == 0, 0, losses * weights).sum(), weights.sum(), weights
    if not losses.ndim:
        return losses * len(labels), len(labels), None
    return losses.sum(), losses.size, None


@functools.partial(jax.jit, static_argnames=("apply_fn", "loss_fn"))
def _sums(
    apply_fn: Callable, params: PyTree, images: Array, labels: Array, loss_fn: Callable | None
) -> tuple[Array, Array | int, Array | float, Array | int]:
    """Of a batch: summed losses and their weight, the number of correct labels and of all."""
    outputs = apply_fn(params, images)
    loss, weight, weights = _weighted(outputs, labels, loss_fn)
    shape = getattr(outputs, "shape", ())
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape != shape[:-1]:
        return loss, weight, jnp.nan, 1
    correct = jnp.argmax(outputs, axis=-1) == labels
    if weights is None or weights.shape != labels.shape:
        return loss, weight, correct.sum(), labels.size
    return loss, weight, (correct * weights).sum(), weight
