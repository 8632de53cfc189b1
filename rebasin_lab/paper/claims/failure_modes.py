"""Claims about failure modes (A.1, A.4).

Too little training is a failure mode, too; section 5.2 is about it, and so are the claims of
`onset`.
"""

import functools

from rebasin_lab.paper.claim import Claim, everywhere, from_laptop

claim = functools.partial(Claim, notebook="08_failures")

CLAIMS: tuple[Claim, ...] = (
    # The paper gives no numbers for its failures. A barrier twice as high is one that seeds do not
    # explain; where the barrier beside it is next to nothing, twice that is not much to ask.
    claim(
        id="a1-thin",
        section="A.1",
        statement="MLPs of too little width are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, a quarter of the width / the width",
        bounds=everywhere("at least", 2.0),
    ),
    claim(
        id="a1-low-lr-sgd",
        section="A.1",
        statement="MLPs trained by SGD at too low a learning rate are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, SGD at 0.001 / SGD at 0.1",
        bounds=everywhere("at least", 2.0),
    ),
    claim(
        id="a1-high-lr-adam",
        section="A.1",
        statement="MLPs trained by Adam at too high a learning rate are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, Adam at 0.01 / Adam at 0.001",
        bounds=everywhere("at least", 2.0),
    ),
    claim(
        id="a1-vgg-mnist",
        section="A.1",
        statement="VGGs trained on MNIST are not joined by matching.",
        paper="fails",
        quantity="permuted / naive train barrier",
        # More than fig2-mnist-ratio allows MLPs, which the paper counts as joined.
        bounds=from_laptop("at least", 0.1),
    ),
    claim(
        id="a1-convnext",
        section="A.1",
        statement="ConvNeXts, whose depth-wise convolutions have few symmetries, are not joined.",
        paper="fails",
        quantity="permuted / naive train barrier",
        bounds={},
        untestable="the lab has no ConvNeXt; the notebook counts its symmetries",
    ),
    # One bound for a collapse and for its absence: 0.7 of the standard deviation is half of the
    # variance. The layer is the last that has hidden units to read; losses of layers before it
    # have added up by then.
    claim(
        id="a4-batchnorm-collapse",
        section="A.4",
        statement="Half-way between matched BatchNorm networks the variance of units collapses.",
        paper="variance collapse",
        quantity="standard deviation of what the last layer reads, half-way / mean of the ends",
        bounds=everywhere("at most", 0.7),
    ),
    claim(
        id="a4-batchnorm-reset",
        section="A.4",
        statement="Measuring BatchNorm's statistics anew mends the merged network.",
        paper="recommended",
        quantity="test accuracy half-way, matched, statistics measured anew - averaged (points)",
        # REPAIR reports gains of 15 to 79 points.
        bounds=everywhere("at least", 10.0),
    ),
    claim(
        id="a4-layernorm-fine",
        section="A.4",
        statement="LayerNorm networks are free of that: nothing need be measured anew.",
        paper="fine",
        quantity="standard deviation of what the last layer reads, half-way / mean of the ends",
        bounds=everywhere("at least", 0.7),
    ),
    claim(
        id="a4-instancenorm",
        section="A.4",
        statement="InstanceNorm allows every permutation of channels (fine in principle).",
        paper="not tried",
        quantity="largest change of an output by random permutations, relative to the largest",
        bounds=everywhere("below", 1e-5),  # float32 sums in another order
    ),
    claim(
        id="a4-groupnorm",
        section="A.4",
        statement="GroupNorm does not allow every permutation of channels.",
        paper="not tried",
        quantity="largest change of an output by random permutations, relative to the largest",
        bounds=everywhere("at least", 0.01),  # ten thousand times the rounding
    ),
)
