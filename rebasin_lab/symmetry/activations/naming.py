"""Name the atoms of a reading by the groups of a spec.

Inference gives every axis of every value as atoms; a spec gives the axes of the parameters as
names. Both describe the parameters, so comparing them there names each atom, and with that the axes
of any other value. The spec may be coarser than the function allows (fewer groups, the same
permutation in every slot), and an atom may be a whole entry; but its units must be free in the
function.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rebasin_lab.symmetry import axes
from rebasin_lab.symmetry.inference.atoms import Atom, Axis, Factor, Uniform, size_of
from rebasin_lab.symmetry.inference.explanations import Explainer, Place
from rebasin_lab.symmetry.inference.interpreter import Interpreter
from rebasin_lab.symmetry.inference.values import Array
from rebasin_lab.symmetry.spec import PermutationSpec


class Unproven(ValueError):
    """Raised if a trace does not prove a spec; the spec may still hold."""


class _Named(NamedTuple):
    """The name of an atom, and the leaf and axis that give it."""

    entry: axes.Entry
    place: Place


class Naming:
    """The names that a spec gives to the atoms of one reading.

    Raises:
        Unproven: if the spec moves units whose order matters, has different names for units that
            move together, or groups units in another way than the function does.
    """

    def __init__(
        self,
        reading: Interpreter,
        parameters: Mapping[str, Array],
        spec: PermutationSpec,
        sizes: Mapping[str, int],
    ):
        self.atoms = reading.atoms
        self.parameters = parameters
        self.spec = spec
        self.sizes = sizes
        self._by_base = {group.base: group for group in spec.groups.values()}
        self._named: dict[Atom, _Named] = {}
        for path, entries in spec.entries.items():
            for number, (axis, entry) in enumerate(
                zip(parameters[path].axes, entries, strict=True)
            ):
                whole = axes.Fixed(size_of(axis)) if entry is None else self._visible(entry)
                self._name_axis(axis, whole, (path, number))

    def entry(self, axis: Axis) -> axes.Entry:
        """The entry of an axis of any value of the reading."""
        return axes.product_of([self._entry_of(factor) for factor in self.atoms.factors(axis)])

    def _entry_of(self, factor: Factor) -> axes.Entry:
        if isinstance(factor, Atom):
            if factor in self._named:
                return self._named[factor].entry
            if factor.segments is not None:
                blocks = self.atoms.leaf_blocks(factor)
                terms = [self.entry(segment) for segment, _ in blocks]
                return axes.arrangement_of(terms, [at.tolist() for _, at in blocks])
        # Equal values, or units whose order matters: free units have met a parameter.
        return axes.Fixed(factor.size)

    def _visible(self, entry: axes.Entry) -> axes.Entry:
        """The entry in terms of atoms, where an axis of length one has none.

        A group that varies along a parent of one slot gets that parent beside it.
        """

        def replace(group: axes.Group) -> axes.Entry:
            if self.sizes[group.key] == 1:
                return axes.Fixed(1)
            parents = [self._by_base[base] for base in group.parents]
            return axes.product_of([*(p for p in parents if self.sizes[p.key] == 1), group])

        return axes.map_groups(entry, replace)

    def _size(self, entry: axes.Entry) -> int:
        return axes.total_size(entry, self.sizes)

    def _name_axis(self, axis: Axis, entry: axes.Entry, place: Place) -> None:
        """Match the factors of an axis with those of its entry, and name them."""
        parts = list(axes.factors_of(entry))
        for factor in self.atoms.factors(axis):
            taken, rest = [], factor.size
            while rest > 1:
                part = parts.pop(0)
                size = self._size(part)
                if isinstance(part, axes.Fixed) and size > rest and size % rest == 0:
                    parts.insert(0, axes.Fixed(size // rest))
                    part, size = axes.Fixed(rest), rest
                if rest % size:
                    raise self._misfit(axis, part, place)
                taken.append(part)
                rest //= size
            self._name(factor, axes.product_of(taken), place)

    def _name(self, factor: Factor, entry: axes.Entry, place: Place) -> None:
        if isinstance(factor, Uniform):
            return
        if _moves(entry) and factor.pin is not None:
            raise self._held(factor, entry, place)
        if factor.segments is not None and factor.pin is None:
            self._name_blocks(factor, entry, place)
            return
        known = self._named.get(factor)
        if known is None or (known.entry != entry and not _moves(known.entry) and _named(entry)):
            self._named[factor] = _Named(entry, place)
            known = known or self._named[factor]
        if known.entry != entry and (_moves(known.entry) or _moves(entry)):
            raise self._conflict(known, _Named(entry, place))

    def _name_blocks(self, atom: Atom, entry: axes.Entry, place: Place) -> None:
        """Match the segments of an atom with the terms of its entry, and name them."""
        terms = self._terms(entry)
        for segment, places in self.atoms.blocks(atom):
            inside = np.full(atom.size, -1)
            inside[places] = range(len(places))
            taken: list[tuple[axes.Entry, list[int]]] = []
            for term, positions in terms:
                at = inside[positions]
                if (at < 0).any() and (at >= 0).any() and not isinstance(term, axes.Fixed):
                    raise self._misfit((atom,), term, place)
                if at := at[at >= 0].tolist():
                    whole = not isinstance(term, axes.Fixed)
                    taken.append((term if whole else axes.Fixed(len(at)), at))
            self._name_axis(segment, axes.arrangement_of(*zip(*taken, strict=True)), place)

    def _terms(self, entry: axes.Entry) -> list[tuple[axes.Entry, np.ndarray]]:
        """The blocks of an entry and their positions; "3*P" is three blocks."""
        match entry:
            case axes.Arrangement():
                found = zip(entry.terms, map(np.array, entry.positions), strict=True)
                return [
                    (term, at[inside]) for block, at in found for term, inside in self._terms(block)
                ]
            case axes.Sum(terms=terms):
                blocks = list(terms)
            case axes.Product(factors=(axes.Fixed(size=size), *rest)):
                blocks = [axes.product_of(rest)] * size
            case _:
                blocks = [entry]
        ends = itertools.accumulate(map(self._size, blocks), initial=0)
        ranges = [np.arange(start, end) for start, end in itertools.pairwise(ends)]
        return list(zip(blocks, ranges, strict=True))

    def _misfit(self, axis: Axis, part: axes.Entry, place: Place) -> Unproven:
        parts = [factor.size for factor in self.atoms.factors(axis)]
        [atom] = self.atoms.factors(axis)[:1]
        joint = " * "
        if len(parts) == 1 and isinstance(atom, Atom) and atom.segments is not None:
            parts, joint = [size_of(segment) for segment in atom.segments], " + "
        return Unproven(
            f"Expected {_where(place)} to be made of units as the function takes it apart, "
            f"{joint.join(map(str, parts))}; got '{self.spec.axes[place[0]][place[1]]}', in which "
            f"the {self._size(part)} of '{axes.format_entry(part)}' do not fit. Infer the spec, or "
            "write it like the one that is inferred."
        )

    def _held(self, atom: Atom, entry: axes.Entry, place: Place) -> Unproven:
        leaf_axes = {
            (path, number): axis
            for path, parameter in self.parameters.items()
            for number, axis in enumerate(parameter.axes)
        }
        why = Explainer(self.atoms, leaf_axes).why_fixed(atom)
        return Unproven(
            f"Expected a spec of this function; it moves {_where(place)} by "
            f"'{axes.format_entry(entry)}', but as far as the trace shows its order means "
            f"something. {why}"
        )

    def _conflict(self, known: _Named, new: _Named) -> Unproven:
        return Unproven(
            f"Expected a spec of this function, in which {_where(known.place)} and "
            f"{_where(new.place)} hold the same units; it calls them "
            f"'{axes.format_entry(known.entry)}' and '{axes.format_entry(new.entry)}'."
        )


def _moves(entry: axes.Entry) -> bool:
    return any(not group.is_fixed for group in axes.groups_in(entry))


def _named(entry: axes.Entry) -> bool:
    return bool(axes.groups_in(entry))


def _where(place: Place) -> str:
    return f"'{place[0]}' axis {place[1]}"
