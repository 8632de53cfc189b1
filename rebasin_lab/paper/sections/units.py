"""Units of two networks as weight matching sees them, and Algorithm 1 on a dozen units a layer.

The dozen is cut out of a trained network, and copied with its units shuffled: a *planted*
permutation, so that at every visit it is known which units are back in their places.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Figure, Prose, Record
from rebasin_lab.paper.sections.study import Study, spec_of
from rebasin_lab.paper.store import Trained

Flat = dict[str, np.ndarray]  # parameters by path
NUM_SHOWN = 24  # units of a layer in a picture
NUM_UNITS = 12  # of the toy's layers
PLANTED_SEED = 0


def flat(
    spec: symmetry.PermutationSpec, params: PyTree, order: Mapping[str, np.ndarray] | None = None
) -> Flat:
    """Return parameters by path, in float64; their units in another order if one is given."""
    moved = symmetry.apply_permutation(spec, order, params) if order else params
    return {path: np.asarray(leaf, float) for path, leaf in pytrees.flatten(moved).items()}


def similarity(
    spec: symmetry.PermutationSpec, a: Flat, b: Flat, name: str
) -> Float[np.ndarray, "units units"]:
    """Return inner products of all weights of each unit of A (rows) and each of B (columns).

    Args:
        spec: which axes each permutation moves.
        a: the reference.
        b: the network to move.
        name: of the layer's permutation.
    """
    total = 0.0
    for path, axis in spec.permutations[name]:
        units_a, units_b = (np.moveaxis(leaves[path], axis, 0) for leaves in (a, b))
        total = total + units_a.reshape(len(units_a), -1) @ units_b.reshape(len(units_b), -1).T
    return total


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours(Record):
    """Similarities of some units of a middle layer, with its neighbours out of order and in it.

    Attributes:
        networks: A and B.
        images: the similarities, stage by stage.
    """

    networks: Sequence[Trained]
    images: Mapping[str, np.ndarray]

    def figures(self) -> Iterator[Figure]:
        """Yield the similarities, a panel a stage."""
        came, lined_up = self.images.values()
        partners = [np.diag(image).mean() for image in self.images.values()]
        anyone = [image.mean() for image in self.images.values()]
        told = "; ".join(
            f"{stage}: partners {partner:.2f}, any two units {other:.2f}"
            for stage, partner, other in zip(self.images, partners, anyone, strict=True)
        )
        images = [image.round(3).tolist() for image in self.images.values()]
        yield Figure(
            name="neighbours",
            plot="similarity_views",
            numbers={
                "columns": [*self.images],
                "rows": [{"name": "inner product of weights", "images": images}],
            },
            title=f"In B as it came partners {standing_out(came)}; with the layers beside them "
            f"lined up they {standing_out(lined_up)}",
            caption=f"{len(images[0])} units of A's second hidden layer (rows), and those "
            "units of B that matching will pair them with (columns, on the diagonal).",
            alt=f"Mean inner product of weights, {told}.",
            networks=self.networks,
            size=(8.5, 3.8),
        )


def standing_out(image: Float[np.ndarray, "units units"]) -> str:
    """Say if partners, on the diagonal, are alike by a standard deviation more than any two."""
    above = float(np.diag(image).mean() - image.mean())
    told = quantity(above, "", digits=2)
    return f"stand out by {told}" if above > image.std() else f"do not stand out ({told})"


def neighbours(study: Study, trained: Mapping[int, Trained]) -> Neighbours:
    """Compare units of the second hidden layer of A and B, as B came and with the others matched.

    Args:
        study: the section at work.
        trained: its MLPs.
    """
    first = [trained[seed] for seed in study.profile.pairs[0]]
    spec, (a, b) = spec_of(first[0], study.data), (one.params for one in first)
    layer = list(spec.permutations)[1]
    found = cached(matching.match, "weight", spec, a, b).permutation
    came = in_order(spec, b)
    slots = np.arange(min(NUM_SHOWN, len(came[layer])))
    columns = found[layer][slots]

    def see(order: Mapping[str, np.ndarray]) -> np.ndarray:
        seen = similarity(spec, flat(spec, a), flat(spec, b, order), layer)
        return seen[np.ix_(slots, columns)]

    stages = {"B as it came": came, "layers beside it lined up": {**found, layer: came[layer]}}
    return Neighbours(first, {name: see(order) for name, order in stages.items()})


class Visit(NamedTuple):
    """A visit of Algorithm 1: B before it, the layer, the best order for it, and what it gains."""

    b: Flat
    name: str
    best: Int[np.ndarray, " units"] | Array
    gain: float


@dataclasses.dataclass(frozen=True, eq=False)
class Toy:
    """A few units of every layer of a network, and a copy of them that is shuffled.

    Attributes:
        spec: its symmetries.
        a: the units as they are.
        b: the same, in another order.
        planted: this order, by layer.
        network: that they are cut out of.
    """

    spec: symmetry.PermutationSpec
    a: Flat
    b: Flat
    planted: Mapping[str, np.ndarray]
    network: Trained


def toy(study: Study, trained: Mapping[int, Trained]) -> Toy:
    """Cut the units of the largest weights out of the first network, and shuffle a copy of them."""
    network = next(iter(trained.values()))
    whole = spec_of(network, study.data)
    a = flat(whole, network.params)
    largest = {name: np.argsort(-np.diag(similarity(whole, a, a, name))) for name in whole.sizes(a)}
    for name, places in whole.permutations.items():
        for path, axis in places:
            a[path] = a[path].take(largest[name][:NUM_UNITS], axis)
    spec = symmetry.PermutationSpec(whole.axes)
    planted = symmetry.random_permutation(spec, a, seed=PLANTED_SEED)
    return Toy(spec, a, symmetry.apply_permutation(spec, planted, a), planted, network)


@dataclasses.dataclass(frozen=True, eq=False)
class Climb(Record):
    """Algorithm 1 on a toy, visit by visit.

    Attributes:
        toy: that it is run on.
        visits: in order.
        library: inner product that the library's `algorithm_1` ends at.
    """

    toy: Toy
    visits: Sequence[Visit]
    library: float

    @property
    def layers(self) -> list[str]:
        """The layers' permutations, in order."""
        return list(self.toy.spec.permutations)

    def objective(self) -> list[float]:
        """Return <A, pi(B)> before the first visit, and after each."""
        before = [pytrees.inner_product(self.toy.a, visit.b) for visit in self.visits]
        return [*before, before[-1] + max(0.0, self.visits[-1].gain)]

    def num_home(self) -> list[dict[str, int]]:
        """Return how many units of each layer are in their places, before and after each visit."""
        order = dict(self.toy.planted)
        counts = [{name: _num_in_place(order[name]) for name in self.layers}]
        for visit, then in zip(self.visits, [*self.visits[1:], None], strict=True):
            if then is not None and then.b is not visit.b:  # the visit has moved something
                order[visit.name] = order[visit.name][np.asarray(visit.best)]
            counts.append({name: _num_in_place(order[name]) for name in self.layers})
        return counts

    def at(self, visit: int) -> Figure:
        """Return what a visit sees and does, the first has number 1, for a dial."""
        now, index = self.visits[visit - 1], self.layers.index(self.visits[visit - 1].name)
        seen = [
            {name: similarity(self.toy.spec, self.toy.a, each.b, name) for name in self.layers}
            for each in self.visits
        ]
        limits = {name: max(float(abs(each[name]).max()) for each in seen) for name in self.layers}
        objective, home = self.objective(), self.num_home()[visit][now.name]
        size = len(now.best)
        matrices = [
            {
                "name": f"layer {number}",
                "matrix": seen[visit - 1][name].tolist(),
                "limit": limits[name],
            }
            for number, name in enumerate(self.layers, 1)
        ]
        return Figure(
            name="climb",
            plot="ascent_visit",
            numbers={
                "layers": matrices,
                "visited": index,
                "best": np.asarray(now.best).tolist(),
                "gain": float(now.gain),
                "visit": visit - 1,
                "objective": objective,
            },
            title=f"Visit {visit} of {len(self.visits)}, to layer {index + 1}: after it {home} of "
            f"{size} units are in their places",
            caption="Similarities of units of A (rows) and of B in its present order (columns). "
            "Circles: paired now. Squares: the best pairing for the layer that is visited.",
            alt=f"Visit {visit} of {len(self.visits)}, to layer {index + 1}: {home} of {size} "
            f"units are in their places after it; the inner product goes from "
            f"{objective[visit - 1]:.3f} to {objective[visit]:.3f}.",
            networks=[self.toy.network],
            size=(10.0, 3.4),
        )

    def reading(self) -> Prose:
        """Return in words where it ends, and if the library's Algorithm 1 ends there, too."""
        end, last = self.objective()[-1], self.num_home()[-1]
        right, size = sum(last.values()), sum(map(len, self.toy.planted.values()))
        whole = "every unit" if right == size else f"{right} of {size} units"
        alike = (
            "ends at the same inner product"
            if np.isclose(end, self.library, rtol=1e-4)
            else f"ends elsewhere, at an inner product of {quantity(self.library, '')}"
        )
        return Prose(
            f"**What we measured.** After {len(self.visits)} visits {whole} is back in its place, "
            f"at an inner product of {quantity(end, '')}. {self._too_early()} The library's "
            f"Algorithm 1, from the same seed, {alike}."
        )

    def _too_early(self) -> str:
        """Return in words which first visit put the fewest units of its layer in their places."""
        first: dict[str, tuple[int, int]] = {}
        for number, (visit, home) in enumerate(
            zip(self.visits, self.num_home()[1:], strict=True), 1
        ):
            first.setdefault(visit.name, (home[visit.name], number))
        (right, number), name = min(zip(first.values(), first, strict=True))
        if right == (size := len(self.toy.planted[name])):
            return "Here the first visit to each layer put all of its units in their places."
        mended = "later visits put all" if self.num_home()[-1][name] == size else "none put all"
        return (
            f"Visit {number}, to layer {self.layers.index(name) + 1}, came too early: it put "
            f"{right} of {size} units in their places; {mended}."
        )


def climb(example: Toy, visits: Sequence[Visit], *, seed: int) -> Climb:
    """Record a run of Algorithm 1 on a toy, and run the library's from the same seed.

    Args:
        example: the toy.
        visits: of the run.
        seed: of the order of visits.
    """
    result = cached(matching.match, "algorithm_1", example.spec, example.a, example.b, seed=seed)
    return Climb(example, visits, result.objective[-1])


def in_order(spec: symmetry.PermutationSpec, params: PyTree) -> dict[str, np.ndarray]:
    """Return the order of units as they came."""
    return symmetry.identity_permutation(spec, jax.device_get(params))


def num_left(order: Mapping[str, np.ndarray]) -> int:
    """Return how many units a permutation leaves in the slots where they were."""
    return sum(map(_num_in_place, order.values()))


def share_same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Return the share of units that have the same partner by two permutations."""
    same = [np.ravel(one[name]) == np.ravel(other[name]) for name in one]
    return float(np.concatenate(same).mean())


def _num_in_place(order: np.ndarray) -> int:
    return int((np.asarray(order) == np.arange(len(order))).sum())
