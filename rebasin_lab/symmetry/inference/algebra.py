"""Rules for transforms and factorisations, which pin all but batch axes."""

from collections.abc import Hashable
from typing import Any

from rebasin_lab.symmetry.inference import primitives
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Value, shapes_of

# Primitive -> the number of last axes of its first operand that it works on.
FACTORISATIONS = {
    "cholesky": 2,
    "cholesky_update": 2,
    "eig": 2,
    "eigh": 2,
    "geqp3": 2,
    "geqrf": 2,
    "hessenberg": 2,
    "householder_product": 2,
    "lu": 2,
    "lu_pivots_to_permutation": 1,
    "ormqr": 2,
    "qr": 2,
    "schur": 2,
    "svd": 2,
    "symmetric_product": 2,
    "tridiagonal": 2,
    "tridiagonal_solve": 1,
}


def factorisation(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Keep batch axes; pin rows and columns."""
    name, shapes = equation.primitive.name, shapes_of(equation.invars)
    return _batched(reading, equation, values, len(shapes[0]) - FACTORISATIONS[name])


def svd(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """End rows and columns if only singular values are computed; else as `factorisation`."""
    if equation.params["compute_uv"]:
        return factorisation(reading, equation, values)
    [shape], batch = shapes_of(equation.outvars), tuple(range(len(equation.invars[0].aval.shape)))
    batch, matrix = batch[:-2], batch[-2:]
    pins = {"sorted": "svd sorts the singular values"}
    return reading.indexed(values, [(*batch, *matrix)], [(*batch, "sorted")], [shape], pins)


def fft(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin the axes that are transformed; keep all before them."""
    num_axes = len(equation.invars[0].aval.shape)
    return _batched(reading, equation, values, num_axes - len(equation.params["fft_lengths"]))


def triangular_solve(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Pin the equations; keep the axis of right-hand sides."""
    shape = equation.invars[1].aval.shape
    batch = tuple(range(len(shape) - 2))
    right = ("from", "side") if equation.params["left_side"] else ("side", "from")
    out = tuple("to" if label == "from" else label for label in right)
    pins = dict.fromkeys(("row", "column", "from", "to"), _why(equation))
    rows = [(*batch, "row", "column"), (*batch, *right)]
    return reading.indexed(values, rows, [(*batch, *out)], [shape], pins)


def linear_solve(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read the `solve` of the equation, from its constants and the right-hand side."""
    lengths, solve = equation.params["const_lengths"], equation.params["jaxprs"].solve
    start = lengths.matvec + lengths.vecmat
    right = values[sum(lengths) :]
    return reading.run(solve, [*values[start : start + lengths.solve], *right])


def ragged_dot_general(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
    """Read like `dot_general`; pin the ragged axis and the axis of groups."""
    numbers = equation.params["ragged_dot_dimension_numbers"]
    if len(equation.invars) != 3 or len(equation.invars[2].aval.shape) != 1:
        return primitives.unknown(reading, equation, values)
    rows, out = primitives.dot_labels(equation, numbers.dot_dimension_numbers)
    ragged = [rows[0][axis] for axis in numbers.lhs_ragged_dimensions]
    groups = [rows[1][axis] for axis in numbers.rhs_group_dimensions]
    out = tuple(label for label in out if label not in groups)
    if ragged[0][0] == "contract":
        out = ("group", *out)  # one product for each group
    why = "ragged_dot cuts it into groups of computed sizes"
    pins = dict.fromkeys((*ragged, *groups, "group", "sizes"), why)
    pins = {label: why for label in pins if label in (*rows[0], *rows[1], *out, "sizes")}
    return reading.indexed(values, [*rows, ("sizes",)], [out], shapes_of(equation.outvars), pins)


def _batched(
    reading: Interpreter, equation: Any, values: list[Value], num_batch: int
) -> list[Value]:
    """Keep the first axes of all operands and results, and pin the others."""

    def row(where: str, number: int, shape: tuple[int, ...]) -> tuple[Hashable, ...]:
        return tuple(i if i < num_batch else (where, number, i) for i in range(len(shape)))

    shapes = shapes_of(equation.outvars)
    rows = [row("from", k, shape) for k, shape in enumerate(shapes_of(equation.invars))]
    out_rows = [row("to", k, shape) for k, shape in enumerate(shapes)]
    labels = (label for labels in (*rows, *out_rows) for label in labels)
    pins = {label: _why(equation) for label in labels if isinstance(label, tuple)}
    return reading.indexed(values, rows, out_rows, shapes, pins)


def _why(equation: Any) -> str:
    return f"{equation.primitive.name} needs its order"


RULES: dict[str, Rule] = {
    **dict.fromkeys(FACTORISATIONS, factorisation),
    "custom_linear_solve": linear_solve,
    "fft": fft,
    "ragged_dot_general": ragged_dot_general,
    "svd": svd,
    "triangular_solve": triangular_solve,
}
