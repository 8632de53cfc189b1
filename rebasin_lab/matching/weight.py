"""Weight matching: the permutation of B whose weights are closest to A's.

Minimising ||A - pi(B)||^2 is maximising <A, pi(B)>, a sum of bilinear terms that is NP-hard in
general (Ainsworth et al. 2022, section 3.2, Lemma 1). Algorithm 1 is coordinate ascent from the
identity; here it starts from what is fixed and grows outwards, see `coordinate_ascent` and
`search`.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jaxtyping import PyTree

from rebasin_lab import checks
from rebasin_lab.matching.rescaling import weight_problem
from rebasin_lab.matching.result import MatchingResult
from rebasin_lab.matching.search import Effort, search
from rebasin_lab.symmetry import (
    PermutationSpec,
    checked_permutation,
    identity_permutation,
)


@checks.arguments
def weight_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    effort: Effort = "default",
    normalize: bool = False,
    ignore: Collection[str] = (),
    start: Mapping[str, Any] | None = None,
    max_sweeps: checks.Count = 100,
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
        seed: fixes the result. A growth draws nothing; a given `start` and "thorough" do, and so
            does the ascent from the identity that follows a growth whose first pass fell.
        effort: "fast" stops after the first pass and one sweep, "default" at a local optimum,
            "thorough" tries others: the identity, and growing half of the groups anew, 20 times
            (not if there is but one group).
        normalize: divide every weight by the geometric mean of the norms of the units it connects,
            so that units with small weights count as much as others. The objective is then that of
            the scaled weights. Better on some thin networks, see `02_matching_methods`.
        ignore: leaves that are moved but not compared, see `ignored_leaves`. BatchNorm's
            running statistics are no weights, and the paper leaves them out: write
            `ignore=model.statistics_paths`, of a Linen network `ignore=["batch_stats"]`.
        start: improve this permutation (of any integers), visiting groups in random order.
        max_sweeps: passes over all groups before giving up on convergence.
        on_sweep: called with the objective after every pass, for progress.

    Raises:
        ValueError: for an unknown effort, less than one sweep, a start that is no permutation of
            these networks, a path in `ignore` that is not there, or a permutation that moves
            nothing else.
    """
    began = time.perf_counter()
    if start is not None:
        start = checked_permutation(spec, start, params_a, "start")
    problem = weight_problem(spec, params_a, params_b, normalize=normalize, ignore=ignore)
    result = search(
        problem.spec,
        problem.a,
        problem.b,
        effort=effort,
        seed=seed,
        start=start,
        max_sweeps=max_sweeps,
        on_sweep=on_sweep,
        quantity=f"inner product of {'normalised ' if normalize else ''}weights",
        restore=problem.objective,
        squares=problem.squares,
    )
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


@checks.arguments
def algorithm_1(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    ignore: Collection[str] = (),
    max_sweeps: checks.Count = 100,
    on_sweep: Callable[[float], None] | None = None,
) -> MatchingResult:
    """Weight matching as in the paper (Algorithm 1): from the identity, in random order.

    Kept for comparison: where it ends depends on the seed, and on networks with residual streams it
    often misses even a permutation that was planted.
    """
    identity = identity_permutation(spec, params_a)
    return weight_matching(
        spec,
        params_a,
        params_b,
        seed=seed,
        ignore=ignore,
        start=identity,
        max_sweeps=max_sweeps,
        on_sweep=on_sweep,
    )
