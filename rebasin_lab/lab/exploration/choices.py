"""The choices of an exploration: two networks, the matchers, and their effort."""

import dataclasses
from typing import Any, Literal

from rebasin_lab import checks, datasets, matching, models, training
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import PROFILES

EFFORTS = ("low", "usual", "high")
STATISTICS = ("averaged", "re-estimated")

_SMALL_SETS = ("mnist5k", "digits8x8")  # on larger ones, batches are five times as large


def _of_notebooks() -> dict[tuple[str, str], Experiment]:
    """Return networks that the notebooks train, which are stored once these have run."""
    experiments = [PROFILES[name].experiment(seed=0) for name in ("quick", "laptop")]
    laptop = PROFILES["laptop"]
    experiments.append(laptop.cifar_mlp)
    for family in (laptop.resnet, laptop.vgg):
        experiments.append(family.experiment(width=family.widths[-2], seed=0))
    experiments.append(PROFILES["quick"].batch_norm)
    return {(one.architecture, one.dataset): one.without_snapshots() for one in experiments}


_OF_NOTEBOOKS = _of_notebooks()


@dataclasses.dataclass(frozen=True)
class Choices:
    """Data, networks and matchers to explore; 0 means a size that a CPU trains in minutes.

    Attributes:
        dataset: a name `load_dataset` knows.
        architecture: a name `build_model` knows.
        width: units per layer, or the multiple of the published width.
        depth: hidden layers of an MLP, blocks of a ViT.
        num_epochs: to train for.
        seeds: of networks A and B.
        files: two checkpoints of the lab, in place of all of the above but `dataset`.
        matchers: names in `MATCHERS`, in the order in which they are shown.
        effort: of the matchers, one of `EFFORTS`.
        statistics: what becomes of the running statistics of BatchNorm in a merged network:
            "averaged" like weights, or "re-estimated" on training images, at both ends, too.
        num_lambdas: points on each line, ends included.

    Raises:
        ValueError: for names and sizes that do not exist.
    """

    dataset: str = "mnist5k"
    architecture: str = "mlp"
    width: checks.NotNegative = 0
    depth: checks.Natural = 0
    num_epochs: checks.Natural = 0
    seeds: tuple[checks.Seed, checks.Seed] = (0, 1)
    files: tuple[str, ...] = ()
    matchers: tuple[str, ...] = ("weight",)
    effort: str = "usual"
    statistics: Literal[STATISTICS] = "averaged"
    num_lambdas: checks.Points = 13

    def __post_init__(self):
        checks.fields(self)
        for name, value, known in (
            ("dataset", self.dataset, datasets.dataset_names()),
            ("architecture", self.architecture, models.ARCHITECTURES),
            ("effort", self.effort, EFFORTS),
            *(("matchers", matcher, matching.MATCHERS) for matcher in self.matchers),
        ):
            checks.choice(name, value, known, "Choices")
        if not self.matchers or len(set(self.matchers)) < len(self.matchers):
            raise ValueError(
                f"Expected matchers to be one or more, each once; got {list(self.matchers)}."
            )
        if self.depth and not self.record.depth:
            raise ValueError(f"A {self.architecture} has a fixed depth; got depth={self.depth}.")
        if not self.files and self.seeds[0] == self.seeds[1]:
            raise ValueError(
                f"Expected two seeds; got {self.seeds}: "
                f"with {self.seeds[0]} twice, A and B are one."
            )
        if len(self.files) not in (0, 2):
            raise ValueError(f"Expected two files, one of A and one of B; got {self.files}.")

    @property
    def record(self) -> models.Architecture:
        """The record of its architecture."""
        return models.ARCHITECTURES[self.architecture]

    @property
    def values(self) -> dict[str, Any]:
        """All it stands for, by the names of a form's fields; depth is 0 where it is fixed."""
        experiment, record = self.experiment(seed=0), self.record
        sizes = dict(experiment.options)
        seeds, files = self.seeds, self.files or ("", "")
        return {
            "dataset": self.dataset,
            "architecture": self.architecture,
            "width": sizes[record.width],
            "depth": sizes.get(record.depth, 0),
            "num_epochs": experiment.train.num_epochs,
            **{f"seed_{name}": seed for name, seed in zip("ab", seeds, strict=True)},
            "matchers": list(self.matchers),
            "effort": self.effort,
            "statistics": self.statistics,
            **{f"file_{name}": file for name, file in zip("ab", files, strict=True)},
        }

    def experiment(self, seed: checks.Seed) -> Experiment:
        """Return one of its networks."""
        base = _OF_NOTEBOOKS.get((self.architecture, self.dataset)) or self._small_experiment()
        # A control's 16.0 is the 16 of a stored network.
        width = int(self.width) if float(self.width).is_integer() else self.width
        sizes = {self.record.width: width, self.record.depth: self.depth}
        base = base.with_sizes(**{name: size for name, size in sizes.items() if size})
        return base.with_training(num_epochs=self.num_epochs or base.train.num_epochs).with_seed(
            seed
        )

    def _small_experiment(self) -> Experiment:
        """Return a network that a CPU trains in minutes."""
        record, view = self.record, self.record.view
        if self.dataset == "digits8x8":  # small as it is
            view = dataclasses.replace(view, shrink=1)
        train = training.TrainConfig(
            learning_rate=record.learning_rate,
            batch_size=100 if self.dataset in _SMALL_SETS else 500,
            num_epochs=record.num_epochs,
        )
        return Experiment(
            dataset=self.dataset,
            seed=0,
            train=train,
            architecture=self.architecture,
            options=tuple(record.small_sizes.items()),
            view=view,
        )

    def options_of(self, matcher: str, data: datasets.Dataset) -> dict[str, Any]:
        """Return a matcher's options at this effort, for at most as many images as there are."""
        if matcher == "naive":
            return {}
        options = dict(matching.MATCHERS[matcher].efforts.get(self.effort, {}))
        if "num_images" in options:
            options["num_images"] = min(options["num_images"], len(data.train_labels))
        return options


@dataclasses.dataclass(frozen=True)
class Preset:
    """Choices that tell a story.

    Attributes:
        name: in a word or two.
        story: what to look at, in a sentence.
        choices: to explore.
        beside: other choices, to be pinned beside them.
    """

    name: str
    story: str
    choices: Choices
    beside: Choices | None = None


_BATCH_NORM = Choices(architecture="resnet8_bn", num_lambdas=7)  # half a second per point
PRESETS = (
    Preset(
        "works",
        "Wide networks, trained to the end: naively averaged they fail, matched they do not.",
        Choices(),
    ),
    Preset(
        "too thin",
        "So few units have no good partners: a barrier is left after matching.",
        Choices(width=16),
    ),
    Preset(
        "too early",
        "After one epoch units have hardly become what they will be.",
        Choices(num_epochs=1),
    ),
    Preset(
        "BatchNorm, before and after",
        "One pair twice: with averaged running statistics, and with re-estimated ones.",
        dataclasses.replace(_BATCH_NORM, statistics="re-estimated"),
        beside=_BATCH_NORM,
    ),
)
