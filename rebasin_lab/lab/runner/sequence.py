"""Running a plan's notebooks in order, with scoreboard and report of what has ended so far."""

import contextlib
import datetime
import hashlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rebasin_lab import paths, texts
from rebasin_lab.lab import execution, report, session
from rebasin_lab.lab.runner.plan import Plan
from rebasin_lab.paper import claims, store


def reproduce(
    plan: Plan,
    *,
    keep_going: bool = False,
    out: io.TextIOBase = sys.stdout,
) -> int:
    """Run a plan's notebooks and print the scoreboard of their claims.

    An interrupt goes through; scoreboard and report then show the notebooks that had ended.

    Args:
        plan: what to run.
        keep_going: run the notebooks after one that failed.
        out: where to print.

    Returns:
        The exit status: 0 if every notebook ran through, else 1.

    Raises:
        paths.LockedError: if another run is at work in the folder, saying which.
        OSError: if the folder cannot be written to.
    """
    texts.never_fails(out)
    with _held(plan):
        return _reproduce(plan, keep_going=keep_going, out=out)


@contextlib.contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """Make the folders of a run and lock them."""
    for folder in (plan.run_dir, plan.figures_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                error.errno,
                f"Could not make the folder '{folder}': {os.strerror(error.errno)}. Set "
                "REBASIN_RUNS (or --figures) to a folder that can be written to.",
            ) from error
    folders = [plan.run_dir]
    if not plan.figures_dir.is_relative_to(plan.run_dir):  # two runs may draw into one folder
        digest = hashlib.sha256(str(plan.figures_dir).encode()).hexdigest()
        folders.append(paths.runs_dir() / f"figures-{digest[:16]}")
    with contextlib.ExitStack() as stack:
        for folder in folders:
            try:
                stack.enter_context(paths.locked(folder, f"running {plan.title}", wait=False))
            except paths.LockedError as error:
                raise paths.LockedError(
                    f"{error} Or give this run folders of its own: --run NAME, without --figures."
                ) from error
        for folder in {leftover.parent for leftover in plan.run_dir.rglob(".*.tmp")}:
            paths.sweep(folder)
        yield


def _reproduce(plan: Plan, *, keep_going: bool, out: io.TextIOBase) -> int:
    plural = "" if len(plan.notebooks) == 1 else "s"
    _say(f"{len(plan.notebooks)} notebook{plural}, {plan.title}", out)
    started, since = _now(), time.monotonic()
    outcomes: list[execution.NotebookOutcome] = []
    # An earlier run's must not pass for this one's; what cannot be written is known at the start.
    _write_scoreboard(plan, outcomes, started)
    report.write_report(plan.run_dir)
    try:
        with execution.Kernels(
            paths.notebooks_dir(), shares_device=(plan.num_jobs or 1) > 1
        ) as kernels:
            for number, notebook in enumerate(plan.notebooks, 1):
                is_last = number == len(plan.notebooks)
                label = f"[{number}/{len(plan.notebooks)}] {notebook.stem:<26}"
                status = execution.StatusLine(label, out, since=since)
                outcome = _execute(plan, notebook, kernels, status, is_last=is_last)
                _say(f"{label} {outcome.seconds:6.1f} s  {outcome.error or 'ok'}", out)
                outcomes.append(outcome)
                _write_scoreboard(plan, outcomes, started)
                if outcome.error and not keep_going:
                    break
    except BaseException:  # a report of what had ended; if there can be none, the error counts
        _say_if_any(_write_report(plan), out)
        raise
    unwritten = _write_report(plan)
    chosen = {notebook.stem for notebook in plan.notebooks}
    results = [
        each for each in _results(plan, outcomes) if each.claim.notebook in chosen or each.measured
    ]
    _say("\n" + claims.as_text(results, plan.title), out)
    _say("\n" + _where_things_are(plan), out)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        _say("\n" + "\n".join(map(_failure, failed)), out)
        _say("Trained networks and results are stored: the same command goes on from there.", out)
    _say_if_any(unwritten, out)
    return 1 if failed or unwritten else 0


def _write_report(plan: Plan) -> str:
    """Write the report; return why there is none, or an empty text."""
    try:
        report.write_report(plan.run_dir)
    except (OSError, ValueError) as error:
        return f"There is no report: {error}"
    return ""


def _say_if_any(text: str, out: io.TextIOBase) -> None:
    if text:
        with contextlib.suppress(OSError):  # of a reader who has gone
            _say(f"\n{text}", out)


def _execute(
    plan: Plan,
    notebook: Path,
    kernels: execution.Kernels,
    status: execution.StatusLine,
    *,
    is_last: bool,
) -> execution.NotebookOutcome:
    # What an earlier run left under this name must not pass for this one's.
    paths.remove(session.claims_file(plan.run_dir, notebook.stem), within=plan.run_dir)
    figures_before = _figure_files(plan, notebook)
    outcome = execution.execute(
        notebook,
        plan.run_dir / notebook.name,
        plan.notebook_parameters,
        kernels=kernels,
        status=status,
        minutes=plan.timeout,
        is_last=is_last,
    )
    drawn = _figure_files(plan, notebook).items() - figures_before.items()
    record = {
        "profile": plan.profile.name,
        "parameters": dict(outcome.parameters),
        "dataset": dict(plan.dataset),
        "versions": store.package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [],
        **execution.described_by_kernel(outcome.output),
        "started": outcome.started.isoformat(timespec="seconds"),
        "ended": _now(),
        "seconds": round(outcome.seconds, 1),
        "error": outcome.error,
        "figures": [  # in the order drawn; nbformat would sort a mapping
            [path.stem, report.file_digest(path)]
            for path, _ in sorted(drawn, key=lambda item: (item[1], item[0]))
        ],
    }
    try:
        execution.write_record(outcome.output, record)
    except OSError as error:  # its own error, if there is one, came first
        outcome = outcome._replace(error=outcome.error or str(error))
    return outcome._replace(record=record | {"error": outcome.error})


def _figure_files(plan: Plan, notebook: Path) -> dict[Path, tuple[int, int]]:
    """Return a notebook's figures with time and inode, which differ for one written again."""
    files = (plan.figures_dir / notebook.stem).glob("*.json")
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def _results(plan: Plan, outcomes: Iterable[execution.NotebookOutcome]) -> list[claims.ClaimResult]:
    """Return the claims' results from the notebooks of this run alone."""
    measured: dict[str, list[float]] = {}
    for outcome in outcomes:
        measured |= session.read_claims(plan.run_dir, outcome.notebook)
    changed = measured.keys() if plan.parameters else ()
    return claims.scoreboard(plan.profile.name, measured, changed=changed)


def _write_scoreboard(
    plan: Plan, outcomes: Sequence[execution.NotebookOutcome], started: str
) -> None:
    record = {
        "title": plan.title,
        "profile": plan.profile.settings,
        "parameters": dict(plan.parameters),
        "networks": plan.profile.networks,
        "dataset": dict(plan.dataset),
        "versions": store.package_versions(),
        "started": started,
        "ended": _now(),
        "figures_dir": Path(os.path.relpath(plan.figures_dir, plan.run_dir)).as_posix(),
        "planned": [notebook.stem for notebook in plan.notebooks],
        "notebooks": [
            {
                "notebook": outcome.notebook,
                "seconds": round(outcome.seconds, 1),
                "error": outcome.error,
                "parameters": dict(outcome.parameters),
                **{
                    name: outcome.record[name]
                    for name in ("started", "ended", "python", "platform", "devices", "figures")
                },
            }
            for outcome in outcomes
        ],
        "claims": [result.as_row() for result in _results(plan, outcomes)],
    }
    content = json.dumps(record, indent=1) + "\n"
    paths.write_atomically(plan.run_dir / report.SCOREBOARD_NAME, content.encode())


def _where_things_are(plan: Plan) -> str:
    places = {
        "report": plan.run_dir / report.REPORT_NAME,
        "executed notebooks": plan.run_dir,
        "scoreboard": plan.run_dir / report.SCOREBOARD_NAME,
        "figures": plan.figures_dir,
        "trained networks": paths.checkpoints_dir(),
    }
    return "\n".join(f"{name + ':':<20}{paths.shown(path)}" for name, path in places.items())


def _failure(outcome: execution.NotebookOutcome) -> str:
    return (
        f"FAILED: {outcome.notebook}: {outcome.error}\n"
        f"  as far as it got: {paths.shown(outcome.output)}\n"
        f"  full traceback:   {paths.shown(outcome.output.with_suffix('.log'))}"
    )


def _say(text: str, out: io.TextIOBase) -> None:
    print(texts.plain(text, most=texts.MOST_LOGGED), file=out, flush=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
