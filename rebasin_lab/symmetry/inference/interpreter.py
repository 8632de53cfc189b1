"""Abstract interpretation of a jaxpr, with axes in place of numbers.

The value of a variable is an `Array` (one `Axis` per dimension) or a `Stack` of them, if the
entries along one axis have different roles: queries, keys and values in one tensor. For units
nearly every primitive is like an einsum: some axes of its operands and results have the same index.
`Interpreter.indexed` handles these, and records them for `dependence`. Rules live in `primitives`,
`windows`, `lookups`, `algebra`, `loops` and `choices`.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from rebasin_lab.symmetry.inference.atoms import Atoms, Axis, Step, size_of, uniform
from rebasin_lab.symmetry.inference.values import (
    Array,
    Chosen,
    Labels,
    Record,
    Stack,
    Value,
    shapes_of,
    without,
)

Rule = Callable[["Interpreter", Any, list[Value]], list[Value]]

# Primitives on constant positions before a look-up: evaluated when a rule needs them, if all
# operands are known.
COMPUTED = frozenset(
    """
    add and broadcast_in_dim clamp concatenate convert_element_type copy cumsum div eq ge gt iota le
    lt max min mul ne neg not or rem reshape rev select_n sign slice squeeze sub transpose
    """.split()
)


class Interpreter:
    """One reading of a function.

    Attributes:
        atoms: the atoms of all axes.
        rules: primitive name -> its rule.
        unknown: the rule for every other primitive.
        cuts: reshapes whose leading block is to be cut, from an earlier reading.
        following: primitive name -> its rule for operands of chosen positions, which returns
            None if the positions are used in another way; see `choices`.
        assume_no_ties: whether values that choose units are assumed to differ.
        used: the choices that were followed, for the assumptions of the result.
        records: of every equation, in order.
        opaque: unknown primitives with free units in their operands.
        lenient: whether such units stay free, to count what is lost by pinning them; such a
            reading proves nothing.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        unknown: Rule,
        cuts: frozenset = frozenset(),
        following: Mapping[str, Callable] = types.MappingProxyType({}),
        *,
        assume_no_ties: bool = False,
        lenient: bool = False,
    ):
        self.atoms = Atoms()
        self.opaque: dict[int, Step] = {}
        self.lenient = lenient
        self.rules = rules
        self.unknown = unknown
        self.cuts = cuts
        self.following = following
        self.assume_no_ties = assume_no_ties
        self.used: dict[Hashable, Chosen] = {}
        self.records: list[Record] = []

    def run(
        self,
        jaxpr: core.ClosedJaxpr | core.Jaxpr,
        arguments: Sequence[Value],
        *,
        is_call: bool = False,
    ) -> list[Value]:
        """The values of the results of a jaxpr, given those of its arguments.

        Chosen positions are followed into and out of a call, but not out of a loop.
        """
        values: dict[Any, Value] = {}
        if isinstance(jaxpr, core.ClosedJaxpr):
            constants = map(self.constant, jaxpr.consts)
            jaxpr = jaxpr.jaxpr
            values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Value:
            if isinstance(variable, core.Literal):
                return self.constant(variable.val)
            return values[variable]

        caller = self.atoms.step
        for equation in jaxpr.eqns:
            self.atoms.step = Step(equation, caller)
            results = self._read_equation(equation, [read(v) for v in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        self.atoms.step = caller
        results = [read(variable) for variable in jaxpr.outvars]
        return results if is_call else [self.spent(result) for result in results]

    def constant(self, value: Any) -> Array:
        """A constant: axes along which it does not change are uniform."""
        if not hasattr(value, "dtype") or jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            return self.ordered(np.shape(value), "it meets a constant that is no array of numbers")
        array = np.asarray(value)
        axes = []
        for axis, size in enumerate(array.shape):
            first = array.take([0], axis) if size else array
            why = "it meets a constant of the function whose values differ along it"
            axes.append(uniform(size) if _same(array, first) else self.atoms.pinned(size, why))
        return Array(tuple(axes), counts=_counted_axis(array), known=lambda: array)

    def ordered(self, shape: Sequence[int], reason: str) -> Array:
        """An array with all axes pinned."""
        return Array(tuple(self.atoms.pinned(size, reason) for size in shape))

    def free(self, shape: Sequence[int]) -> Array:
        """An array of new, free units."""
        return Array(tuple(map(self.atoms.fresh, shape)))

    def note_use(self, values: Sequence[Value]) -> None:
        """Record an equation with these operands, whose axes are not aligned."""
        arrays = [self.flat(value).axes for value in values]
        self.records.append(
            [[((k, i), axis) for i, axis in enumerate(axes)] for k, axes in enumerate(arrays)]
        )

    def has_no_free_unit(self, value: Value) -> bool:
        """True if no free unit is left in a value: all are pinned or uniform."""
        factors = (f for axis in self.flat(value).axes for f in self.atoms.factors(axis))
        return all(self.atoms.is_fixed((f,)) or self.atoms.is_uniform((f,)) for f in factors)

    def pin(self, value: Value, reason: str) -> None:
        """Pin all axes of a value."""
        for axis in self.flat(value).axes:
            self.atoms.pin(axis, reason)

    def spent(self, value: Value) -> Value:
        """The value where its numbers are used: units of chosen positions are pinned."""
        if isinstance(value, Stack):
            return Stack(value.axis, tuple(self.spent(item) for item in value.items))
        if value.chosen is None:
            return value
        if value.chosen.kind != "never":
            self.atoms.pin(value.chosen.axis, value.chosen.reason)
        return Array(value.axes, value.varies)

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
        axis is uniform (a broadcast), or pinned.

        Args:
            operands: the operands.
            labels: for each operand the index of each axis.
            out_labels: the same for each result.
            out_shapes: the shape of each result.
            pins: index -> the reason why its order matters.
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
        """One value for several alternatives, such as the branches of a condition."""
        labels = tuple(range(len(shape)))
        return self.indexed(values, [labels] * len(values), [labels], [shape])[0]

    def flat(self, value: Value) -> Array:
        """The value as an `Array`: the items of a stack lose their roles."""
        if isinstance(value, Array):
            return value
        shape = [size_of(axis) for axis in value.items[0].axes]
        item = self.together(value.items, shape)
        axis = self.atoms.pinned(len(value.items), "its entries play different roles")
        return Array((*item.axes[: value.axis], axis, *item.axes[value.axis :]), item.varies)

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of the array a value stands for."""
        item = value.items[0] if isinstance(value, Stack) else value
        shape = [size_of(axis) for axis in item.axes]
        if isinstance(value, Stack):
            shape.insert(value.axis, len(value.items))
        return tuple(shape)

    def _read_equation(self, equation: Any, operands: list[Value]) -> list[Value]:
        shapes = shapes_of(equation.outvars)
        if shapes and all(0 in shape for shape in shapes):
            # An empty result puts no condition on the operands.
            return [Array(tuple(map(uniform, shape))) for shape in shapes]
        if any(map(_is_chosen, operands)):
            follow = self.following.get(equation.primitive.name)
            results = follow(self, equation, operands) if follow else None
            if results is not None:
                return results
            operands = [self.spent(value) for value in operands]
        rule = self.rules.get(equation.primitive.name, self.unknown)
        results = rule(self, equation, operands)
        return _computed(equation, operands, results)

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
            # Where positions matter uniform axes are pinned, too.
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
        """Apply `indexed` to every entry of the stack; entries that are summed are tied."""
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
        """The entries of one operand along the stacked index; the operand if it has none."""
        if stacked not in row:
            return value
        if isinstance(value, Stack) and row[value.axis] == stacked:
            return value.items
        array, axis = self.flat(value), row.index(stacked)
        if not self.atoms.is_uniform(array.axes[axis]):
            for factor in self.atoms.factors(array.axes[axis]):
                self.atoms.ask_for_blocks(factor)
            self.atoms.pin(array.axes[axis], "it meets entries that play different roles")
        return (without(array, axis),) * size_of(array.axes[axis])


def _computed(equation: Any, operands: list[Value], results: list[Value]) -> list[Value]:
    """The results with `known` entries, if all operands have them."""
    sources = [value.known for value in operands if isinstance(value, Array)]
    if equation.primitive.name not in COMPUTED or len(sources) < len(operands) or None in sources:
        return results

    @functools.cache
    def known() -> np.ndarray:
        with jax.ensure_compile_time_eval():
            arrays = [source() for source in sources]
            return np.asarray(equation.primitive.bind(*arrays, **equation.params))

    return [
        dataclasses.replace(result, known=known) if isinstance(result, Array) else result
        for result in results
    ]


def _is_chosen(value: Value) -> bool:
    if isinstance(value, Stack):
        return any(item.chosen is not None for item in value.items)
    return value.chosen is not None


def _counted_axis(array: np.ndarray) -> int | None:
    """The only axis longer than one of an integer array that is 0, 1, 2, ... along it."""
    long = [axis for axis, size in enumerate(array.shape) if size > 1]
    if len(long) != 1 or not jax.dtypes.issubdtype(array.dtype, np.integer):
        return None
    return long[0] if np.array_equal(array.ravel(), np.arange(array.size)) else None


def _same(array: np.ndarray, other: np.ndarray) -> bool:
    """True if two arrays hold the same values: -0 differs from 0, NaN equals NaN."""
    if np.iscomplexobj(array):
        return _same(array.real, other.real) and _same(array.imag, other.imag)
    same = (array == other) | ((array != array) & (other != other))
    if jax.dtypes.issubdtype(array.dtype, np.floating):  # bfloat16 and its like included
        same &= np.signbit(array.astype(np.float32)) == np.signbit(other.astype(np.float32))
    return bool(same.all())


def _drop(row: Labels, label: Hashable) -> Labels:
    return tuple(other for other in row if other != label)
