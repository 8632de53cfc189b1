"""Batch sizes that fit into memory, from a trace of the function on shapes alone."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rebasin_lab import texts

BATCH_SIZE = 5000  # images per forward pass at most; a 512-wide layer then takes 10 MB
BATCH_BYTES = 2**31  # the largest array, or all activations, of a forward pass


def batch_size_for(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    *,
    most: int | None = None,
    num_kept: int = 0,
) -> int:
    """The number of images per forward pass, limited by memory.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: all of them.
        most: the limit without memory in mind, `BATCH_SIZE` by default.
        num_kept: the number of copies of all activations in memory: 2 for two networks, or for a
            gradient. With 0 only the largest array of a forward pass must fit.
    """
    size = min(BATCH_SIZE if most is None else most, len(images))
    _, largest, total = forward_pass(apply_fn, params, images, size)
    in_memory = max(largest, num_kept * total)
    return size if in_memory <= BATCH_BYTES else max(1, size * BATCH_BYTES // in_memory)


def forward_pass(
    apply_fn: Callable, params: PyTree, images: Array | np.ndarray, size: int
) -> tuple[PyTree, int, int]:
    """Shapes and types of a batch's outputs, bytes of the largest array and of all products."""
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf)) for leaf in leaves)
    batch = jax.ShapeDtypeStruct((size, *images.shape[1:]), _dtype(images))
    params = jax.tree.unflatten(structure, shapes)
    with traceable("apply_fn", parameters=params, images=batch):
        return _traced(apply_fn, structure, shapes, batch)


@functools.lru_cache(maxsize=256)
def _traced(
    apply_fn: Callable, structure: Any, shapes: tuple, batch: jax.ShapeDtypeStruct
) -> tuple[PyTree, int, int]:
    params = jax.tree.unflatten(structure, shapes)
    jaxpr, outputs = jax.make_jaxpr(apply_fn, return_shape=True)(params, batch)
    return outputs, *_bytes(jaxpr.jaxpr)


def _dtype(array: Any) -> Any:
    return array.dtype if isinstance(array, jax.Array) else jnp.result_type(array)


def _bytes(jaxpr: Any) -> tuple[int, int]:
    """Bytes of the largest array that is computed, and of the results of all products.

    Loops and calls count too. Most other operations are fused with their neighbours.
    """
    largest = total = 0
    for equation in jaxpr.eqns:
        computed = [
            math.prod(getattr(aval, "shape", ()))
            * getattr(getattr(aval, "dtype", 0), "itemsize", 0)
            for aval in (variable.aval for variable in equation.outvars)
        ]
        inside = [_bytes(inner) for inner in _jaxprs_in(equation)]
        largest = max([largest, *computed, *(one for one, _ in inside)])
        is_product = equation.primitive.name in ("dot_general", "conv_general_dilated")
        total += sum(computed) if is_product else sum(products for _, products in inside)
    return largest, total


def shapes_in(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """The shapes of all arrays that are computed, in loops and calls too."""
    for equation in jaxpr.eqns:
        yield from (getattr(variable.aval, "shape", ()) for variable in equation.outvars)
        for inner in _jaxprs_in(equation):
            yield from shapes_in(inner)


def _jaxprs_in(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


@contextlib.contextmanager
def traceable(name: str, **arguments: Any) -> Iterator[None]:
    """Turn an error of a caller's function into one that names its arguments and advises."""
    try:
        yield
    # Of any kind, since it is the caller's code; errors of the lab stay as they are.
    except Exception as error:
        text = texts.in_a_line(" ".join(str(error).split("\n\n")[0].split()), 400)
        if isinstance(error, ValueError) and text.startswith("Expected "):
            raise
        advice = "Check that they belong to this function."
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            advice = (
                "It is compiled: write jnp in place of np, and jnp.where in place of if on values."
            )
        listed = " and ".join(
            f"{key} of {_shapes_of(argument)}" for key, argument in arguments.items()
        )
        raise ValueError(
            f"Expected {name} to take {listed}; it raised {type(error).__name__}: {text} {advice}"
        ) from error


def _shapes_of(tree: PyTree) -> str:
    """Types and shapes of the first leaves, in words."""
    leaves = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    return ", ".join(leaves[:3]) + (f" and {len(leaves) - 3} more" if len(leaves) > 3 else "")
