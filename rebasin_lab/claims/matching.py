"""Claims about the matching methods (section 3, A.7, A.11)."""

from rebasin_lab.claims.claim import Claim, everywhere

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="lemma2-never-falls",
        section="3.2, Lemma 2",
        statement="No sweep of Algorithm 1 lowers the objective.",
        paper="proved",
        quantity="least rise of <A, pi(B)>, multiplied out anew, from sweep to sweep",
        notebook="02_matching_methods",
        # The last sweep changes nothing, so that its rise is 0 to the last bit.
        bounds=everywhere("at least", 0.0),
    ),
    Claim(
        id="section3-planted",
        section="A.5",
        statement="Weight matching undoes a random permutation of a trained network exactly.",
        paper="exact, in 3-4 passes",
        quantity="fraction of the pair's networks whose planted permutation is recovered exactly",
        notebook="02_matching_methods",
        bounds=everywhere("equal to", 1.0),
    ),
    Claim(
        id="section3-equal-barriers",
        section="3, Fig. 2",
        statement="Activation matching, weight matching and the estimator all remove the barrier.",
        paper="near 0, all three",
        quantity="permuted / naive train loss barrier, the worst of the three",
        notebook="02_matching_methods",
        # The bound of fig2-mnist-ratio: the paper's plot shows one zero for all three.
        bounds=everywhere("at most", 0.1),
    ),
    Claim(
        id="section3-ste-best",
        section="5.1, Fig. 2",
        statement="The straight-through estimator is best, though by little.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / the better of the two others",
        notebook="02_matching_methods",
        bounds=everywhere("at most", 1.0),
    ),
    Claim(
        id="section3-ste-after-weight",
        section="3.3, Fig. 2",
        statement="The straight-through estimator is no worse than weight matching, its start.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / weight matching",
        notebook="02_matching_methods",
        bounds=everywhere("at most", 1.0),
    ),
    Claim(
        id="a7-one-sweep",
        section="A.7",
        statement="Algorithm 1 run to its end leaves no higher a barrier than one pass of it.",
        paper="ResNet50: 51 % right in the middle, against 7 %",
        quantity="train loss barrier, to the end / after one sweep from the same seed",
        notebook="02_matching_methods",
        bounds=everywhere("at most", 1.0),
    ),
    Claim(
        id="a11-steepest-descent",
        section="A.11",
        statement="The permutation that lies most steeply downhill of A is behind higher barriers.",
        paper="higher barriers",
        quantity="train loss barrier, steepest descent / weight matching (0 if not downhill at A)",
        notebook="02_matching_methods",
        bounds=everywhere("at least", 1.0),
    ),
)
