"""Merge aligned networks layer by layer: each layer is the best for the features it is given.

The mean of the weights of two networks is a poor network where their features agree only in part.
Here the merged network goes forward from the inputs, and each dense or convolution layer is
replaced by the least-squares map from the features the *merged* network has so far to the mean of
what the parents compute at the same place. Where a layer writes to a residual stream, the target is
the mean stream less what is there already, so a layer corrects the errors of those before it.

No labels and no gradients are used. Weights change freely: this is a way of merging, and no
evidence about linear mode connectivity.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets
from rebasin_lab.layers.layer import Layer, Leaves
from rebasin_lab.layers.walk import Walk
from rebasin_lab.matching.activation import batches_of
from rebasin_lab.merging import sampling
from rebasin_lab.merging.averaging import average, replaced
from rebasin_lab.merging.pruning import Pruning


@dataclasses.dataclass(frozen=True, eq=False)
class LeastSquaresResult:
    """A merged network, and what it was made from.

    Attributes:
        params: of the merged network.
        explained: path of a kernel -> the share of its target's variance that its inputs explain;
            kernels that are not here are means.
        num_samples: inputs that were looked at, without labels.
        seconds: wall time.
        cpu_seconds: of all threads of this process.
    """

    params: PyTree
    explained: Mapping[str, float]
    num_samples: int
    seconds: float
    cpu_seconds: float


@checks.arguments
def least_squares(
    apply_fn: Callable,
    networks: Sequence[PyTree],
    data: datasets.Dataset | Iterable[Any],
    *,
    weights: Sequence[float] | None = None,
    size: checks.Positive | None = None,
    statistics_paths: Collection[str] | None = None,
    ridge: checks.Positive = 1e-2,
    batch_size: checks.Count = 100,
    num_images: checks.Count | None = None,
    scratch: str | os.PathLike[str] | None = None,
    seed: checks.Seed = 0,
    on_layer: Callable[[str, float], None] | None = None,
) -> LeastSquaresResult:
    """Merge aligned networks by sequential least squares on unlabelled inputs.

    Layers are products and convolutions with a parameter that nothing else reads, outside loops and
    branches; all other parameters are means. A target is what follows a layer up to the next
    nonlinearity: after bias, running statistics, scale and shift, and after the addition to a
    residual stream. Memory holds, besides the networks and the moments of one layer, what later
    layers read of each parent and of the merged network for all inputs; with `scratch` it holds
    that of one batch.

    Args:
        apply_fn: `apply_fn(params, *inputs)`, any JAX function that evaluates a network.
        networks: two or more of one architecture, aligned: see `match`.
        data: a data set, of which training images are used; or batches of inputs of one shape, each
            an array or a tuple of arrays. Smaller batches at the end are left out.
        weights: of each network in the targets, up to a common factor; equal by default.
        size: units of inner layers, as a share of those of one network: chosen by `pruning` among
            the units of all networks, which need no partners. None: each unit is the mean of the
            networks' units. With a size above 1 parameters have other shapes.
        statistics_paths: of running statistics; by default those that their names tell, see
            `pytrees.running_statistics`.
        ridge: pulls each map to that of the mean of the weights, as a share of the mean variance
            of its inputs.
        batch_size: images of a data set per step.
        num_images: use only the first images of a data set; shuffle one that is sorted by class.
        scratch: a folder for what is computed of each batch. None keeps it in memory.
        seed: of the windows of convolutions' outputs that are looked at.
        on_layer: called after each layer with its path and the share it explains, for progress.

    Returns:
        The result. With one network, or the same network several times, it computes what that one
        does.

    Raises:
        ValueError: for no networks, networks of different architectures, weights that do not fit,
            no data, or a function without a layer to solve for; for a size, a function without
            inner units, or one that is bound to its width.
    """
    began, cpu = time.perf_counter(), time.process_time()
    mean = average(networks, weights)
    batches = batches_of(data, batch_size, num_images, apply_fn, mean)
    walk = Walk(apply_fn, networks, weights, mean, statistics_paths, batches, scratch=scratch)
    pruning = Pruning(walk, apply_fn, mean, size)
    rng, explained = np.random.default_rng(seed), {}
    for layer, targets in walk:
        walk.params, explained[layer.path] = _fitted(walk, pruning, layer, targets, ridge, rng)
        if on_layer is not None:
            on_layer(layer.path, explained[layer.path])
    return LeastSquaresResult(
        params=replaced(mean, walk.params),
        explained=explained,
        num_samples=walk.num_samples,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
    )


def _fitted(
    walk: Walk,
    pruning: Pruning,
    layer: Layer,
    targets: Sequence[Sequence[jax.Array]],
    ridge: float,
    rng: np.random.Generator,
) -> tuple[Leaves, float]:
    """Parameters with the least-squares map in this layer, and the share it explains."""
    chain = walk.chain(layer)
    neutral, towards = chain.neutral(walk.params), pruning.towards(layer, chain)
    blocks = (pruning.blocks(layer, each) for each in targets)
    moments = sampling.gather(layer, neutral, walk.own, blocks, rng)
    matrix = moments.map(ridge, towards, has_shift="bias" in chain.roles)

    def with_outputs(kept: np.ndarray) -> tuple[Leaves, float]:
        some, part = moments.of_outputs(kept), matrix[:, kept]
        mean, variance = some.mean_of(part), some.variance_of(part)
        return chain.with_map(neutral, part, mean, variance, some.mean_out), some.explained(part)

    if layer.path not in pruning.writers:
        return with_outputs(np.arange(matrix.shape[1]))
    return with_outputs(pruning.choose(layer, lambda some: with_outputs(some)[0], ridge, rng))
