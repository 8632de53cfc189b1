"""The folders that the lab writes to, atomic writes, and locks.

In a checkout the folders are its `runs/` and `figures/`; `$REBASIN_RUNS` replaces the first.
Without a checkout both are in the user's cache. A file is written under a temporary name and
renamed, so that a killed process leaves no partial file. Work that only one process may do at a
time is `locked` by `filelock`, with a lock that the operating system releases when its process
ends.
"""

import contextlib
import datetime
import errno
import glob
import os
import re
import secrets
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from rebasin_lab import strict_json, texts

_CHECKOUT = Path(__file__).resolve().parents[1]

# Folders below runs/ that belong to no run.
RESERVED_NAMES = frozenset({"browser", "checkpoints", "compiled", "interactive", "records"})

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

_MOST_HOLDER_BYTES = 10_000  # of the line that `locked` writes, with a title in it

# Names of `write_atomically`, and of versions before it that put a process number there.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16}|\d+)\.tmp", re.DOTALL)


def project_dir() -> Path:
    """The checkout this package is installed from, or a folder in the user's cache."""
    if (_CHECKOUT / "notebooks").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT
    import pooch  # not needed with a checkout or data of your own

    return Path(pooch.os_cache("rebasin_lab"))


def runs_dir() -> Path:
    """The folder of all run output: checkpoints, executed notebooks, scoreboards."""
    given = os.environ.get("REBASIN_RUNS")
    if given:
        return checked_folder(given, "the environment variable REBASIN_RUNS")
    return (project_dir() / "runs").resolve()


def run_dir(name: str) -> Path:
    """The folder of a run, below `runs_dir`; it need not exist.

    Raises:
        ValueError: for anything but a name, for a reserved name, and if the folder is a link, as
            a run removes and writes files there.
    """
    checked_name(name, "the name of a run")
    if name.lower() in RESERVED_NAMES:
        raise ValueError(
            f"Expected a name for a run; got {name!r}, where the lab keeps something else "
            f"({', '.join(sorted(RESERVED_NAMES))} are). Choose another one."
        )
    return unlinked(runs_dir() / name)


def unlinked(folder: Path) -> Path:
    """Return the folder after checking that its path contains no link.

    Raises:
        ValueError: if it, or a folder above it, is a link.
    """
    if (elsewhere := folder.resolve()) != folder:
        raise ValueError(
            f"Expected '{folder}' to be a folder of its own; it is a link to '{elsewhere}', where "
            "a run would write over what is there. Remove the link, or choose another name. To "
            "keep runs on another disk, set REBASIN_RUNS."
        )
    return folder


def data_dir() -> Path | None:
    """The folder of data sets in `$REBASIN_DATA`; None if that is not set."""
    given = os.environ.get("REBASIN_DATA")
    return checked_folder(given, "the environment variable REBASIN_DATA") if given else None


def checkpoints_dir() -> Path:
    """The folder of trained networks, shared by all runs."""
    return runs_dir() / "checkpoints"


def compiled_dir() -> Path:
    """The folder of XLA's compilation cache for headless notebooks; safe to delete."""
    return runs_dir() / "compiled"


def figures_dir() -> Path:
    """The folder of figures with their numbers."""
    return project_dir() / "figures"


def notebooks_dir() -> Path:
    """The folder of the notebook sequence."""
    return project_dir() / "notebooks"


def checked_name(name: str, what: str) -> str:
    """Return the name after checking that it is a file name on every system.

    Args:
        name: up to 100 letters (of ASCII), digits, `.`, `_` and `-`; with no `.` or `-` in front
            and no `.` at the end.
        what: describes it, for an error.

    Raises:
        ValueError: for anything else, such as a path or a device name of Windows.
    """
    fits = isinstance(name, str) and _NAME.fullmatch(name) and not _WINDOWS_DEVICE.fullmatch(name)
    if not fits:
        raise ValueError(
            f"Expected {what} to be up to 100 letters, digits, '.', '_' and '-', with a letter, a "
            "digit or '_' in front and no '.' at the end; got "
            f"{texts.in_a_line(repr(name), 120)}. It is a name, not a path."
        )
    return name


def checked_folder(given: str | os.PathLike[str], what: str) -> Path:
    """The absolute path of a user's folder; it need not exist.

    A leading `~` is the home folder; links are followed.

    Args:
        given: the folder.
        what: describes it, for an error.

    Raises:
        ValueError: if it is no folder and cannot become one: empty, a file, below a file, no text.
    """
    reason = "nothing is named"
    try:
        if (text := os.fspath(given)).strip():
            text.encode()
            path = Path(text).expanduser().resolve()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.lstat()  # too long a name, or one that cannot be looked up, is an error
            nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
            if nearest.is_dir():
                return path
            reason = f"'{nearest}' is no folder"
    except UnicodeError:
        reason = "its name is not UTF-8"
    except (OSError, RuntimeError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else str(error).rstrip(".")
    raise ValueError(
        f"Expected {what} to be a folder, or a path where one can be made; got "
        f"{texts.in_a_line(repr(given), 120)}: {reason}."
    )


def checked_output(given: str | os.PathLike[str], what: str) -> Path:
    """The path of a user's output folder, like `checked_folder`.

    Raises:
        ValueError: also if it is a folder of notebooks, code, stored networks or results.
    """
    folder = checked_folder(given, what)
    sources = [notebooks_dir(), Path(__file__).parent]
    protected = [*sources, *(runs_dir() / name for name in ("checkpoints", "compiled", "records"))]
    for place in protected:
        if folder.is_relative_to(place.resolve()):
            raise ValueError(
                f"Expected {what} to be a folder for what is made; got '{folder}': '{place}' is "
                "for other things. Choose another folder."
            )
    return folder


def remove(path: Path, *, within: Path) -> None:
    """Remove a file of a folder, if it exists; of a link only the link.

    Raises:
        ValueError: if the file does not lie in the folder, links followed.
        OSError: if it cannot be removed.
    """
    if not path.parent.resolve().is_relative_to(within.resolve()):
        raise ValueError(
            f"Expected '{path}' to lie in '{within}', whose files are made anew; it is in "
            f"'{path.parent.resolve()}'. Remove the link that leads there."
        )
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"Could not remove '{path}', to make it anew: {_reason(error)}. Move it away.",
        ) from error


def shown(path: Path) -> str:
    """A path for messages: relative if it is below the working directory, on one line."""
    relative = os.path.relpath(path)
    return texts.in_a_line(str(path) if relative.startswith("..") else relative)


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The content of an untrusted file.

    Args:
        path: the file, or a link to one.
        most_bytes: its largest size.

    Raises:
        ValueError: if it is no file (a folder, a pipe, a device), or larger.
        OSError: if there is no such file, or it cannot be read.
    """
    if kind := _kind(path.stat().st_mode):  # before opening it, which would wait for a pipe
        raise ValueError(f"Expected '{path}' to be a file; it is {kind}")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(
                f"Expected '{path}' to hold {most_bytes:,} bytes at most; it holds {size:,}"
            )
        content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"Expected '{path}' to stay as it is while it is read; it changed")
    return content


def _kind(mode: int) -> str:
    """The kind of a thing that is no file, in words; "" for a file or a link."""
    kinds = {stat.S_IFREG: "", stat.S_IFLNK: "", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def read_json(path: Path, most_bytes: int = strict_json.MOST_BYTES, *, finite: bool = True) -> Any:
    """The value in an untrusted JSON file, see `strict_json`.

    Args:
        path: the file.
        most_bytes: its largest size.
        finite: False also accepts NaN and the infinities.

    Raises:
        ValueError: as `read_bytes`; and if it is no such JSON.
        OSError: if there is no such file, or it cannot be read.
    """
    content = read_bytes(path, most_bytes)
    try:
        return strict_json.parsed(content, most_bytes=most_bytes, finite=finite)
    except ValueError as error:
        raise ValueError(f"Expected '{path}' to hold JSON; it cannot be read: {error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as `written_atomically` does.

    Raises:
        OSError: as that.
    """
    with written_atomically(path, len(content)) as file:
        file.write(content)


@contextlib.contextmanager
def written_atomically(path: Path, num_bytes: int) -> Iterator[BinaryIO]:
    """Open a file under a temporary name, to be renamed at the end of the block.

    A killed process leaves the old file or the new one. Threads, processes and machines may write
    the same file at once; the last one wins.

    Args:
        path: the file.
        num_bytes: the size it will have, for errors.

    Raises:
        OSError: naming the file, its size and, for a full disk, what to do; also if the path is a
            folder, a pipe or a device.
    """
    kind = ""
    with contextlib.suppress(OSError):  # it does not exist; other errors are raised below
        kind = _kind(path.lstat().st_mode)
    if kind:  # renaming would replace even /dev/null
        raise FileExistsError(
            errno.EEXIST, f"Could not write '{path}': there is {kind}. Choose another name"
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, seconds=3600.0)  # no process takes so long
        with temporary.open("xb") as file:  # "x": a name that is taken is an error
            yield file
            file.flush()
            os.fsync(file.fileno())  # the content must reach the disk before the name
        temporary.replace(path)
    except OSError as error:
        reason = _reason(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = ". Free some space, or set REBASIN_RUNS to a folder with room" if full else ""
        raise OSError(
            error.errno,
            f"Could not write {num_bytes / 1e6:.1f} MB to '{path}': {reason}. Everything stored "
            f"before is intact{advice}",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class LockedError(RuntimeError):
    """Raised if another process or thread holds a lock."""


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Keep other processes and threads from `path` while the block runs.

    The operating system locks the empty file `.NAME.lock` beside the path and releases it when the
    process ends, even if it is killed. The lock is advisory: readers are not stopped.

    Args:
        path: a file or folder; it need not exist.
        what: the work, for messages to those who wait, such as "training MNIST, seed 0".
        wait: wait for the lock, after a warning that names its holder.

    Raises:
        LockedError: if it is held and `wait` is false, naming the holder, time and work.
        OSError: if the folder cannot be written to.
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
        return read_bytes(holder_file, _MOST_HOLDER_BYTES).decode(errors="replace")
    except (OSError, ValueError):  # the holder has just started or ended
        return "another process or thread"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def sweep(folder: Path, *, start: str = "", seconds: float = 0.0) -> None:
    """Remove temporary files that killed processes left in a folder.

    Args:
        folder: the folder, without those below it.
        start: of the names of the final files; hold a lock on them, or give `seconds`.
        seconds: the least age.
    """
    for leftover in folder.glob(f".{glob.escape(start)}*.tmp"):
        with contextlib.suppress(OSError):
            age = time.time() - leftover.lstat().st_mtime
            if _TEMPORARY.fullmatch(leftover.name) and age >= seconds:
                leftover.unlink()
