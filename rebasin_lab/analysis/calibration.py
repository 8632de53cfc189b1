"""Whether a network is as sure as it is right: reliability curves and scores of its probabilities.

A merged network may be no more often right than those it came from, and still know better how sure
to be (Ainsworth et al. 2022, Fig. 11 and 13). Curves and scores start from logits, computed once by
`predicted_logits`, and work in float64 on the host.

Only the softmax of the logits counts. Adding a constant to a row changes nothing, so log
probabilities serve as well, with -inf for a probability of 0; and the mean of several networks'
logits is the paper's ensemble, whose probabilities are the normalised geometric mean of theirs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.special
from jaxtyping import Array, Bool, Float, Int, PyTree

from rebasin_lab import checks, datasets, metrics, pytrees


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """How often things happened that were predicted with some probability.

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
        """The curve as JSON-ready lists, as figures keep it: None in empty bins."""
        return {
            field: [None if np.isnan(value) else value for value in values.tolist()]
            for field, values in vars(self).items()
        }


@dataclasses.dataclass(frozen=True)
class CalibrationSummary:
    """What the probabilities of one network are worth on some images.

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
    """The loss that is left at the best temperature.

    Attributes:
        loss: in nats.
        temperature: the geometric mean of the two that were used; above 1 if a network is too sure.
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
        images: any number but none.

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
def reliability_curve(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    num_bins: checks.Count = 15,
    of: Literal["all classes", "top class"] = "all classes",
) -> Reliability:
    """Predicted probabilities against observed frequencies, in bins of equal width.

    Every bin has its lower edge and lacks its upper one, except the last, which has both. In the
    authors' code bins have both, and a probability on an inner edge counts twice. There a point is
    drawn over the middle of its bin, here over the mean of the probabilities in it.

    Args:
        logits: of each image; see the module on what may stand for them.
        labels: class indices.
        num_bins: the paper has 15 for CIFAR-100 and 10 for MNIST.
        of: "all classes" counts every pair of an image and a class, true if it is its class
            (Ainsworth et al. 2022, Fig. 11 and 13), so that most pairs are in the first bin. "top
            class" counts the likeliest class of each image, the usual curve of confidences; of
            equals it is the first.

    Raises:
        ValueError: if there is not one label for each row of logits, of a class they have; if a row
            has no probabilities; for no bins, or another `of`.
    """
    logits, labels = _checked(logits, labels)
    probabilities, is_true = np.exp(_log_probabilities(logits)), _is_class(logits, labels)
    if of == "top class":
        top = logits.argmax(axis=1)[:, None]
        probabilities, is_true = (
            np.take_along_axis(values, top, axis=1) for values in (probabilities, is_true)
        )
    bins = functools.partial(np.histogram, probabilities, bins=num_bins, range=(0, 1))
    count, edges = bins()
    sums = (bins(weights=weights.astype(float))[0] for weights in (probabilities, is_true))
    # Where nothing was counted, 0 / 0 is the NaN that is meant.
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
    """How far confidence and accuracy lie apart, on average over images; in [0, 1].

    The mean of |confidence - frequency| over the bins of the "top class" curve, weighted by their
    counts. The paper draws curves and has no such number; this is the usual one (Guo et al. 2017,
    arXiv 1706.04599, section 2). It is never quite 0: on n images a perfectly calibrated network
    is left with up to sqrt(num_bins / n) / 2, on average over draws of labels.

    Args:
        logits: of each image.
        labels: class indices.
        num_bins: of equal width on [0, 1].

    Raises:
        ValueError: as `reliability_curve`.
    """
    logits, labels = _checked(logits, labels)
    curve = reliability_curve(logits, labels, num_bins=num_bins, of="top class")
    gaps = curve.count * np.abs(curve.confidence - curve.frequency)
    return float(np.nansum(gaps) / curve.count.sum())


def negative_log_likelihood(
    logits: Float[Array | np.ndarray, "n classes"], labels: Int[Array | np.ndarray, " m"]
) -> float:
    """The mean of -log p(label), in nats: what `evaluate` calls loss.

    It is infinite if a label was given the probability 0.

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
    """The mean squared distance from the probabilities to the truth as 0 and 1.

    Summed over classes, as Brier did (1950): 0 if always sure and right, 2 if sure and wrong.

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
    """All scores of logits that are there already, those of an ensemble for instance.

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

    That changes how sure a network is, and never which class it names (temperature scaling, Guo et
    al. 2017, arXiv 1706.04599, section 4.2). `tempered_loss` says which temperature is the best.

    Args:
        logits: of each image.
        temperature: above 1 makes it less sure.
    """
    return _log_probabilities(np.asarray(logits, np.float64) / temperature)


def tempered_loss(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Int[Array | np.ndarray, " m"],
    *,
    seed: checks.Seed = 0,
) -> TemperedLoss:
    """The loss of a network made as sure as it should be, see `with_temperature`.

    The images are divided into halves that hold every class, see `datasets.stratified_parts`, and
    each image has the temperature that is best on the other half. It is a measuring device, not a
    recipe: the temperatures are fitted on the images measured on.

    Args:
        logits: of each image; multiplying them by a number changes the temperature, not the loss.
        labels: class indices.
        seed: of the halves.

    Returns:
        The mean over all images, and the temperature: 1 if all give the same loss, which may be
        infinite.

    Raises:
        ValueError: as `reliability_curve`; for fewer than two images.
    """
    logits, labels = _checked(logits, labels)
    if len(labels) < 2:
        raise ValueError(
            f"Expected two images or more, to fit on one and measure on another; got {len(labels)}."
        )
    gaps = logits.max(axis=1, keepdims=True) - logits  # whatever was added to a row drops out
    of_label = gaps[np.arange(len(labels)), labels]
    leads = np.where(gaps > 0, gaps, np.inf).min(axis=1)
    leads = leads[np.isfinite(leads)]
    if not leads.size or np.isinf(of_label).any():
        return TemperedLoss(negative_log_likelihood(logits, labels), 1.0)

    def loss_at(factor: float, rows: np.ndarray) -> float:  # at the temperature 1 / factor
        log_sums = scipy.special.logsumexp(-factor * gaps[rows], axis=1)
        return float((log_sums + factor * of_label[rows]).mean())

    def best_factor(rows: np.ndarray) -> float:
        # At most exp(3) for a usual lead of 1 over the next class: where all answers are right no
        # factor is the best, and a mistake on the other half costs in proportion to it.
        unit = np.median(leads)
        found = scipy.optimize.minimize_scalar(
            lambda log: loss_at(math.exp(log) / unit, rows), bounds=(-9, 3), method="bounded"
        )
        return math.exp(found.x) / unit

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
    """All scores of one network.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params: the parameters.
        images: what to evaluate on.
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
    """The truth: which of the pairs of an image and a class go together."""
    return np.arange(logits.shape[1])[None] == labels[:, None]


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as NumPy arrays, logits in float64, if they go together."""
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
    return logits, labels
