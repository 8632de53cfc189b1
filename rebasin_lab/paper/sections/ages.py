"""Networks of the same age, matched from scratch at every stop of their training (Fig. 3)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import datasets
from rebasin_lab.paper.sections.pair_lines import LinesBy, Pair, PairLines, walk
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained


class Ages(LinesBy):
    """Lines between networks of the same age, by epoch."""

    @property
    def epochs(self) -> list[int]:
        """The epochs at which they were stopped, increasing."""
        return [*self.lines]

    @property
    def networks(self) -> list[Trained]:
        """All networks: those of an age are those of every other."""
        return [*self.lines[self.epochs[-1]].networks.values()]

    def at_epoch(self, method: str, epoch: int) -> list[float]:
        """Return the train loss barriers at one epoch, pair by pair."""
        return self.lines[epoch].barriers(method)

    def onset_numbers(
        self, methods: Sequence[str], lines_at: int, *, marked: int | None = None
    ) -> dict[str, Any]:
        """Return barriers at all epochs and lines at one, as the plot "onset" draws them."""
        return {
            "epochs": self.epochs,
            "barriers": {
                method: {"train": np.transpose(self.barriers(method)).tolist()}
                for method in methods
            },
            "lines": [
                {
                    "title": f"Train loss at epoch {lines_at}",
                    "curves": self.lines[lines_at].curves(methods),
                }
            ],
            "marked": marked,
        }

    def of_pair(self, pair: Pair) -> "Ages":
        """Return the same of one pair."""
        return Ages(
            {
                epoch: dataclasses.replace(each, compared={pair: each.compared[pair]})
                for epoch, each in self.lines.items()
            }
        )

    def listed(self, method: str) -> str:
        """Return the mean train barriers of a method by epoch, in words."""
        means = zip(self.epochs, map(np.mean, self.barriers(method)), strict=True)
        return ", ".join(f"epoch {epoch} {value:.3f}" for epoch, value in means)


def aged(
    study: Study,
    trained: Mapping[int, Trained],
    epochs: Sequence[int],
    eval_data: datasets.Dataset,
    *,
    methods: Sequence[str],
) -> dict[int, PairLines]:
    """Match every pair at every stop, and walk the lines.

    Args:
        study: the section at work.
        trained: networks by seed, with snapshots at these epochs.
        epochs: increasing; the last one is the end.
        eval_data: the images that lines are evaluated on.
        methods: names in `pair_lines.NAMES`; "late" is the order that
            Algorithm 1 finds at the end.
    """
    pairs, last = study.profile.pairs, epochs[-1]
    fresh = {name: {} for name in methods if name not in ("late", "changes")}
    lines: dict[int, PairLines] = {}
    with study.bar(len(methods) * len(pairs) * len(epochs), "matching and evaluating") as bar:
        for epoch in reversed(epochs):  # the end first: its permutations are wanted everywhere
            end, results = lines.get(last), {pair: {} for pair in pairs}
            for pair, found in results.items():
                if "changes" in methods and epoch == 0:  # nothing has changed yet
                    found["changes"] = end.compared[pair]["changes"].result
                if "late" in methods and end:
                    found["late"] = end.compared[pair]["algorithm_1"].result
            rest = [name for name in ("changes", "late" if end else "") if name in methods]
            lines[epoch] = walk(
                trained,
                pairs,
                data=eval_data,
                epoch=epoch,
                results=results,
                methods=fresh | dict.fromkeys(rest, {"method": "weight"}),
                num_lambdas=study.profile.num_coarse_lambdas,
                on_method=lambda _: bar.update(),
            )
    if "late" in methods:
        end = lines[last].compared.items()
        compared = {pair: each | {"late": each["algorithm_1"]} for pair, each in end}
        lines[last] = dataclasses.replace(lines[last], compared=compared)
    return {epoch: lines[epoch] for epoch in epochs}
