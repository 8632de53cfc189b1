"""Claims about the symmetry group (section 2, Table 1)."""

import functools

from rebasin_lab.paper.claim import Claim, everywhere

claim = functools.partial(Claim, notebook="01_symmetries")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="functional-equivalence",
        section="2",
        statement="Permuting the units of every hidden layer leaves the network's function as is.",
        paper="equal",
        quantity="largest change of a logit, relative to the largest logit",
        # float32 sums in another order: about 1e-6 after four layers.
        bounds=everywhere("below", 1e-5),
    ),
    claim(
        id="table1-mlp",
        section="Table 1",
        statement="An MLP with three hidden layers of 512 units has 10^3498 symmetries.",
        paper="3498",
        quantity="log10 of the count by the inferred spec, floors summed as in the paper",
        bounds=everywhere("equal to", 3498.0),
    ),
    claim(
        id="table1-vgg16",
        section="Table 1",
        statement="A VGG16 has 10^35160 symmetries.",
        paper="35160",
        quantity="log10 of the count, floors summed layer by layer as in the paper",
        bounds=everywhere("equal to", 35160.0),
    ),
    claim(
        id="table1-resnet50",
        section="Table 1",
        statement="A ResNet50 has 10^55109 symmetries.",
        paper="55109",
        quantity="log10 of the count by the inferred spec (residual streams tied), floored",
        bounds=everywhere("equal to", 55109.0),
    ),
)
