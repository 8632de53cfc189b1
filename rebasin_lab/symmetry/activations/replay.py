"""Evaluate a function equation by equation, with taps on some of its equations.

Calls are evaluated inline. A scan with a tap in its body also returns the tapped values, stacked
along a new first axis. All other equations are bound unchanged.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from rebasin_lab.symmetry.activations.origins import Path
from rebasin_lab.symmetry.inference.loops import CALLS


class Tap(NamedTuple):
    """One operand or result of an equation, or one entry of it along an axis.

    Attributes:
        path: the equation.
        is_result: whether a result is meant, or an operand.
        number: which of them.
        entry: (axis, index) of the part to take, with its axis kept; None for the whole.
    """

    path: Path
    is_result: bool
    number: int
    entry: tuple[int, int] | None = None


def tapped(
    closed: core.ClosedJaxpr, arguments: Sequence[Any], taps: Mapping[Hashable, Tap]
) -> dict[Hashable, Any]:
    """The tapped values of one evaluation; pure, to be jitted by the caller."""
    replay = _Replay(taps)
    _, seen = replay.run(closed.jaxpr, closed.consts, arguments, ())
    return seen


def evaluate(closed: core.ClosedJaxpr, *arguments: Any) -> list[Any]:
    """The results of a function, its calls evaluated inline; traced, it is one flat jaxpr."""
    results, _ = _Replay({}).run(closed.jaxpr, closed.consts, arguments, ())
    return results


class _Replay:
    def __init__(self, taps: Mapping[Hashable, Tap]):
        self.taps: dict[Path, dict[Hashable, Tap]] = {}
        for key, tap in taps.items():
            self.taps.setdefault(tap.path, {})[key] = tap
        # Paths of equations with a tapped one inside.
        self.around = {path[:end] for path in self.taps for end in range(len(path))}

    def run(
        self, jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], path: Path
    ) -> tuple[list[Any], dict[Hashable, Any]]:
        """The results of a jaxpr, and the tapped values."""
        values: dict[Any, Any] = {}
        values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        seen: dict[Hashable, Any] = {}

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, core.Literal) else values[variable]

        for equation in jaxpr.eqns:
            operands, here = [read(variable) for variable in equation.invars], (*path, id(equation))
            results, inside = self._equation(equation, operands, here)
            values.update(zip(equation.outvars, results, strict=True))
            seen |= inside
            for key, tap in self.taps.get(here, {}).items():
                seen[key] = _taken((results if tap.is_result else operands)[tap.number], tap.entry)
        return [read(variable) for variable in jaxpr.outvars], seen

    def _equation(
        self, equation: Any, operands: list[Any], path: Path
    ) -> tuple[list[Any], dict[Hashable, Any]]:
        name = equation.primitive.name
        if name in CALLS:
            jaxpr = equation.params[CALLS[name]]
            if isinstance(jaxpr, core.ClosedJaxpr):
                return self.run(jaxpr.jaxpr, jaxpr.consts, operands, path)
            return self.run(jaxpr, (), operands, path)
        if name == "scan" and path in self.around:
            return self._scan(equation.params, operands, path)
        results = equation.primitive.bind(*operands, **equation.params)
        return (list(results) if equation.primitive.multiple_results else [results]), {}

    def _scan(
        self, params: dict[str, Any], operands: list[Any], path: Path
    ) -> tuple[list[Any], dict[Hashable, Any]]:
        num_fixed, num_carry = params["num_consts"], params["num_carry"]
        fixed, carry = operands[:num_fixed], operands[num_fixed : num_fixed + num_carry]
        body = params["jaxpr"]

        def step(carry: list[Any], slices: list[Any]) -> tuple[list[Any], tuple]:
            arguments = [*fixed, *carry, *slices]
            results, seen = self.run(body.jaxpr, body.consts, arguments, path)
            return results[:num_carry], (results[num_carry:], seen)

        carry, (collected, seen) = jax.lax.scan(
            step,
            list(carry),
            list(operands[num_fixed + num_carry :]),
            length=params["length"],
            reverse=params["reverse"],
        )
        return [*carry, *collected], seen


def _taken(value: Any, entry: tuple[int, int] | None) -> Any:
    if entry is None:
        return value
    axis, index = entry
    return jax.lax.slice_in_dim(value, index, index + 1, axis=axis)
