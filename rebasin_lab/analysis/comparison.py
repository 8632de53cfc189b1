"""Compare matchers on one pair of networks: the distance to permuted B, and the loss on the line.

A higher inner product, a lower distance and a lower barrier are different goals, so all three are
recorded.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, matching, metrics, pytrees
from rebasin_lab.analysis import interpolation
from rebasin_lab.symmetry import (
    Permutation,
    PermutationSpec,
    apply_permutation,
    identity_permutation,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The result of one matcher for one pair, and its line.

    Attributes:
        permutation: of B.
        curve: the line from A to permuted B.
        inner_product: <A, pi(B)>, over all parameters.
        distance: ||A - pi(B)||, likewise.
        result: of the matcher; None for "naive".
    """

    permutation: Permutation
    curve: interpolation.InterpolationCurve
    inner_product: float
    distance: float
    result: matching.MatchingResult | None

    @property
    def train_barrier(self) -> float:
        """The loss barrier of the line on training images, in the unit of the loss."""
        return interpolation.loss_barrier(self.curve, split="train")

    @property
    def test_barrier(self) -> float:
        """The loss barrier of the line on test images, likewise."""
        return interpolation.loss_barrier(self.curve, split="test")


@checks.renamed(found="results", evaluated_on="eval_data")
@checks.arguments
def compare_matchers(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    apply_fn: Callable,
    data: datasets.Dataset | Iterable[Any],
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] = matching.EveryMethod(),
    seed: checks.Seed = 0,
    results: Mapping[str, matching.MatchingResult] | None = None,
    eval_data: datasets.Dataset | None = None,
    num_lambdas: checks.Points = 25,
    loss_fn: Callable | None = None,
    prepare: Callable[[PyTree], PyTree] | None = None,
    on_method: Callable[[str], None] | None = None,
) -> dict[str, Comparison]:
    """Match a pair by several methods, and evaluate the line from A to each permuted B.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move.
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        data: for matchers that use data.
        methods: names in `MATCHERS`, or "naive", which does not permute B; by default all of these,
            your own included; or a mapping from names to options. For a variant of a matcher
            choose a name of your own, with {"method": ...} among its options.
        seed: of every matcher.
        results: of matchings done before, by name; these are not matched again.
        eval_data: the data set for the lines, `data` by default; needed if `data` are batches of
            your own, which have no labels.
        num_lambdas: points on each line, ends included.
        loss_fn: for the lines and for matchers that use a loss: another one than cross-entropy in
            nats, see `metrics`.
        prepare: called with the parameters at every point of a line, ends included; what it returns
            is evaluated. It may re-estimate statistics, see `reestimate_statistics`.
        on_method: called with each method's name after it, for progress.

    Raises:
        ValueError: as `match` and `interpolation_curve`; before any work, if it is about names,
            options and the data of the lines.
    """
    params_a, params_b = pytrees.aligned(params_a, params_b)
    results = results or {}
    loss = {} if loss_fn is None else {"loss_fn": loss_fn}
    calls = _calls(methods, {"apply_fn": apply_fn, "data": data, **loss})
    on, name = (data, "data") if eval_data is None else (eval_data, "eval_data")
    splits = metrics.checked_data(apply_fn, params_a, on, loss_fn=loss_fn, name=name)
    if unknown := [name for name in results if name not in calls]:
        raise ValueError(f"Expected results to hold records of {list(calls)}; got {unknown}.")
    metrics.check_parameters(params_b, "params_b")
    splits, lambdas = jax.device_put(splits), np.linspace(0, 1, num_lambdas)
    comparisons, ends = {}, {}  # the two ends of every line are the same
    for name, (method, options) in calls.items():
        result, permutation = results.get(name), identity_permutation(spec, params_b)
        if method != "naive" and result is None:
            result = matching.match(method, spec, params_a, params_b, **({"seed": seed} | options))
        if result is not None:
            permutation = result.permutation
        moved = apply_permutation(spec, permutation, params_b)
        moved = pytrees.aligned_to_combine(params_a, moved)[1]
        measured = interpolation.measure_line(
            apply_fn,
            params_a,
            moved,
            splits,
            lambdas,
            loss_fn=loss_fn,
            known=ends,
            prepare=prepare,
        )
        ends = {0.0: measured[0], 1.0: measured[-1]}
        comparisons[name] = Comparison(
            permutation=permutation,
            curve=interpolation.curve_of(lambdas, measured, loss_fn=loss_fn),
            inner_product=pytrees.inner_product(params_a, moved),
            distance=pytrees.distance(params_a, moved),
            result=result,
        )
        if on_method is not None:
            on_method(name)
    return comparisons


def _calls(
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    offered: Mapping[str, Any],
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> the matcher and its checked options, with the offered ones that it takes."""
    if not methods or len(set(methods)) < len(methods):
        raise ValueError(f"Expected methods to be one or more, each once; got {list(methods)}.")
    if not isinstance(methods, Mapping):
        methods = dict.fromkeys(methods, {})
    calls = {}
    for name, given in methods.items():
        options = {"method": name} | given
        method = options.pop("method")
        if method != "naive":
            checks.choice("a matcher", method, matching.MATCHERS, "match")
            options = matching.MATCHERS[method].accepted(offered) | options
            checked = {option: value for option, value in options.items() if option != "seed"}
            matching.check_options(method, checked)
        elif options:
            raise ValueError(
                f"Expected no options for 'naive', which moves nothing; got {options}."
            )
        calls[name] = method, options
    return calls


@checks.arguments
def comparison_table(compared: Sequence[Mapping[str, Comparison]]) -> str:
    """Several pairs in one text table: means over them, and each train barrier (nats).

    The test accuracy is that half-way, "-" if the lines have no point there, or no accuracy.
    Another loss than cross-entropy is named.

    Args:
        compared: for each pair the result of `compare_matchers`, all with the same names.

    Raises:
        ValueError: for no pairs, anything but a list, or pairs with different names.
    """
    if not compared:
        raise ValueError(
            "Expected compared to be a list of what compare_matchers returned; got none."
        )
    if wrong := [list(one) for one in compared if one.keys() != compared[0].keys()]:
        raise ValueError(f"Expected the names of the first, {list(compared[0])}; got {wrong[0]}.")
    names = {one.curve.loss_name for each in compared for one in each.values()}
    if len(names) > 1:
        raise ValueError(f"Expected lines of one loss; got {sorted(names)}.")
    barrier = " ".join(["train barrier", *filter(None, names)])
    columns = ("seconds", "<A,π(B)>", "distance", "half-way accuracy", barrier, "of each")
    rows = [["", *columns]]
    for name in compared[0]:
        results = [one[name] for one in compared]
        seconds = [one.result.seconds for one in results if one.result]
        barriers = [one.train_barrier for one in results]
        halfway = np.concatenate(
            [one.curve.test_accuracy[np.isclose(one.curve.lambdas, 0.5)] for one in results]
        )
        rows.append(
            [
                name,
                f"{np.mean(seconds):.2f}" if seconds else "-",
                f"{np.mean([one.inner_product for one in results]):.1f}",
                f"{np.mean([one.distance for one in results]):.2f}",
                _percentage(halfway),
                f"{np.mean(barriers):.4f}",
                " ".join(f"{barrier:.4f}" for barrier in barriers),
            ]
        )
    ends = np.array([one[name].curve.test_accuracy[[0, -1]] for one in compared for name in one])
    rows.append(["the ends", "", "", "", _percentage(ends), "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _percentage(accuracies: np.ndarray) -> str:
    """The mean as a percentage; "-" if there is none."""
    mean = np.mean(accuracies) if accuracies.size else np.nan
    return "-" if np.isnan(mean) else f"{100 * mean:.1f} %"
