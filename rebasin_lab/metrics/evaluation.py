"""Mean loss and accuracy over a set of images, in batches."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from rebasin_lab import pytrees
from rebasin_lab.metrics import batches, inputs, losses

NAN_ADVICE = (
    "Images, labels and parameters hold no NaN: look for inf - inf and 0 / 0 in what apply_fn and "
    "loss_fn compute."
)


class Metrics(NamedTuple):
    """Mean loss, in nats unless a `loss_fn` was given, and fraction correct."""

    loss: float
    accuracy: float


def evaluate(
    apply_fn: Callable,
    params: PyTree,
    images: Shaped[Array | np.ndarray, "n ..."],
    labels: Shaped[Array | np.ndarray, "m ..."],
    *,
    loss_fn: Callable | None = None,
) -> Metrics:
    """Mean loss and accuracy over all labels.

    Warns if the loss is NaN; the accuracy is NaN then, too.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure, compiled once per function.
        params: the parameters.
        images: an array on the host or on a device; for many calls, put it on the device once.
        labels: class indices, of shape `logits.shape[:-1]`; or the labels of `loss_fn`.
        loss_fn: `loss_fn(outputs, labels)`, see `losses`; softmax cross-entropy by default.

    Raises:
        ValueError: if there are no images, or not one label each; for labels that are no classes of
            the network, and for NaN in images, labels or parameters.
    """
    params = pytrees.checked_arrays(params)
    images, labels = inputs.checked_examples(apply_fn, params, images, labels, loss_fn=loss_fn)
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
    if math.isnan(loss):  # the argmax of NaN means nothing
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
    """The number of losses over all labels; the sum of their weights if `loss_fn` returns them."""
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
    """The sums of `_sums` over all batches."""
    size = batches.batch_size_for(apply_fn, params, images)
    sums = np.zeros(4)
    for start in range(0, images.shape[0], size):
        batch = slice(start, start + size)
        sums += [float(x) for x in _sums(apply_fn, params, images[batch], labels[batch], loss_fn)]
    if not sums[1]:
        raise ValueError(
            "Expected weights of which some are above 0; those of loss_fn sum to 0 over all labels."
        )
    return sums.tolist()


@functools.partial(jax.jit, static_argnames=("apply_fn", "loss_fn"))
def _sums(
    apply_fn: Callable, params: PyTree, images: Array, labels: Array, loss_fn: Callable | None
) -> tuple[Array, Array | int, Array | float, Array | int]:
    """A batch's summed losses, their weight, and the numbers of correct labels and of all."""
    outputs = apply_fn(params, images)
    shape = getattr(outputs, "shape", None)
    if shape is not None and shape[:1] != (len(images),):  # of a last batch, say
        raise ValueError(
            f"Expected apply_fn to return a row for each of {len(images)} images; got outputs of "
            f"shape {shape}."
        )
    loss, weight, weights = losses.weighted_loss(outputs, labels, loss_fn)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or shape is None or labels.shape != shape[:-1]:
        return loss, weight, jnp.nan, 1
    correct = jnp.argmax(outputs, axis=-1) == labels
    if weights is None or weights.shape != labels.shape:
        return loss, weight, correct.sum(), labels.size
    return loss, weight, (correct * weights).sum(), weight
