"""Section 3.2, appendices A.5 and A.7: which order of units brings one network closest to another?

Algorithm 1 takes one layer after the other. Here it runs on a toy with a known answer (`units`), on
pairs of networks from several starts, and on planted permutations. The constructive start of the
library's "weight" is ours; the paper's claims are decided by the paper's `algorithm_1`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.analysis.comparison import Comparison
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim, everywhere
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups, units
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.pair_lines import Pair, PairLines, walk
from rebasin_lab.paper.sections.planted import planted
from rebasin_lab.paper.sections.quantities import quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.sections.units import Visit, climb, neighbours, similarity, toy
from rebasin_lab.paper.store import Trained

__all__ = ["Visit", "climb", "neighbours", "planted", "similarity", "starts", "toy"]

NAME = "03_weight_matching"
NUM_SEARCHES = 5  # of Algorithm 1, with layers in random order
METHODS = {
    "naive": "as B came",
    "random": "random order",
    "one_sweep": "one sweep of Algorithm 1",
    "algorithm_1": "Algorithm 1",
    "weight": "constructive start (ours)",
}

Networks = Mapping[int, Trained]  # by seed


def networks(profile: Profile) -> dict[str, Group]:
    """Return the profile's MLPs."""
    return {"MLP": groups.mlps(profile)}


@dataclasses.dataclass(frozen=True, eq=False)
class Starts(PairLines):
    """Weight matching of every pair from several starts, and searches of one pair by seed.

    Attributes:
        searches: results on the first pair: method -> one for each seed.
        sweeps: by pair, <A, pi(B)> multiplied out anew after every sweep of Algorithm 1.
    """

    searches: Mapping[str, Sequence[matching.MatchingResult]]
    sweeps: Mapping[Pair, Sequence[float]]

    def left(self, method: str) -> list[float]:
        """Return shares of units, in per cent, that end in the slot where they began."""
        return [100 * units.num_left(one.permutation) / _num_units(one) for one in self.of(method)]

    def table(self) -> Table:
        """Return how near each start comes, the barrier it leaves, and the trace of its start."""
        return Table(
            rows=METHODS,
            corner="order of B",
            columns=[
                Column("inner product", "", self.inner_products, digits=1),
                Column("train barrier", "nats", self.barriers),
                Column("units left in their slots", "%", self.left),
            ],
        )

    def reading(self) -> Prose:
        """Return in words how the objective climbs, and what the starts are worth."""
        rise = min(min(np.diff(values)) for values in self.sweeps.values())
        falls = "never fell" if rise >= 0 else f"fell by {-rise:.1g}"
        numbers = [len(values) - 1 for values in self.sweeps.values()]
        ours, *theirs = (
            [result.objective[-1] for result in self.searches[method]]
            for method in ("weight", "algorithm_1")
        )
        beaten = sum(ours[0] > value for value in theirs[0])
        one = self.searches["weight"][0]
        chance = len(one.permutation) / _num_units(one)
        return Prose(
            f"**What we measured.** Over {summary(numbers, '', digits=1)} sweeps of Algorithm 1 "
            f"the inner product {falls}. On the first pair the constructive start ends higher than "
            f"{beaten} of {len(theirs[0])} random orders of Algorithm 1. A random permutation "
            f"leaves one unit in each layer where it was, on average, "
            f"{quantity(100 * chance, '%')} of all."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the climbs of the first pair, and how many units each search leaves in place."""
        weight, num_layers = self.searches["weight"][0], len(self.searches["weight"][0].permutation)
        # The first pass of "weight" is one entry of its history, for a visit of every layer.
        grown = [0, *range(num_layers, num_layers + len(weight.objective) - 1)]
        in_place = {
            method: [units.num_left(result.permutation) for result in results]
            for method, results in self.searches.items()
        }
        ends = [result.objective[-1] for result in self.searches["algorithm_1"]]
        yield Figure(
            name="ascents",
            numbers={
                "searches": [
                    {"method": "weight", "visits": grown, "objective": list(weight.objective)},
                    *(
                        {
                            "method": "algorithm_1",
                            "visits": list(range(len(search.objective))),
                            "objective": list(search.objective),
                        }
                        for search in self.searches["algorithm_1"]
                    ),
                ],
                "in_place": in_place,
                "chance": num_layers,
            },
            title=f"Algorithm 1 ends between {min(ends):.1f} and {max(ends):.1f}, the "
            f"constructive start at {weight.objective[-1]:.1f}",
            caption="Left: the inner product of A and the reordered B, visit by visit, for the "
            'constructive start (ours, "weight matching") and '
            f"{len(ends)} random orders of Algorithm 1. Right: "
            "units that end in the slot where they began, of "
            f"{_num_units(weight):,}.",
            alt=f"Constructive start: from {weight.objective[0]:.0f} to "
            f"{weight.objective[-1]:.1f}. Algorithm 1: to "
            f"{', '.join(f'{end:.1f}' for end in ends)}. Units left in place: "
            + "; ".join(
                f"{METHODS[method]} {', '.join(map(str, counts))}"
                for method, counts in in_place.items()
            )
            + ".",
            networks=[self.networks[seed] for seed in self.pairs[0]],
            size=(9.0, 3.6),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the least rise of a sweep, and what Algorithm 1 gains after its first."""
        return {
            "lemma2-never-falls": [min(np.diff(values)) for values in self.sweeps.values()],
            "a7-one-sweep": np.divide(self.barriers("algorithm_1"), self.barriers("one_sweep")),
        }


def starts(study: Study, trained: Networks) -> Starts:
    """Match every pair from several starts, and evaluate the lines between them.

    Args:
        study: the section at work.
        trained: its MLPs.
    """
    profile, pairs = study.profile, study.profile.pairs
    params = {seed: one.params for seed, one in trained.items()}
    with study.bar(len(METHODS) * len(pairs), "matching and walking lines") as bar:
        walked = walk(
            trained,
            pairs,
            data=study.data,
            methods=list(METHODS),
            eval_data=profile.coarse(study.data),
            num_lambdas=profile.num_coarse_lambdas,
            on_method=lambda _: bar.update(),
        )
    spec = walked.spec
    sweeps = {pair: _sweep_by_sweep(spec, *(params[seed] for seed in pair)) for pair in pairs}
    first = [params[seed] for seed in profile.pairs[0]]
    searches = {
        method: [cached(matching.match, method, spec, *first, seed=seed) for seed in range(number)]
        for method, number in (
            ("weight", 1),  # not random
            ("algorithm_1", NUM_SEARCHES),
            ("one_sweep", NUM_SEARCHES),
        )
    }
    return walked.extended(Starts, searches=searches, sweeps=sweeps)


def _num_units(one: Comparison | matching.MatchingResult) -> int:
    return sum(map(len, one.permutation.values()))


def _sweep_by_sweep(
    spec: symmetry.PermutationSpec, params_a: Any, params_b: Any, *, most: int = 100
) -> list[float]:
    order = units.in_order(spec, params_b)
    values = [pytrees.inner_product(params_a, params_b)]
    for sweep in range(most):
        result = cached(
            matching.match,
            "weight",
            spec,
            params_a,
            params_b,
            start=order,
            max_sweeps=1,
            seed=sweep,
        )
        order = result.permutation
        moved = symmetry.apply_permutation(spec, order, params_b)
        values.append(pytrees.inner_product(params_a, moved))
        if result.converged:
            return values
    raise RuntimeError(f"Algorithm 1 did not end in {most} sweeps.")


def _similarity_of_layer(in_a: Any, out_a: Any, in_b: Any, out_b: Any) -> np.ndarray:
    leaves_a, leaves_b = ({"in": i, "out": o} for i, o in ((in_a, out_a), (in_b, out_b)))
    spec = symmetry.PermutationSpec({"in": (None, "P"), "out": ("P", None)})
    return similarity(spec, leaves_a, leaves_b, "P")


def _kernels(seed: int, num_in: int, num_units: int, num_out: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = ((num_in, num_units), (num_units, num_out)) * 2
    return tuple(rng.standard_normal(shape).round(2) for shape in shapes)


EXERCISE = Exercise(
    oracle=_similarity_of_layer,
    cases=[_kernels(0, 2, 2, 1), _kernels(1, 3, 4, 2), _kernels(2, 5, 3, 5)],
    hint="a kernel has a row for each input and a column for each output: a unit's incoming "
    "weights are a column of `in_a`, its outgoing ones a row of `out_a`",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="lemma2-never-falls",
        section="3.2, Lemma 2",
        statement="No sweep of Algorithm 1 lowers the objective.",
        paper="proved",
        quantity="least rise of <A, pi(B)>, multiplied out anew, from sweep to sweep",
        # The last sweep changes nothing, so that its rise is 0 to the last bit.
        bounds=everywhere("at least", 0.0),
    ),
    claim(
        id="lemma1-np-hard",
        section="3.2, Lemma 1",
        statement="To find the best permutations of an MLP of three layers or more is NP-hard.",
        paper="proved",
        quantity="-",
        bounds={},
        untestable="a theorem about the worst case; no run can show it",
    ),
    claim(
        id="section3-planted",
        section="A.5",
        statement="Weight matching undoes a random permutation of a trained network exactly.",
        paper="exact, in 3-4 passes",
        quantity="fraction of the pair's networks whose planted permutation is recovered exactly",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a5-planted-passes",
        section="A.5",
        statement="Algorithm 1 undoes it in three or four passes.",
        paper="3-4",
        quantity="passes of Algorithm 1 over all layers, the last of which changes nothing",
        bounds=everywhere("at most", 4.0),
    ),
    claim(
        id="a7-one-sweep",
        section="A.7",
        statement="Algorithm 1 run to its end leaves no higher a barrier than one pass of it.",
        paper="ResNet50: 51 % right in the middle, against 7 %",
        quantity="train loss barrier, to the end / after one sweep from the same seed",
        bounds=everywhere("at most", 1.0),
    ),
)
