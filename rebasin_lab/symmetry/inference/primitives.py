"""Rules for the effect of each JAX primitive on the order of units.

`RULES` maps a primitive's name to its rule. Most rules only list which axes of operands and results
share an index; others cut, concatenate or pin axes. An axis whose positions are counted, compared
or slid over is *pinned*. So are all operands and results of a primitive without a rule: the result
may then be smaller than it could be, but never wrong.
"""

import itertools
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from rebasin_lab.symmetry.inference import layout
from rebasin_lab.symmetry.inference.atoms import uniform
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Array, Labels, Value, shapes_of

ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp
    clz complex conj convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp
    exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite layout_constraint
    le le_to lgamma log log1p logistic lt lt_to max min mul mulhi name ne neg nextafter not or
    pbroadcast polygamma population_count pow ppermute pvary real reduce_precision
    regularized_incomplete_beta rem reshard round rsqrt select_n sharding_constraint shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh
    with_memory_space_constraint xor zeros_like zeta
""".split()

REDUCTIONS = "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor".split()

# Primitives that need the order along one axis -> the parameter with the axis, and a reason.
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


# Primitives whose results are random numbers or keys.
DRAWN = """
    iota_2x32_shape philox2x32 philox4x32 random_bits random_clone random_fold_in random_gamma
    random_seed random_split random_unwrap random_wrap rng_bit_generator rng_uniform threefry2x32
    threefry4x32
""".split()


def elementwise(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Join operands position by position; axes of length one are broadcast."""
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


def unchanged(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Return the operands unchanged."""
    return list(values)


def reduction(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """End the reduced axes, since a sum or maximum does not depend on their order."""
    return _ended(reading, values[0], equation.params["axes"], *shapes_of(equation.outvars))


def in_order(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin one axis, and keep the others."""
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


def collective(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """End the axes of vmap; named axes are of devices."""
    ended = [axis for axis in equation.params["axes"] if isinstance(axis, SupportsIndex)]
    pairs = zip(values, shapes_of(equation.outvars), strict=True)
    return [result for value, shape in pairs for result in _ended(reading, value, ended, shape)]


def drawn(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin operands and results, as random numbers depend on the position."""
    why = f"{equation.primitive.name} draws a random number for every position"
    for value in values:
        reading.pin(value, why)
    return [reading.ordered(shape, why) for shape in shapes_of(equation.outvars)]


def bitcast(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Keep axes; pin a last axis that holds the parts of one element."""
    [old], [new] = shapes_of(equation.invars), shapes_of(equation.outvars)
    labels = tuple(range(max(len(old), len(new))))
    pins = {} if len(old) == len(new) else {labels[-1]: "it holds the parts of one number"}
    return reading.indexed(values, [labels[: len(old)]], [labels[: len(new)]], [new], pins)


def reduce(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin the axes reduced by a general function; keep the others."""
    shapes, num_results = shapes_of(equation.outvars), len(equation.outvars)
    ended, num_axes = equation.params["dimensions"], len(equation.invars[0].aval.shape)
    row = tuple(range(num_axes))
    out_row = tuple(axis for axis in row if axis not in ended)
    pins = {int(axis): "reduce combines units by a function of its own" for axis in ended}
    rows = [row] * num_results + [()] * num_results  # what comes after are the starts
    return reading.indexed(values, rows, [out_row] * num_results, shapes, pins)


def broadcast_in_dim(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Make new axes, and axes stretched from length one, uniform."""
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
    """Reorder axes."""
    permutation = tuple(map(int, equation.params["permutation"]))
    labels = tuple(range(len(permutation)))
    return reading.indexed(values, [labels], [permutation], shapes_of(equation.outvars))


def squeeze(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """End axes of length one."""
    return _ended(reading, values[0], equation.params["dimensions"], *shapes_of(equation.outvars))


def reshape(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Reshape, after a transpose if `dimensions` are given."""
    [shape] = shapes_of(equation.outvars)
    old, order = equation.invars[0].aval.shape, equation.params["dimensions"]
    if order is not None:
        transposed = [old[axis] for axis in order]
        values = reading.indexed(values, [tuple(range(len(old)))], [tuple(order)], [transposed])
    return [layout.reshape(reading, values[0], shape, id(equation))]


def slice_(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Take a block of each axis, possibly with a stride."""
    params = equation.params
    ndim = len(equation.invars[0].aval.shape)
    strides = params["strides"] or (1,) * ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    # JAX may use NumPy integers in a transposed slice.
    windows = [(int(start), int(end), int(stride)) for start, end, stride in bounds]
    return [layout.sliced(reading, values[0], windows)]


def split(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Cut one axis into consecutive blocks."""
    sizes = map(int, equation.params["sizes"])
    bounds = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return [_block(reading, equation, values[0], start, end) for start, end in bounds]


def unstack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Return every entry along one axis."""
    results: list[Value] = []
    for index, shape in enumerate(shapes_of(equation.outvars)):
        entry = _block(reading, equation, values[0], index, index + 1)
        results += _ended(reading, entry, [equation.params["axis"]], shape)
    return results


def stack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Stack values along a new axis."""
    axis = int(equation.params["axis"])
    rows = []
    for value, shape in zip(values, shapes_of(equation.invars), strict=True):
        labels = tuple(range(len(shape)))
        out = (*labels[:axis], "new", *labels[axis:])
        rows += reading.indexed([value], [labels], [out], [(*shape[:axis], 1, *shape[axis:])])
    return [layout.concatenate(reading, rows, axis)]


def concatenate(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Concatenate blocks, without empty ones."""
    axis = int(equation.params["dimension"])
    shapes = shapes_of(equation.invars)
    filled = [value for value, shape in zip(values, shapes, strict=True) if shape[axis]]
    return [layout.concatenate(reading, filled, axis) if len(filled) > 1 else (filled or values)[0]]


def tile(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Repeat an axis: a uniform factor in front of it."""
    array = reading.flat(values[0])
    pairs = zip(equation.params["reps"], array.axes, strict=True)
    return [Array(tuple((*uniform(reps), *axis) for reps, axis in pairs), array.varies)]


def pad(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Make equal values at the ends a block; pin the axis for other padding."""
    value: Value = values[0]
    for axis, config in enumerate(equation.params["padding_config"]):
        low, high, interior = map(int, config)
        if low or high or interior:
            size = equation.outvars[0].aval.shape[axis]
            value = layout.padded(reading, reading.flat(value), axis, (low, high, interior), size)
    return [value]


def dot_general(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Join batch axes and contracted axes; keep all but the contracted."""
    rows, out = dot_labels(equation, equation.params["dimension_numbers"])
    return reading.indexed(values, rows, [out], shapes_of(equation.outvars))


def dot_labels(equation: Any, numbers: Any) -> tuple[list[Labels], Labels]:
    """The indices of both operands of a product and of its result."""
    (contract_l, contract_r), (batch_l, batch_r) = numbers
    rows = []
    for side, (variable, contract, batch) in enumerate(
        zip(equation.invars[:2], (contract_l, contract_r), (batch_l, batch_r), strict=True)
    ):
        row: list[Any] = [(side, axis) for axis in range(len(variable.aval.shape))]
        for kind, axes in (("contract", contract), ("batch", batch)):
            for index, axis in enumerate(axes):
                row[axis] = (kind, index)
        rows.append(tuple(row))
    batch = tuple(("batch", index) for index in range(len(batch_l)))
    free = tuple(label for row in rows for label in row if label[0] in (0, 1))
    return rows, (*batch, *free)


def iota(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin the counted axis; all others are uniform."""
    [shape] = shapes_of(equation.outvars)
    counted = equation.params["dimension"]
    pins = {counted: "iota numbers its positions"}
    return reading.indexed([], [], [tuple(range(len(shape)))], [shape], pins)


def unknown(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin all operands and results of an unknown primitive."""
    if not all(map(reading.has_no_free_unit, values)):
        reading.opaque[id(equation)] = reading.atoms.step
        if reading.lenient:
            reading.note_use(values)
            return [reading.free(shape) for shape in shapes_of(equation.outvars)]
    why = f"it goes into {equation.primitive.name}, a primitive whose symmetries are not known"
    for value in values:
        reading.pin(value, why)
    why = f"it comes out of {equation.primitive.name}, a primitive whose symmetries are not known"
    return [reading.ordered(shape, why) for shape in shapes_of(equation.outvars)]


def _ended(
    reading: Interpreter, value: Value, ended: Sequence[SupportsIndex], shape: tuple[int, ...]
) -> list[Value]:
    """The value without some of its axes."""
    labels = tuple(range(len(reading.shape(value))))
    kept = tuple(axis for axis in labels if axis not in ended)
    return reading.indexed([value], [labels], [kept], [shape])


def _block(reading: Interpreter, equation: Any, value: Value, start: int, end: int) -> Value:
    """The block [start, end) of the axis of the equation, with other axes whole."""
    windows = [(0, size, 1) for size in equation.invars[0].aval.shape]
    windows[equation.params["axis"]] = (start, end, 1)
    return layout.sliced(reading, value, windows)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(IN_ORDER, in_order),
    **dict.fromkeys(DRAWN, drawn),
    **dict.fromkeys(("psum", "psum_invariant", "pmax", "pmin"), collective),
    "bitcast_convert_type": bitcast,
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "dot_general": dot_general,
    "iota": iota,
    "device_put": unchanged,
    "optimization_barrier": unchanged,
    "pad": pad,
    "reduce": reduce,
    "reshape": reshape,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
}
