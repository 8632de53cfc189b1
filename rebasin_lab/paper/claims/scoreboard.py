"""The status of each claim, the number of claims of each status, and the table of all.

A row of the table is `ClaimResult.as_row`, JSON-ready; the console, the report of a run and the
gallery of figures show the same rows under the headings of `COLUMNS`.
"""

import collections
import dataclasses
import math
import textwrap
from collections.abc import Iterable
from typing import Any, Literal

from rebasin_lab import texts
from rebasin_lab.paper.claim import PROFILES, Claim

# In the order in which a tally names them.
STATUSES = (
    "reproduced",
    "not reproduced",
    "too small to judge",
    "not tested: settings changed",
    *(f"needs profile {profile}" for profile in PROFILES),
    "not testable here",
    "not run",
)

# Fields of a row that a reader sees, and their headings.
COLUMNS = {
    "section": "section",
    "statement": "claim",
    "paper": "paper",
    "quantity": "quantity",
    "measured_text": "measured",
    "tolerance": "must be",
    "status": "status",
}


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """The numbers that a run measured for a claim.

    Attributes:
        claim: the claim.
        profile: the profile of the run.
        measured: one number per pair of networks, or a single one.
        changed: whether single settings of the profile were changed: then the numbers are shown,
            and the claim stays open.
    """

    claim: Claim
    profile: str
    measured: tuple[float, ...] = ()
    changed: bool = False

    @property
    def status(self) -> str:
        """One of `STATUSES`; reproduced only if every measured number satisfies the bound.

        Numbers nearer to the bound than the profile's resolution decide nothing.
        """
        if self.claim.untestable:
            return "not testable here"
        if self.profile not in self.claim.bounds:
            return f"needs profile {next(p for p in PROFILES if p in self.claim.bounds)}"
        if not self.measured:
            return "not run"
        if self.changed:
            return "not tested: settings changed"
        bound = self.claim.bounds[self.profile]
        limit = self.claim.resolution.get(self.profile)
        clear = [v for v in self.measured if not (limit and bound.distance(v) < limit.value)]
        if not all(map(bound.holds, clear)):
            return "not reproduced"
        return "reproduced" if len(clear) == len(self.measured) else "too small to judge"

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
        if not bound:
            return "-"
        limit = self.claim.resolution.get(self.profile)
        return f"{bound}, by {limit.value:g} or more ({limit.reason})" if limit else str(bound)

    @property
    def reason(self) -> str:
        """How many numbers miss the bound, and the worst of them; "" if the claim did not fail."""
        if self.status != "not reproduced":
            return ""
        bound = self.claim.bounds[self.profile]
        missed = [value for value in self.measured if not bound.holds(value)]
        worst = max(missed, key=lambda value: (math.isnan(value), bound.distance(value)))
        text = f"{_format(worst)} is not {bound}"
        if len(self.measured) == 1:
            return text
        return f"{len(missed)} of {len(self.measured)} miss the bound: at worst {text}"

    @property
    def why(self) -> str:
        """The reason why the claim failed at this profile, if that is known and it did; or ""."""
        return self.claim.why.get(self.profile, "") if self.status == "not reproduced" else ""

    def _repr_html_(self) -> str:
        """Return a line for a notebook cell, and the reason for a failure."""
        text = f"{self.claim.quantity}: {self.measured_text}, must be {self.tolerance}"
        why = f"<br>{texts.as_html(self.why)}" if self.why else ""
        return f"<p>{texts.as_html(text)}: <b>{texts.as_html(self.status)}</b>{why}</p>"

    def as_row(self) -> dict[str, Any]:
        """Return one row of the scoreboard, JSON-ready."""
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


def kind_of(status: str) -> Literal["yes", "no", "untested"]:
    """Return the verdict that a status is."""
    return {"reproduced": "yes", "not reproduced": "no"}.get(status, "untested")


def as_text(results: Iterable[ClaimResult], title: str) -> str:
    """Return the scoreboard as text: claim, paper's number, measured, tolerance, status, reason."""
    results = list(results)
    rows = [result.as_row() for result in results]
    marks = {"yes": "[yes]", "no": "[NO] ", "untested": "[--] "}
    lines = [*textwrap.wrap(f"Scoreboard, {title}", 100), tally(row["status"] for row in rows), ""]
    for result, row in zip(results, rows, strict=True):
        claim = f"{marks[kind_of(row['status'])]} {row['statement']} (section {row['section']})"
        lines += textwrap.wrap(claim, 100, subsequent_indent=" " * 6)
        must_be = "" if row["status"] == "not testable here" else "must be "
        lines.append(f"      {row['quantity']}:")
        lines.append(
            f"      paper {row['paper']} | measured {row['measured_text']} | "
            f"{must_be}{row['tolerance']} | {row['status']}"
        )
        indent = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}
        lines += textwrap.wrap(result.why, 100, **indent)
    return "\n".join(lines)


def tally(statuses: Iterable[str]) -> str:
    """Return the number of claims of each status, in a line."""
    counts = collections.Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _format(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.2e}" if abs(value) < 5e-4 else f"{value:.4g}"
