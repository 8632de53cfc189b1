"""Coordinate ascent on <A, pi(B)>, the loop that every matcher of weights runs.

With all permutations but one held, the best choice for that one is a linear assignment problem
(Ainsworth et al. 2022, Algorithm 1). Its similarity matrix is a sum over the places where the group
stands: an axis of an array each. B itself stays as it is: a similarity has the units of B in their
first order as its columns, and is brought up to date when its group is visited, so that nothing is
multiplied twice:

- a place *counts* once the groups on the other axes of its array are matched. A first pass (`grow`)
  starts from the axes that nobody permutes and works its way in, always taking the group about
  whose units most is known; so it is never guided by units that are still in the wrong order;
- a later move of m out of n units costs m / n of the products it touches;
- a group whose similarity did not change since it was solved is not solved again.

Products and similarities are float32, gains and objectives are summed in float64. Groups that vary
along another are moved together with it, see `nested_groups`.
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

# Every update adds its rounding to a similarity: after so many it is multiplied out anew.
MAX_UPDATES = 200

Arrays = Mapping[str, Float32[np.ndarray, "..."]]
Squares = Mapping[str, tuple[float, float]]  # path -> of an array of A, and of B
Moves = Mapping[str, np.ndarray]  # group -> index array, relative to B as permuted so far


@dataclasses.dataclass
class Cost:
    """What a search has cost so far."""

    num_assignments: int = 0
    assignment_seconds: float = 0.0
    product_seconds: float = 0.0


@dataclasses.dataclass(eq=False)
class Place:
    """Where a group stands: an axis of an array, or for a family the whole array (axis None).

    Attributes:
        others: what is matched apart from it on the other axes.
        is_tied: whether the group stands on another axis, too: then the objective is quadratic in
            it, and an assignment only maximises a linearisation.
        orders: of the groups on the other axes, as its similarity was multiplied out for them; None
            before.
    """

    path: str
    axis: int | None
    others: frozenset[str]
    is_tied: bool = False
    orders: dict[str, np.ndarray] | None = None


class Ascent:
    """One search over arrays with one name or None per axis.

    Attributes:
        names: what is matched one at a time: groups, and families by their root; after `grow` in
            the order in which it matched them.
        order: the permutation so far, of every group.
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
        squares: Squares | None = None,
    ):
        self.spec, self.a, self._b = spec, arrays_a, arrays_b
        self.sizes = spec.all_sizes(arrays_a)
        self.cost = Cost()
        self._still = identity_of_sizes(spec, self.sizes)
        self._similarities = similarities
        self._families = nested_groups.find_families(spec)
        self._nested = {
            path for path, names in spec.axes.items() if not {*spec.dependents}.isdisjoint(names)
        }
        self._nodes = nested_groups.nodes_of_groups(spec)
        names = list(dict.fromkeys(node for nodes in self._nodes.values() for node in nodes))
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
        """Forget all that was found, and set out from a permutation: the identity by default."""
        self.order = dict(self._still if start is None else start)
        self.names = list(self._places)
        self._given = copy.copy(self._first_given)  # a move leaves the original as it is
        if start is not None:
            self._given.move(start)
        self._similarity: dict[str, np.ndarray] = {}
        self._num_updates = dict.fromkeys(self.names, 0)
        self._matched: set[str] = set()
        self._settled: set[str] = set()
        for places in self._places.values():
            for place in places:
                place.orders = None

    @property
    def b(self) -> dict[str, np.ndarray]:
        """B, permuted so far."""
        return {path: self._moved(path, self.order) for path in self._b}

    def objective(self) -> float:
        """<A, pi(B)>, and the given similarity of the units that face each other, in float64."""
        moved = (self._moved(path, self.order) for path in self.a)
        return products.inner_product(self.a.values(), moved) + self._given.total()

    def grow(self, names: set[str] | None = None) -> float:
        """Match each group once, outwards from what is fixed or not to be grown.

        Args:
            names: what to grow, all by default; the rest stays as it is.

        Returns:
            The objective that comes of it.
        """
        waiting = [name for name in self.names if names is None or name in names]
        self.names = [name for name in self.names if name not in waiting]
        self.stay()
        known = []
        while waiting:
            # Counting what is known gave better optima than its share of all there is to know, or
            # its norm (DESIGN.md, Matching).
            name = max(waiting, key=self._num_known)
            waiting.remove(name)
            self.names.append(name)
            self.improve(name)
            if name in self._similarity:
                total = assignment.total_similarity(self._similarity[name], self.order[name])
                known.append(total)
            self._match(name)
        # Where all were plain groups, each array counted once: when the last of its groups was
        # matched. To permute all of B and multiply would give the same.
        is_whole = len(known) == len(self._places) and not self._similarities
        return math.fsum(known) if is_whole and self._is_plain else self.objective()

    def stay(self) -> None:
        """Take the present permutation as the one to improve."""
        for name in self.names:
            self._match(name)

    def improve(self, name: str) -> float:
        """Give one group, or family, its best order, the rest held; returns the gain, often 0."""
        if name in self._settled:
            return 0.0
        self._settled.add(name)
        best = self._best_of_family if name in self._families else self._best_of_group
        moves, gain = best(name)
        if gain <= self.tolerances[name]:
            return 0.0
        if name in self._families:
            order = compose_permutations({**self._still, **moves}, self.order)
            self.order.update({member: order[member] for member in moves})
        else:
            self.order[name] = self.order[name][moves[name]]
        if self._similarities:
            self._given.move(moves)
        self._unsettle_beside(name)
        return gain

    def sweep(self) -> float:
        """Improve each group in turn; returns the gain, 0 if nothing is left to improve."""
        return math.fsum(self.improve(name) for name in self.names)

    def _best_of_group(self, name: str) -> tuple[Moves, float]:
        started = time.perf_counter()
        similarity, before = self._up_to_date(name), self.order[name]
        self.cost.product_seconds += time.perf_counter() - started
        now = np.argsort(before)  # the slot of each unit of B
        linear = [similarity]
        if self._similarities:
            linear += [matrix[:, now] for matrix in self._given.matrices(name)]
        # A tied place says something only once its group is matched: it looks at it twice.
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
        # Of a tied group only part of the objective is linear.
        for path in dict.fromkeys(place.path for place in tied):
            still, moved = (
                self._moved(path, orders) for orders in (self.order, {**self.order, name: order})
            )
            gain += products.inner_product([self.a[path]], [moved])
            gain -= products.inner_product([self.a[path]], [still])
        return {name: now[order]}, gain

    def _best_of_family(self, name: str) -> tuple[Moves, float]:
        started = time.perf_counter()
        family, given = self._families[name], self._given.of(name)
        tied = {p.path for p in self._places[name] if p.is_tied and name in self._matched}
        paths = [p.path for p in self._places[name] if self._counts(p)] + sorted(tied)
        a = {path: self.a[path] for path in paths}
        b = {path: self._moved(path, self.order) for path in paths}
        moves, gain = family.best_moves(a, b, given, self.sizes, _match_insides)
        if tied:
            # Only a linearisation was maximised: what has been won must be measured.
            moved = family.moved(b, moves)
            before, after = (
                products.inner_product(a.values(), (arrays[path] for path in paths))
                for arrays in (b, moved)
            )
            gain = after - before + self._given.gain(moves)
        self.cost.num_assignments += 1
        self.cost.assignment_seconds += time.perf_counter() - started
        return moves, gain

    def _up_to_date(self, name: str) -> np.ndarray:
        """The similarity of a group, with all that has moved beside it since its last visit."""
        places = [place for place in self._places[name] if self._counts(place)]
        if name not in self._similarity or self._num_updates[name] > MAX_UPDATES:
            self._similarity[name] = np.zeros((self.sizes[name],) * 2, np.float32)
            self._num_updates[name] = 0
            for place in places:
                place.orders = None
        total = self._similarity[name]
        alone = [p.path for p in places if p.orders is None and self.a[p.path].ndim == 1]
        if alone:  # many vectors of one entry a unit: one product of them all
            a, b = (np.stack([arrays[path] for path in alone]) for arrays in (self.a, self._b))
            products.add_unit_products(total, a, b, 1)
        for place in places:
            orders = {n: self.order[n] for n in self._groups_beside(name, place.path)}
            for a, b in self._changes(place, orders) if place.path not in alone else ():
                self._num_updates[name] += place.orders is not None
                products.add_unit_products(total, a, b, place.axis)
            place.orders = orders
        return total

    def _changes(
        self, place: Place, orders: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Arrays whose products are what these orders of the other groups add to a similarity."""
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
        if len(changed) > 1 or path in self._nested or names.count(changed[0]) > 1:
            yield self.a[path], self._moved(path, orders) - self._moved(path, place.orders)
            return
        # Only the slots that hold other units than before.
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
        """An array of B with the groups on its axes in these orders, in C order."""
        names, array = self.spec.axes[path], self._b[path]
        if path not in self._nested:
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
            if name in orders and orders[name] is not self._still[name]:
                array = array.take(orders[name], axis)
        return array

    def _counts(self, place: Place) -> bool:
        return not place.is_tied and place.others <= self._matched

    def _match(self, name: str) -> None:
        """From now on a group counts on the other axes of its arrays."""
        self._matched.add(name)
        self._unsettle_beside(name)

    def _unsettle_beside(self, name: str) -> None:
        """Have the groups that share an array with this one solved again."""
        for path in dict.fromkeys(place.path for place in self._places[name]):
            for other, place in self._in_array[path]:
                if place.is_tied or (other != name and self._counts(place)):
                    self._settled.discard(other)

    def _num_known(self, name: str) -> float:
        """Scalars that count, for each unit."""
        counted = [self.a[p.path].size for p in self._places[name] if self._counts(p)]
        return sum(counted) / max(1, self.sizes[name])

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

    def _groups_beside(self, name: str, path: str) -> list[str]:
        return [n for n in self.spec.axes[path] if n in self.order and n != name]

    def _tolerances(self, squares: Squares) -> dict[str, float]:
        """What rounding can make of the similarities of each group."""
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


def _match_insides(
    spec: PermutationSpec, a: Arrays, b: Arrays, similarities: Sequence[UnitSimilarity]
) -> tuple[dict[str, np.ndarray], float, float]:
    """A small matching problem: the better of growing and staying, then improved to the end."""
    search = Ascent(spec, a, b, similarities)
    start = search.objective()
    ends = []
    for first_pass in (search.stay, search.grow):
        search.restart()
        first_pass()
        while search.sweep():
            pass
        ends.append((search.order, search.objective()))
    best, objective = max(ends, key=lambda end: end[1])  # to stay, on a tie
    return best, objective, start
