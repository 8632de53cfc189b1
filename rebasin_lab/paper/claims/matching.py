"""Claims about the matching methods (section 3, A.7, A.11)."""

import functools

from rebasin_lab.paper.claim import Claim, everywhere, from_laptop

claim = functools.partial(Claim, notebook="03_weight_matching")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="lemma2-never-falls",
        section="3.2, Lemma 2",
        statement="No sweep of Algorithm 1 lowers the objective.",
        paper="proved",
        quantity="least rise of <A, pi(B)>, multiplied out anew, from sweep to sweep",
        # The last sweep changes nothing, so that its rise is 0 to the last bit.
        bounds=everywhere("at least", 0.0),
    ),
    claim(
        id="section3-planted",
        section="A.5",
        statement="Weight matching undoes a random permutation of a trained network exactly.",
        paper="exact, in 3-4 passes",
        quantity="fraction of the pair's networks whose planted permutation is recovered exactly",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a5-planted-passes",
        section="A.5",
        statement="Algorithm 1 undoes it in three or four passes.",
        paper="3-4",
        quantity="passes of Algorithm 1 over all layers, the last of which changes nothing",
        bounds=everywhere("at most", 4.0),
    ),
    claim(
        id="a5-resnet50-seconds",
        section="A.5",
        statement="Matching two ResNet50 takes half a minute.",
        paper="33 s (V100)",
        quantity="seconds of weight matching, networks as drawn",
        bounds=from_laptop("at most", 33.0),
    ),
    claim(
        id="a5-resnet20-seconds",
        section="A.5",
        statement="Matching two ResNet20 of 32 times the usual width takes some minutes.",
        paper="194 s (V100)",
        quantity="seconds of weight matching, networks as drawn",
        bounds=from_laptop("at most", 194.0),
    ),
    claim(
        id="lemma1-np-hard",
        section="3.2, Lemma 1",
        statement="To find the best permutations of an MLP of three layers or more is NP-hard.",
        paper="proved",
        quantity="-",
        bounds={},
        untestable="a theorem about the worst case; no run can show it",
    ),
    claim(
        id="section3-correlation",
        section="3.1",
        statement="Matching activations by correlation works as well as by second moment.",
        paper="said, no number",
        quantity="train loss barrier, by correlation - by second moment (nats)",
        # The resolution of the paper's plots.
        bounds=everywhere("at most", 0.02),
    ),
    claim(
        id="section3-equal-barriers",
        section="3, Fig. 2",
        statement="Activation matching, weight matching and the estimator all remove the barrier.",
        paper="near 0, all three",
        quantity="permuted / naive train loss barrier, the worst of the three",
        # The bound of fig2-mnist-ratio: the paper's plot shows one zero for all three.
        bounds=everywhere("at most", 0.1),
    ),
    claim(
        id="section3-ste-best",
        section="5.1, Fig. 2",
        statement="The straight-through estimator is best, though by little.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / the better of the two others",
        bounds=everywhere("at most", 1.0),
    ),
    claim(
        id="section3-ste-after-weight",
        section="3.3, Fig. 2",
        statement="The straight-through estimator is no worse than weight matching, its start.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / weight matching",
        bounds=everywhere("at most", 1.0),
    ),
    claim(
        id="a7-one-sweep",
        section="A.7",
        statement="Algorithm 1 run to its end leaves no higher a barrier than one pass of it.",
        paper="ResNet50: 51 % right in the middle, against 7 %",
        quantity="train loss barrier, to the end / after one sweep from the same seed",
        bounds=everywhere("at most", 1.0),
    ),
    claim(
        id="a11-steepest-descent",
        section="A.11",
        statement="The permutation that lies most steeply downhill of A is behind higher barriers.",
        paper="higher barriers",
        quantity="train loss barrier, steepest descent / weight matching (0 if not downhill at A)",
        bounds=everywhere("at least", 1.0),
    ),
)
