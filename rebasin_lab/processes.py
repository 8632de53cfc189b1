"""Signals, and child processes that must not outlive the one that started them.

Processes that end together are started with a *mark*, an environment variable that children
inherit; it identifies all of them, in any process group or session.

A process cannot clean up after its own SIGKILL. A `Reaper` can: a small process that runs this
file, and that sees its parent end by a closed pipe.
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

# The time at which this process started to load the lab: this is its first module.
loaded_at = time.time()

MARK = "REBASIN_LAB_MARK"

SECONDS_TO_END = 10.0  # after SIGTERM; then a process is killed
_SECONDS_OF_A_CALLBACK = 0.01  # a longer one drops the signal again, and it comes again

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ENDING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]

_Handlers = dict[int, Any]


class Ended(KeyboardInterrupt):
    """The exception for a signal that asks this process to end, like that of Ctrl-C.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def is_own_program() -> bool:
    """True if the main program is this package, by its command or `python -m`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while Python looks for the module; then it is the module's file
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
        return module.split(".")[0] == "rebasin_lab"
    return Path(program).stem == "rebasin-lab"


def end_at_signals() -> _Handlers:
    """Have SIGINT, SIGTERM and SIGHUP end this process at once, with one line.

    No `finally` runs, so use it only while there is nothing to clean up. (An exception could be
    lost in a module that is being imported.)

    Returns:
        The previous handlers.
    """

    def end(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nInterrupted.\n")
        os._exit(128 + number)

    return _handle(end)


@contextlib.contextmanager
def signals_end() -> Iterator[None]:
    """Apply `end_at_signals` inside the block."""
    before = end_at_signals()
    try:
        yield
    finally:
        _restore(before)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Ended` at SIGINT, SIGTERM or SIGHUP, but not again within `SECONDS_TO_END`.

    So a second signal does not interrupt the clean-up after the first. Where Python drops what is
    raised, as in a callback of the garbage collector, the signal comes again after it.
    """
    last = -math.inf

    def end(number: int, _: object) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_TO_END:
            last = time.monotonic()
            raise Ended(number)

    def dropped(what: Any) -> None:
        nonlocal last
        if not isinstance(what.exc_value, Ended):
            hook_before(what)
            return
        last = -math.inf
        # From another thread: here it would come at once, and be dropped again.
        threading.Thread(target=_send_again, args=(what.exc_value.number,), daemon=True).start()

    before, hook_before = _handle(end), sys.unraisablehook
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        _restore(before)


@contextlib.contextmanager
def signals_terminate(process: subprocess.Popen) -> Iterator[list[int]]:
    """Pass SIGTERM, SIGHUP and SIGINT on to a process as SIGTERM; it has `SECONDS_TO_END`.

    Except a SIGINT from a terminal, which reaches the process itself. Yields the list of signals
    received.
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


def _send_again(number: int) -> None:
    time.sleep(_SECONDS_OF_A_CALLBACK)
    if hasattr(signal, "pthread_kill"):  # it also wakes a thread that waits
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        signal.raise_signal(number)


def _handle(handler: Callable[[int, object], None]) -> _Handlers:
    """Set the handler of ending signals; ignored ones, as under nohup, stay ignored."""
    before = {n: signal.getsignal(n) for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def _restore(before: _Handlers) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """A pipe that closes when this process ends, for the standard input of `end_with_parent`."""
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
    """The environment of this process with a mark, for a process to start."""
    return {**os.environ, MARK: mark}


def new_mark() -> str:
    """A new, unique mark."""
    return secrets.token_hex(8)


def kill(mark: str) -> None:
    """Kill all processes with a mark, and their children, and wait for their end.

    Processes that do not end within `SECONDS_TO_END`, for example on a blocked disk, are left.
    """
    import psutil  # a kernel's Python has it; the library does without

    deadline = time.monotonic() + SECONDS_TO_END
    while found := _started_under(mark):  # again, since one may have started another
        # Parents first: one that waits for its child must not go on when that is gone.
        for process in sorted(found, key=lambda process: process.pid):
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
            if process.environ().get(MARK) == mark:  # a child may have another environment
                found |= {process, *process.children(recursive=True)}
    return found


class Reaper:
    """A process that ends others when this one ends in any way.

    Does nothing on Windows, where a signal to the group would end it, too.
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
        """Add the processes with this mark to those to kill.

        If there is a server with this process ID it gets SIGTERM and `SECONDS_TO_END` first.
        """
        self._send("kill", mark, server)

    def discard(self, mark: str) -> None:
        """Take the processes with this mark off the list: they have ended."""
        self._send("leave", mark)

    def add_folder(self, folder: Path) -> None:
        """Add a folder to those to remove."""
        self._send("remove", str(folder))

    def _send(self, *command: str | int) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), f"{json.dumps(command)}\n".encode())


def _reap() -> None:
    """Read commands line by line, and carry them out when the input ends."""
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
