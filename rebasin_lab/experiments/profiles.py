"""Profiles: the sizes of everything, from a minute on a laptop to the paper's own on a GPU."""

import dataclasses
from typing import Any

import numpy as np

from rebasin_lab import datasets, training
from rebasin_lab.experiments.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Profile:
    """The sizes of one whole run; a notebook may override single fields."""

    name: str
    dataset: str  # a name load_dataset knows
    width: int  # units per hidden layer
    num_hidden_layers: int  # of the MLP
    batch_size: int  # images per step
    num_epochs: int  # passes over the training images
    learning_rate: float  # of Adam
    num_pairs: int  # independent pairs of networks; pair i has seeds 2i and 2i + 1
    num_lambdas: int  # points on the line between two models, ends included
    contour_resolution: int  # points along each side of the loss contour
    contour_images: int  # test images per point of the contour
    snapshot_epochs: tuple[int, ...]  # after which parameters are kept, to watch barriers fall

    @property
    def changed(self) -> bool:
        """Whether single fields were replaced."""
        return self != PROFILES[self.name]

    def experiment(self, *, seed: int, width: int = 0) -> Experiment:
        """Its MLP with a seed, of the profile's own width if that is 0."""
        train = training.TrainConfig(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            num_epochs=self.num_epochs,
        )
        return Experiment(
            dataset=self.dataset,
            seed=seed,
            train=train,
            options=(("num_hidden_layers", self.num_hidden_layers), ("width", width or self.width)),
            snapshot_epochs=tuple(e for e in self.snapshot_epochs if e < self.num_epochs),
        )

    @property
    def networks(self) -> str:
        """What is trained, in a phrase."""
        return (
            f"MLP with {self.num_hidden_layers} hidden layers of {self.width} units, "
            f"{self.num_epochs} epochs of Adam, batch {self.batch_size}"
        )


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="quick",  # minutes on a laptop, nothing to download
            dataset="mnist5k",
            width=512,
            num_hidden_layers=3,
            batch_size=100,
            num_epochs=30,
            learning_rate=1e-3,
            num_pairs=3,
            num_lambdas=13,
            contour_resolution=21,
            contour_images=400,
            snapshot_epochs=(1, 2, 3, 5, 10, 20),
        ),
        Profile(
            name="laptop",  # the real data set, fewer epochs than the paper
            dataset="mnist",
            width=512,
            num_hidden_layers=3,
            batch_size=500,
            num_epochs=30,
            learning_rate=1e-3,
            num_pairs=3,
            num_lambdas=25,
            contour_resolution=25,
            contour_images=2_000,
            snapshot_epochs=(1, 2, 3, 5, 8, 12, 20),
        ),
        Profile(
            name="paper",  # Ainsworth et al. 2022, A.3; a contour of 45 x 45 points for their 2048
            dataset="mnist",
            width=512,
            num_hidden_layers=3,
            batch_size=500,
            num_epochs=100,
            learning_rate=1e-3,
            num_pairs=3,
            num_lambdas=25,
            contour_resolution=45,
            contour_images=10_000,
            snapshot_epochs=tuple(range(1, 26)),
        ),
    )
}


def get_profile(name: str, **overrides: Any) -> Profile:
    """A profile with some fields replaced; 0 and "" mean "as the profile has it".

    Raises:
        ValueError: for an unknown profile or field.
    """
    if name not in PROFILES:
        raise ValueError(f"Expected a profile among {sorted(PROFILES)}; got {name!r}.")
    fields = {field.name: field.type for field in dataclasses.fields(Profile)}
    if unknown := sorted(set(overrides) - set(fields)):
        raise ValueError(f"Expected fields of a profile, {sorted(fields)}; got {unknown}.")
    given = {field: value for field, value in overrides.items() if value not in (0, "")}
    for field, value in given.items():
        right_type = isinstance(value, (int, float) if fields[field] is float else fields[field])
        if not right_type or (fields[field] is not str and value < 0):
            raise ValueError(
                f"Expected {field} to be a positive {fields[field].__name__}; got {value!r}."
            )
    return dataclasses.replace(PROFILES[name], **given)


@dataclasses.dataclass(frozen=True)
class ConvolutionalFamily:
    """The convolutional networks of a profile, one architecture in several widths."""

    dataset: str
    num_images: int  # of the training split, from the first on; 0 is all
    shrink: int  # images are made so many times smaller each way
    architecture: str
    widths: tuple[int, ...]  # multiples of the narrowest
    train: training.TrainConfig
    straight_through_epochs: int  # of the straight-through estimator
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
        return _first(data, self.num_matched)

    def evaluated_on(self, data: datasets.Dataset) -> datasets.Dataset:
        """The images that lines are evaluated on."""
        return _first(data, self.num_evaluated, self.num_evaluated)

    def experiment(self, *, width: int, seed: int) -> Experiment:
        """One of its networks."""
        return Experiment(
            dataset=self.dataset,
            seed=seed,
            train=self.train,
            architecture=self.architecture,
            options=(("width_multiplier", width),),
            view=self.view,
        )

    @property
    def networks(self) -> str:
        """What is trained, in a phrase."""
        widths = ", ".join(map(str, self.widths))
        return (
            f"{self.architecture} of width {widths}, {self.train.num_epochs} epochs of "
            f"{self.train.optimizer.upper()}, batch {self.train.batch_size}"
        )


def _first(data: datasets.Dataset, num_train: int, num_test: int = 0) -> datasets.Dataset:
    """The first images of each split, of which there may be fewer; 0 is all."""
    train, test = (
        np.arange(len(labels))[: num or None]
        for labels, num in ((data.train_labels, num_train), (data.test_labels, num_test))
    )
    if len(test) < len(data.test_labels):
        return data.subset(train, test)
    return data.subset(train) if len(train) < len(data.train_labels) else data


# Ainsworth et al. 2022, A.3, without its augmentation.
_SGD = training.TrainConfig(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="warmup_cosine",
    warmup_steps=500,
    weight_decay=5e-4,
    batch_size=100,
    num_epochs=250,
)

# A convolutional network takes minutes on a CPU, too long for "quick".
CONVOLUTIONAL = {
    "laptop": ConvolutionalFamily(
        dataset="cifar10",
        num_images=20_000,
        shrink=2,
        architecture="resnet8",
        widths=(1, 2, 4),
        straight_through_epochs=10,
        num_matched=5_000,
        num_evaluated=2_000,
        train=dataclasses.replace(_SGD, warmup_steps=100, num_epochs=5),
    ),
    "paper": ConvolutionalFamily(
        dataset="cifar10",
        num_images=0,
        shrink=1,
        architecture="resnet20",
        widths=(1, 4, 16),
        straight_through_epochs=250,
        num_matched=0,
        num_evaluated=0,
        train=_SGD,
    ),
}


def get_convolutional_family(
    profile: str, *, dataset: str = "", width: int = 0, num_images: int = 0, num_epochs: int = 0
) -> ConvolutionalFamily | None:
    """The convolutional networks of a profile; None if it has none.

    Args:
        profile: its name.
        dataset: to train on; like all that follows, 0 or "" is the profile's own.
        width: the only one.
        num_images: to train on.
        num_epochs: to train for.
    """
    if profile not in CONVOLUTIONAL:
        return None
    family = CONVOLUTIONAL[profile]
    return dataclasses.replace(
        family,
        dataset=dataset or family.dataset,
        widths=(width,) if width else family.widths,
        num_images=num_images or family.num_images,
        train=dataclasses.replace(family.train, num_epochs=num_epochs or family.train.num_epochs),
    )
