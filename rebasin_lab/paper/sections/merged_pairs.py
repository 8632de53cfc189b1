"""Pairs of networks of section 5.4, merged half-way by several matchers.

The paper has one, weight matching. The others are ours to compare with: some look at images.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rebasin_lab import datasets, matching, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.answers import LogProbs
from rebasin_lab.paper.sections.quantities import listed, num_pairs, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.split_data import Lines
from rebasin_lab.paper.sections.split_pairs import MERGED, Score, score
from rebasin_lab.paper.sections.study import Study

NO_IMAGES = (MERGED, "weight matching", "learned part")
IMAGES = {
    "activation matching": "all images, no label",
    "activations of A's images": "A's images, no label",
    "straight-through": "all images, labels",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Merged(Record):
    """A, B and what they are merged into half-way, for each pair.

    Attributes:
        lines: between them.
        orders: by way, B's order for each pair, those of the lines included.
        said: by name, for each pair what a network says of the test images.
    """

    lines: Lines
    orders: Mapping[str, Sequence[symmetry.Permutation]]
    said: Mapping[str, Sequence[LogProbs]]

    @property
    def data(self) -> datasets.Dataset:
        """The data whose test images they say something of."""
        return self.lines.pairs.data

    @functools.cached_property
    def scores(self) -> dict[str, list[Score]]:
        """The scores of each name, one a pair."""
        return {name: [score(one, self.data) for one in each] for name, each in self.said.items()}

    def values(self, metric: str, name: str) -> list[float]:
        """Return a metric of each pair."""
        return [getattr(one, metric) for one in self.scores[name]]

    def below_both(self, name: str) -> list[float]:
        """Return the test loss less the lower of A and B, for each pair."""
        ends = [self.values("loss", end) for end in "AB"]
        return np.subtract(self.values("loss", name), np.min(ends, axis=0)).tolist()

    def table(self) -> Table:
        """Return what each matcher sees, and what comes of it."""
        sees = {"ensemble": "nothing is merged", "all data": "trained on everything"} | IMAGES
        sees |= dict.fromkeys(NO_IMAGES, "weights") | dict.fromkeys(("naive", "random"), "nothing")
        return Table(
            rows=[name for name in self.said if name not in ("A", "B")],
            corner="half-way",
            columns=[
                Column("looks at", "", sees.get),
                Column("test loss", "nats", functools.partial(self.values, "loss")),
                Column("less the lower of A and B", "nats", self.below_both),
                Column("test accuracy", "%", functools.partial(self.values, "accuracy")),
            ],
        )

    def reading(self) -> Prose:
        """Return in words which matchers merge to a network better than both."""
        tried = [name for name in self.said if name in (*NO_IMAGES, *IMAGES)]
        always = [name for name in tried if max(self.below_both(name)) < 0]
        rest = [name for name in tried if name not in always]
        number = len(self.lines.pairs.pairs)
        return Prose(
            f"**What we measured**, on {num_pairs(number)}. The merged network has a lower test "
            f"loss than both A and B on every pair by: {', '.join(always) or 'no matcher'}. Not on "
            f"every pair by: {', '.join(rest) or 'none of those tried'}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield test loss and accuracy of all of them."""
        means = {name: float(np.mean(self.values("loss", name))) for name in self.said}
        matchers = {name: means[name] for name in means if name in (*NO_IMAGES, *IMAGES)}
        best = min(matchers, key=matchers.__getitem__)
        metrics = (("test loss (nats)", "loss", True), ("test accuracy (%)", "accuracy", False))
        yield Figure(
            name="matchers",
            plot="merged_bars",
            numbers={
                "groups": [
                    {
                        "title": title,
                        "values": {name: self.values(metric, name) for name in self.said},
                        "lower_is_better": lower,
                    }
                    for title, metric, lower in metrics
                ]
            },
            title=f"Test loss half-way: {quantity(means[MERGED], 'nats')} by Algorithm 1, "
            f"{quantity(means[best], 'nats')} by the best matcher ({best})",
            caption="Networks trained on two biased parts of the data, and what they are "
            "merged into by several matchers: test loss and accuracy of every pair. All but "
            "naive, Algorithm 1, ensemble and all data are ours, not the paper's.",
            alt=f"Mean test loss: {listed(means, 'nats')}.",
            networks=[*self.lines.pairs.networks.values()],
            data=self.data,
            claims=["fig5-merged-below-both", "fig10-accuracy"],
            size=(9.0, 4.4),
        )


def merged(study: Study, lines: Lines) -> Merged:
    """Match every pair by the other matchers, too, and ask the networks half-way."""
    found = lines.pairs
    orders = {way: [*each] for way, each in lines.orders.items()}
    said = {way: [*each] for way, each in lines.middles.items()}
    apply_fn = next(iter(found.networks.values())).model.apply
    matchers = _matchers(study.profile, apply_fn, found.data, found.parts["A"])
    with study.bar(len(matchers) * len(found.pairs), "matching") as bar:
        for pair in found.pairs:
            weights = [one.params for one in found.of(pair)]
            for name, (method, options) in matchers.items():
                order = cached(matching.match, method, found.spec, *weights, **options).permutation
                orders.setdefault(name, []).append(order)
                said.setdefault(name, []).append(found.at(pair, order, 0.5))
                bar.update()
    shown = ("A", "B", "naive", "random", *NO_IMAGES, *IMAGES, "ensemble", "all data")
    return Merged(lines, orders, {name: said[name] for name in shown if name in said})


def _matchers(
    profile: Profile, apply_fn, data: datasets.Dataset, data_a: datasets.Dataset
) -> dict[str, tuple[str, dict]]:
    """Return the matchers that the lines were not walked for, with their options."""
    passes = profile.split_straight_through_epochs
    seen = {"apply_fn": apply_fn, "data": data}
    matchers = {
        "weight matching": ("weight", {}),
        "activation matching": ("activation", seen),
        "activations of A's images": ("activation", seen | {"data": data_a}),
    }
    if passes:  # on the paper's network the estimator would take days
        options = {"num_epochs": passes, **dict(profile.estimator)}
        matchers["straight-through"] = ("straight_through", seen | options)
    return matchers
