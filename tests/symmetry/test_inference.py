"""The spec that is read off a function: held against specs written by hand, and in its words."""

import math

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rebasin_lab as rl
from frameworks import FRAMEWORKS
from rebasin_lab import pytrees
from specs import draw_params, resnet50_axes, resnet_axes, vgg16_axes

# Every primitive these networks use is known.
pytestmark = pytest.mark.filterwarnings("error:Nothing is known of the symmetries")

HAND_WRITTEN = {
    "mlp": rl.mlp_permutation_spec(3).axes,
    "vgg16": vgg16_axes(),
    "resnet8": resnet_axes(1),
    "resnet20": resnet_axes(3),
    "resnet32": resnet_axes(5),
    "resnet50": resnet50_axes(),
}
# PAPER, section 1.1 and Table 1: permutations, and the whole part of log10 of their number.
COUNTS = {
    ("mlp", None): (3, 3499),
    ("vgg16", 1): (15, 11462),
    ("resnet20", 1): (12, 551),
    ("resnet20", 2): (12, 1360),
    ("resnet20", 32): (12, 38801),
    ("resnet50", 1): (37, 25638),
}


def build(architecture, image_shape=(32, 32, 3), **options):
    return rl.Model(architecture, image_shape=image_shape, num_classes=10, options=options)


def shapes_of(model):
    """The parameters' shapes and an example input's: all that inference looks at."""
    images = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0)), images


def draw(*shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(max(shape[:1] + (1,))), jnp.float32)


@pytest.mark.parametrize("architecture", HAND_WRITTEN)
def test_inferred_is_hand_written(architecture):
    model = build(architecture)
    spec = rl.infer_permutation_spec(model.apply, *shapes_of(model))
    assert spec.same_as(rl.PermutationSpec(HAND_WRITTEN[architecture]))


@pytest.mark.parametrize(("architecture", "width_multiplier"), COUNTS)
def test_counts_are_the_papers_digit_for_digit(architecture, width_multiplier):
    options = {"width_multiplier": width_multiplier} if width_multiplier else {}
    model = build(architecture, **options)
    params, images = shapes_of(model)
    spec = rl.infer_permutation_spec(model.apply, params, images)
    num_permutations, log10 = COUNTS[architecture, width_multiplier]
    assert len(spec.permutations) == num_permutations
    assert math.floor(rl.log10_num_symmetries(spec, params)) == log10


def test_registry_networks_get_their_specs(architecture, tiny_data):
    params, images = architecture.init(0), jnp.asarray(tiny_data.test_images[:4])
    inferred = rl.infer_permutation_spec(architecture.apply_fn, params, images)
    found = rl.log10_num_symmetries(inferred, params)
    assert found == pytest.approx(rl.log10_num_symmetries(architecture.spec, params))
    assert rl.verify_equivalence(architecture.apply_fn, inferred, params, images) < 1e-5


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_framework_gives_the_same_spec(framework, tiny_data):
    subject = FRAMEWORKS[framework]()
    images = jnp.asarray(tiny_data.test_images[:4])
    spec = rl.infer_permutation_spec(subject.apply_fn, subject.params, images)
    assert spec.same_as(rl.PermutationSpec(subject.axes))


def test_vit_has_heads_with_dimensions_of_their_own():
    model = build("vit", (8, 8, 3), width=16, num_heads=2, num_blocks=2, patch_size=4)
    params, _ = shapes_of(model)
    spec = rl.infer_permutation_spec(model.apply, *shapes_of(model))
    block = "blocks/1/attention"
    stream, heads = spec.axes[f"{block}/query/kernel"]
    assert spec.axes[f"{block}/key/kernel"] == (stream, heads)
    assert spec.axes[f"{block}/out/bias"] == (stream,) == spec.axes["blocks/0/mlp_out/bias"]
    [head, dim] = heads.split("*")
    assert dim.endswith(f"[{head}]")
    assert spec.axes[f"{block}/value/kernel"][1].startswith(f"{head}*")
    assert spec.axes[f"{block}/value/kernel"][1] != heads
    assert spec.shapes(params)[dim] == (2, 8)
    # A stream; in each block heads, their two kinds of dimensions (a permutation for each head),
    # and the MLP.
    assert len(spec.permutations) == 1 + 2 * 4
    sizes = [16, *[2, 8, 8, 8, 8, 64] * 2]
    expected = math.fsum(math.lgamma(n + 1) for n in sizes) / math.log(10)
    assert rl.log10_num_symmetries(spec, params) == pytest.approx(expected)
    images = draw(2, 8, 8, 3)
    assert rl.verify_equivalence(model.apply, spec, draw_params(model), images) < 1e-5


LIBRARY = {
    "nnx attention": (
        lambda r: [
            nnx.Linear(5, 12, rngs=r),
            nnx.MultiHeadAttention(4, 12, decode=False, rngs=r),
            nnx.Linear(12, 3, rngs=r),
        ],
        (2, 7, 5),
        {"P_0": 12, "P_1": 4, "P_2[P_1]": 3, "P_3[P_1]": 3, "P_4": 12},
    ),
    "nnx attention with a norm that all heads share": (
        lambda r: [
            nnx.Linear(5, 12, rngs=r),
            nnx.MultiHeadAttention(4, 12, decode=False, normalize_qk=True, rngs=r),
            nnx.Linear(12, 3, rngs=r),
        ],
        (2, 7, 5),
        {"P_0": 12, "P_1": 4, "P_2": 3, "P_3[P_1]": 3, "P_4": 12},
    ),
    "nnx convolutions, group and batch norm": (
        lambda r: [
            nnx.Conv(3, 12, (3, 3), rngs=r),
            nnx.GroupNorm(12, num_groups=4, rngs=r),
            nnx.relu,
            nnx.ConvTranspose(12, 8, (3, 3), strides=2, rngs=r),
            nnx.BatchNorm(8, use_running_average=True, rngs=r),
            lambda x: x.mean((1, 2)),
            nnx.Linear(8, 3, rngs=r),
        ],
        (2, 8, 8, 3),
        {"P_0": 4, "P_1[P_0]": 3, "P_2": 8},
    ),
    "nnx depthwise convolution, pooling, flatten": (
        lambda r: [
            nnx.Conv(3, 12, (3, 3), rngs=r),
            nnx.Conv(12, 12, (3, 3), feature_group_count=12, rngs=r),
            nnx.BatchNorm(12, use_running_average=False, rngs=r),
            nnx.Conv(12, 6, (1, 1), rngs=r),
            lambda x: nnx.avg_pool(nnx.max_pool(x, (2, 2), (2, 2)), (2, 2), (2, 2)),
            nnx.Dropout(0.5, deterministic=True),
            lambda x: x.reshape(x.shape[0], -1),
            nnx.Linear(24, 3, rngs=r),
        ],
        (2, 8, 8, 3),
        {"P_0": 12, "P_1": 6},
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_layers_of_nnx(name):
    make, shape, sizes = LIBRARY[name]
    module = nnx.Sequential(*make(nnx.Rngs(0)))
    graph, state = nnx.split(module)
    params = pytrees.unflatten(pytrees.flatten(nnx.to_pure_dict(state)))
    float_leaves = {p: v for p, v in pytrees.flatten(params).items() if "rngs" not in p}
    others = {p: v for p, v in pytrees.flatten(params).items() if "rngs" in p}

    def apply_fn(leaves, x):
        return nnx.merge(graph, nnx.State(pytrees.unflatten(leaves | others)))(x)

    spec = rl.infer_permutation_spec(apply_fn, float_leaves, draw(*shape))
    assert spec.sizes(float_leaves) == sizes
    assert rl.verify_equivalence(apply_fn, spec, float_leaves, draw(*shape)) < 1e-4


class LinenLSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.RNN(nn.LSTMCell(7))(nn.Dense(6)(x)))


def test_lstm_of_linen_has_one_permutation_for_all_its_gates():
    module, x = LinenLSTM(), draw(2, 4, 5)
    variables = module.init(jax.random.key(0), x)
    spec = rl.infer_permutation_spec(module.apply, variables, x)
    assert spec.sizes(variables) == {"P_0": 6, "P_1": 7}
    assert spec.axes["params/LSTMCell_0/hf/kernel"] == ("P_1", "P_1")
    assert rl.verify_equivalence(module.apply, spec, variables, x) < 1e-5


class EquinoxGRU(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __call__(self, x):
        state, _ = jax.lax.scan(lambda h, row: (self.cell(row, h), None), jnp.zeros(6), x)
        return self.head(state)


def test_gru_of_equinox_has_one_permutation_for_its_stacked_gates():
    keys = jax.random.split(jax.random.key(0))
    module = EquinoxGRU(eqx.nn.GRUCell(5, 6, key=keys[0]), eqx.nn.Linear(6, 3, key=keys[1]))
    params, static = eqx.partition(module, eqx.is_array)

    def apply_fn(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    spec = rl.infer_permutation_spec(apply_fn, params, draw(2, 7, 5))
    assert spec.axes["cell/weight_hh"] == ("P_0+P_0+P_0", "P_0")
    assert spec.axes["head/weight"] == (None, "P_0")
    assert rl.verify_equivalence(apply_fn, spec, params, draw(2, 7, 5)) < 1e-5


# What an axis is called, in words a student can follow.


def two_layers(change=lambda hidden: hidden):
    def apply_fn(params, x):
        hidden = jax.nn.relu(x @ params["in"] + params["bias"][None])
        return change(hidden) @ params["out"]

    return apply_fn


TWO_LAYERS = {"in": draw(4, 6), "bias": draw(6), "out": draw(6, 3)}
PINNING = {
    "a position-dependent constant": (
        lambda h: h + np.arange(6.0, dtype=np.float32)[None],
        "it meets a constant of the function whose values differ along it",
    ),
    "iota": (lambda h: h * jnp.arange(6)[None], "iota numbers its positions"),
    "cumsum": (lambda h: jnp.cumsum(h, 1), "cumsum adds units up in order at test_inference.py:"),
    "sort": (lambda h: jnp.sort(h, 1), "sort puts the values in an order of its own"),
    "sort by others": (
        lambda h: jax.lax.sort((h, jnp.sin(h)))[1],
        "sort puts the values in an order of its own",
    ),
    "argmax": (lambda h: h * jnp.argmax(h, 1)[:, None], "argmax answers with a position"),
    "flip": (lambda h: h + h[:, ::-1], "rev turns the order round"),
    "fft": (lambda h: jnp.abs(jnp.fft.fft(h, axis=1)), "fft needs its order at test_inference.py:"),
    "convolution": (
        lambda h: jax.vmap(lambda row: jnp.convolve(row, jnp.ones(3), mode="same"))(h),
        "a window slides over its positions",
    ),
}


@pytest.mark.parametrize("name", PINNING)
def test_what_needs_the_order_pins_it_and_is_named(name):
    change, reason = PINNING[name]
    spec = rl.infer_permutation_spec(two_layers(change), TWO_LAYERS, draw(5, 4))
    assert not spec.permutations
    for place in (("in", 1), ("bias", 0), ("out", 0)):
        assert spec.explain(*place).startswith("Fixed: ")
        assert reason in spec.explain(*place)


def test_ends_of_a_network_are_explained():
    spec = rl.infer_permutation_spec(two_layers(), TWO_LAYERS, draw(5, 4))
    assert spec.explain("in", 0).startswith(
        "Fixed: axis 1 of the input keeps its order; tied to that by dot_general at test_inference"
    )
    assert spec.explain("out", 1) == "Fixed: axis 1 of the output keeps its order."


def test_free_axis_is_explained_by_what_moves_with_it():
    spec = rl.infer_permutation_spec(two_layers(), TWO_LAYERS, draw(5, 4))
    sentence = spec.explain("in", 1)
    assert sentence.startswith("Free: permutation P_0 of 6 units, together with ")
    assert "axis 0 of bias (add at test_inference.py:" in sentence
    assert "axis 0 of out (dot_general at test_inference.py:" in sentence


def test_composite_axis_is_explained_part_by_part():
    def apply_fn(params, x):
        hidden = (x[..., None] * params["scale"][None, None]).reshape(len(x), -1)
        return hidden @ params["out"]

    params = {"scale": draw(6), "out": draw(24, 3)}
    spec = rl.infer_permutation_spec(apply_fn, params, draw(5, 4))
    assert spec.axes["out"] == ("4*P_0", None)
    sentence = spec.explain("out", 0)
    assert sentence.startswith("Made of 4*P_0. A block of 4 stays. Fixed: axis 1 of the input")
    assert "Free: permutation P_0 of 6 units, together with axis 0 of scale" in sentence


def test_parameter_without_a_use_stays_and_says_so():
    params = {**TWO_LAYERS, "spare": draw(7, 7), "gain": jnp.float32(2)}
    spec = rl.infer_permutation_spec(two_layers(), params, draw(5, 4))
    assert spec.axes["spare"] == (None, None)
    assert spec.axes["gain"] == ()
    assert spec.explain("spare", 0) == "Fixed: the function never uses it."
    spec.validate(params)


def test_inferred_spec_survives_json():
    spec = rl.infer_permutation_spec(two_layers(), TWO_LAYERS, draw(5, 4))
    again = rl.PermutationSpec.from_json(spec.to_json())
    assert again == spec
    assert again.explain("in", 1) == spec.explain("in", 1)


# What cannot be read.


def test_parameters_of_another_function_are_refused():
    with pytest.raises(
        ValueError, match=r"(?s)raised KeyError: 'in'.*'other', shape \(2,\)"
    ) as caught:
        rl.infer_permutation_spec(two_layers(), {"other": draw(2)}, draw(5, 4))
    assert isinstance(caught.value.__cause__, KeyError)


def test_example_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"(?s)raised TypeError: .*inputs float32\[5, 9\]"):
        rl.infer_permutation_spec(two_layers(), TWO_LAYERS, draw(5, 9))


def test_python_control_flow_on_values_is_refused():
    def apply_fn(params, x):
        return x @ params["in"] if x.sum() > 0 else x

    with pytest.raises(ValueError, match="(?s)TracerBoolConversionError.*no Python `if` depends"):
        rl.infer_permutation_spec(apply_fn, TWO_LAYERS, draw(5, 4))


def test_leaf_that_is_no_array_is_named():
    with pytest.raises(ValueError, match="every leaf to be an array; 'act' is a builtin_func"):
        rl.infer_permutation_spec(two_layers(), {**TWO_LAYERS, "act": print}, draw(5, 4))
