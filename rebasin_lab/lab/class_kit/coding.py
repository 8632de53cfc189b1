"""Make stored networks small: bytes in planes, and snapshots as differences of rounded weights.

A network's file is packed without loss: the first bytes of all its numbers, then the second, and so
on; the last of them, sign and exponent, repeat and compress. Snapshots of a network take six times
its room. Every run at `quick` measures them rounded (`paper.sections.rounding`), so a kit has them
rounded, as differences to the next snapshot.
"""

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.paper.sections.rounding import STEPS


def to_planes(content: bytes, width: int = 4) -> bytes:
    """Return bytes of numbers of `width` bytes in planes: all first bytes, all second ones, ..."""
    whole = len(content) // width * width
    planes = np.frombuffer(content[:whole], np.uint8).reshape(-1, width).T
    return planes.tobytes() + content[whole:]


def from_planes(content: bytes, width: int = 4) -> bytes:
    """Return what `to_planes` was given."""
    whole = len(content) // width * width
    numbers = np.frombuffer(content[:whole], np.uint8).reshape(width, -1).T
    return numbers.tobytes() + content[whole:]


def to_differences(params: PyTree, later: PyTree) -> bytes:
    """Return rounded parameters as differences to those of a later epoch, which may have any bits.

    Args:
        params: rounded.
        later: of the same shapes.
    """
    change = (_steps(params) - _steps(later)).astype("<i4")  # may wrap round, and back again
    # Small numbers of either sign become small ones without a sign: their upper bytes are zero.
    return to_planes(((change << 1) ^ (change >> 31)).astype("<i4").tobytes())


def from_differences(content: bytes, later: PyTree) -> PyTree:
    """Return the parameters that `to_differences` was given.

    Raises:
        ValueError: if these are not differences to parameters of that size.
    """
    leaves = {path: np.asarray(leaf) for path, leaf in pytrees.flatten(later).items()}
    folded = np.frombuffer(from_planes(content), "<i4")
    if folded.size != sum(leaf.size for leaf in leaves.values()):
        raise ValueError(
            f"Expected differences of {sum(leaf.size for leaf in leaves.values()):,} weights; got "
            f"{folded.size:,}."
        )
    change = (folded.view("<u4") >> 1).astype("<i4") ^ -(folded & 1)
    steps, values, start = _steps(later) + change, [], 0
    for leaf in leaves.values():
        part = steps[start : start + leaf.size].reshape(leaf.shape)
        values.append((part / STEPS).astype(np.float32))
        start += leaf.size
    return jax.tree.unflatten(jax.tree.structure(later), values)


def _steps(params: PyTree) -> np.ndarray:
    """Return all weights in a row, in steps."""
    leaves = pytrees.flatten(params).values()
    return np.concatenate([np.rint(np.ravel(leaf) * STEPS).astype(np.int32) for leaf in leaves])
