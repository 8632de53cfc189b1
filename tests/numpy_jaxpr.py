"""Jaxprs evaluated by NumPy in float64: a second opinion that compiles nothing.

A random network has shapes that XLA has not seen before, and compiling it takes a hundred times as
long as running it. Here a primitive is a NumPy call. Floats are float64 whatever the jaxpr says, so
that a function which ought to be unchanged is, to ten digits. Decisions (comparisons, sorting,
argmax) take floats that differ by less than `STEADY` as equal: adding up in another order does
not turn them over.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.special
from jax.extend import core

STEADY = 1e-9


def evaluate(closed: core.ClosedJaxpr, arguments: Sequence[Any]) -> list[np.ndarray]:
    """The results of a jaxpr."""
    with np.errstate(all="ignore"):  # a masked -inf and the like; results are checked by the caller
        return _run(closed.jaxpr, closed.consts, [_widened(value) for value in arguments])


def evaluate_each(
    apply_fn: Callable, several: Sequence[Any], inputs: Any
) -> list[list[np.ndarray]]:
    """The outputs of a function for each of several trees of parameters; it is traced once."""
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(apply_fn)(several[0], inputs)
    return [evaluate(closed, [*jax.tree.leaves(params), inputs]) for params in several]


def _widened(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _run(jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    values = dict(zip(jaxpr.constvars, map(_widened, constants), strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        if isinstance(variable, core.Literal):
            return _widened(variable.val)
        return values[variable]

    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        results = _equation(equation, operands)
        for variable, result in zip(equation.outvars, results, strict=True):
            expected = tuple(getattr(variable.aval, "shape", ()))
            assert np.shape(result) == expected, (equation.primitive, np.shape(result), expected)
            values[variable] = result
    return [read(variable) for variable in jaxpr.outvars]


def _equation(equation: Any, operands: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in SIMPLE:
        return [SIMPLE[name](*operands)]
    if name in RULES:
        results = RULES[name](params, *operands)
        return results if isinstance(results, list) else [results]
    with jax.enable_x64(True):
        results = equation.primitive.bind(*operands, **params)
    return [np.asarray(r) for r in (results if equation.primitive.multiple_results else [results])]


def _call(params: dict, *operands: Any) -> list[Any]:
    inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
    if isinstance(inner, core.ClosedJaxpr):
        return _run(inner.jaxpr, inner.consts, operands)
    return _run(inner, (), operands)


def _cond(params: dict, index: Any, *operands: Any) -> list[Any]:
    branches = params["branches"]
    branch = branches[int(np.clip(int(index), 0, len(branches) - 1))]
    return _run(branch.jaxpr, branch.consts, operands)


def _while(params: dict, *operands: Any) -> list[Any]:
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]
    ends = np.cumsum([params["cond_nconsts"], params["body_nconsts"]])
    for_condition, for_body = operands[: ends[0]], operands[ends[0] : ends[1]]
    carry = list(operands[ends[1] :])
    while True:
        [goes_on] = _run(condition.jaxpr, condition.consts, [*for_condition, *carry])
        if not np.any(goes_on):
            return carry
        after = _run(body.jaxpr, body.consts, [*for_body, *carry])
        # Under vmap every example has a condition of its own; those that are done stay.
        carry = [_where(goes_on, *pair) for pair in zip(after, carry, strict=True)]


def _where(goes_on: Any, new: Any, old: Any) -> Any:
    missing = np.ndim(new) - np.ndim(goes_on)
    return np.where(np.reshape(goes_on, np.shape(goes_on) + (1,) * missing), new, old)


def _scan(params: dict, *operands: Any) -> list[Any]:
    body, num_fixed, num_carry = params["jaxpr"], params["num_consts"], params["num_carry"]
    fixed, carry = operands[:num_fixed], list(operands[num_fixed : num_fixed + num_carry])
    scanned = operands[num_fixed + num_carry :]
    steps = range(params["length"])
    collected = []
    for step in reversed(steps) if params["reverse"] else steps:
        results = _run(body.jaxpr, body.consts, [*fixed, *carry, *(xs[step] for xs in scanned)])
        carry, rest = results[:num_carry], results[num_carry:]
        collected.append(rest)
    if params["reverse"]:
        collected.reverse()
    return [*carry, *(np.stack(column) for column in zip(*collected, strict=True))]


def _close(a: Any, b: Any) -> Any:
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        return np.abs(a - b) < STEADY
    return np.asarray(a) == np.asarray(b)


def _rounded(array: np.ndarray) -> np.ndarray:
    return np.round(array, 9) if np.issubdtype(array.dtype, np.floating) else array


def _divide(a: Any, b: Any) -> Any:
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        return a / b
    return np.trunc(a / b).astype(np.asarray(a).dtype)


def _select(which: Any, *cases: Any) -> Any:
    return np.choose(np.asarray(which).astype(np.int64), cases)


def _convert(params: dict, operand: Any) -> Any:
    dtype = np.dtype(params["new_dtype"])
    wide = np.float64 if np.issubdtype(dtype, np.floating) else dtype
    if np.issubdtype(dtype, np.integer) and np.issubdtype(np.asarray(operand).dtype, np.floating):
        operand = np.trunc(operand + STEADY * np.sign(operand))
    return np.asarray(operand).astype(wide)


def _dot_general(params: dict, left: Any, right: Any) -> Any:
    (contract_l, contract_r), (batch_l, batch_r) = params["dimension_numbers"]
    rows = [list(range(left.ndim)), list(range(left.ndim, left.ndim + right.ndim))]
    for a, b in zip((*contract_l, *batch_l), (*contract_r, *batch_r), strict=True):
        rows[1][b] = rows[0][a]
    shared = {rows[0][a] for a in (*contract_l, *batch_l)}
    out = [rows[0][a] for a in batch_l]
    out += [label for row in rows for label in row if label not in shared]
    return np.einsum(left, rows[0], right, rows[1], out)


def _broadcast_in_dim(params: dict, operand: Any) -> Any:
    shape = [1] * len(params["shape"])
    for axis, target in enumerate(params["broadcast_dimensions"]):
        shape[target] = operand.shape[axis]
    return np.broadcast_to(np.reshape(operand, shape), params["shape"])


def _pad(params: dict, operand: Any, value: Any) -> Any:
    for axis, (low, high, interior) in enumerate(params["padding_config"]):
        operand = np.moveaxis(operand, axis, 0)
        size = operand.shape[0]
        spread = np.full((size + max(size - 1, 0) * interior, *operand.shape[1:]), value)
        spread = spread.astype(operand.dtype)
        spread[:: interior + 1] = operand
        ends = [(max(low, 0), max(high, 0))] + [(0, 0)] * (operand.ndim - 1)
        spread = np.pad(spread, ends, constant_values=value)
        spread = spread[max(-low, 0) : spread.shape[0] - max(-high, 0)]
        operand = np.moveaxis(spread, 0, axis)
    return operand


def _convolution(params: dict, images: Any, kernel: Any) -> Any:
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    images, kernel = images.transpose(numbers.lhs_spec), kernel.transpose(numbers.rhs_spec)
    spatial = range(2, images.ndim)
    holes = [(0, 0, 0)] * 2
    window = [
        (*ends, dilation - 1)
        for ends, dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    images = _pad({"padding_config": [*holes, *window]}, images, 0.0)
    reach = [
        (size - 1) * dilation + 1
        for size, dilation in zip(kernel.shape[2:], params["rhs_dilation"], strict=True)
    ]
    out_shape = [
        (images.shape[axis] - length) // stride + 1
        for axis, length, stride in zip(spatial, reach, params["window_strides"], strict=True)
    ]
    batch, channels = images.shape[:2]
    grouped = images.reshape(batch, groups, channels // groups, *images.shape[2:])
    weights = kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])
    out = np.zeros((batch, groups, weights.shape[1], *out_shape))
    for offset in itertools.product(*map(range, kernel.shape[2:])):
        window = tuple(
            slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
            for at, dilation, size, stride in zip(
                offset, params["rhs_dilation"], out_shape, params["window_strides"], strict=True
            )
        )
        patch = grouped[(slice(None), slice(None), slice(None), *window)]
        at = weights[(slice(None), slice(None), slice(None), *offset)]
        out += np.einsum("bgi...,goi->bgo...", patch, at)
    out = out.reshape(batch, kernel.shape[0], *out_shape)
    return out.transpose(np.argsort(numbers.out_spec))


def _pool(start: float, combine: Callable) -> Callable:
    def pool(params: dict, operand: Any) -> Any:
        assert set(params["base_dilation"]) == set(params["window_dilation"]) == {1}
        ends = [(low, high, 0) for low, high in params["padding"]]
        operand = _pad({"padding_config": ends}, operand, start)
        sizes, strides = params["window_dimensions"], params["window_strides"]
        shape = [
            (whole - size) // stride + 1
            for whole, size, stride in zip(operand.shape, sizes, strides, strict=True)
        ]
        out = np.full(shape, start)
        for offset in itertools.product(*map(range, sizes)):
            window = tuple(
                slice(at, at + (size - 1) * stride + 1, stride)
                for at, size, stride in zip(offset, shape, strides, strict=True)
            )
            out = combine(out, operand[window])
        return out

    return pool


def _starts(params: dict, indices: np.ndarray, batch: tuple, shape: tuple, window: list) -> Any:
    """Where the window of one look-up starts; None if that is outside and the mode says to drop."""
    numbers = params["dimension_numbers"]
    gathers = hasattr(numbers, "start_index_map")
    index_map = numbers.start_index_map if gathers else numbers.scatter_dims_to_operand_dims
    along = (
        numbers.start_indices_batching_dims if gathers else numbers.scatter_indices_batching_dims
    )
    start = [0] * len(shape)
    for k, axis in enumerate(index_map):
        start[axis] = int(indices[(*batch, k)])
    for axis, at in zip(numbers.operand_batching_dims, along, strict=True):
        start[axis] = batch[at]
    highest = [size - taken for size, taken in zip(shape, window, strict=True)]
    if any(not 0 <= at <= high for at, high in zip(start, highest, strict=True)):
        if "FILL_OR_DROP" in str(params["mode"]):
            return None
        start = [int(np.clip(at, 0, high)) for at, high in zip(start, highest, strict=True)]
    return start


def _gather(params: dict, table: Any, indices: Any) -> Any:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [size for axis, size in enumerate(sizes) if axis not in gone]
    batch_shape = indices.shape[:-1]
    rows = np.full((*batch_shape, *kept), np.nan if table.dtype.kind == "f" else 0)
    for batch in np.ndindex(*batch_shape):
        start = _starts(params, indices, batch, table.shape, list(sizes))
        if start is not None:
            window = tuple(slice(a, a + size) for a, size in zip(start, sizes, strict=True))
            rows[batch] = table[window].reshape(kept)
    offsets = list(numbers.offset_dims)
    return np.moveaxis(rows, range(len(batch_shape), rows.ndim), offsets).astype(table.dtype)


def _scatter(combine: Callable) -> Callable:
    def scatter(params: dict, table: Any, indices: Any, updates: Any) -> Any:
        numbers, table = params["dimension_numbers"], np.array(table)
        gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
        windows = list(numbers.update_window_dims)
        batch_axes = [axis for axis in range(updates.ndim) if axis not in windows]
        updates = np.transpose(updates, [*batch_axes, *windows])
        sizes = iter(updates.shape[len(batch_axes) :])
        window = [1 if axis in gone else next(sizes) for axis in range(table.ndim)]
        for batch in np.ndindex(*updates.shape[: len(batch_axes)]):
            start = _starts(params, indices, batch, table.shape, window)
            if start is not None:
                at = tuple(slice(a, a + size) for a, size in zip(start, window, strict=True))
                table[at] = combine(table[at], updates[batch].reshape(window))
        return table

    return scatter


def _clamped(starts: Sequence[Any], whole: Sequence[int], part: Sequence[int]) -> tuple:
    clipped = [
        int(np.clip(int(start), 0, size - taken))
        for start, size, taken in zip(starts, whole, part, strict=True)
    ]
    return tuple(slice(start, start + taken) for start, taken in zip(clipped, part, strict=True))


def _dynamic_slice(params: dict, operand: Any, *starts: Any) -> Any:
    return operand[_clamped(starts, operand.shape, params["slice_sizes"])]


def _dynamic_update_slice(params: dict, operand: Any, update: Any, *starts: Any) -> Any:
    result = np.array(operand)
    result[_clamped(starts, operand.shape, update.shape)] = update
    return result


def _iota(params: dict) -> Any:
    shape, axis = params["shape"], params["dimension"]
    counted = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return _widened(np.broadcast_to(counted, shape).astype(params["dtype"]))


def _slice(params: dict, operand: Any) -> Any:
    starts, ends = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * operand.ndim
    return operand[tuple(map(slice, starts, ends, strides))]


def _split(params: dict, operand: Any) -> list[Any]:
    return np.split(operand, np.cumsum(params["sizes"])[:-1], params["axis"])


def _sort(params: dict, *operands: Any) -> list[Any]:
    axis, num_keys = params["dimension"], params["num_keys"]
    order = np.argsort(_rounded(operands[num_keys - 1]), axis, kind="stable")
    for key in reversed(operands[: num_keys - 1]):
        again = np.argsort(np.take_along_axis(_rounded(key), order, axis), axis, kind="stable")
        order = np.take_along_axis(order, again, axis)
    return [np.take_along_axis(operand, order, axis) for operand in operands]


def _top_k(params: dict, operand: Any) -> list[Any]:
    axis = params.get("axis", operand.ndim - 1) % operand.ndim
    order = np.argsort(-_rounded(operand), axis, kind="stable").take(range(params["k"]), axis)
    return [np.take_along_axis(operand, order, axis), order.astype(np.int32)]


def _arg(choose: Callable) -> Callable:
    return lambda p, x: choose(_rounded(x), axis=p["axes"][0]).astype(p["index_dtype"])


def _cumulative(accumulate: Callable) -> Callable:
    def run(params: dict, operand: Any) -> Any:
        axis = params["axis"]
        if params["reverse"]:
            return np.flip(accumulate(np.flip(operand, axis), axis=axis), axis)
        return accumulate(operand, axis=axis)

    return run


def _reduction(reduce: Callable) -> Callable:
    return lambda params, operand: reduce(operand, axis=tuple(params["axes"]))


def _stack(params: dict, *operands: Any) -> Any:
    return np.stack(operands, params["axis"])


def _unstack(params: dict, operand: Any) -> list[Any]:
    return list(np.moveaxis(operand, params["axis"], 0))


SIMPLE: dict[str, Callable] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "copy": lambda x: x,
    "copy_p": lambda x: x,
    "cos": np.cos,
    "div": _divide,
    "eq": lambda a, b: (a == b) | _close(a, b),
    "erf": scipy.special.erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": lambda x: np.floor(x + STEADY),
    "ge": lambda a, b: (a >= b) | _close(a, b),
    "gt": lambda a, b: (a > b) & ~_close(a, b),
    "is_finite": np.isfinite,
    "le": lambda a, b: (a <= b) | _close(a, b),
    "log": np.log,
    "log1p": np.log1p,
    "logistic": scipy.special.expit,
    "lt": lambda a, b: (a < b) & ~_close(a, b),
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": lambda a, b: ~((a == b) | _close(a, b)),
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "pow": np.power,
    "rem": np.fmod,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": _select,
    "sign": lambda x: np.sign(_rounded(np.asarray(x))),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "stop_gradient": lambda x: x,
    "sub": np.subtract,
    "tanh": np.tanh,
    "xor": np.bitwise_xor,
}

CALLS = """
    call checkpoint closed_call core_call custom_jvp_call custom_vjp_call jit pjit remat remat2
""".split()

RULES: dict[str, Callable] = {
    **dict.fromkeys(CALLS, _call),
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda p, *xs: np.concatenate(xs, p["dimension"]),
    "cond": _cond,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "cummax": _cumulative(np.maximum.accumulate),
    "cummin": _cumulative(np.minimum.accumulate),
    "cumprod": _cumulative(np.cumprod),
    "cumsum": _cumulative(np.cumsum),
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "integer_pow": lambda p, x: x ** float(p["y"]),
    "iota": _iota,
    "optimization_barrier": lambda p, *xs: list(xs),
    "pad": _pad,
    "reduce_and": _reduction(np.all),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_or": _reduction(np.any),
    "reduce_prod": _reduction(np.prod),
    "reduce_sum": _reduction(np.sum),
    "reduce_window_max": _pool(-math.inf, np.maximum),
    "reduce_window_min": _pool(math.inf, np.minimum),
    "reduce_window_sum": _pool(0.0, np.add),
    "reshape": lambda p, x: np.reshape(
        x if p["dimensions"] is None else np.transpose(x, p["dimensions"]), p["new_sizes"]
    ),
    "rev": lambda p, x: np.flip(x, tuple(p["dimensions"])),
    "scan": _scan,
    "scatter": _scatter(lambda old, new: new),
    "scatter-add": _scatter(np.add),
    "scatter-mul": _scatter(np.multiply),
    "scatter_add": _scatter(np.add),
    "scatter_mul": _scatter(np.multiply),
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": lambda p, x: np.squeeze(x, tuple(p["dimensions"])),
    "stack": _stack,
    "tile": lambda p, x: np.tile(x, p["reps"]),
    "top_k": _top_k,
    "transpose": lambda p, x: np.transpose(x, p["permutation"]),
    "unstack": _unstack,
    "while": _while,
}
