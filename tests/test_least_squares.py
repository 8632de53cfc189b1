"""Merging by sequential least squares: its layers, their chains, its regressions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import merging, pytrees
from rebasin_lab.layers.batches import Batches
from rebasin_lab.layers.program import Program
from rebasin_lab.merging.regression import Moments

EXACT = 1e-7  # a ridge that hardly matters


@pytest.fixture(scope="module")
def images(tiny_data):
    """With noise: pixels that never vary leave maps undetermined, which would hide a wrong one."""
    shape = tiny_data.train_images.shape
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    return tiny_data.train_images + np.float32(0.1) * noise


def assert_computes_the_same(apply_fn, params, others, inputs, tolerance):
    one, two = (np.asarray(jax.jit(apply_fn)(each, inputs)) for each in (params, others))
    np.testing.assert_allclose(two, one, rtol=0, atol=tolerance * np.abs(one).max())


# --- laws ---------------------------------------------------------------------------------------


def test_a_network_merged_with_itself_computes_what_it_did(architecture, images):
    params = architecture.init(0)
    merged = merging.least_squares(architecture.apply_fn, [params, params], [images], ridge=EXACT)
    assert_computes_the_same(architecture.apply_fn, params, merged.params, images, 1e-4)
    assert min(merged.explained.values()) > 0.999
    assert merged.num_samples == len(images)


@pytest.fixture(
    scope="module",
    params=[
        ("vgg16", {"width_multiplier": 1 / 32}),
        ("resnet8", {"width_multiplier": 1 / 4}),
        ("resnet8_bn", {"width_multiplier": 1 / 4}),
        ("vit", {"width": 16, "num_blocks": 1}),
    ],
    ids=lambda param: param[0],
)
def lab_network(request):
    """A model of the lab, parameters without zeros, and images."""
    name, options = request.param
    model = rl.Model(name, image_shape=(32, 32, 3), num_classes=10, options=options)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((50, 32, 32, 3), np.float32)
    params = jax.tree.map(
        lambda leaf: (
            np.asarray(leaf + 0.1 * np.abs(rng.standard_normal(leaf.shape)), np.float32)
            if leaf.ndim == 1
            else np.asarray(leaf)
        ),
        model.init(jax.random.key(0)),
    )
    return model, merging.reestimate_statistics(model, params, images), images


def test_so_does_a_model_of_the_lab(lab_network):
    model, params, images = lab_network
    merged = merging.least_squares(
        model.apply,
        [params, params],
        [images],
        ridge=EXACT,
    )
    assert_computes_the_same(model.apply, params, merged.params, images, 1e-2)
    kernels = {path for path, leaf in pytrees.flatten(params).items() if path.endswith("kernel")}
    assert kernels <= merged.explained.keys()


@pytest.fixture
def batch_norm_pair(lab_network):
    """A model with running statistics, two networks of it, and images."""
    model, params, images = lab_network
    if not model.statistics_paths:
        pytest.skip("a network without running statistics")
    rng = np.random.default_rng(1)
    other = jax.tree.map(
        lambda leaf: leaf * rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), params
    )
    return model, params, other, images


def test_running_statistics_of_the_merged_network_are_true(batch_norm_pair):
    model, params, other, images = batch_norm_pair
    merged = merging.least_squares(
        model.apply, [params, other], [images], statistics_paths=model.statistics_paths
    ).params
    anew = pytrees.flatten(merging.reestimate_statistics(model, merged, images))
    for path, leaf in pytrees.flatten(merged).items():
        if path in model.statistics_paths:  # windows of a few pixels less than all
            np.testing.assert_allclose(leaf, anew[path], atol=0.35, err_msg=path)


def test_statistics_of_unknown_names_are_asked_for():
    def apply_fn(params, x):
        m, v, g, b = (params[name][None] for name in "mvgb")
        hidden = (x @ params["w"] - m) * jax.lax.rsqrt(v + 1e-5)
        return jax.nn.relu(hidden * g + b) @ params["out"]

    rng = np.random.default_rng(0)
    shapes = {"w": (5, 8), "out": (8, 3), **dict.fromkeys("mvgb", (8,))}
    params = {n: np.float32(1 + rng.uniform(size=shape)) for n, shape in shapes.items()}
    inputs = rng.standard_normal((200, 5), np.float32)
    with pytest.raises(ValueError, match="after 'w'.*'m', 'v'.*Name the running statistics"):
        merging.least_squares(apply_fn, [params], [inputs])
    with pytest.raises(ValueError, match="Name the running statistics"):
        merging.repair(apply_fn, [params], [inputs])
    merged = merging.least_squares(apply_fn, [params], [inputs], statistics_paths=["m", "v"])
    assert_computes_the_same(apply_fn, params, merged.params, inputs, 1e-3)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 3.0)])
def test_weights_choose_a_parent(mlp, weights, images):
    networks = [mlp.init(seed) for seed in range(2)]
    merged = merging.least_squares(
        mlp.apply_fn, networks, [images], weights=weights, ridge=EXACT
    ).params
    chosen = networks[int(np.argmax(weights))]
    assert_computes_the_same(mlp.apply_fn, chosen, merged, images, 1e-4)


def test_batches_give_what_one_batch_gives(mlp, images):
    networks = [mlp.init(seed) for seed in range(2)]
    whole, parts = (
        merging.least_squares(mlp.apply_fn, networks, data).params
        for data in ([images], [images[:90], images[90:180], images[180:]])
    )
    left_out = merging.least_squares(mlp.apply_fn, networks, [images[:180]]).params
    assert_computes_the_same(mlp.apply_fn, left_out, parts, images, 1e-3)
    with pytest.raises(AssertionError):  # the last, smaller batch makes a difference
        assert_computes_the_same(mlp.apply_fn, whole, parts, images, 1e-3)


# --- against formulas ---------------------------------------------------------------------------


def residual(params, x):
    """One block on a stream, without biases in the stream's writers."""
    stream = x @ params["stem"]
    stream = stream + jax.nn.relu(stream @ params["up"] + params["bias"][None]) @ params["down"]
    return jax.nn.relu(stream) @ params["head"]


def fitted(x, y):
    return np.linalg.lstsq(x, y, rcond=None)[0]


def test_each_layer_is_the_least_squares_map_and_corrects_the_stream():
    rng = np.random.default_rng(0)
    shapes = {"stem": (5, 6), "up": (6, 7), "bias": (7,), "down": (7, 6), "head": (6, 3)}
    networks = [{k: rng.standard_normal(s, np.float32) for k, s in shapes.items()} for _ in "ab"]
    x = rng.standard_normal((400, 5), np.float32)
    merged = merging.least_squares(residual, networks, [x], ridge=1e-10).params

    def relu(z):
        return np.maximum(z, 0)

    streams, hidden, ends, outputs = [], [], [], []
    for p in networks:
        streams.append(x @ p["stem"])
        hidden.append(streams[-1] @ p["up"] + p["bias"])
        ends.append(streams[-1] + relu(hidden[-1]) @ p["down"])
        outputs.append(relu(ends[-1]) @ p["head"])
    stream, hidden, end, output = (np.mean(each, 0) for each in (streams, hidden, ends, outputs))
    ones = np.ones((400, 1))
    own = x @ fitted(x, stream)
    inner = relu(np.hstack([own, ones]) @ fitted(np.hstack([own, ones]), hidden))
    down = fitted(inner, end - own)  # what is missing of the mean stream, and not the mean update
    last = relu(own + inner @ down)
    expected = {"stem": fitted(x, stream), "down": down, "head": fitted(last, output)}
    for name, value in expected.items():
        np.testing.assert_allclose(merged[name], value, rtol=1e-3, atol=1e-3, err_msg=name)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=4),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 3),
    mean=st.sampled_from([0.0, 1e3]),
)
def test_moments_are_numpys(sizes, inputs, outputs, mean):
    rng = np.random.default_rng(sum(sizes))
    x = mean + rng.standard_normal((sum(sizes), 2, inputs))
    y = rng.standard_normal((sum(sizes), 2, outputs))
    total = None
    for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        a, b = x[part], y[part]
        centred = a - a.mean(0), b - b.mean(0)
        arrays = (
            np.einsum("ngi,ngj->gij", centred[0], centred[0]),
            np.einsum("ngi,ngo->gio", *centred),
            np.square(centred[1]).sum(0),
        )
        batch = Moments(len(part), a.mean(0), b.mean(0), *arrays)
        if total is None:
            total = batch
        else:
            total += batch
    for group in range(2):
        joint = np.cov(np.hstack([x[:, group], y[:, group]]).T, bias=True)
        np.testing.assert_allclose(
            total.xx[group] / total.count, joint[:inputs, :inputs], atol=1e-8
        )
        np.testing.assert_allclose(
            total.xy[group] / total.count, joint[:inputs, inputs:], atol=1e-8
        )
        matrix = total.map(1e-12, np.zeros((2, outputs, inputs)), has_shift=True)[group]
        design = np.hstack([x[:, group] - x[:, group].mean(0), np.ones((len(x), 1))])
        if len(x) > 3 * inputs:
            np.testing.assert_allclose(matrix.T, fitted(design, y[:, group])[:-1], atol=1e-5)


@settings(max_examples=12)
@given(data=st.data())
def test_patches_times_the_kernel_are_the_convolution(data):
    groups = data.draw(st.sampled_from([1, 2]), "groups")
    layouts = st.sampled_from(
        [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("HWNC", "OHWI", "CNHW")]
    )
    options = {
        "window_strides": data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)), "strides"),
        "padding": data.draw(st.sampled_from(["SAME", "VALID", ((2, 0), (-1, 1))]), "padding"),
        "rhs_dilation": data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)), "dilation"),
        "feature_group_count": groups,
        "dimension_numbers": data.draw(layouts, "layout"),
    }
    lengths = {"N": 2, "H": 9, "W": 8, "C": 2 * groups, "O": 3 * groups, "I": 2}
    kernel_lengths = lengths | {"H": 3, "W": 2}
    lhs, rhs, _ = options["dimension_numbers"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal([lengths[axis] for axis in lhs], np.float32)
    params = {"kernel": rng.standard_normal([kernel_lengths[axis] for axis in rhs], np.float32)}

    def apply_fn(params, x):
        return jax.lax.conv_general_dilated(x, params["kernel"], **options)

    [layer] = Program(apply_fn, params, (x,)).layers
    written = apply_fn(params, x)
    x = jnp.asarray(x)
    inputs, outputs = layer.samples(x, written, [0, 0], window=100)
    matrix = layer.kernel_matrix(params["kernel"])
    np.testing.assert_allclose(jnp.einsum("ngi,goi->ngo", inputs, matrix), outputs, atol=1e-4)
    np.testing.assert_array_equal(outputs, layer.units(written))
    kernel = layer.kernel_of(matrix, params["kernel"].shape)
    np.testing.assert_array_equal(kernel, params["kernel"])
    window = [min(length, 2) for length in layer.positions]
    corner = [length - size for length, size in zip(layer.positions, window, strict=True)]
    inputs, outputs = layer.samples(x, written, corner, window=2)
    np.testing.assert_allclose(jnp.einsum("ngi,goi->ngo", inputs, matrix), outputs, atol=1e-4)


# --- REPAIR -------------------------------------------------------------------------------------


def test_repair_of_one_network_changes_nothing(architecture, images):
    params = architecture.init(0)
    repaired = merging.repair(architecture.apply_fn, [params, params], [images])
    assert_computes_the_same(architecture.apply_fn, params, repaired, images, 1e-3)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1)])
def test_repaired_units_have_the_means_and_deviations_of_their_parents(mlp, weights, images):
    networks = [mlp.init(seed) for seed in range(2)]
    program = Program(mlp.apply_fn, networks[0], (images,))

    def moments(params):
        front = {program.inputs[0]: images}
        wanted = [layer.target for layer in program.layers[:-1]]
        values = program.evaluate(pytrees.flatten(params), front, wanted)
        return np.array([(value.mean(0), value.std(0)) for value in values])

    repaired = moments(merging.repair(mlp.apply_fn, networks, [images], weights=weights))
    parents = np.tensordot(weights, [moments(params) for params in networks], axes=1)
    np.testing.assert_allclose(repaired, parents, atol=1e-3)


def test_repair_of_batchnorm_is_its_statistics_measured_anew(batch_norm_pair):
    model, params, other, images = batch_norm_pair
    other = merging.reestimate_statistics(model, other, images)
    repaired = merging.repair(
        model.apply, [params, other], [images], statistics_paths=model.statistics_paths
    )
    mean = merging.reestimate_statistics(model, rl.average([params, other]), images)
    assert_computes_the_same(model.apply, mean, repaired, images, 1e-3)


# --- what it is for -----------------------------------------------------------------------------


def test_a_merge_of_trained_networks_is_better_than_their_mean(trained_pair, tiny_data):
    model, *networks = trained_pair
    merged = merging.least_squares(model.apply, networks, tiny_data).params
    losses = [
        rl.evaluate(model.apply, params, tiny_data.test_images, tiny_data.test_labels).loss
        for params in (merged, rl.average(networks))
    ]
    assert losses[0] < losses[1]


# --- wrong calls --------------------------------------------------------------------------------


def test_wrong_calls_are_refused(mlp, images):
    params = mlp.init(0)
    with pytest.raises(ValueError, match="at least one network"):
        merging.least_squares(mlp.apply_fn, [], [images])
    with pytest.raises(ValueError, match="at least one batch"):
        merging.least_squares(mlp.apply_fn, [params], iter([]))
    with pytest.raises(ValueError, match="weight"):
        merging.least_squares(mlp.apply_fn, [params], [images], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="product or convolution"):
        merging.least_squares(lambda p, x: x * p["w"], [{"w": np.ones((1, 1, 1, 1))}], [images])
    with pytest.raises(ValueError, match="Write \\[images\\]"):
        merging.least_squares(mlp.apply_fn, [params], images)
    with pytest.raises(ValueError, match="raised"):
        merging.least_squares(mlp.apply_fn, [params], [images[:, :3]])


# --- what is kept of each batch -----------------------------------------------------------------


@pytest.mark.parametrize("merge", [merging.least_squares, merging.repair])
def test_a_scratch_folder_changes_no_bit_and_is_left_empty(
    merge, mlp, images, tmp_path, trees_equal
):
    networks = [mlp.init(seed) for seed in (0, 1)]
    batches = [images[start : start + 20] for start in (0, 20, 40)]
    folder = tmp_path / "not" / "yet"
    kept, stored = (
        merge(mlp.apply_fn, networks, batches, scratch=scratch) for scratch in (None, folder)
    )
    trees_equal(getattr(kept, "params", kept), getattr(stored, "params", stored))
    assert list(folder.iterdir()) == []


def test_a_scratch_that_is_a_file_is_refused(mlp, images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Expected scratch to be a folder"):
        merging.least_squares(mlp.apply_fn, [mlp.init(0)], [images], scratch=tmp_path / "file")


def test_batches_on_disk_are_those_in_memory(tmp_path, trees_equal):
    trees = [
        {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3) + n,
            "b": (np.full((), n, np.int8), jnp.float32(n)),
        }
        for n in range(3)
    ]
    trees[2]["half"] = jnp.arange(3, dtype=jnp.bfloat16)
    stored = Batches(trees, tmp_path)
    (files,) = tmp_path.iterdir()
    assert len(list(files.iterdir())) == len(stored) == 3
    for before, after in zip(trees, stored, strict=True):
        trees_equal(before, after)
    trees_equal(stored[-1], trees[2])
    stored[0] = trees[1]
    trees_equal(stored[0], trees[1])
    del stored
    assert list(tmp_path.iterdir()) == []
