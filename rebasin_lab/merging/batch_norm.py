"""Re-estimated running statistics of BatchNorm for a merged model (A.4)."""

import functools
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from rebasin_lab import checks, metrics, pytrees
from rebasin_lab.merging.averaging import mean_of, replaced


@runtime_checkable
class HasStatistics(Protocol):
    """The part of a model that `reestimate_statistics` needs: `models.Model` has it. Hashable."""

    @property
    def statistics_paths(self) -> frozenset[str]:
        """The paths of the leaves that are no weights but running statistics."""

    def apply_training(self, params: PyTree, images: Array) -> tuple[Array, PyTree]:
        """Logits, and the parameters with the statistics of this batch of images in them."""


@checks.arguments
def reestimate_statistics(
    model: HasStatistics,
    params: PyTree,
    images: Float[Array | np.ndarray, "n h w c"],
    *,
    batch_size: checks.Count = 500,
    num_batches: checks.Count | None = None,
) -> PyTree:
    """Return a model with re-estimated running statistics; its weights are unchanged.

    What units respond to in the mean of two models is less varied than in each of them, so the
    averaged statistics of BatchNorm are wrong (Ainsworth et al. 2022, A.4). Here each statistic
    becomes its mean over batches, in float64. As in the paper, that leaves out of a variance how
    the means of batches differ from each other, a share of about 1 / batch_size if images come in
    random order.

    Args:
        model: has `apply_training` and `statistics_paths`, as a `Model`; without any statistics,
            `params` come back as they are.
        params: the model's parameters, statistics among them; those are not looked at.
        images: to measure on, in random order; the training set, best of all.
        batch_size: images per forward pass, fewer where one of its arrays would fill the memory.
            What is left over at the end is not used, unless it is all there is.
        num_batches: use the first so many batches at most; all by default. The paper takes 100 of
            1,000 images, of which its moving average remembers the last ten or so.

    Raises:
        ValueError: for no images, sizes below 1, or parameters without the model's statistics.
    """
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
