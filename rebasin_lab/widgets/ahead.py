"""What somebody is about to ask for: the stops of dials next to where they stand, in quiet moments.

A picture takes matplotlib a few tenths of a second, too long for a dial that is to feel direct. So
pictures are drawn before they are asked for, but only while the kernel has nothing else to do: a
notebook that is run from top to bottom takes no longer for it.
"""

import functools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ipywidgets
import numpy as np
from IPython import get_ipython

SECONDS_OF_QUIET = 0.5  # after a cell; of many that wait in a row the next one begins sooner
_DIGITS = 7  # to which a slider in a browser rounds its value


class Quiet:
    """Whether a kernel has run no cell for a moment.

    Args:
        shell: the kernel's; a cell is taken to run already.
    """

    def __init__(self, shell: Any) -> None:
        self._is_idle = threading.Event()
        self._since = 0.0
        shell.events.register("pre_run_cell", lambda *_: self._is_idle.clear())
        shell.events.register("post_run_cell", lambda *_: self._end())

    def wait(self) -> None:
        """Wait for a quiet moment."""
        while True:
            self._is_idle.wait()
            left = self._since + SECONDS_OF_QUIET - time.monotonic()
            if left <= 0:
                return
            time.sleep(left)

    def _end(self) -> None:
        self._since = time.monotonic()
        self._is_idle.set()


def of_this_kernel() -> Quiet | None:
    """The quiet moments of the kernel this runs in; None in a plain Python process."""
    shell = get_ipython()
    return None if getattr(shell, "kernel", None) is None else _of(shell)


_of = functools.cache(Quiet)  # one a process: nobody takes the callbacks away again


def key_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the stops of dials apart: a slider's 0.15 is 0.15000000000000002, too."""
    return tuple(
        round(value, _DIGITS) if isinstance(value, float) else value for value in values.values()
    )


def stops(control: ipywidgets.ValueWidget) -> list[Any]:
    """All values a control can take, in order; only its present one if there is no end to them."""
    if isinstance(control, ipywidgets.IntSlider):
        return list(range(control.min, control.max + 1, control.step))
    if isinstance(control, ipywidgets.FloatSlider):
        steps = round((control.max - control.min) / control.step)
        return np.round(control.min + control.step * np.arange(steps + 1), _DIGITS).tolist()
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True]
    if isinstance(control, ipywidgets.Dropdown | ipywidgets.SelectionSlider):
        options = control.options
        if isinstance(options, Mapping):
            return list(options.values())
        return [one[1] if isinstance(one, tuple) and len(one) == 2 else one for one in options]
    return [control.value]


def nearest_first(
    controls: Mapping[str, ipywidgets.ValueWidget], values: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The values of all dials after one of them moved: first by one stop, then by two, and so on.

    Args:
        controls: the dials.
        values: where they stand.
    """
    others = {name: _others(stops(control), values[name]) for name, control in controls.items()}
    for rank in range(max(map(len, others.values()), default=0)):
        for name, found in others.items():
            if rank < len(found):
                yield {**values, name: found[rank]}


def _others(every: list[Any], value: Any) -> list[Any]:
    """The other stops, the nearest first."""
    keys = [key_of({"": one}) for one in every]
    here = keys.index(key_of({"": value})) if key_of({"": value}) in keys else 0
    order = sorted(range(len(every)), key=lambda index: abs(index - here))
    return [every[index] for index in order if keys[index] != key_of({"": value})]
