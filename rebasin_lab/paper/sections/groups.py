"""Groups of networks that a section trains, by key: a seed, or a width and a seed."""

from collections.abc import Sequence
from typing import Any

from rebasin_lab.paper.networks import ConvolutionalFamily, Experiment
from rebasin_lab.paper.profiles import Profile

Group = dict[Any, Experiment]


def mlps(profile: Profile, seeds: Sequence[int] | None = None) -> Group:
    """Return a profile's MLPs by seed, those of all its pairs by default."""
    seeds = profile.seeds if seeds is None else seeds
    return {seed: profile.experiment(seed=seed) for seed in seeds}


def family(profile: Profile, of: ConvolutionalFamily | None, *, widest: bool = False) -> Group:
    """Return the networks of a family by width and seed; none without a family."""
    if not of:
        return {}
    return {
        (width, seed): of.experiment(width=width, seed=seed)
        for width in ([max(of.widths)] if widest else of.widths)
        for seed in profile.seeds[: 2 * of.num_pairs]
    }


def with_seeds(base: Experiment | None, seeds: Sequence[int]) -> Group:
    """Return one recipe with several seeds, by seed; none without a recipe."""
    return {seed: base.with_seed(seed) for seed in seeds} if base else {}
