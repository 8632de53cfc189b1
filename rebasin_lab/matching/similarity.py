"""Similarities between units that no other permutation changes, such as those of activations.

Weights only say how alike two units are once the layers around them are lined up. What units
respond to says it at once, so it can be added to every step of a search.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rebasin_lab.symmetry import PermutationSpec, apply_permutation, axes


@dataclasses.dataclass(frozen=True, eq=False)
class UnitSimilarity:
    """How alike units of A and of B are; no other permutation changes it.

    Attributes:
        entries: names of the axes: ("P_0",), or ("h", "v[h]") for units counted row by row, or
            ("#layer", "inner[#layer]") with a matrix for every slot of a "#" axis.
        matrix: rows are units of A, columns units of B.
    """

    entries: tuple[str, ...]
    matrix: Float[np.ndarray, "*slots n n"]

    def total(self) -> float:
        """The similarity of all units that face each other, in float64."""
        return float(self.matrix.diagonal(axis1=-2, axis2=-1).sum(dtype=np.float64))

    def scale(self) -> float:
        """About the largest that `total` could be in another order."""
        return float(np.abs(self.matrix).max(axis=-1, initial=0).sum(dtype=np.float64))


def is_one_family(similarity: UnitSimilarity) -> bool:
    """True if its groups are one, or each varies along the ones before it.

    Then it is a sum over pairs of units of one group, and an assignment maximises it.
    """
    moved = [axes.parse_group(name) for name in similarity.entries if not name.startswith("#")]
    return all(
        above.base in group.parents for index, group in enumerate(moved) for above in moved[:index]
    )


def as_arrays(
    similarities: Sequence[UnitSimilarity], sizes: Mapping[str, int]
) -> tuple[PermutationSpec, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The similarities as two networks whose inner product they are, so that any search fits them.

    Of a matrix S the first has the transpose and the second the identity, with the units of each on
    the last axes: sum over k and u of S[u, k] delta[k, pi(u)] is the sum over u of S[u, pi(u)]. So
    units of groups that do not vary along each other, such as heads that share keys and the
    dimensions of these, are matched as weights are: each group in turn, the others held.

    Args:
        similarities: of any groups.
        sizes: units of each group, lengths of "#" axes.

    Returns:
        Their spec, and the arrays of A and of B by path, float32.
    """
    names, arrays_a, arrays_b = {}, {}, {}
    for number, one in enumerate(similarities):
        held = [name for name in one.entries if name.startswith("#")]
        moved = [name for name in one.entries if not name.startswith("#")]
        slots, num_units = one.matrix.shape[:-2], one.matrix.shape[-1]
        shape = (*slots, num_units, *(sizes[name] for name in moved))
        path = f"units that show together/{number}"
        names[path] = (*held, None, *moved)
        transposed = np.swapaxes(one.matrix, -1, -2)
        arrays_a[path] = np.array(transposed, np.float32, order="C").reshape(shape)
        identity = np.eye(num_units, dtype=np.float32)
        arrays_b[path] = np.ascontiguousarray(np.broadcast_to(identity, one.matrix.shape)).reshape(
            shape
        )
    return PermutationSpec(names), arrays_a, arrays_b


class GivenSimilarities:
    """The given similarities of one search, their columns in the present order of B."""

    def __init__(
        self,
        spec: PermutationSpec,
        similarities: Sequence[UnitSimilarity],
        sizes: Mapping[str, int],
    ):
        self._items = []
        for similarity in similarities:
            held = [name for name in similarity.entries if name.startswith("#")]
            moved = [name for name in similarity.entries if not name.startswith("#")]
            names = (*held, None, "*".join(moved))
            own_sizes = {name: sizes[name] for name in similarity.entries}
            columns = PermutationSpec({"matrix": names}, own_sizes)
            matrix = np.array(similarity.matrix, np.float32)
            columns.validate({"matrix": matrix})
            self._items.append((similarity.entries, columns, matrix))

    def move(self, moves: Mapping[str, np.ndarray]) -> None:
        """Put the columns in a new order; moves of groups that are not here do nothing."""
        self._items = [
            (names, columns, _moved(columns, matrix, moves))
            for names, columns, matrix in self._items
        ]

    def gain(self, moves: Mapping[str, np.ndarray]) -> float:
        """How much moves would raise `total`."""
        return math.fsum(
            UnitSimilarity(names, _moved(columns, matrix, moves)).total()
            - UnitSimilarity(names, matrix).total()
            for names, columns, matrix in self._items
        )

    def of(self, name: str) -> list[UnitSimilarity]:
        """Those about a group, or about a family by its root."""
        root = {name, axes.parse_group(name).base}
        return [
            UnitSimilarity(names, matrix)
            for names, columns, matrix in self._items
            if any(
                not root.isdisjoint({n, *columns.groups[n].parents}) for n in columns.permutations
            )
        ]

    def matrices(self, name: str) -> list[np.ndarray]:
        """Those about a group that has no family."""
        return [similarity.matrix for similarity in self.of(name)]

    def total(self) -> float:
        """The similarity of all units that face each other, in float64."""
        return math.fsum(UnitSimilarity(names, m).total() for names, _, m in self._items)

    def scale(self, name: str) -> float:
        """About the largest that the total of those about a group, or a family, could be."""
        return math.fsum(one.scale() for one in self.of(name))


def _moved(
    columns: PermutationSpec, matrix: np.ndarray, moves: Mapping[str, np.ndarray]
) -> np.ndarray:
    own = {name: moves[name] for name in columns.permutations if name in moves}
    return apply_permutation(columns, own, {"matrix": matrix})["matrix"] if own else matrix
