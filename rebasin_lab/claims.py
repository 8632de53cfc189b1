"""What the paper claims, as things that can fail, and the scoreboard of what was measured.

Every claim says before any run what is measured and which bound must hold, per profile: a bound is
never adjusted to a result. Where a claim is tested on several pairs of networks, *every* pair must
hold. A claim that fails is printed as not reproduced, with its numbers.
"""

import dataclasses
import html
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rebasin_lab import experiments

Status = Literal[
    "reproduced",
    "not reproduced",
    "not tested: settings changed",
    "not tested at this profile",
    "not run",
]

PROFILES = tuple(experiments.PROFILES)


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a measured number must satisfy."""

    relation: Literal["below", "at most", "at least", "equal to"]
    value: float

    def holds(self, measured: float) -> bool:
        """Whether one number satisfies the bound; a NaN never does."""
        return {
            "below": measured < self.value,
            "at most": measured <= self.value,
            "at least": measured >= self.value,
            "equal to": measured == self.value,
        }[self.relation]

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        id: how notebooks and figures refer to it.
        section: where the paper makes it.
        statement: what it says.
        paper: the paper's number, or its words where it gives none.
        quantity: what is measured, with its unit.
        notebook: where it is tested.
        bounds: profile -> the tolerance; a profile that is missing does not test the claim.
    """

    id: str
    section: str
    statement: str
    paper: str
    quantity: str
    notebook: str
    bounds: Mapping[str, Bound]


def _everywhere(relation: str, value: float) -> dict[str, Bound]:
    return {profile: Bound(relation, value) for profile in PROFILES}


_CLAIMS = (
    Claim(
        id="functional-equivalence",
        section="2",
        statement="Permuting the units of every hidden layer leaves the network's function as is.",
        paper="equal",
        quantity="largest change of a logit, relative to the largest logit",
        notebook="01_permutation_symmetries",
        # float32 sums in another order: about 1e-6 after four layers.
        bounds=_everywhere("below", 1e-5),
    ),
    Claim(
        id="table1-mlp",
        section="Table 1",
        statement="An MLP with three hidden layers of 512 units has 10^3498 symmetries.",
        paper="3498",
        quantity="log10 of the count by the inferred spec, floors summed as in the paper",
        notebook="01_permutation_symmetries",
        bounds=_everywhere("equal to", 3498.0),
    ),
    Claim(
        id="table1-vgg16",
        section="Table 1",
        statement="A VGG16 has 10^35160 symmetries.",
        paper="35160",
        quantity="log10 of the count, floors summed layer by layer as in the paper",
        notebook="01_permutation_symmetries",
        bounds=_everywhere("equal to", 35160.0),
    ),
    Claim(
        id="table1-resnet50",
        section="Table 1",
        statement="A ResNet50 has 10^55109 symmetries.",
        paper="55109",
        quantity="log10 of the count by the inferred spec (residual streams tied), floored",
        notebook="01_permutation_symmetries",
        bounds=_everywhere("equal to", 55109.0),
    ),
    Claim(
        id="lemma2-terminates",
        section="3.2, Lemma 2",
        statement="Weight matching ends by itself.",
        paper="terminates",
        quantity="sweeps until one changes nothing, of at most 100 (more: not converged)",
        notebook="04_loss_landscapes",
        bounds=_everywhere("below", 100.0),
    ),
    Claim(
        id="lemma2-never-falls",
        section="3.2, Lemma 2",
        statement="No sweep of Algorithm 1 lowers the objective.",
        paper="proved",
        quantity="least rise of <A, pi(B)>, multiplied out anew, from sweep to sweep",
        notebook="02_matching_methods",
        # The last sweep changes nothing, so that its rise is 0 to the last bit.
        bounds=_everywhere("at least", 0.0),
    ),
    Claim(
        id="weight-matching-seconds",
        section="A.5",
        statement="Matching two MLPs of 3x512 units takes seconds.",
        paper="3 s (V100)",
        quantity="seconds of weight matching",
        notebook="04_loss_landscapes",
        bounds=_everywhere("at most", 3.0),
    ),
    Claim(
        id="section3-planted",
        section="A.5",
        statement="Weight matching undoes a random permutation of a trained network exactly.",
        paper="exact, in 3-4 passes",
        quantity="fraction of the pair's networks whose planted permutation is recovered exactly",
        notebook="02_matching_methods",
        bounds=_everywhere("equal to", 1.0),
    ),
    Claim(
        id="section3-equal-barriers",
        section="3, Fig. 2",
        statement="Activation matching, weight matching and the estimator all remove the barrier.",
        paper="near 0, all three",
        quantity="permuted / naive train loss barrier, the worst of the three",
        notebook="02_matching_methods",
        # The bound of fig2-mnist-ratio: the paper's plot shows one zero for all three.
        bounds=_everywhere("at most", 0.1),
    ),
    Claim(
        id="section3-ste-best",
        section="5.1, Fig. 2",
        statement="The straight-through estimator is best, though by little.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / the better of the two others",
        notebook="02_matching_methods",
        bounds=_everywhere("at most", 1.0),
    ),
    Claim(
        id="section3-ste-after-weight",
        section="3.3, Fig. 2",
        statement="The straight-through estimator is no worse than weight matching, its start.",
        paper="shown, gap small",
        quantity="train loss barrier, straight-through / weight matching",
        notebook="02_matching_methods",
        bounds=_everywhere("at most", 1.0),
    ),
    Claim(
        id="fig6-perfect",
        section="4",
        statement="Both networks of the counterexample are perfect.",
        paper="0 errors",
        quantity="largest error at the ends of the four lines (fraction of inputs)",
        notebook="03_counterexample",
        bounds=_everywhere("equal to", 0.0),
    ),
    Claim(
        id="fig6-barrier",
        section="4, Fig. 6",
        statement="There are two perfect networks that no permutation joins without a barrier.",
        paper="0.25, all four",
        quantity="largest |error barrier - 1/4| over all four permutations (fraction of inputs)",
        notebook="03_counterexample",
        # The grid of 400 x 400 points is exact to 1/400; see counterexample.grid_points.
        bounds=_everywhere("at most", 1 / 400),
    ),
    Claim(
        id="fig6-closed-forms",
        section="4, Fig. 6",
        statement="The error on the four lines between them is known at every point.",
        paper="drawn",
        quantity="largest |measured - exact error| over four lines (fraction of inputs)",
        notebook="03_counterexample",
        bounds=_everywhere("at most", 1 / 400),
    ),
    Claim(
        id="fig6-weight-matching",
        section="4",
        statement="Weight matching finds the nearest permutation, both swaps, to no avail.",
        paper="implied",
        quantity="fraction of seeds that pick both swaps",
        notebook="03_counterexample",
        bounds=_everywhere("equal to", 1.0),
    ),
    Claim(
        id="fig1-midpoint",
        section="5.1, Fig. 1",
        statement="The middle between A and pi(B) lies in the basin, the middle to B does not.",
        paper="shown",
        quantity="test loss at the permuted middle / at the naive middle",
        notebook="04_loss_landscapes",
        bounds=_everywhere("below", 0.5),
    ),
    Claim(
        id="fig2-mnist-naive",
        section="5.1, Fig. 2",
        statement="Two MLPs trained on MNIST are separated by a loss barrier.",
        paper="0.87 at epoch 100, 1.24 at 25",
        quantity="naive train loss barrier (nats)",
        notebook="04_loss_landscapes",
        bounds={
            "quick": Bound("at least", 0.3),
            "laptop": Bound("at least", 0.5),
            "paper": Bound("at least", 0.5),
        },
    ),
    Claim(
        id="fig2-mnist-matched",
        section="5.1, Fig. 2",
        statement="Weight matching takes the barrier away.",
        paper="0.00 at epoch 100, 0.01 at 25",
        quantity="permuted train loss barrier (nats)",
        notebook="04_loss_landscapes",
        # Zero within the resolution of the paper's plot; with ends that differ a little the
        # definition's minimum is half their difference, not zero.
        bounds=_everywhere("at most", 0.02),
    ),
    Claim(
        id="fig2-mnist-ratio",
        section="5.1, Fig. 2",
        statement="The permuted barrier is a small fraction of the naive one.",
        paper="near 0",
        quantity="permuted / naive train loss barrier",
        notebook="04_loss_landscapes",
        bounds=_everywhere("below", 0.1),
    ),
    Claim(
        id="fig2-mnist-middle",
        section="5.1, Fig. 2",
        statement="After matching, the test loss does not rise in the middle of the line.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus mean of the ends (nats)",
        notebook="04_loss_landscapes",
        bounds=_everywhere("at most", 0.0),
    ),
    Claim(
        id="fig2-mnist-below-both",
        section="5.1, Fig. 2",
        statement="After matching, the middle has a lower test loss than either end.",
        paper="0.09, ends 0.12 and 0.16",
        quantity="permuted test loss, middle minus lower end (nats)",
        notebook="04_loss_landscapes",
        bounds=_everywhere("below", 0.0),
    ),
    Claim(
        id="fig9-mnist-naive",
        section="5.1, Fig. 9",
        statement="Without matching, the middle of the line is much less accurate than its ends.",
        paper="18 at epoch 100",
        quantity="drop of test accuracy at the naive middle (points)",
        notebook="04_loss_landscapes",
        bounds=_everywhere("at least", 5.0),
    ),
    Claim(
        id="fig9-mnist-matched",
        section="5.1, Fig. 9",
        statement="After matching, the middle of the line is as accurate as its ends.",
        paper="0",
        quantity="drop of test accuracy at the permuted middle (points)",
        notebook="04_loss_landscapes",
        bounds=_everywhere("at most", 1.0),
    ),
    Claim(
        id="a7-one-sweep",
        section="A.7",
        statement="Algorithm 1 run to its end leaves no higher a barrier than one pass of it.",
        paper="ResNet50: 51 % right in the middle, against 7 %",
        quantity="train loss barrier, to the end / after one sweep from the same seed",
        notebook="02_matching_methods",
        bounds=_everywhere("at most", 1.0),
    ),
    Claim(
        id="a72-greedy-slope",
        section="A.7.2",
        statement="Matching greedily, layer by layer, can lose half of a function.",
        paper="0.505 (ends 1, 1.01)",
        quantity="slope of the linear network in the middle of the line, matched greedily",
        notebook="03_counterexample",
        bounds=_everywhere("below", 0.51),
    ),
    Claim(
        id="a72-weight-matching",
        section="A.7.2",
        statement="Weight matching finds both swaps there, in any order of layers.",
        paper="both, in any order",
        # The slope alone would not tell: one sweep may leave the first layer and have it, too.
        quantity="fraction of seeds that pick both swaps",
        notebook="03_counterexample",
        bounds=_everywhere("equal to", 1.0),
    ),
    Claim(
        id="a72-weight-matching-slope",
        section="A.7.2",
        statement="What weight matching finds loses nothing of the function.",
        paper="0: the slope is 1.005",
        quantity="largest |slope in the middle - mean of the ends| over seeds",
        notebook="03_counterexample",
        # The weights are float64 and permuted, not computed with.
        bounds=_everywhere("at most", 1e-9),
    ),
    Claim(
        id="a11-steepest-descent",
        section="A.11",
        statement="The permutation that lies most steeply downhill of A is behind higher barriers.",
        paper="higher barriers",
        quantity="train loss barrier, steepest descent / weight matching (0 if not downhill at A)",
        notebook="02_matching_methods",
        bounds=_everywhere("at least", 1.0),
    ),
)

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _CLAIMS}


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """What a run measured for a claim.

    Attributes:
        claim: the claim.
        profile: the profile of the run.
        measured: one number per pair of networks, or a single one.
        changed: whether single settings of the profile were changed: then the numbers are shown,
            but say nothing about the claim.
    """

    claim: Claim
    profile: str
    measured: tuple[float, ...] = ()
    changed: bool = False

    @property
    def status(self) -> Status:
        """Reproduced only if every measured number satisfies the bound."""
        if self.profile not in self.claim.bounds:
            return "not tested at this profile"
        if not self.measured:
            return "not run"
        if self.changed:
            return "not tested: settings changed"
        bound = self.claim.bounds[self.profile]
        held = all(bound.holds(value) for value in self.measured)
        return "reproduced" if held else "not reproduced"

    @property
    def measured_text(self) -> str:
        """The mean, and the range where there is one."""
        if not self.measured:
            return "-"
        mean = math.fsum(self.measured) / len(self.measured)
        if len(self.measured) == 1:
            return _format(mean)
        low, high = _format(min(self.measured)), _format(max(self.measured))
        return f"{_format(mean)} ({low} ... {high}, {len(self.measured)} pairs)"

    @property
    def tolerance(self) -> str:
        """The bound at this profile."""
        bound = self.claim.bounds.get(self.profile)
        return str(bound) if bound else "-"

    def _repr_html_(self) -> str:
        """One line for a notebook cell."""
        text = f"{self.claim.quantity}: {self.measured_text}, must be {self.tolerance}"
        return f"<p>{html.escape(text)}: <b>{self.status}</b></p>"

    def as_row(self) -> dict[str, Any]:
        """One row of the scoreboard, JSON-ready."""
        return {
            "claim": self.claim.id,
            "section": self.claim.section,
            "statement": self.claim.statement,
            "paper": self.claim.paper,
            "quantity": self.claim.quantity,
            "measured": list(self.measured),
            "measured_text": self.measured_text,
            "tolerance": self.tolerance,
            "status": self.status,
            "notebook": self.claim.notebook,
        }


def measure(
    claim_id: str, profile: str, measured: float | Iterable[float], *, changed: bool = False
) -> ClaimResult:
    """Hold measured numbers against a claim.

    Raises:
        ValueError: for an unknown claim, or no number at all.
    """
    if claim_id not in CLAIMS:
        raise ValueError(f"Expected a claim among {sorted(CLAIMS)}; got {claim_id!r}.")
    values = tuple(float(v) for v in (measured if isinstance(measured, Iterable) else [measured]))
    if not values:
        raise ValueError(f"Expected at least one measured number for '{claim_id}'; got none.")
    return ClaimResult(CLAIMS[claim_id], profile, values, changed)


def scoreboard(
    profile: str, measured: Mapping[str, Iterable[float]], *, changed: bool = False
) -> list[ClaimResult]:
    """All claims, in order, with what was measured for them."""
    return [
        ClaimResult(claim, profile, tuple(measured.get(claim.id, ())), changed)
        for claim in CLAIMS.values()
    ]


def _format(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.2e}" if abs(value) < 5e-4 else f"{value:.4g}"
