"""Finding the permutation that lines model B up with model A.

One file per matcher; `MATCHERS` is the registry that `match` and the tests' laws go through. Below
them, in reading order: `assignment` and `products`, the two steps all time goes into; `similarity`
and `nested_groups`, what is matched; `coordinate_ascent`, the loop; `search`, where it starts and
when it ends.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import PyTree

from rebasin_lab import checks, datasets, metrics, pytrees
from rebasin_lab.matching.activation import activation_matching
from rebasin_lab.matching.assignment import solve_assignment
from rebasin_lab.matching.baselines import (
    greedy_matching,
    one_sweep_matching,
    random_matching,
    steepest_descent_matching,
)
from rebasin_lab.matching.combined import combined_matching
from rebasin_lab.matching.result import MatchingResult, Start
from rebasin_lab.matching.straight_through import straight_through_matching
from rebasin_lab.matching.weight import algorithm_1, weight_matching
from rebasin_lab.symmetry import PermutationSpec

__all__ = [
    "MATCHERS",
    "NEED_DATA",
    "NEED_GRADIENTS",
    "MatchingResult",
    "Start",
    "activation_matching",
    "algorithm_1",
    "check_options",
    "combined_matching",
    "greedy_matching",
    "match",
    "one_sweep_matching",
    "random_matching",
    "solve_assignment",
    "steepest_descent_matching",
    "straight_through_matching",
    "weight_matching",
]

MATCHERS: dict[str, Callable[..., MatchingResult]] = {
    "weight": weight_matching,
    "activation": activation_matching,
    "combined": combined_matching,
    "straight_through": straight_through_matching,
    # For comparison.
    "algorithm_1": algorithm_1,
    "one_sweep": one_sweep_matching,
    "greedy": greedy_matching,
    "steepest_descent": steepest_descent_matching,
    "random": random_matching,
}

# These look at data: they take `apply_fn` and `data`.
NEED_DATA = ("activation", "combined", "straight_through", "steepest_descent")
# And these at the loss: `data` must be a data set, and every parameter a float.
NEED_GRADIENTS = ("straight_through", "steepest_descent")


@checks.arguments
def match(
    method: str,
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    **options: Any,
) -> MatchingResult:
    """Find the permutation of B that lines it up with A.

    Args:
        method: a name in `MATCHERS`: "weight" (Ainsworth et al. 2022, section 3.2), "activation"
            (3.1), "straight_through" (3.3), "combined" (weights and activations), and what they are
            compared with: "algorithm_1" (weight matching as the paper has it), "one_sweep",
            "greedy", "steepest_descent", "random".
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; apply `result.permutation` to it.
        seed: fixes the result.
        **options: passed on to the matcher; those in `NEED_DATA` need `apply_fn` and `data`.

    Raises:
        ValueError: for an unknown method, missing or unknown options, models of different shapes,
            a spec that does not fit, or parameters that are not finite.
    """
    check_options(method, options)
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    spec.validate(params_a)
    for name, params in {"params_a": params_a, "params_b": params_b}.items():
        pytrees.check_finite(params, name)
    return MATCHERS[method](spec, params_a, params_b, seed=int(seed), **options)


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Check what can be checked of a call of `match` before any work.

    Raises:
        ValueError: for an unknown method, missing or unknown options, or data and a function of
            the wrong kind.
    """
    checks.choice("a matcher", method, MATCHERS, "match")
    known = {
        name: parameter
        for name, parameter in inspect.signature(MATCHERS[method]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "seed"
    }
    if unknown := [name for name in options if name not in known]:
        raise ValueError(
            f"Expected options of the matcher '{method}', {list(known)}; got {unknown}."
        )
    needed = [name for name, p in known.items() if p.default is p.empty]
    if missing := [name for name in needed if name not in options]:
        raise ValueError(
            f"Expected {' and '.join(needed)} for the matcher '{method}', which looks at data; "
            f"{' and '.join(missing)} missing. Write match('{method}', spec, params_a, params_b, "
            "apply_fn=model.apply, data=data)."
        )
    if method in NEED_DATA:
        metrics.check_function(options["apply_fn"], "apply_fn")
    if method in NEED_GRADIENTS and not isinstance(options["data"], datasets.Dataset):
        raise ValueError(
            f"Expected a data set for the matcher '{method}', which needs labels; got "
            f"{type(options['data']).__name__}. Take one from load_dataset, or build a Dataset."
        )
