"""Plots of merging: the data of each model, the climb of MergeMany, the number of models.

Names keep their looks of `calibration`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from rebasin_lab.lab.plots.calibration import BINS, LOG_SPAN, looks_of, marks_of, plot_reliability
from rebasin_lab.lab.plots.legends import legend_below
from rebasin_lab.lab.plots.matching import Look
from rebasin_lab.lab.plots.results import COLOURS
from rebasin_lab.lab.plots.shapes import (
    MOST_ITEMS,
    MOST_LAYERS,
    MOST_PANELS,
    Met,
    alone,
    array,
    by_name,
    fields,
    letters,
    list_of,
    one_met,
    optional,
    or_none,
    place_in,
    real,
    takes,
    whole,
)
from rebasin_lab.matching import Matcher

MOST_NAMED_CLASSES = 20
SEARCH_LOOKS = (
    {"color": COLOURS["weight matching"], "marker": "^"},
    {"color": "#000000", "marker": "s"},
)
LAST_PART = 0.05  # of a climb, which looks flat beside the whole
CLASSES = {
    "classes": list_of(letters, "classes", most=MOST_LAYERS),
    "counts": fields(**dict.fromkeys("AB", list_of(whole(high=10**12), "classes"))),
}
PANEL = fields(
    title=letters, ylabel=letters, curves=by_name(array("counts")), limit=or_none(real())
)


def edges(value: Any, where: str, met: Met) -> list[float | int]:
    """Return the shape of the edges of bins, one more than these."""
    return array(met["bins"] + 1)(value, where, met)


@takes(**CLASSES)
def draw_class_counts(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the number of training images of each class for A and for B, one on the other.

    Numbers: `classes`: names; `counts`: "A" and "B" -> one number a class.
    """
    _draw_class_counts(fig.subplots(), numbers)
    fig.legend(loc="outside lower center", ncols=2)


@takes(
    **CLASSES,
    minorities=array("minorities"),
    index=place_in("minorities"),
    curves=by_name(fields(accuracy=array("minorities"))),
)
def draw_minorities(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw data split more or less evenly between A and B, and what is merged from it.

    Numbers: `classes` and `counts` as in `draw_class_counts`; `minorities`: in % of the images of a
    rare class; `index`: that of the counts; `curves`: name -> {"accuracy"} in %, a value for each
    minority.
    """
    counts_ax, accuracy_ax = fig.subplots(1, 2)
    _draw_class_counts(counts_ax, numbers)
    counts_ax.set_ylim(top=1.3 * counts_ax.get_ylim()[1])  # for the legend
    counts_ax.legend(fontsize=8, ncols=2, loc="upper center")
    shares, here = numbers["minorities"], numbers["minorities"][numbers["index"]]
    accuracy_ax.axvline(here, color="#cccccc", linewidth=8, zorder=0)
    for name, look in looks_of(numbers["curves"]).items():
        values = numbers["curves"][name]["accuracy"]
        accuracy_ax.plot(shares, values, "--", lw=1.4, label=name, **marks_of(look))
    accuracy_ax.set(xlabel="images of a rare class (%)", ylabel="test accuracy (%)")
    accuracy_ax.set_title("Half-way")
    legend_below(fig, accuracy_ax)


@takes(
    lambdas=array("lambdas"),
    lines=by_name(fields(loss=array("lambdas")), names="lines"),
    method=one_met("lines"),
    index=place_in("lambdas"),
    loss=real(),
    most_loss=optional(real()),
    reliability=fields(**BINS, edges=edges),
)
def draw_line_reliability(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw a model on the line from A to B: its loss among those of all, and its reliability.

    Numbers: `lambdas`; `lines`: method -> {"loss"} in nats, a value a lambda; `method` and
    `index`: which model; `loss`: its own, perhaps at another temperature; `most_loss`: the end of
    the axis, which stands still while a dial moves; `reliability`: of its top class,
    `Reliability.as_numbers()`.
    """
    loss_ax, sure_ax = fig.subplots(1, 2, width_ratios=[1.4, 1])
    looks, lambdas = looks_of(numbers["lines"]), numbers["lambdas"]
    for name, line in numbers["lines"].items():
        is_shown = name == numbers["method"]
        width, alpha = (2.4, 1.0) if is_shown else (1.0, 0.5)
        marks = marks_of(looks[name]) | {"markersize": 4}
        loss_ax.plot(lambdas, line["loss"], "--", label=name, lw=width, alpha=alpha, **marks)
        if is_shown:
            here = {"marker": "o", "color": marks["color"], "markersize": 9}
            loss_ax.plot(lambdas[numbers["index"]], numbers["loss"], **here)
    loss_ax.set_xticks([0, 0.5, 1], ["Model A", "0.5", "Model B"])
    loss_ax.set_ylabel("test loss (nats)")
    if "most_loss" in numbers:
        loss_ax.set_ylim(0, 1.05 * numbers["most_loss"])
    curve, colour = numbers["reliability"], looks[numbers["method"]].colour
    frequency = np.array(curve["frequency"], float)  # None, for a bin without images, is NaN
    sure_ax.stairs(np.nan_to_num(frequency), curve["edges"], fill=True, color=colour, alpha=0.35)
    _draw_reliability(sure_ax, curve, Look("", colour, "o"), linestyle="")
    legend_below(fig, loss_ax, most_columns=4)


@takes(
    searches=by_name(
        alone(fields(visits=list_of(whole(0, MOST_ITEMS), "visits"), objective=array("visits"))),
        most=len(SEARCH_LOOKS),
    ),
    levels=by_name(real(), least=0),
    visits_per_round=whole(1),
)
def draw_merge_objective(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the mean inner product of two models while MergeMany runs, visit by visit.

    Numbers: `searches`: name -> {"visits", "objective"}, two at most; `levels`: name -> a value to
    compare with; `visits_per_round`.
    """
    axes = fig.subplots(1, 2)
    searches, last_visit = numbers["searches"], 0
    for (name, search), look in zip(searches.items(), SEARCH_LOOKS, strict=False):
        last_visit = max(last_visit, search["visits"][-1])
        for ax in axes:
            ax.plot(search["visits"], search["objective"], **look, markevery=[-1], label=name)
    for ax in axes:
        for name, value in numbers["levels"].items():
            ax.axhline(value, color="#999999", linewidth=1.2, label=name)
        for visit in range(0, last_visit + 1, numbers["visits_per_round"]):
            ax.axvline(visit, color="#dddddd", linewidth=0.6, zorder=0)
        ax.set_xlabel("visits of a model (a grey line per round)")
    start, highest = (
        min(search["objective"][0] for search in searches.values()),
        max(search["objective"][-1] for search in searches.values()),
    )
    axes[0].set(title="The climb", ylabel="mean inner product of two models")
    axes[1].set(title=f"Its last {100 * LAST_PART:.0f} %")
    if highest > start:
        margin = LAST_PART * (highest - start)
        axes[1].set_ylim(highest - margin, highest + margin / 10)
    legend_below(fig, axes[0])


@takes(counts=list_of(whole(), "counts"), panels=list_of(PANEL, most=MOST_PANELS))
def draw_merged_by_number(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw metrics of test images against the number of models in a merged one.

    Numbers: `counts`: of models; `panels`: list of {"title", "ylabel", "curves"}; `curves`: name ->
    one value for each count; `limit`: of a panel, above which it is cut off, unless it is None.
    """
    axes = fig.subplots(1, len(numbers["panels"]), squeeze=False)[0]
    for ax, panel in zip(axes, numbers["panels"], strict=True):
        _draw_by_number(ax, numbers["counts"], panel)
    legend_below(fig, axes[0])


@takes(
    counts=list_of(whole(), "counts"),
    panel=PANEL,
    number=whole(),
    reliability=by_name(alone(fields(**BINS))),
    title=letters,
)
def draw_merged_number(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw one metric by number of models, and reliability curves for one of these numbers.

    Numbers: `counts` and `panel` as in `draw_merged_by_number`; `number`: the one shown;
    `reliability`: name -> `Reliability.as_numbers()` for that many; `title`: of these.
    """
    ax, sure_ax = fig.subplots(1, 2)
    ax.axvline(numbers["number"], color="#cccccc", linewidth=8, zorder=0)
    _draw_by_number(ax, numbers["counts"], numbers["panel"])
    looks = looks_of([*numbers["panel"]["curves"], *numbers["reliability"]])
    for name, curve in numbers["reliability"].items():
        _draw_reliability(sure_ax, curve, looks[name])
    sure_ax.set_title(numbers["title"])
    legend_below(fig, ax)


@takes(
    xlabel=letters,
    x=array("x"),
    curves=by_name(array("x")),
    index=or_none(place_in("x")),
)
def draw_merge_efforts(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the accuracy of merged networks by what was spent on them.

    Numbers: `x`: what was spent, called `xlabel`; `curves`: name -> test accuracy in %, a value for
    each; `index`: which of them is marked, if any.
    """
    ax, x = fig.subplots(), numbers["x"]
    if max(x) > LOG_SPAN * min(x) > 0:
        ax.set_xscale("log")
    if numbers["index"] is not None:
        ax.axvline(x[numbers["index"]], color="#cccccc", linewidth=8, zorder=0)
    for name, look in looks_of(numbers["curves"]).items():
        values = numbers["curves"][name]
        ax.plot(x, values, "--", linewidth=1.4, label=name, **marks_of(look))
        for place, value in zip(x, values, strict=True):
            beside = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            ax.annotate(f"{value:.1f}", (place, value), fontsize=8, **beside)
    ax.set_xticks(x, [f"{one:,g}" for one in x], minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(y=0.15)
    ax.set(xlabel=numbers["xlabel"], ylabel="test accuracy (%)")
    legend_below(fig, ax)


def _draw_class_counts(ax: Axes, numbers: Mapping[str, Any]) -> None:
    places, below = np.arange(len(numbers["classes"])), np.zeros(len(numbers["classes"]))
    for name, hatch in (("A", ""), ("B", "//")):
        counts = np.array(numbers["counts"][name])
        label = f"{name}: {counts.sum():,} images"
        bars = {"color": COLOURS[name], "hatch": hatch, "edgecolor": "white", "linewidth": 0}
        ax.bar(places, counts, 0.8, below, label=label, **bars)
        below += counts
    if len(places) <= MOST_NAMED_CLASSES:
        ax.set_xticks(places, numbers["classes"])
    ax.set(title="Who has seen what", xlabel="class", ylabel="training images")


def _draw_by_number(ax: Axes, counts: Sequence[int], panel: Mapping[str, Any]) -> None:
    for name, look in looks_of(panel["curves"]).items():
        values = panel["curves"][name]
        ax.plot(counts, values, "--", linewidth=1.4, label=name, **marks_of(look))
    if panel["limit"] is not None:
        lowest = min(map(min, panel["curves"].values()))
        ax.set_ylim(lowest - 0.05 * (panel["limit"] - lowest), panel["limit"])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(title=panel["title"], xlabel="number of models", ylabel=panel["ylabel"])


def _draw_reliability(
    ax: Axes, curve: Mapping[str, Any], look: Look | Matcher, **marks: Any
) -> None:
    ax.plot([0, 1], [0, 1], color="#999999", linewidth=1, zorder=1)
    plot_reliability(ax, curve, look, **marks)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="observed frequency")
