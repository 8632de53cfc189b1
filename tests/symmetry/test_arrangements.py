"""Networks whose streams are shuffled, padded or taken in turns: found, true, and matched."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl


def draw(seed, *shape):
    return 0.5 * jax.random.normal(jax.random.key(seed), shape)


def conv(x, kernel, stride=1, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def shuffle(x, groups):
    b, h, w, c = x.shape
    return x.reshape(b, h, w, groups, c // groups).swapaxes(3, 4).reshape(b, h, w, c)


def shufflenet_v2(p, x):
    """Split, convolve one half, concatenate, shuffle; in the end a classifier."""
    h = jax.nn.relu(conv(x, p["stem"]))
    for name in ("c0", "c1"):
        keep, work = jnp.split(h, 2, -1)
        h = shuffle(jnp.concatenate([keep, jax.nn.relu(conv(work, p[name]))], -1), 2)
    return h.mean((1, 2)) @ p["w"]


def shufflenet_v1(p, x):
    """Grouped convolutions with a shuffle between, beside an identity."""
    h = jax.nn.relu(conv(x, p["stem"]))
    y = shuffle(jax.nn.relu(conv(h, p["down"], groups=2)), 2)
    y = conv(jax.nn.relu(y * p["scale"][None, None, None]), p["up"], groups=2)
    return jax.nn.relu(h + y).mean((1, 2)) @ p["w"]


def option_a(p, x):
    """Two stages of a CIFAR ResNet; the shortcut takes every second pixel and pads channels."""
    h = jax.nn.relu(conv(x, p["stem"]))
    for stage in (1, 2):
        width = h.shape[-1]
        y = conv(jax.nn.relu(conv(h, p[f"a{stage}"], 2)), p[f"b{stage}"])
        pad = ((0, 0), (0, 0), (0, 0), (width // 2, width // 2))
        h = jax.nn.relu(jnp.pad(h[:, ::2, ::2], pad) + y)
    return h.mean((1, 2)) @ p["w"]


def concatenated_in_turns(p, x):
    """Two branches interleaved by a stack, then by slices with a stride apart again."""
    x = x.reshape(x.shape[0], -1)
    a, b = jax.nn.relu(x @ p["a"]), jnp.tanh(x @ p["b"])
    h = jnp.stack([a, b], -1).reshape(x.shape[0], -1)
    return h @ p["w"] + h[:, ::2] @ p["u"]


NETWORKS = {
    "shufflenet v2": (
        shufflenet_v2,
        {"stem": (1, 1, 3, 32), "c0": (1, 1, 16, 16), "c1": (1, 1, 16, 16), "w": (32, 3)},
        [8] * 4 + [16] * 2,
    ),
    "shufflenet v1": (
        shufflenet_v1,
        {
            "stem": (1, 1, 3, 16),
            "down": (1, 1, 8, 32),
            "scale": (32,),
            "up": (1, 1, 16, 16),
            "w": (16, 3),
        },
        None,
    ),
    "option A": (
        option_a,
        {
            "stem": (3, 3, 3, 8),
            "a1": (3, 3, 8, 12),
            "b1": (3, 3, 12, 16),
            "a2": (3, 3, 16, 12),
            "b2": (3, 3, 12, 32),
            "w": (32, 3),
        },
        [8, 8, 16, 12, 12],
    ),
    "in turns": (
        concatenated_in_turns,
        {"a": (192, 16), "b": (192, 16), "w": (32, 3), "u": (16, 3)},
        [16, 16],
    ),
}
IMAGES = jax.random.normal(jax.random.key(9), (64, 8, 8, 3))


def built(name):
    apply_fn, shapes, sizes = NETWORKS[name]
    params = {leaf: draw(k, *shape) for k, (leaf, shape) in enumerate(shapes.items())}
    return apply_fn, params, sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_inferred_groups_are_true_and_as_many_as_there_are(name):
    apply_fn, params, sizes = built(name)
    spec = rl.infer_permutation_spec(apply_fn, params, IMAGES)
    assert rl.verify_equivalence(apply_fn, spec, params, IMAGES) < 1e-5
    if sizes is not None:
        assert sorted(spec.sizes(params).values()) == sorted(sizes), f"\n{spec}"
    assert rl.PermutationSpec.from_json(spec.to_json()) == spec
    assert spec.renamed().same_as(spec)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "weight") for name in NETWORKS),
        # Sites of v1 show groups of channels and channels at once, which activations cannot solve.
        *((name, "activation") for name in NETWORKS if name != "shufflenet v1"),
    ],
)
def test_planted_orders_are_found_again(name, method):
    apply_fn, params, _ = built(name)
    spec = rl.infer_permutation_spec(apply_fn, params, IMAGES)
    moved = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=3), params)
    options = {} if method == "weight" else {"apply_fn": apply_fn, "data": [IMAGES]}
    result = rl.match(method, spec, params, moved, seed=0, **options)
    assert rl.distance(params, rl.apply_permutation(spec, result.permutation, moved)) < 1e-4


def test_outputs_of_the_last_unit_before_a_shuffle_are_free():
    """All 24 orders by hand: they go to every second row of the classifier."""
    shapes = {"stem": (1, 1, 3, 8), "c0": (1, 1, 4, 4), "c1": (1, 1, 4, 4), "w": (8, 3)}
    params = {leaf: draw(k, *shape) for k, (leaf, shape) in enumerate(shapes.items())}
    expected = shufflenet_v2(params, IMAGES)
    for order in map(np.array, itertools.permutations(range(4))):
        rows = np.arange(8)
        rows[1::2] = rows[1::2][order]
        moved = params | {"c1": params["c1"][..., order], "w": params["w"][rows]}
        np.testing.assert_allclose(shufflenet_v2(moved, IMAGES), expected, atol=1e-5)
    spec = rl.infer_permutation_spec(shufflenet_v2, params, IMAGES)
    last = spec.axes["c1"][3]
    assert spec.sizes(params)[last] == 4
    assert f"{last}(1:8:2)" in spec.axes["w"][0]
    assert "Free: permutation" in spec.explain("c1", 3)


def test_padded_channels_on_both_sides_are_one_group():
    apply_fn, params, _ = built("option A")
    spec = rl.infer_permutation_spec(apply_fn, params, IMAGES)
    stem, first = spec.axes["stem"][3], spec.axes["b1"][3]
    padded = next(name for name in spec.permutations if f"{name}(0:4,12:16)" in first)
    assert first == f"{padded}(0:4,12:16)+{stem}(4:12)"
    assert spec.axes["a2"][2] == first
    rng = np.random.default_rng(0)
    expected = apply_fn(params, IMAGES)
    for _ in range(5):  # by hand: any order of the eight padded channels
        order = np.arange(16)
        order[[0, 1, 2, 3, 12, 13, 14, 15]] = rng.permutation([0, 1, 2, 3, 12, 13, 14, 15])
        moved = params | {"b1": params["b1"][..., order], "a2": params["a2"][:, :, order]}
        wide = np.concatenate([range(8), 8 + order, range(24, 32)])
        moved |= {"b2": params["b2"][..., wide], "w": params["w"][wide]}
        change = jnp.abs(apply_fn(moved, IMAGES) - expected).max()
        assert change < 1e-5 * jnp.abs(expected).max()
