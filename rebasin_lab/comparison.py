"""Matchers side by side on one pair of networks: how near each brings B, and what the line is like.

A higher inner product, a lower distance and a lower barrier are not the same thing, so all three
are kept.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, interpolation, matching, pytrees
from rebasin_lab.symmetry import PermutationSpec, apply_permutation


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """One matcher's answer for one pair.

    Attributes:
        params_b: B as it was permuted.
        curve: the line from A to it.
        inner_product: <A, pi(B)>, over all parameters.
        distance: ||A - pi(B)||, likewise.
        result: the matcher's record; None for "naive".
    """

    params_b: PyTree
    curve: interpolation.InterpolationCurve
    inner_product: float
    distance: float
    result: matching.MatchingResult | None

    @property
    def train_barrier(self) -> float:
        """The loss barrier of the line on training images (nats)."""
        return interpolation.loss_barrier(self.curve, split="train")

    @property
    def test_barrier(self) -> float:
        """The loss barrier of the line on test images (nats)."""
        return interpolation.loss_barrier(self.curve, split="test")


def compare_matchers(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    apply_fn: Callable,
    data: datasets.Dataset,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("naive", *matching.MATCHERS),
    seed: int = 0,
    found: Mapping[str, matching.MatchingResult] | None = None,
    evaluated_on: datasets.Dataset | None = None,
    num_lambdas: int = 25,
    on_method: Callable[[str], None] | None = None,
) -> dict[str, Comparison]:
    """Match a pair by several methods, and evaluate the line from A to each permuted B.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move.
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        data: what matchers that look at data are given.
        methods: names in `MATCHERS`, or "naive", which leaves B as it is; or a mapping from them to
            further options. One of two variants of a matcher goes by a name of its own, with
            {"method": ...} among its options.
        seed: of every matcher.
        found: records that are there already, by name: these are not matched again.
        evaluated_on: the data set of the lines, `data` by default.
        num_lambdas: points on each line, ends included.
        on_method: called with each method's name when it is done, for progress.

    Raises:
        ValueError: as `match` and `interpolation_curve`.
    """
    if not isinstance(methods, Mapping):
        methods = dict.fromkeys(methods, {})
    comparisons = {}
    for name, options in methods.items():
        result, moved = None, params_b
        if name != "naive":
            result = (found or {}).get(name)
            if result is None:
                own = {"method": name, **options}
                if own["method"] in matching.NEED_DATA:
                    own = {"apply_fn": apply_fn, "data": data, **own}
                method = own.pop("method")
                result = matching.match(method, spec, params_a, params_b, seed=seed, **own)
            moved = apply_permutation(spec, result.permutation, params_b)
        comparisons[name] = Comparison(
            params_b=moved,
            curve=interpolation.interpolation_curve(
                apply_fn, params_a, moved, evaluated_on or data, num_lambdas=num_lambdas
            ),
            inner_product=pytrees.inner_product(params_a, moved),
            distance=pytrees.distance(params_a, moved),
            result=result,
        )
        if on_method is not None:
            on_method(name)
    return comparisons


def comparison_table(compared: Sequence[Mapping[str, Comparison]]) -> str:
    """Several pairs in one text table: means over them, and each train barrier (nats).

    Args:
        compared: for each pair what `compare_matchers` returned; the same names for each.
    """
    rows = [["", "seconds", "<A,π(B)>", "distance", "test accuracy", "train barrier", "of each"]]
    for name in compared[0]:
        of = [one[name] for one in compared]
        seconds = [one.result.seconds for one in of if one.result]
        barriers = [one.train_barrier for one in of]
        halfway = [np.interp(0.5, one.curve.lambdas, one.curve.test_accuracy) for one in of]
        rows.append(
            [
                name,
                f"{np.mean(seconds):.2f}" if seconds else "-",
                f"{np.mean([one.inner_product for one in of]):.1f}",
                f"{np.mean([one.distance for one in of]):.2f}",
                f"{100 * np.mean(halfway):.1f} %",
                f"{np.mean(barriers):.4f}",
                " ".join(f"{barrier:.4f}" for barrier in barriers),
            ]
        )
    ends = [one[name].curve.test_accuracy[[0, -1]] for one in compared for name in one]
    rows.append(["the ends", "", "", "", f"{100 * np.mean(ends):.1f} %", "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
