"""Sections 3.1 and 3.2: what weights and activations tell of which units are alike."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rebasin_lab import matching, symmetry
from rebasin_lab.matching import activation
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import units
from rebasin_lab.paper.sections.quantities import listed
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study, spec_of
from rebasin_lab.paper.store import Trained

Networks = Mapping[int, Trained]  # by seed
VIEWS = {"weight": "inner product of weights", "activation": "correlation on data"}


@dataclasses.dataclass(frozen=True, eq=False)
class Sight(Record):
    """Similarities of some units of a middle layer, B in the order in which it came.

    Attributes:
        networks: A and B.
        images: by matcher; partners, as this matcher has them, on the diagonal.
        change: the largest change of a correlation once the layers beside it are lined up.
    """

    networks: Sequence[Trained]
    images: Mapping[str, np.ndarray]
    change: float

    def figures(self) -> Iterator[Figure]:
        """Yield the similarities, a panel for each matcher."""
        gaps = {name: units.standing_out(image) for name, image in self.images.items()}
        yield Figure(
            name="what_they_see",
            plot="similarity_views",
            numbers={
                "columns": ["B as it came"],
                "rows": [
                    {"name": VIEWS[name], "images": [image.round(3).tolist()]}
                    for name, image in self.images.items()
                ],
            },
            title=f"While B is out of order partners {gaps['weight']} in weights; in activations "
            f"they {gaps['activation']}",
            caption=f"{len(self.images['weight'])} units of A's second hidden layer (rows), "
            "and those units of B that each method pairs them with in the end (columns, on the "
            "diagonal); all layers of B as they came.",
            alt="Partners stand out, on average, by "
            + "; ".join(
                f"{VIEWS[name]}: {np.diag(image).mean():.2f}, against {image.mean():.2f} for "
                "any two units"
                for name, image in self.images.items()
            )
            + ".",
            networks=self.networks,
            size=(8.5, 3.6),
        )

    def reading(self) -> Prose:
        """Return in words how far the other layers matter to a correlation."""
        return Prose(
            "**What we measured.** Once the layers beside it are lined up, no correlation of the "
            f"layer differs by more than {self.change:.1g}."
        )


def sight(study: Study, trained: Networks) -> Sight:
    """Compare units of the second hidden layer of the first pair by weights and by activations."""
    pair = study.profile.pairs[0]
    first = [trained[seed] for seed in pair]
    spec, (a, b) = spec_of(first[0], study.data), (one.params for one in first)
    layer = list(spec.permutations)[1]
    found = {method: match(study, method, spec, a, b).permutation for method in VIEWS}
    came = units.in_order(spec, b)
    slots = np.arange(min(units.NUM_SHOWN, len(came[layer])))
    seen = units.similarity(spec, units.flat(spec, a), units.flat(spec, b), layer)
    beside = symmetry.apply_permutation(spec, {**found["activation"], layer: came[layer]}, b)
    before, after = (correlations(study, spec, a, params)[layer] for params in (b, beside))
    images = {
        name: matrix[np.ix_(slots, found[name][layer][slots])]
        for name, matrix in (("weight", seen), ("activation", before))
    }
    return Sight(first, images, float(np.abs(before - after).max()))


@dataclasses.dataclass(frozen=True, eq=False)
class Partners(Record):
    """How often two methods give a unit the same partner, on every pair of networks.

    Attributes:
        same: by two methods, for each pair one share a layer.
        alike: by method, for each pair the mean correlation of partners, layer by layer.
    """

    same: Mapping[str, Sequence[Sequence[float]]]
    alike: Mapping[str, Sequence[Sequence[float]]]

    def table(self) -> Table:
        """Return the shares of units with the same partner, layer by layer."""
        return Table([*self.same], _by_layer(self.same, "%", scale=100), "same partner given by")

    def correlations(self) -> Table:
        """Return the mean correlation of partners, layer by layer."""
        return Table([*self.alike], _by_layer(self.alike, "", digits=2), "correlation of partners")

    def reading(self) -> Prose:
        """Return in words how far methods agree, and how far two runs of one method do."""
        means = {f"{name}:": 100 * np.mean(shares) for name, shares in self.same.items()}
        told = listed(means, "%")
        return Prose(f"**What we measured.** Units with the same partner, all layers: {told}.")


def partners(study: Study, trained: Networks) -> Partners:
    """Match every pair by several methods, and compare the partners that units get."""
    answers = {
        "weights and activations": ("weight", "activation"),
        "weights (ours) and Algorithm 1": ("weight", "algorithm_1"),
        "two orders of visits, Algorithm 1": ("algorithm_1", "another"),
        "correlation and second moment": ("activation", "second_moment"),
        "weights and a random order": ("weight", "random"),
    }
    same: dict[str, list[list[float]]] = {name: [] for name in answers}
    named = {"weight": "by weights", "activation": "by activations", "random": "at random"}
    alike: dict[str, list[list[float]]] = {name: [] for name in named.values()}
    for pair in study.profile.pairs:
        a, b = (trained[seed].params for seed in pair)
        spec = spec_of(trained[pair[0]], study.data)
        found = {
            method: match(study, method, spec, a, b)
            for method in ("weight", "activation", "algorithm_1", "random")
        }
        found["another"] = match(study, "algorithm_1", spec, a, b, seed=1)
        found["second_moment"] = match(study, "activation", spec, a, b, similarity="second_moment")
        orders = {name: result.permutation for name, result in found.items()}
        for name, (one, other) in answers.items():
            same[name].append(
                [float((orders[one][n] == orders[other][n]).mean()) for n in spec.permutations]
            )
        seen = correlations(study, spec, a, b)
        for method, name in named.items():
            alike[name].append(
                [
                    float(seen[n][np.arange(len(order)), order].mean())
                    for n, order in orders[method].items()
                ]
            )
    return Partners(same, alike)


def match(
    study: Study, method: str, spec: symmetry.PermutationSpec, a: object, b: object, **options
) -> matching.MatchingResult:
    """Match two MLPs of a profile, from the store if that was done before."""
    offered = {"apply_fn": study.model.apply, "data": study.data}
    options |= matching.MATCHERS[method].accepted(offered)
    return cached(matching.match, method, spec, a, b, **options)


def correlations(
    study: Study, spec: symmetry.PermutationSpec, a: object, b: object
) -> dict[str, np.ndarray]:
    """Return the correlations of units of A (rows) and of B on training images, by layer."""
    seen = {"apply_fn": study.model.apply, "data": study.data}
    similarities = cached(activation.unit_similarities, spec, a, b, **seen)
    return {one.entries[0]: one.matrix for one in similarities}


def _by_layer(
    values: Mapping[str, Sequence[Sequence[float]]],
    unit: str,
    *,
    scale: float | int = 1,
    digits: int | None = None,
) -> list[Column]:
    num_layers = len(next(iter(values.values()))[0])
    return [
        Column(
            f"layer {layer + 1}",
            unit,
            [[scale * shares[layer] for shares in pairs] for pairs in values.values()],
            digits=digits,
        )
        for layer in range(num_layers)
    ]
