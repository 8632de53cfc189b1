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
import functools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets
from rebasin_lab.matching.activation import batches_of
from rebasin_lab.merging.averaging import average, replaced
from rebasin_lab.merging.layers import Layer, Leaves, Values
from rebasin_lab.merging.regression import Moments
from rebasin_lab.merging.walk import Walk

WINDOW = 12  # output positions along each spatial axis of a convolution that one image gives


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
    statistics_paths: Collection[str] | None = None,
    ridge: checks.Positive = 1e-2,
    batch_size: checks.Count = 100,
    num_images: checks.Count | None = None,
    seed: checks.Seed = 0,
    on_layer: Callable[[str, float], None] | None = None,
) -> LeastSquaresResult:
    """Merge aligned networks by sequential least squares on unlabelled inputs.

    Layers are products and convolutions with a parameter that nothing else reads, outside loops and
    branches; all other parameters are means. A target is what follows a layer up to the next
    nonlinearity: after bias, running statistics, scale and shift, and after the addition to a
    residual stream. Memory holds, besides the networks, what later layers read of each parent and
    of the merged network for all inputs.

    Args:
        apply_fn: `apply_fn(params, *inputs)`, any JAX function that evaluates a network.
        networks: two or more of one architecture, aligned: see `match`.
        data: a data set, of which training images are used; or batches of inputs of one shape, each
            an array or a tuple of arrays. Smaller batches at the end are left out.
        weights: of each network in the targets, up to a common factor; equal by default.
        statistics_paths: of running statistics; by default those that their names tell, see
            `pytrees.running_statistics`.
        ridge: pulls each map to that of the mean of the weights, as a share of the mean variance
            of its inputs.
        batch_size: images of a data set per step.
        num_images: use only the first images of a data set; shuffle one that is sorted by class.
        seed: of the windows of convolutions' outputs that are looked at.
        on_layer: called after each layer with its path and the share it explains, for progress.

    Returns:
        The result. With one network, or the same network several times, it computes what that one
        does.

    Raises:
        ValueError: for no networks, networks of different architectures, weights that do not fit,
            no data, or a function without a layer to solve for.
    """
    began, cpu = time.perf_counter(), time.process_time()
    mean = average(networks, weights)
    batches = batches_of(data, batch_size, num_images, apply_fn, mean)
    walk = Walk(apply_fn, networks, weights, mean, statistics_paths, batches)
    rng, explained = np.random.default_rng(seed), {}
    for layer, targets in walk:
        walk.params, explained[layer.path] = _fitted(walk, layer, targets, ridge, rng)
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
    layer: Layer,
    targets: Sequence[Sequence[jax.Array]],
    ridge: float,
    rng: np.random.Generator,
) -> tuple[Leaves, float]:
    """Parameters with the least-squares map in this layer, and the share it explains."""
    chain = walk.chain(layer)
    towards = chain.kernel(walk.params)
    neutral = chain.neutral(walk.params)
    moments_of = jax.jit(functools.partial(_moments, layer))
    most = [max(0, length - WINDOW) for length in layer.positions]
    moments: Moments | None = None
    for front, each in zip(walk.own, targets, strict=True):
        target = sum(share * one for share, one in zip(walk.shares, each, strict=True))
        corner = [int(rng.integers(n, endpoint=True)) for n in most]
        batch = Moments(*moments_of(neutral, front, target, corner))
        if moments is None:
            moments = batch
        else:
            moments += batch
    matrix = moments.map(ridge, towards, has_shift="bias" in chain.roles)
    mean, variance = moments.mean_of(matrix), moments.variance_of(matrix)
    params = chain.with_map(neutral, matrix, mean, variance, moments.mean_out)
    return params, moments.explained(matrix)


def _moments(
    layer: Layer,
    params: Mapping[str, Any],
    front: Values,
    target: jax.Array,
    corner: Sequence[Any],
) -> tuple[Any, ...]:
    """The arguments of `Moments` for one batch."""
    [read] = layer.program.evaluate(params, front, [layer.read])
    rest = layer.target_of(params, front, 0.0)
    samples = layer.samples(read, target - rest, corner, WINDOW)
    inputs, outputs = (value.astype(jnp.float32) for value in samples)
    means = inputs.mean(axis=0, keepdims=True), outputs.mean(axis=0, keepdims=True)
    inputs, outputs = inputs - means[0], outputs - means[1]
    return (
        len(inputs),
        means[0][0],
        means[1][0],
        jnp.einsum("ngi,ngj->gij", inputs, inputs),
        jnp.einsum("ngi,ngo->gio", inputs, outputs),
        jnp.square(outputs).sum(axis=0),
    )
