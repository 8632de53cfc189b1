"""Rules for units that are chosen by their values: experts behind top_k, argmax or argsort.

Permuting the units permutes the values and so the resulting positions. If these positions are only
used to look up units, to write to them, or are compared with all positions (`one_hot`), the units
may move. This holds except for ties, where the first of equal values wins. `distinct` marks values
whose ties are a coincidence: a product with a parameter, scaled, shifted or mapped by injective
functions. Elsewhere (after a relu, rounding or a mask) the units are pinned, unless the caller
assumes that there are no ties.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from rebasin_lab.symmetry.inference import layout, lookups, loops, primitives
from rebasin_lab.symmetry.inference.atoms import size_of
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Array, Chosen, Stack, Value, shapes_of

TIES = "; of equal values the first wins, and these may be equal (see assume_no_ties)"
INJECTIVE = """
    asinh atan cbrt convert_element_type copy erf exp exp2 expm1 log log1p logistic neg
    optimization_barrier sqrt stop_gradient tanh
""".split()
SINGLE = 23  # bits of the fraction of a float32
SHAPED = "broadcast_in_dim reshape squeeze transpose".split()


def choice(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read a choice: values in an order of their own, and the chosen positions."""
    parameter, reason = primitives.IN_ORDER[equation.primitive.name]
    chosen_from = equation.params[parameter]
    array = values[0]
    axis = chosen_from[0] if isinstance(chosen_from, tuple) else chosen_from
    axis = int(axis) % len(equation.invars[0].aval.shape)
    if isinstance(array, Stack) or not _is_choice(equation, values, chosen_from, axis):
        return primitives.in_order(reading, equation, values)
    units = array.axes[axis]
    if reading.atoms.is_fixed(units) or loops.num_equalities(reading, units):
        return primitives.in_order(reading, equation, values)
    index, shapes = object(), shapes_of(equation.outvars)
    row = tuple(i for i in range(len(array.axes)) if i != axis)
    kept = len(shapes[0]) == len(array.axes)
    out_row = (*row[:axis], "rank", *row[axis:]) if kept else row
    others = Array((*array.axes[:axis], *array.axes[axis + 1 :]), (*array.varies, (index, units)))
    pins = {"rank": reason} if kept else None
    results = reading.indexed([others], [row], [out_row] * len(shapes), shapes, pins)
    usable = reading.assume_no_ties or axis in array.distinct
    chosen = Chosen(index, units, reason + ("" if usable else TIES), usable, reading.atoms.step)
    answers = equation.primitive.name in ("argmax", "argmin")
    return [
        _without_index(result, index, chosen if answers or number else None)
        for number, result in enumerate(results)
    ]


def _is_choice(equation: Any, values: list[Value], axes: Any, axis: int) -> bool:
    """True if the results are values and positions along one axis only."""
    if isinstance(axes, tuple) and len(axes) != 1:
        return False
    if equation.primitive.name != "sort":
        return True
    positions = values[-1]
    return (
        len(values) == 2
        and equation.params["num_keys"] == 1
        and isinstance(positions, Array)
        and positions.counts == axis
    )


def _without_index(value: Value, index: Any, chosen: Chosen | None) -> Value:
    """The value without the mark of varying along an axis, with the mark of a choice."""
    if isinstance(value, Stack):
        items = (_without_index(item, index, chosen) for item in value.items)
        return Stack(value.axis, tuple(items))
    varies = tuple(pair for pair in value.varies if pair[0] is not index)
    return Array(value.axes, varies, chosen)


def carried(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """Keep the mark of chosen positions in an array of another shape or type."""
    array, rest = values[0], values[1:]
    if isinstance(array, Stack) or rest or not array.chosen.usable:
        return None
    marked = Array(array.axes, (*array.varies, (array.chosen.index, array.chosen.axis)))
    results = primitives.RULES[equation.primitive.name](reading, equation, [marked])
    return [_without_index(result, array.chosen.index, array.chosen) for result in results]


def compared(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """Compare chosen positions with all, as in `one_hot`: the units become an axis again."""
    pair = sorted(zip(values, shapes_of(equation.invars), strict=True), key=_is_not_chosen)
    (array, shape), (counting, counting_shape) = pair
    [out_shape] = shapes_of(equation.outvars)
    if isinstance(array, Stack) or isinstance(counting, Stack) or counting.counts is None:
        return None
    at, chosen = counting.counts, array.chosen
    if not (chosen.usable and chosen.kind == "position" and len(shape) == len(counting_shape)):
        return None
    alike = shape[at] == 1 or reading.atoms.is_uniform(array.axes[at])
    if not alike or counting_shape[at] != size_of(chosen.axis):
        return None
    arrays, rows = [], []
    for one, sizes in pair:
        varies = ((chosen.index, chosen.axis),) if one is array else ()
        axes = [axis for i, axis in enumerate(one.axes) if i != at]
        arrays.append(Array(tuple(axes), (*one.varies, *varies)))
        rows.append(
            tuple(
                i if size == whole else ("stretched", i)
                for i, (size, whole) in enumerate(zip(sizes, out_shape, strict=True))
                if i != at
            )
        )
    out_row = tuple(i for i in range(len(out_shape)) if i != at)
    [rest] = reading.indexed(arrays, rows, [out_row], [[out_shape[i] for i in out_row]])
    reading.used[chosen.index] = chosen
    axes = (*rest.axes[:at], chosen.axis, *rest.axes[at:])
    return [Array(axes, tuple(pair for pair in rest.varies if pair[0] is not chosen.index))]


def _is_not_chosen(pair: tuple[Value, Any]) -> bool:
    return not (isinstance(pair[0], Array) and pair[0].chosen is not None)


def below_zero(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """Mark `position < 0`, which indexing computes, as never true."""
    return _with_kind(equation, values, "never", 0)


def shifted(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """Mark the shifted positions that indexing uses below zero, which are unused."""
    return _with_kind(equation, values, "shifted", None)


def _with_kind(
    equation: Any, values: list[Value], kind: str, number: int | None
) -> list[Value] | None:
    other, array = equation.invars[1], values[0]
    if not isinstance(other, core.Literal) or isinstance(array, Stack) or array.chosen is None:
        return None
    if array.chosen.kind != "position" or (number is not None and other.val != number):
        return None
    return [Array(array.axes, array.varies, array.chosen._replace(kind=kind))]


def selected(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """The other value of a select whose condition never holds."""
    condition = values[0]
    if isinstance(condition, Array) and condition.chosen is not None:
        shapes = shapes_of(equation.invars)
        if condition.chosen.kind == "never" and shapes[1] == shapes[0]:
            return [values[1]]
    return None


def coordinates(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value] | None:
    """Stack positions along several axes, for a look-up."""
    axis, shapes = int(equation.params["dimension"]), shapes_of(equation.invars)
    if axis != len(shapes[0]) - 1 or any(shape[axis] != 1 for shape in shapes):
        return None
    result = layout.concatenate(reading, values, axis)
    return [result] if isinstance(result, Stack) else None


def _kept_axis(equation: Any, axis: int) -> int | None:
    """The axis of the result for an operand's axis, of a primitive that only changes shapes."""
    params, old = equation.params, equation.invars[0].aval.shape
    new = equation.outvars[0].aval.shape
    match equation.primitive.name:
        case "broadcast_in_dim":
            target = params["broadcast_dimensions"][axis]
        case "transpose":
            target = tuple(params["permutation"]).index(axis)
        case "squeeze":
            gone = [d % len(old) for d in params["dimensions"]]
            if axis in gone:
                return None
            target = axis - sum(d < axis for d in gone)
        case "reshape":
            if params["dimensions"] is not None:
                return None
            before = [i for i, size in enumerate(old[:axis]) if size > 1]
            after = [i for i, size in enumerate(new) if size > 1]
            # Only axes of length one come and go.
            if [old[i] for i in (*before, axis)] != [new[i] for i in after[: len(before) + 1]]:
                return None
            target = after[len(before)]
        case _:
            target = axis
    return int(target) if old[axis] == new[target] else None


def _kept_axes(equation: Any, axes: Iterable[int]) -> frozenset[int]:
    found = (_kept_axis(equation, axis) for axis in axes)
    return frozenset(axis for axis in found if axis is not None)


def keeping_marks(rule: Rule) -> Rule:
    """Extend a rule for changes of shape and injective functions to keep marks of numbers."""

    def keep(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
        results = rule(reading, equation, values)
        array = values[0]
        if len(results) != 1 or isinstance(array, Stack) or isinstance(results[0], Stack):
            return results
        counts, distinct = array.counts, array.distinct
        if counts is None and not distinct:
            return results
        name = equation.primitive.name
        if name == "convert_element_type" and _is_rounded(equation):
            distinct = frozenset()
        same = bool(distinct) and (name in SHAPED or name == "convert_element_type")
        [result] = results
        still_counts = counts is not None and (name in SHAPED or name == "convert_element_type")
        kept = _kept_axes(equation, [counts] if still_counts else [])
        return [
            dataclasses.replace(
                result,
                counts=min(kept, default=None),
                distinct=_kept_axes(equation, distinct),
                drawn=array.drawn and same,
            )
        ]

    return keep


def _is_rounded(equation: Any) -> bool:
    """True if a conversion makes different numbers equal: to integers, or to fewer bits."""
    return _precision(equation.outvars[0]) < min(_precision(equation.invars[0]), SINGLE)


def _precision(variable: Any) -> int:
    """The mantissa bits of a float; -1 for other types."""
    dtype = variable.aval.dtype
    return jnp.finfo(dtype).nmant if jnp.issubdtype(dtype, jnp.floating) else -1


def product(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Mark a product with a parameter as distinct along the axes of only the parameter."""
    results = primitives.dot_general(reading, equation, values)
    (contracted, batch) = equation.params["dimension_numbers"]
    distinct, at = set(), len(batch[0])
    if _precision(equation.outvars[0]) < SINGLE:
        return results  # coarse rounding makes ties common
    for side, variable in enumerate(equation.invars):
        num_free = len(variable.aval.shape) - len(contracted[side]) - len(batch[side])
        value = values[side]
        if isinstance(value, Array) and value.drawn and contracted[side]:
            distinct |= set(range(at, at + num_free))
        at += num_free
    return _marked(results, distinct) if distinct else results


def arithmetic(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Keep the mark of distinct values if the same operation applies to all.

    Adding a parameter keeps it, too.
    """
    results = primitives.elementwise(reading, equation, values)
    first, second = values
    if isinstance(first, Stack) or isinstance(second, Stack):
        return results
    name, found, [shape] = equation.primitive.name, set(), shapes_of(equation.outvars)
    for array, other, number in ((first, second, 1), (second, first, 0)):
        if number == 0 and name == "div":
            continue  # as a denominator, it may map different values to one
        for axis in array.distinct:
            if size_of(array.axes[axis]) != shape[axis]:
                continue  # repeated along it
            alike = axis >= len(other.axes) or reading.atoms.is_uniform(other.axes[axis])
            if name == "mul":
                alike &= other.drawn or _is_not_zero(equation.invars[number])
            if alike or (name in ("add", "sub") and other.drawn and not array.drawn):
                found.add(axis)
    return _marked(results, found) if found else results


def _is_not_zero(variable: Any) -> bool:
    return isinstance(variable, core.Literal) and bool(variable.val != 0)


def _marked(results: list[Value], distinct: set[int]) -> list[Value]:
    [result] = results
    if isinstance(result, Stack):
        return results
    return [dataclasses.replace(result, distinct=frozenset(distinct))]


def counted(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Mark the counts of an `iota`, with which chosen positions may be compared."""
    [result] = primitives.iota(reading, equation, values)
    return [dataclasses.replace(result, counts=equation.params["dimension"])]


RULES: dict[str, Rule] = {
    **{name: keeping_marks(primitives.RULES[name]) for name in (*INJECTIVE, *SHAPED)},
    **dict.fromkeys(("add", "sub", "mul", "div"), arithmetic),
    **dict.fromkeys(("argmax", "argmin", "sort", "top_k"), choice),
    "dot_general": product,
    "iota": counted,
}

FOLLOWING: dict[str, Callable] = {
    **dict.fromkeys(
        ("convert_element_type", "copy", "slice", "stop_gradient", "optimization_barrier", *SHAPED),
        carried,
    ),
    **dict.fromkeys(loops.CALLS, loops.call),
    **{name: rule for name, rule in lookups.RULES.items() if not name.startswith("dynamic")},
    "add": shifted,
    "concatenate": coordinates,
    "eq": compared,
    "lt": below_zero,
    "ne": compared,
    "select_n": selected,
}
