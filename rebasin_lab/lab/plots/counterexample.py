"""Plots of the two small pairs of networks of `rebasin_lab.paper.counterexample`.

The square is drawn with x1 to the right and x2 upwards. Four permutations keep one colour and one
marker each: the identity that of the naive line, "swap both" that of weight matching, which picks
it. A network's answers are stored as text, a line of 0 and 1 for each row of points from below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from rebasin_lab.lab.plots.legends import labelled_once, legend_below
from rebasin_lab.lab.plots.matching import LOOKS, Look
from rebasin_lab.lab.plots.results import COLOURS
from rebasin_lab.lab.plots.shapes import (
    MOST_PANELS,
    Met,
    alone,
    array,
    by_name,
    fields,
    letters,
    list_of,
    one_met,
    one_of,
    real,
    takes,
    text,
)

STYLES = {
    "identity": (COLOURS["naive"], "o"),
    "swap 1": ("#56B4E9", "s"),
    "swap 2": ("#E69F00", "D"),
    "swap both": (COLOURS["weight matching"], "^"),
}
# The permutations, by what they do to the layer that decides.
FIRST_LAYERS = {
    "Layer 1 as it came": ("identity", "swap 2"),
    "Layer 1 swapped": ("swap 1", "swap both"),
}
METHODS = {
    "naive": LOOKS["naive"],
    "random": LOOKS["random"],
    "greedy": LOOKS["greedy"],
    "weight matching": LOOKS["weight"],
    "best of four": Look("best of four", "#000000", "x"),
}
# No and right, yes and right, yes and wrong, no and wrong: as far apart in grey as in colour.
OUTCOMES = {
    "right: no": "#ffffff",
    "right: yes": "#4292c6",
    "wrong: yes": "#993404",
    "wrong: no": "#c4c4c4",
}


_ROWS, _ANSWERS = list_of(text(), "height"), list_of(one_of("0", "1"), "width")


def square(value: Any, where: str, met: Met) -> list[str]:
    """Return the shape of a square of answers, a line of 0 and 1 for each row of points."""
    rows = _ROWS(value, where, met)
    for number, content in enumerate(rows):
        _ANSWERS(list(content), f"{where}/{number}", met)
    return rows


@takes(
    columns=list_of(letters, "columns", most=MOST_PANELS),
    rows=by_name(list_of(alone(array("height", "width")), "columns"), COLOURS),
)
def draw_two_tests(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the output of every unit of two networks on the square.

    Numbers: `columns`: names; `rows`: "A" and "B" -> one 2-d image per column.
    """
    rows = numbers["rows"]
    limit = max(np.abs(images).max() for images in rows.values())
    grid = fig.add_gridspec(
        len(rows) + 1, len(numbers["columns"]), height_ratios=[*(1 for _ in rows), 0.06]
    )
    axes = np.array(
        [
            [fig.add_subplot(grid[row, column]) for column in range(len(numbers["columns"]))]
            for row in range(len(rows))
        ]
    )
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row_axes, images, strict=True):
            shown = _show(ax, image, cmap="PuOr_r", vmin=-limit, vmax=limit)
            _outline(ax)
        row_axes[0].set_ylabel(
            name, rotation=0, ha="right", va="center", color=COLOURS[name], fontweight="bold"
        )
    for ax, column in zip(axes[0], numbers["columns"], strict=True):
        ax.set_title(column, loc="center", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("x1", fontsize=9, labelpad=2)
    for ax in axes[:, -1]:
        ax.set_ylabel("x2", fontsize=9, labelpad=2)
        ax.yaxis.set_label_position("right")
    fig.colorbar(shown, cax=fig.add_subplot(grid[-1, :]), orientation="horizontal", label="output")


@takes(
    lambdas=array("lambdas"),
    measured=by_name(array("lambdas"), STYLES, names="measured"),
    exact_lambdas=array("exact_lambdas"),
    exact=by_name(array("exact_lambdas"), STYLES, names="measured"),
    squared_distances=by_name(real(), STYLES, names="measured"),
)
def draw_error_curves(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the error on the line to each permutation of B: measured points on an exact line.

    Numbers: `lambdas` and `measured`: permutation -> fractions; `exact_lambdas` and `exact`
    likewise, without the ends, where two of the curves jump; `squared_distances`: permutation ->
    ||A - pi(B)||^2.
    """
    axes = fig.subplots(1, len(FIRST_LAYERS), sharey=True)
    for ax, (title, names) in zip(axes, FIRST_LAYERS.items(), strict=True):
        ax.axhline(0.25, color="#999999", linewidth=1, linestyle=":")
        names = [name for name in names if name in numbers["measured"]]
        for first, name in enumerate(names):  # two curves may be one: their marks take turns
            colour, marker = STYLES[name]
            ax.plot(numbers["exact_lambdas"], numbers["exact"][name], color=colour, linewidth=1.2)
            ax.plot(
                numbers["lambdas"],
                numbers["measured"][name],
                marker,
                color=colour,
                markersize=5,
                markerfacecolor="white",
                markevery=(first, len(names)),
                clip_on=False,
                zorder=3,
                label=f"{name}: ‖A - π(B)‖² = {numbers['squared_distances'][name]:.0f}",
            )
        ax.set_title(title)
        _label_line_ends(ax)
    axes[0].set(ylabel="error (fraction of the square)", ylim=(0, 0.29))
    legend_below(fig, axes)


@takes(
    lambdas=list_of(real(), "lambdas", most=MOST_PANELS),
    truth=square,
    panels=by_name(list_of(fields(yes=square, error=real()), "lambdas"), STYLES),
)
def draw_decision_regions(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw where the network is positive on the line to each permutation of B, under its error.

    Permutations with the same networks on their lines share a row.

    Numbers: `lambdas`; `truth`: where yes is right; `panels`: permutation -> for every lambda
    {"yes", "error"}.
    """
    rows: list[tuple[list[str], list]] = []
    for name, panels in numbers["panels"].items():
        names = next((names for names, drawn in rows if drawn == panels), None)
        if names is None:
            rows.append(([name], panels))
        else:
            names.append(name)
    axes = fig.subplots(len(rows), len(numbers["lambdas"]), squeeze=False)
    for row_axes, (names, panels) in zip(axes, rows, strict=True):
        for ax, panel in zip(row_axes, panels, strict=True):
            _draw_outcomes(ax, numbers["truth"], panel["yes"])
            ax.set_title(f"{panel['error']:.2f}", loc="center", fontsize=8, pad=2)
        label = {"rotation": 0, "ha": "right", "va": "center", "fontweight": "bold"}
        row_axes[0].set_ylabel("\n".join(names), color=STYLES[names[0]][0], **label)
    for ax, lam in zip(axes[-1], numbers["lambdas"], strict=True):
        ax.set_xlabel(f"λ = {lam:.2g}")
    _outcome_legend(fig)


@takes(
    lambdas=array("lambdas"),
    curves=by_name(array("lambdas"), STYLES, names="curves"),
    ends=by_name(array(2), STYLES, names="curves"),
    permutation=one_met("curves"),
    lam=real(),
    error=real(),
    truth=square,
    yes=square,
)
def draw_decision_walk(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw one network on one of the lines: its error among all errors, and where it is positive.

    Numbers: `lambdas` and `curves`: permutation -> exact errors without the ends, where two of the
    curves jump; `ends`: permutation -> errors of A and B themselves; `permutation`, `lam` and
    `error`: the network shown; `truth` and `yes`: as in `draw_decision_regions`.
    """
    ax, region_ax = fig.subplots(1, 2, width_ratios=[1.5, 1])
    chosen, lam = numbers["permutation"], numbers["lam"]
    for name, errors in numbers["curves"].items():
        if name != chosen:
            ax.plot(numbers["lambdas"], errors, color="#cccccc", linewidth=1.2)
    colour, marker = STYLES[chosen]
    ax.plot(numbers["lambdas"], numbers["curves"][chosen], color=colour)
    at_ends = {"markersize": 5, "markerfacecolor": "white", "clip_on": False, "zorder": 3}
    ax.plot([0, 1], numbers["ends"][chosen], marker, color=colour, linestyle="none", **at_ends)
    ax.plot(lam, numbers["error"], marker, color=colour, markersize=10, clip_on=False)
    _label_line_ends(ax)
    ax.set(ylabel="error (fraction of the square)", ylim=(0, 0.29))
    _draw_outcomes(region_ax, numbers["truth"], numbers["yes"])
    region_ax.set(title="where it says yes", xlabel="x1", ylabel="x2")
    _outcome_legend(fig)


@takes(
    lambdas=array("lambdas"),
    curves=by_name(array("lambdas"), STYLES),
    most_error=real(),
    truth=square,
    yes=square,
)
def draw_changed_weight(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the errors on the lines to a changed B in its four orders, and where B says yes.

    Numbers: `lambdas` and `curves`: permutation -> errors; `most_error`: the end of their axis,
    which stands still while a dial moves; `truth` and `yes`: as in `draw_decision_regions`.
    """
    ax, region_ax = fig.subplots(1, 2, width_ratios=[1.5, 1])
    for place, (name, errors) in enumerate(numbers["curves"].items()):
        colour, marker = STYLES[name]
        # Two of the curves may coincide: their marks take turns.
        marks = {"marker": marker, "markevery": (2 * place, 8), "markersize": 6}
        ax.plot(numbers["lambdas"], errors, color=colour, label=name, **marks)
    _label_line_ends(ax)
    ax.set(ylabel="error (fraction of the square)", ylim=(-0.02, 1.05 * numbers["most_error"]))
    _draw_outcomes(region_ax, numbers["truth"], numbers["yes"])
    region_ax.set(title="where B says yes", xlabel="x1", ylabel="x2")
    _outcome_legend(fig, ax)


@takes(lambdas=array("lambdas"), slopes=by_name(array("lambdas"), METHODS))
def draw_slopes(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the slope of linear networks on the line from A to pi(B), by matcher.

    Numbers: `lambdas`; `slopes`: method -> one slope per lambda.
    """
    ax = fig.subplots()
    for method, slopes in numbers["slopes"].items():
        look = METHODS[method]
        marks = {"marker": look.marker, "color": look.colour}
        ax.plot(numbers["lambdas"], slopes, label=method, **marks)
    _label_line_ends(ax)
    ax.set(ylabel="slope of f")
    ax.set_ylim(bottom=0)
    legend_below(fig, ax)


@takes(barriers=by_name(array(least=0), METHODS))
def draw_sorted_barriers(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the barriers of many pairs of networks, sorted, by matcher.

    Numbers: `barriers`: method -> one barrier per pair, fractions.
    """
    ax = fig.subplots()
    for method, barriers in numbers["barriers"].items():
        look = METHODS[method]
        ax.plot(
            np.arange(1, len(barriers) + 1),
            np.sort(barriers),
            "-",
            marker=look.marker,
            color=look.colour,
            label=method,
            linewidth=1,
            # The one inside the other where they coincide.
            markersize={"random": 12, "naive": 9, "best of four": 4}.get(method, 7),
            markerfacecolor="none",
        )
    ax.set(
        xlabel="pairs, sorted by barrier",
        ylabel="error barrier (fraction)",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(fig, ax)


def _show(ax: Axes, image: Any, **options: Any) -> Any:
    """Return an image of the square, its first row at the bottom."""
    _frame(ax)
    return ax.imshow(
        image, origin="lower", extent=(-1, 1, -1, 1), interpolation="nearest", **options
    )


def _frame(ax: Axes) -> None:
    ax.grid(visible=False)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="#999999", linewidth=0.8)


def _draw_outcomes(ax: Axes, truth: Sequence[str], yes: Sequence[str]) -> None:
    """Draw the square in four colours, by the network's answer and the right one."""
    right, answers = (np.array([list(row) for row in rows]) == "1" for rows in (truth, yes))
    outcome = np.select([right & answers, ~right & answers, right & ~answers], [1, 2, 3])
    _show(ax, outcome, cmap=ListedColormap(list(OUTCOMES.values())), vmin=0, vmax=3)
    _outline(ax)


def _outline(ax: Axes) -> None:
    """Outline the quadrant where yes is right."""
    ax.add_patch(Rectangle((-1, 0), 1, 1, fill=False, edgecolor="black", linewidth=1.2))


def _outcome_legend(fig: Figure, *axes: Axes) -> None:
    """Add one legend of outcomes, and of lines in some panels."""
    lines, _ = labelled_once(*axes)
    handles = [
        Patch(facecolor=colour, edgecolor="#999999", label=name)
        for name, colour in OUTCOMES.items()
    ]
    # Not another box among boxes: it is drawn over them.
    label = "outlined: where yes is right"
    outline = Line2D(
        [], [], linestyle="none", marker="s", markersize=10, color="black", label=label
    )
    outline.set(markerfacecolor="none", markeredgewidth=1.2)
    fig.legend(handles=[*lines, *handles, outline], loc="outside lower center", ncols=5)


def _label_line_ends(ax: Axes) -> None:
    """Label line ends within the panel: several panels stand side by side."""
    ax.set_xticks([0, 0.5, 1], ["Model A", "", "Model B"])
    ax.set_xlim(-0.02, 1.02)
    first, _, last = ax.get_xticklabels()
    first.set_ha("left")
    last.set_ha("right")
