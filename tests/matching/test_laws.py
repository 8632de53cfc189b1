"""What every matcher must do on every architecture, through `rl.match`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import pytrees

pytestmark = pytest.mark.parametrize("method", sorted(rl.MATCHERS))


def norms(*trees):
    """The product of the norms: the largest an inner product can be, the scale of its rounding."""
    return np.prod([np.sqrt(pytrees.inner_product(tree, tree)) for tree in trees])


def assert_same_permutation(left, right):
    assert left.keys() == right.keys()
    for name, indices in left.items():
        np.testing.assert_array_equal(indices, right[name], err_msg=name)


def test_objective_never_falls_and_ends_where_the_permutation_is(method, architecture, pair):
    params_a, params_b = pair
    result = rl.match(method, architecture.spec, params_a, params_b)
    scale = norms(params_a, params_b)
    # The matcher multiplies in float32 (1e-7) and adds the gains of all its updates.
    assert np.diff(result.objective).min() >= -1e-9 * scale
    moved = rl.apply_permutation(architecture.spec, result.permutation, params_b)
    assert result.objective[0] == pytest.approx(pytrees.inner_product(*pair), abs=1e-6 * scale)
    last = pytrees.inner_product(params_a, moved)
    assert result.objective[-1] == pytest.approx(last, rel=1e-5)
    assert last > result.objective[0]


def test_moved_network_computes_the_same_function(method, architecture, pair, tiny_data):
    params_a, params_b = pair
    result = rl.match(method, architecture.spec, params_a, params_b)
    moved = rl.apply_permutation(architecture.spec, result.permutation, params_b)
    apply_fn, images = jax.jit(architecture.apply_fn), tiny_data.test_images[:20]
    logits, scale = apply_fn(params_b, images), jnp.abs(apply_fn(params_b, images)).max()
    # float32 sums in another order differ by about 1e-7 a layer.
    np.testing.assert_allclose(apply_fn(moved, images) / scale, logits / scale, atol=1e-5)


def test_planted_permutation_is_recovered(method, architecture, seed):
    spec, params_a = architecture.spec, architecture.init_numpy(seed)
    planted = rl.random_permutation(spec, params_a, seed=seed)
    params_b = rl.apply_permutation(spec, planted, params_a)
    result = rl.match(method, spec, params_a, params_b)
    assert result.objective[-1] > result.objective[0]
    if architecture.recovers:
        assert_same_permutation(result.permutation, rl.invert_permutation(planted))
        assert result.converged


def test_network_matches_itself_as_it_is(method, architecture, seed):
    params = architecture.init_numpy(seed)
    result = rl.match(method, architecture.spec, params, params)
    identity = rl.identity_permutation(architecture.spec, params)
    assert_same_permutation(result.permutation, identity)
    assert (result.converged, result.num_sweeps) == (True, 1)
    # Cauchy-Schwarz: nothing is closer to A than A.
    assert result.objective[-1] == pytest.approx(norms(params, params), rel=1e-6)


def test_same_seed_same_result_in_numpy_and_in_jax_arrays(method, architecture, pair):
    in_numpy = rl.match(method, architecture.spec, *pair, seed=3)
    again = rl.match(method, architecture.spec, *pair, seed=3)
    in_jax = rl.match(method, architecture.spec, *jax.tree.map(jnp.asarray, pair), seed=3)
    for other in (again, in_jax):
        assert_same_permutation(in_numpy.permutation, other.permutation)
        assert in_numpy.objective == other.objective


def test_converged_within_the_sweeps_allowed(method, architecture, pair):
    result = rl.match(method, architecture.spec, *pair)
    assert result.converged
    assert 1 < result.num_sweeps < 100
    assert result.seconds > 0


def test_one_sweep_is_not_enough_for_a_hard_pair(method, mlp):
    # The first sweep starts from chance, so it moves units, and only an idle sweep ends the search.
    result = rl.match(method, mlp.spec, mlp.init_numpy(0), mlp.init_numpy(1), max_sweeps=1)
    assert (result.converged, result.num_sweeps) == (False, 1)
    assert result.objective[-1] > result.objective[0]


def narrow(rng, width, num_in=3, num_out=2):
    """One hidden layer."""
    draw = rng.standard_normal
    return {
        "layers": {
            0: {"kernel": draw((num_in, width)), "bias": draw(width)},
            1: {"kernel": draw((width, num_out)), "bias": draw(num_out)},
        }
    }


@settings(max_examples=8)  # of 120 orders each
@given(st.integers(0, 2**32 - 1))
def test_one_hidden_layer_is_matched_as_well_as_by_trying_all_120_orders(method, seed):
    rng = np.random.default_rng(seed)
    params_a, params_b = narrow(rng, 5), narrow(rng, 5)
    spec = rl.mlp_permutation_spec(1)
    best = max(
        pytrees.inner_product(params_a, rl.apply_permutation(spec, {"P_0": order}, params_b))
        for order in map(np.array, itertools.permutations(range(5)))
    )
    result = rl.match(method, spec, params_a, params_b)
    moved = rl.apply_permutation(spec, result.permutation, params_b)
    # A gain below the matcher's tolerance, 1e-7 of the norms, is left lying.
    slack = 2e-7 * norms(params_a, params_b)
    assert pytrees.inner_product(params_a, moved) == pytest.approx(best, rel=0, abs=slack)


def test_one_unit_has_nowhere_to_go(method):
    rng = np.random.default_rng(0)
    result = rl.match(method, rl.mlp_permutation_spec(1), narrow(rng, 1), narrow(rng, 1))
    assert result.permutation["P_0"].tolist() == [0]
    assert result.converged


def test_dead_units_are_matched_with_dead_units(method):
    rng = np.random.default_rng(0)
    params_a, spec = narrow(rng, 8), rl.mlp_permutation_spec(1)
    for leaf in (params_a["layers"][0]["bias"], params_a["layers"][0]["kernel"].T):
        leaf[5:] = 0
    params_a["layers"][1]["kernel"][5:] = 0
    planted = rl.random_permutation(spec, params_a, seed=0)
    params_b = rl.apply_permutation(spec, planted, params_a)
    found = rl.match(method, spec, params_a, params_b).permutation
    # Dead units are interchangeable: the living are in place, and the network is A again.
    assert pytrees.distance(params_a, rl.apply_permutation(spec, found, params_b)) == 0


def test_network_without_hidden_layers_has_nothing_to_match(method):
    params = {"layers": {0: {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}}
    result = rl.match(method, rl.mlp_permutation_spec(0), params, params)
    assert (result.permutation, result.converged) == ({}, True)


def test_models_of_different_widths_are_refused(method):
    rng = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=r"'layers/0/bias' has shape \(5,\) in params_a and \(6,\)"
    ):
        rl.match(method, rl.mlp_permutation_spec(1), narrow(rng, 5), narrow(rng, 6))


@pytest.mark.parametrize("name", ["params_a", "params_b"])
def test_diverged_model_is_refused(method, name):
    params, bad = (narrow(np.random.default_rng(0), 5) for _ in range(2))
    bad["layers"][1]["kernel"][:2] = np.nan
    models = {"params_a": params, "params_b": params, name: bad}
    with pytest.raises(ValueError, match=f"{name} 'layers/1/kernel' holds 4 NaN .* of 10. Did its"):
        rl.match(method, rl.mlp_permutation_spec(1), **models)


def test_spec_of_another_model_is_refused(method):
    params = narrow(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match="'layers/2/bias' is none of them"):
        rl.match(method, rl.mlp_permutation_spec(2), params, params)


def test_unknown_method_is_refused(method):
    params = narrow(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match=rf"a matcher among \[.*'{method}'.*\]; got 'wieght'"):
        rl.match("wieght", rl.mlp_permutation_spec(1), params, params)
