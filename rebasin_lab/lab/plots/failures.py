"""Plots of failure modes: barriers that stay, and variance that collapses half-way.

Methods keep the colours and markers of `matching` and `onset`. With re-estimated statistics of
BatchNorm, lines are dashed and markers open; without any statistics, lines are dash-dotted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rebasin_lab.lab.plots import losses
from rebasin_lab.lab.plots.legends import labelled_once, legend_below
from rebasin_lab.lab.plots.matching import LOOKS
from rebasin_lab.lab.plots.results import label_line_ends, plot_pairs
from rebasin_lab.lab.plots.shapes import (
    MOST_LAYERS,
    MOST_NAMES,
    MOST_PANELS,
    alone,
    array,
    by_name,
    fields,
    holed,
    letters,
    list_of,
    one_of,
    place_in,
    takes,
)

STATISTICS = {"averaged": ", averaged statistics", "anew": ", measured anew", "none": ""}
STROKES = {"averaged": "-", "anew": "--", "none": "-."}
LINE = {"method": letters, "statistics": one_of(*STATISTICS)}


@takes(
    recipes=list_of(letters, "recipes", most=MOST_NAMES),
    barriers=by_name(list_of(array(least=0), "recipes")),
    losses=list_of(array(least=0), "recipes"),
    moved=list_of(array(least=0), "recipes"),
)
def draw_recipes(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw barriers that methods leave on networks of several trainings, and how far these went.

    Numbers: `recipes`: names, a comma where a line may end; `barriers`: method -> for each recipe
    one train barrier a pair, in nats; `losses`: for each recipe the train loss of every network, in
    nats; `moved`: for each recipe how far training moved every network, in lengths of its initial
    weights.
    """
    axes = fig.subplots(3, 1, sharex=True, height_ratios=[2.6, 1, 1])
    positions = np.arange(len(numbers["recipes"]))
    shifts = np.linspace(-0.27, 0.27, len(numbers["barriers"]))
    for shift, (method, by_recipe) in zip(shifts, numbers["barriers"].items(), strict=True):
        look = LOOKS[method]
        for position, barriers in zip(positions, by_recipe, strict=True):
            axes[0].plot(
                [position + shift] * len(barriers),
                barriers,
                look.marker,
                color=look.colour,
                markerfacecolor=look.face,
                markersize=9 if look.marker == "*" else 6,
                label=look.label if position == 0 else None,
            )
    for ax, name in zip(axes[1:], ("losses", "moved"), strict=True):
        for position, values in zip(positions, numbers[name], strict=True):
            ax.plot([position] * len(values), values, "_", color="black", markersize=18)
    for ax, steps in zip(axes, ((1,), (1,), (1, 2, 5)), strict=True):
        ax.set_yscale("log", nonpositive="clip")
        ax.yaxis.set_major_locator(LogLocator(subs=steps))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        for border in positions[:-1] + 0.5:
            ax.axvline(border, color="0.85", linewidth=0.8, zorder=0)
    barrier, loss = (
        losses.label_of(what, numbers, unit="\n(nats)")
        for what in ("train loss barrier", "train loss")
    )
    axes[0].set(ylabel=barrier, xlim=(-0.5, positions[-1] + 0.5))
    axes[1].set_ylabel(loss)
    axes[2].set_ylabel("moved, in\ninitial lengths")
    axes[2].set_xticks(positions, [name.replace(", ", "\n") for name in numbers["recipes"]])
    legend_below(fig, axes[0], most_columns=len(shifts))


@takes(
    panels=list_of(
        alone(
            fields(
                title=letters,
                layers=list_of(letters, "layers", most=MOST_LAYERS),
                lines=list_of(fields(**LINE, values=list_of(array("layers"))), most=MOST_NAMES),
            )
        ),
        most=MOST_PANELS,
    )
)
def draw_collapse(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the standard deviation of units, half-way / ends, by layer: a panel each network.

    Numbers: `panels`: list of {"title", "layers", "lines"}; `layers`: names, in computing order;
    `lines`: list of {"method", "statistics", "values"}, with `statistics` a key of `STATISTICS` and
    `values` one list over layers for each pair.
    """
    axes = fig.subplots(1, len(numbers["panels"]), sharey=True, squeeze=False)[0]
    for ax, panel in zip(axes, numbers["panels"], strict=True):
        depths = np.arange(1, len(panel["layers"]) + 1)
        for line in panel["lines"]:
            _plot_line(ax, depths, line)
        _mark_ends(ax)
        ax.set_xticks(depths, panel["layers"], rotation=90, fontsize=8)
        ax.set(title=panel["title"], xlabel="what each layer reads")
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("standard deviation, half-way / ends")
    _legend_in_two_rows(fig, axes)


@takes(
    lambdas=array("lambdas"),
    panels=list_of(
        fields(
            title=letters,
            ylabel=letters,
            lines=list_of(fields(**LINE, values=list_of(array("lambdas"))), most=MOST_NAMES),
        ),
        most=MOST_PANELS,
    ),
)
def draw_mended_lines(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw a metric on the line between two networks, with statistics averaged or re-estimated.

    Numbers: `lambdas`; `panels`: list of {"title", "ylabel", "lines"}, as in `draw_collapse`, with
    values over lambdas.
    """
    axes = fig.subplots(1, len(numbers["panels"]), squeeze=False)[0]
    for ax, panel in zip(axes, numbers["panels"], strict=True):
        for line in panel["lines"]:
            _plot_line(ax, numbers["lambdas"], line)
        label_line_ends(ax)
        ax.set(title=panel["title"], ylabel=panel["ylabel"])
    _legend_in_two_rows(fig, axes)


@takes(
    lambdas=array("lambdas"),
    stop=place_in("lambdas"),
    layers=list_of(letters, "layers", most=MOST_LAYERS),
    lines=list_of(fields(**LINE, loss=holed("lambdas"), spread=array("layers")), most=MOST_NAMES),
)
def draw_line_stop(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw one stop on the line: the loss there, and the standard deviation of every layer.

    Numbers: `lambdas`; `stop`: which of them; `layers`; `lines`: list of {"method", "statistics",
    "loss", "spread"}: over lambdas, and over layers at the stop.
    """
    ax, spread_ax = fig.subplots(1, 2)
    lambdas, stop = numbers["lambdas"], numbers["stop"]
    depths = np.arange(1, len(numbers["layers"]) + 1)
    for line in numbers["lines"]:
        style, marks = _style(line)
        ax.plot(lambdas, line["loss"], **style)
        ax.plot(lambdas[stop], line["loss"][stop], **style, **(marks | {"markersize": 9}))
        label = LOOKS[line["method"]].label + STATISTICS[line["statistics"]]
        spread_ax.plot(depths, line["spread"], **style, **marks, label=label)
    label_line_ends(ax)
    label = losses.label_of("test loss", numbers)
    ax.set(title=f"λ = {lambdas[stop]:.2f}", ylabel=label)
    losses.start_at_zero(ax)
    _mark_ends(spread_ax)
    spread_ax.set_xticks(depths, numbers["layers"], rotation=90, fontsize=8)
    spread_ax.set(title="How varied units are there", ylabel="standard deviation / ends")
    spread_ax.set_ylim(0, 1.3)
    _legend_in_two_rows(fig, [spread_ax])


def _plot_line(ax: Axes, xs: Sequence[float] | np.ndarray, line: Mapping[str, Any]) -> None:
    style, marks = _style(line)
    label = LOOKS[line["method"]].label + STATISTICS[line["statistics"]]
    plot_pairs(ax, xs, line["values"], style.pop("linestyle"), label=label, **style, **marks)


def _style(line: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    look, statistics = LOOKS[line["method"]], line["statistics"]
    face = "white" if statistics == "anew" else look.colour
    return (
        {"color": look.colour, "linestyle": STROKES[statistics]},
        {"marker": look.marker, "markersize": 6, "markerfacecolor": face},
    )


def _mark_ends(ax: Axes) -> None:
    ax.axhline(1, color="black", linestyle=":", linewidth=1, zorder=0)


def _legend_in_two_rows(fig: Figure, axes: Sequence[Axes] | np.ndarray) -> None:
    num_labels = len(labelled_once(*axes)[1])
    legend_below(fig, axes, most_columns=(num_labels + 1) // 2)
