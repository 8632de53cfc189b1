"""Ends that nobody planned: signals, and processes that must not outlive the one that started them.

What is to end together is started under a *mark*, a variable of the environment that each process
inherits from the one that starts it: by it all of them are found, in whatever group or session.

No process can clean up after its own SIGKILL. A `Reaper` can: a small process, this file as a
program, that notices through a closed pipe that its parent is gone, even while a kernel computes in
C and notices nothing.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "REBASIN_LAB_MARK"

SECONDS_TO_END = 10.0  # for a process that was asked to; then it is killed

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Ended(KeyboardInterrupt):
    """A signal that asks this process to end, raised as Ctrl-C is.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Ended` at the first SIGINT, SIGTERM or SIGHUP; ignore those that come after it.

    What the first one sets off, an orderly end, is thus not cut short.
    """
    numbers = [signal.SIGINT, *_ENDING]
    # One that is ignored, as SIGHUP under nohup, stays so.
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}

    def end(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    for number in before:
        signal.signal(number, end)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    for number in (signal.SIGINT, *_ENDING):
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
