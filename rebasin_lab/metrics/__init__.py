"""Loss and accuracy of parameters on a set of images.

Loss is mean softmax cross-entropy in nats, or that of another `loss_fn` (see `losses`); accuracy is
the fraction correct, in [0, 1]. Both are means over labels: one per image, or as many as a network
has rows of logits, such as one per token. Images are never augmented here, as in the paper's
interpolation plots. With a `loss_fn` accuracy is NaN, unless labels are still integers of shape
`outputs.shape[:-1]`; weights count there, too.

In reading order: `losses`, `batches` (their size), `arrays`, `labels` and `inputs` (checks),
`evaluation`.
"""

from rebasin_lab.metrics.arrays import as_array, checked_array
from rebasin_lab.metrics.batches import BATCH_SIZE, batch_size_for
from rebasin_lab.metrics.evaluation import NAN_ADVICE, Metrics, evaluate, measure, total_weight
from rebasin_lab.metrics.inputs import (
    check_function,
    check_parameters,
    checked_data,
    checked_examples,
    checked_images,
)
from rebasin_lab.metrics.labels import check_logits
from rebasin_lab.metrics.losses import cross_entropy, loss_name, mean_loss, weighted_loss

__all__ = [
    "BATCH_SIZE",
    "NAN_ADVICE",
    "Metrics",
    "as_array",
    "batch_size_for",
    "check_function",
    "check_logits",
    "check_parameters",
    "checked_array",
    "checked_data",
    "checked_examples",
    "checked_images",
    "cross_entropy",
    "evaluate",
    "loss_name",
    "mean_loss",
    "measure",
    "total_weight",
    "weighted_loss",
]
