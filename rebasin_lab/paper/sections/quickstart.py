"""The whole idea on one pair: two networks of one task, their average, and the order that mends it.

It tests no claim of the paper, since one pair proves little; the sections after it do.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, merging, pytrees, symmetry
from rebasin_lab.analysis.interpolation import InterpolationCurve, interpolation_curve, loss_barrier
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.orders import ORDERS, Orders, Pair, evaluated, orders
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

__all__ = ["orders"]  # from another module, for the notebook

NAME = "00_quickstart"
CLAIMS: tuple[Claim, ...] = ()
NUM_SHOWN = 10  # images
NUM_SEARCHED = 200  # test images, of which the hardest are shown


def networks(profile: Profile) -> dict[str, Group]:
    """Return the first pair of the profile's MLPs."""
    return {"MLP": groups.mlps(profile, [profile.seed, profile.seed + 1])}


@dataclasses.dataclass(frozen=True, eq=False)
class Task(Record):
    """What networks are trained to say.

    Attributes:
        data: of the profile.
    """

    data: datasets.Dataset

    def figures(self) -> Iterator[Figure]:
        """Yield an image of each class."""
        firsts = np.unique(self.data.test_labels, return_index=True)[1][:NUM_SHOWN]
        samples = np.asarray(self.data.test_images[firsts], float).round(3)
        names = [self.data.class_names[label] for label in self.data.test_labels[firsts]]
        yield Figure(
            name="samples",
            numbers={
                "images": (samples[..., 0] if samples.shape[-1] == 1 else samples).tolist(),
                "labels": names,
            },
            title="The task: say what an image shows",
            caption=f"The first test image of each class of {self.data.title}.",
            alt=f"One image of each class: {', '.join(names)}.",
            size=(8.0, 1.4),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Learning(Record):
    """Two networks while they train.

    Attributes:
        pair: networks A and B.
    """

    pair: Pair

    def figures(self) -> Iterator[Figure]:
        """Yield losses and accuracies, epoch by epoch."""
        histories = dict(zip("AB", (one.history for one in self.pair), strict=True))
        a, b = (quantity(100 * each["test_accuracy"][-1], "%") for each in histories.values())
        yield Figure(
            name="training",
            plot="history",
            numbers={"histories": histories},
            title=f"In the end A reads {a} of the test images, and B {b}",
            caption="Two networks while they train, alike but for their seeds.",
            alt="Train and test loss and accuracy of A and B, epoch by epoch. Test accuracy "
            f"ends at {a} and {b}.",
            networks=self.pair,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Merges(Record):
    """The straight line from A to B and the network in its middle, by order of B's units.

    Attributes:
        orders: of B.
        curves: along the line, by order.
    """

    orders: Orders
    curves: Mapping[str, InterpolationCurve]

    def barriers(self) -> dict[str, float]:
        """Return train loss barriers in nats, by order."""
        return {order: loss_barrier(self.curves[order], split="train") for order in ORDERS}

    def at_lambda(self, lam: float) -> dict[str, PyTree]:
        """Return the parameters of networks on the line, by order."""
        a = self.orders.pair[0].params
        return {order: pytrees.lerp(lam, a, b) for order, b in self.orders.params.items()}

    @functools.cached_property
    def measured(self) -> dict[str, Any]:
        """Test loss and accuracy of A, B, their ensemble, and their averages."""
        a, b = self.orders.pair
        apply_fn, data = a.model.apply, self.orders.data
        averages = {f"average, {order}": each for order, each in self.at_lambda(0.5).items()}
        single = {"A": a.params, "B": b.params, **averages}
        measured = {name: evaluated(apply_fn, each, data) for name, each in single.items()}
        together = evaluated(merging.ensemble(apply_fn), [a.params, b.params], data)
        return measured | {"ensemble: ask both": together}

    def table(self) -> Table:
        """Return barriers of lines, and what A, B, their averages and their ensemble read."""
        barriers = {f"average, {order}": height for order, height in self.barriers().items()}
        return Table(
            rows=[*self.measured],
            columns=[
                Column("train barrier of its line", "nats", barriers.get),
                Column("test loss", "nats", lambda name: self.measured[name].loss),
                Column("test accuracy", "%", lambda name: 100 * self.measured[name].accuracy),
            ],
            corner="network",
        )

    def reading(self) -> Prose:
        """Return in words what the orders do to the average."""
        naive, random, matched = self.barriers().values()
        merged, ensemble = (
            self.measured[name] for name in ("average, weight matching", "ensemble: ask both")
        )
        control = "not any" if random > (naive + matched) / 2 else "perhaps any"
        best = "better" if ensemble.loss < merged.loss else "no better"
        return Prose(
            f"**What we measured**, on one pair. Matching leaves "
            f"{quantity(100 * matched / naive, '%')} of the naive barrier, a random order "
            f"{quantity(100 * random / naive, '%')}: it is {control} new order that helps. "
            f"The ensemble, which runs both networks, has {best} test loss than the average "
            "after matching, which is a single one."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield loss and accuracy on the line, before and after matching."""
        naive, _, matched = (quantity(height, "nats") for height in self.barriers().values())
        yield Figure(
            name="interpolation",
            numbers={
                "curves": {
                    order: [self.curves[order].as_numbers()]
                    for order in ("naive", "weight matching")
                }
            },
            title=f"A barrier of {naive} of train loss, and of {matched} after weight matching",
            caption="The straight line between two independently trained networks, before and "
            "after weight matching. Dashed: test images.",
            alt=f"Naive: the train loss rises by {naive} in the middle. After weight matching "
            f"by {matched}.",
            networks=self.orders.pair,
        )

    @functools.cached_property
    def hardest(self) -> np.ndarray:
        """Places of the test images that the naive average is least sure of."""
        images = jnp.asarray(self.orders.data.test_images[:NUM_SEARCHED])
        middle = self.at_lambda(0.5)["naive"]
        logits = self.orders.pair[0].model.apply(middle, images)
        return np.argsort(np.ptp(logits, axis=-1))[:NUM_SHOWN]

    def at(self, lam: float) -> Figure:
        """Return a place on the line, and what the networks there read, for a dial."""
        data, apply_fn = self.orders.data, self.orders.pair[0].model.apply
        images, labels = data.test_images[self.hardest], data.test_labels[self.hardest]
        answers, texts = {}, []
        for order, params in self.at_lambda(lam).items():
            if order == "random order":
                continue
            guesses = apply_fn(params, jnp.asarray(images)).argmax(-1)
            answers[order] = [
                [data.class_names[int(guess)], bool(guess == label)]
                for guess, label in zip(guesses, labels, strict=True)
            ]
            right = sum(is_right for _, is_right in answers[order])
            accuracy = quantity(100 * evaluated(apply_fn, params, data).accuracy, "%")
            texts.append(f"{order}: {accuracy} of all test images, {right} of these {len(images)}")
        return Figure(
            name="line_position",
            numbers={
                "curves": {order: self.curves[order].as_numbers() for order in answers},
                "lam": lam,
                "images": images.mean(-1).tolist(),
                "answers": answers,
            },
            title=f"Read right by {'; '.join(texts)}",
            caption=f"The images: the {len(images)} of the first {NUM_SEARCHED} test images that "
            "the naive average is least sure of. ✗: a mistake. Dashed: test loss.",
            alt=f"At lambda {lam:.2f}, read right by {'; '.join(texts)}.",
            size=(8.0, 4.8),
        )


def task(study: Study) -> Task:
    """Return the task of the profile's data set."""
    return Task(study.data)


def learning(network_a: Trained, network_b: Trained) -> Learning:
    """Return how two networks have learned."""
    return Learning((network_a, network_b))


def naive_line(curve: InterpolationCurve) -> Figure:
    """Return the line to B as it came, which readers sketch before they see it."""
    barrier = loss_barrier(curve, split="train")
    return Figure(
        name="naive_line",
        plot="interpolation",
        numbers={"curves": {"naive": [curve.as_numbers()]}},
        title=f"The naive barrier is {quantity(barrier, 'nats')} of train loss",
        caption="The straight line from A to B as it came. Dashed: test images.",
        alt=f"Loss and accuracy from A to B as it came; the barrier is {barrier:.3f} nats of train "
        "loss.",
        size=(10.0, 3.6),
    )


def merges(measured: Orders, *, naive: InterpolationCurve, matched: InterpolationCurve) -> Merges:
    """Return lines and averages; the line to B in random order is walked here, for control."""
    a = measured.pair[0]
    random = cached(
        interpolation_curve,
        a.model.apply,
        a.params,
        measured.params["random order"],
        measured.data,
        num_lambdas=len(naive.lambdas),
    )
    return Merges(measured, dict(zip(ORDERS, (naive, random, matched), strict=True)))


def _middle(a: Any, b: Any, rows: Any, columns: Any) -> Any:
    """Return the average of a kernel of A and one of B whose units are put in order."""
    spec = symmetry.PermutationSpec({"kernel": ("before", "own")})
    permutation = {"before": np.asarray(rows), "own": np.asarray(columns)}
    moved = symmetry.apply_permutation(spec, permutation, {"kernel": np.asarray(b, float)})
    return pytrees.lerp(0.5, {"kernel": np.asarray(a, float)}, moved)["kernel"]


EXERCISE = Exercise(
    oracle=_middle,
    cases=[
        (np.eye(2), np.eye(2), [0, 1], [1, 0]),
        (np.zeros((2, 3)), np.arange(6).reshape(2, 3), [1, 0], [2, 0, 1]),
        (np.ones((3, 3)), np.arange(9).reshape(3, 3), [1, 2, 0], [0, 2, 1]),
    ],
    hint="`b[rows]` takes rows in an order, `b[:, columns]` columns",
)
