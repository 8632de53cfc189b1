"""The plan of a run: a request checked as far as possible without running it.

A parameter no notebook has (papermill only warns of it), an unknown profile, missing data: all of
that is an error before anything runs.
"""

import dataclasses
import hashlib
import json
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rebasin_lab import checks, datasets, paths
from rebasin_lab.lab import execution, figures
from rebasin_lab.paper import profiles, settings, train_many

# What sets them is an option of its own.
_OPTIONS = {
    "profile": "--profile",
    "run_dir": "--run",
    "figures_dir": "--figures",
    "num_jobs": "--jobs",
}

# Limit of one notebook, by profile, unless `--timeout` sets it: several times what the longest one
# takes on two slow cores, and a week for the paper's sizes, since GPUs differ.
MINUTES = {"quick": 60.0, "laptop": 360.0, "paper": 7 * 24 * 60.0}
_MOST_MINUTES = 366 * 24 * 60

_EXPONENT = re.compile(r"[-+]?[\d.]+[eE][-+]?\d+")
_NO_YAML_1_2 = re.compile(r"[-+]?(0\d|\d+:)[\d:._]*")  # octal and base 60, for version 1.1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a run; made by `plan_run`.

    Attributes:
        notebooks: in order.
        profile: single settings included.
        parameters: the settings that are not as the profile has them; they reach every notebook,
            and leave its claims open.
        dataset: name, title and digest of the data.
        run_dir: where everything goes but figures.
        figures_dir: where figures go.
        num_jobs: processes that notebooks may train in; None leaves it to them.
        timeout: minutes that each notebook may take.
    """

    notebooks: tuple[Path, ...]
    profile: profiles.Profile
    parameters: Mapping[str, Any]
    dataset: Mapping[str, str]
    run_dir: Path
    figures_dir: Path
    num_jobs: int | None = None
    timeout: float = MINUTES["quick"]

    @property
    def title(self) -> str:
        """The run in a line: profile, data, networks, pairs, and what was changed."""
        changes = "".join(f", {name}={value}" for name, value in self.parameters.items())
        return (
            f"{self.profile.name} profile{changes}: {self.dataset['title']}, "
            f"{self.profile.networks}, {self.profile.num_pairs} pairs"
        )

    @property
    def notebook_parameters(self) -> dict[str, Any]:
        """The parameters that notebooks are run with, JSON-ready."""
        changes = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }
        jobs = {"num_jobs": self.num_jobs} if self.num_jobs else {}
        places = {"run_dir": str(self.run_dir), "figures_dir": str(self.figures_dir)}
        return {
            "profile": self.profile.name,
            "settings": {**changes, **jobs, **places, "interactive": False},
        }


@checks.arguments
def notebook_sequence(only: Sequence[str] = ()) -> list[Path]:
    """Return the numbered notebooks in order, or those whose names start with one of `only`.

    Raises:
        ValueError: if one of `only` fits none.
        FileNotFoundError: if there are no notebooks at all.
    """
    every = sorted(paths.notebooks_dir().glob("[0-9][0-9]_*.ipynb"))
    if not every:
        raise FileNotFoundError(
            f"There are no notebooks in '{paths.notebooks_dir()}'. Run this from a checkout of the "
            "repository (git clone, then make reproduce)."
        )
    starts = (only,) if isinstance(only, str) else tuple(only)
    for start in starts:
        if not start or not any(path.stem.startswith(start) for path in every):
            names = ", ".join(path.stem for path in every)
            raise ValueError(
                f"Expected the start of a notebook's name ({names}); got {checks.shortened(start)}."
            )
    return [path for path in every if not starts or path.stem.startswith(starts)]


@checks.arguments
def plan_run(
    *,
    profile: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    run_name: str | None = None,
    figures_dir: str | os.PathLike[str] | None = None,
    num_jobs: int | None = None,
    timeout: int | float | None = None,
) -> Plan:
    """Check a request as far as it can be checked without running it.

    Args:
        profile: "quick", "laptop" or "paper".
        parameters: fields of the profile, and "trial" for a smoke test. The value that the profile
            has is no change.
        only: starts of notebook names; all of them if empty.
        run_name: the folder under `runs/`, a name as `paths.run_dir` takes it. By default it names
            profile and changed settings, so that other settings have another folder, and ends in
            "-partial" if it is not the whole sequence.
        figures_dir: where figures go; by default the run's own folder.
        num_jobs: processes to train in. It changes no result, so it is no changed setting.
        timeout: minutes that each notebook may take, then it is stopped and has failed; by default
            that of `MINUTES` for the profile. It is no changed setting either.

    Raises:
        ValueError: for an unknown profile, notebook or parameter, a wrong value, name or folder.
        OSError: if the profile's data set is not to be had.
    """
    if num_jobs is not None:
        train_many.check_num_jobs(num_jobs)
    if timeout is not None:
        _check_timeout(timeout)
    profiles.get_profile(profile)
    for path in notebook_sequence(only):
        execution.read_notebook(path)
    changed = _changed(profile, parameters or {})
    fields = {name: value for name, value in changed.items() if name in profiles.FIELDS}
    chosen = profiles.get_profile(profile, trial=changed.get("trial", False), **fields)
    run_dir = paths.run_dir(_default_name(profile, changed, only) if run_name is None else run_name)
    data = datasets.load_dataset(chosen.dataset, progress=True)
    if chosen.batch_size > len(data.train_labels):
        raise ValueError(
            f"Expected batch_size to be at most {len(data.train_labels)}, the training images of "
            f"{data.title}; got {chosen.batch_size}. Lower it."
        )
    return Plan(
        notebooks=tuple(notebook_sequence(only)),
        profile=chosen,
        parameters=changed,
        dataset=figures.describe_dataset(data),
        run_dir=run_dir,
        figures_dir=paths.unlinked(run_dir / "figures")
        if figures_dir is None
        else paths.checked_output(figures_dir, "--figures"),
        num_jobs=num_jobs,
        timeout=float(MINUTES[profile] if timeout is None else timeout),
    )


def _check_timeout(timeout: int | float) -> None:
    is_number = isinstance(timeout, numbers.Real) and not isinstance(timeout, bool)
    if not (is_number and 0 < timeout <= _MOST_MINUTES):
        raise ValueError(
            f"Expected timeout to be minutes, above 0 and up to {_MOST_MINUTES:,} (a year); got "
            f"{checks.shortened(timeout)}."
        )


def _changed(profile: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters that are not as they stand, checked and of the right type."""
    changed = {}
    for name, value in parameters.items():
        if name == "trial":
            if settings.check_value(name, value, bool):
                changed[name] = True
            continue
        if name not in profiles.FIELDS:
            advice = f". Use {_OPTIONS[name]} for it" if name in _OPTIONS else ""
            near = advice or checks.near_matches(name, profiles.FIELDS)
            raise ValueError(
                f"Expected a field of the profile ({', '.join(sorted(profiles.FIELDS))}) or trial; "
                f"got {checks.shortened(name)}{near}."
            )
        value = profiles.check_field(name, value)
        if profiles.get_profile(profile, **{name: value}).changed:
            changed[name] = value
    return changed


def _default_name(profile: str, changed: Mapping[str, Any], only: Sequence[str]) -> str:
    """Return a readable name for the run of these settings, unlike that of any others."""
    name = profile
    if changed:
        content = json.dumps(changed, sort_keys=True)
        words = [key if value is True else f"{key}-{value}" for key, value in changed.items()]
        slug = re.sub("[^A-Za-z0-9]+", "-", "-".join(sorted(words))).strip("-")[:40].strip("-")
        name += f"-{slug}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return f"{name}-partial" if only else name


@checks.arguments
def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse `name=value`, the value as YAML, so that 3, 1e-3, true and [1, 2] have their types.

    Raises:
        ValueError: if there is no `=`, or the value is no YAML.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ValueError(f"Expected a parameter as name=value; got {checks.shortened(text)}.")
    name = name.strip()
    if _NO_YAML_1_2.fullmatch(value.strip()):
        return name, value
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"Expected a value in {checks.shortened(text)}; it cannot be read: {reason[:200]}."
        ) from error
    # YAML 1.1 takes 1e-3, without a point, for a word.
    if isinstance(parsed, str) and _EXPONENT.fullmatch(parsed):
        parsed = float(parsed)
    return name, parsed


@checks.arguments
def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Parse several `name=value`.

    Raises:
        ValueError: if one cannot be read, or a name is given twice.
    """
    parsed: dict[str, Any] = {}
    for text in texts:
        name, value = parse_parameter(text)
        if name in parsed:
            raise ValueError(f"Expected each parameter once; got {name} twice. Leave one out.")
        parsed[name] = value
    return parsed
