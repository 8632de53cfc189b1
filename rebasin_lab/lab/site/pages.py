"""Pages that no notebook has: the start, the scoreboard, and the gallery of all figures."""

import io
import itertools
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from rebasin_lab import texts
from rebasin_lab.lab import figures, report
from rebasin_lab.lab.figure_export import snippets
from rebasin_lab.lab.site.notebooks import Images
from rebasin_lab.paper import claims

_text = texts.as_html

THUMBNAIL = (640, 480)  # pixels, at most; twice what a card shows

# A part of the sequence, in the table of `START.md`, and a notebook in its row.
_PART = re.compile(r"^\| \*\*(?P<part>[^*]+)\*\* \| (?P<notebooks>.+) \|$", re.MULTILINE)
_NOTEBOOK = re.compile(r"\[(?P<title>[^\]]+)\]\((?P<name>\w+)\.ipynb\)")
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")

# Links to files, which Sphinx would copy and offer as downloads.
_FILE_LINK = re.compile(r"(?<!!)(\[[^\]\[]*\]\([^)\s]*figures/[^)\s]+\.(?:svg|png|json)\))")


def with_links_of_the_site(text: str) -> str:
    """Return a page of Markdown with the links that the site needs.

    Those to figures' files are links and no downloads, and its own start page stands in for
    JupyterLab's.
    """
    return _FILE_LINK.sub(r"\1{.external}", text).replace("(START.md)", "(../index.md)")


def parts(start_page: str) -> dict[str, dict[str, str]]:
    """Return the parts of the sequence: the title of each notebook, by its name.

    Args:
        start_page: the text of `notebooks/START.md`, which has the one table of them.
    """
    return {
        f"{numeral} · {found['part']}": {
            each["name"]: each["title"] for each in _NOTEBOOK.finditer(found["notebooks"])
        }
        for numeral, found in zip(_NUMERALS, _PART.finditer(start_page), strict=False)
    }


def start(
    board: Mapping[str, Any], start_page: str, template: str, documents: Iterable[str]
) -> str:
    """Return the start page: cards, the run in a line, and the order of all pages.

    Args:
        board: the content of a run's `scoreboard.json`.
        start_page: the text of `notebooks/START.md`.
        template: the page, with names for the rest.
        documents: pages of the repository; those that the template does not name come last.
    """
    found = parts(start_page)
    contents = [
        _contents(part, [f"{title} <notebooks/{name}>" for name, title in notebooks.items()])
        for part, notebooks in found.items()
    ]
    return string.Template(template).substitute(
        title=snippets.markdown_text(board["title"]),
        more="\n".join(page for page in documents if f"<{page}>" not in template),
        ended=board["ended"][:10],
        tally=claims.tally(row["status"] for row in board["claims"]),
        num_claims=len(board["claims"]),
        num_notebooks=sum(map(len, found.values())),
        parts="\n".join(contents),
    )


def scoreboard(board: Mapping[str, Any], drawn: Sequence[Path], images: Images) -> str:
    """Return the page of all claims, with controls that a script makes work.

    Args:
        board: the content of a run's `scoreboard.json`.
        drawn: the JSON files of the run's figures.
        images: that the pages of notebooks show.
    """
    links: dict[str, list[str]] = {}
    for path, record in figures.read_figures(drawn).items():
        link = f'<a href="{images.link(path)}">{_text(path.stem)}</a>'
        for claim in record["claims"]:
            links.setdefault(claim, []).append(link)

    def where(row: Mapping[str, Any]) -> list[str]:
        notebook = _text(row["notebook"])
        page = f'<a href="notebooks/{notebook}.html">{notebook}</a>'
        return [page, *links.get(row["claim"], ())]

    rows, title = board["claims"], snippets.markdown_text(board["title"])
    sections = dict.fromkeys(map(report.section_of, rows))
    controls = (
        '<form class="rl-filter" role="search" aria-label="Claims" hidden>'
        '<label>Text <input type="search" name="text"></label>'
        + _choice("section", sections)
        + _choice("notebook", dict.fromkeys(row["notebook"] for row in rows))
        + _choice("verdict", ("yes", "no", "untested"), _VERDICTS)
        + '<button type="reset">Show all</button><output aria-live="polite"></output></form>'
    )
    return f"""---
html_theme.sidebar_secondary.remove: true
---
# Scoreboard

Every claim of the paper, with the bound that was fixed before the run: {title}. A claim
about pairs of networks must hold for every pair, or by a statistic over all of them. The same as
[data](scoreboard.json){{.external}}.

```{{raw}} html
{controls}
{report.claims_table(board, where)}
<script src="_static/scoreboard.js"></script>
```
"""


def gallery(drawn: Sequence[Path], images: Images) -> tuple[str, dict[str, bytes]]:
    """Return the page of all figures of a run, and its thumbnails by their place in the site."""
    records = figures.read_figures(drawn)
    lines = [
        "# All figures",
        "",
        f"{len(drawn)} figures. Each is drawn from the numbers beside it.",
    ]
    thumbnails = {}
    for notebook, group in itertools.groupby(drawn, lambda path: path.parent.name):
        cards = []
        for path in group:
            place = f"_images/thumbnails/{notebook}-{path.stem}.webp"
            thumbnails[place] = _thumbnail(path.with_suffix(".png"))
            cards.append(
                _card(records[path], path.stem, images.link(path), images.places[path], place)
            )
        lines += ["", f"## {notebook.replace('_', ' ')}", "", "```{raw} html"]
        lines += [f'<ul class="rl-gallery">{"".join(cards)}</ul>', "```"]
    return "\n".join(lines) + "\n", thumbnails


def _contents(caption: str, entries: Iterable[str]) -> str:
    lines = "\n".join(entries)
    return f"```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{lines}\n```\n"


def _choice(name: str, values: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    options = "".join(
        f'<option value="{_text(value)}">{_text((shown or {}).get(value, value))}</option>'
        for value in values
    )
    return (
        f"<label>{name.capitalize()} "
        f'<select name="{name}"><option value="">all</option>{options}</select></label>'
    )


def _card(record: Mapping[str, Any], name: str, page: str, files: str, thumbnail: str) -> str:
    links = " · ".join(
        f'<a href="../{files}.{kind}" aria-label="{_text(name)} as {kind.upper()}">'
        f"{kind.upper()}</a>"
        for kind in ("svg", "png", "json")
    )
    return (
        f'<li><a href="../{page}">'
        f'<img loading="lazy" src="../{thumbnail}" alt="{_text(record["alt"])}"></a>'
        f"<p><strong>{_text(record.get('title') or name)}</strong></p>"
        f"<details><summary>{_text(name)}</summary><p>{_text(record['caption'])}</p></details>"
        f"<p>{links}</p></li>"
    )


def _thumbnail(path: Path) -> bytes:
    content = io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail(THUMBNAIL)
        image.convert("RGB").save(content, "webp", quality=80)
    return content.getvalue()


_VERDICTS = {"yes": "reproduced", "no": "not reproduced", "untested": "not decided"}
