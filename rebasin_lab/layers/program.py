"""A function of parameters and inputs as one flat list of equations, and the layers among them.

The list is the function's jaxpr with calls inlined. Any of its values can be computed from any
others that it follows from, so that networks go forward layer by layer.
"""

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.layers.layer import Equation, Layer, Leaves, Values
from rebasin_lab.symmetry.activations import replay
from rebasin_lab.symmetry.inference import infer

# Between a parameter and the kernel that a layer reads: all entries stay, perhaps elsewhere.
MOVES = {"reshape", "transpose", "squeeze", "convert_element_type", "broadcast_in_dim"}


class Program:
    """A function as a flat list of equations between numbered values.

    Attributes:
        inputs: numbers of the function's inputs, leaf by leaf.
        outputs: numbers of its results.
        equations: those that the outputs need, in order.
        shapes: number -> shape and type.
        from_input: the values that depend on an input.
        layers: in the order in which they are computed.
        compiled: what was compiled of it, by a name and what it computes.
    """

    def __init__(
        self, apply_fn: Callable, params: PyTree, inputs: tuple, *, through_streams: bool = True
    ):
        """Trace a function, as `infer_permutation_spec` does.

        Args:
            apply_fn: the function.
            params: arrays or shapes.
            inputs: likewise.
            through_streams: whether chains go on through additions of other activations.

        Raises:
            ValueError: if it cannot be traced with these arguments.
        """
        self.compiled: dict[tuple, Callable] = {}
        closed = infer.trace(apply_fn, params, inputs)
        flat = jax.make_jaxpr(functools.partial(replay.evaluate, closed))(*closed.in_avals)
        jaxpr, numbers = flat.jaxpr, itertools.count()
        named: dict[Any, int] = {}
        self.shapes: dict[int, Any] = {}

        def number_of(variable: Any) -> Any:
            if isinstance(variable, core.Literal):
                return _Constant(variable.val)
            if variable not in named:
                named[variable] = next(numbers)
                self.shapes[named[variable]] = variable.aval
            return named[variable]

        paths = list(pytrees.flatten(params))
        self._leaves = {number_of(v): p for v, p in zip(jaxpr.invars, paths, strict=False)}
        self.inputs = [number_of(v) for v in jaxpr.invars[len(paths) :]]
        self._constants = dict(zip(map(number_of, jaxpr.constvars), flat.consts, strict=True))
        every = [
            Equation(
                equation.primitive,
                equation.params,
                tuple(map(number_of, equation.invars)),
                tuple(map(number_of, equation.outvars)),
            )
            for equation in jaxpr.eqns
        ]
        self.outputs = [n for n in map(number_of, jaxpr.outvars) if isinstance(n, int)]
        self._makers = {result: equation for equation in every for result in equation.results}
        needed = self.needed(self.outputs, ())
        self.equations = [equation for equation in every if id(equation) in needed]
        self._find_origins()
        self.layers = self._find_layers(through_streams)

    def needed(self, wanted: Iterable[int], known: Any) -> set[int]:
        """Identities of the equations between known values and wanted ones."""
        needed: set[int] = set()
        pending = [value for value in wanted if value not in known]
        while pending:
            equation = self._makers.get(pending.pop())
            if equation is not None and id(equation) not in needed:
                needed.add(id(equation))
                pending += [value for value in equation.reads if value not in known]
        return needed

    def evaluate(self, params: Leaves, known: Values, wanted: Sequence[int]) -> list[Any]:
        """Wanted values, from parameters and known values; best called inside a `jax.jit`."""
        values = self._constants | {n: params[path] for n, path in self._leaves.items()}
        values |= known
        needed = self.needed(wanted, values)
        for equation in self.equations:
            if id(equation) in needed:
                operands = [
                    values[operand] if isinstance(operand, int) else operand.value
                    for operand in equation.operands
                ]
                results = equation.primitive.bind(*operands, **equation.params)
                if not equation.primitive.multiple_results:
                    results = [results]
                values |= zip(equation.results, results, strict=True)
        return [values[value] for value in wanted]

    def frontier(self, number: int | None) -> list[int]:
        """The values made before an equation that it or later ones read, inputs among them.

        Args:
            number: of the equation; None for the end, where nothing is read any more.
        """
        if number is None:
            return []
        made = {value for e in self.equations[:number] for value in e.results} | set(self.inputs)
        read = {value: None for e in self.equations[number:] for value in e.reads}
        return [value for value in read if value in made and value in self.from_input]

    def leaf_behind(self, value: int) -> tuple[str, list[Equation]] | None:
        """The parameter whose entries a value holds, and the moves between; None for others."""
        moves: list[Equation] = []
        while value in self._makers:
            maker = self._makers[value]
            before = maker.operands[0]
            if maker.name not in MOVES or self.shapes[before].size != self.shapes[value].size:
                return None
            moves.insert(0, maker)
            value = before
        return (self._leaves[value], moves) if value in self._leaves else None

    def _find_origins(self) -> None:
        """Find what depends on inputs, and which equations read each value and each parameter."""
        self.from_input = set(self.inputs)
        made_of: dict[int, set[str]] = {value: {path} for value, path in self._leaves.items()}
        self.readers: dict[int, list[int | None]] = {}  # None for the function's outputs
        # Equations that read a parameter, or what is made of parameters alone, beside an input.
        self.leaf_readers: dict[str, set[int]] = {path: set() for path in self._leaves.values()}
        for number, equation in enumerate(self.equations):
            of = set().union(*(made_of.get(value, ()) for value in equation.reads))
            for value in equation.reads:
                self.readers.setdefault(value, []).append(number)
            if self.from_input.isdisjoint(equation.reads):
                made_of |= dict.fromkeys(equation.results, of)
            else:
                self.from_input |= set(equation.results)
                for path in of:
                    self.leaf_readers[path].add(number)
        for value in self.outputs:
            self.readers.setdefault(value, []).append(None)

    def _find_layers(self, through_streams: bool) -> list[Layer]:
        layers: list[Layer] = []
        latest: dict[int, int] = {}  # value -> the last layer it depends on
        for number, equation in enumerate(self.equations):
            last = max((latest.get(value, -1) for value in equation.reads), default=-1)
            kernel = self._kernel_of(number, equation)
            if kernel is not None:
                last = len(layers)
                layers.append(Layer(self, number, *kernel))
            latest |= dict.fromkeys(equation.results, last)
        for number, layer in enumerate(layers):
            layer.follow(lambda value, own=number: through_streams and latest.get(value, -1) < own)
        return layers

    def _kernel_of(self, number: int, equation: Equation) -> tuple[str, list, int] | None:
        """A layer's kernel: parameter, moves, and which operand it is; None for no layer."""
        if equation.name == "dot_general":
            is_plain = not any(map(len, equation.params["dimension_numbers"][1]))
        elif equation.name == "conv_general_dilated":
            params = equation.params
            is_plain = set(params["lhs_dilation"]) <= {1} and params["batch_group_count"] == 1
        else:
            return None
        sides = [side for side in (0, 1) if equation.operands[side] not in self.from_input]
        if not is_plain or len(sides) != 1 or not isinstance(equation.operands[sides[0]], int):
            return None
        found = self.leaf_behind(equation.operands[sides[0]])
        if found is None or self.leaf_readers[found[0]] != {number}:
            return None
        return (*found, sides[0])


def program_of(
    apply_fn: Callable, params: PyTree, inputs: tuple, *, through_streams: bool = True
) -> Program:
    """The program of a function: one object for all networks of these shapes, compiled once.

    Args:
        apply_fn: the function; one that cannot be hashed is traced anew.
        params: arrays or shapes.
        inputs: likewise.
        through_streams: whether chains go on through additions of other activations.

    Raises:
        ValueError: as `Program`.
    """
    if not isinstance(apply_fn, Hashable):
        return Program(apply_fn, params, inputs, through_streams=through_streams)
    return _program_of(apply_fn, *pytrees.shapes_of((params, inputs)), through_streams)


@functools.lru_cache(maxsize=16)
def _program_of(
    apply_fn: Callable, structure: Any, shapes: tuple, through_streams: bool
) -> Program:
    params, inputs = pytrees.with_shapes(structure, shapes)
    return Program(apply_fn, params, inputs, through_streams=through_streams)


class _Constant:
    """A constant among the operands of an equation."""

    def __init__(self, value: Any):
        self.value = value
