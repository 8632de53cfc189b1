"""One claim of the paper, and the bounds that decide it."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from rebasin_lab.paper import profiles

PROFILES = tuple(profiles.PROFILES)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A condition on a measured number."""

    relation: Literal["below", "at most", "at least", "equal to"]
    value: float

    def holds(self, measured: float) -> bool:
        """Return True if one number satisfies the bound; a NaN never does."""
        return {
            "below": measured < self.value,
            "at most": measured <= self.value,
            "at least": measured >= self.value,
            "equal to": measured == self.value,
        }[self.relation]

    def distance(self, measured: float) -> float:
        """Return how far a number lies from the bound, on either side."""
        return abs(measured - self.value)

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclasses.dataclass(frozen=True)
class Resolution:
    """The least difference that a profile can tell from none, and why."""

    value: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        id: how notebooks and figures refer to it.
        section: where the paper makes it.
        statement: in a sentence.
        paper: the paper's number, or its words where it gives none.
        quantity: that is measured, with its unit.
        notebook: where it is tested.
        bounds: profile -> the tolerance; a profile that is missing does not test the claim.
        resolution: profile -> the least distance from the bound that its images and pairs can tell
            from none. A number nearer than that, on either side, decides nothing: the claim is too
            small to judge. Fixed, like a bound, before any run.
        untestable: the reason why nothing here tests it; only then may there be no bound.
        why: profile -> the reason why it is not reproduced there, where that is known, in one or
            two sentences. It is shown beside that verdict alone, and stored nowhere.
    """

    id: str
    section: str
    statement: str
    paper: str
    quantity: str
    notebook: str
    bounds: Mapping[str, Bound]
    resolution: Mapping[str, Resolution] = dataclasses.field(default_factory=dict)
    untestable: str = ""
    why: Mapping[str, str] = dataclasses.field(default_factory=dict)


def whatever_the_profile(reason: str) -> dict[str, str]:
    """Return one reason for every profile."""
    return dict.fromkeys(PROFILES, reason)


def everywhere(relation: str, value: float) -> dict[str, Bound]:
    """Return the same bound at every profile."""
    return {profile: Bound(relation, value) for profile in PROFILES}


def from_laptop(relation: str, value: float) -> dict[str, Bound]:
    """Return the same bound at every profile but `quick`."""
    return {profile: Bound(relation, value) for profile in PROFILES if profile != "quick"}


def at_paper(relation: str, value: float) -> dict[str, Bound]:
    """Return a bound that only the paper's own settings can meet or miss."""
    return {"paper": Bound(relation, value)}
