"""The straight line between two models, its loss barrier, and the plane through three.

A point is `(1 - lam) A + lam B`: lam = 0 is A, lam = 1 is B. To interpolate *modulo permutation*,
pass the permuted B.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from rebasin_lab import checks, datasets, metrics, pytrees


@dataclasses.dataclass(frozen=True, eq=False)
class InterpolationCurve:
    """Loss (nats, unless it has a name) and accuracy (fraction) of models on the line from A to B.

    Attributes:
        lambdas: the points, increasing.
        train_loss: on training images; NaN or infinite where a model overflows.
        test_loss: on test images.
        train_accuracy: NaN where the loss is NaN, or where labels are no classes.
        test_accuracy: likewise.
        loss_name: of another loss than cross-entropy.

    Raises:
        ValueError: for lambdas that do not increase, or other numbers of values.
    """

    lambdas: Float[np.ndarray, " n"]
    train_loss: Float[np.ndarray, " n"]
    test_loss: Float[np.ndarray, " n"]
    train_accuracy: Float[np.ndarray, " n"]
    test_accuracy: Float[np.ndarray, " n"]
    loss_name: str | None = None

    def __post_init__(self):
        shape = np.shape(self.lambdas)
        if len(shape) != 1 or not (np.diff(self.lambdas) > 0).all() or np.isnan(self.lambdas).any():
            raise ValueError(f"Expected lambdas that increase; got {self.lambdas!r}.")
        for field, values in self._arrays().items():
            if np.shape(values) != shape:
                raise ValueError(
                    f"Expected a value of {field} for each of {shape[0]} lambdas; got "
                    f"{checks.shortened(values)}."
                )

    def as_numbers(self) -> dict[str, Any]:
        """The curve as lists for the JSON of a figure; None for values that are not finite.

        `loss_name` is included if there is one.
        """
        numbers = {field: finite_numbers(values) for field, values in self._arrays().items()}
        return numbers | ({"loss_name": self.loss_name} if self.loss_name else {})

    def _arrays(self) -> dict[str, np.ndarray]:
        return {field: values for field, values in vars(self).items() if field != "loss_name"}


def finite_numbers(values: Float[np.ndarray, "..."]) -> list:
    """An array as lists for JSON, with None for NaN and infinity."""
    return np.where(np.isfinite(values), values, None).tolist()


@checks.arguments
def interpolation_curve(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    data: datasets.Dataset,
    *,
    num_lambdas: checks.Points = 25,
    loss_fn: Callable | None = None,
    on_point: Callable[[], None] | None = None,
) -> InterpolationCurve:
    """Evaluate the line from A to B on both splits, without augmentation.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params_a: the model at lambda = 0.
        params_b: the model at lambda = 1; permute it first to interpolate modulo permutation.
        data: the images for evaluation.
        num_lambdas: equally spaced points, both ends included (the paper's figures have 25).
        loss_fn: another loss than cross-entropy in nats, see `metrics`.
        on_point: called after each point, for progress.

    Raises:
        ValueError: for models of different shapes, fewer than two points, and as `evaluate`.
    """
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    splits = metrics.checked_data(apply_fn, params_a, data, loss_fn=loss_fn)
    metrics.check_parameters(params_b, "params_b")
    lambdas = np.linspace(0, 1, num_lambdas)
    measured = measure_line(
        apply_fn,
        params_a,
        params_b,
        jax.device_put(splits),
        lambdas,
        loss_fn=loss_fn,
        on_point=on_point,
    )
    return curve_of(lambdas, measured, loss_fn=loss_fn)


def measure_line(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    splits: Mapping[str, tuple],
    lambdas: Float[np.ndarray, " n"],
    *,
    loss_fn: Callable | None,
    known: Mapping[float, dict[str, float]] | None = None,
    prepare: Callable[[PyTree], PyTree] | None = None,
    on_point: Callable[[], None] | None = None,
) -> list[dict[str, float]]:
    """Evaluate both splits at each lambda that is not `known`, `prepare`d, without checks."""
    measured = []
    for lam in lambdas:
        if known is not None and lam in known:
            measured.append(known[lam])
        else:
            params = _lerp(lam, params_a, params_b)
            if prepare is not None:
                params = prepare(params)
            measured.append(measure_splits(apply_fn, params, splits, loss_fn=loss_fn))
        if on_point is not None:
            on_point()
    return measured


def measure_splits(
    apply_fn: Callable, params: PyTree, splits: Mapping[str, tuple], *, loss_fn: Callable | None
) -> dict[str, float]:
    """Loss and accuracy of one model on both splits, by the field names of a curve."""
    measured = {}
    for split, examples in splits.items():
        loss, accuracy = metrics.measure(apply_fn, params, *examples, loss_fn=loss_fn)
        measured |= {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
    return measured


def curve_of(
    lambdas: Float[np.ndarray, " n"],
    measured: Sequence[Mapping[str, float]],
    *,
    loss_fn: Callable | None,
) -> InterpolationCurve:
    """The curve from the results of `measure_splits`; warns of losses that are not finite."""
    values = {field: np.array([at[field] for at in measured]) for field in measured[0]}
    curve = InterpolationCurve(lambdas, **values, loss_name=metrics.loss_name(loss_fn))
    for split in ("train", "test"):
        _warn_of_overflow(curve, split, "")
    return curve


def _warn_of_overflow(curve: InterpolationCurve, split: str, consequence: str) -> None:
    loss = getattr(curve, f"{split}_loss")
    bad = np.flatnonzero(~np.isfinite(loss))
    if bad.size:
        where = ", ".join(f"{curve.lambdas[i]:.3g} ({loss[i]})" for i in bad[:5])
        warnings.warn(
            f"The {split} loss is not finite at {bad.size} of {loss.size} points of the line, at "
            f"lambda {where}{', ...' if bad.size > 5 else ''}{consequence}. "
            f"{metrics.NAN_ADVICE}",
            stacklevel=5,
        )


@checks.arguments
def loss_barrier(
    curve: InterpolationCurve,
    *,
    split: Literal["train", "test"] = "test",
    baseline: Literal["mean", "chord"] = "mean",
) -> float:
    """The largest loss on the line above its two ends, in nats or the unit of the loss.

    Warns of losses that are not finite; with a NaN the barrier is NaN.

    Args:
        curve: the line.
        split: which images.
        baseline: "mean" is the largest loss minus the mean of the two ends (Ainsworth et al. 2022,
            Definition 2.2); with unequal ends it is at least half their difference. "chord" is the
            largest height above the straight line between the ends, which has no such bias.

    Raises:
        ValueError: for another split or baseline, or a curve without its two ends.
    """
    loss, lambdas = getattr(curve, f"{split}_loss"), curve.lambdas
    if lambdas.size < 2 or not (lambdas[0] == 0 and lambdas[-1] == 1):
        raise ValueError(
            "Expected a line from lambda 0 to 1, with its two ends; got lambdas "
            f"{np.array2string(lambdas, threshold=6)}."
        )
    with np.errstate(invalid="ignore"):  # infinity - infinity; a warning follows
        if baseline == "mean":
            barrier = float(loss.max() - (loss[0] + loss[-1]) / 2)
        else:
            barrier = float((loss - (1 - lambdas) * loss[0] - lambdas * loss[-1]).max())
    _warn_of_overflow(curve, split, f", and the barrier is {barrier}")
    return barrier


@dataclasses.dataclass(frozen=True, eq=False)
class LossContour:
    """Loss on the plane through three models (Ainsworth et al. 2022, Fig. 1).

    Coordinates are in units of ||B - A||, so that A is (0, 0) and B is (1, 0).

    Attributes:
        x: the grid's coordinates along B - A.
        y: its coordinates along the part of C - A orthogonal to B - A.
        loss: nats, unless it has a name; `loss[i, j]` at (x[j], y[i]).
        models: the coordinates of "A", "B" and "C".
        loss_name: of another loss than cross-entropy.
    """

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    loss: Float[np.ndarray, "ny nx"]
    models: Mapping[str, tuple[float, float]]
    loss_name: str | None = None

    def __post_init__(self):
        checks.fields(self)

    def as_numbers(self) -> dict[str, Any]:
        """The contour as lists for the JSON of a figure; None for values that are not finite.

        `loss_name` is included if there is one.
        """
        numbers = {
            "x": self.x.tolist(),
            "y": self.y.tolist(),
            "loss": finite_numbers(self.loss),
            "models": {name: list(point) for name, point in self.models.items()},
        }
        return numbers | ({"loss_name": self.loss_name} if self.loss_name else {})


@checks.arguments
def loss_contour(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    params_c: PyTree,
    images: Shaped[Array | np.ndarray, "n ..."],
    labels: Shaped[Array | np.ndarray, "m ..."],
    *,
    resolution: checks.Count = 25,
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
        images: the evaluation images.
        labels: their classes.
        resolution: points along each side.
        x_range: the paper's view, in units of ||B - A||.
        y_range: likewise.
        loss_fn: another loss than cross-entropy in nats, see `metrics`.
        on_point: called after each point, for progress.

    Raises:
        ValueError: if the three models lie on one line, a range is none, or as
            `interpolation_curve`.
    """
    for name, ends in (("x_range", x_range), ("y_range", y_range)):
        if np.shape(ends) != (2,) or not (np.isfinite(ends).all() and ends[0] < ends[1]):
            raise ValueError(
                f"Expected {name} to be two numbers, of which the first is less; got {ends!r}."
            )
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    params_c = pytrees.aligned_to_combine(params_a, params_c)[1]
    images, labels = metrics.checked_examples(apply_fn, params_a, images, labels, loss_fn=loss_fn)
    metrics.check_parameters(params_b, "params_b")
    metrics.check_parameters(params_c, "params_c")
    origin, wide_b, wide_c = (
        jax.tree.map(pytrees.widened, params) for params in (params_a, params_b, params_c)
    )
    to_b = jax.tree.map(jnp.subtract, wide_b, origin)
    to_c = jax.tree.map(jnp.subtract, wide_c, origin)
    squared_length = pytrees.inner_product(to_b, to_b)
    c_x = pytrees.inner_product(to_c, to_b) / max(squared_length, 1e-30)
    across = jax.tree.map(lambda c, b: c - c_x * b, to_c, to_b)
    c_y = np.sqrt(pytrees.inner_product(across, across) / max(squared_length, 1e-30))
    # A distance to the line within the float32 rounding of the models is zero.
    rounding = 1e-6 * np.sqrt(sum(pytrees.inner_product(p, p) for p in (params_a, params_c)))
    if not (squared_length > 0 and c_y * np.sqrt(squared_length) > rounding):
        raise ValueError("Expected three models that span a plane; these lie on one line.")
    across = jax.tree.map(lambda leaf: leaf / np.float32(c_y), across)
    images, labels = jax.device_put((images, labels))
    x, y = np.linspace(*x_range, resolution), np.linspace(*y_range, resolution)
    loss = np.empty((resolution, resolution))
    for i, j in np.ndindex(loss.shape):
        params = _plane_point(params_a, to_b, across, np.float32(x[j]), np.float32(y[i]))
        loss[i, j] = metrics.measure(apply_fn, params, images, labels, loss_fn=loss_fn).loss
        if on_point is not None:
            on_point()
    if bad := int((~np.isfinite(loss)).sum()):
        warnings.warn(
            f"The loss is not finite at {bad} of {loss.size} points of the plane. "
            f"{metrics.NAN_ADVICE}",
            stacklevel=3,
        )
    models = {"A": (0.0, 0.0), "B": (1.0, 0.0), "C": (c_x, float(c_y))}
    return LossContour(x, y, loss, models, metrics.loss_name(loss_fn))


@jax.jit
def _lerp(lam: Array, params_a: PyTree, params_b: PyTree) -> PyTree:
    return pytrees.lerp(lam, params_a, params_b)


@jax.jit
def _plane_point(params_a: PyTree, along: PyTree, across: PyTree, x: Array, y: Array) -> PyTree:
    def point(a: Array, u: Array, v: Array) -> Array:
        return pytrees.in_type_of(a, pytrees.widened(a) + x * u + y * v)

    return jax.tree.map(point, params_a, along, across)
