"""Rules for operators that act entry by entry, and for new arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def divide(a: Array, b: Any, rounding_mode: str | None = None) -> Array:
    """A / b, rounded down for "floor", towards zero for "trunc"."""
    if rounding_mode == "floor":
        return jnp.floor_divide(a, b)
    if rounding_mode is None:
        return jnp.true_divide(a, b)
    if jnp.issubdtype(jnp.result_type(a, b), jnp.integer):
        return jnp.sign(a) * jnp.sign(b) * jnp.floor_divide(jnp.abs(a), jnp.abs(b))
    return jnp.trunc(jnp.true_divide(a, b))


def power(base: Any, exponent: Any) -> Array:
    """Base ** exponent; a small whole exponent multiplies, as in PyTorch."""
    is_whole = isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 16
    if is_whole and jnp.issubdtype(jnp.result_type(base), jnp.inexact):
        exponent = int(exponent)
    return jnp.power(base, exponent)


def clamp(x: Array, least: Any = None, most: Any = None) -> Array:
    """The entries between two limits; `most` where the limits are in the wrong order."""
    x = x if least is None else jnp.maximum(x, least)
    return x if most is None else jnp.minimum(x, most)


def elu(
    x: Array, alpha: int | float = 1, scale: int | float = 1, input_scale: int | float = 1
) -> Array:
    """Exponential linear unit; with other constants SELU and CELU."""
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale))


_UNARY = """
    abs acos acosh asin asinh atan atanh ceil cos cosh exp exp2 expm1 floor imag isinf isnan log
    log10 log1p log2 logical_not real reciprocal round sign sin sinh sqrt tan tanh trunc
""".split()
_BINARY = """
    atan2 bitwise_and bitwise_or bitwise_xor fmod logical_and logical_or logical_xor maximum minimum
    remainder
""".split()
_BY_NAME: dict[str, Callable] = {
    **{name: getattr(jnp, name) for name in [*_UNARY, *_BINARY]},
    "add": lambda a, b, alpha=1: jnp.add(a, b if alpha == 1 else jnp.multiply(b, alpha)),
    "bitwise_not": jnp.invert,
    "clamp": clamp,
    "div": divide,
    "elu": elu,
    "eq": jnp.equal,
    "erf": jax.scipy.special.erf,
    "erfinv": jax.scipy.special.erfinv,
    "ge": jnp.greater_equal,
    "gelu": lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
    "gt": jnp.greater,
    "hardtanh": lambda x, least=-1, most=1: clamp(x, least, most),
    "le": jnp.less_equal,
    "leaky_relu": lambda x, slope=0.01: jnp.where(x > 0, x, x * slope),
    "lt": jnp.less,
    "mul": jnp.multiply,
    "ne": jnp.not_equal,
    "neg": jnp.negative,
    "pow": power,
    "relu": lambda x: jnp.maximum(x, 0),
    "rsqrt": lambda x: 1 / jnp.sqrt(x),
    "sigmoid": jax.scipy.special.expit,
    "sub": lambda a, b, alpha=1: jnp.subtract(a, b if alpha == 1 else jnp.multiply(b, alpha)),
}
RULES: dict[str, Callable] = {
    **{f"aten.{name}": rule for name, rule in _BY_NAME.items()},
    "aten.where": jnp.where,
    "aten.polar": lambda size, angle: lax.complex(size * jnp.cos(angle), size * jnp.sin(angle)),
    "aten.view_as_complex": lambda x: lax.complex(x[..., 0], x[..., 1]),
    "aten.view_as_real": lambda x: jnp.stack([jnp.real(x), jnp.imag(x)], -1),
    # Every result is cast, so these need not.
    "aten._to_copy": lambda x, dtype=None: x,
    "aten.arange.start_step": lambda start, end, step=1, dtype=None: jnp.arange(start, end, step),
    "aten.copy": lambda x, source: jnp.broadcast_to(source, x.shape),
    "aten.empty.memory_format": lambda shape, dtype=None: jnp.zeros(shape),
    "aten.full": lambda shape, value, dtype=None: jnp.full(shape, value),
    "aten.full_like": lambda x, value, dtype=None: jnp.full(x.shape, value),
    "aten.scalar_tensor": lambda value, dtype=None: jnp.asarray(value),
}
