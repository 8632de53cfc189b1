"""Networks merged by MergeMany (Algorithm 3), and other ways of using all of them."""

import dataclasses
import functools
from collections.abc import Sequence

from jaxtyping import PyTree

from rebasin_lab import datasets, merging, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.answers import LogProbs, Ways
from rebasin_lab.paper.sections.record import Record
from rebasin_lab.paper.sections.study import learned_part, spec_of
from rebasin_lab.paper.store import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class MergedNetworks(Record):
    """Networks, and what MergeMany makes of them from the paper's start, as they came.

    Attributes:
        data: whose test images networks are evaluated on.
        networks: that are merged.
        spec: of their symmetries.
        merge: the result.
    """

    data: datasets.Dataset
    networks: Sequence[Trained]
    spec: symmetry.PermutationSpec
    merge: merging.MergeResult

    @functools.cached_property
    def params(self) -> list[PyTree]:
        """The parameters of the networks."""
        return [network.params for network in self.networks]

    @functools.cached_property
    def learned(self) -> list[PyTree]:
        """The learned part of each network: its parameters minus those it started from."""
        return list(map(learned_part, self.networks))

    def says(self, params: PyTree, split: str = "test") -> LogProbs:
        """Return what a network says of all images of a split."""
        return answers.log_probs(self.networks[0].model.apply, params, self.data, split)

    def ways(self, split: str = "test") -> Ways:
        """Return what each network says, and what is made of all of them, by Table 3's names."""
        each = [self.says(params, split) for params in self.params]
        return {
            "single": each,
            "naive mean": [self.says(merging.average(self.params), split)],
            "MergeMany": [self.says(self.merge.params, split)],
            "ensemble": [answers.ensemble(each)],
        }

    def first(self, number: int) -> "MergedNetworks":
        """Return the first so many of the networks, merged."""
        return merge_networks(self.networks[:number], self.data)

    def learned_orders(self) -> Sequence[symmetry.Permutation]:
        """Return orders of units by what each network has learned: one round from our start."""
        return cached(merging.merge_many, self.spec, self.learned, max_rounds=1).permutations

    def in_orders(self, orders: Sequence[symmetry.Permutation]) -> PyTree:
        """Return the average of the networks with their units in these orders."""
        moved = map(functools.partial(symmetry.apply_permutation, self.spec), orders, self.params)
        return merging.average(list(moved))


def merge_networks(networks: Sequence[Trained], data: datasets.Dataset) -> MergedNetworks:
    """Run MergeMany from the paper's start."""
    spec, params = spec_of(networks[0], data), [network.params for network in networks]
    merge = cached(merging.merge_many, spec, params, start="identity")
    return MergedNetworks(data, networks, spec, merge)
