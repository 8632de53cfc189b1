"""What every matcher returns: the answer, and how it was reached."""

import dataclasses

from rebasin_lab.symmetry import Permutation


@dataclasses.dataclass(frozen=True)
class MatchingResult:
    """The outcome of matching model B to model A.

    Attributes:
        permutation: apply it to B to line it up with A.
        objective: the inner product <A, pi(B)> at the start and after every visit of a
            permutation, whether it changed or not. The larger, the closer:
            ||A - pi(B)||^2 = ||A||^2 + ||B||^2 - 2 <A, pi(B)>.
        converged: whether a whole sweep changed nothing, before `max_sweeps` ran out.
        num_sweeps: passes over all permutations, the last one without a change.
        seconds: wall time.
    """

    permutation: Permutation
    objective: tuple[float, ...]
    converged: bool
    num_sweeps: int
    seconds: float
