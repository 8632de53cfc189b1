"""Acting on parameters with permutations.

This room owns the direction of a permutation, stated once: `permutation[i] = j` puts unit j of B
into slot i, the slot of A's unit i; it is applied as `take(w, permutation, axis)`. As a matrix,
`P[i, permutation[i]] = 1` and the paper's `P W` is `W[permutation]`. A permutation of a network is
a dict: one index array per name in its `PermutationSpec`. If `params_b = apply(P, params_a)`, then
matching A with B returns `argsort(P)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from rebasin_lab import pytrees
from rebasin_lab.symmetry.spec import PermutationSpec

Permutation = Mapping[str, Int[np.ndarray, " _"]]


def identity_permutation(spec: PermutationSpec, params: PyTree) -> dict[str, np.ndarray]:
    """The permutation that leaves every unit where it is."""
    return {name: np.arange(size) for name, size in spec.sizes(params).items()}


def random_permutation(
    spec: PermutationSpec, params: PyTree, *, seed: int
) -> dict[str, np.ndarray]:
    """A permutation drawn uniformly from the symmetry group of the spec."""
    rng = np.random.default_rng(seed)
    return {name: rng.permutation(size) for name, size in spec.sizes(params).items()}


def apply_permutation(spec: PermutationSpec, permutation: Permutation, params: PyTree) -> PyTree:
    """The network with its hidden units reordered; it computes the same function.

    Args:
        spec: which axes each permutation moves.
        permutation: name -> index array, `permutation[name][i] = j` moves unit j to slot i.
        params: any pytree of NumPy or JAX arrays; it is not changed.

    Raises:
        ValueError: if spec and params disagree, or an entry is no permutation of its size.
    """
    _check_permutation(permutation, spec.sizes(params))
    return pytrees.map_with_path(
        lambda path, leaf: permute_axes(leaf, spec.axes[path], permutation), params
    )


def permute_axes(leaf: Any, names: Sequence[str | None], permutation: Permutation) -> Any:
    """One array with each of its axes reordered by the permutation named for it, if any."""
    for axis, name in enumerate(names):
        if name is not None:
            leaf = leaf.take(permutation[name], axis=axis)
    return leaf


def invert_permutation(permutation: Permutation) -> dict[str, np.ndarray]:
    """The permutation that undoes this one."""
    return {name: np.argsort(indices) for name, indices in permutation.items()}


def compose_permutations(second: Permutation, first: Permutation) -> dict[str, np.ndarray]:
    """The permutation with `apply(result, p) == apply(second, apply(first, p))`.

    Raises:
        ValueError: if the two do not move the same groups of units.
    """
    if second.keys() != first.keys():
        raise ValueError(
            f"Expected permutations of one spec; got names {sorted(second)} and {sorted(first)}."
        )
    return {name: np.asarray(first[name])[np.asarray(second[name])] for name in first}


def verify_equivalence(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    inputs: Float[Array | np.ndarray, "..."],
    *,
    num_trials: int = 3,
    seed: int = 0,
) -> float:
    """The largest change of the outputs under random permutations, relative to the largest output.

    About 1e-6 for a right spec in float32 (sums are taken in another order), and far above 1e-3 for
    a wrong one. A right spec holds at *any* parameters, so each trial also shifts every leaf at
    random: a mistake about a bias would not show while all biases are zero.
    Ainsworth et al. 2022, section 2: f(x; pi(Theta)) = f(x; Theta).

    Raises:
        ValueError: if there is no trial, or the outputs cannot tell (all zero, or not finite).
    """
    if num_trials < 1:
        raise ValueError(f"Expected at least one trial; got {num_trials}.")
    apply_fn = jax.jit(apply_fn)
    worst = 0.0
    for trial in range(seed, seed + num_trials):
        shifted = _shifted(params, np.random.default_rng([trial, 1]))
        permutation = random_permutation(spec, params, seed=trial)
        outputs = apply_fn(shifted, inputs)
        changed = apply_fn(apply_permutation(spec, permutation, shifted), inputs)
        largest = float(jnp.max(jnp.abs(outputs)))
        change = float(jnp.max(jnp.abs(changed - outputs)))
        if not (0 < largest < np.inf and np.isfinite(change)):
            raise ValueError(
                "Expected outputs that are finite and not all zero, to compare under permutations; "
                f"the largest is {largest} and changes by {change}. Give other inputs."
            )
        worst = max(worst, change / largest)
    return worst


def _shifted(params: PyTree, rng: np.random.Generator) -> PyTree:
    """Every entry raised by up to a tenth of its leaf's size; a variance stays positive."""

    def shift(leaf: Any) -> Any:
        size = float(np.sqrt(np.mean(np.square(np.asarray(leaf))))) or 1.0
        return leaf + (0.1 * size * rng.random(np.shape(leaf))).astype(leaf.dtype)

    return jax.tree.map(shift, params)


def _check_permutation(permutation: Permutation, sizes: Mapping[str, int]) -> None:
    if permutation.keys() != sizes.keys():
        raise ValueError(
            f"Expected one permutation for each of {sorted(sizes)}; got {sorted(permutation)}."
        )
    for name, size in sizes.items():
        indices = np.asarray(permutation[name])
        if indices.shape != (size,) or not np.array_equal(np.sort(indices), np.arange(size)):
            raise ValueError(
                f"Expected '{name}' to be a permutation of 0 ... {size - 1}; got an array of shape "
                f"{indices.shape} with {np.unique(indices).size} different entries."
            )
