"""Arrays of images and labels: of NumPy or JAX, in types that JAX has, without NaN."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rebasin_lab import pytrees


def as_array(array: Any, name: str) -> Array | np.ndarray:
    """The same array of NumPy or JAX, or a tensor of PyTorch as one of NumPy.

    Raises:
        ValueError: for anything but an array with axes and without a mask.
    """
    array = pytrees.as_arrays({name: array})[name]
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"Expected {name} without a mask; got a masked array. Fill it: write x.filled(value)."
        )
    if not isinstance(array, np.ndarray | jax.Array) or not array.ndim:
        what = f"the number {array!r}" if np.isscalar(array) else type(array).__name__
        raise ValueError(
            f"Expected {name} to be an array; got {what}. Write np.asarray(...) around them."
        )
    return array if isinstance(array, jax.Array) else np.asarray(array)


def checked_array(array: Any, name: str) -> Array | np.ndarray:
    """The array that `as_array` returns, checked to be non-empty and without NaN.

    Raises:
        ValueError: naming the array, and what is wrong with it.
    """
    array = in_type_of_jax(as_array(array, name), name)
    if not len(array):
        raise ValueError(f"Expected {name}; got none, an array of shape {array.shape}.")
    check_numbers(array, f"the {name}", "Look where they come from.")
    return array


def in_type_of_jax(array: Array | np.ndarray, name: str) -> Array | np.ndarray:
    """An array in the type that JAX converts it to, such as float32 for float64.

    Raises:
        ValueError: for numbers that do not fit into that type.
    """
    if isinstance(array, jax.Array) or not pytrees.holds_numbers(array):
        return array
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    lost = narrow != array if is_integer else np.isinf(narrow) & ~np.isinf(array)
    if lost.any():
        raise ValueError(
            f"Expected {name} that fit into {dtype}, which JAX makes of {array.dtype} here; got "
            f"{array[lost][0]}. Scale them, or enable jax_enable_x64."
        )
    return narrow


def check_numbers(array: Array | np.ndarray, name: str, advice: str) -> None:
    """Check that an array holds numbers, and no NaN."""
    if not pytrees.holds_numbers(array):
        raise ValueError(
            f"Expected numbers in {name}, in a type that JAX has; got {array.dtype}. Convert them "
            "to float32 or int32."
        )
    check_no_nan(array, name, advice)


def check_no_nan(array: Any, name: str, advice: str) -> None:
    """Check that an array of floats or complex numbers holds no NaN."""
    if not np.size(array) or not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
        return
    if np.isnan(np.min(np.asarray(array))):
        bad = int(np.isnan(np.asarray(array)).sum())
        raise ValueError(
            f"Expected numbers in {name}; of {np.size(array)} values {name} holds {bad} NaN. "
            f"{advice}"
        )
