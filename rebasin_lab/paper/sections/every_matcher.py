"""Every matcher of the library on the same pairs: how near it comes, and the line it leaves.

Section 3, Fig. 2, appendices A.7 and A.11, beside controls. The paper's weight matching is
`algorithm_1`; the library's own stands beside it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.analysis import calibration
from rebasin_lab.matching import baselines
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.pair_lines import Pair, PairLines, walk
from rebasin_lab.paper.sections.quantities import listed, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

THREE = ("activation", "algorithm_1", "straight_through")  # of the paper
SHOWN = ("naive", "random", *THREE)  # the line
HALFWAY = (*SHOWN, "weight", "combined")  # the network in its middle

Networks = Mapping[int, Trained]  # by seed


@dataclasses.dataclass(frozen=True, eq=False)
class Compared(PairLines):
    """Every matcher on every pair.

    Attributes:
        by_second_moment: train barriers of activation matching by second moment, one a pair.
        slopes: by method, for each pair that of the train loss at A towards the permuted B (nats).
        halfway: by method, "ends" first, for each network half-way (of "ends": for each end) the
            spread of its logits, its test loss, and that at its best temperature.
    """

    by_second_moment: Sequence[float]
    slopes: Mapping[str, Sequence[float]]
    halfway: Mapping[str, Sequence[tuple[float, float, float]]]

    @property
    def matchers(self) -> list[str]:
        """The methods but "naive"."""
        return self.methods[1:]

    def mean_barrier(self, method: str) -> float:
        """Return the mean train barrier in nats."""
        return float(np.mean(self.barriers(method)))

    def seconds(self, method: str) -> list[float] | None:
        """Return the seconds that a matcher takes, pair by pair."""
        return self.each(method, lambda one: one.result.seconds) if method != "naive" else None

    def table(self) -> Table:
        """Return for every method its time, how near it comes, and the line it leaves."""
        return Table(
            rows={method: _label(method) for method in self.methods},
            corner="method",
            columns=[
                Column("time", "s", self.seconds),
                Column("inner product", "", self.inner_products, digits=1),
                Column("train barrier", "nats", self.barriers),
                Column("test accuracy half-way", "%", self.accuracies),
            ],
        )

    def reading(self) -> Prose:
        """Return in words who comes nearest, and whose line is lowest."""
        nearest = max(self.matchers, key=lambda method: sum(self.inner_products(method)))
        lowest = min(self.matchers, key=self.mean_barrier)
        number = len(self.pairs)
        left = {_label(m): 100 * np.mean(self.shares(m)) for m in (*THREE, "random")}
        best = (
            f"{_label(nearest)} comes nearest and has the lowest barrier, too"
            if nearest == lowest
            else f"{_label(nearest)} comes nearest, {_label(lowest)} has the lowest barrier"
        )
        downhill = sum(slope < 0 for slope in self.slopes["steepest_descent"])
        return Prose(
            f"**What we measured**, {number} pairs. As means over them, {best}. Of the naive "
            f"barrier are left: {listed(left, '%')}. Steepest descent starts downhill on "
            f"{downhill} of {number} pairs."
        )

    def confidence(self) -> Table:
        """Return how far logits spread half-way, the test loss, and that at one temperature."""
        names = {"ends": "A and B themselves"}
        columns = {"spread of logits": "", "test loss": "nats", "test loss, tempered": "nats"}
        return Table(
            rows=[names.get(name, _label(name)) for name in self.halfway],
            corner="half-way",
            columns=[
                Column(
                    heading, unit, [[one[index] for one in each] for each in self.halfway.values()]
                )
                for index, (heading, unit) in enumerate(columns.items())
            ],
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the lines of the first pair, and the barriers of every matcher."""
        first = self.first
        left = [first[m].train_barrier / first["naive"].train_barrier for m in THREE]
        means = {method: self.mean_barrier(method) for method in self.matchers}
        cosines = {method: self.cosines(method) for method in self.matchers}
        nearest = max(cosines, key=lambda method: sum(cosines[method]))
        grid = len(first["naive"].curve.lambdas)
        heights = {name: first[name].train_barrier for name in SHOWN}
        yield Figure(
            name="lines",
            plot="method_lines",
            numbers={"curves": {name: first[name].curve.as_numbers() for name in SHOWN}},
            title=f"On this pair the paper's three methods leave {quantity(100 * min(left), '%')} "
            f"to {quantity(100 * max(left), '%')} of the naive barrier",
            caption="The loss on the line from A to the permuted B, one pair, by the paper's "
            f"three methods, at {grid} points, evaluated on {self.eval_data.title}; Fig. 2 of "
            "the paper, MLP. The naive line and that of a random order leave the picture.",
            alt=f"Train loss barriers of the first pair: {listed(heights, 'nats')}.",
            networks=[self.networks[seed] for seed in self.pairs[0]],
            claims=["section3-equal-barriers", "section3-ste-best", "section3-ste-after-weight"],
            size=(9.0, 3.6),
        )
        yield Figure(
            name="matchers",
            numbers={
                "methods": {
                    method: {"cosines": cosines[method], "barriers": self.barriers(method)}
                    for method in self.matchers
                },
                "naive": self.barriers("naive"),
            },
            title=f"Nearest to A: {_label(nearest)}; lowest barrier: "
            f"{_label(min(means, key=means.get))}",
            caption="The barrier that every matcher leaves (left), and how far it lines "
            "weights up (right); one mark per pair.",
            alt=f"Train loss barriers, means: {listed(means, 'nats')}.",
            networks=[*self.networks.values()],
            claims=["section3-correlation", "a11-steepest-descent"],
            size=(9.0, 3.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return barriers by method, in proportion; weight matching is the paper's Algorithm 1."""
        at = {method: np.array(self.barriers(method)) for method in self.methods}
        is_downhill = np.array(self.slopes["steepest_descent"]) < np.minimum(
            0, self.slopes["algorithm_1"]
        )
        ratio = at["steepest_descent"] / at["algorithm_1"]
        return {
            "section3-correlation": at["activation"] - self.by_second_moment,
            "section3-equal-barriers": np.max([at[m] for m in THREE], axis=0) / at["naive"],
            "section3-ste-best": at["straight_through"]
            / np.minimum(at["activation"], at["algorithm_1"]),
            # The estimator starts from the library's weight matching.
            "section3-ste-after-weight": at["straight_through"] / at["weight"],
            "a11-steepest-descent": np.where(is_downhill, ratio, 0.0),
        }


def compare(
    study: Study, trained: Networks, estimates: Mapping[Pair, matching.MatchingResult]
) -> Compared:
    """Match every pair by every matcher, and evaluate the lines and the networks half-way.

    Args:
        study: the section at work.
        trained: its MLPs.
        estimates: results of the straight-through estimator, which takes longest, by pair.
    """
    profile, data, apply_fn = study.profile, study.data, study.model.apply
    options = {
        "data": data,
        "eval_data": profile.coarse(data),
        "num_lambdas": profile.num_coarse_lambdas,
    }
    moment = {"second moment": {"method": "activation", "similarity": "second_moment"}}
    methods = ["naive", *matching.MATCHERS]
    slopes: dict[str, list[float]] = {"algorithm_1": [], "steepest_descent": []}
    halfway: dict[str, list[tuple[float, float, float]]] = {"ends": []}
    with study.bar(len(methods) * len(profile.pairs), "matching and walking lines") as bar:
        walked = walk(
            trained,
            profile.pairs,
            methods=methods,
            results={pair: {"straight_through": each} for pair, each in estimates.items()},
            on_method=lambda _: bar.update(),
            **options,
        )
    second = walk(trained, profile.pairs, methods=moment, **options)
    with study.bar(len(profile.pairs), "asking networks half-way") as bar:
        for pair, found in walked.compared.items():
            a, b = (trained[seed].params for seed in pair)
            ends = {
                name: symmetry.apply_permutation(walked.spec, found[name].permutation, b)
                for name in (*HALFWAY, *slopes)
            }
            gradient = cached(baselines.train_loss_gradient, apply_fn, a, data)
            for name, each in slopes.items():
                step = jax.tree.map(np.subtract, ends[name], a)
                each.append(pytrees.inner_product(gradient, step))
            halfway["ends"] += [_confidence(study, params) for params in (a, b)]
            for name in HALFWAY:
                middle = pytrees.lerp(0.5, a, ends[name])
                halfway.setdefault(name, []).append(_confidence(study, middle))
            bar.update()
    return walked.extended(
        Compared, by_second_moment=second.barriers("second moment"), slopes=slopes, halfway=halfway
    )


def _confidence(study: Study, params: PyTree) -> tuple[float, float, float]:
    labels = study.data.test_labels
    logits = calibration.predicted_logits(study.model.apply, params, study.data.test_images)
    loss = calibration.negative_log_likelihood(logits, labels)
    return float(logits.std()), loss, calibration.tempered_loss(logits, labels).loss


def _label(method: str) -> str:
    known = method in matching.MATCHERS
    return matching.MATCHERS[method].label if known else method
