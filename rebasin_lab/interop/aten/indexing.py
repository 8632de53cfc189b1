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
    """The array with values put, or added, at positions."""
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
    """`scatter` with a reduction by PyTorch's name."""
    how = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}.get(reduce)
    if how is None or not include_self:
        raise ValueError(
            "Expected scatter_reduce by sum, prod, amax or amin that includes what was there; got "
            f"{reduce}, include_self={include_self}."
        )
    return scatter(x, axis, positions, values, how)


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
