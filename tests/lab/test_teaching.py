"""The lesson: every number of an answer is that of the figure it links to."""

import json
import re

import numpy as np
import pytest

from rebasin_lab import paths

PAGE = paths.notebooks_dir() / "TEACHING.md"
LINKS = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", PAGE.read_text())
ANSWERS = [(text, link) for text, link in LINKS if link.endswith(".svg")]


@pytest.mark.parametrize("link", sorted({link for _, link in LINKS}))
def test_every_link_leads_somewhere(link):
    assert (PAGE.parent / link).is_file()


@pytest.mark.parametrize(("text", "link"), ANSWERS, ids=[f"{t} {ln}" for t, ln in ANSWERS])
def test_every_number_is_that_of_its_figure(text, link):
    record = json.loads((PAGE.parent / link).with_suffix(".json").read_text())
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    assert numbers
    told = re.findall(r"\d+(?:\.\d+)?", record["alt"])
    assert set(numbers) <= set(told)


def test_the_lesson_fills_ninety_minutes_without_a_gap():
    spans = [
        tuple(map(int, span))
        for span in re.findall(r"^\| (\d+) to (\d+) \|", PAGE.read_text(), re.M)
    ]
    assert spans[0][0] == 0
    assert spans[-1][1] == 90
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def numbers_of(figure):
    return json.loads((paths.figures_dir() / f"{figure}.json").read_text())["numbers"]


def means(by_width):
    return [np.mean(row) for row in by_width]


def middle(curve):
    return curve["test_accuracy"][len(curve["test_accuracy"]) // 2]


def ends_alike(numbers):
    a, b = (history["test_accuracy"][-1] for history in numbers["histories"].values())
    return abs(a - b) < 0.02


def half_way_is_worse(numbers):
    (curve,) = numbers["curves"]["naive"]
    return 0.5 < middle(curve) < min(curve["test_accuracy"][0], curve["test_accuracy"][-1])


def is_one_function(numbers):
    ends = [[curve["test_loss"][-1] for curve in curves] for curves in numbers["curves"].values()]
    return np.allclose(ends[0], ends[-1], rtol=1e-3)


def climbs(numbers):
    searches = [search["objective"] for search in numbers["searches"]]
    return all(min(np.diff(one)) >= -1e-6 * abs(one[-1]) for one in searches)


def ends_differ(numbers):
    return len({round(search["objective"][-1], 1) for search in numbers["searches"]}) > 1


def falls_bit_by_bit(numbers):
    (by_split,) = (one for name, one in numbers["barriers"].items() if name == "algorithm_1")
    heights = np.mean(by_split["train"], axis=0)[np.asarray(numbers["epochs"]) >= 1]
    return (np.diff(heights) < 0).all()


def wide_ones_are_easier(numbers):
    matched = means(numbers["barriers"]["weight"])
    return matched[-1] < 0.1 * matched[0]


def naive_falls(numbers):
    naive = means(numbers["barriers"]["naive"])
    return naive[-1] < 0.5 * naive[0]


def no_order_joins(numbers):
    return min(map(max, numbers["measured"].values())) >= 0.25


# A statement of the lesson, the figure it is read off, and what that figure must hold.
STATEMENTS = {
    "In what they do, very": ("00_quickstart/training", ends_alike),
    "Most digits still, but fewer than A or B": ("00_quickstart/interpolation", half_way_is_worse),
    "They are one function": ("02_line_and_barrier/interpolation", is_one_function),
    "and never falls": ("03_weight_matching/ascents", climbs),
    "Others climb elsewhere": ("03_weight_matching/ascents", ends_differ),
    "that no order joins": ("05_counterexample/error_curves", no_order_joins),
    "Bit by bit": ("06_onset/onset", falls_bit_by_bit),
    "The wide one": ("07_width/mlp_widths", wide_ones_are_easier),
    "the naive barrier falls as well": ("07_width/mlp_widths", naive_falls),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_holds_in_the_figure_it_is_read_off(statement):
    assert statement in PAGE.read_text()
    figure, holds = STATEMENTS[statement]
    assert holds(numbers_of(figure))
