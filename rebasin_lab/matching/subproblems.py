"""Families in which two groups on one array vary along the same: a matching problem for each pair.

In the kernel of a grouped convolution the inputs c[g] and the outputs o[g] of every group are free.
How alike a group of A and one of B can be made is then no assignment, but a matching problem with
c and o as its groups, and small. So for n units of the root, n^2 small problems are solved as any
other is, and one assignment pairs the units. (The small ones are local searches, so this one is.)
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab.matching import assignment
from rebasin_lab.matching.similarity import UnitSimilarity
from rebasin_lab.symmetry import PermutationSpec, axes

Arrays = Mapping[str, np.ndarray]

# Matches two small networks: (spec, arrays of A, of B, given similarities) -> the permutation, its
# objective, and that of leaving all where it is.
SubMatcher = Callable[
    [PermutationSpec, Arrays, Arrays, Sequence[UnitSimilarity]],
    tuple[dict[str, np.ndarray], float, float],
]


def best_moves(
    family: Any,
    arrays_a: Arrays,
    arrays_b: Arrays,
    similarities: Sequence[UnitSimilarity],
    sizes: Mapping[str, int],
    submatch: SubMatcher,
) -> tuple[dict[str, np.ndarray], float]:
    """As `nested_groups.Family.best_moves` for such a family, all in the names of its own spec."""
    root, outer = family.root, family.held[family.root]
    pair = _Pair(family, arrays_a, sizes)
    moves, gain = family.identity(sizes), 0.0
    # A root that varies along "#" axes itself is paired slot by slot.
    for slots in itertools.product(*(range(sizes[axis]) for axis in outer)):
        at = dict(zip(outer, slots, strict=True))
        units = [{**at, root: unit} for unit in range(sizes[root])]
        a = [pair.inside(arrays_a, unit) for unit in units]
        b = [pair.inside(arrays_b, unit) for unit in units]
        values, inner_moves = np.empty((len(units),) * 2), {}
        for i, j in np.ndindex(values.shape):
            given, alone = pair.given(similarities, at, i, j, sizes)
            inner_moves[i, j], best, still = submatch(pair.spec, a[i], b[j], given)
            values[i, j] = best + alone
            gain -= still + alone if i == j else 0.0
        order = assignment.solve_assignment(values)
        gain += assignment.total_similarity(values, order)
        moves[root][slots] = order
        for i, j in enumerate(order.tolist()):
            pair.read_off(moves, {**at, root: i}, inner_moves[i, j])
    return moves, gain


class _Pair:
    """What is left to match between one unit of A's root and one of B's.

    Attributes:
        spec: of the insides of a unit.
        names: name in the family's spec -> name in this one, for all that is left.
    """

    def __init__(self, family: Any, arrays: Arrays, sizes: Mapping[str, int]):
        self.family = family
        self.gone = [family.root, *family.held[family.root]]
        self.paths = [path for path in arrays if family.root in family.spec.axes[path]]
        bases = {family.spec.groups[name].base for name in self.gone}
        self.names = {
            name: axes.Group(group.base, tuple(p for p in group.parents if p not in bases)).key
            for name, group in family.spec.groups.items()
            if name not in self.gone
        }
        names = {path: family.spec.axes[path] for path in self.paths}
        self._zeros = {}
        for name in self.names:
            if not name.startswith("#") and all(name not in held for held in names.values()):
                # In no array that counts yet: it stands in one of zeros.
                left = [n for n in (*family.held[name], *family.chains[name]) if n not in self.gone]
                names[f"zeros/{name}"] = left
                self._zeros[f"zeros/{name}"] = np.zeros([sizes[n] for n in left], np.float32)
        self.spec = PermutationSpec(
            {
                path: tuple(self.names.get(name) for name in held if name not in self.gone)
                for path, held in names.items()
            }
        )

    def inside(self, arrays: Arrays, at: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The arrays at one unit of the root."""
        cut = {}
        for path in self.paths:
            index = tuple(at.get(name, slice(None)) for name in self.family.spec.axes[path])
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
        """What is given about the insides of unit i of A and unit j of B, and about these alone."""
        inside, alone = [], 0.0
        for similarity in similarities:
            held = [name for name in similarity.entries if name.startswith("#")]
            chain = [name for name in similarity.entries if not name.startswith("#")]
            matrix = similarity.matrix[tuple(at.get(name, slice(None)) for name in held)]
            slots = matrix.shape[:-2]
            matrix = matrix.reshape(*slots, *(sizes[name] for name in chain * 2))
            axis = len(slots) + chain.index(self.family.root)
            matrix = matrix.take(j, axis + len(chain)).take(i, axis)
            kept = [name for name in similarity.entries if name not in self.gone]
            if len(chain) == 1:
                alone += float(matrix.sum(dtype=np.float64))
                continue
            size = math.prod(sizes[name] for name in chain if name != self.family.root)
            entries = tuple(self.names[name] for name in kept)
            inside.append(UnitSimilarity(entries, matrix.reshape(*slots, size, size)))
        return inside, alone

    def read_off(
        self,
        moves: dict[str, np.ndarray],
        at: Mapping[str, int],
        inner: Mapping[str, np.ndarray],
    ) -> None:
        """Write what was found for one unit of the root into the moves of the family."""
        slots = {self.family.spec.groups[name].base: slot for name, slot in at.items()}
        for name in self.family.keys:
            if name != self.family.root:
                parents = self.family.spec.groups[name].parents
                index = tuple(slots.get(parent, slice(None)) for parent in parents)
                moves[name][index] = inner[self.names[name]]
