"""Executing one notebook headlessly, and saying in one line what went wrong if something did.

Papermill runs it in this interpreter's own kernel and saves it after every cell. Besides an
exception in a cell this notices what papermill alone lets pass: an exception swallowed by an output
widget, a kernel that died (out of memory, killed), a full disk.

An executed notebook carries a record of its run in its metadata, under `rebasin_lab`. It is written
when the run has ended: a copy without a record is one that was interrupted.
"""

import datetime
import hashlib
import io
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
import tqdm
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets import Type

from rebasin_lab import paths, progress

# In the metadata of an executed notebook, and of the output in which a kernel describes itself.
METADATA_KEY = "rebasin_lab"

SECONDS_BETWEEN_LINES = 60.0  # of progress, where there is no terminal to redraw one

SECONDS_BETWEEN_LOOKS = 1.0  # for a kernel's reply

_KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookOutcome(NamedTuple):
    """How a notebook ended.

    Attributes:
        notebook: its name, without ending.
        seconds: wall time.
        error: "" if it ran through; else the cell and the error.
        output: the executed notebook, as far as it got.
        parameters: what it was run with.
        started: when, in UTC.
        kept: whether this is the outcome of an earlier run.
        record: what the executed notebook carries in its metadata.
    """

    notebook: str
    seconds: float
    error: str
    output: Path
    parameters: Mapping[str, Any]
    started: datetime.datetime
    kept: bool = False
    record: Mapping[str, Any] = {}


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
    started, start = datetime.datetime.now(datetime.UTC), time.perf_counter()
    for handler in (log, status):
        logger.addHandler(handler)
    try:
        error = _run(notebook, output, parameters, logger)
    finally:
        for handler in (log, status):
            logger.removeHandler(handler)
            handler.close()
    seconds = time.perf_counter() - start
    return NotebookOutcome(notebook.stem, seconds, error, output, parameters, started)


def source_digest(path: Path) -> str:
    """What a notebook says and does: a digest of its cells, but for what papermill puts in."""
    cells = [
        [cell.cell_type, cell.source, list(cell.metadata.get("tags", ()))]
        for cell in nbformat.read(path, as_version=4).cells
        if "injected-parameters" not in cell.metadata.get("tags", ())
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def described_by_kernel(path: Path) -> dict[str, Any]:
    """What the kernel of an executed notebook said of itself: its devices, versions and so on.

    A kernel says so in the metadata of an output, under `METADATA_KEY`; if it did not, or there is
    no such notebook, the answer is empty.
    """
    for cell in _cells(path):
        for output in cell.get("outputs", ()):
            if METADATA_KEY in output.get("metadata", {}):
                return dict(output.metadata[METADATA_KEY])
    return {}


def devices_now() -> list[str]:
    """The devices a kernel would find, each as `device (kind)`; none if that cannot be said.

    Another process is asked: one that has looked at a GPU holds some of its memory.
    """
    program = (
        "import jax, json; print(json.dumps([f'{d} ({d.device_kind})' for d in jax.devices()]))"
    )
    with _KernelEnvironment():
        asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return json.loads(asked.stdout) if asked.returncode == 0 else []


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Put a record into the metadata of an executed notebook, if there is one."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError):  # never written, or cut short by a full disk
        return
    notebook.metadata[METADATA_KEY] = record
    notebook.metadata.kernelspec = _KERNELSPEC  # papermill leaves the name the source came with
    paths.write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def read_record(path: Path) -> dict[str, Any]:
    """The record of an executed notebook; empty if it has none."""
    try:
        return dict(nbformat.read(path, as_version=4).metadata.get(METADATA_KEY, {}))
    except (OSError, ValueError):  # not there, or cut short
        return {}


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
        self._label, self._out, self._clock = label, out, clock
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
        self._text = lines[-1]
        if self._live:
            self._draw()
        elif self._clock() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._clock()
            print(self._line(), file=self._out, flush=True)

    def close(self) -> None:
        """Clear the line."""
        with self.lock:
            if self._live and not self._ended.is_set():
                self._out.write("\r\033[K")
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
        self._out.write(f"\r\033[K{self._line()[:width]}")
        self._out.flush()


class _PatientChannel(AsyncZMQSocketChannel):
    """A channel that looks for messages again and again, instead of waiting to be told of one.

    While a notebook's client waits for a kernel's reply it may send a message for an output widget.
    jupyter_client sends past the event loop, and a reply that comes at that moment is noticed by
    nobody: measured, one in thirty notebooks with such a widget then waits for ever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message; `queue.Empty` if there is none for so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SECONDS_BETWEEN_LOOKS if deadline is None else deadline - time.monotonic()
            try:
                return await super().get_msg(max(0.0, min(left, SECONDS_BETWEEN_LOOKS)))
            except queue.Empty:
                if left <= SECONDS_BETWEEN_LOOKS and deadline is not None:
                    raise


class _PatientClient(AsyncKernelClient):
    shell_channel_class = Type(_PatientChannel)


class _PatientKernelManager(AsyncKernelManager):
    client_factory = Type(_PatientClient)


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
                kernel_manager_class=_PatientKernelManager,
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
    started = [c for c in _cells(output) if c.metadata.get("papermill", {}).get("start_time")]
    code = [cell.source.strip() for cell in started if cell.cell_type == "code"]
    return f"in the cell beginning '{code[-1].splitlines()[0]}': " if code else ""


def _cells(path: Path) -> list[nbformat.NotebookNode]:
    try:
        return nbformat.read(path, as_version=4).cells
    except (OSError, ValueError):  # never written, or cut short by a full disk
        return []


class _KernelEnvironment:
    """The environment of kernels, which inherit ours, while they run."""

    def __enter__(self) -> None:
        # A `python3` kernel in the user's home, or even in this environment, may belong to another
        # Python. This one is this interpreter's, and comes first.
        self._kernels = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        write_kernel_spec(Path(self._kernels.name) / "kernels" / "python3")
        added = {
            "JUPYTER_PATH": os.pathsep.join(
                filter(None, [self._kernels.name, os.environ.get("JUPYTER_PATH")])
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
        self._kernels.cleanup()
