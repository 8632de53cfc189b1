"""A Markdown page of all figures in a folder."""

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebasin_lab import checks, paths, strict_json
from rebasin_lab.lab import figures
from rebasin_lab.lab.figure_export import snippets
from rebasin_lab.paper import claims

Row = Mapping[str, Any]  # of a scoreboard
Rows = Mapping[str, Row]  # by claim

PAGE = "README.md"
_MAKER = "Written by `rebasin-lab figures --gallery`."
_HEAD = re.compile(
    rf"# Figures\n\n\d+ figures of \d+ notebooks\. [^\n]{{,300}}{re.escape(_MAKER)}\n"
)
_FILES = """\
Every figure is three files: its picture as SVG and as PNG, and a JSON file with the numbers drawn,
the profile, the data set and its digest, the seeds, the versions of packages and the claims that it
supports. `rebasin-lab redraw` draws those in `figures/` again, from the numbers alone. For a paper
or slides,

```sh
.venv/bin/rebasin-lab figures --to runs/for-the-paper --format pdf --width single
```

writes each at the width of a column (or `double`, or `slide`) with text that can be read there, and
beside it a LaTeX, a Markdown and a MyST snippet with caption and alternative text. With
`--from runs/NAME/figures` it takes the figures of a run, and
`rebasin-lab figures --gallery --to runs/NAME/figures` puts those on a page like this one. Pictures
in `figures/` change by `make figures` alone, which copies those of a finished run.
"""


@checks.arguments
def write_gallery(directory: Path, page: Path | None = None) -> Path:
    """Write a Markdown page of the figures under a folder: by notebook, with captions and claims.

    It has no date, so it changes only if a figure does. The pictures shown are those in the folder.
    If the scoreboard of their run lies beside the folder, as it does in `runs/NAME/`, the page has
    the status of every claim, and ends with the whole scoreboard.

    Args:
        directory: a folder as `figures/` is, or as an export writes.
        page: to write; by default README.md in the folder.

    Returns:
        The path of the page.

    Raises:
        ValueError: if there is no figure, if a file holds none, if the scoreboard cannot be read,
            and if there is anything at the page but a gallery.
        OSError: if the page cannot be written.
    """
    saved = figures.saved_figures(directory)
    if not saved:
        raise ValueError(
            f"Expected figures under '{directory}', as in NOTEBOOK/NAME.json; got none. Run "
            "'rebasin-lab reproduce' first, or name another folder."
        )
    page = page or directory / PAGE
    check_page(page)
    records = figures.read_figures(saved)
    board = _read_board(directory.absolute().parent / "scoreboard.json")
    measured = {row["claim"]: row for row in board["claims"]}
    by_notebook = {
        name: list(group) for name, group in itertools.groupby(saved, lambda path: path.parent.name)
    }
    lines = [
        "# Figures",
        "",
        f"{len(saved)} figures of {len(by_notebook)} notebooks. Each is drawn from the numbers "
        "beside it, which have their provenance; captions name the profile of the run. "
        f"{_MAKER}",
        "",
        _FILES,
    ]
    if measured:
        tally = claims.tally(row["status"] for row in board["claims"])
        lines += [
            f"Of {len(measured)} claims: {tally}. All are in the [scoreboard](#scoreboard).",
            "",
        ]
    for notebook, group in by_notebook.items():
        lines += _section(page, notebook, {path: records[path] for path in group}, measured)
    if measured:
        lines += _scoreboard(board)
    paths.write_atomically(page, ("\n".join(lines).rstrip("\n") + "\n").encode())
    return page


def check_page(page: Path) -> None:
    """Refuse to write a gallery over anything but another one.

    Raises:
        ValueError: if there is anything else.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            head = paths.read_bytes(page, strict_json.MOST_BYTES)[:2_000]
            if not _HEAD.match(head.decode(errors="replace")):
                raise ValueError("it begins otherwise")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"Expected no file, or a gallery to write anew, at '{page}'; there is something else "
            f"({reason}). Choose another page, or move it away."
        ) from error


def _read_board(path: Path) -> Mapping[str, Any]:
    """Return the scoreboard of a run; if there is none, one without claims."""
    if not path.is_file():
        return {"title": "", "claims": []}
    try:
        board = paths.read_json(path, finite=False)
        profile = board["profile"]["name"] if "profile" in board else ""
        rows = [
            {name: str(row[name]) for name in ("claim", *claims.COLUMNS)}
            | {"why": claims.why(row, profile)}
            for row in board["claims"]
        ]
        return {"title": str(board["title"]), "claims": rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected the scoreboard of a run in '{path}'; it cannot be read as one "
            f"({type(error).__name__}: {error}). Run 'rebasin-lab reproduce' again to make it "
            "anew, or move the file away: the gallery does without."
        ) from error


def _section(
    page: Path, notebook: str, group: Mapping[Path, Mapping[str, Any]], measured: Rows
) -> list[str]:
    heading = f"## {snippets.markdown_text(notebook)}"
    source = f"../notebooks/{notebook}.ipynb"
    has_source = (page.parent / source).is_file()
    link = snippets.markdown_link(source)
    lines = [heading, "", *([f"[The notebook]({link})", ""] if has_source else [])]
    for path, record in group.items():
        lines += _figure(page, path, record, measured)
    return lines


def _figure(page: Path, path: Path, record: Mapping[str, Any], measured: Rows) -> list[str]:
    link = Path(os.path.relpath(path.with_suffix(""), page.parent)).as_posix()
    kinds = [kind for kind in ("svg", "png", "pdf") if path.with_suffix(f".{kind}").is_file()]
    words = {"caption": record["caption"], "alt": record["alt"]}
    lines = [f"### {snippets.markdown_text(path.stem)}", ""]
    if kinds and kinds[0] != "pdf":
        lines += snippets.markdown_figure(f"{link}.{kinds[0]}", **words).splitlines()
    else:
        lines.append(snippets.markdown_text(record["caption"]))
    lines += ["", *[_claim(claim, measured.get(claim)) for claim in record["claims"]]]
    quoted = snippets.markdown_link(link)
    files = [f"[numbers]({quoted}.json)", *(f"[{kind.upper()}]({quoted}.{kind})" for kind in kinds)]
    return [*lines, *([""] if record["claims"] else []), " · ".join(files), ""]


def _claim(claim: str, row: Row | None) -> str:
    """Return the line of a claim; of one that is no longer in `CLAIMS` its id alone."""
    known = claims.CLAIMS.get(claim)
    if known is None:
        return f"- claim {snippets.markdown_code(claim)}"
    section = snippets.markdown_text(known.section)
    line = f"- claim `{claim}` ({section}): {snippets.markdown_text(known.statement)}"
    return f"{line} **{snippets.markdown_text(row['status'])}**{_because(row)}" if row else line


def _because(row: Row) -> str:
    return f": {snippets.markdown_text(row['why'], in_front=False)}" if row["why"] else ""


def _scoreboard(board: Mapping[str, Any]) -> list[str]:
    """Return all claims of a run, in a table."""
    rows = [
        [snippets.markdown_text(row[name], in_front=False) for name in claims.COLUMNS]
        for row in board["claims"]
    ]
    for cells, row in zip(rows, board["claims"], strict=True):
        cells[-1] += _because(row)  # the last is the status
    table = [[*claims.COLUMNS.values()], ["---"] * len(claims.COLUMNS), *rows]
    title = snippets.markdown_text(board["title"])
    return ["## Scoreboard", "", f"{title}.", "", *(f"| {' | '.join(row)} |" for row in table), ""]
