"""Headless execution of one notebook, with an error of one line if it fails.

Papermill runs it in this interpreter's own kernel and saves it after every cell. Besides an
exception in a cell, a notebook fails for what papermill alone lets pass: an exception swallowed by
an output widget, by another callback or on another thread (`background_errors`), a kernel that died
(out of memory, killed), a notebook that takes too long, a full disk.

An executed notebook carries a record of its run in its metadata, under `rebasin_lab`. It is written
when the run has ended: a copy without a record is one that was interrupted.
"""

import datetime
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io

from rebasin_lab import paths, progress, texts
from rebasin_lab.lab.execution.kernels import Kernels
from rebasin_lab.lab.execution.reading import notebook_there, read_notebook
from rebasin_lab.lab.execution.status import Place, StatusLine

__all__ = [
    "METADATA_KEY",
    "Kernels",
    "NotebookOutcome",
    "Place",
    "StatusLine",
    "described_by_kernel",
    "execute",
    "read_notebook",
    "swallowed_errors",
    "write_record",
]

# In the metadata of an executed notebook, and of the output in which a kernel describes itself.
METADATA_KEY = "rebasin_lab"

SECONDS_TO_START = 120  # for a kernel, until it answers

_KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookOutcome(NamedTuple):
    """The outcome of one notebook.

    Attributes:
        notebook: its name, without ending.
        seconds: wall time.
        error: "" if it ran through; else the cell and the error.
        output: the executed notebook, as far as it got.
        parameters: of the run.
        started: when, in UTC.
        record: in the metadata of the executed notebook.
    """

    notebook: str
    seconds: float
    error: str
    output: Path
    parameters: Mapping[str, Any]
    started: datetime.datetime
    record: Mapping[str, Any] = {}


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    kernels: Kernels,
    status: StatusLine,
    minutes: float,
    is_last: bool = True,
) -> NotebookOutcome:
    """Run a notebook into `output`, with a log of its prints beside it.

    Args:
        notebook: the source.
        output: the executed copy; an earlier one, and its log, are removed first.
        parameters: values for its parameters cell.
        kernels: one of them runs it.
        status: receives the notebook's prints, and its present cell.
        minutes: that it may take; then its kernel is killed, with all processes it started.
        is_last: if not, a kernel is prepared for the next notebook.

    Raises:
        ValueError: if the copy would be the notebook itself.
        OSError: if an earlier copy cannot be removed.
    """
    if output.parent.resolve() / output.name == notebook.resolve():
        raise ValueError(f"Expected a notebook and its executed copy to differ; got '{notebook}'.")
    for old in (output, output.with_suffix(".log")):
        paths.remove(old, within=output.parent)
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    log = _LogFile(output.with_suffix(".log"), mode="w", encoding="utf-8")
    log.setFormatter(_PlainFormatter())
    started, start = datetime.datetime.now(datetime.UTC), time.perf_counter()
    for handler in (log, status):
        logger.addHandler(handler)
    try:
        kernel = kernels.take(prepare_next=not is_last)
        with kernels.limited(60 * minutes) as reached:
            error = _run(notebook, output, parameters, logger, kernel, status.place)
        if error and reached.is_set():
            error = (
                f"{status.place.text}it was stopped after {minutes:g} minutes, which a notebook "
                "may take. If it only needs longer, run the same command with a larger --timeout "
                "(minutes): what was trained is kept."
            )
            logger.error(error)
    finally:
        kernels.give_back()
        for handler in (log, status):
            logger.removeHandler(handler)
            handler.close()
    if log.error is not None:
        error = error or f"Could not write to '{log.baseFilename}': {log.error.strerror}"
    seconds = time.perf_counter() - start
    return NotebookOutcome(notebook.stem, seconds, texts.plain(error), output, parameters, started)


def described_by_kernel(path: Path) -> dict[str, Any]:
    """Return the devices, versions and so on that the kernel of an executed notebook recorded.

    It is empty if no output has them in its metadata, under `METADATA_KEY`, or without a notebook.
    """
    for cell in _cells(path):
        for output in cell.get("outputs", ()):
            if isinstance(description := output.get("metadata", {}).get(METADATA_KEY), dict):
                return dict(description)
    return {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Put a record into the metadata of an executed notebook, if there is one.

    The lines of progress bars go: its log has them, and a reader has no use for them.
    """
    if (notebook := notebook_there(path)) is None:
        return
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if not _is_progress(each)]
    notebook.metadata[METADATA_KEY] = record
    notebook.metadata.get("papermill", {})["output_path"] = str(path)
    notebook.metadata.kernelspec = _KERNELSPEC  # papermill leaves the name the source came with
    paths.write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def _is_progress(output: nbformat.NotebookNode) -> bool:
    return output.output_type == "stream" and all(map(progress.is_line, output.text.splitlines()))


def swallowed_errors(path: Path) -> list[str]:
    """Return exceptions that a notebook's output widgets caught: they show nowhere else."""
    metadata = read_notebook(path).metadata
    state = metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return [
        f"{output['ename']}: {output['evalue']}"
        for widget in state.get("state", {}).values()
        if widget["model_name"] == "OutputModel"
        for output in widget["state"].get("outputs", ())
        if output["output_type"] == "error"
    ]


class _LogFile(logging.FileHandler):
    """A file with an attribute `error`, set when it could not be written, as on a full disk."""

    error: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, D102
        error = sys.exception()
        if isinstance(error, OSError):
            self.error = error
        else:
            super().handleError(record)

    def close(self) -> None:  # noqa: D102
        try:
            super().close()
        except OSError as error:
            self.error = error


class _Atomically(LocalHandler):
    """Papermill's writer, used after each cell: an executed notebook is never half a file."""

    def write(self, content: str, path: str) -> None:
        paths.write_atomically(Path(path.removeprefix(_SCHEME)), content.encode())

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(_SCHEME)


_SCHEME = "atomically://"
papermill_io.register(_SCHEME, _Atomically())


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return texts.plain(super().format(record), most=texts.MOST_LOGGED)


def _run(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    logger: logging.Logger,
    kernel: AsyncKernelManager,
    place: Place,
) -> str:
    try:
        papermill.execute_notebook(
            _literal(notebook),
            _SCHEME + _literal(output),
            parameters=dict(parameters),
            kernel_name="python3",
            km=kernel,
            log_output=True,
            progress_bar=False,
            start_timeout=SECONDS_TO_START,
            on_notebook_start=place.begin,
            on_cell_start=place.move,
        )
        swallowed = swallowed_errors(output)
        error = f"inside a widget: {'; '.join(swallowed)}" if swallowed else ""
    except PapermillExecutionError as failure:
        logger.error("\n".join(failure.traceback))  # papermill's own log lacks it
        return f"In [{failure.exec_count}]: {failure.ename}: {failure.evalue}"
    # nbclient: the kernel died or did not start; disk; half a surrogate pair in an output, and
    # other copies that cannot be read back
    except (RuntimeError, OSError, ValueError) as failure:
        error = f"{place.text}{type(failure).__name__}: {failure}"
        if not place.number:
            program = f"{sys.executable} -m ipykernel_launcher"
            error += f". Its kernel did not start: see what '{program}' says."
    if error:
        logger.error(error)
    return error


def _literal(path: Path) -> str:
    """Return a path for papermill, which puts parameters in place of what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = notebook_there(path)
    return notebook.cells if notebook else []
