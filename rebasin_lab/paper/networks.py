"""Recipes of networks: `Experiment` for one, `ConvolutionalFamily` for several widths.

Small enough to send anywhere: `store.trained` makes the network of an `Experiment`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rebasin_lab import checks, datasets, models, training


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that determines a trained network: data, architecture, training and seed.

    Attributes:
        dataset: a name `load_dataset` knows.
        seed: of the initial parameters and of the order of the images.
        train: how.
        architecture: a name `build_model` knows.
        options: its sizes.
        view: the part of the data set it sees.
        snapshot_epochs: after these its parameters are stored, too; no influence on the network.
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

    def with_seed(self, seed: checks.Seed) -> "Experiment":
        """Return a copy with another seed."""
        return dataclasses.replace(self, seed=seed)

    def with_sizes(self, **sizes: int | float) -> "Experiment":
        """Return a copy with other sizes of the architecture."""
        return dataclasses.replace(self, options=tuple((dict(self.options) | sizes).items()))

    def with_width(self, width: int | float) -> "Experiment":
        """Return a copy of another width: units per layer, or multiple of the published width."""
        return self.with_sizes(**{models.ARCHITECTURES[self.architecture].width: width})

    def with_view(self, **fields: Any) -> "Experiment":
        """Return a copy with other fields of its view, such as another part of the data."""
        checks.options(fields, vars(self.view), "fields of a View")
        return dataclasses.replace(self, view=dataclasses.replace(self.view, **fields))

    def without_snapshots(self) -> "Experiment":
        """Return a copy that keeps no snapshots."""
        return dataclasses.replace(self, snapshot_epochs=())

    def with_training(self, **fields: Any) -> "Experiment":
        """Return a copy with other fields of its training, without snapshots after its end."""
        checks.options(fields, vars(self.train), "fields of a TrainConfig")
        train = dataclasses.replace(self.train, **fields)
        snapshots = tuple(epoch for epoch in self.snapshot_epochs if epoch < train.num_epochs)
        return dataclasses.replace(self, train=train, snapshot_epochs=snapshots)

    @property
    def title(self) -> str:
        """Describe the network, for messages."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        return f"{self.dataset} {self.architecture} ({sizes}), seed {self.seed}"

    @property
    def networks(self) -> str:
        """Describe the network for captions: all but the data and the seed."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        return f"{self.architecture} ({sizes}), {_schedule(self.train)}"

    def load_dataset(self) -> datasets.Dataset:
        """Load its view of the data set."""
        return datasets.load_view(self.dataset, self.view)

    def build_model(self, data: datasets.Dataset) -> models.Model:
        """Build the architecture for the images and classes of its data set."""
        return models.build_model(self.architecture, dataset=data, **dict(self.options))

    def trial(self) -> "Experiment":
        """Return a copy cut down to a few steps on tiny data, for a smoke test."""
        width = models.ARCHITECTURES[self.architecture].width
        few = 0.5 if width == "width_multiplier" else 16
        small = dataclasses.replace(self, dataset="digits8x8")
        small = small.with_width(min(dict(self.options)[width], few))
        return small.with_view(num_train=200, shrink=1).with_training(batch_size=50, num_epochs=2)


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
        """The part of the data set that its networks are trained on."""
        return datasets.View(num_train=self.num_images, shrink=self.shrink)

    def load_dataset(self) -> datasets.Dataset:
        """Load the images that its networks are trained on."""
        return datasets.load_view(self.dataset, self.view)

    def matched_on(self, data: datasets.Dataset) -> datasets.Dataset:
        """Return the images that matchers look at."""
        return first_images(data, self.num_matched)

    def evaluated_on(self, data: datasets.Dataset) -> datasets.Dataset:
        """Return the images that lines are evaluated on."""
        return first_images(data, self.num_evaluated, self.num_evaluated)

    def experiment(self, *, width: int | float, seed: checks.Seed) -> Experiment:
        """Return one of its networks."""
        return Experiment(
            dataset=self.dataset,
            seed=seed,
            train=self.train,
            architecture=self.architecture,
            options=((models.ARCHITECTURES[self.architecture].width, width),),
            view=self.view,
        )

    def trial(self) -> "ConvolutionalFamily":
        """Return a copy cut down to a few steps on tiny data and to two widths."""
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
        """Describe its networks, for captions."""
        widths = ", ".join(f"{width:g}" for width in self.widths)
        return (
            f"{self.architecture} of width {widths}, {self.train.num_epochs} epochs of "
            f"{self.train.optimizer.upper()}, batch {self.train.batch_size}"
        )


def described(experiments: Sequence[Experiment]) -> str:
    """Describe networks for a caption: each recipe once, with its widths, then all seeds."""
    widths: dict[tuple, list[int | float]] = {}  # by what is said of a recipe besides
    for one in experiments:
        recipe, name = one.with_width(1), models.ARCHITECTURES[one.architecture].width
        key = recipe.architecture, recipe.options, recipe.train
        widths.setdefault(key, []).append(dict(one.options)[name])
    phrases = []
    for (architecture, options, train), found in widths.items():
        sizes = {key: f"{size:g}" for key, size in options}
        name = models.ARCHITECTURES[architecture].width
        sizes[name] = ", ".join(f"{width:g}" for width in sorted({*found}))
        shown = ", ".join(f"{key.replace('_', ' ')} {size}" for key, size in sizes.items())
        phrases.append(f"{architecture} ({shown}), {_schedule(train)}")
    seeds = ", ".join(map(str, sorted({one.seed for one in experiments})))
    return f"{'; '.join(phrases)}; seeds {seeds}"


def _schedule(train: training.TrainConfig) -> str:
    return (
        f"{train.num_epochs} epochs of {train.optimizer} at {train.learning_rate:g}, batch "
        f"{train.batch_size}{', augmented' if train.augment else ''}"
    )


def first_images(data: datasets.Dataset, num_train: int, num_test: int = 0) -> datasets.Dataset:
    """Return the first images of each split, or all of them where there are fewer; 0 is all."""
    train, test = (
        np.arange(len(labels))[: num or None]
        for labels, num in ((data.train_labels, num_train), (data.test_labels, num_test))
    )
    if len(test) < len(data.test_labels):
        return data.subset(train, test)
    return data.subset(train) if len(train) < len(data.train_labels) else data
