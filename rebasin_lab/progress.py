"""Progress bars that work in a terminal, in JupyterLab and in a headless notebook run.

The library is silent; long work takes a callback, which can update such a tqdm bar. In papermill or
a log file a bar is one line every few seconds: redrawing would fill the log with copies, and a
widget would show only 0 %.
"""

import io
import re
import sys
from contextlib import AbstractContextManager
from typing import Literal

import tqdm
import tqdm.auto

from rebasin_lab import checks, texts

Style = Literal["auto", "bar", "lines", "silent"]

SECONDS_BETWEEN_LINES = 3.0

_LINE = re.compile(r".+: \d+/\d+ in [\d:]+, [\d:?]+ left")


@checks.arguments
def progress_bar(
    total: checks.Natural, description: str, *, done: checks.Natural = 0, style: Style = "auto"
) -> AbstractContextManager:
    """A tqdm bar (`.update(n)`, `.set_postfix_str(text)`) in a style for its output.

    Args:
        total: units of work.
        description: of the work, such as "training seed 0".
        done: units that an earlier process did.
        style: "bar" redraws itself (a widget in JupyterLab), "lines" prints lines, "auto" takes
            "bar" for a terminal or a notebook kernel and "lines" otherwise.
    """
    description = texts.in_a_line(description, 200)
    if style == "silent":
        return tqdm.tqdm(total=total, initial=done, disable=True)
    if style == "bar" or (style == "auto" and _is_interactive()):
        return tqdm.auto.tqdm(total=total, initial=done, desc=description, leave=False)
    return tqdm.tqdm(
        total=total,
        initial=done,
        desc=description,
        file=_Lines(sys.stdout),
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        delay=SECONDS_BETWEEN_LINES,  # short work prints nothing
        bar_format="{desc}: {n_fmt}/{total_fmt} in {elapsed}, {remaining} left{postfix}",
    )


def is_line(text: str) -> bool:
    """True if a printed line is one of a progress bar in the "lines" style."""
    return _LINE.match(text) is not None


def _is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class _Lines:
    """A stream that turns tqdm's redraws into lines."""

    def __init__(self, stream: io.TextIOBase):
        self.stream = stream

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            self.stream.write(text + "\n")

    def flush(self) -> None:
        self.stream.flush()
