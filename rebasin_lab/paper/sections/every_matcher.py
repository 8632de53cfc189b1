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

from rebasin_lab import datasets, matching, pytrees, symmetry
from rebasin_lab.analysis import calibration
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.matching import baselines
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import units
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table, quantity
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

THREE = ("activation", "algorithm_1", "straight_through")  # of the paper
SHOWN = ("naive", "random", *THREE)  # the line
HALFWAY = (*SHOWN, "weight", "combined")  # the network in its middle

Networks = Mapping[int, Trained]  # by seed
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Compared(Record):
    """Every matcher on every pair.

    Attributes:
        networks: by seed.
        compared: by pair, then by method, "naive" first.
        by_second_moment: train barriers of activation matching by second moment, one a pair.
        slopes: by method, for each pair that of the train loss at A towards the permuted B (nats).
        halfway: by method, "ends" first, for each network half-way (of "ends": for each end) the
            spread of its logits, its test loss, and that at its best temperature.
        eval_data: the images that lines are evaluated on.
    """

    networks: Networks
    compared: Mapping[Pair, Mapping[str, Comparison]]
    by_second_moment: Sequence[float]
    slopes: Mapping[str, Sequence[float]]
    halfway: Mapping[str, Sequence[tuple[float, float, float]]]
    eval_data: datasets.Dataset

    def each(self, method: str, of: Any) -> list[float]:
        """Return a number of every pair."""
        return [float(of(one[method])) for one in self.compared.values()]

    def barriers(self, method: str) -> np.ndarray:
        """Return train loss barriers in nats, one a pair."""
        return np.array(self.each(method, lambda one: one.train_barrier))

    @property
    def methods(self) -> list[str]:
        """The names of methods, "naive" first."""
        return [*next(iter(self.compared.values()))]

    def table(self) -> Table:
        """Return for every method its time, how near it comes, and the line it leaves."""
        methods = self.methods
        return Table(
            rows=[_label(method) for method in methods],
            corner="method",
            columns=[
                Column(
                    "time",
                    "s",
                    [
                        self.each(method, lambda one: one.result.seconds)
                        if method != "naive"
                        else None
                        for method in methods
                    ],
                ),
                Column(
                    "inner product",
                    "",
                    [self.each(method, lambda one: one.inner_product) for method in methods],
                    digits=1,
                ),
                Column("train barrier", "nats", [self.barriers(method) for method in methods]),
                Column(
                    "test accuracy half-way",
                    "%",
                    [
                        self.each(method, lambda one: 100 * _middle(one.curve.test_accuracy))
                        for method in methods
                    ],
                ),
            ],
        )

    def reading(self) -> Prose:
        """Return in words who comes nearest, and whose line is lowest."""
        matchers = [method for method in self.methods if method != "naive"]
        nearest = max(matchers, key=lambda m: sum(self.each(m, lambda one: one.inner_product)))
        lowest = min(matchers, key=lambda m: self.barriers(m).mean())
        naive, number = self.barriers("naive"), len(self.compared)
        shares = {m: 100 * float((self.barriers(m) / naive).mean()) for m in (*THREE, "random")}
        best = (
            f"{_label(nearest)} comes nearest and has the lowest barrier, too"
            if nearest == lowest
            else f"{_label(nearest)} comes nearest, {_label(lowest)} has the lowest barrier"
        )
        downhill = sum(slope < 0 for slope in self.slopes["steepest_descent"])
        return Prose(
            f"**What we measured**, {number} pairs. As means over them, {best}. Of the naive "
            "barrier are left: "
            + "; ".join(f"{_label(m)} {quantity(share, '%')}" for m, share in shares.items())
            + f". Steepest descent starts downhill on {downhill} of {number} pairs."
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
        pair, first = next(iter(self.compared.items()))
        left = [first[m].train_barrier / first["naive"].train_barrier for m in THREE]
        matchers = [method for method in self.methods if method != "naive"]
        means = {method: self.barriers(method).mean() for method in matchers}
        lengths = {
            seed: _length(self.networks[seed].params) for one in self.compared for seed in one
        }
        cosines = {
            method: [
                one[method].inner_product / (lengths[a] * lengths[b])
                for (a, b), one in self.compared.items()
            ]
            for method in matchers
        }
        nearest = max(cosines, key=lambda method: sum(cosines[method]))
        grid = len(first["naive"].curve.lambdas)
        yield Figure(
            name="lines",
            plot="method_lines",
            numbers={"curves": {name: first[name].curve.as_numbers() for name in SHOWN}},
            title="On this pair the paper's three methods leave "
            f"{quantity(100 * min(left), '%')} to {quantity(100 * max(left), '%')} of the naive "
            "barrier",
            caption="The loss on the line from A to the permuted B, one pair, by the paper's "
            f"three methods, at {grid} points, evaluated on {self.eval_data.title}; Fig. 2 of "
            "the paper, MLP. The naive line and that of a random order leave the picture.",
            alt="Train loss barriers of the first pair: "
            + ", ".join(f"{name} {first[name].train_barrier:.3f}" for name in SHOWN)
            + ".",
            networks=[self.networks[seed] for seed in pair],
            claims=[
                "section3-equal-barriers",
                "section3-ste-best",
                "section3-ste-after-weight",
            ],
            size=(9.0, 3.6),
        )
        yield Figure(
            name="matchers",
            plot="matchers",
            numbers={
                "methods": {
                    method: {
                        "cosines": cosines[method],
                        "barriers": self.barriers(method).tolist(),
                    }
                    for method in matchers
                },
                "naive": self.barriers("naive").tolist(),
            },
            title=f"Nearest to A: {_label(nearest)}; lowest barrier: "
            f"{_label(min(means, key=means.get))}",
            caption="The barrier that every matcher leaves (left), and how far it lines "
            "weights up (right); one mark per pair.",
            alt="Train loss barriers, means: "
            + "; ".join(f"{method} {mean:.3f}" for method, mean in means.items())
            + ".",
            networks=[*self.networks.values()],
            claims=["section3-correlation", "a11-steepest-descent"],
            size=(9.0, 3.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return barriers by method, in proportion; weight matching is the paper's Algorithm 1."""
        at = {method: self.barriers(method) for method in self.methods}
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
    eval_data, pairs = profile.coarse(data), profile.pairs
    options = {
        "apply_fn": apply_fn,
        "data": data,
        "eval_data": eval_data,
        "num_lambdas": profile.num_coarse_lambdas,
    }
    moment = {"second moment": {"method": "activation", "similarity": "second_moment"}}
    methods = ["naive", *matching.MATCHERS]
    compared, by_second_moment = {}, []
    slopes: dict[str, list[float]] = {"algorithm_1": [], "steepest_descent": []}
    halfway: dict[str, list[tuple[float, float, float]]] = {"ends": []}
    with study.bar(len(methods) * len(pairs), "matching and walking lines") as bar:
        for pair in pairs:
            a, b = (trained[seed].params for seed in pair)
            spec = units.spec_of(study, trained[pair[0]])
            found = cached(
                compare_matchers,
                spec,
                a,
                b,
                methods=methods,
                results={"straight_through": estimates[pair]},
                on_method=lambda method: bar.update(1),
                **options,
            )
            compared[pair] = found
            second = cached(compare_matchers, spec, a, b, methods=moment, **options)
            by_second_moment.append(second["second moment"].train_barrier)
            ends = {
                name: symmetry.apply_permutation(spec, found[name].permutation, b) for name in found
            }
            gradient = baselines.train_loss_gradient(apply_fn, a, data)
            for name, each in slopes.items():
                step = jax.tree.map(np.subtract, ends[name], a)
                each.append(pytrees.inner_product(gradient, step))
            halfway["ends"] += [_confidence(study, params) for params in (a, b)]
            for name in HALFWAY:
                middle = pytrees.lerp(0.5, a, ends[name])
                halfway.setdefault(name, []).append(_confidence(study, middle))
    return Compared(trained, compared, by_second_moment, slopes, halfway, eval_data)


def _confidence(study: Study, params: PyTree) -> tuple[float, float, float]:
    labels = study.data.test_labels
    logits = calibration.predicted_logits(study.model.apply, params, study.data.test_images)
    logits = logits.astype(np.float64)  # a temperature is fitted in this precision
    loss = calibration.negative_log_likelihood(logits, labels)
    return float(logits.std()), loss, calibration.tempered_loss(logits, labels).loss


def _label(method: str) -> str:
    known = method in matching.MATCHERS
    return matching.MATCHERS[method].label if known else method


def _middle(values: np.ndarray) -> float:
    return values[len(values) // 2]


def _length(params: PyTree) -> float:
    return pytrees.inner_product(params, params) ** 0.5
