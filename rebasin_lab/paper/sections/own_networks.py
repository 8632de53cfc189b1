"""Networks of your own: from two files to one, with controls.

Ours, not the paper's. `file_pair` opens the files; `merge_efforts` merges them with more images and
in larger sizes.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import matching, merging, pytrees, symmetry
from rebasin_lab.paper import foreign_pair
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim, from_laptop
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.file_pair import BATCH_SIZE, NUM_IMAGES, FilePair, Params, open_pair
from rebasin_lab.paper.sections.groups import Group, with_seeds
from rebasin_lab.paper.sections.merge_efforts import by_images, by_size
from rebasin_lab.paper.sections.quantities import listed, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study

__all__ = ["by_images", "by_size", "open_pair"]  # from other modules, for the notebook

NAME = "12_networks_of_your_own"
NAIVE, ENSEMBLE = "naive", "ensemble"
RANDOM, WEIGHTS, ACTIVATIONS = (
    matching.MATCHERS[name].label for name in ("random", "weight", "activation")
)
FITTED = "least squares"
UNMATCHED, JUNK = f"{FITTED}, B not matched", f"{FITTED}, B shuffled"
BY_WEIGHTS = f"{FITTED}, B matched by weights"
LOOKS_AT = {
    **dict.fromkeys((NAIVE, RANDOM, WEIGHTS), "images, for statistics"),
    **dict.fromkeys((ACTIVATIONS, UNMATCHED, JUNK, BY_WEIGHTS, FITTED), "images"),
    ENSEMBLE: "nothing; two networks",
}


def networks(profile: Profile) -> dict[str, Group]:
    """Return the pair that is trained where there is none of other people."""
    if foreign_pair.files(profile.foreign_pair):
        return {}
    return {"BatchNorm": with_seeds(profile.batch_norm, profile.seeds[:2])}


def measured_on(profile: Profile) -> str:
    """Say in a phrase what the claims are measured on."""
    if foreign_pair.files(profile.foreign_pair):
        return f"CIFAR-10, two {profile.foreign_pair} that other people trained"
    return f"{profile.batch_norm.load_dataset().title}; {profile.batch_norm.networks}"


def not_measured(profile: Profile) -> str:
    """Say why claims are not measured here; nothing where they are."""
    if foreign_pair.files(profile.foreign_pair):
        return ""
    if not profile.foreign_pair:
        return "Claims are about networks of other people; this run merges a pair of its own."
    return (
        f"Claims are about networks of other people: their files, {profile.foreign_pair}-a and -b, "
        f"are not in {foreign_pair.FOLDER} of $REBASIN_DATA."
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Ladder(Record):
    """Ways of merging A and B half-way, from the plain mean to the ensemble, with controls.

    Attributes:
        pair: of files.
        aligned: B in the order that activations give.
        junk: B with its numbers shuffled, likewise.
        fitted: A and B merged by least squares.
        accuracies: of A, B and each way, in % of the test images.
    """

    pair: FilePair
    aligned: Params
    junk: Params
    fitted: merging.LeastSquaresResult
    accuracies: Mapping[str, float]

    def gain(self, over: str) -> float:
        """Return how many points least squares are better than another way."""
        return self.accuracies[FITTED] - self.accuracies[over]

    @property
    def noise(self) -> float:
        """Points by which two networks as good as the merged one differ by chance alone."""
        right, number = self.accuracies[FITTED] / 100, len(self.pair.data.test_labels)
        return 100 * 2 * np.sqrt(2 * right * (1 - right) / number)  # two standard errors

    def table(self) -> Table:
        """Return what each way looks at, and what comes of it."""
        return Table(
            rows=[*self.accuracies],
            corner="half-way",
            columns=[
                Column("looks at", "", LOOKS_AT.get),
                Column("test accuracy", "%", self.accuracies.__getitem__),
            ],
        )

    def reading(self) -> Prose:
        """Return in words what least squares are worth, and what its controls say."""
        needs_b, needs_order = (self.gain(each) > self.noise for each in (JUNK, UNMATCHED))
        verdict = ("It needs B" if needs_b else "It gains nothing from B") + (
            ", and B's units in order." if needs_order else "; matching adds nothing to it here."
        )
        return Prose(
            f"**What we measured**, on {self.pair.title}; {len(self.pair.images.train_labels):,} "
            f"images without labels, {len(self.pair.data.test_labels):,} test images. Least "
            f"squares are right on {quantity(self.accuracies[FITTED], '%')}: "
            f"{quantity(self.gain(ACTIVATIONS), 'points')} more than the mean of the weights in "
            f"the same order, {quantity(self.gain(UNMATCHED), 'points')} more than without "
            f"matching, {quantity(self.gain(JUNK), 'points')} more than where the numbers of B "
            f"are shuffled. {verdict} It took {quantity(self.fitted.cpu_seconds, 's', digits=0)} "
            "of one core."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield all ways, one below the other."""
        shown = {
            name: quantity(self.accuracies[name], "%", digits=0)
            for name in (NAIVE, ACTIVATIONS, FITTED, ENSEMBLE)
        }
        steps = ", ".join(f"{text} {name}" for name, text in shown.items())
        yield Figure(
            name="ladder",
            plot="merged_bars",
            numbers={
                "groups": [
                    {
                        "title": "test accuracy half-way (%)",
                        "values": {name: [value] for name, value in self.accuracies.items()},
                        "lower_is_better": False,
                    }
                ]
            },
            title=f"Half-way: {steps}",
            caption=f"Ways of merging {self.pair.title}. Statistics of BatchNorm are measured anew "
            f"for each; all look at the same {len(self.pair.images.train_labels):,} training "
            "images, without labels. Controls: a random order, B not matched, the numbers of every "
            "array of B shuffled. The ensemble is twice as large.",
            alt=f"Test accuracy: {listed(self.accuracies, '%')}.",
            networks=self.pair.networks,
            data=self.pair.data,
            size=(8.0, 4.2),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return gains of accuracy, in points, if the networks are other people's."""
        if self.pair.networks:
            return {}
        return {
            "own-least-squares": self.gain(ACTIVATIONS),
            "own-matching-first": self.gain(UNMATCHED),
            "own-junk": self.gain(JUNK),
        }


def merge_in_all_ways(study: Study, pair: FilePair, spec: symmetry.PermutationSpec) -> Ladder:
    """Merge A and B half-way, in each way and with controls."""
    a, b = pair.params
    junk = merging.shuffled(b)
    orders = {
        NAIVE: symmetry.identity_permutation(spec, b),
        RANDOM: symmetry.random_permutation(spec, b, seed=0),
        WEIGHTS: cached(matching.match, "weight", spec, a, b).permutation,
        ACTIVATIONS: by_activations(pair, spec, b),
    }
    moved = {way: symmetry.apply_permutation(spec, each, b) for way, each in orders.items()}
    moved_junk = symmetry.apply_permutation(spec, by_activations(pair, spec, junk), junk)
    found = {}
    with study.bar(len(orders) + 4, "merging") as bar:
        for way, params in moved.items():
            found[way] = _mean(pair, params)
            bar.update()
        for way, params in {
            JUNK: moved_junk,
            UNMATCHED: b,
            BY_WEIGHTS: moved[WEIGHTS],
            FITTED: moved[ACTIVATIONS],
        }.items():
            fitted = pair.least_squares(params)
            found[way] = fitted.params
            bar.update()
    accuracies = {way: pair.accuracy(params) for way, params in (found | {"A": a, "B": b}).items()}
    accuracies[ENSEMBLE] = pair.right(answers.ensemble([*map(pair.says, (a, b))]))
    return Ladder(pair, moved[ACTIVATIONS], moved_junk, fitted, accuracies)


def by_activations(
    pair: FilePair, spec: symmetry.PermutationSpec, b: Params
) -> symmetry.Permutation:
    """Return the order of B's units that respond to the pair's images as A's do."""
    options = {"apply_fn": pair.apply_fn, "data": pair.images, "where": "summed"}
    return cached(matching.match, "activation", spec, pair.params[0], b, **options).permutation


def _mean(pair: FilePair, b: Params) -> PyTree:
    """Return the mean of A and B with statistics measured anew."""
    mean = pytrees.lerp(0.5, pair.params[0], b)
    images, options = pair.images.train_images, {"batch_size": BATCH_SIZE}
    return cached(merging.reestimate_statistics, pair.apply_fn, mean, images, **options)


def _best_map(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the matrix W with the least squared error of `inputs @ W`."""
    return np.linalg.lstsq(np.asarray(inputs), np.asarray(targets), rcond=None)[0]


_RNG = np.random.default_rng(0)
EXERCISE = Exercise(
    oracle=_best_map,
    cases=[
        (_RNG.normal(size=(num_images, num_in)), _RNG.normal(size=(num_images, num_out)))
        for num_images, num_in, num_out in ((5, 2, 1), (9, 3, 2), (4, 4, 3))
    ],
    hint="where the error is least, it has nothing in common with any input",
)

claim = functools.partial(Claim, notebook=NAME, section="ours", paper="not in it")

CLAIMS: tuple[Claim, ...] = (
    # Fixed before the notebook was written; a trial had 83.8 % where the mean had 51.5, 71.0
    # without matching, and 60.9 with a network of random numbers in place of B.
    claim(
        id="own-least-squares",
        statement="Fitting layers to unlabelled images mends the merge of thin networks.",
        quantity=f"test accuracy half-way, {NUM_IMAGES} images: least squares - mean (points)",
        bounds=from_laptop("at least", 20.0),
    ),
    claim(
        id="own-matching-first",
        statement="Least squares need matched units.",
        quantity="test accuracy half-way, least squares: matched - not matched (points)",
        bounds=from_laptop("at least", 8.0),
    ),
    claim(
        id="own-junk",
        statement="Least squares use B: they do not just mend A.",
        quantity="test accuracy half-way, least squares: B - B with its numbers shuffled (points)",
        bounds=from_laptop("at least", 15.0),
    ),
)
