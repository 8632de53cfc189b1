"""Appendix A.10: can any number of networks be merged? Algorithm 3, Table 3 and Fig. 13.

Claims are about the paper's start of Algorithm 3, networks as they came. The library's own start,
a random order, and orders found from what networks have learned stand beside it.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from rebasin_lab import merging, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim, Resolution, everywhere, from_laptop
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.answers import METRICS, Scores
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.merged_networks import MergedNetworks, merge_networks
from rebasin_lab.paper.sections.pair_lines import CHANCE
from rebasin_lab.paper.sections.quantities import listed, quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.store import Trained

NAME = "11_merging_many"
LABELS = {"paper": "the paper's start", "ours": "our start"}


def networks(profile: Profile) -> dict[str, Group]:
    """Return the networks of Table 3, and those of Fig. 13, each on a random half of the images."""
    first = profile.seed
    halves = {
        seed: profile.experiment(seed=seed)
        .without_snapshots()
        .with_view(part="random half", part_seed=seed)
        for seed in range(first, first + profile.num_halves)
    }
    singles = {
        seed: profile.merged_experiment(seed=seed)
        for seed in range(first, first + profile.num_merged)
    }
    return {"singles": singles, "halves": halves}


@dataclasses.dataclass(frozen=True, eq=False)
class Search(MergedNetworks):
    """MergeMany on one set of networks, from two starts.

    Attributes:
        ours: the result from our start.
        untrained: what one round makes of the same networks before training.
    """

    ours: merging.MergeResult
    untrained: merging.MergeResult

    @property
    def merges(self) -> dict[str, merging.MergeResult]:
        """The result from each start."""
        return {"paper": self.merge, "ours": self.ours}

    def reading(self) -> Prose:
        """Return in words how the searches ended."""
        ends = {
            start: f"round {merge.num_rounds} at {quantity(merge.history[-1], '', digits=1)}"
            for start, merge in self.merges.items()
        }
        both = all(merge.converged for merge in self.merges.values())
        level = quantity(self.untrained.history[-1] / self.merges["paper"].history[-1], "")
        return Prose(
            f"From the paper's start the search ends after {ends['paper']}, from ours after "
            f"{ends['ours']}; {'both' if both else 'not both'} by themselves. The same procedure "
            f"takes networks *before training* to {level} of that height."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the climb of the mean inner product of two networks."""
        searches = {}
        for start, merge in self.merges.items():
            # The first entry of our start is a round of visits.
            first = len(self.params) if start == "ours" else 1
            visits = [0, *range(first, first + len(merge.history) - 1)]
            searches[LABELS[start]] = {"visits": visits, "objective": list(merge.history)}
        ends = "; ".join(
            f"{start} start: from {merge.history[0]:.0f} to {merge.history[-1]:.0f}"
            for start, merge in self.merges.items()
        )
        low, high = sorted(merge.history[-1] for merge in self.merges.values())
        yield Figure(
            name="objective",
            plot="merge_objective",
            numbers={
                "searches": searches,
                "levels": {"networks before training": self.untrained.history[-1]},
                "visits_per_round": len(self.params),
            },
            title="MergeMany never falls, and both starts end within "
            f"{quantity(100 * (high / low - 1), '%')} of each other",
            caption=f"The mean inner product of two of {len(self.params)} networks while "
            "MergeMany runs (Algorithm 3), visit by visit: from networks as they came (the "
            "paper), and aligned one after the other first (ours). Thin line: the same "
            "networks before training, after one round.",
            alt=f"{ends}; networks before training: {self.untrained.history[-1]:.0f}.",
            networks=self.networks,
            size=(9.0, 3.8),
        )


def search(study: Study, trained: Mapping[int, Trained]) -> Search:
    """Run MergeMany on networks from the paper's start and from ours."""
    networks = [*trained.values()]
    merged = merge_networks(networks, study.data)
    ours = cached(merging.merge_many, merged.spec, merged.params, start="constructive")
    initial = [network.params_after(0) for network in networks]
    untrained = cached(merging.merge_many, merged.spec, initial, max_rounds=1)
    return merged.extended(Search, ours=ours, untrained=untrained)


@dataclasses.dataclass(frozen=True, eq=False)
class Table3(Record):
    """Table 3: single networks, and what is made of them.

    Attributes:
        search: whose networks they are.
        scores: split -> way -> one entry a network.
    """

    search: Search
    scores: Mapping[str, Mapping[str, Sequence[Scores]]]

    def values(self, metric: str, way: str, split: str = "test") -> list[float]:
        """Return a metric of each network that a way uses, or of what it makes."""
        return [getattr(one, metric) for one in self.scores[split][way]]

    def table(self) -> Table:
        """Return losses, error and calibration of every way."""
        seen = {metric: functools.partial(self.values, metric) for metric in METRICS}
        return Table(
            rows=[*self.scores["test"]],
            columns=[
                Column(
                    "train loss",
                    "nats",
                    lambda way: [one.loss for one in self.scores["train"].get(way, ())] or None,
                ),
                Column("test loss", "nats", seen["loss"]),
                Column("tempered", "nats", seen["tempered"]),
                Column("test error", "%", seen["error"]),
                Column("ECE", "", seen["ece"]),
            ],
        )

    def reading(self) -> Prose:
        """Return in words by which metrics what is made of all is better than one network."""
        names = {"loss": "test loss", "tempered": "tempered loss", "error": "test error"}

        def lower(way: str) -> str:
            better = [
                name
                for metric, name in names.items()
                if np.mean(self.values(metric, way)) < np.mean(self.values(metric, "single"))
            ]
            return ", ".join(better) or "none of the three"

        return Prose(
            f"**What we measured**, on one set of {len(self.search.networks)} networks. Of test "
            "loss, tempered loss and test error, these are lower than a single network's on "
            f"average: of the merged network {lower('MergeMany')}; of the ensemble "
            f"{lower('ensemble')}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield test loss and error of single networks and of what is made of them."""
        drawn = ("single", "naive mean", "MergeMany", "ensemble")
        merged, single = (np.mean(self.values("loss", way)) for way in ("MergeMany", "single"))
        side = "below" if merged < single else "above"
        losses = {way: self.values("loss", way) for way in drawn}
        yield Figure(
            name="table_3",
            plot="merged_bars",
            numbers={
                "groups": [
                    {
                        "title": METRICS[metric],
                        "values": {way: self.values(metric, way) for way in drawn},
                        "lower_is_better": True,
                    }
                    for metric in ("loss", "error")
                ]
            },
            title=f"The merged network's test loss is "
            f"{quantity(100 * abs(merged / single - 1), '%')} {side} that of a single one",
            caption=f"{len(self.search.networks)} networks, a mark each, and what they are "
            "merged into; Table 3 of the paper.",
            alt=f"Mean test losses: {listed(losses, 'nats')}.",
            networks=self.search.networks,
            size=(8.0, 2.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the merged network against the singles."""
        loss, accuracy, ece = (self.values(m, "single") for m in ("loss", "accuracy", "ece"))
        (merged,) = self.scores["test"]["MergeMany"]
        (merged_train,) = self.values("loss", "MergeMany", "train")
        (naive,) = self.values("accuracy", "naive mean")
        return {
            "table3-singles": 100 * abs(np.mean(loss) / 0.1293 - 1),
            "table3-test-loss": 100 * (1 - merged.loss / np.mean(loss)),
            "table3-below-best": merged.loss - min(loss),
            "table3-below-0727": merged.loss,
            "table3-accuracy-lower": merged.accuracy - min(accuracy),
            "table3-accuracy-drop": np.mean(accuracy) - merged.accuracy,
            "table3-train-loss": merged_train - max(self.values("loss", "single", "train")),
            "table3-train-loss-small": merged_train,
            "table3-naive-fails": np.mean(accuracy) - naive,
            "table3-calibration": merged.ece - min(ece),
        }


def table_3(found: Search) -> Table3:
    """Score single networks, their averages in several orders, and the ensemble."""
    orders = [
        symmetry.random_permutation(found.spec, params, seed=seed)
        for seed, params in enumerate(found.params)
    ]
    scores = {
        split: answers.score_all(found.ways(split), found.data, split) for split in answers.SPLITS
    }
    more = {
        "MergeMany, our start": [found.says(found.ours.params)],
        "random order": [found.says(found.in_orders(orders))],
    }
    scores["test"] = {**scores["test"], **answers.score_all(more, found.data)}
    return Table3(found, scores)


def _ensemble(log_probs: np.ndarray) -> np.ndarray:
    return scipy.special.log_softmax(np.mean(log_probs, axis=0), axis=-1)


_CASES = np.log([[[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.5], [0.4, 0.6]], [[0.9, 0.1], [0.1, 0.9]]])
EXERCISE = Exercise(
    oracle=_ensemble,
    cases=[(_CASES,), (_CASES[:2],), (_CASES[:1],)],
    hint="average over networks, then subtract the logarithm of what the classes add up to",
)

claim = functools.partial(Claim, notebook=NAME)
# A network that is right on 95 of 100 images: two standard errors of its accuracy, and the ECE that
# it has by chance alone if it is calibrated perfectly.
_POINTS = {"quick": Resolution(1.4, "1,000 test images")}
_ECE = {"quick": Resolution(0.02, "1,000 test images")}

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="a10-terminates",
        section="A.10",
        statement="MergeMany ends by itself.",
        paper="at most 100 rounds",
        quantity="rounds until one changes nothing, of at most 100 (more: not converged)",
        bounds=everywhere("below", 100.0),
    ),
    claim(
        id="table3-singles",
        section="A.10, Table 3",
        statement="Single MLPs trained on MNIST have a test loss of 0.1293 on average.",
        paper="0.1293, from 0.1108 to 0.1531",
        quantity="mean test loss of the singles, distance from 0.1293 (%)",
        # The paper's own five lie up to 18 % from their mean; a mean of five is steadier, but our
        # networks may differ in settings that the paper leaves out. `laptop` trains them as the
        # paper does, too.
        bounds=from_laptop("at most", 18.0),
    ),
    claim(
        id="table3-test-loss",
        section="A.10, Table 3",
        statement="MergeMany of five MLPs decreases the test loss by 43 %.",
        paper="43.8 % below the mean of the five, 34.4 % below the best",
        quantity="test loss of the merged model, below the mean of the singles (%)",
        # Their five differ by 38 % among themselves: the mean of five may be off by a seventh.
        bounds=everywhere("at least", 37.0),
        why=CHANCE,
    ),
    claim(
        id="table3-below-best",
        section="A.10, Table 3",
        statement="The merged model has a lower test loss than each of the five.",
        paper="0.0727 < 0.1108",
        quantity="test loss, merged - lowest single (nats)",
        bounds=everywhere("below", 0.0),
        why=CHANCE,
    ),
    claim(
        id="table3-below-0727",
        section="A.10, Table 3",
        statement="The merged model has a test loss of 0.0727 on MNIST.",
        paper="0.0727",
        quantity="test loss of the merged model (nats)",
        bounds=from_laptop("at most", 0.0727),
        why={
            "laptop": "The five networks are a little worse than the paper's to begin with "
            "(table3-singles). Merging lowers their loss by as large a share (table3-test-loss)."
        },
    ),
    claim(
        id="table3-accuracy-lower",
        section="A.10, Table 3",
        statement="The merged model has a lower test accuracy than each of the five.",
        paper="98.31 % < 98.54 %",
        quantity="test accuracy, merged - lowest single (points)",
        bounds=everywhere("below", 0.0),
        resolution=_POINTS,
    ),
    claim(
        id="table3-accuracy-drop",
        section="A.10, Table 3",
        statement="Merging costs little test accuracy.",
        paper="0.29 points: 98.60 % on average, 98.31 % merged",
        quantity="test accuracy, mean of the singles - merged (points)",
        # Some more than theirs; half a point is 50 of 10,000 images.
        bounds=everywhere("at most", 0.5),
        resolution=_POINTS,
        why=CHANCE,
    ),
    claim(
        id="table3-train-loss",
        section="A.10, Table 3",
        statement="The merged model has a higher train loss than each of the five.",
        paper="0.0141 > 0.0000",
        quantity="train loss, merged - highest single (nats)",
        bounds=everywhere("at least", 0.0),
    ),
    claim(
        id="table3-train-loss-small",
        section="A.10, Table 3",
        statement="The merged model fits the training images nearly as well as the five.",
        paper="0.0141 nats, 99.52 %",
        quantity="train loss of the merged model (nats)",
        # Twice the paper's, far below any test loss.
        bounds=everywhere("at most", 0.0282),
        why=CHANCE,
    ),
    claim(
        id="table3-naive-fails",
        section="A.10, Table 3 and Fig. 13",
        statement="The mean of the five as they came is far worse.",
        paper="shown for 32 models",
        quantity="test accuracy, mean of the singles - naive mean (points)",
        # What is asked of two models (fig9-mnist-naive).
        bounds=everywhere("at least", 5.0),
    ),
    claim(
        id="table3-calibration",
        section="A.10, Fig. 13",
        statement="Five merged models are better calibrated than each of the five.",
        paper="shown for 32 models",
        quantity="calibration error (ECE) on test images, merged - lowest single",
        bounds=everywhere("below", 0.0),
        resolution=_ECE,
    ),
    claim(
        id="fig13-calibration-singles",
        section="A.10, Fig. 13",
        statement="Models trained on random halves are worse calibrated than what they merge to.",
        paper="shown, without a number",
        quantity="calibration error (ECE) on test images, merged - lowest single",
        bounds=everywhere("below", 0.0),
        resolution=_ECE,
        why=CHANCE,
    ),
    claim(
        id="fig13-calibration-ensemble",
        section="A.10, Fig. 13",
        statement="The merged model is calibrated as well as the ensemble, or better.",
        paper="shown, without a number",
        quantity="calibration error (ECE) on test images, merged - ensemble",
        # As in fig11-on-par-with-ensemble.
        bounds=everywhere("at most", 0.02),
        resolution=_ECE,
        why=CHANCE,
    ),
)
