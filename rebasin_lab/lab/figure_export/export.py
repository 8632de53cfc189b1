"""Write figures for a report: pictures, snippets, numbers, and one index of all.

An export is a folder laid out as `figures/` is, so that it can be exported from, too:

    figures.json                        every figure: size, text, caption, provenance
    00_quickstart/interpolation.json    the numbers, unchanged
    00_quickstart/interpolation.pdf     also .svg and .png
    00_quickstart/interpolation.tex     also .md and .myst.md

The same numbers, formats and width give the same bytes.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from rebasin_lab import checks, paths, strict_json, texts
from rebasin_lab.lab import figures
from rebasin_lab.lab.figure_export import fitting, pictures, snippets

INDEX = "figures.json"
_MAKER = "rebasin-lab figures"
PROVENANCE = (
    "notebook",
    "profile",
    "dataset",
    "seeds",
    "settings",
    "trained_with",
    "versions",
    "claims",
)
# Pictures that a page or a document can show, the best in front.
_FOR_PAGES, _FOR_LATEX = ("svg", "png"), ("pdf", "png")
_ENDINGS = ("json", *pictures.FORMATS, "md", "myst.md", "tex")


@checks.arguments
def parse_formats(text: str) -> list[str]:
    """Return the formats in a list such as "svg,pdf", each once.

    Raises:
        ValueError: for anything but `pictures.FORMATS`.
    """
    formats = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    unknown = [kind for kind in formats if kind not in pictures.FORMATS]
    if unknown:
        known = ", ".join(pictures.FORMATS)
        raise ValueError(
            f"Expected formats among {known}, with commas between; got {unknown[0]!r} in {text!r}."
        )
    return formats


@checks.arguments
def choose_figures(source: Path, only: Sequence[str] = ()) -> list[Path]:
    """Return the JSON files of the figures to export.

    Args:
        source: a folder as `figures/` is.
        only: names such as "contour" or "02_line_and_barrier/contour", or the start of a notebook's
            name, such as "04"; without any, all figures.

    Raises:
        ValueError: if there is no figure, or a name that none has.
    """
    saved = figures.saved_figures(source)
    if not saved:
        raise ValueError(
            f"Expected figures under '{source}', as in NOTEBOOK/NAME.json; got none. Run "
            "'rebasin-lab reproduce' first, or name another folder."
        )
    names = {_name(path): path for path in saved}
    chosen: set[Path] = set()
    for start in only:
        matches = {
            path
            for name, path in names.items()
            if start in (name, path.stem) or path.parent.name.startswith(start or "/")
        }
        if not matches:
            raise ValueError(
                f"Expected the name of a figure under '{source}', or the start of a notebook's; "
                f"got {start!r}. There are: {', '.join(names)}."
            )
        chosen |= matches
    return sorted(chosen) if only else saved


@checks.arguments
def export_figures(
    chosen: Sequence[Path],
    directory: Path,
    *,
    formats: Sequence[str] = pictures.FORMATS,
    width: str = "double",
    on_figure: Callable[[Mapping[str, Any]], None] = lambda entry: None,
) -> Path:
    """Write figures at the width of a column or a slide, with snippets and an index.

    Args:
        chosen: JSON files of figures, see `choose_figures`.
        directory: to write to; created if need be. Other files there are left alone.
        formats: some of `pictures.FORMATS`.
        width: a name in `fitting.WIDTHS`. A figure whose text leaves no room for panels is only
            shrunk, as its entry notes.
        on_figure: called with the index's entry of every figure as soon as it is written.

    Returns:
        The path of the index.

    Raises:
        ValueError: for an unknown width or format, for a file that holds no figure, for a
            directory where the figures themselves are or the lab keeps something else, and if a
            file would be written over that no export made.
        OSError: if something cannot be written.
    """
    if width not in fitting.WIDTHS:
        raise ValueError(f"Expected a width among {', '.join(fitting.WIDTHS)}; got {width!r}.")
    parse_formats(",".join(formats))
    for source in {
        paths.figures_dir().resolve(),
        *(path.parent.resolve().parent for path in chosen),
    }:
        if directory.resolve().is_relative_to(source):
            raise ValueError(
                f"Expected a folder outside '{source}', where the figures are kept; got "
                f"'{directory}'. Choose another one: these pictures have other sizes."
            )
    directory = paths.checked_output(str(directory), "the place of an export")
    if not chosen:
        raise ValueError("Expected chosen to be one figure or more; got none.")
    records = figures.read_figures(chosen)
    _check_writable(directory, chosen)
    index: dict[str, Any] = {
        "made_by": _MAKER,
        "matplotlib": matplotlib.__version__,
        "width": width,
        "formats": list(formats),
        "figures": [],
    }
    _write_index(directory, index)  # from now on the folder is an export's, even if this ends
    for path, record in records.items():
        index["figures"].append(_export_figure(path, record, directory, formats, width))
        _write_index(directory, index)
        on_figure(index["figures"][-1])
    return directory / INDEX


def _check_writable(directory: Path, chosen: Sequence[Path]) -> None:
    """Refuse to write over files that no export made: an export's folder has its index."""
    folders = {path.parent.name: directory / file_name(path.parent.name) for path in chosen}
    for folder in folders.values():
        if folder.exists() and folder.resolve() != folder:
            raise ValueError(
                f"Expected '{folder}' to be a folder of its own; it leads to '{folder.resolve()}'. "
                "Remove the link, or choose another folder to write to."
            )
    if (directory / INDEX).is_file():
        try:
            index = paths.read_json(directory / INDEX)
        except (OSError, ValueError):
            index = None
        if isinstance(index, dict) and index.get("made_by") == _MAKER:
            return
    stems = {folders[path.parent.name] / file_name(path.stem) for path in chosen}
    targets = [stem.with_name(f"{stem.name}.{ending}") for stem in stems for ending in _ENDINGS]
    if taken := sorted(path for path in (directory / INDEX, *targets) if os.path.lexists(path)):
        raise ValueError(
            f"Expected '{directory}' to be a new folder, or one that an earlier export wrote (it "
            f"has '{INDEX}'); there is '{taken[0]}', which would be written over. Choose another "
            "folder, or move that away."
        )


def _write_index(directory: Path, index: Mapping[str, Any]) -> None:
    content = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    paths.write_atomically(directory / INDEX, content.encode())


def _export_figure(
    path: Path,
    record: Mapping[str, Any],
    directory: Path,
    formats: Sequence[str],
    width: str,
) -> dict[str, Any]:
    """Write the files of one figure; returns its entry of the index."""
    numbers = paths.read_bytes(path, strict_json.MOST_BYTES)
    name = texts.in_a_line(_name(path))
    alt = texts.plain(record["alt"], snippets.MOST_LETTERS)
    place = f"{file_name(path.parent.name)}/{file_name(path.stem)}"
    files = {"json": numbers}
    with figures.drawing(), figures.refused_at(path):
        drawn = fitting.draw_for_width(record, width)
        for kind in formats:
            files[kind] = pictures.picture(drawn, kind, title=name, alt=alt)
    files |= _snippets(place, record, width, formats)
    for ending, content in files.items():
        paths.write_atomically(directory / f"{place}.{ending}", content)
    return {
        "name": name,
        "files": [f"{place}.{ending}" for ending in files],
        "width": width,
        "size_inches": [round(side, 3) for side in drawn.size_inches],
        "text_points": round(fitting.BODY_POINTS * drawn.scale, 1),
        "note": drawn.note,
        "caption": record["caption"],
        "alt": record["alt"],
        "plot": record["plot"],
        **{key: record[key] for key in PROVENANCE},
        "numbers_sha256": hashlib.sha256(numbers).hexdigest(),
    }


def file_name(name: str) -> str:
    """Return a name for files that every tool takes as it is, LaTeX and Markdown among them.

    A figure's or notebook's name is one; of any other its safe letters stay, with a checksum.
    """
    try:
        return paths.checked_name(name, "a name of files")
    except ValueError:
        safe = re.sub(r"[^A-Za-z0-9]+", "-", name)[:50].strip("-") or "figure"
        return f"{safe}-{zlib.crc32(os.fsencode(name)):08x}"


def _snippets(
    name: str, record: Mapping[str, Any], width: str, formats: Sequence[str]
) -> dict[str, bytes]:
    """Return snippets by ending, for which there is a picture that they can show."""
    words = {"caption": record["caption"], "alt": record["alt"]}
    written = {}
    for kind in [kind for kind in _FOR_PAGES if kind in formats][:1]:
        picture = f"{name.rpartition('/')[2]}.{kind}"
        written["md"] = snippets.markdown_figure(picture, **words)
        written["myst.md"] = snippets.myst_figure(name, picture, **words)
    for kind in [kind for kind in _FOR_LATEX if kind in formats][:1]:
        written["tex"] = snippets.latex_figure(
            name,
            f"{name}.{kind}",
            width_inches=fitting.WIDTHS[width].inches,
            over_two_columns=width == "double",
            **words,
        )
    return {ending: text.encode() for ending, text in written.items()}


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"
