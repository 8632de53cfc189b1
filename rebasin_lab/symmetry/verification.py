"""Whether a spec is right: permuted at random, the network has to compute the same function.

This is the check for a spec written by hand or found by inference, on a network of any kind.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab.symmetry.permutations import apply_permutation, random_permutation
from rebasin_lab.symmetry.spec import PermutationSpec


def verify_equivalence(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    *inputs: PyTree,
    num_trials: int = 3,
    seed: int = 0,
) -> float:
    """The largest change of the outputs under random permutations, relative to the largest output.

    About 1e-6 for a right spec in float32 (sums are taken in another order), and far above 1e-3 for
    a wrong one. A right spec holds at *any* parameters, so each trial also shifts every leaf at
    random: a mistake about a bias would not show while all biases are zero. Leaves of integers,
    which are no weights, are not shifted.
    Ainsworth et al. 2022, section 2: f(x; pi(Theta)) = f(x; Theta).

    Args:
        apply_fn: takes the parameters, then the inputs; returns any pytree of arrays. The change of
            each is taken relative to its own largest entry.
        spec: to be checked.
        params: where to check it, up to the shift.
        *inputs: arrays or pytrees of arrays. A `jax.ShapeDtypeStruct` in place of an array is
            drawn anew in each trial: standard normal floats, and zeros and ones for integers and
            booleans, which are in range as tokens, labels or masks. Give real inputs if others
            matter.
        num_trials: how many permutations to try.
        seed: fixes permutations, shifts and drawn inputs.

    Raises:
        ValueError: if there is no trial, or the outputs cannot tell (all zero, or not finite).
    """
    if num_trials < 1:
        raise ValueError(f"Expected at least one trial; got {num_trials}.")
    apply_fn = jax.jit(apply_fn)
    worst = 0.0
    for trial in range(seed, seed + num_trials):
        shifted = _shifted(params, np.random.default_rng([trial, 1]))
        drawn = _drawn(inputs, np.random.default_rng([trial, 2]))
        permutation = random_permutation(spec, params, seed=trial)
        outputs = apply_fn(shifted, *drawn)
        changed = apply_fn(apply_permutation(spec, permutation, shifted), *drawn)
        worst = max(worst, _relative_change(outputs, changed))
    return worst


def _relative_change(outputs: PyTree, changed: PyTree) -> float:
    """The largest over all leaves of largest change / largest entry."""
    pairs = zip(_on_host(outputs), _on_host(changed), strict=True)
    sizes = [
        (_largest(before), _largest(after), _largest(after - before)) for before, after in pairs
    ]
    largest = max((before for before, _, _ in sizes), default=0.0)
    change = max((change for _, _, change in sizes), default=0.0)
    if not (largest > 0 and np.isfinite(sizes).all()):
        raise ValueError(
            "Expected outputs that are finite and not all zero, to compare under permutations; "
            f"the largest is {largest} and changes by {change}. Give other inputs."
        )
    # An output that was zero and is no longer has changed by all of its size.
    return max(change / (before or after or 1.0) for before, after, change in sizes)


def _on_host(outputs: PyTree) -> list[np.ndarray]:
    """The leaves in the widest floats, in which booleans and unsigned integers subtract as well."""
    leaves = map(np.asarray, jax.tree.leaves(outputs))
    return [leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64) for leaf in leaves]


def _largest(values: np.ndarray | np.number) -> float:
    return float(np.max(np.abs(values), initial=0))


def _shifted(params: PyTree, rng: np.random.Generator) -> PyTree:
    """Every entry raised by up to a tenth of its leaf's size; a variance stays positive."""

    def shift(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) or np.size(leaf) == 0:
            return leaf
        size = float(np.sqrt(np.mean(np.square(np.abs(np.asarray(leaf)))))) or 1.0
        return leaf + (0.1 * size * rng.random(np.shape(leaf))).astype(leaf.dtype)

    return jax.tree.map(shift, params)


def _drawn(inputs: PyTree, rng: np.random.Generator) -> PyTree:
    """The inputs with an array in place of every `jax.ShapeDtypeStruct`."""

    def draw(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool:
            return jnp.asarray(rng.integers(0, 2, leaf.shape), leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
        raise ValueError(
            f"Expected an input of floats, integers or booleans to draw; got {leaf}. Give an array."
        )

    return jax.tree.map(draw, inputs)
