"""Claims about lines and planes between networks (section 5.1)."""

import functools

from rebasin_lab.paper.claim import Bound, Claim, at_paper, everywhere, from_laptop

claim = functools.partial(Claim, notebook="02_line_and_barrier")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="lemma2-terminates",
        section="3.2, Lemma 2",
        statement="Weight matching ends by itself.",
        paper="terminates",
        quantity="sweeps until one changes nothing, of at most 100 (more: not converged)",
        bounds=everywhere("below", 100.0),
    ),
    claim(
        id="weight-matching-seconds",
        section="A.5",
        statement="Matching two MLPs of 3x512 units takes seconds.",
        paper="3 s (V100)",
        quantity="seconds of weight matching",
        bounds=everywhere("at most", 3.0),
    ),
    claim(
        id="fig1-midpoint",
        section="5.1, Fig. 1",
        statement="The middle between A and pi(B) lies in the basin, the middle to B does not.",
        paper="shown",
        quantity="test loss at the permuted middle / at the naive middle",
        bounds=everywhere("below", 0.5),
    ),
    claim(
        id="fig2-mnist-naive",
        section="5.1, Fig. 2",
        statement="Two MLPs trained on MNIST are separated by a loss barrier.",
        paper="0.87 at epoch 100, 1.24 at 25",
        quantity="naive train loss barrier (nats)",
        bounds={
            "quick": Bound("at least", 0.3),
            "laptop": Bound("at least", 0.5),
            "paper": Bound("at least", 0.5),
        },
    ),
    claim(
        id="fig2-mnist-matched",
        section="5.1, Fig. 2",
        statement="Weight matching takes the barrier away.",
        paper="0.00 at epoch 100, 0.01 at 25",
        quantity="permuted train loss barrier (nats)",
        # Zero within the resolution of the paper's plot; with ends that differ a little the
        # definition's minimum is half their difference, not zero.
        bounds=everywhere("at most", 0.02),
    ),
    claim(
        id="fig2-mnist-ratio",
        section="5.1, Fig. 2",
        statement="The permuted barrier is a small fraction of the naive one.",
        paper="near 0",
        quantity="permuted / naive train loss barrier",
        bounds=everywhere("below", 0.1),
    ),
    claim(
        id="fig2-mnist-middle",
        section="5.1, Fig. 2",
        statement="After matching, the test loss does not rise in the middle of the line.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus mean of the ends (nats)",
        bounds=everywhere("at most", 0.0),
    ),
    claim(
        id="fig2-mnist-below-both",
        section="5.1, Fig. 2",
        statement="After matching, the middle has a lower test loss than either end.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus lower end (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig9-mnist-naive",
        section="5.1, Fig. 9",
        statement="Without matching, the middle of the line is much less accurate than its ends.",
        paper="18 at epoch 100",
        quantity="drop of test accuracy at the naive middle (points)",
        bounds=everywhere("at least", 5.0),
    ),
    claim(
        id="fig9-mnist-matched",
        section="5.1, Fig. 9",
        statement="After matching, the middle of the line is as accurate as its ends.",
        paper="0",
        quantity="drop of test accuracy at the permuted middle (points)",
        bounds=everywhere("at most", 1.0),
    ),
    claim(
        id="fig2-slerp",
        section="5.1, footnote 3",
        statement="Spherical interpolation does not differ much from linear interpolation.",
        paper="slightly better in some cases, not significantly",
        quantity="|train loss half-way on the chord - on the arc| after matching (nats)",
        # The resolution of the paper's plot, as for a barrier of zero.
        bounds=everywhere("at most", 0.02),
    ),
    claim(
        id="fig2-cifar-mlp",
        section="5.1, Fig. 2",
        statement="On CIFAR-10, too, matching takes most of an MLP's barrier away.",
        paper="shown",
        quantity="train loss barrier, permuted / naive",
        # Half: the network is too small for the task, and trained for fewer epochs than theirs.
        bounds=from_laptop("below", 0.5),
    ),
    claim(
        id="fig2-cifar-mlp-zero",
        section="5.1, Fig. 2",
        statement="On CIFAR-10 an MLP's barrier is next to zero after matching.",
        paper="about 0.015 nats (Fig. 3, epoch 22)",
        quantity="train loss barrier after weight matching (nats)",
        # The curve of Fig. 3 is noisy by about as much as its value.
        bounds=at_paper("at most", 0.05),
    ),
    claim(
        id="fig2-resnet",
        section="5.1, Fig. 2",
        statement="Matching lowers the barrier between two ResNets.",
        paper="shown",
        quantity="train loss barrier, permuted / naive",
        bounds=from_laptop("below", 1.0),
    ),
    claim(
        id="fig2-resnet-accuracy",
        section="5.1, Fig. 9",
        statement="Matching raises the accuracy half-way between two ResNets.",
        paper="shown",
        quantity="test accuracy half-way, permuted - naive (points)",
        bounds=from_laptop("at least", 1.0),
    ),
    claim(
        id="fig2-resnet-zero",
        section="5.1, Fig. 2",
        statement="Two ResNet20 of 32 times the usual width have no barrier after matching.",
        paper="0",
        quantity="train loss barrier after weight matching (nats)",
        # The resolution of the paper's plot, as for the MLP.
        bounds=at_paper("at most", 0.02),
    ),
    claim(
        id="fig2-imagenet-loss",
        section="5.1, Fig. 2",
        statement="On ImageNet, weight matching lowers the loss barrier of two ResNet50 by 67 %.",
        paper="67 %",
        quantity="reduction of the loss barrier by the authors' own curve (%)",
        # What rounds to 67, or to less.
        bounds=everywhere("below", 67.5),
    ),
    claim(
        id="fig12-imagenet-top1",
        section="5.1, Fig. 12",
        statement="On ImageNet, weight matching lowers the barrier of top-1 accuracy by 67 %.",
        paper="67 % (said of the loss)",
        quantity="reduction of the top-1 barrier by the authors' own curve (%)",
        bounds=everywhere("below", 67.5),
    ),
    claim(
        id="fig8-weight-matching",
        section="A.7, Fig. 8",
        statement="Half-way, two matched ResNet50 have a top-1 accuracy of 51.01 % on ImageNet.",
        paper="51.01 %",
        quantity="top-1 accuracy half-way by the authors' own curve (%)",
        bounds=everywhere("equal to", 51.01),
    ),
    claim(
        id="fig8-ot-fusion",
        section="A.7, Fig. 8",
        statement="Half-way, OT-Fusion leaves a top-1 accuracy of 1.38 % on ImageNet.",
        paper="1.38 %",
        quantity="top-1 accuracy half-way by the authors' own curve (%)",
        bounds=everywhere("equal to", 1.38),
    ),
    claim(
        id="a7-imagenet-one-pass",
        section="A.7.1",
        statement="A single pass of weight matching leaves about 7 % top-1 accuracy on ImageNet.",
        paper="about 7 %",
        quantity="top-1 accuracy half-way (%)",
        bounds={},
        untestable="needs ImageNet and the authors' two networks; a7-one-sweep is its small twin",
    ),
    claim(
        id="table2-vgg11",
        section="A.7, Table 2",
        statement="Weight matching merges two VGG11 better and 4.5 times faster than OT-Fusion.",
        paper="86.57 % in 0.64 s against 85.98 % in 2.86 s",
        quantity="test accuracy half-way (%)",
        bounds={},
        untestable="needs the weights that OT-Fusion's authors released",
    ),
)
