"""Plots: one function per kind of figure, from plain numbers onto a given matplotlib figure.

Nothing is saved here. Each function takes a `Figure` and the JSON-ready numbers that `figures`
saves beside the picture, so that any figure can be drawn again from its file. `PLOTS` names them.
Colours are Okabe and Ito's, which colour-blind readers can distinguish, and never alone: a line
style, a width or a marker shows the same. `results` draws curves, barriers and planes, `matching`
matchers, `onset` barriers by epoch and width, `calibration` merged networks, `merging` what went
into them, `counterexample` two small pairs of networks, `failures` failure modes, `exploration` the
explorer's figures, `symmetry_group` the symmetries of a network,
`swap` two units that change places. `losses` names losses and their unit, `legends` draws legends.
Every plot describes its numbers in words and as a `shapes.Shape`, which checks them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from rebasin_lab import texts
from rebasin_lab.lab.plots import (
    calibration,
    counterexample,
    exploration,
    failures,
    matching,
    merging,
    onset,
    results,
    swap,
    symmetry_group,
)

_MODULES = (
    calibration,
    counterexample,
    exploration,
    failures,
    matching,
    merging,
    onset,
    results,
    swap,
    symmetry_group,
)
# `draw_NAME` of each module is the plot NAME.
PLOTS: dict[str, Callable[[Figure, Mapping[str, Any]], None]] = {
    name.removeprefix("draw_"): plot
    for module in _MODULES
    for name, plot in vars(module).items()
    if name.startswith("draw_")
}


def draw(fig: Figure, plot: str, numbers: Any) -> None:
    """Draw a plot, by its name in `PLOTS`, onto a figure.

    Raises:
        ValueError: for an unknown plot, and for numbers that it cannot draw.
    """
    _known(plot)(fig, numbers)


def checked(plot: str, numbers: Any) -> dict[str, Any]:
    """Return the numbers of a plot, fit to be drawn.

    Raises:
        ValueError: as `draw`, but nothing is drawn.
    """
    return _known(plot).checked(numbers)


def _known(plot: str) -> Callable:
    if plot not in PLOTS:
        raise ValueError(
            f"Expected a plot among {sorted(PLOTS)}; got {texts.in_a_line(repr(plot), 120)}."
        )
    return PLOTS[plot]


__all__ = ["PLOTS", "checked", "draw"]
