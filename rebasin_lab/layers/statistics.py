"""Running statistics of BatchNorm measured anew, for any function."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import metrics, pytrees
from rebasin_lab.layers.layer import Layer
from rebasin_lab.layers.walk import Walk

_NO_WEIGHT = 1e30  # a variance that leaves nothing of what is normalised


def measured_statistics(
    apply_fn: Callable,
    params: PyTree,
    images: Any,
    *,
    batch_size: int = 500,
    num_batches: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the running statistics by path, each that of all images; none for a network without.

    Layer by layer, as the layers before it, measured anew, hand the images on. They are known by
    their names, see `pytrees.running_statistics`.

    Args:
        apply_fn: `apply_fn(params, images)` of JAX, in evaluation mode.
        params: the network; its present statistics have no influence.
        images: to measure on.
        batch_size: images per forward pass, fewer where one of its arrays would fill the memory.
        num_batches: use at most the first `num_batches` batches; all by default.

    Raises:
        ValueError: for no images, or a function with statistics but without layers.
    """
    statistics = pytrees.running_statistics(pytrees.flatten(params))
    if not statistics:
        return {}
    params = pytrees.as_arrays(params)
    pytrees.check_arrays(params, "params")
    images = metrics.checked_array(images, "images to measure statistics on")
    size = metrics.batch_size_for(apply_fn, params, images, most=min(batch_size, len(images)))
    starts = range(0, len(images), size)[:num_batches]
    batches = (images[start : start + size] for start in starts)
    walk = Walk(apply_fn, [], None, params, statistics, batches, through_streams=False)
    for layer, _ in walk:
        chain = walk.chain(layer)
        if {"mean", "variance"} <= chain.roles.keys():
            factor, _ = chain.affine(walk.params)
            mean, variance = (chain.roles[role] for role in ("mean", "variance"))
            nought = chain.filled(walk.params, variance, _NO_WEIGHT)
            _, bias = chain.affine(walk.params | {variance: nought})
            found, deviation = mean_and_deviation(layer, walk.own_targets())
            counts = factor != 0  # nothing is seen of a unit that is multiplied by nought
            scale = np.where(counts, factor, 1.0)
            old = [np.reshape(walk.params[p], factor.shape) for p in (mean, variance)]
            new = old[0] + (found - bias) / scale, np.square(deviation / scale)
            walk.params = walk.params | {
                path: chain.filled(walk.params, path, np.where(counts, after, before))
                for path, before, after in zip((mean, variance), old, new, strict=True)
            }
    return {path: walk.params[path] for path in statistics}


def mean_and_deviation(layer: Layer, values: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Over all batches and positions, in float64, groups x outputs."""
    count, total, squares = 0, 0.0, 0.0
    for value in values:
        units = np.asarray(layer.units(value))
        count, total = count + len(units), total + units.sum(axis=0, dtype=np.float64)
        squares = squares + np.square(units, dtype=np.float64).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
