"""Rules for reductions, softmax and cumulative sums."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

Axes = int | Sequence[int] | None


def over(axes: Axes) -> int | tuple[int, ...] | None:
    """Axes as JAX takes them: none given are all."""
    return (tuple(axes) or None) if isinstance(axes, list | tuple) else axes


def reduction(reduce: Callable) -> Callable:
    """The rule for a reduction over some axes, all by default."""

    def rule(x: Array, axes: Axes = None, keepdims: bool = False, dtype: Any = None) -> Array:
        x = x if dtype is None else x.astype(dtype)
        return reduce(x, axis=over(axes) if x.ndim else None, keepdims=keepdims)

    return rule


def with_positions(values: Callable, positions: Callable) -> Callable:
    """The rule for a maximum or minimum along one axis, and its position."""
    return lambda x, axis, keepdims=False: (
        values(x, axis, keepdims=keepdims),
        positions(x, axis, keepdims=keepdims),
    )


def variance(
    x: Array, axes: Axes = None, *, correction: int | float | None = 1, keepdim: bool = False
) -> Array:
    """Variance, over n - correction."""
    correction = 1 if correction is None else correction
    return jnp.var(x, over(axes), correction=correction, keepdims=keepdim)


def softmax(x: Array, axis: int, half_to_float: bool = False) -> Array:
    """Softmax along an axis."""
    weights = jnp.exp(x - jnp.max(x, axis, keepdims=True))
    return weights / jnp.sum(weights, axis, keepdims=True)


RULES: dict[str, Callable] = {
    **{
        f"aten.{name}": reduction(getattr(jnp, name))
        for name in "all amax amin any argmax argmin mean prod sum".split()
    },
    "aten.max.default": jnp.max,
    "aten.min.default": jnp.min,
    "aten.max.dim": with_positions(jnp.max, jnp.argmax),
    "aten.min.dim": with_positions(jnp.min, jnp.argmin),
    "aten.var.correction": variance,
    "aten.var_mean.correction": lambda x, axes=None, keepdim=False, **options: (
        variance(x, axes, keepdim=keepdim, **options),
        jnp.mean(x, over(axes), keepdims=keepdim),
    ),
    "aten.linalg_vector_norm": lambda x, order=2, axes=None, keepdims=False, dtype=None: (
        jnp.linalg.vector_norm(x, ord=order, axis=over(axes), keepdims=keepdims)
    ),
    "aten.cumsum": lambda x, axis, dtype=None: jnp.cumsum(x, axis) if x.ndim else x,
    "aten.cumprod": lambda x, axis, dtype=None: jnp.cumprod(x, axis) if x.ndim else x,
    "aten._softmax": softmax,
    "aten._log_softmax": lambda x, axis, half_to_float: jax.nn.log_softmax(x, axis),
}
