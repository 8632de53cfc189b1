"""The dials of a figure: what each may be set to, as `rl.dials` is given it.

Every dial has stops, so that a figure can be drawn at each of them and stored.
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np

from rebasin_lab import checks

SYMBOLS = {"lam": "λ"}  # labels of dials of these names
_DIGITS = 7  # of a step: 0.15 is no 0.15000000000000002
_SLIDERS = (ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.SelectionSlider)


@dataclasses.dataclass(frozen=True)
class Control:
    """A dial.

    Attributes:
        name: of the argument it sets.
        label: beside it.
        kind: "slider", or "choice" of a menu.
        values: its stops, in order.
        options: what the reader sees of each.
        first: index of the stop it begins at.
    """

    name: str
    label: str
    kind: str
    values: tuple[Any, ...]
    options: tuple[str, ...]
    first: int

    def as_json(self) -> dict[str, Any]:
        """Return what the browser draws."""
        return {
            "name": self.name,
            "label": self.label,
            "kind": self.kind,
            "options": list(self.options),
        }


def control_of(name: str, given: Any) -> Control:
    """Return a dial from values to choose from, as `rl.dials` takes them.

    Raises:
        ValueError: if they are none.
    """
    label = SYMBOLS.get(name, name.replace("_", " "))
    kind, first = "slider", 0
    if isinstance(given, ipywidgets.ValueWidget):
        stops = _of_widget(name, given)
        kind = "slider" if isinstance(given, _SLIDERS) else "choice"
        label = given.description or label
        first = _nearest(list(stops.values()), given.value)
    elif isinstance(given, Mapping) and given:
        stops, kind = {str(key): value for key, value in given.items()}, "choice"
    elif isinstance(given, range) and given:
        stops = _named(list(given))
        first = len(stops) // 2
    elif isinstance(given, tuple) and len(given) in (2, 3) and all(map(_is_number, given)):
        stops = _named(_range(name, *given))
        first = (len(stops) - 1) // 2
    elif isinstance(given, list | tuple) and given:
        for value in given:
            if not isinstance(value, Hashable):
                raise ValueError(
                    f"Expected values of '{name}' that can be hashed; got "
                    f"{checks.shortened(value)} in dials."
                )
        stops = _named(list(given))
        kind = "slider" if all(map(_is_number, given)) else "choice"
    else:
        raise ValueError(
            f"Expected values of '{name}' as a list, a range such as (0, 10), or an ipywidget; got "
            f"{checks.shortened(given)} in dials."
        )
    return Control(name, label, kind, tuple(stops.values()), tuple(stops), first)


def nearest_first(
    controls: Sequence[Control], at: Sequence[int], most: int
) -> Iterator[tuple[int, ...]]:
    """Yield the stops of all dials around the present ones, the nearest first.

    Args:
        controls: the dials.
        at: index of each one's present stop.
        most: how many to yield. Those that one move of one dial reaches come before all others.
    """
    if not controls:  # a figure to be sketched alone has no other stop
        return
    sizes = [len(control.values) for control in controls]
    total = int(np.prod(sizes, dtype=float).clip(max=1e6))
    places = np.array(np.unravel_index(np.arange(total), sizes)).T
    away = np.abs(places - np.asarray(at))
    order = np.lexsort((away.sum(1), (away > 0).sum(1)))
    for index in order[1 : max(most, 0) + 1]:  # the first is the present one
        yield tuple(int(one) for one in places[index])


def _of_widget(name: str, control: ipywidgets.ValueWidget) -> dict[str, Any]:
    """Return the stops of an ipywidget by their labels."""
    if isinstance(control, ipywidgets.IntSlider):
        return _named(list(range(control.min, control.max + 1, control.step)))
    if isinstance(control, ipywidgets.FloatSlider):
        return _named(_range(name, control.min, control.max, control.step))
    if isinstance(control, ipywidgets.Checkbox):
        return {"no": False, "yes": True}
    if hasattr(control, "_options_full"):  # a menu, or a slider of given values
        return {str(label): value for label, value in control._options_full}  # noqa: SLF001
    raise ValueError(
        f"Expected an ipywidget with stops for '{name}', such as a slider or a menu; got "
        f"{type(control).__name__} in dials."
    )


def _range(
    name: str, low: int | float, high: int | float, step: int | float | None = None
) -> list[Any]:
    whole = isinstance(low, int) and isinstance(high, int)
    step = step if step is not None else (1 if whole else (high - low) / 20)
    if not (low < high and step > 0):
        raise ValueError(
            f"Expected a range of '{name}' as (least, most) or (least, most, step), growing; got "
            f"({low}, {high}, {step}) in dials."
        )
    count = int((high - low) / step + 1e-9)
    stops = [round(low + step * index, _DIGITS) for index in range(count + 1)]
    return [int(stop) for stop in stops] if whole and isinstance(step, int) else stops


def _named(values: Sequence[Any]) -> dict[str, Any]:
    """Return values by their labels; floats of one dial have one number of digits."""
    numbers = [value for value in values if isinstance(value, float)]
    digits = max((len(f"{value:g}".partition(".")[2]) for value in numbers), default=0)
    plain = all("e" not in f"{value:g}" for value in numbers)
    return {
        f"{value:.{digits}f}" if isinstance(value, float) and plain else f"{value}": value
        for value in values
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nearest(values: Sequence[Any], value: Any) -> int:
    if value in values:
        return values.index(value)
    return int(np.abs(np.subtract(values, value)).argmin())
