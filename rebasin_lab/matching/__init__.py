"""Find the permutation that aligns model B with model A.

One file per matcher, and one record in `MATCHERS`, which `match`, comparisons, the explorer,
figures and tests read. Add a matcher of your own at run time:

    rl.MATCHERS["mine"] = rl.Matcher(my_matching, "my matching")

The engine, in reading order: `assignment` and `products`, the two steps that take the time;
`similarity` and `nested_groups`, the blocks that are matched; `coordinate_ascent`, the loop;
`search`, its starts and its end. `sorting` and `rescaling` prepare weights for it.
"""

from collections.abc import Mapping, Sequence
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
from rebasin_lab.matching.matcher import Matcher
from rebasin_lab.matching.result import MatchingResult, Start
from rebasin_lab.matching.straight_through import straight_through_matching
from rebasin_lab.matching.weight import algorithm_1, weight_matching
from rebasin_lab.symmetry import PermutationSpec

__all__ = [
    "MATCHERS",
    "EveryMethod",
    "Matcher",
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

# All forms of weight matching are green, the reduced ones with an open marker; controls are grey.
_GREEN, _BLACK, _GREY = "#009E73", "#000000", "#999999"

MATCHERS = checks.Registry(
    Matcher,
    {
        "weight": Matcher(
            weight_matching,
            "weight matching",
            _GREEN,
            "^",
            has_visits=True,
            efforts={"low": {"effort": "fast"}, "high": {"effort": "thorough"}},
        ),
        "activation": Matcher(
            activation_matching,
            "activation matching",
            "#56B4E9",
            "*",
            efforts={"low": {"num_images": 500}},
        ),
        "combined": Matcher(
            combined_matching,
            "weights and activations",
            _BLACK,
            "D",
            has_visits=True,
            efforts={
                "low": {"effort": "fast", "num_images": 500},
                "high": {"effort": "thorough"},
            },
        ),
        "straight_through": Matcher(
            straight_through_matching,
            "straight-through",
            "#E69F00",
            "p",
            efforts={"low": {"num_epochs": 4}, "high": {"num_epochs": 60}},
        ),
        # For comparison.
        "algorithm_1": Matcher(
            algorithm_1, "Algorithm 1", _GREEN, "^", is_open=True, has_visits=True
        ),
        "one_sweep": Matcher(
            one_sweep_matching, "one sweep of it", _GREEN, "v", is_open=True, has_visits=True
        ),
        "greedy": Matcher(greedy_matching, "greedy", "#CC79A7", "s"),
        "steepest_descent": Matcher(steepest_descent_matching, "steepest descent", "#7F7F00", "x"),
        "random": Matcher(random_matching, "random", _GREY, "o", is_open=True),
    },
    reserved=("naive",),
)


class EveryMethod(Sequence):
    """The names that `compare_matchers` takes, "naive" first; read from `MATCHERS` at each use."""

    def __getitem__(self, index: Any) -> Any:
        return ("naive", *MATCHERS)[index]

    def __len__(self) -> int:
        return 1 + len(MATCHERS)


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
    """Find the permutation of B that aligns it with A.

    Args:
        method: a name in `MATCHERS`: "weight" (Ainsworth et al. 2022, section 3.2), "activation"
            (3.1), "straight_through" (3.3), "combined" (weights and activations), and baselines:
            "algorithm_1" (the paper's weight matching), "one_sweep",
            "greedy", "steepest_descent", "random".
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; apply `result.permutation` to it.
        seed: fixes the result.
        **options: of the matcher; one that uses data needs `apply_fn` and `data`.

    Raises:
        ValueError: for an unknown method, missing or unknown options, models of different shapes,
            a spec that does not fit, parameters that are not finite, or a matcher of your own that
            returns no `MatchingResult`.
    """
    check_options(method, options)
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    spec.validate(params_a)
    for name, params in {"params_a": params_a, "params_b": params_b}.items():
        pytrees.check_finite(params, name)
    result = MATCHERS[method].function(spec, params_a, params_b, seed=int(seed), **options)
    if not isinstance(result, MatchingResult):
        raise ValueError(
            f"Expected the matcher '{method}' to return a MatchingResult; got "
            f"{checks.shortened(result)}."
        )
    return result


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Check the method and options of a call of `match` before any work.

    Raises:
        ValueError: for an unknown method, missing or unknown options, or data and a function of
            the wrong kind.
    """
    checks.choice("a matcher", method, MATCHERS, "match")
    matcher = MATCHERS[method]
    known = matcher.options
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
    if "apply_fn" in options:
        metrics.check_function(options["apply_fn"], "apply_fn")
    if matcher.needs_loss and not isinstance(options["data"], datasets.Dataset):
        raise ValueError(
            f"Expected a data set for the matcher '{method}', which needs labels; got "
            f"{type(options['data']).__name__}. Take one from load_dataset, or build a Dataset."
        )
