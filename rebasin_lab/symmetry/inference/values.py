"""What is known of the value of a variable: an axis for every dimension, in place of numbers."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

from rebasin_lab.symmetry.inference.atoms import Axis

MAX_STACK = 32  # more blocks than this are not followed one by one, only as one axis that is pinned


@dataclasses.dataclass(frozen=True, eq=False)
class Array:
    """What is known of an array.

    Attributes:
        axes: one per dimension.
        varies: (index, axis) of each scan whose iterations this value differs between; such a
            value is one slice of an array that has this axis too.
    """

    axes: tuple[Axis, ...]
    varies: tuple[tuple[Hashable, Axis], ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """An array whose entries along `axis` are told apart: `items` have all its other axes."""

    axis: int
    items: tuple[Array, ...]


Value = Array | Stack
Labels = tuple[Hashable, ...]  # the index that each axis of an operand carries
# One equation as dependence sees it: for every operand and result, the index and axis of each axis.
Record = list[list[tuple[Hashable, Axis]]]


def without(array: Array, axis: int) -> Array:
    """One entry along an axis, the entries being alike."""
    return dataclasses.replace(array, axes=(*array.axes[:axis], *array.axes[axis + 1 :]))


def shapes_of(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of the variables of an equation; () for what is no array, such as a token."""
    return [tuple(getattr(variable.aval, "shape", ())) for variable in variables]
