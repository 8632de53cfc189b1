"""Abstract values: an axis for every dimension, in place of numbers."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rebasin_lab.symmetry.inference.atoms import Axis, Step

MAX_STACK = 32  # more blocks than this are not separate items, but one pinned axis


class Chosen(NamedTuple):
    """A mark on an array of positions along an axis that were chosen by the values there.

    Such an array is equivalent to its one-hot encoding, which has the axis: look-ups and comparison
    with all positions keep the units. Any other use of the numbers needs the order.

    Attributes:
        index: of the axis, see `Array.varies`.
        axis: the axis of the units.
        reason: for pinning the units if the numbers are used otherwise.
        usable: whether ties are excluded, or assumed to be.
        step: the equation that chose.
        kind: "position"; "shifted" by a number; or "never", a condition false for all positions.
    """

    index: Hashable
    axis: Axis
    reason: str
    usable: bool
    step: Step | None
    kind: str = "position"


@dataclasses.dataclass(frozen=True, eq=False)
class Array:
    """An abstract array: its axes and their atoms.

    Attributes:
        axes: one per dimension.
        varies: (index, axis) of each scan whose iterations this value differs between; such a
            value is one slice of an array that has this axis too.
        chosen: the mark of chosen positions, if its numbers are such.
        counts: the axis along which its numbers are 0, 1, 2, ..., the same along all others.
        distinct: axes along which two values are equal only by coincidence.
        drawn: whether its entries are those of a parameter, generically all different.
        known: computes its entries, if they depend on no parameter, input or iteration.
    """

    axes: tuple[Axis, ...]
    varies: tuple[tuple[Hashable, Axis], ...] = ()
    chosen: Chosen | None = None
    counts: int | None = None
    distinct: frozenset[int] = frozenset()
    drawn: bool = False
    known: Callable[[], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """An array whose items along `axis` differ in role; `items` have all other axes."""

    axis: int
    items: tuple[Array, ...]


Value = Array | Stack
Labels = tuple[Hashable, ...]  # the index that each axis of an operand carries
# One equation for `dependence`: for every operand and result the index and the atoms of each axis.
Record = list[list[tuple[Hashable, Axis]]]


def without(array: Array, axis: int) -> Array:
    """One entry along an axis, where all entries are alike."""
    return Array((*array.axes[:axis], *array.axes[axis + 1 :]), array.varies, array.chosen)


def shapes_of(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of the variables of an equation; () for non-arrays, such as a token."""
    return [tuple(getattr(variable.aval, "shape", ())) for variable in variables]
