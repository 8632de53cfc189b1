"""The two networks of an exploration: from the store, from files, or trained now."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, models, symmetry, training
from rebasin_lab.lab.exploration import code
from rebasin_lab.lab.exploration.choices import Choices
from rebasin_lab.paper.profiles import PROFILES
from rebasin_lab.paper.store import trained
from rebasin_lab.training import checkpoints

# Called as work goes on, with a task, how much of it is done, and of how much; after an epoch of a
# training also with `histories`, of A and of B as far as they have come. An exception ends the
# work; finished parts are stored.
OnStep = Callable[..., None]


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two networks of one architecture.

    Attributes:
        title: in a phrase.
        data: that they are evaluated on, and matchers look at.
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params_a: the reference.
        params_b: the network that is moved.
        model: what `reestimate_statistics` takes, `apply_fn` by default.
        code: lines that define the four above.
        origins: of A and of B: "trained", "resumed", "restored", "file" or "given".
        versions: of the packages they were trained with, as far as known.
    """

    title: str
    data: datasets.Dataset
    apply_fn: Callable
    params_a: PyTree
    params_b: PyTree
    model: Any = None
    code: str = code.GIVEN
    origins: tuple[str, str] = ("given", "given")
    versions: tuple[dict[str, str], ...] = ()

    @functools.cached_property
    def spec(self) -> symmetry.PermutationSpec:
        """Its symmetries, inferred."""
        return symmetry.infer_permutation_spec(
            self.apply_fn, self.params_a, self.data.test_images[:1]
        )


@checks.arguments
def load_pair(
    choices: Choices, *, on_step: OnStep | None = None, store: Path | None = None
) -> Pair:
    """Return the networks that were chosen, trained and stored if they are not yet there.

    Args:
        choices: of data, architecture, sizes and seeds, or of files.
        on_step: called after every epoch; if it raises, the training goes on from there next time.
        store: the folder of checkpoints.

    Raises:
        FileNotFoundError: for a data set or a checkpoint that is not there.
        CheckpointError: for one that is damaged, or not of the lab, or of another network.
        ValueError: for two files of different networks.
    """
    if choices.files:
        return _from_files(choices)
    report = on_step or say_nothing
    data = choices.experiment(seed=0).load_dataset()
    networks, histories = [], {}
    for name, seed in zip("AB", choices.seeds, strict=True):
        experiment = choices.experiment(seed)
        total = experiment.train.num_epochs

        def on_epoch(
            state: training.TrainState,
            name: str = name,
            what: str = f"training network {name}, seed {seed}",
            total: int = total,
        ) -> None:
            histories[name] = state.history
            report(what, state.epoch, total, histories=histories)

        networks.append(
            trained(experiment, data=data, store=store, style="silent", on_epoch=on_epoch)
        )
    one, other = networks
    return Pair(
        title=f"{data.title}: {one.experiment.networks}, seeds {choices.seeds[0]} and "
        f"{choices.seeds[1]}",
        data=data,
        apply_fn=one.model.apply,
        params_a=one.params,
        params_b=other.params,
        model=one.model,
        code=code.networks_of_seeds(one.experiment, choices.seeds),
        origins=(one.origin, other.origin),
        versions=(one.versions, other.versions),
    )


def say_nothing(what: str, done: int, total: int, **more: Any) -> None:
    """Report to nobody."""


def _from_files(choices: Choices) -> Pair:
    paths = [Path(name).expanduser() for name in choices.files]
    loaded = [checkpoints.load(path) for path in paths]
    configs = [_config(path, metadata) for path, (_, metadata) in zip(paths, loaded, strict=True)]
    for field in ("dataset", "architecture", "options"):
        if configs[0][field] != configs[1][field]:
            raise ValueError(
                f"Expected two checkpoints of one architecture and data set; got {field} "
                f"{configs[0][field]!r} in '{paths[0]}' and {configs[1][field]!r} in '{paths[1]}'."
            )
    view, data = _data_of(configs[0])
    model = models.build_model(configs[0]["architecture"], dataset=data, **configs[0]["options"])
    params = [jax.device_put(checkpoints.load(path, like=model.shapes)[0]) for path in paths]
    return Pair(
        title=f"{data.title}: {model.architecture}, '{paths[0].name}' and '{paths[1].name}'",
        data=data,
        apply_fn=model.apply,
        params_a=params[0],
        params_b=params[1],
        model=model,
        code=code.networks_of_files([str(path) for path in paths], configs[0], view),
        origins=("file", "file"),
        versions=tuple(metadata.get("versions", {}) for _, metadata in loaded),
    )


def _config(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    config = metadata.get("config", {})
    if missing := [name for name in ("dataset", "architecture", "options") if name not in config]:
        raise checkpoints.CheckpointError(
            f"Expected a network in '{path}', with a config that names its {', '.join(missing)}; "
            "there is none. Hand in networks of your own as rl.explore(params=(a, b), "
            "apply_fn=..., data=...)."
        )
    return config


def _data_of(config: dict[str, Any]) -> tuple[datasets.View, datasets.Dataset]:
    """Return the data a network was trained on, if it is a view that the lab uses; else all of it.

    A checkpoint holds a digest of its data, not its view.
    """
    views = [datasets.View(), *(one.view for one in models.ARCHITECTURES.values())]
    views.append(PROFILES["laptop"].resnet.view)
    for view in dict.fromkeys(views):
        data = datasets.load_view(config["dataset"], view)
        if data.content_digest() == config.get("data_digest"):
            return view, data
    warnings.warn(
        f"The network of a file saw a part of {config['dataset']}, or a version of it, that is not "
        "known here: it is looked at with all of it.",
        stacklevel=4,
    )
    return datasets.View(), datasets.load_view(config["dataset"], datasets.View())
