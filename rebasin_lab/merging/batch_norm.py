"""Re-estimated running statistics of BatchNorm for a merged model (A.4)."""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from rebasin_lab import checks, metrics, pytrees
from rebasin_lab.layers import statistics
from rebasin_lab.merging.averaging import mean_of, replaced


@runtime_checkable
class HasStatistics(Protocol):
    """The part of `models.Model` that `reestimate_statistics` needs; hashable."""

    @property
    def statistics_paths(self) -> frozenset[str]:
        """The paths of the leaves that are running statistics."""

    def apply_training(self, params: PyTree, images: Array) -> tuple[Array, PyTree]:
        """Logits, and the parameters with the statistics of this batch of images."""


@checks.arguments
def reestimate_statistics(
    model: HasStatistics | Callable,
    params: PyTree,
    images: Float[Array | np.ndarray, "n ..."],
    *,
    batch_size: checks.Count = 500,
    num_batches: checks.Count | None = None,
) -> PyTree:
    """Return a model with re-estimated running statistics; its weights are unchanged.

    Activations of the mean of two models vary less than those of each, so the averaged statistics
    of BatchNorm are wrong (Ainsworth et al. 2022, A.4). Here each statistic becomes its mean over
    batches, in float64. As in the paper, a variance lacks the variance of the batch
    means, a share of about 1 / batch_size if images are in random order.

    Of a plain function, layer by layer, each mean and variance becomes that of all images, as the
    layers before it, measured anew, hand them on. Its statistics are known by their names, see
    `pytrees.running_statistics`.

    Args:
        model: has `apply_training` and `statistics_paths`, like a `Model`; or any function
            `apply_fn(params, images)` of JAX, in evaluation mode. For one without statistics
            `params` are returned.
        params: the model's parameters; the present statistics have no influence.
        images: to measure on, in random order; best the training set.
        batch_size: images per forward pass, fewer where one of its arrays would fill the memory.
            An incomplete last batch is not used, unless it is the only one.
        num_batches: use at most the first `num_batches` batches; all by default. The paper takes
            100 of 1,000 images, of which its moving average weighs about the last ten.

    Raises:
        ValueError: for no images, sizes below 1, or parameters without the model's statistics.
    """
    if not isinstance(model, HasStatistics):
        found = statistics.measured_statistics(
            model, params, images, batch_size=batch_size, num_batches=num_batches
        )
        return replaced(params, found) if found else params
    if not model.statistics_paths:
        return params
    params = pytrees.as_arrays(params)
    images = metrics.checked_array(images, "images to measure statistics on")
    if missing := sorted(model.statistics_paths - pytrees.flatten(params).keys()):
        raise ValueError(
            f"Expected the statistics of the model among its parameters; '{missing[0]}' is "
            f"missing, {len(missing)} in all. Are these parameters of another model?"
        )
    pytrees.check_arrays(params, "params")
    batch_size = metrics.batch_size_for(model.apply_training, params, images, most=batch_size)
    most = max(1, len(images) // batch_size)
    num_batches = most if num_batches is None else min(num_batches, most)
    measured = (
        _batch_statistics(model, params, images[start : start + batch_size])
        for start in range(0, num_batches * batch_size, batch_size)
    )
    mean = mean_of(measured, [1.0] * num_batches)
    return replaced(params, mean)


@functools.partial(jax.jit, static_argnames="model")
def _batch_statistics(model: HasStatistics, params: PyTree, images: Array) -> dict[str, Array]:
    _, measured = model.apply_training(params, images)
    return {p: leaf for p, leaf in pytrees.flatten(measured).items() if p in model.statistics_paths}
