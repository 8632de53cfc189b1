"""Make a class kit: run its notebooks in an empty store, and pack what they leave there.

So a kit holds what these notebooks read, and nothing else, without a list of it.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebasin_lab import checks, paths, processes
from rebasin_lab.lab import runner
from rebasin_lab.lab.class_kit import archive, coding
from rebasin_lab.paper import profiles, sections, store, train_many
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.sections.rounding import STEPS, rounded
from rebasin_lab.training import checkpoints

# Starts of their names: part I of the sequence, and when matching works.
NOTEBOOKS = ("00", "01", "02", "03", "04", "05", "06")
PROFILE = "quick"

# A larger result takes longer to send than to compute: similarities of all units of a pair, and
# gradients, a second each.
MOST_RECORD_BYTES = 1_000_000

_LAST_LINES = 15  # of a run that failed


@checks.arguments
def make(
    target: Path,
    *,
    only: Sequence[str] = NOTEBOOKS,
    settings: Mapping[str, Any] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> int:
    """Write a class kit; networks that are not stored yet are trained first.

    Args:
        target: the file.
        only: starts of the names of notebooks.
        settings: changes to the profile, as for a run; a test cuts it down.
        on_line: called with a line about each notebook that has ended.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: for a notebook or setting that there is not, and if a notebook fails.
        OSError: if something cannot be written.
    """
    plan = runner.plan_run(profile=PROFILE, parameters=settings, only=only)
    names = [notebook.stem for notebook in plan.notebooks]
    experiments = experiments_of(names, plan.profile)
    train_many.train_all(experiments, num_jobs=plan.num_jobs or 1)
    paths.runs_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".class-kit-", dir=paths.runs_dir()) as folder:
        runs = Path(folder)
        contents = dict(_packed_networks(experiments, runs / "checkpoints"))
        _run(names, dict(plan.parameters), runs, on_line)
        for path in sorted((runs / "records").glob("*.safetensors")):
            if path.stat().st_size <= MOST_RECORD_BYTES:
                contents[f"records/{path.name}"] = path.read_bytes()
        made_for = {
            "profile": PROFILE,
            "settings": dict(plan.parameters),
            "notebooks": names,
            "versions": store.package_versions(),
            "rounded": f"snapshots, to multiples of 1 / {STEPS:.0f}",
        }
        archive.write(target, made_for, contents)
    return target.stat().st_size


def experiments_of(notebooks: Sequence[str], profile: profiles.Profile) -> list[Experiment]:
    """Return the networks that notebooks ask for, each once."""
    every = (one for name in notebooks for one in sections.experiments(name, profile))
    return list(dict.fromkeys(every))


def _packed_networks(
    experiments: Sequence[Experiment], folder: Path
) -> Iterator[tuple[str, bytes]]:
    """Yield the packed files of networks; write to a folder what will be unpacked from them."""
    for experiment in experiments:
        network = store.trained(experiment)
        name = f"checkpoints/{network.path.name}"
        content = network.path.read_bytes()
        paths.write_atomically(folder / network.path.name, content)
        yield name, coding.to_planes(content)
        later, config = network.params, checkpoints.peek(network.path)["config"]
        for epoch in sorted(experiment.snapshot_epochs, reverse=True):
            params = rounded(network.params_after(epoch))
            snapshot = snapshot_name(name, epoch)
            save_snapshot(folder / Path(snapshot).name, params, config, epoch)
            yield snapshot, coding.to_differences(params, later)
            later = params


def snapshot_name(network: str, epoch: int) -> str:
    """Return the name of a snapshot, in a kit or a store, of the network with this name."""
    return store.snapshot_path(Path(network), epoch).as_posix()


def save_snapshot(path: Path, params: Any, config: Mapping[str, Any], epoch: int) -> None:
    """Write a rounded snapshot as the store has it, with a note of what it is."""
    note = f"rounded to multiples of 1 / {STEPS:.0f}, for a class kit"
    checkpoints.save(path, params, {"config": dict(config), "epoch": epoch, "note": note})


def _run(
    names: Sequence[str], settings: Mapping[str, Any], runs: Path, on_line: Callable[[str], None]
) -> None:
    """Run notebooks with a folder of runs of their own.

    Raises:
        ValueError: if one of them fails.
    """
    command = [sys.executable, "-m", "rebasin_lab.cli", "reproduce", "--profile", PROFILE]
    command += [part for name in names for part in ("--only", name)]
    command += [
        part
        for name, value in settings.items()
        for part in ("--set", f"{name}={json.dumps(value)}")
    ]
    environment = {**os.environ, "REBASIN_RUNS": str(runs)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    printed: list[str] = []
    try:
        with processes.signals_terminate(process):
            for line in process.stdout:
                printed.append(line)
                if re.match(r"\[\d+/\d+\] ", line):  # and not where the run's files are: they go
                    on_line(line.rstrip())
            status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.stdout.close()
    if status:
        raise ValueError(
            "Expected the notebooks of a class kit to run through; one failed:\n"
            + "".join(printed[-_LAST_LINES:])
        )
