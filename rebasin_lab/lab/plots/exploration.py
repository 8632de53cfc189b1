"""Plots of the explorer, of one pair of networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rebasin_lab.lab.plots import losses
from rebasin_lab.lab.plots.legends import legend_below
from rebasin_lab.lab.plots.matching import LOOKS, show_matrix
from rebasin_lab.lab.plots.results import label_line_ends
from rebasin_lab.lab.plots.shapes import (
    LOSS,
    MOST_LAYERS,
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
    takes,
    whole,
)

STYLES = {"train": "-", "test": "--"}
METRICS = ("loss", "accuracy")
VALUES = {f"{split}_{metric}": optional(holed("lambdas")) for split in STYLES for metric in METRICS}


_CURVES = by_name(alone(fields(lambdas=array("lambdas"), **VALUES, **LOSS)))


@takes(
    metric=one_of(*METRICS),
    splits=list_of(one_of(*STYLES), most=len(STYLES)),
    curves=_CURVES,
    title=optional(letters),
    pinned=optional(fields(title=letters, curves=_CURVES)),
)
def draw_explored_lines(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw loss or accuracy on the line from A to B, for B as each method permutes it.

    Numbers: `curves`: method -> one `InterpolationCurve.as_numbers()`; `metric`: "loss" or
    "accuracy"; `splits`: of "train" and "test"; `pinned`: `curves` of another pair, on a panel of
    its own, the first, with the same axis, and its `title`. Methods without any value are left out.
    """
    shown = [*([numbers["pinned"]] if "pinned" in numbers else []), numbers]
    axes = fig.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, one in zip(axes, shown, strict=True):
        _draw_lines(ax, one["curves"], numbers["metric"], numbers["splits"])
        if "title" in one:
            ax.set_title(one["title"])
        label_line_ends(ax)
    curves = [curve for one in shown for curve in one["curves"].values()]
    is_loss = numbers["metric"] == "loss"
    axes[0].set_ylabel(losses.loss_label(*curves) if is_loss else "accuracy (%)")
    legend_below(fig, axes, most_columns=2, handlelength=4)  # or a dash hides behind its marker


def _draw_lines(
    ax: Axes, curves: Mapping[str, Mapping[str, Any]], metric: str, splits: Sequence[str]
) -> None:
    scale = 100 if metric == "accuracy" else 1
    for split in splits:
        for method, curve in curves.items():
            if (field := f"{split}_{metric}") not in curve:
                raise ValueError(f"Expected 'numbers/curves/{method}' to have '{field}'")
            look, values = LOOKS[method], scale * losses.values_of(curve, field)
            if not np.isfinite(values).any():
                continue
            ax.plot(
                curve["lambdas"],
                values,
                STYLES[split],
                marker=look.marker,
                markersize=5,
                markerfacecolor=look.face,
                color=look.colour,
                label=f"{look.label}, {split}",
            )


@takes(
    after=array("units", "units"),
    before=array("units", "others"),
    partners=list_of(place_in("others"), "units"),
    num_units=whole(),
)
def draw_unit_order(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the similarity of units of A and B, in B's own order and in A's.

    Numbers: `before` and `after`: cosine similarities, rows are units of A; `partners`: of each
    row, the column of its partner before; `num_units`: of the layer.
    """
    before, after = np.array(numbers["before"]), np.array(numbers["after"])
    limit = float(np.abs(after).max())
    rows = np.arange(len(after))
    axes = fig.subplots(1, 2)
    for ax, matrix, columns, title in zip(
        axes,
        (before, after),
        (numbers["partners"], rows),
        ("B in its own order", "B in the order of A"),
        strict=True,
    ):
        shown = show_matrix(ax, matrix, limit)
        ax.plot(columns, rows, "o", markersize=6, markerfacecolor="none", color="#000000")
        ax.set(title=title, xlabel="units of B")
    axes[0].set_ylabel(f"{len(rows)} of A's {numbers['num_units']} units")
    fig.colorbar(shown, ax=axes, label="cosine of their weights")


@takes(
    objective=holed("objective"),
    quantity=letters,
    visits_per_sweep=whole(),
    layers=by_name(array(2), most=MOST_LAYERS),
)
def draw_search(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the objective of a matcher as it climbs, and each layer's cosine at the end.

    Numbers: `objective`: history; `quantity`: its name; `visits_per_sweep`: of a matcher that
    records every visit, else 0; `layers`: path -> cosine before and after.
    """
    climb, layers = fig.subplots(1, 2, width_ratios=[1.2, 1])
    climb.plot(
        losses.values_of(numbers, "objective"), "-o", markersize=4, color=LOOKS["weight"].colour
    )
    if per_sweep := numbers["visits_per_sweep"]:
        for visit in range(1, len(numbers["objective"]), per_sweep):
            climb.axvline(visit, color="#cccccc", linewidth=0.6, zorder=0)
    climb.set(
        xlabel="visits of a layer (a grey line per sweep)" if per_sweep else "steps",
        ylabel=numbers["quantity"],
        title="the objective",
    )
    names = list(numbers["layers"])
    before, after = np.array([numbers["layers"][name] for name in names]).T
    rows = np.arange(len(names))
    for look, values in ((LOOKS["naive"], before), (LOOKS["weight"], after)):
        label = "B as it is" if look is LOOKS["naive"] else "π(B)"
        layers.plot(values, rows, look.marker, color=look.colour, label=label)
    layers.set_yticks(rows, names, fontsize=8 if len(names) < 12 else 6)
    layers.invert_yaxis()
    layers.grid(axis="x")
    layers.set(xlabel="cosine with A", title="layer by layer")
    legend_below(fig, layers)
