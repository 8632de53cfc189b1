"""A loss on a figure: its name, its unit if it has one, and values that may be missing.

Numbers without a `loss_name` are of cross-entropy, in nats; all others go by their name, in an
unknown unit. Where a loss or an accuracy is None or NaN, nothing is drawn.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import NullLocator

# Ticks of a power of ten.
_STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, *range(3, 10)))


def loss_label(*parts: Mapping[str, Any]) -> str:
    """Return the label of an axis of losses.

    Args:
        *parts: curves, or numbers of a figure, as far as they may have a `loss_name`.

    Raises:
        ValueError: for losses of several names, which share no axis.
    """
    return _name_of(parts) or "cross-entropy (nats)"


def label_of(quantity: str, *parts: Mapping[str, Any], unit: str = " (nats)") -> str:
    """Return the label of a quantity in the unit of a loss, such as "test loss (nats)".

    Args:
        quantity: its name.
        *parts: as for `loss_label`.
        unit: how the unit of cross-entropy is written after it.

    Raises:
        ValueError: as `loss_label`.
    """
    name = _name_of(parts)
    return f"{quantity}: {name}" if name else f"{quantity}{unit}"


def values_of(curve: Mapping[str, Any], field: str) -> np.ndarray:
    """Return the values of a curve as floats: NaN for None."""
    return np.array(curve[field], float)


def has_values(curves: Iterable[Mapping[str, Any]], field: str) -> bool:
    """Return True if one of the curves has a value that can be drawn."""
    return any(np.isfinite(values_of(curve, field)).any() for curve in curves)


def start_at_zero(ax: Axes) -> None:
    """Begin the axis of a loss at 0, unless what is drawn goes below."""
    if not ax.dataLim.ymin < 0:
        ax.set_ylim(bottom=0)


def label_plainly(axis: Axis) -> None:
    """Label a short logarithmic axis with plain numbers."""
    low, high = axis.get_view_interval()
    for steps in _STEPS:  # the coarsest that give three
        every = [step * 10.0**power for power in range(-4, 4) for step in steps]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            break
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _name_of(parts: Iterable[Mapping[str, Any]]) -> str | None:
    names = {part.get("loss_name") for part in parts}
    if len(names) > 1:
        raise ValueError(
            "Expected curves of one loss on one axis; got "
            f"{sorted(name or 'cross-entropy' for name in names)}. Draw a figure for each."
        )
    return next(iter(names), None)
