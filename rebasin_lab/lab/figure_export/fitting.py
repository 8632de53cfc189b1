"""Drawing a figure anew for the width of a column or a slide, so that its text can be read there.

A figure shrunk to a column has text of 4 points. So it is drawn for its place: text gets the size
that is wanted there, and what is around it makes do with the room that is left. What is tried, in
this order, until nothing is wrong:

1. the figure as designed, if its text comes out at a size that is wanted;
2. narrower than designed, first in the same proportions, then higher;
3. panels that stand in a row set in several rows (`reflow.ReflowingFigure`);
4. the next width (a single column's figure becomes one of two columns), which the caller is told.

Titles, labels and legends that are too wide are broken into lines all along. What "wrong" means is
in `legibility`.

Points and inches in here are those of the layout; times `Drawn.scale` they are those of the page.
So every plot's own sizes of text, lines and marks keep their proportions.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from rebasin_lab.lab import figures, plots
from rebasin_lab.lab.figure_export import legibility, reflow

BODY_POINTS = 10.0  # `font.size` of the style: what most text of a design has
NO_LIMIT = 1_000  # panels in a row: more than any figure has


@dataclasses.dataclass(frozen=True)
class Width:
    """What a figure's place asks of it.

    Attributes:
        inches: its width.
        max_height: in inches.
        body_points: sizes for most of its text, the one to try first in front; where the design
            itself comes out between the smallest and the largest, its size is tried before them.
        smallest_points: no text may be smaller.
        next: the width to take where this one does not do, or none.
    """

    inches: float
    max_height: float
    body_points: tuple[float, ...]
    smallest_points: float
    next: str = ""


WIDTHS = {
    # Columns of 89 and 183 mm; journals ask for 6 to 9 points in the printed size.
    "single": Width(3.5, 9.0, (8.0, 7.0), 6.0, next="double"),
    "double": Width(7.2, 9.0, (9.0, 8.0, 7.0), 6.0),
    # A slide of 16:9 is 10 x 5.6 inches.
    "slide": Width(10.0, 5.6, (12.0, 14.0), 9.0),
}


class Candidate(NamedTuple):
    """One way to draw a figure.

    Attributes:
        columns: at most so many panels side by side.
        scale: points on the page per point of the layout.
        size: width and height of the layout, in inches.
    """

    columns: int
    scale: float
    size: tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A figure drawn for a width.

    Attributes:
        figure: laid out, ready to be saved inside `figures.drawing`.
        width: a name in `WIDTHS`.
        scale: inches of the page per inch of the layout.
        text_points: the smallest and the largest text, on the page (exponents are smaller).
        arrangement: how it differs from the design.
        note: what was wrong with the narrower width that was asked for, or with this one if there
            is no wider; empty if it is as asked and nothing is wrong.
    """

    figure: Figure
    width: str
    scale: float
    text_points: tuple[float, float]
    arrangement: str
    note: str

    @property
    def size_inches(self) -> tuple[float, float]:
        """Width and height on the page."""
        width, height = self.figure.get_size_inches()
        return float(width) * self.scale, float(height) * self.scale


def draw_for_width(record: Mapping[str, Any], width: str) -> Drawn:
    """The figure of a record, drawn for a width or, where it cannot be read there, for the next.

    To be called inside `figures.drawing`.

    Args:
        record: what a figure's JSON file holds.
        width: a name in `WIDTHS`.
    """
    size = _design_size(record)
    design = _lay_out(record, Candidate(NO_LIMIT, 1.0, size))
    known = set(legibility.problems_of(design, 1.0, 0.0, None))  # of the design's own making
    frames = legibility.frames_of(design)
    smallest = min((text.points for text in legibility.drawn_texts(design)), default=np.inf)
    too_narrow = ""
    while True:
        wanted = WIDTHS[width]
        tried = []
        for candidate in candidates(size, design.num_panels, wanted):
            if candidate.scale * smallest < wanted.smallest_points - 0.01:
                continue
            try:
                figure = design if candidate.size == size else _lay_out(record, candidate)
            except _NoRoomError:
                continue
            found = legibility.problems_of(figure, candidate.scale, wanted.smallest_points, frames)
            found = [problem for problem in found if problem not in known]
            if not found:
                return _drawn(figure, candidate, size, width, too_narrow)
            tried.append(found)
        wrong = min(tried, key=len, default=["no text is large enough"])[0]
        if not wanted.next:
            break
        too_narrow = f"wider than asked: {wrong} at {wanted.inches:g} in"
        width = wanted.next
    scale = min(wanted.inches / size[0], wanted.max_height / size[1])
    figure_size = (wanted.inches / scale, size[1])
    candidate = Candidate(NO_LIMIT, scale, figure_size)
    note = f"hard to read, and drawn as designed: otherwise {wrong}"
    return _drawn(_lay_out(record, candidate), candidate, size, width, note)


def candidates(
    design_size: tuple[float, float], num_panels: int, wanted: Width
) -> Iterator[Candidate]:
    """Ways to draw a figure at a width, the one nearest to its design first.

    Args:
        design_size: width and height of the design, in inches.
        num_panels: how many panels the design has in a row.
        wanted: the width.
    """
    width, height = design_size
    as_designed = wanted.inches / width
    smallest, *_, largest = sorted(points / BODY_POINTS for points in wanted.body_points)
    scales = [points / BODY_POINTS for points in wanted.body_points]
    if as_designed > largest:
        scales.sort(reverse=True)
    elif as_designed >= smallest:
        scales.insert(0, as_designed)
    for columns in (count for count in range(num_panels, 0, -1) if num_panels % count == 0):
        for scale in scales:
            new_width = width if scale == as_designed else wanted.inches / scale
            num_rows = num_panels // columns
            # Of a row of panels, in the proportions of the design.
            row = height * (new_width / columns) / (width / num_panels)
            if num_rows > 1:
                heights = [num_rows * min(row, 0.75 * height), num_rows * height]
            else:
                heights = [row, (row + height) / 2, height] if row < height else [row]
            for new_height in heights:
                yield Candidate(
                    columns, scale, (new_width, min(new_height, wanted.max_height / scale))
                )


class _NoRoomError(ValueError):
    """Axes have collapsed: texts around them took all the room."""


def _lay_out(record: Mapping[str, Any], candidate: Candidate) -> reflow.ReflowingFigure:
    figure = reflow.ReflowingFigure(
        figsize=candidate.size, layout="constrained", max_columns=candidate.columns
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        try:
            plots.draw(figure, record["plot"], record["numbers"])
            for _ in range(3):  # lines that a title got take room from labels
                figure.draw_without_rendering()
                if not reflow.break_lines(figure):
                    break
            figures.settle_layout(figure)
        except UserWarning as warning:
            width, height = candidate.size
            raise _NoRoomError(
                f"Expected room for the panels of a figure of plot '{record['plot']}'; "
                f"got {width:.2f} x {height:.2f} inches, all taken by its text."
            ) from warning
    return figure


def _drawn(
    figure: reflow.ReflowingFigure,
    candidate: Candidate,
    design_size: tuple[float, float],
    width: str,
    note: str,
) -> Drawn:
    columns = min(candidate.columns, figure.num_panels)
    if columns < figure.num_panels:
        arrangement = f"panels in {figure.num_panels // columns} rows"
    elif np.allclose(candidate.size, design_size):
        arrangement = "as designed"
    else:
        change = "narrower" if candidate.size[0] < design_size[0] else "wider"
        arrangement = f"laid out {change}"
    points = [text.points * candidate.scale for text in legibility.drawn_texts(figure)]
    limits = (min(points), max(points)) if points else (0.0, 0.0)
    return Drawn(figure, width, candidate.scale, limits, arrangement, note)


def _design_size(record: Mapping[str, Any]) -> tuple[float, float]:
    width, height = record["size_inches"]
    return float(width), float(height)
