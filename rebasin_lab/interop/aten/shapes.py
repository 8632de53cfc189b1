"""Rules for operators that move entries: views, slices, concatenations, padding."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def view(x: Array, shape: Sequence[int]) -> Array:
    """The entries in another shape; one size may be -1."""
    known = math.prod(size for size in shape if size != -1)
    return x.reshape([x.size // known if size == -1 else size for size in shape])


def expand(x: Array, shape: Sequence[int], implicit: bool = False) -> Array:
    """Broadcast; -1 keeps a size."""
    own = (1,) * (len(shape) - x.ndim) + x.shape
    return jnp.broadcast_to(x, [o if s == -1 else s for o, s in zip(own, shape, strict=True)])


def squeeze(x: Array, axes: Sequence[int]) -> Array:
    """The array without those of the axes that have length one."""
    return lax.squeeze(x, [axis % x.ndim for axis in axes if x.shape[axis] == 1]) if x.ndim else x


def bounds(x: Array, axis: int, start: int | None, end: int | None, step: int) -> slice:
    """A slice of PyTorch, whose end may be beyond every size."""
    return slice(*slice(start, end, step).indices(x.shape[axis]))


def sliced(
    x: Array, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    """Every `step`-th entry along an axis from `start` to before `end`."""
    taken = bounds(x, axis, start, end, step)
    return lax.slice_in_dim(x, taken.start, max(taken.start, taken.stop), step, axis % x.ndim)


def select(x: Array, axis: int, index: int) -> Array:
    """One entry along an axis, which ends."""
    return lax.index_in_dim(x, index, axis % x.ndim, keepdims=False)


def slice_scatter(
    x: Array,
    source: Array,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Array:
    """The array with `source` in place of a slice."""
    taken = bounds(x, axis, start, end, step)
    if (taken.start, taken.stop, step) == (0, x.shape[axis], 1):
        return jnp.broadcast_to(source, x.shape)
    return x.at[(slice(None),) * (axis % x.ndim) + (taken,)].set(source)


def select_scatter(x: Array, source: Array, axis: int, index: int) -> Array:
    """The array with `source` in place of one entry along an axis."""
    return x.at[(slice(None),) * (axis % x.ndim) + (index,)].set(source)


def concatenate(arrays: Sequence[Array], axis: int = 0) -> Array:
    """The arrays end to end; PyTorch leaves out empty ones of one axis."""
    return jnp.concatenate([x for x in arrays if x.shape != (0,)] or arrays[:1], axis)


def split(x: Array, sizes: Sequence[int], axis: int = 0) -> list[Array]:
    """Consecutive blocks of an axis."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [sliced(x, axis, at, at + size) for at, size in zip(starts, sizes, strict=True)]


def pad(x: Array, widths: Sequence[int], value: int | float = 0) -> Array:
    """Pad by a constant; widths are (before, after) of the last axis, then of that before it."""
    pairs = list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    config = [(0, 0, 0)] * (x.ndim - len(pairs)) + [(*pair, 0) for pair in pairs]
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


RULES: dict[str, Callable] = {
    "aten.alias": lambda x: x,
    "aten.cat": concatenate,
    "aten.clone": lambda x: x,
    "aten.constant_pad_nd": pad,
    "aten.diagonal": jnp.diagonal,
    "aten.expand": expand,
    "aten.flip": lambda x, axes: lax.rev(x, [axis % x.ndim for axis in axes]),
    "aten.lift_fresh_copy": lambda x: x,
    "aten.permute": lambda x, axes: lax.transpose(x, [axis % x.ndim for axis in axes]),
    "aten.repeat": jnp.tile,
    "aten.select": select,
    "aten.select_scatter": select_scatter,
    "aten.slice": sliced,
    "aten.slice_scatter": slice_scatter,
    "aten.split_with_sizes": split,
    "aten.squeeze.dims": squeeze,
    "aten.sym_numel": lambda x: x.size,
    "aten.sym_size.int": lambda x, axis: x.shape[axis],
    "aten.unsqueeze": jnp.expand_dims,
    "aten.view.default": view,
}
