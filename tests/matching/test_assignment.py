"""The assignment step against trying every permutation, with each of its two solvers."""

import contextlib
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

each_solver = pytest.mark.parametrize("solver", ["SciPy", "lapx"])


@contextlib.contextmanager
def only(solver):
    """Solves by this one, as if lapx were installed or not."""
    if solver == "lapx":
        pytest.importorskip("lap")
    with pytest.MonkeyPatch.context() as patch:
        if solver == "SciPy":
            patch.setattr(assignment, "lapjvs", None)
        yield


@each_solver
@given(SIMILARITIES)
def test_no_permutation_is_better(solver, similarity):
    n = len(similarity)
    with only(solver):
        permutation = assignment.solve_assignment(similarity)
    assert sorted(permutation) == list(range(n))
    best = max(
        sum(similarity[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(n))
    )
    # Six numbers below 10, added in another order.
    assert assignment.total_similarity(similarity, permutation) == pytest.approx(best, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([30, 100]), st.sampled_from(["f4", "f8"]))
def test_solvers_agree(seed, n, dtype):
    similarity = np.random.default_rng(seed).standard_normal((n, n)).astype(dtype)
    found = []
    for solver in ("SciPy", "lapx"):
        with only(solver):
            found.append(assignment.solve_assignment(similarity))
    np.testing.assert_array_equal(*found)  # of random numbers, one order alone is best


@given(SIMILARITIES, st.randoms())
def test_total_is_the_trace_after_moving_the_columns(similarity, random):
    permutation = np.array(random.sample(range(len(similarity)), len(similarity)))
    total = assignment.total_similarity(similarity, permutation)
    assert total == pytest.approx(np.trace(similarity[:, permutation]), abs=1e-12)


@each_solver
def test_row_is_a_slot_of_a_and_column_a_unit_of_b(solver):
    similarity = np.array([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    with only(solver):
        np.testing.assert_array_equal(assignment.solve_assignment(similarity), [2, 0, 1])


@each_solver
def test_nothing_is_assigned_to_nothing(solver):
    with only(solver):
        assert assignment.solve_assignment(np.zeros((0, 0))).size == 0


@each_solver
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(solver, value):
    similarity = np.eye(3)
    similarity[1, 2] = value
    with only(solver), pytest.raises(ValueError, match="finite similarities; got NaN or infinite"):
        assignment.solve_assignment(similarity)


@each_solver
def test_similarity_is_left_as_it_is(solver):
    similarity = np.random.default_rng(0).standard_normal((5, 5))
    similarity.flags.writeable = False
    with only(solver):
        assignment.solve_assignment(similarity)
