"""Weight matching: the permutation of B whose weights are closest to A's.

Minimising ||A - pi(B)||^2 is maximising <A, pi(B)>, a sum of bilinear terms that is NP-hard in
general (Ainsworth et al. 2022, section 3.2, Lemma 1). Algorithm 1 is coordinate ascent from the
identity; here it has a constructive start, see `coordinate_ascent` and `search`.
"""

import dataclasses
import time
from collections.abc import Collection, Mapping
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
    ignore: Collection[str] | None = None,
    start: Mapping[str, Any] | None = None,
    max_sweeps: checks.Count = 100,
) -> MatchingResult:
    """Coordinate ascent on <A, pi(B)>, every parameter with weight one.

    The constructive start begins at the axes that no permutation moves; later passes update one
    group at a time until a whole sweep changes nothing. An update is made only if the objective
    rises by more than rounding, so the history never falls and the search ends (Lemma 2).

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: fixes the result. The constructive start is not random; a given `start`, "thorough"
            and the start from the identity, which follows a first pass that fell, are.
        effort: "fast" stops after the first pass and one sweep, "default" at a local optimum,
            "thorough" also starts from the identity, and takes 20 steps of a large neighbourhood
            search (none if there is only one group).
        normalize: divide every weight by the geometric mean of the norms of the units it connects,
            so that units with small weights count as much as others. The objective is then that of
            the scaled weights. Better on some thin networks, see `04_three_methods`.
        ignore: leaves that are moved but not compared, see `ignored_leaves`. As in the paper,
            running statistics of BatchNorm, which are no weights, are among them unless this is
            given: they are told by their names, see `pytrees.running_statistics`.
        start: a permutation to start from (of any integer type), with groups in random order.
        max_sweeps: passes over all groups before giving up on convergence.

    Raises:
        ValueError: for an unknown effort, less than one sweep, a start that is no permutation of
            these networks, a path in `ignore` that is not there, or a permutation that moves
            nothing else.
    """
    began = time.perf_counter()
    if start is not None:
        start = checked_permutation(spec, start, params_a, "start")
    problem = weight_problem(spec, params_a, params_b, normalize=normalize, ignore=ignore)
    if start is not None:
        start = {name: start[name] for name in problem.spec.permutations}
    result = search(
        problem.spec,
        problem.a,
        problem.b,
        effort=effort,
        seed=seed,
        start=start,
        max_sweeps=max_sweeps,
        quantity=f"inner product of {'normalised ' if normalize else ''}weights",
        restore=problem.objective,
        squares=problem.squares,
    )
    return dataclasses.replace(
        result,
        permutation=problem.sorted.restored(result.permutation),
        seconds=time.perf_counter() - began,
    )


@checks.arguments
def algorithm_1(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    ignore: Collection[str] | None = None,
    max_sweeps: checks.Count = 100,
) -> MatchingResult:
    """Weight matching as in the paper (Algorithm 1): from the identity, in random order.

    For comparison: the result depends on the seed, and on networks with residual streams it often
    misses even a planted permutation.
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
    )
