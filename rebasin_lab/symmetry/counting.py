"""Count the permutations that keep a network's function (Ainsworth et al. 2022, Table 1).

The symmetry group of a network with tied groups of sizes n_1, n_2, ... has n_1! n_2! ... elements;
a group that varies along another counts once for every slot of that.
The paper counts differently: it sums the *floors* of log10(n!) over layers, and for the ResNet50
over every convolution as if residual streams were not tied.
"""

import math
from collections.abc import Iterable

from jaxtyping import PyTree

from rebasin_lab import checks
from rebasin_lab.symmetry.spec import PermutationSpec

# Output widths of the layers Table 1 counts. VGG16 there has the original 4096-wide classifier.
MLP_WIDTHS = (512,) * 3
VGG16_WIDTHS = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6, 4096, 4096)
RESNET50_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # (bottleneck blocks, inner width)
RESNET50_WIDTHS = (
    64,
    *(width for blocks, n in RESNET50_STAGES for _ in range(blocks) for width in (n, n, 4 * n)),
)


def log10_factorial(n: int) -> float:
    """log10(n!)."""
    return math.lgamma(n + 1) / math.log(10)


@checks.arguments
def log10_num_symmetries(spec: PermutationSpec, params: PyTree) -> float:
    """The base-10 logarithm of the number of permutations that keep the function."""
    return math.fsum(
        math.prod(slots) * log10_factorial(size) for *slots, size in spec.shapes(params).values()
    )


@checks.arguments
def log10_by_paper(widths: Iterable[int]) -> int:
    """The count of Table 1: the sum over layers of floor(log10(n!))."""
    return sum(math.floor(log10_factorial(width)) for width in widths)
