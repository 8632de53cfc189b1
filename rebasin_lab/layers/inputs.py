"""The inputs in a batch, whatever the caller iterates over."""

from typing import Any

import jax
import numpy as np

from rebasin_lab import pytrees


def inputs_of(batch: Any, number: int) -> tuple:
    """The inputs in a batch as a tuple; tensors of PyTorch as arrays.

    Raises:
        ValueError: for what is no array of numbers, and for a batch without examples.
    """
    inputs = pytrees.as_arrays(batch if isinstance(batch, tuple) else (batch,))
    pytrees.check_arrays(inputs, f"batch {number}")
    leaves = jax.tree.leaves(inputs)
    if not any(np.ndim(leaf) for leaf in leaves):
        raise ValueError(
            f"Expected batches of inputs, an array each or several; batch {number} holds "
            f"{leaves or 'nothing'}. Write [images] for a single batch."
        )
    if not all(map(np.size, leaves)):
        raise ValueError(f"Expected batches with at least one example; batch {number} has none.")
    return inputs
