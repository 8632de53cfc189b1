"""A figure and the dials it follows: drawn once plainly, then again as they move.

A figure is one `ipywidgets.HTML` holding an image, not an `Output` widget: it swaps without a
flicker, keeps its alternative text, is saved by a headless run, and can be set from another thread
(in recent JupyterLab a control's callback may run while a cell is still busy). The first drawing is
a plain call, so an error in it fails a headless run; later errors appear in the panel.
"""

import html
import threading
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
from IPython.display import HTML

from rebasin_lab import figures


class Dials(ipywidgets.VBox):
    """A figure and its dials; made by `dials`.

    Attributes:
        values: the dials' present values.
        record: the figure record drawn last.
    """

    def __init__(
        self,
        draw: Callable[..., Mapping[str, Any]],
        controls: Mapping[str, ipywidgets.ValueWidget],
    ):
        self._draw = draw
        self._controls = dict(controls)
        self._view = ipywidgets.HTML()
        self._message = ipywidgets.HTML()
        self._lock = threading.RLock()  # a dial may set another one
        self._redraw()
        for control in self._controls.values():
            control.observe(self._on_change, names="value")
        super().__init__([ipywidgets.HBox(list(controls.values())), self._message, self._view])

    @property
    def values(self) -> dict[str, Any]:
        """The dials' present values."""
        return {name: control.value for name, control in self._controls.items()}

    def _redraw(self) -> None:
        self.record = self._draw(**self.values)
        self._view.value = figures.as_html(self.record)

    def _on_change(self, _: Any) -> None:
        with self._lock:
            try:
                self._redraw()
                self._message.value = ""
            except Exception as error:  # noqa: BLE001 (shown to the reader; nothing else would be)
                text = f"{type(error).__name__}: {error}"
                self._message.value = f'<p role="alert"><b>{html.escape(text)}</b></p>'


def dials(
    draw: Callable[..., Mapping[str, Any]],
    *,
    interactive: bool = True,
    **controls: ipywidgets.ValueWidget,
) -> Dials | HTML:
    """A figure that follows its dials.

    Args:
        draw: called with one keyword per control; returns a figure record (`picture`).
        interactive: False gives the figure at the controls' first values and no dials, for a page
            nobody can turn them on.
        **controls: ipywidgets, such as `lam=ipywidgets.FloatSlider(...)`.

    Raises:
        Exception: whatever the first drawing raises.
    """
    if interactive:
        return Dials(draw, controls)
    return HTML(figures.as_html(draw(**{name: c.value for name, c in controls.items()})))


def picture(
    plot: str,
    numbers: Mapping[str, Any],
    *,
    alt: str,
    caption: str = "",
    size: tuple[float, float] = (8.0, 3.4),
) -> dict[str, Any]:
    """A figure record that is shown and not saved; see `figures.save_figure` for the fields."""
    return {
        "plot": plot,
        "numbers": numbers,
        "alt": alt,
        "caption": caption,
        "size_inches": list(size),
    }
