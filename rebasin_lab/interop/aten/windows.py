"""Rules for pooling and resizing."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

Sizes = Sequence[int]


def pool(
    x: Array,
    window: Sizes,
    strides: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    start: int | float,
    combine: Callable,
) -> Array:
    """Combine the entries of each window over the last axes.

    In ceil mode a last window may end beyond the padding, if it begins before.
    """
    num_axes = len(window)
    lead = (1,) * (x.ndim - num_axes)
    ends = []
    for axis in range(num_axes):
        size, reach = x.shape[len(lead) + axis], dilation[axis] * (window[axis] - 1) + 1
        steps = (size + 2 * padding[axis] - reach) / strides[axis]
        number = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
        if (number - 1) * strides[axis] >= size + padding[axis]:
            number -= 1
        beyond = (number - 1) * strides[axis] + reach - size - padding[axis]
        ends.append((padding[axis], max(0, beyond)))
    return lax.reduce_window(
        x,
        jnp.asarray(start, x.dtype),
        combine,
        (*lead, *window),
        (*lead, *strides),
        [(0, 0)] * len(lead) + ends,
        window_dilation=(*lead, *dilation),
    )


def max_pool(num_axes: int) -> Callable:
    """The rule for maxima over windows; their positions are not computed."""

    def rule(
        x: Array,
        window: Sizes,
        strides: Sizes = (),
        padding: Sizes = (0,),
        dilation: Sizes = (1,),
        ceil_mode: bool = False,
    ) -> tuple[Array, None]:
        window, padding, dilation = (_each(s, num_axes) for s in (window, padding, dilation))
        strides = _each(strides or window, num_axes)
        least = -jnp.inf if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.iinfo(x.dtype).min
        return pool(x, window, strides, padding, dilation, ceil_mode, least, lax.max), None

    return rule


def average_pool(num_axes: int) -> Callable:
    """The rule for means over windows."""

    def rule(
        x: Array,
        window: Sizes,
        strides: Sizes = (),
        padding: Sizes = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        window, padding = _each(window, num_axes), _each(padding, num_axes)
        strides = _each(strides or window, num_axes)
        total = pool(x, window, strides, padding, (1,) * num_axes, ceil_mode, 0, lax.add)
        if divisor_override:
            return total / divisor_override
        for axis in range(num_axes):
            size, number = x.shape[axis - num_axes], total.shape[axis - num_axes]
            starts = np.arange(number) * strides[axis] - padding[axis]
            ends = np.minimum(starts + window[axis], size + padding[axis])
            if not count_include_pad:
                starts, ends = np.maximum(starts, 0), np.minimum(ends, size)
            counts = jnp.asarray(ends - starts, x.dtype)
            total = total / jnp.expand_dims(counts, range(1, num_axes - axis))
        return total

    return rule


def adaptive_average_pool(x: Array, sizes: Sizes) -> Array:
    """Means over `sizes` windows along the last axes, which may overlap."""
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        if size == 1:
            x = jnp.mean(x, axis, keepdims=True)
        elif size != x.shape[axis]:
            weights = np.zeros((size, x.shape[axis]))
            for number, (start, end) in enumerate(_adaptive_windows(x.shape[axis], size)):
                weights[number, start:end] = 1 / (end - start)
            x = along(x, weights, axis)
    return x


def adaptive_max_pool(x: Array, sizes: Sizes) -> tuple[Array, None]:
    """Maxima over `sizes` windows along the last axes; their positions are not computed."""
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        parts = [
            jnp.max(lax.slice_in_dim(x, start, end, axis=axis), axis, keepdims=True)
            for start, end in _adaptive_windows(x.shape[axis], size)
        ]
        x = jnp.concatenate(parts, axis)
    return x, None


def _adaptive_windows(size: int, number: int) -> list[tuple[int, int]]:
    return [(i * size // number, -(-(i + 1) * size // number)) for i in range(number)]


def along(x: Array, weights: Float[np.ndarray, "to from"], axis: int) -> Array:
    """The product of a matrix and each vector along an axis."""
    y = lax.dot_general(x, jnp.asarray(weights, x.dtype), (((axis,), (1,)), ((), ())))
    return jnp.moveaxis(y, -1, axis)


def nearest(x: Num[Array, "n c h w"], sizes: Sizes | None, scales: Sequence[float] | None) -> Array:
    """Resize to the nearest position."""
    for axis, (size, step) in enumerate(_steps(x, sizes, scales), start=2):
        positions = np.minimum(np.floor(np.arange(size) * step).astype(int), x.shape[axis] - 1)
        x = jnp.take(x, positions, axis)
    return x


def bilinear(
    x: Num[Array, "n c h w"],
    sizes: Sizes | None,
    align_corners: bool,
    scales: Sequence[float] | None,
) -> Array:
    """Resize by linear interpolation along both axes."""
    for axis, (size, step) in enumerate(_steps(x, sizes, scales), start=2):
        last = x.shape[axis] - 1
        if align_corners:
            at = np.arange(size) * (last / max(size - 1, 1))
        else:
            at = np.clip((np.arange(size) + 0.5) * step - 0.5, 0, last)
        below = np.floor(at).astype(int)
        weights = np.zeros((size, last + 1))
        np.add.at(weights, (np.arange(size), below), 1 - (at - below))
        np.add.at(weights, (np.arange(size), np.minimum(below + 1, last)), at - below)
        x = along(x, weights, axis)
    return x


def _steps(
    x: Array, sizes: Sizes | None, scales: Sequence[float] | None
) -> list[tuple[int, float]]:
    """The new size of each axis, and how far apart its positions lie in the old one."""
    old = x.shape[2:]
    if sizes is None:
        return [(int(n * scale), 1 / scale) for n, scale in zip(old, scales, strict=True)]
    return [(size, n / size) for n, size in zip(old, sizes, strict=True)]


def _each(sizes: Sizes, num_axes: int) -> tuple[int, ...]:
    """One size for each axis, of one for all."""
    return tuple(itertools.islice(itertools.cycle(sizes), num_axes))


RULES: dict[str, Callable] = {
    "aten.adaptive_avg_pool1d": adaptive_average_pool,
    "aten.adaptive_avg_pool2d": adaptive_average_pool,
    "aten.adaptive_avg_pool3d": adaptive_average_pool,
    "aten._adaptive_avg_pool2d": adaptive_average_pool,
    "aten._adaptive_avg_pool3d": adaptive_average_pool,
    "aten.adaptive_max_pool2d": adaptive_max_pool,
    "aten.adaptive_max_pool3d": adaptive_max_pool,
    "aten.avg_pool2d": average_pool(2),
    "aten.avg_pool3d": average_pool(3),
    "aten.max_pool2d_with_indices": max_pool(2),
    "aten.max_pool3d_with_indices": max_pool(3),
    "aten.upsample_bilinear2d.vec": bilinear,
    "aten.upsample_nearest2d.vec": nearest,
}
