"""What every matcher returns: the answer, and how it was reached."""

import dataclasses

from rebasin_lab.symmetry import Permutation


@dataclasses.dataclass(frozen=True)
class Start:
    """One of the points a search set out from.

    Attributes:
        name: "grown", "identity", "given", or "regrown" for an escape from the best so far.
        objective: where it ended.
        num_sweeps: passes over all groups on the way.
        seconds: wall time.
    """

    name: str
    objective: float
    num_sweeps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class MatchingResult:
    """The outcome of matching model B to model A.

    Attributes:
        permutation: apply it to B to line it up with A.
        objective: what the matcher climbs, from the identity to its answer; it never falls (but of
            "random", which does not look). What it is, `quantity` says. For "inner product of
            weights", <A, pi(B)>: the larger, the closer, as
            ||A - pi(B)||^2 = ||A||^2 + ||B||^2 - 2 <A, pi(B)>. A matcher of weights writes down
            its start, the end of its first pass, and then every visit of a group, whether it
            changed or not.
        converged: whether a whole sweep changed nothing, before the sweeps ran out; for a matcher
            that solves each group once, always.
        num_sweeps: passes over all groups, the last one without a change.
        seconds: wall time.
        quantity: what the objective is, in words.
        starts: where the search set out from, in order; empty for a matcher that does not search.
        num_assignments: assignment problems solved, in all starts; all that a group and those
            which vary along it take count as one.
        assignment_seconds: wall time spent on them.
        product_seconds: wall time spent multiplying and moving weights.
    """

    permutation: Permutation
    objective: tuple[float, ...]
    converged: bool
    num_sweeps: int
    seconds: float
    quantity: str = "inner product of weights"
    starts: tuple[Start, ...] = ()
    num_assignments: int = 0
    assignment_seconds: float = 0.0
    product_seconds: float = 0.0
