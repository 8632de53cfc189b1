"""What a run will do: a request checked as far as it can be without running it.

A parameter no notebook has (papermill only warns of it), an unknown profile, missing data: all of
that is said before anything runs.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import papermill
import yaml

from rebasin_lab import datasets, execution, experiments, figures, paths

# Set by the runner, not by the user, or through options of their own.
RESERVED_PARAMETERS = ("profile", "run_dir", "figures_dir", "interactive", "num_jobs")

_EXPONENT = re.compile(r"[-+]?[\d.]+[eE][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do; made by `plan_run`.

    Attributes:
        notebooks: in order, each with the names of its parameters.
        profile: single settings included.
        parameters: the settings that were changed.
        dataset: name, title and digest of the data.
        run_dir: where everything goes but figures.
        figures_dir: where figures go.
        num_jobs: processes that notebooks may train in; None is as they have it.
    """

    notebooks: Mapping[Path, frozenset[str]]
    profile: experiments.Profile
    parameters: Mapping[str, Any]
    dataset: Mapping[str, str]
    run_dir: Path
    figures_dir: Path
    num_jobs: int | None = None

    @property
    def title(self) -> str:
        """The run in a line: profile, data, networks, pairs, and what was changed."""
        changes = "".join(f", {name}={value}" for name, value in self.parameters.items())
        return (
            f"{self.profile.name} profile{changes}: {self.dataset['title']}, "
            f"{self.profile.networks}, {self.profile.num_pairs} pairs"
        )

    def parameters_of(self, notebook: Path) -> dict[str, Any]:
        """What one of the notebooks is run with."""
        known = self.notebooks[notebook]
        jobs = {"num_jobs": self.num_jobs} if self.num_jobs and "num_jobs" in known else {}
        return {
            **{name: value for name, value in self.parameters.items() if name in known},
            **jobs,
            "profile": self.profile.name,
            "run_dir": str(self.run_dir),
            "figures_dir": str(self.figures_dir),
            "interactive": False,
        }


def notebook_sequence(only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks in order, or those whose names start with one of `only`.

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
    for prefix in only:
        if not any(path.stem.startswith(prefix) for path in every):
            names = ", ".join(path.stem for path in every)
            raise ValueError(f"Expected the start of a notebook's name ({names}); got {prefix!r}.")
    return [path for path in every if not only or path.stem.startswith(tuple(only))]


def plan_run(
    *,
    profile: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    run_name: str = "",
    figures_dir: Path | None = None,
    num_jobs: int | None = None,
) -> Plan:
    """Check a request as far as it can be checked without running it.

    Args:
        profile: "quick", "laptop" or "paper".
        parameters: values for the notebooks' parameters.
        only: starts of notebook names; all of them if empty.
        run_name: the folder under `runs/`; by default the profile's name, with "-partial" or
            "-changed" if it is not the whole sequence as it stands.
        figures_dir: where figures go; by default the project's `figures/` for the quick profile
            as it stands (those are tracked), else the run's own folder.
        num_jobs: processes to train in, for notebooks with a parameter `num_jobs`. It changes no
            result, so it is no changed setting.

    Raises:
        ValueError: for an unknown profile, notebook or parameter, or a wrong value.
        OSError: if the profile's data set is not to be had.
    """
    if num_jobs is not None and num_jobs < 1:
        raise ValueError(f"Expected at least 1 job; got {num_jobs}.")
    parameters = dict(parameters or {})
    for path in notebook_sequence(only):
        execution.read_notebook(path)
    notebooks = {
        path: frozenset(papermill.inspect_notebook(path)) for path in notebook_sequence(only)
    }
    known = sorted(frozenset().union(*notebooks.values()) - frozenset(RESERVED_PARAMETERS))
    for name in parameters:
        if name not in known:
            advice = " Use --jobs for it." if name == "num_jobs" else ""
            raise ValueError(
                f"Expected a parameter of the chosen notebooks ({', '.join(known)}); got {name!r}."
                f"{advice}"
            )
    fields = {field.name for field in dataclasses.fields(experiments.Profile)}
    chosen = experiments.get_profile(
        profile, **{name: value for name, value in parameters.items() if name in fields}
    )
    if parameters.get("trial"):
        chosen = experiments.trial_profile(chosen)
    data = datasets.load_dataset(chosen.dataset, progress=True)
    suffix = "-changed" if parameters else "-partial" if only else ""
    run_dir = paths.runs_dir() / (run_name or profile + suffix)
    tracked = profile == "quick" and not parameters
    return Plan(
        notebooks=notebooks,
        profile=chosen,
        parameters=parameters,
        dataset=figures.describe_dataset(data),
        run_dir=run_dir,
        figures_dir=figures_dir or (paths.figures_dir() if tracked else run_dir / "figures"),
        num_jobs=num_jobs,
    )


def parse_parameter(text: str) -> tuple[str, Any]:
    """`name=value` with the value read as YAML, so that 3, 1e-3, true and [1, 2] have their types.

    Raises:
        ValueError: if there is no `=`, or the value is no YAML.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"Expected a parameter as name=value; got {text!r}.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"Expected a value in {text!r}; it cannot be read: {error}.") from error
    # YAML 1.1 takes 1e-3, without a point, for a word.
    if isinstance(parsed, str) and _EXPONENT.fullmatch(parsed):
        parsed = float(parsed)
    return name, parsed
