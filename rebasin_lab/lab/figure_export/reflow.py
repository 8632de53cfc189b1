"""A figure for less width: panels in several rows, legends and titles in several lines.

Plots use it as any figure: they ask for a row of panels, a legend and titles.
"""

import itertools
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

LEGEND_MARGIN = 0.08  # inches left free beside a legend
PANEL_INCHES, PANEL_SHARE = 2.4, 0.75  # a panel has these inches, or this share of its design
ROW_SHARE = 0.75  # of the design's height, where there are several rows
LOW_INCHES = 2.0  # a figure of this height is made no lower


class ReflowingFigure(Figure):
    """A figure that sets a row of panels in several rows, and legends in columns that fit.

    Plots ask for `subplots(1, n)` or `subfigures(1, n)` and get as many panels, in the same shape
    of array, with as many of them side by side as have room.

    Args:
        width: in inches.
        max_height: in inches.
        design: width and height that the plot was designed for, in inches.
    """

    def __init__(self, *, width: float, max_height: float, design: tuple[float, float]):
        super().__init__(layout="constrained")
        self._design, self._max_height = design, max_height
        self._set_size(width, num_rows=1)

    def subplots(self, nrows: int = 1, ncols: int = 1, **options: Any) -> Any:
        """Return panels as any figure does; see the class."""
        return self._reflowed(super().subplots, nrows, ncols, options)

    def subfigures(self, nrows: int = 1, ncols: int = 1, **options: Any) -> Any:
        """Return parts as any figure does; see the class."""
        return self._reflowed(super().subfigures, nrows, ncols, options)

    def legend(self, *arguments: Any, ncols: int = 1, **options: Any) -> Any:
        """Return a legend as any figure does, with fewer columns where they would be too wide."""
        legend = super().legend(*arguments, ncols=ncols, **options)
        room = self.bbox.width - LEGEND_MARGIN * self.dpi
        while ncols > 1 and legend.get_window_extent().width > room:
            num_entries = len(legend.get_texts())
            legend.remove()
            num_rows = -(-num_entries // (min(ncols, num_entries) - 1))
            ncols = -(-num_entries // num_rows)  # rows of equal length
            legend = super().legend(*arguments, ncols=ncols, **options)
        return legend

    def _reflowed(self, make: Any, nrows: int, ncols: int, options: dict[str, Any]) -> Any:
        width, needed = self.get_figwidth(), self._needed_inches(ncols)
        fitting = (k for k in range(ncols, 1, -1) if ncols % k == 0 and width / k >= needed)
        columns = next(fitting, 1)
        if nrows > 1 or columns == ncols:
            return make(nrows, ncols, **options)
        self._set_size(width, num_rows=ncols // columns)
        squeeze = options.pop("squeeze", True)
        options.pop("width_ratios", None)  # they were for panels side by side
        panels = make(ncols // columns, columns, squeeze=False, **options).reshape(1, ncols)
        return panels[0] if squeeze else panels

    def _needed_inches(self, num_panels: int) -> float:
        return min(PANEL_INCHES, PANEL_SHARE * self._design[0] / num_panels)

    def _set_size(self, width: float, num_rows: int) -> None:
        """Give a narrower row more of its height than of its width: its text does not shrink."""
        design_width, height = self._design
        share = width / design_width
        if num_rows > 1:
            height *= num_rows * ROW_SHARE
        elif share > 1:
            height *= share
        elif height > LOW_INCHES:
            height = max(height * share**0.5, LOW_INCHES)
        self.set_size_inches(width, min(height, self._max_height))


def break_lines(figure: Figure) -> bool:
    """Break titles and labels that are too long for their place; returns True if any was.

    Labels of ticks that run into each other are turned.
    """
    gap = 8 / 72 * figure.dpi
    extents = [ax.get_window_extent() for ax in figure.axes]
    broken = []
    for ax, frame in zip(figure.axes, extents, strict=True):
        beside = [e for e in extents if e.x0 >= frame.x1 and e.y0 < frame.y1 and e.y1 > frame.y0]
        right = min((e.x0 for e in beside), default=figure.bbox.x1) - gap
        titles = {ax.get_title(place) for place in ("left", "center", "right")}
        for title in _own_texts(ax, titles):
            left = title.get_window_extent().x0 if title.get_ha() == "left" else frame.x0
            broken.append(_break_text(title, right - left))
        middle = (frame.x0 + frame.x1) / 2
        sides = 2 * min(middle, figure.bbox.x1 - middle)  # of a label that is in the middle
        broken.append(_break_text(ax.xaxis.label, min(1.25 * frame.width, sides)))
        broken.append(_turn_tick_labels(ax))
        if ax.yaxis.label.get_rotation() == 90:
            broken.append(_break_text(ax.yaxis.label, 1.15 * frame.height))
    for part in [figure, *figure.findobj(SubFigure)]:
        for title in _own_texts(part, {part.get_suptitle()}):
            broken.append(_break_text(title, part.bbox.x1 - gap - title.get_window_extent().x0))
    return any(broken)


def _turn_tick_labels(ax: Axes) -> bool:
    """Turn labels on the x axis that run into each other; returns True if any did."""
    labels = [label for label in ax.get_xticklabels() if label.get_text() and label.get_visible()]
    boxes = [label.get_window_extent() for label in labels if label.get_rotation() == 0]
    touch = any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    if touch:
        ax.tick_params("x", labelrotation=90)
    return touch


def _own_texts(parent: Any, contents: set[str]) -> list[Text]:
    """Return its texts of these contents: there is no public way to ask for a title itself."""
    return [
        child
        for child in parent.get_children()
        if isinstance(child, Text) and child.get_text() and child.get_text() in contents
    ]


def _break_text(text: Text, room: float) -> bool:
    """Break a text into lines that fit into some pixels; returns True if it was too long."""
    content = text.get_text()
    extent = text.get_window_extent()
    length = extent.height if text.get_rotation() == 90 else extent.width
    if length <= room or "$" in content:
        return False
    lines = content.split("\n")
    num_letters = max(int(max(map(len, lines)) * room / length), 4)
    text.set_text("\n".join(_balanced(line, num_letters) for line in lines))
    return text.get_text() != content


def _balanced(line: str, num_letters: int) -> str:
    """Break a line into as few lines as it takes, all of about one length."""
    lines = textwrap.wrap(line, num_letters, break_long_words=False)
    for fewer in range(num_letters - 1, 0, -1):
        shorter = textwrap.wrap(line, fewer, break_long_words=False)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)
