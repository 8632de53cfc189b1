"""Initial weights of convolutions that compile fast."""

import math
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Key

_MATRIX = nnx.initializers.lecun_normal()  # Flax's default for kernels


def conv_kernel(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
) -> Float[Array, "*window num_in num_out"]:
    """The initial kernel of Flax, drawn as a matrix with a column for each output.

    XLA takes seconds on a CPU to compile random bits of more than two axes, again for each shape;
    a matrix compiles much faster.
    """
    return _MATRIX(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)
