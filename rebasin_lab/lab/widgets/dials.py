"""A figure and the dials it follows.

The kernel hands over scenes (`lab.scenes`), numbers and no pictures, and the browser draws. Each
stop of the dials is handed over once: from then on its figure is drawn without the kernel, in a
notebook that is opened again, too. The first is drawn by a plain call, so that its error is the
cell's; those around it while the kernel is idle (`prerendering`); any other when a dial gets there.
Errors appear in the panel, and fail a headless run (`background_errors`).
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anywidget
import traitlets
from IPython.display import HTML

from rebasin_lab import checks, texts
from rebasin_lab.lab import background_errors, component, figures, plots, scenes
from rebasin_lab.lab.widgets import prerendering
from rebasin_lab.lab.widgets.controls import Control, control_of, nearest_first
from rebasin_lab.lab.widgets.work import Latest
from rebasin_lab.paper.sections.record import Figure

MOST_STOPS = 800  # stored ahead of time; each is one to three kilobytes
# With this variable set, dials of a headless run hold their stops, for pages without a kernel.
LIVE = "REBASIN_LIVE_DIALS"
_SHORT = 100  # characters of a part that is not worth a name

At = tuple[int, ...]


class Dials(anywidget.AnyWidget):
    """A figure and its dials; made by `dials`.

    Attributes:
        values: the dials' present values.
        record: the figure record drawn last.
    """

    _esm = component.code("renderDials")
    _css = component.style()

    name = traitlets.Unicode().tag(sync=True)
    controls = traitlets.List().tag(sync=True)
    first = traitlets.List().tag(sync=True)
    at = traitlets.List().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    predict = traitlets.Unicode().tag(sync=True)
    # "scenes" by the indices of their stops, and the "pool" of parts that they share. It grows in
    # place, and what is new is sent as a message: assigning it would send all of it again.
    stored = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        draw: Callable[..., Mapping[str, Any] | Figure],
        controls: Sequence[Control],
        as_html: str | None = None,
        predict: str = "",
    ):
        self._draw = draw
        self._as_html = as_html
        self._controls = tuple(controls)
        self._drawing = threading.RLock()  # for as long as a figure takes
        self._storing = threading.RLock()  # for a moment
        self._ahead = prerendering.for_this_kernel()
        self._asked = Latest(self._answer, self._show_error)
        first = [control.first for control in self._controls]
        self._records: dict[At, Mapping[str, Any]] = {}
        self._stored: dict[str, dict[str, Any]] = {"scenes": {}, "pool": {}}
        self.record = _record(draw, self._values(first))
        self._store(tuple(first), self.record)
        if predict:
            checks.choice("predict", predict, self._lines(), "the lines of this figure")
        super().__init__(
            predict=predict,
            name=str(self.record.get("plot", "figure")).replace("_", "-"),
            controls=[control.as_json() for control in self._controls],
            first=first,
            at=first,
            stored=self._stored,
        )
        self.observe(self._on_at, names="at")
        self._draw_ahead()

    def _lines(self) -> list[str]:
        """Return the labels of the lines of the figure drawn first."""
        marks = self._stored["pool"].values()
        lines = (mark for mark in marks if mark.get("kind") == "line" and "across" not in mark)
        return sorted({mark["label"] for mark in lines if "label" in mark})

    @property
    def values(self) -> dict[str, Any]:
        """The dials' present values."""
        return self._values(self.at)

    def turn(self, **values: Any) -> None:
        """Turn dials, as a reader would; the figure follows (`wait`).

        Raises:
            ValueError: for a dial that there is not, or a value that is no stop of it.
        """
        known = {control.name: control for control in self._controls}
        checks.options(values, known, "dials of this figure")
        for name, value in values.items():
            if value not in known[name].values:
                raise ValueError(
                    f"Expected a stop of '{name}' among {list(known[name].values)}; got "
                    f"{checks.shortened(value)} in dials."
                )
        self.at = [
            control.values.index(values[control.name]) if control.name in values else index
            for control, index in zip(self._controls, self.at, strict=True)
        ]

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until the figure of the present values is drawn; return True if so."""
        return self._asked.wait(seconds)

    def _values(self, at: Iterable[int]) -> dict[str, Any]:
        return {
            control.name: control.values[index]
            for control, index in zip(self._controls, at, strict=True)
        }

    def _on_at(self, change: Any) -> None:
        self._asked.ask(tuple(change["new"]))

    def _answer(self, at: At) -> None:
        """Draw what the reader waits for, unless that is stored; then what is near it."""
        with self._ahead.give_way() if self._ahead else contextlib.nullcontext():
            self.record = self._stop(at)
        self.message = ""
        self._draw_ahead()

    def get_state(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the state to send; of what grows meanwhile on another thread, a copy."""
        with self._storing:
            state = super().get_state(*args, **options)
            if "stored" in state:
                state["stored"] = {kind: dict(parts) for kind, parts in self._stored.items()}
            return state

    def store_all(self) -> None:
        """Store the stops of all dials, up to `MOST_STOPS`; in the state that a run saves, too."""
        for at in nearest_first(self._controls, self.at, MOST_STOPS - len(self._records)):
            with contextlib.suppress(Exception):  # a stop without a figure has none there
                self._store(at, _record(self._draw, self._values(at)))
        self.send_state("stored")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, and the figure it begins with for a page that shows no widgets."""
        shown = super()._repr_mimebundle_(**options)
        if self._as_html is None or shown is None:
            return shown
        data, *metadata = shown if isinstance(shown, tuple) else (shown,)
        data = {**data, "text/html": self._as_html}
        return (data, *metadata) if isinstance(shown, tuple) else data

    def _draw_ahead(self) -> None:
        if self._ahead:
            near = nearest_first(self._controls, self.at, MOST_STOPS - len(self._records))
            new = (at for at in near if at not in self._records)
            self._ahead.ask(self, (functools.partial(self._stop, at) for at in new))

    def _stop(self, at: At) -> Mapping[str, Any]:
        """Return the record of a stop, and have the browser hold its scene."""
        with self._drawing:
            if at not in self._records:
                new = self._store(at, _record(self._draw, self._values(at)))
                self.send(new)
            return self._records[at]

    def _store(self, at: At, record: Mapping[str, Any]) -> dict[str, Any]:
        """Store a scene, its parts once each; return what the browser lacks."""
        self._records[at] = record
        scene = scenes.scene_of(record)
        pool: dict[str, Any] = {}

        def shared(part: Any) -> Any:
            """Return a name in the pool, or a short part itself."""
            text = json.dumps(part, sort_keys=True)
            if len(text) < _SHORT:
                return part
            name = hashlib.sha256(text.encode()).hexdigest()[:12]
            if name not in self._stored["pool"]:
                pool[name] = part
            return name

        panels = []
        for panel in scene["panels"]:
            marks = [shared(mark) for mark in panel.pop("marks")]
            panels.append([shared(panel), marks])
        new = {"scenes": {",".join(map(str, at)): {**scene, "panels": panels}}, "pool": pool}
        with self._storing:
            for kind, parts in new.items():
                self._stored[kind].update(parts)
        return new

    def _show_error(self, error: Exception) -> None:
        background_errors.report(error)
        self.message = texts.plain(f"{type(error).__name__}: {error}", texts.MOST_CHARACTERS)


@checks.arguments
def dials(
    draw: Callable[..., Mapping[str, Any] | Figure],
    *,
    interactive: bool = True,
    predict: str = "",
    **controls: Any,
) -> Dials | HTML:
    """Return a figure that follows its dials.

    Args:
        draw: called with one keyword per control; returns a figure record (`picture`) or a figure
            of a section, which must depend on nothing else: a figure is drawn once, perhaps ahead
            of time.
        interactive: False returns the figure at the controls' first values without dials; but
            with the environment variable REBASIN_LIVE_DIALS set, as `reproduce --live-dials` does,
            with dials that hold all their stops, for pages without a kernel.
        predict: the label of a line of the figure, which readers sketch before they see it.
        **controls: values to choose from, as `ipywidgets.interact` takes them: a list, a dict of
            names and values, or `(0, 10)` and `(0.0, 1.0, 0.05)` for a range; or an ipywidget with
            stops, such as a slider or a menu.

    Raises:
        ValueError: for controls that draw does not take, values of which no control is made, or a
            line that the figure does not have.
        Exception: as the first drawing raises it.
    """
    known = inspect.signature(draw).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        checks.options(controls, known, "controls that draw takes")
    made = [control_of(name, given) for name, given in controls.items()]
    if interactive:
        return Dials(draw, made, predict=predict)
    record = _record(draw, {control.name: control.values[control.first] for control in made})
    as_html = figures.as_html(record, **figures.stored_pictures(record, ["png"]))
    if not os.environ.get(LIVE):
        return HTML(as_html)
    shown = Dials(draw, made, as_html, predict)
    shown.store_all()
    return shown


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
