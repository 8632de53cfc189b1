"""Weight matching: against Algorithm 1 written naively, and what its options promise."""

import tracemalloc

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from oracles import assert_same_permutation, norms, objective, plant
from rebasin_lab import pytrees, symmetry
from rebasin_lab.matching import assignment

TOLERANCE = 1e-7  # of the norms: below it a gain is rounding in float32 products


def algorithm_1(spec, params_a, params_b, seed):
    """Ainsworth et al. 2022, Algorithm 1: everything anew at every visit, all in float64."""
    network_spec = spec
    (spec, a), (_, b) = (
        symmetry.split_into_blocks(
            network_spec, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        )
        for params in (params_a, params_b)
    )

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
    # Of the whole networks, so that a block cut wrongly shows.
    history = [objective(network_spec, current, params_a, params_b)]
    moved, names, visits = True, list(current), 0
    while moved:
        moved = False
        for index in rng.permutation(len(names)):
            visits += 1
            name = names[index]
            candidate = current | {name: assignment.solve_assignment(similarity(name))}
            found = objective(network_spec, candidate, params_a, params_b)
            if found - history[-1] > TOLERANCE * norms(params_a, params_b):
                current, moved = candidate, True
            history.append(max(found, history[-1]) if current is candidate else history[-1])
    return current, history, visits


def test_algorithm_1_is_the_papers(architecture, pair, seed):
    spec = architecture.spec.shared()  # groups that vary are in test_families
    result = rl.match("algorithm_1", spec, *pair, seed=seed)
    permutation, history, visits = algorithm_1(spec, *pair, seed)
    assert_same_permutation(result.permutation, permutation)
    assert visits == len(spec.permutations) * result.num_sweeps
    # The library multiplies in float32: 1e-7 of the norms, whose product is about 100 here.
    np.testing.assert_allclose(result.objective, history, rtol=1e-6, atol=1e-5)


def test_groups_that_are_up_to_date_are_not_solved_again(mlp):
    result = rl.match("algorithm_1", mlp.spec, mlp.init_numpy(0), mlp.init_numpy(1))
    _, _, visits = algorithm_1(mlp.spec, mlp.init_numpy(0), mlp.init_numpy(1), 0)
    assert 0 < result.num_assignments < visits


def test_seed_fixes_the_visiting_order_of_algorithm_1_and_not_the_growth(mlp):
    # On a narrow, deep net coordinate ascent ends in one of many local optima.
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    for method, num_ends in (("algorithm_1", range(2, 10)), ("weight", range(1, 2))):
        ends = {rl.match(method, mlp.spec, *pair, seed=s).objective[-1] for s in range(9)}
        assert len(ends) in num_ends


def residual_network(rng, num_blocks=6):
    """Every block reads and writes one stream, and so says little while others are unmatched."""

    def draw(*shape):
        return rng.standard_normal(shape) / np.sqrt(shape[0])

    blocks = [{"up": draw(16, 24), "down": draw(24, 16)} for _ in range(num_blocks)]
    return {"stem": draw(16, 16), "blocks": blocks, "head": draw(16, 4)}


def test_growth_finds_what_algorithm_1_misses():
    axes = {"stem": (None, "stream"), "head": ("stream", None)}
    for i in range(6):
        axes |= {f"blocks/{i}/up": ("stream", f"P_{i}"), f"blocks/{i}/down": (f"P_{i}", "stream")}
    spec, found = rl.PermutationSpec(axes), {"weight": 0, "algorithm_1": 0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        params_a = residual_network(rng)
        params_b, planted = plant(spec, rl.lerp(0.5, params_a, residual_network(rng)), seed)
        for method in found:
            permutation = rl.match(method, spec, params_a, params_b).permutation
            found[method] += all(np.array_equal(permutation[n], planted[n]) for n in planted)
    # Written with 10 and 0.
    assert found["weight"] == 10
    assert found["algorithm_1"] < 5


def test_distance_follows_from_the_objective(architecture, pair):
    params_a, params_b = pair
    result = rl.match("weight", architecture.spec, *pair)
    moved = rl.apply_permutation(architecture.spec, result.permutation, params_b)
    squares = pytrees.inner_product(params_a, params_a) + pytrees.inner_product(params_b, params_b)
    assert rl.distance(params_a, moved) ** 2 == pytest.approx(
        squares - 2 * result.objective[-1], rel=1e-5
    )


def test_order_of_bs_units_has_no_influence(architecture, pair, trees_equal):
    spec, (params_a, params_b) = architecture.spec, pair
    if "g" in spec.permutations:
        pytest.skip("pairs of groups of a convolution are matched by local searches")
    relabelled, _ = plant(spec, params_b)
    for options in ({}, {"normalize": True}):
        ends = [
            rl.apply_permutation(
                spec, rl.match("weight", spec, params_a, b, **options).permutation, b
            )
            for b in (params_b, relabelled)
        ]
        trees_equal(*ends)


def test_related_models_end_no_lower_than_they_began():
    spec, lifted = rl.mlp_permutation_spec(3), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        params_a, noise = (mlp_params(rng, (4, 6, 6, 6, 3)) for _ in range(2))
        params_b = rl.lerp(0.6, params_a, noise)
        result = rl.match("weight", spec, params_a, params_b)
        assert np.diff(result.objective).min() >= 0
        assert result.objective[-1] == max(start.objective for start in result.starts)
        lifted += "identity" in [start.name for start in result.starts]
    assert lifted  # in some, the first pass falls, and the identity is tried as well


def mlp_params(rng, widths):
    layers = enumerate(zip(widths[:-1], widths[1:], strict=True))
    draw = rng.standard_normal
    return {"layers": {i: {"kernel": draw(s), "bias": draw(s[1])} for i, s in layers}}


def test_blocks_have_the_inner_product_of_the_networks(architecture, pair):
    _, blocks_a = symmetry.split_into_blocks(architecture.spec, pair[0])
    blocks_spec, blocks_b = symmetry.split_into_blocks(architecture.spec, pair[1])
    blocks_spec.validate(blocks_b)
    expected = pytrees.inner_product(*pair)
    assert pytrees.inner_product(blocks_a, blocks_b) == pytest.approx(expected, rel=1e-9)
    assert {path.rpartition("#")[0] for path in blocks_a} == set(architecture.spec.axes)


def test_planted_permutation_is_found_where_no_axis_carries_one_name():
    rng = np.random.default_rng(0)
    spec = rl.PermutationSpec({"v": (None, "2*(P+Q)+3"), "w": ("Q*4+P", None)}, {"P": 16})
    params_a = {"v": rng.standard_normal((5, 75)), "w": rng.standard_normal((96, 3))}
    params_b, planted = plant(spec, params_a, seed=1)
    assert {name: indices.size for name, indices in planted.items()} == {"P": 16, "Q": 20}
    assert_same_permutation(rl.match("weight", spec, params_a, params_b).permutation, planted)


# --- effort, sweeps, starts ---------------------------------------------------------------------


def test_more_effort_ends_no_lower(architecture):
    pair = architecture.init_numpy(0), architecture.init_numpy(1)
    fast, default, thorough = (
        rl.match("weight", architecture.spec, *pair, effort=effort)
        for effort in ("fast", "default", "thorough")
    )
    assert fast.objective[-1] <= default.objective[-1] <= thorough.objective[-1]
    assert fast.num_sweeps <= 2
    for result in (default, thorough):
        assert result.converged
        found = objective(architecture.spec, result.permutation, *pair)
        slack = 1e-6 * norms(*pair)
        assert result.objective[-1] == pytest.approx(found, rel=0, abs=slack)


def test_thorough_says_where_it_set_out_from(mlp):
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    result = rl.match("weight", mlp.spec, *pair, effort="thorough")
    assert [start.name for start in result.starts] == [
        "constructive",
        "identity",
        *["neighbourhood"] * 20,
    ]
    best = max(start.objective for start in result.starts)
    # Of two that end alike up to rounding, the first is kept.
    assert result.objective[-1] == pytest.approx(best, rel=1e-7)
    assert sum(start.seconds for start in result.starts) < result.seconds
    [only] = rl.match("weight", mlp.spec, *pair).starts
    assert (only.name, only.objective) == ("constructive", result.starts[0].objective)


def test_thorough_draws_from_the_seed(mlp):
    pair = mlp.init_numpy(0), mlp.init_numpy(1)
    first, again, other = (
        rl.match("weight", mlp.spec, *pair, effort="thorough", seed=seed) for seed in (0, 0, 1)
    )
    assert first.objective == again.objective
    assert [s.objective for s in first.starts] != [s.objective for s in other.starts]


@pytest.mark.parametrize("method", ["weight", "algorithm_1"])
def test_sweeps_are_counted_and_limited(method, architecture, pair):
    whole = rl.match(method, architecture.spec, *pair)
    for max_sweeps in (1, whole.num_sweeps):
        result = rl.match(method, architecture.spec, *pair, max_sweeps=max_sweeps)
        assert result.num_sweeps == min(max_sweeps, whole.num_sweeps)
        assert result.converged == (max_sweeps >= whole.num_sweeps)


def test_start_is_improved_and_never_made_worse(architecture, pair, seed):
    spec, (params_a, params_b) = architecture.spec, pair
    start = rl.random_permutation(spec, params_b, seed=seed)
    result = rl.match("weight", spec, params_a, params_b, start=start, seed=seed)
    first = objective(spec, start, params_a, params_b)
    assert result.objective[0] == pytest.approx(first, rel=0, abs=1e-6 * norms(*pair))
    assert result.objective[-1] > result.objective[0]
    again = rl.match("weight", spec, params_a, params_b, start=result.permutation)
    assert_same_permutation(again.permutation, result.permutation)
    assert (again.converged, again.num_sweeps) == (True, 1)


def vectors_of(spec):
    """Biases, scales and running statistics: leaves of one axis."""
    return [path for path, names in spec.axes.items() if len(names) == 1]


@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_ignored_counts_as_little_as_zeros(architecture, pair, normalize):
    spec, ignored = architecture.spec, vectors_of(architecture.spec)
    result = rl.match("weight", spec, *pair, ignore=ignored, normalize=normalize)
    without = [
        pytrees.map_with_path(lambda path, x: x * (path not in ignored), params) for params in pair
    ]
    expected = rl.match("weight", spec, *without, normalize=normalize)
    assert_same_permutation(result.permutation, expected.permutation)
    np.testing.assert_allclose(result.objective, expected.objective, rtol=1e-5)


@pytest.mark.parametrize("method", ["weight", "algorithm_1"])
def test_stale_statistics_mislead_unless_they_are_ignored(method):
    """Weights say what belongs together, large statistics the opposite."""
    rng = np.random.default_rng(0)
    spec = rl.PermutationSpec(
        {"dense/in": (None, "P_0"), "dense/out": ("P_0", None), "stats/mean": ("P_0",)}
    )
    network = {
        "dense": {"in": rng.normal(size=(4, 8)), "out": rng.normal(size=(8, 3))},
        "stats": {"mean": 100.0 * np.arange(8)},
    }
    order = {"P_0": rng.permutation(8)}
    copy = rl.apply_permutation(spec, order, network)
    copy["stats"] = {"mean": 100.0 * np.arange(8)}
    undo = rl.invert_permutation(order)
    for ignore in (["stats"], ["stats/mean"], {"stats/mean", "stats"}):
        found = rl.match(method, spec, network, copy, ignore=ignore).permutation
        assert_same_permutation(found, undo)
    assert (rl.match(method, spec, network, copy).permutation["P_0"] != undo["P_0"]).any()


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        (["stat"], r"'stat' is none. Did you mean 'stats'\? The network has: w, stats/mean"),
        ("stats", r"ignore to be None or a list.*; got 'stats' in .*. Write \['stats'\]"),
        (["w"], "'P_0' moves only w"),
    ],
)
def test_wrong_ignore_is_refused(ignore, message):
    spec = rl.PermutationSpec({"w": (None, "P_0"), "stats/mean": (None,)})
    params = {"w": np.eye(3), "stats": {"mean": np.ones(2)}}
    with pytest.raises(ValueError, match=message):
        rl.match("weight", spec, params, params, ignore=ignore)


# --- normalised weights -------------------------------------------------------------------------


def normalized_mlp(params):
    """Every weight over the geometric mean of the norms of the units it connects, in float64."""
    layers = [jax.tree.map(np.float64, params["layers"][i]) for i in sorted(params["layers"])]
    units = [
        np.sqrt((low["kernel"] ** 2).sum(0) + low["bias"] ** 2 + (high["kernel"] ** 2).sum(1))
        for low, high in zip(layers[:-1], layers[1:], strict=True)
    ]
    first, *middle, last = layers
    scaled = [{"kernel": first["kernel"] / units[0], "bias": first["bias"] / units[0]}]
    for index, layer in enumerate(middle):
        below, above = units[index], units[index + 1]
        kernel = layer["kernel"] / np.sqrt(below[:, None] * above)
        scaled.append({"kernel": kernel, "bias": layer["bias"] / above})
    scaled.append({"kernel": last["kernel"] / units[-1][:, None], "bias": last["bias"]})
    return {"layers": dict(enumerate(scaled))}


def test_normalised_matching_is_that_of_weights_normalised_by_hand(mlp, seed):
    pair = mlp.init_numpy(2 * seed), mlp.init_numpy(2 * seed + 1)
    result = rl.match("weight", mlp.spec, *pair, normalize=True)
    by_hand = rl.match("weight", mlp.spec, *map(normalized_mlp, pair))
    assert_same_permutation(result.permutation, by_hand.permutation)
    np.testing.assert_allclose(result.objective, by_hand.objective, rtol=1e-5)
    assert result.quantity == "inner product of normalised weights"
    plain = rl.match("weight", mlp.spec, *pair)
    assert any(np.any(plain.permutation[n] != result.permutation[n]) for n in plain.permutation)


@pytest.mark.parametrize("normalize", [False, True])
def test_scale_of_all_weights_has_no_influence(architecture, pair, normalize):
    results = [
        rl.match(
            "weight",
            architecture.spec,
            *jax.tree.map(lambda leaf, scale=scale: np.float32(scale) * leaf, pair),
            normalize=normalize,
        )
        for scale in (1, 0.25)  # a power of two changes no digit
    ]
    assert_same_permutation(results[0].permutation, results[1].permutation)


def test_dead_unit_stays_dead_when_normalised():
    spec, rng = rl.mlp_permutation_spec(1), np.random.default_rng(0)
    params_a = mlp_params(rng, (5, 6, 3))
    for leaf in jax.tree.leaves(params_a["layers"][0]):
        leaf[..., 4] = 0
    params_a["layers"][1]["kernel"][4] = 0
    params_b, planted = plant(spec, params_a)
    result = rl.match("weight", spec, params_a, params_b, normalize=True)
    assert_same_permutation(result.permutation, planted)
    assert np.isfinite(result.objective).all()


def test_order_of_axes_has_no_influence_on_normalised_weights():
    axes = {"q": ("s", "h", "d[h]"), "o": ("h", "d[h]", "s"), "e": (None, "s")}
    turned = {name: entries[::-1] for name, entries in axes.items()}
    rng, shapes = np.random.default_rng(0), {"q": (6, 3, 4), "o": (3, 4, 6), "e": (5, 6)}
    pair = [{name: rng.standard_normal(shapes[name]) for name in axes} for _ in range(2)]
    found = rl.match("weight", rl.PermutationSpec(axes), *pair, normalize=True)
    other = rl.match(
        "weight", rl.PermutationSpec(turned), *jax.tree.map(np.transpose, pair), normalize=True
    )
    assert_same_permutation(found.permutation, other.permutation)
    np.testing.assert_allclose(found.objective, other.objective, rtol=1e-5)


def test_attention_is_matched_by_normalised_weights():
    spec = rl.PermutationSpec({"q": ("s", "h", "d[h]"), "o": ("h*d[h]", "s"), "e": (None, "s")})
    rng = np.random.default_rng(0)
    shapes = {"q": (12, 3, 4), "o": (12, 12), "e": (8, 12)}
    params_a = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    params_a["q"][:, 1] *= 100  # one large head
    params_b, planted = plant(spec, params_a)
    result = rl.match("weight", spec, params_a, params_b, normalize=True)
    assert_same_permutation(result.permutation, planted)


def test_peak_memory_is_at_most_three_times_the_two_models():
    spec, rng = rl.mlp_permutation_spec(3), np.random.default_rng(0)
    widths = [784, 512, 512, 512, 10]
    pair = [
        {
            "layers": {
                i: {
                    "kernel": rng.standard_normal(shape, np.float32),
                    "bias": rng.standard_normal(shape[1], np.float32),
                }
                for i, shape in enumerate(zip(widths[:-1], widths[1:], strict=True))
            }
        }
        for _ in range(2)
    ]
    two_models = sum(leaf.nbytes for leaf in jax.tree.leaves(pair))
    tracemalloc.start()
    try:
        rl.match("weight", spec, *pair)
        _, beside_them = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert two_models + beside_them <= 3 * two_models


# Groups that one array holds alone


def copies_of_a_pixel(num_channels, num_units, num_copies):
    """A linear layer after a flatten that reads copies of one value for each channel."""
    axes = {"conv": ("c", None), "fc": ("h", "c*k[c,h]"), "out": (None, "h")}
    shapes = {
        "conv": (num_channels, 9),
        "fc": (num_units, num_channels * num_copies),
        "out": (5, num_units),
    }
    spec = rl.PermutationSpec(axes)
    rng = np.random.default_rng(0)
    return spec, {path: rng.normal(size=shape) for path, shape in shapes.items()}


@pytest.mark.parametrize("normalize", [False, True])
def test_copies_of_one_value_come_back_in_little_memory(normalize):
    spec, params = copies_of_a_pixel(512, 1024, 16)  # tables for all pairs: 1 TB
    permuted, wanted = plant(spec, params)
    found = rl.match("weight", spec, params, permuted, normalize=normalize)
    assert_same_permutation(found.permutation, wanted)


@pytest.mark.parametrize("start", [None, "identity"])
def test_copies_of_one_value_are_in_the_best_order(start):
    spec, a = copies_of_a_pixel(4, 6, 3)
    b = {path: np.random.default_rng(1).normal(size=x.shape) for path, x in a.items()}
    start = start and rl.identity_permutation(spec, a)
    found = rl.match("weight", spec, a, b, start=start)
    value = objective(spec, found.permutation, a, b)
    assert found.objective[-1] == pytest.approx(value, rel=1e-5)
    moved = rl.apply_permutation(spec, found.permutation, b)
    by_size = [np.sort(x["fc"].reshape(6, 4, 3)) for x in (a, moved)]
    assert np.vdot(a["fc"], moved["fc"]) == pytest.approx(np.vdot(*by_size))
