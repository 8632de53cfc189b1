"""The plane around two networks (Fig. 1), and the arc between them (section 5.1, footnote 3)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import metrics, pytrees, symmetry
from rebasin_lab.analysis.interpolation import LossContour, loss_contour
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.pair_lines import NAMES, ZERO, PairLines, middle
from rebasin_lab.paper.sections.quantities import quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study

# A small fraction of a barrier: of what matching leaves, and of what an arc changes.
SMALL = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Plane(Record):
    """The test loss on the plane through A, B and the permuted B of the first pair (Fig. 1).

    Attributes:
        lines: of all pairs.
        contour: of the first one.
        num_images: that it is evaluated on.
    """

    lines: PairLines
    contour: LossContour
    num_images: int

    def nearer(self, method: str) -> list[float]:
        """Return the distance from A to B in a method's order, in per cent of that to B."""
        both = zip(self.lines.of(method), self.lines.of("naive"), strict=True)
        return [100 * one.distance / naive.distance for one, naive in both]

    def reading(self) -> Prose:
        """Return in words how much nearer to A matching brings B."""
        matched, random = (summary(self.nearer(key), "%") for key in ("algorithm_1", "random"))
        return Prose(
            "**What we measured.** Of the distance from A to B matching leaves "
            f"{matched} %, a random order {random} %."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the map."""
        here = self.lines.first
        naive, matched = (here[key].curve.test_loss for key in ("naive", "algorithm_1"))
        seeds = self.lines.pairs[0]
        size = len(self.contour.x)
        yield Figure(
            name="contour",
            numbers={
                **self.contour.as_numbers(),
                "cap": round(20 * (max(naive[0], naive[-1]) + 0.45)) / 20,
            },
            title=f"To B the test loss reaches {quantity(float(naive.max()), 'nats')}, to the "
            f"permuted B {quantity(float(matched.max()), 'nats')}",
            caption=f"Test loss ({self.num_images:,} images, {size} x {size} points, cubic "
            "splines in between) on the plane through two networks and the second one "
            "permuted by Algorithm 1; Fig. 1 of the paper. Coordinates are in units of "
            "‖B - A‖.",
            alt=f"A map of the loss. On the way from A to B it reaches {naive.max():.2f} nats, "
            f"on the way from A to pi(B) {matched.max():.2f}.",
            networks=[self.lines.networks[seed] for seed in seeds],
            size=(7.0, 4.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the test losses half-way, matched divided by naive."""
        both = zip(self.lines.of("algorithm_1"), self.lines.of("naive"), strict=True)
        return {
            "fig1-midpoint": [
                middle(one.curve.test_loss) / middle(naive.curve.test_loss) for one, naive in both
            ]
        }


def plane(study: Study, measured: PairLines) -> Plane:
    """Evaluate the test loss on the plane through the first pair and its permuted B."""
    profile, data = study.profile, measured.eval_data
    params_a, params_b = (measured.networks[seed].params for seed in measured.pairs[0])
    permutation = measured.first["algorithm_1"].permutation
    images = data.test_images[: profile.contour_images]
    with study.bar(profile.contour_resolution**2, "evaluating the plane") as bar:
        contour = cached(
            loss_contour,
            study.model.apply,
            params_a,
            params_b,
            symmetry.apply_permutation(measured.spec, permutation, params_b),
            images,
            data.test_labels[: len(images)],
            resolution=profile.contour_resolution,
            on_point=bar.update,
        )
    return Plane(measured, contour, len(images))


@dataclasses.dataclass(frozen=True, eq=False)
class Arcs(Record):
    """Train losses half-way between networks, on the straight chord and on an arc (footnote 3).

    Attributes:
        lines: of all pairs.
        on_arc: by method one loss a pair, in nats.
    """

    lines: PairLines
    on_arc: Mapping[str, Sequence[float]]

    def on_chord(self, method: str) -> list[float]:
        """Return the train losses half-way on straight lines, pair by pair."""
        return [middle(one.curve.train_loss) for one in self.lines.of(method)]

    def changes(self, method: str) -> list[float]:
        """Return by how much the arc changes the loss half-way, as a share of the barrier there.

        A barrier that counts as zero is taken as `ZERO`: a share of nothing says nothing.
        """
        barriers = np.maximum(self.lines.barriers(method), ZERO)
        change = np.abs(np.subtract(self.on_chord(method), self.on_arc[method]))
        return (change / barriers).tolist()

    def table(self) -> Table:
        """Return the train losses half-way by chord and by arc."""
        return Table(
            rows={method: NAMES[method] for method in self.on_arc},
            corner="order of B's units",
            columns=[
                Column("chord", "nats", self.on_chord, digits=4),
                Column("arc", "nats", self.on_arc.get, digits=4),
                Column(
                    "change, of the barrier",
                    "%",
                    lambda method: [100 * share for share in self.changes(method)],
                ),
            ],
        )

    def reading(self) -> Prose:
        """Return in words whether the arc differs much."""
        changes = self.changes("algorithm_1")
        much = sum(share > SMALL for share in changes)
        both = zip(self.on_arc["algorithm_1"], self.on_chord("algorithm_1"), strict=True)
        lower = sum(arc < chord for arc, chord in both)
        return Prose(
            "**What we measured.** After matching the loss is lower on the arc than on the chord "
            f"for {lower} of {len(changes)} pairs. It differs by "
            f"{quantity(100 * float(np.mean(changes)), '%')} of the barrier on average, for {much} "
            "of the pairs by more than a tenth."
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the changes after Algorithm 1."""
        return {"fig2-slerp": self.changes("algorithm_1")}


def arcs(study: Study, measured: PairLines) -> Arcs:
    """Evaluate networks half-way on arcs from A to B, naive and after Algorithm 1."""
    images, labels = study.data.train_images, study.data.train_labels
    on_arc: dict[str, list[float]] = {"naive": [], "algorithm_1": []}
    for method, losses in on_arc.items():
        for pair, found in zip(measured.pairs, measured.of(method), strict=True):
            params_a, params_b = (measured.networks[seed].params for seed in pair)
            moved = symmetry.apply_permutation(measured.spec, found.permutation, params_b)
            arc = slerp(0.5, params_a, moved)
            losses.append(cached(metrics.evaluate, study.model.apply, arc, images, labels).loss)
    return Arcs(measured, on_arc)


def slerp(lam: float | int, params_a: PyTree, params_b: PyTree) -> PyTree:
    """Return the point at lam of the arc from A to B: angles and lengths in proportion."""
    lengths = [pytrees.inner_product(p, p) ** 0.5 for p in (params_a, params_b)]
    angle = np.arccos(pytrees.inner_product(params_a, params_b) / np.prod(lengths))
    weights = np.sin((1 - lam) * angle), np.sin(lam * angle)
    length = (1 - lam) * lengths[0] + lam * lengths[1]
    share_a, share_b = (
        np.float32(length * weight / (own * np.sin(angle)))
        for weight, own in zip(weights, lengths, strict=True)
    )
    return jax.tree.map(lambda a, b: share_a * a + share_b * b, params_a, params_b)
