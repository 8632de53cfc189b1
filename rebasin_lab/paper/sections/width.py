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

from rebasin_lab.paper.claim import Claim, at_paper, everywhere, from_laptop
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.pair_lines import LinesBy, walk
from rebasin_lab.paper.sections.quantities import num_pairs, quantity, summary
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Table
from rebasin_lab.paper.sections.study import Study, quality_table
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
    histories: dict[str, list] = {}
    for (width, _), one in sorted(trained.items()):
        histories.setdefault(_name(width), []).append(one.history)
    return quality_table(histories, "train_loss", "test_accuracy", corner="width", digits=4)


@dataclasses.dataclass(frozen=True, eq=False)
class Lines(LinesBy):
    """Lines between networks of one family and several widths, before and after matching.

    Widths are units per hidden layer of an MLP, else multiples of the published width.

    Attributes:
        family: "MLP", "VGG" or "ResNet".
        profile: of the run.
    """

    family: str
    profile: Profile

    @property
    def widths(self) -> list[int | float]:
        """The widths, from the least on."""
        return [*self.lines]

    def shares(self) -> np.ndarray:
        """Return the share of the naive barrier that weight matching leaves, width by pair."""
        return np.array([each.shares("weight") for each in self.lines.values()])

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
                *self.columns({"naive barrier": "naive", "after weight matching": "weight"}),
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
        for width, naive, random in zip(
            self.widths, self.barriers("naive"), self.barriers("random"), strict=True
        ):
            if random:  # the control, at one width
                sentences.append(
                    f"At width {_name(width)} a random order leaves {quantity(random, 'nats')}, "
                    f"the naive one {quantity(naive, 'nats')}."
                )
        number = f"{num_pairs(len(self.pairs))} at each of {len(self.widths)} widths"
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
            f"after matching; {num_pairs(len(self.pairs))} at each width, a mark each, and their "
            f"means. Learned part and random order are ours. {paper} Evaluated on "
            f"{self.eval_data.title}.",
            alt=f"Train loss barriers in nats by width: {by_width}.",
            networks=self.networks,
            data=self.eval_data,
            size=(9.0, 3.8),
        )

    def before_and_after(self) -> Figure:
        """Return the naive and the matched barriers, which readers sketch before they see them."""
        (every,) = self.figures()
        shown = {method: every.numbers["barriers"][method] for method in ("naive", "weight")}
        return dataclasses.replace(
            every,
            name="before_and_after",
            plot="widths",
            numbers=every.numbers | {"barriers": shown},
            caption=f"Train loss barriers before and after matching; {num_pairs(len(self.pairs))} "
            "at each width, a mark each, and their means. Right: matched divided by naive.",
        )

    def at(self, width: int | float) -> Figure:
        """Return the lines between the networks of one width, naive and matched, for a dial."""
        return self.dial(width, f"Width {_name(width)}", "weight")

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
            measured["fig4-resnet-middle"] = self.lines[self.widths[-1]].above_ends("weight")
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
    profile, walked = study.profile, {}
    of = {"VGG": profile.vgg, "ResNet": profile.resnet}.get(family)
    pairs = profile.pairs[: of.num_pairs] if of else profile.pairs
    eval_data = of.evaluated_on(of.load_dataset()) if of else profile.coarse(study.data)
    methods: dict[str, Mapping[str, str]] = {"naive": {}, "weight": {}}
    if family == "MLP":
        methods |= {"activation": {}, "changes": {"method": "weight"}}
    widths = sorted({width for width, _ in trained})
    num_lines = len(widths) * len(pairs) * len(methods)
    with study.bar(num_lines, f"matching {family}s and walking lines") as bar:
        for width in widths:
            control = {"random": {}} if family == "MLP" and width == profile.width else {}
            walked[width] = walk(
                {seed: one for (w, seed), one in trained.items() if w == width},
                pairs,
                data=eval_data,
                methods=methods | control,
                num_lambdas=profile.num_coarse_lambdas,
                on_method=lambda _: bar.update(),
            )
    return Lines(walked, family, profile)


def convolutional(study: Study) -> list[Lines]:
    """Return the lines of the paper's two families, of those that the profile has."""
    groups_of = {family: study.train(family) for family in FAMILIES}
    return [lines(study, trained, family=name) for name, trained in groups_of.items() if trained]


def _name(width: float | int) -> str:
    return f"{width:g}" if width >= 1 else f"1/{1 / width:g}"


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
_THIN = {
    "laptop": "These VGGs are far thinner than the paper's, and trained for a few epochs. On "
    "average matching takes hardly anything away at any width, and the naive barrier rises with "
    "the width."
}

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
                why=_THIN if kind == "vgg" else {},
            ),
            claim(
                id=f"fig4-{kind}-half",
                section="5.3, Fig. 4",
                statement=f"The widest {name}s have less than half the barrier of the narrowest.",
                paper="shown, one pair per width",
                quantity="mean matched train barrier, widest / narrowest",
                bounds=from_laptop("below", 0.5),
                why=_THIN if kind == "vgg" else {},
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
