"""Plots of failure modes: barriers that stay, and variance that collapses half-way.

Methods keep the colours and markers of `matching`. Where running statistics of BatchNorm were
averaged like weights, lines are thin and pale; where they were measured anew, or there are none,
they are full. Dashed means test images, as everywhere.
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
    optional,
    place_in,
    real,
    takes,
)

STATISTICS = {"averaged": ", averaged statistics", "anew": ", measured anew", "none": ""}
# Of a figure with both kinds, which look alike.
BOTH = STATISTICS | dict.fromkeys(("anew", "none"), ", measured anew or none")
PALE = {"alpha": 0.45, "linewidth": 1.2, "markersize": 5}  # averaged
FULL = {"alpha": 1.0, "linewidth": 2.0, "markersize": 7}
FEW_LAYERS = 8  # whose names have room side by side
LINE = {"method": letters, "statistics": one_of(*STATISTICS)}


@takes(
    recipes=list_of(letters, "recipes", most=MOST_NAMES),
    barriers=by_name(list_of(array(least=0), "recipes")),
    moved=list_of(array(least=0), "recipes"),
)
def draw_recipes(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw barriers that methods leave on networks of several trainings, and how far these went.

    Numbers: `recipes`: names, a comma where a line may end; `barriers`: method -> for each recipe
    one train barrier a pair, in nats; `moved`: for each recipe how far training moved every
    network, in lengths of its initial weights.
    """
    axes = fig.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
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
    for position, values in zip(positions, numbers["moved"], strict=True):
        axes[1].plot([position] * len(values), values, "_", color="black", markersize=18)
    for ax, steps in zip(axes, ((1,), (1, 2, 5)), strict=True):
        ax.set_yscale("log", nonpositive="clip")
        ax.yaxis.set_major_locator(LogLocator(subs=steps))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        for border in positions[:-1] + 0.5:
            ax.axvline(border, color="0.85", linewidth=0.8, zorder=0)
    barrier = losses.label_of("train loss barrier", numbers)
    axes[0].set(ylabel=barrier, xlim=(-0.5, positions[-1] + 0.5))
    axes[1].set_ylabel("weights moved,\nin initial lengths")
    axes[1].set_xticks(positions, [name.replace(", ", "\n") for name in numbers["recipes"]])
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
    kinds = {line["statistics"] for panel in numbers["panels"] for line in panel["lines"]}
    endings = BOTH if {"anew", "none"} <= kinds else STATISTICS
    for ax, panel in zip(axes, numbers["panels"], strict=True):
        depths = np.arange(1, len(panel["layers"]) + 1)
        for line in panel["lines"]:
            _plot_line(ax, depths, line, "-", endings)
        _mark_ends(ax)
        _label_layers(ax, panel["layers"])
        ax.set(title=panel["title"], xlabel="what each layer reads")
    # Room for the uppermost marker; all panels share the axis.
    axes[0].set_ylim(0, 1.06 * max(1, *(ax.dataLim.ymax for ax in axes)))
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
    values over lambdas, on test images.
    """
    axes = fig.subplots(1, len(numbers["panels"]), squeeze=False)[0]
    for ax, panel in zip(axes, numbers["panels"], strict=True):
        for line in panel["lines"]:
            _plot_line(ax, numbers["lambdas"], line, "--")
        label_line_ends(ax)
        ax.set(title=panel["title"], ylabel=panel["ylabel"])
    _legend_in_two_rows(fig, axes)


@takes(
    lambdas=array("lambdas"),
    stop=place_in("lambdas"),
    layers=list_of(letters, "layers", most=MOST_LAYERS),
    lines=list_of(fields(**LINE, loss=holed("lambdas"), spread=array("layers")), most=MOST_NAMES),
    most_loss=optional(real(0)),
    most_spread=optional(real(0)),
)
def draw_line_stop(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw one stop on the line: the loss there, and the standard deviation of every layer.

    Numbers: `lambdas`; `stop`: which of them; `layers`; `lines`: list of {"method", "statistics",
    "loss", "spread"}: on test images over lambdas, and over layers at the stop; `most_loss` and
    `most_spread`: the ends of both axes, which stand still while a dial moves.
    """
    ax, spread_ax = fig.subplots(1, 2)
    lambdas, stop = numbers["lambdas"], numbers["stop"]
    depths = np.arange(1, len(numbers["layers"]) + 1)
    for line in numbers["lines"]:
        style = _style(line)
        ax.plot(lambdas, line["loss"], "--", **(style | {"marker": "None"}))
        ax.plot(lambdas[stop], line["loss"][stop], **(style | {"markersize": 9}))
        label = LOOKS[line["method"]].label + STATISTICS[line["statistics"]]
        spread_ax.plot(depths, line["spread"], "-", **style, label=label)
    label_line_ends(ax)
    label = losses.label_of("test loss", numbers)
    ax.set(title="Loss on the line", ylabel=label)
    losses.start_at_zero(ax)
    if "most_loss" in numbers:
        ax.set_ylim(top=1.05 * numbers["most_loss"])
    _mark_ends(spread_ax)
    _label_layers(spread_ax, numbers["layers"])
    spread_ax.set(title="How varied units are there", ylabel="standard deviation / ends")
    spread_ax.set_ylim(0, 1.05 * numbers.get("most_spread", 1.25))
    _legend_in_two_rows(fig, [spread_ax])


def _plot_line(
    ax: Axes,
    xs: Sequence[float] | np.ndarray,
    line: Mapping[str, Any],
    stroke: str,
    endings: Mapping[str, str] = STATISTICS,
) -> None:
    label = LOOKS[line["method"]].label + endings[line["statistics"]]
    plot_pairs(ax, xs, line["values"], stroke, label=label, **_style(line))


def _style(line: Mapping[str, Any]) -> dict[str, Any]:
    look = LOOKS[line["method"]]
    marks = {"color": look.colour, "marker": look.marker, "markerfacecolor": look.face}
    return marks | (PALE if line["statistics"] == "averaged" else FULL)


def _mark_ends(ax: Axes) -> None:
    ax.axhline(1, color="0.6", linewidth=1, zorder=0)


def _label_layers(ax: Axes, layers: Sequence[str]) -> None:
    """Label few layers across, in two lines each, and many upright."""
    depths = np.arange(1, len(layers) + 1)
    if len(layers) <= FEW_LAYERS:
        ax.set_xticks(depths, [layer.replace(", ", "\n") for layer in layers], fontsize=8)
    else:
        ax.set_xticks(depths, layers, rotation=90, fontsize=8)


def _legend_in_two_rows(fig: Figure, axes: Sequence[Axes] | np.ndarray) -> None:
    num_labels = len(labelled_once(*axes)[1])
    legend_below(fig, axes, most_columns=(num_labels + 1) // 2)
