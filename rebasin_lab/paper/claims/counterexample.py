"""Claims about the counterexamples (section 4, A.7.2)."""

import functools

from rebasin_lab.paper.claim import Claim, everywhere

claim = functools.partial(Claim, notebook="05_counterexample")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig6-perfect",
        section="4",
        statement="Both networks of the counterexample are perfect.",
        paper="0 errors",
        quantity="largest error at the ends of the four lines (fraction of inputs)",
        bounds=everywhere("equal to", 0.0),
    ),
    claim(
        id="fig6-barrier",
        section="4, Fig. 6",
        statement="There are two perfect networks that no permutation joins without a barrier.",
        paper="0.25, all four",
        quantity="largest |error barrier - 1/4| over all four permutations (fraction of inputs)",
        # The grid of 400 x 400 points is exact to 1/400; see counterexample.grid_points.
        bounds=everywhere("at most", 1 / 400),
    ),
    claim(
        id="fig6-closed-forms",
        section="4, Fig. 6",
        statement="The error on the four lines between them is known at every point.",
        paper="drawn",
        quantity="largest |measured - exact error| over four lines (fraction of inputs)",
        bounds=everywhere("at most", 1 / 400),
    ),
    claim(
        id="fig6-weight-matching",
        section="4",
        statement="Weight matching finds the nearest permutation, both swaps, to no avail.",
        paper="implied",
        quantity="fraction of seeds that pick both swaps",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a72-greedy-slope",
        section="A.7.2",
        statement="Matching greedily, layer by layer, can lose half of a function.",
        paper="0.505 (ends 1, 1.01)",
        quantity="slope of the linear network in the middle of the line, matched greedily",
        bounds=everywhere("below", 0.51),
    ),
    claim(
        id="a72-weight-matching",
        section="A.7.2",
        statement="Weight matching finds both swaps there, in any order of layers.",
        paper="both, in any order",
        # The slope alone does not show it: one sweep may leave the first layer and have it, too.
        quantity="fraction of seeds that pick both swaps",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a72-weight-matching-slope",
        section="A.7.2",
        statement="What weight matching finds loses nothing of the function.",
        paper="0: the slope is 1.005",
        quantity="largest |slope in the middle - mean of the ends| over seeds",
        # The weights are float64 and permuted, not computed with.
        bounds=everywhere("at most", 1e-9),
    ),
)
