"""Section 4, Fig. 6, and A.7.2: are all good networks connected up to a permutation?

The networks are given by hand (`rebasin_lab.paper.counterexample`), so that all four permutations
can be tried and held against formulas. `tiny_networks` has the others of this shape: the pair of
A.7.2, the counterexample with one weight changed, and trained ones.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import matching, pytrees
from rebasin_lab.paper import counterexample as toys
from rebasin_lab.paper.claim import Claim, everywhere
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.sections.tiny_networks import COARSE, DRAWN, LAMBDAS, as_rows, barrier, truth

NAME = "05_counterexample"
NAMES = tuple(toys.PERMUTATIONS)
MATCHERS = ("algorithm_1", "weight", "one_sweep", "greedy", "random")
GRID = 400  # points along each side of the square that errors are counted on
UNIT_IMAGE = 24  # of the drawn output of a unit
INSIDE = np.linspace(0, 1, 201)[1:-1]  # two of the four errors jump at the ends


def networks(profile: Profile) -> dict[str, Group]:
    """Return no networks: those of this section have four units."""
    return {}


def measured_on(profile: Profile) -> str:
    """Say in a phrase what the claims are measured on."""
    return "two pairs of networks that are given by hand"


@dataclasses.dataclass(frozen=True, eq=False)
class TwoNetworks(Record):
    """The two networks of the counterexample.

    Attributes:
        pair: A and B.
        points: of the square, as many as in the paper's Fig. 7.
    """

    pair: toys.Pair
    points: np.ndarray

    def table(self) -> Table:
        """Return the errors of A and B, and how far their functions are apart."""
        models = {"A": self.pair.params_a, "B": self.pair.params_b}
        labels = toys.true_labels(self.points)
        wrong = [
            100 * float((toys.predicted_labels(params, self.points) != labels).mean())
            for params in models.values()
        ]
        outputs = [toys.apply_fn(params, self.points) for params in models.values()]
        apart = float(np.abs(outputs[0] - outputs[1]).max())
        return Table(
            rows=[*models],
            corner=f"on {len(self.points):,} points",
            columns=[
                Column("points it gets wrong", "%", wrong),
                Column("largest difference to the other's f", "", [apart, apart]),
            ],
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the output of every unit on the square."""
        grid = toys.grid_points(UNIT_IMAGE)
        images = {}
        for name, params in (("A", self.pair.params_a), ("B", self.pair.params_b)):
            hidden = np.concatenate(toys.hidden_units(params, grid), axis=1).T
            images[name] = [
                column.reshape(UNIT_IMAGE, UNIT_IMAGE).round(3).tolist()
                for column in (*hidden, toys.apply_fn(params, grid))
            ]
        columns = [f"layer {layer}, unit {unit}" for layer in (1, 2) for unit in (1, 2)]
        yield Figure(
            name="two_tests",
            numbers={"columns": [*columns, "f"], "rows": images},
            title="A and B compute the same f; only the units of their first layers differ",
            caption="The output of every unit on the square; white is zero. Outlined: where yes "
            "is right. A tests x2 first, B tests x1 first; both only hand the other coordinate on.",
            alt="Second layers and outputs of A and B are alike. In the first layer A's second "
            "unit is flat above the horizontal axis, B's first unit is flat left of the "
            "vertical axis.",
            size=(9.0, 4.2),
        )


def two_networks(study: Study) -> TwoNetworks:
    """Return the counterexample, and points to try it on."""
    return TwoNetworks(toys.opposite_tests(), toys.random_points(1024))


@dataclasses.dataclass(frozen=True, eq=False)
class Lines(Record):
    """The lines from A to B under each of the four permutations.

    Attributes:
        pair: A and B.
        errors: by permutation, a fraction of the points at each of `LAMBDAS`.
        num_points: that errors are counted on.
    """

    pair: toys.Pair
    errors: Mapping[str, np.ndarray]
    num_points: int

    @functools.cached_property
    def barriers(self) -> dict[str, float]:
        """The error barrier under each permutation."""
        return {name: barrier(errors) for name, errors in self.errors.items()}

    @functools.cached_property
    def squared_distances(self) -> dict[str, float]:
        """The squared distance of A to each permuted B."""
        return {
            name: round(pytrees.distance(self.pair.params_a, self.pair.permuted_b(name)) ** 2, 6)
            for name in NAMES
        }

    @functools.cached_property
    def deviations(self) -> dict[str, float]:
        """The largest distance of each measured error to the exact one."""
        return {
            name: float(np.abs(errors - toys.closed_form_error(name, LAMBDAS)).max())
            for name, errors in self.errors.items()
        }

    def table(self) -> Table:
        """Return barriers, how exact they are, and the change of f itself, by permutation."""
        coarse, start = toys.grid_points(COARSE), self.pair.params_a
        changes = [
            toys.squared_change(start, self.pair.permuted_b(name), LAMBDAS, coarse).max()
            for name in NAMES
        ]
        return Table(
            rows=NAMES,
            corner="order of B's units",
            columns=[
                Column("error barrier", "of the square", self.barriers.get),
                Column("largest distance to the formula", "", self.deviations.get, digits=4),
                Column("squared distance to A", "", self.squared_distances.get),
                Column("largest mean squared change of f", "", changes),
            ],
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the four curves of errors, and where networks on the lines say yes."""
        least = min(float(errors.max()) for errors in self.errors.values())
        exact = {name: toys.closed_form_error(name, INSIDE).round(5).tolist() for name in NAMES}
        shown = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]
        panels = {name: [self._panel(name, lam) for lam in shown] for name in NAMES}
        middle = panels["swap both"][shown.index(0.5)]["error"]
        yield Figure(
            name="error_curves",
            numbers={
                "lambdas": LAMBDAS.tolist(),
                "measured": {name: errors.tolist() for name, errors in self.errors.items()},
                "exact_lambdas": INSIDE.round(3).tolist(),
                "exact": exact,
                "squared_distances": self.squared_distances,
            },
            title="Under each of the four orders of B's units the error on the line rises to "
            f"{quantity(least, '')} or more",
            caption="The error on the line from A to B under each of the four permutations: "
            f"measured (marks, on {self.num_points:,} points) on the exact curves, and a quarter "
            "(dotted); swap 1 is that of layer 1, swap 2 of layer 2. Fig. 6 of the paper, left.",
            alt="Identity and swap 2 jump to 0.25 right beside the ends. Swap 1 and swap both "
            "rise smoothly and reach 0.25 in the middle.",
            claims=["fig6-perfect", "fig6-barrier", "fig6-closed-forms"],
            size=(9.0, 3.4),
        )
        yield Figure(
            name="decision_regions",
            numbers={"lambdas": shown, "truth": truth(), "panels": panels},
            title="Two orders lose the quadrant at the first step; two let in wedges, up to "
            f"an error of {quantity(middle, '')} in the middle",
            caption="Where the network on the line says yes, and its exact error (above each "
            "square); x1 to the right, x2 upwards. After Fig. 6 of the paper, right.",
            alt="For identity and swap 2 no yes is left anywhere between the ends. For the "
            "others a wedge of wrong yes opens on each side of the quadrant, until in the "
            "middle half the square is yes.",
            claims=["fig6-barrier"],
            size=(9.0, 4.8),
        )

    def at(self, permutation: str, lam: float) -> Figure:
        """Return one network on the line to one permutation of B, for dials."""
        now = self._panel(permutation, lam)
        exact = {name: toys.closed_form_error(name, INSIDE).tolist() for name in NAMES}
        ends = {name: toys.closed_form_error(name, np.array([0.0, 1.0])).tolist() for name in NAMES}
        return Figure(
            name="walk",
            plot="decision_walk",
            numbers={
                "lambdas": INSIDE.tolist(),
                "curves": exact,
                "ends": ends,
                "permutation": permutation,
                "lam": lam,
                "truth": truth(),
                **now,
            },
            title=f"{permutation}, λ = {lam:.2f}: an error of {quantity(now['error'], '')}",
            caption="The grey curves are those of the other orders; grey in the square is a "
            "yes that is missed, brown a wrong one.",
            alt=f"{permutation}, lambda {lam:.2f}: {100 * now['error']:.1f} % of the square is "
            "wrong.",
            size=(8.0, 4.0),
        )

    def _panel(self, name: str, lam: float) -> dict[str, Any]:
        """Return where the network at lambda says yes, and its exact error."""
        network = pytrees.lerp(lam, self.pair.params_a, self.pair.permuted_b(name))
        error = toys.closed_form_error(name, np.array([lam]))[0]
        yes = toys.predicted_labels(network, toys.grid_points(DRAWN))
        return {"yes": as_rows(yes), "error": float(error)}

    def claims(self) -> Mapping[str, Any]:
        """Return errors at the ends, barriers, and distances to the formulas."""
        return {
            "fig6-perfect": max(errors[end] for errors in self.errors.values() for end in (0, -1)),
            "fig6-barrier": max(abs(height - 0.25) for height in self.barriers.values()),
            "fig6-closed-forms": max(self.deviations.values()),
        }


def lines(study: Study, *, points: np.ndarray | None = None) -> Lines:
    """Count errors on the four lines from A to B.

    Args:
        study: the section at work.
        points: of the square, to count on; those of a fine grid by default.
    """
    pair = toys.opposite_tests()
    points = toys.grid_points(GRID) if points is None else points
    errors = {
        name: toys.error_curve(pair.params_a, pair.permuted_b(name), LAMBDAS, points)
        for name in NAMES
    }
    return Lines(pair, errors, len(points))


@dataclasses.dataclass(frozen=True, eq=False)
class Picks(Record):
    """The permutations that matchers pick for the counterexample.

    Attributes:
        lines: under each permutation.
        picks: by matcher, the name of a permutation for each seed.
    """

    lines: Lines
    picks: Mapping[str, Sequence[str]]

    def table(self) -> Table:
        """Return how often each matcher picks each permutation, beside its distance and barrier."""
        (number,) = {len(names) for names in self.picks.values()}
        return Table(
            rows=NAMES,
            corner=f"picked by {number} seeds",
            columns=[
                Column("squared distance to A", "", self.lines.squared_distances.get),
                *(
                    Column(matching.MATCHERS[method].label, "", names.count)
                    for method, names in self.picks.items()
                ),
                Column("error barrier", "of the square", self.lines.barriers.get),
            ],
        )

    def claims(self) -> Mapping[str, Any]:
        """Return how often Algorithm 1 picks both swaps."""
        own = self.picks["algorithm_1"]
        return {"fig6-weight-matching": own.count("swap both") / len(own)}


def picks(study: Study, found: Lines) -> Picks:
    """Match the counterexample by several matchers, each from several seeds."""
    pair, seeds = found.pair, range(study.profile.num_orders)
    return Picks(
        found,
        {
            method: [
                toys.name_of(
                    matching.match(
                        method, pair.spec, pair.params_a, pair.params_b, seed=seed
                    ).permutation
                )
                for seed in seeds
            ]
            for method in MATCHERS
        },
    )


EXERCISE = Exercise(
    oracle=lambda lam: toys.closed_form_error("swap both", np.atleast_1d(np.asarray(lam, float))),
    cases=[(0.25,), (0.5,), (0.9,)],
    hint="the two wedges are triangles; with `t = min(lam, 1 - lam)` each is 1 high and "
    "`t / (1 - t)` wide, in a square of area 4",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig6-perfect",
        section="4",
        statement="Both networks of the counterexample are perfect.",
        paper="0 errors",
        quantity="largest error at the ends of the four lines (fraction of inputs)",
        bounds=everywhere("equal to", 0.0),
    ),
    claim(
        id="fig6-barrier",
        section="4, Fig. 6",
        statement="There are two perfect networks that no permutation joins without a barrier.",
        paper="0.25, all four",
        quantity="largest |error barrier - 1/4| over all four permutations (fraction of inputs)",
        # The grid of 400 x 400 points is exact to 1/400; see `toys.grid_points`.
        bounds=everywhere("at most", 1 / 400),
    ),
    claim(
        id="fig6-closed-forms",
        section="4, Fig. 6",
        statement="The error on the four lines between them is known at every point.",
        paper="drawn",
        quantity="largest |measured - exact error| over four lines (fraction of inputs)",
        bounds=everywhere("at most", 1 / 400),
    ),
    claim(
        id="fig6-weight-matching",
        section="4",
        statement="Weight matching finds the nearest permutation, both swaps, to no avail.",
        paper="implied",
        quantity="fraction of seeds that pick both swaps",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a72-greedy-slope",
        section="A.7.2",
        statement="Matching greedily, layer by layer, can lose half of a function.",
        paper="0.505 (ends 1, 1.01)",
        quantity="slope of the linear network in the middle of the line, matched greedily",
        bounds=everywhere("below", 0.51),
    ),
    claim(
        id="a72-weight-matching",
        section="A.7.2",
        statement="Weight matching finds both swaps there, in any order of layers.",
        paper="both, in any order",
        # The slope alone does not show it: one sweep may leave the first layer and have it, too.
        quantity="fraction of seeds that pick both swaps",
        bounds=everywhere("equal to", 1.0),
    ),
    claim(
        id="a72-weight-matching-slope",
        section="A.7.2",
        statement="What weight matching finds loses nothing of the function.",
        paper="0: the slope is 1.005",
        quantity="largest |slope in the middle - mean of the ends| over seeds",
        # The weights are float64 and permuted, not computed with.
        bounds=everywhere("at most", 1e-9),
    ),
)
