"""Plot of two units that changed places by hand, and of the logits before and after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rebasin_lab.lab.plots.results import COLOURS
from rebasin_lab.lab.plots.shapes import (
    MOST_NAMES,
    MOST_PANELS,
    alone,
    array,
    letters,
    list_of,
    optional,
    place_in,
    real,
    takes,
)

MOVED = COLOURS["B"]


@takes(
    weights=list_of(alone(array("height", "width")), "slots", most=2 * MOST_PANELS),
    swapped=list_of(place_in("slots"), 2),
    classes=list_of(letters, "classes", most=MOST_NAMES),
    before=array("classes"),
    after=array("classes"),
    change=real(),
    accuracy=array(2),
    limits=optional(array(2)),
)
def draw_swapped_units(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw first-layer weights by slot, two of them exchanged, and the logits before and after.

    Numbers: `weights`: of each slot, a 2-d image; `swapped`: the two slots; `classes`: names;
    `before` and `after`: logits of one image; `change`: the largest of any logit of any image;
    `accuracy`: before and after, in %; `limits`: of the axis of logits, which stands still while a
    dial moves.
    """
    units, answers = fig.subfigures(1, 2, width_ratios=[1.1, 1])
    limit = max(np.abs(image).max() for image in numbers["weights"])
    columns = -(-len(numbers["weights"]) // 2)
    axes = units.subplots(2, columns, squeeze=False).ravel()
    for slot, ax in enumerate(axes):
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        if slot >= len(numbers["weights"]):
            continue
        ax.imshow(numbers["weights"][slot], cmap="RdBu_r", vmin=-limit, vmax=limit)
        is_moved = slot in numbers["swapped"] and len(set(numbers["swapped"])) == 2
        title = {"loc": "center", "fontsize": 8}
        if is_moved:
            ax.spines[:].set(visible=True, color=MOVED, linewidth=3)
            title |= {"color": MOVED, "fontweight": "bold"}
        ax.set_title(f"slot {slot}{' ⇄' if is_moved else ''}", **title)
    units.suptitle("Weights from the pixels to the first units", fontsize=10)
    ax = answers.subplots()
    places = np.arange(len(numbers["classes"]))
    ax.bar(places, numbers["before"], 0.8, color=COLOURS["A"], alpha=0.35, label="before")
    marks = {"markersize": 8, "markeredgewidth": 2}
    ax.plot(places, numbers["after"], "x", color=MOVED, label="after", **marks)
    ax.set_xticks(places, numbers["classes"])
    before, after = numbers["accuracy"]
    ax.set(
        title=f"right: {before:.1f} % before, {after:.1f} % after\n"
        f"largest change of any logit: {numbers['change']:.2g}",
        xlabel="class",
        ylabel="logits of one image",
    )
    if "limits" in numbers:
        ax.set_ylim(numbers["limits"])
    ax.legend()
