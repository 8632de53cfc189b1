"""Figures as scenes: what a browser is handed, held against what matplotlib draws."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredText

from rebasin_lab import paths
from rebasin_lab.lab import figures, plots, scenes

SAVED = figures.saved_figures() + figures.saved_figures(paths.figures_dir() / "laptop")


def marks_of(scene, *kinds):
    """All marks of these kinds."""
    return [mark for panel in scene["panels"] for mark in panel["marks"] if mark["kind"] in kinds]


def colours_in(part):
    """All colours of a scene."""
    return set(re.findall(r'"(#[0-9a-f]{6})"', json.dumps(part)))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_figure_is_a_scene_in_the_colours_and_words_of_its_picture(path):
    record = figures.read_figure(path)
    scene = scenes.scene_of(record)
    text = json.dumps(scene, allow_nan=False)
    assert len(text) < 500_000
    assert scene["alt"] == record["alt"]
    assert scene["panels"]
    lines = marks_of(scene, "line", "area")
    drawn = colours_in([{**mark, "href": ""} for mark in lines])
    assert drawn <= set(re.findall("#[0-9a-f]{6}", path.with_suffix(".svg").read_text()))
    cells = np.array([panel["cell"] for panel in scene["panels"]])
    assert (cells[:, :2] > -1e-6).all()
    assert (cells[:, :2] + cells[:, 2:] < 1 + 1e-6).all()
    with figures.drawing():
        fig = Figure()
        plots.draw(fig, record["plot"], record["numbers"])
        words = {t for ax in fig.axes for t in (ax.get_xlabel(), ax.get_ylabel()) if "$" not in t}
    found = {panel[axis]["label"] for panel in scene["panels"] for axis in "xy"}
    found |= {panel["bar"]["label"] for panel in scene["panels"] if "bar" in panel}
    assert words <= found | {""}


def test_a_line_keeps_its_numbers_its_dashes_and_its_markers():
    curve = {
        "lambdas": [0.0, 0.5, 1.0],
        "train_loss": [1.0, None, 2.0],
        "test_loss": [3.0, 4.0, 5.0],
    }
    curve |= {"train_accuracy": [None] * 3, "test_accuracy": [None] * 3}
    record = {
        "plot": "interpolation",
        "numbers": {"curves": {"naive": [curve]}},
        "size_inches": [6, 3],
        "caption": "c",
        "alt": "a",
    }
    train, test = marks_of(scenes.scene_of(record), "line")
    assert (train["x"], train["y"], train["label"]) == ([0, 0.5, 1], [1, None, 2], "naive, train")
    assert (test["x"], test["y"], test["label"]) == ([0, 0.5, 1], [3, 4, 5], "naive, test")
    assert "dashes" not in train
    assert len(test["dashes"]) == 2
    assert (test["marker"], test["dots"]) == ("o", [0, 1, 2])


@pytest.fixture
def drawn(monkeypatch):
    """The scene of whatever a function draws."""

    def of(draw):
        monkeypatch.setitem(plots.PLOTS, "any", lambda fig, numbers: draw(fig))
        return scenes.scene_of(
            {"plot": "any", "numbers": {}, "size_inches": [6, 3], "caption": "", "alt": "a"}
        )

    return of


@pytest.mark.parametrize(
    ("every", "dots"), [(None, [0, 1, 2, 3]), (2, [0, 2]), ((1, 2), [1, 3]), ([0, -1], [0, 3])]
)
def test_points_with_a_marker(drawn, every, dots):
    scene = drawn(lambda fig: fig.subplots().plot([1, 2, 3, 4], "-o", markevery=every))
    assert marks_of(scene, "line")[0]["dots"] == dots


def test_a_rule_across_the_panel_is_in_fractions_of_it(drawn):
    def draw(fig):
        ax = fig.subplots()
        ax.plot([0, 10], [0, 5])
        ax.axvline(3, ymax=0.5)

    rule = marks_of(drawn(draw), "line")[1]
    assert (rule["x"], rule["y"], rule["across"]) == ([3, 3], [0, 0.5], ["y"])


def test_small_shapes_keep_all_their_corners(drawn):
    """Matplotlib drops what is smaller than a ninth of a unit, of pixels or of whatever."""
    angles = np.linspace(0, 2 * np.pi, 200)
    scene = drawn(lambda fig: fig.subplots().fill(1e-3 * np.cos(angles), 1e-3 * np.sin(angles)))
    (area,) = marks_of(scene, "area")
    assert len(area["rings"][0]) >= 200


def test_cells_of_nested_grids_fill_the_figure(drawn):
    def draw(fig):
        left, right = fig.subfigures(1, 2, width_ratios=[1, 3])
        left.subplots()
        right.subplots(2, 1)

    cells = [panel["cell"] for panel in drawn(draw)["panels"]]
    assert cells == [[0, 0, 0.25, 1], [0.25, 0, 0.75, 0.5], [0.25, 0.5, 0.75, 0.5]]
    assert [panel["block"] for panel in drawn(draw)["panels"]] == [0, 1, 1]


def test_powers_of_ten_and_reversed_axes(drawn):
    def draw(fig):
        ax = fig.subplots()
        ax.plot([1, 2], [1e-3, 1e3])
        ax.set_yscale("log")
        ax.invert_xaxis()

    (panel,) = drawn(draw)["panels"]
    assert panel["y"]["log"]
    assert "10⁻²" in [text for _, text in panel["y"]["ticks"]]
    high, low = panel["x"]["limits"]
    assert high > low


def test_rows_of_a_matrix_are_where_its_axis_says(drawn):
    (panel,) = drawn(lambda fig: fig.subplots().imshow([[0, 1], [2, 3], [4, 5]]))["panels"]
    assert panel["y"]["limits"] == [2.5, -0.5]
    (image,) = panel["marks"]
    assert image["extent"] == [-0.5, 1.5, 2.5, -0.5]


def test_what_no_browser_draws_is_refused(drawn):
    with pytest.raises(TypeError, match="AnchoredText.* in a scene"):
        drawn(lambda fig: fig.subplots().add_artist(AnchoredText("x", "center")))


def test_a_figure_of_ones_own_needs_no_second_definition(drawn):
    scene = drawn(lambda fig: fig.subplots().bar(["a", "b"], [1, 2], color="#123456", label="n"))
    bars = marks_of(scene, "area")
    assert [max(y for _, y in bar["rings"][0]) for bar in bars] == [1, 2]
    assert {bar["fill"] for bar in bars} == {"#123456"}
    assert [text for _, text in scene["panels"][0]["x"]["ticks"]] == ["a", "b"]
