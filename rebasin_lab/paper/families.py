"""Families: what profiles train besides their MLP, and what a CPU makes of it."""

import dataclasses
from typing import Any

from rebasin_lab import checks, datasets, training
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import PROFILES, first_images


@dataclasses.dataclass(frozen=True)
class ConvolutionalFamily:
    """The convolutional networks of a profile, one architecture in several widths."""

    dataset: str
    num_images: int  # of the training split, from the first on; 0 is all
    shrink: checks.Count  # images are made so many times smaller each way
    architecture: str
    widths: tuple[int | float, ...]  # multiples of the published width
    compared_widths: tuple[int | float, ...]  # those at which every matcher is tried
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
    widths=(0.25, 0.5, 1, 2),
    compared_widths=(0.5, 1),
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
    compared_widths=(1, 2, 4, 8, 16),
    num_pairs=3,
    # Every projection matches on the host and copies all parameters off the GPU and back.
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
            compared_widths=(),
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
            compared_widths=(),
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


@checks.arguments
def get_convolutional_family(
    profile: str,
    kind: str = "resnet",
    *,
    dataset: str = "",
    width: checks.NotNegative = 0,
    num_images: checks.Natural = 0,
    num_epochs: checks.Natural = 0,
) -> ConvolutionalFamily | None:
    """The convolutional networks of a profile; None if it has none.

    Args:
        profile: its name.
        kind: "resnet" or "vgg".
        dataset: to train on; like all that follows, 0, "" or the profile's own value is no change.
        width: the only one.
        num_images: to train on.
        num_epochs: to train for.
    """
    checks.choice("a profile", profile, PROFILES, "get_convolutional_family")
    if profile not in CONVOLUTIONAL:
        return None
    checks.choice("kind", kind, CONVOLUTIONAL[profile], "get_convolutional_family")
    family, dataset = CONVOLUTIONAL[profile][kind], _other(profile, "dataset", dataset)
    return dataclasses.replace(
        family,
        dataset=dataset or family.dataset,
        widths=(width,) if width else family.widths,
        compared_widths=(width,) if width else family.compared_widths,
        num_images=num_images or family.num_images,
        train=dataclasses.replace(family.train, num_epochs=num_epochs or family.train.num_epochs),
    )


@checks.arguments
def get_split_data(
    profile: str,
    *,
    dataset: str = "",
    width: checks.NotNegative = 0,
    num_epochs: checks.Natural = 0,
) -> Experiment:
    """A profile's network of section 5.4, of which the two parts of the data are views.

    Args:
        profile: its name.
        dataset: to train on; like all that follows, 0, "" or the profile's own value is no change.
        width: units per hidden layer, or the multiple of a published width.
        num_epochs: to train for.
    """
    checks.choice("a profile", profile, SPLIT_DATA, "get_split_data")
    base, dataset = SPLIT_DATA[profile], _other(profile, "dataset", dataset)
    width, num_epochs = _other(profile, "width", width), _other(profile, "num_epochs", num_epochs)
    size = {base.options[-1][0]: width} if width else {}
    base = dataclasses.replace(base, dataset=dataset or base.dataset).sized(**size)
    return base.trained_with(num_epochs=num_epochs or base.train.num_epochs)


def _other(profile: str, field: str, value: Any) -> Any:
    """A value for a field; 0 or "" if it is the profile's own, which is no change anywhere."""
    return type(value)() if value == getattr(PROFILES[profile], field) else value


@checks.arguments
def trial_experiment(experiment: Experiment) -> Experiment:
    """An experiment cut down to a few steps on tiny data, its code paths kept."""
    sizes = {
        name: min(size, {"width": 16, "width_multiplier": 0.5}.get(name, size))
        for name, size in experiment.options
    }
    small = dataclasses.replace(experiment, dataset="digits8x8").sized(**sizes)
    return small.seeing(num_train=200, shrink=1).trained_with(batch_size=50, num_epochs=2)


@checks.arguments
def trial_family(family: ConvolutionalFamily) -> ConvolutionalFamily:
    """A family cut down likewise, to two widths."""
    return dataclasses.replace(
        family,
        dataset="digits8x8",
        num_images=200,
        shrink=1,
        widths=family.widths[:2],
        compared_widths=family.compared_widths[:1],
        straight_through_epochs=1,
        num_matched=100,
        num_evaluated=100,
        train=dataclasses.replace(family.train, batch_size=50, num_epochs=1),
    )
