"""Coordinate ascent on <A, pi(B)>, the loop that every matcher of weights runs.

With all permutations but one held, the best choice for that one is a linear assignment problem
(Ainsworth et al. 2022, Algorithm 1). Its similarity matrix is a sum over the places where the group
stands: an axis of an array each. The engine keeps B as permuted so far and every similarity up to
date, so that nothing is multiplied twice:

- a place *counts* once the groups on the other axes of its array are matched. A first pass (`grow`)
  starts from the axes that nobody permutes and works its way in, always taking the group about
  whose units most is known; so it is never guided by units that are still in the wrong order;
- a later move of m out of n units costs m / n of the products it touches;
- a group whose similarity did not change since it was solved is not solved again.

Products and similarities are float32, gains and objectives are summed in float64. Groups that vary
along another are moved together with it, see `nested_groups`.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from rebasin_lab.matching import assignment, nested_groups, products
from rebasin_lab.matching.similarity import GivenSimilarities, UnitSimilarity
from rebasin_lab.symmetry import (
    PermutationSpec,
    apply_permutation,
    compose_permutations,
    identity_permutation,
    permute_axes,
)

# Every update adds its rounding to a similarity: after so many it is multiplied out anew.
MAX_UPDATES = 200

Arrays = Mapping[str, Float32[np.ndarray, "..."]]
Moves = Mapping[str, np.ndarray]  # group -> index array, relative to B as permuted so far


@dataclasses.dataclass
class Cost:
    """What a search has cost so far."""

    num_assignments: int = 0
    assignment_seconds: float = 0.0
    product_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a group stands: an axis of an array, or for a family the whole array (axis None).

    Attributes:
        others: what is matched apart from it on the other axes.
        is_tied: whether the group stands on another axis, too: then the objective is quadratic in
            it, and an assignment only maximises a linearisation.
    """

    path: str
    axis: int | None
    others: frozenset[str]
    is_tied: bool = False


class Ascent:
    """One search over arrays with one name or None per axis.

    Attributes:
        names: what is matched one at a time: groups, and families by their root; after `grow` in
            the order in which it matched them.
        order: the permutation so far, of every group.
        b: B, permuted by it.
        cost: what the search has cost.
        tolerances: for each name, the gain below which it is rounding.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        arrays_a: Arrays,
        arrays_b: Arrays,
        similarities: Sequence[UnitSimilarity] = (),
        *,
        start: Mapping[str, np.ndarray] | None = None,
        cost: Cost | None = None,
    ):
        self.spec, self.a, self.b = spec, arrays_a, dict(arrays_b)
        self._still = identity_permutation(spec, arrays_b)
        self.order = dict(self._still if start is None else start)
        self.sizes = spec.all_sizes(arrays_a)
        self._given = GivenSimilarities(spec, similarities, self.sizes)
        self._own: set[str] = set()  # arrays of B that are ours to write to
        if start is not None:
            moved = apply_permutation(spec, start, self.b)
            self.b = {path: np.ascontiguousarray(leaf) for path, leaf in moved.items()}
            self._given.move(start)
            self._own = set(self.b)
        self.cost = cost or Cost()
        self._families = nested_groups.find_families(spec)
        self._nodes = nested_groups.nodes_of_groups(spec)
        self.names = list(dict.fromkeys(node for nodes in self._nodes.values() for node in nodes))
        self._places = {name: self._places_of(name) for name in self.names}
        self._similarity = {
            name: np.zeros((self.sizes[name],) * 2, np.float32)
            for name in self.names
            if name not in self._families
        }
        self.tolerances = {name: self._tolerance(name) for name in self.names}
        self._counted: set[tuple[str, Place]] = set()
        self._num_updates = dict.fromkeys(self.names, 0)
        self._matched: set[str] = set()
        self._settled: set[str] = set()
        for name in self.names:
            self._count_ready(name)

    def objective(self) -> float:
        """<A, pi(B)>, and the given similarity of the units that face each other, in float64."""
        return self._inner_product(self.a, self.b) + self._given.total()

    def grow(self, names: set[str] | None = None) -> None:
        """Match each group once, outwards from what is fixed or not to be grown.

        Args:
            names: what to grow, all by default; the rest stays as it is.
        """
        waiting = [name for name in self.names if names is None or name in names]
        self.names = [name for name in self.names if name not in waiting]
        self.stay()
        while waiting:
            # Counting what is known gave better optima than its share of all there is to know, or
            # its norm (DESIGN.md, Matching).
            name = max(waiting, key=self._num_known)
            waiting.remove(name)
            self.names.append(name)
            self.improve(name)
            self._match(name)

    def stay(self) -> None:
        """Take the present permutation as the one to improve."""
        for name in self.names:
            self._match(name)

    def improve(self, name: str) -> float:
        """Give one group, or family, its best order, the rest held; returns the gain, often 0."""
        if name in self._settled:
            return 0.0
        self._settled.add(name)
        if self._num_updates[name] > MAX_UPDATES:
            self._multiply_anew(name)
        if name in self._families:
            moves, gain = self._best_of_family(name)
        else:
            moves, gain = self._best_of_group(name)
        if gain <= self.tolerances[name]:
            return 0.0
        self._move(name, moves)
        if any(place.is_tied for place in self._places[name]):
            self._settled.discard(name)  # its own move changed what it was solved for
        return gain

    def sweep(self) -> float:
        """Improve each group in turn; returns the gain, 0 if nothing is left to improve."""
        return math.fsum(self.improve(name) for name in self.names)

    def _best_of_group(self, name: str) -> tuple[Moves, float]:
        similarity = self._similarity[name]
        # A tied place says something only once its group is matched: it looks at it twice.
        tied = [p for p in self._places[name] if p.is_tied and name in self._matched]
        given = self._given.matrices(name)
        if tied or given:
            similarity = similarity.copy()
            for place in tied:
                products.add_unit_products(
                    similarity, self.a[place.path], self.b[place.path], place.axis
                )
            for matrix in given:
                similarity += matrix
        order = self._solve(similarity)
        if not tied:
            return {name: order}, _gain(similarity, order)
        # Only part of the objective is linear in this group.
        gain = math.fsum(_gain(m, order) for m in (self._similarity[name], *given))
        for path in {place.path for place in tied}:
            moved = self._permuted(path, {name: order})
            gain += products.inner_product([self.a[path]], [moved])
            gain -= products.inner_product([self.a[path]], [self.b[path]])
        return {name: order}, gain

    def _best_of_family(self, name: str) -> tuple[Moves, float]:
        started = time.perf_counter()
        family, given = self._families[name], self._given.of(name)
        tied = {p.path for p in self._places[name] if p.is_tied and name in self._matched}
        paths = [p.path for p in self._places[name] if (name, p) in self._counted] + sorted(tied)
        arrays = [{path: leaves[path] for path in paths} for leaves in (self.a, self.b)]
        moves, gain = family.best_moves(*arrays, given, self.sizes, _match_insides)
        if tied:
            # Only a linearisation was maximised: what has been won must be measured.
            moved = family.moved(arrays[1], moves)
            before, after = (
                products.inner_product(arrays[0].values(), (b[path] for path in paths))
                for b in (arrays[1], moved)
            )
            gain = after - before + self._given.gain(moves)
        self.cost.num_assignments += 1
        self.cost.assignment_seconds += time.perf_counter() - started
        return moves, gain

    def _solve(self, similarity: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        order = assignment.solve_assignment(similarity)
        self.cost.num_assignments += 1
        self.cost.assignment_seconds += time.perf_counter() - started
        return order

    def _move(self, name: str, moves: Moves) -> None:
        started = time.perf_counter()
        self._given.move(moves)
        if name in self._families:
            self._move_family(name, moves)
        else:
            order = moves[name]
            self.order[name] = self.order[name][order]
            self._similarity[name] = self._similarity[name].take(order, axis=1)
            slots = np.flatnonzero(order != np.arange(order.size))
            for path in dict.fromkeys(place.path for place in self._places[name]):
                self._move_units(name, path, slots, order)
        self.cost.product_seconds += time.perf_counter() - started

    def _move_units(self, name: str, path: str, slots: np.ndarray, order: np.ndarray) -> None:
        """Fill some slots of one array with other units, and tell the similarities it is in."""
        names = self.spec.axes[path]
        if names.count(name) > 1:
            self._replace(name, path, self._permuted(path, {name: order}))
            return
        axis, a, old = names.index(name), self.a[path], self.b[path]
        new = old.take(order[slots], axis)
        is_whole = slots.size == order.size
        if self._is_counted_beside(name, path):
            if is_whole:
                self._update(name, path, a, new - old)
            else:
                change = old.take(slots, axis)
                np.subtract(new, change, out=change)
                self._update(name, path, a.take(slots, axis), change)
        if is_whole:
            self.b[path] = new
        else:
            if path not in self._own:
                self.b[path] = old.copy()
            self.b[path][(slice(None),) * axis + (slots,)] = new
        self._own.add(path)
        self._unsettle_beside(name, path)

    def _move_family(self, name: str, moves: Moves) -> None:
        self.order = compose_permutations({**self._still, **moves}, self.order)
        family = self._families[name]
        arrays = {path: self.b[path] for path in family.spec.axes}
        for path, new in family.moved(arrays, moves).items():
            self._replace(name, path, new)

    def _replace(self, name: str, path: str, new: np.ndarray) -> None:
        """Put another array in the place of one of B's."""
        if self._is_counted_beside(name, path):
            self._update(name, path, self.a[path], new - self.b[path])
        self.b[path] = np.ascontiguousarray(new)
        self._own.add(path)
        self._unsettle_beside(name, path)

    def _update(self, name: str, path: str, a: np.ndarray, change: np.ndarray) -> None:
        """Add what changed in an array of B to the similarities of the groups beside one."""
        for other, place in self._beside(name, path):
            if place.axis is not None and (other, place) in self._counted:
                self._num_updates[other] += 1
                products.add_unit_products(self._similarity[other], a, change, place.axis)

    def _beside(self, name: str, path: str) -> list[tuple[str, Place]]:
        """What else is matched in an array, and where it stands there."""
        others = dict.fromkeys(
            node for n in self.spec.axes[path] for node in self._nodes.get(n, ())
        )
        return [
            (other, place)
            for other in others
            if other != name
            for place in self._places[other]
            if place.path == path
        ]

    def _is_counted_beside(self, name: str, path: str) -> bool:
        return any(
            place.axis is not None and (other, place) in self._counted
            for other, place in self._beside(name, path)
        )

    def _unsettle_beside(self, name: str, path: str) -> None:
        for other, place in self._beside(name, path):
            if (other, place) in self._counted or place.is_tied:
                self._settled.discard(other)

    def _match(self, name: str) -> None:
        """Count every place whose other groups are all matched, now that this one is."""
        self._matched.add(name)
        if any(place.is_tied for place in self._places[name]):
            self._settled.discard(name)
        for path in dict.fromkeys(place.path for place in self._places[name]):
            for other, _ in self._beside(name, path):
                self._count_ready(other)

    def _count_ready(self, name: str) -> None:
        started = time.perf_counter()
        for place in self._places[name]:
            if (name, place) in self._counted or place.is_tied:
                continue
            if place.others <= self._matched:
                self._counted.add((name, place))
                self._settled.discard(name)
                if place.axis is not None:
                    a, b = self.a[place.path], self.b[place.path]
                    products.add_unit_products(self._similarity[name], a, b, place.axis)
        self.cost.product_seconds += time.perf_counter() - started

    def _multiply_anew(self, name: str) -> None:
        self._num_updates[name] = 0
        self._similarity[name][:] = 0
        for place in self._places[name]:
            if (name, place) in self._counted:
                a, b = self.a[place.path], self.b[place.path]
                products.add_unit_products(self._similarity[name], a, b, place.axis)

    def _num_known(self, name: str) -> float:
        """Scalars that count, for each unit."""
        counted = [self.a[p.path].size for p in self._places[name] if (name, p) in self._counted]
        return sum(counted) / max(1, self.sizes[name])

    def _permuted(self, path: str, moves: Moves) -> np.ndarray:
        names = [name if name in moves else None for name in self.spec.axes[path]]
        return permute_axes(self.b[path], names, moves)

    def _places_of(self, name: str) -> list[Place]:
        if name in self._families:
            family = self._families[name]
            return [
                Place(path, None, frozenset(self._others(name, path)), family.is_tied(path))
                for path in family.spec.axes
            ]
        places = []
        for path, axis in self.spec.permutations[name]:
            is_tied = self.spec.axes[path].count(name) > 1
            places.append(Place(path, axis, frozenset(self._others(name, path)), is_tied))
        return places

    def _others(self, name: str, path: str) -> list[str]:
        nodes = (node for n in self.spec.axes[path] for node in self._nodes.get(n, ()))
        return [node for node in nodes if node != name]

    def _tolerance(self, name: str) -> float:
        """What rounding can make of the similarities of one group."""
        paths = {place.path for place in self._places[name]}
        squares = [
            math.fsum(products.inner_product([x[path]], [x[path]]) for path in paths)
            for x in (self.a, self.b)
        ]
        scale = math.sqrt(squares[0] * squares[1]) + self._given.scale(name)
        return assignment.FLOAT32_TIE * scale

    def _inner_product(self, a: Arrays, b: Arrays) -> float:
        return products.inner_product(a.values(), (b[path] for path in a))


def _gain(similarity: np.ndarray, order: np.ndarray) -> float:
    chosen = similarity[np.arange(order.size), order].astype(np.float64)
    return float((chosen - similarity.diagonal()).sum())


def _match_insides(
    spec: PermutationSpec, a: Arrays, b: Arrays, similarities: Sequence[UnitSimilarity]
) -> tuple[dict[str, np.ndarray], float, float]:
    """A small matching problem: the better of growing and staying, then improved to the end."""
    searches = [Ascent(spec, a, b, similarities) for _ in range(2)]
    start = searches[0].objective()
    searches[0].grow()
    searches[1].stay()
    for search in searches:
        while search.sweep():
            pass
    best = max(searches[::-1], key=lambda search: search.objective())  # to stay, on a tie
    return best.order, best.objective(), start
