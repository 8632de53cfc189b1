"""Executing one notebook headlessly, and saying in one line what went wrong if something did.

Papermill runs it in this interpreter's own kernel and saves it after every cell. Besides an
exception in a cell this notices what papermill alone lets pass: an exception swallowed by an output
widget, a kernel that died (out of memory, killed), a full disk.
"""

import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from rebasin_lab import progress


class NotebookOutcome(NamedTuple):
    """How a notebook ended.

    Attributes:
        notebook: its name, without ending.
        seconds: wall time.
        error: "" if it ran through; else the cell and the error.
        output: the executed notebook, as far as it got.
        parameters: what it was run with.
    """

    notebook: str
    seconds: float
    error: str
    output: Path
    parameters: Mapping[str, Any]


def execute(
    notebook: Path, output: Path, parameters: Mapping[str, Any], *, status: logging.Handler
) -> NotebookOutcome:
    """Run a notebook into `output`, with a log of what it printed beside it.

    Args:
        notebook: the source; its folder is the working directory.
        output: the executed copy; an earlier one is removed first.
        parameters: values for its parameters cell.
        status: receives what the notebook prints, as it prints.
    """
    output.unlink(missing_ok=True)
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    log = logging.FileHandler(output.with_suffix(".log"), mode="w", encoding="utf-8")
    start = time.perf_counter()
    for handler in (log, status):
        logger.addHandler(handler)
    try:
        error = _run(notebook, output, parameters, logger)
    finally:
        for handler in (log, status):
            logger.removeHandler(handler)
            handler.close()
    seconds = time.perf_counter() - start
    return NotebookOutcome(notebook.stem, seconds, error, output, parameters)


def swallowed_errors(path: Path) -> list[str]:
    """Exceptions an executed notebook's output widgets caught: they show nowhere else."""
    metadata = nbformat.read(path, as_version=4).metadata
    state = metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return [
        f"{output['ename']}: {output['evalue']}"
        for widget in state.get("state", {}).values()
        if widget["model_name"] == "OutputModel"
        for output in widget["state"].get("outputs", ())
        if output["output_type"] == "error"
    ]


class StatusLine(logging.Handler):
    """Shows a notebook's progress (the lines of `progress`), each in place of the last.

    Only on a terminal: a log file keeps one line per notebook.
    """

    def __init__(self, label: str, out: io.TextIOBase):
        super().__init__()
        self._label, self._out = label, out
        self._live = out.isatty()
        self._show("running ...")

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a progress bar said: what is being done, how far, how long it has left."""
        lines = [line for line in record.getMessage().splitlines() if progress.is_line(line)]
        if lines:
            self._show(lines[-1])

    def close(self) -> None:
        """Clear the line."""
        if self._live:
            self._out.write("\r\033[K")
            self._live = False
        super().close()

    def _show(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - len(self._label) - 2
            self._out.write(f"\r\033[K{self._label} {text[: max(width, 0)]}")
            self._out.flush()


def _run(
    notebook: Path, output: Path, parameters: Mapping[str, Any], logger: logging.Logger
) -> str:
    try:
        with _KernelEnvironment():
            papermill.execute_notebook(
                notebook,
                output,
                parameters=dict(parameters),
                kernel_name="python3",  # not whatever name the author's machine had
                cwd=str(notebook.parent),
                log_output=True,
                progress_bar=False,
                start_timeout=120,
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors; not its warnings
            )
        swallowed = swallowed_errors(output)
        error = f"inside a widget: {'; '.join(swallowed)}" if swallowed else ""
    except PapermillExecutionError as failure:
        logger.error("\n".join(failure.traceback))  # papermill's own log lacks it
        return f"In [{failure.exec_count}]: {failure.ename}: {failure.evalue}"
    except (RuntimeError, OSError) as failure:  # nbclient: the kernel died or did not start; disk
        error = f"{_last_started_cell(output)}{type(failure).__name__}: {failure}"
    if error:
        logger.error(error)
    return error


def _last_started_cell(output: Path) -> str:
    """Which cell was running when the kernel went, by the times papermill keeps."""
    try:
        cells = nbformat.read(output, as_version=4).cells
    except (OSError, ValueError):  # never written, or cut short by a full disk
        return ""
    started = [c for c in cells if c.metadata.get("papermill", {}).get("start_time")]
    code = [cell.source.strip() for cell in started if cell.cell_type == "code"]
    return f"in the cell beginning '{code[-1].splitlines()[0]}': " if code else ""


class _KernelEnvironment:
    """The environment of kernels, which inherit ours, while they run."""

    def __enter__(self) -> None:
        own_kernels = Path(sys.prefix) / "share" / "jupyter"
        added = {
            # A `python3` kernel in the user's home may belong to another Python: ours comes first.
            "JUPYTER_PATH": os.pathsep.join(
                filter(None, [str(own_kernels), os.environ.get("JUPYTER_PATH")])
            ),
            "MPLBACKEND": "agg",
            # A kernel that grabs 75 % of a GPU leaves nothing for the next one.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
