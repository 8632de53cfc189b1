"""Lines between pairs of networks, before and after matching: what sections 5.1's figures show.

Each line is walked four times: B as it came, in random order (the control), in the order of the
paper's Algorithm 1, which claims are about, and in that of our weight matching, beside it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from rebasin_lab import datasets, symmetry
from rebasin_lab.analysis import interpolation
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Resolution
from rebasin_lab.paper.sections.record import Column, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained
from rebasin_lab.symmetry import PermutationSpec

NAMES = {
    "naive": "naive",
    "random": "random order",
    "algorithm_1": "Algorithm 1",
    "weight": "weight matching (ours)",
}
# The resolution of the paper's plots, in nats; with ends that differ a little the least value of a
# barrier is half their difference, not zero.
ZERO = 0.02
# The paper says zero of networks that have seen all of MNIST; those of few images end elsewhere.
NO_ZERO = {"quick": Resolution(ZERO, "4,000 training images")}
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class PairLines(Record):
    """Lines between independently trained networks.

    Attributes:
        name: of the networks, for titles.
        networks: by seed.
        comparisons: by pair of seeds, then by method of `NAMES`.
        eval_data: the images that lines are evaluated on.
        spec: of the networks' permutations.
    """

    name: str
    networks: Mapping[int, Trained]
    comparisons: Mapping[Pair, Mapping[str, Comparison]]
    eval_data: datasets.Dataset
    spec: PermutationSpec

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """The seeds of A and B, pair by pair."""
        return [*self.comparisons]

    def of(self, method: str) -> list[Comparison]:
        """Return what a method came to, pair by pair."""
        return [self.comparisons[pair][method] for pair in self.pairs]

    def barriers(self, method: str) -> list[float]:
        """Return the train loss barriers in nats, pair by pair."""
        return [one.train_barrier for one in self.of(method)]

    def shares(self, method: str) -> list[float]:
        """Return the share of the naive train barrier that a method leaves, pair by pair."""
        return np.divide(self.barriers(method), self.barriers("naive")).tolist()

    def above_chord(self, method: str) -> list[float]:
        """Return the largest heights above the straight line between both ends' train losses."""
        return [
            interpolation.loss_barrier(one.curve, split="train", baseline="chord")
            for one in self.of(method)
        ]

    def above_ends(self, method: str) -> list[float]:
        """Return the test losses half-way minus the mean of the ends, in nats."""
        return [middle(one.curve.test_loss) - ends(one.curve.test_loss) for one in self.of(method)]

    def drops(self, method: str) -> list[float]:
        """Return the drops of test accuracy half-way below the mean of the ends, in points."""
        curves = [one.curve.test_accuracy for one in self.of(method)]
        return [100 * (ends(curve) - middle(curve)) for curve in curves]

    def curves(self, methods: Sequence[str]) -> dict[str, list[dict]]:
        """Return the lines of methods, by name, as plots draw them."""
        return {NAMES[key]: [one.curve.as_numbers() for one in self.of(key)] for key in methods}

    def table(self) -> Table:
        """Return barriers, and what lies half-way, by method."""
        return Table(
            rows=[*NAMES.values()],
            corner="order of B's units",
            columns=[
                Column("train barrier", "nats", [self.barriers(key) for key in NAMES]),
                Column("above the chord", "nats", [self.above_chord(key) for key in NAMES]),
                Column(
                    "test loss half-way, above its ends",
                    "nats",
                    [self.above_ends(key) for key in NAMES],
                ),
                Column(
                    "test accuracy half-way, below its ends",
                    "points",
                    [self.drops(key) for key in NAMES],
                ),
            ],
        )


def middle(values: np.ndarray) -> float:
    """Return the value half-way on a line."""
    return float(values[len(values) // 2])


def ends(values: np.ndarray) -> float:
    """Return the mean of the two ends of a line."""
    return float(values[0] + values[-1]) / 2


def walked(
    study: Study,
    trained: Mapping[int, Trained],
    pairs: Sequence[Pair],
    *,
    eval_data: datasets.Dataset,
    num_lambdas: int,
) -> tuple[PermutationSpec, dict[Pair, dict[str, Comparison]]]:
    """Match every pair, walk the lines, and return the spec and the comparisons.

    Args:
        study: the section at work.
        trained: networks of one architecture, by seed.
        pairs: of seeds.
        eval_data: the images that lines are evaluated on.
        num_lambdas: points on each line, both ends included.
    """
    one = trained[pairs[0][0]]
    apply_fn = one.model.apply
    spec = symmetry.infer_permutation_spec(apply_fn, one.params, eval_data.test_images[:1])
    comparisons = {}
    with study.bar(len(pairs) * len(NAMES), "matching and walking lines") as bar:
        for pair in pairs:
            comparisons[pair] = cached(
                compare_matchers,
                spec,
                *(trained[seed].params for seed in pair),
                apply_fn=apply_fn,
                data=eval_data,
                methods=[*NAMES],
                num_lambdas=num_lambdas,
                on_method=lambda _: bar.update(),
            )
    return spec, comparisons
