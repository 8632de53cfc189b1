"""Networks as small as those of the counterexample: with a weight changed, of A.7.2, and trained.

The counterexample (section 4) is one pair. `one_weight` changes a weight of B at a time,
`trained_pairs` looks for such pairs among networks that SGD finds; both are ours. `slopes` is the
paper's own example of what greedy matching loses.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rebasin_lab import matching, pytrees
from rebasin_lab.matching import baselines
from rebasin_lab.paper import counterexample as toys
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study

NAMES = tuple(toys.PERMUTATIONS)
LAMBDAS = np.linspace(0, 1, 25)
COARSE = 100  # points along each side of the square where the exact error is not at stake
DRAWN = 60  # of a drawn region
PERFECT = 0.01  # the error of a network up to which it counts as perfect, on the coarse grid
SOLVED = 0.02  # the error of a trained network, or of a barrier, up to which it counts as none

# The weights of B that a dial changes, and where they are: layer, kernel or bias, and place.
# Kernels are [in, out]. The dial begins with the first at 0, as in the counterexample.
WEIGHTS: dict[str, tuple[int, str, tuple[int, ...]]] = {
    "b1, unit 1": (0, "bias", (0,)),
    "b1, unit 2": (0, "bias", (1,)),
    "W1, x1 to unit 1": (0, "kernel", (0, 0)),
    "W1, x2 to unit 1": (0, "kernel", (1, 0)),
    "W1, x1 to unit 2": (0, "kernel", (0, 1)),
    "W1, x2 to unit 2": (0, "kernel", (1, 1)),
    "W2, unit 1 to unit 1": (1, "kernel", (0, 0)),
    "W2, unit 2 to unit 1": (1, "kernel", (1, 0)),
    "W2, unit 1 to unit 2": (1, "kernel", (0, 1)),
    "W2, unit 2 to unit 2": (1, "kernel", (1, 1)),
    "b2, unit 1": (1, "bias", (0,)),
    "b2, unit 2": (1, "bias", (1,)),
    "read-out, unit 1": (2, "kernel", (0, 0)),
    "read-out, unit 2": (2, "kernel", (1, 0)),
}
VALUES = [value / 4 for value in range(-8, 9)]


@dataclasses.dataclass(frozen=True, eq=False)
class Slopes(Record):
    """The slope of f between the two networks of A.7.2, matched greedily and by Algorithm 1.

    Attributes:
        epsilon: by how much the second path is larger.
        greedy: the permutation that greedy matching picks.
        picks: of Algorithm 1, one a seed.
        curves: by permutation, the slope at each of `LAMBDAS`.
    """

    epsilon: float
    greedy: str
    picks: Sequence[str]
    curves: Mapping[str, Sequence[float]]

    def _off(self, name: str) -> tuple[float, float]:
        """Return the slope in the middle, and the mean of the ends."""
        curve = self.curves[name]
        return curve[len(curve) // 2], (curve[0] + curve[-1]) / 2

    def _lost(self, name: str) -> str:
        """Return in words what the slope in the middle lacks of the mean of the ends."""
        middle, mean = self._off(name)
        share = 100 * (1 - middle / mean)
        return "nothing" if abs(share) < 1e-6 else quantity(share, "%")

    def figures(self) -> Iterator[Figure]:
        """Yield the slope on both lines."""
        middles = [self._off(name)[0] for name in (self.greedy, self.picks[0])]
        yield Figure(
            name="slopes",
            numbers={
                "lambdas": LAMBDAS.tolist(),
                "slopes": {
                    "greedy": self.curves[self.greedy],
                    "weight matching": self.curves[self.picks[0]],
                },
            },
            title=f"Half-way greedy matching ({self.greedy}) loses {self._lost(self.greedy)} of "
            f"the slope, Algorithm 1 ({self.picks[0]}) {self._lost(self.picks[0])}",
            caption="The slope of f for x > 0, between the two networks of appendix A.7.2 "
            f"(ε = {self.epsilon:g}), matched greedily and by the paper's Algorithm 1.",
            alt=f"From 1 to {1 + self.epsilon:g}; in the middle {middles[0]:.3f} (greedy) and "
            f"{middles[1]:.3f} (weight matching).",
            size=(6.5, 3.6),
        )

    def reading(self) -> Prose:
        """Return in words what both pick."""
        both = self.picks.count("swap both")
        return Prose(
            f"**What we measured.** Greedy matching picks {self.greedy}; Algorithm 1 picks both "
            f"swaps for {both} of {len(self.picks)} orders of visiting the layers."
        )

    def claims(self) -> Mapping[str, Any]:
        """Return slopes in the middle, and how often Algorithm 1 picks both swaps."""
        off = [self._off(name) for name in self.picks]
        return {
            "a72-greedy-slope": self._off(self.greedy)[0],
            "a72-weight-matching": self.picks.count("swap both") / len(self.picks),
            "a72-weight-matching-slope": max(abs(middle - mean) for middle, mean in off),
        }


def slopes(study: Study) -> Slopes:
    """Match the networks of A.7.2 greedily and by Algorithm 1, and measure f between them."""
    pair = toys.linear_pair(study.profile.epsilon)
    models = pair.spec, pair.params_a, pair.params_b
    # By cosine, as in the authors' code, two units of one positive weight each are a tie.
    greedy = baselines.greedy_matching(*models, similarity="inner product")
    found = [
        toys.name_of(matching.match("algorithm_1", *models, seed=seed).permutation)
        for seed in range(study.profile.num_orders)
    ]
    greedy_name = toys.name_of(greedy.permutation)
    curves = {
        name: [
            toys.slope(pytrees.lerp(lam, pair.params_a, pair.permuted_b(name))) for lam in LAMBDAS
        ]
        for name in {greedy_name, *found}
    }
    return Slopes(study.profile.epsilon, greedy_name, found, curves)


@dataclasses.dataclass(frozen=True, eq=False)
class OneWeight(Record):
    """The counterexample with one weight of B changed, for every weight and value.

    Attributes:
        pair: A and the B that is changed.
        curves: by weight and value, then by permutation: the error at each of `LAMBDAS`.
    """

    pair: toys.Pair
    curves: Mapping[tuple[str, float], Mapping[str, np.ndarray]]

    @functools.cached_property
    def highest(self) -> float:
        """The highest error on any line, where the axis ends."""
        return max(float(errors.max()) for four in self.curves.values() for errors in four.values())

    def own_error(self, weight: str, value: float) -> float:
        """Return the error of the changed B itself."""
        return float(self.curves[weight, value]["identity"][-1])

    def best(self, weight: str, value: float) -> tuple[float, str]:
        """Return the least barrier under the four permutations, and which it is."""
        return min((barrier(errors), name) for name, errors in self.curves[weight, value].items())

    def at(self, weight: str, value: float) -> Figure:
        """Return the four lines to a B of which one weight is changed, for dials."""
        wrong, (height, order) = self.own_error(weight, value), self.best(weight, value)
        yes = toys.predicted_labels(self._changed(weight, value), toys.grid_points(DRAWN))
        return Figure(
            name="one_weight",
            plot="changed_weight",
            numbers={
                "lambdas": LAMBDAS.tolist(),
                "curves": {n: e.tolist() for n, e in self.curves[weight, value].items()},
                "most_error": self.highest,
                "truth": truth(),
                "yes": as_rows(yes),
            },
            title=f"{weight}: {value:g}. B errs on {quantity(100 * wrong, '%')} of the square; the "
            f"least barrier is {quantity(height, '')} ({order})",
            caption="Left: the errors on the lines from A to this B in its four orders, on "
            f"{DRAWN} x {DRAWN} points. Right: where this B says yes.",
            alt=f"{weight} is {value:g}: B is wrong on {wrong:.3f} of the square; the least of the "
            f"four error barriers is {height:.3f}.",
            size=(8.0, 4.2),
        )

    def reading(self) -> Prose:
        """Return in words what becomes of the barrier while B stays perfect."""
        perfect = [key for key in self.curves if self.own_error(*key) <= PERFECT]
        heights = [self.best(*key)[0] for key in perfect]
        return Prose(
            f"**What we measured.** Of the {len(self.curves)} networks that this dial makes, "
            f"{len(perfect)} err on at most one hundredth of the square. Of these, in the best of "
            f"its four orders, none has a lower barrier than {quantity(min(heights), '')}."
        )

    def _changed(self, weight: str, value: float) -> Any:
        return with_weight(self.pair.params_b, weight, value)


def with_weight(params: Any, weight: str, value: float) -> Any:
    """Return a network with one weight replaced.

    Args:
        params: of the counterexample's shape.
        weight: a name in `WEIGHTS`.
        value: in its place.
    """
    layer, kind, place = WEIGHTS[weight]
    changed = jax.tree.map(np.array, params)
    changed["layers"][layer][kind][place] = value
    return changed


def one_weight(study: Study) -> OneWeight:
    """Change one weight of B at a time, and count errors on all four lines from A."""
    pair, steps = toys.opposite_tests(), list(itertools.product(WEIGHTS, VALUES))
    changed = [with_weight(pair.params_b, weight, value) for weight, value in steps]
    with study.bar(len(steps), "changing one weight") as bar:
        curves = cached(
            toys.error_curves,
            pair.spec,
            pair.params_a,
            changed,
            LAMBDAS,
            toys.grid_points(DRAWN),
            on_network=bar.update,
        )
    by_step = zip(steps, curves, strict=True)
    return OneWeight(pair, {step: dict(zip(NAMES, each, strict=True)) for step, each in by_step})


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedPairs(Record):
    """Pairs of networks of the counterexample's shape, trained by SGD on its task.

    Attributes:
        num_networks: that were trained.
        num_solved: that solve the task.
        seed: of all of them.
        barriers: by method, the error barrier of each pair.
    """

    num_networks: int
    num_solved: int
    seed: int
    barriers: Mapping[str, Sequence[float]]

    def shares(self) -> dict[str, float]:
        """Return the share of pairs without a barrier under each method, in %."""
        return {
            name: 100 * float(np.mean(np.array(heights) <= SOLVED))
            for name, heights in self.barriers.items()
        }

    def table(self) -> Table:
        """Return how many pairs each method joins, and their barriers."""
        return Table(
            rows=[*self.barriers],
            corner="order of B's units",
            columns=[
                Column(f"pairs with a barrier up to {SOLVED:g}", "%", [*self.shares().values()]),
                Column("error barrier", "of the square", [*self.barriers.values()]),
            ],
        )

    def reading(self) -> Prose:
        """Return in words how many pairs a permutation joins."""
        best = np.array(self.barriers["best of four"])
        joined, apart = best <= SOLVED, best >= 0.2
        return Prose(
            f"**What we measured.** {self.num_solved} of {self.num_networks} networks solve the "
            f"task, and make {len(best)} pairs. The best of the four orders joins {joined.sum()} "
            f"of these; for {apart.sum()} others it leaves a barrier of a fifth or more."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the barriers of all pairs, sorted."""
        best = self.barriers["best of four"]
        joined = sum(height <= SOLVED for height in best)
        yield Figure(
            name="trained_pairs",
            plot="sorted_barriers",
            numbers={"barriers": {name: [*each] for name, each in self.barriers.items()}},
            title=f"The best of all four orders joins {joined} of {len(best)} trained pairs",
            caption=f"Error barriers of {len(best)} pairs of networks of the counterexample's "
            f"shape, trained by SGD ({self.num_networks} networks, seed {self.seed}): as they "
            "come, in a random order, matched, and under the best of all four permutations, "
            "each sorted by itself. Ours, not the paper's.",
            alt=f"The best of four permutations leaves no barrier for {joined} of {len(best)} "
            "pairs.",
            size=(7.0, 3.6),
        )


def trained_pairs(study: Study) -> TrainedPairs:
    """Train networks of the counterexample's shape, and try all four orders on those that learn."""
    profile, points = study.profile, toys.grid_points(COARSE)
    spec, right = toys.opposite_tests().spec, toys.true_labels(points)
    options = {"seed": profile.seed, "num_steps": 3000, "learning_rate": 0.3}
    networks = cached(toys.train_networks, profile.num_tiny, **options)
    solved = [
        network
        for network in networks
        if (toys.predicted_labels(network, points) != right).mean() < SOLVED
    ]
    barriers: dict[str, list[float]] = {
        name: [] for name in ("naive", "random", "weight matching", "best of four")
    }
    for index, (a, b) in enumerate(zip(solved[0::2], solved[1::2], strict=False)):
        (errors,) = toys.error_curves(spec, a, [b], LAMBDAS, points)
        four = dict(zip(NAMES, map(barrier, errors), strict=True))
        barriers["naive"].append(four["identity"])
        for label, method in (("random", "random"), ("weight matching", "weight")):
            order = matching.match(method, spec, a, b, seed=index).permutation
            barriers[label].append(four[toys.name_of(order)])
        barriers["best of four"].append(min(four.values()))
    return TrainedPairs(profile.num_tiny, len(solved), profile.seed, barriers)


def barrier(errors: np.ndarray) -> float:
    """Return the largest error on a line, less the mean of its ends."""
    return float(errors.max() - (errors[0] + errors[-1]) / 2)


def as_rows(answers: np.ndarray) -> list[str]:
    """Return the answers on a square as a line of 0 and 1 for each row of points."""
    side = round(len(answers) ** 0.5)
    return ["".join(map(str, row)) for row in answers.astype(int).reshape(side, side)]


def truth() -> list[str]:
    """Return the right answers on the square, as rows."""
    return as_rows(toys.true_labels(toys.grid_points(DRAWN)))
