"""How varied units are between two networks, against NumPy and what theory says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import merging, metrics, pytrees
from rebasin_lab.analysis import variance_collapse

NAMES = ("into layers/1/kernel", "into layers/2/kernel")


@pytest.fixture(scope="module")
def images(tiny_data):
    return tiny_data.train_images


def spec_of(model, params):
    return rl.infer_permutation_spec(
        model.apply, params, jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    )


def std_of(model, params, images):
    example = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    activations = rl.symmetry.trace_activations(
        model.apply, spec_of(model, params), params, example
    )
    return variance_collapse.activation_std(activations, params, images)


def walked(model, params_a, params_b, data, **options):
    options = {"images": data.train_images, "num_lambdas": 3} | options
    spec = spec_of(model, params_a)
    return variance_collapse.walk_line(model, spec, params_a, params_b, data, **options)


def by_hand(params, images):
    """The std of both hidden layers of an MLP, unit by unit in float64."""
    hidden, stds = images.reshape(len(images), -1).astype(np.float64), []
    for layer in (0, 1):
        weights, bias = (np.asarray(params["layers"][layer][n]) for n in ("kernel", "bias"))
        hidden = np.maximum(hidden @ weights + bias, 0)
        stds.append(np.sqrt(np.mean([np.var(unit) for unit in hidden.T])))
    return stds


@pytest.mark.parametrize("batch_size", [500, 64])  # all at once; four batches, the last one smaller
def test_std_is_the_root_of_the_mean_variance_of_units(
    trained_pair, images, monkeypatch, batch_size
):
    monkeypatch.setattr(variance_collapse, "BATCH_SIZE", batch_size)
    model, params, _ = trained_pair
    std = std_of(model, params, images)
    assert tuple(std) == NAMES
    assert list(std.values()) == pytest.approx(by_hand(params, images), rel=1e-5)  # float32


def test_spread_counts_pixels_as_samples_and_does_not_see_the_order_of_units(tiny_data, images):
    model = rl.build_model("resnet8", dataset=tiny_data, width_multiplier=0.25)
    params = model.init(jax.random.key(0))
    spec = spec_of(model, params)
    moved = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=1), params)
    before, after = (std_of(model, one, images) for one in (params, moved))
    assert len(before) == 7
    assert list(before)[-1] == "into head/kernel"  # in computing order
    assert list(before.values()) == pytest.approx(list(after.values()), rel=1e-4)  # other sums


def test_units_that_never_respond_have_no_spread_and_no_relative_one(trained_pair, tiny_data):
    model, params, _ = trained_pair
    dead = pytrees.map_with_path(lambda p, x: 0 * x if p.startswith("layers/0") else x, params)
    line = walked(model, dead, dead, tiny_data)
    assert line.std[:, 0].tolist() == [0, 0, 0]
    assert np.isnan(line.relative_std[:, 0]).all()


def test_means_of_unrelated_units_have_half_of_the_variance(tiny_data):
    # Each unit of A reads one pixel, each of B another; pixels are independent and units linear
    # here, since all are far above zero. sqrt((1 + rho) / 2) with rho = 0.
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 1, (20_000, 8, 8, 1)).astype(np.float32)
    model = rl.build_model("mlp", dataset=tiny_data, width=8, num_hidden_layers=1)
    params = model.init(jax.random.key(0))

    def reading(first):
        kernel = jnp.eye(64)[:, first : first + 8]
        return {"layers": params["layers"] | {0: {"kernel": kernel, "bias": jnp.ones(8)}}}

    line = walked(model, reading(0), reading(8), tiny_data, images=noise)
    # A standard deviation of 20,000 samples is known to half a percent; eight are averaged.
    assert line.relative_std[:, 0] == pytest.approx([1, np.sqrt(0.5), 1], rel=0.01)


def test_curve_is_that_of_the_line(trained_pair, tiny_data):
    model, *ends = trained_pair
    seen = []
    line = walked(model, *ends, tiny_data, on_point=lambda: seen.append(1))
    curve = rl.interpolation_curve(model.apply, *ends, tiny_data, num_lambdas=3)
    for field, values in curve.as_numbers().items():
        assert getattr(line.curve, field) == pytest.approx(values, rel=1e-5)
    assert line.layers == NAMES
    assert len(seen) == 3


def test_statistics_are_averaged_or_measured_anew_at_every_point(tiny_data, images):
    model = rl.build_model("resnet8_bn", dataset=tiny_data, width_multiplier=0.25)
    ends = [model.init(jax.random.key(seed)) for seed in range(2)]
    averaged = walked(model, *ends, tiny_data)
    anew = walked(model, *ends, tiny_data, statistics_from=images)
    middle = rl.lerp(0.5, *ends)
    mended = merging.reestimate_statistics(model, middle, images)
    for line, params in ((averaged, middle), (anew, mended)):
        expected = metrics.evaluate(
            model.apply, params, tiny_data.test_images, tiny_data.test_labels
        )
        assert line.curve.test_loss[1] == pytest.approx(expected.loss, rel=1e-5)
        # In another batch size sums are in another order.
        expected = list(std_of(model, params, images).values())
        assert list(line.std[1]) == pytest.approx(expected, rel=1e-4)
    assert not np.allclose(averaged.std, anew.std, rtol=0.1)


def test_a_walk_is_remembered(trained_pair, tiny_data):
    model, *ends = trained_pair
    call = (variance_collapse.walk_line, model, spec_of(model, ends[0]), *ends, tiny_data)
    options = {"images": tiny_data.train_images, "num_lambdas": 3}
    first, second = (rl.cached(*call, **options) for _ in range(2))
    assert np.array_equal(first.std, second.std)
    assert second.layers == NAMES


def test_no_images_and_a_line_of_one_point_are_refused(trained_pair, tiny_data, images):
    model, params, _ = trained_pair
    with pytest.raises(ValueError, match="Expected images to respond to; got none"):
        std_of(model, params, images[:0])
    with pytest.raises(ValueError, match="num_lambdas to be an int of at least 2; got 1"):
        walked(model, params, params, tiny_data, num_lambdas=1)
