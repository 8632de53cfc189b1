"""What the paper claims, as things that can fail, and the scoreboard of what was measured.

Every claim says before any run what is measured and which bound must hold, per profile: a bound is
never adjusted to a result. Where a claim is tested on several pairs of networks, *every* pair must
hold, or a statistic over all of them. A claim that fails is printed as not reproduced, with its
numbers. `claim` says what a claim is, `scoreboard` what became of it; the others hold the claims
themselves, one module a notebook.
"""

from collections.abc import Collection, Iterable, Mapping

from rebasin_lab.claims import (
    counterexample,
    failure_modes,
    landscapes,
    matching,
    merge_many,
    onset,
    split_data,
    symmetries,
    width,
)
from rebasin_lab.claims.claim import PROFILES, Bound, Claim
from rebasin_lab.claims.scoreboard import STATUSES, ClaimResult, tally

# In the order of the notebooks.
CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for module in (
        symmetries,
        matching,
        counterexample,
        landscapes,
        onset,
        width,
        split_data,
        merge_many,
        failure_modes,
    )
    for claim in module.CLAIMS
}

__all__ = [
    "CLAIMS",
    "PROFILES",
    "STATUSES",
    "Bound",
    "Claim",
    "ClaimResult",
    "measure",
    "scoreboard",
    "tally",
]


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
    profile: str, measured: Mapping[str, Iterable[float]], *, changed: Collection[str] = ()
) -> list[ClaimResult]:
    """All claims, in order, with what was measured for them.

    Args:
        profile: of the run.
        measured: numbers by claim.
        changed: ids of claims that were measured with changed settings.
    """
    return [
        ClaimResult(claim, profile, tuple(measured.get(claim.id, ())), claim.id in changed)
        for claim in CLAIMS.values()
    ]
