"""Weight matching against Algorithm 1 written naively, and what its shortcuts save."""

import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees
from rebasin_lab.matching import assignment, weight


def algorithm_1(spec, params_a, params_b, seed):
    """Ainsworth et al. 2022, Algorithm 1: everything anew at every visit, all in float64."""
    a, b = (
        {path: np.asarray(leaf, np.float64) for path, leaf in pytrees.flatten(params).items()}
        for params in (params_a, params_b)
    )

    def objective(permutation):
        moved = rl.apply_permutation(spec, permutation, pytrees.unflatten(b))
        return pytrees.inner_product(pytrees.unflatten(a), moved)

    def similarity(name):
        total = 0
        for path, axis in spec.permutations[name]:
            held = b[path]
            for other, group in enumerate(spec.axes[path]):
                if group is not None and other != axis:
                    held = np.take(held, current[group], other)
            rest = [other for other in range(held.ndim) if other != axis]
            total = total + np.tensordot(a[path], held, [rest, rest])
        return total

    current, rng = rl.identity_permutation(spec, params_b), np.random.default_rng(seed)
    tolerance = weight.RELATIVE_TOLERANCE * np.sqrt(
        pytrees.inner_product(params_a, params_a) * pytrees.inner_product(params_b, params_b)
    )
    history, moved, names, visits = [objective(current)], True, list(current), 0
    while moved:
        moved = False
        for index in rng.permutation(len(names)):
            visits += 1
            candidate = current | {
                names[index]: assignment.solve_assignment(similarity(names[index]))
            }
            if objective(candidate) - history[-1] > tolerance:
                current, moved = candidate, True
            history.append(objective(current))
    return current, history, visits


def test_cached_search_is_algorithm_1(architecture, pair, seed):
    result = rl.match("weight", architecture.spec, *pair, seed=seed)
    permutation, history, _ = algorithm_1(architecture.spec, *pair, seed)
    for name, indices in permutation.items():
        np.testing.assert_array_equal(result.permutation[name], indices, err_msg=name)
    # The library multiplies in float32: 1e-7 of the norms, whose product is about 100 here.
    np.testing.assert_allclose(result.objective, history, rtol=1e-6, atol=1e-5)


def test_distance_follows_from_the_objective(architecture, pair):
    params_a, params_b = pair
    result = rl.match("weight", architecture.spec, *pair)
    moved = rl.apply_permutation(architecture.spec, result.permutation, params_b)
    squares = pytrees.inner_product(params_a, params_a) + pytrees.inner_product(params_b, params_b)
    assert rl.distance(params_a, moved) ** 2 == pytest.approx(
        squares - 2 * result.objective[-1], rel=1e-5
    )


def test_settled_groups_are_not_solved_again(mlp, monkeypatch):
    calls = []
    solve = assignment.solve_assignment
    monkeypatch.setattr(assignment, "solve_assignment", lambda s: (calls.append(0), solve(s))[1])
    params_a, params_b = mlp.init_numpy(0), mlp.init_numpy(1)
    result = rl.match("weight", mlp.spec, params_a, params_b)
    solved = len(calls)
    _, _, visits = algorithm_1(mlp.spec, params_a, params_b, 0)
    assert visits == 3 * result.num_sweeps
    assert solved < visits


def test_history_has_one_entry_per_visit_and_the_start(architecture, pair):
    result = rl.match("weight", architecture.spec, *pair)
    num_groups = len(architecture.spec.permutations)
    assert len(result.objective) == 1 + num_groups * result.num_sweeps


def test_seed_fixes_the_visiting_order(mlp):
    # On a narrow, deep net coordinate ascent ends in one of many local optima.
    params_a, params_b = mlp.init_numpy(0), mlp.init_numpy(1)
    ends = {
        rl.match("weight", mlp.spec, params_a, params_b, seed=s).objective[-1] for s in range(9)
    }
    assert len(ends) > 1
