"""What lies between two models: the straight line, its barrier, and the plane through three.

Everything here evaluates `(1 - lam) A + lam B`: lam = 0 is A, lam = 1 is B. To interpolate *modulo
permutation*, hand in the permuted B.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from rebasin_lab import datasets, evaluation, pytrees


@dataclasses.dataclass(frozen=True, eq=False)
class InterpolationCurve:
    """Loss (nats) and accuracy (fraction) of the models on the line from A to B."""

    lambdas: Float[np.ndarray, " n"]
    train_loss: Float[np.ndarray, " n"]
    test_loss: Float[np.ndarray, " n"]
    train_accuracy: Float[np.ndarray, " n"]
    test_accuracy: Float[np.ndarray, " n"]

    def as_numbers(self) -> dict[str, list[float]]:
        """The curve as JSON-ready lists, as figures keep it."""
        return {field: values.tolist() for field, values in vars(self).items()}


def interpolation_curve(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    data: datasets.Dataset,
    *,
    num_lambdas: int = 25,
    loss_fn: Callable | None = None,
    on_point: Callable[[], None] | None = None,
) -> InterpolationCurve:
    """Evaluate the line from A to B on both splits, without augmentation.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params_a: the model at lambda = 0.
        params_b: the model at lambda = 1; permute it first to interpolate modulo permutation.
        data: the images to evaluate on.
        num_lambdas: equally spaced points, both ends included (the paper's figures have 25).
        loss_fn: another loss than cross-entropy in nats, see `evaluation`.
        on_point: called after each point, for progress.

    Raises:
        ValueError: for models of different shapes or fewer than two points.
    """
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    if num_lambdas < 2:
        raise ValueError(f"Expected at least the two ends of the line; got {num_lambdas} points.")
    evaluation.check_data(apply_fn, params_a, data, loss_fn=loss_fn)
    evaluation.check_parameters(params_b, "params_b")
    train = jax.device_put((data.train_images, data.train_labels))
    test = jax.device_put((data.test_images, data.test_labels))
    lambdas = np.linspace(0, 1, num_lambdas)
    points = []
    for lam in lambdas:
        params = _lerp(lam, params_a, params_b)
        points.append(
            [
                *evaluation.measure(apply_fn, params, *train, loss_fn=loss_fn),
                *evaluation.measure(apply_fn, params, *test, loss_fn=loss_fn),
            ]
        )
        if on_point is not None:
            on_point()
    train_loss, train_accuracy, test_loss, test_accuracy = np.array(points).T
    return InterpolationCurve(lambdas, train_loss, test_loss, train_accuracy, test_accuracy)


def loss_barrier(
    curve: InterpolationCurve,
    *,
    split: Literal["train", "test"] = "test",
    baseline: Literal["mean", "chord"] = "mean",
) -> float:
    """The height of the loss, in nats, above what the two ends promise.

    Args:
        curve: the line.
        split: which images.
        baseline: "mean" is the largest loss minus the mean of the two ends (Ainsworth et al. 2022,
            Definition 2.2); with unequal ends it is at least half their difference. "chord" is the
            largest height above the straight line between the ends, which has no such bias.

    Raises:
        ValueError: for another split or baseline.
    """
    if split not in ("train", "test"):
        raise ValueError(f"Expected split 'train' or 'test'; got {split!r}.")
    loss = curve.train_loss if split == "train" else curve.test_loss
    if baseline == "mean":
        return float(loss.max() - (loss[0] + loss[-1]) / 2)
    if baseline == "chord":
        return float((loss - (1 - curve.lambdas) * loss[0] - curve.lambdas * loss[-1]).max())
    raise ValueError(f"Expected baseline 'mean' or 'chord'; got {baseline!r}.")


@dataclasses.dataclass(frozen=True, eq=False)
class LossContour:
    """Loss on the plane through three models (Ainsworth et al. 2022, Fig. 1).

    Coordinates are in units of ||B - A||, so that A is (0, 0) and B is (1, 0).

    Attributes:
        x: the grid's coordinates along B - A.
        y: its coordinates along the part of C - A orthogonal to B - A.
        loss: nats, `loss[i, j]` at (x[j], y[i]).
        models: where "A", "B" and "C" lie.
    """

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    loss: Float[np.ndarray, "ny nx"]
    models: Mapping[str, tuple[float, float]]

    def as_numbers(self) -> dict[str, Any]:
        """The contour as JSON-ready lists, as figures keep it."""
        return {
            "x": self.x.tolist(),
            "y": self.y.tolist(),
            "loss": self.loss.tolist(),
            "models": {name: list(point) for name, point in self.models.items()},
        }


def loss_contour(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    params_c: PyTree,
    images: Shaped[Array | np.ndarray, "n ..."],
    labels: Shaped[Array | np.ndarray, "m ..."],
    *,
    resolution: int = 25,
    x_range: tuple[float, float] = (-0.4, 1.4),
    y_range: tuple[float, float] = (-0.45, 1.3),
    loss_fn: Callable | None = None,
    on_point: Callable[[], None] | None = None,
) -> LossContour:
    """Evaluate the loss on a grid in the plane through A, B and C.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params_a: the origin.
        params_b: lies at (1, 0).
        params_c: the permuted B in the paper's figure; fixes the second direction.
        images: what to evaluate on.
        labels: their classes.
        resolution: points along each side.
        x_range: the paper's view, in units of ||B - A||.
        y_range: likewise.
        loss_fn: another loss than cross-entropy in nats, see `evaluation`.
        on_point: called after each point, for progress.

    Raises:
        ValueError: if the three models lie on one line, or as `interpolation_curve`.
    """
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    params_c = pytrees.aligned_to_combine(params_a, params_c)[1]
    evaluation.check_examples(apply_fn, params_a, images, labels, loss_fn=loss_fn)
    evaluation.check_parameters(params_b, "params_b")
    evaluation.check_parameters(params_c, "params_c")
    origin, wide_b, wide_c = (
        jax.tree.map(pytrees.widened, params) for params in (params_a, params_b, params_c)
    )
    to_b = jax.tree.map(jnp.subtract, wide_b, origin)
    to_c = jax.tree.map(jnp.subtract, wide_c, origin)
    squared_length = pytrees.inner_product(to_b, to_b)
    c_x = pytrees.inner_product(to_c, to_b) / max(squared_length, 1e-30)
    across = jax.tree.map(lambda c, b: c - c_x * b, to_c, to_b)
    c_y = np.sqrt(pytrees.inner_product(across, across) / max(squared_length, 1e-30))
    # Off the line by no more than float32 rounds the models themselves is on it.
    rounding = 1e-6 * np.sqrt(sum(pytrees.inner_product(p, p) for p in (params_a, params_c)))
    if not (squared_length > 0 and c_y * np.sqrt(squared_length) > rounding):
        raise ValueError("Expected three models that span a plane; these lie on one line.")
    across = jax.tree.map(lambda leaf: leaf / np.float32(c_y), across)
    images, labels = jax.device_put((images, labels))
    x, y = np.linspace(*x_range, resolution), np.linspace(*y_range, resolution)
    loss = np.empty((resolution, resolution))
    for i, j in np.ndindex(loss.shape):
        params = _plane_point(params_a, to_b, across, np.float32(x[j]), np.float32(y[i]))
        loss[i, j] = evaluation.measure(apply_fn, params, images, labels, loss_fn=loss_fn).loss
        if on_point is not None:
            on_point()
    return LossContour(x, y, loss, {"A": (0.0, 0.0), "B": (1.0, 0.0), "C": (c_x, float(c_y))})


@jax.jit
def _lerp(lam: Array, params_a: PyTree, params_b: PyTree) -> PyTree:
    return pytrees.lerp(lam, params_a, params_b)


@jax.jit
def _plane_point(params_a: PyTree, along: PyTree, across: PyTree, x: Array, y: Array) -> PyTree:
    def point(a: Array, u: Array, v: Array) -> Array:
        return pytrees.in_type_of(a, pytrees.widened(a) + x * u + y * v)

    return jax.tree.map(point, params_a, along, across)
