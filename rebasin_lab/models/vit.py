"""A small vision transformer, for the symmetries of attention, which the paper does not treat."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rebasin_lab.models import initializers

MLP_RATIO = 4
Tokens = Float[Array, "batch tokens width"]


class Attention(nnx.Module):
    """Multi-head self-attention from four dense layers of the full width.

    Head h has the h-th of `num_heads` equal blocks of units in `query`, `key` and `value`, and the
    same rows of `out`. Only reshapes, products and a softmax are between them.
    """

    def __init__(self, width: int, num_heads: int, *, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, tokens: Tokens) -> Tokens:
        """For every token the attention-weighted sum of all values."""
        query, key, value = (
            self._split(layer(tokens)) for layer in (self.query, self.key, self.value)
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
        return self.out(mixed.reshape(tokens.shape))

    def _split(self, units: Tokens) -> Float[Array, "batch tokens heads units"]:
        return units.reshape(*units.shape[:2], self.num_heads, -1)


class TransformerBlock(nnx.Module):
    """Attention, then an MLP; each reads the normalised stream and adds to it (pre-norm)."""

    def __init__(self, width: int, num_heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = Attention(width, num_heads, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp_in = nnx.Linear(width, MLP_RATIO * width, rngs=rngs)
        self.mlp_out = nnx.Linear(MLP_RATIO * width, width, rngs=rngs)

    def __call__(self, stream: Tokens) -> Tokens:
        """The stream after this block."""
        stream = stream + self.attention(self.norm1(stream))
        return stream + self.mlp_out(nnx.gelu(self.mlp_in(self.norm2(stream))))


class ViT(nnx.Module):
    """Patches of an image as tokens, transformer blocks, the mean over tokens, a dense layer.

    Dosovitskiy et al. 2021, with the mean in place of a class token.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width: int = 64,
        num_heads: int = 4,
        num_blocks: int = 4,
        patch_size: int = 4,
        rngs: nnx.Rngs,
    ):
        *sizes, num_channels = image_shape
        if width % num_heads:
            raise ValueError(
                f"Expected width of vit to be a multiple of num_heads; got width {width} with "
                f"{num_heads} heads."
            )
        if any(size % patch_size for size in sizes):
            raise ValueError(
                f"Expected the height and width of an image to be multiples of patch_size of vit; "
                f"got images of {' x '.join(map(str, sizes))} with patch_size {patch_size}."
            )
        patch = (patch_size, patch_size)
        self.patch_embedding = nnx.Conv(
            num_channels,
            width,
            patch,
            strides=patch,
            padding="VALID",
            kernel_init=initializers.conv_kernel,
            rngs=rngs,
        )
        num_tokens = (sizes[0] // patch_size) * (sizes[1] // patch_size)
        initializer = nnx.initializers.normal(0.02)
        self.position_embedding = nnx.Param(initializer(rngs.params(), (num_tokens, width)))
        self.blocks = nnx.List(
            [TransformerBlock(width, num_heads, rngs=rngs) for _ in range(num_blocks)]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        patches = self.patch_embedding(images)
        stream = patches.reshape(patches.shape[0], -1, patches.shape[-1])
        stream = stream + self.position_embedding[None]
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream).mean(axis=1))
