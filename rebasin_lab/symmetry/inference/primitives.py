"""Rules for the effect of each JAX primitive on the order of units.

`RULES` maps a primitive's name to its rule. Most rules only say which axes of operands and results
share an index; what is left says which axes are cut, laid end to end, or need their order. An
axis whose positions are counted, compared or slid over is *pinned*. So is everything a primitive
without a rule touches: the result is then smaller than it could be, never wrong.
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


# Primitives whose results are random numbers, or keys of such.
DRAWN = """
    iota_2x32_shape philox2x32 philox4x32 random_bits random_clone random_fold_in random_gamma
    random_seed random_split random_unwrap random_wrap rng_bit_generator rng_uniform threefry2x32
    threefry4x32
""".split()


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
    return _ended(reading, values[0], equation.params["axes"], *shapes_of(equation.outvars))


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


def collective(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A sum or maximum over the axes that vmap has put there; others are axes of devices."""
    ended = [axis for axis in equation.params["axes"] if isinstance(axis, SupportsIndex)]
    pairs = zip(values, shapes_of(equation.outvars), strict=True)
    return [result for value, shape in pairs for result in _ended(reading, value, ended, shape)]


def drawn(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Random numbers are drawn position by position."""
    why = f"{equation.primitive.name} draws a random number for every position"
    for value in values:
        reading.pin(value, why)
    return [reading.ordered(shape, why) for shape in shapes_of(equation.outvars)]


def bitcast(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Element by element; the parts of one element are an axis in order, at the end."""
    [old], [new] = shapes_of(equation.invars), shapes_of(equation.outvars)
    labels = tuple(range(max(len(old), len(new))))
    pins = {} if len(old) == len(new) else {labels[-1]: "it holds the parts of one number"}
    return reading.indexed(values, [labels[: len(old)]], [labels[: len(new)]], [new], pins)


def reduce(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A reduction by any function may depend on the order; the other axes are carried along."""
    shapes, num_results = shapes_of(equation.outvars), len(equation.outvars)
    ended, num_axes = equation.params["dimensions"], len(equation.invars[0].aval.shape)
    row = tuple(range(num_axes))
    out_row = tuple(axis for axis in row if axis not in ended)
    pins = {int(axis): "reduce combines units by a function of its own" for axis in ended}
    rows = [row] * num_results + [()] * num_results  # what comes after are the starts
    return reading.indexed(values, rows, [out_row] * num_results, shapes, pins)


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
    return _ended(reading, values[0], equation.params["dimensions"], *shapes_of(equation.outvars))


def reshape(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """The units in another grid; read column by column, say, they are transposed first."""
    [shape] = shapes_of(equation.outvars)
    old, order = equation.invars[0].aval.shape, equation.params["dimensions"]
    if order is not None:
        transposed = [old[axis] for axis in order]
        values = reading.indexed(values, [tuple(range(len(old)))], [tuple(order)], [transposed])
    return [layout.reshape(reading, values[0], shape, id(equation))]


def slice_(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A block of each axis; every second unit, or the like, needs the order."""
    params = equation.params
    ndim = len(equation.invars[0].aval.shape)
    strides = params["strides"] or (1,) * ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    # Transposed by JAX, a slice has integers of NumPy.
    windows = [(int(start), int(end), int(stride)) for start, end, stride in bounds]
    return [layout.sliced(reading, values[0], windows)]


def split(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Consecutive blocks of one axis."""
    sizes = map(int, equation.params["sizes"])
    bounds = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return [_block(reading, equation, values[0], start, end) for start, end in bounds]


def unstack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Every entry along one axis by itself."""
    results: list[Value] = []
    for index, shape in enumerate(shapes_of(equation.outvars)):
        entry = _block(reading, equation, values[0], index, index + 1)
        results += _ended(reading, entry, [equation.params["axis"]], shape)
    return results


def stack(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Several values along a new axis."""
    axis = int(equation.params["axis"])
    rows = []
    for value, shape in zip(values, shapes_of(equation.invars), strict=True):
        labels = tuple(range(len(shape)))
        out = (*labels[:axis], "new", *labels[axis:])
        rows += reading.indexed([value], [labels], [out], [(*shape[:axis], 1, *shape[axis:])])
    return [layout.concatenate(reading, rows, axis)]


def concatenate(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Blocks end to end; an empty one is none."""
    axis = int(equation.params["dimension"])
    shapes = shapes_of(equation.invars)
    filled = [value for value, shape in zip(values, shapes, strict=True) if shape[axis]]
    return [layout.concatenate(reading, filled, axis) if len(filled) > 1 else (filled or values)[0]]


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
            value = layout.padded(reading, reading.flat(value), axis, (low, high, interior), size)
    return [value]


def dot_general(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Batch axes meet and stay, contracted axes meet and end, the others stay."""
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
    """Counts along one axis, the same along all others."""
    [shape] = shapes_of(equation.outvars)
    counted = equation.params["dimension"]
    pins = {counted: "iota numbers its positions"}
    return reading.indexed([], [], [tuple(range(len(shape)))], [shape], pins)


def unknown(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Nothing is known of what this primitive does, so nothing it touches may move."""
    if not all(map(reading.is_settled, values)):
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
    """Return the value without some of its axes, whose units end here."""
    labels = tuple(range(len(reading.shape(value))))
    kept = tuple(axis for axis in labels if axis not in ended)
    return reading.indexed([value], [labels], [kept], [shape])


def _block(reading: Interpreter, equation: Any, value: Value, start: int, end: int) -> Value:
    """Return the block from `start` to before `end` along the named axis, the others whole."""
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
    "device_put": each_by_itself,
    "optimization_barrier": each_by_itself,
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
