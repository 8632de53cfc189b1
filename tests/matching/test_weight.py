"""Weight matching against Algorithm 1 written naively, and what its shortcuts save."""

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees, symmetry
from rebasin_lab.matching import assignment, weight


def algorithm_1(spec, params_a, params_b, seed):
    """Ainsworth et al. 2022, Algorithm 1: everything anew at every visit, all in float64."""
    network_spec = spec
    (spec, a), (_, b) = (
        symmetry.split_into_pieces(
            network_spec, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        )
        for params in (params_a, params_b)
    )

    def objective(permutation):
        # Of the whole networks, so that a piece cut wrongly shows.
        moved = rl.apply_permutation(network_spec, permutation, params_b)
        return pytrees.inner_product(params_a, moved)

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

    current, rng = rl.identity_permutation(spec, b), np.random.default_rng(seed)
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


def test_pieces_have_the_inner_product_of_the_networks(architecture, pair):
    _, pieces_a = symmetry.split_into_pieces(architecture.spec, pair[0])
    pieces_spec, pieces_b = symmetry.split_into_pieces(architecture.spec, pair[1])
    pieces_spec.validate(pieces_b)
    expected = pytrees.inner_product(*pair)
    assert pytrees.inner_product(pieces_a, pieces_b) == pytest.approx(expected, rel=1e-9)
    assert {path.rsplit("#")[0] for path in pieces_a} == set(architecture.spec.axes)


def test_plain_spec_is_matched_as_it_stands(mlp, monkeypatch):
    monkeypatch.setattr(weight, "split_into_pieces", None)
    rl.match("weight", mlp.spec, mlp.init_numpy(0), mlp.init_numpy(1))


def test_planted_permutation_is_found_where_no_axis_carries_one_name():
    rng = np.random.default_rng(0)
    spec = rl.PermutationSpec({"v": (None, "2*(P+Q)+3"), "w": ("Q*4+P", None)}, {"P": 16})
    params_a = {"v": rng.standard_normal((5, 75)), "w": rng.standard_normal((96, 3))}
    planted = rl.random_permutation(spec, params_a, seed=1)
    assert {name: indices.size for name, indices in planted.items()} == {"P": 16, "Q": 20}
    params_b = rl.apply_permutation(spec, planted, params_a)
    found = rl.match("weight", spec, params_a, params_b).permutation
    for name, indices in rl.invert_permutation(planted).items():
        np.testing.assert_array_equal(found[name], indices)


VARYING = rl.PermutationSpec({"w": ("h", "d[h]")})


def test_groups_that_vary_are_refused_with_a_way_out():
    params = {"w": np.random.default_rng(0).standard_normal((3, 4))}
    message = r"vary along another \(d\[h\]\); weight matching does not .*; use spec.shared\(\)"
    with pytest.raises(ValueError, match=message):
        rl.match("weight", VARYING, params, params)
    result = rl.match("weight", VARYING.shared(), params, params)
    assert result.permutation.keys() == {"h", "d"}
