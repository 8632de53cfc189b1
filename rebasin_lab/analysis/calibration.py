"""Calibration: reliability curves and scores of predicted probabilities.

A merged network may be no more accurate than its parents and still be better calibrated (Ainsworth
et al. 2022, Fig. 11 and 13). Curves and scores take logits, computed once by `predicted_logits`,
and work in float64 on the host.

Only the softmax of the logits counts: adding a constant to a row changes nothing. So log
probabilities can be passed, with -inf for a probability of 0, or the mean of several networks'
logits, which is the paper's ensemble: the normalised geometric mean of their probabilities.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import scipy  # loads `scipy.optimize`, which takes long, on first use
from jaxtyping import Array, Bool, Float, Int, PyTree

from rebasin_lab import checks, datasets, metrics, pytrees


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """Observed frequencies of predictions, by predicted probability.

    Attributes:
        confidence: mean predicted probability in each bin; NaN in an empty one.
        frequency: fraction of the predictions in it that came true; likewise.
        count: predictions in it.
        edges: of the bins, from 0 to 1, of equal width.
    """

    confidence: Float[np.ndarray, " bins"]
    frequency: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]
    edges: Float[np.ndarray, " bins+1"]

    def as_numbers(self) -> dict[str, list[float | None]]:
        """The curve as lists for the JSON of a figure; None in empty bins."""
        return {
            field: [None if np.isnan(value) else value for value in values.tolist()]
            for field, values in vars(self).items()
        }


@dataclasses.dataclass(frozen=True)
class CalibrationSummary:
    """The scores of one network's probabilities on some images.

    Attributes:
        nll: `negative_log_likelihood`, in nats.
        ece: `expected_calibration_error`, in [0, 1].
        brier: `brier_score`, in [0, 2].
        accuracy: fraction correct.
    """

    nll: float
    ece: float
    brier: float
    accuracy: float


class TemperedLoss(NamedTuple):
    """The loss at the best temperature.

    Attributes:
        loss: in nats.
        temperature: the geometric mean of the two halves'; above 1 for an overconfident network.
    """

    loss: float
    temperature: float


@checks.arguments
def predicted_logits(
    apply_fn: Callable, params: PyTree, images: Float[Array | np.ndarray, "n h w c"]
) -> Float[np.ndarray, "n classes"]:
    """The logits of all images, in order, computed in batches.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure, compiled once per function.
        params: the parameters.
        images: at least one.

    Raises:
        ValueError: if there are no images, or not a row for each; for NaN in images or parameters.
    """
    params = pytrees.checked_arrays(params)
    images, outputs = metrics.checked_images(apply_fn, params, images)
    metrics.check_logits(outputs, "Only they have probabilities.")
    size = metrics.batch_size_for(apply_fn, params, images)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate([np.asarray(_apply(apply_fn, params, batch)) for batch in batches])


@checks.arguments
def logits_on_line(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    images: Float[Array | np.ndarray, "n h w c"],
    *,
    num_lambdas: checks.Points = 25,
) -> Float[np.ndarray, "lambdas n classes"]:
    """The logits of all images by networks at equally spaced points of the line from A to B.

    Args:
        apply_fn: as in `predicted_logits`.
        params_a: the network at lambda = 0.
        params_b: the network at lambda = 1.
        images: at least one.
        num_lambdas: points, both ends included.

    Raises:
        ValueError: as `pytrees.lerp` and `predicted_logits`.
    """
    line = (
        pytrees.lerp(lam, params_a, params_b) for lam in np.float32(np.linspace(0, 1, num_lambdas))
    )
    return np.stack([predicted_logits(apply_fn, params, images) for params in line])


@checks.renamed(of="predictions")
@checks.arguments
def reliability_curve(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    num_bins: checks.Count = 15,
    predictions: Literal["all classes", "top class"] = "all classes",
) -> Reliability:
    """Predicted probabilities against observed frequencies, in bins of equal width.

    A bin includes its lower edge and excludes its upper one, except the last, which includes both.
    In the authors' code bins include both, so a probability on an inner edge counts twice. There a
    point is drawn at the middle of its bin, here at the mean of the probabilities in it.

    Args:
        logits: of each image, or log probabilities, see the module.
        labels: class indices.
        num_bins: the paper has 15 for CIFAR-100 and 10 for MNIST.
        predictions: "all classes" counts every pair of an image and a class (Ainsworth et al. 2022,
            Fig. 11 and 13), so that most pairs are in the first bin. "top class" counts the
            likeliest class of each image, the usual curve of confidences; on a tie the first.

    Raises:
        ValueError: for labels that are not one class per row of logits; for a row without
            probabilities; for no bins, or other predictions.
    """
    logits, labels = _checked(logits, labels)
    probabilities, is_true = np.exp(_log_probabilities(logits)), _is_class(logits, labels)
    if predictions == "top class":
        top = logits.argmax(axis=1)[:, None]
        probabilities, is_true = (
            np.take_along_axis(values, top, axis=1) for values in (probabilities, is_true)
        )
    bins = functools.partial(np.histogram, probabilities, bins=num_bins, range=(0, 1))
    count, edges = bins()
    sums = (bins(weights=weights.astype(float))[0] for weights in (probabilities, is_true))
    # 0 / 0 gives the NaN of an empty bin.
    with np.errstate(invalid="ignore"):
        confidence, frequency = (total / count for total in sums)
    return Reliability(confidence, frequency, count, edges)


@checks.arguments
def expected_calibration_error(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    num_bins: checks.Count = 15,
) -> float:
    """The mean difference between confidence and accuracy over images, in [0, 1].

    The mean of |confidence - frequency| over the bins of the "top class" curve, weighted by their
    counts (Guo et al. 2017, arXiv 1706.04599, section 2); the paper has no such number. It is
    biased upwards: for a perfectly calibrated network its expectation on n images is up to
    sqrt(num_bins / n) / 2.

    Args:
        logits: of each image.
        labels: class indices.
        num_bins: of equal width on [0, 1].

    Raises:
        ValueError: as `reliability_curve`.
    """
    logits, labels = _checked(logits, labels)
    curve = reliability_curve(logits, labels, num_bins=num_bins, predictions="top class")
    gaps = curve.count * np.abs(curve.confidence - curve.frequency)
    return float(np.nansum(gaps) / curve.count.sum())


def negative_log_likelihood(
    logits: Float[Array | np.ndarray, "n classes"], labels: Int[Array | np.ndarray, " m"]
) -> float:
    """The mean of -log p(label), in nats: the loss of `evaluate`.

    It is infinite if a label has the probability 0.

    Args:
        logits: of each image.
        labels: class indices.

    Raises:
        ValueError: as `reliability_curve`.
    """
    logits, labels = _checked(logits, labels)
    return float(-_log_probabilities(logits)[np.arange(len(labels)), labels].mean())


def brier_score(
    logits: Float[Array | np.ndarray, "n classes"], labels: Int[Array | np.ndarray, " m"]
) -> float:
    """The mean squared distance from the probabilities to the one-hot labels.

    Summed over classes (Brier 1950): 0 if all labels have probability 1, 2 if all wrong ones do.

    Args:
        logits: of each image.
        labels: class indices.

    Raises:
        ValueError: as `reliability_curve`.
    """
    logits, labels = _checked(logits, labels)
    errors = np.exp(_log_probabilities(logits)) - _is_class(logits, labels)
    return float((errors**2).sum(axis=1).mean())


@checks.arguments
def summarise_logits(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    num_bins: checks.Count = 15,
) -> CalibrationSummary:
    """Compute all scores from logits, for example of an ensemble.

    Args:
        logits: of each image.
        labels: class indices.
        num_bins: of the calibration error.

    Raises:
        ValueError: as `reliability_curve`.
    """
    logits, labels = _checked(logits, labels)
    return CalibrationSummary(
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels, num_bins=num_bins),
        brier=brier_score(logits, labels),
        accuracy=float((logits.argmax(axis=1) == labels).mean()),
    )


@checks.arguments
def with_temperature(
    logits: Float[Array | np.ndarray, "n classes"], temperature: checks.Positive
) -> Float[np.ndarray, "n classes"]:
    """The log probabilities of a network whose logits are divided by a temperature.

    This changes the confidence of a network, but not its predicted class (temperature scaling, Guo
    et al. 2017, arXiv 1706.04599, section 4.2). `tempered_loss` finds the best temperature.

    Args:
        logits: of each image.
        temperature: above 1 lowers the confidence.
    """
    return _log_probabilities(np.asarray(logits, np.float64) / temperature)


def tempered_loss(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    seed: checks.Seed = 0,
) -> TemperedLoss:
    """The loss of a network at its best temperature, see `with_temperature`.

    The images are divided into stratified halves, see `datasets.stratified_parts`; on each half the
    loss is measured at the temperature that is best on the other half. It is a measurement, not a
    recipe for deployment: the temperatures are fitted on the evaluation images.

    Args:
        logits: of each image; a common factor changes the temperature, not the loss.
        labels: class indices.
        seed: of the halves.

    Returns:
        The mean loss over all images, and the temperature: 1 if all give the same loss, which may
        be infinite.

    Raises:
        ValueError: as `reliability_curve`; for fewer than two images.
    """
    logits, labels = _checked(logits, labels)
    if len(labels) < 2:
        raise ValueError(
            f"Expected two images or more, to fit on one and measure on another; got {len(labels)}."
        )
    gaps = logits.max(axis=1, keepdims=True) - logits  # a constant added to a row cancels
    label_gaps = gaps[np.arange(len(labels)), labels]
    leads = np.where(gaps > 0, gaps, np.inf).min(axis=1)
    leads = leads[np.isfinite(leads)]
    if not leads.size or np.isinf(label_gaps).any():
        return TemperedLoss(negative_log_likelihood(logits, labels), 1.0)

    def loss_at(factor: float, rows: np.ndarray) -> float:  # at the temperature 1 / factor
        log_sums = scipy.special.logsumexp(-factor * gaps[rows], axis=1)
        return float((log_sums + factor * label_gaps[rows]).mean())

    def best_factor(rows: np.ndarray) -> float:
        # At most exp(3) for a median lead of 1 over the next class: where all predictions are right
        # the loss falls with every factor, and a mistake on the other half costs in proportion.
        unit = np.median(leads)
        result = scipy.optimize.minimize_scalar(
            lambda log: loss_at(math.exp(log) / unit, rows), bounds=(-9, 3), method="bounded"
        )
        return math.exp(result.x) / unit

    halves = datasets.stratified_parts(labels, seed=seed)
    factors = [best_factor(rows) for rows in halves]
    fits = zip(factors, halves[::-1], strict=True)
    loss = sum(len(rest) * loss_at(factor, rest) for factor, rest in fits) / len(labels)
    return TemperedLoss(loss, 1 / math.sqrt(math.prod(factors)))


@checks.arguments
def calibration_summary(
    apply_fn: Callable,
    params: PyTree,
    images: Float[Array | np.ndarray, "n h w c"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    num_bins: checks.Count = 15,
) -> CalibrationSummary:
    """Compute all scores of one network.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params: the parameters.
        images: the evaluation images.
        labels: their classes.
        num_bins: of the calibration error.

    Raises:
        ValueError: as `predicted_logits` and `reliability_curve`.
    """
    logits = predicted_logits(apply_fn, params, images)
    return summarise_logits(logits, labels, num_bins=num_bins)


@functools.partial(jax.jit, static_argnames="apply_fn")
def _apply(apply_fn: Callable, params: PyTree, images: Array) -> Array:
    return apply_fn(params, images)


def _log_probabilities(
    logits: Float[np.ndarray, "n classes"],
) -> Float[np.ndarray, "n classes"]:
    return scipy.special.log_softmax(logits, axis=1)


def _is_class(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, "n classes"]:
    """The one-hot labels."""
    return np.arange(logits.shape[1])[None] == labels[:, None]


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits in float64 and labels, checked with each other."""
    logits, labels = (
        np.asarray(metrics.as_array(array, name))
        for array, name in ((logits, "logits"), (labels, "labels"))
    )
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or logits.size == 0:
        raise ValueError(
            "Expected logits of shape [images, classes], neither of them 0, and one label for each "
            f"image; got logits of shape {logits.shape} and labels of shape {labels.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected labels to be class indices; got an array of {labels.dtype}.")
    num_classes = logits.shape[1]
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise ValueError(
            f"Expected labels from 0 to {num_classes - 1}, a column of the logits each; "
            f"got {labels[wrong][0]} for image {wrong.argmax()}."
        )
    # The largest of a row is NaN if any is, +inf if any is, and -inf only if all are.
    lost = ~np.isfinite(logits.max(axis=1))
    if lost.any():
        row = lost.argmax()
        raise ValueError(
            f"Expected logits that give probabilities; got {lost.sum()} of {len(logits)} images "
            f"with NaN, +inf or nothing but -inf (image {row}: {logits[row].tolist()[:5]}, ...)."
        )
    return logits.astype(np.float64, copy=False), labels
