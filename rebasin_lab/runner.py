"""Running the notebook sequence headlessly and gathering its scoreboard.

Everything a run makes lies in `runs/<run>/`: the executed notebooks, a log for each, the claims,
`scoreboard.json`. A failing notebook stops the run with its name, cell and error; what ran before
it is kept. What can be wrong with a request (a parameter no notebook has, of which papermill only
warns; an unknown profile; missing data) is said before anything runs.
"""

import dataclasses
import io
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import papermill
import yaml

from rebasin_lab import claims, datasets, execution, experiments, figures, paths, runs

# Set by the runner, not by the user.
RESERVED_PARAMETERS = ("profile", "run_dir", "figures_dir", "interactive")

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
    """

    notebooks: Mapping[Path, frozenset[str]]
    profile: experiments.Profile
    parameters: Mapping[str, Any]
    dataset: Mapping[str, str]
    run_dir: Path
    figures_dir: Path

    @property
    def title(self) -> str:
        """The run in a line: profile, data, networks, pairs, and what was changed."""
        changes = "".join(f", {name}={value}" for name, value in self.parameters.items())
        return (
            f"{self.profile.name} profile{changes}: {self.dataset['title']}, "
            f"{self.profile.networks}, {self.profile.num_pairs} pairs"
        )


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

    Raises:
        ValueError: for an unknown profile, notebook or parameter, or a wrong value.
        OSError: if the profile's data set is not to be had.
    """
    parameters = dict(parameters or {})
    notebooks = {
        path: frozenset(papermill.inspect_notebook(path)) for path in notebook_sequence(only)
    }
    known = sorted(frozenset().union(*notebooks.values()) - frozenset(RESERVED_PARAMETERS))
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"Expected a parameter of the chosen notebooks ({', '.join(known)}); got {name!r}."
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
    )


def reproduce(plan: Plan, *, out: io.TextIOBase = sys.stdout) -> int:
    """Run a plan's notebooks and print the scoreboard.

    Args:
        plan: what to run.
        out: where to print.

    Returns:
        The exit status: 0 if every notebook ran through, else 1.
    """
    plan.run_dir.mkdir(parents=True, exist_ok=True)
    plural = "" if len(plan.notebooks) == 1 else "s"
    print(f"{len(plan.notebooks)} notebook{plural}, {plan.title}", file=out, flush=True)
    outcomes: list[execution.NotebookOutcome] = []
    for number, notebook in enumerate(plan.notebooks, 1):
        label = f"[{number}/{len(plan.notebooks)}] {notebook.stem:<26}"
        outcome = _execute(plan, notebook, execution.StatusLine(label, out))
        print(f"{label} {outcome.seconds:6.1f} s  {outcome.error or 'ok'}", file=out, flush=True)
        outcomes.append(outcome)
        if outcome.error:
            break
    measured = _measured(plan, outcomes)
    results = claims.scoreboard(plan.profile.name, measured, changed=bool(plan.parameters))
    _write_scoreboard(plan, outcomes, results)
    print("\n" + format_scoreboard(results, plan.title), file=out)
    print("\n" + _where_things_are(plan), file=out)
    if outcomes[-1].error:
        print("\n" + _failure(outcomes[-1]), file=out)
    return 1 if outcomes[-1].error else 0


def format_scoreboard(results: Iterable[claims.ClaimResult], title: str) -> str:
    """The scoreboard as text: claim, paper's number, measured, tolerance, status."""
    results = list(results)
    lines = [*textwrap.wrap(f"Scoreboard, {title}", 100), claims.tally(results), ""]
    for result in results:
        claim = result.claim
        mark = {"reproduced": "[yes]", "not reproduced": "[NO] "}.get(result.status, "[--] ")
        lines += textwrap.wrap(
            f"{mark} {claim.statement} (section {claim.section})", 100, subsequent_indent=" " * 6
        )
        lines.append(f"      {claim.quantity}:")
        lines.append(
            f"      paper {claim.paper} | measured {result.measured_text} | must be "
            f"{result.tolerance} | {result.status}"
        )
    return "\n".join(lines)


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


def _execute(plan: Plan, notebook: Path, status: execution.StatusLine) -> execution.NotebookOutcome:
    # What an earlier run left under this name must not pass for this one's.
    runs.claims_file(plan.run_dir, notebook.stem).unlink(missing_ok=True)
    parameters = {
        **{name: v for name, v in plan.parameters.items() if name in plan.notebooks[notebook]},
        "profile": plan.profile.name,
        "run_dir": str(plan.run_dir),
        "figures_dir": str(plan.figures_dir),
        "interactive": False,
    }
    return execution.execute(notebook, plan.run_dir / notebook.name, parameters, status=status)


def _measured(plan: Plan, outcomes: Iterable[execution.NotebookOutcome]) -> dict[str, list[float]]:
    """What the notebooks of this run measured; an earlier run's numbers do not count."""
    measured: dict[str, list[float]] = {}
    for outcome in outcomes:
        path = runs.claims_file(plan.run_dir, outcome.notebook)
        if path.exists():
            numbers = json.loads(path.read_text())
            measured |= {claim: list(map(float, values)) for claim, values in numbers.items()}
    return measured


def _write_scoreboard(
    plan: Plan,
    outcomes: Iterable[execution.NotebookOutcome],
    results: Iterable[claims.ClaimResult],
) -> None:
    record = {
        "title": plan.title,
        "profile": dataclasses.asdict(plan.profile),
        "dataset": dict(plan.dataset),
        "versions": experiments.package_versions(),
        "notebooks": [
            {
                "notebook": outcome.notebook,
                "seconds": round(outcome.seconds, 1),
                "error": outcome.error,
                "parameters": dict(outcome.parameters),
            }
            for outcome in outcomes
        ],
        "claims": [result.as_row() for result in results],
    }
    content = json.dumps(record, indent=1) + "\n"
    paths.write_atomically(plan.run_dir / "scoreboard.json", content.encode())


def _where_things_are(plan: Plan) -> str:
    places = {
        "executed notebooks": plan.run_dir,
        "scoreboard": plan.run_dir / "scoreboard.json",
        "figures": plan.figures_dir,
        "trained networks": paths.checkpoints_dir(),
    }
    return "\n".join(f"{name + ':':<20}{paths.shown(path)}" for name, path in places.items())


def _failure(outcome: execution.NotebookOutcome) -> str:
    return (
        f"FAILED: {outcome.notebook}: {outcome.error}\n"
        f"  as far as it got: {paths.shown(outcome.output)}\n"
        f"  full traceback:   {paths.shown(outcome.output.with_suffix('.log'))}\n"
        "What ran before it is kept; trained networks are in the store."
    )
