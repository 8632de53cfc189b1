"""Networks of the same age, matched from scratch at every stop of their training (Fig. 3).

Between the two networks of a pair several lines are walked at every stop, with B's units in another
order each time, see `NAMES`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rebasin_lab import datasets, matching, pytrees, symmetry
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.record import Column, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

NAMES = {
    "naive": "naive",
    "random": "random order",
    "algorithm_1": "Algorithm 1",
    "weight": "weight matching (ours)",
    "late": "permutation of the end",
    "activation": "activation matching",
    "changes": "learned part (ours)",
}

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Ages(Record):
    """Lines between networks of the same age.

    Attributes:
        networks: by seed.
        epochs: at which they were stopped, increasing.
        comparisons: by pair of seeds and epoch, then by method.
        lengths: the product of both networks' lengths, by pair and epoch.
        eval_data: the images that lines are evaluated on.
    """

    networks: Mapping[int, Trained]
    epochs: Sequence[int]
    comparisons: Mapping[tuple[Pair, int], Mapping[str, Comparison]]
    lengths: Mapping[tuple[Pair, int], float]
    eval_data: datasets.Dataset

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """The seeds of A and B, pair by pair."""
        return sorted({pair for pair, _ in self.comparisons})

    def barriers(self, method: str, *, split: str = "train") -> np.ndarray:
        """Return the loss barriers in nats, pair by epoch."""
        return np.array(
            [
                [getattr(self.comparisons[p, e][method], f"{split}_barrier") for e in self.epochs]
                for p in self.pairs
            ]
        )

    def at_epoch(self, method: str, epoch: int) -> list[float]:
        """Return the train loss barriers at one epoch, pair by pair."""
        return self.barriers(method)[:, self.epochs.index(epoch)].tolist()

    def onset_numbers(
        self,
        methods: Sequence[str],
        lines_at: Sequence[int],
        *,
        pairs: Sequence[Pair] = (),
        marked: int | None = None,
    ) -> dict[str, Any]:
        """Return barriers at all epochs and lines at some, as the plot "onset" draws them."""
        rows = [self.pairs.index(pair) for pair in pairs or self.pairs]
        return {
            "epochs": list(self.epochs),
            "barriers": {
                method: {"train": self.barriers(method)[rows].tolist()} for method in methods
            },
            "lines": [
                {
                    "title": f"Train loss at epoch {epoch}",
                    "curves": {
                        method: [
                            self.comparisons[pair, epoch][method].curve.as_numbers()
                            for pair in pairs or self.pairs
                        ]
                        for method in methods
                    },
                }
                for epoch in lines_at
            ],
            "marked": marked,
        }

    def table_of(self, methods: Sequence[str]) -> Table:
        """Return train barriers by epoch and method."""
        return Table(
            rows=[f"epoch {epoch}" for epoch in self.epochs],
            corner="train barrier after",
            columns=[
                Column(NAMES[method], "nats", self.barriers(method).T.tolist())
                for method in methods
            ],
        )

    def listed(self, method: str) -> str:
        """Return the mean train barriers of a method by epoch, in words."""
        means = zip(self.epochs, self.barriers(method).mean(axis=0), strict=True)
        return ", ".join(f"epoch {epoch} {value:.3f}" for epoch, value in means)


def aged(
    study: Study,
    trained: Mapping[int, Trained],
    epochs: Sequence[int],
    eval_data: datasets.Dataset,
    *,
    methods: Sequence[str],
) -> Ages:
    """Match every pair at every stop, and walk the lines.

    Args:
        study: the section at work.
        trained: networks by seed, with snapshots at these epochs.
        epochs: increasing; the last one is the end.
        eval_data: the images that lines are evaluated on.
        methods: names in `NAMES`.
    """
    pairs, last = study.profile.pairs, epochs[-1]
    one = trained[pairs[0][0]]
    apply_fn = one.model.apply
    spec = symmetry.infer_permutation_spec(apply_fn, one.params, eval_data.test_images[:1])
    fresh = {name: {} for name in methods if name not in ("late", "changes")}
    comparisons: dict[tuple[Pair, int], dict[str, Comparison]] = {}
    lengths = {}
    with study.bar(len(methods) * len(pairs) * len(epochs), "matching and evaluating") as bar:
        for pair in pairs:
            start = [trained[seed].params_after(0) for seed in pair]
            for epoch in reversed(epochs):  # the end first: its permutation is wanted everywhere
                both = [trained[seed].params_after(epoch) for seed in pair]
                lengths[pair, epoch] = np.prod([pytrees.inner_product(p, p) for p in both]) ** 0.5
                results = {}
                if "changes" in methods and epoch == 0:  # nothing has changed yet
                    results["changes"] = comparisons[pair, last]["changes"].result
                elif "changes" in methods:
                    learned = [
                        jax.tree.map(jnp.subtract, *each) for each in zip(both, start, strict=True)
                    ]
                    results["changes"] = cached(matching.match, "weight", spec, *learned, seed=0)
                if "late" in methods and epoch != last:
                    results["late"] = comparisons[pair, last]["algorithm_1"].result
                comparisons[pair, epoch] = cached(
                    compare_matchers,
                    spec,
                    *both,
                    apply_fn=apply_fn,
                    data=eval_data,
                    methods=fresh | dict.fromkeys(results, {"method": "weight"}),
                    results=results,
                    num_lambdas=study.profile.num_coarse_lambdas,
                    on_method=lambda _: bar.update(),
                )
            if "late" in methods:
                end = comparisons[pair, last]
                comparisons[pair, last] = end | {"late": end["algorithm_1"]}
    return Ages(trained, list(epochs), comparisons, lengths, eval_data)
