"""The linear assignment step every matcher ends in; solved on the host by SciPy."""

import numpy as np
import scipy.optimize
from jaxtyping import Float, Int


def solve_assignment(similarity: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """The permutation that maximises the total similarity between units of A and of B.

    The linear assignment problem of Ainsworth et al. 2022, Algorithm 1; exact. Subtracting the
    extremes of rows, then of columns, changes no answer but leaves SciPy less to search.

    Args:
        similarity: row i is a unit of A, column j a unit of B.

    Returns:
        `permutation` with `permutation[i] = j`: unit j of B goes to slot i.
    """
    cost = similarity.max(axis=1, keepdims=True, initial=-np.inf) - similarity
    cost -= cost.min(axis=0, initial=np.inf)
    _, permutation = scipy.optimize.linear_sum_assignment(cost)
    return permutation


def total_similarity(
    similarity: Float[np.ndarray, "n n"], permutation: Int[np.ndarray, " n"]
) -> float:
    """The sum over i of similarity[i, permutation[i]]."""
    return float(similarity[np.arange(permutation.size), permutation].sum(dtype=np.float64))
