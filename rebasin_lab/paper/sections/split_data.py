"""Section 5.4, Fig. 5 and 10: can networks that saw different data be merged?

Claims are about the paper's Algorithm 1. The library's own weight matching, weight matching of what
training has added (the learned part), and matchers that look at images stand beside it.
`split_pairs` has the networks, `merged_pairs` these matchers, `confidence` Fig. 11, and
`minorities` other splits of the data.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import datasets, symmetry
from rebasin_lab.analysis import calibration
from rebasin_lab.paper.claim import Claim, Resolution, everywhere
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.answers import LogProbs
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.pair_lines import CHANCE
from rebasin_lab.paper.sections.quantities import num_pairs, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.split_pairs import (
    MERGED,
    OWN,
    Pairs,
    Score,
    score,
    together,
    weight_orders,
)
from rebasin_lab.paper.sections.study import Study

NAME = "10_split_data"
UNITS = {"loss": "nats", "accuracy": "%", "top5": "%"}


def networks(profile: Profile) -> dict[str, Group]:
    """Return A, B and a network trained on all data for each pair, and A and B of other splits."""
    base = profile.split_experiment
    parts = {"A": base.with_view(part="biased a"), "B": base.with_view(part="biased b")}
    pairs = {
        (pair, name): one.with_seed(pair[name == "B"])
        for pair in profile.pairs
        for name, one in {**parts, "all data": base}.items()
    }
    minorities = {
        (minority, name): one.with_seed(profile.seed + index).with_view(minority=minority)
        for minority in sorted({*profile.minorities, base.view.minority})
        for index, (name, one) in enumerate(parts.items())
    }
    return {"pairs": pairs, "minorities": minorities}


def measured_on(profile: Profile) -> str:
    """Say in a phrase what the claims are measured on."""
    base = profile.split_experiment
    return f"{base.load_dataset().title}, {base.networks}, split between A and B"


@dataclasses.dataclass(frozen=True, eq=False)
class Lines(Record):
    """The lines between A and B of each pair, several ways to combine them, and their middles.

    Attributes:
        pairs: the networks.
        lambdas: along the lines.
        orders: by way, B's order for each pair; an ensemble has none.
        scores: by way, for each pair one score for each lambda.
        middles: by way, for each pair what it says half-way; and what the networks say.
    """

    pairs: Pairs
    lambdas: np.ndarray
    orders: Mapping[str, Sequence[symmetry.Permutation]]
    scores: Mapping[str, Sequence[Sequence[Score]]]
    middles: Mapping[str, Sequence[LogProbs]]

    def values(self, metric: str, name: str, lam: float = 0.5) -> list[float]:
        """Return a metric of each pair: of a network, or of a way to combine A and B at lambda."""
        if name in OWN:
            return [getattr(score(s, self.pairs.data), metric) for s in self.pairs.said[name]]
        place = int(np.argmin(np.abs(self.lambdas - lam)))
        return [getattr(line[place], metric) for line in self.scores[name]]

    def difference(self, metric: str, name: str, *others: str, lam: float = 0.5) -> list[float]:
        """Return a metric of one way less the best of others, for each pair."""
        best = np.max if metric in ("accuracy", "top5") else np.min
        against = best([self.values(metric, other, lam) for other in others], axis=0)
        return np.subtract(self.values(metric, name, lam), against).tolist()

    def table(self, lam: float = 0.5) -> Table:
        """Return loss and accuracy of the networks and of what they are combined to at lambda."""
        return Table(
            rows=["A", "B", *self.scores, "all data"],
            corner=f"λ = {self.lambdas[np.argmin(np.abs(self.lambdas - lam))]:.2f}",
            columns=[
                Column("test loss", "nats", lambda n: self.values("loss", n, lam)),
                Column(
                    "less the lower of A and B",
                    "nats",
                    lambda n: self.difference("loss", n, "A", "B", lam=lam),
                ),
                Column("test accuracy", "%", lambda n: self.values("accuracy", n, lam)),
                Column(
                    "less the higher of A and B",
                    "points",
                    lambda n: self.difference("accuracy", n, "A", "B", lam=lam),
                ),
            ],
        )

    def reading(self) -> Prose:
        """Return in words if the merged network is better than both it came from."""
        loss, accuracy = (self.difference(m, MERGED, "A", "B") for m in ("loss", "accuracy"))
        lower, righter = (sum(x < 0 for x in loss), sum(x > 0 for x in accuracy))
        learned = sum(x < 0 for x in self.difference("loss", "learned part", "A", "B"))
        return Prose(
            f"**What we measured**, on {num_pairs(len(loss))}. Merged by Algorithm 1, the network "
            f"half-way has a lower test loss than both A and B on {lower} of them, and is more "
            f"often right than both on {righter}. In the order of the learned parts it has the "
            f"lower loss on {learned}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield loss and accuracy on the lines, and the levels of training on all data."""
        drawn = [
            ("loss", "loss_lines", "test loss", "Fig. 5"),
            ("accuracy", "accuracy_lines", "top-1 test accuracy", "Fig. 10"),
        ]
        if self.pairs.data.num_classes > 10:
            drawn.append(("top5", "top5_lines", "right class among five", "Fig. 10"))
        yield from (self._figure(*each) for each in drawn)

    def _figure(self, metric: str, name: str, label: str, place: str) -> Figure:
        unit = UNITS[metric]
        means = {
            way: np.mean([[getattr(s, metric) for s in line] for line in each], axis=0)
            for way, each in self.scores.items()
        }
        level = float(np.mean(self.values(metric, "all data")))
        middle = len(self.lambdas) // 2
        ends = [quantity(self.values(metric, n), unit) for n in "AB"]
        half = ", ".join(f"{way} {line[middle]:.3g}" for way, line in means.items())
        claims = [each for each in self.claims() if each.startswith("fig5") == (metric == "loss")]
        return Figure(
            name=name,
            plot="loss_lines_with_levels",
            numbers={
                "lambdas": self.lambdas.tolist(),
                "curves": {way: line.tolist() for way, line in means.items()},
                "levels": {"trained on all data": level},
                "ylabel": f"{label} ({unit})",
                "limit": None,
            },
            title=f"{label.capitalize()} half-way: {quantity(means[MERGED][middle], unit)} by "
            f"Algorithm 1, {quantity(means['ensemble'][middle], unit)} by the ensemble; the ends "
            f"have {ends[0]} and {ends[1]}",
            caption=f"{label.capitalize()} on the line between networks trained on two biased "
            f"parts of the data, mean over {num_pairs(len(self.pairs.pairs))}. Random order and "
            f"learned part are ours. {place} of the paper has the others.",
            alt=f"Half-way, {label} ({unit}): {half}; trained on all data {level:.3g}.",
            networks=[*self.pairs.networks.values()],
            data=self.pairs.data,
            claims=claims,
            size=(7.5, 4.0),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the merged network against naive, A and B, the ensemble and all data."""
        ratio = np.divide(self.values("loss", MERGED), self.values("loss", "naive"))
        return {
            "fig5-naive": ratio.tolist(),
            "fig5-merged-below-both": self.difference("loss", MERGED, "A", "B"),
            "fig5-ensemble-better": self.difference("loss", "ensemble", MERGED),
            "fig5-full-data-better": self.difference("loss", "all data", MERGED),
            "fig10-accuracy": self.difference("accuracy", MERGED, "A", "B"),
        }


def lines(study: Study, found: Pairs) -> Lines:
    """Combine A and B of every pair along the line, merged in several orders and as an ensemble."""
    lambdas = np.linspace(0, 1, study.profile.num_lambdas)
    orders: dict[str, list[symmetry.Permutation]] = {}
    scores: dict[str, list[list[Score]]] = {}
    middles: dict[str, list[LogProbs]] = {name: [*found.said[name]] for name in OWN}
    with study.bar(len(found.pairs), "walking lines") as bar:
        for index, pair in enumerate(found.pairs):
            for way, order in weight_orders(found.spec, *found.of(pair), seed=pair[0]).items():
                orders.setdefault(way, []).append(order)
                said = found.along(pair, order, len(lambdas))
                _keep(way, said, found.data, scores, middles)
            ends = [found.said[name][index] for name in "AB"]
            said = (together(*ends, lam) for lam in lambdas)
            _keep("ensemble", said, found.data, scores, middles)
            bar.update()
    return Lines(found, lambdas, orders, scores, middles)


def _keep(
    way: str,
    along: Any,
    data: datasets.Dataset,
    scores: dict[str, list[list[Score]]],
    middles: dict[str, list[LogProbs]],
) -> None:
    """Keep the scores along a line, and what is said in its middle: the rest may be large."""
    said = list(along)
    scores.setdefault(way, []).append([score(each, data) for each in said])
    middles.setdefault(way, []).append(said[len(said) // 2])


def _temper(logits: np.ndarray, temperature: float) -> np.ndarray:
    return calibration.with_temperature(np.asarray(logits), temperature)


_LOGITS = np.array([[4.0, 1.0, 0.0], [0.5, 2.0, 2.5]])
EXERCISE = Exercise(
    oracle=_temper,
    cases=[(_LOGITS, 1.0), (_LOGITS, 2.0), (-_LOGITS, 0.5)],
    hint="divide the logits, then subtract the logarithm of the sum of their exponentials, row by "
    "row: `np.log(np.exp(x).sum(1, keepdims=True))`",
)

# "Below" and "better" mean for every pair, half-way on its line, on test images.
claim = functools.partial(Claim, notebook=NAME)
# As in `merging_many`: two standard errors of an accuracy, and the ECE of perfect calibration.
_POINTS = {"quick": Resolution(1.4, "1,000 test images")}
_ECE = {"quick": Resolution(0.02, "1,000 test images")}

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig5-naive",
        section="5.4, Fig. 5",
        statement="Models trained on disjoint data are joined better after matching than before.",
        paper="shown",
        quantity="test loss half-way, weight matching / naive",
        bounds=everywhere("below", 1.0),
    ),
    claim(
        id="fig5-merged-below-both",
        section="5.4, Fig. 5",
        statement="The merged model has a lower test loss than either model it came from.",
        paper="shown",
        quantity="test loss, merged - the lower of A and B (nats)",
        bounds=everywhere("below", 0.0),
        why=CHANCE,
    ),
    claim(
        id="fig5-ensemble-better",
        section="5.4, Fig. 5",
        statement="The ensemble of A and B has a lower test loss than the merged model.",
        paper="shown",
        quantity="test loss, ensemble - merged (nats)",
        bounds=everywhere("below", 0.0),
        why={
            "laptop": "On this much data the merged network is about as good as the ensemble, and "
            "which of the two is ahead differs from pair to pair."
        },
    ),
    claim(
        id="fig5-full-data-better",
        section="5.4, Fig. 5",
        statement="A model trained on all the data has a lower test loss than the merged model.",
        paper="shown",
        quantity="test loss, trained on all data - merged (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig10-accuracy",
        section="5.4, Fig. 10",
        statement="In accuracy the merged model does not beat the better of A and B.",
        paper="lower loss, 'but not accuracy'",
        quantity="top-1 test accuracy, merged - the higher of A and B (points)",
        bounds=everywhere("at most", 0.0),
        resolution=_POINTS,
    ),
    claim(
        id="fig11-ece-below-both",
        section="5.4, Fig. 11",
        statement="The merged model is better calibrated than either model it came from.",
        paper="shown, without a number",
        quantity="calibration error (ECE), merged - the lower of A and B",
        bounds=everywhere("below", 0.0),
        resolution=_ECE,
        why=CHANCE,
    ),
    claim(
        id="fig11-on-par-with-ensemble",
        section="5.4, Fig. 11",
        statement="The merged model is calibrated as well as the ensemble of A and B.",
        paper="on par, without a number",
        quantity="calibration error (ECE), |merged - ensemble|",
        # On 1,000 test images each ECE has a noise of about 0.005, a difference of 0.007: this is
        # three times as much. On 10,000 it is more than noise, but no more than a reader of the
        # paper's curves could see.
        bounds=everywhere("at most", 0.02),
        resolution=_ECE,
        why=CHANCE,
    ),
)
