"""MLPs of several trainings: a wide and a thin one, Adam and SGD at rates that are not usual.

A recipe that should fail stands beside one that works. The slow one has a control: the usual rate,
stopped after one epoch, so that a training which is not finished is told from a rate.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.pair_lines import NAMES, LinesBy, walk
from rebasin_lab.paper.sections.quantities import listed, num_pairs, quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study, learned_part

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
class Recipes(LinesBy):
    """Pairs of MLPs of several trainings, before and after matching.

    Attributes:
        names: of the recipes, by what they are for.
        moved: by recipe, the length of each network's learned part, in lengths of its start.
    """

    names: Names
    moved: Mapping[str, Sequence[float]]

    @property
    def each(self) -> list[str]:
        """The names of the recipes, each once."""
        return [*self.lines]

    def losses(self, recipe: str) -> list[float]:
        """Return the train loss of every network in nats."""
        ends = self.lines[recipe].each("naive", lambda one: one.curve.train_loss[[0, -1]])
        return np.ravel(ends).tolist()

    def left(self, recipe: str, method: str = "algorithm_1") -> float:
        """Return the mean train loss barrier in nats."""
        return float(np.mean(self.lines[recipe].barriers(method)))

    def ratios(self, recipe: str, other: str) -> list[float]:
        """Return how many times the matched barrier of another recipe is left, pair by pair."""
        heights = (self.lines[name].barriers("algorithm_1") for name in (recipe, other))
        return np.divide(*heights).tolist()

    def quality(self) -> Table:
        """Return by recipe how well networks are trained, and how far their weights have moved."""
        return Table(
            rows=self.each,
            corner="recipe",
            columns=[
                Column("train loss", "nats", self.losses),
                Column("moved, in initial lengths", "", self.moved.get, digits=2),
            ],
        )

    def table(self) -> Table:
        """Return barriers by recipe, and how much of the last rises above its own ends."""
        above = [each.above_chord("algorithm_1") for each in self.lines.values()]
        barriers = self.columns({"naive barrier": "naive", "Algorithm 1": "algorithm_1"})
        return Table(self.each, [*barriers, Column("above the chord", "nats", above)], "recipe")

    def methods(self) -> Table:
        """Return the barriers that other orders of units leave, by recipe."""
        names = {NAMES[method]: method for method in METHODS if method != "naive"}
        return Table(self.each, self.columns(names), "recipe")

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
        return Prose(
            f"**What we measured** on {num_pairs(len(self.pairs))} of each recipe (a failure is at "
            f"least {FAILED:g} times the barrier beside it, in every pair). {' '.join(sentences)}"
        )

    def cause(self) -> Prose:
        """Return in words what goes with the failure of the slow recipe."""
        slow, stopped, usual = self.names.slow, self.names.stopped, self.names.usual
        loss = {name: float(np.mean(self.losses(name))) for name in (slow, stopped)}
        left = {name: self.left(name) for name in self.each}
        learned = self.left(slow, "changes")
        moved = {name: float(np.mean(each)) for name, each in self.moved.items()}
        too_soon = loss[stopped] >= loss[slow] and left[stopped] < left[slow]
        control = (
            "so an unfinished training is not the whole reason"
            if too_soon
            else "so an unfinished training may be the reason"
        )
        fault = (
            f": {'much' if learned < left[slow] / 2 else 'little'} of the failure is the matcher's"
            if min(self.ratios(slow, usual)) >= FAILED
            else ""
        )
        remedy = (
            f"Matching the learned part leaves {quantity(learned, 'nats')}, which is "
            f"{quantity(100 * learned / left[slow], '%', digits=0)} of what Algorithm 1 leaves"
            f"{fault}. SGD at the usual rate keeps {quantity(left[usual], 'nats')}."
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
        left = {name: self.left(name) for name in self.each}
        yield Figure(
            name="recipes",
            numbers={
                "recipes": self.each,
                "barriers": {method: self.barriers(method) for method in DRAWN},
                "moved": list(self.moved.values()),
            },
            title=f"Algorithm 1 leaves {quantity(left[self.names.slow], 'nats')} after slow SGD, "
            f"{quantity(left[self.names.fast], 'nats')} after fast Adam",
            caption="Networks of several trainings. Above: train loss barriers before and after "
            "matching, a mark a pair. Below: how far training has moved the weights of each "
            "network, in lengths of the initial ones. Learned part and random order are ours.",
            alt=f"Mean train barriers after Algorithm 1: {listed(left, 'nats')}.",
            networks=self.networks,
            size=(9.0, 5.8),
        )

    def at(self, recipe: str) -> Figure:
        """Return the lines between the networks of one recipe, for a dial."""
        return self.dial(recipe, recipe, "algorithm_1")

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
    lines, moved = {}, {}
    total = len(recipes(profile)) * len(profile.pairs) * len(METHODS)
    with study.bar(total, "matching MLPs and walking lines") as bar:
        for recipe in recipes(profile):
            networks = {seed: one for (name, seed), one in trained.items() if name == recipe}
            lines[recipe] = walk(
                networks,
                profile.pairs,
                data=eval_data,
                methods=METHODS,
                num_lambdas=profile.num_coarse_lambdas,
                on_method=lambda _: bar.update(),
            )
            moved[recipe] = [
                _length(learned_part(one)) / _length(one.params_after(0))
                for one in networks.values()
            ]
    return Recipes(lines, recipe_names(profile), moved)


def _length(params: PyTree) -> float:
    return pytrees.inner_product(params, params) ** 0.5


def verdict(ratios: Sequence[float]) -> str:
    """Return in words what barriers, in units of those beside them, say of a recipe."""
    if min(ratios) >= FAILED:
        return "matching fails, as the paper says"
    if max(ratios) < 1:
        return "matching does not fail, it does better"
    failed = sum(ratio >= FAILED for ratio in ratios)
    return f"matching fails in {failed} of {num_pairs(len(ratios))}" if failed else "no failure"
