"""Layout of units: reshape, concatenate, slice, take and pad.

Reshapes of attention and of grouped channels are the main use of a `Stack`: an axis that is a
concatenation, reshaped to [blocks, units], becomes one.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from rebasin_lab.symmetry.inference.atoms import Atom, Axis, Factor, size_of, uniform
from rebasin_lab.symmetry.inference.interpreter import Interpreter
from rebasin_lab.symmetry.inference.values import MAX_STACK, Array, Stack, Value, without

Window = tuple[int, int, int]  # start, end, stride along one axis


def reshape(reading: Interpreter, value: Value, shape: Sequence[int], key: Hashable) -> Value:
    """The value reshaped, row by row.

    An axis that is a concatenation and is reshaped to [blocks, units] becomes a stack. So does one
    whose blocks a later slice cuts; a first reading finds these, and the next one has `key`, the
    name of this reshape, among its `cuts`.
    """
    shape = tuple(shape)
    if isinstance(value, Stack):
        return _reshape_stack(reading, value, shape, key)
    units = [factor for axis in value.axes for factor in reading.atoms.factors(axis)]
    regrouped = _regroup(reading, units, shape, key, 0)
    if regrouped is None:
        why = f"a reshape to {list(shape)} cuts through its units"
        reading.pin(value, why)
        return reading.ordered(shape, why)
    return _with_varies(regrouped, value.varies)


def concatenate(
    reading: Interpreter,
    values: Sequence[Value],
    axis: int,
    places: Sequence[np.ndarray] | None = None,
) -> Value:
    """Values end to end along one axis; or at some positions of it, if they are arrays."""
    shapes = [reading.shape(value) for value in values]
    if all(shape[axis] == 1 for shape in shapes) and 1 < len(values) <= MAX_STACK:
        items = [reading.flat(value) for value in values]
        return Stack(axis, tuple(without(item, axis) for item in items))
    stack = next((v for v in values if isinstance(v, Stack)), None)
    if stack is not None and all(
        isinstance(v, Stack) and v.axis == stack.axis and len(v.items) == len(stack.items)
        for v in values
    ):
        if stack.axis == axis:
            return Stack(axis, tuple(item for v in values for item in v.items))
        inner = axis - (stack.axis < axis)
        columns = zip(*[v.items for v in values], strict=True)
        joined = [reading.flat(concatenate(reading, column, inner)) for column in columns]
        return Stack(stack.axis, tuple(joined))
    arrays = [reading.flat(value) for value in values]
    other = tuple(i for i in range(len(shapes[0])) if i != axis)
    labels = [
        tuple(("block", k) if i == axis else i for i in range(len(shape)))
        for k, shape in enumerate(shapes)
    ]
    out_shape = [shapes[0][i] for i in other]
    [rest] = reading.indexed(arrays, labels, [other], [out_shape])
    whole = reading.atoms.concatenate([array.axes[axis] for array in arrays], places)
    return Array((*rest.axes[:axis], whole, *rest.axes[axis:]), rest.varies)


def sliced(reading: Interpreter, value: Value, windows: list[Window]) -> Value:
    """Blocks [start, end) of each axis, with a stride."""
    if isinstance(value, Stack):
        start, end, stride = windows[value.axis]
        others = [window for axis, window in enumerate(windows) if axis != value.axis]
        taken = value.items[start:end:stride] or value.items[:1]  # of an empty slice any item
        items = [reading.flat(sliced(reading, item, others)) for item in taken]
        if len(items) > 1:
            return Stack(value.axis, tuple(items))
        axes = items[0].axes
        return Array((*axes[: value.axis], (), *axes[value.axis :]), items[0].varies)
    pairs = zip(value.axes, windows, strict=True)
    return Array(
        tuple(_sliced_axis(reading, axis, *window) for axis, window in pairs), value.varies
    )


def taken(reading: Interpreter, value: Value, axis: int, positions: np.ndarray) -> Value:
    """The entries at given positions of one axis, in their order, possibly repeated.

    Entries that keep their order are one block, at some positions of the new axis; a repeated entry
    is in several blocks.
    """
    if isinstance(value, Stack) and value.axis == axis and 1 < len(positions) <= MAX_STACK:
        return Stack(axis, tuple(value.items[position] for position in positions))
    if isinstance(value, Stack) and value.axis != axis:
        inner = axis - (value.axis < axis)
        items = [reading.flat(taken(reading, item, inner, positions)) for item in value.items]
        return Stack(value.axis, tuple(items))
    value = reading.flat(value)
    parts, places = _blocks_taken(positions, size_of(value.axes[axis]))
    pieces = sorted(
        ((at, part) for part, rows in places.items() for at in rows),
        key=lambda piece: int(piece[0][0]),
    )
    if len(pieces) > MAX_STACK:
        why = "its units are taken in no order"
        reading.atoms.pin(value.axes[axis], why)
        new = reading.atoms.pinned(len(positions), why, value.axes[axis])
        return Array((*value.axes[:axis], new, *value.axes[axis + 1 :]), value.varies)
    blocks = reading.atoms.divide(value.axes[axis], parts)
    arrays = [
        Array((*value.axes[:axis], blocks[part], *value.axes[axis + 1 :]), value.varies)
        for _, part in pieces
    ]
    if len(arrays) == 1:
        return arrays[0]
    return concatenate(reading, arrays, axis, [at for at, _ in pieces])


def padded(
    reading: Interpreter, array: Array, axis: int, config: tuple[int, int, int], size: int
) -> Array:
    """One axis padded with equal values; `config` is low, high and interior padding."""
    low, high, interior = config
    old = array.axes[axis]
    if min(config) < 0 or interior or size_of(old) != size - low - high:  # the last: an empty axis
        why = "padding puts values between its units or cuts some off"
        reading.atoms.pin(old, why)
        new = reading.atoms.pinned(size, why, old)
    elif old and reading.atoms.is_fixed(old):
        new = reading.atoms.pinned(size, "it is an axis that may not move, padded", old)
    else:
        ends = [*range(low), *range(size - high, size)]  # all hold the same value
        blocks = [uniform(len(ends)), old]
        new = reading.atoms.concatenate(blocks, [ends, range(low, size - high)])
    return Array((*array.axes[:axis], new, *array.axes[axis + 1 :]), array.varies)


def _regroup(
    reading: Interpreter, units: list[Factor], shape: tuple[int, ...], key: Hashable, position: int
) -> Value | None:
    """Axes from `position` on, made of these factors; None if they do not fit.

    [12] to [3, 4] splits an atom, [3, 4] to [12] combines two, [8, 3] to [4, 6] does both. Atoms
    split before a misfit is found stay split, which can only make the result stricter.
    """
    axes: list[Axis] = []
    units = list(units)
    for index, size in enumerate(shape):
        axis: list[Factor] = []
        need = size
        while need > 1:
            units[:1] = reading.atoms.factors((units[0],))
            factor = units.pop(0)
            if need % factor.size == 0:
                axis.append(factor)
                need //= factor.size
            elif factor.size % need:
                return None
            elif not axis and _in_turns(reading, factor, need, shape[index + 1 :]):
                rest = (need, *shape[index + 2 :])
                parts = np.arange(factor.size) % shape[index + 1]
                blocks = reading.atoms.divide((factor,), parts)
                return _stacked(reading, blocks, units, axes, rest, key, position + index, 1)
            elif not axis and _is_stack(reading, factor, need, (key, position + index)):
                rest, period = shape[index + 1 :], factor.size // need
                blocks = reading.atoms.cut((factor,), range(period, factor.size, period))
                return _stacked(reading, blocks, units, axes, rest, key, position + index + 1, 0)
            else:
                head, tail = reading.atoms.split(factor, need)
                if isinstance(head, Atom) and not axis and need <= MAX_STACK:
                    head.origins |= {(key, position + index)}
                axis.append(head)
                units.insert(0, tail)
                need = 1
        axes.append(tuple(axis))
    return Array(tuple(axes))


def _is_stack(reading: Interpreter, factor: Factor, num_blocks: int, key: Hashable) -> bool:
    """True if the blocks of a factor have roles: it is a sum, or a slice asked for them."""
    if not isinstance(factor, Atom) or factor.pin is not None or num_blocks > MAX_STACK:
        return False
    return factor.segments is not None or key in reading.cuts


def _in_turns(reading: Interpreter, factor: Factor, turns: int, rest: tuple[int, ...]) -> bool:
    """True if the blocks of a factor alternate with the period of the next axis."""
    if not isinstance(factor, Atom) or factor.pin is not None or factor.places is None:
        return False
    num_blocks = factor.size // turns
    return rest[:1] == (num_blocks,) <= (MAX_STACK,) and all(
        (at % num_blocks == at[0] % num_blocks).all() for _, at in reading.atoms.blocks(factor)
    )


def _stacked(
    reading: Interpreter,
    blocks: Sequence[Axis],
    units: list[Factor],
    before: list[Axis],
    rest: tuple[int, ...],
    key: Hashable,
    position: int,
    within: int,
) -> Value | None:
    """An atom's blocks as a stack; its axis follows those in `before`, and `within` more."""
    items = []
    for block in blocks:
        item = _regroup(reading, [*block, *units], rest, key, position)
        if item is None:
            return None
        items.append(Array((*before, *reading.flat(item).axes)))
    return Stack(len(before) + within, tuple(items))


def _reshape_stack(
    reading: Interpreter, stack: Stack, shape: tuple[int, ...], key: Hashable
) -> Value:
    """Keep the stack if its axis stays whole, else concatenate or interleave its entries."""
    old, num_entries = reading.shape(stack), len(stack.items)
    before = math.prod(old[: stack.axis])
    after = math.prod(old[stack.axis + 1 :])
    for axis, size in enumerate(shape):
        leading = math.prod(shape[:axis])
        if before % leading or size % (num_entries * (before // leading)):
            continue
        if size == num_entries == 1:
            continue
        turns, per_entry = before // leading, size // num_entries
        if per_entry * math.prod(shape[axis + 1 :]) != turns * after:
            continue
        kept = () if per_entry == 1 else (per_entry,)
        inner = (*shape[:axis], *kept, *shape[axis + 1 :])
        items = [reading.flat(reshape(reading, item, inner, key)) for item in stack.items]
        if not kept:
            return Stack(axis, tuple(items))
        if turns == 1:
            return concatenate(reading, items, axis)
        grid = np.arange(size).reshape(turns, num_entries, -1)
        places = [grid[:, entry].ravel() for entry in range(num_entries)]
        return concatenate(reading, items, axis, places)
    return reshape(reading, reading.flat(stack), shape, key)


def _sliced_axis(reading: Interpreter, axis: Axis, start: int, end: int, stride: int) -> Axis:
    taken = len(range(start, end, stride))
    if taken == size_of(axis) or taken == 0:
        return axis if taken else ()
    left_out = np.ones(size_of(axis), int)
    left_out[start:end:stride] = 0
    return reading.atoms.divide(axis, left_out)[0]


def _blocks_taken(
    positions: np.ndarray, size: int
) -> tuple[np.ndarray, dict[int, list[np.ndarray]]]:
    """For each entry of an axis the number of its block; block -> its positions, each time."""
    counts = np.bincount(positions, minlength=size)
    places = np.split(np.argsort(positions, kind="stable"), np.cumsum(counts)[:-1])
    parts, found = np.full(size, -1), []
    last = None
    for entry in np.flatnonzero(counts).tolist():
        at = places[entry]
        # Entries are in one block while they occur equally often, each time in order.
        if last is None or len(at) != len(last) or not (last < at).all():
            found.append([])
        found[-1].append(at)
        parts[entry], last = len(found) - 1, at
    parts[parts < 0] = len(found)  # entries that are not taken
    return parts, {part: list(np.array(rows).T) for part, rows in enumerate(found)}


def _with_varies(value: Value, varies: tuple) -> Value:
    if isinstance(value, Array):
        return Array(value.axes, varies)
    return Stack(value.axis, tuple(Array(item.axes, varies) for item in value.items))
