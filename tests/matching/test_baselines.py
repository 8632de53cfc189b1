"""The comparison matchers: each does what it says, by hand on small networks."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from oracles import assert_same_permutation
from rebasin_lab import metrics, pytrees
from rebasin_lab.matching import baselines
from rebasin_lab.paper import counterexample

ORDERS = [np.array(order) for order in itertools.permutations(range(4))]

# Groups from the input to the output, where their names do not say it.
FORWARD = {"stream": ("stream", "inner_0", "inner_1"), "P": ("P", "Q")}
FORWARD_BY_GROUPS = {frozenset(order): order for order in FORWARD.values()}


def forward_order(spec):
    return FORWARD_BY_GROUPS.get(frozenset(spec.permutations))


def mlp_params(seed, widths):
    rng = np.random.default_rng(seed)
    return {
        "layers": {
            i: {"kernel": rng.standard_normal(shape), "bias": rng.standard_normal(shape[1])}
            for i, shape in enumerate(itertools.pairwise(widths))
        }
    }


def cosine(left, right):
    return left @ right / np.sqrt((left @ left) * (right @ right))


# --- chance -------------------------------------------------------------------------------------


def test_every_order_is_drawn_about_equally_often():
    params, spec = mlp_params(0, (2, 3, 2)), rl.mlp_permutation_spec(1)
    drawn = Counter(
        tuple(baselines.random_matching(spec, params, params, seed=seed).permutation["P_0"])
        for seed in range(600)
    )
    assert len(drawn) == 6
    # 100 expected, standard deviation 9.
    assert all(60 < count < 140 for count in drawn.values())


def test_random_objective_is_the_inner_product_before_and_after(architecture, pair):
    result = baselines.random_matching(architecture.spec, *pair, seed=4)
    again = baselines.random_matching(architecture.spec, *pair, seed=4)
    assert_same_permutation(result.permutation, again.permutation)
    moved = rl.apply_permutation(architecture.spec, result.permutation, pair[1])
    expected = [pytrees.inner_product(pair[0], params) for params in (pair[1], moved)]
    assert list(result.objective) == expected
    assert (result.converged, result.num_sweeps) == (True, 0)


def test_groups_that_vary_are_drawn_too():
    spec = rl.PermutationSpec({"w": ("h", "d[h]")})
    params = {"w": np.arange(12.0).reshape(3, 4)}
    permutation = baselines.random_matching(spec, params, params).permutation
    assert {name: indices.shape for name, indices in permutation.items()} == {
        "h": (3,),
        "d[h]": (3, 4),
    }


# --- one sweep ----------------------------------------------------------------------------------


def test_one_sweep_is_algorithm_1_stopped(architecture, pair):
    spec = architecture.spec
    result = baselines.one_sweep_matching(spec, *pair, seed=2)
    expected = rl.match("algorithm_1", spec, *pair, seed=2, max_sweeps=1)
    assert_same_permutation(result.permutation, expected.permutation)
    whole = rl.match("algorithm_1", spec, *pair, seed=2)
    assert result.num_sweeps == 1 < whole.num_sweeps
    assert result.objective == whole.objective[: len(result.objective)]


# --- greedy -------------------------------------------------------------------------------------


def test_greedy_on_two_layers_is_what_trying_all_orders_gives():
    params_a, params_b = mlp_params(0, (3, 4, 4, 2)), mlp_params(1, (3, 4, 4, 2))
    (first_a, second_a, _), (first_b, second_b, _) = (
        [params["layers"][i]["kernel"] for i in range(3)] for params in (params_a, params_b)
    )

    def total(kernel_a, kernel_b, order):
        return sum(cosine(kernel_a[:, i], kernel_b[:, j]) for i, j in enumerate(order))

    first = max(ORDERS, key=lambda order: total(first_a, first_b, order))
    second = max(ORDERS, key=lambda order: total(second_a, second_b[first], order))
    result = baselines.greedy_matching(rl.mlp_permutation_spec(2), params_a, params_b)
    assert_same_permutation(result.permutation, {"P_0": first, "P_1": second})
    layers = [(first_a, first_b, first), (second_a, second_b[first], second)]
    gains = [total(a, b, order) - total(a, b, range(4)) for a, b, order in layers]
    np.testing.assert_allclose(result.objective, np.cumsum([0, *gains]), rtol=1e-12)
    assert (result.converged, result.num_sweeps) == (True, 1)


def test_greedy_recovers_a_planted_permutation(architecture, seed):
    spec, params_a = architecture.spec.shared(), architecture.init_numpy(seed)
    planted = rl.random_permutation(spec, params_a, seed=seed)
    params_b = rl.apply_permutation(spec, planted, params_a)
    result = baselines.greedy_matching(spec, params_a, params_b, order=forward_order(spec))
    moved = rl.apply_permutation(spec, result.permutation, params_b)
    if architecture.recovers or forward_order(spec) == FORWARD["stream"]:
        assert_same_permutation(result.permutation, rl.invert_permutation(planted))
    # Whatever it finds is a symmetry.
    apply_fn, images = jax.jit(architecture.apply_fn), np.ones((2, 8, 8, 1), np.float32)
    logits = apply_fn(params_b, images)
    np.testing.assert_allclose(apply_fn(moved, images), logits, atol=1e-5 * abs(logits).max())


def test_a_network_has_cosine_one_with_itself(architecture):
    spec, params = architecture.spec.shared(), architecture.init_numpy(0)
    result = baselines.greedy_matching(spec, params, params)
    identity = rl.identity_permutation(spec, params)
    assert_same_permutation(result.permutation, identity)
    assert len(result.objective) == 1 + len(identity)
    gains = np.diff(result.objective)
    sizes = {0} | {indices.size for indices in identity.values()}
    # A group whose incoming weights the rule does not find adds nothing.
    assert all(min(abs(gain - size) for size in sizes) < 1e-9 for gain in gains)


def test_biases_and_lengths_do_not_count_for_the_cosine():
    spec, params_a = rl.mlp_permutation_spec(2), mlp_params(0, (5, 6, 6, 2))
    params_b, changed = mlp_params(1, (5, 6, 6, 2)), mlp_params(1, (5, 6, 6, 2))
    for layer in range(2):
        changed["layers"][layer]["bias"][:] = 100
        changed["layers"][layer]["kernel"] *= np.arange(1, 7)
    plain = baselines.greedy_matching(spec, params_a, params_b)
    # The second layer sees the first one's units in their order, but not their lengths in B.
    first = baselines.greedy_matching(spec, params_a, changed).permutation["P_0"]
    np.testing.assert_array_equal(plain.permutation["P_0"], first)
    lengths = baselines.greedy_matching(spec, params_a, changed, similarity="inner product")
    assert lengths.objective[1] > plain.objective[1]


def test_inner_product_gives_the_least_distance():
    params_a, params_b = mlp_params(0, (3, 4, 2)), mlp_params(1, (3, 4, 2))
    kernels = [params["layers"][0]["kernel"] for params in (params_a, params_b)]
    nearest = min(ORDERS, key=lambda order: np.linalg.norm(kernels[0] - kernels[1][:, order]))
    spec = rl.mlp_permutation_spec(1)
    result = baselines.greedy_matching(spec, params_a, params_b, similarity="inner product")
    np.testing.assert_array_equal(result.permutation["P_0"], nearest)


@pytest.mark.parametrize("similarity", ["cosine", "inner product"])
def test_greedy_fails_where_the_paper_says(similarity):
    pair = counterexample.linear_pair(0.01)
    result = baselines.greedy_matching(
        pair.spec, pair.params_a, pair.params_b, similarity=similarity
    )
    assert counterexample.name_of(result.permutation) == "identity"
    end = rl.apply_permutation(pair.spec, result.permutation, pair.params_b)
    slope = counterexample.slope(rl.lerp(0.5, pair.params_a, end))
    assert slope == pytest.approx((1 + 1.01**2) / 4)


def test_a_unit_without_incoming_weights_is_like_none():
    params_a, params_b = mlp_params(0, (3, 4, 2)), mlp_params(1, (3, 4, 2))
    params_b["layers"][0]["kernel"][:, 2] = 0
    result = baselines.greedy_matching(rl.mlp_permutation_spec(1), params_a, params_b)
    assert np.isfinite(result.objective).all()
    assert sorted(result.permutation["P_0"]) == [0, 1, 2, 3]


def test_ten_comes_after_nine():
    widths = (6, *[16] * 11, 3)
    spec, params_a = rl.mlp_permutation_spec(11), mlp_params(0, widths)
    planted = rl.random_permutation(spec, params_a, seed=0)
    params_b = rl.apply_permutation(spec, planted, params_a)
    result = baselines.greedy_matching(spec, params_a, params_b)
    assert_same_permutation(result.permutation, rl.invert_permutation(planted))


def test_incoming_weights_are_found_by_the_rule():
    spec = rl.PermutationSpec(
        {
            "embed": (None, "s"),
            "shift": ("s",),
            "norm": ("2*s",),  # a bias, though it has two axes when cut
            "up": ("s", "u"),
            "loop": ("u", "u"),
            "down": ("u", "s"),
            "join": ("s+u+3", "v"),
            "head": ("v+3+u", None),
        }
    )
    params = {
        "embed": np.zeros((2, 4)),
        "shift": np.zeros(4),
        "norm": np.zeros(8),
        "up": np.zeros((4, 5)),
        "loop": np.zeros((5, 5)),
        "down": np.zeros((5, 4)),
        "join": np.zeros((12, 6)),
        "head": np.zeros((14, 2)),
    }
    blocks_spec, _ = rl.symmetry.split_into_blocks(spec, params)

    def found(name, *earlier):
        return {path for path, _ in baselines._incoming(spec, blocks_spec, name, earlier=earlier)}

    assert found("s") == {"embed#0"}
    assert found("u", "s") == {"up#0", "down#0"}
    assert found("v", "s", "u") == {"join#0", "join#1", "join#2"}
    assert found("u") == {"head#2"}  # named first, it has no other: why `order` matters


def test_a_group_without_incoming_weights_stays():
    rng = np.random.default_rng(0)
    spec = rl.PermutationSpec({"gain": ("P",), "mix": ("P", "Q")})
    a, b = ({"gain": rng.random(3), "mix": rng.random((3, 4))} for _ in range(2))
    result = baselines.greedy_matching(spec, a, b)
    assert result.permutation["P"].tolist() == [0, 1, 2]
    assert result.objective[:2] == (0, 0)


def test_greedy_refuses_groups_that_vary_with_a_way_out():
    spec = rl.PermutationSpec({"w": ("h", "d[h]")})
    params = {"w": np.random.default_rng(0).standard_normal((3, 4))}
    with pytest.raises(ValueError, match=r"vary along another \(d\[h\]\); use spec.shared\(\)"):
        baselines.greedy_matching(spec, params, params)
    assert baselines.greedy_matching(spec.shared(), params, params).permutation.keys() == {"h", "d"}


# --- steepest descent ---------------------------------------------------------------------------


def full_gradient(model, params, data):
    def loss(params):
        return metrics.cross_entropy(
            model.apply(params, jnp.asarray(data.train_images)), jnp.asarray(data.train_labels)
        )

    return jax.grad(loss)(params)


def slope_at_a(gradient, params_a, end):
    return pytrees.inner_product(gradient, end) - pytrees.inner_product(gradient, params_a)


@pytest.mark.parametrize("batch_size", [64, 1000])
def test_gradient_is_that_of_all_images_at_once(trained_pair, tiny_data, batch_size):
    model, params, _ = trained_pair
    found = baselines.train_loss_gradient(model.apply, params, tiny_data, batch_size=batch_size)
    expected = full_gradient(model, params, tiny_data)
    size = np.sqrt(pytrees.inner_product(expected, expected))
    assert size > 0
    assert rl.distance(found, expected) < 1e-5 * size  # float32 sums in another order


def test_slope_is_lower_than_that_of_other_matchers(trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    spec, gradient = rl.mlp_permutation_spec(2), full_gradient(model, params_a, tiny_data)
    steepest = baselines.steepest_descent_matching(
        spec, params_a, params_b, apply_fn=model.apply, data=tiny_data
    )
    slopes = {
        name: slope_at_a(
            gradient, params_a, rl.apply_permutation(spec, result.permutation, params_b)
        )
        for name, result in {
            "steepest": steepest,
            "weight": rl.match("weight", spec, params_a, params_b),
            "random": baselines.random_matching(spec, params_a, params_b),
        }.items()
    }
    assert slopes["steepest"] < min(slopes["weight"], slopes["random"])
    predicted = -steepest.objective[-1] - pytrees.inner_product(gradient, params_a)
    assert slopes["steepest"] == pytest.approx(predicted, rel=1e-4)
    assert np.diff(steepest.objective).min() >= 0


def test_slope_is_how_the_loss_begins(trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    result = baselines.steepest_descent_matching(
        rl.mlp_permutation_spec(2), params_a, params_b, apply_fn=model.apply, data=tiny_data
    )
    end = rl.apply_permutation(rl.mlp_permutation_spec(2), result.permutation, params_b)
    slope = slope_at_a(full_gradient(model, params_a, tiny_data), params_a, end)
    step = 1e-3
    losses = [
        metrics.evaluate(
            model.apply,
            rl.lerp(np.float32(lam), params_a, end),
            tiny_data.train_images,
            tiny_data.train_labels,
        ).loss
        for lam in (-step, step)
    ]
    # A central difference in float32: 1e-7 of a loss of 1, over 2e-3.
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(slope, rel=1e-2, abs=1e-3)


def test_one_hidden_layer_goes_down_as_steeply_as_any_of_24_orders(tiny_data):
    model = rl.build_model("mlp", dataset=tiny_data, width=4, num_hidden_layers=1)
    params_a, params_b = (model.init(jax.random.key(seed)) for seed in range(2))
    spec, gradient = rl.mlp_permutation_spec(1), full_gradient(model, params_a, tiny_data)
    slopes = {
        tuple(order): slope_at_a(
            gradient, params_a, rl.apply_permutation(spec, {"P_0": order}, params_b)
        )
        for order in ORDERS
    }
    result = baselines.steepest_descent_matching(
        spec, params_a, params_b, apply_fn=model.apply, data=tiny_data
    )
    assert tuple(result.permutation["P_0"]) == min(slopes, key=slopes.get)


def test_a_gradient_that_is_not_finite_is_refused(trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    huge = jax.tree.map(lambda leaf: leaf * np.float32(1e25), params_a)
    with pytest.raises(ValueError, match="the gradient of the train loss at params_a 'layers/"):
        baselines.steepest_descent_matching(
            rl.mlp_permutation_spec(2), huge, params_b, apply_fn=model.apply, data=tiny_data
        )
