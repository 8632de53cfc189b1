"""Similarities between units that no other permutation changes, such as those of activations.

The similarity of two units' weights depends on how the layers around them are permuted. The
similarity of their activations does not, so it can be added to every step of a search.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rebasin_lab.symmetry import PermutationSpec, apply_permutation, axes


@dataclasses.dataclass(frozen=True, eq=False)
class UnitSimilarity:
    """A similarity matrix of units of A and of B that no other permutation changes.

    Attributes:
        entries: names of the axes: ("P_0",), or ("h", "v[h]") for units counted row by row, or
            ("#layer", "inner[#layer]") with a matrix for every slot of a "#" axis.
        matrix: rows are units of A, columns units of B.
    """

    entries: tuple[str, ...]
    matrix: Float[np.ndarray, "*slots n n"]

    def total(self) -> float:
        """The total similarity of paired units, in float64."""
        return float(self.matrix.diagonal(axis1=-2, axis2=-1).sum(dtype=np.float64))

    def scale(self) -> float:
        """An estimate of the largest `total` of any order."""
        return float(np.abs(self.matrix).max(axis=-1, initial=0).sum(dtype=np.float64))


def is_nested(similarity: UnitSimilarity) -> bool:
    """True for one group, or groups of which each varies along those before it.

    Then the total is a sum over pairs of units of one group, and an assignment maximises it.
    """
    moved = [axes.parse_group(name) for name in similarity.entries if not name.startswith("#")]
    return all(
        above.base in group.parents for index, group in enumerate(moved) for above in moved[:index]
    )


def as_arrays(
    similarities: Sequence[UnitSimilarity], sizes: Mapping[str, int]
) -> tuple[PermutationSpec, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return two networks whose inner product is the total of these similarities.

    Of a matrix S the first has the transpose and the second the identity, with the units of each on
    the last axes: sum over k and u of S[u, k] delta[k, pi(u)] is the sum over u of S[u, pi(u)]. So
    units of groups that do not vary along each other, such as heads that share keys and the
    dimensions of these, are matched like weights: each group in turn, the others fixed.

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
    """The given similarities of one search, columns in the present order of B."""

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
        """Reorder the columns; moves of other groups have no effect."""
        self._items = [
            (names, columns, _moved(columns, matrix, moves))
            for names, columns, matrix in self._items
        ]

    def gain(self, moves: Mapping[str, np.ndarray]) -> float:
        """The change of `total` by these moves."""
        return math.fsum(
            UnitSimilarity(names, _moved(columns, matrix, moves)).total()
            - UnitSimilarity(names, matrix).total()
            for names, columns, matrix in self._items
        )

    def about(self, name: str) -> list[UnitSimilarity]:
        """The similarities of the units of a group, or of nested groups by their root."""
        root = {name, axes.parse_group(name).base}
        return [
            UnitSimilarity(names, matrix)
            for names, columns, matrix in self._items
            if any(
                not root.isdisjoint({n, *columns.groups[n].parents}) for n in columns.permutations
            )
        ]

    def total(self) -> float:
        """The total similarity of paired units, in float64."""
        return math.fsum(UnitSimilarity(names, m).total() for names, _, m in self._items)

    def scale(self, name: str) -> float:
        """An estimate of the largest total of the similarities `about` a name."""
        return math.fsum(one.scale() for one in self.about(name))


def _moved(
    columns: PermutationSpec, matrix: np.ndarray, moves: Mapping[str, np.ndarray]
) -> np.ndarray:
    own = {name: moves[name] for name in columns.permutations if name in moves}
    return apply_permutation(columns, own, {"matrix": matrix})["matrix"] if own else matrix
