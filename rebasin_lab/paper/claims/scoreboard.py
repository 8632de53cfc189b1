"""What became of the claims: a status for each, and how many have which."""

import collections
import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from rebasin_lab import texts
from rebasin_lab.paper.claims.claim import PROFILES, Claim

# In the order in which a tally names them.
STATUSES = (
    "reproduced",
    "not reproduced",
    "not tested: settings changed",
    *(f"needs profile {profile}" for profile in PROFILES),
    "not testable here",
    "not run",
)


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
    def status(self) -> str:
        """One of `STATUSES`; reproduced only if every measured number satisfies the bound."""
        if self.claim.untestable:
            return "not testable here"
        if self.profile not in self.claim.bounds:
            return f"needs profile {next(p for p in PROFILES if p in self.claim.bounds)}"
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
        """The bound at this profile, or why there is none."""
        if self.claim.untestable:
            return self.claim.untestable
        bound = self.claim.bounds.get(self.profile)
        return str(bound) if bound else "-"

    def _repr_html_(self) -> str:
        """One line for a notebook cell."""
        text = f"{self.claim.quantity}: {self.measured_text}, must be {self.tolerance}"
        return f"<p>{texts.as_html(text)}: <b>{texts.as_html(self.status)}</b></p>"

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


def tally(statuses: Iterable[str]) -> str:
    """How many claims have which status, in a line."""
    counts = collections.Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _format(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.2e}" if abs(value) < 5e-4 else f"{value:.4g}"
