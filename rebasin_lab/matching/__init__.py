"""Finding the permutation that lines model B up with model A.

One file per matcher; `MATCHERS` is the registry that `match` and the tests' laws go through.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.matching.assignment import solve_assignment
from rebasin_lab.matching.record import MatchingResult
from rebasin_lab.matching.weight import weight_matching
from rebasin_lab.symmetry import PermutationSpec

__all__ = ["MATCHERS", "MatchingResult", "match", "solve_assignment", "weight_matching"]

MATCHERS: dict[str, Callable[..., MatchingResult]] = {"weight": weight_matching}


def match(
    method: str,
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: int = 0,
    **options: Any,
) -> MatchingResult:
    """Find the permutation of B that lines it up with A.

    Args:
        method: a name in `MATCHERS`; "weight" is Ainsworth et al. 2022, Algorithm 1.
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; apply `result.permutation` to it.
        seed: fixes the result.
        **options: passed on to the matcher.

    Raises:
        ValueError: for an unknown method, models of different shapes, a spec that does not fit or
            has groups that vary along another (use `spec.shared()`), or parameters that are not
            finite.
    """
    if method not in MATCHERS:
        raise ValueError(f"Expected a matcher among {sorted(MATCHERS)}; got {method!r}.")
    pytrees.check_same_shapes(params_a, params_b)
    spec.validate(params_a)
    pytrees.check_finite(params_a, "params_a")
    pytrees.check_finite(params_b, "params_b")
    return MATCHERS[method](spec, params_a, params_b, seed=seed, **options)
