"""Loss and accuracy of parameters on a set of images.

Loss is mean softmax cross-entropy in nats; accuracy is the fraction correct, in [0, 1]. Both are
means over labels: one an image, or as many as a network has rows of logits, such as one a token.
Images are never augmented here, as in the paper's interpolation plots.

Another loss is a `loss_fn(outputs, labels)`, for regression or masked tokens. It returns losses,
one for each label, of which the mean is taken; or the mean over a batch; or losses and weights, a
pair of one shape, for their weighted mean. Accuracy is then NaN, unless labels are still
integers of shape `outputs.shape[:-1]`; weights count there, too.
"""

import contextlib
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from rebasin_lab import datasets, pytrees, texts

BATCH_SIZE = 5000  # images per forward pass at most; a 512-wide layer then takes 10 MB
BATCH_BYTES = 2**31  # of what is in memory at once: fewer images where that would be more


OTHER_LOSS = "Give a loss_fn for another loss than cross-entropy, such as that of a regression."
NAN_ADVICE = (
    "Images, labels and parameters hold no NaN: look for inf - inf and 0 / 0 in what apply_fn and "
    "loss_fn compute."
)


class Metrics(NamedTuple):
    """Mean loss, in nats unless a `loss_fn` was given, and fraction correct."""

    loss: float
    accuracy: float


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """The mean softmax cross-entropy of a batch, in nats; computed in float32 or wider."""
    return _cross_entropies(logits, labels).mean()


def _cross_entropies(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(pytrees.widened(logits), labels)


def evaluate(
    apply_fn: Callable,
    params: PyTree,
    images: Shaped[Array | np.ndarray, "n ..."],
    labels: Shaped[Array | np.ndarray, "m ..."],
    *,
    loss_fn: Callable | None = None,
) -> Metrics:
    """Mean loss and accuracy over all labels, image by image in order.

    It warns if the loss is NaN, which has no accuracy either.

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
    params = pytrees.checked_arrays(params)
    images, labels = checked_examples(apply_fn, params, images, labels, loss_fn=loss_fn)
    metrics = measure(apply_fn, params, images, labels, loss_fn=loss_fn)
    if math.isnan(metrics.loss):
        warnings.warn(f"The loss is NaN. {NAN_ADVICE}", stacklevel=2)
    return metrics


def measure(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
) -> Metrics:
    """`evaluate` without its checks, for loops that have called `checked_examples` before."""
    loss, weight, correct, count = _totals(apply_fn, params, images, labels, loss_fn)
    if math.isnan(loss):  # of logits that are NaN, one is the largest by accident
        return Metrics(math.nan, math.nan)
    return Metrics(loss / weight, correct / count)


def total_weight(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
) -> float:
    """The number of losses over all labels; or the sum of weights, where `loss_fn` returns such."""
    if loss_fn is None:
        return float(labels.size)
    return _totals(apply_fn, params, images, labels, loss_fn)[1]


def _totals(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    loss_fn: Callable | None,
) -> list[float]:
    """Sums over all images of what `_sums` returns for a batch."""
    size = batch_size_for(apply_fn, params, images)
    sums = np.zeros(4)
    for start in range(0, images.shape[0], size):
        batch = slice(start, start + size)
        sums += [float(x) for x in _sums(apply_fn, params, images[batch], labels[batch], loss_fn)]
    if not sums[1]:
        raise ValueError(
            "Expected weights of which some are above 0; those of loss_fn sum to 0 over all labels."
        )
    return sums.tolist()


def mean_loss(outputs: Any, labels: Array, loss_fn: Callable | None = None) -> Float[Array, ""]:
    """Return the mean loss of a batch: softmax cross-entropy in nats, or that of `loss_fn`."""
    if loss_fn is None:
        return cross_entropy(outputs, labels)
    loss, weight, _ = weighted_loss(outputs, labels, loss_fn)
    return loss / jnp.where(weight == 0, 1, weight)


def loss_name(loss_fn: Callable | None) -> str | None:
    """The name that figures have for a loss: that of its function; None for cross-entropy."""
    if loss_fn is None:
        return None
    while isinstance(loss_fn, functools.partial):
        loss_fn = loss_fn.func
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return name if name.isidentifier() else "loss"


def batch_size_for(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    *,
    most: int | None = None,
    num_kept: int = 0,
) -> int:
    """The number of images at a time, by bytes.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: all of them.
        most: images at a time, `BATCH_SIZE` by default.
        num_kept: how many times what products and convolutions return is kept: twice for the
            activations of two networks, or for a gradient. Without, only the largest array of a
            forward pass has to stay below `BATCH_BYTES`.
    """
    size = min(BATCH_SIZE if most is None else most, len(images))
    _, largest, total = _forward_pass(apply_fn, params, images, size)
    in_memory = max(largest, num_kept * total)
    return size if in_memory <= BATCH_BYTES else max(1, size * BATCH_BYTES // in_memory)


def checked_data(
    apply_fn: Callable,
    params: PyTree,
    data: datasets.Dataset,
    *,
    loss_fn: Callable | None = None,
    name: str = "data",
    advice: str = OTHER_LOSS,
) -> dict[str, tuple[Array | np.ndarray, Array | np.ndarray]]:
    """The images and labels of both splits of a data set, checked as by `checked_examples`.

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
    return {
        split: checked_examples(
            apply_fn,
            params,
            getattr(data, f"{split}_images"),
            getattr(data, f"{split}_labels"),
            loss_fn=loss_fn,
            name=f"the {split} split of {name}",
            advice=advice,
        )
        for split in ("train", "test")
    }


def checked_examples(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
    name: str = "images",
    advice: str = OTHER_LOSS,
) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """Images and labels as arrays that a loss can be measured on: checked before any work.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: those to measure on: arrays of NumPy or JAX, or tensors of PyTorch.
        labels: theirs, likewise.
        loss_fn: as for `evaluate`.
        name: what a message calls the images and labels.
        advice: what a message says of labels that are no classes.

    Raises:
        ValueError: naming what was expected of which, and what came.
    """
    if loss_fn is not None:
        check_function(loss_fn, "loss_fn", ("outputs", "labels"))
    labels = _in_type_of_jax(as_array(labels, f"labels of {name}"), f"labels of {name}")
    images = as_array(images, f"images of {name}")
    if len(images) != len(labels):
        raise ValueError(
            f"Expected images with one label each; got {len(images)} images, {len(labels)} labels "
            f"for {name}."
        )
    images, outputs = checked_images(apply_fn, params, images, name=f"images of {name}")
    if loss_fn is None:
        _check_classes(outputs, labels, name, advice)
    else:
        _check_losses(outputs, labels, loss_fn, name)
    return images, labels


def checked_images(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    *,
    name: str = "images",
) -> tuple[Array | np.ndarray, PyTree]:
    """Images as an array that a network can be applied to, and shapes of what it returns.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: those to apply it to.
        name: what a message calls the images.

    Returns:
        The images; the outputs of at most `BATCH_SIZE` of them, as `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: naming what was expected of which, and what came.
    """
    check_function(apply_fn, "apply_fn", ("params", "images"))
    images = checked_array(images, name)
    check_parameters(params, "the parameters")
    size = min(BATCH_SIZE, len(images))
    outputs, *_ = _forward_pass(apply_fn, params, images, size)
    if hasattr(outputs, "shape") and (not outputs.shape or outputs.shape[0] != size):
        raise ValueError(
            f"Expected apply_fn to return a row for each of {size} images; got outputs of "
            f"shape {outputs.shape}."
        )
    return images, outputs


def checked_array(array: Any, name: str) -> Array | np.ndarray:
    """An array as `as_array` has it, with something in it and without NaN.

    Raises:
        ValueError: naming what was expected, and what came.
    """
    array = _in_type_of_jax(as_array(array, name), name)
    if not len(array):
        raise ValueError(f"Expected {name}; got none, an array of shape {array.shape}.")
    _check_numbers(array, f"the {name}", "Look where they come from.")
    return array


def as_array(array: Any, name: str) -> Array | np.ndarray:
    """An array of NumPy or JAX as it is, or a tensor of PyTorch as one of NumPy.

    Raises:
        ValueError: for what is no array, has no axes, or a mask.
    """
    array = pytrees.as_arrays({name: array})[name]
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"Expected {name} without a mask; got a masked array. Fill it: write x.filled(value)."
        )
    if not isinstance(array, np.ndarray | jax.Array) or not array.ndim:
        what = f"the number {array!r}" if np.isscalar(array) else type(array).__name__
        raise ValueError(
            f"Expected {name} to be an array; got {what}. Write np.asarray(...) around them."
        )
    return array if isinstance(array, jax.Array) else np.asarray(array)


def _in_type_of_jax(array: Array | np.ndarray, name: str) -> Array | np.ndarray:
    """An array in the type that JAX makes of it, such as float32 of float64.

    Raises:
        ValueError: for numbers that do not fit.
    """
    if isinstance(array, jax.Array) or not pytrees.holds_numbers(array):
        return array
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    lost = narrow != array if is_integer else np.isinf(narrow) & ~np.isinf(array)
    if lost.any():
        raise ValueError(
            f"Expected {name} that fit into {dtype}, which JAX makes of {array.dtype} here; got "
            f"{array[lost][0]}. Scale them, or enable jax_enable_x64."
        )
    return narrow


def check_parameters(params: PyTree, name: str) -> None:
    """Check that a model, real or complex, holds no NaN.

    Raises:
        ValueError: naming the first leaf that does, and how many of its entries.
    """
    for path, leaf in pytrees.flatten(params).items():
        kind = getattr(getattr(leaf, "dtype", None), "kind", type(leaf).__name__)
        if kind in ("O", "S", "U", "M", "str", "bytes", "function"):
            raise ValueError(
                f"Expected numbers in {name} '{path}'; got {getattr(leaf, 'dtype', leaf)!r}. Leave "
                "out what is no parameter."
            )
        _check_no_nan(leaf, f"{name} '{path}'", "Did their training diverge?")


def check_function(function: Any, name: str, arguments: Sequence[str] = ()) -> None:
    """Check that a function can be called, and compiled once for all calls.

    Args:
        function: any object.
        name: what a message calls it.
        arguments: those it has to take, if that is known.

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
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some builtins
        return
    try:
        if arguments:
            signature.bind(*arguments)
    except TypeError as error:
        raise ValueError(
            f"Expected a function {name}({', '.join(arguments)}); it takes {signature}: {error}. "
            "Write a lambda around it."
        ) from error


def _check_numbers(array: Array | np.ndarray, name: str, advice: str) -> None:
    """Check that there are numbers in an array, and no NaN."""
    if not pytrees.holds_numbers(array):
        raise ValueError(
            f"Expected numbers in {name}, in a type that JAX has; got {array.dtype}. Convert them "
            "to float32 or int32."
        )
    _check_no_nan(array, name, advice)


def _check_no_nan(array: Any, name: str, advice: str) -> None:
    if not np.size(array) or not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
        return
    if np.isnan(np.min(np.asarray(array))):
        bad = int(np.isnan(np.asarray(array)).sum())
        raise ValueError(
            f"Expected numbers in {name}; of {np.size(array)} values {name} holds {bad} NaN. "
            f"{advice}"
        )


def check_logits(outputs: Any, advice: str) -> None:
    """Check that outputs, or their shapes and types, are logits.

    Raises:
        ValueError: saying what they are, and what to do.
    """
    if not hasattr(outputs, "shape"):
        raise ValueError(
            f"Expected apply_fn to return one array of logits; got {type(outputs).__name__}. "
            f"Write a function around it that picks the logits. {advice}"
        )
    if len(outputs.shape) < 2 or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(
            "Expected apply_fn to return logits, floats of shape [images, ..., classes]; got "
            f"{outputs.dtype} of shape {outputs.shape}. {advice}"
        )


def _check_classes(outputs: Any, labels: Array | np.ndarray, name: str, other: str) -> None:
    """Labels against logits, of which `outputs` has shape and type."""
    check_logits(outputs, other)
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


def _check_losses(outputs: Any, labels: Array | np.ndarray, loss_fn: Callable, name: str) -> None:
    """The shapes and types of what `loss_fn` returns for a batch."""
    _check_numbers(labels, f"the labels of {name}", "Give losses of them weight 0, and a number.")
    size = min(BATCH_SIZE, len(labels))
    of_batch = jax.ShapeDtypeStruct((size, *labels.shape[1:]), labels.dtype)
    with _traceable("loss_fn", outputs=outputs, labels=of_batch):
        jaxpr, losses = jax.make_jaxpr(loss_fn, return_shape=True)(outputs, of_batch)
    pair = isinstance(losses, tuple) and len(losses) == 2
    parts = losses if pair else (losses,)
    shapes = [getattr(one, "shape", None) for one in parts]
    if None in shapes or (pair and shapes[0] != shapes[1]):
        raise ValueError(
            "Expected loss_fn to return losses, or losses and weights of one shape; got "
            f"{jax.tree.map(lambda one: getattr(one, 'shape', one), losses)}."
        )
    if wrong := [one.dtype for one in parts if jnp.issubdtype(one.dtype, jnp.complexfloating)]:
        raise ValueError(
            f"Expected loss_fn to return real numbers; got {wrong[0]}. Take their absolute values."
        )
    taken = (*jax.tree.leaves(outputs), of_batch)
    most = max(math.prod(x.shape) for x in taken)
    # Of a mean no shape tells that [n, 1] outputs and [n] labels made it of n * n pairs.
    are_columns = size > 1 and most == size and len({x.shape for x in taken}) > 1
    crossed = [shape for shape in _shapes_in(jaxpr.jaxpr) if shape.count(size) > 1]
    wrong = shapes[0] and (shapes[0][0] != size or math.prod(shapes[0]) > most)
    if wrong or (are_columns and crossed):
        raise ValueError(
            "Expected loss_fn to compute a loss for each label; got arrays of shape "
            f"{shapes[0] if wrong else crossed[0]} for labels of shape {of_batch.shape} and "
            f"outputs of {jax.tree.map(lambda one: one.shape, outputs)}. Give both one shape "
            "first, or they are paired all with all."
        )


@contextlib.contextmanager
def _traceable(name: str, **arguments: Any) -> Iterator[None]:
    """Say what a caller's function was called with, and what to do, if it cannot be traced."""
    try:
        yield
    # Whatever it raises, the advice is the same. What the lab says of it itself, stays.
    except Exception as error:
        text = texts.in_a_line(" ".join(str(error).split("\n\n")[0].split()), 400)
        if isinstance(error, ValueError) and text.startswith("Expected "):
            raise
        advice = "Check that they belong to this function."
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            advice = (
                "It is compiled: write jnp in place of np, and jnp.where in place of if on values."
            )
        listed = " and ".join(
            f"{what} of {_shapes_of(argument)}" for what, argument in arguments.items()
        )
        raise ValueError(
            f"Expected {name} to take {listed}; it raised {type(error).__name__}: {text} {advice}"
        ) from error


def _shapes_of(tree: PyTree) -> str:
    """Types and shapes of the first leaves."""
    leaves = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    return ", ".join(leaves[:3]) + (f" and {len(leaves) - 3} more" if len(leaves) > 3 else "")


def _shapes_in(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Return the shapes of all arrays that are computed, in loops and calls, too."""
    for equation in jaxpr.eqns:
        yield from (getattr(variable.aval, "shape", ()) for variable in equation.outvars)
        for inner in _jaxprs_in(equation):
            yield from _shapes_in(inner)


def _jaxprs_in(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


def _dtype(array: Any) -> Any:
    return array.dtype if isinstance(array, jax.Array) else jnp.result_type(array)


def _forward_pass(
    apply_fn: Callable, params: PyTree, images: Array | np.ndarray, size: int
) -> tuple[PyTree, int, int]:
    """Return shapes and types of a batch's outputs, bytes of the largest array, and of products."""
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf)) for leaf in leaves)
    batch = jax.ShapeDtypeStruct((size, *images.shape[1:]), _dtype(images))
    params = jax.tree.unflatten(structure, shapes)
    with _traceable("apply_fn", parameters=params, images=batch):
        return _traced(apply_fn, structure, shapes, batch)


@functools.lru_cache(maxsize=256)
def _traced(
    apply_fn: Callable, structure: Any, shapes: tuple, batch: jax.ShapeDtypeStruct
) -> tuple[PyTree, int, int]:
    params = jax.tree.unflatten(structure, shapes)
    jaxpr, outputs = jax.make_jaxpr(apply_fn, return_shape=True)(params, batch)
    return outputs, *_bytes(jaxpr.jaxpr)


def _bytes(jaxpr: Any) -> tuple[int, int]:
    """Bytes of the largest array that is computed, and of all that products return together.

    Those in loops and calls count, too. Most else is fused with what comes before or after.
    """
    largest = total = 0
    for equation in jaxpr.eqns:
        computed = [
            math.prod(getattr(aval, "shape", ()))
            * getattr(getattr(aval, "dtype", 0), "itemsize", 0)
            for aval in (variable.aval for variable in equation.outvars)
        ]
        inside = [_bytes(inner) for inner in _jaxprs_in(equation)]
        largest = max([largest, *computed, *(one for one, _ in inside)])
        is_product = equation.primitive.name in ("dot_general", "conv_general_dilated")
        total += sum(computed) if is_product else sum(of_products for _, of_products in inside)
    return largest, total


def weighted_loss(
    outputs: Any, labels: Array, loss_fn: Callable | None
) -> tuple[Array, Array | int, Array | None]:
    """The weighted sum of a batch's losses, the sum of weights, and weights if there are any.

    In float32 or wider: sums of half precision would overflow.
    """
    if loss_fn is None:
        losses = _cross_entropies(outputs, labels)
        return losses.sum(), losses.size, None
    losses = loss_fn(outputs, labels)
    if isinstance(losses, tuple):
        losses, weights = (pytrees.widened(jnp.asarray(x)) for x in losses)
        return jnp.where(weights == 0, 0, losses * weights).sum(), weights.sum(), weights
    losses = pytrees.widened(jnp.asarray(losses))
    if not losses.ndim:
        return losses * len(labels), len(labels), None
    return losses.sum(), losses.size, None


@functools.partial(jax.jit, static_argnames=("apply_fn", "loss_fn"))
def _sums(
    apply_fn: Callable, params: PyTree, images: Array, labels: Array, loss_fn: Callable | None
) -> tuple[Array, Array | int, Array | float, Array | int]:
    """Return a batch's summed losses and their weight, the number of correct labels and of all."""
    outputs = apply_fn(params, images)
    shape = getattr(outputs, "shape", None)
    if shape is not None and shape[:1] != (len(images),):  # of a last batch, say
        raise ValueError(
            f"Expected apply_fn to return a row for each of {len(images)} images; got outputs of "
            f"shape {shape}."
        )
    loss, weight, weights = weighted_loss(outputs, labels, loss_fn)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or shape is None or labels.shape != shape[:-1]:
        return loss, weight, jnp.nan, 1
    correct = jnp.argmax(outputs, axis=-1) == labels
    if weights is None or weights.shape != labels.shape:
        return loss, weight, correct.sum(), labels.size
    return loss, weight, (correct * weights).sum(), weight
