"""Splits of the data that are more or less unequal than the paper's: ours, not the paper's."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from rebasin_lab import datasets, pytrees, symmetry
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.split_pairs import (
    MERGED,
    Score,
    class_counts,
    score,
    together,
    weight_orders,
)
from rebasin_lab.paper.sections.study import Study, spec_of
from rebasin_lab.paper.store import Trained

DRAWN = ("A", "naive", MERGED, "learned part", "ensemble")


@dataclasses.dataclass(frozen=True, eq=False)
class Minorities(Record):
    """Pairs trained on several splits, and what is made of them half-way.

    Attributes:
        data: the test images are of.
        networks: by the share of a rare class, and "A" or "B".
        counts: by share, the training images of each class that A and B saw.
        scores: by name, a score for each share.
    """

    data: datasets.Dataset
    networks: Mapping[tuple[float, str], Trained]
    counts: Mapping[float, Mapping[str, Sequence[int]]]
    scores: Mapping[str, Sequence[Score]]

    @property
    def percent(self) -> list[float]:
        """The shares of a rare class, in %."""
        return [round(100 * share, 6) for share in self.counts]

    def table(self) -> Table:
        """Return test losses and accuracies by split."""
        columns = [
            Column(
                f"{metric}: {quantity(share, '%', digits=0)}",
                unit,
                lambda name, index=index, metric=metric: getattr(self.scores[name][index], metric),
            )
            for metric, unit in (("loss", "nats"), ("accuracy", "%"))
            for index, share in enumerate(self.percent)
        ]
        return Table(rows=[*self.scores], corner="images of a rare class", columns=columns)

    def at(self, rare: float) -> Figure:
        """Return one split, and accuracies over all splits, for a dial of percents."""
        index = self.percent.index(rare)
        shown = ", ".join(
            f"{name} {quantity(self.scores[name][index].accuracy, '%')}" for name in DRAWN
        )
        best = max(DRAWN[1:-1], key=lambda name: self.scores[name][index].accuracy)
        gain = self.scores[best][index].accuracy - self.scores["A"][index].accuracy
        return Figure(
            name="minorities",
            numbers={
                "classes": list(self.data.class_names),
                "counts": {n: list(each) for n, each in list(self.counts.values())[index].items()},
                "minorities": self.percent,
                "index": index,
                "curves": {
                    name: {m: [getattr(s, m) for s in each] for m in ("loss", "accuracy")}
                    for name, each in self.scores.items()
                    if name in DRAWN
                },
            },
            title=f"{quantity(rare, '%', digits=0)} of a rare class: the best merged network "
            f"({best}) is right {quantity(abs(gain), 'points')} "
            f"{'more' if gain > 0 else 'less'} often than A",
            caption="Left: who has seen what. Right: test accuracies half-way, one pair a split; "
            "the grey bar is this one. B is much like A. Ours, not the paper's.",
            alt=f"{quantity(rare, '%', digits=0)} of a rare class: test accuracies {shown}.",
            networks=[self.networks[list(self.counts)[index], name] for name in "AB"],
            data=self.data,
            size=(9.5, 4.2),
        )


def minorities(study: Study, trained: Mapping[tuple[float, str], Trained]) -> Minorities:
    """Merge one pair of each split half-way, in the orders that need no image."""
    first = next(iter(trained.values()))
    apply_fn, data = first.model.apply, first.experiment.load_dataset()
    spec = spec_of(first, data)
    counts, scores = {}, {}
    shares = sorted({share for share, _ in trained})
    with study.bar(len(shares), "merging pairs of other splits") as bar:
        for share in shares:
            both = {name: trained[share, name] for name in "AB"}
            counts[share] = {
                name: class_counts(one.experiment.load_dataset()) for name, one in both.items()
            }
            said = {n: answers.log_probs(apply_fn, o.params, data) for n, o in both.items()}
            said["ensemble"] = together(said["A"], said["B"], 0.5)
            a, b = both.values()
            for name, order in weight_orders(spec, a, b, seed=0).items():
                moved = symmetry.apply_permutation(spec, order, b.params)
                middle = pytrees.lerp(np.float32(0.5), a.params, moved)
                said[name] = answers.log_probs(apply_fn, middle, data)
            for name, one in said.items():
                scores.setdefault(name, []).append(score(one, data))
            bar.update()
    return Minorities(data, trained, counts, scores)
