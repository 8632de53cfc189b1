"""Profiles: the sizes of everything, from minutes on a laptop to the paper's own on a GPU.

Every number that depends on the profile stands in the table `PROFILES`, further down. `get_profile`
resolves a profile once: it replaces single settings, and cuts all of it down for a smoke test
(`trial`). `trainings` lists its networks.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from rebasin_lab import checks, datasets, training
from rebasin_lab.paper import foreign_pair, settings
from rebasin_lab.paper.networks import ConvolutionalFamily, Experiment, first_images


@dataclasses.dataclass(frozen=True)
class Profile:
    """The sizes of one whole run; a notebook may override single fields, see `FIELDS`."""

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
    snapshot_epochs: tuple[int, ...]  # after which parameters are stored, to watch barriers fall
    mlp_widths: tuple[int, ...]  # of a sweep, the profile's own width among them
    thin_width: int  # units per hidden layer where failures are looked for
    num_merged: int  # networks of Table 3
    num_merged_epochs: int  # passes over their training images
    num_halves: int  # networks of Fig. 13, each on a random half of the images
    num_normed_pairs: int  # pairs of networks with BatchNorm, and with LayerNorm, at most num_pairs
    num_normed_lambdas: int  # points on their lines, if num_lambdas is not less
    num_normed_images: int  # of each split, that these are evaluated on; 0 is all
    num_statistics_images: int  # training images to measure the statistics of BatchNorm on
    minorities: tuple[float, ...]  # shares of rare classes to split by, beside section 5.4's
    straight_through_epochs: int  # of the straight-through estimator
    split_straight_through_epochs: int  # the same in section 5.4; 0 is not at all
    resnet_straight_through_epochs: int  # the same on residual networks
    # Networks of one kind each, where the profile has such.
    batch_norm: Experiment  # section A.4
    layer_norm: Experiment  # the same without BatchNorm, as the paper has ResNets
    cifar_mlp: Experiment | None = None  # the second data set of Fig. 2 and 3
    split_data: Experiment | None = None  # of section 5.4, if it is not the profile's MLP
    resnet: ConvolutionalFamily | None = None
    compared_resnet: ConvolutionalFamily | None = None  # on which every matcher is tried
    vgg: ConvolutionalFamily | None = None
    mnist_vgg: ConvolutionalFamily | None = None  # section A.1, in its first width
    timed: tuple[tuple[str, int | float], ...] = ()  # ResNets of A.5, as drawn, and their widths
    estimator: tuple[tuple[str, int | float], ...] = ()  # other options of the estimator
    foreign_pair: str = ""  # networks that others trained, to be merged; none: a pair of its own
    # Alike at every profile.
    seed: int = 0  # of the first network; those of all others count on from it
    num_orders: int = 20  # of layers, that weight matching visits the counterexample in
    num_tiny: int = 120  # networks of its shape that are trained
    epsilon: float = 0.01  # by which the second path of appendix A.7.2 is larger
    convolutional_width: int = 0  # the only one at which every matcher is tried; 0 is all
    convolutional_images: int = 0  # training images of these networks; 0 is the profile's own
    convolutional_epochs: int = 0  # passes over them; 0 is the profile's own

    def __post_init__(self):
        for field in FIELDS:
            check_field(field, getattr(self, field))

    @property
    def changed(self) -> bool:
        """True if single fields were replaced."""
        return self != PROFILES[self.name]

    @property
    def settings(self) -> dict[str, Any]:
        """Its single settings, by name, JSON-ready."""
        return {"name": self.name, **{field: getattr(self, field) for field in FIELDS}}

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The seeds of A and B, pair by pair."""
        return [(seed, seed + 1) for seed in self.seeds[::2]]

    @property
    def seeds(self) -> range:
        """The seeds of all pairs, in order."""
        return range(self.seed, self.seed + 2 * self.num_pairs)

    @property
    def split_experiment(self) -> Experiment:
        """The network of section 5.4, of which the two parts of the data are views."""
        return self.split_data or self.experiment(seed=0).without_snapshots()

    def experiment(self, *, seed: int, width: int = 0) -> Experiment:
        """Return its MLP with a seed, of the profile's own width if that is 0."""
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
        """Return a network of Table 3: its MLP, trained for `num_merged_epochs`."""
        own = self.experiment(seed=seed)
        if self.num_merged_epochs == self.num_epochs:
            return own
        return own.without_snapshots().with_training(num_epochs=self.num_merged_epochs)

    def coarse(self, data: datasets.Dataset) -> datasets.Dataset:
        """Return the images that lines are evaluated on where there are many of them."""
        return first_images(data, self.num_coarse_images, self.num_coarse_images)

    def normed(self, data: datasets.Dataset) -> datasets.Dataset:
        """Return the images that lines between networks with BatchNorm are evaluated on."""
        return first_images(data, self.num_normed_images, self.num_normed_images)

    @property
    def networks(self) -> str:
        """Its MLPs in a phrase, for captions."""
        return (
            f"MLP with {self.num_hidden_layers} hidden layers of {self.width} units, "
            f"{self.num_epochs} epochs of Adam, batch {self.batch_size}"
        )


# Single settings, with their types; networks are none.
FIELDS = {
    field.name: field.type
    for field in dataclasses.fields(Profile)
    if field.type in (int, float, str, tuple[int, ...], tuple[float, ...]) and field.name != "name"
}
# The least value of a number where it is not 1. An odd number of points on a line has a middle.
_LEAST = {
    "num_lambdas": 3,
    "num_coarse_lambdas": 3,
    "num_coarse_images": 0,
    "contour_resolution": 2,
    "num_merged": 2,
    "num_halves": 2,
    "num_normed_lambdas": 3,
    "num_normed_images": 0,
    "split_straight_through_epochs": 0,
    "seed": 0,
    "convolutional_width": 0,
    "convolutional_images": 0,
    "convolutional_epochs": 0,
}
_ODD = ("num_lambdas", "num_coarse_lambdas", "num_normed_lambdas")
_MAY_BE_EMPTY = ("snapshot_epochs", "minorities")


@checks.arguments
def get_profile(name: str, /, *, trial: bool = False, **overrides: Any) -> Profile:
    """Return a profile with some fields replaced.

    Lists are taken for tuples. The number of epochs replaces that of the networks of Table 3, too,
    the straight-through estimator's that of section 5.4, and fewer pairs leave fewer normed ones.

    Args:
        name: "quick", "laptop" or "paper".
        trial: whether to cut all that is not replaced down to a smoke test: a few steps on tiny
            data.
        **overrides: fields to replace, see `FIELDS`.

    Raises:
        ValueError: for an unknown profile or field, or a value that a field cannot have.
    """
    if not isinstance(name, str) or name not in PROFILES:
        raise ValueError(
            f"Expected a profile among {sorted(PROFILES)}; got {checks.shortened(name)}."
        )
    if unknown := sorted(set(overrides) - set(FIELDS)):
        raise ValueError(
            f"Expected fields of a profile, {sorted(FIELDS)}; got {unknown}"
            f"{checks.near_matches(unknown[0], FIELDS)}."
        )
    profile = PROFILES[name]
    given = {field: check_field(field, value) for field, value in overrides.items()}
    given = {field: value for field, value in given.items() if value != getattr(profile, field)}
    if "num_epochs" in given:
        given.setdefault("num_merged_epochs", given["num_epochs"])
    if "straight_through_epochs" in given:
        for others in ("split_straight_through_epochs", "resnet_straight_through_epochs"):
            given.setdefault(others, given["straight_through_epochs"])
    num_pairs = given.get("num_pairs", profile.num_pairs)
    if given.get("num_normed_pairs", 0) > num_pairs:
        raise ValueError(
            f"Expected num_normed_pairs to be at most num_pairs, {num_pairs}; got "
            f"{given['num_normed_pairs']}. Raise num_pairs, too."
        )
    given.setdefault("num_normed_pairs", min(profile.num_normed_pairs, num_pairs))
    changes = given | _networks_with(profile, given)
    if trial:
        changes |= _cut_down(profile, changes)
    return dataclasses.replace(profile, **changes)


def _networks_with(profile: Profile, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the networks besides a profile's MLPs, changed by the single settings given."""
    resnet, split = profile.compared_resnet, profile.split_data
    if resnet:
        width = given.get("convolutional_width")
        num_epochs = given.get("convolutional_epochs", resnet.train.num_epochs)
        resnet = dataclasses.replace(
            resnet,
            dataset=given.get("dataset", resnet.dataset),
            widths=(width,) if width else resnet.widths,
            num_images=given.get("convolutional_images", resnet.num_images),
            train=dataclasses.replace(resnet.train, num_epochs=num_epochs),
        )
    if split:
        split = dataclasses.replace(split, dataset=given.get("dataset", split.dataset))
        split = split.with_width(given["width"]) if "width" in given else split
        split = split.with_training(num_epochs=given.get("num_epochs", split.train.num_epochs))
    return {"compared_resnet": resnet, "split_data": split}


def check_field(field: str, value: Any) -> Any:
    """Return a value for a profile's field, as the type that the field has.

    Raises:
        ValueError: if the field cannot have it.
    """
    kind = FIELDS[field]
    if field == "foreign_pair":
        checks.choice(field, value, foreign_pair.NETWORKS, "the profile")
    if elements := typing.get_args(kind):
        may_be_empty = field in _MAY_BE_EMPTY
        return settings.check_list(field, value, elements[0], may_be_empty=may_be_empty)
    least, odd = _LEAST.get(field, 1), field in _ODD
    return settings.check_value(field, value, kind, least=least, odd=odd)


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
# The authors' script warms up over five epochs, their text says one (PAPER.md A.3).
_PAPER_SGD = dataclasses.replace(_SGD, warmup_steps=2_500)
# For a CPU: fewer images, pixels and epochs, and no augmentation, which so short a training does
# not repay. With a warm-up of 100 of the 1,000 steps one thin ResNet in four stays at chance.
_SHORT_SGD = dataclasses.replace(_SGD, warmup_steps=400, num_epochs=5, augment=False)

# In so few steps a VGG16 learns nothing by SGD at rates from 0.01 to 0.1: its loss stays at 2.30.
_SHORT_ADAM = training.TrainConfig(learning_rate=3e-4, batch_size=100, num_epochs=5)

_LAPTOP_RESNET = ConvolutionalFamily(
    dataset="cifar10",
    num_images=20_000,
    shrink=2,
    architecture="resnet8",
    widths=(0.25, 0.5, 1, 2),
    num_pairs=2,
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
    num_matched=0,
    num_evaluated=0,
    train=_PAPER_SGD,
)
_LAPTOP_VGG = dataclasses.replace(
    _LAPTOP_RESNET,
    architecture="vgg16",
    widths=(1 / 32, 1 / 16, 1 / 8),
    train=_SHORT_ADAM,
)
_PAPER_VGG = dataclasses.replace(
    _PAPER_RESNET,
    architecture="vgg16",
    widths=(1 / 8, 1 / 4, 1 / 2, 1, 2, 4),
    num_pairs=2,
    train=dataclasses.replace(_SGD, num_epochs=100),
)
_TIMED = (("resnet50", 1), ("resnet20", 32))


def _published(
    architecture: str, dataset: str, train: training.TrainConfig, **fields: Any
) -> Experiment:
    """Return a network of the published width, or of another multiple of it."""
    sizes = (("width_multiplier", fields.pop("width", 1)),)
    return Experiment(dataset, 0, train, architecture, options=sizes, **fields)


_QUICK_NORM = _published(
    "resnet8_bn",
    "mnist5k",
    dataclasses.replace(_SHORT_SGD, warmup_steps=20, num_epochs=4),
    view=datasets.View(shrink=2),
)
_LAPTOP_NORM = _published("resnet8_bn", "cifar10", _SHORT_SGD, view=_LAPTOP_RESNET.view)
_PAPER_NORM = _published("resnet20_bn", "cifar10", _PAPER_SGD, width=4)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="quick",  # minutes on a laptop, nothing to download
            dataset="mnist5k",
            width=512,
            num_hidden_layers=3,
            batch_size=100,
            num_epochs=25,
            learning_rate=1e-3,
            num_pairs=3,
            num_lambdas=13,
            num_coarse_lambdas=5,
            num_coarse_images=2_000,
            contour_resolution=21,
            contour_images=400,
            snapshot_epochs=(1, 2, 3, 5, 10, 20),
            mlp_widths=(16, 32, 64, 128, 256, 512),
            thin_width=128,
            num_merged=5,
            num_merged_epochs=25,
            num_halves=6,
            num_normed_pairs=1,
            num_normed_lambdas=7,
            num_normed_images=500,
            num_statistics_images=1_000,
            minorities=(0.0, 0.1, 0.5),
            straight_through_epochs=8,
            split_straight_through_epochs=8,
            resnet_straight_through_epochs=1,
            # 4,000 images are 4 batches of the paper's.
            estimator=(("batch_size", 100), ("match_every", 20), ("learning_rate", 0.1)),
            batch_norm=_QUICK_NORM,
            layer_norm=dataclasses.replace(_QUICK_NORM, architecture="resnet8").with_training(
                optimizer="adam", learning_rate=3e-3, weight_decay=0.0
            ),
            # Other convolutional networks take minutes on a CPU, too long here.
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
            num_lambdas=13,
            num_coarse_lambdas=5,
            num_coarse_images=5_000,
            contour_resolution=25,
            contour_images=2_000,
            snapshot_epochs=(1, 2, 3, 5, 8, 12, 20),
            mlp_widths=(16, 32, 64, 128, 256, 512),
            thin_width=128,
            num_merged=5,
            num_merged_epochs=100,  # as in the paper
            num_halves=6,
            num_normed_pairs=1,
            num_normed_lambdas=13,
            num_normed_images=2_000,
            num_statistics_images=10_000,
            minorities=(0.0, 0.5),
            straight_through_epochs=20,
            split_straight_through_epochs=10,
            resnet_straight_through_epochs=2,
            batch_norm=_LAPTOP_NORM,
            layer_norm=dataclasses.replace(_LAPTOP_NORM, architecture="resnet8"),
            cifar_mlp=Experiment(
                dataset="cifar10",
                seed=0,
                train=training.TrainConfig(batch_size=500, num_epochs=12),
                snapshot_epochs=(1, 2, 3, 5, 8),
            ),
            resnet=_LAPTOP_RESNET,
            compared_resnet=dataclasses.replace(_LAPTOP_RESNET, widths=(0.5, 1)),
            vgg=_LAPTOP_VGG,
            mnist_vgg=dataclasses.replace(_LAPTOP_VGG, dataset="mnist", widths=(1 / 16,)),
            timed=_TIMED,
            foreign_pair="resnet20",
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
            num_normed_pairs=3,
            num_normed_lambdas=25,
            num_normed_images=10_000,
            num_statistics_images=10_000,
            minorities=(),  # its networks take a GPU hours
            straight_through_epochs=250,
            split_straight_through_epochs=0,  # on this network it would take days
            # Every projection matches on the host and copies all parameters off the GPU and back.
            resnet_straight_through_epochs=250,
            batch_norm=_PAPER_NORM,
            layer_norm=dataclasses.replace(_PAPER_NORM, architecture="resnet20"),
            cifar_mlp=Experiment(
                dataset="cifar10",
                seed=0,
                train=training.TrainConfig(batch_size=100, num_epochs=100, augment=True),
                snapshot_epochs=tuple(range(1, 26)),
            ),
            split_data=_published("resnet20", "cifar100", _PAPER_SGD, width=32),
            resnet=_PAPER_RESNET,
            # Without the widest, which takes as long as all others.
            compared_resnet=dataclasses.replace(_PAPER_RESNET, widths=(1, 2, 4, 8, 16)),
            vgg=_PAPER_VGG,
            mnist_vgg=dataclasses.replace(  # as in the authors' own script
                _PAPER_VGG,
                dataset="mnist",
                widths=(1,),
                train=dataclasses.replace(_SGD, learning_rate=1e-3, num_epochs=25, augment=False),
            ),
            timed=_TIMED,
            foreign_pair="resnet20",
        ),
    )
}

# Fields of a smoke test of any profile, which takes minutes.
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
    "thin_width": 4,
    "num_merged": 3,
    "num_merged_epochs": 2,
    "num_halves": 3,
    "num_normed_pairs": 1,
    "num_normed_lambdas": 3,
    "num_normed_images": 100,
    "num_statistics_images": 100,
    "minorities": (0.0,),
    "straight_through_epochs": 1,
    "split_straight_through_epochs": 1,
    "resnet_straight_through_epochs": 1,
    "foreign_pair": "",
}


def _cut_down(profile: Profile, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a few steps on tiny data; settings that were given stay."""
    chosen = vars(profile) | changes
    cut = {name: v for name, v in _TRIAL.items() if chosen[name] == getattr(profile, name)}
    networks = {
        field: value.trial()
        for field, value in chosen.items()
        if isinstance(value, ConvolutionalFamily | Experiment)
    }
    if compared := networks.get("compared_resnet"):
        networks["compared_resnet"] = dataclasses.replace(compared, widths=compared.widths[:1])
    return cut | networks | {"timed": tuple((name, 1 / 8) for name, _ in profile.timed)}
