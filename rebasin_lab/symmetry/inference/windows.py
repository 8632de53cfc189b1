"""Rules for sliding windows: convolutions and pooling."""

from collections.abc import Sequence
from typing import Any

from rebasin_lab.symmetry.inference import layout
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Value, shapes_of

SLIDING = "a window slides over its positions"


def convolution(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Treat channels as in a product, one block per group; pin positions with sliding windows.

    A kernel of size one without stride is a product at every position.
    """
    params = equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    num_batch = params["batch_group_count"]
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
        strides = (params["window_strides"][i], params["lhs_dilation"][i])
        still = _is_still(kernel_shape[axes[1]], *strides, params["padding"][i])
        image_row[axes[0]] = f"position {i}" if still else f"from {i}"
        kernel_row[axes[1]] = f"offset {i}"
        out_row[axes[2]] = f"position {i}" if still else f"to {i}"
        if not still:
            pins |= dict.fromkeys((f"from {i}", f"offset {i}", f"to {i}"), SLIDING)
    out_full = out_shape
    if num_batch > 1:  # a gradient of grouped channels: batch groups give blocks of channels
        assert groups == 1, groups
    if max(groups, num_batch) > 1:
        key, grouped = id(equation), "in" if groups > 1 else "batch"
        groups = max(groups, num_batch)
        images, image_row = _grouped(reading, images, image_row, grouped, groups, (key, "images"))
        kernel, kernel_row = _grouped(reading, kernel, kernel_row, "out", groups, (key, "kernel"))
        at = out_row.index("out")
        out_row = [*out_row[:at], "group", *out_row[at:]]
        out_full = (*out_shape[:at], groups, out_shape[at] // groups, *out_shape[at + 1 :])
    [result] = reading.indexed(
        [images, kernel], [tuple(image_row), tuple(kernel_row)], [tuple(out_row)], [out_full], pins
    )
    return [layout.reshape(reading, result, out_shape, (id(equation), "result"))]


def pooling(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Keep axes with a window of one position, and pin the others."""
    params, shape = equation.params, shapes_of(equation.outvars)[0]
    row, out_row, pins = [], [], {}
    for axis in range(len(shape)):
        strides = (params["window_strides"][axis], params["base_dilation"][axis])
        still = _is_still(params["window_dimensions"][axis], *strides, params["padding"][axis])
        row.append(axis if still else ("from", axis))
        out_row.append(axis if still else ("to", axis))
        if not still:
            pins |= {("from", axis): SLIDING, ("to", axis): SLIDING}
    pooled, num_results = values[: len(equation.outvars)], len(equation.outvars)
    rows, out_rows = [tuple(row)] * num_results, [tuple(out_row)] * num_results
    return reading.indexed(pooled, rows, out_rows, [shape] * num_results, pins)


def selected(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read gradients of pooling, in both directions, like `pooling`."""
    params, shapes = equation.params, shapes_of(equation.invars)
    [out_shape] = shapes_of(equation.outvars)
    num_axes = len(out_shape)
    moving = [
        axis
        for axis in range(num_axes)
        if not _is_still(
            params["window_dimensions"][axis],
            params["window_strides"][axis],
            params.get("base_dilation", (1,) * num_axes)[axis],
            params["padding"][axis],
        )
    ]
    rows = [
        tuple((axis, shape[axis]) if axis in moving else axis for axis in range(len(shape)))
        for shape in (*shapes, out_shape)
    ]
    pins = {label: SLIDING for row in rows for label in row if isinstance(label, tuple)}
    return reading.indexed(values, rows[:-1], [rows[-1]], [out_shape], pins)


def _is_still(size: int, stride: int, dilation: int, padding: Sequence[int]) -> bool:
    """True if a window covers one position and visits all, so that nothing slides."""
    return size == stride == dilation == 1 and not any(padding)


def _grouped(
    reading: Interpreter, value: Value, row: list[str], label: str, groups: int, key: Any
) -> tuple[Value, list[str]]:
    """The value with channels reshaped to [group, channel of the group]."""
    at = row.index(label)
    shape = reading.shape(value)
    shape = (*shape[:at], groups, shape[at] // groups, *shape[at + 1 :])
    return layout.reshape(reading, value, shape, key), [*row[:at], "group", *row[at:]]


RULES: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "reduce_window": pooling,
    "reduce_window_max": pooling,
    "reduce_window_min": pooling,
    "reduce_window_sum": pooling,
    "select_and_gather_add": selected,
    "select_and_scatter_add": selected,
}
