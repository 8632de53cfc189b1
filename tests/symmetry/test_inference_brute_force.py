"""Against all permutations of all axes of tiny networks: which symmetries does inference find?

For every axis of every parameter each permutation is tried, independently of the other axes, and
those that leave the function unchanged are counted. Where a network says so, an axis has a
permutation for every slot of other axes. This knows nothing of how the network computes.
Inference must never find more. What it misses is listed in `KNOWN_MISSED`, with the reason; a
test fails too if it begins to find more, so that the list stays true.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab.symmetry.inference import infer_permutation_spec

# Every primitive these networks use is known.
pytestmark = pytest.mark.filterwarnings("error:Nothing is known of the symmetries")

BATCH = 4096  # tuples of permutations tried at once


class Network(NamedTuple):
    """A function of parameters p and an input x, with the shapes of both.

    Attributes:
        along: leaf and axis -> the other axes of the leaf along which its permutation varies.
    """

    apply_fn: Callable[[dict, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[int, ...] = (3, 1)
    along: dict[tuple[str, int], tuple[int, ...]] = {}


def _conv(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _recurrent(p, x):
    def cell(h, row):
        h = jnp.tanh(h @ p["w"] + row @ p["u"])
        return h, None

    return jax.lax.scan(cell, jnp.zeros((3, 3)), jnp.stack([x, x * 2]))[0] @ p["o"]


def _attention(p, x):
    q, k, v = ((x @ p[name]).reshape(2, 2, 2) for name in "qkv")
    scores = jax.nn.softmax(jnp.einsum("qhd,khd->hqk", q, k), -1)
    return jnp.einsum("hqk,khd->qhd", scores, v).reshape(2, 4).sum(-1)


def _fused_attention(p, x):
    q, k, v = jnp.moveaxis(jnp.einsum("tc,cshd->tshd", x, p["qkv"]), 1, 0)
    scores = jax.nn.softmax(jnp.einsum("qhd,khd->hqk", q, k), -1)
    return jnp.einsum("hqk,khd->qhd", scores, v).reshape(3, 4) @ p["o"]


def _fused_trailing(p, x):
    q, k, v = (x @ p["qkv"]).reshape(3, 2, 3).transpose(2, 0, 1)
    return (jax.nn.softmax(q @ k.T, -1) @ v) @ p["o"]


def _grouped_queries(p, x):
    q = (x @ p["q"]).reshape(2, 2, 2)
    scores = jax.nn.softmax(jnp.einsum("qhd,kd->hqk", q, x @ p["k"]), -1)
    return jnp.einsum("hqk,kd->qhd", scores, x @ p["v"]).reshape(2, 2) @ p["o"]


def _heads_and_back(p, x):
    h = jnp.tanh(x @ p["a"]).reshape(3, 2, 2)
    return (2 * h).reshape(3, 4) @ p["b"]


def _stacked_loop(p, x):
    for w in p["w"]:
        x = jnp.tanh(jnp.tanh(x @ w) @ w.T)
    return x


def _stacked_scan(p, x):
    def layer(h, weights):
        a, b = weights
        return h + jnp.tanh(h @ a) @ b, None

    return jax.lax.scan(layer, x, (p["a"], p["b"]))[0]


def _grouped_conv(p, x):
    h = jnp.tanh(_conv(x, p["a"]))
    return (_conv(h, p["b"], groups=2) ** 2).sum((1, 2)) @ p["o"]


def _group_norm(p, x):
    h = (x @ p["a"]).reshape(3, 2, 2)
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 0.1)
    return h.reshape(3, 4) @ p["b"]


def _mlp(p, x):
    return jnp.tanh(jnp.tanh(x @ p["a"] + p["c"][None]) @ p["b"]) @ p["o"]


def _padded_twice(p, x):
    h = x @ p["a"]
    for name in "bc":
        h = jnp.tanh(jnp.pad(h, ((0, 0), (1, 1))) + jnp.tanh(x @ p[name]))
    return h @ p["o"]


def _shuffle(h, groups):
    lead, size = h.shape[:-1], h.shape[-1]
    return h.reshape(*lead, groups, size // groups).swapaxes(-1, -2).reshape(*lead, size)


def _shuffled_units(p, x):
    h = jnp.tanh(x @ p["a"])
    for name in "bc":
        keep, work = jnp.split(h, 2, -1)
        h = _shuffle(jnp.concatenate([keep, jnp.tanh(work @ p[name])], -1), 2)
    return h @ p["o"]


def _shuffled_groups(p, x):
    h = jnp.tanh(_conv(jnp.tanh(_conv(x, p["a"])), p["b"], groups=2))
    return (_conv(_shuffle(h, 2), p["c"], groups=2) ** 2).sum((1, 2)) @ p["o"]


def _pixel_shuffle(p, x):
    h = jnp.tanh(_conv(x, p["a"]))
    h = h.reshape(2, 1, 1, 2, 1, 2).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 2)
    return (h * np.arange(1.0, 3.0)[None, :, None]).sum(1) @ p["o"]


NETWORKS: dict[str, Network] = {
    "mlp": Network(_mlp, {"a": (1, 3), "c": (3,), "b": (3, 3), "o": (3, 1)}),
    "residual": Network(
        lambda p, x: (lambda h: (h + jnp.tanh(h @ p["u"]) @ p["d"]) @ p["o"])(x @ p["a"]),
        {"a": (1, 3), "u": (3, 2), "d": (2, 3), "o": (3, 1)},
    ),
    "recurrent": Network(_recurrent, {"w": (3, 3), "u": (1, 3), "o": (3, 1)}),
    "two products of one weight": Network(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"] @ p["w"]) @ p["w"].T) @ p["b"],
        {"a": (1, 3), "w": (3, 3), "b": (3, 1)},
    ),
    "gated unit": Network(
        lambda p, x: (lambda a, b: a * jax.nn.sigmoid(b))(*jnp.split(x @ p["a"], 2, -1)) @ p["o"],
        {"a": (1, 6), "o": (3, 1)},
    ),
    "concatenation": Network(
        lambda p, x: jnp.tanh(jnp.concatenate([x @ p["a"], jnp.tanh(x @ p["b"])], -1) @ p["c"]),
        {"a": (1, 2), "b": (1, 3), "c": (5, 1)},
    ),
    "flattened convolution": Network(
        lambda p, x: jnp.tanh(_conv(x, p["a"])).reshape(2, -1) @ p["b"],
        {"a": (1, 1, 1, 3), "b": (6, 1)},
        (2, 1, 2, 1),
    ),
    "grouped convolution": Network(
        _grouped_conv,
        {"a": (1, 1, 1, 4), "b": (1, 1, 2, 2), "o": (2, 1)},
        (2, 2, 2, 1),
        {("b", 2): (3,)},
    ),
    "depthwise convolution": Network(
        lambda p, x: (_conv(jnp.tanh(_conv(x, p["a"])), p["b"], 3) ** 2).sum((1, 2)) @ p["o"],
        {"a": (1, 1, 1, 3), "b": (2, 1, 1, 3), "o": (3, 1)},
        (2, 2, 2, 1),
    ),
    "group norm": Network(_group_norm, {"a": (1, 4), "b": (4, 1)}),
    "attention": Network(_attention, dict.fromkeys("qkv", (1, 4)), (2, 1)),
    "tied embedding": Network(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["e"]) @ p["w"]) @ p["e"].T,
        {"e": (2, 3), "w": (3, 3)},
        (3, 2),
    ),
    "outer product": Network(
        lambda p, x: (
            jnp.tanh(jnp.einsum("bi,bj->bij", x @ p["a"], x @ p["b"])).reshape(3, 6) @ p["o"]
        ),
        {"a": (1, 2), "b": (1, 3), "o": (6, 1)},
    ),
    "softmax over units": Network(
        lambda p, x: jax.nn.softmax(x @ p["a"], -1) @ p["b"], {"a": (1, 4), "b": (4, 1)}
    ),
    "channel attention": Network(
        lambda p, x: (lambda h: jax.nn.softmax(h.T @ h, -1) @ p["b"])(jnp.tanh(x @ p["a"])).sum(),
        {"a": (1, 4), "b": (4, 1)},
    ),
    "squeeze and excite": Network(
        lambda p, x: (lambda h: (h * jax.nn.sigmoid(h.mean(0, keepdims=True) @ p["w"])) @ p["o"])(
            jnp.tanh(x @ p["a"])
        ),
        {"a": (1, 3), "w": (3, 3), "o": (3, 1)},
    ),
    "stacked layers in a scan": Network(
        _stacked_scan, {"a": (2, 1, 3), "b": (2, 3, 1)}, along={("a", 2): (0,), ("b", 1): (0,)}
    ),
    "position-dependent constant": Network(
        lambda p, x: (jnp.tanh(x @ p["a"]) * jnp.arange(1.0, 5.0)[None]) @ p["b"],
        {"a": (1, 4), "b": (4, 1)},
    ),
    "cumulative sum": Network(
        lambda p, x: jnp.tanh(jnp.cumsum(x @ p["a"], -1)) @ p["b"], {"a": (1, 4), "b": (4, 1)}
    ),
    "skip past some units": Network(
        lambda p, x: (lambda h: jnp.tanh(h @ p["b"]) @ p["o"] + h[:, :2].sum(-1, keepdims=True))(
            jnp.tanh(x @ p["a"])
        ),
        {"a": (1, 4), "b": (4, 2), "o": (2, 1)},
    ),
    "twice the same units": Network(
        lambda p, x: jnp.repeat(jnp.tanh(x @ p["a"]), 2, -1) @ p["b"], {"a": (1, 3), "b": (6, 1)}
    ),
    "grouped-query attention": Network(
        _grouped_queries, {"q": (1, 4), "k": (1, 2), "v": (1, 1), "o": (2, 1)}, (2, 1)
    ),
    "an ensemble": Network(
        lambda p, x: jax.vmap(lambda w: jnp.tanh(x @ w))(p["w"]).sum((0, -1)),
        {"w": (3, 1, 2)},
        along={("w", 2): (0,)},
    ),
    "positions mixed": Network(
        lambda p, x: jnp.tanh(x.T @ p["a"]) @ p["b"], {"a": (3, 3), "b": (3, 2)}, (3, 2)
    ),
    "weights made by units": Network(
        lambda p, x: jnp.einsum("bi,bio->b", x @ p["a"], jnp.tanh(x @ p["w"]).reshape(3, 2, 2)),
        {"a": (1, 2), "w": (1, 4)},
    ),
    "low rank": Network(
        lambda p, x: jnp.tanh(x @ p["a"] @ (p["l"] @ p["r"])) @ p["b"],
        {"a": (1, 3), "l": (3, 2), "r": (2, 3), "b": (3, 1)},
    ),
    "linear network": Network(lambda p, x: (x @ p["a"]).sum(-1), {"a": (1, 4)}),
    "a softmax that shifts": Network(
        lambda p, x: jax.nn.softmax(x @ p["a"] + p["c"].sum(), -1) @ p["b"],
        {"a": (1, 3), "c": (3,), "b": (3, 1)},
    ),
    "same bias for all": Network(
        lambda p, x: jnp.tanh(x @ p["a"] + p["c"][:1][None]) @ p["b"],
        {"a": (1, 3), "c": (2,), "b": (3, 1)},
    ),
    "zero channels": Network(
        lambda p, x: (
            jnp.tanh(jnp.pad(x @ p["a"], ((0, 0), (1, 1))) + jnp.tanh(x @ p["b"])) @ p["o"]
        ),
        {"a": (1, 2), "b": (1, 4), "o": (4, 1)},
    ),
    "zero channels twice": Network(
        _padded_twice, {"a": (1, 1), "b": (1, 3), "c": (1, 5), "o": (5, 1)}
    ),
    "every second unit": Network(
        lambda p, x: jnp.tanh(x @ p["a"])[:, ::2] @ p["b"], {"a": (1, 4), "b": (2, 1)}
    ),
    "odd and even units": Network(
        lambda p, x: (lambda h: h[:, ::2] @ p["b"] + h[:, 1::2] @ p["c"])(jnp.tanh(x @ p["a"])),
        {"a": (1, 6), "b": (3, 1), "c": (3, 1)},
    ),
    "every third unit": Network(
        lambda p, x: jnp.tanh(x @ p["a"])[:, 1::3] @ p["b"], {"a": (1, 7), "b": (2, 1)}
    ),
    "units in the middle": Network(
        lambda p, x: (lambda h: h[:, 1:3] @ p["b"] + (h**2).sum(-1, keepdims=True))(
            jnp.tanh(x @ p["a"])
        ),
        {"a": (1, 5), "b": (2, 1)},
    ),
    "channel shuffle": Network(
        lambda p, x: _shuffle(jnp.concatenate([jnp.tanh(x @ p["a"]), x @ p["b"]], -1), 2) @ p["o"],
        {"a": (1, 3), "b": (1, 3), "o": (6, 1)},
    ),
    "shuffled and split": Network(
        _shuffled_units, {"a": (1, 4), "b": (2, 2), "c": (2, 2), "o": (4, 1)}
    ),
    "shuffled by three": Network(
        lambda p, x: (
            _shuffle(jnp.concatenate([jnp.tanh(x @ p[n]) for n in "abc"], -1), 3)[:, 1:5] @ p["o"]
        ),
        {"a": (1, 2), "b": (1, 2), "c": (1, 2), "o": (4, 1)},
    ),
    "shuffle between grouped convolutions": Network(
        _shuffled_groups,
        {"a": (1, 1, 1, 4), "b": (1, 1, 2, 4), "c": (1, 1, 2, 2), "o": (2, 1)},
        (2, 2, 2, 1),
        {("b", 2): (3,), ("c", 2): (3,)},
    ),
    "in turns by a stack": Network(
        lambda p, x: jnp.stack([jnp.tanh(x @ p["a"]), x @ p["b"]], -1).reshape(3, 6) @ p["o"],
        {"a": (1, 3), "b": (1, 3), "o": (6, 1)},
    ),
    "in turns and apart again": Network(
        lambda p, x: (lambda h: h[..., 0] @ p["o"] + h[..., 1] @ p["u"])(
            (jnp.stack([jnp.tanh(x @ p["a"]), x @ p["b"]], -1).reshape(3, 6) * 2).reshape(3, 3, 2)
        ),
        {"a": (1, 3), "b": (1, 3), "o": (3, 1), "u": (3, 1)},
    ),
    "pixel shuffle": Network(_pixel_shuffle, {"a": (1, 1, 1, 4), "o": (2, 1)}, (2, 1, 1, 1)),
    # What follows has symmetries that inference misses.
    "identity matrix": Network(
        lambda p, x: jnp.tanh(x @ p["a"]) @ (jnp.eye(3) + 2 * p["w"]) @ p["b"],
        {"a": (1, 3), "w": (3, 3), "b": (3, 1)},
    ),
    "sorted units": Network(
        lambda p, x: jnp.sort(x @ p["a"], -1) @ p["b"], {"a": (1, 4), "b": (4, 2)}
    ),
    "heads and back": Network(_heads_and_back, {"a": (1, 4), "b": (4, 1)}),
    "fused attention": Network(
        _fused_attention,
        {"qkv": (2, 3, 2, 2), "o": (4, 1)},
        (3, 2),
        {("qkv", 2): (1,), ("qkv", 3): (1, 2)},
    ),
    "fused attention, kind last": Network(_fused_trailing, {"qkv": (2, 6), "o": (2, 1)}, (3, 2)),
    "layers of a stack in a loop": Network(_stacked_loop, {"w": (2, 1, 3)}, along={("w", 2): (0,)}),
    "an ensemble in a loop": Network(
        lambda p, x: sum(jnp.tanh(x @ w).sum(-1) for w in p["w"]),
        {"w": (3, 1, 2)},
        along={("w", 2): (0,)},
    ),
    "an unused leaf": Network(lambda p, x: jnp.tanh(x @ p["a"]).sum(-1), {"a": (1, 3), "b": (3,)}),
    "a bias that is only added up": Network(
        lambda p, x: (jnp.tanh(x @ p["a"]) + p["c"][None]).sum(-1), {"a": (1, 3), "c": (3,)}
    ),
    "flipped twice": Network(
        lambda p, x: jnp.flip(jnp.flip(jnp.tanh(x @ p["a"]), -1) * 2, -1) @ p["b"],
        {"a": (1, 4), "b": (4, 1)},
    ),
    "flipped": Network(
        lambda p, x: jnp.flip(jnp.tanh(x @ p["a"]), -1) @ p["b"], {"a": (1, 4), "b": (4, 1)}
    ),
    "reversed and summed": Network(
        lambda p, x: (lambda h: (h + jnp.flip(h, -1)) @ p["b"])(jnp.tanh(x @ p["a"])),
        {"a": (1, 4), "b": (4, 1)},
    ),
}

# Name -> (how many inference finds, how many there are, why).
KNOWN_MISSED: dict[str, tuple[int, int, str]] = {
    "identity matrix": (1, 6, "a constant that is the same under one order of both its axes"),
    "sorted units": (1, 24, "sort forgets the order of what it is given; no rule says so"),
    "heads and back": (8, 24, "a reshape splits units for good, even if it is undone"),
    "fused attention": (
        8,
        32,
        "queries, keys and values are a whole axis of one leaf, whose entries share all groups",
    ),
    "fused attention, kind last": (
        2,
        4,
        "units of queries and values alternate, and a product cannot tell them apart",
    ),
    "layers of a stack in a loop": (
        6,
        36,
        "layers cut out of a stack one by one share their groups; in a scan they do not",
    ),
    "an ensemble in a loop": (
        2,
        48,
        "members cut out one by one keep their order and share their groups; with vmap not",
    ),
    "an unused leaf": (6, 36, "what the function never uses stays where it is"),
    "a bias that is only added up": (
        6,
        36,
        "terms of a sum that are added up in the end need not have met, unit by unit",
    ),
    "flipped": (1, 24, "a flip needs the order, although it could be undone in the next weight"),
    "flipped twice": (1, 24, "a flip needs the order, even if it is undone"),
    "reversed and summed": (1, 32, "a flip needs the order; units and their mirror images pair up"),
}


def factors(network: Network) -> list[tuple[str, int, np.ndarray]]:
    """Leaf, axis and all permutations of that axis, with an axis for each axis of the leaf.

    What varies along others comes first: the slots it is given for have not been moved yet.
    """
    found = []
    for name, shape in network.shapes.items():
        axes = range(len(shape))
        for axis in sorted(axes, key=lambda i: -len(network.along.get((name, i), ()))):
            along = network.along.get((name, axis), ())
            one = np.array(list(itertools.permutations(range(shape[axis]))))
            slots = math.prod(shape[i] for i in along)
            chosen = np.array(list(itertools.product(range(len(one)), repeat=slots)))
            grid = [shape[i] for i in along] + [shape[axis]]
            order = np.argsort([*along, axis])
            rows = one[chosen].reshape(-1, *grid).transpose(0, *(order + 1))
            here = [shape[i] if i == axis or i in along else 1 for i in axes]
            found.append((name, axis, rows.reshape(-1, *here)))
    return found


def permuted_params(network: Network, params: dict) -> Iterator[dict[str, np.ndarray]]:
    """The parameters under all permutations, in stacks along a new first axis."""
    every = factors(network)
    sizes = [len(rows) for _, _, rows in every]
    assert math.prod(sizes) <= 150_000
    for start in range(0, math.prod(sizes), BATCH):
        flat = np.arange(start, min(start + BATCH, math.prod(sizes)))
        stacks = {
            name: np.broadcast_to(leaf, (len(flat), *leaf.shape)) for name, leaf in params.items()
        }
        for (name, axis, rows), at in zip(every, np.unravel_index(flat, sizes), strict=True):
            stacks[name] = np.take_along_axis(stacks[name], rows[at], axis + 1)
        yield stacks


def count_symmetries(network: Network) -> int:
    """How many tuples of permutations leave the function unchanged, to ten digits."""
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
    inputs = rng.standard_normal(network.inputs)
    with jax.enable_x64(True):
        expected = np.asarray(network.apply_fn(params, inputs))
        run = jax.jit(jax.vmap(network.apply_fn, (0, None)))
        outputs = [np.asarray(run(stack, inputs)) for stack in permuted_params(network, params)]
    changes = np.abs(np.concatenate(outputs) - expected[None])
    return int((changes.max(tuple(range(1, changes.ndim))) < 1e-10).sum())


def count_inferred(network: Network) -> int:
    """The size of the group that inference finds, as a whole number."""
    params = {
        name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in network.shapes.items()
    }
    inputs = jax.ShapeDtypeStruct(network.inputs, "float32")
    spec = infer_permutation_spec(network.apply_fn, params, inputs)
    slots_and_sizes = [(math.prod(slots), n) for *slots, n in spec.shapes(params).values()]
    count = math.prod(math.factorial(n) ** slots for slots, n in slots_and_sizes)
    assert rl.log10_num_symmetries(spec, params) == pytest.approx(math.log10(count), abs=1e-9)
    return count


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_finds_all_symmetries_but_those_known_to_be_missed(name):
    found, true = count_inferred(NETWORKS[name]), count_symmetries(NETWORKS[name])
    assert (found, true) == KNOWN_MISSED.get(name, (true, true, ""))[:2]


def test_what_is_missed_is_missed():
    """No entry without a network, and none that says more is found than there is."""
    assert KNOWN_MISSED.keys() <= NETWORKS.keys()
    assert all(found < true for found, true, _ in KNOWN_MISSED.values())
