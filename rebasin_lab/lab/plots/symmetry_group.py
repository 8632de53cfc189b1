"""Plot of a network's symmetry group: parameters that move together.

Layers are rows, computing downwards. A group is a vertical line with a mark at every layer that it
moves, in a lane to the right of all lines still going on where it starts: so the units of a plain
network make a staircase, and beside a residual stream, a long line, blocks make short loops.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rebasin_lab.lab.plots.shapes import (
    MOST_LAYERS,
    fields,
    flag,
    letters,
    list_of,
    one_of,
    place_in,
    takes,
    whole,
)

FONT_SIZE = 8
NAME_CHARACTER_POINTS = 4.8  # about as wide as a letter of a layer's name
FIXED_LANE = -0.8
GREY = "#999999"

# Colour, line style, width and marker, any of which distinguishes the kinds.
STYLES = {
    "shared": ("#0072B2", "-", 4.0, "o"),
    "single": ("#D55E00", "-", 1.6, "s"),
    "varying": ("#009E73", (0, (1, 1)), 1.6, "^"),
    "pinned": (GREY, "-", 1.2, "X"),
}
MEANINGS = {
    "shared": "units that more than two kernels share: a residual stream, heads",
    "single": "units of one layer",
    "varying": "units with an order of their own in every head",
    "pinned": "pinned by the change",
    "fixed": "an axis that never moves: pixels, classes, positions",
}


@takes(
    rows=list_of(fields(name=letters, fixed=flag), "rows", most=MOST_LAYERS),
    groups=list_of(
        fields(
            name=letters,
            shape=list_of(whole(high=10**9), most=10),
            kind=one_of("shared", "single", "varying"),
            pinned=flag,
            rows=list_of(place_in("rows")),
            num_leaves=whole(),
        ),
        least=0,
        most=MOST_LAYERS,
    ),
)
def draw_symmetry_group(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw layers as rows and groups of units as lines over them.

    Numbers: `rows`: list of {"name", "fixed"}; `groups`: list of {"name", "shape", "kind",
    "pinned", "rows", "num_leaves"}, in order of their first row; see `sections.symmetry_rows`.
    """
    ax = fig.subplots()
    groups = numbers["groups"]
    lanes = _lanes(groups)
    _draw_layers(ax, numbers["rows"], groups, lanes)
    for group, lane in zip(groups, lanes, strict=True):
        _draw_group(ax, group, lane)
    _name_rows(ax, [row["name"] for row in numbers["rows"]])
    ax.set_xlim(FIXED_LANE - 0.3, max([*lanes, 2]) + 1.2)
    ax.set_ylim(len(numbers["rows"]) - 0.4, -1.0)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    _legend(fig, ax, groups)


def _lanes(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return for each group one lane more than the highest in use where it starts."""
    lanes: list[int] = []
    for index, group in enumerate(groups):
        start = group["rows"][0]
        in_use = [
            lane
            for lane, other in zip(lanes, groups[:index], strict=True)
            if other["rows"][-1] >= start
        ]
        lanes.append(max(in_use, default=-1) + 1)
    return lanes


def _draw_layers(
    ax: Axes,
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    lanes: Sequence[int],
) -> None:
    """Draw a thin line per layer, from the units it reads to the units it writes."""
    for y, row in enumerate(rows):
        met = [
            lane
            for lane, group in zip(lanes, groups, strict=True)
            if y in group["rows"] and not group["pinned"]
        ]
        ends = [*met, *([FIXED_LANE] if row["fixed"] else [])]
        if ends:
            ax.plot([min(ends), max(ends)], [y, y], color="#c8c8c8", linewidth=1.0, zorder=1)
    fixed = [y for y, row in enumerate(rows) if row["fixed"]]
    ax.plot([FIXED_LANE] * len(fixed), fixed, "|", color=GREY, markersize=7, markeredgewidth=2)
    ax.text(
        FIXED_LANE, -0.8, "fixed", color="#777777", ha="center", fontsize=FONT_SIZE, style="italic"
    )


def _draw_group(ax: Axes, group: Mapping[str, Any], lane: int) -> None:
    colour, style, width, marker = STYLES["pinned" if group["pinned"] else group["kind"]]
    first, last = group["rows"][0], group["rows"][-1]
    ax.plot([lane, lane], [first, last], color=colour, linestyle=style, linewidth=width, zorder=2)
    ax.plot(
        [lane] * len(group["rows"]),
        group["rows"],
        marker,
        color=colour,
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.7 * (width > 2),  # a thin line would look cut
        zorder=3,
    )
    label = f"{group['name']}  {' × '.join(map(str, group['shape']))}"
    ax.annotate(
        f"{label}, pinned" if group["pinned"] else label,
        (lane, first + 0.5 if last > first else first),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontsize=FONT_SIZE,
        color="#666666" if group["pinned"] else colour,
        fontweight="bold" if group["kind"] == "shared" and not group["pinned"] else "normal",
        bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"},
        zorder=4,
    )


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Write layer names to the left; a block's path, in grey, only where it begins."""
    split = [_split(name) for name in names]
    width = NAME_CHARACTER_POINTS * max(len(name) for _, name in split)
    previous = ""
    for y, (block, name) in enumerate(split):
        place = {"xy": (0, y), "xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
        style = {"va": "center", "fontsize": FONT_SIZE, "annotation_clip": False}
        ax.annotate(name, xytext=(-width, 0), ha="left", **place, **style)
        if block != previous:
            ax.annotate(block, xytext=(-width - 1.5, 0), ha="right", color=GREY, **place, **style)
        previous = block


def _split(name: str) -> tuple[str, str]:
    """Return the path of the block, with its slash, and the layer, a bare number with its list."""
    path, comma, others = name.partition(",")
    parts = path.split("/")
    keep = 2 if parts[-1].isdecimal() else 1
    block = "".join(f"{part}/" for part in parts[:-keep])
    return block, "/".join(parts[-keep:]) + comma + others


def _kinds(groups: Sequence[Mapping[str, Any]]) -> set[str]:
    return {"pinned" if group["pinned"] else group["kind"] for group in groups}


def _legend(fig: Figure, ax: Axes, groups: Sequence[Mapping[str, Any]]) -> None:
    for kind, (colour, style, width, marker) in STYLES.items():
        if kind in _kinds(groups):
            ax.plot(
                [],
                [],
                color=colour,
                linestyle=style,
                linewidth=width,
                marker=marker,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.7 * (width > 2),
                label=MEANINGS[kind],
            )
    ax.plot([], [], "|", color=GREY, markersize=7, markeredgewidth=2, label=MEANINGS["fixed"])
    fig.legend(loc="outside lower left", ncols=2, fontsize=FONT_SIZE, handlelength=3)
