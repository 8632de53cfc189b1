"""Where the lab keeps what it makes, and writing there so that a killed process spoils nothing.

In a checkout these are its `runs/` and `figures/`. `$REBASIN_RUNS` moves the first. An installed
package without a checkout keeps both in the user's cache. A file is written under a name of its own
and renamed; work that two processes must not do at once is `locked`, by the package `filelock`,
since a lock that the operating system holds for a process ends with it, on every system.
"""

import contextlib
import datetime
import errno
import json
import os
import re
import secrets
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from rebasin_lab import texts

_CHECKOUT = Path(__file__).resolve().parents[1]

# Names of `write_atomically`, and of versions before it that put a process number there.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16}|\d+)\.tmp", re.DOTALL)


def project_dir() -> Path:
    """The checkout this package is installed from, or a folder in the user's cache."""
    if (_CHECKOUT / "notebooks").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT
    import pooch  # a machine may lack it that has a checkout, or data of its own

    return Path(pooch.os_cache("rebasin_lab"))


def runs_dir() -> Path:
    """Everything a run produces and git ignores: checkpoints, executed notebooks, scoreboards."""
    return Path(os.environ.get("REBASIN_RUNS") or project_dir() / "runs").resolve()


def checkpoints_dir() -> Path:
    """The store of trained networks, shared by all runs."""
    return runs_dir() / "checkpoints"


def compiled_dir() -> Path:
    """What XLA compiled for headless notebooks, a folder for each machine; safe to delete."""
    return runs_dir() / "compiled"


def figures_dir() -> Path:
    """Figures with the numbers they draw."""
    return project_dir() / "figures"


def notebooks_dir() -> Path:
    """The notebook sequence."""
    return project_dir() / "notebooks"


def shown(path: Path) -> str:
    """A path for people: relative to the working directory where that is shorter."""
    relative = os.path.relpath(path)
    return texts.in_a_line(str(path) if relative.startswith("..") else relative)


def read_json(path: Path, most_bytes: int) -> Any:
    """The content of a JSON file that anything may have been written to.

    Args:
        path: the file.
        most_bytes: that are read of it.

    Raises:
        ValueError: if it is no file (a folder, a pipe), larger, or no JSON, saying which.
        OSError: if there is no such file, or it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"Expected '{path}' to be a file; it is something else")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"Expected '{path}' to hold {most_bytes:,} bytes at most; it is larger")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected '{path}' to hold JSON; it cannot be read: {error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either wholly there or not there at all.

    It is written beside its final name and renamed: a killed process leaves the old file or the
    new one. Threads, processes and machines may write the same file at once; the last one stays.

    Raises:
        OSError: naming the file, its size and, for a full disk, what to do; nothing else is lost.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with temporary.open("xb") as file:  # "x": a name that is taken is an error
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a name must not reach the disk before its bytes do
        temporary.replace(path)
    except OSError as error:
        reason = _reason(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = ". Free some space, or set REBASIN_RUNS to a folder with room" if full else ""
        raise OSError(
            error.errno,
            f"Could not write {len(content) / 1e6:.1f} MB to '{path}': {reason}. Everything stored "
            f"before is intact{advice}",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class LockedError(RuntimeError):
    """Something is in use by another process or thread."""


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Keep other processes and threads from `path` while the block runs.

    The lock is the operating system's, on the file `.NAME.lock` beside the path, which stays there
    empty. It ends with the process that holds it, even one that is killed. It is no lock against
    readers, nor against who does not ask for it.

    Args:
        path: a file or folder; it need not exist.
        what: what is done there, for those who wait, such as "training MNIST, seed 0".
        wait: until it is free, after a warning that says who holds it.

    Raises:
        LockedError: if it is held and `wait` is false, saying by whom, since when and for what.
        OSError: if there can be no lock, in a folder that cannot be written to, say.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    holder_file = path.with_name(f".{path.name}.holder")
    lock = filelock.FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            held = f"'{path}' is in use by {_holder(holder_file)}."
            if not wait:
                raise LockedError(f"{held} Wait until that has ended, or end it.") from None
            warnings.warn(f"{held} Waiting for it.", stacklevel=3)
            lock.acquire()
    except OSError as error:
        raise OSError(error.errno, f"Could not lock '{path}': {_reason(error)}") from error
    try:
        since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}: {what}"
        write_atomically(holder_file, holder.encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            holder_file.unlink()
        lock.release()


def _holder(holder_file: Path) -> str:
    try:
        return holder_file.read_text(errors="replace")[:500]
    except OSError:  # it has just begun, or just ended
        return "another process or thread"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left here more than an hour ago."""
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if (
                _TEMPORARY.fullmatch(leftover.name)
                and time.time() - leftover.lstat().st_mtime > 3600
            ):
                leftover.unlink()
