"""List the networks that a run would train, and those that are stored already."""

import collections
from pathlib import Path

from rebasin_lab import paths
from rebasin_lab.lab.runner.plan import Plan
from rebasin_lab.paper import sections, store
from rebasin_lab.paper.networks import Experiment


def preview(plan: Plan) -> str:
    """Return, as text, the networks that a plan's notebooks ask for: stored, and to be trained.

    A network that several notebooks share counts for the first of them. Other results, which are
    cached, too, do not count here.

    Raises:
        OSError: if a data set is not to be had.
    """
    lines = [f"{'notebook':<32}{'networks':>10}{'stored':>10}{'to train':>10}"]
    seen: dict[Path, bool] = {}  # the file of a network -> whether it is stored
    missing: list[Experiment] = []
    for notebook in plan.notebooks:
        experiments = sections.experiments(notebook.stem, plan.profile)
        files = {store.path_of(each): each for each in experiments}
        stored = {file: store.is_stored(each) for file, each in files.items()}
        new = [each for file, each in files.items() if not stored[file] and file not in seen]
        seen |= stored
        missing += new
        lines.append(f"{notebook.stem:<32}{len(files):>10}{sum(stored.values()):>10}{len(new):>10}")
    num_bytes = sum(_size(file) for file, is_stored in seen.items() if is_stored)
    counts = f"{len(seen):>10}{sum(seen.values()):>10}{len(missing):>10}"
    lines.append(f"{'together, each once':<32}{counts}")
    lines.append(f"\nstored: {num_bytes / 1e6:,.0f} MB in {paths.shown(paths.checkpoints_dir())}")
    if missing:
        lines += ["\nto train:", *_kinds(missing)]
    else:
        lines.append("Nothing is left to train.")
    return "\n".join(lines)


def _size(path: Path) -> int:
    """Return the bytes of a network in the store, with its snapshots."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}*"))


def _kinds(missing: list[Experiment]) -> list[str]:
    """Return a line for all networks that differ in their seed and part of the data only."""
    counts = collections.Counter((each.dataset, each.networks) for each in missing)
    return [
        f"  {count:>3} x {dataset}, {networks}" for (dataset, networks), count in counts.items()
    ]
