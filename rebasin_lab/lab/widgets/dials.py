"""A figure and the dials it follows: drawn once plainly, then again as they move.

A figure is one `ipywidgets.HTML` holding an image, not an `Output` widget: it swaps without a
flicker, keeps its alternative text, is saved by a headless run, and can be set from another thread
(in recent JupyterLab a control's callback may run while a cell is still busy). The first drawing is
a plain call; later errors appear in the panel, and fail a headless run (`background_errors`).
Pictures are cached, and those next to the present one are drawn while the kernel is idle
(`prerendering`).
"""

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import ipywidgets
from IPython.display import HTML

from rebasin_lab import checks, texts
from rebasin_lab.lab import background_errors, figures, plots
from rebasin_lab.lab.widgets import prerendering
from rebasin_lab.paper.sections.record import Figure

SYMBOLS = {"lam": "λ"}  # on dials of these names
MOST_PICTURES = 64  # cached; each is a quarter of a megabyte


class Dials(ipywidgets.VBox):
    """A figure and its dials; made by `dials`.

    Attributes:
        values: the dials' present values.
        record: the figure record drawn last.
    """

    def __init__(
        self,
        draw: Callable[..., Mapping[str, Any] | Figure],
        controls: Mapping[str, ipywidgets.ValueWidget],
    ):
        self._draw = draw
        self._controls = dict(controls)
        self._view = ipywidgets.HTML()
        self._message = ipywidgets.HTML()
        self._lock = threading.RLock()  # a dial may set another one
        self._pictures: dict[tuple[Any, ...], tuple[Mapping[str, Any], str]] = {}
        self._drawing = threading.RLock()
        self._ahead = prerendering.for_this_kernel()
        self._redraw()
        for control in self._controls.values():
            control.style.description_width = "initial"  # a label is never cut short
            control.observe(self._on_change, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [ipywidgets.HBox(list(controls.values()), layout=row), self._message, self._view]
        )
        self.add_class("rl-dials")

    @property
    def values(self) -> dict[str, Any]:
        """The dials' present values."""
        return {name: control.value for name, control in self._controls.items()}

    def _redraw(self) -> None:
        values = self.values
        with self._ahead.give_way() if self._ahead else contextlib.nullcontext():
            self.record, self._view.value = self._picture(values)
        if self._ahead:
            nearest = prerendering.nearest_first(self._controls, values)
            near = itertools.islice(nearest, MOST_PICTURES // 2)
            self._ahead.ask(self, (functools.partial(self._picture, each) for each in near))

    def _picture(self, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """Return a record and its picture, cached; the oldest of too many is dropped."""
        key = prerendering.key_of(values)
        with self._drawing:
            if key not in self._pictures:
                self._pictures[key] = _drawn(self._draw, values)
                if len(self._pictures) > MOST_PICTURES:
                    del self._pictures[next(iter(self._pictures))]
            return self._pictures[key]

    def _on_change(self, _: Any) -> None:
        with self._lock:
            try:
                self._redraw()
                self._message.value = ""
            except Exception as error:  # noqa: BLE001 (shown to the reader; nothing else would be)
                background_errors.report(error)
                text = texts.as_html(f"{type(error).__name__}: {error}", texts.MOST_CHARACTERS)
                self._message.value = f'<p role="alert"><b>{text}</b></p>'


@checks.arguments
def dials(
    draw: Callable[..., Mapping[str, Any] | Figure],
    *,
    interactive: bool = True,
    **controls: Any,
) -> Dials | HTML:
    """Return a figure that follows its dials.

    Args:
        draw: called with one keyword per control; returns a figure record (`picture`) or a figure
            of a section, which must depend on nothing else: a picture is drawn once, perhaps ahead
            of time.
        interactive: False returns the figure at the controls' first values without dials, for a
            static page.
        **controls: values to choose from, as `ipywidgets.interact` takes them: a list, or
            `(0, 10)` and `(0.0, 1.0, 0.05)` for a range; or an ipywidget, of hashable values.

    Raises:
        ValueError: for controls that draw does not take, or values of which no control is made.
        Exception: as the first drawing raises it.
    """
    known = inspect.signature(draw).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        checks.options(controls, known, "controls that draw takes")
    controls = {name: _control(name, given) for name, given in controls.items()}
    for name, control in controls.items():
        if not isinstance(control.value, Hashable):
            raise ValueError(
                f"Expected values of '{name}' that can be hashed; got "
                f"{checks.shortened(control.value)} in dials."
            )
    if interactive:
        return Dials(draw, controls)
    record = _record(draw, {name: control.value for name, control in controls.items()})
    return HTML(figures.as_html(record, **figures.stored_pictures(record, ["png"])))


def _control(name: str, given: Any) -> ipywidgets.ValueWidget:
    """Return a control for values to choose from; numbers in a list have a slider."""
    if isinstance(given, ipywidgets.ValueWidget):
        return given
    description = SYMBOLS.get(name, name.replace("_", " "))
    if isinstance(given, list) and given and all(isinstance(one, int | float) for one in given):
        return ipywidgets.SelectionSlider(
            options=given, description=description, continuous_update=False
        )
    is_choice = isinstance(given, list | tuple | dict | range) and given
    control = ipywidgets.interactive.widget_from_abbrev(given) if is_choice else None
    if control is None:
        raise ValueError(
            f"Expected values of '{name}' as a list, a range such as (0, 10), or an ipywidget; got "
            f"{checks.shortened(given)} in dials."
        )
    control.description = description
    if control.has_trait("continuous_update"):
        control.continuous_update = False
    return control


def _drawn(draw: Callable, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    record = _record(draw, values)
    return record, figures.as_html(record)


def _record(draw: Callable, values: Mapping[str, Any]) -> Mapping[str, Any]:
    record = draw(**values)
    if isinstance(record, Figure):
        record = record.as_record()
    checks.argument("what draw returns", record, Mapping[str, Any], "dials")
    return record


@checks.arguments
def picture(
    plot: str,
    numbers: Mapping[str, Any],
    *,
    alt: str,
    caption: str = "",
    size: tuple[float, float] = (8.0, 3.4),
) -> dict[str, Any]:
    """Return a figure record that is shown and not saved; see `figures.save_figure` for the fields.

    Raises:
        ValueError: for an unknown plot, numbers it does not draw, a size that is none, or no `alt`.
    """
    if not alt:
        raise ValueError("Expected alt to say what the picture shows; got an empty text.")
    plots.checked(plot, numbers)
    figures.check_size(list(size), "size", {})
    return {
        "plot": plot,
        "numbers": numbers,
        "alt": alt,
        "caption": caption,
        "size_inches": list(size),
    }
