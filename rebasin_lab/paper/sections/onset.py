"""Section 5.2, Fig. 3: when in training does matching begin to work?

`ages` matches networks of the same age, `orders_in_time` compares orders of the same units.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy  # loads `scipy.stats`, which takes long, on first use

from rebasin_lab.paper.claim import Bound, Claim, everywhere, from_laptop, whatever_the_profile
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups
from rebasin_lab.paper.sections.ages import Ages, aged
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.orders_in_time import Orders, Partners, Untrained
from rebasin_lab.paper.sections.pair_lines import NAMES, NO_ZERO, ZERO
from rebasin_lab.paper.sections.quantities import listed, num_pairs, quantity
from rebasin_lab.paper.sections.record import Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study, quality_table
from rebasin_lab.paper.store import Trained

NAME = "06_onset"
LAST_SHOWN = 25  # the epoch at which the paper's plot ends
SERIES = ("naive", "random", "algorithm_1", "weight")
DIALLED = ("naive", "algorithm_1", "late")

__all__ = ["Orders", "Partners", "Untrained"]  # from other modules, for the notebook


def networks(profile: Profile) -> dict[str, Group]:
    """Return the MLPs of all pairs, and those on CIFAR-10 that the profile has."""
    return {
        "MLP": groups.mlps(profile),
        "CIFAR-10 MLP": groups.with_seeds(profile.cifar_mlp, profile.seeds),
    }


def quality(trained: Mapping[int, Trained]) -> Table:
    """Return train loss and test accuracy of all networks, by epoch."""
    histories = {
        f"epoch {epoch}": [
            {metric: values[:epoch] for metric, values in one.history.items()}
            for one in trained.values()
        ]
        for epoch in _epochs(trained)[1:]
    }
    return quality_table(histories, "train_loss", "test_accuracy", corner="after")


class Onset(Ages):
    """Barriers between MLPs of the same age."""

    def falls(self) -> Any:
        """Return Spearman's correlation of epoch and matched barrier, and its p for "below 0"."""
        first = self.epochs.index(1)
        heights = np.transpose(self.barriers("algorithm_1")[first:])
        every = np.tile(self.epochs[first:], len(self.pairs))
        return scipy.stats.spearmanr(every, heights.ravel(), alternative="less")

    def table(self) -> Table:
        """Return train barriers by epoch."""
        return Table(
            rows=[f"epoch {epoch}" for epoch in self.epochs],
            corner="train barrier after",
            columns=self.columns({NAMES[method]: method for method in SERIES}),
        )

    def reading(self) -> Prose:
        """Return in words how the matched barrier goes with the epoch."""
        falls = self.falls()
        does = "falls with the epoch" if falls.pvalue < 0.05 else "does not clearly fall"
        means = np.mean(self.barriers("algorithm_1")[self.epochs.index(1) :], axis=1)
        steps = np.diff(means)
        return Prose(
            f"**What we measured**, on {num_pairs(len(self.pairs))}. The barrier after Algorithm 1 "
            f"{does}: {quantity(means[0], 'nats')} after epoch 1, {quantity(means[-1], 'nats')} at "
            f"the end (rank correlation {falls.statistic:.2f}; the epochs of a pair are not "
            f"independent). Its mean is lower than at the stop before at {sum(steps < 0)} of "
            f"{len(steps)} stops."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield barriers by epoch, and the lines after the first."""
        own = [np.mean(self.at_epoch("algorithm_1", e)) for e in (1, self.epochs[-1])]
        yield Figure(
            name="onset",
            numbers=self.onset_numbers(SERIES, 1),
            title=f"The matched barrier falls from {quantity(own[0], 'nats')} after epoch 1 to "
            f"{quantity(own[1], 'nats')} at the end"
            if own[1] < own[0]
            else f"The matched barrier is {quantity(own[0], 'nats')} after epoch 1, "
            f"{quantity(own[1], 'nats')} at the end",
            caption="Train loss barriers between networks of the same age, matched from "
            f"scratch at every epoch, and the lines after the first; {num_pairs(len(self.pairs))} "
            "and their mean; Fig. 3 of the paper, left. Naive, random order and our weight "
            "matching are not in it. Barriers below 0.001 nats are drawn there.",
            alt=f"Mean train barriers, naive: {self.listed('naive')}; after weight matching by "
            f"Algorithm 1: {self.listed('algorithm_1')}.",
            networks=self.networks,
            size=(9.0, 4.0),
        )

    def at(self, epoch: int, seeds: str) -> Figure:
        """Return the lines of one pair at one epoch beside its barriers, for two dials."""
        pair = self.seeds[seeds]
        here = self.of_pair(pair)
        shown = {method: here.at_epoch(method, epoch)[0] for method in DIALLED}
        every = [
            one.curve.train_loss
            for each in self.lines.values()
            for method in DIALLED
            for one in each.of(method)
        ]
        named = {NAMES[method]: height for method, height in shown.items()}
        return Figure(
            name="at_epoch",
            plot="onset",
            numbers=here.onset_numbers(DIALLED, epoch, marked=epoch)
            | {"most_loss": float(np.max(every))},
            title=f"Epoch {epoch}: a barrier of {quantity(shown['naive'], 'nats')}, "
            f"{quantity(shown['algorithm_1'], 'nats')} matched",
            caption="One pair, as it came, matched at that epoch, and by the permutation of the "
            "end.",
            alt=f"Seeds {pair[0]} and {pair[1]}, epoch {epoch}: train barriers "
            f"{listed(named, 'nats', digits=4)}.",
            networks=[self.lines[epoch].networks[seed] for seed in pair],
            size=(9.0, 4.0),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return early and late barriers, and the trend."""
        early, end = (np.array(self.at_epoch("algorithm_1", e)) for e in (1, self.epochs[-1]))
        shown = max(epoch for epoch in self.epochs if epoch <= LAST_SHOWN)
        return {
            "a1-early": early,
            "fig3-mnist-early": early / end,
            "fig3-mnist-late": self.at_epoch("algorithm_1", shown),
            "fig3-gradual": self.falls().pvalue,
        }


def ages(study: Study, trained: Mapping[int, Trained]) -> Onset:
    """Match every pair of MLPs at every stop, in all orders, and walk the lines."""
    eval_data = study.profile.coarse(study.data)
    return Onset(aged(study, trained, _epochs(trained), eval_data, methods=[*NAMES]))


@dataclasses.dataclass(frozen=True, eq=False)
class Photographs(Ages):
    """Barriers between MLPs on CIFAR-10 of the same age (Fig. 3, right).

    Attributes:
        digits: barriers on MNIST, to compare with.
    """

    digits: Onset

    def rises(self) -> list[float]:
        """Return the rises of the mean matched barrier, summed over common stops: MNIST, CIFAR."""
        both = [epoch for epoch in self.digits.epochs if epoch in self.epochs and epoch > 0]
        return [
            float(
                np.maximum(
                    np.diff([np.mean(each.at_epoch("algorithm_1", epoch)) for epoch in both]), 0
                ).sum()
            )
            for each in (self.digits, self)
        ]

    def figures(self) -> Iterator[Figure]:
        """Yield barriers by epoch, and the lines at the end."""
        own = [np.mean(self.at_epoch("algorithm_1", e)) for e in (1, self.epochs[-1])]
        yield Figure(
            name="onset_cifar10",
            plot="onset",
            numbers=self.onset_numbers(SERIES, self.epochs[-1]),
            title=f"On CIFAR-10 the matched barrier is {quantity(own[0], 'nats')} after epoch "
            f"1, {quantity(own[1], 'nats')} at the end",
            caption="Train loss barriers between networks of the same age on CIFAR-10, matched "
            f"from scratch at every epoch, and the lines at the end; {num_pairs(len(self.pairs))} "
            "and their mean; Fig. 3 of the paper, right.",
            alt=f"Mean train barriers after Algorithm 1: {self.listed('algorithm_1')}.",
            networks=self.networks,
            data=self.eval_data,
            size=(9.0, 4.0),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the barrier at the end divided by that after epoch 1, and how it rises."""
        early, end = (self.at_epoch("algorithm_1", e) for e in (1, self.epochs[-1]))
        digits, photos = self.rises()
        return {"fig3-cifar": np.divide(end, early), "fig3-cifar-noisier": digits - photos}


def photographs(study: Study, digits: Onset) -> list[Photographs]:
    """Return the barriers between the MLPs on CIFAR-10, if the profile has them."""
    base = study.profile.cifar_mlp
    if base is None:
        return []
    trained = study.train("CIFAR-10 MLP")
    eval_data = study.profile.coarse(base.load_dataset())
    measured = aged(study, trained, _epochs(trained)[1:], eval_data, methods=SERIES)
    return [Photographs(measured, digits)]


def _epochs(trained: Mapping[int, Trained]) -> list[int]:
    experiment = next(iter(trained.values())).experiment
    return [0, *experiment.snapshot_epochs, experiment.train.num_epochs]


def _moved(start: Any, now: Any) -> float:
    return float(np.linalg.norm(np.subtract(now, start)) / np.linalg.norm(start))


EXERCISE = Exercise(
    oracle=_moved,
    cases=[
        ([3.0, 4.0], [3.0, 5.0]),
        ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
        (np.arange(1.0, 5.0), np.arange(1.0, 5.0)),
    ],
    hint="`np.linalg.norm` is the length of a vector; what was learned is `now - start`",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig3-init",
        section="5.2, Fig. 3",
        statement="Networks that were not trained yet are not linearly connected.",
        paper='"challenging at initialization"',
        quantity="train loss barrier after weight matching, before any training (nats)",
        # What no longer counts as zero, as elsewhere.
        bounds=everywhere("at least", ZERO),
        why=whatever_the_profile(
            "Before training both networks guess, and so do those between them: no loss is low "
            "enough to rise from, so a barrier cannot show that they are not connected."
        ),
    ),
    claim(
        id="a1-early",
        section="A.1",
        statement="Matching fails early in training.",
        paper="named as a failure; 0.52 after epoch 1",
        quantity="train loss barrier after weight matching, after epoch 1 (nats)",
        # Far above what counts as zero, far below the paper's own first epoch.
        bounds=everywhere("at least", 0.1),
    ),
    claim(
        id="fig3-mnist-early",
        section="5.2, Fig. 3",
        statement="The barrier after the first epoch is many times that at the end of training.",
        paper="0.52 after epoch 1, about 0 at the end",
        quantity="train loss barrier after weight matching, after epoch 1 / at the end",
        bounds=everywhere("at least", 5.0),
    ),
    claim(
        id="fig3-mnist-late",
        section="5.2, Fig. 3",
        statement="By epoch 25, where the paper's plot ends, the barrier is gone.",
        paper="below 0.01 at epoch 25",
        quantity="train loss barrier after weight matching, last epoch kept up to 25 (nats)",
        # The resolution of the paper's plot, as for fig2-mnist-matched.
        bounds=everywhere("at most", ZERO),
        resolution=NO_ZERO,
    ),
    claim(
        id="fig3-gradual",
        section="5.2, Fig. 3",
        statement="Mode connectivity appears gradually: the barrier falls epoch by epoch.",
        paper="shown, one pair",
        quantity="p of Spearman's correlation of epoch and matched train barrier, below 0",
        # One-sided, over all pairs and all stored epochs but initialisation.
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="fig3-cifar",
        section="5.2, Fig. 3",
        statement="On CIFAR-10, too, the barrier falls in the course of training.",
        paper="about 0.31 after epoch 1, 0.015 at epoch 22",
        quantity="train loss barrier after weight matching, at the end / after epoch 1",
        # The direction is all that a fifth of the paper's steps can be asked for; with all of them,
        # half leaves room for the noise of the paper's curve.
        bounds={"laptop": Bound("below", 1.0), "paper": Bound("below", 0.5)},
        why={
            "laptop": "In so short a training the naive barrier rises faster than matching lowers "
            "its share of it: the share falls with the epochs, the barrier does not."
        },
    ),
    claim(
        id="fig3-cifar-noisier",
        section="5.2, Fig. 3",
        statement="On CIFAR-10 the barrier falls less smoothly than on MNIST.",
        paper="shown, one pair",
        quantity="rises of the matched train barrier, summed over epochs, MNIST - CIFAR-10 (nats)",
        bounds=from_laptop("below", 0.0),
    ),
    claim(
        id="fig3-benzing",
        section="5.2 (Benzing et al. 2022)",
        statement="The permutation found at the end of training suits its first epoch better.",
        paper="said of initialisation",
        quantity="train loss barrier after epoch 1, with the last permutation / with its own",
        bounds=everywhere("below", 1.0),
    ),
    claim(
        id="fig3-benzing-init",
        section="5.2 (Benzing et al. 2022)",
        statement="With that permutation, the mean of two untrained networks beats chance.",
        paper='"significantly above chance"',
        quantity="test accuracy half-way at initialisation, above the best control (points)",
        # Controls: chance, both ends, and half-way to B as it came, in random order, and in the
        # order matched at initialisation. Five standard errors of 10 % on 1,000 images.
        bounds=everywhere("at least", 5.0),
    ),
)
