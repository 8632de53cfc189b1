"""Weight matching: the permutation of B whose weights are closest to A's.

Minimising ||A - pi(B)||^2 is maximising <A, pi(B)>, a sum of bilinear terms that is NP-hard in
general (Ainsworth et al. 2022, section 3.2, Lemma 1). Algorithm 1 is coordinate ascent from the
identity; here it starts from what is fixed and grows outwards, see `ascent` and `search`.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab.matching.ascent import Arrays
from rebasin_lab.matching.record import MatchingResult
from rebasin_lab.matching.search import Effort, search
from rebasin_lab.symmetry import (
    Permutation,
    PermutationSpec,
    identity_permutation,
    split_into_pieces,
)


def weight_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: int = 0,
    effort: Effort = "default",
    normalize: bool = False,
    start: Permutation | None = None,
    max_sweeps: int = 100,
    on_sweep: Callable[[float], None] | None = None,
) -> MatchingResult:
    """Coordinate ascent on <A, pi(B)>, every parameter with weight one.

    The first pass grows outwards from the axes that nobody permutes, later ones improve one group
    at a time until a whole sweep changes nothing. The incumbent is kept unless the objective really
    rises, so the history never falls and the search ends (Lemma 2).

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: fixes the result; only "thorough" and a given `start` draw anything.
        effort: "fast" stops after the first pass and one sweep, "default" at a local optimum,
            "thorough" tries others: the identity, and growing half of the groups anew, 20 times.
        normalize: divide every weight by the geometric mean of the norms of the units it connects,
            so that units with small weights count as much as others. The objective is then that of
            the scaled weights. Better on some thin networks, see `02_matching_methods`.
        start: improve this permutation, visiting groups in random order.
        max_sweeps: passes over all groups before giving up on convergence.
        on_sweep: called with the objective after every pass, for progress.

    Raises:
        ValueError: for an unknown effort or less than one sweep.
    """
    began = time.perf_counter()
    pieces_spec, arrays_a, arrays_b = arrays_of(spec, params_a, params_b)
    quantity = "inner product of weights"
    if normalize:
        arrays_a, arrays_b = (normalized(pieces_spec, arrays) for arrays in (arrays_a, arrays_b))
        quantity = "inner product of normalised weights"
    result = search(
        pieces_spec,
        arrays_a,
        arrays_b,
        effort=effort,
        seed=seed,
        start=start,
        max_sweeps=max_sweeps,
        on_sweep=on_sweep,
        quantity=quantity,
    )
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


def algorithm_1(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: int = 0,
    max_sweeps: int = 100,
    on_sweep: Callable[[float], None] | None = None,
) -> MatchingResult:
    """Weight matching as in the paper (Algorithm 1): from the identity, in random order.

    Kept for comparison: where it ends depends on the seed, and on networks with residual streams it
    often misses even a permutation that was planted.
    """
    identity = identity_permutation(spec, params_b)
    return weight_matching(
        spec,
        params_a,
        params_b,
        seed=seed,
        start=identity,
        max_sweeps=max_sweeps,
        on_sweep=on_sweep,
    )


def arrays_of(
    spec: PermutationSpec, params_a: PyTree, params_b: PyTree
) -> tuple[PermutationSpec, Arrays, Arrays]:
    """Two networks as float32 arrays whose axes hold one name or None each, and their spec."""
    split = []
    for params in (params_a, params_b):
        pieces_spec, pieces = split_into_pieces(spec, jax.tree.map(np.asarray, params))
        split.append({path: np.asarray(p, np.float32, order="C") for path, p in pieces.items()})
    return pieces_spec, *split


def moving(spec: PermutationSpec, arrays: Arrays) -> Arrays:
    """The arrays that any permutation moves."""
    paths = {path for places in spec.permutations.values() for path, _ in places}
    return {path: array for path, array in arrays.items() if path in paths}


def normalized(spec: PermutationSpec, arrays: Arrays) -> Arrays:
    """Arrays with every entry divided by the geometric mean of the norms of its units.

    A unit's norm is over all its weights, in every array its group stands in. So neither the size
    of a unit nor that of a network matters. Units without any weight stay as they are; of groups
    that vary along others, units in different slots are different units.
    """
    norms: dict[str, np.ndarray] = {}
    for name, places in spec.permutations.items():
        squares = np.float64(0)
        for path, axis in places:
            kept = _slots_and_units(spec, path, name, axis)
            summed = tuple(i for i in range(arrays[path].ndim) if i not in kept)
            square = np.square(arrays[path], dtype=np.float64).sum(summed)
            squares = squares + np.transpose(square, np.argsort(np.argsort(kept)))
        norms[name] = np.where(squares > 0, np.sqrt(squares), 1.0)
    return {
        path: _divided(spec, path, array, norms)
        if any(n in norms for n in spec.axes[path])
        else array
        for path, array in arrays.items()
    }


def _divided(
    spec: PermutationSpec, path: str, array: np.ndarray, norms: dict[str, np.ndarray]
) -> np.ndarray:
    named = [(axis, name) for axis, name in enumerate(spec.axes[path]) if name in norms]
    for axis, name in named:
        kept = _slots_and_units(spec, path, name, axis)
        factor = np.transpose(norms[name], np.argsort(kept)) ** (-1 / len(named))
        others = tuple(i for i in range(array.ndim) if i not in kept)
        array = array * np.expand_dims(factor.astype(np.float32), others)
    return np.asarray(array, order="C")


def _slots_and_units(spec: PermutationSpec, path: str, name: str, axis: int) -> list[int]:
    """The axes of an array that hold the slots a group varies along, and last its units."""
    bases = [n if n is None else spec.groups[n].base for n in spec.axes[path]]
    return [*(bases.index(parent) for parent in spec.groups[name].parents), axis]
