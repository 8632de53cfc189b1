"""The result of every matcher: a permutation, and how it was reached."""

import dataclasses

from rebasin_lab.symmetry import Permutation


@dataclasses.dataclass(frozen=True)
class Start:
    """One start of a search, and its end.

    Attributes:
        name: "constructive", "identity", "given", or "neighbourhood" for a step of the large
            neighbourhood search.
        objective: at the end.
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
        permutation: apply it to B to align it with A.
        objective: its history, from the identity to the answer; it never falls (except for
            "random"). `quantity` names it. For "inner product of weights" it is <A, pi(B)>: the
            larger, the closer, as ||A - pi(B)||^2 = ||A||^2 + ||B||^2 - 2 <A, pi(B)>. A matcher of
            weights has an entry for its start, one for the end of its first pass, and then one for
            every block update, whether that changed anything or not.
        converged: whether a whole sweep changed nothing, before the sweeps ran out; for a matcher
            that solves each group once, always.
        num_sweeps: passes over all groups, the last one without a change.
        seconds: wall time.
        quantity: the name of the objective.
        starts: of the search, in order; empty for a matcher that does not search.
        num_assignments: assignment problems solved, in all starts; those of nested groups count as
            one.
        assignment_seconds: wall time spent on them.
        product_seconds: wall time spent on products and permutations of weights.
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
