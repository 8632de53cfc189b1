"""Groups that may have another order for every unit of another group.

Attention has H heads of d dimensions each. The heads may change places, and inside *each* head the
dimensions may be reordered in its own way: d varies along H. Tying atoms cannot say that, but the
records of all equations can. Group d may vary along group h when, in every array of the whole
computation, wherever d is there is exactly one h, and every equation that aligns d in several
arrays aligns that h in them too. Then an equation holds for each unit of h by itself, and what it
does to d there is a plain permutation.

The relation is transitive: where d is, h is; where h is, g is.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from rebasin_lab.symmetry.inference.atoms import Atom, Atoms, Axis
from rebasin_lab.symmetry.inference.values import Record


@dataclasses.dataclass(frozen=True)
class Site:
    """One occurrence of a group in an array.

    Attributes:
        group: its representative.
        index: the index it carries: equal in arrays of one record that are aligned there.
        block: the block of a concatenation it is in; () outside.
    """

    group: Atom
    index: Hashable
    block: tuple


def sites(atoms: Atoms, axes: Sequence[tuple[Hashable, Axis]]) -> list[Site]:
    """Return all occurrences of groups in one array, inside concatenations too."""
    return [site for index, axis in axes for site in _sites_of_axis(atoms, axis, (index,), ())]


def find_parents(atoms: Atoms, records: Sequence[Record]) -> dict[Atom, tuple[Atom, ...]]:
    """For every group the groups it varies along, those that vary themselves last.

    Args:
        atoms: what is known of axes.
        records: every equation, and every parameter by itself.
    """
    companions: dict[Atom, set[Atom]] = {}
    order: dict[Atom, int] = {}
    for record in records:
        arrays = [sites(atoms, axes) for axes in record]
        for site in (site for array in arrays for site in array):
            order.setdefault(site.group, len(order))
        for group, found in _companions(arrays):
            companions[group] = companions[group] & found if group in companions else found
    # Of two groups that are always together only one can vary along the other: the later one.
    parents = {
        group: {o for o in others if group not in companions[o] or order[o] < order[group]}
        for group, others in companions.items()
        if group.pin is None
    }
    # Whatever a parent varies along must be a parent too, or the permutations form no group.
    while loose := [
        (group, parent)
        for group, chosen in parents.items()
        for parent in chosen
        if not parents.get(parent, set()) <= chosen
    ]:
        for group, parent in loose:
            parents[group].discard(parent)
    return {
        group: tuple(sorted(chosen, key=lambda p: (len(parents.get(p, ())), order[p])))
        for group, chosen in parents.items()
    }


def _companions(arrays: list[list[Site]]) -> Iterator[tuple[Atom, set[Atom]]]:
    """For every index of one record: its group, and the groups that are aligned with it."""
    shared: dict[tuple[Atom, Hashable], set[tuple[Hashable, Atom]]] = {}
    for array in arrays:
        for site in array:
            near = [
                other
                for other in array
                if other is not site and other.block == site.block[: len(other.block)]
            ]
            count = Counter(other.group for other in near)
            aligned = {
                (other.index, other.group)
                for other in near
                if count[other.group] == 1 and other.group is not site.group
            }
            key = (site.group, site.index)
            shared[key] = shared[key] & aligned if key in shared else aligned
    for (group, _), aligned in shared.items():
        yield group, {other for _, other in aligned}


def _sites_of_axis(atoms: Atoms, axis: Axis, index: tuple, block: tuple) -> Iterator[Site]:
    """Return the occurrences on one axis; factors count from the end: aligned arrays agree."""
    period = math.prod(factor.size for factor in axis)
    for factor in atoms.factors(axis):
        period //= factor.size
        if isinstance(factor, Atom):
            if factor.segments is None:
                yield Site(factor, (*index, period), block)
            else:
                for number, segment in enumerate(factor.segments):
                    inside = (*index, period, number)
                    yield from _sites_of_axis(atoms, segment, inside, inside)
