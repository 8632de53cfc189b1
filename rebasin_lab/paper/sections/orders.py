"""B with its units in several orders, held against A: distances, angles, and what first layers see.

The control is a random order: what it does, any order would.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, metrics, pytrees, symmetry
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study, learned_part
from rebasin_lab.paper.store import Trained

ORDERS = ("naive", "random order", "weight matching")
NUM_SHOWN = 10  # units

Pair = tuple[Trained, Trained]


@dataclasses.dataclass(frozen=True, eq=False)
class Orders(Record):
    """B with its units in several orders, held against A.

    Attributes:
        data: of the profile.
        pair: networks A and B.
        spec: which axes of their parameters belong to which units.
        permutations: of B, by the name of the order.
    """

    data: datasets.Dataset
    pair: Pair
    spec: symmetry.PermutationSpec
    permutations: Mapping[str, symmetry.Permutation]

    @functools.cached_property
    def params(self) -> dict[str, PyTree]:
        """The parameters of B, by order."""
        params = self.pair[1].params
        return {
            order: symmetry.apply_permutation(self.spec, permutation, params)
            for order, permutation in self.permutations.items()
        }

    def distances(self) -> dict[str, float]:
        """Return the distance from A to B, by order."""
        a = self.pair[0].params
        return {order: pytrees.distance(a, b) for order, b in self.params.items()}

    def angles(self) -> dict[str, float]:
        """Return the angle between A and B in degrees, by order."""
        a = self.pair[0].params
        lengths = [
            np.sqrt(pytrees.inner_product(one.params, one.params)) for one in self.pair
        ]  # of B in any order
        return {
            order: float(np.degrees(np.arccos(pytrees.inner_product(a, b) / np.prod(lengths))))
            for order, b in self.params.items()
        }

    def accuracies(self) -> dict[str, float]:
        """Return the test accuracy of B in %, by order."""
        return {
            order: 100 * evaluated(self.pair[1].model.apply, b, self.data).accuracy
            for order, b in self.params.items()
        }

    def table(self) -> Table:
        """Return distances and angles to A, and what B reads in each order."""
        return Table(
            rows={order: f"B, {order}" for order in self.params},
            columns=[
                Column("distance to A", "", self.distances().get, digits=1),
                Column("angle to A", "degrees", self.angles().get, digits=1),
                Column("own test accuracy", "%", self.accuracies().get, digits=2),
            ],
            corner="order of units",
        )

    def reading(self) -> Prose:
        """Return in words how much of the distance is the order."""
        naive, random, matched = (self.distances()[order] for order in ORDERS)
        share = matched / naive
        change = random / naive - 1
        far = "nearer to A than" if change < 0 else "farther from A than"
        far = "as far from A as" if abs(change) < 0.02 else far
        part = "a part" if share > 0.5 else "most"
        return Prose(
            f"**What we measured**, on one pair. A random order is {far} the order in which "
            "B came. Any two vectors of so many numbers that have nothing to do with each other "
            "stand at nearly a right angle, so distance and angle by themselves say little. Weight "
            f"matching leaves {quantity(100 * share, '%')} of the distance: the order of the units "
            f"is {part} of what sets the two apart."
        )

    def learned(self) -> dict[str, np.ndarray]:
        """Return the learned part of the first layer's incoming weights, a column a unit.

        It is the weights minus those before training: of A, and of B by order.
        """
        changes = list(map(learned_part, self.pair))
        moved = {
            order: symmetry.apply_permutation(self.spec, permutation, changes[1])
            for order, permutation in self.permutations.items()
        }
        return {
            name: np.asarray(each["layers"][0]["kernel"], float)
            for name, each in {"A": changes[0], **moved}.items()
        }

    def figures(self) -> Iterator[Figure]:
        """Yield the learned part of some units of A, of B, and of B after matching."""
        learned = self.learned()
        alike = {order: _cosines(learned["A"], learned[order]) for order in ORDERS}
        # A unit that hardly ever responds has learned little, from a few images.
        lengths = _lengths(learned["A"]) * _lengths(learned["weight matching"])
        best = np.where(lengths >= np.median(lengths), alike["weight matching"], -1.0)
        slots = np.argsort(-best)[:NUM_SHOWN].tolist()
        rows = {"A": learned["A"], "B": learned["naive"], "π(B)": learned["weight matching"]}
        matched, random = (np.median(alike[order]) for order in ("weight matching", "random order"))
        yield Figure(
            name="units",
            numbers={
                "rows": {
                    name: [self._as_image(kernel[:, slot]) for slot in slots]
                    for name, kernel in rows.items()
                },
                "slots": slots,
            },
            title="The learned parts of partners have a cosine of "
            f"{quantity(matched, '', digits=2)} in the median, in random order "
            f"{quantity(random, '', digits=2)}",
            caption="The learned part of incoming weights, which is weights minus their "
            f"random start. Of the half of the first layer's units that has learned most, the "
            f"{len(slots)} that match best: in A, in the same slots of B, and in B after "
            "matching. Each picture has its own scale of colours.",
            alt="Three rows of weight images: A, B and the permuted B, slot by slot. Median "
            f"cosine of partners {matched:.2f}, in random order {random:.2f}.",
            networks=self.pair,
            size=(8.0, 3.2),
        )

    def _as_image(self, weights: np.ndarray) -> list[list[float]]:
        image = weights.reshape(self.data.image_shape).mean(-1)
        return (image / max(np.abs(image).max(), 1e-12)).round(3).tolist()


def orders(
    study: Study, pair: Pair, spec: symmetry.PermutationSpec, matched: symmetry.Permutation
) -> Orders:
    """Return B in three orders: as it came, random for control, and the one that was found."""
    permutations = {
        "naive": symmetry.identity_permutation(spec, pair[1].params),
        "random order": symmetry.random_permutation(spec, pair[1].params, seed=study.profile.seed),
        "weight matching": matched,
    }
    return Orders(study.data, pair, spec, permutations)


def evaluated(apply_fn: Callable, params: PyTree, data: datasets.Dataset) -> metrics.Metrics:
    """Return loss and accuracy on all test images."""
    return metrics.evaluate(apply_fn, params, data.test_images, data.test_labels)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return cosines of columns; 0 with a unit that has learned nothing."""
    lengths = _lengths(a) * _lengths(b)
    return np.divide((a * b).sum(0), lengths, out=np.zeros(len(lengths)), where=lengths > 0)


def _lengths(weights: np.ndarray) -> np.ndarray:
    return np.linalg.norm(weights, axis=0)
