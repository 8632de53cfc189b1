"""Units that change places: two by hand, in all lines of code or in some; and all at random."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, pytrees, symmetry
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

LINES = {"all three lines": 3, "without the next layer": 2, "the weights alone": 1}
NUM_IMAGES = 500
NUM_SHOWN = 10  # units
NUM_PAIRS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Swaps(Record):
    """An MLP whose first units change places.

    Attributes:
        network: the MLP.
        data: of the profile; its first test images are read.
    """

    network: Trained
    data: datasets.Dataset

    @functools.cached_property
    def images(self) -> jax.Array:
        """The test images that networks read here."""
        return jnp.asarray(self.data.test_images[:NUM_IMAGES])

    def logits(self, params: PyTree, num_images: int = NUM_IMAGES) -> np.ndarray:
        """Return the logits of test images."""
        with jax.default_matmul_precision("highest"):  # a GPU would round products coarsely
            return np.asarray(self._apply(params, self.images[:num_images]))

    @functools.cached_property
    def _apply(self) -> Callable:
        return jax.jit(self.network.model.apply)

    def change(self, changed: PyTree, params: PyTree | None = None) -> float:
        """Return the largest change of any logit.

        Args:
            changed: the parameters after the change.
            params: before it, those of the network by default.
        """
        before = self.network.params if params is None else params
        return float(np.abs(self.logits(changed) - self.logits(before)).max())

    @functools.cached_property
    def num_shown(self) -> int:
        """The number of units to choose from."""
        return min(NUM_SHOWN, len(self._outgoing))

    @functools.cached_property
    def _outgoing(self) -> np.ndarray:
        return np.asarray(self.network.params["layers"][1]["kernel"], float)

    @functools.cached_property
    def _responses(self) -> np.ndarray:
        first = jax.tree.map(np.asarray, self.network.params["layers"][0])
        pixels = np.asarray(self.images, float).reshape(len(self.images), -1)
        return np.maximum(pixels @ first["kernel"] + first["bias"], 0.0).T

    @functools.cached_property
    def _unlike(self) -> tuple[np.ndarray, np.ndarray]:
        """How far outgoing weights of two units are apart, and their responses (root mean square).

        Both by pair of units.
        """
        responses = self._responses / np.sqrt(len(self.images))
        return _distances(self._outgoing), _distances(responses)

    def most_alike(self) -> tuple[int, int]:
        """Return the two units that would be missed least, were they swapped for each other."""
        outgoing, responses = self._unlike
        missed = outgoing * responses + np.where(np.eye(len(outgoing)), np.inf, 0.0)
        i, j = np.unravel_index(np.argmin(missed), missed.shape)
        return int(min(i, j)), int(max(i, j))

    def twins(self) -> PyTree:
        """Return the network with outgoing weights of units 0 and 1 that are equal, their mean."""
        params = _copied(self.network.params)
        kernel = params["layers"][1]["kernel"]
        kernel[[0, 1]] = kernel[[0, 1]].mean(0)
        return params

    @functools.cached_property
    def missed(self) -> dict[str, list[tuple[int, int]]]:
        """The pairs of units that `table` compares, by name."""
        rng = np.random.default_rng(0)
        several = [sorted(rng.choice(len(self._outgoing), 2, False)) for _ in range(NUM_PAIRS)]
        i, j = self.most_alike()
        return {
            "units 0 and 1": [(0, 1)],
            "random pairs": [(int(a), int(b)) for a, b in several],
            f"units {i} and {j}, least missed": [(i, j)],
        }

    @functools.cached_property
    def measured(self) -> dict[str, tuple[list[float], list[float], list[float]]]:
        """Differences of outgoing weights and responses, and changes of logits, by name."""
        outgoing, responses = self._unlike
        found = {
            name: (
                [float(outgoing[pair]) for pair in pairs],
                [float(responses[pair]) for pair in pairs],
                [self.change(swapped(self.network.params, *pair, 2)) for pair in pairs],
            )
            for name, pairs in self.missed.items()
        }
        twins = self.twins()
        change = self.change(swapped(twins, 0, 1, 2), twins)
        return found | {"0 and 1, made to send alike": ([0.0], [float(responses[0, 1])], [change])}

    def table(self) -> Table:
        """Return by how much a swap is missed that leaves the next layer as it was."""
        headings = (
            "outgoing weights differ by",
            "responses differ by",
            "largest change of a logit",
        )
        columns = zip(*self.measured.values(), strict=True)
        return Table(
            rows=[*self.measured],
            columns=[
                Column(heading, "", [*cells])
                for heading, cells in zip(headings, columns, strict=True)
            ],
            corner="swapped without the next layer",
        )

    def reading(self) -> Prose:
        """Return in words which two units may change places."""
        _, (_, _, random), (_, _, (alike,)), (_, _, (twins,)) = self.measured.values()
        is_silent = not self._responses[list(self.most_alike())].any()
        why = (
            "neither ever responds to these images"
            if is_silent
            else "what they send, or how they respond, is nearly the same"
        )
        rounding = "rounding" if twins < 1e-3 else "more than rounding"
        return Prose(
            f"**What we measured.** The pair that is missed least changes a logit by "
            f"{quantity(alike, '')}: {why if alike < 1e-3 else 'no two are alike enough'}. A "
            f"random pair changes one by {quantity(random, '')} in the mean. "
            f"Where two units send the same weights, what changes is {rounding}."
        )

    @functools.cached_property
    def _limits(self) -> list[float]:
        """The range of one image's logits, whatever units change places."""
        first = [self.logits(self.network.params, 1)]
        for i in range(self.num_shown):
            for j in range(i):
                for lines in (1, 2):
                    first.append(self.logits(swapped(self.network.params, i, j, lines), 1))
        low, high = float(np.min(first)), float(np.max(first))
        margin = 0.05 * (high - low)
        return [min(low - margin, 0.0), max(high + margin, 0.0)]

    def at(self, unit: int, and_unit: int, swapped_in: str) -> Figure:
        """Return first weights and the answers to an image, for dials.

        Args:
            unit: of the first hidden layer.
            and_unit: with which it changes places.
            swapped_in: a name in `LINES`.
        """
        params = swapped(self.network.params, unit, and_unit, LINES[swapped_in])
        before, after = self.logits(self.network.params), self.logits(params)
        labels = self.data.test_labels[:NUM_IMAGES]
        right = [100 * float((each.argmax(-1) == labels).mean()) for each in (before, after)]
        change = float(np.abs(after - before).max())
        kernel = np.asarray(params["layers"][0]["kernel"])[:, : self.num_shown]
        effect = "is rounding" if change < 1e-3 else f"is {change:.2g}"
        return Figure(
            name="swapped_units",
            numbers={
                "weights": kernel.T.reshape(-1, *self.data.image_shape).mean(-1).tolist(),
                "swapped": [unit, and_unit],
                "classes": list(self.data.class_names),
                "before": before[0].tolist(),
                "after": after[0].tolist(),
                "change": change,
                "accuracy": right,
                "limits": self._limits,
            },
            title=f"Units {unit} and {and_unit}, {swapped_in}: the largest change of a logit "
            f"{effect}",
            caption=f"The first {self.num_shown} units of the first hidden layer, and the logits "
            f"of one image. Accuracy and the largest change are those of {len(labels)} images.",
            alt=f"Units {unit} and {and_unit} swapped, {swapped_in}: the logits change by "
            f"{change:.1e} at most, and {right[1]:.1f} % of {len(labels)} images are read right "
            f"instead of {right[0]:.1f} %.",
            size=(10.0, 3.6),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Shuffles(Record):
    """A network with the units of all its layers in random order.

    Attributes:
        length: of its weight vector.
        distances: by which the weights moved, by what was done.
        changes: the largest of a logit, relative to the largest logit, likewise.
    """

    length: float
    distances: Mapping[str, float]
    changes: Mapping[str, float]

    def table(self) -> Table:
        """Return how far weights moved, and what became of the function."""
        return Table(
            rows=[*self.distances],
            columns=[
                Column("weights moved by", "", [*self.distances.values()], digits=1),
                Column("change of logits", "% of the largest", self._percentages(), digits=1),
            ],
            corner="all layers shuffled",
        )

    def _percentages(self) -> list[float]:
        return [100 * change for change in self.changes.values()]

    def reading(self) -> Prose:
        """Return in words how far a network is from its copies."""
        moved, *_ = self.distances.values()
        ratio = moved / (math.sqrt(2) * self.length)
        far = "less far apart than" if ratio < 1 else "farther apart than"
        far = "about as far apart as" if abs(ratio - 1) < 0.1 else far
        return Prose(
            f"**What we measured.** A network and its shuffled copy are {far} two unrelated "
            f"weight vectors of this length would be ({quantity(moved, '', digits=1)}, and "
            f"{quantity(math.sqrt(2) * self.length, '', digits=1)})."
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the change of the function."""
        return {"functional-equivalence": self.changes["by the spec"]}


def shuffles(study: Study, network: Trained, spec: symmetry.PermutationSpec) -> Shuffles:
    """Shuffle all layers of an MLP, undo it, and shuffle it by a spec that forgets a layer."""
    params = network.params
    images = jnp.asarray(study.data.test_images[:NUM_IMAGES])
    permutation = symmetry.random_permutation(spec, params, seed=1)
    shuffled = symmetry.apply_permutation(spec, permutation, params)
    undoing = symmetry.invert_permutation(permutation)
    forgetful = symmetry.PermutationSpec(
        {**spec.axes, "layers/1/kernel": (None, spec.axes["layers/1/kernel"][1])}
    )
    done = {
        "by the spec": shuffled,
        "by the spec, and undone": symmetry.apply_permutation(spec, undoing, shuffled),
        "control: rows of layers/1 forgotten": symmetry.apply_permutation(
            forgetful, permutation, params
        ),
    }
    with jax.default_matmul_precision("highest"):  # a GPU would round products coarsely
        before = network.model.apply(params, images)
        after = {name: network.model.apply(each, images) for name, each in done.items()}
    largest = abs(before).max()
    return Shuffles(
        math.sqrt(pytrees.inner_product(params, params)),
        {name: pytrees.distance(params, each) for name, each in done.items()},
        {name: float(abs(each - before).max() / largest) for name, each in after.items()},
    )


def swaps(study: Study, network: Trained) -> Swaps:
    """Return a network whose first units can change places."""
    return Swaps(network, study.data)


def swapped(params: PyTree, i: int, j: int, num_lines: int) -> PyTree:
    """Return parameters with two units of the first layer swapped, in so many of three lines."""
    params = _copied(params)
    first, second = (params["layers"][index] for index in (0, 1))
    slots = np.arange(first["kernel"].shape[1])
    slots[[i, j]] = [j, i]
    first["kernel"] = first["kernel"][:, slots]
    if num_lines > 1:
        first["bias"] = first["bias"][slots]
    if num_lines > 2:
        second["kernel"] = second["kernel"][slots]
    return params


def _copied(params: Mapping) -> PyTree:
    return jax.tree.map(np.array, params)


def _distances(rows: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of every two rows."""
    products = rows @ rows.T
    lengths = np.diag(products)
    return np.sqrt(np.maximum(lengths[:, None] + lengths[None] - 2 * products, 0.0))
