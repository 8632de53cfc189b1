"""Fig. 13: networks on a random half of the images each, merged: are they better calibrated?"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.answers import METRICS, Scores, Ways
from rebasin_lab.paper.sections.merged_networks import MergedNetworks, merge_networks
from rebasin_lab.paper.sections.merging_many import Search
from rebasin_lab.paper.sections.quantities import listed, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class Halves(Record):
    """Fig. 13: networks on a random half of the images each, and what they merge to.

    Attributes:
        search: the networks, all of them merged.
        num_rounds: of every search of this section; infinite where one did not end by itself.
        ways: split -> way -> what it says of all images.
        by_count: number of networks -> the same for the first so many, on test images.
    """

    search: MergedNetworks
    num_rounds: Sequence[float | int]
    ways: Mapping[str, Ways]
    by_count: Mapping[int, Ways]

    @property
    def counts(self) -> list[int]:
        """The numbers of networks that were merged."""
        return list(self.by_count)

    @functools.cached_property
    def scores(self) -> dict[str, dict[str, list[Scores]]]:
        """The scores of all ways, by split."""
        data = self.search.data
        return {split: answers.score_all(ways, data, split) for split, ways in self.ways.items()}

    def ece(self, way: str, split: str = "test") -> list[float]:
        """Return the calibration error of each network that a way uses, or of what it makes."""
        return [one.ece for one in self.scores[split][way]]

    def figures(self) -> Iterator[Figure]:
        """Yield how sure the networks are, against how often they are right."""
        data, number = self.search.data, len(self.search.networks)
        errors = {way: self.ece(way) for way in self.ways["test"]}
        yield Figure(
            name="reliability",
            numbers={
                "panels": [
                    {
                        "title": f"{split} images",
                        "curves": {
                            way: answers.reliability(each, data, split)
                            for way, each in self.ways[split].items()
                        },
                        "ece": {
                            way: float(np.mean(self.ece(way, split))) for way in self.ways[split]
                        },
                    }
                    for split in answers.SPLITS
                ]
            },
            title="The calibration error of the merged network is "
            f"{quantity(errors['MergeMany'], '')}, of one alone {quantity(errors['single'], '')}",
            caption=f"Predicted probabilities against observed frequencies: {number} networks on "
            "a random half of the training images each (pooled), and what they are merged into; "
            "Fig. 13 of the paper. Training images are all of them, seen by a network or not.",
            alt=f"Calibration errors on test images: {listed(errors, '')}.",
            networks=self.search.networks,
            claims=["fig13-calibration-singles", "fig13-calibration-ensemble"],
            size=(9.5, 5.2),
        )

    def table(self) -> Table:
        """Return what the merged networks are worth, and in the order of their learned parts."""
        learned = self.search.in_orders(self.search.learned_orders())
        ours = {"learned part": [self.search.says(learned)]}
        scores = self.scores["test"] | answers.score_all(ours, self.search.data)
        return Table(
            rows=list(scores),
            columns=[
                Column(
                    label.partition(" (")[0],
                    unit,
                    [[getattr(s, m) for s in each] for each in scores.values()],
                )
                for (m, label), unit in zip(METRICS.items(), ("nats", "nats", "%", ""), strict=True)
            ],
        )

    @functools.cached_property
    def means(self) -> dict[str, list[Scores]]:
        """The mean scores of every way, by number of networks."""
        means: dict[str, list[Scores]] = {}
        for ways in self.by_count.values():
            for way, scores in answers.score_all(ways, self.search.data).items():
                means.setdefault(way, []).append(answers.mean(scores))
        return means

    def at(self, networks: int, metric: str) -> Figure:
        """Return one metric by number of networks, and reliability for one number; for a dial."""
        data = self.search.data
        (name,) = (key for key, label in METRICS.items() if label == metric)
        here = {w: getattr(p[self.counts.index(networks)], name) for w, p in self.means.items()}
        title = "one network" if networks == 1 else f"{networks} networks"
        shown = ", ".join(f"{way} {value:.3g}" for way, value in here.items())
        return Figure(
            name="merged_number",
            numbers={
                "counts": self.counts,
                "panel": answers.panel(self.means, name),
                "number": networks,
                "reliability": {
                    way: answers.reliability(each, data)
                    for way, each in self.by_count[networks].items()
                },
                "title": title,
            },
            title=f"{title.capitalize()} on random halves",
            caption="The first so many networks, as they are and merged.",
            alt=f"{title}, {metric}: {shown}.",
            networks=self.search.networks[:networks],
            size=(9.0, 4.2),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return calibration errors of the merged network less those of others, and rounds."""
        merged = float(np.mean(self.ece("MergeMany")))
        return {
            "fig13-calibration-singles": merged - min(self.ece("single")),
            "fig13-calibration-ensemble": merged - float(np.mean(self.ece("ensemble"))),
            "a10-terminates": max(self.num_rounds),
        }


def halves(study: Study, trained: Mapping[int, Trained], earlier: Search) -> Halves:
    """Merge the first 1, 2, 4, ... and all networks on random halves, from the paper's start."""
    found = merge_networks([*trained.values()], study.data)
    number = len(found.networks)
    counts = sorted({min(2**power, number) for power in range(number.bit_length() + 1)})
    by_count, rounds = {}, []
    with study.bar(len(counts), "merging networks on random halves") as bar:
        for count in counts:
            some = found.first(count)
            rounds.append(some.merge)
            by_count[count] = some.ways()
            bar.update()
    ended = [*earlier.merges.values(), *rounds]
    num_rounds = [each.num_rounds if each.converged else math.inf for each in ended]
    ways = {"train": found.ways("train"), "test": by_count[number]}
    return Halves(found, num_rounds, ways, by_count)
