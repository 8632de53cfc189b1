"""The networks: sizes, parameter trees, and the function they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees


@pytest.fixture(scope="module")
def model(tiny_data):
    return rl.build_model("mlp", dataset=tiny_data, width=200, num_hidden_layers=2)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def test_mlp_of_the_paper_has_932362_parameters():
    model = rl.Model("mlp", image_shape=(28, 28, 1), num_classes=10, options={})
    params = jax.eval_shape(model.init, jax.random.key(0))
    # 784 * 512 + 512, 512 * 512 + 512 twice, 512 * 10 + 10: the defaults are 3 layers of 512.
    assert pytrees.num_parameters(params) == 401_920 + 2 * 262_656 + 5_130 == 932_362


def test_parameters_are_plain_nested_dicts_of_arrays(params):
    assert type(params) is dict
    assert {path: leaf.shape for path, leaf in pytrees.flatten(params).items()} == {
        "layers/0/bias": (200,),
        "layers/0/kernel": (64, 200),
        "layers/1/bias": (200,),
        "layers/1/kernel": (200, 200),
        "layers/2/bias": (10,),
        "layers/2/kernel": (200, 10),
    }
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    assert type(params["layers"]) is type(params["layers"][0]) is dict


def test_biases_start_at_zero_and_kernels_do_not(params):
    for layer in params["layers"].values():
        assert not layer["bias"].any()
        assert layer["kernel"].all()


def test_init_depends_on_its_key_alone(model, params, trees_equal):
    trees_equal(model.init(jax.random.key(0)), params)
    other = model.init(jax.random.key(1))
    assert not jnp.array_equal(other["layers"][0]["kernel"], params["layers"][0]["kernel"])


def test_kernels_start_with_variance_one_over_fan_in(params):
    # Lecun normal, Flax's default and the paper's; of 40,000 draws it is known to under 1 %.
    kernel = params["layers"][1]["kernel"]
    assert float(kernel.var() * 200) == pytest.approx(1, abs=0.03)


def test_apply_is_matrices_and_relus(model, tiny_data):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)
    hidden = tiny_data.test_images.reshape(100, 64).astype(np.float64)
    first, second, last = (params["layers"][i] for i in range(3))
    for layer in (first, second):
        hidden = np.maximum(hidden @ layer["kernel"] + layer["bias"], 0)
    expected = hidden @ last["kernel"] + last["bias"]
    logits = model.apply(params, jnp.asarray(tiny_data.test_images))
    # float32 against float64: about 1e-6 of the largest logit.
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_apply_is_pure_and_can_be_traced(model, params, tiny_data, trees_equal):
    images, before = jnp.asarray(tiny_data.test_images[:3]), jax.tree.map(jnp.copy, params)
    gradient = jax.jit(jax.grad(lambda p: model.apply(p, images).sum()))(params)
    pytrees.check_same_shapes(gradient, params)
    trees_equal(params, before)


def test_unknown_architecture_is_refused(tiny_data):
    with pytest.raises(ValueError, match=r"an architecture among \[.*'mlp'.*\]; got 'mpl'"):
        rl.build_model("mpl", dataset=tiny_data)


@pytest.mark.parametrize("width", [0, -3, 1.5, "8"])
def test_width_that_is_no_positive_integer_is_refused(tiny_data, width):
    with pytest.raises(ValueError, match=f"width of mlp to be at least 1; got {width!r}"):
        rl.build_model("mlp", dataset=tiny_data, width=width)
