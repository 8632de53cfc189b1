"""One-pass statistics against NumPy in float64, which sees all samples at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab.matching.statistics import gather_statistics
from rebasin_lab.symmetry.activations import trace_activations

N = 5  # units
NUM_SAMPLES = 12
SPEC = rl.PermutationSpec({"in": (None, "P"), "out": ("P", None)})

# The two models hand on one half of their input each, so that a test chooses their activations.
PARAMS_A = {"in": jnp.eye(2 * N, N), "out": jnp.ones((N, 1))}
PARAMS_B = {"in": jnp.eye(2 * N, N, -N), "out": jnp.ones((N, 1))}


def apply_fn(params, x):
    # HIGHEST, so that a product with ones and zeros is exact everywhere.
    hidden = jnp.matmul(x, params["in"], precision=jax.lax.Precision.HIGHEST)
    return hidden @ params["out"]


@functools.cache  # and with it what is compiled for a batch size
def traced():
    return trace_activations(apply_fn, SPEC, PARAMS_A, jax.ShapeDtypeStruct((2, 2 * N), "float32"))


def gather(batches, **options):
    [result] = gather_statistics(traced(), PARAMS_A, PARAMS_B, batches, **options).values()
    return result


def draw(num_samples, *, seed=0, mean=0.0, spread=1.0):
    """Correlated units of A and of B side by side, as float32."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((num_samples, 2 * N)) @ rng.standard_normal((2 * N, 2 * N))
    return (mean + spread * mixed).astype(np.float32)


def two_pass(x):
    """Means, variances and mean centred products of all samples, in float64."""
    a, b = np.split(x.astype(np.float64), 2, axis=1)
    centred_a, centred_b = a - a.mean(0), b - b.mean(0)
    return a.mean(0), b.mean(0), a.var(0), b.var(0), centred_a.T @ centred_b / len(x)


@settings(max_examples=60)
@given(
    cuts=st.sets(st.integers(1, NUM_SAMPLES - 1)),
    seed=st.integers(0, 2**32 - 1),
    mean=st.sampled_from([0.0, 1.0, 1e4]),
    spread=st.sampled_from([0.1, 1.0, 1e3]),
)
def test_any_way_of_cutting_data_gives_what_two_passes_give(cuts, seed, mean, spread):
    x = draw(NUM_SAMPLES, seed=seed, mean=mean, spread=spread)
    found = gather(np.split(x, sorted(cuts)))
    mean_a, mean_b, variance_a, variance_b, covariance = two_pass(x)
    assert (found.count, found.entries) == (NUM_SAMPLES, ("P",))
    # The data are exact float32 numbers; products and their sums are rounded to it (1e-7), about
    # the means, so relative to the spread of the units and not to how large they are.
    scale_a, scale_b = np.sqrt(variance_a), np.sqrt(variance_b)
    np.testing.assert_allclose((found.mean_a - mean_a) / scale_a, 0, atol=1e-6)
    np.testing.assert_allclose((found.mean_b - mean_b) / scale_b, 0, atol=1e-6)
    np.testing.assert_allclose(found.variance_a, variance_a, rtol=1e-5)
    np.testing.assert_allclose(found.variance_b, variance_b, rtol=1e-5)
    error = found.comoment / NUM_SAMPLES - covariance
    np.testing.assert_allclose(error / np.outer(scale_a, scale_b), 0, atol=1e-5)
    expected = np.corrcoef(x.astype(np.float64), rowvar=False)[:N, N:]
    np.testing.assert_allclose(found.correlation(), expected, atol=1e-5)
    expected = covariance + np.outer(mean_a, mean_b)
    np.testing.assert_allclose(found.second_moment(), expected, rtol=1e-5, atol=1e-5 * spread**2)


def test_tiny_variances_beside_large_means_keep_their_digits():
    # At 1e4 neighbouring float32 numbers are 0.001 apart: E[x^2] - E[x]^2 in float32 would be
    # noise of size 10, and a mean in float32 alone would be off by as much as units vary.
    x = draw(4000, mean=1e4, spread=0.01)
    found = gather(np.split(x, [1000, 1700]))
    expected = np.corrcoef(x.astype(np.float64), rowvar=False)[:N, N:]
    np.testing.assert_allclose(found.correlation(), expected, atol=1e-5)
    np.testing.assert_allclose(found.variance_a, two_pass(x)[2], rtol=1e-5)


def test_many_samples_in_one_batch_keep_their_digits():
    x = draw(300_000, mean=100.0)
    mean_a, _, variance_a, _, covariance = two_pass(x)
    found = gather([x])
    np.testing.assert_allclose(found.mean_a, mean_a, rtol=1e-7)
    # Sums of 300,000 squares in float32, term by term in the worst case.
    np.testing.assert_allclose(found.variance_a, variance_a, rtol=1e-4)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(found.comoment / len(x) / scale, covariance / scale, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1e4, 1e-30])
def test_a_unit_that_never_changes_has_correlation_zero(value):
    x = draw(40)
    x[:, [1, N + 2]] = value
    correlation = gather(np.split(x, [7, 30])).correlation()
    dead = np.zeros((N, N), bool)
    dead[1, :] = dead[:, 2] = True
    assert (correlation[dead] == 0).all()
    assert np.abs(correlation[~dead]).min() > 0


def test_one_sample_says_nothing_about_correlation():
    found = gather([draw(1)])
    assert (found.correlation() == 0).all()
    np.testing.assert_allclose(found.second_moment(), np.outer(*np.split(draw(1)[0], 2)), rtol=1e-6)


def test_a_copy_has_correlation_one_and_a_mirror_image_minus_one():
    x = draw(500)
    x[:, N:] = -3 * x[:, :N] + 2
    np.testing.assert_allclose(np.diag(gather([x]).correlation()), -1, atol=1e-6)


def test_rows_are_units_of_a_and_columns_units_of_b():
    x = draw(200)
    x[:, N + 3] = 2 * x[:, 1]  # unit 3 of B does what unit 1 of A does
    correlation = gather([x]).correlation()
    assert correlation[1, 3] == pytest.approx(1, abs=1e-6)
    assert np.argmax(correlation[1]) == 3


def test_a_generator_is_enough():
    batches = (draw(4, seed=seed) for seed in range(3))
    found = gather(batches)
    x = np.concatenate([draw(4, seed=seed) for seed in range(3)])
    np.testing.assert_allclose(found.mean_b, two_pass(x)[1], atol=1e-6)
    assert found.count == 12


def test_several_inputs_come_as_a_tuple():
    def gated(params, x, gate):
        return apply_fn(params, x * gate)

    x, gate = draw(6), draw(6, seed=1)
    activations = trace_activations(gated, SPEC, PARAMS_A, x, gate)
    batches = [(x[:4], gate[:4]), (x[4:], gate[4:])]
    [found] = gather_statistics(activations, PARAMS_A, PARAMS_B, batches).values()
    np.testing.assert_allclose(found.mean_a, two_pass(x * gate)[0], atol=1e-6)


def test_pixels_and_blocks_are_samples(tiny_data):
    def flattened(params, x):
        return jnp.tanh(x @ params["kernel"]).reshape(len(x), -1) @ params["dense"]

    spec = rl.PermutationSpec({"kernel": (None, "c"), "dense": ("64*c", None)})
    rng = np.random.default_rng(0)
    params_a, params_b = (
        {"kernel": rng.random((1, 3), np.float32), "dense": rng.random((192, 2), np.float32)}
        for _ in range(2)
    )
    images = tiny_data.test_images[:10]
    activations = trace_activations(flattened, spec, params_a, images)
    [found] = gather_statistics(activations, params_a, params_b, [images[:7], images[7:]]).values()
    units = [np.tanh(images.reshape(-1, 1) * p["kernel"][0]) for p in (params_a, params_b)]
    expected = np.corrcoef(*units, rowvar=False)[:3, 3:]
    assert found.count == 640
    np.testing.assert_allclose(found.correlation(), expected, atol=1e-5)


def test_slots_come_first_and_units_of_two_groups_row_by_row():
    def apply_fn(params, x):
        def layer(hidden, kernels):
            heads = jnp.einsum("bc,dch->bdh", hidden, kernels["up"])  # dimensions before heads
            return hidden + jnp.einsum("bdh,dhc->bc", jnp.tanh(heads), kernels["down"]), None

        return jax.lax.scan(layer, x, params)[0]

    axes = {"up": ("#l", "d[#l,h]", None, "h[#l]"), "down": ("#l", "d[#l,h]", "h[#l]", None)}
    spec = rl.PermutationSpec(axes)
    rng = np.random.default_rng(0)
    params = {
        "up": rng.standard_normal((2, 3, 5, 4), np.float32),
        "down": rng.standard_normal((2, 3, 4, 5), np.float32),
    }
    x = rng.standard_normal((20, 5), np.float32)
    activations = trace_activations(apply_fn, spec, params, x)
    [found] = gather_statistics(activations, params, params, [x]).values()
    assert found.entries == ("#l", "h[#l]", "d[#l,h]")
    assert found.correlation().shape == (2, 12, 12)
    values = activations.compute(params, x)["into down"]
    for layer in range(2):
        units = np.asarray(values[layer]).transpose(0, 2, 1).reshape(20, 12)
        expected = np.corrcoef(units, rowvar=False)
        np.testing.assert_allclose(found.correlation()[layer], expected, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    x = draw(300).astype(jnp.bfloat16)
    params_a, params_b = (
        jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        for params in (PARAMS_A, PARAMS_B)
    )
    activations = trace_activations(apply_fn, SPEC, params_a, x)
    [found] = gather_statistics(activations, params_a, params_b, [x]).values()
    expected = np.corrcoef(np.asarray(x, np.float64), rowvar=False)[:N, N:]
    np.testing.assert_allclose(found.correlation(), expected, atol=1e-5)


def test_no_data_is_refused():
    with pytest.raises(ValueError, match="at least one batch .* got an empty data stream"):
        gather([])
    batches = iter([draw(4)])
    gather(batches)
    with pytest.raises(ValueError, match="A generator can be run through once"):
        gather(batches)
    with pytest.raises(ValueError, match="at least one example; batch 2 has none"):
        gather([draw(4), draw(0)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("model", ["params_a", "params_b"])
def test_activations_that_are_not_finite_are_refused(bad, model):
    models = {"params_a": PARAMS_A, "params_b": PARAMS_B}
    models[model] = models[model] | {"in": models[model]["in"].at[0, 0].set(bad)}
    batches = [jnp.zeros((4, 2 * N)).at[:, 1:].set(1.0), draw(4)]
    with pytest.raises(ValueError, match=f"'into out' of {model} holds NaN.* in batch [12]. Did"):
        gather_statistics(traced(), *models.values(), batches)


def test_complex_activations_are_refused():
    params = {name: leaf.astype(jnp.complex64) for name, leaf in PARAMS_A.items()}
    activations = trace_activations(apply_fn, SPEC, params, draw(4).astype(np.complex64))
    with pytest.raises(ValueError, match=r"real activations; those of \('P',\) are complex64"):
        gather_statistics(activations, params, params, [draw(4).astype(np.complex64)])
