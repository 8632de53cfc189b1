"""The dense and convolution layers of a function, and what is affine after each of them.

A function of parameters and inputs is read as one flat list of equations (its jaxpr, calls
inlined). A layer is a product or a convolution of a value that depends on the inputs with a
parameter. What follows it up to the next nonlinearity is affine in its output: a bias, the
statistics, scale and shift of a normalisation, the addition of a shortcut. The end of that chain is
the layer's *target*: its pre-activation, or the residual stream after it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.symmetry.activations import replay
from rebasin_lab.symmetry.inference import infer

Values = Mapping[int, Any]  # number of a value -> array
Leaves = Mapping[str, Any]  # path of a parameter -> array

# Between a parameter and the kernel that a layer reads: all entries stay, perhaps elsewhere.
MOVES = {"reshape", "transpose", "squeeze", "convert_element_type", "broadcast_in_dim"}
# Affine in one operand, whatever the other is.
ADDS, SCALES = {"add", "add_any", "sub"}, {"mul", "div"}
UNARY = {"neg", "convert_element_type", "copy", "stop_gradient", "optimization_barrier"}


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One step of a function; values are numbered, constants stand as they are.

    Attributes:
        primitive: what it computes.
        params: of the primitive.
        operands: numbers of values, or constants.
        results: numbers of values.
    """

    primitive: Any
    params: Mapping[str, Any]
    operands: tuple[Any, ...]
    results: tuple[int, ...]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.primitive.name

    @functools.cached_property
    def reads(self) -> tuple[int, ...]:
        """The values among the operands."""
        return tuple(operand for operand in self.operands if isinstance(operand, int))


class Program:
    """A function as a flat list of equations between numbered values.

    Attributes:
        inputs: numbers of the function's inputs, leaf by leaf.
        outputs: numbers of its results.
        equations: those that the outputs need, in order.
        shapes: number -> shape and type.
        from_input: the values that depend on an input.
        layers: in the order in which they are computed.
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
        needed = self._needed(self.outputs, ())
        self.equations = [equation for equation in every if id(equation) in needed]
        self._find_origins()
        self.layers = self._find_layers(through_streams)

    def _needed(self, wanted: Iterable[int], known: Any) -> set[int]:
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
        needed = self._needed(wanted, values)
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

    def _find_layers(self, through_streams: bool) -> list["Layer"]:
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


class _Constant:
    """A constant among the operands of an equation."""

    def __init__(self, value: Any):
        self.value = value


class Layer:
    """A product or a convolution with a parameter, and the affine chain after it.

    Attributes:
        program: whose layer it is.
        number: of its equation.
        path: of the kernel among the parameters.
        read: the value it reads.
        written: the value it writes.
        target: the value at the end of the chain.
        leaves: paths of the parameters that this chain alone reads.
    """

    def __init__(
        self, program: Program, number: int, path: str, moves: Sequence[Equation], side: int
    ):
        self.program, self.number, self.path = program, number, path
        self._moves, self._side = moves, side
        self.equation = program.equations[number]
        self.read, [self.written] = self.equation.operands[1 - side], self.equation.results
        self.target, self.leaves = self.written, ()
        self._kernel_shape = program.shapes[self.equation.operands[side]].shape

    def follow(self, is_known: Callable[[int], bool]) -> None:
        """Find the end of the chain.

        Args:
            is_known: whether a value depends on no layer from this one on.
        """
        program, chain = self.program, set()
        while len(readers := program.readers.get(self.target, [None])) == 1 and readers != [None]:
            equation = program.equations[readers[0]]
            others = [operand for operand in equation.operands if operand != self.target]
            adds = [other for other in others if other in program.from_input]
            if equation.name in ADDS:
                is_affine = all(map(is_known, adds))
            elif equation.name in SCALES:
                is_affine = not adds and (
                    equation.name == "mul" or equation.operands[0] == self.target
                )
            else:
                is_affine = equation.name in UNARY
            if not is_affine:
                break
            chain.add(readers[0])
            [self.target] = equation.results
        self.leaves = tuple(
            path for path, readers in program.leaf_readers.items() if readers and readers <= chain
        )

    @functools.cached_property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, or else a product."""
        return self.equation.name == "conv_general_dilated"

    @functools.cached_property
    def num_groups(self) -> int:
        """Groups of a convolution; 1 for a product."""
        return self.equation.params["feature_group_count"] if self.is_convolution else 1

    @functools.cached_property
    def positions(self) -> tuple[int, ...]:
        """Lengths of the spatial axes of a convolution's output; none for a product."""
        if not self.is_convolution:
            return ()
        shape = self.program.shapes[self.written].shape
        return tuple(shape[axis] for axis in self.equation.params["dimension_numbers"].out_spec[2:])

    def kernel_matrix(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel as groups x outputs x inputs, from the parameter."""
        for move in self._moves:
            if move.name == "transpose":
                kernel = kernel.transpose(move.params["permutation"])
            kernel = kernel.reshape(self.program.shapes[move.results[0]].shape)
        if self.is_convolution:
            kernel = kernel.transpose(self.equation.params["dimension_numbers"].rhs_spec)
            return kernel.reshape(self.num_groups, len(kernel) // self.num_groups, -1)
        contracted = self._contracted(self._side)
        free = [axis for axis in range(kernel.ndim) if axis not in contracted]
        size = math.prod(kernel.shape[axis] for axis in contracted)
        return kernel.transpose([*free, *contracted]).reshape(1, -1, size)

    def kernel_of(self, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The parameter of this shape whose `kernel_matrix` this is."""
        order = self.kernel_matrix(np.arange(math.prod(shape)).reshape(shape))
        kernel = np.empty(math.prod(shape), matrix.dtype)
        kernel[order.ravel()] = matrix.ravel()
        return kernel.reshape(shape)

    def target_of(self, params: Leaves, values: Values, fill: float) -> jax.Array:
        """The target if every output of the layer were one number."""
        shape = self.program.shapes[self.written]
        written = jnp.full(shape.shape, fill, shape.dtype)
        [end] = self.program.evaluate(params, {**values, self.written: written}, [self.target])
        return end

    def units(self, value: jax.Array) -> jax.Array:
        """A value shaped like the output, as samples x groups x outputs."""
        if self.is_convolution:
            value = jnp.moveaxis(value, self.equation.params["dimension_numbers"].out_spec[1], -1)
            return value.reshape(-1, self.num_groups, value.shape[-1] // self.num_groups)
        num_free = len(self._kernel_shape) - len(self._contracted(self._side))
        if self._side == 0:
            value = jnp.moveaxis(value, range(num_free), range(-num_free, 0))
        return value.reshape(-1, 1, math.prod(value.shape[value.ndim - num_free :]))

    def samples(
        self, read: jax.Array, target: jax.Array, corner: Sequence[Any], window: int
    ) -> tuple[jax.Array, jax.Array]:
        """What a layer reads and is to write: samples x groups x inputs, and x outputs.

        Args:
            read: the value the layer reads.
            target: a value shaped like the layer's output.
            corner: of the window of a convolution's output positions.
            window: its length along each spatial axis.
        """
        if self.is_convolution:
            return self._patches(read, target, corner, window)
        contracted = self._contracted(1 - self._side)
        kept = [axis for axis in range(read.ndim) if axis not in contracted]
        size = math.prod(read.shape[axis] for axis in contracted)
        return read.transpose([*kept, *contracted]).reshape(-1, 1, size), self.units(target)

    def _contracted(self, side: int) -> tuple[int, ...]:
        return self.equation.params["dimension_numbers"][0][side]

    def _patches(
        self, read: jax.Array, target: jax.Array, corner: Sequence[Any], window: int
    ) -> tuple[jax.Array, jax.Array]:
        params = self.equation.params
        numbers, strides = params["dimension_numbers"], params["window_strides"]
        dilations = params["rhs_dilation"]
        kernel = [self._kernel_shape[axis] for axis in numbers.rhs_spec[2:]]
        lengths = [min(length, window) for length in self.positions]
        steps = list(zip(lengths, strides, kernel, dilations, strict=True))
        reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in steps]
        read = read.transpose(numbers.lhs_spec)  # samples, channels, positions
        padding = [(0, 0, 0), (0, 0, 0), *((*pair, 0) for pair in params["padding"])]
        read = jax.lax.pad(read, jnp.zeros((), read.dtype), padding)
        starts = [at * stride for at, stride in zip(corner, strides, strict=True)]
        read = jax.lax.dynamic_slice(read, (0, 0, *starts), (*read.shape[:2], *reach))
        # One shifted view for each entry of the kernel: far cheaper than a convolution that copies.
        views = [
            jax.lax.slice(
                read,
                (0, 0, *(a * d for a, (_, _, _, d) in zip(at, steps, strict=True))),
                (
                    *read.shape[:2],
                    *(a * d + (n - 1) * s + 1 for a, (n, s, _, d) in zip(at, steps, strict=True)),
                ),
                (1, 1, *strides),
            )
            for at in itertools.product(*map(range, kernel))
        ]
        patches = jnp.stack(views, axis=2)  # samples, channels, entries of the kernel, positions
        patches = jnp.moveaxis(patches, (1, 2), (-2, -1))
        target = target.transpose(numbers.out_spec)
        target = jax.lax.dynamic_slice(target, (0, 0, *corner), (*target.shape[:2], *lengths))
        target = jnp.moveaxis(target, 1, -1)
        groups = self.num_groups
        return (
            patches.reshape(-1, groups, patches.shape[-2] // groups * patches.shape[-1]),
            target.reshape(-1, groups, target.shape[-1] // groups),
        )
