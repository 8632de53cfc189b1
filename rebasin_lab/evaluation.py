"""Loss and accuracy of parameters on a set of images.

Loss is mean softmax cross-entropy in nats; accuracy is the fraction correct, in [0, 1]. Both are
means over labels: one an image, or as many as a network has rows of logits, such as one a token.
Images are never augmented here, as in the paper's interpolation plots.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree, Shaped

BATCH_SIZE = 5000  # images per forward pass; a 512-wide layer then takes 10 MB


class Metrics(NamedTuple):
    """Mean loss in nats and fraction correct."""

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
    labels: Int[Array | np.ndarray, "m ..."],
) -> Metrics:
    """Mean loss and accuracy over all labels, image by image in order.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure, compiled once per function.
        params: the parameters.
        images: a device array is used where it lies; for many calls, put it there once.
        labels: class indices, of shape `logits.shape[:-1]`.

    Raises:
        ValueError: if there are no images, or not one label each.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"Expected images with one label each; got {len(images)} images, {len(labels)} labels."
        )
    total_loss, total_correct = 0.0, 0
    for start in range(0, images.shape[0], BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        loss, correct = _batch_sums(apply_fn, params, images[batch], labels[batch])
        total_loss += float(loss)
        total_correct += int(correct)
    return Metrics(total_loss / np.size(labels), total_correct / np.size(labels))


@functools.partial(jax.jit, static_argnames="apply_fn")
def _batch_sums(
    apply_fn: Callable, params: PyTree, images: Array, labels: Array
) -> tuple[Array, Array]:
    logits = apply_fn(params, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()
    return loss, (jnp.argmax(logits, axis=-1) == labels).sum()
