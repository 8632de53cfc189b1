"""A page of all figures in a folder, for people who look before they read."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebasin_lab import claims, figures, paths
from rebasin_lab.figure_export import snippets

Row = Mapping[str, Any]  # of a scoreboard
Rows = Mapping[str, Row]  # by claim

PAGE = "README.md"


def write_gallery(directory: Path, page: Path | None = None) -> Path:
    """Write a Markdown page of the figures under a folder: by notebook, with captions and claims.

    It has no date, so it changes only if a figure does. The pictures shown are those in the folder.
    If the scoreboard of their run lies beside the folder, as it does in `runs/NAME/`, the page says
    of every claim whether it held, and ends with the whole scoreboard.

    Args:
        directory: a folder as `figures/` is, or as an export writes.
        page: where to write; by default README.md in the folder.

    Returns:
        The path of the page.

    Raises:
        ValueError: if there is no figure.
        OSError: if the page cannot be written.
    """
    saved = figures.saved_figures(directory)
    if not saved:
        raise ValueError(
            f"Expected figures under '{directory}', as in NOTEBOOK/NAME.json; got none. Run "
            "'rebasin-lab reproduce' first, or name another folder."
        )
    page = page or directory / PAGE
    beside = directory.absolute().parent / "scoreboard.json"
    board = json.loads(beside.read_text()) if beside.is_file() else {"claims": []}
    measured = {row["claim"]: row for row in board["claims"]}
    by_notebook = {
        name: list(group) for name, group in itertools.groupby(saved, lambda path: path.parent.name)
    }
    lines = [
        "# Figures",
        "",
        f"{len(saved)} figures of {len(by_notebook)} notebooks. Each is drawn from the numbers "
        "beside it, which say how they came about; captions name the profile of the run. Written "
        "by `rebasin-lab figures --gallery`.",
        "",
    ]
    if measured:
        tally = claims.tally(row["status"] for row in board["claims"])
        lines += [
            f"Of {len(measured)} claims: {tally}. All are in the [scoreboard](#scoreboard).",
            "",
        ]
    for notebook, group in by_notebook.items():
        lines += _section(page, notebook, group, measured)
    if measured:
        lines += _scoreboard(board)
    paths.write_atomically(page, ("\n".join(lines).rstrip("\n") + "\n").encode())
    return page


def _section(page: Path, notebook: str, group: list[Path], measured: Rows) -> list[str]:
    heading = f"## {snippets.markdown_text(notebook)}"
    source = f"../notebooks/{notebook}.ipynb"
    has_source = (page.parent / source).is_file()
    lines = [heading, "", *([f"[The notebook]({source})", ""] if has_source else [])]
    for path in group:
        lines += _figure(page, path, measured)
    return lines


def _figure(page: Path, path: Path, measured: Rows) -> list[str]:
    record = json.loads(path.read_text())
    link = Path(os.path.relpath(path.with_suffix(""), page.parent)).as_posix()
    kinds = [kind for kind in ("svg", "png", "pdf") if path.with_suffix(f".{kind}").is_file()]
    texts = {"caption": record["caption"], "alt": record["alt"]}
    lines = [f"### {snippets.markdown_text(path.stem)}", ""]
    if kinds and kinds[0] != "pdf":
        lines += snippets.markdown_figure(f"{link}.{kinds[0]}", **texts).splitlines()
    else:
        lines.append(snippets.markdown_text(record["caption"]))
    lines += ["", *[_claim(claim, measured.get(claim)) for claim in record["claims"]]]
    files = [f"[numbers]({link}.json)", *(f"[{kind.upper()}]({link}.{kind})" for kind in kinds)]
    return [*lines, *([""] if record["claims"] else []), " · ".join(files), ""]


def _claim(claim: str, row: Row | None) -> str:
    """A line of a list; of a claim that is no longer kept, its id."""
    known = claims.CLAIMS.get(claim)
    if known is None:
        return f"- claim `{claim}`"
    section = snippets.markdown_text(known.section)
    line = f"- claim `{claim}` ({section}): {snippets.markdown_text(known.statement)}"
    return f"{line} **{snippets.markdown_text(row['status'])}**" if row else line


def _scoreboard(board: Mapping[str, Any]) -> list[str]:
    """All claims of a run, in a table."""
    columns = ("section", "statement", "paper", "quantity", "measured_text", "tolerance", "status")
    names = ("section", "claim", "paper", "quantity", "measured", "must be", "")
    rows = [
        [snippets.markdown_text(str(row[column])) for column in columns] for row in board["claims"]
    ]
    table = [names, ["---"] * len(names), *rows]
    title = snippets.markdown_text(board["title"])
    return ["## Scoreboard", "", f"{title}.", "", *(f"| {' | '.join(row)} |" for row in table), ""]
