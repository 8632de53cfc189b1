"""ImageNet in the authors' own numbers (Fig. 2, 8 and 12): nothing is trained or evaluated here."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rebasin_lab.paper.claim import Claim, everywhere, whatever_the_profile
from rebasin_lab.paper.imagenet import imagenet_curves
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table

METHODS = ("naive", "weight matching", "OT-Fusion")


@dataclasses.dataclass(frozen=True, eq=False)
class Published(Record):
    """Curves between two ResNet50 on ImageNet, as published.

    Attributes:
        curves: metric ("loss" in nats, "top-1" and "top-5" as fractions) -> method -> curve.
    """

    curves: Mapping[str, Mapping[str, np.ndarray]]

    def heights(self, metric: str) -> dict[str, float]:
        """Return barriers by method (Definition 2.2): nats of loss, or points of accuracy."""
        scale = 1 if metric == "loss" else -100
        return {
            method: float((scale * curve).max() - scale * (curve[0] + curve[-1]) / 2)
            for method, curve in self.curves[metric].items()
        }

    def reduction(self, metric: str) -> float:
        """Return the share of a barrier that weight matching takes away, in per cent."""
        heights = self.heights(metric)
        return 100 * (1 - heights["weight matching"] / heights["naive"])

    def half_way(self) -> dict[str, float]:
        """Return top-1 accuracies half-way by method, in per cent."""
        return {
            method: round(100 * float(curve[len(curve) // 2]), 2)
            for method, curve in self.curves["top-1"].items()
        }

    def table(self) -> Table:
        """Return barriers by metric and method, and what weight matching takes away."""
        heights = [self.heights(metric) for metric in self.curves]
        return Table(
            rows=[
                f"{metric} ({'nats' if metric == 'loss' else 'points'})" for metric in self.curves
            ],
            corner="barrier of",
            columns=[
                *(
                    Column(method, "", [one.get(method) for one in heights], digits=2)
                    for method in METHODS
                ),
                Column(
                    "taken away by weight matching",
                    "%",
                    [self.reduction(metric) for metric in self.curves],
                ),
            ],
        )

    def reading(self) -> Prose:
        """Return in words what the 67 % of the paper are a share of."""
        shares = {metric: self.reduction(metric) for metric in self.curves}
        fits = [metric for metric, share in shares.items() if round(share) == 67]
        of = f"the barrier of {' and '.join(fits)} accuracy" if fits else "no barrier here"
        return Prose(
            f"By the authors' own curves weight matching takes away "
            f"{quantity(shares['loss'], '%')} of the *loss* barrier. The share that the text names "
            f"is that of {of}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the loss and the top-1 accuracy on the line."""
        top1 = self.half_way()
        listed = ", ".join(f"{value} % ({method})" for method, value in top1.items())
        accuracies = {method: 100 * curve for method, curve in self.curves["top-1"].items()}
        panels = {"loss": self.curves["loss"], "top-1": accuracies}
        num_points = len(self.curves["loss"]["naive"])
        yield Figure(
            name="imagenet",
            plot="published_lines",
            numbers={
                "lambdas": np.linspace(0, 1, num_points).tolist(),
                "panels": {
                    metric: {method: curve.tolist() for method, curve in by_method.items()}
                    for metric, by_method in panels.items()
                },
            },
            title=f"Half-way, matched ResNet50 are right on {top1['weight matching']} % of "
            f"ImageNet, unmatched ones on {top1['naive']} %",
            caption="Two ResNet50 on ImageNet, validation images (dashed, as test is "
            "everywhere), BatchNorm statistics measured again at every point: numbers "
            "published by the authors, drawn again (Fig. 2, 8 and 12 of the paper). Nothing "
            "was trained or evaluated here.",
            alt=f"Half-way between the networks top-1 accuracy is {listed}.",
            size=(9.0, 3.4),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the reductions, and top-1 accuracies half-way."""
        top1 = self.half_way()
        return {
            "fig2-imagenet-loss": self.reduction("loss"),
            "fig12-imagenet-top1": self.reduction("top-1"),
            "fig8-weight-matching": top1["weight matching"],
            "fig8-ot-fusion": top1["OT-Fusion"],
        }


def published() -> Published:
    """Return the curves that the authors published."""
    return Published(imagenet_curves())


claim = functools.partial(Claim, notebook="02_line_and_barrier")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig2-imagenet-loss",
        section="5.1, Fig. 2",
        statement="On ImageNet, weight matching lowers the loss barrier of two ResNet50 by 67 %.",
        paper="67 %",
        quantity="reduction of the loss barrier by the authors' own curve (%)",
        # What rounds to 67, or to less.
        bounds=everywhere("below", 67.5),
        why=whatever_the_profile(
            "A slip of the paper: by the authors' own curves this is the share that is gone of the "
            "barrier of top-1 accuracy (fig12-imagenet-top1). Of the loss it is more."
        ),
    ),
    claim(
        id="fig12-imagenet-top1",
        section="5.1, Fig. 12",
        statement="On ImageNet, weight matching lowers the barrier of top-1 accuracy by 67 %.",
        paper="67 % (said of the loss)",
        quantity="reduction of the top-1 barrier by the authors' own curve (%)",
        bounds=everywhere("below", 67.5),
    ),
    claim(
        id="fig8-weight-matching",
        section="A.7, Fig. 8",
        statement="Half-way, two matched ResNet50 have a top-1 accuracy of 51.01 % on ImageNet.",
        paper="51.01 %",
        quantity="top-1 accuracy half-way by the authors' own curve (%)",
        bounds=everywhere("equal to", 51.01),
    ),
    claim(
        id="fig8-ot-fusion",
        section="A.7, Fig. 8",
        statement="Half-way, OT-Fusion leaves a top-1 accuracy of 1.38 % on ImageNet.",
        paper="1.38 %",
        quantity="top-1 accuracy half-way by the authors' own curve (%)",
        bounds=everywhere("equal to", 1.38),
        why=whatever_the_profile(
            "The last digit of the paper's text is not that of the authors' own curve."
        ),
    ),
    claim(
        id="a7-imagenet-one-pass",
        section="A.7.1",
        statement="A single pass of weight matching leaves about 7 % top-1 accuracy on ImageNet.",
        paper="about 7 %",
        quantity="top-1 accuracy half-way (%)",
        bounds={},
        untestable="needs ImageNet and the authors' two networks; a7-one-sweep is its small twin",
    ),
    claim(
        id="table2-vgg11",
        section="A.7, Table 2",
        statement="Weight matching merges two VGG11 better and 4.5 times faster than OT-Fusion.",
        paper="86.57 % in 0.64 s against 85.98 % in 2.86 s",
        quantity="test accuracy half-way (%)",
        bounds={},
        untestable="needs the weights that OT-Fusion's authors released",
    ),
)
