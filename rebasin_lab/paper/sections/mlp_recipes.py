"""MLPs of several trainings: a wide and a thin one, Adam and SGD at rates that are not usual.

A recipe that should fail stands beside one that works. The slow one has a control: the usual rate,
stopped after one epoch, so that a training which is not finished is told from a rate.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.analysis import interpolation
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.record import (
    Column,
    Figure,
    Prose,
    Record,
    Table,
    quantity,
    summary,
)
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

# The claims are judged on Algorithm 1, the paper's; "weight" and "changes" are ours.
METHODS = {
    "naive": {},
    "random": {},
    "algorithm_1": {},
    "weight": {},
    "changes": {"method": "weight"},
    "activation": {},
}
DRAWN = ("naive", "random", "algorithm_1", "changes", "activation")
FAILED = 2.0  # times the barrier beside it: what the claims call a failure


class Names(NamedTuple):
    """The names of the recipes; `thin` and `adam` may be one."""

    wide: str
    thin: str
    adam: str
    fast: str
    usual: str
    slow: str
    stopped: str


def recipe_names(profile: Profile) -> Names:
    """Return the names of the recipes: a wide one, a thin one, and changes of it."""
    wide, own, rate = profile.width, profile.thin_width, profile.learning_rate
    adam = (f"Adam {rate:g}, {units} units" for units in (wide, wide // 4, own))
    rules = (f"Adam {10 * rate:g}", "SGD 0.1", "SGD 0.001")
    return Names(
        *adam, *(f"{rule}, {own} units" for rule in rules), f"SGD 0.1, {own} units, one epoch"
    )


def recipes(profile: Profile) -> dict[str, Experiment]:
    """Return the trainings of the MLP that are compared, by name; two may be alike."""
    thin, rate = profile.thin_width, profile.learning_rate
    changes = (
        (profile.width, {}),
        (profile.width // 4, {}),
        (thin, {}),
        (thin, {"learning_rate": 10 * rate}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.1}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.001}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.1, "num_epochs": 1}),
    )
    return {
        name: profile.experiment(seed=0, width=width).without_snapshots().with_training(**change)
        for name, (width, change) in zip(recipe_names(profile), changes, strict=True)
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Recipes(Record):
    """Pairs of MLPs of several trainings, before and after matching.

    Attributes:
        names: of the recipes, by what they are for.
        networks: by recipe and seed.
        comparisons: by recipe, for each pair by method.
        moved: by recipe, the length of each network's learned part, in lengths of its start.
    """

    names: Names
    networks: Mapping[tuple[str, int], Trained]
    comparisons: Mapping[str, Sequence[Mapping[str, Comparison]]]
    moved: Mapping[str, Sequence[float]]

    @property
    def each(self) -> list[str]:
        """The names of the recipes, each once."""
        return list(self.comparisons)

    def barriers(self, recipe: str, method: str) -> list[float]:
        """Return train loss barriers in nats, one a pair."""
        return [one[method].train_barrier for one in self.comparisons[recipe]]

    def losses(self, recipe: str) -> list[float]:
        """Return the train loss of every network in nats."""
        ends = [one["naive"].curve.train_loss[[0, -1]] for one in self.comparisons[recipe]]
        return np.ravel(ends).tolist()

    def ratios(self, recipe: str, other: str, method: str = "algorithm_1") -> list[float]:
        """Return how many times the barrier of another recipe is left, pair by pair."""
        return np.divide(self.barriers(recipe, method), self.barriers(other, method)).tolist()

    def above_chord(self, recipe: str) -> list[float]:
        """Return barriers after Algorithm 1 above the straight chord between the ends, in nats."""
        curves = [one["algorithm_1"].curve for one in self.comparisons[recipe]]
        return [
            interpolation.loss_barrier(curve, split="train", baseline="chord") for curve in curves
        ]

    def quality(self) -> Table:
        """Return by recipe how well networks are trained, and how far their weights have moved."""
        return Table(
            rows=self.each,
            corner="recipe",
            columns=[
                Column("train loss", "nats", [self.losses(name) for name in self.each]),
                Column("moved, in initial lengths", "", [*self.moved.values()], digits=2),
            ],
        )

    def table(self) -> Table:
        """Return barriers by recipe, and how much of the last rises above its own ends."""
        return Table(
            rows=self.each,
            corner="recipe",
            columns=[
                Column("naive barrier", "nats", [self.barriers(n, "naive") for n in self.each]),
                Column("Algorithm 1", "nats", [self.barriers(n, "algorithm_1") for n in self.each]),
                Column("above the chord", "nats", [self.above_chord(n) for n in self.each]),
            ],
        )

    def methods(self) -> Table:
        """Return the barriers that other orders of units leave, by recipe."""
        headings = {
            "random": "random order",
            "algorithm_1": "Algorithm 1",
            "weight": "our weight matching",
            "changes": "learned part",
            "activation": "activation matching",
        }
        return Table(
            rows=self.each,
            corner="recipe",
            columns=[
                Column(heading, "nats", [self.barriers(name, method) for name in self.each])
                for method, heading in headings.items()
            ],
        )

    def reading(self) -> Prose:
        """Return in words which recipes fail."""
        names = self.names
        cases = {
            f"**Too thin** ({names.thin})": (names.thin, names.wide),
            f"**Too slow** ({names.slow})": (names.slow, names.usual),
            f"**Too fast** ({names.fast})": (names.fast, names.adam),
        }
        sentences = []
        for what, (name, other) in cases.items():
            ratios = self.ratios(name, other)
            sentences.append(
                f"{what}: {verdict(ratios)}. Algorithm 1 leaves {summary(ratios, '', digits=1)} "
                f"times the barrier of {other}."
            )
        number = len(self.comparisons[names.wide])
        pairs = "one pair" if number == 1 else f"{number} pairs"
        return Prose(
            f"**What we measured** on {pairs} of each recipe (a failure is at least "
            f"{FAILED:g} times the barrier beside it, in every pair). {' '.join(sentences)}"
        )

    def cause(self) -> Prose:
        """Return in words what goes with the failure of the slow recipe."""
        slow, stopped, usual = self.names.slow, self.names.stopped, self.names.usual
        loss = {name: float(np.mean(self.losses(name))) for name in (slow, stopped)}
        left = {name: float(np.mean(self.barriers(name, "algorithm_1"))) for name in self.each}
        learned = float(np.mean(self.barriers(slow, "changes")))
        moved = {name: float(np.mean(each)) for name, each in self.moved.items()}
        too_soon = loss[stopped] >= loss[slow] and left[stopped] < left[slow]
        control = (
            "so an unfinished training is not the whole reason"
            if too_soon
            else "so an unfinished training may be the reason"
        )
        remedy = (
            f"Matching the learned part leaves {quantity(learned, 'nats')}, which is "
            f"{quantity(100 * learned / left[slow], '%', digits=0)} of what Algorithm 1 leaves: "
            f"{'much' if learned < left[slow] / 2 else 'little'} of the failure is the matcher's. "
            f"SGD at the usual rate keeps {quantity(left[usual], 'nats')}."
        )
        return Prose(
            f"**The control.** One epoch at the usual rate ends at a train loss of "
            f"{quantity(loss[stopped], 'nats')} and keeps a barrier of "
            f"{quantity(left[stopped], 'nats')}; the slow recipe ends at "
            f"{quantity(loss[slow], 'nats')} and keeps {quantity(left[slow], 'nats')}, {control}. "
            f"The slow recipe has moved its weights by {quantity(moved[slow], '', digits=2)} of "
            f"their initial length, the control by {quantity(moved[stopped], '', digits=2)}. "
            f"{remedy}"
        )

    def figures(self) -> Iterator[Figure]:
        """Yield barriers of all recipes, and how far training has moved the weights."""
        left = {
            name: quantity(float(np.mean(self.barriers(name, "algorithm_1"))), "nats")
            for name in self.each
        }
        yield Figure(
            name="recipes",
            plot="recipes",
            numbers={
                "recipes": self.each,
                "barriers": {
                    method: [self.barriers(name, method) for name in self.each] for method in DRAWN
                },
                "moved": list(self.moved.values()),
            },
            title=f"Algorithm 1 leaves {left[self.names.slow]} after slow SGD, "
            f"{left[self.names.fast]} after fast Adam",
            caption="Networks of several trainings. Above: train loss barriers before and after "
            "matching, a mark a pair. Below: how far training has moved the weights of each "
            "network, in lengths of the initial ones. Learned part and random order are ours.",
            alt="Mean train barriers after Algorithm 1: "
            + ", ".join(f"{name} {height}" for name, height in left.items())
            + ".",
            networks=[*self.networks.values()],
            claims=[*self.claims()],
            size=(9.0, 5.8),
        )

    def at(self, recipe: str) -> Figure:
        """Return the lines between the networks of one recipe, for a dial."""
        methods = {"naive": "naive", "weight matching": "algorithm_1"}
        every = [
            one[key].curve
            for row in self.comparisons.values()
            for one in row
            for key in methods.values()
        ]
        naive, left = (summary(self.barriers(recipe, key), "nats") for key in methods.values())
        return Figure(
            name="lines",
            plot="interpolation",
            numbers={
                "curves": {
                    label: [one[key].curve.as_numbers() for one in self.comparisons[recipe]]
                    for label, key in methods.items()
                },
                "most_loss": max(
                    float(np.max(loss)) for c in every for loss in (c.train_loss, c.test_loss)
                ),
            },
            title=f"{recipe}: a barrier of {naive} nats, {left} after Algorithm 1",
            caption=f"Weight matching as in Algorithm 1; {len(self.comparisons[recipe])} pairs, a "
            "thin line each, and their mean.",
            alt=f"{recipe}: train barriers naive {naive}, matched {left} nats.",
            networks=[one for (name, _), one in self.networks.items() if name == recipe],
        )

    def claims(self) -> Mapping[str, Any]:
        """Return how many times the barrier of its neighbour each recipe keeps."""
        names = self.names
        return {
            "a1-thin": self.ratios(names.thin, names.wide),
            "a1-low-lr-sgd": self.ratios(names.slow, names.usual),
            "a1-high-lr-adam": self.ratios(names.fast, names.adam),
        }


def compare_recipes(study: Study) -> Recipes:
    """Train every recipe, match its pairs, and evaluate the lines between them."""
    trained, profile = study.train("recipes"), study.profile
    eval_data = profile.coarse(study.data)
    each = list(recipes(profile))
    comparisons, moved = ({name: [] for name in each} for _ in range(2))
    starts = {}  # the recipe makes no difference to them
    with study.bar(len(each) * len(profile.pairs), "matching MLPs and walking lines") as bar:
        for name, pair in ((name, pair) for name in each for pair in profile.pairs):
            ends, learned = [trained[name, seed] for seed in pair], []
            for end in ends:
                key = end.experiment.options, end.experiment.seed
                if key not in starts:
                    start = end.params_after(0)
                    starts[key] = start, pytrees.inner_product(start, start) ** 0.5
                start, length = starts[key]
                part = jax.tree.map(jnp.subtract, end.params, start)
                learned.append(part)
                moved[name].append(pytrees.inner_product(part, part) ** 0.5 / length)
            one = ends[0]
            spec = symmetry.infer_permutation_spec(
                one.model.apply, one.params, study.data.test_images[:1]
            )
            comparisons[name].append(
                cached(
                    compare_matchers,
                    spec,
                    *(end.params for end in ends),
                    apply_fn=one.model.apply,
                    data=eval_data,
                    methods=METHODS,
                    results={"changes": cached(matching.match, "weight", spec, *learned, seed=0)},
                    num_lambdas=profile.num_coarse_lambdas,
                )
            )
            bar.update()
    return Recipes(recipe_names(profile), trained, comparisons, moved)


def verdict(ratios: Sequence[float]) -> str:
    """Return in words what barriers, in units of those beside them, say of a recipe."""
    if min(ratios) >= FAILED:
        return "matching fails, as the paper says"
    if max(ratios) < 1:
        return "matching does not fail, it does better"
    return "no failure in every pair"
