"""A notebook's progress in one line, for whoever waits for a run."""

import io
import logging
import shutil
import threading
import time
from collections.abc import Callable

import tqdm

from rebasin_lab import progress, texts

SECONDS_BETWEEN_LINES = 60.0  # of progress, where there is no terminal to redraw one


class StatusLine(logging.Handler):
    """Shows a notebook's progress (the lines of `progress`), each in place of the last.

    On a terminal there is one line, with a clock that ticks. Anywhere else, as in the log of a CI
    job, news is printed, but at most once a minute.

    Args:
        label: which notebook it is.
        out: where to print.
        since: when the whole run began, on the clock.
        clock: seconds.
    """

    def __init__(
        self,
        label: str,
        out: io.TextIOBase,
        *,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self._label, self._out, self._clock = texts.in_a_line(label), out, clock
        self._last = clock()
        self._since = self._last if since is None else since
        self._live = out.isatty()
        self._text = "running ..."
        self._ended = threading.Event()
        if self._live:
            self._draw()
            threading.Thread(target=self._tick, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a progress bar said: what is being done, how far, how long it has left."""
        lines = [line for line in record.getMessage().splitlines() if progress.is_line(line)]
        if not lines or self._ended.is_set():
            return
        self._text = texts.in_a_line(lines[-1], most=300)
        if self._live:
            self._draw()
        elif self._clock() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._clock()
            self._write(f"{self._line()}\n")

    def close(self) -> None:
        """Clear the line."""
        with self.lock:
            if self._live and not self._ended.is_set():
                self._write("\r\033[K")
            self._ended.set()
        super().close()

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self.lock:
                if not self._ended.is_set():
                    self._draw()

    def _line(self) -> str:
        elapsed = tqdm.tqdm.format_interval(self._clock() - self._since)
        return f"{self._label} {elapsed} | {self._text}"

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\033[K{self._line()[:width]}")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # whoever watched has gone: no failure of the notebook
            self._ended.set()
