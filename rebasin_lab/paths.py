"""Where the lab keeps what it makes, and writing there so that a killed process spoils nothing.

In a checkout these are its `runs/` and `figures/`. `$REBASIN_RUNS` moves the first. An installed
package without a checkout keeps both in the user's cache.
"""

import contextlib
import errno
import os
import time
from pathlib import Path

import pooch

_CHECKOUT = Path(__file__).resolve().parents[1]


def project_dir() -> Path:
    """The checkout this package is installed from, or a folder in the user's cache."""
    if (_CHECKOUT / "notebooks").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT
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
    return str(path) if relative.startswith("..") else relative


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either wholly there or not there at all.

    It is written beside its final name and renamed: a killed process leaves the old file or the
    new one.

    Raises:
        OSError: naming the file, its size and, for a full disk, what to do; nothing else is lost.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = os.strerror(error.errno) if error.errno else str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = ". Free some space, or set REBASIN_RUNS to a folder with room" if full else ""
        raise OSError(
            error.errno,
            f"Could not write {len(content) / 1e6:.1f} MB to '{path}': {reason}. Everything stored "
            f"before is intact{advice}",
        ) from error


def _sweep(path: Path) -> None:
    """Remove temporary files of this name that a killed process left more than an hour ago."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > 3600:
                leftover.unlink()
