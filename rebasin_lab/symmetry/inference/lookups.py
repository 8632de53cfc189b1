"""Rules for indexing: gather, scatter and dynamic slices.

Constant positions, as in a channel shuffle written as an index, are evaluated: entries at known
positions are blocks in another order (`layout.taken`).
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from rebasin_lab.symmetry.inference import layout
from rebasin_lab.symmetry.inference.atoms import size_of
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import (
    Array,
    Chosen,
    Stack,
    Value,
    shapes_of,
    without,
)


def gather(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A table look-up: pin the indexed axis, and keep axes that are taken whole.

    An axis taken whole can only start at 0: another start is clamped to 0, or all is filled.
    """
    numbers, [shape] = equation.params["dimension_numbers"], shapes_of(equation.outvars)
    table_shape, index_shape = shapes_of(equation.invars)
    sizes = equation.params["slice_sizes"]
    known = _known_positions(equation, values, sizes, numbers.collapsed_slice_dims)
    if known is not None:
        taken = layout.taken(reading, values[0], *known)
        return [_gathered(reading, equation, taken, known[0])]
    why, vector = "an index looks up a position in it", len(index_shape) - 1
    followed = _followed(reading, equation, values, tuple(map(int, numbers.collapsed_slice_dims)))
    indices, index_row = _indices(reading, values[1], index_shape, followed)
    pins: dict[Any, str] = {} if followed else {"coordinates": why}
    batch = [("at", axis) for axis in range(vector)]
    out_row: list[Any] = [None] * len(shape)
    for out_axis in range(len(shape)):
        if out_axis not in numbers.offset_dims:
            out_row[out_axis] = batch.pop(0)
    offsets = iter(numbers.offset_dims)
    batched = dict(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    table_row: list[Any] = []
    for axis, taken in enumerate(sizes):
        if axis in batched:
            table_row.append(("at", batched[axis]))
            continue
        whole = taken == table_shape[axis] and axis not in numbers.collapsed_slice_dims
        table_row.append(("table", axis))
        if axis in followed:
            table_row[-1] = followed[axis].index
        elif not whole:
            pins[("table", axis)] = why
        if axis not in numbers.collapsed_slice_dims:
            out_axis = next(offsets)
            out_row[out_axis] = ("table", axis) if whole else ("part", axis)
            if not whole:
                pins[("part", axis)] = why
    rows = [tuple(table_row), *[index_row] * len(indices)]
    table = _joined(reading, values[0], followed)
    results = reading.indexed([table, *indices], rows, [tuple(out_row)], [shape], pins)
    return [_without_choice(result, followed) for result in results]


def scatter(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Writing into a table: the reverse of `gather`.

    The axes of indices are pinned, too: of two entries for one position the later may win. Each
    entry of a batch has its own table.
    """
    numbers = equation.params["dimension_numbers"]
    table_shape, index_shape, update_shape = shapes_of(equation.invars)
    written = _scattered(reading, equation, values)
    if written is not None:
        return [written]
    why = "an index writes to a position in it"
    followed = _followed(reading, equation, values, tuple(map(int, numbers.inserted_window_dims)))
    indices, index_row = _indices(reading, values[1], index_shape, followed)
    batches = [("at", axis) for axis in numbers.scatter_indices_batching_dims]
    pins: dict[Any, str] = dict.fromkeys((at for at in index_row if at not in batches), why)
    batch = [("at", axis) for axis in range(len(index_shape) - 1)]
    update_row: list[Any] = [
        None if axis in numbers.update_window_dims else batch.pop(0)
        for axis in range(len(update_shape))
    ]
    windows = iter(numbers.update_window_dims)
    batched = dict(
        zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    )
    table_row: list[Any] = []
    for axis, size in enumerate(table_shape):
        table_row.append(("at", batched[axis]) if axis in batched else ("table", axis))
        if axis in followed:
            table_row[-1] = followed[axis].index
        elif axis in numbers.inserted_window_dims:
            pins["table", axis] = why
        elif axis not in batched:
            update_axis = next(windows)
            whole = update_shape[update_axis] == size
            update_row[update_axis] = ("table", axis) if whole else ("part", axis)
            if not whole:
                pins |= {("table", axis): why, ("part", axis): why}
    rows = [tuple(table_row), *[index_row] * len(indices), tuple(update_row)]
    table = _joined(reading, values[0], followed)
    operands = [table, *indices, reading.spent(values[2])]
    results = reading.indexed(operands, rows, [tuple(table_row)], [table_shape], pins)
    return [_without_choice(result, followed) for result in results]


def _known_positions(
    equation: Any, values: list[Value], sizes: Sequence[int], dropped: Sequence[SupportsIndex]
) -> tuple[int, np.ndarray] | None:
    """The only indexed axis, others being whole, and its positions, if they are constant.

    None for positions outside the axis, whose values depend on a mode.
    """
    numbers, index = equation.params["dimension_numbers"], values[1]
    table_shape, index_shape = shapes_of(equation.invars)[:2]
    axes = getattr(numbers, "start_index_map", None)
    axes = numbers.scatter_dims_to_operand_dims if axes is None else axes
    if len(axes) != 1 or numbers.operand_batching_dims or not isinstance(index, Array):
        return None
    axis, is_one_block = int(axes[0]), len(index_shape) == 1 and not dropped
    others = [i for i in range(len(table_shape)) if i != axis]
    if index.known is None or not (is_one_block or tuple(dropped) == (axis,)):
        return None
    if any(sizes[i] != table_shape[i] for i in others) or index_shape[-1:] != (1,):
        return None
    positions = index.known().astype(np.int64).ravel()
    if is_one_block:
        positions = positions + np.arange(sizes[axis])
    inside = (positions >= 0) & (positions < table_shape[axis])
    return (axis, positions) if inside.all() else None


def _gathered(reading: Interpreter, equation: Any, taken: Value, axis: int) -> Value:
    """The entries at known positions in the result's shape, with the axis of the indices."""
    [shape] = shapes_of(equation.outvars)
    offsets = equation.params["dimension_numbers"].offset_dims
    if len(offsets) == len(reading.shape(taken)):
        return taken
    old = reading.shape(taken)
    indexed = [i for i in range(len(shape)) if i not in offsets]
    order = [i for i in range(len(old)) if i != axis]
    order.insert(indexed[0] if indexed else 0, axis)
    [moved] = reading.indexed(
        [taken], [tuple(range(len(old)))], [tuple(order)], [[old[i] for i in order]]
    )
    return layout.reshape(reading, moved, shape, (id(equation), "taken"))


def _scattered(reading: Interpreter, equation: Any, values: list[Value]) -> Value | None:
    """The table with entries at known positions of one axis replaced, or combined with others."""
    numbers = equation.params["dimension_numbers"]
    if numbers.operand_batching_dims:
        return None  # each entry of a batch has its own positions
    dropped = numbers.inserted_window_dims
    table_shape, _, update_shape = shapes_of(equation.invars)
    windows = iter(numbers.update_window_dims)
    from_axes = [None if i in dropped else next(windows) for i in range(len(table_shape))]
    sizes = [1 if i is None else update_shape[i] for i in from_axes]
    known = _known_positions(equation, values, sizes, dropped)
    if known is None or len(np.unique(known[1])) < len(known[1]):
        return None
    axis, positions = known
    is_set = equation.primitive.name == "scatter"
    if len(update_shape) > len(table_shape) or (is_set and equation.params["update_jaxpr"]):
        return None  # several indices for one position, or a function of the user
    row = [from_axes.index(i) if i in from_axes else axis for i in range(len(update_shape))]
    shape = (*table_shape[:axis], len(positions), *table_shape[axis + 1 :])
    [update] = reading.indexed(
        [reading.spent(values[2])], [tuple(row)], [tuple(range(len(shape)))], [shape]
    )
    if not is_set:
        before = layout.taken(reading, values[0], axis, positions)
        update = reading.together([before, update], shape)
    return _replaced(reading, values[0], update, axis, positions)


def _replaced(
    reading: Interpreter, table: Value, update: Value, axis: int, positions: np.ndarray
) -> Value:
    """The table with entries at some positions of an axis replaced."""
    size = reading.shape(table)[axis]
    source = np.arange(size)
    source[positions] = size + np.arange(len(positions))
    both = layout.concatenate(reading, [table, update], axis)
    return layout.taken(reading, both, axis, source)


def _followed(
    reading: Interpreter, equation: Any, values: list[Value], dropped: Sequence[int]
) -> dict[int, Chosen]:
    """Axis of the table -> the choice whose positions index it."""
    numbers, table = equation.params["dimension_numbers"], values[0]
    looked_up = getattr(numbers, "start_index_map", None)
    if looked_up is None:
        looked_up = numbers.scatter_dims_to_operand_dims
    found: dict[int, Chosen] = {}
    table_shape, index_shape = shapes_of(equation.invars)[:2]
    for item, axis in zip(_coordinates(values[1], index_shape), map(int, looked_up), strict=False):
        chosen = item.chosen
        if chosen is None or isinstance(table, Stack) or axis not in dropped:
            continue
        if (
            chosen.usable
            and chosen.kind == "position"
            and table_shape[axis] == size_of(chosen.axis)
        ):
            found[axis] = chosen
    return found if len({chosen.index for chosen in found.values()}) == len(found) else {}


def _coordinates(index: Value, shape: Sequence[int]) -> tuple[Array, ...]:
    """One array of positions per indexed axis; none if they are not separate."""
    last = len(shape) - 1
    if isinstance(index, Stack):
        return index.items if index.axis == last else ()
    return (without(index, last),) if shape[last:] == (1,) else ()


def _indices(
    reading: Interpreter, index: Value, shape: Sequence[int], followed: dict[int, Chosen]
) -> tuple[list[Value], tuple]:
    """The positions as operands, and their labels; followed choices are marked."""
    at = tuple(("at", axis) for axis in range(len(shape) - 1))
    if not followed:
        return [reading.spent(index)], (*at, "coordinates")
    kept = {chosen.index for chosen in followed.values()}
    operands: list[Value] = []
    for item in _coordinates(index, shape):
        if item.chosen is not None and item.chosen.index in kept:
            varies = (*item.varies, (item.chosen.index, item.chosen.axis))
            operands.append(Array(item.axes, varies))
        else:
            operands.append(reading.spent(item))
    return operands, at


def _joined(reading: Interpreter, table: Value, followed: dict[int, Chosen]) -> Value:
    """The table with its units tied to the chosen ones, uniform axes included."""
    table = reading.spent(table)
    axes = list(table.axes) if isinstance(table, Array) else []
    for axis, chosen in followed.items():
        axes[axis] = reading.atoms.join([axes[axis], chosen.axis])
        reading.used[chosen.index] = chosen
    return Array(tuple(axes), table.varies) if followed else table


def _without_choice(value: Value, followed: dict[int, Chosen]) -> Value:
    """A looked-up value without the marks of the followed choices."""
    if not followed or isinstance(value, Stack):
        return value
    kept = {chosen.index for chosen in followed.values()}
    return Array(value.axes, tuple(pair for pair in value.varies if pair[0] not in kept))


def dynamic_slice(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Keep whole axes; pin axes of which a block at a computed start is taken."""
    [shape] = shapes_of(equation.outvars)
    whole = equation.invars[0].aval.shape
    starts = _known_starts(whole, shape, values[1:])
    if starts is not None:
        ends = [start + taken for start, taken in zip(starts, shape, strict=True)]
        windows = list(zip(starts, ends, (1,) * len(shape), strict=True))
        return [layout.sliced(reading, values[0], windows)]
    row, out_row, pins = _windows(whole, shape)
    return reading.indexed(values[:1], [row], [out_row], [shape], pins)


def dynamic_update_slice(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read like `dynamic_slice`: whole axes meet, the others are pinned."""
    [shape] = shapes_of(equation.outvars)
    part = equation.invars[1].aval.shape
    starts = _known_starts(shape, part, values[2:])
    partial = [axis for axis, size in enumerate(part) if size != shape[axis]]
    if starts is not None and len(partial) == 1:
        [axis] = partial
        positions = starts[axis] + np.arange(part[axis])
        return [_replaced(reading, *values[:2], axis, positions)]
    row, update_row, pins = _windows(shape, part)
    return reading.indexed(values[:2], [row, update_row], [row], [shape], pins)


def _known_starts(
    whole: Sequence[int], part: Sequence[int], values: Sequence[Value]
) -> list[int] | None:
    """The start of a block along each axis, clamped to the array; None if not constant."""
    starts = []
    for size, taken, value in zip(whole, part, values, strict=True):
        known = value.known if isinstance(value, Array) else None
        if size != taken and known is None:
            return None
        starts.append(int(np.clip(known(), 0, size - taken)) if size != taken else 0)
    return starts


def _windows(whole: Sequence[int], part: Sequence[int]) -> tuple[tuple, tuple, dict]:
    """Indices for an array and a block of it, with pins for axes not taken whole."""
    row: list[Any] = list(range(len(whole)))
    part_row: list[Any] = list(row)
    pins: dict[Any, str] = {}
    for axis, (size, taken) in enumerate(zip(whole, part, strict=True)):
        if size != taken:
            part_row[axis] = ("part", axis)
            pins[axis] = pins[part_row[axis]] = "a computed position picks a block of it"
    return tuple(row), tuple(part_row), pins


RULES: dict[str, Rule] = {
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub"),
        scatter,
    ),
}
