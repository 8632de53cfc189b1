"""Inner units of a merged network, chosen among those of all parents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import merging, pytrees
from rebasin_lab.layers.program import Program
from rebasin_lab.merging.inner_groups import find_inner_groups
from rebasin_lab.merging.pruning import eliminate
from test_least_squares import EXACT, assert_computes_the_same, batch_norm_pair, images, lab_network

__all__ = ["batch_norm_pair", "images", "lab_network"]  # fixtures


# --- leaving out units --------------------------------------------------------------------------


def error_without(left, right, importance, rows):
    """The least squares' minimum, but for a constant, from some inputs alone."""
    some = np.ix_(rows, rows)
    weights = np.linalg.solve(left[some], right[rows])
    return -((right[rows] * weights).sum(0) @ importance), weights


@settings(max_examples=20)
@given(
    num_units=st.integers(2, 6),
    size=st.integers(1, 3),
    outputs=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_unit_left_out_is_the_one_that_brute_force_finds(num_units, size, outputs, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((100, num_units * size))
    left = x.T @ x / len(x) + 1e-3 * np.eye(num_units * size)
    right, importance = rng.standard_normal((len(left), outputs)), rng.uniform(0.1, 2, outputs)
    for num_kept in range(1, num_units):
        found = eliminate(
            left, right, num_units=num_units, num_kept=num_kept, importance=importance
        )
        alive = list(range(num_units))
        for cost in found.costs:
            entries = {
                unit: [u * size + i for u in alive if u != unit for i in range(size)]
                for unit in (*alive, None)
            }
            errors = {
                unit: error_without(left, right, importance, rows)[0]
                for unit, rows in entries.items()
            }
            before = errors.pop(None)
            best = min(errors, key=errors.get)
            alive.remove(best)
            np.testing.assert_allclose(cost, errors[best] - before, rtol=1e-6, atol=1e-9)
        assert found.kept.tolist() == alive
        _, weights = error_without(left, right, importance, entries[best])
        np.testing.assert_allclose(found.weights.reshape(-1, outputs), weights, atol=1e-8)


def test_of_two_equal_units_one_is_left_out():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 4))
    x, y = np.hstack([x, x[:, [2, 0]]]), x @ rng.standard_normal((4, 3))
    left, right = x.T @ x / 500 + EXACT * np.eye(6), x.T @ y / 500
    found = eliminate(left, right, num_units=6, num_kept=4)
    assert {(0, 5), (2, 4)} <= {(i, j) for i in range(3) for j in (4, 5) if {i, j} - {*found.kept}}
    assert max(found.costs) < 1e-5  # of the penalty


# --- inner groups -------------------------------------------------------------------------------


def groups_of(apply_fn, params, inputs):
    program = Program(apply_fn, params, (inputs,))
    spec = rl.infer_permutation_spec(apply_fn, params, inputs)
    paths = [layer.path for layer in program.layers]
    found = find_inner_groups(program, spec, pytrees.flatten(params))
    return {(paths[group.writer], paths[group.reader]) for group in found}


def test_inner_groups_of_the_lab_are_those_between_two_layers(lab_network):
    model, params, images = lab_network
    found = groups_of(model.apply, params, images[:2])
    # LayerNorm compares the units of a convolution with each other.
    counts = {"vgg16": 2, "resnet8": 0, "resnet8_bn": 3, "vit": 1}
    assert len(found) == counts[model.architecture], found


def dense_pair(middle):
    """Two dense layers with a function of the units between."""

    def apply_fn(params, x):
        return middle(x @ params["up"]) @ params["down"]

    return groups_of(apply_fn, {"up": np.ones((3, 8)), "down": np.ones((8, 2))}, np.ones((5, 3)))


@pytest.mark.parametrize(
    "middle",
    [
        jax.nn.relu,
        jax.nn.gelu,
        jnp.tanh,
        lambda z: jax.nn.relu(z) * 2 + 1,
        lambda z: jnp.cumsum(z, axis=0),
    ],
)
def test_units_that_do_not_act_on_each_other_are_inner(middle):
    assert dense_pair(middle) == {("up", "down")}


@pytest.mark.parametrize(
    "middle",
    [
        jax.nn.softmax,
        lambda z: z / (1 + jnp.abs(z).sum(1, keepdims=True)),
        lambda z: jax.nn.relu(z) - jax.nn.relu(z).mean(1, keepdims=True),
        lambda z: jnp.sort(z, axis=1),
    ],
)
def test_units_that_do_are_not(middle):
    assert dense_pair(middle) == set()


# --- laws ---------------------------------------------------------------------------------------


def test_a_network_merged_with_itself_computes_what_it_did(architecture, images):
    apply_fn, params = architecture.apply_fn, architecture.init(0)
    if not groups_of(apply_fn, params, images):
        with pytest.raises(ValueError, match="found none"):
            merging.least_squares(apply_fn, [params], [images], size=1.0)
        return
    merged = merging.least_squares(apply_fn, [params] * 2, [images], size=1.0, ridge=1e-5)
    assert_computes_the_same(apply_fn, params, merged.params, images, 1e-2)


@pytest.mark.slow
def test_so_does_a_model_of_the_lab(lab_network):
    model, params, images = lab_network
    if model.architecture == "resnet8":
        with pytest.raises(ValueError, match="found none"):
            merging.least_squares(model.apply, [params], [images], size=1.0)
        return
    merged = merging.least_squares(
        model.apply,
        [params, params],
        [images],
        size=1.0,
        ridge=1e-5,
        statistics_paths=model.statistics_paths,
    )
    assert_computes_the_same(model.apply, params, merged.params, images, 5e-2)


def flattened(params, images):
    """A convolution whose positions are flattened, and two dense layers."""
    hidden = jax.nn.relu(convolved(params["kernel"], images)).reshape(len(images), -1)
    return jax.nn.gelu(hidden @ params["up"] + params["bias"][None]) @ params["head"]


def flattened_of(seed):
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 3, 1, 2), "up": (128, 9), "bias": (9,), "head": (9, 4)}
    return {name: 0.3 * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def test_with_all_units_of_all_parents_it_is_their_ensemble():
    images = np.random.default_rng(0).standard_normal((600, 8, 8, 1), np.float32)
    networks, weights = [flattened_of(seed) for seed in range(3)], [0.5, 0.2, 0.3]
    merged = merging.least_squares(
        flattened, networks, [images], size=3, weights=weights, ridge=1e-6
    )
    wanted = np.tensordot(weights, [flattened(each, images) for each in networks], axes=1)
    found = flattened(merged.params, images)
    np.testing.assert_allclose(found, wanted, atol=1e-2 * np.abs(wanted).max())


def convolved(kernel, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def block(params, images):
    """A stem, one residual block with BatchNorm, and a head."""

    def normalised(name, x):
        mean, variance, scale, shift = (
            params[f"{name}/{role}"][None, None, None] for role in ROLES
        )
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + shift

    stream = jax.nn.relu(convolved(params["stem"], images))
    hidden = jax.nn.relu(normalised("norm", convolved(params["up"], stream)))
    return jax.nn.relu(stream + convolved(params["down"], hidden)).mean((1, 2)) @ params["head"]


ROLES = ("mean", "variance", "scale", "shift")
STATISTICS = ("norm/mean", "norm/variance")


def block_of(seed):
    rng = np.random.default_rng(seed)
    shapes = {"stem": (3, 3, 1, 6), "up": (3, 3, 6, 8), "down": (3, 3, 8, 6), "head": (6, 10)}
    params = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    roles = {f"norm/{role}": rng.uniform(0.5, 2, 8).astype(np.float32) for role in ROLES}
    return params | roles


def test_inner_layers_have_the_size_asked_for(images):
    networks = [block_of(seed) for seed in range(2)]
    explained, shapes = [], []
    for size in (0.5, 1.0, 1.5, 2):
        merged = merging.least_squares(
            block, networks, [images], size=size, statistics_paths=STATISTICS, ridge=1e-5
        )
        explained.append(merged.explained["down"])
        merged = merged.params
        shapes.append((merged["up"].shape[-1], len(merged["norm/mean"]), merged["down"].shape[2]))
    assert shapes == [(4,) * 3, (8,) * 3, (12,) * 3, (16,) * 3]
    assert explained == sorted(explained)  # fewer units are some of the more
    hidden = convolved(merged["up"], jax.nn.relu(convolved(merged["stem"], images)))
    np.testing.assert_allclose(hidden.mean((0, 1, 2)), merged["norm/mean"], atol=1e-3)
    np.testing.assert_allclose(hidden.var((0, 1, 2)), merged["norm/variance"], rtol=1e-2)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 3.0)])
def test_weights_choose_a_parent(mlp, weights, images):
    networks = [mlp.init(seed) for seed in range(2)]
    merged = merging.least_squares(
        mlp.apply_fn, networks, [images], weights=weights, size=1.0, ridge=1e-5
    ).params
    chosen = networks[int(np.argmax(weights))]
    assert_computes_the_same(mlp.apply_fn, chosen, merged, images, 1e-2)


# --- wrong calls --------------------------------------------------------------------------------


def test_wrong_calls_are_refused(images):
    def bound(params, x):
        hidden = jax.nn.relu(x.reshape(len(x), 64) @ params["up"])
        return jnp.broadcast_to(hidden, (len(x), 8)) @ params["down"]

    params = {"up": np.ones((64, 8), np.float32), "down": np.ones((8, 2), np.float32)}
    merging.least_squares(bound, [params, params], [images], size=1.0)
    with pytest.raises(ValueError, match="any width"):
        merging.least_squares(bound, [params, params], [images], size=1.5)
    with pytest.raises(ValueError, match="found none"):
        merging.least_squares(lambda p, x: x[:, :, 0, 0] @ p, [params["up"][:8]], [images], size=2)
    with pytest.raises(ValueError, match="size"):
        merging.least_squares(bound, [params], [images], size=0)
