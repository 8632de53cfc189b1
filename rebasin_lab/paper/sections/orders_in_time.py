"""Orders of units early in training: which is best, who has whose partner, what they do untrained.

All of it is about networks that `ages` has matched.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rebasin_lab import pytrees
from rebasin_lab.paper.sections.ages import Ages
from rebasin_lab.paper.sections.pair_lines import NAMES, PairLines
from rebasin_lab.paper.sections.quantities import listed, num_pairs, quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import params_of

COMPARED = ("random", "algorithm_1", "late", "activation", "changes")
UNTRAINED = ("naive", "random", "algorithm_1", "late", "changes")
CONTROLS = ("naive", "random", "algorithm_1", "weight", "activation")  # of untrained networks


@dataclasses.dataclass(frozen=True, eq=False)
class Orders(Record):
    """Several orders of the same units, epoch by epoch.

    Attributes:
        ages: what was measured.
    """

    ages: Ages

    def moved(self, epoch: int) -> list[float]:
        """Return how far networks have moved from their first weights, in per cent of these."""
        starts = [one.params_after(0) for one in self.ages.networks]
        return [
            100
            * pytrees.distance(start, params_of(one, epoch))
            / pytrees.inner_product(start, start) ** 0.5
            for start, one in zip(starts, self.ages.networks, strict=True)
        ]

    def table(self) -> Table:
        """Return train barriers after epoch 1 and at the end, by order."""
        return Table(
            rows=NAMES,
            corner="order of B's units",
            columns=[
                Column(f"train barrier, epoch {epoch}", "nats", self.ages.lines[epoch].barriers)
                for epoch in (1, self.ages.epochs[-1])
            ],
        )

    def reading(self) -> Prose:
        """Return in words which orders beat Algorithm 1 early, and how far weights have moved."""
        own = np.mean(self.ages.at_epoch("algorithm_1", 1))
        better = {
            method: np.mean(self.ages.at_epoch(method, 1)) / own
            for method in ("late", "activation", "changes")
        }
        texts = [f"{NAMES[method]} {quantity(100 * r, '%')}" for method, r in better.items()]
        early, end = (self.moved(epoch) for epoch in (1, self.ages.epochs[-1]))
        best = min(better.values())
        fault = "largely" if best < 0.5 else "in part" if best < 1 else "not"
        start = ": most of each weight is still its random start" if max(early) < 50 else ""
        return Prose(
            f"**What we measured**, on {num_pairs(len(self.ages.pairs))}. Of the barrier that "
            "Algorithm 1 leaves after epoch 1, the same networks keep with other orders: "
            f"{', '.join(texts)}. So that barrier is {fault} a failure of the matcher.\n\n"
            f"By epoch 1 a network has moved by {summary(early, '%')} % of the length of its first "
            f"weights{start}. By the end it has moved by {summary(end, '%')} %."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield barriers by epoch, and the lines after the first."""
        means = {method: np.mean(self.ages.at_epoch(method, 1)) for method in COMPARED}
        best = min(("late", "activation", "changes"), key=means.__getitem__)
        named = {NAMES[method]: height for method, height in means.items()}
        yield Figure(
            name="orders",
            plot="onset",
            numbers=self.ages.onset_numbers(COMPARED, 1),
            title=f"After epoch 1 Algorithm 1 leaves {quantity(means['algorithm_1'], 'nats')}, "
            f"{NAMES[best].removesuffix(' (ours)')} {quantity(means[best], 'nats')}",
            caption="Train loss barriers between networks of the same age, with units in "
            f"several orders, and the lines after the first epoch; "
            f"{num_pairs(len(self.ages.pairs))} and their mean. The learned part and the random "
            "order are ours. Barriers below 0.001 nats are drawn there.",
            alt=f"Mean train barriers after epoch 1: {listed(named, 'nats')}.",
            networks=self.ages.networks,
            size=(9.0, 4.0),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the barrier after epoch 1 by the last permutation, divided by that by its own."""
        late, own = (self.ages.at_epoch(method, 1) for method in ("late", "algorithm_1"))
        return {"fig3-benzing": np.divide(late, own)}


@dataclasses.dataclass(frozen=True, eq=False)
class Partners(Record):
    """When units meet the partners of the end, and how near B comes to A.

    Attributes:
        ages: what was measured.
    """

    ages: Ages

    def shares(self) -> dict[str, list[list[float]]]:
        """Return the fractions of units that have their last partner, by layer, pair and epoch."""
        orders = [
            lines.each("algorithm_1", lambda one: one.permutation)
            for lines in self.ages.lines.values()
        ]
        return {
            f"hidden layer {number}": [
                [float(np.mean(order[layer] == of_pair[-1][layer])) for order in of_pair]
                for of_pair in zip(*orders, strict=True)
            ]
            for number, layer in enumerate(orders[0][0], 1)
        }

    def cosines(self, method: str) -> list[list[float]]:
        """Return the cosine between A and the reordered B, pair by epoch."""
        return np.transpose([each.cosines(method) for each in self.ages.lines.values()]).tolist()

    def reading(self) -> Prose:
        """Return in words which order is nearer, and which has the lower barrier."""
        first = self.ages.epochs.index(1)
        own, late = (
            float(np.mean(self.cosines(method), axis=0)[first])
            for method in ("algorithm_1", "late")
        )
        heights = [np.mean(self.ages.at_epoch(each, 1)) for each in ("algorithm_1", "late")]
        is_nearer, is_higher = own > late, heights[0] > heights[1]
        return Prose(
            f"After epoch 1, Algorithm 1 brings B {'*nearer*' if is_nearer else 'no nearer'} to A "
            f"than the permutation of the end does (cosines {own:.3f} and {late:.3f}), and leaves "
            f"the {'*higher*' if is_higher else 'lower'} barrier."
            + (" Nearness is not all that counts." if is_nearer and is_higher else "")
        )

    def figures(self) -> Iterator[Figure]:
        """Yield shares and cosines by epoch."""
        ages, shares = self.ages, self.shares()
        cosines = {each: self.cosines(each) for each in ("random", "algorithm_1", "late")}
        first = ages.epochs.index(1)
        met = {name: 100 * np.mean(each, axis=0)[first] for name, each in shares.items()}
        nearness = {NAMES[name]: np.mean(each, axis=0)[first] for name, each in cosines.items()}
        most = max(met, key=met.__getitem__)
        (width, *_) = ages.lines[1].of("algorithm_1")[0].permutation.values()
        yield Figure(
            name="partners",
            numbers={
                "epochs": ages.epochs,
                "shares": shares,
                "chance": 1 / len(width),
                "cosines": cosines,
            },
            title=f"{quantity(met[most], '%')} of the units of {most} have the partner "
            "of the end after epoch 1",
            caption="Left: units of A whose partner in B, matched at that epoch, is that of "
            "the end already; the end itself, where it is all of them by definition, is not "
            "drawn. Right: the cosine between all weights of A and of the reordered B. Means "
            f"of {num_pairs(len(ages.pairs))}; not in the paper.",
            alt=f"Units with their last partner after epoch 1: {listed(met, '%', digits=0)}. "
            f"Cosines at that epoch: {listed(nearness, '')}.",
            networks=ages.networks,
            size=(9.0, 3.8),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Untrained(Record):
    """The mean of two networks that were never trained, with units in several orders.

    Attributes:
        ages: what was measured; their first epoch is 0.
    """

    ages: Ages

    @property
    def lines(self) -> PairLines:
        """The lines before training."""
        return self.ages.lines[0]

    def chance(self) -> float:
        """Return the accuracy of guessing, in per cent."""
        return 100 / self.ages.eval_data.num_classes

    def above_controls(self) -> np.ndarray:
        """Return by how many points the permutation of the end beats the best control."""
        ends = self.lines.each("naive", lambda one: 100 * one.curve.test_accuracy[[0, -1]])
        columns = [*np.transpose(ends), *map(self.lines.accuracies, CONTROLS)]
        best = np.maximum(np.column_stack(columns).max(axis=1), self.chance())
        return np.array(self.lines.accuracies("late")) - best

    def table(self) -> Table:
        """Return test accuracies half-way by order."""
        return Table(
            rows=NAMES,
            corner="order of B's units",
            columns=[Column("test accuracy half-way", "%", self.lines.accuracies)],
        )

    def figures(self) -> Iterator[Figure]:
        """Yield test loss and accuracy on the lines."""
        means = {NAMES[method]: self.lines.accuracies(method) for method in NAMES}
        yield Figure(
            name="untrained",
            plot="untrained_lines",
            numbers={"curves": self.lines.curves(UNTRAINED), "chance": self.chance() / 100},
            title="The mean of two untrained networks, in the order of the end, is right on "
            f"{quantity(means[NAMES['late']], '%')} of the test images",
            caption="The line between two networks that were never trained, on test images: "
            "units of B as they came, in random order, as Algorithm 1 finds them there, as it "
            "finds them at the end of training, and in the order of the learned part (ours) "
            f"at the end; {num_pairs(len(self.lines.pairs))} and their mean.",
            alt=f"Mean test accuracy half-way: {listed(means, '%', digits=0)}.",
            networks=self.ages.networks,
            size=(9.0, 3.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return barriers before training, and points above the best control."""
        return {
            "fig3-init": self.ages.at_epoch("algorithm_1", 0),
            "fig3-benzing-init": self.above_controls(),
        }
