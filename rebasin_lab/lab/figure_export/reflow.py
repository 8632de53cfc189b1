"""A figure that makes do with less width: panels in several rows, legends and titles in lines.

Plots know nothing of it: they ask for a row of panels, a legend and titles as of any figure.
"""

import textwrap
from typing import Any

from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

LEGEND_MARGIN = 0.08  # inches left free beside a legend


class ReflowingFigure(Figure):
    """A figure that sets a row of panels in several rows, and legends in columns that fit.

    Plots ask for `subplots(1, n)` or `subfigures(1, n)` and get as many panels, in the same shape
    of array, with at most `max_columns` of them side by side.

    Attributes:
        num_panels: how many panels a plot has asked for in a row.
    """

    def __init__(self, *, max_columns: int, **options: Any):
        super().__init__(**options)
        self.num_panels = 1
        self._max_columns = max_columns

    def subplots(self, nrows: int = 1, ncols: int = 1, **options: Any) -> Any:
        """As of any figure; see the class."""
        return self._reflowed(super().subplots, nrows, ncols, options)

    def subfigures(self, nrows: int = 1, ncols: int = 1, **options: Any) -> Any:
        """As of any figure; see the class."""
        return self._reflowed(super().subfigures, nrows, ncols, options)

    def legend(self, *arguments: Any, ncols: int = 1, **options: Any) -> Any:
        """As of any figure, with fewer columns where they would be too wide."""
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
        if nrows > 1 or ncols == 1:
            return make(nrows, ncols, **options)
        self.num_panels = ncols
        columns = next(k for k in range(min(ncols, self._max_columns), 0, -1) if ncols % k == 0)
        if columns == ncols:
            return make(1, ncols, **options)
        squeeze = options.pop("squeeze", True)
        options.pop("width_ratios", None)  # they were for panels side by side
        panels = make(ncols // columns, columns, squeeze=False, **options).reshape(1, ncols)
        return panels[0] if squeeze else panels


def break_lines(figure: Figure) -> bool:
    """Break titles and labels that are too long for where they stand; whether any was."""
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
        broken.append(_break_text(ax.xaxis.label, 1.25 * frame.width))
        if ax.yaxis.label.get_rotation() == 90:
            broken.append(_break_text(ax.yaxis.label, 1.15 * frame.height))
    for part in [figure, *figure.findobj(SubFigure)]:
        for title in _own_texts(part, {part.get_suptitle()}):
            broken.append(_break_text(title, part.bbox.x1 - gap - title.get_window_extent().x0))
    return any(broken)


def _own_texts(parent: Any, contents: set[str]) -> list[Text]:
    """Its texts of these contents: there is no public way to ask for a title itself."""
    return [
        child
        for child in parent.get_children()
        if isinstance(child, Text) and child.get_text() and child.get_text() in contents
    ]


def _break_text(text: Text, room: float) -> bool:
    """Break a text into lines that fit into some pixels; whether it was too long."""
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
    """As few lines as it takes, and those of about one length."""
    lines = textwrap.wrap(line, num_letters, break_long_words=False)
    for fewer in range(num_letters - 1, 0, -1):
        shorter = textwrap.wrap(line, fewer, break_long_words=False)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)
