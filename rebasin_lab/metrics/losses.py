"""Losses of outputs and labels: softmax cross-entropy in nats, or another `loss_fn`.

A `loss_fn(outputs, labels)`, for example of a regression or of masked tokens, returns one loss per
label, of which the mean is taken; or the mean over a batch; or losses and weights, a pair of one
shape, for their weighted mean.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rebasin_lab import pytrees


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """The mean softmax cross-entropy of a batch, in nats; computed in float32 or wider."""
    return _cross_entropies(logits, labels).mean()


def _cross_entropies(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(pytrees.widened(logits), labels)


def mean_loss(outputs: Any, labels: Array, loss_fn: Callable | None = None) -> Float[Array, ""]:
    """Return the mean loss of a batch: softmax cross-entropy in nats, or that of `loss_fn`."""
    if loss_fn is None:
        return cross_entropy(outputs, labels)
    loss, weight, _ = weighted_loss(outputs, labels, loss_fn)
    return loss / jnp.where(weight == 0, 1, weight)


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


def loss_name(loss_fn: Callable | None) -> str | None:
    """The name of a loss on figures: that of its function; None for cross-entropy."""
    if loss_fn is None:
        return None
    while isinstance(loss_fn, functools.partial):
        loss_fn = loss_fn.func
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return name if name.isidentifier() else "loss"
