"""Plots of barriers by the epoch of training, and by the width of the networks.

Methods look as they do where matchers are compared. One thin line or small marker is one pair of
networks, a thick line their mean; train is solid, test dashed. Barriers have a logarithmic axis,
which ends at `FLOOR`: lower ones are drawn there.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from rebasin_lab.lab.plots import losses
from rebasin_lab.lab.plots.legends import legend_below
from rebasin_lab.lab.plots.matching import LOOKS, Look
from rebasin_lab.lab.plots.results import CURVES, plot_pairs
from rebasin_lab.lab.plots.shapes import (
    MOST_NAMES,
    MOST_PANELS,
    array,
    by_name,
    fields,
    letters,
    list_of,
    optional,
    or_none,
    real,
    takes,
    whole,
)
from rebasin_lab.matching import Matcher

STYLES = {"train": "-", "test": "--"}
FLOOR = 1e-3  # nats
LONG = 3  # handles in which a dashed line looks dashed
SHADES = ("#1B1B3A", "#6C5B9E", "#B7A6D9")  # of layers
TICKS = (0, 1, 2, 5, 10, 20, 50, 100)  # epochs


@takes(
    epochs=list_of(whole(), "epochs"),
    barriers=by_name(by_name(list_of(array("epochs")), STYLES, names="splits")),
    lines=list_of(fields(title=letters, curves=by_name(CURVES)), least=0, most=MOST_PANELS),
    marked=or_none(real()),
    most_loss=optional(real()),
)
def draw_onset(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw barriers of pairs of networks by their epoch, and the lines at some epochs.

    Numbers: `epochs`; `barriers`: method -> split -> for each pair one barrier an epoch, in nats,
    unless there is a `loss_name`;
    `lines`: list of {"title", "curves"}, the latter method -> `InterpolationCurve.as_numbers()` of
    each pair, drawn for the splits of `barriers`; `marked`: an epoch to mark, or None; `most_loss`:
    the end of the axes, which stand still while a dial moves.
    """
    lines, epochs = numbers["lines"], np.asarray(numbers["epochs"])
    ratios = [1.6, *[1] * len(lines)]
    ax, *line_axes = fig.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    # Epoch 0 stands on the axis, but on no line: untrained networks have no barrier to lose.
    trained = epochs >= 1
    for method, by_split in numbers["barriers"].items():
        look = LOOKS[method]
        for split, barriers in by_split.items():
            style = STYLES[split] if len(by_split) > 1 else "-"
            heights = np.maximum(barriers, FLOOR)
            mean = heights.mean(axis=0)
            label = f"{look.label}, {split}" if len(by_split) > 1 else look.label
            marks = {"color": look.colour, "marker": look.marker, "markersize": 5}
            marks |= {"markerfacecolor": look.face}
            plot_pairs(ax, epochs[trained], heights[:, trained], style, label=label, **marks)
            ax.plot(epochs[~trained], mean[~trained], linestyle="none", **marks)
    if numbers["marked"] is not None:
        ax.axvline(numbers["marked"], color="#cccccc", linewidth=4, zorder=0)
    _label_epochs(ax, epochs)
    splits = next(iter(numbers["barriers"].values()))
    what = "loss" if len(splits) > 1 else f"{next(iter(splits))} loss"
    label = losses.label_of(f"{what} barrier", numbers)
    ax.set(title="Barrier by epoch", ylabel=label, yscale="log")
    if "most_loss" in numbers:
        ax.set_ylim(0.8 * FLOOR, 1.2 * numbers["most_loss"])
    losses.label_plainly(ax.yaxis)
    for line_ax, panel in zip(line_axes, lines, strict=True):
        for method, curves in panel["curves"].items():
            for split in splits:
                style = STYLES[split] if len(splits) > 1 else "-"
                _draw_lines(line_ax, method, curves, f"{split}_loss", style=style)
        panel_curves = itertools.chain(*panel["curves"].values())
        line_ax.set(title=panel["title"], ylabel=losses.loss_label(*panel_curves))
        losses.start_at_zero(line_ax)
        if "most_loss" in numbers:
            line_ax.set_ylim(0, 1.05 * numbers["most_loss"])
    legend_below(fig, ax, handlelength=LONG)


@takes(curves=by_name(CURVES), chance=real())
def draw_untrained_lines(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw test loss and accuracy on the line between networks that are not trained yet.

    Numbers: `curves`: method -> `InterpolationCurve.as_numbers()` of each pair; `chance`: the
    accuracy of guessing.
    """
    loss_ax, accuracy_ax = fig.subplots(1, 2)
    for method, curves in numbers["curves"].items():
        _draw_lines(loss_ax, method, curves, "test_loss", style="--")
        _draw_lines(accuracy_ax, method, curves, "test_accuracy", style="--", scale=100)
    accuracy_ax.axhline(100 * numbers["chance"], color="#cccccc", linewidth=1, label="chance")
    label = losses.loss_label(*itertools.chain(*numbers["curves"].values()))
    loss_ax.set(title="Test loss before any training", ylabel=label)
    accuracy_ax.set(title="Test accuracy", ylabel="accuracy (%)")
    accuracy_ax.set_ylim(bottom=0)
    legend_below(fig, (loss_ax, accuracy_ax), handlelength=LONG)


@takes(
    epochs=list_of(whole(), "epochs"),
    shares=by_name(list_of(array("epochs"))),
    chance=real(),
    cosines=by_name(list_of(array("epochs"))),
)
def draw_partners(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the number of units with their final partner, and B's distance, by epoch.

    Numbers: `epochs`; `shares`: layer -> for each pair one fraction an epoch, of which the last,
    one by definition, is not drawn; `chance`: the fraction to be expected of a random order;
    `cosines`: method -> for each pair the cosine between A and pi(B), an epoch each.
    """
    share_ax, cosine_ax = fig.subplots(1, 2)
    epochs = numbers["epochs"]
    early = slice(0, max(len(epochs) - 1, 1))
    for index, (layer, shares) in enumerate(numbers["shares"].items()):
        marks = {"color": SHADES[index % 3], "marker": "osX"[index % 3], "markersize": 5}
        means = 100 * np.mean(shares, axis=0)
        share_ax.plot(epochs[early], means[early], label=layer, **marks)
    share_ax.axhline(100 * numbers["chance"], color="#cccccc", linewidth=1, label="chance")
    share_ax.set(title="Units that have met their last partner", ylabel="units (%)")
    for method, cosines in numbers["cosines"].items():
        look = LOOKS[method]
        marks = {"color": look.colour, "marker": look.marker, "markerfacecolor": look.face}
        cosine_ax.plot(
            epochs, np.mean(cosines, axis=0), label=look.label, zorder=3, markersize=5, **marks
        )
    cosine_ax.set(title="How near B comes", ylabel="cosine between A and π(B)")
    cosine_ax.set_ylim(bottom=min(0, *cosine_ax.get_ylim()))
    for ax in (share_ax, cosine_ax):
        _label_epochs(ax, epochs)
        ax.legend(loc="best" if ax is cosine_ax else "upper left")


@takes(
    widths=list_of(real(2.0**-30), "widths", most=MOST_NAMES),
    names=list_of(letters, "widths"),
    xlabel=letters,
    barriers=by_name(list_of(array(least=0), "widths")),
)
def draw_widths(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw train barriers by width, and the share of them that matching leaves.

    Numbers: `widths`; `names`: of these; `xlabel`; `barriers`: method -> for each width one train
    barrier a pair, in nats; an empty list is a width at which a method was not tried.
    """
    ax, share_ax = fig.subplots(1, 2, width_ratios=[1.2, 1])
    widths, barriers, lines = numbers["widths"], numbers["barriers"], {}
    for method, by_width in barriers.items():
        heights = [np.maximum(b, FLOOR) for b in by_width]
        lines[method] = _draw_by_width(ax, LOOKS[method], widths, heights)
        if method not in ("naive", "random"):
            before = zip(by_width, barriers["naive"], strict=True)
            with np.errstate(divide="ignore", invalid="ignore"):  # nothing to take away: no share
                shares = [100 * np.maximum(np.divide(*both), FLOOR) for both in before]
            _draw_by_width(share_ax, LOOKS[method], widths, shares)
    label = losses.label_of("train loss barrier", numbers)
    ax.set(title="Barrier by width", ylabel=label, yscale="log")
    share_ax.set(title="Matched / naive", ylabel="barrier that is left (%)", yscale="log")
    losses.label_plainly(share_ax.yaxis)
    losses.label_plainly(ax.yaxis)
    for each in (ax, share_ax):
        each.set_xscale("log", base=2)
        each.set_xticks(widths, numbers["names"])
        each.xaxis.set_minor_locator(NullLocator())
        each.set_xlabel(numbers["xlabel"])
    legend_below(fig, ax, handlelength=LONG)
    for method, line in lines.items():  # in the legend stands its marker, too
        line.set_label(LOOKS[method].label)


def _draw_by_width(
    ax: Axes,
    look: Look | Matcher,
    widths: Sequence[float | int],
    values: Sequence[Sequence[float] | np.ndarray],
) -> Line2D:
    """Draw a marker for every value, and return a line through the means."""
    tried = [
        (width, heights) for width, heights in zip(widths, values, strict=True) if len(heights)
    ]
    marks = {"color": look.colour, "markerfacecolor": look.face}
    # An open marker shows around one that lies in the same place.
    marks["markersize"] = 9 if look.is_open else 5
    for width, heights in tried:
        ax.plot([width] * len(heights), heights, look.marker, alpha=0.7, **marks)
    means = [np.mean(heights) for _, heights in tried]
    (line,) = ax.plot([width for width, _ in tried], means, color=look.colour)
    # Only for the legend: the marker of a pair, and the line if there is one.
    style = look.marker + ("-" if len(tried) > 1 else "")
    ax.plot([], [], style, label=look.label, **marks)
    return line


def _draw_lines(
    ax: Axes,
    method: str,
    curves: Sequence[Mapping[str, Any]],
    field: str,
    *,
    style: str = "-",
    scale: float | int = 1,
) -> None:
    look = LOOKS[method]
    values = [scale * losses.values_of(curve, field) for curve in curves]
    marks = {"color": look.colour, "marker": look.marker, "markersize": 4}
    marks |= {"markerfacecolor": look.face, "label": look.label}
    plot_pairs(ax, curves[0]["lambdas"], values, style, **marks)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["A", "", "0.5", "", "B"])
    ax.set_xlim(-0.04, 1.04)


def _label_epochs(ax: Axes, epochs: Sequence[int] | np.ndarray) -> None:
    """Set a logarithmic axis, with room for epoch 0 if it is there."""
    first, last = min(epochs), max(epochs)
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ticks = [tick for tick in TICKS if first <= tick and 1.4 * tick <= last]
    ax.set_xticks([*ticks, last], [str(tick) for tick in (*ticks, last)])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(first - 0.2, 1.15 * last)
    ax.set_xlabel("epoch")
