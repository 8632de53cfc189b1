"""Networks in the middle of their training, at 16 bits a weight.

They take most of the room of the store, six of them to one network, and a class of thirty gets
those of `quick` in a file (`lab.class_kit`). So every run at `quick`, with a file or without,
measures them rounded: then both print the same numbers. Other profiles keep every bit. Rounding
moves a loss by less than is printed; but a matcher that stands between two orders may take the
other one, which moves a barrier.
"""

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees

# Per unit of weight. As fine as float16 where most weights of the lab's MLPs lie, 1/32 to 1/16, and
# a bit a weight smaller when packed.
STEPS = 2.0**15

_MOST = 2**31 - 1  # of steps, in 32 bits


def rounded(params: PyTree) -> PyTree:
    """Return parameters rounded to multiples of `1 / STEPS`, in float32.

    Raises:
        ValueError: for parameters that are not float32, not finite, or of 65,536 and more.
    """
    for path, leaf in pytrees.flatten(params).items():
        if leaf.dtype != np.float32:
            raise ValueError(f"Expected '{path}' to be float32, to be rounded; got {leaf.dtype}.")
        if not np.all(np.abs(np.asarray(leaf)) < _MOST / STEPS):  # not a number, too
            raise ValueError(f"Expected '{path}' to hold numbers below {_MOST / STEPS:,.0f}.")
    # Adding 0 leaves no -0, which is another key in the cache.
    values = jax.tree.map(lambda leaf: np.rint(np.asarray(leaf) * STEPS) / STEPS + 0.0, params)
    return jax.device_put(jax.tree.map(np.float32, values))
