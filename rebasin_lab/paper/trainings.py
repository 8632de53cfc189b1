"""The networks that each notebook trains, for the notebook itself and for a dry run.

`trainings(notebook, profile)` has them in groups, and in each group by key: a seed, or a width and
a seed. A notebook trains a group with `run.train(group)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rebasin_lab import checks
from rebasin_lab.paper.networks import ConvolutionalFamily, Experiment
from rebasin_lab.paper.profiles import Profile

Group = dict[Any, Experiment]


@checks.arguments
def trainings(notebook: str, profile: Profile) -> dict[str, Group]:
    """Return the networks that a notebook asks the store for, by group and key.

    Args:
        notebook: its name, without ending.
        profile: the sizes of the run, single settings included.

    Returns:
        Groups in the order in which they are trained; one is empty where the profile has none.

    Raises:
        ValueError: for a notebook that trains none known here.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"Expected a notebook among {list(NOTEBOOKS)}; got {notebook!r}.")
    return NOTEBOOKS[notebook](profile)


def experiments(notebook: str, profile: Profile) -> tuple[Experiment, ...]:
    """Return the same in one row, each once."""
    groups = trainings(notebook, profile).values()
    return tuple(dict.fromkeys(one for group in groups for one in group.values()))


def _mlps(profile: Profile, seeds: Sequence[int]) -> Group:
    return {seed: profile.experiment(seed=seed) for seed in seeds}


def _family(profile: Profile, family: ConvolutionalFamily | None, *, widest: bool = False) -> Group:
    """Return the networks of a family, by width and seed; none without a family."""
    if not family:
        return {}
    return {
        (width, seed): family.experiment(width=width, seed=seed)
        for width in ([max(family.widths)] if widest else family.widths)
        for seed in profile.seeds[: 2 * family.num_pairs]
    }


def _with_seeds(base: Experiment | None, seeds: Sequence[int]) -> Group:
    return {seed: base.with_seed(seed) for seed in seeds} if base else {}


def _matching_methods(profile: Profile) -> dict[str, Group]:
    return {
        "MLP": _mlps(profile, profile.seeds),
        "ResNet": _family(profile, profile.compared_resnet),
    }


def _loss_landscapes(profile: Profile) -> dict[str, Group]:
    return {
        "MLP": _mlps(profile, profile.seeds),
        "CIFAR-10 MLP": _with_seeds(profile.cifar_mlp, profile.seeds),
        "ResNet": _family(profile, profile.resnet, widest=True),
    }


def _onset(profile: Profile) -> dict[str, Group]:
    return {
        "MLP": _mlps(profile, profile.seeds),
        "CIFAR-10 MLP": _with_seeds(profile.cifar_mlp, profile.seeds),
    }


def _model_width(profile: Profile) -> dict[str, Group]:
    mlps = {
        # Those of the profile's own width are the networks of all notebooks, with their snapshots.
        (width, seed): profile.experiment(seed=seed)
        if width == profile.width
        else profile.experiment(seed=seed, width=width).without_snapshots()
        for width in sorted({*profile.mlp_widths, profile.width})
        for seed in profile.seeds
    }
    families = {"VGG": _family(profile, profile.vgg), "ResNet": _family(profile, profile.resnet)}
    return {"MLP": mlps, **families}


def _split_data(profile: Profile) -> dict[str, Group]:
    base = profile.split_experiment
    parts = {"A": base.with_view(part="biased a"), "B": base.with_view(part="biased b")}
    pairs = {
        (pair, name): one.with_seed(pair[name == "B"])
        for pair in profile.pairs
        for name, one in {**parts, "all data": base}.items()
    }
    minorities = {
        (minority, name): one.with_seed(index).with_view(minority=minority)
        for minority in sorted({*profile.minorities, base.view.minority})
        for index, (name, one) in enumerate(parts.items())
    }
    return {"pairs": pairs, "minorities": minorities}


def _merge_many(profile: Profile) -> dict[str, Group]:
    halves = {
        seed: profile.experiment(seed=seed)
        .without_snapshots()
        .with_view(part="random half", part_seed=seed)
        for seed in range(profile.num_halves)
    }
    singles = {seed: profile.merged_experiment(seed=seed) for seed in range(profile.num_merged)}
    return {"singles": singles, "halves": halves}


def recipes(profile: Profile) -> dict[str, Experiment]:
    """Return the trainings of the MLP that notebook 09 compares, by name; two may be alike."""
    thin, rate = profile.thin_width, profile.learning_rate
    changes = (
        (profile.width, {}),
        (profile.width // 4, {}),
        (thin, {}),
        (thin, {"learning_rate": 10 * rate}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.1}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.001}),
        (thin, {"optimizer": "sgd", "learning_rate": 0.1, "num_epochs": 1}),
    )
    return {
        name: profile.experiment(seed=0, width=width).without_snapshots().with_training(**change)
        for name, (width, change) in zip(recipe_names(profile), changes, strict=True)
    }


def recipe_names(profile: Profile) -> tuple[str, str, str, str, str, str, str]:
    """Return the seven names: wide, thin, by Adam, faster, by SGD, slower, and for one epoch."""
    wide, own, rate = profile.width, profile.thin_width, profile.learning_rate
    adam = (f"Adam {rate:g}, {units} units" for units in (wide, wide // 4, own))
    rules = (f"Adam {10 * rate:g}", "SGD 0.1", "SGD 0.001")
    return (*adam, *(f"{rule}, {own} units" for rule in rules), f"SGD 0.1, {own} units, one epoch")


def _failure_modes(profile: Profile) -> dict[str, Group]:
    recipe_networks = {
        (name, seed): one.with_seed(seed)
        for name, one in recipes(profile).items()
        for seed in profile.seeds
    }
    bases = {"BatchNorm": profile.batch_norm, "LayerNorm": profile.layer_norm}
    normed = {
        (name, seed): base.with_seed(seed)
        for name, base in bases.items()
        for seed in profile.seeds[: 2 * profile.num_normed_pairs]
    }
    return {
        "recipes": recipe_networks,
        "VGG": _family(profile, profile.mnist_vgg),
        "normed": normed,
    }


NOTEBOOKS: dict[str, Callable[[Profile], dict[str, Group]]] = {
    "00_quickstart": lambda profile: {"MLP": _mlps(profile, [profile.seed, profile.seed + 1])},
    "01_permutation_symmetries": lambda profile: {"MLP": _mlps(profile, [profile.seed])},
    "02_matching_methods": _matching_methods,
    "03_counterexample": lambda profile: {},  # its networks have four weights
    "04_loss_landscapes": _loss_landscapes,
    "05_onset_of_mode_connectivity": _onset,
    "06_model_width": _model_width,
    "07_split_data": _split_data,
    "08_merge_many": _merge_many,
    "09_failure_modes": _failure_modes,
}
