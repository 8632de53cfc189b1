"""The explorer: choose two networks and matchers, and walk the line between them.

Stored networks are shown at once; others are trained on another thread, with the curve of the
training and a way to stop. `result` holds everything computed, from which `view` draws. As long as
that is not what was chosen, the view is pale.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import tqdm
from IPython.display import HTML
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, pytrees, texts
from rebasin_lab.lab import background_errors, exploration
from rebasin_lab.lab.exploration import PRESETS, Choices, Exploration, Pair
from rebasin_lab.lab.widgets import panels
from rebasin_lab.lab.widgets.choosing import ChoiceForm
from rebasin_lab.lab.widgets.pictures import Picture
from rebasin_lab.lab.widgets.view import START, View
from rebasin_lab.lab.widgets.work import Stopped, Work, in_background
from rebasin_lab.paper import store

SECONDS_BETWEEN_CURVES = 0.3  # a curve takes a twentieth of a second
SECONDS_BETWEEN_STEPS = 0.1  # an epoch may take a thousandth, and the browser queues news
SECONDS_OF_QUIET = 0.25  # what is stored is there sooner: nothing is said of its steps


@checks.arguments
def explore(
    *,
    params: tuple[PyTree, PyTree] | None = None,
    apply_fn: Callable | None = None,
    data: datasets.Dataset | None = None,
    interactive: bool = True,
    **choices: Any,
) -> "Explorer | HTML":
    """Open a panel on two networks: lines, merged networks, permutations, landscapes.

    `rl.explore()` opens on the networks of the notebooks. Networks of your own:
    `rl.explore(params=(a, b), apply_fn=apply_fn, data=data)`.

    Args:
        params: two trees of parameters of one architecture, in place of the lab's networks.
        apply_fn: with them, `apply_fn(params, images) -> logits`, pure.
        data: and the data set they are evaluated on.
        interactive: False computes at once, trains missing networks, and returns the pictures
            without controls, for a static page.
        **choices: fields of `exploration.Choices`, such as `dataset="mnist"`, `width=64`,
            `seeds=(0, 3)`, `matchers=("weight", "activation")`.

    Raises:
        ValueError: for choices that do not exist, or some of `params`, `apply_fn`, `data` only.
        Exception: headless, as the computation raises it.
    """
    given = [
        name
        for name, value in (("params", params), ("apply_fn", apply_fn), ("data", data))
        if value is not None
    ]
    if len(given) not in (0, 3):
        raise ValueError(f"Expected params, apply_fn and data together; got {', '.join(given)}.")
    known = [field.name for field in dataclasses.fields(Choices)]
    checks.options(choices, known, "choices of explore")
    chosen = Choices(**choices)
    pair = None
    if given:
        params_a, params_b = pytrees.aligned_to_combine(*params)
        pair = Pair(
            title=f"{data.title}, networks of your own",
            data=data,
            apply_fn=apply_fn,
            params_a=params_a,
            params_b=params_b,
        )
    if interactive:
        return Explorer(chosen, pair)
    return HTML(panels.page(exploration.explore_pair(chosen, pair=pair), START))


class NotTrainedError(Exception):
    """Networks are not stored, and train only when asked to."""


@dataclasses.dataclass(frozen=True)
class _Next:
    """What to explore after the present job, and what to pin that beside."""

    choices: Choices
    may_train: bool
    beside: Choices | None = None


class Explorer(ipywidgets.VBox):
    """The panel; made by `explore`.

    Attributes:
        choices: explored now or next.
    """

    def __init__(self, choices: Choices, pair: Pair | None = None):
        self.choices = choices
        self._pair = pair
        self._lock = threading.RLock()
        self._beside: Choices | None = None  # of an example: to be pinned beside the choices
        self._queued: _Next | None = None
        self._pace = ("", 0.0, 0)  # of a task: when it was first heard of, and how far it was
        self._said = self._drawn = 0.0  # when a step was, and the curve of a training
        self._quiet_until = 0.0
        self._unsaid: Callable[[], None] | None = None  # the last step, while it is quiet
        self._work = Work(self._show_step, self._end)
        self._form = ChoiceForm(
            choices, is_given=pair is not None, on_choice=self._on_choice, on_ask=self._on_ask
        )
        self._training = Picture(name="training", layout={"display": "none"})
        self._view = View(on_landscape=self._begin_landscape, on_error=self._show_error)
        super().__init__([self._form, self._training, self._view])
        self.add_class("rl-explorer")
        self._begin(_Next(choices, may_train=False))

    # For programs.

    @property
    def result(self) -> Exploration | None:
        """The exploration on view; None before the first."""
        return self._view.exploration

    @property
    def lam(self) -> float:
        """The place of the merged network on the line."""
        return self._view.lam

    @property
    def method(self) -> str:
        """The matcher whose permutation B has on that line."""
        return self._view.method

    def as_code(self) -> str:
        """Return a program that computes what is on view.

        Raises:
            ValueError: before anything is.
        """
        return self._view.as_code()

    def save_figure(self, directory: Path | None = None) -> Path:
        """Save the figure of the lines, with its numbers; return the path of its JSON file.

        Args:
            directory: to save to; by default beside the figures of interactive runs.

        Raises:
            ValueError: before anything is on view.
        """
        return self._view.save_figure(directory)

    def wait(self, seconds: float = 600.0) -> bool:
        """Wait until nothing is at work; return True if so."""
        return self._work.wait(seconds) and self._view.wait(seconds)

    def stop(self) -> None:
        """Stop a training after its present epoch; it is stored, and Compare resumes it."""
        self._queued = None
        self._work.stop()

    # Long work.

    def _on_choice(self, choices: Choices) -> None:
        self._form.message = ""  # also after a choice that was undone
        if choices != self.choices:
            self._begin(_Next(choices, may_train=False))

    def _on_ask(self, what: Mapping[str, Any]) -> None:
        if "stop" in what:
            self.stop()
        elif "preset" in what:
            chosen = PRESETS[what["preset"]]
            self._form.show(chosen.choices, what["preset"])
            self._view.pin(None)
            self._begin(_Next(chosen.choices, may_train=False, beside=chosen.beside))
        else:
            self._begin(_Next(self.choices, may_train=True, beside=self._beside))

    def _begin(self, new: _Next) -> None:
        """Explore these networks, after the running job has stopped."""
        with self._lock:
            self.choices, self._beside = new.choices, new.beside
            self._form.message = ""
            self._form.is_busy = True
            if self._work.is_busy:
                self._queued = new
                self._work.stop()
                return
            self._start(new)

    def _start(self, new: _Next) -> None:
        def job(report: exploration.OnStep) -> list[Exploration]:
            found = []
            for choices in filter(None, (new.beside, new.choices)):
                if not (new.may_train or self._pair or choices.files):
                    _refuse_to_train(choices)
                found.append(exploration.explore_pair(choices, pair=self._pair, on_step=report))
            return found

        self._quiet_until, self._unsaid = time.monotonic() + SECONDS_OF_QUIET, None
        self._work.start(job)
        in_background(self._end_quiet, seconds=SECONDS_OF_QUIET)

    def _end_quiet(self) -> None:
        """Say what goes on: the job at work takes long enough to be watched."""
        with self._lock:
            if self._work.is_busy and time.monotonic() >= self._quiet_until:
                self._fade()
                if self._unsaid:
                    self._unsaid()

    def _fade(self) -> None:
        """Make the view pale, unless it shows what was chosen."""
        with self._lock:
            if self.result is not None and self.result.choices != self.choices:
                self._view.fade()

    def _end(self, result: Any, error: Exception | None) -> None:
        with self._lock, self._form.hold_sync():  # which has its say after the figures
            if not self._work.is_busy:
                self._form.progress, self._form.is_busy = [0, 0], False
                self._training.layout.display = "none"
            if isinstance(result, list):
                self._show_result(*result)
            elif isinstance(error, Stopped):
                self._form.status = (
                    "Stopped. Trained epochs are stored; Compare goes on from there."
                )
            elif isinstance(error, NotTrainedError):
                self._form.status = str(error)
            elif error is not None:
                self._form.status = ""
                self._show_error(error)
            if error is not None:
                self._fade()
            queued, self._queued = self._queued, None
            if queued and not self._work.is_busy:
                self._start(queued)

    def _show_step(self, *step: Any, **more: Any) -> None:
        with self._lock:
            self._unsaid = None
            if time.monotonic() < self._quiet_until:
                self._unsaid = functools.partial(self._say_step, *step, **more)
            else:
                self._say_step(*step, **more)

    def _say_step(
        self, what: str, done: int, total: int, histories: Mapping[str, Any] | None = None
    ) -> None:
        now = time.monotonic()
        before, since, first = self._pace
        if before == what and done < total and now - self._said < SECONDS_BETWEEN_STEPS:
            return
        self._said = now
        if before != what:
            self._pace = before, since, first = what, now, done
        left = ""
        if done > first and total > done:
            seconds = (now - since) / (done - first) * (total - done)
            left = f", {tqdm.tqdm.format_interval(seconds)} left"
        with self._form.hold_sync():
            self._form.progress = [done, total]
            self._form.status = f"{what} ({done} of {total}{left})"
        if histories and now - self._drawn > SECONDS_BETWEEN_CURVES:
            self._drawn = now
            self._training.show(panels.training(histories, num_epochs=total))
            self._training.layout.display = ""

    def _show_error(self, error: BaseException) -> None:
        background_errors.report(error)
        self._form.message = texts.plain(str(error) or type(error).__name__)

    def _show_result(self, *found: Exploration) -> None:
        *beside, result = found
        origins = " and ".join(dict.fromkeys(result.pair.origins))
        self._form.status = f"{result.pair.title} ({origins})"
        try:
            for one in beside:
                self._view.pin(one)
            self._view.show(result)
        except Exception as error:  # noqa: BLE001 (shown to the reader)
            self._show_error(error)

    def _begin_landscape(self) -> None:
        result, method = self.result, self.method
        if result is None or self._work.is_busy:
            return
        if method == "naive":
            self._view.show_landscape(
                None, "Naively merged, there are A and B alone; choose a matcher to walk with."
            )
            return

        said = self._form.status

        def job(report: exploration.OnStep) -> None:
            numbers = result.contour(method, on_step=report)
            self._view.show_landscape(panels.landscape(result, method, numbers))
            self._form.status = said

        self._form.is_busy = True
        self._work.start(job)


def _refuse_to_train(choices: Choices) -> None:
    """Check that both networks are stored.

    Raises:
        NotTrainedError: if not.
    """
    experiments = {
        name: choices.experiment(seed) for name, seed in zip("AB", choices.seeds, strict=True)
    }
    missing = [name for name, one in experiments.items() if not store.is_stored(one)]
    if missing:
        which = " and ".join(f"{name} (seed {experiments[name].seed})" for name in missing)
        raise NotTrainedError(
            f"Not trained yet: network {which}. Compare trains for "
            f"{experiments['A'].train.num_epochs} epochs and stores the result."
        )
