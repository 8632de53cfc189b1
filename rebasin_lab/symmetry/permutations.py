"""Acting on parameters with permutations.

This room owns the direction of a permutation, stated once: `permutation[i] = j` puts unit j of B
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

from rebasin_lab import pytrees
from rebasin_lab.symmetry import axes, indexing
from rebasin_lab.symmetry.spec import PermutationSpec

# One axis for each group a group varies along, then one for its units.
Permutation = Mapping[str, Int[np.ndarray, "..."]]


def identity_permutation(spec: PermutationSpec, params: PyTree) -> dict[str, np.ndarray]:
    """The permutation that leaves every unit where it is."""
    return {
        name: np.tile(np.arange(shape[-1]), (*shape[:-1], 1)) if shape[1:] else np.arange(*shape)
        for name, shape in spec.shapes(params).items()
    }


def random_permutation(
    spec: PermutationSpec, params: PyTree, *, seed: int
) -> dict[str, np.ndarray]:
    """A permutation drawn uniformly from the symmetry group of the spec."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.permuted(indices, axis=-1) if indices.ndim > 1 else rng.permutation(indices.size)
        for name, indices in identity_permutation(spec, params).items()
    }


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
    _check_permutation(permutation, spec.shapes(params))
    if spec.is_plain:
        return pytrees.map_with_path(
            lambda path, leaf: permute_axes(leaf, spec.axes[path], permutation), params
        )
    sizes = spec.all_sizes(params)
    arrays = {name: np.asarray(indices) for name, indices in permutation.items()}
    return pytrees.map_with_path(
        lambda path, leaf: _permute_entries(leaf, spec.entries[path], arrays, sizes), params
    )


def permute_axes(leaf: Any, names: Sequence[str | None], permutation: Permutation) -> Any:
    """One array with each of its axes reordered by the permutation named for it, if any.

    Args:
        leaf: a NumPy or JAX array.
        names: one plain name or None per axis; for expressions of names use `apply_permutation`.
        permutation: name -> index array.
    """
    for axis, name in enumerate(names):
        if name is not None:
            leaf = leaf.take(permutation[name], axis=axis)
    return leaf


def _permute_entries(
    leaf: Any, entries: axes.Entries, permutation: Permutation, sizes: Mapping[str, int]
) -> Any:
    """One array with its axes reordered, whatever they hold."""
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
    """The permutation that undoes this one.

    Raises:
        ValueError: if a group varies along one that is not there.
    """
    inverse: dict[str, np.ndarray] = {}
    # A group lists the parents of its parents, so it has more of them than each: parents first.
    for name in sorted(permutation, key=lambda name: len(axes.parse_group(name).parents)):
        indices = np.asarray(permutation[name])
        inverse[name] = np.argsort(indices[_moved_slots(name, indices.shape, inverse)], axis=-1)
    return {name: inverse[name] for name in permutation}


def compose_permutations(second: Permutation, first: Permutation) -> dict[str, np.ndarray]:
    """The permutation with `apply(result, p) == apply(second, apply(first, p))`.

    Raises:
        ValueError: if the two do not move the same groups of units, or a group varies along one
            that is not there.
    """
    if second.keys() != first.keys():
        raise ValueError(
            f"Expected permutations of one spec; got names {sorted(second)} and {sorted(first)}."
        )
    return {name: _compose_one(name, second, np.asarray(first[name])) for name in first}


def _compose_one(name: str, second: Permutation, first: np.ndarray) -> np.ndarray:
    indices = np.asarray(second[name])
    rows = _moved_slots(name, indices.shape, second)
    return first[(*(row[..., None] for row in rows), indices)]


def _moved_slots(
    name: str, shape: tuple[int, ...], permutation: Permutation
) -> tuple[np.ndarray, ...]:
    """Where the slots that a group varies along come from, as an index of its rows.

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
        if parent not in keys:
            raise ValueError(
                f"Expected the permutation of '{parent}', along which '{name}' varies, beside that "
                f"of '{name}'; it is missing."
            )
        along = (slots[above] for above in axes.parse_group(keys[parent]).parents)
        moved.append(np.asarray(permutation[keys[parent]])[(*along, slots[parent])])
    return tuple(moved)


def _check_permutation(permutation: Permutation, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if permutation.keys() != shapes.keys():
        raise ValueError(
            f"Expected one permutation for each of {sorted(shapes)}; got {sorted(permutation)}."
        )
    for name, shape in shapes.items():
        indices, size = np.asarray(permutation[name]), shape[-1]
        in_order = np.broadcast_to(np.arange(size), shape)
        if indices.shape == shape and np.array_equal(np.sort(indices, axis=-1), in_order):
            continue
        if len(shape) == 1:
            raise ValueError(
                f"Expected '{name}' to be a permutation of 0 ... {size - 1}; got an array of shape "
                f"{indices.shape} with {np.unique(indices).size} different entries."
            )
        raise ValueError(
            f"Expected '{name}' to be an array of shape {shape} with a permutation of 0 ... "
            f"{size - 1} along its last axis; got an array of shape {indices.shape} with "
            f"{np.unique(indices).size} different entries."
        )
