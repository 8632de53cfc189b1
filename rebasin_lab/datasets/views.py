"""Parts of a data set, described by small records that can be stored and sent to processes."""

import dataclasses
import functools

import numpy as np

from rebasin_lab import checks
from rebasin_lab.datasets.dataset import Dataset
from rebasin_lab.datasets.registry import load_dataset
from rebasin_lab.datasets.splits import label_biased_split, random_halves

PARTS = ("all", "biased a", "biased b", "random half")


@dataclasses.dataclass(frozen=True)
class View:
    """A part of a data set for training, and the image size; everything by default.

    `num_train` is applied first, then `part`, then `shrink`. The test split stays whole.

    Attributes:
        num_train: use the first `num_train` training examples; 0 is all.
        part: "all"; "biased a" or "biased b", the two parts of `label_biased_split` with the
            paper's seed; or "random half", the first of `random_halves`.
        part_seed: of "random half".
        shrink: factor by which images are smaller in height and width.
        minority: for biased parts: the fraction of the lower classes' images in part a, and of
            the upper classes' in part b.
    """

    num_train: checks.Natural = 0
    part: str = "all"
    part_seed: checks.Seed = 0
    shrink: checks.Count = 1
    minority: checks.Minority = 0.2  # the paper's

    def __post_init__(self):
        checks.fields(self)
        checks.choice("part", self.part, PARTS, "View")

    def apply(self, data: Dataset) -> Dataset:
        """The part of the data set; the same object if it is the whole."""
        if 0 < self.num_train < len(data.train_labels):
            data = data.subset(np.arange(self.num_train))
        if self.part != "all":
            data = data.subset(self._indices(data))
        return data.shrunk(self.shrink) if self.shrink > 1 else data

    def _indices(self, data: Dataset) -> np.ndarray:
        if self.part == "random half":
            return random_halves(len(data.train_labels), seed=self.part_seed)[0]
        halves = label_biased_split(data.train_labels, data.num_classes, minority=self.minority)
        return halves[self.part == "biased b"]


@functools.lru_cache(maxsize=8)  # the networks of one notebook share a few
@checks.arguments
def load_view(name: str, view: View) -> Dataset:
    """The view of the data set with this name, see `load_dataset`.

    Raises:
        ValueError: for an unknown name, or a view that does not fit.
        FileNotFoundError: if the data set is not available.
    """
    return view.apply(load_dataset(name) if view == View() else load_view(name, View()))
