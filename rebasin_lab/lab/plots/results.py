"""Plots of results: curves, barriers, planes, counts, histories and weights.

A, B, naive and permuted keep one colour everywhere, and a line style or marker besides.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # loads `scipy.interpolate`, which takes long, on first use
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from rebasin_lab.lab.plots import losses
from rebasin_lab.lab.plots.legends import legend_below
from rebasin_lab.lab.plots.shapes import (
    LOSS,
    MOST_NAMES,
    MOST_PANELS,
    alone,
    array,
    by_name,
    fields,
    flag,
    holed,
    letters,
    list_of,
    one_of,
    optional,
    pixels,
    real,
    takes,
    tuple_of,
    whole,
)
from rebasin_lab.matching import MATCHERS

COLOURS = {
    "A": "#0072B2",
    "B": "#D55E00",
    "naive": "#5A5A5A",
    "weight matching": MATCHERS["weight"].colour,
    "Algorithm 1": MATCHERS["algorithm_1"].colour,
}
MARKERS = {"A": "o", "B": "s"}
# Colour, marker and fill of methods that are compared.
LOOKS = {
    "naive": (COLOURS["naive"], "o", COLOURS["naive"]),
    "OT-Fusion": ("#332288", "P", "#332288"),
    **{
        label: (matcher.colour, matcher.marker, "none" if matcher.is_open else matcher.colour)
        for label, matcher in (
            ("weight matching", MATCHERS["weight"]),
            ("Algorithm 1", MATCHERS["algorithm_1"]),
            ("random order", MATCHERS["random"]),
        )
    },
}
BY_KEY = {"weight": "weight matching", "algorithm_1": "Algorithm 1", "random": "random order"}
NUM_LEVELS = 21  # colours of another loss
CONTOUR_STEP = 0.05  # nats between two colours of a loss contour, unless that makes more
MOST_LEVELS = 400  # than these
METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
BAR_COLOURS = {"paper": "#56B4E9", "exact": "#009E73", "other": "#999999"}
# Of several lines over the same lambdas, an `InterpolationCurve.as_numbers()` each.
CURVE = {"lambdas": array("lambdas"), **dict.fromkeys(METRICS, holed("lambdas")), **LOSS}
CURVES = alone(list_of(fields(**CURVE), most=MOST_NAMES))


@takes(curves=by_name(CURVES, COLOURS), most_loss=optional(real()))
def draw_interpolation(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw loss and accuracy on the line from A to B, a thin line per pair and their mean.

    Numbers: `curves`: method -> list of `InterpolationCurve.as_numbers()`, one per pair;
    `most_loss`: the end of the loss axis, which stands still while a dial moves. Without any
    accuracy there is one panel.
    """
    all_curves = list(itertools.chain(*numbers["curves"].values()))
    fields = ("train_accuracy", "test_accuracy")
    num_panels = 1 + any(losses.has_values(all_curves, field) for field in fields)
    axes = fig.subplots(1, num_panels, squeeze=False)[0]
    loss_ax = axes[0]
    for metric, ax, scale in zip(("loss", "accuracy"), axes, (1.0, 100.0), strict=False):
        for method, curves in numbers["curves"].items():
            for split, style in (("train", "-"), ("test", "--")):
                if losses.has_values(curves, field := f"{split}_{metric}"):
                    values = [scale * losses.values_of(curve, field) for curve in curves]
                    look = {"color": COLOURS[method], "label": f"{method}, {split}"}
                    if method in LOOKS:
                        _, look["marker"], look["markerfacecolor"] = LOOKS[method]
                        look |= {"markersize": 4, "markevery": len(values[0]) // 8 + 1}
                    plot_pairs(ax, curves[0]["lambdas"], values, style, **look)
        label_line_ends(ax)
    loss_ax.set(
        title="Loss on the line between two networks", ylabel=losses.loss_label(*all_curves)
    )
    for ax in axes[1:]:
        ax.set(title="Accuracy on the same line", ylabel="accuracy (%)")
    if "most_loss" in numbers:
        loss_ax.set_ylim(0, 1.05 * numbers["most_loss"])
        for ax in axes[1:]:
            ax.set_ylim(0, 102)
    legend_below(fig, loss_ax)


@takes(
    lambdas=array("lambdas"),
    panels=by_name(by_name(array("lambdas"), LOOKS), most=MOST_PANELS),
)
def draw_published_lines(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw published curves of several methods on test images, one panel a metric.

    Numbers: `lambdas`; `panels`: metric ("loss", else an accuracy in %) -> method -> values.
    """
    panels = numbers["panels"]
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for ax, (metric, curves) in zip(axes, panels.items(), strict=True):
        for method, values in curves.items():
            colour, marker, face = LOOKS[method]
            look = {"color": colour, "marker": marker, "markerfacecolor": face, "label": method}
            ax.plot(numbers["lambdas"], values, "--", markersize=4, markevery=2, **look)
        label_line_ends(ax)
        is_loss = metric == "loss"
        ax.set(
            title="Loss" if is_loss else f"{metric.capitalize()} accuracy",
            ylabel="cross-entropy (nats)" if is_loss else "accuracy (%)",
        )
    legend_below(fig, axes)


@takes(
    pairs=list_of(letters, "pairs", most=MOST_NAMES),
    naive=optional(array("pairs")),
    permuted=optional(array("pairs")),
    methods=optional(by_name(array("pairs"), ("naive", *BY_KEY))),
    floor=real(1e-30),
)
def draw_barriers(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the train-loss barrier of every pair before and after matching, on a logarithmic axis.

    Numbers: `pairs`: names; `methods`: method -> one barrier per pair, in nats unless there is a
    `loss_name`, or `naive` and `permuted` in its place; `floor`: the value below which a barrier is
    drawn at the floor.
    """
    ax = fig.subplots()
    two = {"naive": numbers.get("naive"), "weight": numbers.get("permuted")}
    methods = numbers.get("methods") or {key: row for key, row in two.items() if row}
    floor = numbers["floor"]
    spread = np.linspace(-0.2, 0.2, len(methods)) if len(methods) > 2 else [0] * len(methods)
    for shift, (key, barriers) in zip(spread, methods.items(), strict=True):
        method = BY_KEY.get(key, key)
        colour, marker, face = LOOKS[method]
        look = {"color": colour, "markerfacecolor": face, "label": method, "markersize": 9}
        positions = np.arange(len(barriers)) + shift
        ax.plot(positions, np.maximum(barriers, floor), marker, **look)
    ax.set_yscale("log")
    losses.label_plainly(ax.yaxis)
    ax.set_xticks(np.arange(len(numbers["pairs"])), numbers["pairs"])
    ax.margins(x=0.3)
    label = losses.label_of("train loss barrier", numbers)
    ax.set(title="Barrier before and after matching", ylabel=label)
    legend_below(fig, ax)


@takes(
    x=array("x", least=2),
    y=array("y", least=2),
    loss=holed("y", "x"),
    models=fields(A=array(2), B=array(2), C=array(2)),
    cap=real(),
)
def draw_contour(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw the test loss on the plane through A, B and pi(B).

    Numbers: `LossContour.as_numbers()` and `cap`, the loss at which colours stop. Colours are steps
    of 0.05 nats from 0; those of another loss span all values below the cap.
    """
    ax = fig.subplots()
    cap = numbers["cap"]
    xs, ys, loss = _smoothed(numbers["x"], numbers["y"], losses.values_of(numbers, "loss"))
    loss = np.minimum(loss, cap)
    lowest = np.nanmin(loss, initial=cap)
    if cap >= CONTOUR_STEP and lowest >= 0 and not numbers.get("loss_name"):
        step = max(CONTOUR_STEP, cap / MOST_LEVELS)
        levels = np.arange(0, cap + step / 2, step)
    else:  # of an unknown scale
        bottom = lowest if lowest < cap else cap - 1
        levels = np.linspace(bottom, cap, NUM_LEVELS)
    filled = ax.contourf(xs, ys, loss, levels, cmap="viridis_r")
    ax.contour(xs, ys, loss, levels, colors="white", linewidths=0.3)
    points = numbers["models"]
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for name, colour, label in (
        ("B", "#000000", "naive"),
        ("C", COLOURS["weight matching"], "matched"),
    ):
        way = zip(points["A"], points[name], strict=True)
        ax.plot(*way, color=colour, linewidth=2, path_effects=halo, label=label)
    for name, label in (("A", "A"), ("B", "B"), ("C", "π(B)")):
        ax.plot(*points[name], "o", color="white", markeredgecolor="black", markersize=8)
        ax.annotate(
            label,
            points[name],
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )
    ax.grid(visible=False)
    ax.set_aspect("equal")
    ax.set(
        title="Test loss on the plane through A, B and π(B)",
        xlabel="along B - A (units of ‖B - A‖)",
        ylabel="across",
    )
    ax.legend(loc="lower right", frameon=True)
    label = f"{losses.loss_label(numbers)}, capped at {numbers['cap']:g}"
    fig.colorbar(filled, ax=ax, label=label, ticks=levels[::2])


def _smoothed(
    x: Sequence[Any] | np.ndarray, y: Sequence[Any] | np.ndarray, loss: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a finer grid, cubic splines between the points, and no value below those measured."""
    if not np.isfinite(loss).all() or min(loss.shape) < 4 or min(*np.diff(x), *np.diff(y)) <= 0:
        return np.asarray(x), np.asarray(y), loss
    fine_x, fine_y = (np.linspace(axis[0], axis[-1], 8 * len(axis) - 7) for axis in (x, y))
    spline = scipy.interpolate.RectBivariateSpline(y, x, loss)
    return fine_x, fine_y, np.maximum(spline(fine_y, fine_x), loss.min())


@takes(images=list_of(pixels, "images", most=MOST_PANELS), labels=list_of(letters, "images"))
def draw_samples(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw images of a data set, each under the name of its class.

    Numbers: `images`: H x W (dark on light) or H x W x 3, from 0 to 1; `labels`: one per image.
    """
    axes = fig.subplots(1, len(numbers["images"]), squeeze=False)[0]
    for ax, image, label in zip(axes, numbers["images"], numbers["labels"], strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)  # a colour image has no use for either
        ax.axis("off")
        ax.set_title(label, loc="center", fontsize=9)


@takes(
    histories=by_name(alone(fields(**dict.fromkeys(METRICS, array("epochs")))), MARKERS),
    num_epochs=optional(whole()),
)
def draw_history(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw test loss and accuracy of networks A and B while they train.

    Numbers: `histories`: name -> a training history; `num_epochs`: at the end of an axis that
    stands still while they train.
    """
    loss_ax, accuracy_ax = fig.subplots(1, 2)
    for metric, ax, scale in (("loss", loss_ax, 1.0), ("accuracy", accuracy_ax, 100.0)):
        for name, history in numbers["histories"].items():
            for split, style in (("train", "-"), ("test", "--")):
                values = scale * np.asarray(history[f"{split}_{metric}"])
                epochs = np.arange(1, values.size + 1)
                marks = {
                    "marker": MARKERS[name],
                    "markersize": 4,
                    "markevery": values.size // 8 + 1,
                }
                look = {"color": COLOURS[name], **marks}
                ax.plot(epochs, values, style, label=f"{name}, {split}", **look)
        ax.set_xlabel("epoch")
        if "num_epochs" in numbers:
            ax.set_xlim(0, numbers["num_epochs"] + 1)
    loss_ax.set(title="Loss while training", ylabel="cross-entropy (nats)", yscale="log")
    loss_ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    loss_ax.yaxis.set_major_formatter("{x:g}")
    loss_ax.yaxis.set_minor_locator(NullLocator())
    accuracy_ax.set(title="Accuracy while training", ylabel="accuracy (%)")
    legend_below(fig, loss_ax)


@takes(
    slots=list_of(whole(), "slots", most=MOST_PANELS),
    rows=by_name(list_of(alone(array("height", "width")), "slots"), most=MOST_PANELS),
)
def draw_units(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw first-layer weights as images: the same slots in A, in B and in the permuted B.

    Numbers: `rows`: row name -> list of 2-d images, one per unit; `slots`: the unit numbers.
    """
    rows = numbers["rows"]
    limit = max(np.abs(images).max() for images in rows.values())
    axes = fig.subplots(len(rows), len(numbers["slots"]), squeeze=False)
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row_axes, images, strict=True):
            ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, slot in zip(axes[0], numbers["slots"], strict=True):
        ax.set_title(f"slot {slot}", loc="center", fontsize=8)


@takes(bars=list_of(fields(name=letters, log10=real(), kind=one_of(*BAR_COLOURS)), most=MOST_NAMES))
def draw_symmetry_counts(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw how many digits the number of permutations has that keep a network's function.

    Numbers: `bars`: list of {"name", "log10", "kind"} with kind "paper", "exact" or "other".
    """
    ax = fig.subplots()
    bars = numbers["bars"]
    positions = np.arange(len(bars))[::-1]
    ax.barh(
        positions,
        [bar["log10"] for bar in bars],
        color=[BAR_COLOURS[bar["kind"]] for bar in bars],
        hatch=["//" if bar["kind"] == "paper" else "" for bar in bars],
        edgecolor="white",
    )
    for position, bar in zip(positions, bars, strict=True):
        ax.annotate(
            f"$10^{{{round(bar['log10'])}}}$",
            (bar["log10"], position),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_yticks(positions, [bar["name"] for bar in bars])
    ax.set_xlim(0, 1.2 * max(bar["log10"] for bar in bars))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(visible=False)
    ax.set(xlabel="digits in the number of symmetries")


@takes(
    objectives=by_name(array()),
    visits_per_sweep=whole(1),
    first_visit=optional(whole()),
)
def draw_objective(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw <A, pi(B)>, visit by visit.

    Numbers: `objectives`: name -> history; `visits_per_sweep`; `first_visit`: where in a history
    the first sweep begins (0 if it is not there).
    """
    ax = fig.subplots()
    for (name, history), marker in zip(numbers["objectives"].items(), itertools.cycle("osX^Dv")):
        ax.plot(history, "-", marker=marker, markersize=4, label=name)
    longest = max(map(len, numbers["objectives"].values()))
    for sweep in range(numbers.get("first_visit", 0), longest, numbers["visits_per_sweep"]):
        ax.axvline(sweep, color="#cccccc", linewidth=0.6, zorder=0)
    ax.set(
        title="The objective of weight matching",
        xlabel="visits of a layer (a grey line per sweep)",
        ylabel="inner product ⟨A, π(B)⟩",
    )
    ax.legend()


@takes(
    curves=by_name(
        alone(fields(lambdas=array("lambdas"), test_loss=holed("lambdas"), **LOSS)), COLOURS
    ),
    lam=real(),
    images=list_of(alone(array("height", "width")), "images", most=MOST_PANELS),
    answers=by_name(list_of(tuple_of(letters, flag), "images"), COLOURS),
)
def draw_line_position(fig: Figure, numbers: Mapping[str, Any]) -> None:
    """Draw a merged model's place on the line, and its answers to some test images.

    Numbers: `curves`: method -> one curve; `lam`; `images`: 2-d images; `answers`: method -> one
    (class name, right or wrong) per image.
    """
    top, bottom = fig.subfigures(2, 1, height_ratios=[1.5, 1])
    ax = top.subplots()
    for method, curve in numbers["curves"].items():
        values = losses.values_of(curve, "test_loss")
        loss = np.interp(numbers["lam"], curve["lambdas"], values)
        _, marker, face = LOOKS.get(method, (None, "o", None))
        look = {"color": COLOURS[method], "marker": marker, "markerfacecolor": face}
        ax.plot(curve["lambdas"], values, "--", label=method, markersize=4, **look)
        ax.plot(numbers["lam"], loss, markersize=10, **look)
    label_line_ends(ax)
    label = losses.label_of("test loss", *numbers["curves"].values())
    ax.set(title=f"λ = {numbers['lam']:.2f}", ylabel=label)
    ax.legend(loc="upper right")
    answers = numbers["answers"]
    axes = bottom.subplots(1, len(numbers["images"]), squeeze=False)[0]
    for index, (image_ax, image) in enumerate(zip(axes, numbers["images"], strict=True)):
        image_ax.imshow(image, cmap="gray_r")
        image_ax.axis("off")
        for line, (method, labels) in enumerate(answers.items()):
            name, right = labels[index]
            image_ax.text(
                0.5,
                -0.25 - 0.32 * line,
                name if right else f"{name} ✗",
                color=COLOURS[method],
                transform=image_ax.transAxes,
                ha="center",
                fontweight="normal" if right else "bold",
            )


def plot_pairs(
    ax: Axes,
    xs: Sequence[float] | np.ndarray,
    values: Sequence[Any] | np.ndarray,
    style: str,
    *,
    color: str,
    label: str,
    **marks: Any,
) -> None:
    """Draw one thin line for each pair, and their mean."""
    for line in values if len(values) > 1 else ():
        ax.plot(xs, line, style, color=color, linewidth=0.6, alpha=0.5)
    ax.plot(xs, np.mean(values, axis=0), style, color=color, label=label, **marks)


def label_line_ends(ax: Axes) -> None:
    """Label the axis of lambda, from model A to model B."""
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["Model A", "", "0.5", "", "Model B"])
    ax.set_xlim(-0.02, 1.02)
