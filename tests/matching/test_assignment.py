"""The assignment step against trying every permutation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rebasin_lab.matching import assignment

SIMILARITIES = st.integers(1, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (n, n), elements=st.floats(-10, 10))
)


@given(SIMILARITIES)
def test_no_permutation_is_better(similarity):
    n = len(similarity)
    permutation = assignment.solve_assignment(similarity)
    assert sorted(permutation) == list(range(n))
    best = max(
        sum(similarity[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(n))
    )
    # Six numbers below 10, added in another order.
    assert assignment.total_similarity(similarity, permutation) == pytest.approx(best, abs=1e-12)


@given(SIMILARITIES, st.randoms())
def test_total_is_the_trace_after_moving_the_columns(similarity, random):
    permutation = np.array(random.sample(range(len(similarity)), len(similarity)))
    total = assignment.total_similarity(similarity, permutation)
    assert total == pytest.approx(np.trace(similarity[:, permutation]), abs=1e-12)


def test_row_is_a_slot_of_a_and_column_a_unit_of_b():
    similarity = np.array([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    np.testing.assert_array_equal(assignment.solve_assignment(similarity), [2, 0, 1])


def test_nan_is_refused():
    with pytest.raises(ValueError, match="invalid numeric entries"):
        assignment.solve_assignment(np.full((2, 2), np.nan))
