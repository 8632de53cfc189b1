"""Abstract values: an axis for every dimension, in place of numbers."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rebasin_lab.symmetry.inference.atoms import Axis, Step

MAX_STACK = 32  # more blocks than this are not followed one by one, only as one axis that is pinned


class Chosen(NamedTuple):
    """A mark on an array whose numbers are positions along an axis, found by the values there.

    Such an array is the same as its one-hot encoding, which has the axis: looking up and comparing
    with all positions carry the units along. Whatever else the numbers are used for needs an order.

    Attributes:
        index: of the axis, see `Array.varies`.
        axis: whose units were chosen.
        reason: why the units stay if the numbers are used otherwise.
        usable: whether ties cannot spoil it, or are taken not to happen.
        step: the equation that chose.
        kind: "position"; "shifted" by a number; or "never", for what is false of all positions.
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
        chosen: what its numbers point at, if they do.
        counts: the axis along which they are 0, 1, 2, ... and along no other anything else.
        distinct: axes along which no two values are equal but by coincidence.
        drawn: whether its entries are those of a parameter, each a number of its own.
        known: computes its entries, where they depend on no parameter, input or iteration.
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
    """An array whose items along `axis` differ in role: `items` have all its other axes."""

    axis: int
    items: tuple[Array, ...]


Value = Array | Stack
Labels = tuple[Hashable, ...]  # the index that each axis of an operand carries
# One equation as dependence sees it: for every operand and result, the index and axis of each axis.
Record = list[list[tuple[Hashable, Axis]]]


def without(array: Array, axis: int) -> Array:
    """One entry along an axis, the entries being alike."""
    return Array((*array.axes[:axis], *array.axes[axis + 1 :]), array.varies, array.chosen)


def shapes_of(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of the variables of an equation; () for what is no array, such as a token."""
    return [tuple(getattr(variable.aval, "shape", ())) for variable in variables]
