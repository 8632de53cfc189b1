"""Lines between networks on CIFAR-10, an MLP's and a ResNet's (Fig. 2 and 9, panels 2 and 3)."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rebasin_lab.paper.claim import Claim, at_paper, from_laptop
from rebasin_lab.paper.sections.pair_lines import CLAIMED, PairLines, walk
from rebasin_lab.paper.sections.quantities import quantity, summary
from rebasin_lab.paper.sections.record import Figure
from rebasin_lab.paper.sections.study import Study

METHODS = ("naive", "random", "algorithm_1", "weight")
MOST_LAMBDAS = 11  # points on a line


@dataclasses.dataclass(frozen=True, eq=False)
class FurtherLines(PairLines):
    """Lines between networks that only larger profiles have.

    Attributes:
        name: of the networks, for titles.
    """

    name: str

    def gains(self) -> list[float]:
        """Return what Algorithm 1 adds to the test accuracy half-way, in points, pair by pair."""
        return np.subtract(self.accuracies("algorithm_1"), self.accuracies("naive")).tolist()

    def figures(self) -> Iterator[Figure]:
        """Yield loss and accuracy on the lines."""
        naive, matched = (self.barriers(key) for key in ("naive", "algorithm_1"))
        yield Figure(
            name="lines_" + self.name.lower().replace("-", "_").replace(" ", "_"),
            plot="interpolation",
            numbers={"curves": self.curves(CLAIMED)},
            title=f"{self.name}: a barrier of {quantity(naive, 'nats')} as "
            f"they came, of {quantity(matched, 'nats')} after matching",
            caption=f"The line between independently trained networks, {self.name}, mean and "
            f"single pairs ({len(self.pairs)}), train solid, test dashed, evaluated on "
            f"{self.eval_data.title}; Fig. 2 and 9 of the paper. Our own "
            f"weight matching leaves {summary(self.barriers('weight'), 'nats')} nats of train "
            f"loss, a random order {summary(self.barriers('random'), 'nats')}.",
            alt=f"Train barriers in nats: naive {summary(naive, 'nats')}, in random order "
            f"{summary(self.barriers('random'), 'nats')}, after Algorithm 1 "
            f"{summary(matched, 'nats')}.",
            networks=[*self.networks.values()],
            data=self.eval_data,
            size=(9.0, 3.8),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return what Algorithm 1 leaves of barriers, and adds to accuracies."""
        left, barriers = self.shares("algorithm_1"), self.barriers("algorithm_1")
        if self.name == "ResNet":
            return {
                "fig2-resnet": left,
                "fig2-resnet-accuracy": self.gains(),
                "fig2-resnet-zero": barriers,
            }
        return {"fig2-cifar-mlp": left, "fig2-cifar-mlp-zero": barriers}


def further(study: Study) -> list[FurtherLines]:
    """Return the lines between networks on CIFAR-10, of those kinds that the profile has."""
    profile = study.profile
    num_lambdas, measured = min(profile.num_lambdas, MOST_LAMBDAS), []
    if base := profile.cifar_mlp:
        eval_data = profile.coarse(base.load_dataset())
        measured.append(("CIFAR-10 MLP", eval_data, profile.pairs))
    if family := profile.resnet:
        eval_data = family.evaluated_on(family.load_dataset())
        measured.append(("ResNet", eval_data, profile.pairs[: family.num_pairs]))
    records = []
    for name, eval_data, pairs in measured:
        trained = {one.experiment.seed: one for one in study.train(name).values()}
        options = {"data": eval_data, "num_lambdas": num_lambdas, "methods": [*METHODS]}
        with study.bar(len(pairs) * len(METHODS), "matching and walking lines") as bar:
            walked = walk(trained, pairs, on_method=lambda _: bar.update(), **options)
        records.append(walked.extended(FurtherLines, name=name))
    return records


claim = functools.partial(Claim, notebook="02_line_and_barrier")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig2-cifar-mlp",
        section="5.1, Fig. 2",
        statement="On CIFAR-10, too, matching takes most of an MLP's barrier away.",
        paper="shown",
        quantity="train loss barrier, permuted / naive",
        # Half: the network is too small for the task, and trained for fewer epochs than theirs.
        bounds=from_laptop("below", 0.5),
        why={
            "laptop": "These networks are trained for far fewer steps than the paper's. The share "
            "that is left still falls with every stop of the training (06_onset)."
        },
    ),
    claim(
        id="fig2-cifar-mlp-zero",
        section="5.1, Fig. 2",
        statement="On CIFAR-10 an MLP's barrier is next to zero after matching.",
        paper="about 0.015 nats (Fig. 3, epoch 22)",
        quantity="train loss barrier after weight matching (nats)",
        # The curve of Fig. 3 is noisy by about as much as its value.
        bounds=at_paper("at most", 0.05),
    ),
    claim(
        id="fig2-resnet",
        section="5.1, Fig. 2",
        statement="Matching lowers the barrier between two ResNets.",
        paper="shown",
        quantity="train loss barrier, permuted / naive",
        bounds=from_laptop("below", 1.0),
    ),
    claim(
        id="fig2-resnet-accuracy",
        section="5.1, Fig. 9",
        statement="Matching raises the accuracy half-way between two ResNets.",
        paper="shown",
        quantity="test accuracy half-way, permuted - naive (points)",
        bounds=from_laptop("at least", 1.0),
    ),
    claim(
        id="fig2-resnet-zero",
        section="5.1, Fig. 2",
        statement="Two ResNet20 of 32 times the usual width have no barrier after matching.",
        paper="0",
        quantity="train loss barrier after weight matching (nats)",
        # The resolution of the paper's plot, as for the MLP.
        bounds=at_paper("at most", 0.02),
    ),
)
