"""The linear assignment problem that every matcher solves, on the host.

lapx solves it if it is installed (the extra [fast]), else SciPy. Both are exact; lapx is faster on
the similarities of unrelated networks.
"""

import numpy as np
import scipy  # loads `scipy.optimize`, which takes long, on first use
from jaxtyping import Float, Int

from rebasin_lab import checks

try:
    from lap import lapjvs
except ImportError:
    lapjvs = None
SOLVER = "SciPy" if lapjvs is None else "lapx"  # they may choose differently between equals

# A gain below this fraction of the largest possible total is rounding: for similarities computed in
# float32 and in float64, as sums of thousands of products.
FLOAT32_TIE = 1e-7
FLOAT64_TIE = 1e-12


def solve_assignment(similarity: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """The permutation that maximises the total similarity between units of A and of B.

    The linear assignment step of Ainsworth et al. 2022, Algorithm 1; exact. Subtracting extremes of
    rows, then of columns, changes no result but makes the solver faster.

    Args:
        similarity: row i is a unit of A, column j a unit of B.

    Returns:
        `permutation` with `permutation[i] = j`: unit j of B goes to slot i.

    Raises:
        ValueError: if it is no square matrix, or an entry is NaN or infinite.
    """
    shape = getattr(similarity, "shape", ())
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            "Expected similarity to be a square matrix; got "
            f"{checks.shortened(similarity)} in solve_assignment."
        )
    if not similarity.size:
        return np.arange(0)
    if not np.isfinite(similarity).all():
        raise ValueError("Expected finite similarities; got NaN or infinite ones.")
    cost = similarity.max(axis=1, keepdims=True) - similarity
    cost -= cost.min(axis=0)
    if lapjvs is not None:
        return lapjvs(cost, return_cost=False)[1].astype(np.int64)
    return scipy.optimize.linear_sum_assignment(cost)[1]


def total_similarity(
    similarity: Float[np.ndarray, "n n"], permutation: Int[np.ndarray, " n"]
) -> float:
    """The sum over i of similarity[i, permutation[i]]."""
    return float(similarity[np.arange(permutation.size), permutation].sum(dtype=np.float64))
