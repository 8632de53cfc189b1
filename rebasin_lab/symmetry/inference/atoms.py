"""Atoms of axes: their products and sums, ties and pins.

Inference reads every axis as an ordered product of *atoms* (the first is the slowest, as in a
reshape). An atom is a set of units that move together. An equation does one of five things to an
axis:

- `join`: two axes meet position by position, so their units are the same;
- `split`: an atom of 12 becomes 3 x 4, as in a reshape;
- `cut` and `divide`: an atom of 12 becomes 8 + 4, as in a slice or a concatenation;
- `concatenate`: the reverse of a cut;
- `pin`: the order of the units matters, so they may not move.

Nothing is undone: atoms only become finer, more tied and more pinned. So all that holds for the
equations read so far stays true, which makes the result sound.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Step(NamedTuple):
    """An equation of the jaxpr, and the call around it (None at the top)."""

    equation: Any
    caller: "Step | None"


class Pin(NamedTuple):
    """A reason why units may not move, in words, and its step, if there is one."""

    reason: str
    step: Step | None


@dataclasses.dataclass(eq=False, slots=True)
class Atom:
    """A set of units. Compare atoms by `Atoms.find`: tied atoms have one representative.

    Attributes:
        size: the number of units.
        pin: the reason why they may not move; None if they may.
        tied_to: the next atom towards the representative.
        factors: the two factors, if the atom is a product.
        segments: one axis per block, if the atom is a sum.
        places: the positions of each block's units, ascending; None if blocks lie end to end.
        origins: the reshapes that made this atom, where a slice may ask for blocks instead.
    """

    size: int
    pin: Pin | None = None
    tied_to: "Atom | None" = None
    factors: "tuple[Atom, Atom] | None" = None
    segments: "list[Axis] | None" = None
    places: list[np.ndarray] | None = None
    origins: frozenset = frozenset()


class Uniform(NamedTuple):
    """Equal values: no permutation changes them, so nothing is tied.

    They must be equal in every execution of an equation, in every iteration of a loop; `loops`
    reads a body again until they are.
    """

    size: int


Factor = Atom | Uniform
Axis = tuple[Factor, ...]  # an axis of length one or zero is the empty product


class Link(NamedTuple):
    """A tie between two atoms, and the step that made it.

    Attributes:
        left: an atom.
        right: the atom it is tied to, or a part of it.
        step: the equation; None before and after the function.
        is_part: whether `right` is a factor or a segment of `left` (else they are equal).
    """

    left: Atom
    right: Atom
    step: Step | None
    is_part: bool


def size_of(axis: Axis) -> int:
    """The number of positions along an axis."""
    return math.prod(factor.size for factor in axis)


def uniform(size: int) -> Axis:
    """An axis of equal values."""
    return (Uniform(size),) if size > 1 else ()


class Atoms:
    """The atoms of one inference, with their ties.

    Attributes:
        step: the present equation, recorded in ties and pins.
        links: every tie and every refinement, for explanations.
        pinned_at: every pin, and the atom that it was first set on.
        wanted_cuts: reshapes whose leading block a slice cut (see `layout.reshape`).
    """

    def __init__(self):
        self.step: Step | None = None
        self.links: list[Link] = []
        self.pinned_at: list[tuple[Pin, Atom]] = []
        self.wanted_cuts: set = set()

    def fresh(self, size: int) -> Axis:
        """A new axis of free units."""
        return (Atom(size),) if size > 1 else ()

    def pinned(self, size: int, reason: str, part_of: Axis = ()) -> Axis:
        """A new axis of units that may not move; parts of the atoms of `part_of`."""
        if size <= 1:
            return ()
        atom = Atom(size, pin=Pin(reason, self.step))
        self.pinned_at.append((atom.pin, atom))
        for whole in self.factors(part_of):
            if isinstance(whole, Atom):
                self._link(whole, atom, is_part=True)
        return (atom,)

    def find(self, atom: Atom) -> Atom:
        """The representative of an atom and all that are tied to it."""
        while atom.tied_to is not None:
            if atom.tied_to.tied_to is not None:
                atom.tied_to = atom.tied_to.tied_to  # halve the path
            atom = atom.tied_to
        return atom

    def factors(self, axis: Axis) -> list[Factor]:
        """The factors of an axis: representatives that are no products, uniform ones merged."""
        resolved: list[Factor] = []
        for factor in axis:
            if isinstance(factor, Atom):
                factor = self.find(factor)
                if factor.factors is not None:
                    resolved.extend(self.factors(factor.factors))
                    continue
            if isinstance(factor, Uniform) and resolved and isinstance(resolved[-1], Uniform):
                factor = Uniform(resolved.pop().size * factor.size)
            resolved.append(factor)
        return resolved

    def is_fixed(self, axis: Axis) -> bool:
        """True if no unit of this axis may move."""
        return all(isinstance(f, Atom) and f.pin is not None for f in self.factors(axis))

    def is_uniform(self, axis: Axis) -> bool:
        """True if all values along this axis are equal."""
        return all(isinstance(factor, Uniform) for factor in self.factors(axis))

    def pin(self, axis: Axis, reason: str) -> None:
        """Forbid all units of an axis to move."""
        for factor in self.factors(axis):
            if isinstance(factor, Atom) and factor.pin is None:
                pin = Pin(reason, self.step)
                self.pinned_at.append((pin, factor))
                self._pin_atom(factor, pin)

    def join(self, axes: Sequence[Axis]) -> Axis:
        """Tie axes that meet position by position; returns the joint axis."""
        joined = axes[0]
        for axis in axes[1:]:
            joined = self._join_two(joined, axis)
        return joined

    def cut(self, axis: Axis, points: Sequence[int]) -> list[Axis]:
        """The blocks of an axis between the given interior points, in ascending order."""
        return self.divide(axis, np.searchsorted(points, np.arange(size_of(axis)), side="right"))

    def divide(self, axis: Axis, parts: np.ndarray) -> list[Axis]:
        """The parts of an axis, at any positions, each in its order.

        Args:
            axis: of any kind.
            parts: for each position the number of its part, 0, 1, ...; every number occurs.
        """
        if not parts.any():
            return [axis]
        sizes = np.bincount(parts).tolist()
        if self.is_uniform(axis):
            return [uniform(size) for size in sizes]
        if self.is_fixed(axis):
            why = "it is a block of an axis that may not move"
            return [self.pinned(size, why, axis) for size in sizes]
        factors = self.factors(axis)
        if len(factors) > 1:
            return self._divide_product(factors, parts, sizes)
        self.ask_for_blocks(factors[0])
        self._refine(factors[0], parts)
        return [self._picked(factors[0], np.flatnonzero(parts == k)) for k in range(len(sizes))]

    def blocks(self, atom: Atom) -> list[tuple[Axis, np.ndarray]]:
        """The segments of an atom that is a sum, and the positions of each."""
        return list(zip(atom.segments, _places(atom), strict=True))

    def leaf_blocks(self, atom: Atom) -> list[tuple[Axis, np.ndarray]]:
        """The `blocks`, with nested sums expanded."""
        found: list[tuple[Axis, np.ndarray]] = []
        for segment, at in self.blocks(atom):
            inside = self.factors(segment)
            if len(inside) == 1 and isinstance(inside[0], Atom) and _is_sum(inside[0]):
                found += [(part, at[places]) for part, places in self.leaf_blocks(inside[0])]
            else:
                found.append((segment, at))
        return found

    def split(self, factor: Factor, first: int) -> tuple[Factor, Factor]:
        """The factor as a product whose slow part has `first` units: 12 as 3 x 4."""
        rest = factor.size // first
        if isinstance(factor, Uniform):
            return Uniform(first), Uniform(rest)
        assert factor is self.find(factor), "only a representative can be split"
        assert factor.factors is None, "it is split already"
        head, tail = Atom(first, pin=factor.pin), Atom(rest, pin=factor.pin)
        if factor.segments is not None and factor.pin is None:
            # Blocks of a concatenation are not interchangeable, but the order inside may be free:
            # the same in all, as a product cannot express more.
            self.pin((head,), "its units are different blocks")
            for block in self.cut((factor,), range(rest, factor.size, rest)):
                self.join([(tail,), block])
        factor.factors = (head, tail)
        for part in factor.factors:
            self._link(factor, part, is_part=True)
        return factor.factors

    def concatenate(self, axes: Sequence[Axis], places: Sequence[Any] | None = None) -> Axis:
        """One axis made of blocks, end to end or with their units at some positions."""
        whole = Atom(sum(map(size_of, axes)), segments=list(axes))
        if places is not None:
            _put(whole, list(zip(axes, map(np.asarray, places), strict=True)))
        parts = [f for axis in axes for f in self.factors(axis) if isinstance(f, Atom)]
        for part in parts:
            self._link(whole, part, is_part=True)
        if all(self.is_fixed(axis) for axis in axes):
            # Blocks of length one are distinguished by position.
            whole.pin = parts[0].pin if parts else Pin("it is put together unit by unit", self.step)
        return (whole,)

    def ask_for_blocks(self, factor: Factor) -> None:
        """Record that a free factor is cut, so that the next reading cuts it in its reshape."""
        if isinstance(factor, Atom) and factor.pin is None:
            self.wanted_cuts |= factor.origins

    def _pin_atom(self, atom: Atom, pin: Pin) -> None:
        if atom.pin is None:
            atom.pin = pin
            for segment in atom.segments or ():
                for factor in self.factors(segment):
                    if isinstance(factor, Atom):
                        self._pin_atom(factor, pin)

    def _join_two(self, left: Axis, right: Axis) -> Axis:
        assert size_of(left) == size_of(right), (size_of(left), size_of(right))
        if self.is_uniform(right):
            return left
        if self.is_uniform(left):
            return right
        joined: list[Factor] = []
        rest_left, rest_right = list(left), list(right)
        while rest_left:
            # Resolve again in each step: tying one pair may have refined the rest.
            rest_left, rest_right = self.factors(tuple(rest_left)), self.factors(tuple(rest_right))
            a, b = rest_left.pop(0), rest_right.pop(0)
            if a.size == b.size:
                joined.append(self._tie(a, b))
            # Join the two parts at once, as uniform ones left in place would merge again; as axes,
            # since splitting one factor may have tied or split the other.
            elif a.size % b.size == 0:
                a, rest = self.split(a, b.size)
                rest_left.insert(0, rest)
                joined.extend(self._join_two((a,), (b,)))
            elif b.size % a.size == 0:
                b, rest = self.split(b, a.size)
                rest_right.insert(0, rest)
                joined.extend(self._join_two((a,), (b,)))
            else:
                why = f"its units are grouped in two ways that do not fit, by {a.size} and {b.size}"
                self.pin(left, why)
                self.pin(right, why)
                # A new axis, since the result need not be uniform where one side is.
                return self.pinned(size_of(left), why, (*left, *right))
        return tuple(joined)

    def _tie(self, a: Factor, b: Factor) -> Factor:
        """Tie two factors of one size; returns the representative.

        A uniform block of `a` may become units in place, for all axes that hold `a`. Equations read
        before saw it uniform, which is still true of them; for loops see `loops`.
        """
        if isinstance(a, Uniform):
            return b
        if isinstance(b, Uniform):
            return a
        for atom in (a, b):
            assert atom.tied_to is None, "only representatives can be tied"
            assert atom.factors is None, "a product is tied factor by factor"
        if a is b:
            return a
        if a.segments is not None or b.segments is not None:
            self._tie_parts(a, b)
        self._link(a, b, is_part=False)
        for one, other in ((a, b), (b, a)):
            if one.pin is not None:
                self._pin_atom(other, one.pin)
        b.tied_to = a
        a.origins |= b.origins
        return a

    def _tie_parts(self, a: Atom, b: Atom) -> None:
        """Refine two atoms until their blocks have the same positions, and tie the blocks."""
        numbers = np.zeros(a.size, int)
        for atom in (a, b):
            for number, (_, at) in enumerate(self.blocks(atom) if atom.segments else []):
                numbers[at] += number * a.size
            numbers = np.unique(numbers, return_inverse=True)[1]
        self._refine(a, numbers)
        self._refine(b, numbers)
        pairs = zip(list(a.segments), list(b.segments), strict=True)
        a.segments = [self.join(pair) for pair in pairs]

    def _refine(self, atom: Atom, parts: np.ndarray) -> None:
        """Refine the segments of an atom so that each lies in one part; see `divide`."""
        if atom.segments is None:
            blocks = [np.flatnonzero(parts == number) for number in np.unique(parts)]
            made = [(Atom(len(at), pin=atom.pin),) if len(at) > 1 else () for at in blocks]
            for part in itertools.chain(*made):
                self._link(atom, part, is_part=True)
            _put(atom, list(zip(made, blocks, strict=True)))
        else:
            found: list[tuple[Axis, np.ndarray]] = []
            for segment, at in self.blocks(atom):
                if (parts[at] == parts[at[0]]).all():
                    found.append((segment, at))
                    continue
                inside = np.unique(parts[at], return_inverse=True)[1]
                pieces = enumerate(self.divide(segment, inside))
                found += [(piece, at[inside == k]) for k, piece in pieces]
            _put(atom, found)
        if len(atom.segments) == atom.size:
            self.pin((atom,), "each of its units is picked out by itself")

    def _picked(self, atom: Atom, positions: np.ndarray) -> Axis:
        """The segments at some positions as one axis."""
        taken = [
            (segment, np.searchsorted(positions, at))
            for segment, at in self.blocks(atom)
            if np.isin(at[0], positions)
        ]
        axes, places = zip(*taken, strict=True)
        return axes[0] if len(axes) == 1 else self.concatenate(axes, places)

    def _divide_product(
        self, factors: list[Factor], parts: np.ndarray, sizes: list[int]
    ) -> list[Axis]:
        """Parts of a product: whole units of its slow factor, or the same of the rest in each.

        The first 8 of 3 x 4 are 2 x 4, which leaves the 4 free; the first 6 cut through it.
        """
        head, rest = factors[0], tuple(factors[1:])
        grid = parts.reshape(head.size, -1)
        if (grid == grid[:1]).all():
            return [(head, *part) for part in self.divide(rest, grid[0])]
        if (grid == grid[:, :1]).all():
            if isinstance(head, Uniform):
                return [(*uniform(n // grid.shape[1]), *rest) for n in sizes]
            self.ask_for_blocks(head)
            self.pin((head,), "only some of its units are taken")
            why = "only some units are taken"
            return [(*self.pinned(n // grid.shape[1], why, (head,)), *rest) for n in sizes]
        self.pin(tuple(factors), "a block is taken that cuts through its units")
        return [self.pinned(n, "it is a block of such an axis", tuple(factors)) for n in sizes]

    def _link(self, left: Atom, right: Atom, *, is_part: bool) -> None:
        self.links.append(Link(left, right, self.step, is_part))


def _is_sum(atom: Atom) -> bool:
    return atom.segments is not None and atom.pin is None


def _places(atom: Atom) -> list[np.ndarray]:
    """The positions of the units of each segment."""
    if atom.places is not None:
        return atom.places
    ends = itertools.accumulate(map(size_of, atom.segments), initial=0)
    return [np.arange(start, end) for start, end in itertools.pairwise(ends)]


def _put(atom: Atom, blocks: list[tuple[Axis, np.ndarray]]) -> None:
    """Set the blocks of an atom, ordered by their first units."""
    blocks.sort(key=lambda block: int(block[1][0]))
    atom.segments = [segment for segment, _ in blocks]
    atom.places = [at for _, at in blocks]
    if all(at[-1] - at[0] == len(at) - 1 for at in atom.places):
        atom.places = None
