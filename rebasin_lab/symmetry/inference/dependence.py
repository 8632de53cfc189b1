"""Find groups that may have a different permutation for every unit of another group.

Attention has H heads of d dimensions each. Heads may be permuted, and inside *each* head the
dimensions may have their own permutation: d varies along H. Ties of atoms cannot express that, but
the records of all equations can. Group d may vary along group h if, in every array of the whole
computation, there is exactly one h wherever d is, and every equation that aligns d in several
arrays aligns that h in them too. Then an equation holds for each unit of h separately.

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
        group: the representative atom.
        index: of the axis; equal in arrays of one record that are aligned there.
        block: the block of a concatenation that holds it; () outside.
    """

    group: Atom
    index: Hashable
    block: tuple


def sites(atoms: Atoms, axes: Sequence[tuple[Hashable, Axis]]) -> list[Site]:
    """The occurrences of groups in one array, inside concatenations too."""
    return [site for index, axis in axes for site in _sites_of_axis(atoms, axis, (index,), ())]


def find_parents(atoms: Atoms, records: Sequence[Record]) -> dict[Atom, tuple[Atom, ...]]:
    """For every group the groups it varies along, those that vary themselves last.

    Args:
        atoms: of the reading.
        records: of every equation, and of every parameter alone.
    """
    companions: dict[Atom, set[Atom]] = {}
    order: dict[Atom, int] = {}
    for record in records:
        arrays = [sites(atoms, axes) for axes in record]
        for site in (site for array in arrays for site in array):
            order.setdefault(site.group, len(order))
        for group, found in _companions(arrays):
            companions[group] = companions[group] & found if group in companions else found
    # Of two groups that always occur together only the later one can vary along the other.
    parents = {
        group: {o for o in others if group not in companions[o] or order[o] < order[group]}
        for group, others in companions.items()
        if group.pin is None
    }
    # Parents of a parent must be parents, too, or the permutations form no group.
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
    """For every index of one record: its group, and the groups aligned with it."""
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
    """The occurrences on one axis; factors are numbered from the end, so aligned arrays agree."""
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
