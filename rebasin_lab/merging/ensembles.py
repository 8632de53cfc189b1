"""Ensembles, the comparison for a merged model: every network is evaluated."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from rebasin_lab import checks, metrics

Combination = Literal["log_probabilities", "probabilities", "outputs"]
OTHER_OUTPUTS = "Write combine='outputs' for the mean of outputs, as of a regression."


@checks.arguments
def ensemble(
    apply_fn: Callable, combine: Combination = "log_probabilities"
) -> Callable[[Sequence[PyTree], Array], Array]:
    """A function of several models and images that returns their combined outputs.

    It is an `apply_fn` with a list of models in place of the parameters:
    `evaluate(ensemble(model.apply), [params_1, params_2], images, labels)`. The same arguments give
    the same object, so nothing is compiled twice.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure and hashable.
        combine: "log_probabilities" takes the mean of log-probabilities, normalised again: the
            geometric mean of probabilities, as the paper does (Fig. 5, 11, 13). "probabilities"
            takes the mean of probabilities, the usual deep ensemble. Both give log-probabilities
            of classes. "outputs" takes the mean of the outputs, for example of a regression.

    Raises:
        ValueError: for another combination. The returned function raises one for no models, and
            for outputs that are no logits of two classes or more.
    """
    metrics.check_function(apply_fn, "apply_fn", ("params", "images"))
    return _ensemble(apply_fn, combine)


@functools.lru_cache(maxsize=256)
def _ensemble(apply_fn: Callable, combine: Combination) -> Callable:
    @checks.arguments
    def apply_all(
        networks: Sequence[PyTree], images: Shaped[Array | np.ndarray, "batch ..."]
    ) -> PyTree:
        if not len(networks):
            raise ValueError("Expected at least one network in an ensemble; got none.")
        outputs = [apply_fn(params, images) for params in networks]
        if combine == "outputs":
            return jax.tree.map(lambda *each: jnp.stack(each).mean(axis=0), *outputs)
        metrics.check_logits(outputs[0], OTHER_OUTPUTS)
        if outputs[0].shape[-1] < 2:
            raise ValueError(
                f"Expected logits of two classes or more; got outputs of shape {outputs[0].shape}. "
                f"{OTHER_OUTPUTS}"
            )
        each = jnp.stack([jax.nn.log_softmax(logits) for logits in outputs])
        if combine == "log_probabilities":
            return jax.nn.log_softmax(each.mean(axis=0))
        return jax.nn.logsumexp(each, axis=0) - math.log(len(networks))

    return apply_all
