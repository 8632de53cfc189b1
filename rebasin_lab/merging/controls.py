"""Controls of a merge: what it makes of one network alone, and of one that knows nothing.

A way of merging that may change every weight can be good for the wrong reason: it mends the first
network and has no use for the others. Where that is so, the first network beside a junk one gives
as good a merge.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, pytrees


@checks.arguments
def shuffled(params: PyTree, *, seed: checks.Seed = 0) -> PyTree:
    """A network that knows nothing: the numbers of each array in a random order.

    Each array keeps its mean and its variance. Integers and booleans stay.
    """
    rng = np.random.default_rng(seed)

    def mixed(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return rng.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape)

    return jax.tree.map(mixed, pytrees.as_arrays(params))


@checks.arguments
def controls(
    merge: Callable[[Sequence[PyTree], Sequence[float]], PyTree],
    networks: Sequence[PyTree],
    *,
    seed: checks.Seed = 0,
) -> dict[str, PyTree]:
    """Merged networks to hold a merge against, each to be measured as it is.

    Args:
        merge: `merge(networks, weights) -> params`, matching included.
        networks: two or more.
        seed: of the junk.

    Returns:
        By name: "all weight on 1", on 2 ...: ends of the line, which should be as good as the
        networks themselves; and "others shuffled": equal weights, with a junk network in place of
        each but the first. A merge that is no better than that has used nothing of the others.

    Raises:
        ValueError: for fewer than two networks.
    """
    if len(networks) < 2:
        raise ValueError(f"Expected two or more networks to merge; got {len(networks)}.")
    ones = np.eye(len(networks)).tolist()
    ends = {f"all weight on {n}": merge(networks, w) for n, w in enumerate(ones, start=1)}
    junk = [shuffled(other, seed=seed + n) for n, other in enumerate(networks[1:])]
    return ends | {"others shuffled": merge([networks[0], *junk], [1.0] * len(networks))}
