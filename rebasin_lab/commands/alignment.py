"""B in the order of A's units, and how far both are apart before and after."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from rebasin_lab import matching, symmetry
from rebasin_lab.commands.inputs import Inputs
from rebasin_lab.interop import Checkpoint

Method = Literal["weight", "activation"]


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """The outcome of matching one checkpoint to the first.

    Attributes:
        leaves: of B in the order of A's units, in the types of its file.
        permutation: of B.
        record: numbers for a report: units, the share of them that stay, distances.
    """

    leaves: dict[str, np.ndarray]
    permutation: Mapping[str, np.ndarray]
    record: dict[str, Any]


def align(
    inputs: Inputs,
    spec: symmetry.PermutationSpec,
    checkpoint: Checkpoint,
    method: Method,
    *,
    seed: int,
    batch_size: int,
) -> Alignment:
    """Match a checkpoint to the first one of a command.

    Args:
        inputs: of the command.
        spec: of its network.
        checkpoint: the one to move.
        method: "weight", or "activation" on the examples.
        seed: of the matching.
        batch_size: of examples.
    """
    first = inputs.checkpoints[0]
    offered: dict[str, Any] = {"ignore": inputs.statistics}
    if method == "activation":
        offered |= {
            "apply_fn": inputs.network.apply,
            "data": inputs.examples.batches(batch_size),
            "where": "summed",
        }
    result = matching.match(
        method,
        spec,
        inputs.params(first),
        inputs.params(checkpoint),
        seed=seed,
        **matching.MATCHERS[method].accepted(offered),
    )
    ours, theirs = inputs.leaves(first), inputs.leaves(checkpoint)
    moved = symmetry.apply_permutation(spec, result.permutation, theirs)
    record = {
        "method": method,
        "quantity": result.quantity,
        "objective_before": result.objective[0],
        "objective_after": result.objective[-1],
        "converged": result.converged,
        "units": sum(indices.size for indices in result.permutation.values()),
        "identity_share": identity_share(result.permutation),
        "distance_before": relative_distance(ours, theirs, inputs.statistics),
        "distance_after": relative_distance(ours, moved, inputs.statistics),
    }
    return Alignment(moved, result.permutation, record)


def identity_share(permutation: Mapping[str, np.ndarray]) -> float:
    """The fraction of units that a permutation leaves where they are."""
    kept = [np.asarray(each) == np.arange(np.shape(each)[-1]) for each in permutation.values()]
    return float(sum(map(np.sum, kept)) / sum(map(np.size, kept)))


def relative_distance(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], ignore: Collection[str] = ()
) -> float:
    """||A - B|| / sqrt((||A||^2 + ||B||^2) / 2): 0 for equal weights, 1.41 for orthogonal ones.

    Over all leaves of floats with two axes or more, as scales and biases are alike in unrelated
    networks; over all leaves of floats where there are none.
    """
    floats = [
        path
        for path, leaf in ours.items()
        if path not in ignore and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    chosen = [path for path in floats if np.ndim(ours[path]) > 1] or floats
    apart, size = [0.0], [0.0]
    for path in chosen:
        a, b = (np.asarray(each[path]).astype(np.float64) for each in (ours, theirs))
        apart.append(float(np.square(a - b).sum()))
        size.append(float(np.square(a).sum() + np.square(b).sum()))
    return math.sqrt(math.fsum(apart) / (math.fsum(size) / 2 or 1.0))
