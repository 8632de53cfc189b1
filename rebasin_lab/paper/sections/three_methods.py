"""Sections 3.1 and 3.3, Fig. 2, appendices A.7 and A.11: three methods, and what they compare to.

Units are matched by what they do, by their weights, or by the loss half-way. Every matcher of the
library is measured on the same pairs. The paper's claims are decided by the paper's `algorithm_1`;
the library's own weight matching stands beside it. `evidence` has what weights and activations
tell, `every_matcher` the comparison, `residual` residual networks and times.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import matching
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim, everywhere, from_laptop
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import every_matcher, groups, units
from rebasin_lab.paper.sections.evidence import partners, sight
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.quantities import quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.residual import residual, times
from rebasin_lab.paper.sections.study import Study, spec_of
from rebasin_lab.paper.store import Trained

__all__ = ["compare", "estimate", "partners", "residual", "sight", "times"]

NAME = "04_three_methods"

Networks = Mapping[int, Trained]  # by seed
Pair = tuple[int, int]


def networks(profile: Profile) -> dict[str, Group]:
    """Return the profile's MLPs, and its residual networks on which every matcher is tried."""
    return {"MLP": groups.mlps(profile), "ResNet": groups.family(profile, profile.compared_resnet)}


@dataclasses.dataclass(frozen=True, eq=False)
class Estimates(Record):
    """The straight-through estimator on every pair.

    Attributes:
        networks: of the first pair.
        num_epochs: passes over the training images.
        results: of the estimator, by pair.
        starts: results of weight matching, its start, by pair.
    """

    networks: Sequence[Trained]
    num_epochs: int
    results: Mapping[Pair, matching.MatchingResult]
    starts: Mapping[Pair, matching.MatchingResult]

    def figures(self) -> Iterator[Figure]:
        """Yield the lowest loss half-way so far, epoch by epoch, of the first pair."""
        identity, *losses = (-value for value in next(iter(self.results.values())).objective)
        yield Figure(
            name="straight_through",
            plot="halfway",
            numbers={"loss": losses},
            title=f"The estimator goes from {quantity(losses[0], 'nats')} half-way to "
            f"{quantity(losses[-1], 'nats')}",
            caption=f"The straight-through estimator on one pair, {self.num_epochs} epochs: "
            "the lowest train loss half-way to B that it has met "
            f"({quantity(identity, 'nats')} as B came).",
            alt=f"From {losses[0]:.4f} nats, where weight matching is, to {losses[-1]:.4f}.",
            networks=self.networks,
            size=(6.5, 3.2),
        )

    def table(self) -> Table:
        """Return losses half-way, and the time it takes, beside weight matching's."""
        results, starts = self.results.values(), self.starts.values()
        return Table(
            rows=["weight matching (its start)", "straight-through estimator"],
            corner="method",
            columns=[
                Column(
                    "train loss half-way",
                    "nats",
                    [
                        [-one.objective[1] for one in results],
                        [-one.objective[-1] for one in results],
                    ],
                    digits=4,
                ),
                Column("time", "s", [[one.seconds for one in each] for each in (starts, results)]),
            ],
        )

    def reading(self) -> Prose:
        """Return in words how often it finds a better order than its start's."""
        better = sum(one.objective[-1] > one.objective[1] for one in self.results.values())
        moved = [
            100
            * (1 - units.share_same(self.results[pair].permutation, self.starts[pair].permutation))
            for pair in self.results
        ]
        return Prose(
            f"**What we measured.** On {better} of {len(self.results)} pairs it finds a lower loss "
            f"half-way than its start; {summary(moved, '%')} % of the units change their partner."
        )


def compare(study: Study, trained: Networks, estimates: Estimates) -> every_matcher.Compared:
    """Match every pair by every matcher, and evaluate the lines and the networks half-way."""
    return every_matcher.compare(study, trained, estimates.results)


def estimate(study: Study, trained: Networks) -> Estimates:
    """Run the straight-through estimator on every pair.

    Args:
        study: the section at work.
        trained: its MLPs.
    """
    profile = study.profile
    num_epochs, pairs = profile.straight_through_epochs, profile.pairs
    results, starts = {}, {}
    with study.bar(num_epochs * len(pairs), "straight-through") as bar:
        for pair in pairs:
            spec = spec_of(trained[pair[0]], study.data)
            two = [trained[seed].params for seed in pair]
            results[pair] = cached(
                matching.match,
                "straight_through",
                spec,
                *two,
                num_epochs=num_epochs,
                **dict(profile.estimator),
                apply_fn=study.model.apply,
                data=study.data,
                on_epoch=lambda state: bar.update(1),
            )
            starts[pair] = cached(matching.match, "weight", spec, *two)
    return Estimates([trained[seed] for seed in pairs[0]], num_epochs, results, starts)


def _correlation(responses_a: Any, responses_b: Any) -> np.ndarray:
    num_units = np.shape(responses_a)[1]
    every = np.corrcoef(np.asarray(responses_a), np.asarray(responses_b), rowvar=False)
    return every[:num_units, num_units:]


def _responses(seed: int, num_images: int, num_units: int) -> tuple[np.ndarray, np.ndarray]:
    both = np.random.default_rng(seed).standard_normal((2, num_images, num_units))
    return tuple(both.round(2))


EXERCISE = Exercise(
    oracle=_correlation,
    cases=[_responses(0, 4, 2), _responses(1, 20, 3), _responses(2, 50, 7)],
    hint="first subtract each unit's mean, then divide by its length; what is left is one product "
    "of two matrices",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="a5-resnet50-seconds",
        section="A.5",
        statement="Matching two ResNet50 takes half a minute.",
        paper="33 s (V100)",
        quantity="seconds of weight matching, networks as drawn",
        bounds=from_laptop("at most", 33.0),
    ),
    claim(
        id="a5-resnet20-seconds",
        section="A.5",
        statement="Matching two ResNet20 of 32 times the usual width takes some minutes.",
        paper="194 s (V100)",
        quantity="seconds of weight matching, networks as drawn",
        bounds=from_laptop("at most", 194.0),
    ),
    claim(
        id="section3-correlation",
        section="3.1",
        statement="Matching activations by correlation works as well as by second moment.",
        paper="said, no number",
        quantity="train loss barrier, by correlation - by second moment (nats)",
        # The resolution of the paper's plots.
        bounds=everywhere("at most", 0.02),
    ),
    claim(
        id="section3-equal-barriers",
        section="3, Fig. 2",
        statement="Activation matching, weight matching and the estimator all remove the barrier.",
        paper="near 0, all three",
        quantity="permuted / naive train loss barrier, the worst of the three",
        # The bound of fig2-mnist-ratio: the paper's plot shows one zero for all three.
        bounds=everywhere("at most", 0.1),
    ),
    claim(
        id="section3-ste-best",
        section="5.1, Fig. 2",
        statement="The straight-through estimator is best, though by little.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / the better of the two others",
        bounds=everywhere("at most", 1.0),
        why={
            "quick": "The estimator starts from weight matching, which leaves more here than "
            "activation matching, and takes fewer steps than the paper's. It lowers the barrier, "
            "but not as far.",
            "laptop": "All three methods leave next to nothing here, and which of them leaves "
            "least differs from pair to pair.",
        },
    ),
    claim(
        id="section3-ste-after-weight",
        section="3.3, Fig. 2",
        statement="The straight-through estimator is no worse than weight matching, its start.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / weight matching",
        bounds=everywhere("at most", 1.0),
    ),
    claim(
        id="a11-steepest-descent",
        section="A.11",
        statement="The permutation that lies most steeply downhill of A is behind higher barriers.",
        paper="higher barriers",
        quantity="train loss barrier, steepest descent / weight matching (0 if not downhill at A)",
        bounds=everywhere("at least", 1.0),
        why={
            "quick": "The claim is about a permutation that lies downhill of A. Here the search "
            "finds none: the loss at A rises towards the best of them, too."
        },
    ),
)
