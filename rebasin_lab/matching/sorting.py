"""Groups whose units have one number each: they are sorted, not matched.

A group that varies along all other axes of the only array that holds it is an example: copies of
one pixel, which a linear layer reads after a flatten. Whatever the order of all other groups, the
numbers of a slot of A and of one of B are best paired by size. So both networks are sorted before a
search, which then knows nothing of these groups: for each pair of slots they would cost it a table.
"""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from rebasin_lab.symmetry import (
    Permutation,
    PermutationSpec,
    apply_permutation,
    axes,
    compose_permutations,
    identity_permutation,
    invert_permutation,
)

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Sorted:
    """Two networks in the order of these groups, which the spec names no longer.

    Attributes:
        spec: of the arrays; every axis holds one name or None.
        pair: the arrays of A and of B.
        orders: what sorted A and what sorted B; None if there was nothing to sort.
    """

    spec: PermutationSpec
    pair: list[dict[str, np.ndarray]]
    orders: tuple[Permutation, Permutation] | None = None

    def restored(self, permutation: Permutation) -> dict[str, np.ndarray]:
        """The permutation of B as it was, from one of B as it is here."""
        if self.orders is None:
            return dict(permutation)
        of_a, of_b = self.orders
        still = {name: np.broadcast_to(np.arange(x.shape[-1]), x.shape) for name, x in of_b.items()}
        whole = compose_permutations(still | dict(permutation), of_b)
        return compose_permutations(invert_permutation(of_a), whole)


def sort_single_numbers(
    spec: PermutationSpec, pair: list[dict[str, np.ndarray]], but_for: Collection[str] = ()
) -> Sorted:
    """Sort two networks along the groups whose units have one number each.

    Args:
        spec: of their arrays; every axis holds one name or None.
        pair: the arrays of A and of B; not changed.
        but_for: groups that stay as they are.
    """
    names = [name for name in spec.dependents if name not in but_for]
    paths = {name: path for name in names if (path := _only_array(spec, name))}
    if not paths:
        return Sorted(spec, pair)
    orders = tuple(
        identity_permutation(spec, arrays)
        | {name: _order(spec, name, path, arrays[path]) for name, path in paths.items()}
        for arrays in pair
    )
    pair = [
        apply_permutation(spec, order, arrays) for order, arrays in zip(orders, pair, strict=True)
    ]
    kept = [group for name, group in spec.groups.items() if name not in paths]
    above = {base for group in kept for base in group.parents}
    entries = {
        path: tuple(
            None if entry is None or entry.key in paths or _is_idle(entry, above) else entry
            for entry in leaf
        )
        for path, leaf in spec.entries.items()
    }
    return Sorted(PermutationSpec.of_entries(entries), pair, orders)


def _only_array(spec: PermutationSpec, name: str) -> str | None:
    """The path of the only array that holds a group, if that has no axis it does not vary along."""
    group = spec.groups[name]
    (path, _), *more = spec.permutations.get(name, [(None, None), (None, None)])
    if more or any(group.base in other.parents for other in spec.groups.values()):
        return None
    bases = [entry and entry.base for entry in spec.entries[path]]
    return path if sorted(map(str, bases)) == sorted((*group.parents, group.base)) else None


def _order(spec: PermutationSpec, name: str, path: str, array: np.ndarray) -> np.ndarray:
    """The units of a group by size, in each of its slots."""
    bases = [entry.base for entry in spec.entries[path]]
    group = spec.groups[name]
    array = array.transpose([bases.index(base) for base in (*group.parents, group.base)])
    return np.argsort(array, axis=-1, kind="stable")


def _is_idle(entry: axes.Group, above: set[str]) -> bool:
    """True for a "#" name that no group varies along."""
    return entry.is_fixed and entry.base not in above
