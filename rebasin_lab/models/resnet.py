"""Residual networks: CIFAR ResNets with LayerNorm, as in the paper, or BatchNorm; ResNet50.

All blocks of a stage add to one residual stream, so their channels are permuted together. A block
that changes the shape of the stream has a shortcut convolution; zero padding (option A of He et al.
2016) would tie the streams of two stages.

The running statistics of BatchNorm are leaves (`mean` and `var`), so they are interpolated and
permuted with their layer. Networks use them; `Model.apply_training` normalises by the batch.
"""

from collections.abc import Callable, Sequence

from flax import nnx
from jaxtyping import Array, Float

from rebasin_lab.models import initializers, widths

CIFAR_WIDTHS = (16, 32, 64)  # at 1x
BOTTLENECK_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, inner width at 1x

Stream = Float[Array, "batch h w c"]
NewStream = Float[Array, "batch new_h new_w new_c"]
Stages = Sequence[Sequence[nnx.Module]]
Norm = nnx.LayerNorm | nnx.BatchNorm


def _layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, rngs=rngs)


def _batch_norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    # In two passes, since E[x^2] - E[x]^2 cancels if the variance is small relative to the mean; it
    # takes no longer.
    return nnx.BatchNorm(width, use_running_average=True, use_fast_variance=False, rngs=rngs)


class ConvNorm(nnx.Module):
    """A convolution without bias and its normalisation: a stem, or a shortcut that reshapes."""

    def __init__(self, conv: nnx.Conv, norm: Norm):
        self.conv = conv
        self.norm = norm

    def __call__(self, stream: Stream) -> NewStream:
        """The normalised output, before any ReLU."""
        return self.norm(self.conv(stream))


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions, each normalised, added to the block's input."""

    expansion = 1  # width of the stream / width of the layers inside
    make_norm: Callable[[int, nnx.Rngs], Norm] = staticmethod(_layer_norm)

    def __init__(self, num_in: int, width: int, *, stride: int, rngs: nnx.Rngs):
        self.conv1 = _conv(num_in, width, 3, stride=stride, rngs=rngs)
        self.norm1 = self.make_norm(width, rngs)
        self.conv2 = _conv(width, width, 3, rngs=rngs)
        self.norm2 = self.make_norm(width, rngs)
        if stride > 1:  # 3 x 3 as in the authors' network, where 1 x 1 is more common
            conv = _conv(num_in, width, 3, stride=stride, rngs=rngs)
            self.shortcut = ConvNorm(conv, self.make_norm(width, rngs))
        else:
            self.shortcut = None

    def __call__(self, stream: Stream) -> NewStream:
        """The stream after this block."""
        hidden = nnx.relu(self.norm1(self.conv1(stream)))
        hidden = self.norm2(self.conv2(hidden))
        return nnx.relu(hidden + (self.shortcut(stream) if self.shortcut else stream))


class BatchNormBlock(BasicBlock):
    """The same with BatchNorm."""

    make_norm = staticmethod(_batch_norm)


class BottleneckBlock(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with BatchNorm, added to the block's input."""

    expansion = 4

    def __init__(self, num_in: int, width: int, *, stride: int, rngs: nnx.Rngs):
        num_out = self.expansion * width
        self.conv1 = _conv(num_in, width, 1, rngs=rngs)
        self.norm1 = _batch_norm(width, rngs)
        # Version 1.5: the stride is here, not in the 1 x 1 before.
        self.conv2 = _conv(width, width, 3, stride=stride, padding=1, rngs=rngs)
        self.norm2 = _batch_norm(width, rngs)
        self.conv3 = _conv(width, num_out, 1, rngs=rngs)
        self.norm3 = _batch_norm(num_out, rngs)
        if stride > 1 or num_in != num_out:
            conv = _conv(num_in, num_out, 1, stride=stride, rngs=rngs)
            self.shortcut = ConvNorm(conv, _batch_norm(num_out, rngs))
        else:
            self.shortcut = None

    def __call__(self, stream: Stream) -> NewStream:
        """The stream after this block."""
        hidden = nnx.relu(self.norm1(self.conv1(stream)))
        hidden = nnx.relu(self.norm2(self.conv2(hidden)))
        hidden = self.norm3(self.conv3(hidden))
        return nnx.relu(hidden + (self.shortcut(stream) if self.shortcut else stream))


class CifarResNet(nnx.Module):
    """A stem, three stages of basic blocks, the mean over pixels, a dense layer.

    LayerNorm, over the channels of each pixel, replaces BatchNorm (Ainsworth et al. 2022, A.3),
    except in subclasses with other blocks. The subclasses set the number of blocks per stage.
    """

    num_blocks: int
    block_type: type[BasicBlock] = BasicBlock
    suffix = ""  # of its name

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width_multiplier: int | float = 1,
        rngs: nnx.Rngs,
    ):
        name = f"resnet{6 * self.num_blocks + 2}{self.suffix}"
        stages = [
            (self.num_blocks, widths.scaled_width(name, width, width_multiplier))
            for width in CIFAR_WIDTHS
        ]
        stem_width = stages[0][1]
        self.stem = ConvNorm(
            _conv(image_shape[-1], stem_width, 3, rngs=rngs),
            self.block_type.make_norm(stem_width, rngs),
        )
        self.stages = _make_stages(self.block_type, stem_width, stages, rngs)
        self.head = nnx.Linear(stages[-1][1], num_classes, rngs=rngs)

    def __call__(self, images: Stream) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        stream = _run_stages(self.stages, nnx.relu(self.stem(images)))
        return self.head(stream.mean(axis=(1, 2)))


class ResNet8(CifarResNet):
    """One block per stage: small enough to train on a CPU."""

    num_blocks = 1


class ResNet20(CifarResNet):
    """Three blocks per stage: the network of the paper's Figures 2, 4 and 5."""

    num_blocks = 3


class ResNet32(CifarResNet):
    """Five blocks per stage."""

    num_blocks = 5


class ResNet8BatchNorm(ResNet8):
    """ResNet8 with BatchNorm, small enough for a CPU."""

    block_type = BatchNormBlock
    suffix = "_bn"


class ResNet20BatchNorm(ResNet20):
    """ResNet20 with BatchNorm, as He et al. 2016 have it but for the shortcuts."""

    block_type = BatchNormBlock
    suffix = "_bn"


class ResNet50(nnx.Module):
    """The ImageNet network with BatchNorm (He et al. 2016, version 1.5).

    Padding is symmetric, so that weights of torchvision fit.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width_multiplier: int | float = 1,
        rngs: nnx.Rngs,
    ):
        stages = [
            (num_blocks, widths.scaled_width("resnet50", width, width_multiplier))
            for num_blocks, width in BOTTLENECK_STAGES
        ]
        stem_width = stages[0][1]
        self.stem = ConvNorm(
            _conv(image_shape[-1], stem_width, 7, stride=2, padding=3, rngs=rngs),
            _batch_norm(stem_width, rngs),
        )
        self.stages = _make_stages(BottleneckBlock, stem_width, stages, rngs)
        self.head = nnx.Linear(BottleneckBlock.expansion * stages[-1][1], num_classes, rngs=rngs)

    def __call__(self, images: Stream) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        stream = nnx.relu(self.stem(images))
        stream = nnx.max_pool(stream, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return self.head(_run_stages(self.stages, stream).mean(axis=(1, 2)))


def _make_stages(
    block_type: type[BasicBlock] | type[BottleneckBlock],
    num_in: int,
    stages: list[tuple[int, int]],  # blocks and inner width of each
    rngs: nnx.Rngs,
) -> Stages:
    """Lists of blocks; every stage but the first starts by halving height and width."""
    made = nnx.List([])
    for stage, (num_blocks, width) in enumerate(stages):
        blocks = nnx.List([])
        for block in range(num_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(block_type(num_in, width, stride=stride, rngs=rngs))
            num_in = block_type.expansion * width
        made.append(blocks)
    return made


def _run_stages(stages: Stages, stream: Stream) -> NewStream:
    for blocks in stages:
        for block in blocks:
            stream = block(stream)
    return stream


def _conv(
    num_in: int,
    num_out: int,
    size: int,
    *,
    stride: int = 1,
    padding: int | str = "SAME",
    rngs: nnx.Rngs,
) -> nnx.Conv:
    return nnx.Conv(
        num_in,
        num_out,
        (size, size),
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_init=initializers.conv_kernel,
        rngs=rngs,
    )
