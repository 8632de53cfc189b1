"""Records: what a section measures, and how it is shown: figures, tables, sentences, claims.

In a table a mean never stands without its range and its number of values.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from rebasin_lab import checks, datasets, texts
from rebasin_lab.paper.sections.quantities import summary
from rebasin_lab.paper.store import Trained

R = TypeVar("R", bound="Record")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Figure:
    """A figure of a record, before it is drawn.

    Attributes:
        name: of its files.
        plot: a name in `lab.plots.PLOTS`, by default that of the figure.
        numbers: that this plot draws, JSON-ready.
        title: the finding, in a sentence, above it.
        caption: to stand under it; profile, data, networks and seeds are added.
        alt: text in place of the picture, for a screen reader.
        networks: in it.
        data: their data set; None is the profile's.
        claims: ids of claims it belongs to; None is all that its record measures.
        size: width and height in inches.
    """

    name: str
    plot: str = ""
    numbers: Mapping[str, Any]
    title: str
    caption: str
    alt: str
    networks: Sequence[Trained] = ()
    data: datasets.Dataset | None = None
    claims: Sequence[str] | None = None
    size: tuple[float, float] = (8.0, 3.4)

    def __post_init__(self):
        checks.fields(self)
        for field in ("name", "title", "caption", "alt"):
            if not getattr(self, field):
                raise ValueError(f"Expected {field} of the figure to be a text; got an empty one.")
        object.__setattr__(self, "plot", self.plot or self.name)

    def as_record(self) -> dict[str, Any]:
        """Return a figure record that is shown and not saved, as `rl.picture` returns it."""
        return {
            "plot": self.plot,
            "numbers": self.numbers,
            "title": self.title,
            "caption": self.caption,
            "alt": self.alt,
            "size_inches": list(self.size),
        }


class Prose(str):
    """Sentences that hold numbers of this run, shown as Markdown by a notebook."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a `Table`.

    Attributes:
        heading: above it.
        unit: "nats", "%", "points", "s", or another or none; it decides the number of digits.
        cells: for each row a number, several numbers (shown as mean and range), a text, or None;
            or a function that returns this for the row's key.
        digits: after the point, in place of the unit's.
    """

    heading: str
    unit: str
    cells: Sequence[Any] | Callable[[Any], Any]
    digits: int | None = None

    def text(self, row: int) -> str:
        """Return a cell as a reader sees it."""
        cell = self.cells[row]
        if cell is None or isinstance(cell, str):
            return cell or ""
        return summary(np.ravel(cell).tolist(), self.unit, digits=self.digits)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of measured numbers, shown by a notebook.

    Attributes:
        rows: the name of each, by its key or as its key.
        columns: in order; where any has several numbers in a cell, the number of these is shown.
        corner: heading of the names.
    """

    rows: Sequence[str] | Mapping[Any, str]
    columns: Sequence[Column]
    corner: str = ""

    def __post_init__(self):
        names = self.rows.values() if isinstance(self.rows, Mapping) else self.rows
        columns = [
            dataclasses.replace(each, cells=[*map(each.cells, self.rows)])
            if callable(each.cells)
            else each
            for each in self.columns
        ]
        object.__setattr__(self, "rows", [*names])
        object.__setattr__(self, "columns", columns)
        for column in columns:
            if len(column.cells) != len(self.rows):
                raise ValueError(
                    f"Expected {len(self.rows)} cells in the column '{column.heading}', one for "
                    f"each row; got {len(column.cells)}."
                )

    def as_texts(self) -> list[list[str]]:
        """Return headings and rows as texts."""
        headings = [
            f"{column.heading} ({column.unit})" if column.unit else column.heading
            for column in self.columns
        ]
        lines = [[self.corner, *headings]]
        every = zip(*(column.cells for column in self.columns), strict=True)
        counts = [max(map(_count, cells)) for cells in every]
        for row, name in enumerate(self.rows):
            lines.append([name, *(column.text(row) for column in self.columns)])
        if max(counts, default=1) > 1:
            lines[0].append("n")
            for line, count in zip(lines[1:], counts, strict=True):
                line.append(str(count))
        return lines

    def __str__(self) -> str:
        lines = self.as_texts()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                text.rjust(width) if index else text.ljust(width)
                for index, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        head, *body = self.as_texts()

        def cells(line: Sequence[str], tag: str) -> str:
            sides = ["left", *["right"] * (len(line) - 1)]
            return "".join(
                f'<{tag} style="text-align:{side}">{texts.as_html(text)}</{tag}>'
                for side, text in zip(sides, line, strict=True)
            )

        whole = [[name, *map(_unbroken, numbers)] for name, *numbers in body]
        rows = "".join(f"<tr>{cells(line, 'td')}</tr>" for line in whole)
        return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{rows}</tbody></table>"


class Record:
    """A measurement: numbers with units, and what is shown of them.

    A record of a section is a frozen dataclass that has what it measured, and overrides what it has
    to show.
    """

    def figures(self) -> Iterable[Figure]:
        """Yield its figures, in order."""
        return ()

    def extended(self, kind: type[R], **more: Any) -> R:
        """Return a record of a kind that has the fields of this one, and more."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return kind(**own, **more)

    def claims(self) -> Mapping[str, Any]:
        """Return what it measured for claims, by id: a number, or one for each pair."""
        return {}


def _unbroken(text: str) -> str:
    """Return the text of a cell whose range is not broken into two lines."""
    return text.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")


def _count(cell: Any) -> int:
    return 1 if cell is None or isinstance(cell, str) else int(np.size(cell))
