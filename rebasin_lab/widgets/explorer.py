"""The explorer: choose two networks and matchers, and walk the line between them.

What is stored is shown at once; what is not is trained on another thread, with progress and a way
to stop. Everything computed is kept in `result`, and drawn from there: a move along the line swaps
a style rule and some HTML, never a whole figure.
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import HTML
from jaxtyping import PyTree

from rebasin_lab import datasets, experiments, exploration, figures, matching, paths
from rebasin_lab.exploration import Choices, Exploration, Pair
from rebasin_lab.widgets import fragments, panels
from rebasin_lab.widgets.work import Latest, Stopped, Work

START = 0.5  # of a walk: half-way, where naive merging is worst
_names = (f"rl-cursor-{number}" for number in itertools.count())


def explore(
    *,
    params: tuple[PyTree, PyTree] | None = None,
    apply_fn: Callable | None = None,
    data: datasets.Dataset | None = None,
    interactive: bool = True,
    **choices: Any,
) -> "Explorer | HTML":
    """A panel on two networks: lines between them, merged networks, permutations, landscapes.

    `rl.explore()` opens on the networks of the notebooks. Networks of your own:
    `rl.explore(params=(a, b), apply_fn=apply_fn, data=data)`.

    Args:
        params: two trees of parameters of one architecture, to look at in place of the lab's.
        apply_fn: with them, `apply_fn(params, images) -> logits`, pure.
        data: and the data set they are evaluated on.
        interactive: False computes at once, trains what is missing, and gives the pictures without
            controls, for a page on which nobody can turn them.
        **choices: fields of `exploration.Choices`, such as `dataset="mnist"`, `width=64`,
            `seeds=(0, 3)`, `matchers=("weight", "activation")`.

    Raises:
        ValueError: for choices that do not exist, or some of `params`, `apply_fn`, `data` only.
        Exception: headless, whatever the computation raises.
    """
    given = [
        name
        for name, value in (("params", params), ("apply_fn", apply_fn), ("data", data))
        if value is not None
    ]
    if len(given) not in (0, 3):
        raise ValueError(f"Expected params, apply_fn and data together; got {', '.join(given)}.")
    chosen = Choices(**choices)
    pair = None
    if given:
        pair = Pair(
            title=f"{data.title}, networks of your own",
            data=data,
            apply_fn=apply_fn,
            params_a=params[0],
            params_b=params[1],
        )
    if interactive:
        return Explorer(chosen, pair)
    return HTML(panels.page(exploration.explore_pair(chosen, pair=pair), START))


class NotTrainedError(Exception):
    """Networks that somebody has to ask for, since they take a while."""


class Explorer(ipywidgets.VBox):
    """The panel; made by `explore`.

    Attributes:
        choices: what is, or is about to be, explored.
        result: the `Exploration` on view; None before the first.
    """

    def __init__(self, choices: Choices, pair: Pair | None = None):
        self.choices = choices
        self.result: Exploration | None = None
        self._pair = pair
        self._name = next(_names)
        self._lock = threading.RLock()
        self._is_settling = False
        self._queued: tuple[Choices, bool] | None = None
        self._work = Work(self._show_step, self._end)
        self._walks = Latest(self._show_walk, self._show_error)
        self._controls = _choice_controls(choices, is_given=pair is not None)
        self._make_view()
        super().__init__(self._laid_out())
        for part, name in (
            (self, "rl-explorer"),
            (self._lines, "rl-lines"),
            (self._cursor, "rl-cursor"),
            (self._walk, "rl-walk"),
        ):
            part.add_class(name)
        for control in self._controls.values():
            control.observe(self._on_choice, names="value")
        self._begin(choices, may_train=False)

    # What a program asks.

    @property
    def lam(self) -> float:
        """Where on the line the merged network stands."""
        return self._lam.value

    @property
    def method(self) -> str:
        """What B is permuted by, on that line."""
        return self._method.value

    def as_code(self) -> str:
        """A program that computes what is on view.

        Raises:
            ValueError: before anything is.
        """
        return self._need_result().as_code(self.method, round(self.lam, 4))

    def save_figure(self, directory: Path | None = None) -> Path:
        """Save the figure of the lines, with its numbers; the path of its JSON file.

        Args:
            directory: where to; by default beside the figures of interactive runs.

        Raises:
            ValueError: before anything is on view.
        """
        found = self._need_result()
        record = self._lines_record(found)
        seeds = () if found.choices.files or self._pair else found.choices.seeds
        return figures.save_figure(
            directory or paths.runs_dir() / "interactive" / "figures" / "explorer",
            "lines-" + experiments.digest(dataclasses.asdict(found.choices))[:8],
            plot=record["plot"],
            numbers=record["numbers"],
            caption=record["caption"],
            alt=record["alt"],
            size=tuple(record["size_inches"]),
            provenance=figures.Provenance(
                notebook="explorer",
                profile="interactive",
                dataset=figures.describe_dataset(found.pair.data),
                seeds=list(seeds),
                settings=dataclasses.asdict(found.choices),
                trained_with=[dict(one) for one in found.pair.versions],
                claims=[],
            ),
        )

    def wait(self, seconds: float = 600.0) -> bool:
        """Wait until nothing is at work; whether that is so."""
        return self._work.wait(seconds) and self._walks.wait(seconds)

    def stop(self) -> None:
        """Stop a training after its present epoch; it is kept, and goes on when asked for again."""
        self._queued = None
        self._work.stop()

    # Long work.

    def _on_choice(self, change: Any) -> None:
        if self._is_settling:
            return
        try:
            if change["owner"] in (
                self._controls.get("architecture"),
                self._controls.get("dataset"),
            ):
                self._settle_sizes()
            choices = _chosen(self._controls, self.choices)
        except ValueError as error:
            self._show_error(error)
            return
        self._message.value = ""  # of a choice that was taken back, too
        if choices != self.choices:
            self._begin(choices, may_train=False)

    def _settle_sizes(self) -> None:
        """Sizes and epochs that another architecture, or other data, is usually trained with."""
        kind = {name: self._controls[name].value for name in ("dataset", "architecture")}
        with self._settling():
            for name, value in _sizes(Choices(**kind)).items():
                self._controls[name].value = value
            self._controls["depth"].disabled = not Choices(**kind).recipe.depth

    @contextlib.contextmanager
    def _settling(self) -> Iterator[None]:
        """Controls set in here are not somebody's choice."""
        self._is_settling = True
        try:
            yield
        finally:
            self._is_settling = False

    def _begin(self, choices: Choices, *, may_train: bool) -> None:
        """Explore these, after whatever is at work has stopped."""
        with self._lock:
            self.choices = choices
            self._message.value = ""
            self._stop_button.disabled = False
            if self._work.is_busy:
                self._queued = (choices, may_train)
                self._work.stop()
                return
            self._start(choices, may_train=may_train)

    def _start(self, choices: Choices, *, may_train: bool) -> None:
        def job(report: exploration.OnStep) -> Exploration:
            if not (may_train or self._pair or choices.files):
                _refuse_to_train(choices)
            return exploration.explore_pair(choices, pair=self._pair, on_step=report)

        self._work.start(job)

    def _end(self, result: Any, error: Exception | None) -> None:
        with self._lock:
            if not self._work.is_busy:
                self._progress.layout.visibility = "hidden"
                self._stop_button.disabled = True
            if isinstance(result, Exploration):
                self.result = result
                self._show_result()
            elif isinstance(error, Stopped):
                self._status.value = fragments.note(
                    "Stopped. What is trained is kept; Compare goes on from there."
                )
            elif isinstance(error, NotTrainedError):
                self._status.value = fragments.note(str(error))
            elif error is not None:
                self._status.value = ""
                self._show_error(error)
            queued, self._queued = self._queued, None
            if queued and not self._work.is_busy:
                self._start(queued[0], may_train=queued[1])

    def _show_step(self, what: str, done: int, total: int) -> None:
        self._progress.max, self._progress.value = total, done
        self._progress.layout.visibility = "visible"
        self._status.value = fragments.note(f"{what} ({done} of {total})")

    def _show_error(self, error: BaseException) -> None:
        text = str(error) or type(error).__name__
        self._message.value = fragments.error(text)

    # The picture.

    def _make_view(self) -> None:
        self._message, self._status = ipywidgets.HTML(), ipywidgets.HTML()
        self._progress = ipywidgets.IntProgress(layout={"width": "180px", "visibility": "hidden"})
        self._compare_button = ipywidgets.Button(
            description="Compare",
            button_style="primary",
            tooltip="Train what is not stored, match, and walk the lines",
        )
        self._stop_button = ipywidgets.Button(
            description="Stop", disabled=True, tooltip="Stop after the present epoch; it is kept"
        )
        self._metric = ipywidgets.ToggleButtons(
            options=["loss", "accuracy"], description="metric", style={"button_width": "80px"}
        )
        self._split = ipywidgets.ToggleButtons(
            options=["train", "test", "both"],
            value="both",
            description="images",
            style={"button_width": "60px"},
        )
        self._method = ipywidgets.Dropdown(options=[("naive", "naive")], description="walk with")
        self._lam = ipywidgets.FloatSlider(
            value=START, max=1, step=0.01, description="λ: A to B", layout={"width": "98%"}
        )
        self._group = ipywidgets.Dropdown(description="layer")
        self._lines, self._cursor = ipywidgets.HTML(), ipywidgets.HTML()
        self._walk = ipywidgets.HTML()
        self._order, self._search = ipywidgets.HTML(), ipywidgets.HTML()
        self._landscape = ipywidgets.HTML()
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
        self._axes = (0.0, 1.0)
        self._tabs = ipywidgets.Tab(
            children=[
                ipywidgets.VBox([self._group, self._order]),
                self._search,
                ipywidgets.VBox([self._landscape_button, self._landscape]),
                ipywidgets.VBox([self._code, ipywidgets.HBox([self._save_button, self._saved])]),
            ],
            titles=("Order of units", "Search", "Landscape", "Code"),
        )
        self._compare_button.on_click(lambda _: self._begin(self.choices, may_train=True))
        self._stop_button.on_click(lambda _: self.stop())
        self._landscape_button.on_click(lambda _: self._begin_landscape())
        self._save_button.on_click(lambda _: self._save())
        self._lam.observe(self._on_lam, names="value")
        for control, show in (
            (self._metric, self._show_lines),
            (self._split, self._show_lines),
            (self._method, self._show_method),
            (self._group, self._show_order),
        ):
            control.observe(self._guarded(show), names="value")
        self._tabs.observe(self._guarded(self._show_code), names="selected_index")

    def _laid_out(self) -> list[ipywidgets.Widget]:
        row = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-end")
        controls = self._controls
        networks = [one for name, one in controls.items() if name not in ("matchers", "effort")]
        half = ipywidgets.Layout(flex="1 1 440px", min_width="420px", max_width="680px")
        return [
            ipywidgets.HBox(networks, layout=row),
            ipywidgets.HBox(
                [
                    controls["matchers"],
                    controls["effort"],
                    self._compare_button,
                    self._stop_button,
                    self._progress,
                    self._status,
                ],
                layout=row,
            ),
            self._message,
            ipywidgets.HBox(
                [
                    ipywidgets.VBox(
                        [
                            ipywidgets.HBox([self._metric, self._split], layout=row),
                            self._lines,
                            self._cursor,
                            self._method,
                            self._lam,
                            self._walk,
                        ],
                        layout=half,
                    ),
                    ipywidgets.VBox([self._tabs], layout=half),
                ],
                layout=ipywidgets.Layout(flex_flow="row wrap"),
            ),
        ]

    def _guarded(self, show: Callable[[], None]) -> Callable[[Any], None]:
        """A callback of a control: one at a time, its error in the panel."""

        def on_change(_: Any) -> None:
            with self._lock:
                if self.result is None or self._is_settling:
                    return
                try:
                    show()
                except Exception as error:  # noqa: BLE001 (shown to the reader)
                    self._show_error(error)

        return on_change

    def _show_result(self) -> None:
        found = self._need_result()
        self._status.value = fragments.note(
            f"{found.pair.title} ({' and '.join(dict.fromkeys(found.pair.origins))})"
        )
        methods = [(panels.label_of(name), name) for name in found.methods]
        with self._settling():
            _offer(self._method, methods, default=found.methods[-1])
            _offer(self._group, [(name, name) for name in found.groups()])
        self._landscape.value = ""
        try:
            self._show_lines()
            self._show_method()
        except Exception as error:  # noqa: BLE001 (shown to the reader)
            self._show_error(error)

    def _lines_record(self, found: Exploration) -> dict[str, Any]:
        splits = ("train", "test") if self._split.value == "both" else (self._split.value,)
        return panels.lines(found, metric=self._metric.value, splits=splits)

    def _show_lines(self) -> None:
        record = self._lines_record(self._need_result())
        drawn = panels.with_axes(record)
        self._axes = drawn.left, drawn.right
        self._lines.value = fragments.with_cursor(
            drawn.png,
            record["alt"],
            name=self._name,
            top=drawn.top,
            height=drawn.height,
            width=round(100 * record["size_inches"][0]),
        )
        self._place_cursor()

    def _place_cursor(self) -> None:
        left, right = self._axes
        self._cursor.value = fragments.cursor(self._name, left + self.lam * (right - left))

    def _show_method(self) -> None:
        self._walks.ask((self._need_result(), self.method, self.lam))
        self._show_order()
        self._show_search()
        self._show_code()

    def _on_lam(self, _: Any) -> None:
        if self.result is not None:
            self._place_cursor()
            self._walks.ask((self.result, self.method, self.lam))

    def _show_walk(self, request: tuple[Exploration, str, float]) -> None:
        self._walk.value = panels.walk(*request)

    def _show_order(self) -> None:
        found = self._need_result()
        if self._group.value:
            record = panels.unit_order(found, self.method, self._group.value)
            self._order.value = figures.as_html(record)

    def _show_search(self) -> None:
        found = self._need_result()
        self._search.value = (
            figures.as_html(panels.search(found, self.method))
            if self.method != "naive"
            else fragments.note("Naive merging leaves B in its own order: there is no search.")
        )

    def _show_code(self) -> None:
        self._code.value = self.as_code()

    def _begin_landscape(self) -> None:
        found, method = self.result, self.method
        if found is None or self._work.is_busy:
            return
        if method == "naive":
            self._landscape.value = fragments.note(
                "Naively merged, there are A and B alone; choose a matcher to walk with."
            )
            return

        def job(report: exploration.OnStep) -> None:
            numbers = found.contour(method, on_step=report)
            self._landscape.value = figures.as_html(panels.landscape(found, method, numbers))
            self._status.value = ""

        self._stop_button.disabled = False
        self._work.start(job)

    def _save(self) -> None:
        try:
            self._saved.value = fragments.note(f"saved: {paths.shown(self.save_figure())}")
        except Exception as error:  # noqa: BLE001 (shown to the reader)
            self._show_error(error)

    def _need_result(self) -> Exploration:
        if self.result is None:
            raise ValueError("Nothing is on view yet: choose networks, then Compare.")
        return self.result


def _offer(
    control: ipywidgets.Dropdown, options: Sequence[tuple[str, str]], default: str = ""
) -> None:
    """Give a control new options; what was chosen stays, if it is among them."""
    values = [value for _, value in options]
    chosen = control.value
    control.options = options
    if values:
        control.value = chosen if chosen in values and chosen != "naive" else default or values[0]


def _chosen(controls: Mapping[str, ipywidgets.ValueWidget], present: Choices) -> Choices:
    """What the controls say.

    Raises:
        ValueError: if that is not to be had.
    """
    said = {name: control.value for name, control in controls.items()}
    how = {"matchers": tuple(said["matchers"]), "effort": said["effort"]}
    if "dataset" not in said:  # networks of one's own
        return dataclasses.replace(present, **how)
    files = [said[name].strip() for name in ("file_a", "file_b")]
    if any(files) and not all(files):
        raise ValueError("Expected two checkpoints, or none: name the other file, too.")
    recipe = exploration.RECIPES[said["architecture"]]
    return dataclasses.replace(
        present,
        dataset=said["dataset"],
        architecture=said["architecture"],
        width=said["width"],
        depth=said["depth"] if recipe.depth else 0,
        num_epochs=said["num_epochs"],
        seeds=(said["seed_a"], said["seed_b"]),
        files=tuple(files) if all(files) else (),
        **how,
    )


def _sizes(choices: Choices) -> dict[str, int | float]:
    """Width, depth (0 if that is fixed) and epochs of its networks."""
    wanted, recipe = choices.experiment(seed=0), choices.recipe
    sizes = dict(wanted.options)
    return {
        "width": sizes[recipe.width],
        "depth": sizes.get(recipe.depth, 0),
        "num_epochs": wanted.train.num_epochs,
    }


def _refuse_to_train(choices: Choices) -> None:
    """Check that both networks are stored.

    Raises:
        NotTrainedError: if not, saying which is missing.
    """
    wanted = {
        name: choices.experiment(seed) for name, seed in zip("AB", choices.seeds, strict=True)
    }
    missing = [name for name, one in wanted.items() if not experiments.is_stored(one)]
    if missing:
        which = " and ".join(f"{name} (seed {wanted[name].seed})" for name in missing)
        raise NotTrainedError(
            f"Not trained yet: network {which}. Compare trains for "
            f"{wanted['A'].train.num_epochs} epochs and keeps the result."
        )


def _choice_controls(choices: Choices, *, is_given: bool) -> dict[str, ipywidgets.ValueWidget]:
    """The controls that make up a `Choices`; of networks handed in, only how they are matched."""
    short = {"layout": {"width": "128px"}, "style": {"description_width": "56px"}}
    wide = {"layout": {"width": "210px"}, "style": {"description_width": "80px"}}
    sizes = _sizes(choices)
    networks = {
        "dataset": ipywidgets.Dropdown(
            options=datasets.dataset_names(), value=choices.dataset, description="data", **wide
        ),
        "architecture": ipywidgets.Dropdown(
            options=list(exploration.RECIPES),
            value=choices.architecture,
            description="architecture",
            **wide,
        ),
        "width": ipywidgets.BoundedFloatText(
            value=sizes["width"], min=0, max=1e5, description="width", **short
        ),
        "depth": ipywidgets.BoundedIntText(
            value=sizes["depth"], min=0, max=100, description="depth", **short
        ),
        "num_epochs": ipywidgets.BoundedIntText(
            value=sizes["num_epochs"], min=1, max=10_000, description="epochs", **short
        ),
        "seed_a": ipywidgets.BoundedIntText(
            value=choices.seeds[0], min=0, max=2**31 - 1, description="seed A", **short
        ),
        "seed_b": ipywidgets.BoundedIntText(
            value=choices.seeds[1], min=0, max=2**31 - 1, description="seed B", **short
        ),
        "file_a": ipywidgets.Text(
            value=choices.files[0] if choices.files else "",
            placeholder="or a checkpoint",
            description="file A",
            continuous_update=False,
            **wide,
        ),
        "file_b": ipywidgets.Text(
            value=choices.files[1] if choices.files else "",
            placeholder="or a checkpoint",
            description="file B",
            continuous_update=False,
            **wide,
        ),
    }
    matchers = {
        "matchers": ipywidgets.SelectMultiple(
            options=[(panels.label_of(name), name) for name in matching.MATCHERS],
            value=choices.matchers,
            rows=4,
            description="matchers",
            layout={"width": "270px"},
            style={"description_width": "80px"},
        ),
        "effort": ipywidgets.Dropdown(
            options=exploration.EFFORTS, value=choices.effort, description="effort", **short
        ),
    }
    return matchers if is_given else networks | matchers
