"""Every primitive of JAX has a rule or is opaque, and opaque ones are named in a warning.

`NETWORKS` holds constructs from public code with the sizes of the groups that a reader finds by
hand. The oracle is the function itself in float64: permuted parameters must give its old outputs.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

import rebasin_lab as rl
from numpy_jaxpr import evaluate_each
from rebasin_lab.symmetry.inference import infer


class Network(NamedTuple):
    """A function of parameters and an input, their shapes, and the sizes of the groups."""

    apply_fn: Callable[[dict, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    groups: list[int]
    inputs: tuple[int, ...] = (4, 3)


def between(change: Callable) -> Callable:
    """Something done to 6 hidden units of each example, between two layers."""
    return lambda p, x: change(jnp.tanh(x @ p["a"])) @ p["o"]


def sequence(change: Callable) -> Callable:
    """Something done to [position, 6 channels] of each example."""
    return lambda p, x: jax.vmap(lambda row: change(jnp.tanh(row @ p["a"])) @ p["o"])(x)


def vmapped(change: Callable) -> Callable:
    """Something done to the hidden units of one example under a named axis."""
    return lambda p, x: jax.vmap(
        lambda row: change(jnp.tanh(row @ p["a"])) @ p["o"], axis_name="batch"
    )(x)


HIDDEN, SEQUENCE = {"a": (3, 6), "o": (6, 2)}, (2, 8, 3)


def fourier_operator(p, x):
    """A block of a Fourier neural operator: the FFT runs over positions only."""
    h = x @ p["lift"]
    modes = jnp.fft.rfft(h, axis=1)[:, :3]
    modes = jnp.einsum("bki,kio->bko", modes, p["real"] + 1j * p["imag"])
    full = jnp.zeros((h.shape[0], 5, 6), modes.dtype).at[:, :3].set(modes)
    return jax.nn.gelu(jnp.fft.irfft(full, n=8, axis=1) + h @ p["w"]) @ p["o"]


def straight_through_gate(h):
    soft = jax.nn.sigmoid(h)
    return h * (soft + lax.stop_gradient((soft > 0.5) - soft))


def decay_scan(p, x):
    """A diagonal state-space layer."""
    drive = jnp.tanh(x @ p["a"])

    def combine(left, right):
        return left[0] * right[0], left[1] * right[0] + right[1]

    decay = jnp.broadcast_to(jax.nn.sigmoid(p["decay"]), drive.shape)
    return lax.associative_scan(combine, (decay, drive), axis=1)[1] @ p["o"]


def spectral_norm(p, x):
    return jnp.tanh(x @ p["a"]) @ (p["w"] / jnp.linalg.norm(p["w"], 2)) @ p["o"]


def power_iteration(p, x):
    u = jnp.ones(6) / 6
    for _ in range(3):
        v = p["w"].T @ u
        u = p["w"] @ (v / jnp.linalg.norm(v))
    return jnp.tanh(jnp.tanh(x @ p["a"]) @ (p["w"] / jnp.linalg.norm(u))) @ p["o"]


def attention(p, x):
    q, k, v = (jnp.einsum("bti,ihd->bthd", x, p[name]) for name in "qkv")
    h = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")
    return jnp.einsum("bthd,hdo->bto", h, p["o"])


def linear_attention(p, x):
    q, k, v = (jax.nn.elu(x @ p[name]) + 1 for name in "qkv")
    state = jnp.cumsum(k[..., :, None] * v[..., None, :], axis=1)
    return jnp.einsum("btk,btkv->btv", q, state) @ p["o"]


def rolled_window(h):
    return h + jnp.roll(h, 2, axis=0)


@jax.custom_vjp
def own_norm(h):
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 0.1)


own_norm.defvjp(lambda h: (own_norm(h), h), lambda h, g: (g,))


def ragged_experts(p, x):
    h = lax.ragged_dot(x, p["up"], jnp.array([1, 3]))
    return lax.ragged_dot(jnp.tanh(h), p["down"], jnp.array([1, 3]))


def gradient_of_depthwise(p, x):
    """One step on a depthwise kernel: its gradient groups the batch."""
    options = {"dimension_numbers": ("NWC", "WIO", "NWC"), "feature_group_count": 6}
    conv = lambda k, h: lax.conv_general_dilated(h, k, (1,), "SAME", **options)  # noqa: E731
    h = jnp.tanh(x @ p["a"])
    step = jax.grad(lambda k: jnp.sum(jnp.tanh(conv(k, h))))(p["k"])
    return conv(p["k"] - step, h) @ p["o"]


def gradient_of_max_pool(h):
    pool = lambda h: lax.reduce_window(h, -jnp.inf, lax.max, (2, 1), (2, 1), "VALID")  # noqa: E731
    return jax.grad(lambda h: jnp.sum(jnp.tanh(pool(h))))(h)


def shared_solve(p, x):
    """The batch of right-hand sides are units; the matrix is of positions."""
    h = jnp.tanh(x @ p["a"])  # [example, position, unit]
    gram = x @ x.swapaxes(1, 2) + jnp.eye(8)[None]
    return jnp.linalg.solve(gram, h) @ p["o"]


def triangular_of_positions(p, x):
    h = jnp.tanh(x @ p["a"])
    factor = jnp.linalg.cholesky(x @ x.swapaxes(1, 2) + jnp.eye(8)[None])
    return jax.scipy.linalg.solve_triangular(factor, h, lower=True) @ p["o"]


def whitened_heads(p, x):
    """A factorisation for each head: the heads are a batch."""
    h = jnp.einsum("bi,ihd->hbd", x, p["a"])
    gram = jnp.einsum("hbd,hbe->hde", h, h) + jnp.eye(2)[None]
    return jnp.einsum("hde,hdo->o", jnp.linalg.cholesky(gram), p["o"])


NETWORKS: dict[str, Network] = {
    "Fourier neural operator": Network(
        fourier_operator,
        {"lift": (3, 6), "real": (3, 6, 6), "imag": (3, 6, 6), "w": (6, 6), "o": (6, 2)},
        [6, 6],
        SEQUENCE,
    ),
    "FFT mixing positions": Network(
        sequence(lambda h: jnp.fft.fft(h, axis=0).real), HIDDEN, [6], SEQUENCE
    ),
    "FFT over two axes": Network(sequence(lambda h: jnp.fft.fft2(h).real), HIDDEN, [], SEQUENCE),
    "pmean": Network(vmapped(lambda h: h - lax.pmean(h, "batch")), HIDDEN, [6]),
    "psum of squares": Network(vmapped(lambda h: h / lax.psum(h**2, "batch")), HIDDEN, [6]),
    "pmax": Network(vmapped(lambda h: h - lax.pmax(h, "batch")), HIDDEN, [6]),
    "pmin": Network(vmapped(lambda h: h - lax.pmin(h, "batch")), HIDDEN, [6]),
    "all_gather": Network(vmapped(lambda h: lax.all_gather(h, "batch").sum(0)), HIDDEN, [6]),
    "ppermute": Network(
        vmapped(lambda h: lax.ppermute(h, "batch", [(i, (i + 1) % 4) for i in range(4)])),
        HIDDEN,
        [6],
    ),
    "axis_index": Network(vmapped(lambda h: h * lax.axis_index("batch")), HIDDEN, [6]),
    "sums over two named axes": Network(
        lambda p, x: jax.vmap(
            jax.vmap(lambda h: (h - lax.pmean(h, ("i", "j"))) @ p["o"], axis_name="i"),
            axis_name="j",
        )(jnp.tanh(x @ p["a"])),
        HIDDEN,
        [6],
        SEQUENCE,
    ),
    "straight-through gate": Network(between(straight_through_gate), HIDDEN, [6]),
    "dropout with a key": Network(
        between(lambda h: h * jax.random.bernoulli(jax.random.key(0), 0.5, h.shape)), HIDDEN, []
    ),
    "noise for each example": Network(
        between(lambda h: h * jax.random.normal(jax.random.key(0), (4, 1))), HIDDEN, [6]
    ),
    "associative scan": Network(decay_scan, {**HIDDEN, "decay": (6,)}, [6], SEQUENCE),
    "spectral norm": Network(spectral_norm, {**HIDDEN, "w": (6, 6)}, [6, 6]),
    "power iteration": Network(power_iteration, {**HIDDEN, "w": (6, 6)}, [6, 6]),
    "dot product attention": Network(
        attention,
        {"q": (3, 3, 2), "k": (3, 3, 2), "v": (3, 3, 2), "o": (3, 2, 2)},
        [2, 2, 3],
        SEQUENCE,
    ),
    "linear attention": Network(
        linear_attention, {"q": (3, 4), "k": (3, 4), "v": (3, 6), "o": (6, 2)}, [4, 6], SEQUENCE
    ),
    "roll of positions": Network(sequence(rolled_window), HIDDEN, [6], SEQUENCE),
    "sort of positions": Network(sequence(lambda h: jnp.sort(h, 0)), HIDDEN, [6], SEQUENCE),
    # By values, too: a table is written at positions of its own for each example and unit.
    "partition of positions": Network(
        sequence(lambda h: jnp.argpartition(h, 3, axis=0).astype(h.dtype)), HIDDEN, [6], SEQUENCE
    ),
    "a gradient of a sort of positions": Network(
        sequence(lambda h: jax.grad(lambda h: jnp.sum(jnp.sort(h, 0) ** 3))(h)),
        HIDDEN,
        [6],
        SEQUENCE,
    ),
    "a histogram of each unit": Network(
        sequence(lambda h: jax.vmap(lambda u: jnp.histogram(u, 4, (-1, 1))[0], 1, 1)(h) * 1.0),
        HIDDEN,
        [6],
        SEQUENCE,
    ),
    "partition of units": Network(
        between(lambda h: jnp.argpartition(h, 3, axis=1).astype(h.dtype)), HIDDEN, []
    ),
    "top-k of positions": Network(
        sequence(lambda h: lax.top_k(h.T, 3)[0].T), HIDDEN, [6], SEQUENCE
    ),
    # In order of their values, whatever units they are of.
    "top-k of units": Network(between(lambda h: lax.top_k(h, 6)[0]), HIDDEN, [6]),
    "approximate top-k of positions": Network(
        sequence(lambda h: lax.approx_max_k(h, 3, reduction_dimension=0)[0]), HIDDEN, [6], SEQUENCE
    ),
    "layer norm with its own gradient": Network(between(own_norm), HIDDEN, [6]),
    "checkpoint with a policy": Network(
        between(
            jax.checkpoint(jnp.sin, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        ),
        HIDDEN,
        [6],
    ),
    "lax.map": Network(
        lambda p, x: lax.map(lambda row: jnp.tanh(row @ p["a"]) @ p["o"], x), HIDDEN, [6]
    ),
    "ragged dot": Network(ragged_experts, {"up": (2, 3, 6), "down": (2, 6, 2)}, [6]),
    "a gradient of groups": Network(
        gradient_of_depthwise, {**HIDDEN, "k": (3, 1, 6)}, [6], SEQUENCE
    ),
    "a gradient of pooling": Network(sequence(gradient_of_max_pool), HIDDEN, [6], SEQUENCE),
    "a solution for each unit": Network(shared_solve, HIDDEN, [6], SEQUENCE),
    "a triangular solution": Network(triangular_of_positions, HIDDEN, [6], SEQUENCE),
    "a factor for each head": Network(whitened_heads, {"a": (3, 4, 2), "o": (4, 2, 2)}, [4]),
    "determinant": Network(
        lambda p, x: between(lambda h: h)(p, x) * jnp.linalg.det(p["w"]),
        {**HIDDEN, "w": (3, 3)},
        [6],
    ),
    "pmap": Network(
        lambda p, x: jax.pmap(between(jnp.sin), in_axes=(None, 0))(p, x[None]), HIDDEN, [6]
    ),
    "pixel shuffle": Network(
        lambda p, x: jnp.tanh(x @ p["a"]).reshape(2, 8, 2, 3).reshape(2, 16, 3) @ p["o"],
        {"a": (3, 6), "o": (3, 2)},
        [3],
        SEQUENCE,
    ),
    "products of complex numbers": Network(
        lambda p, x: jnp.abs(jnp.tanh(x @ p["a"]) @ (p["r"] + 1j * p["i"])) @ p["o"],
        {"a": (3, 6), "r": (6, 5), "i": (6, 5), "o": (5, 2)},
        [5, 6],
    ),
    "interpolation in a table": Network(
        lambda p, x: jnp.interp(jnp.tanh(x @ p["a"]), jnp.linspace(-1, 1, 5), p["t"]) @ p["o"],
        {**HIDDEN, "t": (5,)},
        [6],
    ),
    "gate by argmax": Network(
        lambda p, x: (jnp.tanh(x @ p["a"]) * (jnp.argmax(x, -1) > 0)[:, None]) @ p["o"], HIDDEN, [6]
    ),
    "weight norm": Network(
        lambda p, x: (
            jnp.tanh(x @ (p["a"] / jnp.linalg.norm(p["a"], axis=0, keepdims=True) * p["g"]))
            @ p["o"]
        ),
        {**HIDDEN, "g": (1, 6)},
        [6],
    ),
    "eigenvalues over examples": Network(
        lambda p, x: jnp.linalg.eigvalsh(jnp.tanh(x @ p["a"]) @ jnp.tanh(x @ p["a"]).T),
        {"a": (3, 6)},
        [6],
    ),
    "median of positions": Network(
        lambda p, x: jnp.median(jnp.tanh(x @ p["a"]), axis=1) @ p["o"], HIDDEN, [6], SEQUENCE
    ),
    "resized image": Network(
        lambda p, x: jax.image.resize(jnp.tanh(x @ p["a"]), (2, 16, 6), "bilinear") @ p["o"],
        HIDDEN,
        [6],
        SEQUENCE,
    ),
    "largest of segments": Network(
        between(lambda h: jax.ops.segment_max(h, jnp.array([0, 1, 0, 1]), 2)), HIDDEN, [6]
    ),
    # What follows needs the order of units, along one axis or all.
    "inverse over units": Network(
        lambda p, x: jnp.tanh(x @ p["a"]) @ jnp.linalg.inv(p["w"]) @ p["o"],
        {**HIDDEN, "w": (6, 6)},
        [],
    ),
    # The rows of `a` are added up, so that they are free.
    "Cholesky factor over units": Network(
        lambda p, x: jnp.linalg.cholesky(p["a"].T @ p["a"] + jnp.eye(6)).sum(0) @ p["o"],
        HIDDEN,
        [3],
    ),
    "triangular solution over units": Network(
        lambda p, x: (
            lax.linalg.triangular_solve(p["w"], jnp.tanh(x @ p["a"]), left_side=False) @ p["o"]
        ),
        {**HIDDEN, "w": (6, 6)},
        [],
    ),
    "singular vectors": Network(
        lambda p, x: jnp.tanh(x @ p["a"]) @ jnp.linalg.svd(p["w"])[0] @ p["o"],
        {**HIDDEN, "w": (6, 6)},
        [],
    ),
    "singular values as units": Network(
        lambda p, x: jnp.linalg.svd(x @ p["a"], compute_uv=False) * p["s"],
        {"a": (3, 6), "s": (4,)},
        [6],
    ),
    "QR over units": Network(
        lambda p, x: jnp.abs(jnp.linalg.qr(jnp.tanh(x @ p["a"]))[1]) @ p["o"], HIDDEN, []
    ),
    "first of the units by a function": Network(
        between(
            lambda h: (
                h * lax.reduce(h, jnp.zeros((), h.dtype), lambda a, b: a * 2 + b, (1,))[:, None]
            )
        ),
        HIDDEN,
        [],
    ),
    "groups of units in a ragged dot": Network(
        lambda p, x: lax.ragged_dot(jnp.tanh(x @ p["a"]).T, p["w"], jnp.array([2, 4])).T @ p["o"],
        {**HIDDEN, "w": (2, 4, 4)},
        [],
    ),
    "gradient of pooling over units": Network(
        between(lambda h: gradient_of_max_pool(h.T).T), HIDDEN, []
    ),
    "the parts of numbers": Network(
        between(lambda h: lax.bitcast_convert_type(h, jnp.uint8)[..., -1].astype(h.dtype) / 64),
        HIDDEN,
        [6],
    ),
    "sums over units and examples": Network(
        lambda p, x: (
            jax.vmap(lambda c: lax.psum(c, "u"), 1, axis_name="u")(jnp.tanh(x @ p["a"]))[0, :1]
            * p["o"].sum()
        ),
        HIDDEN,
        [2, 6, 6],
    ),
    "a layout": Network(between(lambda h: with_layout_constraint(h, Layout((0, 1)))), HIDDEN, [6]),
    "bit pattern": Network(
        between(lambda h: jnp.tanh((h.view(jnp.uint32) % 7).astype(h.dtype))), HIDDEN, [6]
    ),
    "mask by where": Network(
        sequence(lambda h: jnp.where(jnp.arange(8)[:, None] > 2, h, 0)), HIDDEN, [6], SEQUENCE
    ),
    "reduction by a function": Network(
        sequence(lambda h: lax.reduce(h, jnp.zeros((), h.dtype), lambda a, b: a + b * 2, (0,))),
        HIDDEN,
        [6],
        SEQUENCE,
    ),
}


def drawn(network: Network, seed: int) -> tuple[dict, jax.Array]:
    rng = np.random.default_rng(seed)
    params = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
    return params, rng.standard_normal(network.inputs)


# Keys, groups of a batch, devices, layouts.
NOT_BY_NUMPY = "dropout with a key|noise for each example|a gradient of groups|pmap|a layout".split(
    "|"
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_found_by_hand_and_true(name):
    network = NETWORKS[name]
    params, x = (jax.tree.map(jnp.float32, part) for part in drawn(network, 0))
    spec = rl.infer_permutation_spec(network.apply_fn, params, x)
    assert sorted(spec.sizes(params).values()) == network.groups, f"\n{spec}"
    if name in ("bit pattern", "the parts of numbers"):
        return  # another bit pattern in float64, and one that rounding changes
    for seed in range(2):
        params, x = drawn(network, seed)
        order = rl.random_permutation(spec, params, seed=seed)
        several = params, rl.apply_permutation(spec, order, params)
        if name in NOT_BY_NUMPY:
            with jax.enable_x64(True):
                before, after = (np.asarray(network.apply_fn(p, x)) for p in several)
        else:
            [before], [after] = evaluate_each(network.apply_fn, several, x)
        np.testing.assert_allclose(after, before, atol=1e-9 * np.abs(before).max())


def test_batch_norm_of_equinox_leaves_its_channels_free():
    class Net(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __call__(self, x, state):
            h, state = self.norm(self.first(x), state)
            return self.last(jax.nn.relu(h))

    keys = jax.random.split(jax.random.key(0))
    norm = eqx.nn.BatchNorm(6, axis_name="batch", mode="batch")
    net = Net(eqx.nn.Linear(3, 6, key=keys[0]), norm, eqx.nn.Linear(6, 2, key=keys[1]))
    params, static = eqx.partition(net, eqx.is_inexact_array)
    state = eqx.nn.State(net)

    def apply_fn(params, x):
        run = jax.vmap(eqx.combine(params, static), (0, None), axis_name="batch")
        return run(x, state)

    x = jax.random.normal(jax.random.key(1), (8, 3))
    spec = rl.infer_permutation_spec(apply_fn, params, x)
    assert list(spec.sizes(params).values()) == [6]
    assert rl.verify_equivalence(apply_fn, spec, params, x) < 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("spread", "sizes"), [("batch", [6]), ("units", [])])
def test_axes_spread_over_devices_stay_and_the_others_are_free(spread, sizes):
    mesh = jax.sharding.AbstractMesh((2,), ("d",))
    by = jax.sharding.PartitionSpec
    batch, units = (by("d"), by()) if spread == "batch" else (by(), by(None, "d"))

    def on_each(p, x):
        h = jnp.tanh(x @ p["a"])
        return (h - lax.pmean(h, "d")) if spread == "batch" else h

    def apply_fn(p, x):
        specs = {"in_specs": ({"a": units}, batch), "out_specs": batch if sizes else units}
        return jax.shard_map(on_each, mesh=mesh, **specs)({"a": p["a"]}, x) @ p["o"]

    params, x = drawn(Network(apply_fn, HIDDEN, []), 0)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), (params, x))
    spec = rl.infer_permutation_spec(apply_fn, *shapes)
    assert list(spec.sizes(params).values()) == sizes


# What warns.


def doubled(h):
    return jax.pure_callback(lambda h: 2 * h, jax.ShapeDtypeStruct(h.shape, h.dtype), h)


def test_opaque_primitive_is_named_with_its_line_and_what_it_holds():
    params, x = drawn(Network(between(doubled), HIDDEN, []), 0)
    with pytest.warns(UserWarning, match="symmetries of pure_callback at test_inference_prim") as w:
        spec = rl.infer_permutation_spec(between(doubled), params, x)
    assert len(w) == 1
    assert "holds 2 axes of the parameters" in str(w[0].message)
    assert not spec.permutations
    assert "pure_callback" in spec.explain("a", 1)


def test_opaque_primitive_that_alone_uses_a_parameter_is_named():
    def apply_fn(p, x):
        return x.sum() + doubled(p["a"]).sum()

    params, x = drawn(Network(apply_fn, {"a": (3, 6)}, []), 0)
    with pytest.warns(UserWarning, match="holds 2 axes"):
        rl.infer_permutation_spec(apply_fn, params, x)


@pytest.mark.parametrize("loop", ["scan", "fori", "cond"])
def test_opaque_primitive_in_a_loop_is_named(loop):
    def apply_fn(p, x):
        h = jnp.tanh(x @ p["a"])
        if loop == "scan":
            h = lax.scan(lambda h, _: (h + doubled(h), None), h, length=2)[0]
        elif loop == "fori":
            h = lax.fori_loop(0, x[0, 0].astype(int), lambda _, h: h + doubled(h), h)
        else:
            h = lax.cond(x[0, 0] > 0, doubled, jnp.sin, h)
        return h @ p["o"]

    params, x = drawn(Network(apply_fn, HIDDEN, []), 0)
    params, x = jax.tree.map(jnp.float32, (params, x))
    with pytest.warns(UserWarning, match="pure_callback at test_inference_.* holds 2 axes") as w:
        spec = rl.infer_permutation_spec(apply_fn, params, x)
    assert len(w) == 1
    assert not spec.permutations


def test_several_opaque_primitives_make_one_warning():
    def apply_fn(p, x):
        h = doubled(jnp.tanh(x @ p["a"]))
        jax.debug.callback(lambda h: None, jnp.tanh(x @ p["b"]))
        return h @ p["o"]

    params, x = drawn(Network(apply_fn, {**HIDDEN, "b": (3, 4)}, []), 0)
    with pytest.warns(UserWarning, match="pure_callback at .* debug_callback at .* 3 axes") as w:
        rl.infer_permutation_spec(apply_fn, params, x)
    assert len(w) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("where", ["input", "output", "number"])
def test_opaque_primitive_that_costs_nothing_is_not_mentioned(where):
    def apply_fn(p, x):
        x = doubled(x) if where == "input" else x
        h = jnp.tanh(x @ p["a"])
        out = h @ p["o"]
        if where != "input":
            jax.debug.callback(lambda h: None, out if where == "output" else h.mean())
        return out

    params, x = drawn(Network(apply_fn, HIDDEN, []), 0)
    assert list(rl.infer_permutation_spec(apply_fn, params, x).sizes(params).values()) == [6]


@pytest.mark.filterwarnings("error")
def test_no_architecture_warns(architecture, tiny_data):
    images = jnp.asarray(tiny_data.test_images[:4])
    rl.infer_permutation_spec(architecture.apply_fn, architecture.init(0), images)


# Opaque on purpose, by what it is that cannot be known.
OPAQUE = {
    "code that runs elsewhere": """call_exported custom_lin debug_callback debug_print ffi_call
        io_callback pure_callback cudnn_fusion pallas_call mpmd_map core_map spsolve
        call_hi_primitive call_hi_primitive_linearized eval_jaxpr jaxpr_call rnn_fwd rnn_bwd
        dot_product_attention_bwd dot_product_attention_bwd_wrapper dot_product_attention_fwd
        dot_product_attention_fwd_wrapper dot_product_attention_fp8_bwd
        dot_product_attention_fp8_bwd_wrapper dot_product_attention_fp8_fwd
        dot_product_attention_fp8_fwd_wrapper scaled_dot scaled_matmul scaled_matmul_wrapper
        custom_jvp_call_jaxpr""",
    "references and boxes": """accum_grad_in_ref addupdate box_get box_set broadcast_to
        create_linear empty_ref free_ref freeze get get_global log_extend log_read masked_load
        masked_swap new_box new_log new_ref pin run_scoped run_state swap unpin""",
    "axes of devices": """global_array_to_host_local_array host_local_array_to_global_array
        all_gather all_gather_invariant all_gather_reduced all_to_all axis_index
        inspect_sharding precv preduced psend
        ragged_all_to_all reduce_scatter reduced_vary_cast_p unreduced_psum
        unreduced_reduce_scatter vary_unreduced_cast_p
        all_gather_start all_gather_done all_gather_reduced_start all_to_all_start all_to_all_done
        pbroadcast_start pbroadcast_done ppermute_start ppermute_done psum_start psum_done
        psum_invariant_start reduce_scatter_start reduce_scatter_done unreduced_psum_start
        unreduced_reduce_scatter_start""",
    "sparse arrays": """bcoo_dot_general bcoo_dot_general_sampled bcoo_extract bcoo_fromdense
        bcoo_sort_indices bcoo_spdot_general bcoo_sum_duplicates bcoo_todense bcoo_transpose
        bcsr_dot_general bcsr_extract bcsr_fromdense bcsr_todense coo_fromdense coo_matmat
        coo_matvec coo_spmm coo_spmv coo_todense csr_fromdense csr_matmat csr_matvec csr_spmm
        csr_spmv csr_todense todense""",
    "numbers, tokens, checks and the insides of kernels": """after_all check create_token dce_sink
        delay dim_as_value dimension_size empty empty2 from_edtype multiple_of num_programs
        platform_index program_id reciprocal semaphore_read semaphore_signal semaphore_wait
        shape_assertion stage tie to_edtype unreachable select_and_scatter""",
}
MODULES = """jax.nn jax.random jax.scipy.special jax.experimental.checkify jax.experimental.pallas
    jax.experimental.custom_partitioning jax.experimental.rnn jax.experimental.sparse
    jax.experimental.multihost_utils
    jax.extend.core.primitives""".split()
TESTED_WITH = (0, 10, 2)  # the JAX whose primitives the lists hold
# In a process of its own, since other tests load more of JAX.
PRIMITIVES = """
import contextlib, importlib, sys
for module in sys.argv[1:]:
    with contextlib.suppress(ImportError):  # this JAX has no such module
        importlib.import_module(module)
from jax.extend.core import Primitive
modules = [module for name, module in sys.modules.items() if name.startswith("jax.")]
values = [value for module in modules for value in vars(module).values()]
print(*{value.name for value in values if isinstance(value, Primitive)}, sep="\\n")
"""


def test_every_primitive_has_a_rule_or_is_opaque_on_purpose():
    command = [sys.executable, "-c", PRIMITIVES, *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = set(done.stdout.splitlines())
    opaque = {name for listed in OPAQUE.values() for name in listed.split()}
    left = sorted(names - opaque - infer.RULES.keys())
    assert len(names) > 150
    assert not opaque & infer.RULES.keys()
    if left and jax.__version_info__ > TESTED_WITH:
        pytest.xfail(f"a newer JAX has primitives of which nothing is said here: {left}")
    assert not left, left


def test_warnings_are_off_for_nothing_else():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params, x = drawn(NETWORKS["top-k of units"], 0)
        rl.infer_permutation_spec(NETWORKS["top-k of units"].apply_fn, params, x)
    assert not caught
