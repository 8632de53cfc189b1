"""What each primitive of JAX does to the order of units.

`RULES` maps a primitive's name to its rule. Most rules only say which axes of operands and results
share an index; what is left says which axes are cut, laid end to end, or need their order. An
axis whose positions are counted, compared or slid over is *pinned*. So is everything a primitive
without a rule touches: the result is then smaller than it could be, never wrong.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rebasin_lab.symmetry.inference import loops
from rebasin_lab.symmetry.inference.atoms import size_of, uniform
from rebasin_lab.symmetry.inference.interpreter import Array, Interpreter, Rule, Stack, Value

ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp
    clz complex conj convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp
    exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma
    log log1p logistic lt lt_to max min mul mulhi name ne neg nextafter not or polygamma
    population_count pow pvary real reduce_precision regularized_incomplete_beta
    rem round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeros_like zeta
""".split()

SCATTERS = "scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub".split()
WINDOWS = "reduce_window reduce_window_max reduce_window_min reduce_window_sum".split()
REDUCTIONS = "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor".split()

# Primitives that need the order along one axis, and what they do with it in words.
IN_ORDER = {
    "cumsum": ("axis", "cumsum adds units up in order"),
    "cumprod": ("axis", "cumprod multiplies units in order"),
    "cummax": ("axis", "cummax takes the largest unit so far, in order"),
    "cummin": ("axis", "cummin takes the smallest unit so far, in order"),
    "cumlogsumexp": ("axis", "cumlogsumexp adds units up in order"),
    "sort": ("dimension", "sort puts the values in an order of its own"),
    "argmax": ("axes", "argmax answers with a position"),
    "argmin": ("axes", "argmin answers with a position"),
    "top_k": ("axis", "top_k answers with positions"),
    "approx_top_k": ("reduction_dimension", "approx_top_k answers with positions"),
    "rev": ("dimensions", "rev turns the order round"),
}

SLIDING = "a window slides over its positions"


def shapes_of(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of the variables of an equation."""
    return [tuple(variable.aval.shape) for variable in variables]


def elementwise(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Position by position; a scalar, or an axis of length one, goes with every position."""
    shapes = shapes_of(equation.outvars)
    labels = [
        tuple(
            axis if size == whole else ("stretched", axis)
            for axis, (size, whole) in enumerate(zip(shape, shapes[0], strict=False))
        )
        for shape in shapes_of(equation.invars)
    ]
    out_labels = [tuple(range(len(shape))) for shape in shapes]
    return reading.indexed(values, labels, out_labels, shapes)


def each_by_itself(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Every operand comes out as it went in."""
    return list(values)


def reduction(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A sum, maximum ... does not depend on order: reduced axes just end."""
    labels = tuple(range(len(equation.invars[0].aval.shape)))
    kept = tuple(axis for axis in labels if axis not in equation.params["axes"])
    return reading.indexed(values, [labels], [kept], shapes_of(equation.outvars))


def in_order(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """One axis is needed in order, the others are carried along."""
    parameter, reason = IN_ORDER[equation.primitive.name]
    ordered, shapes = equation.params[parameter], shapes_of(equation.outvars)
    num_axes = len(equation.invars[0].aval.shape)
    ordered = {int(axis) % num_axes for axis in np.atleast_1d(ordered)}
    ends = len(shapes[0]) < num_axes  # argmax keeps nothing of the axis, sort and cumsum do
    row = tuple(("from", i) if i in ordered else i for i in range(num_axes))
    out_row = tuple(
        ("to", i) if i in ordered else i for i in range(num_axes) if not (ends and i in ordered)
    )
    pins = {label: reason for label in (*row, *out_row) if isinstance(label, tuple)}
    return reading.indexed(values, [row] * len(values), [out_row] * len(shapes), shapes, pins)


def broadcast_in_dim(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """New axes, and axes stretched from length one, are uniform."""
    [shape] = shapes_of(equation.outvars)
    old = equation.invars[0].aval.shape
    labels: list[Any] = [("new", i) for i in range(len(shape))]
    sources = []
    for axis, target in enumerate(equation.params["broadcast_dimensions"]):
        stretched = old[axis] != shape[target]
        sources.append(("stretched", axis) if stretched else axis)
        if not stretched:
            labels[target] = axis
    return reading.indexed(values[:1], [tuple(sources)], [tuple(labels)], [shape])


def transpose(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Axes in another order."""
    permutation = tuple(map(int, equation.params["permutation"]))
    labels = tuple(range(len(permutation)))
    return reading.indexed(values, [labels], [permutation], shapes_of(equation.outvars))


def squeeze(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Axes of length one end."""
    labels = tuple(range(len(equation.invars[0].aval.shape)))
    kept = tuple(axis for axis in labels if axis not in equation.params["dimensions"])
    return reading.indexed(values, [labels], [kept], shapes_of(equation.outvars))


def reshape(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """The units in another grid; read column by column, say, they are transposed first."""
    [shape] = shapes_of(equation.outvars)
    old, order = equation.invars[0].aval.shape, equation.params["dimensions"]
    if 0 in shape:
        return [Array(tuple(map(uniform, shape)))]
    if order is not None:
        transposed = [old[axis] for axis in order]
        values = reading.indexed(values, [tuple(range(len(old)))], [tuple(order)], [transposed])
    return [reading.reshape(values[0], shape, id(equation))]


def slice_(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A block of each axis; every second unit, or the like, needs the order."""
    params = equation.params
    ndim = len(equation.invars[0].aval.shape)
    strides = params["strides"] or (1,) * ndim
    windows = list(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    return [_sliced(reading, values[0], windows)]


def split(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Consecutive blocks of one axis."""
    shape, at = equation.invars[0].aval.shape, int(equation.params["axis"])
    ends = list(itertools.accumulate(equation.params["sizes"], initial=0))
    results = []
    for start, end in itertools.pairwise(ends):
        windows = [(0, size, 1) for size in shape]
        windows[at] = (int(start), int(end), 1)
        results.append(_sliced(reading, values[0], windows))
    return results


def unstack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Every entry along one axis by itself."""
    shape, at = equation.invars[0].aval.shape, int(equation.params["axis"])
    labels = tuple(range(len(shape)))
    kept = tuple(axis for axis in labels if axis != at)
    results: list[Value] = []
    for index, out_shape in enumerate(shapes_of(equation.outvars)):
        windows = [(0, size, 1) for size in shape]
        windows[at] = (index, index + 1, 1)
        entry = _sliced(reading, values[0], windows)
        results.extend(reading.indexed([entry], [labels], [kept], [out_shape]))
    return results


def stack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Several values along a new axis."""
    axis = int(equation.params["axis"])
    rows = []
    for value, shape in zip(values, shapes_of(equation.invars), strict=True):
        labels = tuple(range(len(shape)))
        out = (*labels[:axis], "new", *labels[axis:])
        rows += reading.indexed([value], [labels], [out], [(*shape[:axis], 1, *shape[axis:])])
    return [reading.concatenate(rows, axis)]


def concatenate(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Blocks end to end; an empty one is none."""
    axis = int(equation.params["dimension"])
    shapes = shapes_of(equation.invars)
    filled = [value for value, shape in zip(values, shapes, strict=True) if shape[axis]]
    return [reading.concatenate(filled, axis) if len(filled) > 1 else (filled or values)[0]]


def tile(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """The whole axis over and over: a uniform factor in front of it."""
    array = reading.flat(values[0])
    pairs = zip(equation.params["reps"], array.axes, strict=True)
    return [Array(tuple((*uniform(reps), *axis) for reps, axis in pairs), array.varies)]


def pad(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Equal values at the ends are blocks of their own; anything else needs the order."""
    value: Value = values[0]
    for axis, config in enumerate(equation.params["padding_config"]):
        low, high, interior = map(int, config)
        if low or high or interior:
            size = equation.outvars[0].aval.shape[axis]
            value = _padded(reading, reading.flat(value), axis, (low, high, interior), size)
    return [value]


def dot_general(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Batch axes meet and stay, contracted axes meet and end, the others stay."""
    (contract_l, contract_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    rows = []
    for side, (variable, contract, batch) in enumerate(
        zip(equation.invars, (contract_l, contract_r), (batch_l, batch_r), strict=True)
    ):
        row: list[Any] = [(side, axis) for axis in range(len(variable.aval.shape))]
        for kind, axes in (("contract", contract), ("batch", batch)):
            for index, axis in enumerate(axes):
                row[axis] = (kind, index)
        rows.append(tuple(row))
    batch = tuple(("batch", index) for index in range(len(batch_l)))
    free = tuple(label for row in rows for label in row if label[0] in (0, 1))
    return reading.indexed(values, rows, [(*batch, *free)], shapes_of(equation.outvars))


def convolution(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Channels as in a product, one block of them per group; windows slide over positions.

    A kernel of size one that does not stride is a product at every position.
    """
    params = equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        return unknown(reading, equation, values)
    images, kernel = values
    image_shape, kernel_shape = shapes_of(equation.invars)
    [out_shape] = shapes_of(equation.outvars)
    image_row, kernel_row, out_row = ([""] * len(image_shape) for _ in range(3))
    image_row[numbers.lhs_spec[0]] = out_row[numbers.out_spec[0]] = "batch"
    image_row[numbers.lhs_spec[1]] = kernel_row[numbers.rhs_spec[1]] = "in"
    kernel_row[numbers.rhs_spec[0]] = out_row[numbers.out_spec[1]] = "out"
    pins = {}
    for i, axes in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        still = kernel_shape[axes[1]] == params["window_strides"][i] == params["lhs_dilation"][
            i
        ] == 1 and tuple(params["padding"][i]) == (0, 0)
        image_row[axes[0]] = f"position {i}" if still else f"from {i}"
        kernel_row[axes[1]] = f"offset {i}"
        out_row[axes[2]] = f"position {i}" if still else f"to {i}"
        if not still:
            pins |= dict.fromkeys((f"from {i}", f"offset {i}", f"to {i}"), SLIDING)
    out_full = out_shape
    if groups > 1:
        key = id(equation)
        images, image_row = _grouped(reading, images, image_row, "in", groups, (key, "images"))
        kernel, kernel_row = _grouped(reading, kernel, kernel_row, "out", groups, (key, "kernel"))
        at = out_row.index("out")
        out_row = [*out_row[:at], "group", *out_row[at:]]
        out_full = (*out_shape[:at], groups, out_shape[at] // groups, *out_shape[at + 1 :])
    [result] = reading.indexed(
        [images, kernel], [tuple(image_row), tuple(kernel_row)], [tuple(out_row)], [out_full], pins
    )
    return [reading.reshape(result, out_shape, (id(equation), "result"))]


def pooling(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Axes with a window of one position are carried along, over the others it slides."""
    params, shape = equation.params, shapes_of(equation.outvars)[0]
    row, out_row, pins = [], [], {}
    for axis in range(len(shape)):
        still = (
            params["window_dimensions"][axis] == params["window_strides"][axis] == 1
            and tuple(params["padding"][axis]) == (0, 0)
            and params["base_dilation"][axis] == 1
        )
        row.append(axis if still else ("from", axis))
        out_row.append(axis if still else ("to", axis))
        if not still:
            pins |= {("from", axis): SLIDING, ("to", axis): SLIDING}
    pooled, num_results = values[: len(equation.outvars)], len(equation.outvars)
    rows, out_rows = [tuple(row)] * num_results, [tuple(out_row)] * num_results
    return reading.indexed(pooled, rows, out_rows, [shape] * num_results, pins)


def gather(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A table look-up: the axis looked up in has positions, whole axes are carried along."""
    numbers, [shape] = equation.params["dimension_numbers"], shapes_of(equation.outvars)
    table_shape, index_shape = shapes_of(equation.invars)
    why, vector = "an index looks up a position in it", len(index_shape) - 1
    pins: dict[Any, str] = {"coordinates": why}
    index_row: list[Any] = [("at", axis) for axis in range(vector)] + ["coordinates"]
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
    for axis, taken in enumerate(equation.params["slice_sizes"]):
        if axis in batched:
            table_row.append(("at", batched[axis]))
            continue
        whole = taken == table_shape[axis] and axis not in numbers.collapsed_slice_dims
        table_row.append(("table", axis))
        if not whole:
            pins[("table", axis)] = why
        if axis not in numbers.collapsed_slice_dims:
            out_axis = next(offsets)
            out_row[out_axis] = ("table", axis) if whole else ("part", axis)
            if not whole:
                pins[("part", axis)] = why
    rows = [tuple(table_row), tuple(index_row)]
    return reading.indexed(values, rows, [tuple(out_row)], [shape], pins)


def scatter(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Writing into a table: as `gather`, the other way round."""
    numbers = equation.params["dimension_numbers"]
    table_shape, index_shape, update_shape = shapes_of(equation.invars)
    why = "an index writes to a position in it"
    index_row: list[Any] = [("at", axis) for axis in range(len(index_shape) - 1)] + ["coordinates"]
    pins: dict[Any, str] = dict.fromkeys(index_row, why)
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
        if axis in numbers.inserted_window_dims:
            pins["table", axis] = why
        elif axis not in batched:
            update_axis = next(windows)
            whole = update_shape[update_axis] == size
            update_row[update_axis] = ("table", axis) if whole else ("part", axis)
            if not whole:
                pins |= {("table", axis): why, ("part", axis): why}
    rows = [tuple(table_row), tuple(index_row), tuple(update_row)]
    return reading.indexed(values, rows, [tuple(table_row)], [table_shape], pins)


def dynamic_slice(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Whole axes are carried along; a block whose start is computed is a position."""
    [shape] = shapes_of(equation.outvars)
    row, out_row, pins = _windows(equation.invars[0].aval.shape, shape)
    return reading.indexed(values[:1], [row], [out_row], [shape], pins)


def dynamic_update_slice(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """As `dynamic_slice`: whole axes meet, the others are positions."""
    [shape] = shapes_of(equation.outvars)
    row, update_row, pins = _windows(shape, equation.invars[1].aval.shape)
    return reading.indexed(values[:2], [row, update_row], [row], [shape], pins)


def iota(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Counts along one axis, the same along all others."""
    [shape] = shapes_of(equation.outvars)
    counted = equation.params["dimension"]
    pins = {counted: "iota numbers its positions"}
    return reading.indexed([], [], [tuple(range(len(shape)))], [shape], pins)


def unknown(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Nothing is known of what this primitive does, so nothing it touches may move."""
    why = f"it goes into {equation.primitive.name}, a primitive whose symmetries are not known"
    for value in values:
        reading.pin(value, why)
    why = f"it comes out of {equation.primitive.name}, a primitive whose symmetries are not known"
    return [reading.ordered(shape, why) for shape in shapes_of_any(equation.outvars)]


def shapes_of_any(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    """As `shapes_of`, for variables that may hold no array, such as a token."""
    return [tuple(getattr(variable.aval, "shape", ())) for variable in variables]


def _sliced(reading: Interpreter, value: Value, windows: list[tuple[int, int, int]]) -> Value:
    """Blocks [start, end) of each axis, with a stride."""
    if isinstance(value, Stack):
        start, end, stride = windows[value.axis]
        others = [window for axis, window in enumerate(windows) if axis != value.axis]
        taken = value.items[start:end:stride] or value.items[:1]  # of none, no matter which
        items = [reading.flat(_sliced(reading, item, others)) for item in taken]
        if len(items) > 1:
            return Stack(value.axis, tuple(items))
        axes = items[0].axes
        return Array((*axes[: value.axis], (), *axes[value.axis :]), items[0].varies)
    pairs = zip(value.axes, windows, strict=True)
    return Array(
        tuple(_sliced_axis(reading, axis, *window) for axis, window in pairs), value.varies
    )


def _sliced_axis(reading: Interpreter, axis: tuple, start: int, end: int, stride: int) -> tuple:
    atoms = reading.atoms
    size, taken = size_of(axis), len(range(start, end, stride))
    if taken == size or taken == 0:
        return axis if taken else ()
    if stride != 1:
        why = f"a slice takes one unit in {stride}"
        if atoms.is_uniform(axis):
            return uniform(taken)
        atoms.pin(axis, why)
        return atoms.pinned(taken, why, axis)
    points = [point for point in (start, end) if 0 < point < size]
    return atoms.cut(axis, points)[0 if start == 0 else 1]


def _padded(
    reading: Interpreter, array: Array, axis: int, config: tuple[int, int, int], size: int
) -> Array:
    low, high, interior = config
    old = array.axes[axis]
    if min(config) < 0 or interior or size_of(old) != size - low - high:  # the last: it is empty
        why = "padding puts values between its units or cuts some off"
        reading.atoms.pin(old, why)
        new = reading.atoms.pinned(size, why, old)
    elif reading.atoms.is_fixed(old):
        new = reading.atoms.pinned(size, "it is an axis that may not move, padded", old)
    else:
        blocks = [block for block in (_filled(low), old, _filled(high)) if block is not None]
        new = reading.atoms.concatenate(blocks)
    return Array((*array.axes[:axis], new, *array.axes[axis + 1 :]), array.varies)


def _filled(size: int) -> tuple | None:
    """An axis of equal values; None if it has no length."""
    return uniform(size) if size else None


def _grouped(
    reading: Interpreter, value: Value, row: list[str], label: str, groups: int, key: Any
) -> tuple[Value, list[str]]:
    """The channels seen as [group, channel of the group]."""
    at = row.index(label)
    shape = reading.shape(value)
    shape = (*shape[:at], groups, shape[at] // groups, *shape[at + 1 :])
    return reading.reshape(value, shape, key), [*row[:at], "group", *row[at:]]


def _windows(whole: Sequence[int], part: Sequence[int]) -> tuple[tuple, tuple, dict]:
    """Indices for an array and a block of it; axes that are not taken whole are pinned."""
    row: list[Any] = list(range(len(whole)))
    part_row: list[Any] = list(row)
    pins: dict[Any, str] = {}
    for axis, (size, taken) in enumerate(zip(whole, part, strict=True)):
        if size != taken:
            part_row[axis] = ("part", axis)
            pins[axis] = pins[part_row[axis]] = "a computed position picks a block of it"
    return tuple(row), tuple(part_row), pins


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(IN_ORDER, in_order),
    **dict.fromkeys(SCATTERS, scatter),
    **dict.fromkeys(WINDOWS, pooling),
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    "iota": iota,
    "device_put": each_by_itself,
    "optimization_barrier": each_by_itself,
    "pad": pad,
    "reshape": reshape,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
    **loops.RULES,
}
