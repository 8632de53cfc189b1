"""Lines between pairs of networks, with B's units in several orders: what most sections measure.

An order is what a matcher finds, or that in which B came (naive), or a random one, the control.
Claims are about the paper's Algorithm 1; our own weight matching stands beside it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import datasets, matching, pytrees
from rebasin_lab.analysis import interpolation
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Resolution
from rebasin_lab.paper.sections.quantities import num_pairs, summary
from rebasin_lab.paper.sections.record import Column, Figure, Record
from rebasin_lab.paper.sections.study import learned_part, params_of, spec_of
from rebasin_lab.paper.store import Trained
from rebasin_lab.symmetry import PermutationSpec

NAMES = {
    "naive": "naive",
    "random": "random order",
    "algorithm_1": "Algorithm 1",
    "weight": "weight matching (ours)",
    "late": "permutation of the end",
    "activation": "activation matching",
    "changes": "learned part (ours)",
}
# Those that figures of the paper's claims draw, by the names that they have there.
CLAIMED = {NAMES[method]: method for method in ("naive", "algorithm_1")}
# The resolution of the paper's plots, in nats; with ends that differ a little the least value of a
# barrier is half their difference, not zero.
ZERO = 0.02
# The paper says zero of networks that have seen all of MNIST; those of few images end elsewhere.
NO_ZERO = {"quick": Resolution(ZERO, "4,000 training images")}
# The reason why claims about merged networks fail where these have seen few images.
CHANCE = {
    "quick": "Networks that have seen few images keep most of their random start, and weight "
    "matching lines that up, too. In the order of their learned parts (ours) the same networks "
    "merge far better: it is the matching that fails."
}
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class PairLines(Record):
    """Lines between independently trained networks of one architecture.

    Attributes:
        networks: by seed.
        compared: by pair of seeds, then by method, a name in `NAMES` or of a matcher.
        eval_data: the images that lines are evaluated on.
        spec: of the networks' permutations.
        epoch: after which the networks were compared; None is the last.
    """

    networks: Mapping[int, Trained]
    compared: Mapping[Pair, Mapping[str, Comparison]]
    eval_data: datasets.Dataset
    spec: PermutationSpec
    epoch: int | None

    @property
    def pairs(self) -> list[Pair]:
        """The seeds of A and B, pair by pair."""
        return [*self.compared]

    @property
    def seeds(self) -> dict[str, Pair]:
        """The pairs by name, for a dial."""
        return {f"{a} and {b}": (a, b) for a, b in self.pairs}

    @property
    def first(self) -> Mapping[str, Comparison]:
        """What every method came to on the first pair."""
        return self.compared[self.pairs[0]]

    @property
    def methods(self) -> list[str]:
        """The names of methods, in order."""
        return [*self.first]

    def each(self, method: str, of: Callable[[Comparison], Any]) -> list[Any]:
        """Return a number of a method's lines, pair by pair."""
        return [of(one[method]) for one in self.compared.values()]

    def of(self, method: str) -> list[Comparison]:
        """Return what a method came to, pair by pair."""
        return self.each(method, lambda one: one)

    def barriers(self, method: str) -> list[float]:
        """Return the train loss barriers in nats, pair by pair."""
        return self.each(method, lambda one: one.train_barrier)

    def shares(self, method: str) -> list[float]:
        """Return the share of the naive train barrier that a method leaves, pair by pair."""
        return np.divide(self.barriers(method), self.barriers("naive")).tolist()

    def above_chord(self, method: str) -> list[float]:
        """Return the largest heights above the straight line between both ends' train losses."""
        height = functools.partial(interpolation.loss_barrier, split="train", baseline="chord")
        return self.each(method, lambda one: height(one.curve))

    def above_ends(self, method: str) -> list[float]:
        """Return the test losses half-way minus the mean of the ends, in nats."""
        return self.each(
            method, lambda one: middle(one.curve.test_loss) - ends(one.curve.test_loss)
        )

    def inner_products(self, method: str) -> list[float]:
        """Return <A, pi(B)>, pair by pair."""
        return self.each(method, lambda one: one.inner_product)

    @functools.cached_property
    def lengths(self) -> dict[int, float]:
        """The lengths of the networks' weight vectors, by seed."""
        params = {seed: params_of(one, self.epoch) for seed, one in self.networks.items()}
        return {seed: pytrees.inner_product(each, each) ** 0.5 for seed, each in params.items()}

    def cosines(self, method: str) -> list[float]:
        """Return the cosines between all weights of A and of the reordered B, pair by pair."""
        products = zip(self.pairs, self.inner_products(method), strict=True)
        return [product / (self.lengths[a] * self.lengths[b]) for (a, b), product in products]

    def accuracies(self, method: str) -> list[float]:
        """Return the test accuracies half-way, in per cent."""
        return self.each(method, lambda one: 100 * middle(one.curve.test_accuracy))

    def drops(self, method: str) -> list[float]:
        """Return the drops of test accuracy half-way below the mean of the ends, in points."""
        curves = self.each(method, lambda one: one.curve.test_accuracy)
        return [100 * (ends(curve) - middle(curve)) for curve in curves]

    def curves(self, methods: Sequence[str] | Mapping[str, str]) -> dict[str, list[dict]]:
        """Return the lines of methods as plots draw them, by method or the name that is given."""
        named = (
            methods if isinstance(methods, Mapping) else dict(zip(methods, methods, strict=True))
        )
        return {
            name: self.each(method, lambda one: one.curve.as_numbers())
            for name, method in named.items()
        }


@dataclasses.dataclass(frozen=True, eq=False)
class LinesBy(Record):
    """Lines between pairs of networks of several ages, widths or recipes.

    Attributes:
        lines: by age, width or recipe, in order.
    """

    lines: Mapping[Any, PairLines]

    @property
    def networks(self) -> list[Trained]:
        """All networks."""
        return [one for each in self.lines.values() for one in each.networks.values()]

    @property
    def pairs(self) -> list[Pair]:
        """The seeds of A and B, pair by pair."""
        return next(iter(self.lines.values())).pairs

    @property
    def seeds(self) -> dict[str, Pair]:
        """The pairs by name, for a dial."""
        return next(iter(self.lines.values())).seeds

    @property
    def eval_data(self) -> datasets.Dataset:
        """The images that lines are evaluated on."""
        return next(iter(self.lines.values())).eval_data

    def barriers(self, method: str) -> list[list[float]]:
        """Return train loss barriers in nats, a row for each of `lines`; none if not tried."""
        return [
            each.barriers(method) if method in each.methods else [] for each in self.lines.values()
        ]

    def columns(self, names: Mapping[str, str]) -> list[Column]:
        """Return a column of train barriers for each method, by the column's heading."""
        return [Column(name, "nats", self.barriers(method)) for name, method in names.items()]

    def dial(self, key: Any, name: str, matched: str) -> Figure:
        """Return the lines of one of `lines`, naive and matched, for a dial.

        Args:
            key: in `lines`.
            name: of what the dial is at.
            matched: the method, beside "naive".
        """
        here, methods = self.lines[key], {"naive": "naive", "weight matching": matched}
        naive, left = (summary(here.barriers(method), "nats") for method in methods.values())
        return Figure(
            name="lines",
            plot="interpolation",
            numbers={
                "curves": here.curves(methods),
                "most_loss": max(
                    float(np.max(loss))
                    for each in self.lines.values()
                    for method in methods.values()
                    for one in each.of(method)
                    for loss in (one.curve.train_loss, one.curve.test_loss)
                ),
            },
            title=f"{name}: a barrier of {naive} nats, {left} after {NAMES[matched]}",
            caption=f"{num_pairs(len(here.pairs)).capitalize()}, a thin line each, and their mean.",
            alt=f"{name}: train barriers naive {naive}, after {NAMES[matched]} {left} nats.",
            networks=[*here.networks.values()],
        )


def walk(
    trained: Mapping[int, Trained],
    pairs: Sequence[Pair],
    *,
    data: datasets.Dataset,
    epoch: int | None = None,
    results: Mapping[Pair, Mapping[str, matching.MatchingResult]] | None = None,
    **options: Any,
) -> PairLines:
    """Match every pair by several methods, and walk the lines.

    The method "changes" is weight matching of what both networks have learned.

    Args:
        trained: networks of one architecture, by seed.
        pairs: of seeds.
        data: the images that matchers look at, and that lines are evaluated on if no others are.
        epoch: after which the networks are compared, the last by default.
        results: of matchings done before, by pair and method.
        **options: of `compare_matchers`, methods among them.
    """
    first, compared = trained[pairs[0][0]], {}
    spec = spec_of(first, data)
    for pair in pairs:
        two = [trained[seed] for seed in pair]
        known = results[pair] if results else {}
        if "changes" in options["methods"] and "changes" not in known:
            learned = [learned_part(one, epoch) for one in two]
            known = {"changes": cached(matching.match, "weight", spec, *learned, seed=0)} | known
        compared[pair] = cached(
            compare_matchers,
            spec,
            *(params_of(one, epoch) for one in two),
            apply_fn=first.model.apply,
            data=data,
            results=known or None,
            **options,
        )
    return PairLines(trained, compared, options.get("eval_data", data), spec, epoch)


def middle(values: np.ndarray) -> float:
    """Return the value half-way on a line."""
    return float(values[len(values) // 2])


def ends(values: np.ndarray) -> float:
    """Return the mean of the two ends of a line."""
    return float(values[0] + values[-1]) / 2
