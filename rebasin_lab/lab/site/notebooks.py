"""Executed notebooks, prepared as pages.

Plumbing is folded, pictures become files, names of notebooks become links, and paths of the machine
that ran them go.
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from PIL import Image

from rebasin_lab import paths, texts
from rebasin_lab.lab.site.doors import Doors

_PICTURE = re.compile(
    r'(?:(?P<figure><figure)(?P<between>[^<>]*>))?<img(?P<before>[^>]*?)\bsrc="data:image/'
    r'(?P<kind>png|jpeg|gif|webp|svg\+xml);base64,(?P<data>[A-Za-z0-9+/=\s]+)"'
)
_NOT_RUN = (
    '<p class="rl-note">This notebook was not executed for these pages: its cells stand here '
    "without their outputs.</p>"
)


class Images:
    """The pictures of all notebooks, by their content.

    Args:
        drawn: the JSON files of figures, each beside its picture, in folders of notebooks.
        source: the folder of sources that they lie in.

    Attributes:
        files: pictures that are no figures, by their place in the site.
        places: of the figures in the site, without ending, by their JSON files.
    """

    def __init__(self, drawn: Sequence[Path], source: Path):
        self.files: dict[str, bytes] = {}
        self.places = {path: path.with_suffix("").relative_to(source).as_posix() for path in drawn}
        self._known = {
            hashlib.sha256(path.with_suffix(".png").read_bytes()).hexdigest(): path
            for path in drawn
        }
        self._shown: set[Path] = set()

    def place(self, content: bytes, kind: str, notebook: str) -> tuple[str, str]:
        """Return where a picture of a notebook lies in the site, and its anchor on the page.

        Only a figure has an anchor, and only the first time that its notebook shows it.
        """
        digest = hashlib.sha256(content).hexdigest()
        if figure := self._known.get(digest):
            is_first = figure.parent.name == notebook and figure not in self._shown
            self._shown |= {figure} if is_first else set()
            return f"{self.places[figure]}.png", f"figure-{figure.stem}" if is_first else ""
        place = f"_images/{digest[:24]}.{kind.removesuffix('+xml')}"
        self.files[place] = content
        return place, ""

    def link(self, figure: Path) -> str:
        """Return where the pages show a figure: the place of its notebook, and an anchor if any."""
        anchor = f"#figure-{figure.stem}" if figure in self._shown else ""
        return f"notebooks/{figure.parent.name}.html{anchor}"


def as_page(
    notebook: nbformat.NotebookNode,
    name: str,
    doors: Doors,
    images: Images,
    sequence: Sequence[Path],
    *,
    was_run: bool,
) -> str:
    """Return a notebook, as a file's content, for a page one folder below the site's root.

    Args:
        notebook: executed, or not; it is changed.
        name: without ending.
        doors: of its badges.
        images: that its pictures are added to.
        sequence: all notebooks, whose names in its text become links.
        was_run: whether it is the run's, else the page says that it was not executed.
    """
    cells = [each for each in notebook.cells if "injected-parameters" not in _tags(each)]
    names = [path.stem for path in sequence if path.stem != name and "_" in path.stem]
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _with_links(cell.source, names)
        elif "parameters" in _tags(cell) or cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["tags"] = [*_tags(cell), "hide-input"]
        for output in cell.get("outputs", ()):
            _prepare(output, images, name)
    top = _badges(name, doors) + ("" if was_run else _NOT_RUN)
    notebook.cells = [cells[0], nbformat.v4.new_markdown_cell(top, id="doors"), *cells[1:]]
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)  # cells have ids since then
    notebook.metadata.setdefault("language_info", {"name": "python"})
    return nbformat.writes(notebook)


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", ()))


def _with_links(text: str, names: Sequence[str]) -> str:
    known = "|".join(map(re.escape, names))
    return re.sub(rf"(?<!\[)`({known})`(?!\])", r"[`\1`](\1.ipynb)", text) if known else text


def _badges(name: str, doors: Doors) -> str:
    colab, binder = texts.as_html(doors.colab(name)), texts.as_html(doors.binder(name))
    return (
        f'<p class="rl-doors"><a href="{colab}">Open in Colab</a> '
        f'<a href="{binder}">Open in Binder</a></p>'
    )


def _prepare(output: nbformat.NotebookNode, images: Images, name: str) -> None:
    if "text" in output:
        output.text = _placeless(output.text)
    data = output.get("data", {})
    for kind in ("text/plain", "text/markdown", "text/html"):
        if kind in data:
            data[kind] = _placeless(data[kind])
    if "text/html" in data:
        data["text/html"] = _PICTURE.sub(
            lambda found: _as_file(found, images, name), data["text/html"]
        )


def _placeless(text: str) -> str:
    """Return a text without the folders of this machine."""
    for folder, name in ((paths.runs_dir(), "runs/"), (paths.project_dir(), "")):
        text = text.replace(f"{folder}/", name)
    return text


def _as_file(found: re.Match, images: Images, name: str) -> str:
    content = base64.b64decode(found["data"])
    place, anchor = images.place(content, found["kind"], name)
    start = found["figure"] or ""
    if start and anchor:
        start += f' id="{anchor}"'
    return (
        f'{start}{found["between"] or ""}<img{found["before"]}{_size(content)} loading="lazy" '
        f'src="../{place}"'
    )


def _size(content: bytes) -> str:
    """Return attributes that keep a picture's place until it is loaded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return f'width="{image.width}" height="{image.height}"'
    except OSError:  # of a drawing in SVG
        return ""
