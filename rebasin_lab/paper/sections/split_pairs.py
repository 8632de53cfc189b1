"""The networks of section 5.4: the two parts of the data, pairs trained on them, what these say."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from rebasin_lab import datasets, matching, pytrees, symmetry
from rebasin_lab.analysis import calibration
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.answers import LogProbs
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.study import Study, learned_part, spec_of
from rebasin_lab.paper.store import Trained

MERGED = "Algorithm 1"  # the paper's weight matching, which its claims are about
OWN = ("A", "B", "all data")  # networks of a pair

PairOfSeeds = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Score:
    """What a network says of all test images, scored.

    Attributes:
        loss: cross-entropy, nats.
        accuracy: % that are right.
        top5: % whose class is among its own five likeliest.
        ece: expected calibration error of the top class, a fraction.
    """

    loss: float
    accuracy: float
    top5: float
    ece: float


def num_bins(data: datasets.Dataset) -> int:
    """Return the paper's number of bins of a reliability curve."""
    return 15 if data.num_classes == 100 else 10


def score(said: LogProbs, data: datasets.Dataset) -> Score:
    """Score what a network says of the test images."""
    summary = calibration.summarise_logits(said, data.test_labels, num_bins=num_bins(data))
    likeliest = np.argsort(-said, axis=1)[:, :5]
    top5 = (likeliest == data.test_labels[:, None]).any(axis=1).mean()
    return Score(summary.nll, 100 * summary.accuracy, 100 * float(top5), summary.ece)


def class_counts(part: datasets.Dataset) -> list[int]:
    """Return the number of training images of each class."""
    return np.bincount(part.train_labels, minlength=part.num_classes).tolist()


@dataclasses.dataclass(frozen=True, eq=False)
class Parts(Record):
    """The data, and its two parts.

    Attributes:
        data: all of it.
        parts: by name, "A" and "B".
    """

    data: datasets.Dataset
    parts: Mapping[str, datasets.Dataset]

    def figures(self) -> Iterator[Figure]:
        """Yield the images of each class that A and B see."""
        counts = {name: class_counts(part) for name, part in self.parts.items()}
        lower = self.data.num_classes // 2
        shares = {name: 100 * sum(each[:lower]) / sum(each) for name, each in counts.items()}
        shown = {name: quantity(share, "%", digits=0) for name, share in shares.items()}
        yield Figure(
            name="class_counts",
            numbers={"classes": list(self.data.class_names), "counts": counts},
            title=f"Of A's images {shown['A']} are of the lower half of the classes, of B's "
            f"{shown['B']}",
            caption="The training images of each class, split between A and B as in section "
            "5.4 of the paper; no image is in both.",
            alt="Images of the lower half of the classes among those seen: "
            f"A {shown['A']}, B {shown['B']}.",
            data=self.data,
            size=(7.0, 3.4),
        )


def parts(study: Study) -> Parts:
    """Return the data that networks of the first pair are trained on."""
    wanted, pair = study.trainings["pairs"], study.profile.pairs[0]
    everything, a, b = (wanted[pair, name].load_dataset() for name in ("all data", "A", "B"))
    return Parts(everything, {"A": a, "B": b})


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs(Record):
    """Pairs of networks trained on the two parts, each with one that was trained on all data.

    Attributes:
        data: all of it.
        parts: by name.
        networks: by pair and name.
        said: by name, for each pair what its network says of the test images.
        spec: of their symmetries.
    """

    data: datasets.Dataset
    parts: Mapping[str, datasets.Dataset]
    networks: Mapping[tuple[PairOfSeeds, str], Trained]
    said: Mapping[str, Sequence[LogProbs]]
    spec: symmetry.PermutationSpec

    @functools.cached_property
    def pairs(self) -> list[PairOfSeeds]:
        """The seeds of A and B, pair by pair."""
        return list(dict.fromkeys(pair for pair, _ in self.networks))

    def of(self, pair: PairOfSeeds) -> tuple[Trained, Trained]:
        """Return the networks A and B of a pair."""
        return self.networks[pair, "A"], self.networks[pair, "B"]

    def says(self, params: Any) -> LogProbs:
        """Return what a network of this shape says of the test images."""
        apply_fn = next(iter(self.networks.values())).model.apply
        return answers.log_probs(apply_fn, params, self.data)

    def at(self, pair: PairOfSeeds, order: symmetry.Permutation, lam: float) -> LogProbs:
        """Return what the network at lambda between A and B in some order says."""
        a, b = self.of(pair)
        moved = symmetry.apply_permutation(self.spec, order, b.params)
        return self.says(pytrees.lerp(np.float32(lam), a.params, moved))

    def along(
        self, pair: PairOfSeeds, order: symmetry.Permutation, num_lambdas: int
    ) -> list[LogProbs]:
        """Return what networks at equally spaced points from A to B in some order say."""
        a, b = self.of(pair)
        moved = symmetry.apply_permutation(self.spec, order, b.params)
        images = self.data.test_images
        logits = cached(
            calibration.logits_on_line,
            a.model.apply,
            a.params,
            moved,
            images,
            num_lambdas=num_lambdas,
        )
        return [answers.as_log_probs(each) for each in logits]

    def table(self) -> Table:
        """Return loss and accuracy of the networks, over all classes and over halves of them."""
        labels = self.data.test_labels
        lower = labels < self.data.num_classes / 2
        right = {n: [said.argmax(axis=1) == labels for said in self.said[n]] for n in OWN}
        over = {"all classes": lower | ~lower, "lower classes": lower, "upper classes": ~lower}
        return Table(
            rows=OWN,
            corner="trained on",
            columns=[
                Column(
                    "test loss", "nats", lambda n: [score(o, self.data).loss for o in self.said[n]]
                ),
                *(
                    Column(
                        f"accuracy, {name}",
                        "%",
                        lambda n, rows=rows: [100 * float(one[rows].mean()) for one in right[n]],
                    )
                    for name, rows in over.items()
                ),
            ],
        )


def pairs(study: Study, trained: Mapping[tuple[PairOfSeeds, str], Trained]) -> Pairs:
    """Ask all networks of the pairs about the test images."""
    found, first = parts(study), next(iter(trained.values()))
    apply_fn = first.model.apply
    said = {
        name: [
            answers.log_probs(apply_fn, one.params, found.data)
            for (_, each), one in trained.items()
            if each == name
        ]
        for name in OWN
    }
    return Pairs(found.data, found.parts, trained, said, spec_of(first, found.data))


def together(said_a: LogProbs, said_b: LogProbs, lam: float) -> LogProbs:
    """Return the ensemble: log-probabilities averaged with weights 1 - lambda and lambda."""
    return scipy.special.log_softmax((1 - lam) * said_a + lam * said_b, axis=1)


def weight_orders(
    spec: symmetry.PermutationSpec, a: Trained, b: Trained, *, seed: int
) -> dict[str, symmetry.Permutation]:
    """Return the orders that need no image: as B came, random, Algorithm 1, of learned parts."""
    match = functools.partial(cached, matching.match)
    learned = [learned_part(each) for each in (a, b)]
    return {
        "naive": symmetry.identity_permutation(spec, b.params),
        "random": match("random", spec, a.params, b.params, seed=seed).permutation,
        MERGED: match("algorithm_1", spec, a.params, b.params).permutation,
        "learned part": match("weight", spec, *learned).permutation,
    }
