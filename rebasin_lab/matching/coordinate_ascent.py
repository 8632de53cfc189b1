"""Coordinate ascent on <A, pi(B)>, the loop of every matcher of weights.

With all permutations but one fixed, the best choice for that one is a linear assignment problem
(Ainsworth et al. 2022, Algorithm 1): a block update. Its similarity matrix is a sum over the axes
that the group moves. B itself is not permuted: the columns of a similarity are the units of B in
their first order. A similarity is brought up to date before a block update, with few products:

- an axis *counts* once the groups on the other axes of its array are matched. The constructive
  start (`construct`) begins at the axes that no permutation moves and next takes the group with the
  most known weights per unit, so that no unit that is not matched yet has an influence;
- a later move of m out of n units costs m / n of the products it affects;
- a group is up to date, and not solved again, until its similarity changes.

Products and similarities are float32, gains and objectives are summed in float64. Nested groups
move together, see `nested_groups`.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from rebasin_lab.matching import assignment, nested_groups, products
from rebasin_lab.matching.similarity import GivenSimilarities, UnitSimilarity
from rebasin_lab.symmetry import PermutationSpec, compose_permutations, indexing
from rebasin_lab.symmetry.permutations import identity_of_sizes

# Every update adds rounding to a similarity: after so many it is computed from scratch.
MAX_UPDATES = 200

Arrays = Mapping[str, Float32[np.ndarray, "..."]]
Squares = Mapping[str, tuple[float, float]]  # path -> of an array of A, and of B
Moves = Mapping[str, np.ndarray]  # group -> index array, relative to B as permuted so far


@dataclasses.dataclass
class Cost:
    """Assignments solved and wall time spent in a search so far."""

    num_assignments: int = 0
    assignment_seconds: float = 0.0
    product_seconds: float = 0.0


@dataclasses.dataclass(eq=False)
class Place:
    """An axis of an array that a group moves; for nested groups the whole array (axis None).

    Attributes:
        others: the groups on the other axes that are matched separately.
        is_tied: whether the group moves another axis, too: then the objective is quadratic in it,
            and an assignment only maximises a linearisation.
        orders: the orders of the groups on the other axes for which the similarity was computed;
            None before.
    """

    path: str
    axis: int | None
    others: frozenset[str]
    is_tied: bool = False
    orders: dict[str, np.ndarray] | None = None


class CoordinateAscent:
    """Coordinate ascent over arrays with one name or None per axis.

    Attributes:
        names: the blocks: groups, and nested groups by their root; after `construct` in the order
            in which it matched them.
        order: the present permutation of every group.
        cost: assignments and time so far.
        tolerances: for each name, the largest gain that may be rounding.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        arrays_a: Arrays,
        arrays_b: Arrays,
        similarities: Sequence[UnitSimilarity] = (),
        *,
        start: Mapping[str, np.ndarray] | None = None,
        squares: Squares | None = None,
    ):
        self.spec, self.a, self._b = spec, arrays_a, arrays_b
        self.sizes = spec.all_sizes(arrays_a)
        self.cost = Cost()
        self._identity = identity_of_sizes(spec, self.sizes)
        self._similarities = similarities
        self._nests = nested_groups.find_nested_groups(spec)
        self._paths_of_nested = {
            path for path, names in spec.axes.items() if not {*spec.dependents}.isdisjoint(names)
        }
        self._roots = nested_groups.roots_of_groups(spec)
        names = list(dict.fromkeys(root for roots in self._roots.values() for root in roots))
        self._places = {name: self._places_of(name) for name in names}
        self._is_plain = {p.path for places in self._places.values() for p in places} == {
            *arrays_a
        } and not any(p.is_tied for places in self._places.values() for p in places)
        self._in_array: dict[str, list[tuple[str, Place]]] = {}
        for name, places in self._places.items():
            for place in places:
                self._in_array.setdefault(place.path, []).append((name, place))
        self._first_given = GivenSimilarities(spec, similarities, self.sizes)
        self.tolerances = self._tolerances(squares or squares_of(arrays_a, arrays_b))
        self.restart(start)

    def restart(self, start: Mapping[str, np.ndarray] | None = None) -> None:
        """Start again from a permutation, the identity by default."""
        self.order = dict(self._identity if start is None else start)
        self.names = list(self._places)
        self._given = copy.copy(self._first_given)  # a move leaves the original as it is
        if start is not None:
            self._given.move(start)
        self._similarity: dict[str, np.ndarray] = {}
        self._num_updates = dict.fromkeys(self.names, 0)
        self._matched: set[str] = set()
        self._current: set[str] = set()
        for places in self._places.values():
            for place in places:
                place.orders = None

    @property
    def b(self) -> dict[str, np.ndarray]:
        """B in its present order."""
        return {path: self._moved(path, self.order) for path in self._b}

    def objective(self) -> float:
        """<A, pi(B)> plus the given similarities of paired units, in float64."""
        moved = (self._moved(path, self.order) for path in self.a)
        return products.inner_product(self.a.values(), moved) + self._given.total()

    def construct(self, names: set[str] | None = None) -> float:
        """Match each group once, next the one with the most known weights per unit.

        Args:
            names: the groups to match, all by default; the others keep their order and count.

        Returns:
            The objective after it.
        """
        waiting = [name for name in self.names if names is None or name in names]
        self.names = [name for name in self.names if name not in waiting]
        self.keep()
        known = []
        while waiting:
            # The number of known weights gave better optima than their share of all weights, or
            # their norm (DESIGN.md, Matching).
            name = max(waiting, key=self._num_known_weights)
            waiting.remove(name)
            self.names.append(name)
            self.update_block(name)
            if name in self._similarity:
                total = assignment.total_similarity(self._similarity[name], self.order[name])
                known.append(total)
            self._mark_matched(name)
        # Of plain groups each array counted once, when its last group was matched: the sum is the
        # objective.
        is_complete = len(known) == len(self._places) and not self._similarities
        return math.fsum(known) if is_complete and self._is_plain else self.objective()

    def keep(self) -> None:
        """Keep the present permutation as the start: all groups count as matched."""
        for name in self.names:
            self._mark_matched(name)

    def update_block(self, name: str) -> float:
        """Give one block its best order, all others fixed; returns the gain, 0 if up to date."""
        if name in self._current:
            return 0.0
        self._current.add(name)
        best = self._best_of_nested if name in self._nests else self._best_of_group
        moves, gain = best(name)
        if gain <= self.tolerances[name]:
            return 0.0
        if name in self._nests:
            order = compose_permutations({**self._identity, **moves}, self.order)
            self.order.update({member: order[member] for member in moves})
        else:
            self.order[name] = self.order[name][moves[name]]
        if self._similarities:
            self._given.move(moves)
        self._mark_neighbours_outdated(name)
        return gain

    def sweep(self) -> float:
        """Update each block in turn; returns the gain, 0 at a local optimum."""
        return math.fsum(self.update_block(name) for name in self.names)

    def _best_of_group(self, name: str) -> tuple[Moves, float]:
        started = time.perf_counter()
        similarity, before = self._current_similarity(name), self.order[name]
        self.cost.product_seconds += time.perf_counter() - started
        now = np.argsort(before)  # the slot of each unit of B
        linear = [similarity]
        if self._similarities:
            linear += [one.matrix[:, now] for one in self._given.about(name)]
        # A tied place holds its group twice, so it counts only once that is matched.
        tied = [p for p in self._places[name] if p.is_tied and name in self._matched]
        facing = np.zeros_like(similarity) if tied else None
        for place in tied:
            moved = self._moved(place.path, self.order)
            products.add_unit_products(facing, self.a[place.path], moved, place.axis)
        every = [*linear, facing[:, now]] if tied else linear
        started = time.perf_counter()
        order = assignment.solve_assignment(sum(every[1:], start=similarity))
        self.cost.num_assignments += 1
        self.cost.assignment_seconds += time.perf_counter() - started
        gain = math.fsum(_gain(matrix, before, order) for matrix in linear)
        # The objective is not linear in a tied group: measure the gain.
        for path in dict.fromkeys(place.path for place in tied):
            still, moved = (
                self._moved(path, orders) for orders in (self.order, {**self.order, name: order})
            )
            gain += products.inner_product([self.a[path]], [moved])
            gain -= products.inner_product([self.a[path]], [still])
        return {name: now[order]}, gain

    def _best_of_nested(self, name: str) -> tuple[Moves, float]:
        started = time.perf_counter()
        nested, given = self._nests[name], self._given.about(name)
        tied = {p.path for p in self._places[name] if p.is_tied and name in self._matched}
        paths = [p.path for p in self._places[name] if self._counts(p)] + sorted(tied)
        a = {path: self.a[path] for path in paths}
        b = {path: self._moved(path, self.order) for path in paths}
        moves, gain = nested.best_moves(a, b, given, self.sizes, _match_subproblem)
        if tied:
            # Only a linearisation was maximised: measure the gain.
            moved = nested.moved(b, moves)
            before, after = (
                products.inner_product(a.values(), (arrays[path] for path in paths))
                for arrays in (b, moved)
            )
            gain = after - before + self._given.gain(moves)
        self.cost.num_assignments += 1
        self.cost.assignment_seconds += time.perf_counter() - started
        return moves, gain

    def _current_similarity(self, name: str) -> np.ndarray:
        """The similarity of a group for the present orders of all others."""
        places = [place for place in self._places[name] if self._counts(place)]
        if name not in self._similarity or self._num_updates[name] > MAX_UPDATES:
            self._similarity[name] = np.zeros((self.sizes[name],) * 2, np.float32)
            self._num_updates[name] = 0
            for place in places:
                place.orders = None
        total = self._similarity[name]
        vectors = [p.path for p in places if p.orders is None and self.a[p.path].ndim == 1]
        if vectors:  # one product of them all, since they have one entry a unit
            a, b = (np.stack([arrays[path] for path in vectors]) for arrays in (self.a, self._b))
            products.add_unit_products(total, a, b, 1)
        for place in places:
            orders = {n: self.order[n] for n in self._other_groups(name, place.path)}
            for a, b in self._changes(place, orders) if place.path not in vectors else ():
                self._num_updates[name] += place.orders is not None
                products.add_unit_products(total, a, b, place.axis)
            place.orders = orders
        return total

    def _changes(
        self, place: Place, orders: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of arrays whose products update a similarity to these orders of other groups."""
        path = place.path
        if place.orders is None:
            yield self.a[path], self._moved(path, orders)
            return
        names, changed = (
            self.spec.axes[path],
            [name for name, order in orders.items() if order is not place.orders[name]],
        )
        if not changed:
            return
        if len(changed) > 1 or path in self._paths_of_nested or names.count(changed[0]) > 1:
            yield self.a[path], self._moved(path, orders) - self._moved(path, place.orders)
            return
        # Only the slots whose unit has changed.
        (name,) = changed
        axis, new, old = names.index(name), orders[name], place.orders[name]
        slots = np.flatnonzero(new != old)
        rest = {other: order for other, order in orders.items() if other != name}
        change = self._b[path].take(new[slots], axis)
        change -= self._b[path].take(old[slots], axis)
        is_whole = slots.size == new.size
        a = self.a[path] if is_whole else self.a[path].take(slots, axis)
        yield a, self._taken(change, names, rest)

    def _moved(self, path: str, orders: Mapping[str, np.ndarray]) -> np.ndarray:
        """An array of B with the groups on its axes in these orders; C-contiguous."""
        names, array = self.spec.axes[path], self._b[path]
        if path not in self._paths_of_nested:
            return self._taken(array, names, orders)
        entries = tuple(
            entry if name in orders or entry is None or entry.is_fixed else None
            for name, entry in zip(names, self.spec.entries[path], strict=True)
        )
        index = indexing.index_arrays(entries, array.shape, orders, self.sizes)
        return np.ascontiguousarray(array[tuple(index)])

    def _taken(
        self, array: np.ndarray, names: Sequence[str | None], orders: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        for axis, name in enumerate(names):
            if name in orders and orders[name] is not self._identity[name]:
                array = array.take(orders[name], axis)
        return array

    def _counts(self, place: Place) -> bool:
        return not place.is_tied and place.others <= self._matched

    def _mark_matched(self, name: str) -> None:
        """Let a group count on the other axes of its arrays."""
        self._matched.add(name)
        self._mark_neighbours_outdated(name)

    def _mark_neighbours_outdated(self, name: str) -> None:
        """Mark the groups that share an array with this one as not up to date."""
        for path in dict.fromkeys(place.path for place in self._places[name]):
            for other, place in self._in_array[path]:
                if place.is_tied or (other != name and self._counts(place)):
                    self._current.discard(other)

    def _num_known_weights(self, name: str) -> float:
        """The number of weights that count, per unit."""
        counted = [self.a[p.path].size for p in self._places[name] if self._counts(p)]
        return sum(counted) / max(1, self.sizes[name])

    def _places_of(self, name: str) -> list[Place]:
        if name in self._nests:
            nested = self._nests[name]
            return [
                Place(path, None, frozenset(self._others(name, path)), nested.is_tied(path))
                for path in nested.spec.axes
            ]
        places = []
        for path, axis in self.spec.permutations[name]:
            is_tied = self.spec.axes[path].count(name) > 1
            places.append(Place(path, axis, frozenset(self._others(name, path)), is_tied))
        return places

    def _others(self, name: str, path: str) -> list[str]:
        roots = (root for n in self.spec.axes[path] for root in self._roots.get(n, ()))
        return [root for root in roots if root != name]

    def _other_groups(self, name: str, path: str) -> list[str]:
        return [n for n in self.spec.axes[path] if n in self.order and n != name]

    def _tolerances(self, squares: Squares) -> dict[str, float]:
        """The largest error that rounding can make in the similarity of each group."""
        tolerances = {}
        for name, places in self._places.items():
            paths = {place.path for place in places}
            norms = (math.fsum(squares[path][side] for path in paths) for side in (0, 1))
            scale = math.sqrt(math.prod(norms))
            if self._similarities:
                scale += self._first_given.scale(name)
            tolerances[name] = assignment.FLOAT32_TIE * scale
        return tolerances


def squares_of(arrays_a: Arrays, arrays_b: Arrays) -> Squares:
    """The squared norms of every array, of A and of B."""
    of_a, of_b = products.squares(arrays_a), products.squares(arrays_b)
    return {path: (of_a[path], of_b[path]) for path in arrays_a}


def _gain(similarity: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    slots = np.arange(after.size)
    now, then = (similarity[slots, order].astype(np.float64) for order in (after, before))
    return float((now - then).sum())


def _match_subproblem(
    spec: PermutationSpec, a: Arrays, b: Arrays, similarities: Sequence[UnitSimilarity]
) -> tuple[dict[str, np.ndarray], float]:
    """The better local optimum of a small problem: from the identity or a constructive start."""
    ascent = CoordinateAscent(spec, a, b, similarities)
    ends = []
    for first_pass in (ascent.keep, ascent.construct):
        ascent.restart()
        first_pass()
        while ascent.sweep():
            pass
        ends.append((ascent.order, ascent.objective()))
    best, objective = max(ends, key=lambda end: end[1])  # the first, on a tie
    return best, objective
