"""Where to set out from, and how long to go on: the search around `ascent`.

Coordinate ascent ends in a local optimum, and which one depends on where it starts. Grown outwards
from what is fixed, it starts well: one start beats the best of ten runs of Algorithm 1 on most
networks. More effort goes into *regrowing*: half of the groups, drawn at random, are forgotten and
grown again around the other half, and the result is kept if it is better. Per second that found
more than random restarts, swapping units of one group, or Frank-Wolfe steps on all groups at once.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from rebasin_lab.matching.ascent import Arrays, Ascent, Cost
from rebasin_lab.matching.record import MatchingResult, Start
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import Permutation, PermutationSpec

Effort = Literal["fast", "default", "thorough"]
NUM_REGROWTHS = 20  # of "thorough"


@dataclasses.dataclass
class _Climb:
    """One ascent, from its start to where it ended."""

    name: str
    ascent: Ascent
    history: list[float]
    num_sweeps: int
    converged: bool
    seconds: float

    @property
    def start(self) -> Start:
        return Start(self.name, self.history[-1], self.num_sweeps, self.seconds)


def search(
    spec: PermutationSpec,
    arrays_a: Arrays,
    arrays_b: Arrays,
    similarities: Sequence[UnitSimilarity] = (),
    *,
    effort: Effort = "default",
    seed: int = 0,
    start: Permutation | None = None,
    max_sweeps: int = 100,
    on_sweep: Callable[[float], None] | None = None,
    quantity: str = "inner product of weights",
) -> MatchingResult:
    """Climb as far as the effort says; see `weight.weight_matching` for the arguments.

    Args:
        spec: of the arrays; every axis holds one name or None.
        arrays_a: by path, float32 in C order.
        arrays_b: likewise; not changed.
        similarities: given in addition, see `UnitSimilarity`.
        effort: "fast" stops after the first pass and one sweep.
        seed: of what is drawn: visiting orders from a given start, and what is regrown.
        start: set out from this permutation, not from what is fixed, and visit groups in random
            order, as Algorithm 1 does.
        max_sweeps: passes over all groups from one start.
        on_sweep: called with the objective after every pass.
        quantity: for the record.
    """
    if effort not in get_args(Effort):
        raise ValueError(f"Expected effort among {get_args(Effort)}; got {effort!r}.")
    if max_sweeps < 1:
        raise ValueError(f"Expected at least one sweep; got max_sweeps {max_sweeps}.")
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    cost = Cost()

    def ascent(start: Permutation | None) -> Ascent:
        return Ascent(spec, arrays_a, arrays_b, similarities, start=start, cost=cost)

    def climb(name: str, start: Permutation | None, regrown: float = 0.0) -> _Climb:
        return _climb(
            name, ascent(start), rng, max_sweeps=max_sweeps, regrown=regrown, on_sweep=on_sweep
        )

    if effort == "fast":
        max_sweeps = min(max_sweeps, 2)
    if start is not None:
        best = climb("given", start)
        climbs = [best]
    else:
        climbs = [climb("grown", None, regrown=1.0)]
        if effort == "thorough" or climbs[0].history[1] < climbs[0].history[0]:
            # Related models may lie as they should already: do not end below the identity.
            climbs.append(climb("identity", None))
        best = max(climbs, key=lambda c: c.history[-1])
    history = best.history
    if effort == "thorough" and len(best.ascent.names) > 1:
        for _ in range(NUM_REGROWTHS):
            tried = climb("regrown", best.ascent.order, regrown=0.5)
            climbs.append(tried)
            if tried.history[-1] > history[-1] + best.ascent.tolerance:
                best = tried
            history = [*history, max(history[-1], tried.history[-1])]
    return MatchingResult(
        permutation={name: best.ascent.order[name] for name in spec.permutations},
        objective=tuple(history),
        converged=best.converged,
        num_sweeps=best.num_sweeps,
        seconds=time.perf_counter() - began,
        quantity=quantity,
        starts=tuple(c.start for c in climbs),
        num_assignments=cost.num_assignments,
        assignment_seconds=cost.assignment_seconds,
        product_seconds=cost.product_seconds,
    )


def _climb(
    name: str,
    ascent: Ascent,
    rng: np.random.Generator,
    *,
    max_sweeps: int,
    regrown: float,
    on_sweep: Callable[[float], None] | None,
) -> _Climb:
    """Grow a share of the groups anew (none: stay), then sweep until nothing changes."""
    began = time.perf_counter()
    history, num_sweeps, converged = [ascent.objective()], 0, not ascent.names
    if regrown:
        num_grown = max(1, round(regrown * len(ascent.names))) if ascent.names else 0
        ascent.grow(set(rng.permutation(ascent.names)[:num_grown].tolist()))
        history.append(ascent.objective())
        num_sweeps = 1
    else:
        ascent.stay()
    while not converged and num_sweeps < max_sweeps:
        num_sweeps += 1
        names = ascent.names
        if not regrown:
            names = [names[index] for index in rng.permutation(len(names))]
        gains = [ascent.improve(each) for each in names]
        history.extend((history[-1] + np.cumsum(gains)).tolist())
        converged = not any(gains)
        if on_sweep is not None:
            on_sweep(history[-1])
    return _Climb(name, ascent, history, num_sweeps, converged, time.perf_counter() - began)
