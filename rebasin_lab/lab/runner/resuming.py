"""What an executed notebook's record says decided its outcome, and whether that still stands.

A resumed run keeps the outcome of an earlier one only if nothing that decides it has changed since:
the notebook's source, its parameters, the source of this package, the versions of others, the
profile's data, the devices, and JAX's settings in the environment; and if its claims and figures
lie as it left them. What is not looked at is the content of data sets other than the profile's own:
their files are held to published checksums when they are read.
"""

import datetime
import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebasin_lab import paths
from rebasin_lab.lab import execution, report, session
from rebasin_lab.lab.runner.plan import Plan
from rebasin_lab.matching import assignment
from rebasin_lab.paper import fingerprints, store

_PACKAGE = Path(__file__).parents[2]

# What decides an outcome, by its name in the record; parameters and devices are looked at apart.
_DECIDING = {
    "source": "its source",
    "code": "the source of rebasin_lab",
    "versions": "the versions of packages",
    "python": "the version of Python",
    "solver": "the assignment solver",
    "dataset": "the data set",
    "environment": "what the environment says of JAX, or of where data is",
}


def deciding(plan: Plan, notebook: Path) -> dict[str, Any]:
    """All that decides a notebook's outcome but parameters and devices, as it is now."""
    environment = {
        name: value
        for name, value in sorted(os.environ.items())
        if (name.startswith("JAX_") and "CACHE" not in name) or name in fingerprints.VARIABLES
    }
    if data_dir := paths.data_dir():
        environment["REBASIN_DATA"] = str(data_dir)
    return {
        "source": execution.source_digest(notebook),
        "code": code_digest(),
        "versions": store.package_versions(),
        "python": platform.python_version(),
        "solver": assignment.SOLVER,
        "dataset": dict(plan.dataset),
        "environment": environment,
    }


def kept(plan: Plan, notebook: Path) -> execution.NotebookOutcome | None:
    """The outcome of an earlier run; None if there is none, or no notebook where it should be.

    Raises:
        OutdatedError: if there is one that does not stand for a new run, saying why.
    """
    output = plan.run_dir / notebook.name
    try:
        execution.read_notebook(output)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # whatever lies there, it is no outcome
        raise OutdatedError(f"what is there is no executed notebook ({error})") from error
    record = execution.read_record(output)
    if reason := _outdated(plan, notebook, record):
        raise OutdatedError(reason)
    return execution.NotebookOutcome(
        notebook=notebook.stem,
        seconds=record["seconds"],
        error="",
        output=output,
        parameters=record["parameters"],
        started=datetime.datetime.fromisoformat(record["started"]),
        kept=True,
        record=record,
    )


class OutdatedError(Exception):
    """An executed notebook does not stand for a new run."""


def code_digest() -> str:
    """A digest of all modules of this package."""
    return fingerprints.bytes_digest(_PACKAGE, sorted(_PACKAGE.rglob("*.py")))


def _outdated(plan: Plan, notebook: Path, record: Mapping[str, Any]) -> str:
    if not record:
        return "it had not ended"
    if not _is_whole(record):
        return "the record of its run is not as this version writes it"
    if record["error"]:
        return "it had failed"
    now = deciding(plan, notebook)
    for name, what in _DECIDING.items():
        if record[name] != now[name]:
            return f"{what} changed"
    if _without_jobs(record["parameters"]) != _without_jobs(plan.parameters_of(notebook)):
        return "its parameters changed"
    if record["devices"] and record["devices"] != _devices_now():
        return "it ran on another device"
    return _tampered(plan, notebook, record)


def _is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a record has all that is read of it, of the right types: it may have been edited."""
    match record:
        case {
            "error": str(),
            "parameters": dict(),
            "devices": [*devices],
            "claims": str(),
            "figures": [*figures],
            "seconds": int() | float() as seconds,
            "started": str() as started,
            "ended": str() as ended,
            "platform": str(),
        }:
            pass
        case _:
            return False
    try:
        datetime.datetime.fromisoformat(started)
        datetime.datetime.fromisoformat(ended)
    except ValueError:
        return False
    return (
        _DECIDING.keys() <= record.keys()
        and 0 <= seconds < float("inf")
        and all(isinstance(device, str) for device in devices)
        and all(map(_names_a_figure, figures))
    )


def _names_a_figure(entry: Any) -> bool:
    match entry:
        case [str(name), str()]:
            return Path(name).name == name != ""
    return False


def _tampered(plan: Plan, notebook: Path, record: Mapping[str, Any]) -> str:
    """What of the files a notebook left is not as it left it."""
    if execution.source_digest(plan.run_dir / notebook.name) != record["source"]:
        return "its executed copy was edited"
    if report.file_digest(session.claims_file(plan.run_dir, notebook.stem)) != record["claims"]:
        return "the file of its claims is not as it wrote it"
    for name, digest in record["figures"]:
        path = plan.figures_dir / notebook.stem / f"{name}.json"
        if report.file_digest(path) != digest or not path.with_suffix(".png").exists():
            return f"its figure '{name}' is not as it drew it"
    return ""


def _without_jobs(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How many processes train changes no result."""
    return {name: value for name, value in parameters.items() if name != "num_jobs"}


@functools.cache
def _devices_now() -> list[str]:
    return execution.devices_now()
