"""The lessons and the notebooks' answers: their numbers and sentences are those of a run.

A number is that of the figure that it links to. A sentence that a run could contradict stands in a
table here, with what must hold in the published figure; those that no figure shows are measured in
`test_answers`.
"""

import json
import re

import nbformat
import numpy as np
import pytest

from rebasin_lab import paths
from rebasin_lab.lab import class_kit

GUIDE = paths.notebooks_dir() / "TEACHING.md"
LESSONS = {
    minutes: paths.notebooks_dir() / "teaching" / f"lesson_{minutes}.md"
    for minutes in (45, 90, 180)
}
PAGES = [GUIDE, *LESSONS.values()]
LINKS = [
    (page, text, link)
    for page in PAGES
    for text, link in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page.read_text())
]
ANSWERS = [(page, text, link) for page, text, link in LINKS if link.endswith(".svg")]


def row(page):
    """The cells of a lesson's table, a row a block."""
    lines = page.read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\| \d+ to \d+ \|", line)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for own, _, link in LINKS:
        file, _, anchor = link.partition("#")
        if own == page:
            target = page.parent / file
            assert target.is_file(), link
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if anchor else [""]
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize(
    ("page", "text", "link"), ANSWERS, ids=[f"{p.stem} {t} {ln[-40:]}" for p, t, ln in ANSWERS]
)
def test_every_number_is_that_of_its_figure(page, text, link):
    record = json.loads((page.parent / link).with_suffix(".json").read_text())
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    assert numbers
    shown = re.findall(r"\d+(?:\.\d+)?", record["alt"])
    # What an alternative text lacks is computed from the figure's numbers.
    shown += [COMPUTED[text](record["numbers"])] if text in COMPUTED else []
    assert set(numbers) <= set(shown)


@pytest.mark.parametrize("minutes", LESSONS)
def test_a_lesson_fills_its_minutes_without_a_gap(minutes):
    spans = [tuple(map(int, cells[0].split(" to "))) for cells in row(LESSONS[minutes])]
    assert spans[0][0] == 0
    assert spans[-1][1] == minutes
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("minutes", LESSONS)
def test_every_block_has_cells_that_exist_a_question_an_answer_and_a_check(minutes):
    for _, where, ask, answer, check in row(LESSONS[minutes]):
        if where == "break":
            continue
        notebook, sections = re.search(r"\((.*\.ipynb)\), sections? (.*)$", where).groups()
        first, *last = map(int, re.findall(r"\d+", sections))
        path = LESSONS[minutes].parent / notebook
        source = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
        headings = set(map(int, re.findall(r"^## (\d+)\. ", source, re.M)))
        assert {first, *last} <= headings, where
        assert ask
        assert answer
        assert check
        # What a class runs is in its kit; of the others a figure is shown.
        assert path.stem.startswith(class_kit.NOTEBOOKS) or where.startswith("a figure of")


# Numbers of the lessons that no alternative text has.
COMPUTED = {
    "88.3 %": lambda numbers: f"{100 * middle(numbers['curves']['naive'][0]):.1f}",
    "80.9 %": lambda numbers: f"{100 * np.mean([*map(middle, numbers['curves']['naive'])]):.1f}",
    "0.16": lambda numbers: f"{mean_cosine(numbers, 'weight'):.2f}",
}


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


def share_at(numbers, method, epoch):
    """What a method leaves of the naive barrier at an epoch, pair by pair."""
    index = numbers["epochs"].index(epoch)
    heights = {
        name: np.asarray(numbers["barriers"][name]["train"])[:, index] for name in (method, "naive")
    }
    return heights[method] / heights["naive"]


def at_width(numbers, method, width):
    return np.mean(numbers["barriers"][method][numbers["widths"].index(width)])


def mean_cosine(numbers, method):
    return np.mean(numbers["methods"][method]["cosines"])


def lowest(values):
    return min(values, key=values.get)


def unlike_in_weights(numbers):
    """The inner product of A and B as they came, beside that of any matched order."""
    first, end = (numbers["searches"][1]["objective"][i] for i in (0, -1))
    return abs(first) < 0.02 * end


def nearest_is_not_lowest(numbers):
    barriers = {name: np.mean(one["barriers"]) for name, one in numbers["methods"].items()}
    cosines = {name: -np.mean(one["cosines"]) for name, one in numbers["methods"].items()}
    return lowest(cosines) == "weight" != lowest(barriers) == "combined"


def random_hardly_helps(numbers):
    naive, random = (np.mean(numbers["methods"][name]) for name in ("naive", "random"))
    matched = np.mean(numbers["methods"]["algorithm_1"])
    return random > 0.8 * naive and matched < 0.1 * naive


def others_join_early(numbers):
    barriers = {name: np.mean(one["train"], axis=0)[1] for name, one in numbers["barriers"].items()}
    return max(barriers["activation"], barriers["changes"]) < 0.2 * barriers["algorithm_1"]


def as_near_but_not_as_good(numbers):
    cosines = {name: np.mean(each, axis=0)[1] for name, each in numbers["cosines"].items()}
    barriers = numbers_of("06_onset/orders")["barriers"]
    heights = {name: np.mean(barriers[name]["train"], axis=0)[1] for name in cosines}
    return cosines["late"] > 0.9 * cosines["algorithm_1"] and (
        heights["late"] < 0.5 * heights["algorithm_1"]
    )


def share_falls(numbers):
    shares = np.divide(means(numbers["barriers"]["weight"]), means(numbers["barriers"]["naive"]))
    return (np.diff(shares) < 0).all()


def thinnest_stay_apart(numbers):
    return all(min(row[0]) > 0.5 for row in numbers["barriers"].values() if any(row[0]))


def low_ones_are_rare_for_a(numbers):
    a, b = (np.asarray(counts) for counts in numbers["counts"].values())
    half = len(a) // 2
    return a[:half].sum() < a[half:].sum() and b[:half].sum() > b[half:].sum()


def half_way(curve):
    return curve[len(curve) // 2]


def learned_part_beats_both(numbers):
    curves = numbers["curves"]
    ends = [curves["naive"][0], curves["naive"][-1]]
    return half_way(curves["learned part"]) > max(ends) > half_way(curves["Algorithm 1"])


def learned_part_is_below_both(numbers):
    curves = numbers["curves"]
    ends = [curves["naive"][0], curves["naive"][-1]]
    return half_way(curves["learned part"]) < min(ends) < half_way(curves["Algorithm 1"])


def seeds_move_averages_more(numbers):
    naive = numbers["curves"]["naive"]
    ends = [curve["test_accuracy"][i] for curve in naive for i in (0, -1)]
    return np.ptp(ends) < 0.5 * np.ptp([middle(curve) for curve in naive])


def some_pairs_stay_apart(numbers):
    return 0 < sum(barrier > 0.01 for barrier in numbers["barriers"]["best of four"])


def fast_adam_is_fine(numbers):
    height = dict(zip(numbers["recipes"], means(numbers["barriers"]["algorithm_1"]), strict=True))
    return height["Adam 0.01, 128 units"] < height["Adam 0.001, 128 units"]


def slow_sgd_is_the_matchers(numbers):
    slow = numbers["recipes"].index("SGD 0.001, 128 units")
    by = {name: np.mean(rows[slow]) for name, rows in numbers["barriers"].items()}
    return by["changes"] < 0.5 * by["algorithm_1"]


def both_starts_end_alike(numbers):
    ends = [one["objective"][-1] for one in numbers["searches"].values()]
    return np.ptp(ends) < 0.05 * max(ends)


# A statement of the guide or a lesson, the figure it is read off, and what that figure must hold.
STATEMENTS = {
    "In what they do, very": ("00_quickstart/training", ends_alike),
    "In their weights, not at all": ("03_weight_matching/ascents", unlike_in_weights),
    "Most digits still, but fewer than A or B": ("00_quickstart/interpolation", half_way_is_worse),
    "Most digits are still read": ("00_quickstart/interpolation", half_way_is_worse),
    "They are one function": ("02_line_and_barrier/interpolation", is_one_function),
    "A random order hardly helps": ("02_line_and_barrier/barriers", random_hardly_helps),
    "and never falls": ("03_weight_matching/ascents", climbs),
    "The objective never falls": ("03_weight_matching/ascents", climbs),
    "Others climb elsewhere": ("03_weight_matching/ascents", ends_differ),
    "Nearest is weight matching; lower": ("04_three_methods/matchers", nearest_is_not_lowest),
    "others with a lower barrier": ("04_three_methods/matchers", nearest_is_not_lowest),
    "that no order joins": ("05_counterexample/error_curves", no_order_joins),
    "Bit by bit": ("06_onset/onset", falls_bit_by_bit),
    "By their activations the same networks can": ("06_onset/orders", others_join_early),
    "largely the matcher": ("06_onset/orders", others_join_early),
    "Orders about as near to A": ("06_onset/partners", as_near_but_not_as_good),
    "The wide one": ("07_width/mlp_widths", wide_ones_are_easier),
    "the naive barrier falls as well": ("07_width/mlp_widths", naive_falls),
    "A has seen mostly high digits": ("10_split_data/class_counts", low_ones_are_rare_for_a),
    "more than A or B": ("10_split_data/accuracy_lines", learned_part_beats_both),
    # One epoch, Algorithm 1: the homework has an answer.
    "a barrier above half of the naive one": (
        "06_onset/onset",
        lambda numbers: (share_at(numbers, "algorithm_1", 1) > 0.5).all(),
    ),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_holds_in_the_figure_it_is_read_off(statement):
    assert any(statement in page.read_text() for page in PAGES)
    figure, holds = STATEMENTS[statement]
    assert holds(numbers_of(figure))


# Likewise what a notebook says in its folded answers and takeaways.
IN_NOTEBOOKS = {
    ("00", "Both, and matching leaves a larger share"): (
        "07_width/mlp_widths",
        lambda numbers: (
            all(
                at_width(numbers, method, 32) > at_width(numbers, method, 512)
                for method in ("naive", "weight")
            )
            and share_falls(numbers)
        ),
    ),
    ("00", "Those of the naive average"): (
        "02_line_and_barrier/interpolation",
        seeds_move_averages_more,
    ),
    ("02", "a random one hardly any"): ("02_line_and_barrier/barriers", random_hardly_helps),
    ("02", "Much more: lining up becomes possible as training goes on"): (
        "06_onset/onset",
        lambda numbers: (
            share_at(numbers, "algorithm_1", 3) > 3 * share_at(numbers, "algorithm_1", 25)
        ).all(),
    ),
    ("02", "No: thinner networks match less well"): (
        "07_width/mlp_widths",
        lambda numbers: at_width(numbers, "weight", 64) > 3 * at_width(numbers, "weight", 512),
    ),
    ("04", "The nearest network need not have the lowest barrier"): (
        "04_three_methods/matchers",
        nearest_is_not_lowest,
    ),
    ("05", "it finds pairs that none joins, too"): (
        "05_counterexample/trained_pairs",
        some_pairs_stay_apart,
    ),
    ("06", "falls gradually"): ("06_onset/onset", falls_bit_by_bit),
    ("06", "may leave far less"): ("06_onset/orders", others_join_early),
    ("06", "orders that are about as near may leave very different barriers"): (
        "06_onset/partners",
        as_near_but_not_as_good,
    ),
    ("07", "Matched barriers fall with the width; so do naive ones"): (
        "07_width/mlp_widths",
        lambda numbers: wide_ones_are_easier(numbers) and naive_falls(numbers),
    ),
    ("07", "The share that matching leaves falls, too"): ("07_width/mlp_widths", share_falls),
    ("07", "The thinnest networks are not joined by any method here"): (
        "07_width/mlp_widths",
        thinnest_stay_apart,
    ),
    ("08", "fast Adam may leave less than usual Adam"): (
        "08_failures/recipes",
        fast_adam_is_fine,
    ),
    ("08", "If the learned part finds a better one"): (
        "08_failures/recipes",
        slow_sgd_is_the_matchers,
    ),
    ("10", "the learned parts give one without an image, where whole weights may not"): (
        "10_split_data/loss_lines",
        learned_part_is_below_both,
    ),
    ("11", "MergeMany ends by itself, for any number of networks and from either start"): (
        "11_merging_many/objective",
        both_starts_end_alike,
    ),
}


@pytest.mark.parametrize(("notebook", "statement"), IN_NOTEBOOKS)
def test_a_statement_of_a_notebook_holds_in_the_figure_that_shows_it(notebook, statement):
    (path,) = paths.notebooks_dir().glob(f"{notebook}_*.ipynb")
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert statement in " ".join(text.split())
    figure, holds = IN_NOTEBOOKS[notebook, statement]
    assert holds(numbers_of(figure))
