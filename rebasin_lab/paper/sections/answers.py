"""What networks say of images: log-probabilities, scores of them, and ensembles."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
from jaxtyping import Float, PyTree

from rebasin_lab import datasets
from rebasin_lab.analysis import calibration

SPLITS = ("train", "test")
NUM_BINS = 10  # of Fig. 13

METRICS = {
    "loss": "test loss (nats)",
    "tempered": "test loss, tempered (nats)",
    "error": "test error (%)",
    "ece": "calibration error (ECE)",
}

LogProbs = Float[np.ndarray, "_ classes"]  # of images
Ways = Mapping[str, Sequence[LogProbs]]  # way of using networks -> what each says


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is said of all images of a split, scored.

    Attributes:
        loss: cross-entropy, nats.
        tempered: the same after one temperature for all logits, the best for one half of the
            images used on the other and the other way round, nats.
        accuracy: % that are right.
        ece: expected calibration error of the top class, a fraction.
    """

    loss: float
    tempered: float
    accuracy: float
    ece: float

    @property
    def error(self) -> float:
        """The % that are wrong."""
        return 100 - self.accuracy


def log_probs(
    apply_fn: Callable, params: PyTree, data: datasets.Dataset, split: str = "test"
) -> LogProbs:
    """Return the log-probability of every class for all images of a split."""
    images, _ = _split(data, split)
    return as_log_probs(calibration.predicted_logits(apply_fn, params, images))


def as_log_probs(logits: Float[np.ndarray, "_ classes"]) -> LogProbs:
    """Return log-probabilities in float64."""
    return scipy.special.log_softmax(logits.astype(float), axis=1)


def ensemble(each: Sequence[LogProbs]) -> LogProbs:
    """Return what several networks say together: `rl.ensemble` of answers at hand."""
    return scipy.special.log_softmax(np.mean(each, axis=0), axis=1)


def score_all(ways: Ways, data: datasets.Dataset, split: str = "test") -> dict[str, list[Scores]]:
    """Return the scores of every answer, by name."""
    _, labels = _split(data, split)
    return {way: [_score(one, labels) for one in each] for way, each in ways.items()}


def mean(scores: Sequence[Scores]) -> Scores:
    """Return the mean of several scores, field by field."""
    rows = [dataclasses.astuple(one) for one in scores]
    return Scores(*map(float, np.mean(rows, axis=0)))


def reliability(
    each: Sequence[LogProbs], data: datasets.Dataset, split: str = "test"
) -> dict[str, Any]:
    """Return the curve of Fig. 13 as numbers; answers of several networks are pooled."""
    _, labels = _split(data, split)
    pooled = np.concatenate(each), np.tile(labels, len(each))
    return calibration.reliability_curve(*pooled, num_bins=NUM_BINS).as_numbers()


def panel(curves: Mapping[str, Sequence[Scores]], metric: str) -> dict[str, Any]:
    """Return one metric by number of networks; the naive mean leaves the panel at the top."""
    values = {
        way: [float(getattr(score, metric)) for score in scores] for way, scores in curves.items()
    }
    limit = 1.2 * max(max(heights) for way, heights in values.items() if way != "naive mean")
    return {"title": "", "ylabel": METRICS[metric], "curves": values, "limit": limit}


def _score(said: LogProbs, labels: np.ndarray) -> Scores:
    summary = calibration.summarise_logits(said, labels, num_bins=NUM_BINS)
    return Scores(
        loss=summary.nll,
        tempered=calibration.tempered_loss(said, labels).loss,
        accuracy=100 * summary.accuracy,
        ece=summary.ece,
    )


def _split(data: datasets.Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    if split == "train":
        return data.train_images, data.train_labels
    return data.test_images, data.test_labels
