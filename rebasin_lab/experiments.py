"""Profiles, and the networks they ask for: restored when stored, trained when not.

`trained(experiment)` is the only way notebooks get networks. The store is keyed by a digest of all
that determines the result: the config, the data's own digest and the version of the training
recipe. A training writes its state after every epoch, so that a killed one goes on where it was, to
the same final bits. A damaged file is named in a warning and made again.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import warnings
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checkpoints, datasets, models, paths, progress, training

PACKAGES = ("rebasin_lab", "jax", "flax", "optax", "numpy", "scipy", "matplotlib")


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

    @property
    def changed(self) -> bool:
        """Whether single fields were replaced."""
        return self != PROFILES[self.name]

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
class Experiment:
    """One network: everything that determines its parameters."""

    dataset: str
    seed: int
    train: training.TrainConfig
    architecture: str = "mlp"
    options: tuple[tuple[str, int], ...] = (("num_hidden_layers", 3), ("width", 512))

    @classmethod
    def of_profile(cls, profile: Profile, *, seed: int) -> "Experiment":
        """The MLP of a profile."""
        return cls(
            dataset=profile.dataset,
            seed=seed,
            train=training.TrainConfig(
                learning_rate=profile.learning_rate,
                batch_size=profile.batch_size,
                num_epochs=profile.num_epochs,
            ),
            options=(("num_hidden_layers", profile.num_hidden_layers), ("width", profile.width)),
        )

    def build_model(self, data: datasets.Dataset) -> models.Model:
        """The architecture, for the images and classes of its data set."""
        return models.build_model(self.architecture, dataset=data, **dict(self.options))


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

    def load_dataset(self) -> datasets.Dataset:
        """The images it is trained on."""
        data = datasets.load_dataset(self.dataset)
        data = _first(data, self.num_images)
        return data.shrunk(self.shrink) if self.shrink > 1 else data

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


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network from the store.

    Attributes:
        model: its architecture.
        params: its parameters, plain nested dicts.
        history: per epoch, see `training.TrainingResult`.
        origin: whether it was "restored" whole, "resumed" in the middle, or "trained".
        versions: of the packages it was trained with.
        path: its file.
    """

    model: models.Model
    params: PyTree
    history: dict[str, list[float]]
    origin: Literal["restored", "resumed", "trained"]
    versions: dict[str, str]
    path: Path


def trained(
    experiment: Experiment,
    *,
    data: datasets.Dataset | None = None,
    store: Path | None = None,
    style: progress.Style = "auto",
) -> Trained:
    """The network of an experiment: from the store if it is there, else trained and stored.

    Args:
        experiment: what to train.
        data: its data set, if already loaded.
        store: the folder of checkpoints.
        style: how to show progress.

    Raises:
        CheckpointError: if the file under this experiment's name holds another one.
    """
    data = data or datasets.load_dataset(experiment.dataset)
    model = experiment.build_model(data)
    config = describe(experiment, data)
    final = (store or paths.checkpoints_dir()) / f"{digest(config)}.safetensors"
    partial = final.with_suffix(".partial.safetensors")
    template = jax.eval_shape(
        lambda: training.initial_state(model, data, experiment.train, seed=experiment.seed)
    )
    if found := _load_unless(
        checkpoints.DamagedCheckpointError,
        final,
        template.params,
        config,
        then="The network is trained again.",
    ):
        params, metadata = found
        partial.unlink(missing_ok=True)
        params = jax.device_put(params)
        return Trained(model, params, metadata["history"], "restored", metadata["versions"], final)
    state = _partial_state(partial, template, config)
    result = _train(experiment, model, data, config, state, partial, style)
    versions = package_versions()
    metadata = {"config": config, "history": result.history, "versions": versions}
    checkpoints.save(final, result.params, metadata)
    partial.unlink(missing_ok=True)
    origin = "resumed" if state else "trained"
    return Trained(model, result.params, result.history, origin, versions, final)


def describe(experiment: Experiment, data: datasets.Dataset) -> dict[str, Any]:
    """All that determines a network, JSON-ready."""
    return {
        **dataclasses.asdict(experiment),
        "options": dict(experiment.options),
        "data_digest": data.digest,
        "recipe": training.RECIPE_VERSION,
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a number or a picture."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def digest(config: dict[str, Any]) -> str:
    """The name of a network in the store."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:24]


def _train(
    experiment: Experiment,
    model: models.Model,
    data: datasets.Dataset,
    config: dict[str, Any],
    state: training.TrainState | None,
    partial: Path,
    style: progress.Style,
) -> training.TrainingResult:
    total = experiment.train.num_epochs
    description = f"training {data.title} {model.architecture}, seed {experiment.seed}"
    done = state.epoch if state else 0
    with progress.progress_bar(total, description, done=done, style=style) as bar:

        def on_epoch(state: training.TrainState) -> None:
            if state.epoch < total:
                tree = {"params": state.params, "opt_state": state.opt_state}
                metadata = {"config": config, "history": state.history, "epoch": state.epoch}
                checkpoints.save(partial, tree, metadata)
            accuracy = f"test accuracy {state.history['test_accuracy'][-1]:.3f}"
            bar.set_postfix_str(accuracy, refresh=False)
            bar.update(1)

        return training.train(
            model, data, experiment.train, seed=experiment.seed, state=state, on_epoch=on_epoch
        )


def _partial_state(
    partial: Path, template: training.TrainState, config: dict[str, Any]
) -> training.TrainState | None:
    tree = {"params": template.params, "opt_state": template.opt_state}
    # Damaged, or left by another version of optax or Flax: an unfinished training is not worth
    # stopping for.
    found = _load_unless(
        checkpoints.CheckpointError, partial, tree, config, then="The training starts over."
    )
    if found is None:
        return None
    tree, metadata = found
    tree = jax.device_put(tree)
    return training.TrainState(
        tree["params"], tree["opt_state"], metadata["epoch"], metadata["history"]
    )


def _load_unless(
    forgiven: type[checkpoints.CheckpointError],
    path: Path,
    like: PyTree,
    config: dict[str, Any],
    *,
    then: str,
) -> tuple[PyTree, dict[str, Any]] | None:
    """What a file holds; None if there is none, or, with a warning, for a forgiven error."""
    try:
        return checkpoints.load(path, like=like, config=config)
    except FileNotFoundError:
        return None
    except forgiven as error:
        warnings.warn(f"{error} {then}", stacklevel=3)
        return None
