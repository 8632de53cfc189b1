"""Kernels to execute notebooks in: this interpreter's own, the next one prepared ahead of time.

A kernel takes seconds to start and to import the library, which is most of the time of a notebook
whose results are all stored. `Kernels` starts one while another is at work.
"""

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from traitlets import Type, Unicode

from rebasin_lab import processes
from rebasin_lab.lab.jupyter import KernelEnvironment
from rebasin_lab.paper import fingerprints

SECONDS_BETWEEN_LOOKS = 1.0  # for a kernel's reply

_ARGUMENTS = [
    "--IPKernelApp.log_level=40",  # errors; not its warnings
    "--HistoryManager.hist_file=:memory:",
    # Import the lab while another notebook runs. It leaves no name behind; if it fails, so does the
    # notebook's own import, which shows the error.
    "--IPKernelApp.exec_lines=__import__('rebasin_lab.lab.session'); "
    "__import__('rebasin_lab.lab.background_errors').lab.background_errors.listen();",
]


def code_digest() -> str:
    """Return a digest of all modules of this package, and what they load beside them."""
    package = fingerprints.PACKAGE
    files = [path for kind in ("py", "js", "css") for path in package.rglob(f"*.{kind}")]
    return fingerprints.bytes_digest(package, sorted(files))


class Kernels:
    """Kernels for notebooks of one folder, one at a time; a context that none of them outlives.

    Args:
        folder: their working directory.
        shares_device: whether they start processes that compute, too.
    """

    def __init__(self, folder: Path, *, shares_device: bool = False):
        self._folder = folder
        self._reaper = processes.Reaper()
        self._environment = KernelEnvironment(self._reaper, shares_device=shares_device)
        self._taken: _PatientKernelManager | None = None
        self._ready: _PatientKernelManager | None = None
        self._ready_for = ""

    def __enter__(self) -> "Kernels":
        with contextlib.ExitStack() as entered:
            entered.enter_context(self._reaper)
            entered.enter_context(self._environment)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.give_back()
            if self._ready is not None:
                self._shut_down(self._ready)
        finally:
            self._entered.close()

    def take(self, *, prepare_next: bool = False) -> AsyncKernelManager:
        """Return an unused kernel: the prepared one, if it imported the code of now and lives.

        Args:
            prepare_next: start the next one, too, and do not wait for it.
        """
        self.give_back()
        code = code_digest()
        ready, self._ready = self._ready, None
        if ready is not None and (self._ready_for != code or not run_sync(ready.is_alive)()):
            self._shut_down(ready)
            ready = None
        self._taken = ready or self._started()
        if prepare_next:
            self._prepare(code)
        return self._taken

    def give_back(self) -> None:
        """End the kernel that was taken, if there is one."""
        if self._taken is not None:
            self._shut_down(self._taken)
            self._taken = None

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the kernel that was taken, with all it started, after so many seconds.

        Not by an exception: the thread that waits for the kernel may be busy with its prints.
        It finds the kernel dead. Yields an event that is set if it was killed.
        """
        reached, mark = threading.Event(), self._taken.mark

        def end() -> None:
            reached.set()
            processes.kill(mark)

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        try:
            yield reached
        finally:
            timer.cancel()

    def _prepare(self, code: str) -> None:
        try:
            self._ready, self._ready_for = self._started(), code
        except (RuntimeError, OSError):  # `take` raises it, if it lasts
            self._ready = None

    def _started(self) -> "_PatientKernelManager":
        # Not the kernel that the notebook's author had.
        mark = processes.new_mark()
        manager = _PatientKernelManager(
            kernel_name="python3",
            mark=mark,
            connection_file=str(self._environment.folder / f"kernel-{mark}.json"),
        )
        self._reaper.add(mark)
        try:
            run_sync(manager.start_kernel)(
                extra_arguments=_ARGUMENTS, cwd=str(self._folder), env=processes.marked(mark)
            )
        except BaseException as error:  # an interrupt: nothing else would end this kernel
            self._shut_down(manager)
            if isinstance(error, OSError):
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise OSError(
                    error.errno,
                    f"Could not start a kernel, with its files in '{self._environment.folder}': "
                    f"{reason}",
                ) from error
            raise
        return manager

    def _shut_down(self, manager: "_PatientKernelManager") -> None:
        processes.kill(manager.mark)  # first, while its children can be found
        self._reaper.discard(manager.mark)
        try:
            run_sync(_end)(manager)
        finally:
            if manager.own_client is not None:
                manager.own_client.stop_channels()


class _PatientChannel(AsyncZMQSocketChannel):
    """A channel that polls for messages instead of waiting for a signal.

    While a notebook's client waits for a kernel's reply it may send a message for an output widget.
    jupyter_client sends past the event loop, which then misses a reply that comes at that moment,
    and some notebooks with such a widget wait for ever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message; `queue.Empty` if there is none for so many seconds."""
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
    """A manager that knows its client, so that only its starter closes its kernel."""

    client_factory = Type(_PatientClient)
    own_client: AsyncKernelClient | None = None
    mark = Unicode()  # that the kernel is started under

    def client(self, **options: Any) -> AsyncKernelClient:
        """Return the client that a notebook is executed by."""
        self.own_client = super().client(**options)
        return self.own_client


async def _end(manager: _PatientKernelManager) -> None:
    # Tasks that an interrupt left of a notebook would fail, unseen, without their kernel.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await manager.shutdown_kernel(now=True)
