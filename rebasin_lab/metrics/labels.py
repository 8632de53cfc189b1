"""Checks of labels against the outputs of a network: classes, or what a `loss_fn` takes."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rebasin_lab.metrics import arrays, batches


def check_logits(outputs: Any, advice: str) -> None:
    """Check that outputs, or their shapes and types, are logits.

    Raises:
        ValueError: naming what they are, and what to do.
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


def check_classes(outputs: Any, labels: Array | np.ndarray, name: str, other: str) -> None:
    """Check labels against logits, of which `outputs` has shape and type."""
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


def check_losses(outputs: Any, labels: Array | np.ndarray, loss_fn: Callable, name: str) -> None:
    """Check shapes and types of the losses that `loss_fn` returns for a batch."""
    arrays.check_numbers(
        labels, f"the labels of {name}", "Give losses of them weight 0, and a number."
    )
    size = min(batches.BATCH_SIZE, len(labels))
    batch_labels = jax.ShapeDtypeStruct((size, *labels.shape[1:]), labels.dtype)
    with batches.traceable("loss_fn", outputs=outputs, labels=batch_labels):
        jaxpr, losses = jax.make_jaxpr(loss_fn, return_shape=True)(outputs, batch_labels)
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
    arguments = (*jax.tree.leaves(outputs), batch_labels)
    most = max(math.prod(x.shape) for x in arguments)
    # [n, 1] outputs and [n] labels give n * n pairs, which the shape of a mean does not show.
    are_columns = size > 1 and most == size and len({x.shape for x in arguments}) > 1
    crossed = [shape for shape in batches.shapes_in(jaxpr.jaxpr) if shape.count(size) > 1]
    wrong = shapes[0] and (shapes[0][0] != size or math.prod(shapes[0]) > most)
    if wrong or (are_columns and crossed):
        raise ValueError(
            "Expected loss_fn to compute a loss for each label; got arrays of shape "
            f"{shapes[0] if wrong else crossed[0]} for labels of shape {batch_labels.shape} and "
            f"outputs of {jax.tree.map(lambda one: one.shape, outputs)}. Give both one shape "
            "first, or they are paired all with all."
        )
