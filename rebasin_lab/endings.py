"""Ends that nobody planned: signals, and processes that must not outlive the one that started them.

No process can clean up after its own SIGKILL. A `Reaper` can: a small process that notices through
a closed pipe that its parent is gone, even while a kernel computes in C and notices nothing.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

# Reads lines of "+ID" and "-ID"; at the end, kills the IDs that are left. The groups come first:
# an ID below zero is one.
_REAPER = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
left = set()
for line in sys.stdin:
    (left.add if line[0] == "+" else left.discard)(int(line[1:]))
for target in sorted(left):
    try:
        os.kill(target, signal.SIGKILL if target < 0 else signal.SIGTERM)
    except OSError:
        pass
"""


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
def signals_terminate(process: subprocess.Popen) -> Iterator[None]:
    """Hand SIGTERM and SIGHUP to a process as SIGTERM, and SIGINT not at all."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    for number in _ENDING:
        signal.signal(number, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Reaper:
    """A process that ends others when this one is gone, however that came about.

    It knows a process by its ID, which is sent SIGTERM, and a group of processes by its negative
    ID, which is sent SIGKILL. Where there are no such groups (Windows) it does nothing.
    """

    def __enter__(self) -> "Reaper":
        self._process = None
        if os.name == "posix":
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _REAPER],
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

    def add(self, target: int) -> None:
        """End this one, too."""
        self._tell(f"+{target}\n")

    def discard(self, target: int) -> None:
        """Leave this one alone: it has ended, and another may have its ID."""
        self._tell(f"-{target}\n")

    def _tell(self, line: str) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line.encode())
