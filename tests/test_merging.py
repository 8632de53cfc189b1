"""Means, merges and ensembles of many models, against sums by hand, planted copies, all orders."""

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
from rebasin_lab import pytrees
from rebasin_lab.merging import alignment

starts = pytest.mark.parametrize("start", ["constructive", "identity"])


def mlp_params(rng, widths):
    layers = enumerate(zip(widths[:-1], widths[1:], strict=True))
    draw = rng.standard_normal
    return {"layers": {i: {"kernel": draw(s), "bias": draw(s[1])} for i, s in layers}}


def mean_over_pairs(networks):
    """The mean inner product, pair by pair, in float64."""
    return np.mean([pytrees.inner_product(a, b) for a, b in itertools.combinations(networks, 2)])


def permuted(spec, permutations, networks):
    pairs = zip(permutations, networks, strict=True)
    return [rl.apply_permutation(spec, order, params) for order, params in pairs]


# --- average ------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 1000))
def test_average_is_numpys(weights, seed):
    rng = np.random.default_rng(seed)
    networks = [mlp_params(rng, (3, 4, 2)) for _ in weights]
    mean = pytrees.flatten(rl.average(networks, weights))
    for path, leaf in mean.items():
        leaves = [pytrees.flatten(params)[path] for params in networks]
        # Sums of five in another order; entries are of size one.
        np.testing.assert_allclose(leaf, np.average(leaves, 0, weights), rtol=0, atol=1e-13)


@pytest.mark.parametrize("num_copies", range(1, 12))
def test_average_of_copies_is_the_model_bit_by_bit(mlp, trees_equal, num_copies):
    params = mlp.init_numpy(0)
    trees_equal(rl.average([params] * num_copies), params)


def test_average_is_summed_in_float64():
    networks = [{"w": np.float32([entry])} for entry in (1e8, 1, -1e8)]  # a float32 forgets the 1
    assert rl.average(networks)["w"] == np.float32(1 / 3)


def test_average_has_structure_and_types_of_the_first():
    def params(value):
        half = jnp.full(3, value, jnp.bfloat16)
        return {
            "half": (half, np.full(2, float(value))),
            "steps": np.array(int(value)),
            "s": np.float32(1),
        }

    mean = rl.average([params(1), params(2), params(2)])
    assert jax.tree.structure(mean) == jax.tree.structure(params(1))
    for leaf, like in zip(jax.tree.leaves(mean), jax.tree.leaves(params(1)), strict=True):
        assert (leaf.dtype, leaf.shape) == (like.dtype, like.shape)
        assert isinstance(leaf, jax.Array) == isinstance(like, jax.Array)
    assert mean["steps"] == 2  # 5/3, rounded
    np.testing.assert_allclose(mean["half"][1], 5 / 3)


@pytest.mark.parametrize("dtype", "bfloat16 float16 float8_e5m2 complex64 int32 int4".split())
def test_model_with_all_the_weight_is_the_average_bit_by_bit(dtype):
    one, other = ({"w": jnp.asarray(x, dtype)} for x in ([1, 3, -0.0], [2, -1, 5]))
    for weights, wanted in (([1.0, 0.0], one), ([0.0, 3.0], other)):
        mean = rl.average([one, other], weights)
        assert mean["w"].dtype == wanted["w"].dtype
        np.testing.assert_array_equal(np.asarray(mean["w"]), np.asarray(wanted["w"]))


def test_model_without_weight_leaves_nothing_in_the_average():
    diverged, fine = {"w": np.array([np.nan, np.inf, 1])}, {"w": np.ones(3)}
    assert rl.average([diverged, fine], [0.0, 2.0])["w"].tolist() == [1, 1, 1]


def test_average_of_masks_that_differ_is_refused():
    one, other = {"mask": np.array([True, False])}, {"mask": np.array([True, True])}
    assert rl.average([one, one])["mask"].tolist() == [True, False]
    with pytest.raises(ValueError, match=r"networks\[2\] as params_b: .* 'mask' differs in 1 of 2"):
        rl.average([one, one, other])


def test_networks_that_cannot_be_averaged_are_refused():
    one, wide = {"w": np.ones(2)}, {"w": np.ones(3)}
    with pytest.raises(ValueError, match="at least one network; got none"):
        rl.average([])
    with pytest.raises(
        ValueError, match=r"networks\[2\] as params_b: .* 'w' has shape \(2,\) .* \(3,\)"
    ):
        rl.average([one, one, wide])
    with pytest.raises(ValueError, match=r"array; networks\[1\] 'w' is a float"):
        rl.average([one, {"w": 1.0}])


# --- merge_many: laws ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def three(architecture):
    """Unrelated models, as read-only NumPy arrays, and their merges from both starts."""
    networks = [architecture.init_numpy(seed) for seed in range(3)]
    merges = {
        s: rl.merge_many(architecture.spec, networks, start=s) for s in ("constructive", "identity")
    }
    return networks, merges


@starts
def test_objective_is_the_mean_over_pairs_and_never_falls(architecture, three, start):
    networks, merges = three
    history, spec = merges[start].history, architecture.spec
    lined_up = permuted(spec, merges[start].permutations, networks)
    # By a square of sums, from which most is subtracted: 1e-16 of it; squares are below 1000.
    assert history[0] == pytest.approx(mean_over_pairs(networks), rel=0, abs=1e-11)
    assert history[-1] == pytest.approx(mean_over_pairs(lined_up), rel=0, abs=1e-11)
    assert history[-1] > history[0]
    assert np.diff(history).min() >= 0
    num_visits = 3 * (merges[start].num_rounds - (start == "constructive"))
    assert len(history) == 1 + (start == "constructive") + num_visits


@starts
def test_params_are_the_average_of_the_permuted_models(architecture, three, trees_equal, start):
    networks, merges = three
    lined_up = permuted(architecture.spec, merges[start].permutations, networks)
    trees_equal(merges[start].params, rl.average(lined_up))


@starts
def test_first_model_stays_and_each_computes_its_own_function(
    architecture, three, tiny_data, start
):
    networks, merges = three
    lined_up = permuted(architecture.spec, merges[start].permutations, networks)
    still = rl.identity_permutation(architecture.spec, networks[0])
    assert all((merges[start].permutations[0][name] == still[name]).all() for name in still)
    apply_fn, images = jax.jit(architecture.apply_fn), tiny_data.test_images[:20]
    for params, moved in zip(networks, lined_up, strict=True):
        logits = apply_fn(params, images)
        scale = jnp.abs(logits).max()
        # float32 sums in another order differ by about 1e-7 a layer.
        np.testing.assert_allclose(apply_fn(moved, images) / scale, logits / scale, atol=1e-5)


@starts
def test_no_model_can_be_improved_in_the_end(architecture, three, start):
    networks, merges = three
    assert merges[start].converged
    lined_up = permuted(architecture.spec, merges[start].permutations, networks)
    still = rl.identity_permutation(architecture.spec, networks[0])
    for index, params in enumerate(lined_up):
        others = rl.average([*lined_up[:index], *lined_up[index + 1 :]])
        objective = rl.match("weight", architecture.spec, others, params, start=still).objective
        # The mean is rounded to float32 here, and orders may be tied up to that.
        assert objective[-1] == pytest.approx(objective[0], rel=1e-5)


@starts
def test_planted_copies_are_merged_back_exactly(architecture, trees_equal, start):
    spec, params = architecture.spec, architecture.init_numpy(0)
    planted = [rl.random_permutation(spec, params, seed=seed) for seed in range(4)]
    copies = permuted(spec, planted, [params] * 4)
    for networks in (copies, copies[::-1]):
        result = rl.merge_many(spec, networks, start=start)
        trees_equal(result.params, networks[0])
        for moved in permuted(spec, result.permutations, networks):
            trees_equal(moved, networks[0])


def test_two_models_are_matched_as_a_pair(architecture):
    pair = [architecture.init_numpy(seed) for seed in range(2)]
    result = rl.merge_many(architecture.spec, pair, seed=3)
    matching = rl.match("weight", architecture.spec, *pair, seed=3)
    for name, order in matching.permutation.items():
        np.testing.assert_array_equal(result.permutations[1][name], order, err_msg=name)
    # float32 products there, float64 here.
    assert result.history[-1] == pytest.approx(matching.objective[-1], rel=1e-5)
    assert (result.converged, result.num_rounds) == (True, 1)


@starts
def test_one_model_is_its_own_merge(mlp, trees_equal, start):
    result = rl.merge_many(mlp.spec, [mlp.init_numpy(0)], start=start)
    trees_equal(result.params, mlp.init_numpy(0))
    assert (result.history, result.converged, result.num_rounds) == ((0.0,), True, 0)
    assert len(result.permutations) == 1


@starts
def test_same_seed_same_merge_in_numpy_and_in_jax_arrays(mlp, trees_equal, start):
    in_numpy, in_jax = (
        rl.merge_many(mlp.spec, [init(seed) for seed in range(4)], seed=1, start=start)
        for init in (mlp.init_numpy, mlp.init)
    )
    trees_equal(in_numpy.params, in_jax.params)
    assert in_numpy.history == in_jax.history
    assert isinstance(jax.tree.leaves(in_jax.params)[0], jax.Array)
    assert isinstance(jax.tree.leaves(in_numpy.params)[0], np.ndarray)


# --- merge_many: other answers ------------------------------------------------------------------


@starts
def test_no_order_of_tiny_models_is_better_than_the_best_of_all(start):
    spec, num_best = rl.mlp_permutation_spec(2), 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        networks = [mlp_params(rng, (2, 3, 3, 2)) for _ in range(3)]
        best = best_of_all_orders(spec, networks)
        found = rl.merge_many(spec, networks, seed=seed, start=start).history[-1]
        assert found <= best + 1e-12  # float64 sums of a few dozen numbers
        num_best += found > best - 1e-9
    assert num_best >= 5


def best_of_all_orders(spec, networks):
    """The largest mean over pairs, over every order of every model but the first."""
    orders = [np.array(order) for order in itertools.permutations(range(3))]
    every = [{"P_0": p, "P_1": q} for p, q in itertools.product(orders, repeat=2)]
    vectors = [
        np.array([flat(rl.apply_permutation(spec, order, params)) for order in every])
        for params in networks
    ]
    a, (b, c) = vectors[0][0], vectors[1:]  # the first order is the identity
    return ((b @ a)[:, None] + (c @ a)[None] + b @ c.T).max() / 3


def flat(params):
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(["constructive", "identity"]))
def test_related_models_end_no_lower_than_they_came(seed, num_networks, start):
    rng = np.random.default_rng(seed)
    params, *noise = (mlp_params(rng, (4, 5, 5, 3)) for _ in range(1 + num_networks))
    networks, spec = [rl.lerp(0.6, params, other) for other in noise], rl.mlp_permutation_spec(2)
    result = rl.merge_many(spec, networks, seed=seed, start=start)
    lined_up = permuted(spec, result.permutations, networks)
    assert np.diff(result.history).min() >= 0
    assert result.history[-1] == pytest.approx(mean_over_pairs(lined_up), rel=1e-12)
    assert result.converged


def test_growth_is_undone_where_models_lay_better_as_they_came(monkeypatch):
    spec, undone, reset = rl.mlp_permutation_spec(2), [], alignment._Alignment.reset

    def spy(models):
        grown = [order for orders in getattr(models, "orders", []) for order in orders.values()]
        undone.append(any((order != np.arange(5)).any() for order in grown))
        reset(models)

    monkeypatch.setattr(alignment._Alignment, "reset", spy)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        params, *noise = (mlp_params(rng, (4, 5, 5, 3)) for _ in range(7))
        networks = [rl.lerp(0.5, params, other) for other in noise]
        result = rl.merge_many(spec, networks, max_rounds=1)
        if undone[-1]:
            assert result.history[1] == result.history[0]
            orders = [order[name] for order in result.permutations for name in order]
            assert all((order == np.arange(5)).all() for order in orders)
    assert sum(undone) > 1


@starts
def test_noisy_copies_are_lined_up_better_by_many_than_in_pairs(start):
    # The mean of seven others has less noise than any one of them.
    spec, rng = rl.mlp_permutation_spec(2), np.random.default_rng(0)
    params = mlp_params(rng, (6, 32, 32, 4))
    noisy = [rl.lerp(0.45, params, mlp_params(rng, (6, 32, 32, 4))) for _ in range(8)]
    planted = [rl.random_permutation(spec, params, seed=seed) for seed in range(8)]
    networks = permuted(spec, planted, noisy)
    pairs = [rl.match("weight", spec, networks[0], other).permutation for other in networks]

    def share_of_units_found(orders):
        undone = [rl.invert_permutation(order) for order in planted]
        right = [rl.compose_permutations(planted[0], order) for order in undone]
        return np.mean([o[n] == r[n] for o, r in zip(orders, right, strict=True) for n in o])

    assert share_of_units_found(pairs) < 0.95
    assert share_of_units_found(rl.merge_many(spec, networks, start=start).permutations) == 1


# --- merge_many: how it goes about it -----------------------------------------------------------


def test_no_matching_is_done_twice(mlp, monkeypatch):
    asked, match = [], alignment.weight_matching

    def spy(spec, mean, params, **options):
        start = options["start"] is None
        asked.append((start, flat(mean).tobytes(), flat(params).tobytes()))
        return match(spec, mean, params, **options)

    monkeypatch.setattr(alignment, "weight_matching", spy)
    result = rl.merge_many(mlp.spec, [mlp.init_numpy(seed) for seed in range(5)])
    assert len(set(asked)) == len(asked) < 5 * result.num_rounds
    assert result.converged


@starts
def test_rounds_are_counted_told_and_limited(mlp, start):
    networks = [mlp.init_numpy(seed) for seed in range(4)]
    whole = rl.merge_many(mlp.spec, networks, start=start)
    assert whole.num_rounds > 2
    for max_rounds in (1, 2, whole.num_rounds):
        told = []
        result = rl.merge_many(
            mlp.spec, networks, start=start, max_rounds=max_rounds, on_round=told.append
        )
        assert result.num_rounds == len(told) == max_rounds
        assert result.converged == (max_rounds == whole.num_rounds)
        assert result.history == whole.history[: len(result.history)]
        assert told[-1] == result.history[-1]
    assert 0 < whole.seconds < 60


def test_effort_is_that_of_each_matching(mlp, monkeypatch):
    # More of it need not end higher: the steps are better, the way is another.
    asked, match = [], alignment.weight_matching

    def spy(*arguments, **options):
        asked.append(options["effort"])
        return match(*arguments, **options)

    monkeypatch.setattr(alignment, "weight_matching", spy)
    for effort in ("fast", "thorough"):
        result = rl.merge_many(mlp.spec, [mlp.init_numpy(s) for s in range(3)], effort=effort)
        assert result.converged
        assert set(asked) == {effort}
        asked.clear()


def test_what_nobody_moves_does_not_decide_what_counts_as_progress(mlp):
    networks = [mlp.init_numpy(seed) for seed in range(3)]
    spec = rl.PermutationSpec({**mlp.spec.axes, "counter": (None,), "step": ()})
    counting = [
        {**params, "counter": np.float32([1e8]), "step": np.int32(7)} for params in networks
    ]
    without, beside = rl.merge_many(mlp.spec, networks), rl.merge_many(spec, counting)
    for one, other in zip(without.permutations, beside.permutations, strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    assert beside.params["counter"] == np.float32(1e8)
    assert (beside.params["step"], beside.params["step"].dtype) == (7, np.int32)


# --- merge_many: what it refuses ----------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("matched before all was checked")

    monkeypatch.setattr(alignment, "weight_matching", refuse)


@pytest.mark.usefixtures("no_work")
def test_models_that_cannot_be_merged_are_refused_before_any_work(mlp):
    networks = [mlp.init_numpy(seed) for seed in range(3)]
    with pytest.raises(ValueError, match="at least one network; got none"):
        rl.merge_many(mlp.spec, [])
    broken = jax.tree.map(lambda leaf: leaf * np.nan, networks[2])
    with pytest.raises(ValueError, match=r"networks\[2\] '.*' holds .* NaN"):
        rl.merge_many(mlp.spec, [*networks[:2], broken])
    other = mlp_params(np.random.default_rng(0), (64, 16, 8, 16, 10))
    with pytest.raises(ValueError, match=r"networks\[1\] as params_b: .* of one architecture"):
        rl.merge_many(mlp.spec, [networks[0], other])
    with pytest.raises(ValueError, match="Expected the spec to name every parameter"):
        rl.merge_many(rl.mlp_permutation_spec(2), networks)
    with pytest.raises(ValueError, match="Expected the spec to name every parameter"):
        rl.merge_many(rl.mlp_permutation_spec(2), networks[:1])


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed to be an int of at least 0; got -1"),
        ({"max_rounds": 0}, "max_rounds to be a positive int; got 0"),
    ],
)
def test_options_are_checked_before_any_work(mlp, options, message):
    with pytest.raises(ValueError, match=message):
        rl.merge_many(mlp.spec, [mlp.init_numpy(seed) for seed in range(2)], **options)


# --- ensemble -----------------------------------------------------------------------------------

combinations = pytest.mark.parametrize("combine", ["log_probabilities", "probabilities"])


def linear(params, images):
    return images.reshape(images.shape[0], -1) @ params["w"]


@pytest.fixture(scope="module")
def linears():
    rng = np.random.default_rng(0)
    return [{"w": rng.standard_normal((64, 10)).astype(np.float32)} for _ in range(3)]


@combinations
def test_ensemble_is_numpys(tiny_data, linears, combine):
    images = tiny_data.test_images
    logits = np.array([np.float64(linear(params, images)) for params in linears])
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if combine == "probabilities":
        expected = np.log(probabilities.mean(0))
    else:
        geometric = probabilities.prod(0) ** (1 / 3)
        expected = np.log(geometric / geometric.sum(-1, keepdims=True))
    found = rl.ensemble(linear, combine)(linears, images)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # float32; log-probabilities down to -30


@combinations
def test_ensemble_has_no_higher_loss_than_its_members_have_on_average(tiny_data, linears, combine):
    # Jensen for a mean of probabilities; a geometric mean is normalised up.
    test = tiny_data.test_images, tiny_data.test_labels
    mean = np.mean([rl.evaluate(linear, params, *test).loss for params in linears])
    assert rl.evaluate(rl.ensemble(linear, combine), linears, *test).loss < mean


@combinations
def test_ensemble_of_copies_is_the_model(tiny_data, linears, combine):
    test = tiny_data.test_images, tiny_data.test_labels
    alone = rl.evaluate(linear, linears[0], *test)
    for num_copies in (1, 3):
        together = rl.evaluate(rl.ensemble(linear, combine), linears[:1] * num_copies, *test)
        assert together.loss == pytest.approx(alone.loss, rel=1e-5)  # float32
        assert together.accuracy == alone.accuracy


@combinations
def test_ensemble_bears_huge_logits(tiny_data, linears, combine):
    huge = jax.tree.map(lambda leaf: 1e4 * leaf, linears)
    found = rl.ensemble(linear, combine)(huge, tiny_data.test_images)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-5)


def test_ensemble_is_made_once_and_compiled_once(tiny_data, linears):
    traced = []

    def apply_fn(params, images):
        traced.append(images.shape)
        return linear(params, images)

    test = tiny_data.test_images, tiny_data.test_labels
    for _ in range(2):
        rl.evaluate(rl.ensemble(apply_fn), linears, *test)
    assert len(traced) == 6  # once for each model to check its outputs, once to compile it
    model = rl.build_model("mlp", dataset=tiny_data, width=4, num_hidden_layers=1)
    assert rl.ensemble(model.apply) is rl.ensemble(model.apply, combine="log_probabilities")
    assert rl.ensemble(model.apply) is not rl.ensemble(model.apply, "probabilities")


# --- running statistics -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Normalised:
    """One linear layer, and the mean and variance of each of its units over the batch."""

    statistics_paths: frozenset[str] = frozenset({"norm/mean", "norm/var"})

    def apply_training(self, params, images):
        units = images.reshape(images.shape[0], -1) @ params["w"]
        statistics = {"mean": units.mean(0), "var": units.var(0)}
        return units, {**params, "norm": statistics if self.statistics_paths else params["norm"]}


def normalised_params():
    w = jnp.asarray(np.random.default_rng(0).standard_normal((64, 5)), jnp.float32)
    return {"norm": {"mean": jnp.full(5, jnp.nan), "var": np.zeros(5, np.float32)}, "w": w}


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [100]),  # fewer images than one batch has
        ({"batch_size": 50}, [50, 50]),
        ({"batch_size": 30}, [30, 30, 30]),  # the last ten are not used
        ({"batch_size": 30, "num_batches": 2}, [30, 30]),
        ({"batch_size": 30, "num_batches": 9}, [30, 30, 30]),
    ],
)
def test_statistics_are_the_means_over_batches(tiny_data, options, sizes):
    params, images = normalised_params(), tiny_data.test_images
    found = rl.merging.reestimate_statistics(Normalised(), params, images, **options)
    units = np.float64(images.reshape(100, -1)) @ np.float64(params["w"])
    batches = [units[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    # float32 products of 64 numbers.
    mean, variance = (np.mean([f(batch, 0) for batch in batches], 0) for f in (np.mean, np.var))
    np.testing.assert_allclose(found["norm"]["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["norm"]["var"], variance, rtol=1e-4)


def test_only_statistics_are_replaced_and_types_stay(tiny_data):
    params = normalised_params()
    found = rl.merging.reestimate_statistics(Normalised(), params, tiny_data.test_images)
    assert found["w"] is params["w"]
    assert isinstance(found["norm"]["mean"], jax.Array)
    assert isinstance(found["norm"]["var"], np.ndarray)
    assert found["norm"]["var"].dtype == np.float32
    assert np.isnan(params["norm"]["mean"]).all()  # what came in is as it was


def test_model_without_statistics_is_returned_as_it_is(tiny_data):
    params, images = normalised_params(), tiny_data.test_images
    assert rl.merging.reestimate_statistics(Normalised(frozenset()), params, images) is params
    model = rl.build_model("mlp", dataset=tiny_data, width=4, num_hidden_layers=1)
    params = model.init(jax.random.key(0))
    assert rl.merging.reestimate_statistics(model, params, images) is params


@pytest.mark.parametrize("batch_size", [7, 21])
def test_statistics_of_any_function_are_those_of_all_images(tiny_data, batch_size):
    model = rl.build_model("resnet8_bn", dataset=tiny_data, width_multiplier=1 / 4)
    params, images = model.init(jax.random.key(0)), tiny_data.train_images[:63]
    measure = rl.merging.reestimate_statistics
    found = measure(model.apply, params, images, batch_size=batch_size)
    wanted = measure(model, params, images, batch_size=63)
    assert pytrees.flatten(found).keys() == pytrees.flatten(params).keys()
    for path, leaf in pytrees.flatten(wanted).items():
        scale = np.abs(leaf).max()
        np.testing.assert_allclose(
            pytrees.flatten(found)[path], leaf, atol=1e-4 * scale, rtol=1e-3, err_msg=path
        )
    again = measure(model.apply, found, images, batch_size=batch_size)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4), again, found)


def test_statistics_of_a_function_without_any_stay():
    params = {"w": np.ones((3, 2), np.float32), "mean": np.ones(2, np.float32)}
    assert (
        rl.merging.reestimate_statistics(lambda p, x: x @ p["w"], params, np.ones((4, 3))) is params
    )


def test_statistics_of_every_layer_of_a_network_are_measured(tiny_data):
    model = rl.build_model("resnet8_bn", dataset=tiny_data, width_multiplier=0.25)
    params, images = model.init(jax.random.key(0)), tiny_data.test_images[:20]
    found = rl.merging.reestimate_statistics(model, params, images)
    before, after = pytrees.flatten(params), pytrees.flatten(found)
    assert {path for path in before if after[path] is not before[path]} == model.statistics_paths
    for path in model.statistics_paths:
        assert np.isfinite(after[path]).all()
        assert (after[path] != before[path]).all()  # zeros and ones


def test_parameters_of_another_model_are_refused(tiny_data):
    with pytest.raises(ValueError, match="'norm/mean' is missing, 2 in all"):
        rl.merging.reestimate_statistics(Normalised(), {"w": np.ones(1)}, tiny_data.test_images)


@pytest.mark.parametrize("num_networks", [2, 3])
def test_merge_many_compares_nothing_that_is_ignored(num_networks):
    """Stale statistics, far larger than weights, would decide; they are moved and averaged."""
    rng = np.random.default_rng(0)
    spec = rl.PermutationSpec(
        {
            "layer1.0.conv.weight": ("P", None),
            "layer1.0.bn1.running_mean": ("P",),
            "layer1.0.bn1.running_var": ("P",),
            "head.weight": (None, "P"),
        }
    )
    shapes = {"layer1.0.conv.weight": (16, 9), "head.weight": (5, 16)}
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    orders = [
        rl.random_permutation(spec, {**weights, **_statistics(rng)}, seed=seed)
        for seed in range(num_networks)
    ]
    networks = [
        rl.apply_permutation(spec, order, {**weights, **_statistics(rng)})
        | rl.apply_permutation(spec, order, {**weights, **_statistics(rng, stale=True)})
        for order in orders
    ]
    for ignore in (["bn1"], ["layer1.0.bn1"], ["layer1/0/bn1"], ["running_mean", "running_var"]):
        merged = rl.merge_many(spec, networks, ignore=ignore)
        np.testing.assert_allclose(
            np.sort(merged.params["head.weight"], 1),
            np.sort(networks[0]["head.weight"], 1),
            rtol=1e-6,
        )
        moved = [
            rl.apply_permutation(spec, order, network)
            for order, network in zip(merged.permutations, networks, strict=True)
        ]
        bn = "layer1.0.bn1.running_mean"
        np.testing.assert_allclose(
            merged.params[bn], np.mean([network[bn] for network in moved], axis=0), rtol=1e-6
        )
        compared = [name for name in spec.axes if "bn1" not in name]
        expected = np.mean(
            [
                sum(np.vdot(one[name].astype(float), other[name]) for name in compared)
                for i, one in enumerate(moved)
                for j, other in enumerate(moved)
                if i != j
            ]
        )
        assert merged.history[-1] == pytest.approx(expected, rel=1e-6)


def _statistics(rng, stale=False):
    scale = 1e3 if stale else 1.0
    names = ("layer1.0.bn1.running_mean", "layer1.0.bn1.running_var")
    return {name: (scale * rng.random(16)).astype(np.float32) for name in names}
