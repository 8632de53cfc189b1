"""The multi-layer perceptron of the paper's MNIST and CIFAR-10 experiments."""

import math

from flax import nnx
from jaxtyping import Array, Float


class MLP(nnx.Module):
    """Dense layers with ReLU between them, no normalisation (Ainsworth et al. 2022, A.3)."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width: int = 512,
        num_hidden_layers: int = 3,
        rngs: nnx.Rngs,
    ):
        sizes = [math.prod(image_shape), *[width] * num_hidden_layers, num_classes]
        self.layers = nnx.List(
            [
                nnx.Linear(num_in, num_out, rngs=rngs)
                for num_in, num_out in zip(sizes[:-1], sizes[1:], strict=True)
            ]
        )

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        hidden = images.reshape(images.shape[0], -1)
        for layer in self.layers[:-1]:
            hidden = nnx.relu(layer(hidden))
        return self.layers[-1](hidden)
