"""Profiles: the sizes of everything, from a minute on a laptop to the paper's own on a GPU."""

import dataclasses
import math
import numbers
import typing
from typing import Any

import numpy as np

from rebasin_lab import checks, datasets, training
from rebasin_lab.paper.networks import Experiment


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
    num_normed_pairs: int  # pairs of networks with BatchNorm, and with LayerNorm, at most num_pairs
    minorities: tuple[float, ...]  # shares of rare classes to split by, beside section 5.4's

    def __post_init__(self):
        for field in FIELDS:
            check_field(field, getattr(self, field))

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
        return first_images(data, self.num_coarse_images, self.num_coarse_images)

    @property
    def networks(self) -> str:
        """What is trained, in a phrase."""
        return (
            f"MLP with {self.num_hidden_layers} hidden layers of {self.width} units, "
            f"{self.num_epochs} epochs of Adam, batch {self.batch_size}"
        )


# The least value of a number where it is not 1. An odd number of points on a line has a middle.
_LEAST = {
    "num_lambdas": 3,
    "num_coarse_lambdas": 3,
    "num_coarse_images": 0,
    "contour_resolution": 2,
    "num_merged": 2,
    "num_halves": 2,
}
_ODD = ("num_lambdas", "num_coarse_lambdas")
_MAY_BE_EMPTY = ("snapshot_epochs", "minorities")

FIELDS = {field.name: field.type for field in dataclasses.fields(Profile) if field.name != "name"}


@checks.arguments
def get_profile(name: str, /, **overrides: Any) -> Profile:
    """A profile with some fields replaced; 0 and "" mean "as the profile has it".

    They mean that wherever they are no value of their own, as 0 is of `num_coarse_images`. Lists
    are taken for tuples. Who replaces the number of epochs replaces that of the networks of Table
    3, too, and who lowers the number of pairs that of the normed ones.

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
    given = {
        field: check_field(field, value)
        for field, value in overrides.items()
        if not leaves_as_it_is(field, value)
    }
    given = {field: value for field, value in given.items() if value != getattr(profile, field)}
    if "num_epochs" in given:
        given.setdefault("num_merged_epochs", given["num_epochs"])
    num_pairs = given.get("num_pairs", profile.num_pairs)
    if given.get("num_normed_pairs", 0) > num_pairs:
        raise ValueError(
            f"Expected num_normed_pairs to be at most num_pairs, {num_pairs}; got "
            f"{given['num_normed_pairs']}. Raise num_pairs, too."
        )
    given.setdefault("num_normed_pairs", min(profile.num_normed_pairs, num_pairs))
    return dataclasses.replace(profile, **given)


def leaves_as_it_is(field: str, value: Any) -> bool:
    """Whether a value of a profile's field means "as the profile has it"."""
    if isinstance(value, str):
        return value == ""
    is_zero = isinstance(value, numbers.Real) and not isinstance(value, bool) and not value
    return is_zero and FIELDS[field] in (int, float) and _LEAST.get(field, 1) > 0


def check_field(field: str, value: Any) -> Any:
    """A value for a profile's field, as the type that the field has.

    Raises:
        ValueError: if the field cannot have it.
    """
    kind, (element,) = FIELDS[field], typing.get_args(FIELDS[field])[:1] or (None,)
    if element is None:
        return check_value(field, value, kind, least=_LEAST.get(field, 1), odd=field in _ODD)
    what = "shares in [0, 0.5]" if element is float else "positive ints"
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"Expected {field} to be a list of {what}; got {checks.shortened(value)}.")
    if not value and field not in _MAY_BE_EMPTY:
        raise ValueError(f"Expected {field} to be a list of at least one of {what}; got none.")
    share = element is float
    items = tuple(
        check_value(
            f"every number of {field}",
            item,
            element,
            least=0 if share else 1,
            most=0.5 if share else checks.MOST,
        )
        for item in value
    )
    if list(items) != sorted(set(items)):
        raise ValueError(
            f"Expected {field} to rise, each number once; got {checks.shortened(value)}."
        )
    return items


def check_value(
    name: str,
    value: Any,
    kind: type,
    *,
    least: int | float = 0,
    most: int | float = checks.MOST,
    odd: bool = False,
) -> Any:
    """A single value of a type, as that type: bool is no int, and 3.0 is none either.

    Args:
        name: whose value it is, for an error.
        value: the value; numbers of NumPy will do.
        kind: bool, int, float or str.
        least: of a number; a float must be above it if it is 1, which stands for "positive".
        most: of a number.
        odd: whether an int must be odd.

    Raises:
        ValueError: for another type, or a number out of range.
    """
    wanted = {bool: "true or false", str: "a text"}.get(kind, "")
    if kind is bool:
        fits = isinstance(value, bool)
    elif kind is str:
        fits = isinstance(value, str) and value.isprintable()
    else:
        positive = "a positive" if least == 1 else "an odd" if odd else "a"
        article = "an" if positive == "a" and kind is int else positive
        wanted = f"{article} {kind.__name__}"
        if not (least == 1 and most == checks.MOST):
            wanted += f" from {least:,} to {most:,}"
        number = numbers.Integral if kind is int else numbers.Real
        fits = isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
        fits = (
            fits
            and value <= most
            and (value > 0 if kind is float and least == 1 else value >= least)
        )
        fits = fits and not (odd and value % 2 == 0)
    if not fits:
        raise ValueError(f"Expected {name} to be {wanted}; got {checks.shortened(value)}.")
    return kind(value)


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
            num_normed_pairs=1,
            minorities=(0.0, 0.1, 0.5),
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
            minorities=(0.0, 0.5),
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
            minorities=(),  # its networks take a GPU hours
        ),
    )
}


def first_images(data: datasets.Dataset, num_train: int, num_test: int = 0) -> datasets.Dataset:
    """The first images of each split, of which there may be fewer; 0 is all."""
    train, test = (
        np.arange(len(labels))[: num or None]
        for labels, num in ((data.train_labels, num_train), (data.test_labels, num_test))
    )
    if len(test) < len(data.test_labels):
        return data.subset(train, test)
    return data.subset(train) if len(train) < len(data.train_labels) else data


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
    "thin_width": 4,
    "num_merged": 3,
    "num_merged_epochs": 2,
    "num_halves": 3,
    "num_normed_pairs": 1,
    "minorities": (0.0,),
}


@checks.arguments
def trial_profile(profile: Profile) -> Profile:
    """A profile cut down to a few steps on tiny data, but for fields that were replaced."""
    own = PROFILES[profile.name]
    cut = {name: v for name, v in _TRIAL.items() if getattr(profile, name) == getattr(own, name)}
    return dataclasses.replace(profile, **cut)
