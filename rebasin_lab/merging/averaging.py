"""Means of models, parameter by parameter."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, metrics, pytrees

# A network by path, or a sum of networks; NumPy makes scalars of sums of leaves without axes.
Arrays = Mapping[str, np.ndarray | np.generic]


@checks.arguments
def average(networks: Sequence[PyTree], weights: Sequence[float] | None = None) -> PyTree:
    """The mean of models, parameter by parameter, summed in float64.

    Args:
        networks: at least one, all of one architecture, in arrays of NumPy, JAX or PyTorch.
        weights: one for each, up to a common factor; equal by default.

    Returns:
        A model with the structure and the types of the first; means of integers are rounded.

    Raises:
        ValueError: for no models, models of different architectures, or weights that are not one
            finite number for each with a sum above 0; for a mean that holds NaN.
    """
    networks = aligned_networks(networks)
    weights = [1.0] * len(networks) if weights is None else [float(weight) for weight in weights]
    if len(weights) != len(networks) or not all(map(math.isfinite, weights)):
        raise ValueError(
            f"Expected one finite weight for each of the {len(networks)} networks; got {weights}."
        )
    if not math.fsum(weights) > 0:
        raise ValueError(f"Expected weights with a sum above 0; got {weights}.")
    with np.errstate(invalid="ignore"):  # infinity - infinity, which the next check reports
        mean = replaced(networks[0], mean_of(map(pytrees.flatten, networks), weights))
    metrics.check_parameters(mean, "the mean of the networks,")
    return mean


def aligned_networks(networks: Sequence[PyTree]) -> list[PyTree]:
    """Models in the containers of the first, checked for averaging.

    Raises:
        ValueError: for no models, or models of different architectures, naming the difference.
    """
    if not len(networks):
        raise ValueError("Expected at least one network; got none.")
    aligned = []
    for index, params in enumerate(networks):
        pytrees.check_arrays(params, f"networks[{index}]")
        try:
            aligned.append(pytrees.aligned_to_combine(networks[0], params)[1])
        except ValueError as error:
            raise ValueError(
                f"With networks[0] as params_a and networks[{index}] as params_b: {error}"
            ) from error
    return aligned


def sum_of(
    networks: Iterable[Mapping], weights: Sequence[float]
) -> dict[str, np.ndarray | np.generic]:
    """The weighted sum of networks by path, in float64."""
    total: dict[str, np.ndarray | np.generic] = {}
    for params, weight in zip(networks, weights, strict=True):
        if weight == 0:
            continue  # zero times infinity is NaN
        for path, leaf in params.items():
            leaf = np.asarray(leaf)
            term = np.multiply(leaf, weight, dtype=np.promote_types(leaf.dtype, np.float64))
            if path in total:
                total[path] += term
            else:
                total[path] = term
    return total


def mean_of(
    networks: Iterable[Mapping], weights: Sequence[float]
) -> dict[str, np.ndarray | np.generic]:
    """The weighted mean of networks by path, in float64."""
    return {path: x / math.fsum(weights) for path, x in sum_of(networks, weights).items()}


def replaced(params: PyTree, arrays: Arrays) -> PyTree:
    """A model with some leaves replaced by arrays, cast to their types."""

    def replace(path: str, leaf: Any) -> Any:
        return leaf if path not in arrays else pytrees.in_type_of(leaf, arrays[path])

    return pytrees.map_with_path(replace, params)
