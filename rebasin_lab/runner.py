"""Running the notebook sequence headlessly and gathering its scoreboard.

Papermill executes each notebook in order, in this interpreter's own kernel. Everything a run makes
lies in `runs/<run>/`: the executed notebooks, a log for each, the claims, `scoreboard.json`. A
failing notebook stops the run with its name, cell and error; what ran before it is kept. Two things
papermill only warns about or does not see are errors here: a parameter no notebook has, and an
exception swallowed by an output widget.
"""

import dataclasses
import io
import json
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from rebasin_lab import checkpoints, claims, datasets, experiments, paths, runs

# Set by the runner, not by the user.
RESERVED_PARAMETERS = ("profile", "run_dir", "figures_dir", "interactive")


@dataclasses.dataclass(frozen=True)
class NotebookOutcome:
    """How one notebook of a run ended.

    Attributes:
        notebook: its name, without ending.
        seconds: wall time.
        error: "" if it ran through; else the cell and the error.
        output: the executed notebook, as far as it got.
    """

    notebook: str
    seconds: float
    error: str
    output: Path


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


def reproduce(
    *,
    profile: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    run_name: str = "",
    figures_dir: Path | None = None,
    out: io.TextIOBase = sys.stdout,
) -> int:
    """Run the sequence and print the scoreboard.

    Args:
        profile: "quick", "laptop" or "paper".
        parameters: overrides of the notebooks' parameters.
        only: starts of notebook names; all of them if empty.
        run_name: the folder under `runs/`; by default the profile's name, with "-custom" if
            parameters were changed.
        figures_dir: where figures go; by default the project's `figures/`, or the run's own folder
            if parameters were changed.
        out: where to print.

    Returns:
        The exit status: 0 if every notebook ran through, else 1.

    Raises:
        ValueError: for an unknown profile, notebook or parameter, before anything runs.
        OSError: if the profile's data set is not to be had.
    """
    notebooks = notebook_sequence(only)
    parameters = dict(parameters or {})
    accepted = {path: set(papermill.inspect_notebook(path)) for path in notebooks}
    _check_parameters(parameters, accepted)
    # What can be wrong with the settings or the data is said now, not in the third notebook.
    fields = {field.name for field in dataclasses.fields(experiments.Profile)}
    chosen = experiments.get_profile(
        profile, **{name: value for name, value in parameters.items() if name in fields}
    )
    datasets.load_dataset(chosen.dataset, progress=True)
    run_dir = paths.runs_dir() / (run_name or (f"{profile}-custom" if parameters else profile))
    # The project's figures are those of an unchanged profile.
    figures_dir = figures_dir or (run_dir / "figures" if parameters else paths.figures_dir())
    run_dir.mkdir(parents=True, exist_ok=True)
    outcomes: list[NotebookOutcome] = []
    title = " ".join([f"{profile} profile", *(f"{k}={v}" for k, v in parameters.items())])
    print(f"{len(notebooks)} notebooks, {title}", file=out, flush=True)
    for number, notebook in enumerate(notebooks, 1):
        own = {name: value for name, value in parameters.items() if name in accepted[notebook]}
        own |= {"profile": profile, "run_dir": str(run_dir), "interactive": False}
        own["figures_dir"] = str(figures_dir)
        label = f"[{number}/{len(notebooks)}] {notebook.stem:<26}"
        outcome = _execute(notebook, run_dir, own, _StatusLine(label, out))
        print(f"{label} {outcome.seconds:6.1f} s  {outcome.error or 'ok'}", file=out, flush=True)
        outcomes.append(outcome)
        if outcome.error:
            break
    failed = [outcome for outcome in outcomes if outcome.error]
    results = claims.scoreboard(profile, _measured(run_dir, outcomes))
    _write_scoreboard(run_dir, profile, parameters, outcomes, results)
    print("\n" + format_scoreboard(results, title), file=out)
    print(_where_things_are(run_dir, figures_dir), file=out)
    for outcome in failed:
        print(
            f"\nFAILED: {outcome.notebook}: {outcome.error}\n"
            f"  as far as it got: {paths.shown(outcome.output)}\n"
            f"  full traceback:   {paths.shown(outcome.output.with_suffix('.log'))}\n"
            "What ran before it is kept; trained networks are in the store.",
            file=out,
        )
    return 1 if failed else 0


def format_scoreboard(results: Iterable[claims.ClaimResult], title: str) -> str:
    """The scoreboard as text: claim, paper's number, measured, tolerance, status."""
    results = list(results)
    tally = ", ".join(
        f"{count} {status}"
        for status in ("reproduced", "not reproduced", "not tested at this profile", "not run")
        if (count := sum(result.status == status for result in results))
    )
    lines = [f"Scoreboard, {title}: {tally}", ""]
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


def _execute(
    notebook: Path, run_dir: Path, parameters: Mapping[str, Any], status: "_StatusLine"
) -> NotebookOutcome:
    output = run_dir / notebook.name
    log = output.with_suffix(".log")
    # What an earlier run left under these names must not pass for this one's.
    runs.claims_file(run_dir, notebook.stem).unlink(missing_ok=True)
    output.unlink(missing_ok=True)
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handlers = [logging.FileHandler(log, mode="w", encoding="utf-8"), status]
    start, error = time.perf_counter(), ""
    for handler in handlers:
        logger.addHandler(handler)
    try:
        with _kernel_environment():
            papermill.execute_notebook(
                notebook,
                output,
                parameters=dict(parameters),
                kernel_name="python3",  # not whatever name the author's machine had
                cwd=str(notebook.parent),
                log_output=True,
                progress_bar=False,
                start_timeout=120,
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors; not its warnings
            )
        if swallowed := swallowed_errors(output):
            error = f"error inside a widget: {'; '.join(swallowed)}"
            logger.error(error)
    except PapermillExecutionError as failure:
        error = f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"
        logger.error("\n".join(failure.traceback))  # papermill's own log lacks it
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    return NotebookOutcome(notebook.stem, time.perf_counter() - start, error, output)


def swallowed_errors(path: Path) -> list[str]:
    """Exceptions an executed notebook's output widgets caught: they show nowhere else."""
    metadata = nbformat.read(path, as_version=4).metadata
    state = metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return [
        f"{output['ename']}: {output['evalue']}"
        for widget in state.get("state", {}).values()
        if widget["model_name"] == "OutputModel"
        for output in widget["state"].get("outputs", ())
        if output["output_type"] == "error"
    ]


def parse_parameter(text: str) -> tuple[str, Any]:
    """`name=value` with the value read as YAML, so that 3, 1e-3, true and [1, 2] have their types.

    Raises:
        ValueError: if there is no `=`.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"Expected a parameter as name=value; got {text!r}.")
    try:
        return name, float(value) if "e" in value.lower() else yaml.safe_load(value)
    except ValueError:
        return name, yaml.safe_load(value)


def _check_parameters(parameters: Mapping[str, Any], accepted: Mapping[Path, set[str]]) -> None:
    known = sorted(set().union(*accepted.values()) - set(RESERVED_PARAMETERS))
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"Expected a parameter of the chosen notebooks ({', '.join(known)}); got {name!r}."
            )


class _kernel_environment:  # noqa: N801 (a context manager, used like a function)
    """Environment of the kernels, which inherit ours, while they run."""

    def __enter__(self) -> None:
        own_kernels = Path(sys.prefix) / "share" / "jupyter"
        added = {
            # A `python3` kernel in the user's home may belong to another Python: ours comes first.
            "JUPYTER_PATH": os.pathsep.join(
                filter(None, [str(own_kernels), os.environ.get("JUPYTER_PATH")])
            ),
            "MPLBACKEND": "agg",
            # A kernel that grabs 75 % of a GPU leaves nothing for the next one.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _StatusLine(logging.Handler):
    """Shows the newest line a notebook printed, on one line that the next replaces.

    Only on a terminal: a log file keeps one line per notebook.
    """

    def __init__(self, label: str, out: io.TextIOBase):
        super().__init__()
        self._label, self._out = label, out
        self._live = out.isatty()
        self._show("running ...")

    def emit(self, record: logging.LogRecord) -> None:
        lines = [line for line in record.getMessage().splitlines() if line.strip()]
        if lines and record.name == "papermill" and not lines[-1].startswith("Executing"):
            self._show(lines[-1].strip())

    def close(self) -> None:
        if self._live:
            self._out.write("\r\033[K")
            self._live = False
        super().close()

    def _show(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - len(self._label) - 2
            self._out.write(f"\r\033[K{self._label} {text[: max(width, 0)]}")
            self._out.flush()


def _measured(run_dir: Path, outcomes: Iterable[NotebookOutcome]) -> dict[str, list[float]]:
    """What the notebooks of this run measured; an earlier run's numbers do not count."""
    measured: dict[str, list[float]] = {}
    for outcome in outcomes:
        path = runs.claims_file(run_dir, outcome.notebook)
        if path.exists():
            numbers = json.loads(path.read_text())
            measured |= {claim: list(map(float, values)) for claim, values in numbers.items()}
    return measured


def _write_scoreboard(
    run_dir: Path,
    profile: str,
    parameters: Mapping[str, Any],
    outcomes: Iterable[NotebookOutcome],
    results: Iterable[claims.ClaimResult],
) -> None:
    record = {
        "profile": profile,
        "parameters": dict(parameters),
        "notebooks": [
            {
                "notebook": outcome.notebook,
                "seconds": round(outcome.seconds, 1),
                "error": outcome.error,
            }
            for outcome in outcomes
        ],
        "claims": [result.as_row() for result in results],
    }
    content = json.dumps(record, indent=1) + "\n"
    checkpoints.write_atomically(run_dir / "scoreboard.json", content.encode())


def _where_things_are(run_dir: Path, figures_dir: Path) -> str:
    places = {
        "executed notebooks": run_dir,
        "scoreboard": run_dir / "scoreboard.json",
        "figures": figures_dir,
        "trained networks": paths.checkpoints_dir(),
    }
    return "\n" + "\n".join(f"{name + ':':<20}{paths.shown(path)}" for name, path in places.items())
