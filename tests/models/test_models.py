"""The networks: sizes, parameter trees, and the function they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rebasin_lab as rl
from rebasin_lab import models, pytrees
from rebasin_lab.models import initializers, vit
from rebasin_lab.models.model import _Keys
from specs import draw_params, resnet_axes

# Of every architecture, a small one, on images of 8 x 8 x 1 and ten classes.
TINY = {
    "mlp": {"width": 16, "num_hidden_layers": 2},
    "vgg16": {"width_multiplier": 1 / 16},
    "resnet8": {"width_multiplier": 1 / 4},
    "resnet8_bn": {"width_multiplier": 1 / 4},
    "resnet20": {"width_multiplier": 1 / 4},
    "resnet20_bn": {"width_multiplier": 1 / 4},
    "resnet32": {"width_multiplier": 1 / 4},
    "resnet50": {"width_multiplier": 1 / 16},
    "vit": {"width": 16, "num_heads": 2, "num_blocks": 2},
}
SAME_BLOCKS_AS_RESNET8 = ("resnet20", "resnet20_bn", "resnet32")

# Architecture, image shape, classes, options, and how many parameters it has.
SIZES = [
    # 784 * 512 + 512, 512 * 512 + 512 twice, 512 * 10 + 10: the defaults are 3 layers of 512.
    ("mlp", (28, 28, 1), 10, {}, 401_920 + 2 * 262_656 + 5_130),
    ("vgg16", (32, 32, 3), 10, {"width_multiplier": 1 / 8}, 240_594),
    ("resnet20", (32, 32, 3), 10, {}, 292_954),
    # With a mean and a variance for the channels of the stem, of six norms a stage, of shortcuts.
    ("resnet20_bn", (32, 32, 3), 10, {}, 292_954 + 2 * (16 + 6 * (16 + 32 + 64) + 32 + 64)),
    # torchvision's 25,557,032 weights and, for 26,560 channels, a mean and a variance each.
    ("resnet50", (224, 224, 3), 1000, {}, 25_557_032 + 2 * 26_560),
    # Patches, positions, 4 blocks of 2 norms, 4 projections and the MLP, the last norm, the head.
    (
        "vit",
        (32, 32, 3),
        10,
        {},
        48 * 64 + 64 + 64 * 64 + 4 * (2 * 128 + 4 * 4_160 + 16_640 + 16_448) + 128 + 650,
    ),
]


@pytest.fixture(scope="module")
def model(tiny_data):
    return rl.build_model("mlp", dataset=tiny_data, width=200, num_hidden_layers=2)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def tiny(architecture, image_shape=(8, 8, 1)):
    return rl.Model(architecture, image_shape, num_classes=10, options=TINY[architecture])


@functools.cache
def tiny_shapes(architecture):
    return tiny(architecture).shapes


def some_images(*shape):
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def test_every_architecture_is_tested():
    assert TINY.keys() == models.ARCHITECTURES.keys()


@pytest.mark.parametrize(
    ("architecture", "image_shape", "num_classes", "options", "num_parameters"), SIZES
)
def test_number_of_parameters_is_the_published_one(
    architecture, image_shape, num_classes, options, num_parameters
):
    model = rl.Model(architecture, image_shape, num_classes, options)
    params = model.shapes
    assert pytrees.num_parameters(params) == num_parameters


@pytest.mark.parametrize("architecture", TINY)
def test_shapes_are_those_of_what_is_drawn(architecture):
    model = tiny(architecture)
    drawn = jax.eval_shape(model.init, jax.random.key(0))
    assert model.shapes == drawn
    model.shapes.clear()  # the caller's own
    assert model.shapes == drawn


def test_mlp_of_the_paper_has_932362_parameters():
    assert SIZES[0][-1] == 932_362


@pytest.mark.parametrize("architecture", TINY)
def test_logits_are_one_row_per_image(architecture):
    model = rl.Model(architecture, (28, 28, 2), num_classes=7, options=TINY[architecture])
    params = model.shapes
    logits = jax.eval_shape(model.apply, params, jnp.zeros((5, 28, 28, 2)))
    assert logits.shape == (5, 7)


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


@pytest.mark.parametrize("architecture", TINY)
def test_leaves_are_float_arrays_and_nothing_else(architecture):
    # No PRNG state and no counters: all of it can be interpolated.
    leaves = jax.tree.leaves(tiny_shapes(architecture))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("architecture", "path"),
    [
        ("vgg16", "convs/12/kernel"),
        ("resnet8", "stages/2/0/shortcut/conv/kernel"),
        ("resnet8_bn", "stages/2/0/shortcut/norm/var"),
        ("resnet20", "stages/0/2/conv1/kernel"),
        ("resnet32", "stages/2/4/norm2/scale"),
        ("resnet50", "stages/0/0/shortcut/norm/mean"),
        ("vit", "blocks/1/attention/query/kernel"),
    ],
)
def test_paths_say_where_a_leaf_is(architecture, path):
    assert path in pytrees.flatten(tiny_shapes(architecture))


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
    shapes = model.shapes
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


# Of what is built of the same blocks, one in the fast tests.
@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SAME_BLOCKS_AS_RESNET8))
        for name in TINY
    ],
)
def test_small_gradient_step_lowers_the_loss(architecture, tiny_data):
    model = tiny(architecture)
    params = draw_params(model)
    images, labels = jnp.asarray(tiny_data.train_images[:10]), jnp.arange(10)

    # Unoptimised, it compiles in about half the time.
    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def step(params):
        def loss_fn(params):
            return rl.metrics.cross_entropy(model.apply(params, images), labels)

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        return loss, jax.tree.map(lambda leaf, slope: leaf - 1e-3 * slope, params, gradient)

    loss, stepped = step(params)
    pytrees.check_finite(stepped, architecture)
    assert step(stepped)[0] < loss


def vgg16_logits(params, images):
    """VGG16 in XLA's own words, image by image and layer by layer."""
    hidden = images
    for i in range(13):
        conv, norm = params["convs"][i], params["norms"][i]
        hidden = jax.lax.conv_general_dilated(
            hidden, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = hidden + conv["bias"][None, None, None]
        # Over the channels of one pixel, not over the pixels too.
        hidden = jax.nn.standardize(hidden, axis=-1, epsilon=1e-6)
        hidden = hidden * norm["scale"][None, None, None] + norm["bias"][None, None, None]
        hidden = jax.nn.relu(hidden)
        if i in (1, 3, 6, 9, 12):
            window = (1, 2, 2, 1)
            hidden = jax.lax.reduce_window(hidden, -np.inf, jax.lax.max, window, window, "SAME")
    hidden = hidden.reshape(len(images), -1)
    for i in range(3):
        hidden = hidden @ params["dense"][i]["kernel"] + params["dense"][i]["bias"][None]
        hidden = jax.nn.relu(hidden) if i < 2 else hidden
    return hidden


def test_vgg16_is_convolutions_channel_norms_and_poolings():
    model = tiny("vgg16", image_shape=(20, 20, 1))
    params = draw_params(model)
    images = some_images(2, 20, 20, 1)
    expected = jax.jit(vgg16_logits)(params, images)
    tolerance = 1e-4 * jnp.abs(expected).max()
    np.testing.assert_allclose(jax.jit(model.apply)(params, images), expected, atol=tolerance)


def test_resnet_normalises_every_pixel_by_itself():
    # Its logits are a mean over pixels, and each of the last stage's sees 25 x 25 of the image. So
    # two changes far apart add up, unless a norm over height and width makes them meet.
    model = tiny("resnet8", image_shape=(64, 64, 1))
    params = draw_params(model)
    image = some_images(1, 64, 64, 1)
    left, right = image.at[:, 4:8, 4:8].add(3.0), image.at[:, 56:60, 56:60].add(3.0)
    both = image.at[:, 4:8, 4:8].add(3.0).at[:, 56:60, 56:60].add(3.0)
    none, one, other, two = jax.jit(model.apply)(
        params, jnp.concatenate([image, left, right, both])
    )
    assert float(jnp.abs(one - none).max()) > 1e-3
    np.testing.assert_allclose(two - none, (one - none) + (other - none), atol=1e-5)


def test_resnet50_uses_its_running_statistics():
    model = tiny("resnet50")
    params = draw_params(model)
    apply_fn, images = jax.jit(model.apply), some_images(4, 8, 8, 1)
    logits = apply_fn(params, images)
    # In another batch an image has the same logits; batch statistics would change them.
    others = images.at[1:].multiply(5.0)
    np.testing.assert_allclose(apply_fn(params, others)[0], logits[0], rtol=1e-5, atol=1e-5)
    # A larger mean is a smaller bias.
    norm = params["stem"]["norm"]
    norm["mean"] = norm["mean"] + 0.3
    assert float(jnp.abs(apply_fn(params, images) - logits).max()) > 1e-3
    norm["bias"] = norm["bias"] + 0.3 * norm["scale"] / jnp.sqrt(norm["var"] + 1e-5)
    np.testing.assert_allclose(apply_fn(params, images), logits, rtol=1e-4, atol=1e-4)


def test_running_statistics_start_as_those_of_standard_normal_units():
    # Compiled, so that the parameters nobody asks for are not drawn.
    norm = jax.jit(lambda key: tiny("resnet50").init(key)["stem"]["norm"])(jax.random.key(0))
    assert not norm["mean"].any()
    assert (norm["var"] == 1).all()


def test_batch_norm_adds_statistics_to_the_leaves_and_changes_no_other():
    without, with_statistics = (
        {path: leaf.shape for path, leaf in pytrees.flatten(tiny_shapes(name)).items()}
        for name in ("resnet8", "resnet8_bn")
    )
    assert without.items() < with_statistics.items()
    added = with_statistics.keys() - without.keys()
    assert added == tiny("resnet8_bn").statistics_paths
    norms = {path.removesuffix("/scale") for path in without if path.endswith("/scale")}
    assert added == {f"{norm}/{name}" for norm in norms for name in ("mean", "var")}


@pytest.mark.parametrize("architecture", TINY)
def test_statistics_paths_are_those_of_batch_norm(architecture):
    model = tiny(architecture)
    assert model.statistics_paths <= pytrees.flatten(tiny_shapes(architecture)).keys()
    assert bool(model.statistics_paths) == (architecture[-3:] == "_bn" or "50" in architecture)


def test_statistics_of_batch_norm_move_with_their_channels():
    model, axes = tiny("resnet8_bn"), resnet_axes(1)
    for path in list(axes):
        if path.endswith("/scale"):
            axes |= {path.replace("scale", name): axes[path] for name in ("mean", "var")}
    inferred = rl.infer_permutation_spec(
        model.apply, tiny_shapes("resnet8_bn"), jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    )
    assert inferred.same_as(rl.PermutationSpec(axes))


def test_training_mode_normalises_by_the_batch_and_returns_what_it_used():
    model = tiny("resnet8_bn")
    params, images = draw_params(model), some_images(6, 8, 8, 1)
    logits, after = jax.jit(model.apply_training)(params, images)
    # The batch's own statistics, used as running ones, give the same logits: in every layer.
    np.testing.assert_allclose(jax.jit(model.apply)(after, images), logits, rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(jax.jit(model.apply)(params, images) - logits).max()) > 1e-2
    stem = jax.lax.conv_general_dilated(
        images,
        params["stem"]["conv"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    norm = after["stem"]["norm"]
    np.testing.assert_allclose(norm["mean"], stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"], stem.var((0, 1, 2)), rtol=1e-4)


def test_variance_beside_a_large_mean_is_not_lost():
    model = tiny("resnet8_bn")
    params, images = draw_params(model), 1000 + some_images(6, 8, 8, 1)
    params["stem"]["conv"]["kernel"] = np.zeros((3, 3, 1, 4), np.float32)
    params["stem"]["conv"]["kernel"][1, 1] = 1  # every channel is the image
    _, after = jax.jit(model.apply_training)(params, images)
    expected = np.var(np.asarray(images, np.float64))  # 0.08, beside a squared mean of 1e6
    np.testing.assert_allclose(after["stem"]["norm"]["var"], expected, rtol=1e-3)


def test_gradient_goes_through_the_statistics_of_the_batch():
    model = tiny("resnet8_bn")
    params, images = draw_params(model), some_images(6, 8, 8, 1)

    def loss_fn(params):
        return rl.metrics.cross_entropy(model.apply_training(params, images)[0], jnp.arange(6))

    gradient = jax.jit(jax.grad(loss_fn))(params)
    # The norm undoes any scaling of the kernel before it, so that changes nothing (but for the
    # epsilon of the norm); nor do running statistics, which are not used.
    kernel, slope = (tree["stages"][1][0]["conv1"]["kernel"] for tree in (params, gradient))
    norms = np.linalg.norm(kernel) * np.linalg.norm(slope)
    assert norms > 0
    assert abs(np.vdot(kernel, slope)) < 1e-3 * norms
    assert not any(pytrees.flatten(gradient)[path].any() for path in model.statistics_paths)


@pytest.mark.parametrize("architecture", ["mlp", "resnet8", "resnet8_bn"])
def test_training_mode_changes_no_parameter_but_statistics(architecture):
    model = tiny(architecture)
    params = jax.tree.map(np.array, draw_params(model))  # which could be written to
    before, images = jax.tree.map(np.copy, params), some_images(4, 8, 8, 1)
    logits, after = model.apply_training(params, images)
    assert jax.tree.structure(after) == jax.tree.structure(params)
    for path, leaf in pytrees.flatten(params).items():
        np.testing.assert_array_equal(leaf, pytrees.flatten(before)[path], err_msg=path)
        same = pytrees.flatten(after)[path] is leaf
        assert same == (path not in model.statistics_paths), path
    if not model.statistics_paths:
        np.testing.assert_array_equal(logits, model.apply(params, images))


def test_attention_is_that_of_jax():
    attention = vit.Attention(6, 3, rngs=nnx.Rngs(0))
    tokens = some_images(2, 5, 6)
    query, key, value = (
        layer(tokens).reshape(2, 5, 3, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    mixed = jax.nn.dot_product_attention(query, key, value)
    np.testing.assert_allclose(attention(tokens), attention.out(mixed.reshape(2, 5, 6)), atol=1e-6)


def test_vit_is_the_same_when_patches_move_with_their_positions():
    model = tiny("vit")
    params = draw_params(model)
    images = some_images(3, 8, 8, 1)  # four patches of 4 x 4
    moved = jnp.concatenate([images[:, 4:], images[:, :4]], axis=1)
    logits = jax.jit(model.apply)(params, images)
    assert float(jnp.abs(jax.jit(model.apply)(params, moved) - logits).max()) > 1e-3
    params["position_embedding"] = params["position_embedding"][jnp.array([2, 3, 0, 1])]
    np.testing.assert_allclose(jax.jit(model.apply)(params, moved), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("mlp", r"\['width', 'num_hidden_layers'\]"),
        ("resnet8", r"\['width_multiplier'\]"),
        ("vit", r"\['width', 'num_heads', 'num_blocks', 'patch_size'\]"),
    ],
)
def test_unknown_size_is_refused_and_the_known_are_listed(tiny_data, architecture, sizes):
    with pytest.raises(ValueError, match=rf"a size of {architecture}, {sizes}; got 'depth'"):
        rl.build_model(architecture, dataset=tiny_data, depth=3)


@pytest.mark.parametrize("name", ["rngs", "image_shape", "num_classes"])
def test_what_the_lab_passes_itself_is_no_size(tiny_data, name):
    with pytest.raises(ValueError, match=f"a size of vgg16, .*; got '{name}'"):
        rl.build_model("vgg16", dataset=tiny_data, **{name: 3})


@pytest.mark.parametrize("width", [0, -0.5, float("nan"), float("inf"), "1", True])
def test_width_multiplier_that_is_no_positive_number_is_refused(tiny_data, width):
    message = f"width_multiplier of resnet20 to be a positive number; got {width!r}"
    with pytest.raises(ValueError, match=message):
        rl.build_model("resnet20", dataset=tiny_data, width_multiplier=width)


@pytest.mark.parametrize(
    ("architecture", "width_multiplier", "which"),
    [
        ("vgg16", 0.1, "0.1, which makes 64 channels 6.4"),
        ("resnet8", 3 / 32, "0.09375, which makes 16 channels 1.5"),
        ("resnet8_bn", 3 / 32, "0.09375, which makes 16 channels 1.5"),
        ("resnet32", 1 / 32, "0.03125, which makes 16 channels 0.5"),
        ("resnet50", 1 / 128, "0.0078125, which makes 64 channels 0.5"),
    ],
)
def test_width_multiplier_that_breaks_a_channel_is_refused(
    tiny_data, architecture, width_multiplier, which
):
    with pytest.raises(ValueError, match=f"of {architecture} that makes every width .*got {which}"):
        rl.build_model(architecture, dataset=tiny_data, width_multiplier=width_multiplier)


def test_width_multiplier_may_be_a_fraction_or_a_whole_number(tiny_data):
    for width_multiplier, width in ((1 / 8, 2), (1, 16), (2, 32), (3.0, 48)):
        model = rl.build_model("resnet8", dataset=tiny_data, width_multiplier=width_multiplier)
        params = model.shapes
        assert params["stem"]["conv"]["kernel"].shape == (3, 3, 1, width)


def test_image_too_large_for_five_poolings_is_refused():
    model = rl.Model("vgg16", image_shape=(64, 33, 3), num_classes=10, options={})
    with pytest.raises(ValueError, match="at most 32 x 32 pixels for vgg16.* got 64 x 33"):
        model.init(jax.random.key(0))


@pytest.mark.parametrize("mode", ["apply", "apply_training"])
def test_images_of_another_shape_are_refused(model, params, mode):
    with pytest.raises(ValueError, match=r"shape \[batch, 8, 8, 1\] for this mlp; got \[2, 16"):
        getattr(model, mode)(params, jnp.zeros((2, 16, 4, 1)))  # as many pixels


def test_layers_get_the_keys_that_nnx_would_give_them():
    """Or networks of a seed would be others than those that are stored."""
    ours, theirs = _Keys(jax.random.key(3)), nnx.Rngs(jax.random.key(3))
    for _ in range(3):
        assert ours.params() == theirs.params()


@pytest.mark.parametrize("shape", [(3, 3, 1, 8), (1, 1, 8, 5), (2, 4, 3, 2)])
def test_kernels_begin_with_the_numbers_that_flax_would_draw(shape):
    key = jax.random.key(5)
    drawn = nnx.initializers.lecun_normal()(key, shape, jnp.float32)
    np.testing.assert_array_equal(initializers.conv_kernel(key, shape, jnp.float32), drawn)


@pytest.mark.parametrize("name", TINY)
def test_a_network_is_built_once_and_every_convolution_draws_its_kernel_so(
    name, tiny_data, monkeypatch
):
    drawn, draw = [], initializers.conv_kernel
    monkeypatch.setattr(initializers, "conv_kernel", lambda *a: drawn.append(a) or draw(*a))
    model = models.Model(name, tiny_data.image_shape, tiny_data.num_classes, TINY[name])
    network = nnx.merge(*model._skeleton)
    _ = model.statistics_paths
    images = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)
    jax.eval_shape(model.apply_training, model.shapes, images)
    num_convolutions = sum(isinstance(part, nnx.Conv) for _, part in nnx.iter_graph(network))
    assert len(drawn) == num_convolutions
