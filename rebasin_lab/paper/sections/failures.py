"""Appendix A.1: where does matching fail? Recipes of MLPs, VGGs on MNIST, and ConvNeXts.

`mlp_recipes` trains MLPs that should fail and such that should not, `convnext` counts symmetries.
Early training, another failure of the list, is the subject of `onset`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import paths
from rebasin_lab.analysis import interpolation
from rebasin_lab.paper.claim import Claim, everywhere, from_laptop, whatever_the_profile
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups
from rebasin_lab.paper.sections.convnext import count_symmetries
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.mlp_recipes import FAILED, compare_recipes, recipes
from rebasin_lab.paper.sections.pair_lines import NAMES, PairLines, walk
from rebasin_lab.paper.sections.quantities import listed, quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study

__all__ = ["compare_recipes", "count_symmetries"]  # from other modules, for the notebook

NAME = "08_failures"
VGG_METHODS = ("naive", "random", "algorithm_1", "weight", "activation")
MOST_BYTES = 10_000_000  # of a stored figure


def networks(profile: Profile) -> dict[str, Group]:
    """Return the MLPs of every recipe, and the VGGs of MNIST where the profile has them."""
    mlps = {
        (name, seed): one.with_seed(seed)
        for name, one in recipes(profile).items()
        for seed in profile.seeds
    }
    return {"recipes": mlps, "VGG": groups.family(profile, profile.mnist_vgg)}


def measured_on(profile: Profile) -> str:
    """Say in a phrase what the claims are measured on."""
    data, vgg = profile.experiment(seed=0).load_dataset(), profile.mnist_vgg
    return f"{data.title}, MLPs of several recipes" + (
        f"; {vgg.load_dataset().title}, {vgg.networks}" if vgg else ""
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Vggs(PairLines):
    """Pairs of VGG16 trained on MNIST, before and after matching."""

    def table(self) -> Table:
        """Return the barriers of every order of units."""
        return Table(
            rows={method: NAMES[method] for method in self.methods},
            corner="order of B's units",
            columns=[Column("train barrier", "nats", self.barriers)],
        )

    def reading(self) -> Prose:
        """Return in words what matching does to the first pair, and how good all networks are."""
        accuracies = [100 * one.history["test_accuracy"][-1] for one in self.networks.values()]
        losses = {name: one.curve.train_loss for name, one in self.first.items()}
        return Prose(
            f"{reading_of(losses)} The {len(accuracies)} networks are right on "
            f"{summary(accuracies, '%')} % of the test images."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the lines of the first pair."""
        heights = {method: self.barriers(method)[0] for method in VGG_METHODS}
        naive, matched = (
            quantity(heights[method], "nats", digits=2) for method in ("naive", "algorithm_1")
        )
        yield Figure(
            name="vgg_on_mnist",
            plot="method_lines",
            numbers={"curves": {name: one.curve.as_numbers() for name, one in self.first.items()}},
            title=f"Two VGG16 on MNIST: a barrier of {naive} before matching, {matched} after "
            "Algorithm 1",
            caption="The line between two VGG16 trained on MNIST, first pair, with B's units "
            "in several orders; a random order is the control.",
            alt=f"Train barriers: {listed(heights, 'nats')}.",
            networks=[self.networks[seed] for seed in self.pairs[0]],
            data=self.eval_data,
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the share of the naive barrier that Algorithm 1 leaves."""
        return {"a1-vgg-mnist": self.shares("algorithm_1")}


def compare_vggs(study: Study) -> list[Vggs]:
    """Train VGGs on MNIST where the profile has them, match them, and evaluate their lines."""
    family, trained = study.profile.mnist_vgg, study.train("VGG")
    if not family:
        return []
    data, pairs = family.load_dataset(), study.profile.pairs[: family.num_pairs]
    with study.bar(len(pairs) * len(VGG_METHODS), "matching VGGs and walking lines") as bar:
        walked = walk(
            {seed: one for (_, seed), one in trained.items()},
            pairs,
            data=family.matched_on(data),
            methods=VGG_METHODS,
            eval_data=family.evaluated_on(data),
            num_lambdas=min(study.profile.num_lambdas, 11),
            on_method=lambda _: bar.update(),
        )
    return [walked.extended(Vggs)]


def stored_vggs(profile: str = "laptop") -> Prose:
    """Return in words what the figure shows that the repository keeps of a larger profile."""
    path = paths.figures_dir() / profile / NAME / "vgg_on_mnist.json"
    curves = paths.read_json(path, MOST_BYTES)["numbers"]["curves"]
    return reading_of({name: curve["train_loss"] for name, curve in curves.items()})


def reading_of(losses: Mapping[str, Sequence[float] | np.ndarray]) -> Prose:
    """Return in words if lines rise higher after matching than before it.

    Args:
        losses: train losses on the line of one pair, by method.
    """
    highest = {name: float(np.max(loss)) for name, loss in losses.items()}
    matched = [name for name in ("algorithm_1", "weight", "activation") if name in highest]
    higher = [name for name in matched if highest[name] > highest["naive"]]
    if len(higher) == len(matched):
        says = (
            "every matched line rises higher than the naive one: **matching has made things "
            "worse** than they were before it"
        )
    elif higher:
        says = (
            f"{len(higher)} of {len(matched)} matched lines rise higher than the naive one: "
            "matching may make things worse"
        )
    else:
        says = "no matched line rises higher than the naive one"
    return Prose(f"**Read it off.** In this pair of VGGs {says}.")


def _chord_barrier(losses: Sequence[float]) -> float:
    """Return the largest loss above the straight chord between both ends of a line."""
    loss = np.asarray(losses, float)
    curve = interpolation.InterpolationCurve(np.linspace(0, 1, len(loss)), loss, loss, loss, loss)
    return interpolation.loss_barrier(curve, baseline="chord")


EXERCISE = Exercise(
    oracle=_chord_barrier,
    cases=[([0.0, 1.0, 0.0],), ([0.0, 0.5, 1.0],), ([0.4, 0.1, 0.3, 0.2, 0.1],)],
    hint="the chord is `np.linspace(losses[0], losses[-1], len(losses))`",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    # The paper gives no numbers for its failures. A barrier twice as high is one that seeds do not
    # explain; where the barrier beside it is next to nothing, twice that is not much to ask.
    claim(
        id="a1-thin",
        section="A.1",
        statement="MLPs of too little width are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, a quarter of the width / the width",
        bounds=everywhere("at least", FAILED),
    ),
    claim(
        id="a1-low-lr-sgd",
        section="A.1",
        statement="MLPs trained by SGD at too low a learning rate are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, SGD at 0.001 / SGD at 0.1",
        bounds=everywhere("at least", FAILED),
    ),
    claim(
        id="a1-high-lr-adam",
        section="A.1",
        statement="MLPs trained by Adam at too high a learning rate are not joined by matching.",
        paper="fails",
        quantity="permuted train barrier, Adam at 0.01 / Adam at 0.001",
        bounds=everywhere("at least", FAILED),
        why=whatever_the_profile(
            "The paper names no rate. Ours is ten times the usual one, which alone makes no "
            "failure here; another rate may."
        ),
    ),
    claim(
        id="a1-vgg-mnist",
        section="A.1",
        statement="VGGs trained on MNIST are not joined by matching.",
        paper="fails",
        quantity="permuted / naive train barrier",
        # More than fig2-mnist-ratio allows MLPs, which the paper counts as joined.
        bounds=from_laptop("at least", 0.1),
    ),
    claim(
        id="a1-convnext",
        section="A.1",
        statement="ConvNeXts, whose depth-wise convolutions have few symmetries, are not joined.",
        paper="fails",
        quantity="permuted / naive train barrier",
        bounds={},
        untestable="the lab has no ConvNeXt; the notebook counts its symmetries",
    ),
)
