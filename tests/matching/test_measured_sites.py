"""Specs written by hand that no trace proves: what is verified is matched, the rest is refused.

Each of `NETWORKS` has a symmetry that a reader sees and inference does not, since it rests on
values, on code elsewhere or on what cancels, and a wrong spec beside the right one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback
from jax.extend.core import Primitive
from jax.interpreters import mlir

import rebasin_lab as rl
from oracles import assert_same_permutation, plant
from rebasin_lab import symmetry
from rebasin_lab.symmetry import verification

NUM_UNITS = 8


class Network(NamedTuple):
    """A function, the shapes of its parameters, a right spec and what is wrong about another.

    Attributes:
        inputs: the shape of a batch.
        where: the units show.
        fixed: parameters that are not drawn.
        sizes: of groups.
        unseen: groups of which no activation tells; weights do.
    """

    apply_fn: Callable[[dict, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    axes: dict[str, tuple]
    wrong: dict[str, tuple]
    inputs: tuple[int, ...] = (64, 5)
    where: str = "read"
    fixed: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    unseen: tuple[str, ...] = ()


TWO_LAYERS = {"a": (5, NUM_UNITS), "b": (NUM_UNITS, 6), "o": (6, 3)}
TWO_AXES = {"a": (None, "P"), "b": ("P", "Q"), "o": ("Q", None)}


def between(change: Callable, wrong: dict | None = None, **more: Any) -> Network:
    """Something done to the first of two hidden layers."""

    def apply_fn(p, x):
        return jnp.tanh(change(p, jnp.tanh(x @ p["a"])) @ p["b"]) @ p["o"]

    shapes, axes = more.pop("shapes", {}), more.pop("axes", {})
    wrong = wrong or {"b": ("R", "Q")}
    return Network(apply_fn, TWO_LAYERS | shapes, TWO_AXES | axes, wrong, **more)


def on_the_host(change: Callable) -> Callable:
    return lambda p, h: jax.pure_callback(change, jax.ShapeDtypeStruct(h.shape, h.dtype), h)


def one_by_one(p, h):
    """Each unit in turn, at an index that the loop counts."""

    def body(carry):
        i, out = carry
        unit = lax.dynamic_slice_in_dim(h, i, 1, axis=1)
        return i + 1, lax.dynamic_update_slice_in_dim(out, jnp.sin(3 * unit), i, axis=1)

    return lax.while_loop(lambda carry: carry[0] < NUM_UNITS, body, (0, jnp.zeros_like(h)))[1]


def until_it_settles(p, h):
    """A fixed point with a matrix whose units a loop goes through one by one."""

    def body(carry):
        z, _, n = carry
        new = jnp.tanh(h + 0.3 * one_by_one(p, z))
        return new, jnp.abs(new - z).max(), n + 1

    carry = lax.while_loop(lambda c: (c[1] > 1e-3) & (c[2] < 50), body, (h, jnp.ones(()), 0))
    return carry[0]


def sorted_and_back(p, h):
    order = jnp.argsort(h, axis=1)
    changed = jnp.exp(jnp.take_along_axis(h, order, 1))
    return jnp.take_along_axis(changed, jnp.argsort(order, axis=1), 1)


def gate_of_ranks(p, h):
    """The middle of the sorted units, as a gate."""
    return h * jnp.sort(h, axis=1)[:, 2:-2].mean(1, keepdims=True)


def sums_that_cancel(p, h):
    sums = jnp.cumsum(h, axis=1)
    return jnp.sin(2 * jnp.diff(sums, axis=1, prepend=jnp.zeros_like(sums[:, :1])))


def turned(p, h):
    """Rotated and back, as quantisers do."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((NUM_UNITS, NUM_UNITS)))[0]
    q = jnp.asarray(q, h.dtype)
    return jnp.sin((h @ q) @ q.T)


def through_fourier(p, h):
    return jnp.fft.ifft(2 * jnp.fft.fft(h, axis=1), axis=1).real


def either_way(p, h):
    return lax.cond(h.sum() > 0, lambda h: jnp.flip(jnp.flip(h, 1) ** 2, 1), jnp.sin, h)


own = Primitive("own_of_the_reader")
own.def_impl(lambda h: jnp.sin(h))
own.def_abstract_eval(lambda h: h)
mlir.register_lowering(own, mlir.lower_fun(lambda h: jnp.sin(h), multiple_results=False))

TIED = np.repeat([0.5, 2.0], NUM_UNITS // 2).astype("f4")


def heads(p, x):
    """Attention whose values go through the host."""
    q, k, v = (jnp.einsum("bti,ihd->bthd", x, p[name]) for name in "qkv")
    v = on_the_host(np.sin)(p, v)
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    return jnp.einsum("bhts,bshd,hdo->bto", weights, v, p["o"])


def in_layers(p, x):
    def block(h, layer):
        return h + own.bind(jnp.tanh(h @ layer["up"])) @ layer["down"], None

    return lax.scan(block, x, p)[0]


def switched(p, x):
    """Experts in branches, one after another, for each token by itself."""

    def token(row):
        scores = row @ p["gate"]
        experts = [
            lambda row, e=e: jax.nn.softmax(scores)[e] * jnp.tanh(row @ p["up"][e]) @ p["down"][e]
            for e in range(4)
        ]
        return lax.switch(jnp.argmax(scores), experts, row)

    return jax.vmap(token)(x)


def convolved(p, x):
    """An image flattened behind a callback."""
    h = lax.conv_general_dilated(
        x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    h = on_the_host(np.tanh)(p, h)
    return h.reshape(len(x), -1) @ p["o"]


NETWORKS = {
    "a loop over units": between(one_by_one),
    "a loop until it settles": between(until_it_settles),
    "sorted and back": between(sorted_and_back),
    "a gate of ranks": between(gate_of_ranks),
    "sums that cancel": between(sums_that_cancel),
    "a rotation undone": between(turned),
    "Fourier and back": between(through_fourier),
    "branches by value": between(either_way),
    "a callback": between(on_the_host(np.sin)),
    "a primitive of the reader": between(lambda p, h: own.bind(h)),
    "tied constants": between(
        lambda p, h: h * jnp.asarray(TIED)[None],
        {"a": (None, "all"), "b": ("all", "Q")},
        axes={"a": (None, "P+R"), "b": ("P+R", "Q")},
        sizes={"P": 4, "R": 4},
    ),
    "tied parameters": between(
        lambda p, h: h * p["gain"][None],
        {"b": (None, "Q")},
        shapes={"gain": (NUM_UNITS,)},
        axes={"gain": (None,)},
        fixed={"gain": np.full(NUM_UNITS, 0.7, "f4")},
    ),
    "heads": Network(
        heads,
        {"q": (5, 4, 3), "k": (5, 4, 3), "v": (5, 4, 3), "o": (4, 3, 2)},
        {name: (None, "h", f"{d}[h]") for name, d in zip("qkv", "ddv", strict=True)}
        | {"o": ("h", "v[h]", None)},
        {"o": (None, None, None)},
        (16, 7, 5),
    ),
    "layers in a scan": Network(
        in_layers,
        {"up": (3, 5, NUM_UNITS), "down": (3, NUM_UNITS, 5)},
        {"up": ("#l", None, "u[#l]"), "down": ("#l", "u[#l]", None)},
        {"up": (None, None, "u"), "down": (None, "w", None)},
    ),
    "experts in branches": Network(
        switched,
        {"gate": (5, 4), "up": (4, 5, 6), "down": (4, 6, 2)},
        {"gate": (None, "E"), "up": ("E", None, "H[E]"), "down": ("E", "H[E]", None)},
        {"gate": (None, None)},
        where="written",
        unseen=("H[E]",),  # one expert after another, and never all of them
    ),
    "a flattened image": Network(
        convolved,
        {"k": (3, 3, 1, NUM_UNITS), "o": (16 * NUM_UNITS, 3)},
        {"k": (None, None, None, "c"), "o": ("16*c", None)},
        {"o": ("c*16", None)},
        (20, 4, 4, 1),
    ),
}


def drawn(network: Network, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    params = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[0])).astype("f4") * 1.5
        for name, shape in network.shapes.items()
    }
    return params | network.fixed


def batch(network: Network, size: int | None = None) -> np.ndarray:
    shape = (size or network.inputs[0], *network.inputs[1:])
    return np.random.default_rng(7).standard_normal(shape, "f4")


def spec_of(network: Network, **changes: tuple) -> rl.PermutationSpec:
    axes = network.axes | changes
    known = {name for names in axes.values() for name in names if name}
    sizes = {name: size for name, size in network.sizes.items() if any(name in k for k in known)}
    return rl.PermutationSpec(axes, sizes)


def matched(network: Network, method: str, spec: rl.PermutationSpec, *pair: dict) -> dict:
    options = {"apply_fn": network.apply_fn, "data": [batch(network)], "where": network.where}
    return rl.match(method, spec, *pair, **options).permutation


each = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@pytest.mark.parametrize("method", ["activation", "combined"])
@each
def test_a_spec_that_is_verified_is_matched(network, method):
    spec, params_a = spec_of(network), drawn(network, 0)
    params_b, planted = plant(spec, params_a, seed=3)
    if network.unseen and method == "activation":
        with pytest.raises(ValueError, match="of \\['H\\[E\\]'\\] are written by no .* 'combined'"):
            matched(network, method, spec, params_a, params_b)
    else:
        assert_same_permutation(matched(network, method, spec, params_a, params_b), planted)


@each
def test_a_wrong_spec_is_refused_with_what_is_measured(network):
    wrong = spec_of(network, **network.wrong)
    with pytest.raises(ValueError, match=r"function.* Nor does it hold .* outputs by \d\S* of"):
        matched(network, "combined", wrong, drawn(network, 0), drawn(network, 1))


@each
def test_activations_move_as_their_entries_say(network):
    """In float32, and for another number of examples than was measured with."""
    spec, params = spec_of(network), drawn(network, 0)
    activations = symmetry.trace_activations(
        network.apply_fn, spec, params, batch(network), where=network.where
    )
    assert activations.unseen == network.unseen
    permutation = rl.random_permutation(spec, params, seed=5)
    moved = rl.apply_permutation(spec, permutation, params)
    before, after = (activations.compute(p, batch(network, 11)) for p in (params, moved))
    said = symmetry.PermutationSpec(activations.axes)
    own = {name: permutation[name] for name in said.permutations}
    for name, expected in rl.apply_permutation(said, own, before).items():
        np.testing.assert_allclose(after[name], expected, atol=1e-4, err_msg=name)


def test_what_does_not_move_with_the_units_is_no_site():
    """The sums are read too, and are in an order of their own."""

    def apply_fn(p, x):
        sums = jnp.cumsum(jnp.tanh(x @ p["a"]), axis=1)
        h = jnp.diff(sums, axis=1, prepend=jnp.zeros_like(sums[:, :1]))
        fixed = jnp.ones((NUM_UNITS, 2))
        return (sums @ fixed * 0).sum(1, keepdims=True) + h @ p["b"]

    spec = rl.PermutationSpec({"a": (None, "P"), "b": ("P", None)})
    params = drawn(NETWORKS["a callback"], 0)
    params = {name: params[name] for name in "ab"}
    x = batch(NETWORKS["a callback"])
    assert symmetry.trace_activations(apply_fn, spec, params, x).axes == {"into b": (None, "P")}


@pytest.mark.parametrize("callback", [jax.pure_callback, io_callback])
def test_what_calls_python_is_not_computed_in_float64(callback):
    """XLA may call it from a thread of its own, where a float64 would be cut."""

    def apply_fn(p, x):
        hidden = x @ p["a"]
        return callback(np.tanh, jax.ShapeDtypeStruct(hidden.shape, hidden.dtype), hidden)

    params, x = {"a": np.ones((5, 3), "f4")}, (np.ones((4, 5), "f4"),)
    assert not verification.computes_in_float64(apply_fn, params, x)
    assert verification.computes_in_float64(lambda p, x: jnp.tanh(x @ p["a"]), params, x)


def test_a_mistake_behind_a_small_gate_is_refused():
    def apply_fn(p, x):
        return x @ p["s"] + 1e-6 * (one_by_one(p, x @ p["a"]) @ p["b"])

    shapes = {"s": (5, 3), "a": (5, NUM_UNITS), "b": (NUM_UNITS, 3)}
    right = {"s": (None, None), "a": (None, "P"), "b": ("P", None)}
    network = Network(apply_fn, shapes, right, {"b": (None, None)})
    test_a_wrong_spec_is_refused_with_what_is_measured(network)
    test_a_spec_that_is_verified_is_matched(network, "activation")


def test_shapes_alone_cannot_be_measured():
    network = NETWORKS["a callback"]
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, drawn(network, 0)))
    with pytest.raises(ValueError, match="'a' axis 1 by 'P', but as far as the trace shows"):
        symmetry.trace_activations(network.apply_fn, spec_of(network), shapes, batch(network))


def test_outputs_that_are_zero_at_first_are_measured_elsewhere():
    """A head that begins at zero hides every mistake, and must not hide a right spec."""
    network = NETWORKS["a callback"]
    params = drawn(network, 0) | {"o": np.zeros((6, 3), "f4")}
    params_b, planted = plant(spec_of(network), params, seed=3)
    found = matched(network, "activation", spec_of(network), params, params_b)
    assert_same_permutation(found, planted)
    with pytest.raises(ValueError, match="all zero"):
        matched(network, "activation", spec_of(network, **network.wrong), params, params_b)


def all_on_the_host(p, x):
    def mlp(a, b, o, x):
        return np.tanh(np.tanh(x @ a) @ b) @ o

    shape = jax.ShapeDtypeStruct((len(x), 3), x.dtype)
    return jax.pure_callback(mlp, shape, p["a"], p["b"], p["o"], x)


def all_in_a_loop(p, x):
    def body(carry):
        return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["o"], carry[1] + 1

    return lax.while_loop(
        lambda c: c[1] < x[0, 0] ** 0, body, (jnp.zeros((len(x), 3), x.dtype), 0)
    )[0]


@pytest.mark.parametrize("apply_fn", [all_on_the_host, all_in_a_loop])
def test_where_nothing_shows_weights_are_matched_and_activations_say_so(apply_fn):
    network = NETWORKS["a callback"]._replace(apply_fn=apply_fn)
    spec, params_a = spec_of(network), drawn(network, 0)
    params_b, planted = plant(spec, params_a, seed=3)
    assert_same_permutation(matched(network, "combined", spec, params_a, params_b), planted)
    with pytest.raises(ValueError, match="of \\['P', 'Q'\\] are read by no .* 'combined'"):
        matched(network, "activation", spec, params_a, params_b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_measured_by_its_own_rounding(dtype):
    network = NETWORKS["a callback"]

    def apply_fn(p, x):
        p, x = jax.tree.map(lambda leaf: leaf.astype(dtype), (p, x))
        return jnp.tanh(jnp.sort(x @ p["a"], axis=1)[:, :1] * (x @ p["a"])) @ p["b"] @ p["o"]

    narrow = network._replace(apply_fn=apply_fn)
    test_a_spec_that_is_verified_is_matched(narrow, "activation")
    test_a_wrong_spec_is_refused_with_what_is_measured(narrow)
