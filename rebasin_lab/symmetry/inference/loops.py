"""Rules for primitives that hold a jaxpr: calls, branches and loops.

A call is read inline. The carry of a loop must have the same axes before and after its body, so the
two are joined; if that makes an axis less uniform than at the start, the body is read again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rebasin_lab.symmetry.inference.atoms import Axis, Uniform
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Array, Value, shapes_of

CALLS = {  # primitive -> the parameter that holds its jaxpr
    "call": "call_jaxpr",
    "checkpoint": "jaxpr",  # older JAX; today remat2
    "closed_call": "call_jaxpr",
    "composite": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_partitioning": "call",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "jit": "jaxpr",
    "linear_call": "callee",
    "pjit": "jaxpr",  # older JAX; today jit
    "remat2": "jaxpr",
    "remat_opt": "fwd_jaxpr",
}


def call(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """A call: its equations are read inline."""
    return reading.run(equation.params[CALLS[equation.primitive.name]], values, is_call=True)


def cond(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Join the results of all branches."""
    results = [reading.run(branch, values[1:]) for branch in equation.params["branches"]]
    shapes = [variable.aval.shape for variable in equation.outvars]
    return [
        reading.together(column, shape)
        for column, shape in zip(zip(*results, strict=True), shapes, strict=True)
    ]


def while_loop(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read the body until its carry is stable.

    Under vmap the condition is an array: each entry along the first axes ends separately.
    """
    params = equation.params
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    for_cond, for_body = values[:num_cond], values[num_cond : num_cond + num_body]

    def body(carry: list[Value]) -> list[Value]:
        [goes_on] = reading.run(params["cond_jaxpr"], [*for_cond, *carry])
        entries = tuple(range(len(reading.shape(goes_on))))
        results = reading.run(params["body_jaxpr"], [*for_body, *carry])
        return [_masked(reading, result, goes_on, entries) for result in results]

    return _carried(reading, body, values[num_cond + num_body :])


def scan(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read the body for a generic slice along the first axis.

    Inside the body a slice stands for all of them: it *varies* along the axis scanned over. So each
    layer of a scanned stack may have its own order of units, but not the carry.
    """
    params = equation.params
    num_fixed, num_carry = params["num_consts"], params["num_carry"]
    constants, carry = values[:num_fixed], values[num_fixed : num_fixed + num_carry]
    scanned = [reading.flat(value) for value in values[num_fixed + num_carry :]]
    steps = reading.atoms.pinned(params["length"], "scan runs over it in order")
    for array in scanned:
        if not reading.atoms.is_uniform(array.axes[0]):
            steps = reading.atoms.join([steps, array.axes[0]])
    index = object()
    slices: list[Value] = [
        Array(array.axes[1:], array.varies)
        if reading.atoms.is_uniform(array.axes[0])
        else Array(array.axes[1:], (*array.varies, (index, steps)))
        for array in scanned
    ]
    collected: list[Value] = []

    def body(carry: list[Value]) -> list[Value]:
        results = reading.run(params["jaxpr"], [*constants, *carry, *slices])
        collected[:] = results[num_carry:]
        return results[:num_carry]

    carry = _carried(reading, body, carry)
    arrays = [reading.flat(value) for value in collected]
    return [
        *carry,
        *(
            Array((steps, *array.axes), tuple(v for v in array.varies if v[0] is not index))
            for array in arrays
        ),
    ]


def shard_map(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read the body of one device; an axis that is sharded has another length inside."""
    body = equation.params["jaxpr"]
    shapes = [shapes_of(variables) for variables in (body.invars, body.outvars)]
    why = "shard_map spreads it over devices"
    local = [_resized(reading, *pair, why) for pair in zip(values, shapes[0], strict=True)]
    pairs = zip(reading.run(body, local), shapes_of(equation.outvars), strict=True)
    return [_resized(reading, *pair, why) for pair in pairs]


def _resized(reading: Interpreter, value: Value, shape: tuple[int, ...], why: str) -> Value:
    """Pin the axes of a value whose length changes."""
    old = reading.shape(value)
    if old == shape:
        return value
    same = [size == other for size, other in zip(old, shape, strict=True)]
    row = tuple(axis if kept else ("from", axis) for axis, kept in enumerate(same))
    out = tuple(axis if kept else ("to", axis) for axis, kept in enumerate(same))
    pins = {label: why for label in (*row, *out) if isinstance(label, tuple)}
    return reading.indexed([value], [row], [out], [shape], pins)[0]


def _carried(
    reading: Interpreter,
    body: Callable[[list[Value]], list[Value]],
    carry: Sequence[Value],
) -> list[Value]:
    """The carry of a loop, after reading its body until nothing changes."""
    shapes = [reading.shape(value) for value in carry]
    # Marks of numbers at the start need not hold in the second iteration.
    current = [Array(array.axes, array.varies) for array in map(reading.flat, carry)]
    while True:
        before = [_equalities(reading, array) for array in current]
        results = body(list(current))
        current = [
            _carry_over(reading, pair, shape)
            for pair, shape in zip(zip(current, results, strict=True), shapes, strict=True)
        ]
        if [_equalities(reading, array) for array in current] == before:
            return list(current)


def _masked(reading: Interpreter, result: Value, goes_on: Value, entries: tuple[int, ...]) -> Value:
    """A result that is selected for some entries along its first axes only."""
    shape = reading.shape(result)
    labels = tuple(range(len(shape)))
    return reading.indexed([result, goes_on], [labels, entries], [labels], [shape])[0]


def _carry_over(reading: Interpreter, pair: tuple[Array, Value], shape: tuple[int, ...]) -> Array:
    """One value for the carry before and after the body, of no single iteration."""
    before, after = pair
    joined = reading.flat(reading.together([before, after], shape))
    return Array(joined.axes, before.varies)


def _equalities(reading: Interpreter, array: Array) -> list[int]:
    """The number of equal neighbours on each axis, inside concatenations too.

    Rules depend on nothing else that may change: ties only make axes less uniform, and an axis that
    is uniform at the start of a loop need not be in its second iteration.
    """
    return [num_equalities(reading, axis) for axis in array.axes]


def num_equalities(reading: Interpreter, axis: Axis) -> int:
    """The number of equal neighbours: 3 in a uniform block of 4, only 2 in two blocks of 2."""
    number = 0
    for factor in reading.atoms.factors(axis):
        if isinstance(factor, Uniform):
            number += factor.size - 1
        else:
            number += sum(num_equalities(reading, segment) for segment in factor.segments or ())
    return number


RULES: dict[str, Rule] = {
    **dict.fromkeys(CALLS, call),
    "cond": cond,
    "scan": scan,
    "shard_map": shard_map,
    "while": while_loop,
}
