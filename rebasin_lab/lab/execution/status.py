"""A notebook's progress in one line, on a terminal or in a log."""

import io
import logging
import shutil
import threading
import time
from collections.abc import Callable

import nbformat
import tqdm

from rebasin_lab import progress, texts

SECONDS_BETWEEN_LINES = 60.0  # where there is no terminal to redraw one
SECONDS_BETWEEN_LOOKS = 1.0  # at the clock


class Place:
    """The cell that a notebook is at; nbclient calls `begin` and `move`.

    Attributes:
        number: of the cell, from 1; 0 before the first one.
        count: of all cells.
        text: the last cell of code that started, for the start of an error.
    """

    def __init__(self) -> None:
        self.number, self.count = 0, 0
        self.text = "before its first cell: "

    def begin(self, *, notebook: nbformat.NotebookNode) -> None:
        """Note that the kernel is ready."""
        self.count = len(notebook.cells)

    def move(self, *, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Note that a cell starts."""
        self.number = cell_index + 1
        if cell.cell_type == "code" and cell.source.strip():
            begins = texts.in_a_line(cell.source.strip().splitlines()[0], most=100)
            self.text = f"in cell {self.number} of {self.count}, beginning '{begins}': "


class StatusLine(logging.Handler):
    """Line with a notebook's cell and progress (the lines of `progress`), updated in place.

    On a terminal there is one line, with a clock that ticks. Anywhere else, as in the log of a CI
    job, a line is printed every minute.

    Attributes:
        place: the cell it is at.

    Args:
        label: of the notebook.
        out: where to print.
        since: start of the whole run, on the clock.
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
        self.place = Place()
        self._latest = (0, "running ...")  # number of the cell, text
        self._ended = threading.Event()
        if self._live:
            self._draw()
        threading.Thread(target=self._tick, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Show the state of a progress bar: the task, how far it is, the time left."""
        lines = [line for line in record.getMessage().splitlines() if progress.is_line(line)]
        if not lines or self._ended.is_set():
            return
        self._latest = (self.place.number, texts.in_a_line(lines[-1], most=300))
        self._show()

    def close(self) -> None:
        """Clear the line."""
        with self.lock:
            if self._live and not self._ended.is_set():
                self._write("\r\033[K")
            self._ended.set()
        super().close()

    def _tick(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            with self.lock:
                if not self._ended.is_set():
                    self._show()

    def _show(self) -> None:
        if self._live:
            self._draw()
        elif self._clock() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._clock()
            self._write(f"{self._line()}\n")

    def _line(self) -> str:
        elapsed = tqdm.tqdm.format_interval(self._clock() - self._since)
        number, text = self._latest
        parts = [f"{self._label} {elapsed}"]
        if self.place.number:
            parts.append(f"cell {self.place.number} of {self.place.count}")
        if number == self.place.number:
            parts.append(text)
        return " | ".join(parts)

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\033[K{self._line()[:width]}")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # the reader has gone: no failure of the notebook
            self._ended.set()
