"""Activation matching: similarities against NumPy, planted permutations, what is refused."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from frameworks import FRAMEWORKS
from oracles import assert_same_permutation, given_total, plant
from rebasin_lab import pytrees
from rebasin_lab.matching import activation
from rebasin_lab.matching.activation import activation_matching, unit_similarities
from rebasin_lab.matching.similarity import UnitSimilarity, as_arrays, is_nested
from specs import draw_params, resnet_axes

SIMILARITIES = sorted(activation.SIMILARITIES)
# Before the nonlinearity no unit is silent for all inputs, so all of them can be told apart.
WRITTEN = {"where": "written"}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_planted_permutation_is_recovered(architecture, similarity, tiny_data):
    spec, params_a = architecture.spec, architecture.init_numpy(0)
    params_b, expected = plant(spec, params_a)
    options = WRITTEN | {"apply_fn": architecture.apply_fn, "data": tiny_data}
    result = activation_matching(spec, params_a, params_b, similarity=similarity, **options)
    assert_same_permutation(result.permutation, expected)
    assert np.diff(result.objective).min() >= 0
    # One step for each group, or for each family of those that vary along one.
    assert result.num_assignments == len(result.objective) - 1 <= len(expected)


def test_planted_permutation_of_a_resnet_is_recovered():
    model = rl.Model("resnet8", (16, 16, 3), 10, {"width_multiplier": 1})
    params_a, spec = draw_params(model), rl.PermutationSpec(resnet_axes(1))
    params_b, expected = plant(spec, params_a)
    images = np.random.default_rng(0).random((20, 16, 16, 3), np.float32)
    result = activation_matching(
        spec, params_a, params_b, apply_fn=model.apply, data=[images], where="written"
    )
    assert_same_permutation(result.permutation, expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_planted_permutation_is_recovered_in_every_framework(framework, tiny_data):
    subject = FRAMEWORKS[framework]()
    spec = rl.PermutationSpec(subject.axes)
    params_b, expected = plant(spec, subject.params)
    result = activation_matching(
        spec, subject.params, params_b, apply_fn=subject.apply_fn, data=tiny_data, **WRITTEN
    )
    assert_same_permutation(result.permutation, expected)


def test_living_units_are_recovered_after_the_nonlinearity(architecture, tiny_data):
    spec, options = architecture.spec, {"apply_fn": architecture.apply_fn, "data": tiny_data}
    params_a = architecture.init_numpy(0)
    params_b, expected = plant(spec, params_a)
    with_itself = unit_similarities(spec, params_a, params_a, **options)
    found = activation_matching(spec, params_a, params_b, **options)
    for one in with_itself:
        order, name = found.permutation[one.entries[-1]], one.entries[-1]
        living = one.matrix.diagonal(axis1=-2, axis2=-1).reshape(order.shape) > 0
        np.testing.assert_array_equal(order[living], expected[name][living])
    # Silent units have similarity zero with all, so nothing is lost on them.
    total = sum(paired(one) for one in with_itself)
    assert found.objective[-1] == pytest.approx(total, rel=1e-5)


def paired(similarity):
    return np.trace(similarity.matrix, axis1=-2, axis2=-1).sum()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_network_matches_itself_as_it_is(architecture, similarity, tiny_data):
    spec, params = architecture.spec, architecture.init_numpy(0)
    result = activation_matching(
        spec, params, params, apply_fn=architecture.apply_fn, data=tiny_data, similarity=similarity
    )
    assert_same_permutation(result.permutation, rl.identity_permutation(spec, params))
    assert len(set(result.objective)) == 1


def test_objective_is_the_similarity_of_paired_units(architecture, tiny_data):
    spec, options = architecture.spec, {"apply_fn": architecture.apply_fn, "data": tiny_data}
    pair = architecture.init_numpy(0), architecture.init_numpy(1)
    result = activation_matching(spec, *pair, **options)
    moved = rl.apply_permutation(spec, result.permutation, pair[1])
    for params_b, objective in ((pair[1], result.objective[0]), (moved, result.objective[-1])):
        total = sum(paired(one) for one in unit_similarities(spec, pair[0], params_b, **options))
        # float32 sums in another order, over about 100 units.
        assert objective == pytest.approx(total, abs=1e-3)
    assert result.objective[-1] > result.objective[0]


def hidden_layers(params, images):
    """The post-ReLU outputs of the lab's MLP, in float64."""
    hidden = np.asarray(images, np.float64).reshape(len(images), -1)
    for layer in range(len(params["layers"]) - 1):
        kernel, bias = params["layers"][layer]["kernel"], params["layers"][layer]["bias"]
        hidden = np.maximum(hidden @ np.asarray(kernel, np.float64) + np.asarray(bias), 0)
        yield hidden


@pytest.mark.parametrize("batch_size", [200, 37])
def test_similarities_of_an_mlp_are_the_papers(mlp, batch_size, tiny_data):
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    options = {"apply_fn": mlp.apply_fn, "data": tiny_data, "batch_size": batch_size}
    found = {
        kind: unit_similarities(mlp.spec, *pair, similarity=kind, **options)
        for kind in SIMILARITIES
    }
    layers = zip(*(hidden_layers(params, tiny_data.train_images) for params in pair), strict=True)
    for index, (a, b) in enumerate(layers):
        moment, correlation = (found[kind][index] for kind in ("second_moment", "correlation"))
        assert moment.entries == correlation.entries == (f"P_{index}",)
        np.testing.assert_allclose(moment.matrix, a.T @ b / 200, rtol=1e-5, atol=1e-6)
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num(np.corrcoef(a, b, rowvar=False)[:16, 16:])
        np.testing.assert_allclose(correlation.matrix, expected, atol=1e-5)


def test_no_order_of_one_hidden_layer_is_more_similar(tiny_data):
    model = rl.build_model("mlp", dataset=tiny_data, width=5, num_hidden_layers=1)
    pair = [model.init(jax.random.key(seed)) for seed in range(2)]
    spec, options = rl.mlp_permutation_spec(1), {"apply_fn": model.apply, "data": tiny_data}
    [one] = unit_similarities(spec, *pair, **options)
    best = max(one.matrix[range(5), order].sum() for order in itertools.permutations(range(5)))
    result = activation_matching(spec, *pair, **options)
    assert result.objective[-1] == pytest.approx(best, abs=1e-9)


def test_activations_of_one_group_count_alike(tiny_data):
    def apply_fn(params, images):
        hidden = images.reshape(len(images), -1) @ params["in"]
        return jnp.tanh(jnp.tanh(hidden) @ params["W"]) @ params["out"]

    spec = rl.PermutationSpec({"in": (None, "P"), "W": ("P", "P"), "out": ("P", None)})
    rng = np.random.default_rng(0)
    params_a, params_b = (
        {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes}
        for shapes in [[("in", (64, 6)), ("W", (6, 6)), ("out", (6, 10))]] * 2
    )
    [one] = unit_similarities(spec, params_a, params_b, apply_fn=apply_fn, data=tiny_data)
    expected = []
    for layer in range(2):
        units = []
        for params in (params_a, params_b):
            hidden = np.tanh(tiny_data.train_images.reshape(200, -1) @ params["in"])
            units.append(np.tanh(hidden @ params["W"]) if layer else hidden)
        expected.append(np.corrcoef(*units, rowvar=False)[:6, 6:])
    np.testing.assert_allclose(one.matrix, np.mean(expected, axis=0), atol=1e-5)


@pytest.mark.parametrize("where", ["read", "written"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_permuting_b_permutes_the_columns(architecture, similarity, where, tiny_data):
    options = {"apply_fn": architecture.apply_fn, "data": tiny_data}
    options |= {"similarity": similarity, "where": where}
    spec, pair = architecture.spec, (architecture.init_numpy(0), architecture.init_numpy(1))
    permutation = rl.random_permutation(spec, pair[1], seed=0)
    permuted = rl.apply_permutation(spec, permutation, pair[1])
    before = unit_similarities(spec, *pair, **options)
    after = unit_similarities(spec, pair[0], permuted, **options)
    for old, new in zip(before, after, strict=True):
        assert old.entries == new.entries
        slots = [name for name in old.entries if name.startswith("#")]
        moved = [name for name in old.entries if not name.startswith("#")]
        sizes = {name: spec.all_sizes(pair[0])[name] for name in old.entries}
        columns = rl.PermutationSpec({"m": (*slots, None, "*".join(moved))}, sizes)
        own = {name: permutation[name] for name in columns.permutations}
        expected = rl.apply_permutation(columns, own, {"m": old.matrix})["m"]
        # Correlations, or moments of activations of order one.
        np.testing.assert_allclose(new.matrix, expected, atol=1e-4)


def heads(params, images):
    """Three heads of four units each, in an order of their own, and a network that reads them."""
    hidden = jnp.tanh(images.reshape(len(images), 64) @ params["in"]).reshape(-1, 3, 4)
    return jnp.einsum("bhd,hdc->bc", hidden, params["out"])


HEADS = rl.PermutationSpec({"in": (None, "h*d[h]"), "out": ("h", "d[h]", None)})


def draw_heads(seed):
    rng = np.random.default_rng(seed)
    return {
        "in": rng.standard_normal((64, 12)).astype(np.float32) / 8,
        "out": rng.standard_normal((3, 4, 10)).astype(np.float32),
    }


def test_units_that_vary_along_others_come_with_them(tiny_data):
    pair, images = (draw_heads(0), draw_heads(1)), tiny_data.train_images.reshape(200, 64)
    [one] = unit_similarities(HEADS, *pair, apply_fn=heads, data=tiny_data)
    assert one.entries == ("h", "d[h]")
    expected = np.corrcoef(*(np.tanh(images @ p["in"]) for p in pair), rowvar=False)[:12, 12:]
    np.testing.assert_allclose(one.matrix, expected, atol=1e-5)


def test_layers_of_a_scan_have_a_matrix_each(tiny_data):
    def apply_fn(params, images):
        def layer(stream, kernels):
            return stream + jnp.tanh(stream @ kernels["up"]) @ kernels["down"], None

        return jax.lax.scan(layer, images.reshape(len(images), 64), params)[0]

    spec = rl.PermutationSpec({"up": ("#l", None, "u[#l]"), "down": ("#l", "u[#l]", None)})
    rng = np.random.default_rng(0)
    params = {
        "up": rng.standard_normal((2, 64, 6)).astype(np.float32) / 8,
        "down": np.zeros((2, 6, 64), np.float32),  # so that every layer reads the image
    }
    [one] = unit_similarities(spec, params, params, apply_fn=apply_fn, data=tiny_data)
    assert (one.entries, one.matrix.shape) == (("#l", "u[#l]"), (2, 6, 6))
    for layer in range(2):
        hidden = np.tanh(tiny_data.train_images.reshape(200, 64) @ params["up"][layer])
        expected = np.corrcoef(hidden, rowvar=False)
        np.testing.assert_allclose(one.matrix[layer], expected, atol=1e-5)


def test_only_the_first_images_are_seen_in_batches_of_any_size(mlp, tiny_data):
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    options = {"apply_fn": mlp.apply_fn, "similarity": "second_moment"}
    few = unit_similarities(
        mlp.spec, *pair, data=tiny_data, num_images=50, batch_size=20, **options
    )
    images = tiny_data.train_images
    for data in ([images[:50]], [images[:30], images[30:50]], iter([(images[:50],)])):
        same = unit_similarities(mlp.spec, *pair, data=data, **options)
        for left, right in zip(few, same, strict=True):
            np.testing.assert_allclose(left.matrix, right.matrix, atol=1e-5)


def test_pairs_of_one_network_share_what_is_compiled(mlp, tiny_data):
    traced, calls = activation._traced, []
    params = [mlp.init(seed) for seed in range(3)]
    before = traced.cache_info().misses

    def apply_fn(params, images):
        calls.append(0)
        return mlp.apply_fn(params, images)

    for params_b in params[1:]:
        unit_similarities(mlp.spec, params[0], params_b, apply_fn=apply_fn, data=tiny_data)
    assert traced.cache_info().misses == before + 1
    assert len(calls) <= 2  # traced once, and once more with real arguments


def test_seed_has_no_influence(mlp, tiny_data):
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    options = {"apply_fn": mlp.apply_fn, "data": tiny_data}
    first, second = (
        activation_matching(mlp.spec, *pair, seed=seed, **options) for seed in range(2)
    )
    assert_same_permutation(first.permutation, second.permutation)
    assert (first.objective, first.converged) == (second.objective, True)
    assert first.quantity == "correlation of activations"


def test_network_without_hidden_layers_has_nothing_to_match(tiny_data):
    def apply_fn(params, images):
        return images.reshape(len(images), -1) @ params["kernel"]

    spec, params = rl.PermutationSpec({"kernel": (None, None)}), {"kernel": np.ones((64, 10))}
    result = activation_matching(spec, params, params, apply_fn=apply_fn, data=tiny_data)
    assert (result.permutation, result.objective) == ({}, (0.0,))


SIZES = {"h": 3, "d[h]": 4}


def some_orders(params):
    """A few hundred of the 82,944 joint orders."""
    return (rl.random_permutation(HEADS, params, seed=seed) for seed in range(300))


def test_heads_are_matched_by_what_their_units_respond_to(tiny_data):
    options = {"apply_fn": heads, "data": tiny_data}
    params_b, expected = plant(HEADS, draw_heads(0))
    result = activation_matching(HEADS, draw_heads(0), params_b, **options)
    assert_same_permutation(result.permutation, expected)
    pair = draw_heads(0), draw_heads(1)
    [one] = unit_similarities(HEADS, *pair, **options)
    best = max(given_total([one], order, SIZES) for order in some_orders(pair[1]))
    found = activation_matching(HEADS, *pair, **options)
    assert found.objective[-1] == pytest.approx(
        given_total([one], found.permutation, SIZES), abs=1e-4
    )
    assert found.objective[-1] >= best


def _grouped_query_attention(params, x, heads=4, groups=2, dims=4, normed=False):
    def split(kernel, number):
        return (x @ kernel).reshape(*x.shape[:2], number, dims)

    q, k, v = (split(params[name], n) for name, n in (("q", heads), ("k", groups), ("v", groups)))
    if normed:  # with one scale for all heads, as in Gemma 3 and Qwen 3
        q, k = (t * jax.lax.rsqrt((t**2).mean(-1, keepdims=True)) for t in (q, k))
        q, k = (
            t * params[name].reshape(1, 1, 1, -1) for name, t in (("q_scale", q), ("k_scale", k))
        )
    out = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return (out.reshape(*x.shape[:2], -1) @ params["o"]).mean(1)


def _mixer(params, x):
    """Tokens and channels on every value that is read."""
    h = x @ params["embed"]
    for i in range(2):
        tokens = jnp.tanh(jnp.einsum("btc,ts->bsc", h, params[f"tokens{i}"]))
        h = jnp.tanh(tokens @ params[f"channels{i}"])
    return jnp.einsum("btc,tco->bo", h, params["head"])


def _drawn(seed, shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


ATTENTION = {"q": (8, 16), "k": (8, 8), "v": (8, 8), "o": (16, 3)}
TOGETHER = {
    "grouped queries": (_grouped_query_attention, ATTENTION),
    "multi-query": (
        functools.partial(_grouped_query_attention, groups=1),
        ATTENTION | {"k": (8, 4), "v": (8, 4)},
    ),
    "normed": (
        functools.partial(_grouped_query_attention, normed=True),
        ATTENTION | {"q_scale": (4,), "k_scale": (4,)},
    ),
    "mixer": (
        _mixer,
        {"embed": (8, 5), "head": (6, 5, 3)}
        | {f"tokens{i}": (8 if i == 0 else 6, 6) for i in range(2)}
        | {f"channels{i}": (5, 5) for i in range(2)},
    ),
}


@pytest.mark.parametrize("method", ["activation", "combined"])
@pytest.mark.parametrize("name", TOGETHER)
def test_units_that_show_together_are_searched_together(name, method):
    """Planted orders come back though one value shows groups that do not vary along each other."""
    apply_fn, shapes = TOGETHER[name]
    params, x = _drawn(0, shapes), _drawn(1, {"x": (64, 8, 8)})["x"]
    options = {"apply_fn": apply_fn, "data": [x]}
    inferred = rl.infer_permutation_spec(apply_fn, params, x)
    similarities = unit_similarities(inferred, params, params, **options)
    assert not all(map(is_nested, similarities))
    for spec in (inferred, inferred.shared()):
        planted = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=1), params)
        result = rl.match(method, spec, params, planted, **options)
        assert np.diff(result.objective).min() >= 0
        if spec is inferred:
            found = rl.apply_permutation(spec, result.permutation, planted)
            assert rl.distance(params, found) == 0
    # Two networks apart: what is said of the objective is so.
    other = _drawn(2, shapes)
    result = activation_matching(inferred, params, other, **options)
    similarities = unit_similarities(inferred, params, other, **options)
    sizes = inferred.all_sizes(params)
    expected = given_total(similarities, result.permutation, sizes)
    assert result.objective[-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_arrays_of_similarities_have_their_total(seed):
    """<a, pi(b)> of the two networks is the similarity of units that face each other."""
    rng = np.random.default_rng(seed)
    sizes = {"#l": 2, "h": 2, "d[h]": 3, "e": 2, "f[#l]": 4}
    entries = [("h", "d[h]"), ("h", "d[h]", "e"), ("#l", "f[#l]"), ("h", "e")]
    similarities = [
        UnitSimilarity(
            names,
            rng.random(
                [sizes[n] for n in names if n[0] == "#"]
                + [math.prod(sizes[n] for n in names if n[0] != "#")] * 2,
                np.float32,
            ),
        )
        for names in entries
    ]
    spec, a, b = as_arrays(similarities, sizes)
    for order in (rl.random_permutation(spec, a, seed=seed), rl.identity_permutation(spec, a)):
        total = pytrees.inner_product(a, rl.apply_permutation(spec, order, b))
        assert total == pytest.approx(given_total(similarities, order, sizes), rel=1e-6)


def test_units_that_show_nowhere_are_refused_with_a_way_out(tiny_data):
    def apply_fn(params, images):
        kernel = params["down"] @ params["up"]
        return images.reshape(len(images), -1) @ kernel

    params = {"down": np.ones((64, 2)), "up": np.ones((2, 10))}
    options = {"apply_fn": apply_fn, "data": tiny_data}
    spec = rl.PermutationSpec({"down": (None, "rank"), "up": ("rank", None)})
    assert unit_similarities(spec, params, params, **options) == []
    with pytest.raises(ValueError, match=r"those of \['rank'\] are read by no .* where='written'"):
        activation_matching(spec, params, params, **options)
    still = rl.PermutationSpec(dict.fromkeys(spec.axes, (None, None)))
    assert activation_matching(still, params, params, **options).permutation == {}


REFUSED = {
    "more images than there are": ({"num_images": 201}, "training images of Tiny; got 201"),
    "num_images with batches": (
        {"data": [np.ones((4, 8, 8, 1))], "num_images": 2},
        "num_images with a data set only; got 2",
    ),
    "images of another network": (
        {"data": [np.ones((4, 9, 9, 1), np.float32)]},
        r"can be called, and traced, as apply_fn.* \[batch, 8, 8, 1\]",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistake_is_refused(mistake, mlp, tiny_data):
    options, message = REFUSED[mistake]
    options = {"apply_fn": mlp.apply_fn, "data": tiny_data} | options
    with pytest.raises(ValueError, match=message):
        unit_similarities(mlp.spec, mlp.init(0), mlp.init(1), **options)


def test_a_generator_run_through_is_refused(mlp, tiny_data):
    batches = (tiny_data.train_images[:10] for _ in range(2))
    pair = mlp.init(0), mlp.init(1)
    unit_similarities(mlp.spec, *pair, apply_fn=mlp.apply_fn, data=batches)
    with pytest.raises(ValueError, match="A generator can be run through once"):
        unit_similarities(mlp.spec, *pair, apply_fn=mlp.apply_fn, data=batches)
