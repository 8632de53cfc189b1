"""REPAIR: give every unit of a merged network the mean and deviation that it has in its parents.

Half-way between two networks a unit whose partners are not perfectly correlated varies less than
each of them, layer after layer (Jordan et al. 2023). Here each layer's output is scaled and shifted
until mean and standard deviation are those of the parents, interpolated. Networks with BatchNorm
have the same from `reestimate_statistics`; this is for any network.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets
from rebasin_lab.layers.statistics import mean_and_deviation
from rebasin_lab.layers.walk import Walk
from rebasin_lab.matching.activation import batches_of
from rebasin_lab.merging.averaging import average, replaced


@checks.arguments
def repair(
    apply_fn: Callable,
    networks: Sequence[PyTree],
    data: datasets.Dataset | Iterable[Any],
    *,
    weights: Sequence[float] | None = None,
    statistics_paths: Collection[str] | None = None,
    batch_size: checks.Count = 100,
    num_images: checks.Count | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> PyTree:
    """Return the mean of aligned networks with each unit's mean and deviation repaired.

    Jordan et al. 2023, for the pre-activations of every dense and convolution layer but those that
    make the outputs, in order: earlier layers are repaired when later ones are measured. Deviations
    aimed at are means of the parents' standard deviations, weighted, as in their code. A layer
    without a bias is scaled only.

    Args:
        apply_fn: `apply_fn(params, *inputs)`, any JAX function that evaluates a network.
        networks: one or more of one architecture, aligned: see `match`.
        data: as of `least_squares`, unlabelled.
        weights: of each network, up to a common factor: (1 - t, t) for a point on a line.
        statistics_paths: of running statistics, which become true, as of `least_squares`.
        batch_size: images of a data set per step.
        num_images: use only the first images of a data set.
        scratch: as of `least_squares`.

    Returns:
        The merged network.

    Raises:
        ValueError: as `least_squares`.
    """
    mean = average(networks, weights)
    batches = batches_of(data, batch_size, num_images, apply_fn, mean)
    walk = Walk(
        apply_fn,
        networks,
        weights,
        mean,
        statistics_paths,
        batches,
        through_streams=False,
        scratch=scratch,
    )
    for layer, targets in walk:
        if layer.target in walk.program.outputs:
            continue
        parents = [
            mean_and_deviation(layer, (each[number] for each in targets))
            for number in range(len(networks))
        ]
        means, deviations = map(np.asarray, zip(*parents, strict=True))
        wanted = np.tensordot(walk.shares, means, axes=1)
        deviation = np.tensordot(walk.shares, deviations, axes=1)
        found_mean, found = mean_and_deviation(layer, walk.own_targets())
        chain = walk.chain(layer)
        _, shift = chain.affine(walk.params)
        ratio = np.where(found > 0, deviation / np.where(found > 0, found, 1.0), 1.0)
        walk.params = chain.with_map(
            chain.neutral(walk.params),
            chain.kernel(walk.params) * ratio[..., None],
            (found_mean - shift) * ratio,
            (found * ratio) ** 2,
            wanted,
        )
    return replaced(mean, walk.params)
