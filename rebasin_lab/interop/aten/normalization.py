"""Rules for layers that normalise."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Num

from rebasin_lab.interop.aten.products import per_channel

Channels = Num[Array, " c"]
Images = Num[Array, "n c *space"]


def standardized(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """Zero mean and unit variance along some axes, computed in float32 or wider."""
    centred = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = centred - jnp.mean(centred, axes, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred * centred, axes, keepdims=True) + epsilon)


def batch_norm(
    x: Images,
    scale: Channels | None,
    shift: Channels | None,
    mean: Channels,
    variance: Channels,
    momentum: int | float,
    epsilon: int | float,
) -> tuple[Images, None, None]:
    """BatchNorm by given statistics."""
    y = (x - per_channel(mean, x)) * lax.rsqrt(per_channel(variance, x) + epsilon)
    return _scaled(y, scale, shift), None, None


def batch_statistics(x: Images) -> tuple[Channels, Channels]:
    """The means of channels over a batch and its positions, and the variances (over n)."""
    axes = (0, *range(2, x.ndim))
    return jnp.mean(x, axes), jnp.var(x, axes)


def batch_norm_without_statistics(
    x: Images,
    scale: Channels | None,
    shift: Channels | None,
    training: bool,
    momentum: int | float,
    epsilon: int | float,
) -> tuple[Images, None, None]:
    """BatchNorm that keeps no statistics: by those of the batch."""
    return batch_norm(x, scale, shift, *batch_statistics(x), momentum, epsilon)


def layer_norm(
    x: Array, shape: Sequence[int], scale: Array | None, shift: Array | None, epsilon: float
) -> tuple[Array, None, None]:
    """LayerNorm over the last axes."""
    y = standardized(x, tuple(range(x.ndim - len(shape), x.ndim)), epsilon)
    y = y if scale is None else y * scale
    return y if shift is None else y + shift, None, None


def group_norm(
    x: Images,
    scale: Channels | None,
    shift: Channels | None,
    n: int,
    c: int,
    num_positions: int,
    groups: int,
    epsilon: int | float,
) -> tuple[Images, None, None]:
    """GroupNorm over the positions and channels of each group."""
    grouped = x.reshape(n, groups, c // groups, math.prod(x.shape[2:]))
    y = standardized(grouped, (2, 3), epsilon).reshape(x.shape)
    return _scaled(y, scale, shift), None, None


def _scaled(x: Images, scale: Channels | None, shift: Channels | None) -> Images:
    x = x if scale is None else x * per_channel(scale, x)
    return x if shift is None else x + per_channel(shift, x)


BATCH_NORM = "aten._native_batch_norm_legit_no_training.default"

RULES: dict[str, Callable] = {
    BATCH_NORM: batch_norm,
    "aten._native_batch_norm_legit.no_stats": batch_norm_without_statistics,
    "aten.native_group_norm": group_norm,
    "aten.native_layer_norm": layer_norm,
}
