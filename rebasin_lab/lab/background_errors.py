"""Errors of a widget's callback, or of another thread, which fail their cell in a headless run.

JupyterLab shows them in their panel. Without a reader, a notebook with such an error must not count
as one that ran through. So the kernel of a headless run collects them, and raises each at the end
of the cell.
"""

import threading
import weakref
from typing import Any, Protocol, runtime_checkable

from IPython import get_ipython

MOST_ERRORS = 20  # of a cell
SECONDS_TO_WAIT = 600.0  # at the end of a cell, for its work on another thread


@runtime_checkable
class Waitable(Protocol):
    """Work on another thread."""

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; return True if it has."""


class _Listener:
    """Shows errors of the background at the end of each cell, as an error of that cell."""

    def __init__(self, shell: Any) -> None:
        self.errors: list[BaseException] = []
        self.work: weakref.WeakSet[Waitable] = weakref.WeakSet()
        self._shell = shell
        self._print = threading.excepthook
        threading.excepthook = self._on_thread
        shell.events.register("post_run_cell", self._end_cell)

    def _on_thread(self, uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_value is not None:
            self.errors.append(uncaught.exc_value)
        self._print(uncaught)

    def _end_cell(self, *_: Any) -> None:
        for work in list(self.work):
            work.wait(SECONDS_TO_WAIT)
            self.work.discard(work)
        errors, self.errors = self.errors[:MOST_ERRORS], []
        for error in errors:
            self._shell.showtraceback((type(error), error, error.__traceback__))


_listener: _Listener | None = None


def listen() -> None:
    """Make errors reported from now on fail the cell in which they happen; for headless kernels."""
    global _listener
    _listener = _listener or _Listener(get_ipython())


def is_listening() -> bool:
    """Return True in the kernel of a headless run: no reader will turn a dial."""
    return _listener is not None


def report(error: BaseException) -> None:
    """Report an error that a panel shows; in a headless run it fails the cell."""
    if _listener is not None:
        _listener.errors.append(error)


def expect(work: Waitable) -> None:
    """Report work started on another thread: headless, its cell ends after it."""
    if _listener is not None:
        _listener.work.add(work)
