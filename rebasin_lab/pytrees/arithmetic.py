"""Arithmetic of models: lines, inner products, distances; casts to sum in and back."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks
from rebasin_lab.pytrees import leaf_checks, leaves, pairs


def lerp(lam: Any, params_a: PyTree, params_b: PyTree) -> PyTree:
    """The model `(1 - lam) A + lam B` on the straight line, with the structure and types of A.

    At lam = 0 it is A and at lam = 1 it is B, bit by bit; in between, integers are rounded.

    Raises:
        ValueError: as `aligned_to_combine`; for lam that is no finite real number.
    """
    if not isinstance(lam, jax.core.Tracer) and not (
        np.ndim(lam) == 0 and np.asarray(lam).dtype.kind in "fiub" and np.isfinite(lam)
    ):
        raise ValueError(
            f"Expected lam to be a finite number, 0 for A and 1 for B; got {checks.shortened(lam)}."
        )
    params_a, params_b = pairs.aligned_to_combine(params_a, params_b)
    return jax.tree.map(lambda a, b: _lerp(lam, a, b), params_a, params_b)


def _lerp(lam: Any, a: Any, b: Any) -> Any:
    in_jax = isinstance(a, jax.Array) or any(isinstance(x, jax.core.Tracer) for x in (lam, b))
    xp = jnp if in_jax else np
    lam = np.asarray(lam)[()] if isinstance(lam, jax.Array) and not in_jax else lam
    a, b = xp.asarray(a), xp.asarray(b)
    with np.errstate(invalid="ignore"):  # infinity times zero, at an end
        mixed = in_type_of(a, (1 - lam) * widened(a) + lam * widened(b))
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        mixed = xp.where(a == b, a, mixed)  # large integers lose digits in floats
    return xp.where(lam == 0, a, xp.where(lam == 1, in_type_of(a, b), mixed))


def widened(leaf: Any) -> Any:
    """An array as floats of float32 or wider; complex arrays stay complex."""
    dtype = leaf.dtype
    if jnp.issubdtype(dtype, jnp.complexfloating):
        wide = dtype
    elif jnp.issubdtype(dtype, jnp.floating):
        wide = np.promote_types(dtype, np.float32)
    else:
        wide = np.dtype(np.float64)
    return leaf.astype(jax.dtypes.canonicalize_dtype(wide) if isinstance(leaf, jax.Array) else wide)


def in_type_of(leaf: Any, array: Any) -> Any:
    """An array cast to the type of a leaf, of NumPy or JAX like that; rounded for integers.

    Under `jit` it is always of JAX.
    """
    in_jax = isinstance(leaf, jax.Array) or isinstance(array, jax.core.Tracer)
    xp = jnp if in_jax else np
    is_float = jnp.issubdtype(array.dtype, jnp.inexact)
    if is_float and jnp.issubdtype(leaf.dtype, jnp.integer):
        whole, limits = jnp if isinstance(array, jax.Array) else np, jnp.iinfo(leaf.dtype)
        array = whole.clip(whole.rint(array), float(limits.min), float(limits.max))
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if in_jax else leaf.dtype
    return xp.asarray(array).astype(dtype)


def inner_product(params_a: PyTree, params_b: PyTree) -> float:
    """The sum over all leaves of a * b, in float64; leaves are paired by their path.

    Complex numbers count as pairs of real and imaginary part.
    """
    # Not np.vdot: for small products the threads of BLAS cost more than they save.
    pairs = _paired(params_a, params_b)
    return float(sum(np.einsum("i,i", a.conj().ravel(), b.ravel()).real for a, b in pairs))


def distance(params_a: PyTree, params_b: PyTree) -> float:
    """The Euclidean distance between two models, over all parameters, in float64."""
    pairs = _paired(params_a, params_b)
    return math.sqrt(math.fsum(np.square(np.abs(a - b)).sum() for a, b in pairs))


def _paired(params_a: PyTree, params_b: PyTree) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The leaves of both, as float64 or complex128."""
    params_a, params_b = pairs.paired(params_a, params_b)
    flat_b = leaves.flatten(params_b)
    for path, a in leaves.flatten(params_a).items():
        is_complex = any(
            jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in (a, flat_b[path])
        )
        wide = np.complex128 if is_complex else np.float64
        yield np.asarray(a).astype(wide), np.asarray(flat_b[path]).astype(wide)


def num_parameters(params: PyTree) -> int:
    """The number of scalars in a tree."""
    leaf_checks.check_arrays(params, "params", or_shapes=True)
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
