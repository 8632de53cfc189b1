"""Nested groups: a root group and all groups that vary along it, matched in one block update.

Attention is an example: the similarity of a head of A and a head of B depends on the best
permutation of their dimensions, which is another assignment for every pair of heads. For a group h
of n units and d[h] of m units in each, n^2 assignments of size m give the similarities of heads,
and one of size n pairs them: exact, all other groups fixed.

If one array holds two groups that vary along h, as a grouped convolution does with the inputs c[h]
and the outputs o[h] of each of its groups, every pair of units is a small matching problem of the
groups c and o. A function that the caller passes solves it, but only for pairs whose bound is high
enough; one assignment pairs the units. (The small ones are local searches, and so is this.) A group
that only varies along "#" axes, such as a layer of a stack, counts as nested too: one assignment
per slot.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rebasin_lab.matching import assignment, products
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import PermutationSpec, apply_permutation, axes

# name -> [*held axes, units of A and of B for each group above it, its units of A, of B]
Scores = dict[str, np.ndarray]
Arrays = Mapping[str, np.ndarray]
Moves = dict[str, np.ndarray]

# Matches two small networks: (spec, arrays of A, of B, given similarities) -> the permutation and
# its objective.
SubMatcher = Callable[
    [PermutationSpec, Arrays, Arrays, Sequence[UnitSimilarity]], tuple[dict[str, np.ndarray], float]
]

# Units of A and of B -> the given similarities inside them, and that of the two themselves.
Given = Mapping[tuple[int, int], tuple[list[UnitSimilarity], float]]

# Multiplications for the bound of a pair of units, which then takes less time than matching it.
_MOST_CHOICES = 1e6
_FLOAT32_ERROR = 1e-6  # of a product, as a fraction of the norms


def roots_of_groups(spec: PermutationSpec) -> dict[str, list[str]]:
    """Group -> the roots that it varies along, directly or not; itself if there are none."""
    keys = {group.base: key for key, group in spec.groups.items()}
    nodes = {}
    for key, group in spec.groups.items():
        if not group.is_fixed:
            above = [keys[base] for base in _movable_parents(group)]
            nodes[key] = [k for k in above if not _movable_parents(spec.groups[k])] or [key]
    return nodes


def find_nested_groups(spec: PermutationSpec) -> dict[str, "NestedGroups"]:
    """Root -> nested groups, for every group that varies or that others vary along."""
    nodes = roots_of_groups(spec)
    roots = dict.fromkeys(root for key in spec.dependents for root in nodes[key])
    return {root: NestedGroups(spec, root) for root in roots}


class NestedGroups:
    """A root group and all groups that vary along it, in a spec whose axes hold one name each.

    Its own spec names these groups alone. Other groups that they vary along are fixed during the
    block update, so they are "#" names there.

    Attributes:
        keys: name in its own spec -> name in the whole spec; the root first, a group after all it
            varies along.
        spec: its own, of the arrays that hold any of its groups.
        root: the name in its own spec.
        chains: for each group those it varies along, from the root on, and last itself.
        held: for each group the "#" axes it varies along.
    """

    def __init__(self, spec: PermutationSpec, root: str):
        base = spec.groups[root].base
        members = {
            key: group for key, group in spec.groups.items() if key == root or base in group.parents
        }
        inside = {group.base for group in members.values()}
        held = {parent for group in members.values() for parent in group.parents} - inside

        def own_name(name: str | None) -> str | None:
            if name is None:
                return None
            group = spec.groups[name]
            if name in members:
                parents = (p if p in inside else _held_name(p) for p in group.parents)
                return axes.Group(group.base, tuple(parents)).key
            return _held_name(group.base) if group.base in held else None

        self.spec = PermutationSpec(
            {
                path: tuple(map(own_name, names))
                for path, names in spec.axes.items()
                if not members.keys().isdisjoint(names)
            }
        )
        ordered = sorted(members, key=lambda key: (key != root, len(members[key].parents)))
        self.keys = {own_name(key): key for key in ordered}
        self.root = own_name(root)
        self._bases = {self.spec.groups[name].base: name for name in self.keys}
        self._whole = self.keys | {
            _held_name(group.base): key for key, group in spec.groups.items() if group.base in held
        }
        self.chains, self.held = {}, {}
        for name in self.keys:
            parents = self.spec.groups[name].parents
            above = [key for key in self.keys if self.spec.groups[key].base in parents]
            self.chains[name] = [*above, name]
            self.held[name] = [parent for parent in parents if parent.startswith("#")]

    def best_moves(
        self,
        arrays_a: Arrays,
        arrays_b: Arrays,
        similarities: Sequence[UnitSimilarity],
        sizes: Mapping[str, int],
        submatch: SubMatcher | None = None,
    ) -> tuple[Moves, float]:
        """The best moves with all other groups fixed, and their gain.

        Args:
            arrays_a: the arrays of A that count.
            arrays_b: the same arrays of B in its present order.
            similarities: given in addition, columns in that order.
            sizes: units of each group, lengths of "#" axes, by the whole spec's names.
            submatch: needed if an array holds two groups that vary along one.

        Returns:
            Name in the whole spec -> index array, relative to the present order of B; and the gain.
        """
        own_sizes = {name: sizes[whole] for name, whole in self._whole.items()}
        own_names = {whole: name for name, whole in self._whole.items()}
        given = [
            UnitSimilarity(tuple(own_names[name] for name in one.entries), one.matrix)
            for one in similarities
        ]
        places = [place for path in arrays_a for place in self._places(path)]
        if all(self._is_chain(names) for _, names in places):
            moves, gain = self._by_assignments(places, arrays_a, arrays_b, given, own_sizes)
        else:
            moves, gain = _best_moves_by_pairs(self, arrays_a, arrays_b, given, own_sizes, submatch)
        return {whole: moves[name] for name, whole in self.keys.items()}, gain

    def is_tied(self, path: str) -> bool:
        """True if the root is on two axes of an array: the objective is quadratic in it."""
        return self.spec.axes[path].count(self.root) > 1

    def moved(self, arrays: Arrays, moves: Arrays) -> dict[str, np.ndarray]:
        """Its arrays after these moves, which have the whole spec's names."""
        own = {name: moves[whole] for name, whole in self.keys.items()}
        return apply_permutation(self.spec, own, dict(arrays))

    def identity(self, sizes: Mapping[str, int]) -> Moves:
        """The identity, as writable arrays."""
        return {
            name: np.tile(np.arange(sizes[name]), (*self._lengths_above(name, sizes), 1))
            if self.spec.groups[name].parents
            else np.arange(sizes[name])
            for name in self.keys
        }

    def _places(self, path: str) -> list[tuple[str, Sequence[str | None]]]:
        """The names on the axes of an array; one list for each axis of a tied root.

        The objective is linearised by keeping the root fixed on the other axis.
        """
        names = self.spec.axes[path]
        if not self.is_tied(path):
            return [(path, names)]
        return [
            (path, tuple(n if n != self.root or i == axis else None for i, n in enumerate(names)))
            for axis, name in enumerate(names)
            if name == self.root
        ]

    def _is_chain(self, names: Sequence[str | None]) -> bool:
        """True if the groups on an array's axes are one group and all it varies along."""
        members = [name for name in names if name in self.keys]
        return sorted(members) == sorted(self.chains[self._deepest(members)])

    def _deepest(self, names: Sequence[str | None]) -> str:
        return max(
            (name for name in names if name in self.keys), key=lambda name: len(self.chains[name])
        )

    def _by_assignments(
        self,
        places: Sequence[tuple[str, Sequence[str | None]]],
        arrays_a: Arrays,
        arrays_b: Arrays,
        similarities: Sequence[UnitSimilarity],
        sizes: Mapping[str, int],
    ) -> tuple[Moves, float]:
        scores = {
            name: np.zeros(
                [sizes[axis] for axis in self.held[name]]
                + [sizes[key] for key in self.chains[name] for _ in ("A", "B")]
            )
            for name in self.keys
        }
        for path, names in places:
            name = self._deepest(names)
            a, b = (self._units(name, names, arrays[path]) for arrays in (arrays_a, arrays_b))
            self._add(scores, name, self.chains[name], a @ b.swapaxes(-1, -2))
        for similarity in similarities:
            chain = [name for name in similarity.entries if name in self.keys]
            self._add(scores, self._deepest(chain), chain, similarity.matrix)
        moves = self._assign(scores, sizes)
        still = self._total(scores, self.identity(sizes), sizes)
        return moves, self._total(scores, moves, sizes) - still

    def _units(self, name: str, names: Sequence[str | None], array: np.ndarray) -> np.ndarray:
        """An array as [*held axes, units along the chain of a group, rest]."""
        first = [names.index(key) for key in (*self.held[name], *self.chains[name])]
        rest = [axis for axis in range(array.ndim) if axis not in first]
        array = array.transpose(*first, *rest)
        num_held, num_first = len(self.held[name]), len(first)
        num_units = int(np.prod(array.shape[num_held:num_first]))
        num_rest = int(np.prod(array.shape[num_first:]))
        return array.reshape(*array.shape[:num_held], num_units, num_rest)

    def _add(self, scores: Scores, name: str, chain: list[str], product: np.ndarray) -> None:
        """Add a product [*held axes, units of A, units of B], ordered by `chain`, to a score."""
        score, num_held, own_chain = scores[name], len(self.held[name]), self.chains[name]
        lengths = dict(zip(own_chain, score.shape[num_held::2], strict=True))
        product = product.reshape(*score.shape[:num_held], *(lengths[key] for key in chain * 2))
        pairs = [chain.index(key) + half for key in own_chain for half in (0, len(chain))]
        score += product.transpose(*range(num_held), *(num_held + axis for axis in pairs))

    def _assign(self, scores: Scores, sizes: Mapping[str, int]) -> Moves:
        """The best order at every level, solved from the innermost groups outwards."""
        totals = {name: score.copy() for name, score in scores.items()}
        orders = {}
        for name in reversed(self.keys):
            total = totals[name]
            orders[name], best = np.empty(total.shape[:-1], int), np.empty(total.shape[:-2])
            for place in np.ndindex(best.shape):
                orders[name][place] = best_order(total[place])
                best[place] = assignment.total_similarity(total[place], orders[name][place])
            if name != self.root:
                above = self.chains[name][-2]
                totals[above] += self._summed(best, self.held[name], self.held[above])
        moves: Moves = {}
        for name in self.keys:
            moves[name] = orders[name][self._facing(name, moves, sizes)]
        return moves

    def _summed(self, values: np.ndarray, held: list[str], above: list[str]) -> np.ndarray:
        """Sum values per slot over the held axes that the group above does not have."""
        values = values.sum(axis=tuple(i for i, axis in enumerate(held) if axis not in above))
        left = [axis for axis in held if axis in above]
        order = [left.index(axis) for axis in above]
        return values.transpose(*order, *range(len(above), values.ndim))

    def _facing(self, name: str, moves: Moves, sizes: Mapping[str, int]) -> tuple[np.ndarray, ...]:
        """Index of a group's scores: every slot of A, and the slot of B that is moved there.

        Each part has the shape of the group's slots, as in a permutation.
        """
        parents = self.spec.groups[name].parents
        lengths = self._lengths_above(name, sizes)
        slots = dict(zip(parents, np.indices(lengths), strict=True))
        index = [slots[axis] for axis in self.held[name]]
        for above in self.chains[name][:-1]:
            group = self.spec.groups[above]
            slot = slots[group.base]
            index += [slot, moves[above][(*(slots[parent] for parent in group.parents), slot)]]
        return tuple(index)

    def _total(self, scores: Scores, moves: Moves, sizes: Mapping[str, int]) -> float:
        """The total similarity of paired units after these moves."""
        total = 0.0
        for name, score in scores.items():
            slots = (part[..., None] for part in self._facing(name, moves, sizes))
            total += float(score[(*slots, np.arange(sizes[name]), moves[name])].sum())
        return total

    def _lengths_above(self, name: str, sizes: Mapping[str, int]) -> list[int]:
        parents = self.spec.groups[name].parents
        return [sizes[self._bases.get(parent, parent)] for parent in parents]


def _best_moves_by_pairs(
    nested: NestedGroups,
    arrays_a: Arrays,
    arrays_b: Arrays,
    similarities: Sequence[UnitSimilarity],
    sizes: Mapping[str, int],
    submatch: SubMatcher,
) -> tuple[dict[str, np.ndarray], float]:
    """Like `best_moves`, with a matching problem for every pair of units, in their own names."""
    root, outer = nested.root, nested.held[nested.root]
    pair = _PairProblem(nested, arrays_a, sizes)
    moves, gain = nested.identity(sizes), 0.0
    # A root that varies along "#" axes is matched slot by slot.
    for slots in itertools.product(*(range(sizes[axis]) for axis in outer)):
        at = dict(zip(outer, slots, strict=True))
        units = [{**at, root: unit} for unit in range(sizes[root])]
        a = [pair.inside(arrays_a, unit) for unit in units]
        b = [pair.inside(arrays_b, unit) for unit in units]
        given = {
            (i, j): pair.given(similarities, at, i, j, sizes)
            for i, j in np.ndindex(len(units), len(units))
        }
        # A pair that is not matched yet stands with its bound, so an assignment of matched pairs
        # alone is the best: no other can exceed its bound.
        values, inner_moves = pair.bounds(a, b, given), {}
        while True:
            order = assignment.solve_assignment(values)
            waiting = [one for one in enumerate(order.tolist()) if one not in inner_moves]
            if not waiting:
                break
            for i, j in waiting:
                inside, alone = given[i, j]
                inner_moves[i, j], best = submatch(pair.spec, a[i], b[j], inside)
                values[i, j] = best + alone
        gain += assignment.total_similarity(values, order)
        for i, (unit_a, unit_b) in enumerate(zip(a, b, strict=True)):
            inside, alone = given[i, i]
            still = products.inner_product(unit_a.values(), unit_b.values())
            gain -= still + math.fsum(one.total() for one in inside) + alone
        moves[root][slots] = order
        for i, j in enumerate(order.tolist()):
            pair.read_off(moves, {**at, root: i}, inner_moves[i, j])
    return moves, gain


class _PairProblem:
    """The matching problem of the groups inside one unit of A's root and one of B's.

    Attributes:
        spec: of the arrays inside a unit.
        names: name in the spec of the nested groups -> name in this one.
    """

    def __init__(self, nested: NestedGroups, arrays: Arrays, sizes: Mapping[str, int]):
        self.nested = nested
        self.fixed = [nested.root, *nested.held[nested.root]]
        self.paths = [path for path in arrays if nested.root in nested.spec.axes[path]]
        bases = {nested.spec.groups[name].base for name in self.fixed}
        self.names = {
            name: axes.Group(group.base, tuple(p for p in group.parents if p not in bases)).key
            for name, group in nested.spec.groups.items()
            if name not in self.fixed
        }
        names = {path: nested.spec.axes[path] for path in self.paths}
        self._zeros = {}
        for name in self.names:
            if not name.startswith("#") and all(name not in held for held in names.values()):
                # In no array that counts yet: an array of zeros holds it.
                left = [
                    n for n in (*nested.held[name], *nested.chains[name]) if n not in self.fixed
                ]
                names[f"zeros/{name}"] = left
                self._zeros[f"zeros/{name}"] = np.zeros([sizes[n] for n in left], np.float32)
        self.spec = PermutationSpec(
            {
                path: tuple(self.names.get(name) for name in held if name not in self.fixed)
                for path, held in names.items()
            }
        )

    def inside(self, arrays: Arrays, at: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The arrays at one unit of the root."""
        cut = {}
        for path in self.paths:
            index = tuple(at.get(name, slice(None)) for name in self.nested.spec.axes[path])
            cut[path] = np.array(arrays[path][index], order="C")  # no axis may be left
        return cut | self._zeros

    def given(
        self,
        similarities: Sequence[UnitSimilarity],
        at: Mapping[str, int],
        i: int,
        j: int,
        sizes: Mapping[str, int],
    ) -> tuple[list[UnitSimilarity], float]:
        """The given similarities inside unit i of A and unit j of B, and that of the two units."""
        inside, alone = [], 0.0
        for similarity in similarities:
            held = [name for name in similarity.entries if name.startswith("#")]
            chain = [name for name in similarity.entries if not name.startswith("#")]
            matrix = similarity.matrix[tuple(at.get(name, slice(None)) for name in held)]
            slots = matrix.shape[:-2]
            matrix = matrix.reshape(*slots, *(sizes[name] for name in chain * 2))
            axis = len(slots) + chain.index(self.nested.root)
            matrix = matrix.take(j, axis + len(chain)).take(i, axis)
            inner_names = [name for name in similarity.entries if name not in self.fixed]
            if len(chain) == 1:
                alone += float(matrix.sum(dtype=np.float64))
                continue
            size = math.prod(sizes[name] for name in chain if name != self.nested.root)
            entries = tuple(self.names[name] for name in inner_names)
            inside.append(UnitSimilarity(entries, matrix.reshape(*slots, size, size)))
        return inside, alone

    def bounds(self, a: Sequence[Arrays], b: Sequence[Arrays], given: Given) -> np.ndarray:
        """For each unit of A and of B, a number that no match of what is inside exceeds.

        Each slot of an array of A takes the slot of B that suits it best, also if another one has
        taken it. Of an array of several groups the first chooses, for each choice the others do.

        Args:
            a: the arrays inside each unit of A.
            b: likewise of B.
            given: what is given for each pair of units, see `given`.
        """
        n = len(a)
        bounds, scores = np.zeros((n, n)), {}
        squares_a, squares_b = ([products.squares(unit) for unit in units] for units in (a, b))
        for path, names in self.spec.axes.items():
            if not (n and a[0][path].size):
                continue
            lengths = (np.sqrt([unit[path] for unit in units]) for units in (squares_a, squares_b))
            largest = np.outer(*lengths)
            bounds += _FLOAT32_ERROR * largest
            named = [axis for axis, name in enumerate(names) if name is not None]
            slots_a, slots_b = (_in_slots([u[path] for u in units], named) for units in (a, b))
            num_slots, num_rows, num_rest = slots_a.shape
            if num_slots > 1 and num_slots**2 * (num_rows // n) ** 2 * num_rest > _MOST_CHOICES:
                bounds += largest
                continue
            first = names[named[0]] if named else None
            scores[first] = scores.get(first, 0) + _score_of_free_choice(slots_a, slots_b)
        for score in scores.values():
            bounds += score.reshape(n, len(score) // n, n, -1).max(axis=3).sum(axis=1)
        for pair, (inside, alone) in given.items():
            bounds[pair] += alone + sum(float(one.matrix.max(axis=-1).sum()) for one in inside)
        return bounds

    def read_off(
        self,
        moves: dict[str, np.ndarray],
        at: Mapping[str, int],
        inner: Arrays,
    ) -> None:
        """Write the moves inside one unit of the root into the moves of all nested groups."""
        slots = {self.nested.spec.groups[name].base: slot for name, slot in at.items()}
        for name in self.nested.keys:
            if name != self.nested.root:
                parents = self.nested.spec.groups[name].parents
                index = tuple(slots.get(parent, slice(None)) for parent in parents)
                moves[name][index] = inner[self.names[name]]


def _in_slots(units: Sequence[np.ndarray], named: Sequence[int]) -> np.ndarray:
    """Arrays of all units as [slots of the other named axes, units * first named axis, rest]."""
    array = np.stack(units)
    first, others = named[:1], named[1:]
    rest = [axis for axis in range(array.ndim - 1) if axis not in named]
    num_slots = math.prod(units[0].shape[axis] for axis in others)
    num_rest = math.prod(units[0].shape[axis] for axis in rest)
    array = array.transpose(*(axis + 1 for axis in others), 0, *(a + 1 for a in (*first, *rest)))
    return array.reshape(num_slots, -1, num_rest)


def _score_of_free_choice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over slots of A of the largest product with any slot of B: [rows of A, rows of B]."""
    total = 0
    for rows in a:
        total += functools.reduce(np.maximum, (rows @ other.T for other in b))
    return total


def best_order(similarity: np.ndarray) -> np.ndarray:
    """The best assignment; the identity on a tie."""
    order = assignment.solve_assignment(similarity)
    best = assignment.total_similarity(similarity, order)
    least = np.trace(similarity) + assignment.FLOAT64_TIE * abs(best)
    return order if best > least else np.arange(order.size)


def _movable_parents(group: axes.Group) -> list[str]:
    return [parent for parent in group.parents if not parent.startswith("#")]


def _held_name(base: str) -> str:
    return base if base.startswith("#") else f"#{base}"
