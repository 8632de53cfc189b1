"""Section 5.1, Fig. 1, 2 and 9: the line between two networks, and the plane around it.

`pair_lines` walks lines, `plane_and_arc` leaves them, `further_lines` has those on CIFAR-10, and
`imagenet_lines` the published ones on ImageNet.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab.paper.claim import Bound, Claim, Resolution, everywhere
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import further_lines, groups, imagenet_lines
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.further_lines import METHODS, further
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.imagenet_lines import published
from rebasin_lab.paper.sections.pair_lines import (
    CLAIMED,
    NAMES,
    NO_ZERO,
    ZERO,
    PairLines,
    middle,
    walk,
)
from rebasin_lab.paper.sections.plane_and_arc import SMALL, arcs, plane
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study, quality_table
from rebasin_lab.paper.store import Trained

__all__ = ["arcs", "further", "plane", "published"]  # from other modules, for the notebook

NAME = "02_line_and_barrier"


def networks(profile: Profile) -> dict[str, Group]:
    """Return the MLPs of all pairs, and the networks on CIFAR-10 that the profile has."""
    return {
        "MLP": groups.mlps(profile),
        "CIFAR-10 MLP": groups.with_seeds(profile.cifar_mlp, profile.seeds),
        "ResNet": groups.family(profile, profile.resnet, widest=True),
    }


def quality(trained: Mapping[int, Trained]) -> Table:
    """Return train loss, test loss and test accuracy of the networks A and B of all pairs."""
    histories = [one.history for one in trained.values()]
    rows = {"A": histories[0::2], "B": histories[1::2]}
    return quality_table(rows, "train_loss", "test_loss", "test_accuracy", corner="network")


class Lines(PairLines):
    """Lines between MLPs, on all images."""

    def table(self) -> Table:
        """Return barriers, and what lies half-way, by method."""
        return Table(
            rows={method: NAMES[method] for method in self.methods},
            corner="order of B's units",
            columns=[
                Column("train barrier", "nats", self.barriers),
                Column("above the chord", "nats", self.above_chord),
                Column("test loss half-way, above its ends", "nats", self.above_ends),
                Column("test accuracy half-way, below its ends", "points", self.drops),
            ],
        )

    def below_both(self) -> list[float]:
        """Return the test losses half-way, after Algorithm 1, minus the lower of the ends."""
        losses = [one.curve.test_loss for one in self.of("algorithm_1")]
        return [middle(loss) - min(loss[0], loss[-1]) for loss in losses]

    def reading(self) -> Prose:
        """Return in words what matching leaves, and what lies half-way."""
        barriers = self.barriers("algorithm_1")
        left, random = (
            quantity([100 * share for share in self.shares(key)], "%")
            for key in ("algorithm_1", "random")
        )
        zero = quantity(ZERO, "nats", digits=2)
        is_zero = f"{sum(barrier <= ZERO for barrier in barriers)} of {len(self.pairs)}"
        below = sum(height < 0 for height in self.below_both())
        return Prose(
            f"**What we measured**, on {len(self.pairs)} pairs. Algorithm 1 leaves {left} of the "
            f"naive barrier, a random order, the control, {random}. By the resolution of the "
            f"paper's plots, {zero}, the barrier is gone on {is_zero} pairs.\n\n"
            f"Half-way the test loss is lower than at *both* ends on {below} of {len(self.pairs)}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield loss and accuracy on the lines, and the barriers of every pair."""
        barriers = {method: self.barriers(method) for method in METHODS}
        naive, random, matched, _ = barriers.values()
        means = [quantity(values, "nats") for values in (naive, matched)]
        common = {"networks": [*self.networks.values()], "data": self.eval_data}
        pairs = [f"seeds {a}, {b}" for a, b in self.pairs]
        listed = ", ".join(
            f"{before:.2f} and {after:.4f}" for before, after in zip(naive, matched, strict=True)
        )
        every = [claim for claim in self.claims() if claim.startswith("fig")]
        yield Figure(
            name="interpolation",
            numbers={"curves": self.curves(CLAIMED)},
            title=f"A barrier of {means[0]} as they came, of {means[1]} after matching",
            caption="Loss and accuracy on the line between independently trained MLPs, mean "
            f"and single pairs ({len(self.pairs)}), train solid, test dashed; Fig. 2 and 9 of "
            "the paper.",
            alt=f"Naive lines rise by {np.mean(naive):.2f} nats of train loss in the middle, "
            f"lines to B in random order by {np.mean(random):.2f}, lines after Algorithm 1 by "
            f"{np.mean(matched):.3f}.",
            claims=[claim for claim in every if claim != "fig2-mnist-ratio"],
            size=(9.0, 3.8),
            **common,
        )
        yield Figure(
            name="barriers",
            numbers={"pairs": pairs, "methods": barriers, "floor": 1e-4},
            title="Of the naive barrier Algorithm 1 leaves "
            f"{quantity(100 * min(self.shares('algorithm_1')), '%')} to "
            f"{quantity(100 * max(self.shares('algorithm_1')), '%')}",
            caption="The train loss barrier of every pair: as it came, in random order, and after "
            "weight matching, the paper's and ours (less than 0.0001 nats is drawn there).",
            alt=f"Naive barrier, and barrier after Algorithm 1, of each pair: {listed}.",
            claims=["fig2-mnist-ratio"],
            size=(6.5, 3.6),
            **common,
        )

    def at(self, seeds: str) -> Figure:
        """Return the lines of one pair, naive and after Algorithm 1, for a dial."""
        pair = self.seeds[seeds]
        here = dataclasses.replace(self, compared={pair: self.compared[pair]})
        naive, left = (quantity(here.barriers(key), "nats") for key in CLAIMED.values())
        losses = [
            max(*curve["train_loss"], *curve["test_loss"])
            for curves in self.curves(CLAIMED).values()
            for curve in curves
        ]
        return Figure(
            name="lines_of_pair",
            plot="interpolation",
            numbers={"curves": here.curves(CLAIMED), "most_loss": max(losses)},
            title=f"Seeds {seeds}: a barrier of {naive}, of {left} after Algorithm 1",
            caption="The line to B as it came, and to B in the order that Algorithm 1 finds.",
            alt=f"Seeds {seeds}: train barriers naive {naive}, after Algorithm 1 {left}.",
            networks=[self.networks[seed] for seed in pair],
            size=(9.0, 3.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return what Algorithm 1 takes to end, and its lines."""
        results = [one.result for one in self.of("algorithm_1")]
        return {
            "lemma2-terminates": [
                each.num_sweeps if each.converged else math.inf for each in results
            ],
            "weight-matching-seconds": [each.seconds for each in results],
            "fig2-mnist-naive": self.barriers("naive"),
            "fig2-mnist-matched": self.barriers("algorithm_1"),
            "fig2-mnist-ratio": self.shares("algorithm_1"),
            "fig2-mnist-middle": self.above_ends("algorithm_1"),
            "fig2-mnist-below-both": self.below_both(),
            "fig9-mnist-naive": self.drops("naive"),
            "fig9-mnist-matched": self.drops("algorithm_1"),
        }


def lines(study: Study, trained: Mapping[int, Trained]) -> Lines:
    """Match every pair of MLPs, and walk the lines between them on all images."""
    profile, data = study.profile, study.data
    options = {"data": data, "num_lambdas": profile.num_lambdas, "methods": [*METHODS]}
    with study.bar(len(profile.pairs) * len(METHODS), "matching and walking lines") as bar:
        walked = walk(trained, profile.pairs, on_method=lambda _: bar.update(), **options)
    return walked.extended(Lines)


def _barrier(losses: Sequence[float | int] | np.ndarray) -> float:
    return float(np.max(losses) - (losses[0] + losses[-1]) / 2)


EXERCISE = Exercise(
    oracle=_barrier,
    cases=[([0.0, 0.4, 0.9, 0.3, 0.0],), ([0.1, 0.5, 0.3],), ([0.3, 0.2, 0.1],)],
    hint="the largest of `losses`, minus the mean of `losses[0]` and `losses[-1]`",
)

claim = functools.partial(Claim, notebook=NAME)
# Of a network that is right on 95 of 100 images, two standard errors of its accuracy.
_POINTS = {"quick": Resolution(1.4, "1,000 test images")}

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="lemma2-terminates",
        section="3.2, Lemma 2",
        statement="Weight matching ends by itself.",
        paper="terminates",
        quantity="sweeps until one changes nothing, of at most 100 (more: not converged)",
        bounds=everywhere("below", 100.0),
    ),
    claim(
        id="weight-matching-seconds",
        section="A.5",
        statement="Matching two MLPs of 3x512 units takes seconds.",
        paper="3 s (V100)",
        quantity="seconds of weight matching",
        bounds=everywhere("at most", 3.0),
    ),
    claim(
        id="fig1-midpoint",
        section="5.1, Fig. 1",
        statement="The middle between A and pi(B) lies in the basin, the middle to B does not.",
        paper="shown",
        quantity="test loss at the permuted middle / at the naive middle",
        bounds=everywhere("below", 0.5),
    ),
    claim(
        id="fig2-mnist-naive",
        section="5.1, Fig. 2",
        statement="Two MLPs trained on MNIST are separated by a loss barrier.",
        paper="0.87 at epoch 100, 1.24 at 25",
        quantity="naive train loss barrier (nats)",
        bounds={
            "quick": Bound("at least", 0.3),
            "laptop": Bound("at least", 0.5),
            "paper": Bound("at least", 0.5),
        },
    ),
    claim(
        id="fig2-mnist-matched",
        section="5.1, Fig. 2",
        statement="Weight matching takes the barrier away.",
        paper="0.00 at epoch 100, 0.01 at 25",
        quantity="permuted train loss barrier (nats)",
        bounds=everywhere("at most", ZERO),
        resolution=NO_ZERO,
    ),
    claim(
        id="fig2-mnist-ratio",
        section="5.1, Fig. 2",
        statement="The permuted barrier is a small fraction of the naive one.",
        paper="near 0",
        quantity="permuted / naive train loss barrier",
        bounds=everywhere("below", SMALL),
    ),
    claim(
        id="fig2-mnist-middle",
        section="5.1, Fig. 2",
        statement="After matching, the test loss does not rise in the middle of the line.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus mean of the ends (nats)",
        bounds=everywhere("at most", 0.0),
    ),
    claim(
        id="fig2-mnist-below-both",
        section="5.1, Fig. 2",
        statement="After matching, the middle has a lower test loss than either end.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus lower end (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig9-mnist-naive",
        section="5.1, Fig. 9",
        statement="Without matching, the middle of the line is much less accurate than its ends.",
        paper="18 at epoch 100",
        quantity="drop of test accuracy at the naive middle (points)",
        bounds=everywhere("at least", 5.0),
        resolution=_POINTS,
    ),
    claim(
        id="fig9-mnist-matched",
        section="5.1, Fig. 9",
        statement="After matching, the middle of the line is as accurate as its ends.",
        paper="0",
        quantity="drop of test accuracy at the permuted middle (points)",
        bounds=everywhere("at most", 1.0),
        resolution=_POINTS,
    ),
    claim(
        id="fig2-slerp",
        section="5.1, footnote 3",
        statement="Spherical interpolation does not differ much from linear interpolation.",
        paper="slightly better in some cases, not significantly",
        quantity="|train loss half-way on the chord - on the arc| / the barrier after matching, "
        f"which counts as {ZERO} nats at least",
        # Relative to the barrier that is there: a tenth is a small fraction of it, as in
        # fig2-mnist-ratio. A share of a barrier that counts as zero says nothing.
        bounds=everywhere("at most", SMALL),
        why={
            "quick": "The average of two networks has shorter weights than either, and an arc "
            "keeps their length. Here much of what is left of the barrier comes from that."
        },
    ),
    *further_lines.CLAIMS,
    *imagenet_lines.CLAIMS,
)
