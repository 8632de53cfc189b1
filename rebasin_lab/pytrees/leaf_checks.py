"""Checks of models: leaves of numbers, of floats, real or finite; and of calls with them."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, texts
from rebasin_lab.pytrees import leaves as tree_leaves


def checked_arrays(params: PyTree, name: str = "", *, or_shapes: bool = False) -> PyTree:
    """The model of `as_arrays`, checked that every leaf is an array of numbers.

    Args:
        params: the model.
        name: of the model, for errors.
        or_shapes: also accept `jax.ShapeDtypeStruct` and the like.

    Raises:
        ValueError: as `as_arrays` and `check_arrays`.
    """
    params = tree_leaves.as_arrays(params)
    check_arrays(params, name, or_shapes=or_shapes)
    return params


def check_arrays(params: PyTree, name: str, *, or_shapes: bool = False) -> None:
    """Check that every leaf is an array of numbers.

    Args:
        params: a tree.
        name: of the tree, for errors.
        or_shapes: also accept `jax.ShapeDtypeStruct` and the like.

    Raises:
        ValueError: naming the first leaf that is not, and what to do.
    """
    for path, leaf in tree_leaves.flatten(params).items():
        where = f"{name} '{path}'".strip()
        if not (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            raise ValueError(
                f"Expected every leaf to be an array; {where} is a {type(leaf).__name__}. Write "
                "np.asarray(...) around a number, and leave out what is no parameter: apply_fn "
                "can put it back."
            )
        if not holds_numbers(leaf, or_shapes):
            raise ValueError(
                f"Expected every leaf to hold numbers; {where} is a {type(leaf).__name__} "
                f"of type {leaf.dtype}. Leave it out if it is no parameter, or make it an array of "
                "a type that JAX has, such as float32."
            )


def holds_numbers(leaf: Any, or_shapes: bool = False) -> bool:
    """True for arrays of NumPy and JAX in the types of JAX, which exclude long double."""
    if not or_shapes and not isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return False
    return not isinstance(leaf, np.ma.MaskedArray) and _is_number_type(leaf.dtype)


@functools.cache
def _is_number_type(dtype: Any) -> bool:
    if dtype in (np.longdouble, np.clongdouble):
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, np.bool_))


def check_floats(params: PyTree, name: str) -> None:
    """Check that every leaf is floating point, as gradients need.

    Raises:
        ValueError: naming the first leaf that cannot, and what to do.
    """
    for path, leaf in tree_leaves.flatten(params).items():
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise ValueError(
                f"Expected floating-point parameters, to take a gradient; {name} '{path}' is "
                f"{leaf.dtype}. Leave it out and let apply_fn put it back, or make it a float."
            )


def check_real(params: PyTree, name: str) -> None:
    """Check that a model holds no complex numbers.

    Raises:
        ValueError: naming the first leaf that does.
    """
    for path, leaf in tree_leaves.flatten(params).items():
        if np.iscomplexobj(leaf):
            raise ValueError(
                f"Expected real parameters; {name} '{path}' is complex. Write real and imaginary "
                "parts as two arrays, both with the same axes in the spec."
            )


def check_finite(params: PyTree, name: str) -> None:
    """Check that a model holds real numbers, no NaN and no infinity.

    Raises:
        ValueError: naming the first leaf that does, and the number of such entries.
    """
    check_real(params, name)
    leaves = tree_leaves.flatten(params)
    # A leaf with a finite sum is finite; only the others are searched.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = {path: np.sum(np.asarray(leaf)) for path, leaf in leaves.items()}
    for path, leaf in leaves.items():
        if np.isfinite(sums[path]):
            continue
        bad = int(np.size(leaf) - np.isfinite(np.asarray(leaf)).sum())
        if bad:
            raise ValueError(
                f"Expected finite parameters; {name} '{path}' holds {bad} NaN or infinite values "
                f"of {np.size(leaf)}. Did its training diverge?"
            )


@contextlib.contextmanager
def calling(params: PyTree, inputs: Sequence[Any]) -> Iterator[None]:
    """Turn an error of the caller's function into one that names its arguments and advises.

    Args:
        params: its parameters, arrays or shapes.
        inputs: its inputs, likewise.

    Raises:
        ValueError: in place of any error, naming the parameters and inputs.
    """
    try:
        yield
    except Exception as error:  # of any kind, since it is the caller's code
        leaves = jax.tree_util.tree_leaves_with_path(params)
        first = ""
        if leaves:
            path, leaf = leaves[0]
            first = f" (the first is '{tree_leaves.path_string(path)}', shape {np.shape(leaf)})"
        listed = [
            f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else checks.shortened(leaf)
            for leaf in jax.tree.leaves(inputs)
        ]
        text = texts.in_a_line(" ".join(str(error).split()), 200)
        raise ValueError(
            "Expected a function that can be called, and traced, as apply_fn(params, *inputs); it "
            f"raised {type(error).__name__}: {text.rstrip('.?')}. It was called with {len(leaves)} "
            f"parameters{first} and inputs {', '.join(listed) or 'none'}. Check that the "
            "parameters belong to this function, that the inputs have the shapes (batch axis "
            "included) it takes, and that no Python `if` depends on a value; options such as "
            "train=False go into a closure."
        ) from error
