"""Initial weights of convolutions, without the wait."""

import math
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Key

_MATRIX = nnx.initializers.lecun_normal()  # Flax's own choice for a kernel


def conv_kernel(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
) -> Float[Array, "*window num_in num_out"]:
    """The numbers that Flax would draw, drawn as a matrix with a column for each output.

    Random bits of more than two axes take XLA seconds to compile on a CPU, 4.3 for a kernel of
    3 x 3 x 8 x 16 and again for every other shape, where a matrix takes 0.45: a first VGG16 took
    18 s to make, and takes 7.
    """
    return _MATRIX(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)
