"""Rules for look-ups, scatters and sorts: operators with positions among their values."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def index(x: Array, positions: Sequence[Array | None]) -> Array:
    """NumPy's advanced indexing; None takes an axis whole."""
    return x[_places(positions)]


def index_put(
    x: Array, positions: Sequence[Array | None], values: Array, accumulate: bool = False
) -> Array:
    """The array with values put, or added, at positions; or one value where a mask holds."""
    masks = [(axis, one) for axis, one in enumerate(positions) if one is not None]
    if len(masks) == 1 and masks[0][1].dtype == bool and values.size == 1:
        [(axis, mask)] = masks
        mask = jnp.expand_dims(mask, (*range(axis), *range(axis + mask.ndim, x.ndim)))
        value = values.reshape(()).astype(x.dtype)
        return jnp.where(mask, x + value if accumulate else value, x)
    if any(one.dtype == bool for _, one in masks):
        raise ValueError("Expected one value for all places where a mask holds; got several.")
    at = x.at[_places(positions)]
    return at.add(values) if accumulate else at.set(values)


def scatter(
    x: Array, axis: int, positions: Array, values: Array | int | float, how: str = "set"
) -> Array:
    """The array with each value put at, or combined with, a position along one axis."""
    if not jnp.ndim(values):
        values = jnp.full(positions.shape, values, x.dtype)
    values = values[tuple(map(slice, positions.shape))]
    axis %= max(x.ndim, 1)
    grid = jnp.indices(positions.shape, sparse=True)
    at = x.at[tuple(positions if i == axis else grid[i] for i in range(positions.ndim))]
    return getattr(at, how)(values)


def scatter_reduce(
    x: Array, axis: int, positions: Array, values: Array, reduce: str, include_self: bool = True
) -> Array:
    """`scatter` with a reduction; without `include_self` what was there does not count."""
    both = jnp.concatenate([x.ravel(), values.ravel()])  # their extremes change no reduction
    start = {"prod": 1, "amax": jnp.min(both), "amin": jnp.max(both)}.get(reduce, 0)
    how = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    begin = x if include_self else scatter(x, axis, positions, start)
    total = scatter(begin, axis, positions, values, how)
    if reduce != "mean":
        return total
    ones = jnp.full(x.shape, include_self, x.dtype)
    return total / jnp.maximum(scatter(ones, axis, positions, 1, "add"), 1)


def sort(
    x: Array, dim: int = -1, descending: bool = False, stable: bool = True
) -> tuple[Array, Array]:
    """The entries in order along an axis, and their positions; of equal ones the first is first."""
    order = jnp.argsort(x, dim, descending=descending) if x.ndim else jnp.zeros((), int)
    return (jnp.take_along_axis(x, order, dim) if x.ndim else x), order


def top_k(
    x: Array, k: int, axis: int = -1, largest: bool = True, is_sorted: bool = True
) -> tuple[Array, Array]:
    """The k largest (or smallest) entries along an axis, and their positions."""
    moved = jnp.moveaxis(x, axis, -1)
    values, positions = lax.top_k(moved if largest else -moved, k)
    values = values if largest else -values
    return jnp.moveaxis(values, -1, axis), jnp.moveaxis(positions, -1, axis)


def _places(positions: Sequence[Array | None]) -> tuple:
    return tuple(slice(None) if one is None else one for one in positions)


RULES: dict[str, Callable] = {
    "aten.embedding": lambda table, tokens, *_: jnp.take(table, tokens, 0),
    "aten.gather": lambda x, axis, at, **_: jnp.take_along_axis(x, at, axis),
    "aten.index.Tensor": index,
    "aten.index_put": index_put,
    "aten.index_select": lambda x, axis, at: jnp.take(x, at, axis),
    "aten.scatter.src": scatter,
    "aten.scatter.value": scatter,
    "aten.scatter_add": lambda *arguments: scatter(*arguments, how="add"),
    "aten.scatter_reduce.two": scatter_reduce,
    "aten.sort": sort,
    "aten.topk": top_k,
}
