"""Put the figures of a finished run into `figures/`, which nothing else changes.

Those of `quick` lie there, those of another profile in a folder of its name, with the scoreboard of
the run and the gallery, one page of all figures. A run of some notebooks replaces theirs: the
scoreboard says of each when it ran.
"""

import json
import re
from pathlib import Path
from typing import Any

from rebasin_lab import checks, paths, strict_json
from rebasin_lab.lab import figure_export, figures, report
from rebasin_lab.lab.runner.plan import notebook_sequence

_PICTURES = (".json", ".svg", ".png")
_NOTHING: dict[str, Any] = {"notebooks": [], "claims": []}  # of a scoreboard


@checks.arguments
def publish(run_name: str) -> tuple[Path, list[Path]]:
    """Copy the figures of a run, as they stand, into `figures/`.

    Args:
        run_name: its folder under `runs/`.

    Returns:
        The folder they are in now; and figures there that neither this run nor one before it drew,
        which are left.

    Raises:
        ValueError: if there is no such run, or its figures cannot stand there: a notebook failed,
            or is neither in the run nor published with the same versions of packages; settings were
            changed; figures are not as they were drawn.
        paths.LockedError: while the run is at work.
    """
    run_dir = paths.run_dir(run_name)
    if not (run_dir / report.SCOREBOARD_NAME).is_file():
        raise ValueError(
            f"Expected the folder of a run at '{run_dir}'; there is none. Run 'rebasin-lab "
            "reproduce' first, or name another with --run."
        )
    with paths.locked(run_dir, "copying figures", wait=False):
        board = paths.read_json(run_dir / report.SCOREBOARD_NAME, finite=False)
        try:
            profile = paths.checked_name(board["profile"]["name"], "the profile of the run")
            target = paths.figures_dir() / ("" if profile == "quick" else profile)
            whole = _whole(board, target, run_dir)
            contents = _drawn(board, run_dir)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Expected the scoreboard of a run in '{run_dir}'; it cannot be read as one "
                f"({type(error).__name__}: {error}). Run 'rebasin-lab reproduce' again."
            ) from error
        page = paths.figures_dir() / figure_export.PAGE
        if profile != "quick":
            figure_export.check_page(page)
        for name, content in contents.items():
            paths.write_atomically(target / name, content)
        if profile != "quick":  # one scoreboard and gallery are kept, of the larger run
            content = json.dumps(whole, indent=1) + "\n"
            paths.write_atomically(_board_file(), content.encode())
            figure_export.write_gallery(target, page)
    drawn = {
        f"{one['notebook']}/{each[0]}.json" for one in whole["notebooks"] for each in one["figures"]
    }
    saved = figures.saved_figures(target)
    numbered = [path for path in saved if re.match(r"\d\d_", path.parent.name)]
    return target, [path for path in numbered if str(path.relative_to(target)) not in drawn]


def _board_file() -> Path:
    return paths.figures_dir() / report.SCOREBOARD_NAME


def _whole(board: dict[str, Any], target: Path, run_dir: Path) -> dict[str, Any]:
    """Return the scoreboard of a run, with what is published of the notebooks that it left out.

    Folders of the run are left out, too: they say nothing elsewhere.
    """
    names = [path.stem for path in notebook_sequence()]
    ran = {each["notebook"]: each for each in board["notebooks"] if not each["error"]}
    old = _published(board, target, [name for name in names if name not in board["planned"]])
    kept = {each["notebook"]: each for each in old["notebooks"]}
    missing = [name for name in names if name not in ran and name not in kept]
    if missing or board["parameters"]:
        why = f"{', '.join(missing)} did not end" if missing else "settings were changed"
        raise ValueError(
            f"Expected a run of all notebooks as they stand in '{run_dir}', or of some where the "
            f"others are published with the same versions; {why}. Finish it with 'rebasin-lab "
            "reproduce', or name another with --run."
        )
    entries = kept | ran
    rows = {row["claim"]: row for row in old["claims"] if row["notebook"] in kept}
    return board | {
        "planned": names,
        "started": old.get("started", board["started"]),
        "notebooks": [_placeless(entries[name]) for name in names],
        "claims": [rows.get(row["claim"], row) for row in board["claims"]],
    }


def _published(board: dict[str, Any], target: Path, names: list[str]) -> dict[str, Any]:
    """Return what is published of these notebooks: entries, and rows of claims."""
    if not names:
        return _NOTHING
    if target == paths.figures_dir():  # of `quick` no scoreboard is kept
        saved = {name: sorted((target / name).glob("*.json")) for name in names}
        entries = [
            {
                "notebook": name,
                "parameters": {"settings": {}},
                "figures": [[path.stem, ""] for path in saved[name]],
            }
            for name in names
            if saved[name]
        ]
        return _NOTHING | {"notebooks": entries}
    try:
        old = paths.read_json(_board_file(), finite=False)
    except FileNotFoundError:
        return _NOTHING
    # A setting that the profile did not have then is new, and not another one.
    settings = board["profile"] | old["profile"]
    if settings != board["profile"] or old["versions"] != board["versions"]:
        return _NOTHING
    return old | {"notebooks": [each for each in old["notebooks"] if each["notebook"] in names]}


def _placeless(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a notebook, without the folders among its settings."""
    parameters = entry["parameters"]
    kept = {name: v for name, v in parameters["settings"].items() if not name.endswith("_dir")}
    return entry | {"parameters": parameters | {"settings": kept}}


def _drawn(board: dict[str, Any], run_dir: Path) -> dict[str, bytes]:
    """Return the files of a run's figures, by their place in its folder."""
    contents = {}
    for one in board["notebooks"]:
        folder = run_dir / board["figures_dir"] / one["notebook"]
        for entry in one["figures"]:
            figure, digest = entry[0], entry[1]
            path = folder / f"{paths.checked_name(figure, 'the name of a figure')}.json"
            if report.file_digest(path) != digest:
                raise ValueError(
                    f"Expected '{path}' as the run drew it; it is another, or gone. Run "
                    "'rebasin-lab reproduce' again, which draws it anew."
                )
            figures.read_figure(path)
            for ending in _PICTURES:
                content = paths.read_bytes(path.with_suffix(ending), strict_json.MOST_BYTES)
                contents[f"{one['notebook']}/{figure}{ending}"] = content
    return contents
