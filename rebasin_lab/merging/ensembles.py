"""What a merged model is compared with: all of them, asked one by one."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Combination = Literal["log_probabilities", "probabilities"]


def ensemble(
    apply_fn: Callable, combine: Combination = "log_probabilities"
) -> Callable[[Sequence[PyTree], Array], Array]:
    """A function of several models and images: log-probabilities of what they say together.

    It is used like any `apply_fn`, with a list of models in place of the parameters:
    `evaluate(ensemble(model.apply), [params_1, params_2], images, labels)`. The same arguments give
    the same object, so nothing is compiled twice.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`; pure and hashable.
        combine: "log_probabilities" takes the mean of log-probabilities, normalised again: the
            geometric mean of probabilities, as the paper does (Fig. 5, 11, 13). "probabilities"
            takes the mean of probabilities, the usual deep ensemble.

    Raises:
        ValueError: for another combination; the function, if it is given no models.
    """
    if combine not in get_args(Combination):
        raise ValueError(f"Expected combine among {get_args(Combination)}; got {combine!r}.")
    return _ensemble(apply_fn, combine)


@functools.lru_cache(maxsize=256)
def _ensemble(apply_fn: Callable, combine: Combination) -> Callable:
    def apply_all(
        networks: Sequence[PyTree], images: Float[Array | np.ndarray, "batch ..."]
    ) -> Float[Array, "batch classes"]:
        if not len(networks):
            raise ValueError("Expected at least one network in an ensemble; got none.")
        each = jnp.stack([jax.nn.log_softmax(apply_fn(params, images)) for params in networks])
        if combine == "log_probabilities":
            return jax.nn.log_softmax(each.mean(axis=0))
        return jax.nn.logsumexp(each, axis=0) - math.log(len(networks))

    return apply_all
