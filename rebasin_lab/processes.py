"""Signals, and child processes that must not outlive the one that started them.

What is to end together is started under a *mark*, a variable of the environment that each process
inherits from the one that starts it: by it all of them are found, in whatever group or session.

No process can clean up after its own SIGKILL. A `Reaper` can: a small process, this file as a
program, that notices through a closed pipe that its parent is gone, even while a kernel computes in
C and notices nothing.
"""

import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# When this process began to load the lab, of which this is the first module.
loaded_at = time.time()

MARK = "REBASIN_LAB_MARK"

SECONDS_TO_END = 10.0  # for a process that was asked to; then it is killed

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ENDING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]

_Handlers = dict[int, Any]


class Ended(KeyboardInterrupt):
    """A signal that asks this process to end, raised as Ctrl-C is.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def is_own_program() -> bool:
    """Tell whether this package is what runs, by its command or `python -m`, and no part of it."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while Python looks for the module; then it is the module's file
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
        return module.split(".")[0] == "rebasin_lab"
    return Path(program).stem == "rebasin-lab"


def end_at_signals() -> _Handlers:
    """Have SIGINT, SIGTERM and SIGHUP end this process at once, with one line.

    No `finally` runs, so it is for times when there is nothing to tidy up: an exception may be lost
    in a module that is being imported.

    Returns:
        What was done at each signal before.
    """

    def end(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nInterrupted.\n")
        os._exit(128 + number)

    return _handle(end)


@contextlib.contextmanager
def signals_end() -> Iterator[None]:
    """Do as `end_at_signals` while the block runs."""
    before = end_at_signals()
    try:
        yield
    finally:
        _restore(before)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Ended` at SIGINT, SIGTERM or SIGHUP, but not again within `SECONDS_TO_END`.

    What the first one sets off, an orderly end, is thus not cut short by a second one.
    """
    last = -math.inf

    def end(number: int, _: object) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_TO_END:
            last = time.monotonic()
            raise Ended(number)

    before = _handle(end)
    try:
        yield
    finally:
        _restore(before)


@contextlib.contextmanager
def signals_terminate(process: subprocess.Popen) -> Iterator[list[int]]:
    """Hand SIGTERM, SIGHUP and SIGINT to a process as SIGTERM; it has `SECONDS_TO_END`.

    But for a SIGINT from a terminal, which sends it there, too. Gives a list of the signals that
    came.
    """
    came: list[int] = []

    def end(number: int, _: object) -> None:
        if number == signal.SIGINT and sys.stdin and sys.stdin.isatty():
            return
        came.append(number)
        process.terminate()
        last = threading.Timer(SECONDS_TO_END, process.kill)
        last.daemon = True
        last.start()

    before = _handle(end)
    try:
        yield came
    finally:
        _restore(before)


def _handle(handler: Callable[[int, object], None]) -> _Handlers:
    """Set what is done at signals that end; one that is ignored, as under nohup, stays so."""
    before = {n: signal.getsignal(n) for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def _restore(before: _Handlers) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """A pipe that closes when this process is gone, for the input of `end_with_parent`."""
    reads, writes = os.pipe()
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


def end_with_parent() -> None:
    """End this process when its standard input does."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def marked(mark: str) -> dict[str, str]:
    """The environment of this process with a mark, for a process to be started under it."""
    return {**os.environ, MARK: mark}


def new_mark() -> str:
    """A mark that no process has yet."""
    return secrets.token_hex(8)


def kill(mark: str) -> None:
    """Kill all that was started under a mark, and what that started; returns when it is gone.

    What does not go within `SECONDS_TO_END`, since it waits for a disk, say, is left.
    """
    import psutil  # a kernel's Python has it; the library does without

    deadline = time.monotonic() + SECONDS_TO_END
    while found := _started_under(mark):  # again: one of them may have started another meanwhile
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _ask_to_end(server: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(server)
        process.terminate()
        process.wait(SECONDS_TO_END)


def _started_under(mark: str) -> set:
    import psutil

    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:  # others in an environment of their own
                found |= {process, *process.children(recursive=True)}
    return found


class Reaper:
    """A process that ends others when this one is gone, however that came about.

    Where a process cannot be kept from a signal to its group (Windows) it does nothing.
    """

    def __enter__(self) -> "Reaper":
        self._process = None
        if os.name == "posix":
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a signal to our group is not for it
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()

    def add(self, mark: str, server: int = 0) -> None:
        """Kill also what is started under this mark, once the server with this ID has ended.

        It is sent SIGTERM, and has `SECONDS_TO_END`.
        """
        self._tell("kill", mark, server)

    def discard(self, mark: str) -> None:
        """Leave alone what this mark is of: it has ended."""
        self._tell("leave", mark)

    def add_folder(self, folder: Path) -> None:
        """Remove also this folder."""
        self._tell("remove", str(folder))

    def _tell(self, *what: str | int) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), f"{json.dumps(what)}\n".encode())


def _reap() -> None:
    """Read what to do, line by line; do it at the end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    servers, folders = {}, []
    for line in sys.stdin:
        match json.loads(line):
            case ["kill", mark, server]:
                servers[mark] = server
            case ["leave", mark]:
                servers.pop(mark, None)
            case ["remove", folder]:
                folders.append(folder)
    for mark, server in servers.items():
        if server:
            _ask_to_end(server)
        kill(mark)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _reap()
