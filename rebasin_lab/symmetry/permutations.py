"""Apply, invert, compose and draw permutations.

This module owns the direction of a permutation: `permutation[i] = j` puts unit j of B
into slot i, the slot of A's unit i; it is applied as `take(w, permutation, axis)`. As a matrix,
`P[i, permutation[i]] = 1` and the paper's `P W` is `W[permutation]`. A permutation of a network is
a dict: one index array per name in its `PermutationSpec`. If `params_b = apply(P, params_a)`, then
matching A with B returns `argsort(P)`.

The array of a group d that varies along h has one row per slot of h, and row i belongs to slot i of
the *result*: new[(i, j)] = old[(permutation["h"][i], permutation["d[h]"][i, j])]. Doing `first` and
then `second` therefore takes the rows of `first` in the order in which `second` moves them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.symmetry import axes, indexing
from rebasin_lab.symmetry.spec import PermutationSpec

# One axis for each group a group varies along, then one for its units.
Permutation = Mapping[str, Int[np.ndarray, "..."]]


@checks.arguments
def identity_permutation(spec: PermutationSpec, params: PyTree) -> dict[str, np.ndarray]:
    """The identity."""
    return identity_of_sizes(spec, spec.all_sizes(params))


def identity_of_sizes(spec: PermutationSpec, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The identity, from the sizes of `spec.all_sizes`."""
    return {
        name: np.tile(np.arange(shape[-1]), (*shape[:-1], 1)) if shape[1:] else np.arange(*shape)
        for name, shape in spec.shapes_of_sizes(sizes).items()
    }


@checks.arguments
def random_permutation(
    spec: PermutationSpec, params: PyTree, *, seed: checks.Seed
) -> dict[str, np.ndarray]:
    """A permutation drawn uniformly from the symmetry group of the spec.

    Raises:
        ValueError: if spec and params disagree, or the seed is no integer of at least 0.
    """
    rng = np.random.default_rng(seed)
    return {
        name: rng.permuted(indices, axis=-1) if indices.ndim > 1 else rng.permutation(indices.size)
        for name, indices in identity_permutation(spec, params).items()
    }


@checks.arguments
def apply_permutation(spec: PermutationSpec, permutation: Permutation, params: PyTree) -> PyTree:
    """The network with its hidden units reordered; it computes the same function.

    Args:
        spec: which axes each permutation moves.
        permutation: name -> index array, `permutation[name][i] = j` moves unit j to slot i; with
            an axis in front for each group that the named one varies along.
        params: any pytree of NumPy or JAX arrays; it is not changed.

    Raises:
        ValueError: if spec and params disagree, or an entry is no permutation of its size.
    """
    permutation = checked_permutation(spec, permutation, params)
    pytrees.check_arrays(params, "params")
    if spec.is_plain:
        return pytrees.map_with_path(
            lambda path, leaf: permute_axes(leaf, spec.axes[path], permutation), params
        )
    sizes = spec.all_sizes(params)
    return pytrees.map_with_path(
        lambda path, leaf: _permute_entries(leaf, spec.entries[path], permutation, sizes), params
    )


def permute_axes(leaf: Any, names: Sequence[str | None], permutation: Permutation) -> Any:
    """One array with each of its axes reordered by the permutation named for it, if any.

    Args:
        leaf: a NumPy or JAX array.
        names: one plain name or None per axis; for expressions of names use `apply_permutation`.
        permutation: name -> index array.
    """
    if len(names) != leaf.ndim or not permutation.keys() >= {*names} - {None}:
        raise ValueError(
            f"Expected one name for each of {leaf.ndim} axes, None or one of {list(permutation)}; "
            f"got {checks.shortened(names)}."
        )
    for axis, name in enumerate(names):
        if name is not None:
            leaf = leaf.take(permutation[name], axis=axis)
    return leaf


def _permute_entries(
    leaf: Any, entries: axes.Entries, permutation: Permutation, sizes: Mapping[str, int]
) -> Any:
    """One array with its axes reordered by entries of any kind."""
    moves = [any(not group.is_fixed for group in axes.groups_in(entry)) for entry in entries]
    if not any(moves):
        return leaf
    indices = tuple(indexing.index_arrays(entries, leaf.shape, permutation, sizes))
    if any(index.size > leaf.shape[axis] for axis, index in enumerate(indices)):
        return leaf[indices]
    for axis, index in enumerate(indices):
        if moves[axis]:
            leaf = leaf.take(index.ravel(), axis=axis)
    return leaf


def invert_permutation(permutation: Permutation) -> dict[str, np.ndarray]:
    """The inverse permutation.

    Raises:
        ValueError: if an entry is no permutation, or a group varies along a missing one.
    """
    permutation = _checked(permutation, "permutation")
    inverse: dict[str, np.ndarray] = {}
    # A group lists the parents of its parents, so it has more of them than each: parents first.
    for name in sorted(permutation, key=lambda name: len(axes.parse_group(name).parents)):
        indices = np.asarray(permutation[name])
        inverse[name] = np.argsort(indices[_moved_slots(name, indices.shape, inverse)], axis=-1)
    return {name: inverse[name] for name in permutation}


def compose_permutations(second: Permutation, first: Permutation) -> dict[str, np.ndarray]:
    """The permutation with `apply(result, p) == apply(second, apply(first, p))`.

    Raises:
        ValueError: if an entry is no permutation, the two have different groups, or a group varies
            along a missing one.
    """
    second, first = _checked(second, "second"), _checked(first, "first")
    if second.keys() != first.keys():
        raise ValueError(
            f"Expected permutations of one spec; got names {sorted(second)} and {sorted(first)}."
        )
    for name, indices in first.items():
        if indices.shape != second[name].shape:
            raise ValueError(
                f"Expected permutations of one network; '{name}' has shape {second[name].shape} in "
                f"the second and {indices.shape} in the first."
            )
    return {name: _compose_one(name, second, np.asarray(first[name])) for name in first}


def _compose_one(name: str, second: Permutation, first: np.ndarray) -> np.ndarray:
    indices = np.asarray(second[name])
    rows = _moved_slots(name, indices.shape, second)
    return first[(*(row[..., None] for row in rows), indices)]


def _moved_slots(
    name: str, shape: tuple[int, ...], permutation: Permutation
) -> tuple[np.ndarray, ...]:
    """The old slots that a group varies along, as an index of its rows.

    Args:
        name: of the group.
        shape: of its index array, slots and units.
        permutation: moves the slots.

    Returns:
        One array per parent, in the shape of the slots; none for a group without parents.
    """
    parents = axes.parse_group(name).parents
    slots = dict(zip(parents, np.indices(shape[:-1]), strict=True))
    keys = {axes.parse_group(key).base: key for key in permutation} if parents else {}
    moved = []
    for parent in parents:
        if parent.startswith("#"):
            moved.append(slots[parent])
            continue
        along = (slots[above] for above in axes.parse_group(keys[parent]).parents)
        moved.append(np.asarray(permutation[keys[parent]])[(*along, slots[parent])])
    return tuple(moved)


def _checked(permutation: Any, what: str) -> dict[str, np.ndarray]:
    """A permutation as integer arrays, each with a permutation of 0 ... n - 1 along its last axis.

    Raises:
        ValueError: naming the first invalid entry, or a group that varies along a missing one or
            one with another number of units.
    """
    if not isinstance(permutation, Mapping):
        hint = " Write result.permutation." if hasattr(permutation, "permutation") else ""
        raise ValueError(
            f"Expected {what} to be a dict from names to index arrays; got a "
            f"{type(permutation).__name__}.{hint}"
        )
    if unnamed := [name for name in permutation if not isinstance(name, str)]:
        raise ValueError(
            f"Expected {what} to have names of a spec, such as 'P_0', as keys; got {unnamed[0]!r}."
        )
    arrays = {name: _as_indices(name, indices) for name, indices in permutation.items()}
    bases = [axes.parse_group(name).base for name in arrays]
    if twice := sorted({base for base in bases if bases.count(base) > 1}):
        raise ValueError(
            f"Expected {what} to have one set of slots for '{twice[0]}'; got {sorted(arrays)}."
        )
    if still := [name for name in arrays if name.startswith("#")]:
        raise ValueError(
            f"Expected {what} to move groups of units; '{still[0]}' is an axis that never moves."
        )
    for name, indices in arrays.items():
        if indices.ndim == 0 or not _is_in_order(indices, indices.shape[-1:]):
            raise ValueError(_no_permutation(name, indices, indices.shape))
    sizes = {axes.parse_group(name).base: array.shape[-1] for name, array in arrays.items()}
    for name, indices in arrays.items():
        parents = axes.parse_group(name).parents
        lengths = tuple(sizes.get(base) for base in parents)
        if missing := [base for base in parents if base not in sizes and base[0] != "#"]:
            raise ValueError(
                f"Expected the permutation of '{missing[0]}', along which '{name}' varies, beside "
                f"that of '{name}'; it is missing."
            )
        if indices.ndim != 1 + len(parents) or any(
            size not in (None, length) for size, length in zip(lengths, indices.shape, strict=False)
        ):
            wanted = ", ".join([*(f"the slots of '{base}'" for base in parents), "its units"])
            raise ValueError(
                f"Expected the axes of '{name}' to be {wanted}; got an array of shape "
                f"{indices.shape}."
            )
    return arrays


def _as_indices(name: str, indices: Any) -> np.ndarray:
    try:
        [indices] = pytrees.as_arrays([indices])
        array = np.asarray(indices)
    except (ValueError, TypeError) as error:  # rows of different lengths, a PRNG key
        raise ValueError(f"Expected '{name}' to be an index array; {error}.") from error
    if isinstance(indices, np.ma.MaskedArray):
        raise ValueError(f"Expected '{name}' to be an index array; got one with a mask.")
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(
            f"Expected '{name}' to be an array of integers, for each slot the unit that goes "
            f"there; got {checks.shortened(indices)}."
        )
    return array.astype(np.int64, copy=False)


def _is_in_order(indices: np.ndarray, shape: tuple[int, ...]) -> bool:
    """True for a permutation of 0 ... n - 1 in every row."""
    in_order = np.broadcast_to(np.arange(shape[-1]), indices.shape)
    return np.array_equal(np.sort(indices, axis=-1), in_order)


def _no_permutation(name: str, indices: np.ndarray, shape: tuple[int, ...]) -> str:
    got = f"an array of shape {indices.shape} with {np.unique(indices).size} different entries."
    if len(shape) == 0:
        return f"Expected '{name}' to be a list of indices, one for each unit; got {indices}."
    if len(shape) == 1:
        return f"Expected '{name}' to be a permutation of 0 ... {shape[-1] - 1}; got {got}"
    return (
        f"Expected '{name}' to be an array of shape {shape} with a permutation of 0 ... "
        f"{shape[-1] - 1} along its last axis; got {got}"
    )


def checked_permutation(
    spec: PermutationSpec, permutation: Any, params: PyTree, what: str = "permutation"
) -> dict[str, np.ndarray]:
    """A permutation of a network as integer arrays, one for each group of its spec.

    Args:
        spec: which axes each permutation moves.
        permutation: name -> indices.
        params: the network, or its shapes.
        what: the name of the argument, for errors.

    Raises:
        ValueError: if spec and params disagree, or an entry is no permutation of its size.
    """
    shapes = spec.shapes(params)
    if not isinstance(permutation, Mapping) or permutation.keys() != shapes.keys():
        _checked(permutation, what)
        raise ValueError(
            f"Expected one permutation for each of {sorted(shapes)}; got "
            f"{sorted(permutation)} in {what}."
        )
    arrays = {name: _as_indices(name, indices) for name, indices in permutation.items()}
    for name, shape in shapes.items():
        indices = arrays[name]
        if indices.shape != shape or not _is_in_order(indices, shape):
            raise ValueError(_no_permutation(name, indices, shape))
    return arrays
