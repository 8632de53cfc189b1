"""Section 3 on residual networks, and the times of appendix A.5.

Thin networks with skip connections, of which one permutation has to suit every layer that reads a
stream or writes to it: every matcher of the library on each pair. They begin at profile `laptop`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from rebasin_lab import datasets, matching, models, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.pair_lines import LinesBy, walk
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.study import Study

LARGE = {"resnet50": "a5-resnet50-seconds", "resnet20": "a5-resnet20-seconds"}


@dataclasses.dataclass(frozen=True, eq=False)
class Residual(LinesBy):
    """Residual networks matched by every matcher, at several widths.

    Attributes:
        data: that the networks are trained on.
    """

    data: datasets.Dataset

    @property
    def methods(self) -> list[str]:
        """The names of methods, "naive" first."""
        return next(iter(self.lines.values())).methods

    def figures(self) -> Iterator[Figure]:
        """Yield barriers by method, a panel a width."""
        told = {
            method: ", ".join(f"{np.mean(heights):.2f}" for heights in self.barriers(method))
            for method in self.methods
        }
        naive, matched = (np.mean(self.barriers(method)) for method in ("naive", "algorithm_1"))
        yield Figure(
            name="residual",
            plot="matchers_by_width",
            numbers={
                "widths": [*self.lines],
                "barriers": {method: self.barriers(method) for method in self.methods},
            },
            title=f"On residual networks Algorithm 1 leaves {matched:.2f} nats of {naive:.2f}",
            caption="Train loss barriers that every matcher leaves on residual networks of "
            "several widths, one mark per pair, a bar at the mean; evaluated on "
            f"{self.eval_data.title}.",
            alt="Mean train barriers by width: "
            + "; ".join(f"{method} {means}" for method, means in told.items())
            + ".",
            networks=self.networks,
            data=self.data,
            size=(9.0, 4.2),
        )

    def table(self) -> Table:
        """Return the barrier that each matcher leaves, by width."""
        return Table(
            rows=self.methods,
            corner="train barrier",
            columns=[
                Column(f"width {width:g}", "nats", each.barriers)
                for width, each in self.lines.items()
            ],
        )


def residual(study: Study) -> list[Residual]:
    """Return the residual networks of the profile, matched by every matcher; none without such."""
    profile, family = study.profile, study.profile.compared_resnet
    trained = study.train("ResNet")
    if family is None:
        return []
    data = family.load_dataset()
    methods: dict[str, Mapping[str, Any]] = {
        "naive": {},
        **dict.fromkeys(matching.MATCHERS, {}),
        "normalized": {"method": "weight", "normalize": True},
        "straight_through": {
            "num_epochs": profile.resnet_straight_through_epochs,
            "batch_size": 100,
        },
    }
    matched_on, eval_data = family.matched_on(data), family.evaluated_on(data)
    pairs, lines = profile.pairs[: family.num_pairs], {}
    num_lines = len(family.widths) * len(pairs) * len(methods)
    with study.bar(num_lines, "matching ResNets") as bar:
        for width in family.widths:
            lines[width] = walk(
                {seed: one for (w, seed), one in trained.items() if w == width},
                pairs,
                data=matched_on,
                methods=methods,
                eval_data=eval_data,
                num_lambdas=5,
                on_method=lambda _: bar.update(),
            )
    return [Residual(lines, data)]


@dataclasses.dataclass(frozen=True, eq=False)
class Times(Record):
    """Times of weight matching on large networks as drawn.

    Attributes:
        results: by network and matcher.
    """

    results: Mapping[str, Mapping[str, matching.MatchingResult]]

    def table(self) -> Table:
        """Return seconds and sweeps of Algorithm 1, and of the library's own start."""
        each = {
            f"{name}, {label}": found[method]
            for name, found in self.results.items()
            for method, label in (("algorithm_1", "Algorithm 1"), ("weight", "ours"))
        }
        return Table(
            rows=[*each],
            corner="two networks as drawn",
            columns=[
                Column("time", "s", lambda name: each[name].seconds),
                Column("sweeps", "", lambda name: each[name].num_sweeps),
            ],
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the seconds of Algorithm 1."""
        return {
            LARGE[name.split(",")[0]]: found["algorithm_1"].seconds
            for name, found in self.results.items()
        }


def times(study: Study) -> list[Times]:
    """Match both large networks of appendix A.5, which a profile may lack; their size takes time.

    The images only give the networks their shape.
    """
    if not study.profile.timed:
        return []
    data, results = study.profile.compared_resnet.load_dataset(), {}
    for name, multiplier in study.profile.timed:
        large = models.build_model(name, dataset=data, width_multiplier=multiplier)
        two = [jax.device_get(large.init(jax.random.key(seed))) for seed in range(2)]
        spec = symmetry.infer_permutation_spec(large.apply, two[0], data.test_images[:1])
        results[f"{name}, {multiplier:g} times as wide"] = {
            method: cached(matching.match, method, spec, *two)
            for method in ("algorithm_1", "weight")
        }
    return [Times(results)]
