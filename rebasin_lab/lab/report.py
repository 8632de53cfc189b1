"""The report of a run for a browser: `report.html`.

One file that opens anywhere, without a network and without scripts: settings and devices, every
claim with its status, every figure with its caption, links both ways. It is made from the run's
`scoreboard.json` and the files of its figures alone. Links to executed notebooks are relative: they
work where these lie beside it.
"""

import base64
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import tqdm

from rebasin_lab import paths, texts
from rebasin_lab.paper import claims

MOST_BYTES = 100_000_000  # of a picture
REPORT_NAME = "report.html"
SCOREBOARD_NAME = "scoreboard.json"

_text = texts.as_html

Board = Mapping[str, Any]  # the content of scoreboard.json
Row = Mapping[str, Any]  # one claim of it


class ReportedFigure(NamedTuple):
    """A figure of a run.

    Attributes:
        notebook: that drew it.
        name: of its files, without ending.
        record: the content of its JSON file.
        png: its picture.
    """

    notebook: str
    name: str
    record: Mapping[str, Any]
    png: bytes


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the folder of a run, from its scoreboard and figures.

    A figure that another run has drawn again since is left out; the report counts these.

    Raises:
        ValueError: if the scoreboard is not as `runner.reproduce` writes it.
        OSError: if there is no scoreboard, or the report cannot be written.
    """
    source, path = run_dir / SCOREBOARD_NAME, run_dir / REPORT_NAME
    board = paths.read_json(source, finite=False)
    try:
        page = render_report(board, _read_figures(run_dir, board))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = texts.in_a_line(f"{type(error).__name__}: {error}", 500)
        raise ValueError(
            f"Expected '{source}' to be a scoreboard as this version of the lab writes it; there "
            f"is no making a report of it ({reason}). Run the notebooks again."
        ) from error
    paths.write_atomically(path, page.encode())
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; "" if there is no such file, or it cannot be read."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def render_report(board: Board, figures: Sequence[ReportedFigure]) -> str:
    """Return the report as HTML.

    Args:
        board: the content of a run's `scoreboard.json`.
        figures: of that run, in the order in which they are shown.
    """
    title = f"{board['profile']['name']} profile"
    parts = [
        f"<h1>Git Re-Basin, run at the {_text(title)}</h1>",
        _summary(board),
        _contents(board),
        _scoreboard(board, figures),
        _notebooks(board, figures),
        *(_figures_of(notebook, board, figures) for notebook in board["notebooks"]),
    ]
    body = "\n".join(part for part in parts if part)
    return _PAGE.format(title=_text(f"rebasin_lab, {board['title']}"), style=_STYLE, body=body)


def _read_figures(run_dir: Path, board: Board) -> list[ReportedFigure]:
    figures = []
    for notebook in board["notebooks"]:
        folder = run_dir / board["figures_dir"] / notebook["notebook"]
        for name, digest in notebook["figures"]:
            for part in (notebook["notebook"], name):
                if Path(part).name != part:
                    raise ValueError(f"Expected the name of a file; got {part!r}, a path")
            path = folder / f"{name}.json"
            if file_digest(path) == digest and (content := _read_figure(path)):
                figures.append(ReportedFigure(notebook["notebook"], name, *content))
    return figures


def _read_figure(path: Path) -> tuple[Mapping[str, Any], bytes] | None:
    """Return a figure's record and picture; None if either is not as `save_figure` leaves it."""
    try:
        record = paths.read_json(path)
        match record:
            case {
                "caption": str(),
                "alt": str(),
                "claims": [*claim_ids],
                "size_inches": [int() | float() as width, int() | float() as height],
            } if all(isinstance(claim, str) for claim in claim_ids):
                if not (math.isfinite(width) and math.isfinite(height)):
                    return None
            case _:
                return None
        picture = path.with_suffix(".png")
        if not picture.is_file() or picture.stat().st_size > MOST_BYTES:
            return None
        return record, picture.read_bytes()
    except (OSError, ValueError):
        return None


def _summary(board: Board) -> str:
    """List profile, settings, data, devices, versions and claims, and failed notebooks."""
    notebooks, profile = board["notebooks"], board["profile"]
    devices = list(dict.fromkeys(d for n in notebooks for d in n["devices"])) or ["not recorded"]
    versions = ", ".join(f"{name} {version}" for name, version in board["versions"].items())
    changes = ", ".join(f"{name} = {value}" for name, value in board["parameters"].items())
    pythons = list(dict.fromkeys(n["python"] for n in notebooks if n["python"]))
    seconds = tqdm.tqdm.format_interval(sum(notebook["seconds"] for notebook in notebooks))
    rows = {
        "Profile": profile["name"] + (", with settings changed" if changes else ""),
        "Changed settings": changes and f"{changes}: claims of a notebook that has them stay open",
        "Data": f"{board['dataset']['title']} (SHA-256 {board['dataset']['digest'][:16]}…)",
        "Networks": f"{board['networks']}; other ones are named in captions",
        "Pairs": str(profile["num_pairs"]),
        "Device": ", ".join(devices),
        "Versions": versions,
        "Python": "; ".join(pythons),
        "Run": f"{_minute(board['started'])} to {_minute(board['ended'])} UTC; "
        f"{seconds} in {len(notebooks)} of {len(board['planned'])} notebooks",
        "Claims": claims.tally(row["status"] for row in board["claims"]),
    }
    items = "".join(
        f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows.items() if value
    )
    failed = "".join(
        f'<p class="failed"><strong>Failed:</strong> {_link_to_notebook(notebook["notebook"])}: '
        f"{_text(notebook['error'])}</p>"
        for notebook in notebooks
        if notebook["error"]
    )
    return f"<dl>{items}</dl>{failed}"


def _contents(board: Board) -> str:
    links = [
        '<a href="#scoreboard">Scoreboard</a>',
        '<a href="#notebooks">Notebooks</a>',
        *(_link_to_notebook(notebook["notebook"]) for notebook in board["notebooks"]),
    ]
    items = "".join(f"<li>{link}</li>" for link in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def claims_table(board: Board, where: Callable[[Row], Sequence[str]]) -> str:
    """Return all claims as one HTML table, in the order of the paper's sections.

    A row carries its section, notebook and verdict as data attributes, for scripts that filter.

    Args:
        board: the content of a run's `scoreboard.json`.
        where: the links of a claim's last cell, as HTML.
    """
    shown = ("statement", "paper", "measured_text", "tolerance", "status")
    names = [*(claims.COLUMNS[name].capitalize() for name in shown), "Where"]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = sorted(board["claims"], key=lambda row: _section_order(section_of(row)))
    groups = "".join(
        f'<tbody><tr><th class="section" scope="rowgroup" colspan="6">{_text(section)}</th></tr>'
        + "".join(_claim_row(row, board, where(row)) for row in section_rows)
        + "</tbody>"
        for section, section_rows in itertools.groupby(rows, key=section_of)
    )
    return (
        '<div class="wide" role="region" tabindex="0" aria-label="Claims"><table>'
        f"<caption>{_text(claims.tally(row['status'] for row in board['claims']))}</caption>"
        f"<thead><tr>{head}</tr></thead>{groups}</table></div>"
    )


def _scoreboard(board: Board, figures: Sequence[ReportedFigure]) -> str:
    def where(row: Row) -> list[str]:
        shown = [figure for figure in figures if row["claim"] in figure.record["claims"]]
        notebook = _link_to_notebook(row["notebook"], known=_was_run(row["notebook"], board))
        return [notebook, *(f'<a href="#{_figure_id(f)}">{_text(f.name)}</a>' for f in shown)]

    return (
        '<section id="scoreboard"><h2>Scoreboard</h2>'
        "<p>Every bound was fixed before the run. A claim about pairs of networks must hold for "
        "every pair, or by a statistic over all of them. Grey rows were not tested in this run; "
        f"see their status. The same as data: {_link(SCOREBOARD_NAME, SCOREBOARD_NAME)}.</p>"
        f"{claims_table(board, where)}</section>"
    )


def _claim_row(row: Row, board: Board, links: Sequence[str]) -> str:
    kind = claims.kind_of(row["status"])
    profile, status = board["profile"]["name"], row["status"]
    reasons = [each for each in (claims.reason(row, profile), claims.why(row, profile)) if each]
    if status == "not run":
        status += f": {_why_not_run(row['notebook'], board)}"
    return (
        f'<tr id="{_claim_id(row["claim"])}" class="{kind}" data-verdict="{kind}" '
        f'data-section="{_text(section_of(row))}" data-notebook="{_text(row["notebook"])}">'
        f'<th scope="row">{_text(row["statement"])}<br><small>{_text(row["quantity"])} '
        f"({_text(', '.join([*row['section'].split(', ')[1:], row['claim']]))})</small></th>"
        f"<td>{_text(row['paper'])}</td><td>{_text(row['measured_text'])}</td>"
        f"<td>{_text(row['tolerance'])}</td>"
        f'<td><strong><span aria-hidden="true">{_MARKS[kind]}</span> {_text(status)}</strong>'
        f"{''.join(f'<br><small>{_text(reason)}</small>' for reason in reasons)}</td>"
        f"<td>{'<br>'.join(links)}</td></tr>"
    )


def _why_not_run(notebook: str, board: Board) -> str:
    outcome = next((n for n in board["notebooks"] if n["notebook"] == notebook), None)
    if notebook not in board["planned"]:
        return "its notebook is not part of this run"
    if outcome is None:
        return "the run ended before its notebook"
    return "its notebook failed" if outcome["error"] else "its notebook did not measure it"


def _notebooks(board: Board, figures: Sequence[ReportedFigure]) -> str:
    """Return a line for each notebook: outcome, seconds, devices, files."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Notebook", "Outcome", "Seconds", "Device", "Figures", "Files")
    )
    outcomes = {notebook["notebook"]: notebook for notebook in board["notebooks"]}
    rows = "".join(
        _notebook_row(outcomes[name], figures)
        if name in outcomes
        else f'<tr class="untested"><th scope="row">{_text(name)}</th>'
        '<td colspan="5">not run</td></tr>'
        for name in board["planned"]
    )
    return (
        '<section id="notebooks"><h2>Notebooks</h2>'
        '<div class="wide" role="region" tabindex="0" aria-label="Notebooks"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _notebook_row(notebook: Mapping[str, Any], figures: Sequence[ReportedFigure]) -> str:
    name, log = notebook["notebook"], f"{notebook['notebook']}.log"
    outcome = "ran through"
    if notebook["error"]:
        outcome = f"failed {notebook['error']}"
    num_figures = sum(figure.notebook == name for figure in figures)
    redrawn = len(notebook["figures"]) - num_figures
    missing = f" ({redrawn} drawn again by another run since, or damaged)" if redrawn else ""
    return (
        f'<tr><th scope="row">{_link_to_notebook(name)}</th><td>{_text(outcome)}</td>'
        f"<td>{notebook['seconds']:.1f}</td><td>{_text(', '.join(notebook['devices']))}</td>"
        f"<td>{num_figures}{missing}</td><td>{_link(f'{name}.ipynb', 'executed notebook')}, "
        f"{_link(log, 'log')}</td></tr>"
    )


def _figures_of(
    notebook: Mapping[str, Any], board: Board, figures: Sequence[ReportedFigure]
) -> str:
    name = notebook["notebook"]
    own = "".join(_figure(figure, board) for figure in figures if figure.notebook == name)
    return (
        f'<section id="{_notebook_id(name)}"><h2>{_text(name)}</h2>'
        f"<p>{_link(f'{name}.ipynb', 'Executed notebook')}, {notebook['seconds']:.1f} s"
        f"{'' if own else '; no figures'}.</p>{own}</section>"
    )


def _figure(figure: ReportedFigure, board: Board) -> str:
    """Return a picture with its caption, its alternative text, and its claims."""
    record = figure.record
    known = {row["claim"]: row for row in board["claims"]}
    supported = "".join(
        f'<li><a href="#{_claim_id(claim)}">{_text(known[claim]["statement"])}</a> '
        f"<strong>{_text(known[claim]['status'])}</strong></li>"
        for claim in record["claims"]
        if claim in known
    )
    width, height = (round(inches * 100) for inches in record["size_inches"])
    return (
        f'<figure id="{_figure_id(figure)}"><img alt="{_text(record["alt"])}" width="{width}" '
        f'height="{height}" src="data:image/png;base64,{base64.b64encode(figure.png).decode()}">'
        f"<figcaption>{_text(record['caption'])}"
        f"{f'<p>Claims:</p><ul>{supported}</ul>' if supported else ''}"
        f"<details><summary>In words</summary><p>{_text(record['alt'])}</p></details>"
        "</figcaption></figure>"
    )


def section_of(row: Row) -> str:
    """Return the part of the paper a claim belongs to: `3.2, Lemma 2` is in section 3.2."""
    part = row["section"].split(",")[0].strip()
    if re.match(r"\d", part):
        return f"Section {part}"
    return f"Appendix {part}" if re.match(r"[A-Z]\b", part) else part


def _section_order(section: str) -> tuple:
    """Sort sections by number, then tables, which have none, then appendices."""
    kind, _, number = section.partition(" ")
    numbers = tuple(int(digits) for digits in re.findall(r"\d+", number))
    return {"Section": 0, "Appendix": 2}.get(kind, 1), numbers, section


def _was_run(notebook: str, board: Board) -> bool:
    return any(outcome["notebook"] == notebook for outcome in board["notebooks"])


def _claim_id(claim: str) -> str:
    return f"claim/{quote(claim, safe='')}"


def _notebook_id(notebook: str) -> str:
    return f"notebook/{quote(notebook, safe='')}"


def _figure_id(figure: ReportedFigure) -> str:
    return f"figure/{quote(figure.notebook, safe='')}/{quote(figure.name, safe='')}"


def _link_to_notebook(notebook: str, *, known: bool = True) -> str:
    if not known:
        return _text(notebook)
    return f'<a href="#{_notebook_id(notebook)}">{_text(notebook)}</a>'


def _link(file: str, text: str) -> str:
    return f'<a href="{quote(file, safe="")}">{_text(text)}</a>'  # a file beside the report


def _minute(timestamp: str) -> str:
    return timestamp[:16].replace("T", " ")


_MARKS = {"yes": "✓", "no": "✗", "untested": "–"}

# Figures stay on white. On paper everything is dark on light.
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #59636e;
  --line: #d1d9e0; --head: #f3f5f7; --link: #0550ae; --yes: #0a6b36; --no: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0f1419; --soft: #9aa5b1; --line: #3a434d; --head: #1a2129;
    --link: #7ab7ff; --yes: #5ad08a; --no: #ff8f85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
a { color: var(--link); } small { color: var(--soft); font-weight: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding-bottom: .5rem; color: var(--soft); }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .6rem; text-align: left;
  vertical-align: top; }
th[scope=row], tr.no td:nth-of-type(4) { font-weight: normal; min-width: 16rem; }
thead th, th.section { background: var(--head); font-weight: 600; }
tr.yes strong { color: var(--yes); } tr.no strong { color: var(--no); }
tr.untested, tr.untested small { color: var(--soft); }
tr.untested strong { font-weight: normal; }
tr:target, figure:target { outline: 3px solid var(--link); outline-offset: -3px; }
.failed { border-left: 4px solid var(--no); padding-left: .8rem; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 2.5rem; }
figure img { display: block; background: #fff; max-width: 100%; height: auto; }
figcaption { margin-top: .5rem; max-width: 50rem; }
figcaption p, figcaption ul { margin: .3rem 0; } summary { color: var(--soft); cursor: pointer; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .wide { overflow: visible; } tr, figure { break-inside: avoid; } h2 { break-after: avoid; }
  thead { display: table-header-group; } a { color: inherit; } }
"""

# The policy forbids a browser to load anything.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
