"""Pre-render the stops of dials next to their present ones while the kernel is idle.

What a section computes for a stop may take a tenth of a second, too long for a dial. So stops are
drawn ahead, but only while the kernel is idle: a run of the notebook from top to bottom takes no
longer for it.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator
from typing import Any

from IPython import get_ipython

from rebasin_lab.lab import background_errors
from rebasin_lab.lab.widgets.work import in_background

SECONDS_OF_QUIET = 0.5  # after a cell; the next of several queued cells starts sooner
LONG_PICTURE = 1.0  # seconds; a longer one would delay a dial that moves meanwhile
_Pictures = Generator[Callable[[], Any], None, None]


class Ahead:
    """Pre-renderer of all panels of a kernel, one picture at a time, while the kernel is idle.

    The panel whose dial moved last comes first. A panel with a long picture stops after it, until
    one of its dials moves again.

    Args:
        shell: the kernel's, in which a cell is running.
    """

    def __init__(self, shell: Any) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, _Pictures] = {}  # the newest last
        self._is_at_work = False
        self._cell_runs = True
        self._quiet_from = 0.0
        self._num_moves = 0
        shell.events.register("pre_run_cell", lambda *_: self._set_cell(runs=True))
        shell.events.register("post_run_cell", lambda *_: self._set_cell(runs=False))

    def ask(self, panel: Hashable, pictures: _Pictures) -> None:
        """Draw these, one after the other, in place of the same panel's last request."""
        with self._changed:
            self._waiting.pop(panel, None)
            self._waiting[panel] = pictures
            if not self._is_at_work:
                self._is_at_work = True
                in_background(self._run)

    @contextlib.contextmanager
    def give_way(self) -> Iterator[None]:
        """Start no picture while the reader waits for one."""
        with self._changed:
            self._num_moves += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_moves -= 1
                self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to draw; return True if so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_at_work, seconds)

    def _set_cell(self, *, runs: bool) -> None:
        with self._changed:
            self._cell_runs = runs
            self._quiet_from = time.monotonic() + SECONDS_OF_QUIET
            self._changed.notify_all()

    def _run(self) -> None:
        while (next_one := self._take()) is not None:
            pictures, draw = next_one
            began = time.monotonic()
            with contextlib.suppress(Exception):  # shown once a dial is turned there
                draw()
            if time.monotonic() - began > LONG_PICTURE:
                pictures.close()  # the panel may have requested others meanwhile

    def _take(self) -> tuple[_Pictures, Callable[[], Any]] | None:
        """Return the next picture, as soon as the kernel is idle; None if none is left."""
        with self._changed:
            while self._waiting:
                if self._cell_runs or self._num_moves:
                    self._changed.wait()
                elif (left := self._quiet_from - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    panel = next(reversed(self._waiting))
                    with contextlib.suppress(Exception):  # none is left, or a stop has none
                        return self._waiting[panel], next(self._waiting[panel])
                    del self._waiting[panel]
            self._is_at_work = False
            self._changed.notify_all()
            return None


def for_this_kernel() -> Ahead | None:
    """Return the pre-renderer of this kernel; None without a kernel, or without a reader."""
    shell = get_ipython()
    no_reader = getattr(shell, "kernel", None) is None or background_errors.is_listening()
    return None if no_reader else _of(shell)


_of = functools.cache(Ahead)  # one a process: its callbacks stay registered
