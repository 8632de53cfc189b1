"""Figures as scenes: what a plot draws, as numbers that a browser draws again.

A plot draws once, onto a matplotlib figure, and that figure is read off here: panels with axes and
marks in their own coordinates. So a picture in the browser has the lines, colours and words of the
picture in the paper, without a second definition of any plot, and without the time that matplotlib
needs to lay out and to colour pixels (ten times that of drawing).

A scene is JSON. `panels` hold a `cell` (left, top, width, height, as fractions of the figure), a
`block` (cells of one block stay together on a narrow page), axes, `marks`, `legend` and perhaps a
colour `bar`. Marks are of a `kind`:

- "line": `x`, `y`, and a look; `dots` are the indices that have a marker.
- "area": `rings`, closed lines of [x, y].
- "image": `href`, a PNG, over `extent` (left, right, bottom, top).
- "text": `text` at `x`, `y`, moved by `shift` (points).

Coordinates are those of the data, but for axes named in `across` ("x", "y"), where they are
fractions of the panel. Colours are `#rrggbb`, or "ink" and "paper" for those of the page.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Transform
from PIL import Image

from rebasin_lab import checks
from rebasin_lab.lab import figures, plots

Scene = dict[str, Any]
Number = float | int | None

_DIGITS = 6  # of a coordinate
_SAMPLES = 32  # of a colour bar
_NO_COLOUR = "none"
_NAMED = {"#000000": "ink", "#ffffff": "paper"}
_SUPERSCRIPTS = str.maketrans("0123456789-−+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻⁺")
_POWER = re.compile(r"\^\{([^}]*)\}|\^(\w)")


@checks.arguments
def scene_of(record: Mapping[str, Any]) -> Scene:
    """Return the scene of a figure record, see `figures.save_figure` for its fields.

    Raises:
        ValueError: for an unknown plot, a size that is none, and numbers that it cannot draw.
    """
    size = figures.check_size(record["size_inches"], "size_inches", {})
    with figures.drawing():
        fig = Figure(figsize=tuple(size), layout="none")
        plots.draw(fig, record["plot"], record["numbers"])
        return {
            "title": record.get("title", ""),
            "caption": record["caption"],
            "alt": record["alt"],
            "size": list(size),
            **_read(fig),
        }


def _read(fig: Figure) -> dict[str, Any]:
    parts = [fig, *_subfigures(fig)]
    for part in parts:  # cells without any space between them
        part.subplotpars.update(left=0, right=1, bottom=0, top=1, wspace=0, hspace=0)
    # One with a cell of its own is a panel like others.
    bars = {ax: ax._colorbar for ax in fig.axes if hasattr(ax, "_colorbar_info")}  # noqa: SLF001
    panels = {ax: _panel(ax, fig) for ax in fig.axes if ax not in bars}
    for ax, bar in bars.items():
        parents = ax._colorbar_info["parents"]  # noqa: SLF001
        panels[parents[-1]]["bar"] = _colour_bar(bar)
    blocks = {}
    for ax, panel in panels.items():
        stands_alone = ax.figure is fig and (panel["x"]["ticks"] or panel["y"]["ticks"])
        panel["block"] = blocks.setdefault(ax if stands_alone else ax.figure, len(blocks))
    for part in parts[1:]:  # a legend of some panels stands above the first of them
        first = next((panel for ax, panel in panels.items() if ax.figure is part), None)
        if first:
            first["legend"] += [each for one in part.legends for each in _legend(one)]
    return {
        "panels": [*panels.values()],
        "legend": [each for one in fig.legends for each in _legend(one)],
        "headings": [
            {"block": blocks[part], "text": _plain(part.get_suptitle())}
            for part in parts
            if part in blocks and part.get_suptitle()
        ],
    }


def _subfigures(fig: FigureBase) -> Iterator[FigureBase]:
    for part in fig.subfigs:
        yield part
        yield from _subfigures(part)


def _panel(ax: Axes, fig: Figure) -> dict[str, Any]:
    has_axis = ax.axison
    x, y = (_axis(axis) for axis in (ax.xaxis, ax.yaxis))
    sides = ("left", "right", "top", "bottom")
    frame = [name for name in sides if has_axis and ax.spines[name].get_visible()]
    edge = next(iter(ax.spines.values()))
    legend = ax.get_legend()
    title = next(filter(None, map(ax.get_title, ("left", "center", "right"))), "")
    drawn = sorted(ax.get_children(), key=lambda artist: artist.get_zorder())
    titles = {ax.title, ax._left_title, ax._right_title}  # noqa: SLF001
    own = {ax.patch, ax.xaxis, ax.yaxis, *ax.spines.values(), *titles, legend}
    marks = [_mark(artist, ax) for artist in drawn if artist not in own and artist.get_visible()]
    at_centre = bool(ax.get_title("center"))
    look = (ax.title if at_centre else ax._left_title).get_color()  # noqa: SLF001
    return {
        "cell": _cell(ax, fig),
        "title": _plain(title),
        "title_colour": _colour(look),
        "centred": at_centre,
        "x": x if has_axis else {**x, "ticks": [], "label": ""},
        "y": y if has_axis else {**y, "ticks": [], "label": ""},
        "frame": frame,
        "frame_colour": _colour(edge.get_edgecolor()),
        "frame_width": _number(edge.get_linewidth()),
        "equal": ax.get_aspect() != "auto",
        "marks": [mark for mark in marks if mark],
        "legend": _legend(legend) if legend else [],
    }


def _cell(ax: Axes, fig: Figure) -> list[Number]:
    """Return left, top, width and height of the cell of a panel's grid."""
    spec = ax.get_subplotspec()
    box = spec.get_position(ax.figure) if spec else ax.get_position()
    # From the subfigure to the figure.
    box = box.transformed(ax.figure.transSubfigure - fig.transFigure)
    return [_number(value) for value in (box.x0, 1 - box.y1, box.width, box.height)]


def _axis(axis: Axis) -> dict[str, Any]:
    low, high = axis.get_view_interval()  # the higher first, where the axis is inverted
    places = axis.get_majorticklocs()
    formatter = axis.get_major_formatter()
    labels = formatter.format_ticks(places)
    offset = formatter.get_offset()
    label = _plain(axis.get_label_text())
    inside = [
        (place, _plain(text))
        for place, text in zip(places, labels, strict=True)
        if min(low, high) - 1e-9 <= place <= max(low, high) + 1e-9
    ]
    tick = axis.get_major_ticks(1)[0] if len(places) else None
    return {
        "limits": [_number(low), _number(high)],
        "log": axis.get_scale() == "log",
        "ticks": [[_number(place), text] for place, text in inside],
        "label": f"{label} ({_plain(offset)})" if offset else label,
        "grid": bool(tick and tick.gridline.get_visible()),
    }


def _mark(artist: Artist, ax: Axes) -> dict[str, Any] | None:
    if isinstance(artist, Line2D):
        return _line(artist, ax)
    if isinstance(artist, AxesImage):
        return _image(artist)
    if isinstance(artist, Text):
        return _text(artist, ax)
    if isinstance(artist, Patch):
        return _patch(artist, ax)
    if isinstance(artist, Collection):
        return _collection(artist, ax)
    raise TypeError(f"Expected a line, an image, a text or an area; got {artist!r} in a scene.")


def _line(line: Line2D, ax: Axes) -> dict[str, Any] | None:
    x, y = (np.asarray(values, float) for values in line.get_data(orig=False))
    if not len(x):
        return None
    return {
        "kind": "line",
        **_coordinates(line.get_transform(), ax),
        "x": _numbers(x),
        "y": _numbers(y),
        **_line_look(line, len(x)),
        **_label(line),
    }


def _line_look(line: Line2D, length: int) -> dict[str, Any]:
    look = {"colour": _colour(line.get_color()), "width": _number(line.get_linewidth())}
    if line.get_alpha() is not None:
        look["alpha"] = line.get_alpha()
    style = line.get_linestyle()
    if style in ("None", "none", " ", ""):
        look["width"] = 0
    elif style != "-":
        dashes = line._unscaled_dash_pattern[1]  # noqa: SLF001 (public nowhere)
        look["dashes"] = _numbers(dashes)
    if line.get_marker() not in ("None", "none", None, "", " "):
        look |= {
            "marker": str(line.get_marker()),
            "size": _number(line.get_markersize()),
            "fill": _colour(line.get_markerfacecolor()),
            "edge": _colour(line.get_markeredgecolor()),
            "edge_width": _number(line.get_markeredgewidth()),
            "dots": _marked(line.get_markevery(), length),
        }
    return look


def _marked(every: Any, length: int) -> list[int]:
    """Return the points that have a marker: all, each nth, each nth from one on, or some."""
    if isinstance(every, list):  # -1 is the last; a line of a legend has one point
        return [place % length for place in every if -length <= place < length]
    start, step = every if isinstance(every, tuple) else (0, every or 1)
    return list(range(start, length, step))


def _image(image: AxesImage) -> dict[str, Any]:
    pixels = image.to_rgba(image.get_array(), bytes=True, norm=True)
    top_first = pixels if image.origin == "upper" else pixels[::-1]
    left, right, bottom, top = image.get_extent()
    return {
        "kind": "image",
        "href": _png(top_first),
        "extent": _numbers((left, right, bottom, top)),
        "smooth": image.get_interpolation() not in ("nearest", "none", "auto", "antialiased"),
    }


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    is_opaque = (pixels[..., 3] == 255).all()
    Image.fromarray(pixels[..., :3] if is_opaque else pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(text: Text, ax: Axes) -> dict[str, Any] | None:
    if not text.get_text().strip():
        return None
    shift, where = [0.0, 0.0], text.get_transform()
    x, y = text.get_position()
    across = _coordinates(where, ax)
    if isinstance(text, Annotation):
        (x, y), across = text.xy, _annotation_coordinates(text.xycoords)
        if text.anncoords == "offset points":
            shift = list(text.xyann)
        elif text.xyann != text.xy:
            (x, y), across = text.xyann, _annotation_coordinates(text.anncoords)
    box = text.get_bbox_patch()
    mark = {
        "kind": "text",
        **across,
        "x": _number(x),
        "y": _number(y),
        "shift": _numbers(shift),
        "text": _plain(text.get_text()),
        "colour": _colour(text.get_color()),
        "size": _number(text.get_fontsize()),
        "anchor": {"left": "start", "center": "middle", "right": "end"}[
            text.get_horizontalalignment()
        ],
        "baseline": text.get_verticalalignment(),
        "bold": text.get_fontweight() in ("bold", 700),
        "turn": _number(text.get_rotation()),
        "ground": box is not None,
    }
    if isinstance(text, Annotation) and text.arrow_patch is not None:
        mark["arrow"] = {"to": _numbers(text.xy), "colour": _edge(text.arrow_patch)}
    return mark


def _annotation_coordinates(coords: Any) -> dict[str, Any]:
    each = coords if isinstance(coords, tuple) else (coords, coords)
    across = [name for name, one in zip("xy", each, strict=True) if one == "axes fraction"]
    return {"across": across} if across else {}


def _patch(patch: Patch, ax: Axes) -> dict[str, Any]:
    path = patch.get_path()
    where = patch.get_transform()
    coordinates = _coordinates(where, ax)
    if not coordinates:
        path = path.transformed(where - ax.transData)
    fill = _colour(patch.get_facecolor()) if patch.get_fill() else _NO_COLOUR
    return {
        "kind": "area",
        **coordinates,
        "rings": _rings(path),
        "fill": fill,
        "colour": _edge(patch),
        "width": _number(patch.get_linewidth()),
        "alpha": _alpha(patch),
        **_label(patch),
        **({"arrow": True} if isinstance(patch, FancyArrowPatch) else {}),
    }


def _collection(collection: Collection, ax: Axes) -> dict[str, Any]:
    collection.update_scalarmappable()
    faces, edges = collection.get_facecolor(), collection.get_edgecolor()
    widths = np.atleast_1d(collection.get_linewidth())
    areas = [
        {
            "rings": _rings(path),
            "fill": _colour(faces[index % len(faces)]) if len(faces) else _NO_COLOUR,
            "colour": _colour(edges[index % len(edges)]) if len(edges) else _NO_COLOUR,
            "width": _number(widths[index % len(widths)]),
        }
        for index, path in enumerate(collection.get_paths())
        if len(path.vertices)
    ]
    return {
        "kind": "areas",
        **_coordinates(collection.get_transform(), ax),
        "areas": areas,
        "alpha": collection.get_alpha() or 1,
        **_label(collection),
    }


def _rings(path: Path) -> list[list[list[Number]]]:
    """Return the closed and open lines of a path, curves as short straight pieces."""
    path = path.deepcopy()
    path.should_simplify = False  # it would drop what is smaller than a ninth of a unit of the data
    pieces = path.to_polygons(closed_only=False)
    return [[_numbers(point) for point in piece] for piece in pieces if len(piece) > 1]


def _legend(legend: Legend) -> list[dict[str, Any]]:
    title = legend.get_title().get_text()
    entries = [{"label": _plain(title), "colour": _NO_COLOUR}] if title not in ("", "None") else []
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        if isinstance(handle, Line2D):
            look = _line_look(handle, 1)
        else:
            face, edge = handle.get_facecolor(), handle.get_edgecolor()
            face, edge = (np.atleast_2d(one)[0] if len(one) else "none" for one in (face, edge))
            look = {"fill": _colour(face), "colour": _colour(edge), "alpha": _alpha(handle)}
        entries.append({"label": _plain(text.get_text()), **look})
    return entries


def _colour_bar(bar: Any) -> dict[str, Any]:
    values = np.linspace(*bar.mappable.get_clim(), _SAMPLES)
    axis = bar.ax.yaxis if bar.orientation == "vertical" else bar.ax.xaxis
    read = _axis(axis)
    return {
        "colours": [colors.to_hex(bar.mappable.to_rgba(value)) for value in values],
        "limits": _numbers(bar.mappable.get_clim()),
        "ticks": read["ticks"],
        "label": read["label"],
    }


def _coordinates(where: Transform, ax: Axes) -> dict[str, Any]:
    """Return which coordinates are fractions of the panel, those of no data."""
    of_data = where.contains_branch_seperately(ax.transData)
    across = [name for name, is_data in zip("xy", of_data, strict=True) if not is_data]
    return {"across": across} if across else {}


def _label(artist: Artist) -> dict[str, str]:
    label = str(artist.get_label())
    return {} if label.startswith("_") or not label else {"label": _plain(label)}


def _edge(patch: Patch) -> str:
    return _colour(patch.get_edgecolor()) if patch.get_linewidth() else _NO_COLOUR


def _alpha(patch: Any) -> float:
    return 1.0 if patch.get_alpha() is None else float(patch.get_alpha())


def _colour(value: Any) -> str:
    if isinstance(value, str) and value == _NO_COLOUR:
        return _NO_COLOUR
    *_, alpha = rgba = colors.to_rgba(value)
    if alpha == 0:
        return _NO_COLOUR
    text = colors.to_hex(rgba)
    return _NAMED.get(text, text)


def _number(value: Any) -> Number:
    """Return a number for JSON, None where there is none."""
    value = float(value)
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _numbers(values: Iterable[Any]) -> list[Number]:
    return [_number(value) for value in values]


def _plain(text: str) -> str:
    """Return a text without matplotlib's mathematics: powers as superscripts."""
    text = text.replace("\\$", "$").replace("$", "").replace("\\mathdefault", "")
    text = _POWER.sub(lambda m: (m[1] or m[2]).translate(_SUPERSCRIPTS), text)
    return re.sub(r"[{}]|\\(times)?", lambda m: " × " if m[1] else "", text)
