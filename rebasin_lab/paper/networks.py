"""Networks that the paper's sections are about: one, by all that determines it, or a family.

Small enough to send anywhere: `store.trained` makes the network of an `Experiment`.
"""

import dataclasses
from typing import Any

import numpy as np

from rebasin_lab import checks, datasets, models, training


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a network is trained on, how, and from which seed: small enough to send anywhere.

    Attributes:
        dataset: a name `load_dataset` knows.
        seed: of the initial parameters and of the order of the images.
        train: how.
        architecture: a name `build_model` knows.
        options: its sizes.
        view: the part of the data set it sees.
        snapshot_epochs: after these its parameters are kept, too; no influence on the network.
    """

    dataset: str
    seed: checks.Seed
    train: training.TrainConfig
    architecture: str = "mlp"
    options: tuple[tuple[str, int | float], ...] = (("num_hidden_layers", 3), ("width", 512))
    view: datasets.View = datasets.View()
    snapshot_epochs: tuple[checks.Count, ...] = ()

    def __post_init__(self):
        checks.fields(self)
        models.check_options(self.architecture, dict(self.options))

    def seeded(self, seed: checks.Seed) -> "Experiment":
        """The same with another seed."""
        return dataclasses.replace(self, seed=seed)

    def sized(self, **sizes: int | float) -> "Experiment":
        """The same with other sizes of the architecture."""
        return dataclasses.replace(self, options=tuple((dict(self.options) | sizes).items()))

    def scaled(self, width: int | float) -> "Experiment":
        """The same with another width: of its layers, or the multiple of a published one."""
        return self.sized(**{models.ARCHITECTURES[self.architecture].width: width})

    def seeing(self, **fields: Any) -> "Experiment":
        """The same with other fields of its view: another part of the data, say."""
        checks.options(fields, vars(self.view), "fields of a View")
        return dataclasses.replace(self, view=dataclasses.replace(self.view, **fields))

    def without_snapshots(self) -> "Experiment":
        """The same, of which only the end is kept."""
        return dataclasses.replace(self, snapshot_epochs=())

    def trained_with(self, **fields: Any) -> "Experiment":
        """The same with other fields of its training; snapshots after its end are left out."""
        checks.options(fields, vars(self.train), "fields of a TrainConfig")
        train = dataclasses.replace(self.train, **fields)
        kept = tuple(epoch for epoch in self.snapshot_epochs if epoch < train.num_epochs)
        return dataclasses.replace(self, train=train, snapshot_epochs=kept)

    @property
    def title(self) -> str:
        """Its network in a phrase."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        return f"{self.dataset} {self.architecture} ({sizes}), seed {self.seed}"

    @property
    def networks(self) -> str:
        """What is trained, in a phrase for captions: all but the data and the seed."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        train, augmented = self.train, ", augmented" if self.train.augment else ""
        return (
            f"{self.architecture} ({sizes}), {train.num_epochs} epochs of {train.optimizer} at "
            f"{train.learning_rate:g}, batch {train.batch_size}{augmented}"
        )

    def load_dataset(self) -> datasets.Dataset:
        """Its images."""
        return datasets.load_view(self.dataset, self.view)

    def build_model(self, data: datasets.Dataset) -> models.Model:
        """The architecture, for the images and classes of its data set."""
        return models.build_model(self.architecture, dataset=data, **dict(self.options))

    def trial(self) -> "Experiment":
        """The same cut down to a few steps on tiny data, its code paths kept."""
        width = models.ARCHITECTURES[self.architecture].width
        few = 0.5 if width == "width_multiplier" else 16
        small = dataclasses.replace(self, dataset="digits8x8")
        small = small.scaled(min(dict(self.options)[width], few))
        return small.seeing(num_train=200, shrink=1).trained_with(batch_size=50, num_epochs=2)


@dataclasses.dataclass(frozen=True)
class ConvolutionalFamily:
    """Convolutional networks of one architecture in several widths."""

    dataset: str
    num_images: int  # of the training split, from the first on; 0 is all
    shrink: checks.Count  # images are made so many times smaller each way
    architecture: str
    widths: tuple[int | float, ...]  # multiples of the published width
    num_pairs: int  # of each width, if the profile has as many
    train: training.TrainConfig
    num_matched: int  # training images that matchers look at; 0 is all
    num_evaluated: int  # images of each split that lines are evaluated on; 0 is all

    @property
    def view(self) -> datasets.View:
        """The part of the data set it is trained on."""
        return datasets.View(num_train=self.num_images, shrink=self.shrink)

    def load_dataset(self) -> datasets.Dataset:
        """The images it is trained on."""
        return datasets.load_view(self.dataset, self.view)

    def matched_on(self, data: datasets.Dataset) -> datasets.Dataset:
        """The images that matchers look at."""
        return first_images(data, self.num_matched)

    def evaluated_on(self, data: datasets.Dataset) -> datasets.Dataset:
        """The images that lines are evaluated on."""
        return first_images(data, self.num_evaluated, self.num_evaluated)

    def experiment(self, *, width: int | float, seed: checks.Seed) -> Experiment:
        """One of its networks."""
        return Experiment(
            dataset=self.dataset,
            seed=seed,
            train=self.train,
            architecture=self.architecture,
            options=((models.ARCHITECTURES[self.architecture].width, width),),
            view=self.view,
        )

    def trial(self) -> "ConvolutionalFamily":
        """The same cut down to a few steps on tiny data, and to two widths."""
        return dataclasses.replace(
            self,
            dataset="digits8x8",
            num_images=200,
            shrink=1,
            widths=self.widths[:2],
            num_matched=100,
            num_evaluated=100,
            train=dataclasses.replace(self.train, batch_size=50, num_epochs=1),
        )

    @property
    def networks(self) -> str:
        """What is trained, in a phrase."""
        widths = ", ".join(f"{width:g}" for width in self.widths)
        return (
            f"{self.architecture} of width {widths}, {self.train.num_epochs} epochs of "
            f"{self.train.optimizer.upper()}, batch {self.train.batch_size}"
        )


def first_images(data: datasets.Dataset, num_train: int, num_test: int = 0) -> datasets.Dataset:
    """The first images of each split, of which there may be fewer; 0 is all."""
    train, test = (
        np.arange(len(labels))[: num or None]
        for labels, num in ((data.train_labels, num_train), (data.test_labels, num_test))
    )
    if len(test) < len(data.test_labels):
        return data.subset(train, test)
    return data.subset(train) if len(train) < len(data.train_labels) else data
