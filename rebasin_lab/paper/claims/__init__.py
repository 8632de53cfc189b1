"""The paper's claims, as statements that can fail, and the scoreboard of what was measured.

Every claim fixes before any run what is measured and which bound must hold, per profile: a bound is
never adjusted to a result. Where a claim is tested on several pairs of networks, *every* pair must
hold, or a statistic over all of them. A claim that fails is printed as not reproduced, with its
numbers. `paper.claim` defines a claim, `scoreboard` its status; the sections hold the claims.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rebasin_lab import checks
from rebasin_lab.paper.claim import PROFILES, Bound, Claim, Resolution
from rebasin_lab.paper.claims.scoreboard import (
    COLUMNS,
    STATUSES,
    ClaimResult,
    as_text,
    kind_of,
    tally,
)
from rebasin_lab.paper.sections import SECTIONS

# In the order of the notebooks.
CLAIMS: dict[str, Claim] = {
    claim.id: claim for section in SECTIONS.values() for claim in section.CLAIMS
}

__all__ = [
    "CLAIMS",
    "COLUMNS",
    "PROFILES",
    "STATUSES",
    "Bound",
    "Claim",
    "ClaimResult",
    "Resolution",
    "as_text",
    "kind_of",
    "measure",
    "reason",
    "scoreboard",
    "tally",
    "why",
]


def reason(row: Mapping[str, Any], profile: str) -> str:
    """Say by how much a claim that is not reproduced missed its bound; "" for any other claim.

    Args:
        row: of a scoreboard, see `ClaimResult.as_row`.
        profile: of its run.
    """
    claim = _failed(row)
    return ClaimResult(claim, profile, tuple(row["measured"])).reason if claim else ""


def why(row: Mapping[str, Any], profile: str) -> str:
    """Return the reason in words why a claim is not reproduced; "" for any other, and if unknown.

    It is looked up, not read from the row: a scoreboard that is kept has the reasons of today.

    Args:
        row: of a scoreboard, see `ClaimResult.as_row`.
        profile: of its run.
    """
    claim = _failed(row)
    return claim.why.get(profile, "") if claim else ""


def _failed(row: Mapping[str, Any]) -> Claim | None:
    """Return the claim of a row, if it is not reproduced there and still known."""
    return CLAIMS.get(row["claim"]) if row["status"] == "not reproduced" else None


@checks.arguments
def measure(claim_id: str, profile: str, measured: Any, *, changed: bool = False) -> ClaimResult:
    """Hold measured numbers against a claim.

    Raises:
        ValueError: for an unknown claim, or no number at all.
    """
    checks.choice("a claim", claim_id, sorted(CLAIMS), "measure")
    checks.choice("a profile", profile, PROFILES, "measure")
    several = isinstance(measured, Iterable) and not isinstance(measured, str)
    given = list(measured) if several else [measured]
    # A diverged run has measured infinity, or NaN.
    if wrong := [
        value for value in given if isinstance(value, str) or not hasattr(value, "__float__")
    ]:
        raise ValueError(
            f"Expected what was measured for '{claim_id}' to be numbers; got "
            f"{checks.shortened(wrong[0])}."
        )
    values = tuple(map(float, given))
    if not values:
        raise ValueError(f"Expected at least one measured number for '{claim_id}'; got none.")
    return ClaimResult(CLAIMS[claim_id], profile, values, changed)


@checks.arguments
def scoreboard(
    profile: str, measured: Mapping[str, Iterable[Any]], *, changed: Collection[str] = ()
) -> list[ClaimResult]:
    """Return all claims, in order, with what was measured for them.

    Args:
        profile: of the run.
        measured: numbers by claim; NaN where a network diverged.
        changed: ids of claims that were measured with changed settings.
    """
    checks.choice("a profile", profile, PROFILES, "scoreboard")
    return [
        ClaimResult(claim, profile, tuple(measured.get(claim.id, ())), claim.id in changed)
        for claim in CLAIMS.values()
    ]
