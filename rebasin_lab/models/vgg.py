"""VGG16 as the paper trains it on CIFAR-10: LayerNorm, and a classifier no wider than the rest."""

import itertools

from flax import nnx
from jaxtyping import Array, Float

from rebasin_lab.models import initializers, widths

# Convolutions before each of the five poolings, and their channels at 1x (the paper's m = 64).
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
LARGEST_IMAGE = 2 ** len(STAGES)


class VGG16(nnx.Module):
    """13 convolutions with LayerNorm and ReLU, five max-poolings, three dense layers.

    Ainsworth et al. 2022, A.3: LayerNorm, over the channels of each pixel, replaces BatchNorm,
    and the hidden dense layers have 512 units at 1x, not the 4096 of Table 1.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width_multiplier: int | float = 1,
        rngs: nnx.Rngs,
    ):
        *sizes, num_in = image_shape
        # The flattened image must be one pixel: then permuting channels permutes the rows of the
        # first dense kernel.
        if max(sizes) > LARGEST_IMAGE:
            raise ValueError(
                f"Expected images of at most {LARGEST_IMAGE} x {LARGEST_IMAGE} pixels for vgg16, "
                f"which five poolings make one pixel; got {' x '.join(map(str, sizes))}."
            )
        channels = [
            widths.scaled_width("vgg16", width, width_multiplier)
            for num_convs, width in STAGES
            for _ in range(num_convs)
        ]
        self.convs = nnx.List(
            [
                nnx.Conv(before, after, (3, 3), kernel_init=initializers.conv_kernel, rngs=rngs)
                for before, after in itertools.pairwise([num_in, *channels])
            ]
        )
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for width in channels])
        dense_sizes = [*[channels[-1]] * 3, num_classes]
        self.dense = nnx.List(
            [
                nnx.Linear(before, after, rngs=rngs)
                for before, after in itertools.pairwise(dense_sizes)
            ]
        )

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        hidden = images
        layers = iter(zip(self.convs, self.norms, strict=True))
        for num_convs, _ in STAGES:
            for conv, norm in itertools.islice(layers, num_convs):
                hidden = nnx.relu(norm(conv(hidden)))
            # SAME, so that smaller images end at one pixel, too.
            hidden = nnx.max_pool(hidden, (2, 2), strides=(2, 2), padding="SAME")
        hidden = hidden.reshape(hidden.shape[0], -1)
        for layer in self.dense[:-1]:
            hidden = nnx.relu(layer(hidden))
        return self.dense[-1](hidden)
