"""Long work on other threads, beside a notebook that stays usable.

A cell that computes blocks every plain button, so work that takes seconds has a thread of its own:
`Work` for one long job, with progress and a way to stop it, `Latest` for a stream of small requests
of which only the newest still matters.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from rebasin_lab.lab import background_errors

OnStep = Callable[..., None]

# Trainings of two explorers on one page take turns, since each uses all cores.
_turn = threading.Lock()


def in_background(target: Callable[..., None], *args: Any, seconds: float = 0.0) -> None:
    """Run a function on another thread, some seconds from now, in this one's context.

    The context holds the message that a kernel is answering. Without it a thread's news of a widget
    would count as an answer to whatever message came last, and ipykernel 7.4 sends what the reader
    does with the widget to that message's subshell, even if that has gone.
    """
    thread = threading.Timer(seconds, contextvars.copy_context().run, [target, *args])
    thread.daemon = True
    thread.start()


class Stopped(Exception):  # noqa: N818 (not an error)
    """Raised inside work that was asked to stop."""


class Work:
    """One long job at a time.

    Args:
        on_step: called from the job's thread with a task, how much of it is done, of how much, and
            with what else the job says by keyword.
        on_end: called from there when a job has ended, with its result and the error that ended it,
            one of which is None. It may start another job.
    """

    def __init__(self, on_step: OnStep, on_end: Callable[[Any, Exception | None], None]) -> None:
        self._on_step = on_step
        self._on_end = on_end
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._is_busy = False
        self._num_threads = 0

    @property
    def is_busy(self) -> bool:
        """True while a job runs or waits for its turn."""
        return self._is_busy

    def start(self, job: Callable[[OnStep], Any]) -> None:
        """Run `job(report)` on a thread; `report` raises `Stopped` once `stop` was called.

        Raises:
            RuntimeError: if a job is at work.
        """
        with self._changed:
            if self._is_busy:
                raise RuntimeError("One job at a time: stop the one at work, or wait for it.")
            self._is_busy = True
            self._num_threads += 1
            self._stop.clear()
        background_errors.expect(self)
        in_background(self._run, job)

    def stop(self) -> None:
        """Ask the job to end at its next step; does nothing if there is none."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait until no job is left and the end of each was reported; return True if so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_threads == 0, seconds)

    def _run(self, job: Callable[[OnStep], Any]) -> None:
        result, ended_by = None, None
        try:
            self._wait_for_turn()
            try:
                result = job(self._report)
            finally:
                _turn.release()
        except Exception as error:  # noqa: BLE001 (`on_end` shows it)
            ended_by = error
        with self._changed:
            self._is_busy = False
        try:
            self._on_end(result, ended_by)
        finally:
            with self._changed:
                self._num_threads -= 1
                self._changed.notify_all()

    def _wait_for_turn(self) -> None:
        while not _turn.acquire(timeout=0.1):
            self._report("waiting for other work on this page", 0, 1)

    def _report(self, what: str, done: int, total: int, **more: Any) -> None:
        if self._stop.is_set():
            raise Stopped
        self._on_step(what, done, total, **more)


class Latest:
    """The newest of many requests, one at a time, on another thread.

    Args:
        answer: called with a request; the newest one that comes meanwhile is next, others are
            dropped.
        on_error: called with an exception of `answer`.
    """

    def __init__(
        self, answer: Callable[[Any], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._answer = answer
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: list[Any] = []  # at most one
        self._is_busy = False

    def ask(self, request: Any) -> None:
        """Request this, unless a newer request comes before its turn."""
        with self._changed:
            self._waiting = [request]
            background_errors.expect(self)
            if not self._is_busy:
                self._is_busy = True
                in_background(self._run)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to answer; return True if so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_busy = False
                    self._changed.notify_all()
                    return
                request = self._waiting.pop()
            try:
                self._answer(request)
            except Exception as error:  # noqa: BLE001 (shown in the panel)
                self._show(error)

    def _show(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # it ends this thread; another one takes the next request
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
            raise
