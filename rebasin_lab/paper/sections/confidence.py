"""Fig. 11: is a merged network as sure as it is right? And what is left of its lower loss if so?

Calibration is measured as in the paper, by the frequency of what is predicted. One temperature for
all logits, which is ours, tells a network that knows more from one that is only less sure.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab.analysis import calibration
from rebasin_lab.paper.sections.answers import LogProbs
from rebasin_lab.paper.sections.merged_pairs import IMAGES, NO_IMAGES, Merged
from rebasin_lab.paper.sections.quantities import listed, num_pairs, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.split_pairs import MERGED, Score, num_bins, score, together
from rebasin_lab.paper.sections.study import Study

DRAWN = ("A", "B", MERGED, "ensemble", "all data")
WALKED = ("naive", MERGED, "learned part", "straight-through")  # and the ensemble
TEMPERATURES = [1 + step / 4 for step in range(13)]  # of a dial


@dataclasses.dataclass(frozen=True, eq=False)
class Confidence(Record):
    """Calibration of networks and of what they are merged into, and their loss when it is mended.

    Attributes:
        merged: the networks.
    """

    merged: Merged

    @functools.cached_property
    def tempered(self) -> dict[str, list[calibration.TemperedLoss]]:
        """The loss at the best temperature, and this temperature, by name and pair."""
        labels = self.merged.data.test_labels
        return {
            name: [calibration.tempered_loss(one, labels) for one in each]
            for name, each in self.merged.said.items()
        }

    def left(self, name: str) -> list[float]:
        """Return the tempered loss less that of the better of A and B, for each pair."""
        ends = [[one.loss for one in self.tempered[end]] for end in "AB"]
        return np.subtract([one.loss for one in self.tempered[name]], np.min(ends, axis=0)).tolist()

    def table(self) -> Table:
        """Return calibration errors, losses, and losses at the best temperature."""
        values, tempered = self.merged.values, self.tempered
        return Table(
            rows=[*self.merged.said],
            corner="half-way",
            columns=[
                Column("ECE", "", functools.partial(values, "ece")),
                Column("test loss", "nats", functools.partial(values, "loss")),
                Column(
                    "best temperature",
                    "",
                    lambda name: [one.temperature for one in tempered[name]],
                    digits=2,
                ),
                Column("tempered loss", "nats", lambda name: [one.loss for one in tempered[name]]),
                Column("tempered, less the better of A and B", "nats", self.left),
            ],
        )

    def reading(self) -> Prose:
        """Return in words what a temperature saves, and which merged networks keep a lead."""
        tried = [name for name in self.tempered if name in (*NO_IMAGES, *IMAGES)]
        keep = [name for name in tried if max(self.left(name)) < 0]
        lose = [name for name in tried if name not in keep]
        saved = np.mean([self.merged.values("loss", name) for name in "AB"]) - np.mean(
            [[one.loss for one in self.tempered[name]] for name in "AB"]
        )
        names = (*"AB", MERGED)
        heat = {n: np.mean([one.temperature for one in self.tempered[n]]) for n in names}
        shown = ", ".join(f"{quantity(heat[n], '', digits=2)} for {n}" for n in names)
        return Prose(
            f"**What we measured.** The best temperatures are {shown}; above 1 means "
            f"overconfident. One temperature saves A and B {quantity(saved, 'nats')} on average, "
            "without any merging. With every network at its own best temperature, the merged one "
            f"is better than both A and B on every pair by: {', '.join(keep) or 'no matcher'}. "
            f"Not on every pair by: {', '.join(lose) or 'none of those tried'}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield predicted probabilities against observed frequencies, pooled over pairs."""
        data, number = self.merged.data, len(self.merged.lines.pairs.pairs)
        ece = {name: float(np.mean(self.merged.values("ece", name))) for name in DRAWN}
        labels = np.tile(data.test_labels, number)
        yield Figure(
            name="reliability",
            numbers={
                "panels": [
                    {
                        "title": title,
                        "curves": {
                            name: calibration.reliability_curve(
                                np.concatenate(self.merged.said[name]),
                                labels,
                                num_bins=num_bins(data),
                                predictions=kind,
                            ).as_numbers()
                            for name in DRAWN
                        },
                        "ece": ece,
                    }
                    for title, kind in (
                        ("all classes, as in Fig. 11", "all classes"),
                        ("likeliest class", "top class"),
                    )
                ]
            },
            title=f"Calibration errors: {ece['A']:.3f} of A and {ece['B']:.3f} of B, "
            f"{ece[MERGED]:.3f} merged by Algorithm 1",
            caption="Predicted probabilities against observed frequencies on test images, "
            f"pooled over {num_pairs(number)}; Fig. 11 of the paper. Below: how many there are.",
            alt=f"Calibration errors: {listed(ece, '')}.",
            networks=[*self.merged.lines.pairs.networks.values()],
            data=data,
            size=(9.5, 5.2),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the merged network's calibration error against A and B, and the ensemble."""
        ece = {name: np.array(self.merged.values("ece", name)) for name in DRAWN}
        return {
            "fig11-ece-below-both": (ece[MERGED] - np.minimum(ece["A"], ece["B"])).tolist(),
            "fig11-on-par-with-ensemble": np.abs(ece[MERGED] - ece["ensemble"]).tolist(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Walk(Record):
    """What the networks on the lines of the first pair say, for dials.

    Attributes:
        merged: the networks.
        lambdas: along the lines.
        said: by way to combine A and B, for each lambda.
    """

    merged: Merged
    lambdas: Sequence[float]
    said: Mapping[str, Sequence[LogProbs]]

    @functools.cached_property
    def scores(self) -> dict[str, list[Score]]:
        """The scores along each line, without a temperature."""
        data = self.merged.data
        return {way: [score(one, data) for one in each] for way, each in self.said.items()}

    @functools.cached_property
    def most_loss(self) -> float:
        """The highest loss at any temperature of the dial, where the axis ends.

        The loss is convex in 1 / temperature, so the highest is at an end.
        """
        data = self.merged.data
        return max(
            calibration.negative_log_likelihood(
                calibration.with_temperature(one, temperature), data.test_labels
            )
            for each in self.said.values()
            for one in each
            for temperature in (TEMPERATURES[0], TEMPERATURES[-1])
        )

    def at(self, combined_by: str, lam: float, temperature: float) -> Figure:
        """Return the network at lambda, its logits divided by a temperature, for dials."""
        data, index = self.merged.data, self.lambdas.index(lam)
        said = calibration.with_temperature(self.said[combined_by][index], temperature)
        here = score(said, data)
        sure = calibration.reliability_curve(
            said, data.test_labels, num_bins=10, predictions="top class"
        )
        shown = (
            f"test loss {quantity(here.loss, 'nats')}, accuracy {quantity(here.accuracy, '%')}, "
            f"calibration error {here.ece:.3f}"
        )
        return Figure(
            name="walk",
            plot="line_reliability",
            numbers={
                "lambdas": list(self.lambdas),
                "lines": {
                    way: {m: [getattr(s, m) for s in line] for m in ("loss", "accuracy")}
                    for way, line in self.scores.items()
                },
                "method": combined_by,
                "index": index,
                "temperature": temperature,
                "most_loss": self.most_loss,
                "reliability": sure.as_numbers(),
                **{name: getattr(here, name) for name in ("loss", "accuracy", "ece")},
            },
            title=f"{combined_by}, λ = {lam:.1f}, temperature {temperature:g}: {shown}",
            caption="Left: test losses on the lines of the first pair at temperature 1, and this "
            "network. Right: how often the likeliest class is right; on the diagonal the network "
            "is as sure as it is right.",
            alt=f"{combined_by} at λ = {lam:.1f}, temperature {temperature:g}: {shown}.",
            networks=[*self.merged.lines.pairs.of(self.merged.lines.pairs.pairs[0])],
            data=data,
            size=(9.5, 4.2),
        )


def walk(study: Study, merged: Merged) -> Walk:
    """Ask every network at tenths of the lines of the first pair."""
    found, lambdas = merged.lines.pairs, [step / 10 for step in range(11)]
    pair, ends = found.pairs[0], [found.said[name][0] for name in "AB"]
    ways = [way for way in WALKED if way in merged.orders]
    said = {}
    with study.bar(len(ways), "asking networks on the line") as bar:
        for way in ways:
            said[way] = found.along(pair, merged.orders[way][0], len(lambdas))
            bar.update()
    said["ensemble"] = [together(*ends, lam) for lam in lambdas]
    return Walk(merged, lambdas, said)
