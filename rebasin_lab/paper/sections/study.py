"""A study: all that a section needs to measure, with or without a notebook around it."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, models, progress, symmetry
from rebasin_lab.datasets import registry
from rebasin_lab.paper import store, train_many
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import rounding
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.record import Column, Table

History = Mapping[str, Sequence[float]]  # metric -> its value after each epoch


def params_of(network: store.Trained, epoch: int | None = None) -> PyTree:
    """Return the parameters of a network after an epoch, the last by default.

    Of a data set that a package ships, as at `quick`, those in between the first and the last are
    rounded, see `rounding`.
    """
    if epoch is None or epoch == network.experiment.train.num_epochs:
        return network.params
    params = network.params_after(epoch)
    is_in_kits = network.experiment.dataset in registry.EMBEDDED
    return rounding.rounded(params) if epoch and is_in_kits else params


def learned_part(network: store.Trained, epoch: int | None = None) -> PyTree:
    """Return the learned part of a network: its parameters minus those it started from.

    Args:
        network: from the store.
        epoch: after which its parameters are taken, the last by default.
    """
    return jax.tree.map(np.subtract, params_of(network, epoch), network.params_after(0))


def spec_of(network: store.Trained, data: datasets.Dataset) -> symmetry.PermutationSpec:
    """Return the symmetries of a network, which an image of its data gives its shapes."""
    return symmetry.infer_permutation_spec(
        network.model.apply, network.params, data.test_images[:1]
    )


def quality_table(
    histories: Mapping[str, Sequence[History]],
    *metrics: str,
    corner: str,
    digits: int | None = None,
) -> Table:
    """Return how well networks are trained, at the end of their histories.

    Args:
        histories: of the networks of a row, by the row's name.
        *metrics: of a history: "train_loss", "test_loss" (nats) or "test_accuracy" (a fraction).
        corner: heading of the names.
        digits: of losses, after the point.
    """

    def column(metric: str) -> Column:
        scale, unit, after = (1, "nats", digits) if "loss" in metric else (100, "%", None)
        cells = [[scale * one[metric][-1] for one in each] for each in histories.values()]
        return Column(metric.replace("_", " "), unit, cells, digits=after)

    return Table([*histories], [*map(column, metrics)], corner)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """A section at work, at the sizes of a profile.

    Attributes:
        notebook: the section's name, which is its notebook's, without ending.
        profile: overrides included.
        trainings: the networks that it trains, by group and key.
        num_jobs: processes that train at once.
        progress_style: of progress bars.
    """

    notebook: str
    profile: Profile
    trainings: Mapping[str, Group]
    num_jobs: int = 1
    progress_style: progress.Style = "lines"

    @functools.cached_property
    def data(self) -> datasets.Dataset:
        """The data set of the profile."""
        return datasets.load_dataset(self.profile.dataset)

    @functools.cached_property
    def model(self) -> models.Model:
        """The MLP of the profile."""
        return self.profile.experiment(seed=0).build_model(self.data)

    @checks.arguments
    def train(self, group: str) -> dict[Any, store.Trained]:
        """Return the networks of a group by key, those that are not stored yet trained first.

        Args:
            group: a name in `trainings`; it is empty where the profile has none of its networks.
        """
        checks.choice("a group of networks", group, self.trainings, self.notebook)
        experiments = self.trainings[group]
        trained = train_many.train_all(
            [*experiments.values()], num_jobs=self.num_jobs, style=self.progress_style
        )
        return dict(zip(experiments, trained, strict=True))

    @contextlib.contextmanager
    def bar(self, total: int, description: str) -> Iterator[Any]:
        """Yield a progress bar in this study's style; see `progress.progress_bar`."""
        with progress.progress_bar(total, description, style=self.progress_style) as bar:
            yield bar
            # Results that are read back never move it, and JupyterLab would keep it, in red.
            bar.total = bar.n
