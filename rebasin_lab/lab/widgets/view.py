"""The explorer's view: lines, barriers, the network on a line, unit order, search, landscape.

Everything is drawn in the browser, from the exploration on view: a move along the line moves a
cursor there, and asks the kernel for the network's answers.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets

from rebasin_lab import paths
from rebasin_lab.lab import figures
from rebasin_lab.lab.exploration import Exploration
from rebasin_lab.lab.widgets import fragments, panels
from rebasin_lab.lab.widgets.form import Menu
from rebasin_lab.lab.widgets.pictures import Picture
from rebasin_lab.lab.widgets.work import Latest
from rebasin_lab.paper import store

START = 0.5  # of a walk: half-way, where naive merging is worst


# Two columns in a window of 1280 pixels: chart, lambda and answers are on view at once.
_HALF = {"flex": "1 1 400px", "min_width": "380px", "max_width": "680px"}
_WIDE = {"flex": "1 1 800px", "min_width": "380px", "max_width": "1000px"}


class View(ipywidgets.HBox):
    """Lines from A to B on the left; barriers, the network on a line and tabs on the right.

    Args:
        on_landscape: called to draw the plane around the networks on view.
        on_error: called with the error of a control that was turned.

    Attributes:
        exploration: on view; None before the first.
    """

    def __init__(self, *, on_landscape: Callable[[], None], on_error: Callable[[Exception], None]):
        self.exploration: Exploration | None = None
        self._on_error = on_error
        self._lock = threading.RLock()
        self._is_settling = False
        self._is_faded = False
        self._pinned: panels.Pinned | None = None
        self._in_tabs: tuple[Exploration, str] | None = None  # what they show, and by which matcher
        self._walks = Latest(self._show_walk, on_error)
        self._make_parts()
        self._landscape_button.on_click(lambda _: on_landscape())
        for part, name in (
            (self._lines, "rl-lines"),
            (self._barriers, "rl-barriers"),
            (self._walk, "rl-walk"),
        ):
            part.add_class(name)
        super().__init__(self._laid_out(), layout=ipywidgets.Layout(flex_flow="row wrap"))

    @property
    def lam(self) -> float:
        """The place of the merged network on the line."""
        return self._lam.value

    @property
    def method(self) -> str:
        """The matcher whose permutation B has on that line."""
        return self._method.value or "naive"

    def show(self, exploration: Exploration) -> None:
        """Show another exploration; the chosen matcher and layer stay if they are there."""
        with self._lock:
            self.exploration = exploration
            self._is_faded = False
            for part in (self._barriers, self._walk, self._first_layer):
                part.remove_class("rl-old")
            self._show_lines()  # what readers look at comes first
            groups = exploration.groups()
            methods = {name: panels.label_of(name) for name in exploration.methods}
            self._is_settling = True
            try:
                if self.method == "naive":
                    self._method.value = ""  # what is found is shown first
                self._method.offer(methods, exploration.methods[-1])
                self._group.offer({name: name for name in groups}, next(iter(groups), ""))
            finally:
                self._is_settling = False
            self._landscape.clear()
            self._ask_walk()

    def fade(self) -> None:
        """Make all paler, and say what it shows: another pair was chosen."""
        self._is_faded = True
        shown = f"Not what is chosen now, but: {self._need_exploration().pair.title}"
        for picture in (self._lines, self._order, self._search, self._landscape):
            if picture.scene:
                picture.note = shown
        for part in (self._barriers, self._walk, self._first_layer):
            part.add_class("rl-old")

    def pin(self, exploration: Exploration | None) -> None:
        """Keep an exploration beside all that come after it; None keeps none."""
        with self._lock:
            if exploration is not None:
                offered = [self.method, exploration.methods[-1]]
                method = next(name for name in offered if name in exploration.compared)
                self._pinned = panels.Pinned(exploration, method)
            else:
                self._pinned = None
            self._unpin_button.layout.display = "none" if self._pinned is None else ""
            # Two panels need the whole width; what stands on the right goes below.
            self._left.layout = _WIDE if self._pinned else _HALF

    def show_landscape(self, record: Mapping[str, Any] | None, note: str = "") -> None:
        """Show this figure in the tab of the landscape, or say why there is none."""
        if record is None:
            self._landscape.clear(note)
            return
        models = record["numbers"]["models"]
        self._landscape.show(record, track=[models[name] for name in ("A", "C", "B")])

    def as_code(self) -> str:
        """Return the program of `Explorer.as_code`."""
        return self._need_exploration().as_code(self.method, round(self.lam, 4))

    def save_figure(self, directory: Path | None = None) -> Path:
        """Save the figure of `Explorer.save_figure`."""
        exploration = self._need_exploration()
        record = self._lines_record(exploration)
        has_seeds = not ({"file", "given"} & {*exploration.pair.origins})
        return figures.save_figure(
            directory or paths.runs_dir() / "interactive" / "figures" / "explorer",
            "lines-" + store.digest({"plot": record["plot"], **record["numbers"]})[:8],
            plot=record["plot"],
            numbers=record["numbers"],
            caption=record["caption"],
            alt=record["alt"],
            size=tuple(record["size_inches"]),
            provenance=figures.Provenance(
                notebook="explorer",
                profile="interactive",
                dataset=figures.describe_dataset(exploration.pair.data),
                seeds=list(exploration.choices.seeds) if has_seeds else [],
                settings=dataclasses.asdict(exploration.choices),
                trained_with=[dict(one) for one in exploration.pair.versions],
                claims=[],
            ),
        )

    def wait(self, seconds: float) -> bool:
        """Wait until every step of a walk is drawn; return True if so."""
        return self._walks.wait(seconds)

    def _make_parts(self) -> None:
        self._metric = ipywidgets.ToggleButtons(
            options=["loss", "accuracy"], description="metric", style={"button_width": "80px"}
        )
        self._split = ipywidgets.ToggleButtons(
            options=["train", "test", "both"],
            value="both",
            description="images",
            style={"button_width": "60px"},
        )
        self._method = Menu(
            "walk with", "The matcher that B is permuted by.", self._guarded(self._ask_walk)
        )
        self._lam = ipywidgets.FloatSlider(
            value=START, max=1, step=0.01, description="λ: A to B", layout={"width": "98%"}
        )
        self._images = ipywidgets.ToggleButtons(
            options=[("one of each class", False), ("A, B, merged disagree", True)],
            description="answers to",
            style={"button_width": "180px"},
        )
        self._pin_button = ipywidgets.Button(
            description="Pin",
            tooltip="Keep these lines beside those of other choices",
            layout={"width": "60px"},
        )
        self._unpin_button = ipywidgets.Button(
            description="Unpin",
            tooltip="Show one pair again",
            layout={"width": "60px", "display": "none"},
        )
        self._pin_button.on_click(lambda _: self._on_pin(pins=True))
        self._unpin_button.on_click(lambda _: self._on_pin(pins=False))
        self._group = Menu("layer", "Its units are shown.", self._guarded(self._show_order))
        self._lines, self._landscape = (
            Picture(name=name, cursor=START) for name in ("lines", "landscape")
        )
        self._links = [  # in the browser, at once
            ipywidgets.jslink((self._lam, "value"), (picture, "cursor"))
            for picture in (self._lines, self._landscape)
        ]
        self._order, self._search = Picture(name="order-of-units"), Picture(name="search")
        self._barriers, self._walk = ipywidgets.HTML(), ipywidgets.HTML()
        self._first_layer = ipywidgets.HTML()
        self._landscape_button = ipywidgets.Button(
            description="Draw the plane", tooltip="Loss of a grid of networks: some seconds"
        )
        self._code = ipywidgets.Textarea(
            layout={"width": "98%", "height": "380px"}, description="", placeholder="code"
        )
        self._save_button = ipywidgets.Button(
            description="Save figure", tooltip="SVG, PNG and numbers, under runs/interactive"
        )
        self._saved = ipywidgets.HTML()
        self._tabs = ipywidgets.Tab(
            children=[
                ipywidgets.VBox([self._group, self._order]),
                self._search,
                self._first_layer,
                ipywidgets.VBox([self._landscape_button, self._landscape]),
                ipywidgets.VBox([self._code, ipywidgets.HBox([self._save_button, self._saved])]),
            ],
            titles=("Order of units", "Search", "First layer", "Landscape", "Code"),
        )
        self._save_button.on_click(lambda _: self._save())
        self._lam.observe(self._ask_walk, names="value")
        for control, show in (
            (self._metric, self._show_lines),
            (self._split, self._show_lines),
            (self._images, self._ask_walk),
        ):
            control.observe(self._guarded(show), names="value")
        self._tabs.observe(self._guarded(self._show_code), names="selected_index")

    def _laid_out(self) -> list[ipywidgets.Widget]:
        row = {"flex_flow": "row wrap", "align_items": "flex-end"}
        left = [
            ipywidgets.HBox([self._metric, self._split], layout=row),
            self._lines,
            ipywidgets.HBox([self._method, self._pin_button, self._unpin_button], layout=row),
            self._lam,
        ]
        right = [self._barriers, self._images, self._walk, self._tabs]
        self._left = ipywidgets.VBox(left, layout=_HALF)
        return [self._left, ipywidgets.VBox(right, layout=_HALF)]

    def _on_pin(self, *, pins: bool) -> None:
        if self.exploration is not None:
            self.pin(self.exploration if pins else None)
            self._show_lines()
            self._ask_walk()

    def _guarded(self, show: Callable[[], None]) -> Callable[..., None]:
        """Return a callback of a control: one at a time, its error in the panel."""

        def on_change(_: Any = None) -> None:
            with self._lock:
                if self.exploration is None or self._is_settling:
                    return
                try:
                    show()
                    if self._is_faded:
                        self.fade()
                except Exception as error:  # noqa: BLE001 (shown to the reader)
                    self._on_error(error)

        return on_change

    def _lines_record(self, exploration: Exploration) -> dict[str, Any]:
        splits = ("train", "test") if self._split.value == "both" else (self._split.value,)
        return panels.lines(
            exploration, metric=self._metric.value, splits=splits, pinned=self._pinned
        )

    def _show_lines(self) -> None:
        exploration = self._need_exploration()
        # Its caption says what stands above and beside it.
        self._lines.show(self._lines_record(exploration) | {"caption": ""})
        self._barriers.value = panels.barriers(exploration, self._pinned)

    def _ask_walk(self, _: Any = None) -> None:
        if self.exploration is not None:
            at = self.exploration, self.method, self.lam
            self._walks.ask((at, self._pinned, self._images.value))

    def _show_walk(self, request: tuple[Any, panels.Pinned | None, bool]) -> None:
        (exploration, method, lam), pinned, disagreeing = request
        there, here = pinned.titles(exploration) if pinned else ("", "")
        shown = panels.walk(exploration, method, lam, which=here, disagreeing=disagreeing)
        if pinned:
            stays = pinned.exploration, pinned.method, lam
            shown += panels.walk(*stays, which=there or "pinned", disagreeing=disagreeing)
        self._walk.value = shown
        self._first_layer.value = panels.first_layer(exploration, method, lam)
        self._show_tabs(exploration, method)

    def _show_tabs(self, exploration: Exploration, method: str) -> None:
        """Show in tabs what belongs to this matcher; last, for all but one tab are hidden."""
        with self._lock:
            is_wanted = (exploration, method) == (self.exploration, self.method)
            if not is_wanted or self._in_tabs == (exploration, method):
                return
            self._show_order()
            self._show_search()
            self._show_code()
            self._in_tabs = exploration, method
            if self._is_faded:
                self.fade()

    def _show_order(self) -> None:
        exploration = self._need_exploration()
        if self._group.value:
            self._order.show(panels.unit_order(exploration, self.method, self._group.value))

    def _show_search(self) -> None:
        exploration = self._need_exploration()
        if self.method == "naive":
            self._search.clear("Naive merging leaves B in its own order: there is no search.")
        else:
            self._search.show(panels.search(exploration, self.method))

    def _show_code(self) -> None:
        self._code.value = self.as_code()

    def _save(self) -> None:
        try:
            self._saved.value = fragments.note(f"saved: {paths.shown(self.save_figure())}")
        except Exception as error:  # noqa: BLE001 (shown to the reader)
            self._on_error(error)

    def _need_exploration(self) -> Exploration:
        if self.exploration is None:
            raise ValueError("Nothing is on view yet: choose networks, then Compare.")
        return self.exploration
