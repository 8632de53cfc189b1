"""The store of trained networks: restored when stored, trained when not.

Notebooks get networks by `trained(experiment)` alone. The key is a digest of all that determines
the result: the config, the content of the data, the code that trains, and JAX with its settings and
device, see `fingerprints`. A training writes its state after every epoch, so that a killed one goes
on from there, to the same final bits. It holds a lock, so that two processes do not train one
network at once. A damaged file is named in a warning and made again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, models, paths, progress, training
from rebasin_lab.paper import fingerprints
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.training import checkpoints

# The modules whose code decides the bits of a network; data is known by its content.
TRAINING_MODULES = (
    "pytrees",
    "models",
    "metrics",
    "training/augmentation",
    "training/training_loop",
)

PACKAGES = ("rebasin_lab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "matplotlib")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network from the store.

    Attributes:
        model: its architecture.
        params: its parameters, plain nested dicts.
        history: per epoch, see `training.TrainingResult`.
        origin: "restored" whole, "resumed" in the middle, or "trained".
        versions: of the packages it was trained with.
        path: its file.
        experiment: its recipe.
    """

    model: models.Model
    params: PyTree
    history: dict[str, list[float]]
    origin: Literal["restored", "resumed", "trained"]
    versions: dict[str, str]
    path: Path
    experiment: Experiment

    def params_after(self, epoch: int) -> PyTree:
        """Return its parameters after so many epochs: 0, one of its snapshots, or the last.

        Raises:
            ValueError: for an epoch without a snapshot.
            CheckpointError: if its file is gone, or damaged, or another network's.
        """
        experiment = self.experiment
        if epoch == experiment.train.num_epochs:
            return self.params
        if epoch == 0:
            return self._initial
        if epoch not in experiment.snapshot_epochs:
            epochs = [0, *experiment.snapshot_epochs, experiment.train.num_epochs]
            raise ValueError(f"Expected an epoch whose parameters are kept, {epochs}; got {epoch}.")
        try:
            params = _load_snapshot(self.path, epoch, self.params)
        except (checkpoints.CheckpointError, FileNotFoundError) as error:
            raise checkpoints.CheckpointError(
                f"{error} Ask for the network again, with trained(experiment): that makes it anew."
            ) from error
        return jax.device_put(params)

    @functools.cached_property
    def _initial(self) -> PyTree:
        # Drawn once: a section asks for the same network's several times.
        return training.initial_params(self.model, seed=self.experiment.seed)


@checks.arguments
def trained(
    experiment: Experiment,
    *,
    data: datasets.Dataset | None = None,
    store: Path | None = None,
    style: progress.Style = "auto",
    on_epoch: Callable[[training.TrainState], None] | None = None,
) -> Trained:
    """Return the network of an experiment: from the store if it is there, else trained and stored.

    Args:
        experiment: to train.
        data: its data set, if already loaded.
        store: the folder of checkpoints.
        style: how to show progress.
        on_epoch: called after every epoch, when it is stored; if it raises, the training ends
            there, and goes on from there when the network is next asked for.

    Raises:
        CheckpointError: if the file under this experiment's name holds another one.
        ValueError: for an architecture that is not the lab's, whose code is not known.
        OSError: if the store cannot be written to and something is to be trained.
    """
    data = data or experiment.load_dataset()
    model = experiment.build_model(data)
    config = describe(experiment, data)
    final = _path_of(config, store)
    # A store that is only read needs no lock. Below, a damaged file is named once.
    if _looks_stored(experiment, final) and (
        network := _restored(experiment, model, config, final)
    ):
        _remove_partial(final)
        return network
    with paths.locked(final, f"training {experiment.title}"):
        paths.sweep(final.parent, start=f"{final.stem}.")
        # Another process may have trained it in the meantime.
        then = "The network is trained again."
        if network := _restored(experiment, model, config, final, then=then):
            _partial_path(final).unlink(missing_ok=True)
            return network
        return _trained(experiment, model, data, config, final, style, on_epoch)


def _restored(
    experiment: Experiment,
    model: models.Model,
    config: dict[str, Any],
    final: Path,
    *,
    then: str = "",
) -> Trained | None:
    """Return a network with all of its snapshots, if they are there and whole; else None.

    A damaged file is named in a warning that ends with `then`, unless that is empty.
    """
    damaged = checkpoints.DamagedCheckpointError
    loaded = _load_unless(damaged, final, model.shapes, config, then=then)
    if loaded is None or not _are_whole(experiment.snapshot_epochs, model, final, then):
        return None
    params, metadata = loaded
    _check_is_of(metadata, final, final)
    return Trained(
        model,
        jax.device_put(params),
        metadata["history"],
        "restored",
        metadata["versions"],
        final,
        experiment,
    )


def _trained(
    experiment: Experiment,
    model: models.Model,
    data: datasets.Dataset,
    config: dict[str, Any],
    final: Path,
    style: progress.Style,
    on_epoch: Callable[[training.TrainState], None] | None,
) -> Trained:
    template = training.state_shapes(model, data, experiment.train)
    partial = _partial_path(final)
    state = _partial_state(partial, template, config)
    if state:
        epochs = [epoch for epoch in experiment.snapshot_epochs if epoch <= state.epoch]
        # Those that are missing were no part of the experiment when it began.
        if not _are_whole(epochs, model, final, "The training starts over."):
            state = None
    result = _train(experiment, model, data, config, state, final, style, on_epoch)
    versions = package_versions()
    metadata = {"config": config, "history": result.history, "versions": versions}
    checkpoints.save(final, result.params, metadata)
    partial.unlink(missing_ok=True)
    origin = "resumed" if state else "trained"
    return Trained(model, result.params, result.history, origin, versions, final, experiment)


@checks.arguments
def path_of(
    experiment: Experiment, *, data: datasets.Dataset | None = None, store: Path | None = None
) -> Path:
    """Return the file of an experiment's network, which need not be there."""
    return _path_of(describe(experiment, data or experiment.load_dataset()), store)


def _path_of(config: dict[str, Any], store: Path | None) -> Path:
    folder = paths.checkpoints_dir() if store is None else paths.checked_folder(store, "store")
    return folder / f"{digest(config)}.safetensors"


@checks.arguments
def is_stored(
    experiment: Experiment, *, data: datasets.Dataset | None = None, store: Path | None = None
) -> bool:
    """Return True if an experiment's network is there, with all of its snapshots.

    It reads their first bytes; `trained` reads all.
    """
    return _looks_stored(experiment, path_of(experiment, data=data, store=store))


def _looks_stored(experiment: Experiment, final: Path) -> bool:
    snapshots = {snapshot_path(final, epoch): epoch for epoch in experiment.snapshot_epochs}
    return _is_of(checkpoints.peek(final), final) and all(
        _is_of(checkpoints.peek(path), final, epoch) for path, epoch in snapshots.items()
    )


def epochs_stored(path: Path) -> int:
    """Return the number of stored epochs of the network at this path, which others may train."""
    match checkpoints.peek(path):
        case {"history": {"train_loss": [*losses]}}:
            return len(losses)
    match checkpoints.peek(_partial_path(path)):
        case {"epoch": int() as epoch}:
            return epoch
    return 0


def describe(experiment: Experiment, data: datasets.Dataset) -> dict[str, Any]:
    """Return all that determines a network, JSON-ready; the data's digest stands for its view.

    Raises:
        ValueError: for an architecture that is not the lab's, whose code is not known.
    """
    try:
        constructor = models.ARCHITECTURES[experiment.architecture].constructor
        network = fingerprints.name_of(constructor)
    except fingerprints.UnknownContentError as error:
        raise ValueError(
            f"Expected an architecture of the lab's, whose code is known, to keep its network; got "
            f"'{experiment.architecture}', which was put in its place or is your own. Train it "
            "with rl.train."
        ) from error
    return {
        "dataset": experiment.dataset,
        "seed": experiment.seed,
        "train": dataclasses.asdict(experiment.train),
        "architecture": experiment.architecture,
        "network": network,
        "options": dict(experiment.options),
        "data_digest": data.content_digest(),
        "code": [_code_digest(), fingerprints.constants_digest(*TRAINING_MODULES)],
        "environment": fingerprints.computing_environment(),
    }


# Computed on import: CPython 3.11 may fail where two threads parse at once, such as the explorer's
# and the one that runs cells.
_CODE = fingerprints.source_digest(*TRAINING_MODULES)


@functools.cache
def _code_digest() -> str:
    """Return a digest of the code as it was loaded: later edits change nothing in this process."""
    fingerprints.loaded(*TRAINING_MODULES)
    return _CODE


@functools.cache
def package_versions() -> dict[str, str]:
    """Return versions of the packages that decide a number or a picture, JAX's plugins too.

    Without matplotlib, which only figures need, where the extra [lab] is not installed.
    """
    plugins = {
        point.dist.name: point.dist.version
        for point in importlib.metadata.entry_points(group="jax_plugins")
        if point.dist
    }
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed | plugins


def digest(config: dict[str, Any]) -> str:
    """Return the name of a network in the store."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:24]


def _train(
    experiment: Experiment,
    model: models.Model,
    data: datasets.Dataset,
    config: dict[str, Any],
    state: training.TrainState | None,
    final: Path,
    style: progress.Style,
    on_epoch: Callable[[training.TrainState], None] | None,
) -> training.TrainingResult:
    total = experiment.train.num_epochs
    description = f"training {data.title} {model.architecture}, seed {experiment.seed}"
    done = state.epoch if state else 0
    with progress.progress_bar(total, description, done=done, style=style) as bar:

        def keep(state: training.TrainState) -> None:
            if state.epoch in experiment.snapshot_epochs:
                metadata = {"config": config, "epoch": state.epoch}
                checkpoints.save(snapshot_path(final, state.epoch), state.params, metadata)
            if state.epoch < total:
                tree = {"params": state.params, "opt_state": state.opt_state}
                metadata = {"config": config, "history": state.history, "epoch": state.epoch}
                checkpoints.save(_partial_path(final), tree, metadata)
            accuracy = f"test accuracy {state.history['test_accuracy'][-1]:.3f}"
            bar.set_postfix_str(accuracy, refresh=False)
            bar.update(1)
            if on_epoch is not None:
                on_epoch(state)

        return training.train(
            model, data, experiment.train, seed=experiment.seed, state=state, on_epoch=keep
        )


def snapshot_path(final: Path, epoch: int) -> Path:
    """Return the file of a snapshot, beside that of the network at the end of training."""
    return final.with_suffix(f".epoch{epoch}.safetensors")


def _is_of(metadata: dict[str, Any], final: Path, epoch: int | None = None) -> bool:
    """Return True if metadata is that of a network, or of its snapshot after an epoch."""
    config = metadata.get("config")
    return (
        isinstance(config, dict) and digest(config) == final.stem and metadata.get("epoch") == epoch
    )


def _load_snapshot(final: Path, epoch: int, like: PyTree) -> PyTree:
    """Return the parameters of a network after an epoch.

    Raises:
        FileNotFoundError: if they are not there.
        CheckpointError: if they are damaged, or another network's, or of another epoch.
    """
    path = snapshot_path(final, epoch)
    params, metadata = checkpoints.load(path, like=like)
    _check_is_of(metadata, path, final, epoch)
    return params


def _check_is_of(
    metadata: dict[str, Any], path: Path, final: Path, epoch: int | None = None
) -> None:
    if not _is_of(metadata, final, epoch):
        when = "" if epoch is None else f" after epoch {epoch}"
        raise checkpoints.CheckpointError(
            f"Expected '{path}' to hold the network '{final.stem}'{when}; it holds another one. "
            "Move it away."
        )


def _are_whole(epochs: Sequence[int], model: models.Model, final: Path, then: str) -> bool:
    """Return True if these snapshots of a network are there; warn of a damaged one."""
    for epoch in epochs:
        try:
            _load_snapshot(final, epoch, model.shapes)
        except FileNotFoundError:
            return False
        except checkpoints.CheckpointError as error:
            if then:
                warnings.warn(f"{error} {then}", stacklevel=4)
            return False
    return True


def _partial_path(final: Path) -> Path:
    return final.with_suffix(".partial.safetensors")


def _remove_partial(final: Path) -> None:
    """Remove the state of a process killed right after its last epoch, if none trains now."""
    if _partial_path(final).exists():
        with (
            contextlib.suppress(OSError, paths.LockedError),
            paths.locked(final, "tidying", wait=False),
        ):
            _partial_path(final).unlink(missing_ok=True)


def _partial_state(
    partial: Path, template: training.TrainState, config: dict[str, Any]
) -> training.TrainState | None:
    tree = {"params": template.params, "opt_state": template.opt_state}
    # Damaged, or of another version of optax or Flax: an unfinished training starts over.
    loaded = _load_unless(
        checkpoints.CheckpointError, partial, tree, config, then="The training starts over."
    )
    if loaded is None:
        return None
    tree, metadata = loaded
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
    """Return the content of a file; None if there is none, or, with a warning, if it is damaged."""
    try:
        return checkpoints.load(path, like=like, config=config)
    except FileNotFoundError:
        return None
    except forgiven as error:
        if then:
            warnings.warn(f"{error} {then}", stacklevel=4)
        return None
