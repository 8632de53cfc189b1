"""Section 5.3, Fig. 4: does matching need wide networks? Appendix A.1 lists thin ones as a failure.

The paper shows barriers after matching alone. Here the naive barrier of the same pairs stands
beside them, and a random order, so that what width does is told from what matching does.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # loads `scipy.stats`, which takes long, on first use

from rebasin_lab import datasets, matching, symmetry
from rebasin_lab.analysis.comparison import Comparison, compare_matchers
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.claim import Claim, at_paper, everywhere, from_laptop
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.record import (
    Column,
    Figure,
    Prose,
    Record,
    Table,
    quantity,
    summary,
)
from rebasin_lab.paper.sections.study import Study, learned_part
from rebasin_lab.paper.store import Trained

NAME = "07_width"
FAMILIES = {"VGG": "VGG16", "ResNet": "ResNet"}
METHODS = ("naive", "weight", "activation", "changes", "random")

Networks = Mapping[tuple[int | float, int], Trained]  # by width and seed


def networks(profile: Profile) -> dict[str, Group]:
    """Return the MLPs of a range of widths, and the convolutional families of the profile."""
    mlps = {
        # Those of the profile's own width are the networks of all notebooks, with their snapshots.
        (width, seed): profile.experiment(seed=seed)
        if width == profile.width
        else profile.experiment(seed=seed, width=width).without_snapshots()
        for width in sorted({*profile.mlp_widths, profile.width})
        for seed in profile.seeds
    }
    vgg, resnet = (groups.family(profile, each) for each in (profile.vgg, profile.resnet))
    return {"MLP": mlps, "VGG": vgg, "ResNet": resnet}


def quality(trained: Networks) -> Table:
    """Return train loss and test accuracy of networks, by width."""
    widths = sorted({width for width, _ in trained})
    histories = [[one.history for (w, _), one in trained.items() if w == width] for width in widths]
    return Table(
        rows=[_name(width) for width in widths],
        corner="width",
        columns=[
            Column("train loss", "nats", _last(histories, "train_loss"), digits=4),
            Column("test accuracy", "%", _last(histories, "test_accuracy", scale=100)),
        ],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Lines(Record):
    """Lines between networks of one family and several widths, before and after matching.

    Attributes:
        family: "MLP", "VGG" or "ResNet".
        profile: of the run.
        networks: by width and seed.
        comparisons: by width and pair, then by method.
        eval_data: the images that lines are evaluated on.
    """

    family: str
    profile: Profile
    networks: Networks
    comparisons: Mapping[tuple[int | float, tuple[int, int]], Mapping[str, Comparison]]
    eval_data: datasets.Dataset

    @functools.cached_property
    def widths(self) -> list[int | float]:
        """Units per hidden layer of an MLP, else multiples of the published width."""
        return sorted({width for width, _ in self.comparisons})

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The seeds of A and B, pair by pair."""
        return sorted({pair for _, pair in self.comparisons})

    def barriers(self, method: str) -> list[list[float]]:
        """Return train loss barriers in nats, for each width one a pair; none if not tried."""
        return [
            [
                self.comparisons[width, pair][method].train_barrier
                for pair in self.pairs
                if method in self.comparisons[width, pair]
            ]
            for width in self.widths
        ]

    def shares(self) -> np.ndarray:
        """Return the share of the naive barrier that weight matching leaves, width by pair."""
        return np.divide(self.barriers("weight"), self.barriers("naive"))

    def trend(self, values: Sequence[Sequence[float]] | np.ndarray) -> Any:
        """Return Spearman's correlation of values with the width, and its p for "below 0"."""
        widths = np.repeat(self.widths, len(self.pairs))
        return scipy.stats.spearmanr(widths, np.ravel(values), alternative="less")

    def table(self) -> Table:
        """Return barriers before and after matching, and the share that is left, by width."""
        return Table(
            rows=[_name(width) for width in self.widths],
            corner="width",
            columns=[
                Column("naive barrier", "nats", self.barriers("naive")),
                Column("after weight matching", "nats", self.barriers("weight")),
                Column("share that is left", "%", (100 * self.shares()).tolist()),
            ],
        )

    def reading(self) -> Prose:
        """Return in words how barriers go with the width."""
        kinds = {
            "The naive barrier": self.barriers("naive"),
            "The barrier after weight matching": self.barriers("weight"),
            "The share that matching leaves": self.shares(),
        }
        sentences = []
        for name, values in kinds.items():
            trend = self.trend(values)
            falls = "falls with the width" if trend.pvalue < 0.05 else "does not clearly fall"
            sentences.append(
                f"{name} {falls} (rank correlation {trend.statistic:.2f}, p = {trend.pvalue:.1g})."
            )
        number = f"{len(self.pairs)} pairs at each of {len(self.widths)} widths"
        return Prose(f"**What we measured**, on {number}. {' '.join(sentences)}")

    def figures(self) -> Iterator[Figure]:
        """Yield barriers by width, and the share of the naive one that matching leaves."""
        barriers = {method: self.barriers(method) for method in METHODS}
        first, last = (np.mean(self.shares()[index]) for index in (0, -1))
        ends = f"{_name(self.widths[0])} to {_name(self.widths[-1])}"
        unit = "units per hidden layer" if self.family == "MLP" else "times the published width"
        paper = (
            "Not in the paper, whose Fig. 4 is about convolutional networks."
            if self.family == "MLP"
            else "Fig. 4 of the paper, with the naive barriers that it lacks."
        )
        by_width = "; ".join(
            f"{_name(width)}: naive {summary(naive, 'nats')}, matched {summary(matched, 'nats')}"
            for width, naive, matched in zip(
                self.widths, barriers["naive"], barriers["weight"], strict=True
            )
        )
        yield Figure(
            name=f"{self.family.lower()}_widths",
            plot="widths",
            numbers={
                "widths": self.widths,
                "names": [_name(width) for width in self.widths],
                "xlabel": unit,
                "barriers": {method: rows for method, rows in barriers.items() if any(rows)},
            },
            title=f"Of the naive barrier matching leaves {quantity(100 * first, '%')} at the "
            f"least width and {quantity(100 * last, '%')} at the largest",
            caption=f"Train loss barriers between {self.family}s of {ends} {unit}, before and "
            f"after matching; {len(self.pairs)} pairs at each width, a mark each, and their "
            f"means. Learned part and random order are ours. {paper} Evaluated on "
            f"{self.eval_data.title}.",
            alt=f"Train loss barriers in nats by width: {by_width}.",
            networks=[*self.networks.values()],
            data=self.eval_data,
            claims=[*self.claims()],
            size=(9.0, 3.8),
        )

    def at(self, width: int | float) -> Figure:
        """Return the lines between the networks of one width, naive and matched, for a dial."""
        here = [self.comparisons[width, pair] for pair in self.pairs]
        methods = {"naive": "naive", "weight matching": "weight"}
        heights = [
            summary([one[key].train_barrier for one in here], "nats") for key in methods.values()
        ]
        every = [one[key].curve for one in self.comparisons.values() for key in methods.values()]
        return Figure(
            name="lines",
            plot="interpolation",
            numbers={
                "curves": {
                    label: [one[key].curve.as_numbers() for one in here]
                    for label, key in methods.items()
                },
                "most_loss": max(
                    float(np.max(loss))
                    for curve in every
                    for loss in (curve.train_loss, curve.test_loss)
                ),
            },
            title=f"Width {_name(width)}: a barrier of {heights[0]} nats, {heights[1]} matched",
            caption=f"{len(self.pairs)} pairs, a thin line each, and their mean.",
            alt=f"Width {_name(width)}: train barriers naive {heights[0]}, matched {heights[1]} "
            "nats.",
            networks=[one for (w, _), one in self.networks.items() if w == width],
        )

    def claims(self) -> Mapping[str, Any]:
        """Return trends, and barriers of the narrowest, the published and the widest."""
        matched = np.array(self.barriers("weight"))
        kind = self.family.lower()
        measured = {
            f"fig4-{kind}-spearman": self.trend(matched).pvalue,
            f"fig4-{kind}-half": matched[-1].mean() / matched[0].mean(),
        }
        if self.family == "MLP":
            ratio = self.trend(self.shares()).pvalue
            return measured | {"fig4-mlp-ratio": ratio, "a1-width": matched[0]}
        if self.profile.name != "paper":
            return measured
        published = np.argmin(np.abs(np.log2(self.widths)))
        measured |= {f"fig4-{kind}-1x": matched[published], f"fig4-{kind}-zero": matched[-1]}
        if self.family == "ResNet":
            widest = [self.comparisons[self.widths[-1], pair]["weight"] for pair in self.pairs]
            losses = [one.curve.test_loss for one in widest]
            above = [loss[len(loss) // 2] - (loss[0] + loss[-1]) / 2 for loss in losses]
            measured["fig4-resnet-middle"] = above
        return measured


def lines(study: Study, trained: Networks, *, family: str = "MLP") -> Lines:
    """Match every pair of networks of each width, and evaluate the lines between them.

    MLPs are matched by activations and by what they have learned, too, and those of the profile's
    own width are put in a random order.

    Args:
        study: the section at work.
        trained: a group of its networks.
        family: the group's name.
    """
    profile, num_pairs, data = study.profile, study.profile.num_pairs, study.data
    eval_data = profile.coarse(data)
    if family != "MLP":
        of = profile.vgg if family == "VGG" else profile.resnet
        num_pairs, data = min(of.num_pairs, num_pairs), of.load_dataset()
        eval_data = of.evaluated_on(data)
    pairs = profile.pairs[:num_pairs]
    comparisons = {}
    widths = sorted({width for width, _ in trained})
    with study.bar(len(widths) * len(pairs), f"matching {family}s and walking lines") as bar:
        for width in widths:
            one = trained[width, pairs[0][0]]
            spec = symmetry.infer_permutation_spec(
                one.model.apply, one.params, data.test_images[:1]
            )
            for pair in pairs:
                two = [trained[width, seed] for seed in pair]
                methods: dict[str, Mapping[str, str]] = {"naive": {}, "weight": {}}
                results = {}
                if family == "MLP":
                    learned = map(learned_part, two)
                    results["changes"] = cached(matching.match, "weight", spec, *learned, seed=0)
                    methods |= {"activation": {}, "changes": {"method": "weight"}}
                    methods |= {"random": {}} if width == profile.width else {}
                comparisons[width, pair] = cached(
                    compare_matchers,
                    spec,
                    *(each.params for each in two),
                    apply_fn=one.model.apply,
                    data=eval_data,
                    methods=methods,
                    results=results,
                    num_lambdas=profile.num_coarse_lambdas,
                )
                bar.update()
    return Lines(family, profile, trained, comparisons, eval_data)


def convolutional(study: Study) -> list[Lines]:
    """Return the lines of the paper's two families, of those that the profile has."""
    groups_of = {family: study.train(family) for family in FAMILIES}
    return [lines(study, trained, family=name) for name, trained in groups_of.items() if trained]


def _name(width: float | int) -> str:
    return f"{width:g}" if width >= 1 else f"1/{1 / width:g}"


def _last(
    histories: Sequence[Sequence[Mapping[str, Sequence[float]]]],
    metric: str,
    *,
    scale: float | int = 1,
) -> list[list[float]]:
    return [[scale * history[metric][-1] for history in row] for row in histories]


def _rank_correlation(xs: Sequence[float | int], ys: Sequence[float | int]) -> float:
    return float(scipy.stats.spearmanr(xs, ys).statistic)


EXERCISE = Exercise(
    oracle=_rank_correlation,
    cases=[
        ([16, 32, 64, 128], [0.9, 0.5, 0.2, 0.1]),
        ([16, 32, 64, 128], [0.5, 0.9, 0.1, 0.2]),
        ([1, 2, 3, 4, 5], [5, 1, 4, 2, 3]),
    ],
    hint="ranks come from `np.argsort(np.argsort(x))`; their correlation from `np.corrcoef`",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig4-mlp-spearman",
        section="5.3, Fig. 4",
        statement="The wider two MLPs, the lower the barrier that matching leaves.",
        paper="shown for VGG16 and ResNet20",
        quantity="p of Spearman's correlation of width and matched train barrier, below 0",
        # One-sided, over all widths and pairs.
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="fig4-mlp-half",
        section="5.3, Fig. 4",
        statement="The widest MLPs have less than half the barrier of the narrowest.",
        paper="shown for VGG16 and ResNet20",
        quantity="mean matched train barrier, widest / narrowest",
        bounds=everywhere("below", 0.5),
    ),
    claim(
        id="fig4-mlp-ratio",
        section="5.3, Fig. 4 (our control)",
        statement="Width helps matching: the share of the naive barrier that is left falls, too.",
        paper="no naive barriers given",
        quantity="p of Spearman's correlation of width and matched / naive barrier, below 0",
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="a1-width",
        section="A.1",
        statement="Matching fails on networks of too little width.",
        paper="named as a failure",
        quantity="matched train barrier of the narrowest MLPs (nats)",
        # Five times what counts as zero.
        bounds=everywhere("at least", 0.1),
    ),
    *(
        each
        for kind, name in (("vgg", "VGG16"), ("resnet", "ResNet"))
        for each in (
            claim(
                id=f"fig4-{kind}-spearman",
                section="5.3, Fig. 4",
                statement=f"The wider two {name}s, the lower the barrier that matching leaves.",
                paper="shown, one pair per width",
                quantity="p of Spearman's correlation of width and matched train barrier, below 0",
                bounds=from_laptop("below", 0.05),
            ),
            claim(
                id=f"fig4-{kind}-half",
                section="5.3, Fig. 4",
                statement=f"The widest {name}s have less than half the barrier of the narrowest.",
                paper="shown, one pair per width",
                quantity="mean matched train barrier, widest / narrowest",
                bounds=from_laptop("below", 0.5),
            ),
            claim(
                id=f"fig4-{kind}-1x",
                section="5.3, Fig. 4",
                statement=f"At the published width, two {name}s are not linearly connected.",
                paper="shown, no number",
                quantity="matched train barrier at 1x (nats)",
                # Five times what counts as zero.
                bounds=at_paper("at least", 0.1),
            ),
            claim(
                id=f"fig4-{kind}-zero",
                section="5.3, Fig. 4",
                statement=f"The barrier between the widest {name}s is gone after matching.",
                paper="0",
                quantity="matched train barrier of the widest (nats)",
                # The resolution of the paper's plot, as for the MLP in Fig. 2.
                bounds=at_paper("at most", 0.02),
            ),
        )
    ),
    claim(
        id="fig4-resnet-middle",
        section="5.3, Fig. 4 (inset)",
        statement="At 32 times the width, the test loss does not rise in the middle of the line.",
        paper="shown",
        quantity="test loss after matching, middle minus mean of the ends, widest (nats)",
        bounds=at_paper("at most", 0.0),
    ),
    claim(
        id="section7-thin",
        section="7",
        statement="Thin networks need linear maps that are no permutations to be lined up.",
        paper="a hypothesis",
        quantity="-",
        bounds={},
        untestable="a hypothesis; nothing here looks for other linear maps",
    ),
)
