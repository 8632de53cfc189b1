"""Odd input that once went wrong: leaves that do not move, threads, orders of keys, short runs."""

import dataclasses
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import threadpoolctl
from flax import serialization
from flax.core import freeze

import rebasin_lab as rl
from oracles import assert_same_permutation, objective, plant
from rebasin_lab import pytrees, symmetry
from rebasin_lab.analysis import variance_collapse
from rebasin_lab.matching import products, straight_through_matching
from tensors import Tensor

SPEC = rl.mlp_permutation_spec(2)


def draw(seed, widths=(8, 16, 16, 10)):
    rng = np.random.default_rng(seed)
    layers = {
        i: {
            "kernel": rng.standard_normal(shape).astype(np.float32),
            "bias": rng.standard_normal(shape[1]).astype(np.float32),
        }
        for i, shape in enumerate(zip(widths[:-1], widths[1:], strict=True))
    }
    return {"layers": layers}


def apply_fn(params, images):
    x = images.reshape(len(images), -1)[:, :8]
    *hidden, last = (params["layers"][i] for i in range(3))
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ last["kernel"] + last["bias"][None]


@pytest.mark.parametrize("method", rl.MATCHERS)
def test_a_scalar_leaf_stays_where_it_is(method, tiny_data):
    def with_step(params):
        return {**params, "step": np.float32(3)}

    spec = rl.PermutationSpec({**SPEC.axes, "step": ()})
    options = {"apply_fn": apply_fn, "data": tiny_data} if rl.MATCHERS[method].needs_data else {}
    options |= {"num_epochs": 1} if method == "straight_through" else {}
    result = rl.match(method, spec, with_step(draw(0)), with_step(draw(1)), **options)
    assert result.permutation.keys() == SPEC.permutations.keys()


@pytest.mark.parametrize("method", ["weight", "algorithm_1", "combined"])
def test_what_nobody_moves_does_not_decide_what_counts_as_progress(method, tiny_data):
    def with_counter(params, count):
        return {**params, "counter": np.float32([count])}

    spec = rl.PermutationSpec({**SPEC.axes, "counter": (None,)})
    params_b, planted = plant(SPEC, draw(0), seed=3)
    # The share 0 leaves only weights; a permuted copy has the largest cosine there is.
    options = {"apply_fn": apply_fn, "data": tiny_data, "activation_share": 0.0}
    options = options if method == "combined" else {}
    pair = with_counter(draw(0), 1e8), with_counter(params_b, 2e8)
    assert_same_permutation(rl.match(method, spec, *pair, **options).permutation, planted)


@pytest.mark.parametrize("method", ["weight", "algorithm_1"])
def test_a_mean_that_all_weights_share_does_not_hide_their_order(method):
    def raised(params):
        return jax.tree.map(lambda leaf: leaf + np.float32(1000), params)

    params_a, params_b = raised(draw(0)), raised(draw(1))
    result = rl.match(method, SPEC, params_a, params_b)
    gains = np.diff(
        [
            objective(SPEC, order, params_a, params_b)
            for order in (rl.identity_permutation(SPEC, params_b), result.permutation)
        ]
    )
    # As without the mean, which adds the same to every order.
    without = rl.match(method, SPEC, draw(0), draw(1)).objective
    assert gains > 0.9 * (without[-1] - without[0])
    assert result.objective[-1] == pytest.approx(
        objective(SPEC, result.permutation, params_a, params_b), rel=1e-12
    )
    moved, planted = plant(SPEC, params_a, seed=3)
    assert_same_permutation(rl.match(method, SPEC, params_a, moved).permutation, planted)


def test_one_large_leaf_does_not_decide_what_is_progress_elsewhere():
    spec = rl.PermutationSpec({**SPEC.axes, "variance": ("P_0",)})
    variance = np.random.default_rng(0).uniform(0, 1e6, 16).astype(np.float32)
    params_a = {**draw(0), "variance": variance}
    params_b, planted = plant(spec, params_a, seed=3)
    assert_same_permutation(rl.match("weight", spec, params_a, params_b).permutation, planted)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("scale_a", "scale_b"), [(1e30, 1e30), (1e-30, 1e-30), (1e25, 1.0)])
def test_networks_of_an_extreme_scale_are_matched_like_others(scale_a, scale_b, normalize):
    def scaled(params, scale):
        return jax.tree.map(lambda leaf: leaf.astype(np.float64) * scale, params)

    expected = rl.match("weight", SPEC, draw(0), draw(1), normalize=normalize)
    pair = scaled(draw(0), scale_a), scaled(draw(1), scale_b)
    result = rl.match("weight", SPEC, *pair, normalize=normalize)
    assert_same_permutation(result.permutation, expected.permutation)
    if not normalize:
        np.testing.assert_allclose(
            np.divide(result.objective, scale_a * scale_b), expected.objective, rtol=1e-5
        )


def test_complex_weights_are_refused():
    params = jax.tree.map(lambda leaf: leaf * 1j, draw(0))
    with pytest.raises(ValueError, match="real .* 'layers/0/bias' .* complex"):
        rl.match("weight", SPEC, params, params)


@pytest.mark.parametrize("leaf", [1.5, jax.random.key(0)])
def test_a_leaf_that_holds_no_numbers_is_named(leaf):
    spec = rl.PermutationSpec({**SPEC.axes, "extra": ()})
    params = {**draw(0), "extra": leaf}
    with pytest.raises(ValueError, match="every leaf .* 'extra'"):
        rl.match("weight", spec, params, params)


@pytest.mark.parametrize("method", [name for name, one in rl.MATCHERS.items() if one.needs_loss])
def test_what_has_no_gradient_is_named(method, tiny_data):
    spec = rl.PermutationSpec({**SPEC.axes, "step": ()})
    params = {**draw(0), "step": np.int32(3)}
    with pytest.raises(ValueError, match="gradient; params_a 'step' is int32"):
        rl.match(method, spec, params, params, apply_fn=apply_fn, data=tiny_data)


@pytest.mark.parametrize("method", [name for name, one in rl.MATCHERS.items() if one.needs_loss])
def test_images_without_labels_are_refused_where_a_loss_is_needed(method, tiny_data):
    with pytest.raises(ValueError, match="a data set for .* labels; got list"):
        rl.match(method, SPEC, draw(0), draw(1), apply_fn=apply_fn, data=[tiny_data.train_images])


def as_frozen(params):
    return freeze(params)


def as_text(params):
    return serialization.to_state_dict(params)


def as_list(params):
    return {"layers": [params["layers"][index] for index in range(3)]}


def as_torch(params):
    return jax.tree.map(Tensor, params)


def as_swapped(params):
    return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype.newbyteorder()), params)


CALLS = {
    "lerp": lambda a, b, data: rl.lerp(0.3, a, b),
    "distance": lambda a, b, data: rl.distance(a, b),
    "average": lambda a, b, data: rl.average([a, b]),
    "merge_many": lambda a, b, data: rl.merge_many(SPEC, [a, b, a]).params,
    "curve": lambda a, b, data: rl.interpolation_curve(apply_fn, a, b, data, num_lambdas=3),
    "contour": lambda a, b, data: rl.loss_contour(
        apply_fn, a, b, draw(2), data.test_images, data.test_labels, resolution=2
    ),
    "compare": lambda a, b, data: [
        (one.distance, one.curve.test_loss)
        for one in rl.compare_matchers(
            SPEC,
            a,
            b,
            apply_fn=apply_fn,
            data=data,
            methods={"naive": {}, "weight": {}, "straight_through": {"num_epochs": 1}},
            num_lambdas=2,
        ).values()
    ],
}
CALLS |= {
    method: lambda a, b, data, method=method: (
        rl.match(
            method,
            SPEC,
            a,
            b,
            **({"apply_fn": apply_fn, "data": data} if rl.MATCHERS[method].needs_data else {}),
            **({"num_epochs": 1} if method == "straight_through" else {}),
        ).objective
    )
    for method in rl.MATCHERS
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("change", [as_frozen, as_text, as_list, as_torch, as_swapped])
def test_b_may_come_in_other_containers_and_arrays(call, change, tiny_data):
    wanted, got = (call(draw(0), b, tiny_data) for b in (draw(1), change(draw(1))))
    numbers = [vars(x) if hasattr(x, "as_numbers") else x for x in (wanted, got)]
    jax.tree.map(np.testing.assert_array_equal, *numbers)


ALONE = {
    "infer": lambda a, images, labels: rl.infer_permutation_spec(apply_fn, a, images).axes,
    "verify": lambda a, images, labels: rl.verify_equivalence(apply_fn, SPEC, a, images),
    "evaluate": lambda a, images, labels: rl.evaluate(apply_fn, a, images, labels),
    "ensemble": lambda a, images, labels: rl.evaluate(
        rl.ensemble(apply_fn), [a, a], images, labels
    ),
    "calibration": lambda a, images, labels: dataclasses.astuple(
        rl.calibration_summary(apply_fn, a, images, labels)
    ),
    "permuted": lambda a, images, labels: rl.apply_permutation(
        SPEC, rl.random_permutation(SPEC, a, seed=0), a
    ),
    "spread": lambda a, images, labels: variance_collapse.activation_std(
        symmetry.trace_activations(apply_fn, SPEC, a, images), a, images
    ),
    "stored": lambda a, images, labels: pytrees.flatten(a),
}


@pytest.mark.parametrize("call", ALONE.values(), ids=ALONE)
@pytest.mark.parametrize("change", [as_torch, as_swapped])
def test_tensors_and_other_byte_orders_are_read_at_every_entry(call, change, tiny_data):
    examples = tiny_data.test_images, tiny_data.test_labels
    wanted, got = (call(params, *examples) for params in (draw(0), change(draw(0))))
    jax.tree.map(np.testing.assert_array_equal, wanted, got)


def test_keys_of_another_type_are_matched_by_path():
    def renamed(params):
        return {"layers": {str(key): value for key, value in params["layers"].items()}}

    sizes = [6] * 13  # in text "10" comes before "2"
    spec = rl.mlp_permutation_spec(11)
    params_a, params_b = draw(0, sizes), draw(1, sizes)
    for method in ("weight", "random"):
        expected = rl.match(method, spec, params_a, params_b)
        result = rl.match(method, spec, params_a, renamed(params_b))
        assert result.objective == pytest.approx(expected.objective)
    assert rl.distance(params_a, renamed(params_b)) == pytest.approx(
        rl.distance(params_a, params_b)
    )


@pytest.mark.parametrize("seed", [None, 1.5, -1])
def test_a_seed_that_fixes_nothing_is_refused(seed):
    # Under run-time checks jaxtyping refuses some first, and names the same argument.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="seed"):
        rl.match("algorithm_1", SPEC, draw(0), draw(1), seed=seed)
    assert rl.match("algorithm_1", SPEC, draw(0), draw(1), seed=np.int64(3)).converged


@pytest.mark.parametrize("kind", [list, jnp.asarray, lambda order: order.astype(np.uint8)])
def test_a_start_may_be_any_kind_of_integers(kind):
    start = rl.random_permutation(SPEC, draw(0), seed=0)
    expected = rl.match("weight", SPEC, draw(0), draw(1), start=start)
    given = {name: kind(order) for name, order in start.items()}
    result = rl.match("weight", SPEC, draw(0), draw(1), start=given)
    assert_same_permutation(result.permutation, expected.permutation)
    assert all(order.dtype == np.int64 for order in result.permutation.values())


def test_a_group_of_no_units_is_no_trouble():
    spec = rl.PermutationSpec({"w": (None, "p"), "v": ("p", "q"), "u": ("q", None)})
    params = {"w": np.ones((3, 0)), "v": np.ones((0, 4)), "u": np.eye(4)}
    assert rl.match("weight", spec, params, params).permutation["p"].size == 0


def test_greedy_gains_where_all_cosines_are_negative():
    params_a = jax.tree.map(lambda leaf: abs(leaf) + 1, draw(0))
    params_b = jax.tree.map(lambda leaf: -abs(leaf) - 1, draw(1))
    objective = rl.match("greedy", SPEC, params_a, params_b).objective
    assert objective[0] == 0
    assert all(np.diff(objective) > 0)


def test_thorough_does_no_work_in_vain_on_a_single_group():
    spec = rl.mlp_permutation_spec(1)
    pair = [draw(seed, (8, 16, 10)) for seed in range(2)]
    assert len(rl.match("weight", spec, *pair, effort="thorough").starts) == 2
    assert rl.match("algorithm_1", spec, *pair).starts[0].name == "identity"


def test_thorough_keeps_one_search_in_memory():
    spec = rl.mlp_permutation_spec(3)
    pair = [draw(seed, (64, 256, 256, 256, 10)) for seed in range(2)]
    two_models = sum(leaf.nbytes for leaf in jax.tree.leaves(pair))
    tracemalloc.start()
    try:
        rl.match("weight", spec, *pair, effort="thorough")
        _, beside_them = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The best so far and the one at work; each holds B and a square matrix for every layer.
    assert beside_them <= 4 * two_models


def test_threads_of_blas_are_what_they_were_after_searches_side_by_side():
    def num_threads():
        pools = threadpoolctl.threadpool_info()
        return sorted(pool["num_threads"] for pool in pools if pool["user_api"] == "blas")

    before, inside = num_threads(), threading.Barrier(4)

    def search(_):
        with products.blas_threads(1.0):
            inside.wait(timeout=30)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(search, range(4)))
    assert num_threads() == before
    with products.blas_threads(1.0):
        assert set(num_threads()) == {1}
    assert num_threads() == before


@pytest.mark.parametrize("match_every", [7, 1000])
def test_all_training_of_the_estimator_is_projected(match_every, tiny_data):
    told = []
    options = {"apply_fn": apply_fn, "data": tiny_data, "batch_size": 50, "learning_rate": 1.0}
    straight_through_matching(
        SPEC,
        draw(0),
        draw(1),
        num_epochs=3,
        match_every=match_every,
        on_epoch=told.append,
        **options,
    )
    assert told[0].num_changes > 0


def test_a_loss_that_is_nowhere_finite_is_told(tiny_data):
    def broken(params, images):
        return apply_fn(params, images) * jnp.nan

    with pytest.raises(FloatingPointError, match="not finite .* data"):
        straight_through_matching(
            SPEC, draw(0), draw(1), apply_fn=broken, data=tiny_data, num_epochs=1, batch_size=200
        )


def test_inner_products_go_by_path():
    one, other = {2: np.ones(3), 10: np.zeros(3)}, {"2": np.ones(3), "10": np.zeros(3)}
    assert pytrees.inner_product(one, other) == 3
    spec = rl.PermutationSpec({"w": ("p", None)})
    params = {"w": np.eye(3)}
    assert objective(spec, {"p": np.arange(3)}, params, params) == 3
