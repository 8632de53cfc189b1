"""Walking through a jaxpr with axes in place of numbers.

The value of a variable is an `Array` (one `Axis` per dimension) or a `Stack` of them, when the
entries along one axis play different roles: queries, keys and values in one tensor. Nearly every
primitive is an einsum as far as units are concerned: some axes of its operands and results carry
the same index. `Interpreter.indexed` does these, and keeps a record for the last question, which
groups may vary along which others (see `dependence`). Rules live in `primitives` and `loops`.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from rebasin_lab.symmetry.inference.atoms import (
    Atom,
    Atoms,
    Axis,
    Factor,
    Step,
    size_of,
    uniform,
)

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
Rule = Callable[["Interpreter", Any, list[Value]], list[Value]]


class Interpreter:
    """One reading of a function.

    Attributes:
        atoms: everything known about axes.
        rules: primitive name -> its rule.
        unknown: the rule for every other primitive.
        cuts: reshapes whose leading block is to be taken apart, from an earlier reading.
        records: what every equation did, in order.
    """

    def __init__(self, rules: Mapping[str, Rule], unknown: Rule, cuts: frozenset = frozenset()):
        self.atoms = Atoms()
        self.rules = rules
        self.unknown = unknown
        self.cuts = cuts
        self.records: list[Record] = []

    def run(self, closed: core.ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        """The values of the results of a jaxpr, given those of its arguments."""
        constants = [self.constant(value) for value in closed.consts]
        return self.run_open(closed.jaxpr, constants, arguments)

    def run_open(
        self, jaxpr: core.Jaxpr, constants: Sequence[Value], arguments: Sequence[Value]
    ) -> list[Value]:
        """As `run`, for a jaxpr whose constants come apart from it."""
        values: dict[Any, Value] = {}
        values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Value:
            if isinstance(variable, core.Literal):
                return self.constant(variable.val)
            return values[variable]

        caller = self.atoms.step
        for equation in jaxpr.eqns:
            self.atoms.step = Step(equation, caller)
            rule = self.rules.get(equation.primitive.name, self.unknown)
            results = rule(self, equation, [read(variable) for variable in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        self.atoms.step = caller
        return [read(variable) for variable in jaxpr.outvars]

    def constant(self, value: Any) -> Array:
        """A number known beforehand: axes along which it does not change are uniform."""
        if not hasattr(value, "dtype") or jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            return self.ordered(np.shape(value), "it meets a constant that is no array of numbers")
        array = np.asarray(value)
        axes = []
        for axis, size in enumerate(array.shape):
            first = array.take([0], axis) if size else array
            why = "it meets a constant of the function whose values differ along it"
            axes.append(uniform(size) if _same(array, first) else self.atoms.pinned(size, why))
        return Array(tuple(axes))

    def ordered(self, shape: Sequence[int], reason: str) -> Array:
        """An array none of whose units may move."""
        return Array(tuple(self.atoms.pinned(size, reason) for size in shape))

    def pin(self, value: Value, reason: str) -> None:
        """Hold all units of a value where they are."""
        for axis in self.flat(value).axes:
            self.atoms.pin(axis, reason)

    def indexed(
        self,
        operands: Sequence[Value],
        labels: Sequence[Labels],
        out_labels: Sequence[Labels],
        out_shapes: Sequence[Sequence[int]],
        pins: Mapping[Hashable, str] | None = None,
    ) -> list[Value]:
        """The results of a primitive in index notation, as in an einsum.

        Axes with one index meet position by position. An index that only results have is new: its
        axis is uniform (the value is repeated along it), or pinned.

        Args:
            operands: the values that go in.
            labels: for each operand the index of each axis.
            out_labels: the same for each result.
            out_shapes: the shape of each result.
            pins: index -> why the order along it means something.
        """
        pins = pins or {}
        stacked = next(
            (
                row[value.axis]
                for value, row in zip(operands, labels, strict=True)
                if isinstance(value, Stack) and row[value.axis] not in pins
            ),
            None,
        )
        if stacked is None:
            arrays = [self.flat(value) for value in operands]
            return self._indexed_arrays(arrays, labels, out_labels, out_shapes, pins)
        return self._indexed_stacks(stacked, operands, labels, out_labels, out_shapes, pins)

    def together(self, values: Sequence[Value], shape: Sequence[int]) -> Value:
        """What may be any of several values, such as the branches of a condition."""
        labels = tuple(range(len(shape)))
        return self.indexed(values, [labels] * len(values), [labels], [shape])[0]

    def flat(self, value: Value) -> Array:
        """The value as a plain array: the entries of a stack lose what told them apart."""
        if isinstance(value, Array):
            return value
        shape = [size_of(axis) for axis in value.items[0].axes]
        item = self.together(value.items, shape)
        axis = self.atoms.pinned(len(value.items), "its entries play different roles")
        return Array((*item.axes[: value.axis], axis, *item.axes[value.axis :]), item.varies)

    def reshape(self, value: Value, shape: Sequence[int], key: Hashable) -> Value:
        """The value with its units in another grid, row by row.

        An axis that is a concatenation and is seen as [blocks, units] becomes a stack. So does one
        whose blocks a later slice takes apart; that is only known after a first reading, which is
        then repeated with `key` among the `cuts`.

        Args:
            value: what to reshape.
            shape: the new shape.
            key: names this reshape, the same in every reading.
        """
        shape = tuple(shape)
        if isinstance(value, Stack):
            return self._reshape_stack(value, shape, key)
        units = [factor for axis in value.axes for factor in self.atoms.factors(axis)]
        regrouped = self._regroup(units, shape, key, 0)
        if regrouped is None:
            why = f"a reshape to {list(shape)} cuts through its units"
            self.pin(value, why)
            return self.ordered(shape, why)
        return _with_varies(regrouped, value.varies)

    def concatenate(self, values: Sequence[Value], axis: int) -> Value:
        """Several values end to end along one axis."""
        shapes = [self.shape(value) for value in values]
        if all(shape[axis] == 1 for shape in shapes) and 1 < len(values) <= MAX_STACK:
            items = [self.flat(value) for value in values]
            return Stack(axis, tuple(_without(item, axis) for item in items))
        stack = next((v for v in values if isinstance(v, Stack)), None)
        if stack is not None and all(
            isinstance(v, Stack) and v.axis == stack.axis and len(v.items) == len(stack.items)
            for v in values
        ):
            if stack.axis == axis:
                return Stack(axis, tuple(item for v in values for item in v.items))
            inner = axis - (stack.axis < axis)
            columns = zip(*[v.items for v in values], strict=True)
            joined = [self.flat(self.concatenate(column, inner)) for column in columns]
            return Stack(stack.axis, tuple(joined))
        arrays = [self.flat(value) for value in values]
        other = tuple(i for i in range(len(shapes[0])) if i != axis)
        labels = [
            tuple(("block", k) if i == axis else i for i in range(len(shape)))
            for k, shape in enumerate(shapes)
        ]
        out_shape = [shapes[0][i] for i in other]
        [rest] = self._indexed_arrays(arrays, labels, [other], [out_shape], {})
        whole = self.atoms.concatenate([array.axes[axis] for array in arrays])
        return Array((*rest.axes[:axis], whole, *rest.axes[axis:]), rest.varies)

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of the array a value stands for."""
        item = value.items[0] if isinstance(value, Stack) else value
        shape = [size_of(axis) for axis in item.axes]
        if isinstance(value, Stack):
            shape.insert(value.axis, len(value.items))
        return tuple(shape)

    def _indexed_arrays(
        self,
        arrays: Sequence[Array],
        labels: Sequence[Labels],
        out_labels: Sequence[Labels],
        out_shapes: Sequence[Sequence[int]],
        pins: Mapping[Hashable, str],
    ) -> list[Value]:
        meeting: dict[Hashable, list[Axis]] = {}
        for array, row in zip(arrays, labels, strict=True):
            for axis, label in zip(array.axes, row, strict=True):
                meeting.setdefault(label, []).append(axis)
        joined = {label: self.atoms.join(axes) for label, axes in meeting.items()}
        for row, shape in zip(out_labels, out_shapes, strict=True):
            for label, size in zip(row, shape, strict=True):
                joined.setdefault(label, uniform(size))
        for label, reason in pins.items():
            # Equal values are no longer equal once positions matter: uniform axes are pinned too.
            order = self.atoms.pinned(size_of(joined[label]), reason)
            joined[label] = self.atoms.join([joined[label], order])
        varies = tuple({index: (index, axis) for a in arrays for index, axis in a.varies}.values())
        results = [Array(tuple(joined[label] for label in row), varies) for row in out_labels]
        self.records.append(
            [
                [*zip(row, array.axes, strict=True), *array.varies]
                for array, row in zip([*arrays, *results], [*labels, *out_labels], strict=True)
            ]
        )
        return results

    def _indexed_stacks(
        self,
        stacked: Hashable,
        operands: Sequence[Value],
        labels: Sequence[Labels],
        out_labels: Sequence[Labels],
        out_shapes: Sequence[Sequence[int]],
        pins: Mapping[Hashable, str],
    ) -> list[Value]:
        """The same for every entry of the stack; entries that are added up are tied."""
        columns = [self._entries(v, row, stacked) for v, row in zip(operands, labels, strict=True)]
        num_entries = next(len(column) for column in columns if isinstance(column, tuple))
        rows = [_drop(row, stacked) for row in labels]
        out_rows = [_drop(row, stacked) for row in out_labels]
        inner_shapes = [
            [size for label, size in zip(row, shape, strict=True) if label != stacked]
            for row, shape in zip(out_labels, out_shapes, strict=True)
        ]
        entries = [
            self.indexed(
                [column[k] if isinstance(column, tuple) else column for column in columns],
                rows,
                out_rows,
                inner_shapes,
                pins,
            )
            for k in range(num_entries)
        ]
        results: list[Value] = []
        for items, row, shape in zip(
            zip(*entries, strict=True), out_labels, inner_shapes, strict=True
        ):
            if stacked in row:
                flat = tuple(self.flat(item) for item in items)
                results.append(Stack(row.index(stacked), flat))
            else:
                results.append(self.together(items, shape))
        return results

    def _entries(self, value: Value, row: Labels, stacked: Hashable) -> tuple[Array, ...] | Value:
        """The entries of one operand along the stacked index; the operand itself if it has none."""
        if stacked not in row:
            return value
        if isinstance(value, Stack) and row[value.axis] == stacked:
            return value.items
        array, axis = self.flat(value), row.index(stacked)
        if not self.atoms.is_uniform(array.axes[axis]):
            for factor in self.atoms.factors(array.axes[axis]):
                self.atoms.ask_for_blocks(factor)
            self.atoms.pin(array.axes[axis], "it meets entries that play different roles")
        return (_without(array, axis),) * size_of(array.axes[axis])

    def _regroup(
        self, units: list[Factor], shape: tuple[int, ...], key: Hashable, position: int
    ) -> Value | None:
        """Axes from `position` on, made of these factors; None where they do not fit."""
        axes: list[Axis] = []
        units = list(units)
        for index, size in enumerate(shape):
            axis: list[Factor] = []
            need = size
            while need > 1:
                units[:1] = self.atoms.factors((units[0],))
                factor = units.pop(0)
                if need % factor.size == 0:
                    axis.append(factor)
                    need //= factor.size
                elif factor.size % need:
                    return None
                elif not axis and self._is_stack(factor, need, (key, position + index)):
                    rest = shape[index + 1 :]
                    return self._stack_blocks(
                        factor, need, units, axes, rest, key, position + index
                    )
                else:
                    head, tail = self.atoms.split(factor, need)
                    if isinstance(head, Atom) and not axis and need <= MAX_STACK:
                        head.origins |= {(key, position + index)}
                    axis.append(head)
                    units.insert(0, tail)
                    need = 1
            axes.append(tuple(axis))
        return Array(tuple(axes))

    def _is_stack(self, factor: Factor, num_blocks: int, key: Hashable) -> bool:
        """Whether the blocks of a factor are told apart: it is a sum, or a slice asked for it."""
        if not isinstance(factor, Atom) or factor.pin is not None or num_blocks > MAX_STACK:
            return False
        return factor.segments is not None or key in self.cuts

    def _stack_blocks(
        self,
        factor: Atom,
        num_blocks: int,
        units: list[Factor],
        before: list[Axis],
        rest: tuple[int, ...],
        key: Hashable,
        position: int,
    ) -> Value | None:
        period = factor.size // num_blocks
        blocks = self.atoms.cut((factor,), range(period, factor.size, period))
        items = []
        for block in blocks:
            item = self._regroup([*block, *units], rest, key, position + 1)
            if item is None:
                return None
            items.append(Array((*before, *self.flat(item).axes)))
        return Stack(len(before), tuple(items))

    def _reshape_stack(self, stack: Stack, shape: tuple[int, ...], key: Hashable) -> Value:
        """Keep the stack if its axis stays whole, or lay its entries end to end."""
        old, num_entries = self.shape(stack), len(stack.items)
        before = int(np.prod(old[: stack.axis], dtype=np.int64))
        after = int(np.prod(old[stack.axis + 1 :], dtype=np.int64))
        for axis, size in enumerate(shape):
            if int(np.prod(shape[:axis], dtype=np.int64)) != before or size % num_entries:
                continue
            if size == num_entries == 1:
                continue
            per_entry = size // num_entries
            if per_entry * int(np.prod(shape[axis + 1 :], dtype=np.int64)) != after:
                continue
            kept = () if per_entry == 1 else (per_entry,)
            inner = (*shape[:axis], *kept, *shape[axis + 1 :])
            items = [self.flat(self.reshape(item, inner, key)) for item in stack.items]
            if not kept:
                return Stack(axis, tuple(items))
            return self.concatenate(items, axis)
        return self.reshape(self.flat(stack), shape, key)


def _same(array: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same values: -0 is not 0, but NaN is NaN."""
    if np.iscomplexobj(array):
        return _same(array.real, other.real) and _same(array.imag, other.imag)
    same = (array == other) | ((array != array) & (other != other))
    if np.issubdtype(array.dtype, np.floating):
        same &= np.signbit(array) == np.signbit(other)
    return bool(same.all())


def _drop(row: Labels, label: Hashable) -> Labels:
    return tuple(other for other in row if other != label)


def _without(array: Array, axis: int) -> Array:
    return dataclasses.replace(array, axes=(*array.axes[:axis], *array.axes[axis + 1 :]))


def _with_varies(value: Value, varies: tuple) -> Value:
    if isinstance(value, Array):
        return Array(value.axes, varies)
    return Stack(value.axis, tuple(Array(item.axes, varies) for item in value.items))
