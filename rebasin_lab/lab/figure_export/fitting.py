"""Redraw a figure for the width of a column or a slide, so that its text can be read there.

A figure shrunk to a column has text of 4 points. So it is redrawn from its record at the size of
its place: text at the size of `WIDTHS`, too narrow panels below each other (`reflow`), and the rest
by matplotlib's constrained layout.

Points and inches here are those of the layout; times `Drawn.scale` they are those of the page. So
every plot's text, lines and marks keep their proportions.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from rebasin_lab.lab import figures, plots
from rebasin_lab.lab.figure_export import reflow

BODY_POINTS = 10.0  # `font.size` of the style, that of most texts of a design


class Width(NamedTuple):
    """Sizes of a figure's place.

    Attributes:
        inches: its width.
        max_height: in inches.
        body_points: the smallest and the largest size of its text; in between a design is only
            scaled. Plots have a few texts of 0.8 times the size.
    """

    inches: float
    max_height: float
    body_points: tuple[float, float]


WIDTHS = {
    # Columns of 89 and 183 mm; journals ask for 6 to 9 points in the printed size.
    "single": Width(3.5, 9.0, (7.5, 9.0)),
    "double": Width(7.2, 9.0, (7.5, 9.0)),
    # A slide of 16:9 is 10 x 5.6 inches.
    "slide": Width(10.0, 5.6, (12.0, 14.0)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A figure drawn for a width.

    Attributes:
        figure: laid out, ready to be saved inside `figures.drawing`.
        scale: inches of the page per inch of the layout.
        note: the reason why it is only shrunk, empty if it is not.
    """

    figure: Figure
    scale: float
    note: str = ""

    @property
    def size_inches(self) -> tuple[float, float]:
        """Width and height on the page."""
        width, height = self.figure.get_size_inches()
        return float(width) * self.scale, float(height) * self.scale


def draw_for_width(record: Mapping[str, Any], width: str) -> Drawn:
    """Draw the figure of a record, drawn for a width; to be called inside `figures.drawing`.

    Args:
        record: the content of a figure's JSON file.
        width: a name in `WIDTHS`.
    """
    place = WIDTHS[width]
    design_width, design_height = map(float, record["size_inches"])
    smallest, largest = (points / BODY_POINTS for points in place.body_points)
    scale = float(np.clip(place.inches / design_width, smallest, largest))
    figure = reflow.ReflowingFigure(
        width=place.inches / scale,
        max_height=place.max_height / scale,
        design=(design_width, design_height),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        try:
            plots.draw(figure, record["plot"], record["numbers"])
            for _ in range(2):  # a title in several lines takes room from labels
                figure.draw_without_rendering()
                if not reflow.break_lines(figure):
                    break
            figures.settle_layout(figure)
            return Drawn(figure, scale)
        except UserWarning:  # axes have collapsed: texts around them took all the room
            pass
    scale = min(place.inches / design_width, place.max_height / design_height)
    note = f"shrunk to its place: its text leaves no room for panels at {place.inches:g} in"
    size = [place.inches / scale, design_height]
    with warnings.catch_warnings(action="ignore"):  # see the note
        return Drawn(figures.draw({**record, "size_inches": size}), scale, note)
