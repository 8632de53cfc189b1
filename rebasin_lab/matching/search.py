"""The search of weight matching: starts of the coordinate ascent, and when to end.

Coordinate ascent ends in a local optimum that depends on its start. The constructive start is a
good one; most often it beats ten runs of Algorithm 1. More effort goes into a large neighbourhood
search: half of the groups, drawn at random, are matched again by a constructive start around the
others, and the result is kept if it is better. On small residual networks that improved more per
second than starts in random order, shuffling one group, or Frank-Wolfe steps on all groups at once.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from rebasin_lab.matching import products
from rebasin_lab.matching.coordinate_ascent import Arrays, CoordinateAscent, Squares
from rebasin_lab.matching.result import MatchingResult, Start
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import Permutation, PermutationSpec

Effort = Literal["fast", "default", "thorough"]
NUM_NEIGHBOURHOODS = 20  # of "thorough"


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
    quantity: str = "inner product of weights",
    restore: Callable[[float], float] = float,
    squares: Squares | None = None,
) -> MatchingResult:
    """Maximise <A, pi(B)> with some effort; see `weight.weight_matching` for most arguments.

    Args:
        spec: of the arrays; every axis holds one name or None.
        arrays_a: by path, float32 in C order.
        arrays_b: likewise; not changed.
        similarities: given in addition, see `similarity`.
        effort: "fast" stops after the first pass and one sweep.
        seed: of random orders of block updates, and of the large neighbourhood search.
        start: a permutation to start from, with block updates in random order.
        max_sweeps: passes over all groups from one start.
        quantity: of the result.
        restore: from the objective here to that of the result, an increasing function.
        squares: squared norms of the arrays, if they are known.
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    ascent = CoordinateAscent(spec, arrays_a, arrays_b, similarities, squares=squares)
    max_sweeps = min(max_sweeps, 2) if effort == "fast" else max_sweeps
    climb = functools.partial(_climb, ascent, rng, max_sweeps=max_sweeps)
    with products.blas_threads(_num_multiplications(spec, arrays_a)):
        tie = max(ascent.tolerances.values(), default=0.0)
        if start is not None:
            is_identity = all((x == np.arange(x.shape[-1])).all() for x in start.values())
            climbs = [best := climb("identity" if is_identity else "given", start)]
        else:
            climbs = [best := climb("constructive", None, share=1.0)]
            if effort == "thorough" or best.fell:
                # Related models may be aligned already: never end below the identity.
                climbs.append(climb("identity", None))
                best = max(climbs[::-1], key=lambda each: each.history[-1])  # it wins a tie
        # A constructive start may begin below the identity; until it ends, that is the best known.
        history = np.maximum.accumulate(best.history).tolist()
        has_neighbourhoods = effort == "thorough" and len(ascent.names) > 1  # half of one is none
        for _ in range(NUM_NEIGHBOURHOODS if has_neighbourhoods else 0):
            climbs.append(climb("neighbourhood", best.order, share=0.5))
            if climbs[-1].history[-1] > history[-1] + tie:
                best = climbs[-1]
            history.append(max(history[-1], best.history[-1]))
    return MatchingResult(
        permutation={name: best.order[name] for name in spec.permutations},
        objective=tuple(map(restore, history)),
        converged=best.converged,
        num_sweeps=best.num_sweeps,
        seconds=time.perf_counter() - began,
        quantity=quantity,
        starts=tuple(
            Start(each.name, restore(each.history[-1]), each.num_sweeps, each.seconds)
            for each in climbs
        ),
        num_assignments=ascent.cost.num_assignments,
        assignment_seconds=ascent.cost.assignment_seconds,
        product_seconds=ascent.cost.product_seconds,
    )


@dataclasses.dataclass(frozen=True)
class Climb:
    """One coordinate ascent from its start to its end.

    Attributes:
        name: of the start, see `Start`.
        order: the permutation at its end.
        history: the objective, from its start to its end.
        num_sweeps: passes over all groups.
        converged: whether the last pass changed nothing.
        fell: whether the objective after the first pass was below that of the start.
        seconds: wall time.
    """

    name: str
    order: Permutation
    history: tuple[float, ...]
    num_sweeps: int
    converged: bool
    fell: bool
    seconds: float


def _climb(
    ascent: CoordinateAscent,
    rng: np.random.Generator,
    name: str,
    start: Permutation | None,
    *,
    max_sweeps: int,
    share: float = 0.0,
) -> Climb:
    """Match a share of the groups by a constructive start, then update all until none changes."""
    ascent.restart(start)
    began = time.perf_counter()
    history, num_sweeps = [ascent.objective()], 0
    num_constructed = round(share * len(ascent.names))
    if num_constructed:
        value = ascent.construct(set(rng.permutation(ascent.names)[:num_constructed].tolist()))
        if value < history[0] + max(ascent.tolerances.values()):
            value = ascent.objective()  # so close, the rounding of similarities would decide
        history.append(value)
        num_sweeps = 1
    else:
        ascent.keep()
    fell, converged = history[-1] < history[0], not ascent.names
    while not converged and num_sweeps < max_sweeps:
        names = ascent.names
        # Algorithm 1 takes a random order; a constructive start keeps its own.
        order = range(len(names)) if num_constructed else rng.permutation(len(names))
        gains = [ascent.update_block(names[index]) for index in order]
        history.extend((history[-1] + np.cumsum(gains)).tolist())
        num_sweeps += 1
        converged = not any(gains)
    seconds = time.perf_counter() - began
    return Climb(name, ascent.order, tuple(history), num_sweeps, converged, fell, seconds)


def _num_multiplications(spec: PermutationSpec, arrays: Arrays) -> float:
    """The number of multiplications in all products between units, each computed once."""
    return float(
        sum(
            arrays[path].size * arrays[path].shape[axis]
            for places in spec.permutations.values()
            for path, axis in places
        )
    )
