"""What more images and larger layers give a merge of two networks in files."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from rebasin_lab.paper.sections.file_pair import FilePair, Params
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study

COUNTS = (100, 200, 600, 2_000)
SIZES = (1.0, 1.5, 2.0)
MERGED, JUNK = "A and B", "A and B shuffled"


@dataclasses.dataclass(frozen=True, eq=False)
class Efforts(Record):
    """Merges by least squares with more and more of something.

    Attributes:
        pair: of files.
        xlabel: what there is more of.
        values: of it.
        accuracies: of what is merged, in % of the test images, one a value.
        numbers: in the parameters of each merged network.
    """

    pair: FilePair
    xlabel: str
    values: Sequence[int | float]
    accuracies: Mapping[str, Sequence[float]]
    numbers: Sequence[int]

    def panel(self, index: int | None = None) -> dict:
        """Return what the plot draws, with a mark at one of the values."""
        curves = dict(self.accuracies)
        return {"xlabel": self.xlabel, "x": [*self.values], "curves": curves, "index": index}

    def gaps(self) -> list[float]:
        """Return how many points B is worth, one a value."""
        return [
            merged - junk
            for merged, junk in zip(*map(self.accuracies.get, (MERGED, JUNK)), strict=True)
        ]


class Images(Efforts):
    """Merges that look at more and more images."""

    def reading(self) -> Prose:
        """Return in words how many images are enough."""
        merged = self.accuracies[MERGED]
        return Prose(
            f"**What we measured**: {quantity(merged[0], '%')} with {self.values[0]} images, "
            f"{quantity(merged[-1], '%')} with {self.values[-1]:,}, without a label. B is worth "
            f"{quantity(self.gaps()[0], 'points')} and {quantity(self.gaps()[-1], 'points')} there."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield accuracy by number of images."""
        merged = self.accuracies[MERGED]
        yield Figure(
            name="images",
            plot="merge_efforts",
            numbers=self.panel(),
            title=f"{self.values[0]} images give {merged[0]:.0f} %, {self.values[-1]:,} give "
            f"{merged[-1]:.0f} %",
            caption=f"Least squares half-way between {self.pair.title}, matched by activations, by "
            "the number of unlabelled images. The control has the numbers of B shuffled.",
            alt="Test accuracy: "
            + ", ".join(
                f"{value:.1f} % with {number:,} images"
                for number, value in zip(self.values, merged, strict=True)
            )
            + ".",
            networks=self.pair.networks,
            data=self.pair.data,
            claims=[],
            size=(7.0, 3.6),
        )


class Sizes(Efforts):
    """Merges with larger and larger inner layers."""

    def at(self, stop: int) -> Figure:
        """Return all sizes, with a mark at one, for a dial."""
        size, times = self.values[stop], self.numbers[stop] / self.numbers[0]
        merged, junk = (self.accuracies[name][stop] for name in (MERGED, JUNK))
        return Figure(
            name="size",
            plot="merge_efforts",
            numbers=self.panel(stop),
            title=f"{size:g} times as many inner units: {merged:.1f} %, {times:.2f} times the "
            "parameters",
            caption="Units of inner layers are chosen among those of A and B. The control has the "
            "numbers of B shuffled.",
            alt=f"Size {size:g}: test accuracy {merged:.1f} %, with B shuffled {junk:.1f} %.",
            networks=self.pair.networks,
            data=self.pair.data,
            claims=[],
            size=(7.0, 3.6),
        )

    def table(self) -> Table:
        """Return every size, with its control."""
        return Table(
            rows=[f"{size:g}" for size in self.values],
            corner="size",
            columns=[
                Column("parameters", "", self.numbers),
                *(Column(name, "%", values) for name, values in self.accuracies.items()),
                Column("B is worth", "points", self.gaps()),
            ],
        )


def by_images(study: Study, pair: FilePair, aligned: Params, junk: Params) -> Images:
    """Merge A and B with more and more images, and A with a B that knows nothing."""
    most = len(pair.data.train_labels)
    counts = sorted({min(count, most) for count in COUNTS})
    return Images(
        pair, "unlabelled images", counts, *_merged(study, pair, (aligned, junk), counts, "number")
    )


def by_size(study: Study, pair: FilePair, aligned: Params, junk: Params) -> Sizes:
    """Merge A and B in several sizes, and A with a B that knows nothing."""
    return Sizes(
        pair, "size of inner layers", SIZES, *_merged(study, pair, (aligned, junk), SIZES, "size")
    )


def _merged(
    study: Study,
    pair: FilePair,
    others: Sequence[Params],
    values: Sequence[int | float],
    option: str,
) -> tuple[dict[str, list[float]], list[int]]:
    """Return accuracies by what is merged, and the numbers in each merged network."""
    accuracies: dict[str, list[float]] = {MERGED: [], JUNK: []}
    numbers = []
    with study.bar(2 * len(values), "least squares") as bar:
        for value in values:
            for name, other in zip(accuracies, others, strict=True):
                params = pair.least_squares(other, **{option: value}).params
                accuracies[name].append(pair.accuracy(params))
                bar.update()
            numbers.append(sum(array.size for array in params.values()))
    return accuracies, numbers
