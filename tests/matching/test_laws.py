"""What every matcher must do on every architecture, through `rl.match`."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from oracles import assert_same_permutation, norms, objective, plant
from rebasin_lab import pytrees

# Enough for a law; the defaults are those of a real run.
OPTIONS = {"straight_through": {"num_epochs": 1, "batch_size": 50, "match_every": 2}}
CLIMBING = ("weight", "algorithm_1", "one_sweep")  # their objective is <A, pi(B)>

# These compile the gradient of every network, but move it no differently than "weight" does.
LONG = ("straight_through", "steepest_descent")
LONG_ON = ("residual", "attention")

every = pytest.mark.parametrize("method", sorted(rl.MATCHERS))
climbing = pytest.mark.parametrize("method", CLIMBING)


@pytest.fixture(autouse=True)
def _few_architectures_for_what_compiles_long(request):
    case = getattr(request.node, "callspec", None)
    if case and case.params.get("method") in LONG and "architecture" in case.params:
        if not case.id.startswith(LONG_ON):
            pytest.skip("compiles long")


def options_of(method, apply_fn, data):
    needed = {"apply_fn": apply_fn, "data": data} if rl.MATCHERS[method].needs_data else {}
    return needed | OPTIONS.get(method, {})


def spec_of(method, architecture):
    """Greedy matching alone refuses groups that vary along others."""
    return architecture.spec.shared() if method == "greedy" else architecture.spec


def match(method, architecture, params_a, params_b, data, **options):
    options = options_of(method, architecture.apply_fn, data) | options
    return rl.match(method, spec_of(method, architecture), params_a, params_b, **options)


@functools.cache
def matched(method, architecture, data):
    """Two unrelated networks, in arrays that can be written to, and their matching."""
    pair = [jax.tree.map(np.array, architecture.init_numpy(seed)) for seed in range(2)]
    return pair, match(method, architecture, *pair, data)


# --- all matchers -------------------------------------------------------------------------------


@every
def test_result_is_a_permutation_of_the_spec(method, architecture, tiny_data):
    (_, params_b), result = matched(method, architecture, tiny_data)
    shapes = spec_of(method, architecture).shapes(params_b)
    assert result.permutation.keys() == shapes.keys()
    for name, shape in shapes.items():
        in_order = np.broadcast_to(np.arange(shape[-1]), shape)
        np.testing.assert_array_equal(np.sort(result.permutation[name], axis=-1), in_order)


@every
def test_moved_network_computes_the_same_function(method, architecture, tiny_data):
    (_, params_b), result = matched(method, architecture, tiny_data)
    spec = spec_of(method, architecture)
    moved = rl.apply_permutation(spec, result.permutation, params_b)
    apply_fn, images = jax.jit(architecture.apply_fn), tiny_data.test_images[:20]
    logits, scale = apply_fn(params_b, images), jnp.abs(apply_fn(params_b, images)).max()
    # float32 sums in another order differ by about 1e-7 a layer.
    np.testing.assert_allclose(apply_fn(moved, images) / scale, logits / scale, atol=1e-5)


@every
def test_models_stay_as_they_are(method, architecture, tiny_data, trees_equal):
    pair, _ = matched(method, architecture, tiny_data)
    for seed, params in enumerate(pair):
        trees_equal(params, architecture.init_numpy(seed))


@every
def test_same_seed_same_result_in_numpy_and_in_jax_arrays(method, architecture, tiny_data):
    _, in_numpy = matched(method, architecture, tiny_data)
    in_jax = match(method, architecture, architecture.init(0), architecture.init(1), tiny_data)
    assert_same_permutation(in_numpy.permutation, in_jax.permutation)
    assert in_numpy.objective == in_jax.objective


@every
def test_record_is_finite_and_the_objective_never_falls(method, architecture, tiny_data):
    _, result = matched(method, architecture, tiny_data)
    assert np.isfinite(result.objective).all()
    assert len(result.objective) > 1
    assert method == "random" or np.diff(result.objective).min() >= 0
    assert result.seconds > 0
    assert result.seconds > result.assignment_seconds + result.product_seconds
    assert result.quantity


@pytest.mark.parametrize("method", sorted(rl.MATCHERS.keys() - {"random", "steepest_descent"}))
def test_network_matches_itself_as_it_is(method, architecture, tiny_data):
    params = architecture.init_numpy(0)
    # Read by the next layer, units that are silent for all images could be in any order.
    options = {"where": "written"} if method in ("activation", "combined") else {}
    result = match(method, architecture, params, params, tiny_data, **options)
    identity = rl.identity_permutation(spec_of(method, architecture), params)
    assert_same_permutation(result.permutation, identity)
    assert result.converged
    assert result.objective[-1] == pytest.approx(result.objective[0]) or method == "greedy"


def narrow(rng, width, num_in=64, num_out=10):
    """One hidden layer, on the images of `tiny_data`."""
    draw = rng.standard_normal
    return {
        "layers": {
            0: {"kernel": draw((num_in, width)), "bias": draw(width)},
            1: {"kernel": draw((width, num_out)), "bias": draw(num_out)},
        }
    }


def apply_mlp(params, images):
    hidden = images.reshape(len(images), -1)
    for index, layer in params["layers"].items():
        hidden = jax.nn.relu(hidden) if index else hidden
        hidden = hidden @ layer["kernel"] + layer["bias"][None]
    return hidden


@every
def test_one_unit_has_nowhere_to_go(method, tiny_data):
    rng, options = np.random.default_rng(0), options_of(method, apply_mlp, tiny_data)
    pair = narrow(rng, 1), narrow(rng, 1)
    result = rl.match(method, rl.mlp_permutation_spec(1), *pair, **options)
    assert result.permutation["P_0"].tolist() == [0]
    assert result.converged


@every
def test_network_without_hidden_layers_has_nothing_to_match(method, tiny_data):
    params = {"layers": {0: {"kernel": np.ones((64, 10)), "bias": np.ones(10)}}}
    options = options_of(method, apply_mlp, tiny_data)
    result = rl.match(method, rl.mlp_permutation_spec(0), params, params, **options)
    assert (result.permutation, result.converged) == ({}, True)


# --- mistakes, which are found before any work --------------------------------------------------


@pytest.fixture
def refusing(method, monkeypatch, tiny_data):
    """`rl.match` of the method, with its options, which fails if the matcher is called at all."""
    matcher = rl.MATCHERS[method]

    @functools.wraps(matcher.function)
    def unreachable(*args, **kwargs):
        pytest.fail("the mistake was not found in time")

    replaced = dataclasses.replace(matcher, function=unreachable)
    monkeypatch.setitem(rl.MATCHERS, method, replaced)
    return functools.partial(rl.match, method, **options_of(method, apply_mlp, tiny_data))


@every
def test_models_of_different_widths_are_refused(method, refusing):
    rng = np.random.default_rng(0)
    message = r"'layers/0/bias' has shape \(5,\) in params_a and \(6,\)"
    with pytest.raises(ValueError, match=message):
        refusing(rl.mlp_permutation_spec(1), narrow(rng, 5), narrow(rng, 6))


@every
@pytest.mark.parametrize("name", ["params_a", "params_b"])
def test_diverged_model_is_refused(method, name, refusing):
    params, bad = (narrow(np.random.default_rng(0), 5, num_out=2) for _ in range(2))
    bad["layers"][1]["kernel"][:2] = np.nan
    models = {"params_a": params, "params_b": params, name: bad}
    with pytest.raises(ValueError, match=f"{name} 'layers/1/kernel' holds 4 NaN .* of 10. Did its"):
        refusing(rl.mlp_permutation_spec(1), **models)


@every
def test_spec_of_another_model_is_refused(method, refusing):
    params = narrow(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match="'layers/2/bias' is none of them"):
        refusing(rl.mlp_permutation_spec(2), params, params)


@every
def test_unknown_option_is_refused(method, refusing):
    params = narrow(np.random.default_rng(0), 5)
    message = rf"options of the matcher '{method}', \[.*\]; got \['num_sweps'\]"
    with pytest.raises(ValueError, match=message):
        refusing(rl.mlp_permutation_spec(1), params, params, num_sweps=3)


@every
def test_unknown_method_is_refused(method):
    params = narrow(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match=rf"a matcher among \[.*'{method}'.*\]; got 'wieght'"):
        rl.match("wieght", rl.mlp_permutation_spec(1), params, params)


@pytest.mark.parametrize("missing", ["apply_fn", "data"])
@pytest.mark.parametrize("method", [name for name, one in rl.MATCHERS.items() if one.needs_data])
def test_missing_function_or_data_is_refused(method, missing, refusing, tiny_data):
    params, given = narrow(np.random.default_rng(0), 5), {"apply_fn": apply_mlp, "data": tiny_data}
    del given[missing]
    message = rf"Expected apply_fn and data .* '{method}'.*; {missing} missing. Write match\("
    with pytest.raises(ValueError, match=message):
        rl.match(method, rl.mlp_permutation_spec(1), params, params, **given)


# --- matchers that climb <A, pi(B)> -------------------------------------------------------------


@climbing
def test_objective_is_the_inner_product_before_and_after(method, architecture, pair):
    spec = architecture.spec
    result = rl.match(method, spec, *pair)
    # float32 products: 1e-7 of the norms, and the gains of all updates added up.
    slack, identity = 1e-6 * norms(*pair), rl.identity_permutation(spec, pair[1])
    first, last = (objective(spec, order, *pair) for order in (identity, result.permutation))
    assert result.objective[0] == pytest.approx(first, rel=0, abs=slack)
    assert result.objective[-1] == pytest.approx(last, rel=0, abs=slack)
    assert last > first


@pytest.mark.parametrize("noise", [False, True])
def test_planted_permutation_is_recovered_on_every_architecture(architecture, noise):
    spec = architecture.spec
    for seed in range(7):
        params_a, other = architecture.init_numpy(seed), architecture.init_numpy(1000 + seed)
        near_a = rl.lerp(np.float32(0.5), params_a, other) if noise else params_a
        params_b, planted = plant(spec, near_a, seed)
        found = rl.match("weight", spec, params_a, params_b)
        assert found.converged
        if noise and found.objective[-1] > objective(spec, planted, params_a, params_b):
            # With noise, another order of a few units may be better: then that is what is planted.
            planted = rl.match("weight", spec, params_a, params_b, start=planted).permutation
        assert_same_permutation(found.permutation, planted)


def test_planted_permutation_is_recovered_by_algorithm_1(architecture, seed):
    params_a = architecture.init_numpy(seed)
    params_b, planted = plant(architecture.spec, params_a, seed)
    result = rl.match("algorithm_1", architecture.spec, params_a, params_b)
    assert result.objective[-1] > result.objective[0]
    if architecture.recovers:
        assert_same_permutation(result.permutation, planted)
        assert result.converged


@climbing
def test_network_is_nearest_to_itself(method, architecture, seed):
    params = architecture.init_numpy(seed)
    result = rl.match(method, architecture.spec, params, params)
    # The pass that grows from what is fixed counts as a sweep; Algorithm 1 starts from the answer.
    assert (result.converged, result.num_sweeps) == (True, 2 if method == "weight" else 1)
    # Cauchy-Schwarz: nothing is closer to A than A.
    assert result.objective[-1] == pytest.approx(norms(params, params), rel=1e-6)


@pytest.mark.parametrize("method", ["weight", "algorithm_1"])
def test_converged_within_the_sweeps_allowed(method, architecture, pair):
    result = rl.match(method, architecture.spec, *pair)
    assert result.converged
    assert 1 < result.num_sweeps < 100


@climbing
def test_dead_units_are_matched_with_dead_units(method):
    rng = np.random.default_rng(0)
    params_a, spec = narrow(rng, 8), rl.mlp_permutation_spec(1)
    for leaf in (params_a["layers"][0]["bias"], params_a["layers"][0]["kernel"].T):
        leaf[5:] = 0
    params_a["layers"][1]["kernel"][5:] = 0
    params_b, _ = plant(spec, params_a)
    found = rl.match(method, spec, params_a, params_b).permutation
    # Dead units are interchangeable: the living are in place, and the network is A again.
    assert pytrees.distance(params_a, rl.apply_permutation(spec, found, params_b)) == 0


@climbing
@settings(max_examples=8)  # of 120 orders each
@given(st.integers(0, 2**32 - 1))
def test_one_hidden_layer_is_matched_as_well_as_by_trying_all_120_orders(method, seed):
    rng, spec = np.random.default_rng(seed), rl.mlp_permutation_spec(1)
    pair = [narrow(rng, 5, num_in=3, num_out=2) for _ in range(2)]
    orders = map(np.array, itertools.permutations(range(5)))
    best = max(objective(spec, {"P_0": order}, *pair) for order in orders)
    found = objective(spec, rl.match(method, spec, *pair).permutation, *pair)
    # A gain below the matcher's tolerance, 1e-7 of the norms, is left lying.
    assert found == pytest.approx(best, rel=0, abs=2e-7 * norms(*pair))
