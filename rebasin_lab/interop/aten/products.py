"""Rules for products: dense and convolution layers, attention."""

import functools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Num


def linear(
    x: Num[Array, "*batch in"],
    weight: Num[Array, "*out in"],
    bias: Num[Array, "*out"] | None = None,
) -> Num[Array, "..."]:
    """A dense layer; PyTorch keeps its matrix as [out, in]."""
    y = lax.dot_general(x, weight, (((x.ndim - 1,), (weight.ndim - 1,)), ((), ())))
    return y if bias is None else y + bias


def convolution(
    x: Num[Array, "n c_in *space"],
    weight: Num[Array, "..."],
    bias: Num[Array, " c_out"] | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Num[Array, "n c_out *space_out"]:
    """A convolution, grouped and dilated, or its transpose.

    Weights are [c_out, c_in / groups, *window], transposed [c_in, c_out / groups, *window].
    """
    num_axes = weight.ndim - 2
    strides, padding, dilation, output_padding = (
        tuple(sizes) * num_axes if len(sizes) == 1 else tuple(sizes)
        for sizes in (strides, padding, dilation, output_padding)
    )
    space = "DHW"[3 - num_axes :]
    convolve = functools.partial(lax.conv_general_dilated, x, feature_group_count=groups)
    if transposed:
        reach = [d * (w - 1) for d, w in zip(dilation, weight.shape[2:], strict=True)]
        y = convolve(
            _per_group(lax.rev(weight, range(2, weight.ndim)), groups),
            (1,) * num_axes,
            [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)],
            lhs_dilation=strides,
            rhs_dilation=dilation,
            dimension_numbers=(f"NC{space}", f"IO{space}", f"NC{space}"),
        )
    else:
        y = convolve(
            weight,
            strides,
            [(p, p) for p in padding],
            rhs_dilation=dilation,
            dimension_numbers=(f"NC{space}", f"OI{space}", f"NC{space}"),
        )
    return y if bias is None else y + per_channel(bias, y)


def _per_group(weight: Array, groups: int) -> Array:
    """A transposed kernel [c_in, c_out / groups, ...] as JAX wants it: [c_in / groups, c_out, ...].

    JAX has the groups among the outputs.
    """
    if groups == 1:
        return weight
    c_in, c_out, *window = weight.shape
    grouped = weight.reshape(groups, c_in // groups, c_out, *window).swapaxes(0, 1)
    return grouped.reshape(c_in // groups, groups * c_out, *window)


def per_channel(values: Num[Array, " c"], x: Num[Array, "n c *space"]) -> Array:
    """One value for each channel, to be broadcast over a batch and its positions."""
    return jnp.expand_dims(values, (0, *range(2, x.ndim)))


def attention(
    queries: Num[Array, "*batch heads t d"],
    keys: Num[Array, "*batch kv_heads s d"],
    values: Num[Array, "*batch kv_heads s d_v"],
    mask: Bool[Array, "..."] | Num[Array, "..."] | None = None,
    dropout: int | float = 0.0,
    is_causal: bool = False,
    *,
    scale: int | float | None = None,
    enable_gqa: bool = False,
) -> Num[Array, "*batch heads t d_v"]:
    """Scaled dot-product attention; with grouped queries, heads share keys and values.

    A position that may attend to nothing gets zeros, as in PyTorch.
    """
    heads, kv_heads = queries.shape[-3:-2], keys.shape[-3:-2]
    grouped = enable_gqa and heads != kv_heads
    if grouped:
        split = (*kv_heads, heads[0] // kv_heads[0])
        queries = queries.reshape(*queries.shape[:-3], *split, *queries.shape[-2:])
        keys, values = jnp.expand_dims(keys, -3), jnp.expand_dims(values, -3)
        if mask is not None and mask.ndim > 2:
            sizes = split if mask.shape[-3] > 1 else (1, 1)
            mask = mask.reshape(*mask.shape[:-3], *sizes, *mask.shape[-2:])
    scale = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = jnp.einsum("...td,...sd->...ts", queries, keys) * scale
    if is_causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    largest = jnp.max(scores, -1, keepdims=True)
    weights = jnp.exp(scores - (largest if mask is None else jnp.maximum(largest, -1e30)))
    total = jnp.sum(weights, -1, keepdims=True)
    weights = weights / (total if mask is None else jnp.where(total == 0, 1, total))
    mixed = jnp.einsum("...ts,...sd->...td", weights, values)
    return mixed.reshape(*mixed.shape[:-4], *heads, *mixed.shape[-2:]) if grouped else mixed


RULES: dict[str, Callable] = {
    "aten.addmm": lambda offset, a, b, beta=1, alpha=1: (
        (offset if beta == 1 else beta * offset)
        + (jnp.matmul(a, b) if alpha == 1 else alpha * jnp.matmul(a, b))
    ),
    "aten.bmm": jnp.matmul,
    "aten.convolution": convolution,
    "aten.einsum": lambda equation, arrays, path=None: jnp.einsum(equation, *arrays),
    "aten.linear": linear,
    "aten.matmul": jnp.matmul,
    "aten.mm": jnp.matmul,
    "aten.scaled_dot_product_attention": attention,
}
