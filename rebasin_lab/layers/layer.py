"""The dense and convolution layers of a function, and what is affine after each of them.

A layer is a product or a convolution of a value that depends on the inputs with a parameter. What
follows it up to the next nonlinearity is affine in its output: a bias, the statistics, scale and
shift of a normalisation, the addition of a shortcut. The end of that chain is the layer's *target*:
its pre-activation, or the residual stream after it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Values = Mapping[int, Any]  # number of a value -> array
Leaves = Mapping[str, Any]  # path of a parameter -> array

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


class Layer:
    """A product or a convolution with a parameter, and the affine chain after it.

    Attributes:
        program: the `Program` whose layer it is.
        number: of its equation.
        path: of the kernel among the parameters.
        leaf_shape: of this parameter.
        read: the value it reads.
        written: the value it writes.
        target: the value at the end of the chain.
        leaves: paths of the parameters that this chain alone reads.
    """

    def __init__(self, program: Any, number: int, path: str, moves: Sequence[Equation], side: int):
        self.program, self.number, self.path = program, number, path
        self._moves, self._side = moves, side
        self.equation = program.equations[number]
        self.read, [self.written] = self.equation.operands[1 - side], self.equation.results
        self.target, self.leaves = self.written, ()
        kernel = self.equation.operands[side]
        self._kernel_shape = program.shapes[kernel].shape
        self.leaf_shape = program.shapes[moves[0].operands[0] if moves else kernel].shape

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

    def ends(self, params: Leaves, values: Values) -> list[jax.Array]:
        """The target of one sample if every output of the layer were 0, and if it were 1."""
        return [self.units(self.target_of(params, values, fill))[0] for fill in (0.0, 1.0)]

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
