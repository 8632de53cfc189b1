"""Which networks each notebook is about: a run can say beforehand what it is going to train."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rebasin_lab import checks
from rebasin_lab.paper.families import (
    BATCH_NORM,
    CIFAR_MLP,
    ConvolutionalFamily,
    get_convolutional_family,
    get_split_data,
    trial_experiment,
    trial_family,
)
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile

Parameters = Mapping[str, Any]


@checks.arguments
def grid(
    notebook: str, profile: Profile, parameters: Parameters | None = None
) -> tuple[Experiment, ...]:
    """The networks that a notebook asks the store for, each once.

    Args:
        notebook: its name, without ending.
        profile: the sizes of the run, single settings included; cut down, if it is a trial.
        parameters: the settings that were changed, of which some notebooks have their own.

    Raises:
        ValueError: for a notebook that nobody has said this of.
    """
    if notebook not in GRIDS:
        raise ValueError(f"Expected a notebook among {list(GRIDS)}; got {notebook!r}.")
    return tuple(dict.fromkeys(GRIDS[notebook](profile, parameters or {})))


def _seeds(profile: Profile, most_pairs: int | None = None) -> range:
    return range(2 * min(profile.num_pairs, most_pairs or profile.num_pairs))


def _mlps(profile: Profile, seeds: Sequence[int]) -> list[Experiment]:
    return [profile.experiment(seed=seed) for seed in seeds]


def _experiment(base: Experiment, own: Parameters) -> Experiment:
    return trial_experiment(base) if own.get("trial") else base


def _family(
    profile: Profile, own: Parameters, kind: str = "resnet", **changes: Any
) -> ConvolutionalFamily | None:
    family = get_convolutional_family(profile.name, kind, **changes)
    return trial_family(family) if family and own.get("trial") else family


def _members(
    profile: Profile,
    family: ConvolutionalFamily | None,
    widths: Sequence[int | float] | None = None,
) -> list[Experiment]:
    """Networks of a family, of these of its widths or of all; none of no family."""
    if not family:
        return []
    seeds = _seeds(profile, family.num_pairs)
    return [
        family.experiment(width=width, seed=seed)
        for width in (family.widths if widths is None else widths)
        for seed in seeds
    ]


def _cifar_mlps(profile: Profile, own: Parameters) -> list[Experiment]:
    if profile.name not in CIFAR_MLP:
        return []
    base = _experiment(CIFAR_MLP[profile.name], own)
    return [base.seeded(seed) for seed in _seeds(profile)]


def _quickstart(profile: Profile, own: Parameters) -> list[Experiment]:
    seed = own.get("seed", 0)
    return _mlps(profile, (seed, seed + 1))


def _symmetries(profile: Profile, own: Parameters) -> list[Experiment]:
    return _mlps(profile, (own.get("seed", 0),))


def _matching_methods(profile: Profile, own: Parameters) -> list[Experiment]:
    family = _family(
        profile,
        own,
        dataset=own.get("dataset", ""),
        width=own.get("convolutional_width", 0),
        num_images=own.get("convolutional_images", 0),
        num_epochs=own.get("convolutional_epochs", 0),
    )
    compared = family and family.compared_widths
    return _mlps(profile, _seeds(profile)) + _members(profile, family, compared)


def _loss_landscapes(profile: Profile, own: Parameters) -> list[Experiment]:
    family = _family(profile, own)
    widest = _members(profile, family, family and family.widths[-1:])
    return _mlps(profile, _seeds(profile)) + _cifar_mlps(profile, own) + widest


def _onset(profile: Profile, own: Parameters) -> list[Experiment]:
    return _mlps(profile, _seeds(profile)) + _cifar_mlps(profile, own)


def _model_width(profile: Profile, own: Parameters) -> list[Experiment]:
    widths = sorted({*profile.mlp_widths} - {profile.width})
    networks = _mlps(profile, _seeds(profile))
    networks += [
        profile.experiment(seed=seed, width=width).without_snapshots()
        for width in widths
        for seed in _seeds(profile)
    ]
    for kind in ("vgg", "resnet"):
        networks += _members(profile, _family(profile, own, kind))
    return networks


def _split_data(profile: Profile, own: Parameters) -> list[Experiment]:
    changes = {name: own[name] for name in ("dataset", "width", "num_epochs") if name in own}
    base = _experiment(get_split_data(profile.name, **changes), own)
    parts = [base.seeing(part=part) for part in ("biased a", "biased b")]
    networks = [
        each.seeded(2 * pair + offset)
        for pair in range(profile.num_pairs)
        for each, offset in zip((*parts, base), (0, 1, 0), strict=True)
    ]
    for minority in profile.minorities:
        networks += [part.seeded(i).seeing(minority=minority) for i, part in enumerate(parts)]
    return networks


def _merge_many(profile: Profile, own: Parameters) -> list[Experiment]:
    halves = [
        _experiment(profile.experiment(seed=seed).without_snapshots(), own).seeing(
            part="random half", part_seed=seed
        )
        for seed in range(profile.num_halves)
    ]
    singles = [profile.merged_experiment(seed=seed) for seed in range(profile.num_merged)]
    return singles + halves


def _failure_modes(profile: Profile, own: Parameters) -> list[Experiment]:
    seeds, thin, rate = _seeds(profile), profile.thin_width, profile.learning_rate

    def mlp(width: int, **changes: Any) -> Experiment:
        base = profile.experiment(seed=0, width=width).without_snapshots()
        return base.trained_with(**changes)

    recipes = [
        mlp(profile.width),
        mlp(profile.width // 4),
        mlp(thin),
        mlp(thin, learning_rate=10 * rate),
        mlp(thin, optimizer="sgd", learning_rate=0.1),
        mlp(thin, optimizer="sgd", learning_rate=0.001),
        mlp(thin, optimizer="sgd", learning_rate=0.1, num_epochs=1),
    ]
    networks = [recipe.seeded(seed) for recipe in recipes for seed in seeds]
    width = {"laptop": 1 / 16, "paper": 1}.get(profile.name, 0)
    family = get_convolutional_family(profile.name, "vgg", dataset="mnist", width=width)
    if profile.name == "paper":  # the settings of the authors' own script
        script = {"learning_rate": 1e-3, "num_epochs": 25, "augment": False}
        family = dataclasses.replace(family, train=dataclasses.replace(family.train, **script))
    family = trial_family(family) if family and own.get("trial") else family
    networks += _members(profile, family, family and family.widths[:1])
    batch_norm = BATCH_NORM[profile.name]
    layer_norm = dataclasses.replace(
        batch_norm, architecture=batch_norm.architecture.removesuffix("_bn")
    )
    if profile.name == "quick":
        layer_norm = layer_norm.trained_with(optimizer="adam", learning_rate=3e-3, weight_decay=0.0)
    seeds = _seeds(profile, profile.num_normed_pairs)
    for base in (batch_norm, layer_norm):
        networks += [_experiment(base, own).seeded(seed) for seed in seeds]
    return networks


GRIDS: dict[str, Callable[[Profile, Parameters], list[Experiment]]] = {
    "00_quickstart": _quickstart,
    "01_permutation_symmetries": _symmetries,
    "02_matching_methods": _matching_methods,
    "03_counterexample": lambda profile, own: [],  # its networks have four weights
    "04_loss_landscapes": _loss_landscapes,
    "05_onset_of_mode_connectivity": _onset,
    "06_model_width": _model_width,
    "07_split_data": _split_data,
    "08_merge_many": _merge_many,
    "09_failure_modes": _failure_modes,
}
