"""Parts of a data set, by recipes small enough to store and to send to another process."""

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
    """The training examples of a data set that are used, and their size; all by default.

    Cut to `num_train`, then to the part, then shrunk. The test split stays whole.

    Attributes:
        num_train: the first so many training examples; 0 is all.
        part: "all"; "biased a" or "biased b", the two parts of `label_biased_split` with the
            paper's seed; or "random half", the first of `random_halves`.
        part_seed: of "random half".
        shrink: images so many times smaller each way.
        minority: of the biased parts: the fraction of the lower classes' images that part a has,
            and of the upper classes' that part b has.
    """

    num_train: checks.Natural = 0
    part: str = "all"
    part_seed: checks.Seed = 0
    shrink: checks.Count = 1
    minority: checks.Minority = 0.2  # the paper's

    def __post_init__(self):
        checks.fields(self)
        checks.choice("part", self.part, PARTS, "View")

    def of(self, data: Dataset) -> Dataset:
        """The data set, so cut down; the very same object if nothing is cut."""
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
    """A view of the data set with this name, see `load_dataset`.

    Raises:
        ValueError: for an unknown name, or a view it does not have.
        FileNotFoundError: if it is not to be had.
    """
    return view.of(load_dataset(name) if view == View() else load_view(name, View()))
