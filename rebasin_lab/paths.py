"""Where the lab keeps what it makes: checkpoints and runs in one folder, figures in another.

In a checkout these are its `runs/` and `figures/`. `$REBASIN_RUNS` moves the first. An installed
package without a checkout keeps both in the user's cache.
"""

import os
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
