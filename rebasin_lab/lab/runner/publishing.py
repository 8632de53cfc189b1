"""Put the figures of a finished run into `figures/`, which nothing else changes.

Those of `quick` lie there, those of another profile in a folder of its name, with the scoreboard of
the run and the gallery, one page of all figures.
"""

import re
from pathlib import Path
from typing import Any

from rebasin_lab import checks, paths, strict_json
from rebasin_lab.lab import figure_export, figures, report
from rebasin_lab.lab.runner.plan import notebook_sequence

_PICTURES = (".json", ".svg", ".png")


@checks.arguments
def publish(run_name: str) -> tuple[Path, list[Path]]:
    """Copy the figures of a run of all notebooks, as they stand, into `figures/`.

    Args:
        run_name: its folder under `runs/`.

    Returns:
        The folder they are in now; and figures there that the run did not draw, which are left.

    Raises:
        ValueError: if there is no such run, or it is not whole: notebooks are missing or failed,
            settings were changed, figures are not as they were drawn.
        paths.LockedError: while the run is at work.
    """
    run_dir = paths.run_dir(run_name)
    if not (run_dir / report.SCOREBOARD_NAME).is_file():
        raise ValueError(
            f"Expected the folder of a run at '{run_dir}'; there is none. Run 'rebasin-lab "
            "reproduce' first, or name another with --run."
        )
    with paths.locked(run_dir, "copying figures", wait=False):
        scoreboard = run_dir / report.SCOREBOARD_NAME
        board = paths.read_json(scoreboard, finite=False)
        profile, contents = _drawn(run_dir, board)
        target = paths.figures_dir() / ("" if profile == "quick" else profile)
        page = paths.figures_dir() / figure_export.PAGE
        if profile != "quick":
            figure_export.check_page(page)
        for name, content in contents.items():
            paths.write_atomically(target / name, content)
        if profile != "quick":
            content = scoreboard.read_bytes()
            paths.write_atomically(paths.figures_dir() / report.SCOREBOARD_NAME, content)
            figure_export.write_gallery(target, page)
    saved = figures.saved_figures(target)
    numbered = [path for path in saved if re.match(r"\d\d_", path.parent.name)]
    return target, [path for path in numbered if str(path.relative_to(target)) not in contents]


def _drawn(run_dir: Path, board: Any) -> tuple[str, dict[str, bytes]]:
    """Return the profile of a run, and the files of its figures by their place in its folder."""
    try:
        profile = paths.checked_name(board["profile"]["name"], "the profile of the run")
        names = [path.stem for path in notebook_sequence()]
        ended = {each["notebook"]: each for each in board["notebooks"] if not each["error"]}
        missing = [name for name in names if name not in ended]
        if missing or board["parameters"]:
            why = f"{', '.join(missing)} did not end" if missing else "settings were changed"
            raise ValueError(
                f"Expected a run of all notebooks as they stand in '{run_dir}'; {why}. Finish it "
                "with 'rebasin-lab reproduce', or name another with --run."
            )
        contents = {}
        for name in names:
            folder = run_dir / board["figures_dir"] / name
            for entry in ended[name]["figures"]:
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
                    contents[f"{name}/{figure}{ending}"] = content
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected the scoreboard of a run in '{run_dir}'; it cannot be read as one "
            f"({type(error).__name__}: {error}). Run 'rebasin-lab reproduce' again."
        ) from error
    return profile, contents
