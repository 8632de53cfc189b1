"""ConvNeXt (A.1): how many symmetries do its depth-wise convolutions leave?

The paper could not join ConvNeXts and suspects these layers. None is trained here; the symmetries
are counted from shapes, beside those of the same network with ordinary convolutions.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from rebasin_lab import pytrees, symmetry
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Prose, Record, Table

# ConvNeXt-T: blocks and channels of each stage.
DEPTHS = (3, 3, 9, 3)
WIDTHS = (96, 192, 384, 768)
VGG16 = 35_160  # log10 of its symmetries, by the paper's Table 1
IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def convolve(images: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve; a kernel of fewer input channels than the images have is one of groups."""
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1] // kernel.shape[2],
    )


def apply(params: PyTree, images: Array) -> Array:
    """Return the outputs of a ConvNeXt without biases and scales.

    These follow their channel, and neither add a symmetry nor take one away.
    """
    for stage in params["stages"]:
        images = convolve(images, stage["patches"], stage["patches"].shape[0])
        for block in stage["blocks"]:
            hidden = convolve(images, block["mix"])
            hidden = (hidden - hidden.mean(-1, keepdims=True)) / hidden.std(-1, keepdims=True)
            images = images + jax.nn.gelu(hidden @ block["up"]) @ block["down"]
    return images.mean((1, 2)) @ params["head"]


def shapes(
    *, depth_wise: bool, depths: tuple[int, ...] = DEPTHS, widths: tuple[int, ...] = WIDTHS
) -> PyTree:
    """Return the shapes of its parameters, with depth-wise convolutions or ordinary ones."""

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def block(width: int) -> dict[str, Any]:
        return {
            "mix": array(7, 7, 1 if depth_wise else width, width),
            "up": array(width, 4 * width),
            "down": array(4 * width, width),
        }

    sizes = zip((4, *[2] * (len(widths) - 1)), (3, *widths[:-1]), widths, depths, strict=True)
    stages = [
        {"patches": array(size, size, before, width), "blocks": [block(width)] * depth}
        for size, before, width, depth in sizes
    ]
    return {"stages": stages, "head": array(widths[-1], 1000)}


@dataclasses.dataclass(frozen=True, eq=False)
class Symmetries(Record):
    """Symmetries of networks, by their names.

    Attributes:
        parameters: millions of them.
        permutations: that can be chosen, one for each group of units.
        exponents: log10 of how many symmetries there are.
    """

    parameters: Mapping[str, float]
    permutations: Mapping[str, int]
    exponents: Mapping[str, float]

    def table(self) -> Table:
        """Return all of it, and the VGG16 of the paper's Table 1."""
        return Table(
            rows=[*self.exponents, "VGG16 of Table 1"],
            corner="network",
            columns=[
                Column("parameters", "million", [*self.parameters.values(), None], digits=0),
                Column("permutations", "", [*map(str, self.permutations.values()), None]),
                Column("symmetries", "", [f"10^{n:,.0f}" for n in self._all]),
            ],
        )

    def reading(self) -> Prose:
        """Return in words how few these are."""
        depth_wise, ordinary, vgg = self._all
        verdict = (
            "fewer, but not few. If the number of symmetries decided, ConvNeXt would be easier to "
            "join than VGG16, which the paper does join: **counting does not explain this failure**"
            if depth_wise > vgg
            else "fewer than a VGG16 has, which the paper does join"
        )
        return Prose(
            "**What we counted.** With depth-wise convolutions the exponent is "
            f"{quantity(100 * depth_wise / ordinary, '%', digits=0)} of that with ordinary ones, "
            f"and {quantity(depth_wise / vgg, '', digits=1)} times that of VGG16: {verdict}."
        )

    @property
    def _all(self) -> list[float]:
        return [*self.exponents.values(), VGG16]


def symmetries(**sizes: Any) -> tuple[float, int]:
    """Return log10 of the symmetries of a ConvNeXt of `shapes(**sizes)`, and its permutations."""
    params = shapes(**sizes)
    spec = symmetry.infer_permutation_spec(apply, params, IMAGES)
    return symmetry.log10_num_symmetries(spec, params), len(spec.permutations)


def count_symmetries() -> Symmetries:
    """Count the symmetries of ConvNeXt-T, with depth-wise convolutions and with ordinary ones."""
    kinds = {"ConvNeXt, depth-wise": True, "ConvNeXt, ordinary convolutions": False}
    counts = {name: symmetries(depth_wise=kind) for name, kind in kinds.items()}
    return Symmetries(
        {n: pytrees.num_parameters(shapes(depth_wise=kind)) / 1e6 for n, kind in kinds.items()},
        {name: permutations for name, (_, permutations) in counts.items()},
        {name: exponent for name, (exponent, _) in counts.items()},
    )
