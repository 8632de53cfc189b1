"""Plots of matchers: their similarities, their climb, and the barriers they leave.

Every matcher keeps the one colour and marker of its record in `MATCHERS`.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rebasin_lab.lab.plots import losses
from rebasin_lab.lab.plots.legends import labelled_once, legend_below
from rebasin_lab.lab.plots.results import COLOURS, label_line_ends
from rebasin_lab.lab.plots.shapes import (
    LOSS,
    MOST_NAMES,
    MOST_PANELS,
    alone,
    array,
    by_name,
    fields,
    holed,
    letters,
    list_of,
    place_in,
    real,
    takes,
    whole,
)
from rebasin_lab.matching import MATCHERS, Matcher


@dataclasses.dataclass(frozen=True)
class Look:
    """The look of a method: colour, marker and line."""

    label: str
    colour: str
    marker: str
    is_open: bool = False

    @property
    def face(self) -> str:
        """The fill of its markers."""
        return "none" if self.is_open else self.colour


# Those of variants that are no matchers; a matcher's record has its own look, in the same fields.
_VARIANTS = {
    "normalized": Look("weights, normalised", COLOURS["weight matching"], "<"),
    "naive": Look("naive", COLOURS["naive"], "o"),
    "late": Look("permutation of the end", "#882255", "d"),
    "changes": Look("learned part", "#8C564B", "s"),
}


class _Looks(collections.ChainMap[str, Look | Matcher]):
    def __missing__(self, name: str) -> Look:
        # A matcher that is registered elsewhere, not here.
        return Look(name, "#0072B2", "h")


LOOKS = _Looks(_VARIANTS, MATCHERS)
_CONTROLS = {"naive", "random"}  # their lines rise out of the range of others
CHANGE = COLOURS["weight matching"]  # of a visit
# Marks stay legible on dark cells.
HALO = [patheffects.withStroke(linewidth=3, foreground="white")]


@takes(
    columns=list_of(letters, "columns", most=MOST_PANELS),
    rows=list_of(
        alone(fields(name=letters, images=list_of(array("height", "width"), "columns"))),
        most=MOST_PANELS,
    ),
)
def draw_similarity_views(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the similarity of some units of A and B by several methods, at several stages.

    Numbers: `columns`: stages; `rows`: list of {"name", "images"}, one matrix per stage, rows of
    which are units of A.
    """
    rows, columns = numbers["rows"], numbers["columns"]
    is_wide = len(columns) == 1  # methods at one stage stand side by side
    shape = (1, len(rows)) if is_wide else (len(rows), len(columns))
    axes = fig.subplots(*shape, squeeze=False)
    axes = axes.T if is_wide else axes
    for row_axes, row in zip(axes, rows, strict=True):
        limit = np.percentile(np.abs(row["images"]), 99)  # else one entry can outshine all others
        for ax, image in zip(row_axes, row["images"], strict=True):
            shown = show_matrix(ax, image, limit)
        row_axes[0].set_ylabel("units of A")
        fig.colorbar(shown, ax=row_axes, label=row["name"], extend="both")
    for row_axes in axes if is_wide else axes[:1]:
        for ax, name in zip(row_axes, columns, strict=True):
            ax.set_title(name)
    for ax in axes.ravel() if is_wide else axes[-1]:
        ax.set_xlabel("units of B")


@takes(
    layers=list_of(
        alone(fields(name=letters, matrix=array("units", "units"), limit=real(0))),
        "layers",
        most=MOST_PANELS,
    ),
    visited=place_in("layers"),
    best=list_of(whole(), "best"),
    gain=real(),
    objective=array("objective"),
    visit=place_in("objective"),
)
def draw_ascent_visit(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw one visit of Algorithm 1: the similarities of all layers, and the best pairing of one.

    Numbers: `layers`: list of {"name", "matrix", "limit"}, rows are units of A and columns those of
    B in their present order; `visited`: which of them; `best`: for each row its column; `gain`;
    `visit`: how many came before; `objective`: before the first visit and after each of all.
    """
    layers, visited, objective = numbers["layers"], numbers["visited"], numbers["objective"]
    *axes, curve_ax = fig.subplots(1, len(layers) + 1, width_ratios=[*[1] * len(layers), 1.25])
    slots = np.arange(len(numbers["best"]))
    for index, (ax, layer) in enumerate(zip(axes, layers, strict=True)):
        is_visited = index == visited
        show_matrix(ax, layer["matrix"], layer["limit"])
        marks = {"markerfacecolor": "none", "path_effects": HALO}
        ax.plot(slots, slots, "o", color="black", markersize=5, label="paired now", **marks)
        if is_visited:
            best = {"color": CHANGE, "markersize": 11, "markeredgewidth": 1.8}
            ax.plot(numbers["best"], slots, "s", label="best pairing", **best, **marks)
            ax.spines[:].set(color="black", linewidth=2)
        text = f"{layer['name']}\n{'visited' if is_visited else ''}"
        ax.set_title(text, fontweight="bold" if is_visited else "normal")
        ax.set_xlabel("units of B")
    axes[0].set_ylabel("units of A")
    visit = numbers["visit"]
    curve_ax.plot(objective, color="#bbbbbb", linewidth=1)
    curve_ax.plot(objective[: visit + 1], color="black")
    step = slice(visit, visit + 2)
    curve_ax.plot(range(len(objective))[step], objective[step], color=CHANGE, linewidth=3)
    curve_ax.plot(visit, objective[visit], "o", color="black")
    curve_ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    curve_ax.set(title=f"inner product\nthis visit: +{numbers['gain']:.3f}", xlabel="visits")
    legend_below(fig, axes[visited], most_columns=2)


@takes(
    searches=list_of(
        alone(
            fields(
                method=letters,
                visits=list_of(whole(), "visits"),
                objective=array("visits"),
            )
        ),
        most=MOST_NAMES,
    ),
    in_place=by_name(list_of(whole())),
    chance=real(),
)
def draw_ascents(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the objective of several searches, visit by visit, and how many units never moved.

    Numbers: `searches`: list of {"method", "visits", "objective"}; `in_place`: method -> a number
    of units per search; `chance`: how many are to be expected of a random permutation.
    """
    ax, place_ax = fig.subplots(1, 2, width_ratios=[1.7, 1])
    for search in numbers["searches"]:
        look = LOOKS[search["method"]]
        is_whole = not look.is_open
        ax.plot(
            search["visits"],
            search["objective"],
            marker=look.marker,
            markersize=6 if is_whole else 3,
            markerfacecolor=look.face,
            color=look.colour,
            linewidth=2 if is_whole else 0.8,
            zorder=3 if is_whole else 2,
            label=look.label,
        )
    highest = max(max(search["objective"]) for search in numbers["searches"])
    lowest = min(search["objective"][0] for search in numbers["searches"])
    # The first sweep is most of the climb; searches differ in its last fifth.
    if highest > lowest:
        ax.set_ylim(highest - 0.2 * (highest - lowest), highest + 0.01 * (highest - lowest))
    ax.set(title="The last fifth of the climb", xlabel="visits of a layer")
    ax.set_ylabel("inner product ⟨A, π(B)⟩")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(*labelled_once(ax), loc="lower right")
    rows = np.arange(len(numbers["in_place"]))[::-1]
    for row, (method, counts) in zip(rows, numbers["in_place"].items(), strict=True):
        look = LOOKS[method]
        marks = {"color": look.colour, "markerfacecolor": look.face, "clip_on": False}
        place_ax.plot(counts, [row] * len(counts), look.marker, markersize=8, **marks)
    place_ax.axvline(numbers["chance"], color="#999999", linestyle=":", linewidth=1)
    place_ax.set_yticks(rows, [LOOKS[method].label for method in numbers["in_place"]])
    place_ax.set(ylim=(-0.6, rows[0] + 0.6), xlabel="units (dotted: chance)")
    place_ax.set_xlim(left=0)
    place_ax.set_title("Units left in their slots")


@takes(loss=holed("loss"))
def draw_halfway(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the straight-through estimator's lowest loss half-way so far, epoch by epoch.

    Numbers: `loss`: of weight matching, then of the best so far after every epoch, in nats unless
    there is a `loss_name`; None where no loss was finite.
    """
    ax = fig.subplots()
    loss, look = losses.values_of(numbers, "loss"), LOOKS["straight_through"]
    start = LOOKS["weight"]
    ax.plot(loss, color=look.colour, drawstyle="steps-post", label=look.label)
    ax.axhline(loss[0], color=start.colour, linewidth=1)
    ax.plot(0, loss[0], start.marker, color=start.colour, markersize=9, label=start.label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    label = losses.label_of("best train loss so far", numbers)
    ax.set(title="Half-way between A and π(B)", xlabel="epochs", ylabel=label)
    if not np.nanmin(loss, initial=0) < 0:
        ax.set_ylim(0, 1.15 * np.nanmax(loss, initial=0) or 1.0)
    ax.legend(loc="lower left")


@takes(
    curves=by_name(
        alone(
            fields(
                lambdas=array("lambdas"),
                train_loss=holed("lambdas"),
                test_loss=holed("lambdas"),
                **LOSS,
            )
        ),
    )
)
def draw_method_lines(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the loss on the line from A to pi(B) by method, in the range of matched lines.

    Numbers: `curves`: method -> one `InterpolationCurve.as_numbers()`; those of "naive" and
    "random" leave the panel at its top.
    """
    axes = fig.subplots(1, 2)
    is_compared = not _CONTROLS.issuperset(numbers["curves"])
    for ax, split, style in zip(axes, ("train", "test"), ("-", "--"), strict=True):
        losses_in_view, lowest = [], np.inf
        for method, curve in numbers["curves"].items():
            look, values = LOOKS[method], losses.values_of(curve, f"{split}_loss")
            ax.plot(
                curve["lambdas"],
                values,
                style,
                marker=look.marker,
                markersize=6,
                markerfacecolor=look.face,
                color=look.colour,
                linewidth=1.2,
                label=look.label,
            )
            # Without any matched line, the controls fill the panel.
            finite = values[np.isfinite(values)].tolist()
            lowest = min([lowest, *finite])
            if method not in _CONTROLS or not is_compared:
                losses_in_view += finite
        if losses_in_view:
            margin = 0.15 * (max(losses_in_view) - lowest)
            bottom = lowest - margin
            ax.set_ylim(bottom if lowest < 0 else max(0, bottom), max(losses_in_view) + margin)
        label_line_ends(ax)
        ax.set_title(f"{split.capitalize()} loss")
    axes[0].set_ylabel(losses.loss_label(*numbers["curves"].values()))
    legend_below(fig, axes[0], most_columns=5)


@takes(
    methods=by_name(alone(fields(cosines=array("pairs"), barriers=array("pairs")))),
    naive=array(),
)
def draw_matchers(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw barriers of all matchers, and the cosine between A and pi(B): a row for each method.

    Numbers: `methods`: method -> {"cosines", "barriers"}, one per pair; `naive`: naive barriers, in
    nats like all of them, unless there is a `loss_name`.
    """
    ax, cosine_ax = fig.subplots(1, 2, sharey=True)
    methods = {"naive": {"barriers": numbers["naive"]}, **numbers["methods"]}
    for row, (method, values) in enumerate(methods.items()):
        _draw_row(ax, row, method, values["barriers"])
        _draw_row(cosine_ax, row, method, values.get("cosines", []))
    ax.set_xscale("log", nonpositive="clip")  # the worse matchers are far off
    losses.label_plainly(ax.xaxis)
    ax.set(title="The barrier it leaves", xlabel=losses.label_of("train loss barrier", numbers))
    cosine_ax.set(title="How near it brings B", xlabel="cosine between A and π(B)")
    cosine_ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    _name_rows(ax, methods)


@takes(
    widths=list_of(real(), "widths", most=MOST_PANELS),
    barriers=by_name(list_of(array(), "widths")),
)
def draw_matchers_by_width(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw barriers of all matchers by width of the networks: a row each, a panel a width.

    Numbers: `widths`; `barriers`: method -> one list for each width, of train barriers in nats,
    unless there is a `loss_name`, one for each pair.
    """
    methods = list(numbers["barriers"])
    axes = fig.subplots(1, len(numbers["widths"]), sharex=True, sharey=True, squeeze=False)[0]
    for index, (ax, width) in enumerate(zip(axes, numbers["widths"], strict=True)):
        for row, method in enumerate(methods):
            _draw_row(ax, row, method, numbers["barriers"][method][index])
        ax.set(title=f"width {width}", xlabel=losses.label_of("train loss barrier", numbers))
        ax.set_xscale("log", nonpositive="clip")  # the worse matchers are far off
        ax.grid(axis="x", alpha=0.3)
    for ax in axes:
        losses.label_plainly(ax.xaxis)
    _name_rows(axes[0], methods)


def _draw_row(ax: Axes, row: int, method: str, values: Sequence[float]) -> None:
    """Draw a marker for each value of a method, and a bar at their mean."""
    look = LOOKS[method]
    ax.plot(
        values,
        [row] * len(values),
        look.marker,
        color=look.colour,
        markerfacecolor=look.face,
        markersize=9 if look.marker == "*" else 6,
        alpha=0.8,
    )
    if values:
        ax.plot([np.mean(values)] * 2, [row - 0.35, row + 0.35], color=look.colour, linewidth=2)


def _name_rows(ax: Axes, methods: Iterable[str]) -> None:
    """Label rows by their methods, from the top."""
    labels = [LOOKS[method].label for method in methods]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)


def show_matrix(ax: Axes, matrix: Any, limit: float) -> Any:
    """Return a matrix in colours symmetric about zero, without ticks."""
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="#999999", linewidth=0.8)
    # An image of zeros would have no scale.
    return ax.imshow(matrix, cmap="PuOr_r", vmin=-limit or -1, vmax=limit or 1)
