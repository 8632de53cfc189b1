"""Two networks in files: their function, their parameters, and the images they are merged with."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, interop, merging
from rebasin_lab.analysis import calibration
from rebasin_lab.paper import foreign_pair
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained
from rebasin_lab.training import checkpoints

NUM_IMAGES = 600  # that a merge looks at, without labels
BATCH_SIZE = 100

Params = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FilePair(Record):
    """Two networks in files.

    Attributes:
        title: what they are, for captions.
        paths: of their files.
        apply_fn: `apply_fn(params, images) -> logits`.
        data: images like those that they were trained on.
        networks: that were trained here; none if other people's.
    """

    title: str
    paths: Sequence[Path]
    apply_fn: Callable
    data: datasets.Dataset
    networks: Sequence[Trained] = ()

    @functools.cached_property
    def params(self) -> list[Params]:
        """Parameters of A and of B, by name; without counters, which are integers."""
        opened = map(interop.open_checkpoint, self.paths)
        return [
            {name: array for name, array in each.items() if array.dtype.kind == "f"}
            for each in opened
        ]

    @functools.cached_property
    def images(self) -> datasets.Dataset:
        """The images that merges look at."""
        return self.first_images(NUM_IMAGES)

    def first_images(self, number: int) -> datasets.Dataset:
        """Return the data with so many training images, the first."""
        return self.data.subset(np.arange(min(number, len(self.data.train_labels))))

    def says(self, params: PyTree) -> answers.LogProbs:
        """Return what a network says of all test images."""
        logits = cached(calibration.predicted_logits, self.apply_fn, params, self.data.test_images)
        return answers.as_log_probs(logits)

    def accuracy(self, params: PyTree) -> float:
        """Return the % of all test images that a network is right on."""
        return self.right(self.says(params))

    def right(self, said: answers.LogProbs) -> float:
        """Return the % of all test images that an answer is right on."""
        return 100 * float(np.mean(said.argmax(axis=1) == self.data.test_labels))

    def least_squares(
        self, b: PyTree, *, number: int = NUM_IMAGES, size: float | None = None
    ) -> merging.LeastSquaresResult:
        """Return A and B, aligned, merged by least squares on so many images."""
        return cached(
            merging.least_squares,
            self.apply_fn,
            [self.params[0], b],
            self.first_images(number),
            size=size,
            batch_size=min(number, BATCH_SIZE),
        )

    def table(self) -> Table:
        """Return what is in the files."""
        opened = [interop.open_checkpoint(path) for path in self.paths]
        return Table(
            rows=[f"{name}: {path.name}" for name, path in zip("AB", self.paths, strict=True)],
            corner="file",
            columns=[
                Column("arrays", "", [len(each) for each in opened]),
                Column("numbers", "", [sum(a.size for a in one.values()) for one in self.params]),
                Column("test accuracy", "%", [*map(self.accuracy, self.params)]),
            ],
        )

    def written(self, params: PyTree, path: Path) -> Prose:
        """Write a merged network under A's names, read it back, and say how good it is."""
        like = interop.open_checkpoint(self.paths[0])
        merged = {**like, **params}
        interop.write_checkpoint(path, like, merged.__getitem__, {"merged": "least squares"})
        read = interop.open_checkpoint(path)
        right = quantity(self.accuracy({name: read[name] for name in params}), "%")
        return Prose(
            f"**Written**: `{path.name}`, {len(read)} arrays with the names and types of "
            f"`{self.paths[0].name}`. Read back it is right on {right} of the test images."
        )


def open_pair(study: Study, folder: Path) -> FilePair:
    """Open other people's pair, or one of the lab's own, trained and written first.

    Args:
        study: its profile names other people's networks, where it has some.
        folder: for files of the lab's own.
    """
    name = study.profile.foreign_pair
    if paths := foreign_pair.files(name):
        title = f"two networks {name} of width 1 that other people trained on CIFAR-10"
        return FilePair(title, paths, foreign_pair.theirs, datasets.load_dataset("cifar10"))
    networks = [*study.train("BatchNorm").values()]
    paths = []
    for network in networks:
        paths.append(
            folder / f"{network.experiment.architecture}-{network.experiment.seed}.safetensors"
        )
        arrays = foreign_pair.as_torch(network.params)
        checkpoints.save(paths[-1], arrays, {"trained": network.experiment.title})
    base = networks[0].experiment
    title = f"two networks {base.networks}"
    return FilePair(title, paths, foreign_pair.ours, base.load_dataset(), networks)
