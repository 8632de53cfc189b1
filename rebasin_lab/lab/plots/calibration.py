"""Plots of merged networks beside those they came from: calibration and metrics.

The networks a merged one came from, their average without matching, and their ensemble keep one
colour and marker each, methods those of `matching`. Any other name gets a spare look. Dashed means
test images, as everywhere.
"""

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from rebasin_lab.lab.plots import losses, matching
from rebasin_lab.lab.plots.legends import legend_below
from rebasin_lab.lab.plots.matching import Look
from rebasin_lab.lab.plots.results import COLOURS, label_line_ends
from rebasin_lab.lab.plots.shapes import (
    MOST_PANELS,
    alone,
    array,
    by_name,
    fields,
    flag,
    holed,
    letters,
    list_of,
    or_none,
    real,
    takes,
    whole,
)
from rebasin_lab.matching import MATCHERS, Matcher

_METHODS = (*MATCHERS, "naive", "changes", "normalized")
_ALL_DATA = Look("all data", "#A6761D", "*")
# A method looks as it does where matchers are compared.
LOOKS: dict[str, Look | Matcher] = {
    **{look.label: look for look in map(matching.LOOKS.__getitem__, _METHODS)},
    "A": Look("A", COLOURS["A"], "<"),
    "B": Look("B", COLOURS["B"], ">"),
    "single": Look("single", COLOURS["A"], "."),
    "naive mean": matching.LOOKS["naive"],
    "MergeMany": matching.LOOKS["weight"],
    "ensemble": Look("ensemble", "#6A3D9A", "D"),
    "all data": _ALL_DATA,
    "trained on all data": _ALL_DATA,
}
SPARE_LOOKS = [
    Look("", colour, marker)
    for colour, marker in (("#E7298A", "v"), ("#1B9E9E", "P"), ("#B8860B", "p"), ("#000000", "+"))
]
LOG_SPAN = 8  # values further apart than this factor need a logarithmic axis
BINS = {
    "confidence": list_of(or_none(real()), "bins"),
    "frequency": list_of(or_none(real()), "bins"),
    "count": list_of(whole(high=10**12), "bins"),
}


@takes(
    panels=list_of(
        alone(
            fields(
                title=letters,
                curves=by_name(alone(fields(**BINS)), names="curves"),
                ece=by_name(real(), names="curves"),
            )
        ),
        most=MOST_PANELS,
    )
)
def draw_reliability(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw observed frequency against predicted probability, over the size of each bin.

    Numbers: `panels`: list of {"title", "curves", "ece"}; `curves`: name ->
    `Reliability.as_numbers()`, of which bins without predictions are left out; `ece`: name ->
    expected calibration error, a fraction.
    """
    panels = numbers["panels"]
    looks = looks_of(name for panel in panels for name in panel["curves"])
    most = max(max(curve["count"]) for panel in panels for curve in panel["curves"].values())
    subfigures = fig.subfigures(1, len(panels), squeeze=False)[0]
    for part, panel in zip(subfigures, panels, strict=True):
        _, count_ax = _draw_reliability_panel(part, panel, looks)
        count_ax.set_ylim(0.7, 1.5 * most)


@takes(
    lambdas=array("lambdas"),
    curves=by_name(holed("lambdas")),
    levels=by_name(real(), least=0),
    ylabel=letters,
    limit=or_none(real()),
)
def draw_loss_lines_with_levels(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw a metric of test images on lines from A to B, and levels to compare with.

    Numbers: `lambdas`; `curves`: name -> one value per lambda; `levels`: name -> value, drawn as a
    thin line; `ylabel`; `limit`: curves are cut off above this, unless it is None; levels are
    always shown.
    """
    ax = fig.subplots()
    levels, limit = numbers["levels"], numbers["limit"]
    for name, look in looks_of(numbers["curves"]).items():
        values = losses.values_of(numbers["curves"], name)
        marks = marks_of(look) | {"markersize": 5}
        ax.plot(numbers["lambdas"], values, "--", label=name, linewidth=1.4, **marks)
    for value in levels.values():
        ax.axhline(value, color="black", linewidth=1)
    drawn = (losses.values_of(numbers["curves"], name) for name in numbers["curves"])
    values = [*levels.values(), *itertools.chain(*drawn)]
    values = [value for value in values if np.isfinite(value)]
    lowest = min(values, default=0)
    highest = max(values, default=0) if limit is None else max([limit, *levels.values()])
    margin = 0.05 * (highest - lowest) or 0.1  # equal values all through are a line in the middle
    ax.set_ylim(lowest - margin, highest + margin)
    _name_levels(fig, ax, levels)
    label_line_ends(ax)
    ax.set_ylabel(numbers["ylabel"])
    legend_below(fig, ax, most_columns=4)


@takes(
    groups=list_of(
        fields(title=letters, values=by_name(array()), lower_is_better=flag), most=MOST_PANELS
    )
)
def draw_merged_bars(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw each metric of merging: a row a method, a mark a network, and a bar at their mean.

    Numbers: `groups`: list of {"title", "values", "lower_is_better"}; `values`: method -> one value
    for each network or pair. The axis is logarithmic where they span more than a factor of 8, for
    which an error serves better than an accuracy.
    """
    groups = numbers["groups"]
    looks = looks_of(name for group in groups for name in group["values"])
    beside = {"xytext": (4, 0), "textcoords": "offset points", "fontsize": 8}
    axes, above = fig.subplots(1, len(groups), squeeze=False)[0], None
    for ax, group in zip(axes, groups, strict=True):
        names = list(group["values"])
        for row, (name, values) in enumerate(group["values"].items()):
            mean = float(np.mean(values))
            ax.plot([mean, mean], [row - 0.4, row + 0.4], color="black", linewidth=2)
            marks = marks_of(looks[name]) | {"markersize": 6, "alpha": 0.8}
            ax.plot(values, row + _spread(len(values)), linestyle="", **marks)
            label = f"{mean:#.3g}".rstrip(".")  # 0.420 beside 0.404
            ax.annotate(label, (1, row), va="center", xycoords=("axes fraction", "data"), **beside)
        if _spans_decades(group["values"]):
            ax.set_xscale("log")
            losses.label_plainly(ax.xaxis)
        is_named = names != above or ax.get_subplotspec().is_first_col()
        ax.set_yticks(range(len(names)), names if is_named else [""] * len(names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        better, above = "lower" if group["lower_is_better"] else "higher", names
        ax.set_title(f"{group['title']}\n{better} is better")
        ax.annotate("mean", (1, 1), xycoords="axes fraction", **beside)


def marks_of(look: Look | Matcher) -> dict[str, Any]:
    """Return a look as matplotlib takes it: colour, marker and its fill."""
    return {"color": look.colour, "marker": look.marker, "markerfacecolor": look.face}


def looks_of(names: Iterable[str]) -> dict[str, Look | Matcher]:
    """Return the look of each name, in order; names without one of their own get the spare ones."""
    spare = itertools.cycle(SPARE_LOOKS)
    return {name: LOOKS[name] if name in LOOKS else next(spare) for name in dict.fromkeys(names)}


def plot_reliability(
    ax: Axes, curve: Mapping[str, Any], look: Look | Matcher, **marks: Any
) -> None:
    """Draw one reliability curve, without bins that have no predictions."""
    confidence, frequency = (np.array(curve[f], float) for f in ("confidence", "frequency"))
    present = ~np.isnan(confidence)
    marks = marks_of(look) | {"linewidth": 1.4, "clip_on": False} | marks
    ax.plot(confidence[present], frequency[present], **marks)


def _draw_reliability_panel(
    part: SubFigure, panel: Mapping[str, Any], looks: Mapping[str, Look | Matcher]
) -> tuple[Axes, Axes]:
    ax, count_ax = part.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    ax.plot([0, 1], [0, 1], color="#999999", linewidth=1, zorder=1)
    for name, curve in panel["curves"].items():
        label = f"{name}: {panel['ece'][name]:#.2g}"
        plot_reliability(ax, curve, looks[name], markersize=5, label=label)
        edges, marks = np.linspace(0, 1, len(curve["count"]) + 1), marks_of(looks[name])
        line = {"color": marks["color"], "linewidth": 1.2}
        count_ax.stairs(curve["count"], edges, baseline=None, **line)
        middles = (edges[:-1] + edges[1:]) / 2
        count_ax.plot(middles, curve["count"], linestyle="", markersize=3, **marks)
    ax.set(title=panel["title"], ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    count_ax.set(xlabel="predicted probability", ylabel="count", yscale="log")
    handles, labels = ax.get_legend_handles_labels()
    # Inches of a column: the line before each label, and its letters at 8 points.
    column_width = 0.5 + 0.064 * max(map(len, labels))
    part.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2 if 2 * column_width < part.bbox.width / part.dpi else 1,
        title="calibration error (ECE) of the top class",
        fontsize=8,
        title_fontsize=8,
    )
    return ax, count_ax


def _name_levels(fig: Figure, ax: Axes, levels: Mapping[str, float]) -> None:
    """Write the name of each level right of its line, moved up where they would touch."""
    low, high = ax.get_ylim()
    # A line of 9 points and its spacing, as a fraction of an axis three quarters of the figure.
    line_height = 13 / (0.75 * 72 * fig.get_figheight())
    free_from = 0.0
    for name, value in sorted(levels.items(), key=lambda level: level[1]):
        text = textwrap.fill(name, 16, break_long_words=False)
        half = line_height * (text.count("\n") + 1) / 2
        place = max((value - low) / (high - low), free_from + half)
        free_from = place + half
        ax.annotate(
            text,
            (1, value),
            (1.04, place),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),  # to the middle of the text's left side
            },
            annotation_clip=False,
        )


def _spread(num_marks: int) -> np.ndarray:
    """Return places of marks about a column's middle: a network's is the same in every panel."""
    return np.linspace(-0.25, 0.25, num_marks) if num_marks > 1 else np.zeros(1)


def _spans_decades(values: Mapping[str, Sequence[float]]) -> bool:
    everything = list(itertools.chain(*values.values()))
    return min(everything) > 0 and max(everything) > LOG_SPAN * min(everything)
