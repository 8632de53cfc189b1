"""The computation of a PyTorch module as a list of steps, and its execution in JAX."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rebasin_lab import checks
from rebasin_lab.interop.aten.normalization import BATCH_NORM, batch_statistics
from rebasin_lab.interop.state import in_jax
from rebasin_lab.symmetry.inference.explanations import module_scope


class Value(NamedTuple):
    """The result of a step, or an argument of the graph, by name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        value: the name of the result.
        operator: its name, such as "aten.linear.default".
        rule: computes the result.
        arguments: of the rule; a `Value` stands for an array.
        options: the same by keyword.
        dtype: of a result that is one array.
        module: the name and class of the module that calls it.
        statistics: the paths of mean and variance, of a BatchNorm that keeps them.
        last: names of values that no later step needs.
    """

    value: str
    operator: str
    rule: Callable
    arguments: tuple
    options: dict[str, Any]
    dtype: np.dtype | None
    module: str
    statistics: tuple[str, ...]
    last: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of the module.

    Attributes:
        value: its name in the graph.
        shape: sizes; a text where any size will do.
        dtype: None if it is no array.
        constant: the value of an input that is no array.
    """

    value: str
    shape: tuple[int | str, ...] = ()
    dtype: np.dtype | None = None
    constant: Any = None

    def check(self, leaf: Any, sizes: dict[str, int]) -> None:
        """Check an input of a call.

        Args:
            leaf: the input.
            sizes: of the texts in earlier inputs; those of this one are added.

        Raises:
            ValueError: if it is of another kind, shape or value than in the example.
        """
        if self.dtype is None:
            if type(leaf) is not type(self.constant) or leaf != self.constant:
                raise ValueError(
                    f"Expected the input {self.value} to be {self.constant!r}, as in the example "
                    f"that the module was converted with; got {checks.shortened(leaf)}."
                )
            return
        wanted = [sizes.get(size, size) for size in self.shape]
        if not hasattr(leaf, "dtype") or not _fits(leaf.shape, wanted):
            any_batch = any(isinstance(size, str) for size in self.shape)
            raise ValueError(
                f"Expected the input {self.value} to be {self.dtype} of shape "
                f"[{', '.join('any' if isinstance(n, str) else str(n) for n in wanted)}]; got "
                f"{checks.shortened(leaf)}."
                + ("" if any_batch else " The module takes only sizes of the example.")
            )
        if _kind(leaf.dtype) != _kind(self.dtype):
            raise ValueError(
                f"Expected the input {self.value} to hold numbers like {self.dtype}; got "
                f"{checks.shortened(leaf)}."
            )
        sizes.update({s: n for s, n in zip(wanted, leaf.shape, strict=True) if s != n})


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The computation of a module.

    Attributes:
        steps: in order.
        parameters: value -> path and type of the parameter it is.
        constants: value -> an array that is no parameter: integers, buffers that are not saved.
        fixed: the constants that a state_dict has, by its names.
        inputs: all inputs.
        positions: the numbers of the inputs in the structure of the arguments, (args, keywords).
        outputs: the values in the structure of the outputs.
    """

    steps: tuple[Step, ...]
    parameters: dict[str, tuple[str, np.dtype]]
    constants: dict[str, np.ndarray]
    fixed: dict[str, np.ndarray]
    inputs: tuple[Input, ...]
    positions: PyTree
    outputs: PyTree

    @property
    def statistics(self) -> frozenset[str]:
        """The paths of all running statistics."""
        return frozenset(path for step in self.steps for path in step.statistics)

    def run(
        self, params: Mapping[str, Any], arguments: tuple[tuple, dict], *, by_batch: bool = False
    ) -> tuple[PyTree, dict[str, Array]]:
        """The outputs, and the statistics that BatchNorm measured.

        Floats have the types of the module, as in PyTorch; if a parameter is float64, what is
        float32 in the module is float64.

        Args:
            params: arrays by path.
            arguments: in the structure of the example.
            by_batch: whether BatchNorm normalises by the batch.

        Raises:
            ValueError: for arguments that the graph was not made for.
        """
        is_wide = any(jnp.result_type(leaf) == np.float64 for leaf in params.values())
        values: dict[str, Any] = {}

        def keep(name: str, value: Any, dtype: np.dtype | None) -> None:
            values[name] = (
                value if dtype is None else jnp.asarray(value, in_jax(dtype, is_wide=is_wide))
            )

        def filled(argument: Any) -> Any:
            if isinstance(argument, Value):
                return values[argument.name]
            if isinstance(argument, list | tuple):
                return type(argument)(map(filled, argument))
            return in_jax(argument, is_wide=is_wide) if isinstance(argument, np.dtype) else argument

        for name, (path, dtype) in self.parameters.items():
            keep(name, params[path], dtype)
        for name, array in self.constants.items():
            keep(name, array, array.dtype)
        for one, leaf in self._given(arguments):
            keep(one.value, leaf, one.dtype)
        measured: dict[str, Array] = {}
        for step in self.steps:
            operands = filled(step.arguments)
            # PyTorch broadcasts arrays with fewer axes, whatever JAX is set to.
            with module_scope(step.module), jax.numpy_rank_promotion("allow"), _named(step):
                if by_batch and step.operator == BATCH_NORM:
                    of_batch = batch_statistics(operands[0])
                    measured |= dict(zip(step.statistics, of_batch, strict=False))
                    operands = (*operands[:3], *of_batch, *operands[5:])
                result = step.rule(*operands, **{k: filled(v) for k, v in step.options.items()})
                keep(step.value, result, step.dtype)
            for name in step.last:
                del values[name]
        outputs = jax.tree.map(filled, self.outputs, is_leaf=lambda one: isinstance(one, Value))
        return outputs, measured

    def _given(self, arguments: tuple[tuple, dict]) -> Iterator[tuple[Input, Any]]:
        """Each input with its value in a call, checked."""
        numbers, wanted = jax.tree.flatten(self.positions)
        leaves, structure = jax.tree.flatten(arguments, is_leaf=lambda leaf: leaf is None)
        if structure != wanted:
            raise ValueError(
                f"Expected inputs as in the example, {_described(wanted)}; got "
                f"{_described(structure)}."
            )
        sizes: dict[str, int] = {}
        for number, leaf in zip(numbers, leaves, strict=True):
            self.inputs[number].check(leaf, sizes)
            yield self.inputs[number], leaf


def _kind(dtype: Any) -> str:
    """Numbers with a fraction or without, in words."""
    return "inexact" if jnp.issubdtype(dtype, jnp.inexact) else "whole"


def _fits(shape: tuple[int, ...], wanted: list[int | str]) -> bool:
    return len(shape) == len(wanted) and all(
        size in (found, str(size)) for size, found in zip(wanted, shape, strict=True)
    )


def _described(structure: Any) -> str:
    """The arguments of a call, each as a star: (*, mask=*)."""
    arguments, keywords = jax.tree.unflatten(structure, ["*"] * structure.num_leaves)
    named = [f"{name}={one}" for name, one in keywords.items()]
    return f"({', '.join([*map(str, arguments), *named])})"


@contextlib.contextmanager
def _named(step: Step) -> Iterator[None]:
    """Say of an error in a rule where it happened."""
    try:
        yield
    except Exception as error:  # of any kind, and raised again
        error.add_note(f"In the rule for {step.operator}, called by {step.module}.")
        raise
