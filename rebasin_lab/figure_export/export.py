"""Writing figures for a report: pictures, snippets, numbers, and one index of it all.

An export is a folder laid out as `figures/` is, so it can be exported from or made a gallery of:

    figures.json                        every figure: size, text, caption, where numbers come from
    00_quickstart/interpolation.json    the numbers, as they were
    00_quickstart/interpolation.pdf     also .svg and .png
    00_quickstart/interpolation.tex     also .md and .myst.md

The same numbers, formats and width give the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from rebasin_lab import figures, paths, plots
from rebasin_lab.figure_export import fitting, pictures, snippets

INDEX = "figures.json"
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
# Which pictures a page or a document can show, the best in front.
_FOR_PAGES, _FOR_LATEX = ("svg", "png"), ("pdf", "png")


def parse_formats(text: str) -> list[str]:
    """Formats from a list such as "svg,pdf", each once.

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


def choose_figures(source: Path, only: Sequence[str] = ()) -> list[Path]:
    """The JSON files of the figures to export.

    Args:
        source: a folder as `figures/` is.
        only: names such as "contour" or "04_loss_landscapes/contour", or the start of a notebook's
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
    for wanted in only:
        found = {
            path
            for name, path in names.items()
            if wanted in (name, path.stem) or path.parent.name.startswith(wanted or "/")
        }
        if not found:
            raise ValueError(
                f"Expected the name of a figure under '{source}', or the start of a notebook's; "
                f"got {wanted!r}. There are: {', '.join(names)}."
            )
        chosen |= found
    return sorted(chosen) if only else saved


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
        directory: where to; created if need be. Other files there are left alone.
        formats: some of `pictures.FORMATS`.
        width: a name in `fitting.WIDTHS`. A figure that cannot be read at it is made wider, which
            its entry says.
        on_figure: called with the index's entry of every figure as soon as it is written.

    Returns:
        The path of the index.

    Raises:
        ValueError: for an unknown width or format, for a file that holds no figure, and for a
            directory where the figures themselves are: their pictures would be written over.
        OSError: if something cannot be written.
    """
    if width not in fitting.WIDTHS:
        raise ValueError(f"Expected a width among {', '.join(fitting.WIDTHS)}; got {width!r}.")
    parse_formats(",".join(formats))
    for source in {path.resolve().parents[1] for path in chosen}:
        if directory.resolve().is_relative_to(source):
            raise ValueError(
                f"Expected a folder outside '{source}', where the figures are kept; got "
                f"'{directory}'. Choose another one: these pictures have other sizes."
            )
    entries = []
    for path in chosen:
        entries.append(_export_figure(path, directory, formats, width))
        on_figure(entries[-1])
    index = {
        "made_by": "rebasin-lab figures",
        "matplotlib": matplotlib.__version__,
        "width": width,
        "formats": list(formats),
        "figures": entries,
    }
    content = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    paths.write_atomically(directory / INDEX, content.encode())
    return directory / INDEX


def _export_figure(
    path: Path, directory: Path, formats: Sequence[str], width: str
) -> dict[str, Any]:
    """Write the files of one figure; what the index says of it."""
    numbers = path.read_bytes()
    record, name = _record(path, numbers), _name(path)
    files = {"json": numbers}
    with figures.drawing():
        drawn = fitting.draw_for_width(record, width)
        for kind in formats:
            files[kind] = pictures.picture(drawn, kind, title=name, alt=record["alt"])
    files |= _snippets(name, record, drawn, formats)
    folder = directory / path.parent.name
    for ending, content in files.items():
        paths.write_atomically(folder / f"{path.stem}.{ending}", content)
    return {
        "name": name,
        "files": [f"{name}.{ending}" for ending in files],
        "width": drawn.width,
        "size_inches": [round(side, 3) for side in drawn.size_inches],
        "text_points": [round(points, 1) for points in drawn.text_points],
        "arrangement": drawn.arrangement,
        "note": drawn.note,
        "caption": record["caption"],
        "alt": record["alt"],
        "plot": record["plot"],
        **{key: record[key] for key in PROVENANCE},
        "numbers_sha256": hashlib.sha256(numbers).hexdigest(),
    }


def _snippets(
    name: str, record: Mapping[str, Any], drawn: fitting.Drawn, formats: Sequence[str]
) -> dict[str, bytes]:
    """By ending; those for which there is a picture that they can show."""
    texts = {"caption": record["caption"], "alt": record["alt"]}
    written = {}
    for kind in [kind for kind in _FOR_PAGES if kind in formats][:1]:
        picture = f"{name.rpartition('/')[2]}.{kind}"
        written["md"] = snippets.markdown_figure(picture, **texts)
        written["myst.md"] = snippets.myst_figure(name, picture, **texts)
    for kind in [kind for kind in _FOR_LATEX if kind in formats][:1]:
        written["tex"] = snippets.latex_figure(
            name,
            f"{name}.{kind}",
            width_inches=fitting.WIDTHS[drawn.width].inches,
            over_two_columns=drawn.width == "double",
            **texts,
        )
    return {ending: text.encode() for ending, text in written.items()}


def _record(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except ValueError:
        record = None
    wanted = {"plot", "size_inches", "caption", "alt", "numbers", *PROVENANCE}
    if not isinstance(record, dict) or not wanted <= record.keys():
        raise ValueError(
            f"Expected a figure's numbers in '{path}'; got something else, or not all of them. "
            "Run its notebook again, or move the file away."
        )
    if record["plot"] not in plots.PLOTS:
        raise ValueError(
            f"Expected a plot among {sorted(plots.PLOTS)} in '{path}'; got {record['plot']!r}."
        )
    return record


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"
