"""Where to set out from, and how long to go on: the search around `coordinate_ascent`.

Coordinate ascent ends in a local optimum, and which one depends on where it starts. Grown outwards
from what is fixed it starts well; most often one such start beats ten runs of Algorithm 1. More
effort goes into *regrowing*: half of the groups, drawn at random, are forgotten and grown again
around the others, and what comes of it is kept if it is better. On small residual networks that
found more per second than fresh starts in random order, shuffling one group, or Frank-Wolfe steps
on all groups at once.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from rebasin_lab.matching import products
from rebasin_lab.matching.coordinate_ascent import Arrays, Ascent, Squares
from rebasin_lab.matching.result import MatchingResult, Start
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import Permutation, PermutationSpec

Effort = Literal["fast", "default", "thorough"]
NUM_REGROWTHS = 20  # of "thorough"


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
    restore: Callable[[float], float] = float,
    squares: Squares | None = None,
) -> MatchingResult:
    """Climb as far as the effort says; see `weight.weight_matching` for most arguments.

    Args:
        spec: of the arrays; every axis holds one name or None.
        arrays_a: by path, float32 in C order.
        arrays_b: likewise; not changed.
        similarities: given in addition, see `similarity`.
        effort: "fast" stops after the first pass and one sweep.
        seed: of all that is drawn: visiting orders, but after a growth, and what is regrown.
        start: set out from this permutation and visit groups in random order.
        max_sweeps: passes over all groups from one start.
        on_sweep: called with the objective after every pass.
        quantity: for the record.
        restore: from what is climbed here to what is recorded, an increasing function.
        squares: of the norms of the arrays, if they are known.

    Raises:
        ValueError: for an unknown effort or less than one sweep.
    """
    if effort not in get_args(Effort):
        raise ValueError(f"Expected effort among {get_args(Effort)}; got {effort!r}.")
    if max_sweeps < 1:
        raise ValueError(f"Expected max_sweeps of at least 1; got {max_sweeps}.")
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    ascent = Ascent(spec, arrays_a, arrays_b, similarities, squares=squares)
    starts: list[Start] = []

    def climb(name: str, start: Permutation | None, *, regrown: float) -> Climb:
        ascent.restart(start)
        done = _climb(
            ascent,
            rng,
            min(max_sweeps, 2) if effort == "fast" else max_sweeps,
            regrown=regrown,
            on_sweep=None if on_sweep is None else lambda value: on_sweep(restore(value)),
        )
        starts.append(Start(name, restore(done.history[-1]), done.num_sweeps, done.seconds))
        return done

    with products.blas_threads(_num_multiplications(spec, arrays_a)):
        tie = max(ascent.tolerances.values(), default=0.0)
        if start is not None:
            is_still = all((order == np.arange(order.shape[-1])).all() for order in start.values())
            best = climb("identity" if is_still else "given", start, regrown=0.0)
        else:
            best = climb("grown", None, regrown=1.0)
            if effort == "thorough" or best.fell:
                # Related models may lie as they should: do not end below where they are.
                best = max(
                    climb("identity", None, regrown=0.0),  # preferred on a tie
                    best,
                    key=lambda each: each.history[-1],
                )
        # A growth may begin below the identity and end above: till then, that was the best known.
        history = np.maximum.accumulate(best.history).tolist()
        is_alone = len(ascent.names) < 2  # then half of the groups is none
        for _ in range(NUM_REGROWTHS if effort == "thorough" and not is_alone else 0):
            other = climb("regrown", best.order, regrown=0.5)
            if other.history[-1] > history[-1] + tie:
                best = other
            history.append(max(history[-1], best.history[-1]))
    return MatchingResult(
        permutation={name: best.order[name] for name in spec.permutations},
        objective=tuple(map(restore, history)),
        converged=best.converged,
        num_sweeps=best.num_sweeps,
        seconds=time.perf_counter() - began,
        quantity=quantity,
        starts=tuple(starts),
        num_assignments=ascent.cost.num_assignments,
        assignment_seconds=ascent.cost.assignment_seconds,
        product_seconds=ascent.cost.product_seconds,
    )


@dataclasses.dataclass(frozen=True)
class Climb:
    """One ascent from its start to where it ended.

    Attributes:
        order: the permutation at its end.
        history: the objective, from its start to its end.
        num_sweeps: passes over all groups.
        converged: whether the last pass changed nothing.
        fell: whether its first pass ended below where everything was before.
        seconds: wall time.
    """

    order: Permutation
    history: tuple[float, ...]
    num_sweeps: int
    converged: bool
    fell: bool
    seconds: float


def _climb(
    ascent: Ascent,
    rng: np.random.Generator,
    max_sweeps: int,
    *,
    regrown: float,
    on_sweep: Callable[[float], None] | None,
) -> Climb:
    """Grow a share of the groups, then improve all until a sweep changes nothing."""
    began = time.perf_counter()
    history, num_sweeps = [ascent.objective()], 0
    num_grown = round(regrown * len(ascent.names))
    if num_grown:
        value = ascent.grow(set(rng.permutation(ascent.names)[:num_grown].tolist()))
        if value < history[0] + max(ascent.tolerances.values()):
            value = ascent.objective()  # so close, the rounding of similarities would decide
        history.append(value)
        num_sweeps = 1
        if on_sweep is not None:
            on_sweep(history[-1])
    else:
        ascent.stay()
    fell, converged = history[-1] < history[0], not ascent.names
    while not converged and num_sweeps < max_sweeps:
        names = ascent.names
        # Algorithm 1 has no better order than a random one; a growth has its own.
        order = range(len(names)) if num_grown else rng.permutation(len(names))
        gains = [ascent.improve(names[index]) for index in order]
        history.extend((history[-1] + np.cumsum(gains)).tolist())
        num_sweeps += 1
        converged = not any(gains)
        if on_sweep is not None:
            on_sweep(history[-1])
    seconds = time.perf_counter() - began
    return Climb(ascent.order, tuple(history), num_sweeps, converged, fell, seconds)


def _num_multiplications(spec: PermutationSpec, arrays: Arrays) -> float:
    """Of all products between units, each multiplied out once."""
    return float(
        sum(
            arrays[path].size * arrays[path].shape[axis]
            for places in spec.permutations.values()
            for path, axis in places
        )
    )
