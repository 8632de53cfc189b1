"""Origins of the operands of a contraction: inputs, or parameters only.

An operand that depends on no input is a kernel, possibly transposed, cast or masked; it names the
contraction. An operand that depends on an input is an activation. Origins are compared by identity,
so a value that three layers read is one value.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from jax.extend import core

from rebasin_lab.symmetry.inference.loops import CALLS

Path = tuple[int, ...]  # identities of equations, from the outermost call to one equation


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """The origin of one value; two variables of one value share the object.

    Attributes:
        from_input: whether it depends on an input of the function.
        leaf: the path of the largest parameter it depends on, if it depends on no input.
        size: its number of entries.
        layers: the contractions it depends on through no other contraction, inputs and carries of
            scans among them.
    """

    from_input: bool
    leaf: str | None = None
    size: int = 0
    layers: frozenset[Path] = frozenset()


class Step(NamedTuple):
    """An equation of one of the primitives, and the origins of its operands and results."""

    equation: Any
    operands: list[Origin]
    results: list[Origin]


Origins = dict[Path, Step]


def find_origins(
    closed: core.ClosedJaxpr,
    leaves: Sequence[str],
    contractions: Collection[str],
    others: Collection[str] = (),
) -> Origins:
    """Origins of operands and results for every equation of some primitives.

    Equations inside branches and while loops are left out.

    Args:
        closed: a function of parameters and inputs.
        leaves: the paths of the parameters, which are the first arguments.
        contractions: names of the primitives that begin a layer.
        others: names of other primitives to look for.
    """
    arguments = [
        Origin(
            number >= len(leaves), path, variable.aval.size, _token(number >= len(leaves), number)
        )
        for number, (variable, path) in enumerate(
            zip(closed.jaxpr.invars, [*leaves, *[None] * len(closed.jaxpr.invars)], strict=False)
        )
    ]
    walk = _Walk(contractions, others)
    walk.run(closed.jaxpr, arguments, ())
    return walk.found


class _Walk:
    def __init__(self, contractions: Collection[str], others: Collection[str]):
        self.contractions, self.others = frozenset(contractions), frozenset(others)
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
        if name in self.contractions:
            results = [dataclasses.replace(o, layers=_token(o.from_input, *path)) for o in results]
        if name in self.contractions | self.others:
            self.found[path] = Step(equation, operands, results)
        return results

    def _scan(self, equation: Any, operands: list[Origin], path: Path) -> list[Origin]:
        params = equation.params
        body, num_fixed = open_jaxpr(params["jaxpr"]), params["num_consts"]
        num_carry = params["num_carry"]
        carried = operands[num_fixed : num_fixed + num_carry]
        # A slice is another value than the stack, and the carry is a new value in each step.
        slices = [dataclasses.replace(o) for o in operands[num_fixed + num_carry :]]
        while True:
            carried = [
                dataclasses.replace(origin, layers=_token(origin.from_input, *path, number))
                for number, origin in enumerate(carried)
            ]
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
    """The jaxpr without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _token(from_input: bool, *path: int) -> frozenset[Path]:
    return frozenset([path]) if from_input else frozenset()


def _made_of(operands: Sequence[Origin], variable: Any) -> Origin:
    size = getattr(variable.aval, "size", 0)
    if any(origin.from_input for origin in operands):
        layers = frozenset().union(*(origin.layers for origin in operands))
        return Origin(True, size=size, layers=layers)
    named = [origin for origin in operands if origin.leaf is not None]
    largest = max(named, key=lambda origin: origin.size, default=Origin(False))
    return Origin(False, largest.leaf, size)
