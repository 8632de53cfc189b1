"""Origins of the operands of a contraction: an input, or parameters alone.

An operand that no input has a part in is a kernel, however it was transposed, cast or masked on the
way; it names the contraction. What an input has a part in is an activation. Values are followed by
identity, so a value that three layers read is known to be one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend import core

from rebasin_lab.symmetry.inference.loops import CALLS

Path = tuple[int, ...]  # identities of equations, from the outermost call to one equation


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """The origin of one value; two variables of one value share the object.

    Attributes:
        from_input: whether an input of the function has a part in it.
        leaf: the path of the largest parameter it was made of, if it was made of parameters alone.
        size: its number of entries.
    """

    from_input: bool
    leaf: str | None = None
    size: int = 0


class Contraction(NamedTuple):
    """An equation that adds units up, and the origins of its operands and of its result."""

    equation: Any
    operands: list[Origin]
    results: list[Origin]


Origins = dict[Path, Contraction]


def find_origins(
    closed: core.ClosedJaxpr, leaves: Sequence[str], primitives: Sequence[str]
) -> Origins:
    """For every equation of some primitives the origins of operands and results.

    Equations inside branches and while loops are left out.

    Args:
        closed: a function of parameters and inputs.
        leaves: the paths of the parameters, which are the first arguments.
        primitives: names of the primitives to look for.
    """
    arguments = [
        Origin(number >= len(leaves), path, variable.aval.size)
        for number, (variable, path) in enumerate(
            zip(closed.jaxpr.invars, [*leaves, *[None] * len(closed.jaxpr.invars)], strict=False)
        )
    ]
    walk = _Walk(primitives)
    walk.run(closed.jaxpr, arguments, ())
    return walk.found


class _Walk:
    def __init__(self, primitives: Sequence[str]):
        self.primitives = frozenset(primitives)
        self.found: Origins = {}

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[Origin], path: Path) -> list[Origin]:
        origins: dict[Any, Origin] = {v: Origin(False) for v in jaxpr.constvars}
        origins.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Origin:
            return Origin(False) if isinstance(variable, core.Literal) else origins[variable]

        for equation in jaxpr.eqns:
            operands = [read(variable) for variable in equation.invars]
            results = self._equation(equation, operands, (*path, id(equation)))
            origins.update(zip(equation.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Origin], path: Path) -> list[Origin]:
        name = equation.primitive.name
        if name in CALLS:
            return self.run(open_jaxpr(equation.params[CALLS[name]]), operands, path)
        if name == "scan":
            return self._scan(equation, operands, path)
        results = [_made_of(operands, variable) for variable in equation.outvars]
        if name in self.primitives:
            self.found[path] = Contraction(equation, operands, results)
        return results

    def _scan(self, equation: Any, operands: list[Origin], path: Path) -> list[Origin]:
        params = equation.params
        body, num_fixed = open_jaxpr(params["jaxpr"]), params["num_consts"]
        num_carry = params["num_carry"]
        carried = operands[num_fixed : num_fixed + num_carry]
        # A slice is another value than the stack, and what is carried another in each step.
        slices = [dataclasses.replace(o) for o in operands[num_fixed + num_carry :]]
        while True:
            carried = [dataclasses.replace(origin) for origin in carried]
            results = self.run(body, [*operands[:num_fixed], *carried, *slices], path)
            late = [
                after.from_input and not before.from_input
                for before, after in zip(carried, results[:num_carry], strict=True)
            ]
            if not any(late):
                return [dataclasses.replace(origin) for origin in results]
            carried = [
                Origin(True) if comes else before
                for before, comes in zip(carried, late, strict=True)
            ]


def open_jaxpr(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> core.Jaxpr:
    """The jaxpr itself, of one that may come with its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _made_of(operands: Sequence[Origin], variable: Any) -> Origin:
    size = getattr(variable.aval, "size", 0)
    if any(origin.from_input for origin in operands):
        return Origin(True, size=size)
    named = [origin for origin in operands if origin.leaf is not None]
    largest = max(named, key=lambda origin: origin.size, default=Origin(False))
    return Origin(False, largest.leaf, size)
