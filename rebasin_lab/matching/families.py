"""A group together with all groups that vary along it, matched in one go.

Attention heads are the case in point: which head of B goes to which of A depends on how well their
dimensions can be lined up, and that is another assignment for every pair of heads. For a group h of
n units and d[h] of m units in each, n^2 assignments of size m give the similarity of the heads, and
one of size n pairs them: exact, all else held (FIELD.md 3.10 calls it head-aware matching).

If one array holds two groups that vary along h, as a grouped convolution does with the inputs and
the outputs of each group, the dimensions of a pair of units are a small matching problem of their
own, and are matched as such.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rebasin_lab.matching import assignment
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import PermutationSpec, apply_permutation, axes

# Matches two small networks: (spec, arrays of A, of B, given similarities) -> the permutation, its
# objective, and that of leaving all where it is.
SubMatcher = Callable[
    [PermutationSpec, dict, dict, Sequence[UnitSimilarity]], tuple[dict, float, float]
]


def nodes_of_groups(spec: PermutationSpec) -> dict[str, list[str]]:
    """What each group is matched with: itself, or the root of each family it is in."""
    bases = {group.base: key for key, group in spec.groups.items()}
    nodes = {}
    for key, group in spec.groups.items():
        if group.is_fixed:
            continue
        roots = [bases[parent] for parent in group.parents if not parent.startswith("#")]
        nodes[key] = [r for r in roots if not _moving_parents(spec.groups[r])] or [key]
    return nodes


def find_families(spec: PermutationSpec) -> dict[str, "Family"]:
    """Root -> family, for every group that varies or that others vary along."""
    varying = {key for key, group in spec.groups.items() if group.parents}
    nodes = nodes_of_groups(spec)
    return {
        root: Family(spec, root) for root in dict.fromkeys(n for k in varying for n in nodes[k])
    }


def _moving_parents(group: axes.Group) -> list[str]:
    return [parent for parent in group.parents if not parent.startswith("#")]


def _held_name(name: str) -> str:
    return name if name.startswith("#") else f"#{name}"


class Family:
    """A root group and everything that varies along it, in a spec of plain axes.

    Its own spec names the family's groups alone. All else its groups vary along is held, so in it
    that is a "#" name, an axis that never moves.

    Attributes:
        name: the root.
        keys: name in the family's spec -> name in the whole spec, root first.
        spec: the arrays that hold any of its groups.
    """

    def __init__(self, spec: PermutationSpec, name: str):
        self.name = name
        root = spec.groups[name]
        members = {
            key: group
            for key, group in spec.groups.items()
            if key == name or root.base in group.parents
        }
        bases = {group.base for group in members.values()}
        held = {p for group in members.values() for p in group.parents} - bases

        def renamed(group: axes.Group) -> axes.Group:
            return axes.Group(
                group.base, tuple(p if p in bases else _held_name(p) for p in group.parents)
            )

        def entry(name: str | None) -> str | None:
            if name in members:
                return renamed(members[name]).key
            group = spec.groups[name] if name is not None else None
            return _held_name(group.base) if group is not None and group.base in held else None

        ordered = sorted(members, key=lambda key: (key != name, len(members[key].parents)))
        self.keys = {renamed(members[key]).key: key for key in ordered}
        keys_of = {group.base: key for key, group in spec.groups.items()}
        self.held = {_held_name(parent): keys_of[parent] for parent in held}
        self.spec = PermutationSpec(
            {
                path: tuple(entry(axis_name) for axis_name in names)
                for path, names in spec.axes.items()
                if not members.keys().isdisjoint(names)
            }
        )
        self.root = next(iter(self.keys))

    def translate(self, similarity: UnitSimilarity) -> UnitSimilarity:
        """A similarity of the whole spec in the names of the family's."""
        own = {whole: name for name, whole in self.keys.items()}
        names = tuple(own.get(name, name) for name in similarity.entries)
        return UnitSimilarity(names, similarity.matrix)

    def best_moves(
        self,
        arrays_a: Mapping[str, np.ndarray],
        arrays_b: Mapping[str, np.ndarray],
        similarities: Sequence[UnitSimilarity],
        sizes: Mapping[str, int],
        submatch: SubMatcher,
    ) -> tuple[dict[str, np.ndarray], float]:
        """The moves that raise the objective most, all else held, and by how much.

        Args:
            arrays_a: the arrays that count, or some of them.
            arrays_b: the same of B, permuted so far.
            similarities: in the whole spec's names, columns permuted so far.
            sizes: the number of units of each group and the lengths of "#" axes.

        Returns:
            Name -> index array, relative to the present order of B; and the gain.
        """
        sizes = {name: sizes[whole] for name, whole in self.keys.items()} | {
            axis: sizes[held] for axis, held in self.held.items()
        }
        similarities = [self.translate(similarity) for similarity in similarities]
        if all(self._is_chain(self.spec.axes[path]) for path in arrays_a):
            moves, gain = self._by_assignments(arrays_a, arrays_b, similarities, sizes)
        else:
            moves, gain = self._by_submatching(arrays_a, arrays_b, similarities, sizes, submatch)
        return {whole: moves[name] for name, whole in self.keys.items()}, gain

    def moved(
        self, arrays: Mapping[str, np.ndarray], moves: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Arrays of the family after moves."""
        own = {name: moves[whole] for name, whole in self.keys.items()}
        return apply_permutation(self.spec, own, dict(arrays))

    # Groups on their way down from the root, the group itself last; and the "#" axes it has.
    def _chain(self, name: str) -> list[str]:
        inside = {self.spec.groups[key].base: key for key in self.keys}
        above = [inside[p] for p in self.spec.groups[name].parents if p in inside]
        return [*sorted(above, key=lambda key: len(self.spec.groups[key].parents)), name]

    def _held_axes(self, name: str) -> list[str]:
        return [p for p in self.spec.groups[name].parents if p.startswith("#")]

    def _is_chain(self, names: Sequence[str | None]) -> bool:
        members = [name for name in names if name in self.keys]
        deepest = max(members, key=lambda name: len(self._chain(name)))
        return sorted(members) == sorted(self._chain(deepest))

    def _by_assignments(self, arrays_a, arrays_b, similarities, sizes):
        scores = {
            name: np.zeros(
                [sizes[axis] for axis in self._held_axes(name)]
                + [sizes[key] for key in self._chain(name) for _ in "ab"]
            )
            for name in self.keys
        }
        for path in arrays_a:
            names = self.spec.axes[path]
            a, b = (self._units_first(arrays[path], names) for arrays in (arrays_a, arrays_b))
            deepest = max((n for n in names if n in self.keys), key=lambda n: len(self._chain(n)))
            self._add(scores, deepest, self._chain(deepest), a @ b.swapaxes(1, 2))
        for similarity in similarities:
            chain = [name for name in similarity.entries if name in self.keys]
            deepest = max(chain, key=lambda name: len(self._chain(name)))
            self._add(scores, deepest, chain, similarity.matrix)
        moves = self._assign(scores, sizes)
        gain = self._total(scores, moves, sizes) - self._total(scores, self._identity(sizes), sizes)
        return moves, gain

    def _units_first(self, array: np.ndarray, names: Sequence[str | None]) -> np.ndarray:
        """An array as [held, units along the chain, rest]."""
        deepest = max((n for n in names if n in self.keys), key=lambda n: len(self._chain(n)))
        held, chain = self._held_axes(deepest), self._chain(deepest)
        first = [names.index(name) for name in (*held, *chain)]
        rest = [axis for axis in range(len(names)) if axis not in first]
        array = array.transpose(*first, *rest)
        num_held = int(np.prod(array.shape[: len(held)]))
        num_units = int(np.prod(array.shape[len(held) : len(first)]))
        return array.reshape(num_held, num_units, -1)

    def _add(self, scores, name, chain, product) -> None:
        """Add a product [held, units, units], units running along `chain`, to a group's scores."""
        score, wanted = scores[name], self._chain(name)
        num_held = len(self._held_axes(name))
        lengths = dict(zip(wanted, score.shape[num_held::2], strict=True))
        product = product.reshape(*score.shape[:num_held], *(lengths[key] for key in chain * 2))
        sources = [num_held + chain.index(key) + half for key in wanted for half in (0, len(chain))]
        score += product.transpose(*range(num_held), *sources)

    def _assign(self, scores, sizes) -> dict[str, np.ndarray]:
        """The best order at every level, from the innermost groups out; then read off inwards."""
        totals = {name: score.copy() for name, score in scores.items()}
        picks = {}
        for name in reversed(self.keys):
            total = totals[name]
            best = np.empty(total.shape[:-2])
            picks[name] = np.empty((*total.shape[:-2], total.shape[-1]), int)
            for place in np.ndindex(best.shape):
                order = _best_order(total[place])
                picks[name][place] = order
                best[place] = assignment.total_similarity(total[place], order)
            if name != self.root:
                parent = self._chain(name)[-2]
                held, kept = self._held_axes(name), self._held_axes(parent)
                summed = tuple(axis for axis, h in enumerate(held) if h not in kept)
                left = [h for h in held if h in kept]
                best = best.sum(axis=summed)
                order = [left.index(h) for h in kept]
                totals[parent] += best.transpose(*order, *range(len(kept), best.ndim))
        moves: dict[str, np.ndarray] = {}
        for name in self.keys:
            moves[name] = picks[name][self._pairs(name, moves, sizes)]
        return moves

    def _pairs(self, name, moves, sizes) -> tuple[np.ndarray, ...]:
        """Index of scores of a group: the slots of A above it, and the slots of B moved there."""
        parents = self.spec.groups[name].parents
        keys = {self.spec.groups[key].base: key for key in self.keys}
        lengths = [sizes[keys.get(parent, parent)] for parent in parents]
        slots = dict(zip(parents, np.indices(lengths), strict=True))
        index = [slots[axis] for axis in self._held_axes(name)]
        for above in self._chain(name)[:-1]:
            group = self.spec.groups[above]
            slot = slots[group.base]
            index += [slot, moves[above][(*(slots[p] for p in group.parents), slot)]]
        return tuple(index)

    def _total(self, scores, moves, sizes) -> float:
        """The similarity of all that faces each other after these moves."""
        total = 0.0
        for name, score in scores.items():
            index = tuple(i[..., None] for i in self._pairs(name, moves, sizes))
            total += float(score[(*index, np.arange(score.shape[-1]), moves[name])].sum())
        return total

    def _identity(self, sizes) -> dict[str, np.ndarray]:
        keys = {self.spec.groups[key].base: key for key in self.keys}
        return {
            name: np.broadcast_to(
                np.arange(sizes[name]),
                (*(sizes[keys.get(p, p)] for p in self.spec.groups[name].parents), sizes[name]),
            )
            for name in self.keys
        }

    def _by_submatching(self, arrays_a, arrays_b, similarities, sizes, submatch):
        """The same with a matching problem of its own for every pair of the root's units."""
        root = self.root
        base, outer = self.spec.groups[root].base, self._held_axes(root)
        paths = [path for path in arrays_a if root in self.spec.axes[path]]
        inner = {
            name: self._inside_name(name, {base, *outer})
            for name in self.spec.groups
            if name not in (root, *outer)
        }
        spec = PermutationSpec(
            {
                path: tuple(inner.get(n) for n in self.spec.axes[path] if n not in (root, *outer))
                for path in paths
            }
        )
        moves = {name: still.copy() for name, still in self._identity(sizes).items()}
        gain = 0.0
        for held in np.ndindex(*(sizes[axis] for axis in outer)):
            at = dict(zip(outer, held, strict=True))
            a, b = (
                [self._slices(arrays, paths, {**at, root: unit}) for unit in range(sizes[root])]
                for arrays in (arrays_a, arrays_b)
            )
            values, orders = np.zeros((sizes[root],) * 2), {}
            for i, j in np.ndindex(values.shape):
                given, constant = self._inside_similarities(similarities, at, i, j, sizes, inner)
                orders[i, j], best, start = submatch(spec, a[i], b[j], given)
                values[i, j] = best + constant
                gain -= start + constant if i == j else 0.0
            moves[root][held] = _best_order(values)
            gain += assignment.total_similarity(values, moves[root][held])
            for i, j in enumerate(moves[root][held].tolist()):
                for name in list(self.keys)[1:]:
                    parents = self.spec.groups[name].parents
                    slots = {**at, base: i}
                    index = tuple(slots.get(parent, slice(None)) for parent in parents)
                    moves[name][index] = orders[i, j][inner[name]]
        return moves, gain

    def _inside_name(self, name: str, gone: set[str]) -> str:
        """The name of a group once a unit of each of some groups it varies along is picked."""
        group = self.spec.groups[name]
        return axes.Group(group.base, tuple(p for p in group.parents if p not in gone)).key

    def _slices(self, arrays, paths, slots: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Arrays with one position picked along each of the named axes."""
        cut = {}
        for path in paths:
            index = tuple(slots.get(name, slice(None)) for name in self.spec.axes[path])
            cut[path] = np.ascontiguousarray(arrays[path][index])
        return cut

    def _inside_similarities(self, similarities, at, i, j, sizes, inner):
        """What is given about unit i of A and unit j of B: for their insides, and alone."""
        found, constant = [], 0.0
        for similarity in similarities:
            held = [name for name in similarity.entries if name.startswith("#")]
            chain = [name for name in similarity.entries if not name.startswith("#")]
            lengths = [sizes[name] for name in chain]
            kept = [name for name in similarity.entries if name not in (self.root, *at)]
            matrix = similarity.matrix[tuple(at.get(name, slice(None)) for name in held)]
            matrix = matrix.reshape(*matrix.shape[:-2], *lengths, *lengths)
            num_kept_held = sum(name in kept for name in held)
            rows = num_kept_held + chain.index(self.root)
            matrix = matrix.take(j, rows + len(chain)).take(i, rows)
            if all(name.startswith("#") for name in kept):
                constant += float(matrix.sum(dtype=np.float64))
                continue
            size = math.prod(sizes[name] for name in chain if name != self.root)
            matrix = matrix.reshape(*matrix.shape[:num_kept_held], size, size)
            found.append(UnitSimilarity(tuple(inner[name] for name in kept), matrix))
        return found, constant


def _best_order(similarity: np.ndarray) -> np.ndarray:
    """The best assignment; on a tie all stays where it is."""
    order = assignment.solve_assignment(similarity)
    best = assignment.total_similarity(similarity, order)
    return order if best > np.trace(similarity) + 1e-12 * abs(best) else np.arange(order.size)
