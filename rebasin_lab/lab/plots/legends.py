"""Legends, each label once; below all panels, where no line can run through them."""

import math
from collections.abc import Iterable
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of a legend at 9 points: the line before a label, with its spaces, and a letter.
HANDLE_INCHES, LETTER_INCHES = 0.55, 0.062


def labelled_once(*axes: Axes) -> tuple[list[Artist], list[str]]:
    """Return the labelled artists of panels in order, each label once, and the labels."""
    by_label: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            by_label.setdefault(label, handle)
    return list(by_label.values()), list(by_label)


def legend_below(
    fig: Figure, axes: Axes | Iterable[Axes], *, most_columns: int | None = None, **style: Any
) -> None:
    """Add one legend under all panels, in one row unless that is too long; none without labels."""
    handles, labels = labelled_once(*([axes] if isinstance(axes, Axes) else axes))
    if not labels:
        return
    ncols = min(len(labels), most_columns or len(labels))
    widths = [HANDLE_INCHES + LETTER_INCHES * len(label) for label in labels]
    if ncols == len(labels) and sum(widths) > fig.get_figwidth():
        fitting = max(2, int(fig.get_figwidth() / max(widths)))
        ncols = math.ceil(len(labels) / math.ceil(len(labels) / fitting))
    fig.legend(handles, labels, loc="outside lower center", ncols=ncols, **style)
