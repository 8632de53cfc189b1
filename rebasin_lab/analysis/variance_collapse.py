"""Variance collapse: the standard deviation of activations on the line between two networks.

Activations of the mean of two networks vary less than those of each, the less similar the averaged
units are, and the effect adds up over layers (Ainsworth et al. 2022, A.4; Jordan et al. 2023).
`activation_std` measures it in one network, `walk_line` on the whole line, with the running
statistics of BatchNorm averaged like weights or re-estimated at every point.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from rebasin_lab import checks, datasets, merging, metrics, pytrees
from rebasin_lab.analysis import interpolation
from rebasin_lab.symmetry import Activations, PermutationSpec, trace_activations

BATCH_SIZE = 500  # images per forward pass at most: all activations are held at once


@dataclasses.dataclass(frozen=True, eq=False)
class LineWalk:
    """The line from A to B, with the standard deviations of activations.

    Attributes:
        curve: loss and accuracy.
        layers: names of the activations of `trace_activations`, in order of computation.
        std: their standard deviations, see `activation_std`.
    """

    curve: interpolation.InterpolationCurve
    layers: tuple[str, ...]
    std: Float[np.ndarray, "lambdas layers"]

    @property
    def relative_std(self) -> Float[np.ndarray, "lambdas layers"]:
        """The standard deviation divided by its linear interpolation between the two ends.

        NaN for a layer whose activations do not vary at both ends.
        """
        lambdas = self.curve.lambdas[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.std / ((1 - lambdas) * self.std[0] + lambdas * self.std[-1])


@checks.arguments
def activation_std(
    activations: Activations, params: PyTree, images: Float[Array | np.ndarray, "n h w c"]
) -> dict[str, float]:
    """The root of the mean variance of units, for each activation.

    The variance of a unit is over images and pixels; the mean is over units.

    Args:
        activations: of `trace_activations`.
        params: of the traced function.
        images: the inputs.

    Raises:
        ValueError: for no images, or parameters that do not fit.
    """
    params = pytrees.checked_arrays(params)
    images, _ = metrics.checked_images(
        activations.apply_fn, params, images, name="images to respond to"
    )
    size = metrics.batch_size_for(activations.apply_fn, params, images, most=BATCH_SIZE, num_kept=1)
    means, squares = {}, {}
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        share = len(batch) / len(images)
        for name, (mean, variance) in _moments(activations, params, batch).items():
            mean, variance = (np.asarray(moment, np.float64) for moment in (mean, variance))
            means[name] = means.get(name, 0.0) + share * mean
            squares[name] = squares.get(name, 0.0) + share * (variance + mean**2)
    # For a unit that never varies rounding may leave a negative variance.
    return {
        name: float(np.sqrt(np.maximum(squares[name] - means[name] ** 2, 0.0).mean()))
        for name in activations.axes
    }


@checks.arguments
def walk_line(
    model: Any,
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    data: datasets.Dataset,
    *,
    images: Float[Array | np.ndarray, "n h w c"],
    num_lambdas: checks.Points = 25,
    statistics_from: Float[Array | np.ndarray, "m h w c"] | None = None,
    loss_fn: Callable | None = None,
    on_point: Callable[[], None] | None = None,
) -> LineWalk:
    """Evaluate the line from A to B, and the standard deviations of activations on it.

    Args:
        model: the architecture of both, a `Model` or anything else with an `apply`.
        spec: of the model, for the activations.
        params_a: the model at lambda = 0.
        params_b: the model at lambda = 1; permute it first to walk modulo permutation.
        data: the images for loss and accuracy.
        images: the inputs for activations.
        num_lambdas: equally spaced points, both ends included.
        statistics_from: images on which running statistics are re-estimated at every point, see
            `reestimate_statistics`; by default they are averaged like weights.
        loss_fn: another loss than cross-entropy in nats, see `metrics`.
        on_point: called after each point, for progress.

    Raises:
        ValueError: as `interpolation_curve` and `activation_std`.
    """
    if not callable(getattr(model, "apply", None)):
        raise ValueError(
            f"Expected model to have a method apply; got {checks.shortened(model)} in walk_line. "
            "Take one from build_model."
        )
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    splits = metrics.checked_data(model.apply, params_a, data, loss_fn=loss_fn)
    metrics.check_parameters(params_b, "params_b")
    images, _ = metrics.checked_images(model.apply, params_a, images, name="images to respond to")
    if statistics_from is not None:
        statistics_from = metrics.checked_array(statistics_from, "statistics_from")
    activations = trace_activations(model.apply, spec, params_a, images[:BATCH_SIZE])
    splits = jax.device_put(splits)
    lambdas, measured, stds = np.linspace(0, 1, num_lambdas), [], []
    for lam in lambdas:
        params = pytrees.lerp(float(lam), params_a, params_b)
        if statistics_from is not None:
            params = merging.reestimate_statistics(model, params, statistics_from)
        measured.append(interpolation.measure_splits(model.apply, params, splits, loss_fn=loss_fn))
        stds.append(activation_std(activations, params, images))
        if on_point is not None:
            on_point()
    curve = interpolation.curve_of(lambdas, measured, loss_fn=loss_fn)
    layers = tuple(activations.axes)
    std = np.array([[at_point[layer] for layer in layers] for at_point in stds])
    return LineWalk(curve, layers, std)


@functools.partial(jax.jit, static_argnames="activations")
def _moments(
    activations: Activations, params: PyTree, images: Array
) -> dict[str, tuple[Array, Array]]:
    """Mean and variance of every unit on a batch."""
    values = activations.compute(params, images)
    summed = {
        name: tuple(axis for axis, unit in enumerate(units) if unit is None)
        for name, units in activations.axes.items()
    }
    return {name: (x.mean(summed[name]), x.var(summed[name])) for name, x in values.items()}
