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
    num_coarse_lambdas: int  # the same where there are many lines to compare
    num_coarse_images: int  # of each split, that these are evaluated on; 0 is all
    contour_resolution: int  # points along each side of the loss contour
    contour_images: int  # test images per point of the contour
    snapshot_epochs: tuple[int, ...]  # after which parameters are kept, to watch barriers fall
    mlp_widths: tuple[int, ...]  # of a sweep, the profile's own width among them
    thin_width: int  # units per hidden layer where failures are looked for
    num_merged: int  # networks of Table 3
    num_merged_epochs: int  # passes over their training images
    num_halves: int  # networks of Fig. 13, each on a random half of the images

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

    def merged_experiment(self, *, seed: int) -> Experiment:
        """A network of Table 3: its MLP, trained for `num_merged_epochs`."""
        own = self.experiment(seed=seed)
        if self.num_merged_epochs == self.num_epochs:
            return own
        return own.without_snapshots().trained_with(num_epochs=self.num_merged_epochs)

    def coarse(self, data: datasets.Dataset) -> datasets.Dataset:
        """The images that lines are evaluated on where there are many of them."""
        return _first(data, self.num_coarse_images, self.num_coarse_images)

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
            num_coarse_lambdas=5,
            num_coarse_images=10_000,
            contour_resolution=21,
            contour_images=400,
            snapshot_epochs=(1, 2, 3, 5, 10, 20),
            mlp_widths=(16, 32, 64, 128, 256, 512),
            thin_width=128,
            num_merged=5,
            num_merged_epochs=30,
            num_halves=8,
        ),
        Profile(
            name="laptop",  # the real data set, fewer epochs than the paper
            dataset="mnist",
            width=512,
            num_hidden_layers=3,
            batch_size=500,
            num_epochs=60,
            learning_rate=1e-3,
            num_pairs=3,
            num_lambdas=13,
            num_coarse_lambdas=5,
            num_coarse_images=5_000,
            contour_resolution=25,
            contour_images=2_000,
            snapshot_epochs=(1, 2, 3, 5, 8, 12, 20, 30),
            mlp_widths=(16, 32, 64, 128, 256, 512),
            thin_width=128,
            num_merged=5,
            num_merged_epochs=100,  # as in the paper
            num_halves=6,
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
            num_coarse_lambdas=25,
            num_coarse_images=0,
            contour_resolution=45,
            contour_images=10_000,
            snapshot_epochs=tuple(range(1, 26)),
            mlp_widths=(16, 32, 64, 128, 256, 512, 1024, 2048),
            thin_width=512,
            num_merged=5,
            num_merged_epochs=100,
            num_halves=32,
        ),
    )
}


def get_profile(name: str, **overrides: Any) -> Profile:
    """A profile with some fields replaced; 0 and "" mean "as the profile has it".

    Who replaces the number of epochs replaces that of the networks of Table 3, too.

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
    if "num_epochs" in given:
        given.setdefault("num_merged_epochs", given["num_epochs"])
    return dataclasses.replace(PROFILES[name], **given)


@dataclasses.dataclass(frozen=True)
class ConvolutionalFamily:
    """The convolutional networks of a profile, one architecture in several widths."""

    dataset: str
    num_images: int  # of the training split, from the first on; 0 is all
    shrink: int  # images are made so many times smaller each way
    architecture: str
    widths: tuple[int | float, ...]  # multiples of the published width
    num_pairs: int  # of each width, if the profile has as many
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

    def experiment(self, *, width: int | float, seed: int) -> Experiment:
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
        widths = ", ".join(f"{width:g}" for width in self.widths)
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


# Ainsworth et al. 2022, A.3: warm-up over one epoch, then one cosine; L2 on every weight.
_SGD = training.TrainConfig(
    optimizer="sgd",
    learning_rate=0.1,
    schedule="warmup_cosine",
    warmup_steps=500,
    weight_decay=5e-4,
    batch_size=100,
    num_epochs=250,
    augment=True,
)
# What a CPU can do: fewer images, pixels and epochs, and no augmentation, which so short a training
# does not repay. With a warm-up of 100 of the 1,000 steps one thin ResNet in four stays at chance.
_SHORT_SGD = dataclasses.replace(_SGD, warmup_steps=400, num_epochs=5, augment=False)

# In so few steps a VGG16 learns nothing by SGD at rates from 0.01 to 0.1: its loss stays at 2.30.
_SHORT_ADAM = training.TrainConfig(learning_rate=3e-4, batch_size=100, num_epochs=5)

_LAPTOP_RESNET = ConvolutionalFamily(
    dataset="cifar10",
    num_images=20_000,
    shrink=2,
    architecture="resnet8",
    widths=(0.5, 1, 2),
    num_pairs=2,
    straight_through_epochs=2,
    num_matched=5_000,
    num_evaluated=2_000,
    train=_SHORT_SGD,
)
_PAPER_RESNET = ConvolutionalFamily(
    dataset="cifar10",
    num_images=0,
    shrink=1,
    architecture="resnet20",
    widths=(1, 2, 4, 8, 16, 32),
    num_pairs=3,
    straight_through_epochs=250,
    num_matched=0,
    num_evaluated=0,
    # The authors' script warms up over five epochs, their text says one (PAPER.md A.3).
    train=dataclasses.replace(_SGD, warmup_steps=2_500),
)

# A convolutional network takes minutes on a CPU, too long for "quick".
CONVOLUTIONAL = {
    "laptop": {
        "resnet": _LAPTOP_RESNET,
        "vgg": dataclasses.replace(
            _LAPTOP_RESNET,
            architecture="vgg16",
            widths=(1 / 32, 1 / 16, 1 / 8),
            straight_through_epochs=1,
            train=_SHORT_ADAM,
        ),
    },
    "paper": {
        "resnet": _PAPER_RESNET,
        "vgg": dataclasses.replace(
            _PAPER_RESNET,
            architecture="vgg16",
            widths=(1 / 8, 1 / 4, 1 / 2, 1, 2, 4),
            num_pairs=2,
            train=dataclasses.replace(_SGD, num_epochs=100),
        ),
    },
}


def _cifar_mlp(profile: str, batch_size: int, num_epochs: int, *, augment: bool) -> Experiment:
    """The MLP on CIFAR-10 (Adam at 1e-3; the authors augment it like the others)."""
    train = training.TrainConfig(batch_size=batch_size, augment=augment)
    kept = PROFILES[profile].snapshot_epochs
    base = Experiment(dataset="cifar10", seed=0, train=train, snapshot_epochs=kept)
    return base.trained_with(num_epochs=num_epochs)


# The second data set of Fig. 2 and 3.
CIFAR_MLP = {
    "laptop": _cifar_mlp("laptop", 500, 12, augment=False),
    "paper": _cifar_mlp("paper", 100, 100, augment=True),
}

# Section 5.4, of which the two parts of the data are views.
SPLIT_DATA = {
    "quick": PROFILES["quick"].experiment(seed=0).without_snapshots(),
    "laptop": PROFILES["laptop"].experiment(seed=0).without_snapshots(),
    "paper": Experiment(
        dataset="cifar100",
        seed=0,
        architecture="resnet20",
        options=(("width_multiplier", 32),),
        train=dataclasses.replace(_SGD, warmup_steps=2_500),
    ),
}

# Section A.4: a network with BatchNorm.
BATCH_NORM = {
    "quick": Experiment(
        dataset="mnist5k",
        seed=0,
        architecture="resnet8_bn",
        options=(("width_multiplier", 1),),
        train=dataclasses.replace(_SHORT_SGD, warmup_steps=20),
        view=datasets.View(shrink=2),
    ),
    "laptop": Experiment(
        dataset="cifar10",
        seed=0,
        architecture="resnet8_bn",
        options=(("width_multiplier", 1),),
        train=_SHORT_SGD,
        view=datasets.View(num_train=20_000, shrink=2),
    ),
    "paper": Experiment(
        dataset="cifar10",
        seed=0,
        architecture="resnet20_bn",
        options=(("width_multiplier", 4),),
        train=dataclasses.replace(_SGD, warmup_steps=2_500),
    ),
}


def get_convolutional_family(
    profile: str,
    kind: str = "resnet",
    *,
    dataset: str = "",
    width: int | float = 0,
    num_images: int = 0,
    num_epochs: int = 0,
) -> ConvolutionalFamily | None:
    """The convolutional networks of a profile; None if it has none.

    Args:
        profile: its name.
        kind: "resnet" or "vgg".
        dataset: to train on; like all that follows, 0 or "" is the profile's own.
        width: the only one.
        num_images: to train on.
        num_epochs: to train for.
    """
    if profile not in CONVOLUTIONAL:
        return None
    family = CONVOLUTIONAL[profile][kind]
    return dataclasses.replace(
        family,
        dataset=dataset or family.dataset,
        widths=(width,) if width else family.widths,
        num_images=num_images or family.num_images,
        train=dataclasses.replace(family.train, num_epochs=num_epochs or family.train.num_epochs),
    )


def get_split_data(
    profile: str, *, dataset: str = "", width: int = 0, num_epochs: int = 0
) -> Experiment:
    """A profile's network of section 5.4, of which the two parts of the data are views.

    Args:
        profile: its name.
        dataset: to train on; like all that follows, 0 or "" is the profile's own.
        width: units per hidden layer, or the multiple of a published width.
        num_epochs: to train for.
    """
    base = SPLIT_DATA[profile]
    size = {base.options[-1][0]: width} if width else {}
    base = dataclasses.replace(base, dataset=dataset or base.dataset).sized(**size)
    return base.trained_with(num_epochs=num_epochs or base.train.num_epochs)


# Fields of any profile, so small that a run takes minutes: to see that all of it runs through.
_TRIAL = {
    "dataset": "digits8x8",
    "width": 16,
    "batch_size": 100,
    "num_epochs": 2,
    "num_pairs": 1,
    "num_lambdas": 3,
    "num_coarse_lambdas": 3,
    "contour_resolution": 3,
    "contour_images": 50,
    "snapshot_epochs": (1,),
    "mlp_widths": (4, 16),
    "thin_width": 8,
    "num_merged": 3,
    "num_merged_epochs": 2,
    "num_halves": 3,
}


def trial_profile(profile: Profile) -> Profile:
    """A profile cut down to a few steps on tiny data."""
    return dataclasses.replace(profile, **_TRIAL)


def trial_experiment(experiment: Experiment) -> Experiment:
    """An experiment cut down to a few steps on tiny data, its code paths kept."""
    sizes = {
        name: min(size, {"width": 16, "width_multiplier": 0.5}.get(name, size))
        for name, size in experiment.options
    }
    small = dataclasses.replace(experiment, dataset="digits8x8").sized(**sizes)
    return small.seeing(num_train=200, shrink=1).trained_with(batch_size=50, num_epochs=2)


def trial_family(family: ConvolutionalFamily) -> ConvolutionalFamily:
    """A family cut down likewise, to two widths."""
    return dataclasses.replace(
        family,
        dataset="digits8x8",
        num_images=200,
        shrink=1,
        widths=family.widths[:2],
        straight_through_epochs=1,
        num_matched=100,
        num_evaluated=100,
        train=dataclasses.replace(family.train, batch_size=50, num_epochs=1),
    )
