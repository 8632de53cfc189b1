"""Computations that invite a wrong spec: each function is unchanged under what inference finds.

`TRAPS` holds a function of parameters p and an input x, its shapes, and how many symmetries
inference finds today. That number guards against a law that holds because nothing is free; it may
grow.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from numpy_jaxpr import evaluate
from rebasin_lab.symmetry.inference import infer_permutation_spec


class Trap(NamedTuple):
    """A function, the shapes of its parameters and input, and the size of the group found."""

    apply_fn: Callable[[dict, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[int, ...]
    found: int


def misaligned_child(p, x):
    """Heads on two axes; the dimensions of a head go with one of them, then with the other."""
    q = jnp.einsum("bi,ihd->bhd", x, p["q"])
    k = jnp.einsum("bi,igd->bgd", x, p["k"])
    pairs = jnp.einsum("bhd,bgd->bhg", q, k)
    return jnp.tanh(pairs + pairs.swapaxes(1, 2)).sum((1, 2))


def misaligned_tied_child(p, x):
    """The same parameter on both sides, so that both axes are one group."""
    q = jnp.einsum("bi,ihd->bhd", x, p["q"])
    pairs = jnp.tanh(jnp.einsum("bhd,bgd->bhg", q, q))
    return jnp.einsum("bhg,bgd->bhd", pairs, q).reshape(2, -1) @ p["o"]


def child_moves_to_another_parent(p, x):
    """[h, d] becomes [g, d] with g tied to h: d cannot have an order of its own for each h."""
    h = jnp.tanh(jnp.einsum("bi,ihd->bhd", x, p["a"]))
    mixed = jnp.einsum("bhd,hg->bgd", h, p["mix"])
    return ((mixed + h) ** 3).sum((1, 2))


def child_of_pairs(p, x):
    """[h, g, d] with g tied to h: d goes with a pair of units of one group."""
    h = jnp.tanh(x @ p["a"])
    return (h + h @ jnp.tanh(p["w"]).sum(-1)) @ p["o"]


def heads_summed_over(p, x):
    h = jnp.tanh(x @ p["a"]).reshape(2, 3, 2).sum(1)
    return h @ p["o"]


def heads_maximum(p, x):
    h = jnp.tanh(x @ p["a"]).reshape(2, 3, 2).max(2)
    return h @ p["o"]


def shared_head_scale(p, x):
    """The dimensions of all heads meet in one scale, as in qk-norm."""
    q, k = ((x @ p[name]).reshape(3, 2, 3) * p["s"][None, None] for name in "qk")
    scores = jax.nn.softmax(jnp.einsum("qhd,khd->hqk", q, k), -1)
    return jnp.einsum("hqk,k->q", scores, x[:, 0])


def transposed_reuse(p, x):
    return jnp.tanh(jnp.tanh(x @ p["a"] @ p["w"]) @ p["w"].T) @ p["b"]


def symmetric_reuse(p, x):
    return jnp.tanh(x @ p["a"] @ (p["w"] + p["w"].T)) @ p["b"]


def rectangular_both_ways(p, x):
    """Autoencoder with tied weights whose code is used as a hidden layer of the same width."""
    h = jnp.tanh(x @ p["w"])
    return jnp.tanh(h @ p["w"].T) @ p["o"] + (h * h[:, ::-1]).sum(-1, keepdims=True)


def flat_and_not_flat(p, x):
    """Heads by heads, and as one axis whose order is mixed by another reshape."""
    h = jnp.tanh(x @ p["a"])
    return h.reshape(2, 2, 3).max(1) @ p["b"] + h @ p["c"]


def reshapes_that_do_not_align(p, x):
    h = jnp.tanh(x @ p["a"])
    return h.reshape(2, 3, 4).max(1) @ p["b"] + h.reshape(2, 4, 3).max(1) @ p["c"]


def reshapes_transposed(p, x):
    h = jnp.tanh(x @ p["a"]).reshape(2, 3, 4)
    return jnp.tanh(h + h.swapaxes(1, 2).reshape(2, 3, 4)).reshape(2, 12) @ p["b"]


def reshape_6_to_4_and_3(p, x):
    h = jnp.tanh(x @ p["a"])  # [4, 6], the batch is no unit
    return h.reshape(3, 8).sum(0) @ p["b"]


def slices_at_different_points(p, x):
    h = jnp.tanh(x @ p["a"])
    return h[:, :4] @ p["b"] + h[:, 2:] @ p["c"]


def overlapping_slices_added(p, x):
    h = jnp.tanh(x @ p["a"])
    return (h[:, :4] + h[:, 2:]) @ p["b"]


def slice_of_a_slice(p, x):
    h = jnp.tanh(x @ p["a"])[:, 1:5]
    return h[:, :2] @ p["b"] + h[:, 1:3] @ p["b"]


def concatenated_in_two_orders(p, x):
    a, b = jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])
    return (jnp.concatenate([a, b], -1) + jnp.concatenate([b, a], -1)) @ p["o"]


def concatenated_with_itself(p, x):
    a = jnp.tanh(x @ p["a"])
    return jnp.concatenate([a, a * a, a[:, :2]], -1) @ p["o"]


def concatenations_of_unequal_blocks(p, x):
    a, b, c = (jnp.tanh(x @ p[name]) for name in "abc")  # 2, 3 and 5 units
    return (jnp.concatenate([a, b], -1) * c + jnp.concatenate([b, a], -1)) @ p["o"]


def concatenated_along_heads(p, x):
    a, b = (jnp.tanh(x @ p[name]).reshape(2, 2, 3) for name in "ab")
    both = jnp.concatenate([a, b], 1)
    return jnp.einsum("bhd,hd->b", both, p["o"])


def padded_and_added(p, x):
    a = jnp.tanh(x @ p["a"])
    return (jnp.pad(a, ((0, 0), (0, 2))) + jnp.pad(a, ((0, 0), (2, 0)))) @ p["o"]


def padded_with_a_value(p, x):
    a = jnp.pad(jnp.tanh(x @ p["a"]), ((0, 0), (1, 2)), constant_values=1.5)
    return jnp.tanh(a @ p["w"]).sum(-1) + (a * p["s"][None]).sum(-1)


def padded_between(p, x):
    a = jax.lax.pad(jnp.tanh(x @ p["a"]), 0.0, [(0, 0, 0), (0, 0, 1)])
    return a @ p["o"]


def cut_off_by_negative_padding(p, x):
    a = jax.lax.pad(jnp.tanh(x @ p["a"]), 0.0, [(0, 0, 0), (-1, 0, 0)])
    return a @ p["o"]


def tile_times_repeat(p, x):
    """Each unit of one pairs with several of the other: no product of axes fits both."""
    h = jnp.tanh(x @ p["a"])
    return (jnp.tile(h, (1, 2)) * jnp.repeat(h, 2, -1)) @ p["o"]


def tile_times_repeat_that_fit(p, x):
    """[2 copies, 3 units] meets [2 units, 3 copies]."""
    a, b = jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])
    return (jnp.tile(a, (1, 2)) * jnp.repeat(b, 3, -1)) @ p["o"]


def tile_of_repeat_times_repeat(p, x):
    """[2 units, 4 copies] meets [2 copies, 2 units, 2 copies]: copies meet units and copies."""
    h = jnp.tanh(x @ p["a"])
    return (jnp.repeat(h, 4, -1) * jnp.tile(jnp.repeat(h, 2, -1), (1, 2))) @ p["o"]


def tile_plus_units(p, x):
    h = jnp.tanh(x @ p["a"])
    return (jnp.tile(h, (1, 2)) + jnp.tanh(x @ p["b"])) @ p["o"]


def repeat_plus_units(p, x):
    h = jnp.tanh(x @ p["a"])
    return jnp.tanh(jnp.repeat(h, 2, -1) + x @ p["b"]) @ p["o"]


def stretched_from_one(p, x):
    """Axes of length one that meet longer ones, in `lax` and not only in `numpy`."""
    h, one = jnp.tanh(x @ p["a"]), (x @ p["b"])
    return jnp.broadcast_to(one, h.shape) * h @ p["o"] + jnp.where(one > 0, h, p["c"][None]).sum()


def stretched_by_lax(p, x):
    """As `stretched_from_one`, where `lax` stretches without being told to."""
    h, one = jnp.tanh(x @ p["a"]), x @ p["b"]
    return (jax.lax.mul(h, one) + jax.lax.add(h, p["c"].reshape(1, 4))) @ p["o"]


def stretched_square(p, x):
    """Units against units, one of them along an axis of length one."""
    h = jnp.tanh(x @ p["a"])
    pairs = jax.lax.mul(h[:, :, None], h[:, None, :])
    return jnp.tanh(pairs + p["w"][None]).sum(1) @ p["o"]


def per_layer_group_in_the_carry(p, x):
    """What is carried from layer to layer cannot have an order for each layer."""

    def layer(h, w):
        return jnp.tanh(h @ w), None

    return jax.lax.scan(layer, jnp.tanh(x @ p["a"]), p["w"])[0] @ p["o"]


def inner_units_handed_to_the_next_layer(p, x):
    def layer(carry, weights):
        h, before = carry
        up, down = weights
        inner = jnp.tanh(h @ up) + before
        return (h + inner @ down, inner), None

    start = (x, jnp.zeros((2, 3)))
    return jax.lax.scan(layer, start, (p["u"], p["d"]))[0][0]


def inner_units_collected(p, x):
    def layer(h, weights):
        up, down = weights
        inner = jnp.tanh(h @ up)
        return h + inner @ down, inner

    h, every = jax.lax.scan(layer, x, (p["u"], p["d"]))
    return h.sum(-1) + jnp.einsum("lbi,li->b", every, p["o"])


def inner_units_collected_and_averaged(p, x):
    def layer(h, weights):
        up, down = weights
        inner = jnp.tanh(h @ up)
        return h + inner @ down, inner

    h, every = jax.lax.scan(layer, x, (p["u"], p["d"]))
    return h.sum(-1) + jnp.tanh(every.mean(0)).sum(-1)


def two_scans_over_one_stack(p, x):
    def layer(h, weights):
        return h + jnp.tanh(h @ weights[0]) @ weights[1], None

    h, _ = jax.lax.scan(layer, x, (p["u"], p["d"]))
    return jax.lax.scan(layer, h, (p["u"], p["d"]), reverse=True)[0]


def two_scans_that_pair_layers_differently(p, x):
    def layer(h, weights):
        return h + jnp.tanh(h @ weights[0]) @ weights[1], None

    h, _ = jax.lax.scan(layer, x, (p["u"], p["d"]))
    return jax.lax.scan(layer, h, (p["u"], p["d"][::-1]))[0]


def scan_and_one_layer_by_itself(p, x):
    def layer(h, weights):
        return h + jnp.tanh(h @ weights[0]) @ weights[1], None

    h, _ = jax.lax.scan(layer, x, (p["u"], p["d"]))
    return h + jnp.tanh(h @ p["u"][0]) @ p["d"][1]


def scan_over_units(p, x):
    h = jnp.tanh(x @ p["a"])
    return jax.lax.scan(lambda c, col: (jnp.tanh(c + col), c), jnp.zeros(2), h.T)[1].T @ p["o"]


def nested_scans(p, x):
    def inner(h, weights):
        return h + jnp.tanh(h @ weights[0]) @ weights[1], None

    def outer(h, weights):
        h, _ = jax.lax.scan(inner, h, weights)
        return jnp.tanh(h), None

    return jax.lax.scan(outer, x, (p["u"], p["d"]))[0]


def nested_scans_one_stack(p, x):
    """Inside, all layers of a stack over which the outer scan does not run."""

    def inner(h, weights):
        return h + jnp.tanh(h @ weights[0]) @ weights[1], None

    def outer(h, scale):
        h, _ = jax.lax.scan(inner, h * scale[None], (p["u"], p["d"]))
        return h, None

    return jax.lax.scan(outer, x, p["s"])[0]


def while_from_zeros(p, x):
    """Zeros go with any order, what the body makes of them does not."""

    def body(state):
        step, h = state
        return step + 1, jnp.tanh(jnp.cumsum(h, -1) + x @ p["a"])

    return jax.lax.while_loop(lambda s: s[0] < 3, body, (0, jnp.zeros((2, 4))))[1] @ p["o"]


def while_that_swaps(p, x):
    """The carries change places: what is true of one is true of the other."""

    def body(state):
        step, a, b, c = state
        return step + 1, b, c, jnp.tanh(a)

    start = (0, jnp.zeros((2, 4)), jnp.ones((2, 4)), jnp.tanh(x @ p["a"]))
    _, a, b, c = jax.lax.while_loop(lambda s: s[0] < 2, body, start)
    return (a * jnp.arange(4.0)[None] + b + c) @ p["o"]


def while_until_a_unit_is_large(p, x):
    h = jnp.tanh(x @ p["a"])
    goes_on = lambda h: jnp.abs(h[0, 0]) < 0.9  # noqa: E731
    return jax.lax.while_loop(goes_on, lambda h: 1.5 * h + 0.3, h) @ p["o"]


def while_with_a_count_for_each_unit(p, x):
    """Under vmap the condition is an array: unit i goes through the body i times."""

    def many_times(column, count):
        body = lambda s: (s[0] + 1, jnp.tanh(2 * s[1]))  # noqa: E731
        return jax.lax.while_loop(lambda s: s[0] < count, body, (0, column))[1]

    repeat = jax.vmap(many_times, in_axes=(1, 0), out_axes=1)
    return repeat(x @ p["a"], jnp.arange(4)) @ p["o"]


def while_with_a_count_made_of_units(p, x):
    def until_large(column, limit):
        return jax.lax.while_loop(lambda c: c.sum() < limit, lambda c: c + 0.5, column)

    limits = jnp.abs(p["c"])
    return jax.vmap(until_large, in_axes=(1, 0), out_axes=1)(jnp.tanh(x @ p["a"]), limits) @ p["o"]


def branches_that_differ(p, x):
    h = jnp.tanh(x @ p["a"])
    flip = lambda h: h[:, ::-1]  # noqa: E731
    return jax.lax.cond(x.sum() > 100, flip, lambda h: 2 * h, h) @ p["o"]


def branch_that_is_constant(p, x):
    h = jnp.tanh(x @ p["a"])
    ramp = lambda h: jnp.broadcast_to(jnp.arange(4.0)[None], h.shape)  # noqa: E731
    h = jax.lax.cond(x.sum() > 0, ramp, jnp.zeros_like, h)
    return (h + jnp.tanh(x @ p["b"])) @ p["o"]


def branch_picked_by_a_unit(p, x):
    h = jnp.tanh(x @ p["a"])
    return jax.lax.switch(jnp.argmax(h[0]), [jnp.sin, jnp.cos, jnp.tanh, jnp.exp], h) @ p["o"]


def branch_for_each_unit(p, x):
    """Under vmap a condition is a selection."""
    h = jnp.tanh(x @ p["a"])
    pick = lambda c, col: jax.lax.cond(c, jnp.sin, jnp.cos, col)  # noqa: E731
    return jax.vmap(pick, (0, 1), 1)(jnp.arange(4) > 1, h) @ p["o"]


def zero_size_pieces(p, x):
    h = jnp.tanh(x @ p["a"])
    h = jnp.concatenate([h[:, :0], h, h[:, 4:]], -1)
    a, b, c = jnp.split(h, [0, 4], -1)
    return b @ p["o"] + a.sum() + c.sum()


def empty_scan(p, x):
    h = jnp.tanh(x @ p["a"])
    return jax.lax.scan(lambda h, w: (h @ w, None), h, p["w"][:0])[0] @ p["o"]


def unknown_primitive(p, x):
    return jnp.abs(jnp.fft.fft(jnp.tanh(x @ p["a"]))) @ p["o"]


def linear_algebra(p, x):
    h = jnp.tanh(x @ p["a"])
    gram = h.T @ h + jnp.eye(4)
    return jnp.linalg.cholesky(gram)[0] @ p["o"]


def host_callback(p, x):
    h = jnp.tanh(x @ p["a"])
    weigh = lambda h: np.asarray(h * np.arange(h.shape[1])[None], h.dtype)  # noqa: E731
    return jax.pure_callback(weigh, jax.ShapeDtypeStruct(h.shape, h.dtype), h) @ p["o"]


def debug_callback(p, x):
    h = jnp.tanh(x @ p["a"])
    jax.debug.callback(lambda h: None, h)
    return h @ p["o"]


def random_bits_inside(p, x):
    h = jnp.tanh(x @ p["a"])
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, h.shape)
    return jnp.where(kept, h, 0.0) @ p["o"]


def random_bits_inside_the_weights(p, x):
    return jnp.tanh(x @ (p["a"] + jax.random.normal(jax.random.key(1), (3, 4)))) @ p["o"]


def largest_of_two_axes(p, x):
    """argmax of a flattened axis answers with a position in both factors."""
    h = jnp.tanh(x @ p["a"]).reshape(2, 2, 2)
    best = jnp.argmax(h.reshape(2, 4), -1)
    return (h.reshape(2, 4) @ p["o"]) * best[:, None]


def sorted_positions_carry_units(p, x):
    """Rows of units are sorted by the first of them."""
    h = jnp.tanh(x @ p["a"])
    return h[jnp.argsort(h[:, 0])] @ p["o"]


def two_keys_sorted_together(p, x):
    a, b = jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])
    return jax.lax.sort((a, b), dimension=0)[1] @ p["o"]


def diagonal(p, x):
    h = jnp.tanh(x @ p["a"])
    return jnp.diagonal(h.T @ h)[None] @ p["o"]


def trace_of_a_weight(p, x):
    return jnp.tanh(x @ p["a"] @ p["w"]) @ p["b"] + jnp.trace(p["w"])


def triangle_of_a_weight(p, x):
    return jnp.tanh(x @ p["a"] @ jnp.tril(p["w"])) @ p["b"]


def table_looked_up_by_units(p, x):
    h = jnp.tanh(x @ p["a"])
    return p["t"][jnp.argmax(h, -1)] @ p["o"]


def embedding_of_its_own_positions(p, x):
    """A table whose rows are looked up and whose columns are units, both of size 4."""
    tokens = (x[:, 0] > 0).astype(int)
    return jnp.tanh(p["t"][tokens] @ p["t"]) @ p["t"].T


def written_into(p, x):
    h = jnp.tanh(x @ p["a"])
    return h.at[:, 1].set(p["c"][0]).at[0].add(p["c"]) @ p["o"]


def rolled(p, x):
    h = jnp.tanh(x @ p["a"])
    return (h * jnp.roll(h, 1, -1)).sum(-1)


def circulant(p, x):
    """Every unit meets every unit, yet the order of each matters."""
    h = jnp.tanh(x @ p["a"])
    shifts = jnp.stack([jnp.roll(h, i, -1) for i in range(4)], -1)
    return jnp.einsum("bu,bus->bs", h, shifts) @ p["o"]


def convolution_over_units(p, x):
    h = jnp.tanh(x @ p["a"])[:, :, None]
    h = jax.lax.conv_general_dilated(
        h, p["k"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return h.sum(1) @ p["o"]


def grouped_then_full_convolution(p, x):
    """Groups of one convolution are not those of the next."""
    image = (x @ p["a"])[:, None]
    kwargs = {"window_strides": (1,), "padding": "SAME", "dimension_numbers": ("NWC", "WIO", "NWC")}
    h = jax.lax.conv_general_dilated(image, p["k"], feature_group_count=2, **kwargs)
    h = jax.lax.conv_general_dilated(jnp.tanh(h), p["l"], feature_group_count=3, **kwargs)
    return jnp.tanh(h).sum((1, 2))


def backward_pass(p, x):
    score = lambda h: jnp.sum(jnp.tanh(h @ p["w"]) * p["c"][None])  # noqa: E731
    return jax.grad(score)(jnp.tanh(x @ p["a"])) @ p["o"]


def weights_with_gradients(p, x):
    """One step of gradient descent, then the network."""
    loss = lambda p: jnp.sum(jnp.tanh(x @ p["a"]) @ p["o"])  # noqa: E731
    p = jax.tree.map(lambda a, b: a - b, p, jax.grad(loss)(p))
    return jnp.tanh(x @ p["a"]) @ p["o"]


HIDDEN = {"a": (3, 4), "o": (4, 2)}


def convolution_of_each_member(p, x):
    """Under vmap a convolution reshapes with its axes in another order."""

    def member(kernel, head):
        row = jnp.tanh(x @ p["a"])[:, None]
        row = jax.lax.conv_general_dilated(
            row, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return jnp.tanh(row).sum(1) @ head

    return jax.vmap(member)(p["k"], p["o"]).mean(0)


def units_read_by_columns(p, x):
    h = jnp.einsum("bi,ihd->bhd", x, p["a"])[0].ravel(order="F")
    return jnp.tanh(h + p["b"]) @ p["o"]


def weight_read_by_columns(p, x):
    return jnp.tanh(x[0] @ p["w"].T.reshape((3, 4), order="F")) @ p["o"]


def delay_line(p, x):
    """Zeros on the way in, units after that: each position sees another of them."""

    def step(line, _):
        line_after = jnp.concatenate([jnp.tanh(x @ p["b"]), line[:, :3]], -1)
        return line_after, jnp.cumsum(line[:, 3:], -1)

    return jax.lax.scan(step, jnp.zeros((2, 6)), None, length=4)[1]


def delay_line_beside_units(p, x):
    def step(_, state):
        line, seen = state
        line_after = jnp.concatenate([jnp.tanh(x @ p["b"]), line[:, 2:]], -1)
        return line_after, seen + jnp.cumsum(line[:, :2], -1)

    start = jnp.concatenate([jnp.zeros((2, 2)), jnp.tanh(x @ p["a"])], -1)
    line, seen = jax.lax.fori_loop(0, 3, step, (start, x[:, :2]))
    return seen, line @ p["o"]


def delay_line_padded(p, x):
    def step(line, _):
        return line.at[:, :2].set(jnp.tanh(x @ p["b"])), jnp.cumsum(line, -1)

    return jax.lax.scan(step, jnp.pad(jnp.tanh(x @ p["a"]), ((0, 0), (2, 0))), None, length=2)[1]


def carry_that_comes_apart(p, x):
    """Equal all along on the way in, two blocks of equal values after that."""

    def step(carry, _):
        return jnp.concatenate([carry[:2] + 1.0, carry[2:]]), jnp.tanh(p["w"] @ carry).sum()

    return jax.lax.scan(step, jnp.zeros(4), None, length=3)[1] * x.sum()


def carry_that_is_padded(p, x):
    def step(carry, _):
        return jnp.pad(jnp.tanh(carry[:2] + 1), (0, 2)), jnp.tanh(p["w"] @ carry).sum()

    return jax.lax.scan(step, jnp.zeros(4), None, length=3)[1] * x.sum()


def no_copies(p, x):
    nothing = jnp.tile(jnp.tanh(x @ p["a"]), (1, 0)) * jnp.zeros((2, 0))
    return nothing.sum() + jnp.tanh(x @ p["a"]) @ p["o"]


def blocks_that_are_also_digits(p, x):
    """An axis is two blocks here, three digits there: taking it apart ties a digit meanwhile."""
    h, other = jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])
    digits = jnp.repeat(h, 2, -1) * jnp.tile(h, (1, 2))
    return jnp.concatenate([other, h], -1) @ p["o"], digits @ p["o"]


def signs_of_zeros(p, x):
    angles = jnp.arctan2(jnp.array([[0.0, -0.0, 0.0, -0.0]]), -1)  # pi, -pi, pi, -pi
    return jnp.tanh(x @ p["a"] + angles) @ p["o"]


def empty_grid(p, x):
    return (x[:0] @ p["a"]).reshape(0, 2, 2).sum() + jnp.tanh(x @ p["a"]) @ p["o"]


X = (2, 3)
STACK = {"u": (3, 3, 2), "d": (3, 2, 3)}

TRAPS: dict[Callable, Trap] = {
    trap.apply_fn: trap
    for trap in [
        Trap(convolution_of_each_member, {"a": (3, 4), "k": (2, 1, 4, 3), "o": (2, 3, 2)}, X, 1728),
        Trap(units_read_by_columns, {"a": (3, 2, 3), "b": (6,), "o": (6, 2)}, X, 72),
        Trap(weight_read_by_columns, {"w": (3, 4), "o": (4, 2)}, X, 1),
        Trap(delay_line, {"b": (3, 3)}, X, 1),
        Trap(delay_line_beside_units, {"a": (3, 4), "b": (3, 2), "o": (6, 2)}, X, 24),
        Trap(delay_line_padded, {"a": (3, 4), "b": (3, 2)}, X, 1),
        Trap(blocks_that_are_also_digits, {"a": (3, 4), "b": (3, 4), "o": (8, 2)}, X, 1),
        Trap(carry_that_comes_apart, {"w": (3, 4)}, X, 24),
        Trap(carry_that_is_padded, {"w": (3, 4)}, X, 24),
        Trap(no_copies, HIDDEN, X, 24),
        Trap(signs_of_zeros, HIDDEN, X, 1),
        Trap(empty_grid, HIDDEN, X, 24),
        Trap(misaligned_child, {"q": (3, 3, 2), "k": (3, 3, 2)}, X, 12),
        Trap(misaligned_tied_child, {"q": (3, 2, 3), "o": (6, 2)}, X, 12),
        Trap(child_moves_to_another_parent, {"a": (3, 3, 2), "mix": (3, 3)}, X, 12),
        Trap(child_of_pairs, {"a": (3, 3), "w": (3, 3, 2), "o": (3, 2)}, X, 12),
        Trap(heads_summed_over, {"a": (3, 6), "o": (2, 2)}, X, 72),
        Trap(heads_maximum, {"a": (3, 6), "o": (3, 2)}, X, 48),
        Trap(shared_head_scale, {"q": (3, 6), "k": (3, 6), "s": (3,)}, (3, 3), 12),
        Trap(transposed_reuse, {"a": (3, 4), "w": (4, 4), "b": (4, 2)}, X, 576),
        Trap(symmetric_reuse, {"a": (3, 4), "w": (4, 4), "b": (4, 2)}, X, 24),
        Trap(rectangular_both_ways, {"w": (3, 4), "o": (3, 2)}, X, 1),
        Trap(flat_and_not_flat, {"a": (3, 6), "b": (3, 2), "c": (6, 2)}, X, 48),
        Trap(reshapes_that_do_not_align, {"a": (3, 12), "b": (4, 2), "c": (3, 2)}, X, 1),
        Trap(reshapes_transposed, {"a": (3, 12), "b": (12, 2)}, X, 1),
        Trap(reshape_6_to_4_and_3, {"a": (3, 6), "b": (8, 2)}, (4, 3), 1),
        Trap(slices_at_different_points, {"a": (3, 6), "b": (4, 2), "c": (4, 2)}, X, 8),
        Trap(overlapping_slices_added, {"a": (3, 6), "b": (4, 2)}, X, 2),
        Trap(slice_of_a_slice, {"a": (3, 6), "b": (2, 2)}, X, 2),
        Trap(concatenated_in_two_orders, {"a": (3, 2), "b": (3, 4), "o": (6, 2)}, X, 2),
        Trap(concatenated_with_itself, {"a": (3, 4), "o": (10, 2)}, X, 4),
        Trap(
            concatenations_of_unequal_blocks,
            {"a": (3, 2), "b": (3, 3), "c": (3, 5), "o": (5, 2)},
            X,
            1,
        ),
        Trap(concatenated_along_heads, {"a": (3, 6), "b": (3, 6), "o": (4, 3)}, X, 384),
        Trap(padded_and_added, {"a": (3, 4), "o": (6, 2)}, X, 2),
        Trap(padded_with_a_value, {"a": (3, 3), "w": (6, 4), "s": (6,)}, X, 864),
        Trap(padded_between, {"a": (3, 3), "o": (5, 2)}, X, 1),
        Trap(cut_off_by_negative_padding, {"a": (3, 4), "o": (3, 2)}, X, 1),
        Trap(tile_times_repeat, {"a": (3, 3), "o": (6, 2)}, X, 1),
        Trap(tile_times_repeat_that_fit, {"a": (3, 3), "b": (3, 2), "o": (6, 2)}, X, 12),
        Trap(tile_of_repeat_times_repeat, {"a": (3, 2), "o": (8, 2)}, X, 8),
        Trap(tile_plus_units, {"a": (3, 3), "b": (3, 6), "o": (6, 2)}, X, 48),
        Trap(repeat_plus_units, {"a": (3, 3), "b": (3, 6), "o": (6, 2)}, X, 48),
        Trap(stretched_from_one, {"a": (3, 4), "b": (3, 1), "c": (4,), "o": (4, 2)}, X, 24),
        Trap(stretched_by_lax, {"a": (3, 4), "b": (3, 1), "c": (4,), "o": (4, 2)}, X, 24),
        Trap(stretched_square, {"a": (3, 4), "w": (4, 4), "o": (4, 2)}, X, 24),
        Trap(per_layer_group_in_the_carry, {"a": (3, 4), "w": (3, 4, 4), "o": (4, 2)}, X, 24),
        Trap(inner_units_handed_to_the_next_layer, {"u": (3, 3, 3), "d": (3, 3, 3)}, X, 6),
        Trap(inner_units_collected, {**STACK, "o": (3, 2)}, X, 8),
        Trap(inner_units_collected_and_averaged, STACK, X, 2),
        Trap(two_scans_over_one_stack, STACK, X, 8),
        Trap(two_scans_that_pair_layers_differently, STACK, X, 2),
        Trap(scan_and_one_layer_by_itself, STACK, X, 2),
        Trap(scan_over_units, HIDDEN, X, 1),
        Trap(nested_scans, {"u": (2, 3, 3, 2), "d": (2, 3, 2, 3)}, X, 64),
        Trap(nested_scans_one_stack, {**STACK, "s": (2, 3)}, X, 8),
        Trap(while_from_zeros, HIDDEN, X, 1),
        Trap(while_that_swaps, HIDDEN, X, 1),
        Trap(while_until_a_unit_is_large, HIDDEN, X, 6),
        Trap(while_with_a_count_for_each_unit, HIDDEN, X, 1),
        Trap(while_with_a_count_made_of_units, {**HIDDEN, "c": (4,)}, X, 24),
        Trap(branches_that_differ, HIDDEN, X, 1),
        Trap(branch_that_is_constant, {**HIDDEN, "b": (3, 4)}, X, 24),
        Trap(branch_picked_by_a_unit, HIDDEN, X, 1),
        Trap(branch_for_each_unit, HIDDEN, X, 1),
        Trap(zero_size_pieces, HIDDEN, X, 24),
        Trap(empty_scan, {**HIDDEN, "w": (2, 4, 4)}, X, 24),
        Trap(unknown_primitive, HIDDEN, X, 1),
        Trap(linear_algebra, HIDDEN, X, 1),
        Trap(largest_of_two_axes, HIDDEN, X, 1),
        Trap(sorted_positions_carry_units, HIDDEN, X, 6),
        Trap(two_keys_sorted_together, {**HIDDEN, "b": (3, 4)}, X, 24),
        Trap(diagonal, HIDDEN, X, 1),
        Trap(trace_of_a_weight, {"a": (3, 4), "w": (4, 4), "b": (4, 2)}, X, 1),
        Trap(triangle_of_a_weight, {"a": (3, 4), "w": (4, 4), "b": (4, 2)}, X, 1),
        Trap(table_looked_up_by_units, {"a": (3, 4), "t": (4, 4), "o": (4, 2)}, X, 576),
        Trap(embedding_of_its_own_positions, {"t": (4, 4)}, X, 1),
        Trap(written_into, {**HIDDEN, "c": (4,)}, X, 2),
        Trap(rolled, {"a": (3, 4)}, X, 1),
        Trap(circulant, {"a": (3, 4), "o": (4, 2)}, X, 1),
        Trap(convolution_over_units, {"a": (3, 4), "k": (3, 1, 2), "o": (2, 2)}, X, 2),
        Trap(grouped_then_full_convolution, {"a": (3, 6), "k": (1, 3, 6), "l": (1, 2, 6)}, X, 288),
        Trap(backward_pass, {"a": (3, 4), "w": (4, 3), "c": (3,), "o": (4, 2)}, X, 144),
        Trap(weights_with_gradients, HIDDEN, X, 24),
    ]
}


def shapes_of(trap: Trap) -> tuple[dict, jax.ShapeDtypeStruct]:
    """The parameters and the input, as shapes."""
    params = {name: jax.ShapeDtypeStruct(s, np.float32) for name, s in trap.shapes.items()}
    return params, jax.ShapeDtypeStruct(trap.inputs, np.float32)


def num_symmetries(spec: rl.PermutationSpec, params: dict) -> int:
    """The size of the group as a whole number."""
    slots_and_sizes = [(math.prod(slots), n) for *slots, n in spec.shapes(params).values()]
    return math.prod(math.factorial(n) ** slots for slots, n in slots_and_sizes)


def largest_change(apply_fn: Callable, spec: rl.PermutationSpec, params: dict, inputs: Any) -> Any:
    """By how much permutations of the spec change the outputs, computed in float64."""
    closed = jax.make_jaxpr(apply_fn)(params, inputs)
    worst = 0.0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        drawn = {name: rng.standard_normal(leaf.shape) for name, leaf in params.items()}
        x = rng.standard_normal(inputs.shape)
        permutation = rl.random_permutation(spec, drawn, seed=seed)
        permuted = rl.apply_permutation(spec, permutation, drawn)
        before, after = (evaluate(closed, [*jax.tree.leaves(p), x]) for p in (drawn, permuted))
        for a, b in zip(before, after, strict=True):
            worst = max(worst, np.max(np.abs(a - b)) / np.max(np.abs(a)))
    return worst


@pytest.mark.parametrize("trap", TRAPS.values(), ids=lambda trap: trap.apply_fn.__name__)
def test_no_trap_is_fallen_into(trap):
    params, inputs = shapes_of(trap)
    spec = infer_permutation_spec(trap.apply_fn, params, inputs)
    spec.validate(params)
    # Rounding in float64 is far below this, and what a wrong order of units does far above.
    assert largest_change(trap.apply_fn, spec, params, inputs) < 1e-9, f"\n{spec}"
    assert num_symmetries(spec, params) == trap.found, f"\n{spec}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float32"])
def test_zeros_of_either_sign_are_different_constants(dtype):
    zeros = jnp.array([0.0, -0.0] * 3, dtype)
    params = {"a": jnp.ones(6), "o": jnp.ones((6, 2))}

    def apply_fn(p, x):
        angles = jnp.arctan2(zeros.astype(jnp.float32), -1.0)
        return (x.sum() * p["a"] + angles) @ p["o"]

    spec = infer_permutation_spec(apply_fn, params, jnp.ones((2, 3)))
    assert spec.axes == {"a": (None,), "o": (None, None)}


@pytest.mark.filterwarnings("ignore:Nothing is known of the symmetries")
@pytest.mark.parametrize("apply_fn", [host_callback, random_bits_inside, debug_callback])
def test_what_leaves_the_known_primitives_pins_units(apply_fn):
    params = {"a": jnp.ones((3, 4)), "o": jnp.ones((4, 2))}
    spec = infer_permutation_spec(apply_fn, params, jnp.ones((2, 3)))
    # float32, and compiled: NumPy cannot evaluate these.
    assert rl.verify_equivalence(apply_fn, spec, params, np.eye(2, 3, dtype=np.float32)) < 1e-5
    assert not spec.permutations


def test_random_bits_added_to_weights_pin_them():
    params = {"a": jnp.ones((3, 4)), "o": jnp.ones((4, 2))}
    spec = infer_permutation_spec(random_bits_inside_the_weights, params, jnp.ones((2, 3)))
    assert not spec.permutations


def test_parameters_that_are_whole_numbers_are_positions():
    params = {"a": jnp.ones((3, 4)), "order": jnp.array([2, 0, 3, 1]), "o": jnp.ones((4, 2))}

    def apply_fn(p, x):
        return jnp.tanh(x @ p["a"])[:, p["order"]] @ p["o"]

    spec = infer_permutation_spec(apply_fn, params, jnp.ones((2, 3)))
    assert rl.verify_equivalence(apply_fn, spec, params, np.eye(2, 3, dtype=np.float32)) < 1e-5
    assert spec.axes["a"] == (None, None)


def test_whole_numbers_that_mask_units_move_with_them():
    params = {"a": jnp.ones((3, 4)), "kept": jnp.array([1, 0, 1, 1]), "o": jnp.ones((4, 2))}

    def apply_fn(p, x):
        return jnp.where(p["kept"][None] > 0, jnp.tanh(x @ p["a"]), 0.0) @ p["o"]

    spec = infer_permutation_spec(apply_fn, params, jnp.ones((2, 3)))
    assert rl.verify_equivalence(apply_fn, spec, params, np.eye(2, 3, dtype=np.float32)) < 1e-5
    assert spec.axes["kept"] == spec.axes["a"][1:] == ("P_0",)


@pytest.mark.parametrize("params", [{}, {"a": {}}, {"a": jnp.ones((3, 0)), "b": jnp.float32(2)}])
def test_parameters_without_units_have_no_permutation(params):
    spec = infer_permutation_spec(lambda p, x: x * len(p), params, jnp.ones((2, 3)))
    spec.validate(params)
    assert not spec.permutations


def test_a_layer_without_units():
    params = {"a": jnp.ones((3, 0)), "o": jnp.ones((0, 2)), "b": jnp.ones((3, 4))}

    def apply_fn(p, x):
        return jnp.tanh(x @ p["a"]) @ p["o"] + jnp.tanh(x @ p["b"]).sum(-1, keepdims=True)

    spec = infer_permutation_spec(apply_fn, params, jnp.ones((2, 3)))
    spec.validate(params)
    assert spec.axes["b"] == (None, "P_0")
    assert rl.verify_equivalence(apply_fn, spec, params, np.eye(2, 3, dtype=np.float32)) < 1e-5
