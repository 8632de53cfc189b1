"""Figures: the numbers are kept, and the same numbers give the same bytes."""

import copy
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from rebasin_lab import paths
from rebasin_lab.lab import figures, plots
from rebasin_lab.paper import claims, store

CURVE = {
    "lambdas": [0.0, 0.5, 1.0],
    "train_loss": [0.1, 0.9, 0.2],
    "test_loss": [0.2, 1.0, 0.3],
    "train_accuracy": [1.0, 0.6, 0.9],
    "test_accuracy": [0.9, 0.5, 0.8],
}
HISTORY = {key: [2.0, 1.0] for key in CURVE if key != "lambdas"}
METHODS = ("naive", "weight matching")
IMAGE = np.linspace(-1, 1, 16).reshape(4, 4).tolist()
GROUP = {"shape": [16], "kind": "single", "pinned": False, "num_leaves": 3}
RELIABILITY = {
    "confidence": [0.2, None, 0.9],
    "frequency": [0.1, None, 0.8],
    "count": [9, 0, 90],
    "edges": [0.0, 0.33, 0.67, 1.0],
}

# A small record for every plot; a new plot gets a line here and inherits the laws.
NUMBERS = {
    "ascent_visit": {
        "layers": [
            {"name": f"layer {number}", "matrix": [[0.1, 1.0], [-0.5, 0.2]], "limit": 1.0}
            for number in (1, 2)
        ],
        "visited": 1,
        "best": [1, 0],
        "gain": 0.2,
        "visit": 1,
        "objective": [0.3, 0.5, 0.7, 0.7],
    },
    "ascents": {
        "searches": [
            {"method": "weight", "visits": [0, 2, 3], "objective": [0.0, 3.0, 4.0]},
            {"method": "algorithm_1", "visits": [0, 1, 2, 3], "objective": [0.0, 2.0, 3.5, 3.8]},
        ],
        "in_place": {"weight": [2], "algorithm_1": [5, 9]},
        "chance": 2,
    },
    "barriers": {"pairs": ["0, 1", "2, 3"], "naive": [1, 2], "permuted": [0.1, 0], "floor": 1e-4},
    "contour": {
        "x": [0.0, 0.5, 1.0],
        "y": [0.0, 0.5, 1.0],
        "loss": [[0.1, 2.0, 0.1], [0.5, 3.0, 0.5], [0.2, 0.4, 0.9]],
        "models": {"A": [0.0, 0.0], "B": [1.0, 0.0], "C": [0.1, 0.9]},
        "cap": 2.0,
    },
    "loss_lines_with_levels": {
        "lambdas": [0.0, 0.5, 1.0],
        "curves": {"naive": [1.0, 3.0, 1.0], "weight matching": [1.0, 0.8, 1.0]},
        "levels": {"all data": 0.5},
        "ylabel": "test loss (nats)",
        "limit": 2.0,
    },
    "merged_bars": {
        "groups": [
            {
                "title": "test loss (nats)",
                "values": {"single": [0.2, 0.3], "naive mean": [2.0], "MergeMany": [0.1]},
                "lower_is_better": True,
            }
        ]
    },
    "published_lines": {
        "lambdas": [0.0, 0.5, 1.0],
        "panels": {
            "loss": {method: [1.0, 2.0, 1.0] for method in METHODS},
            "top-1": {method: [76.0, 1.0, 76.0] for method in (*METHODS, "OT-Fusion")},
        },
    },
    "reliability": {
        "panels": [
            {
                "title": "test",
                "curves": {
                    "A": {"confidence": [0.1, None], "frequency": [0.2, None], "count": [5, 0]},
                    "ensemble": {
                        "confidence": [0.1, 0.9],
                        "frequency": [0.1, 0.8],
                        "count": [3, 2],
                    },
                },
                "ece": {"A": 0.1, "ensemble": 0.05},
            }
        ]
    },
    "decision_regions": {
        "lambdas": [0.0, 0.5],
        "truth": ["00", "10"],
        "panels": {
            "identity": [{"yes": ["00", "10"], "error": 0.0}, {"yes": ["01", "00"], "error": 0.5}]
        },
    },
    "changed_weight": {
        "lambdas": [0.0, 0.5, 1.0],
        "curves": {"identity": [0.0, 0.3, 0.1], "swap both": [0.0, 0.2, 0.1]},
        "most_error": 0.7,
        "truth": ["00", "10"],
        "yes": ["01", "10"],
    },
    "decision_walk": {
        "lambdas": [0.1, 0.9],
        "curves": {"identity": [0.25, 0.25], "swap both": [0.1, 0.2]},
        "ends": {"identity": [0.0, 0.0], "swap both": [0.0, 0.0]},
        "permutation": "swap both",
        "lam": 0.3,
        "error": 0.15,
        "truth": ["00", "10"],
        "yes": ["01", "10"],
    },
    "error_curves": {
        "lambdas": [0.0, 1.0],
        "measured": {"identity": [0.0, 0.0], "swap 2": [0.0, 0.1]},
        "exact_lambdas": [0.1, 0.9],
        "exact": {"identity": [0.25, 0.25], "swap 2": [0.2, 0.2]},
        "squared_distances": {"identity": 20.0, "swap 2": 14.0},
    },
    "explored_lines": {
        "curves": {
            method: {
                "lambdas": [0.0, 0.5, 1.0],
                "train_loss": [0.1, top, 0.2],
                "test_loss": [0.2, top + 0.1, 0.3],
            }
            for method, top in (("naive", 0.9), ("weight", 0.2))
        },
        "metric": "loss",
        "splits": ["train", "test"],
    },
    "halfway": {"loss": [0.03, 0.02, 0.02]},
    "history": {"histories": {"A": HISTORY, "B": HISTORY}},
    "interpolation": {"curves": dict.fromkeys(METHODS, [CURVE, CURVE])},
    "line_position": {
        "curves": dict.fromkeys(METHODS, CURVE),
        "lam": 0.3,
        "images": [IMAGE, IMAGE],
        "answers": dict.fromkeys(METHODS, [["3", True], ["5", False]]),
    },
    "matchers": {
        "methods": {
            method: {"cosines": [0.3, 0.2], "barriers": [0.1, 0.2]}
            for method in ("weight", "activation", "steepest_descent")
        },
        "naive": [0.8, 0.9],
    },
    "matchers_by_width": {
        "widths": [1, 2],
        "barriers": {
            method: [[0.3, 0.2], [0.1, 0.2]] for method in ("naive", "weight", "combined")
        },
    },
    "method_lines": {"curves": {"naive": CURVE, "weight": CURVE, "activation": CURVE}},
    "objective": {"objectives": {"seeds 0, 1": [0.0, 3.0, 4.0]}, "visits_per_sweep": 2},
    "samples": {"images": [IMAGE, np.zeros((4, 4, 3)).tolist()], "labels": ["3", "frog"]},
    "search": {
        "objective": [0.0, 3.0, 4.0, 4.0],
        "quantity": "inner product of weights",
        "visits_per_sweep": 2,
        "layers": {"layers/0/kernel": [0.0, 0.4], "layers/1/kernel": [0.1, 0.6]},
    },
    "similarity_views": {
        "columns": ["before", "after"],
        "rows": [
            {"name": "weights", "images": [IMAGE, IMAGE]},
            {"name": "activations", "images": [IMAGE, IMAGE]},
        ],
    },
    "onset": {
        "epochs": [0, 1, 5],
        "barriers": {
            "naive": {"train": [[0.0, 1.0, 1.5]], "test": [[0.0, 1.1, 1.4]]},
            "weight": {"train": [[0.0, 0.6, 0.02]], "test": [[0.0, 0.5, -0.01]]},
        },
        "lines": [
            {"title": "Loss at epoch 5", "curves": {"naive": [CURVE, CURVE], "weight": [CURVE]}}
        ],
        "marked": 1,
    },
    "partners": {
        "epochs": [0, 1, 5],
        "shares": {"hidden layer 1": [[0.1, 0.2, 1.0]], "hidden layer 2": [[0.0, 0.1, 1.0]]},
        "chance": 0.02,
        "cosines": {"weight": [[0.1, 0.12, 0.16]], "late": [[0.08, 0.11, 0.16]]},
    },
    "slopes": {
        "lambdas": [0.0, 1.0],
        "slopes": {"greedy": [1.0, 0.5], "weight matching": [1.0, 1.1]},
    },
    "sorted_barriers": {"barriers": {"naive": [0.2, 0.3], "best of four": [0.1, 0.0]}},
    "swapped_units": {
        "weights": [[[0.5, -1.0], [0.0, 1.0]]] * 3,
        "swapped": [0, 2],
        "classes": ["0", "1"],
        "before": [0.2, 1.0],
        "after": [0.2, 0.9],
        "change": 1e-7,
        "accuracy": [95.0, 94.0],
    },
    "symmetry_counts": {
        "bars": [
            {"name": "atoms", "log10": 82, "kind": "other"},
            {"name": "MLP", "log10": 3499.6, "kind": "exact"},
            {"name": "ResNet50", "log10": 55109, "kind": "paper"},
        ]
    },
    "symmetry_group": {
        "rows": [
            {"name": "embed", "fixed": True},
            {"name": "blocks/0/up, norm", "fixed": False},
            {"name": "blocks/0/down", "fixed": False},
            {"name": "head", "fixed": True},
        ],
        "groups": [
            GROUP | {"name": "P_0", "kind": "shared", "rows": [0, 1, 2, 3]},
            GROUP | {"name": "P_1", "shape": [4], "rows": [1, 2]},
            GROUP | {"name": "P_2[P_1]", "shape": [4, 2], "kind": "varying", "rows": [1, 2]},
            GROUP | {"name": "P_3", "pinned": True, "rows": [2, 3]},
        ],
    },
    "two_tests": {
        "columns": ["unit 1", "f"],
        "rows": {"A": [IMAGE, IMAGE], "B": [IMAGE, IMAGE]},
    },
    "unit_order": {
        "before": [[0.1, 0.9], [0.8, -0.1]],
        "after": [[0.9, 0.1], [-0.1, 0.8]],
        "partners": [1, 0],
        "num_units": 16,
    },
    "units": {"rows": {"A": [IMAGE, IMAGE], "B": [IMAGE, IMAGE]}, "slots": [3, 7]},
    "untrained_lines": {"curves": {"naive": [CURVE, CURVE], "late": [CURVE, CURVE]}, "chance": 0.1},
    "widths": {
        "widths": [0.5, 1, 2],
        "names": ["1/2", "1", "2"],
        "xlabel": "multiples",
        "barriers": {
            "naive": [[2.0, 1.8], [1.5, 1.4], [1.0, 0.9]],
            "weight": [[1.0, 0.8], [0.3, 0.2], [0.0, 0.01]],
            "random": [[], [1.4, 1.5], []],
        },
        "accuracies": [[0.9, 0.91], [0.93, 0.94], [0.95, 0.96]],
    },
}
NUMBERS |= {  # what was merged
    "class_counts": {"classes": ["0", "1"], "counts": {"A": [20, 80], "B": [80, 20]}},
    "line_reliability": {
        "lambdas": [0.0, 0.5, 1.0],
        "lines": {
            name: {"loss": [0.4, 0.3, 0.5], "accuracy": [90.0, 92.0, 89.0]}
            for name in ("naive", "weight matching")
        },
        "method": "weight matching",
        "index": 1,
        "temperature": 1.5,
        "loss": 0.3,
        "accuracy": 92.0,
        "ece": 0.03,
        "reliability": RELIABILITY,
    },
    "minorities": {
        "classes": ["0", "1"],
        "counts": {"A": [20, 80], "B": [80, 20]},
        "minorities": [0, 20, 50],
        "index": 1,
        "curves": {
            name: {"loss": [0.9, 0.4, 0.3], "accuracy": [60.0, 90.0, 92.0]}
            for name in ("A", "B", "naive", "weight matching", "learned part", "ensemble")
        },
    },
    "merge_objective": {
        "searches": {
            "grown": {"visits": [0, 2, 3, 4], "objective": [0.0, 8.0, 9.0, 9.0]},
            "as they came": {"visits": [0, 1, 2], "objective": [0.0, 5.0, 8.5]},
        },
        "levels": {"before training": 4.0},
        "visits_per_round": 2,
    },
    "merge_efforts": {
        "xlabel": "size",
        "x": [1, 2, 10],
        "curves": {"A and B": [83.0, 84.5, 86.0], "A and B shuffled": [60.0, 70.0, 71.0]},
        "index": 1,
    },
    "merged_by_number": {
        "counts": [1, 2],
        "panels": [
            {
                "title": "",
                "ylabel": "test loss (nats)",
                "curves": {"single": [0.3, 0.3], "naive mean": [0.3, 9.0], "MergeMany": [0.3, 0.2]},
                "limit": 0.4,
            }
        ]
        * 2,
    },
    "merged_number": {
        "counts": [1, 2],
        "panel": {
            "title": "",
            "ylabel": "test loss (nats)",
            "curves": {"single": [0.3, 0.3], "MergeMany": [0.3, 0.2]},
            "limit": None,
        },
        "number": 2,
        "reliability": {"single": RELIABILITY, "MergeMany": RELIABILITY},
        "title": "2 networks",
    },
}
NUMBERS |= {  # what does not work
    "recipes": {
        "recipes": ["SGD 0.1, 8 units", "SGD 0.1, 8 units, one epoch"],
        "barriers": {"naive": [[1.0, 1.2], [0.9]], "changes": [[0.1, 0.0], [0.2]]},
        "moved": [[1.0, 1.1], [0.3]],
    },
    "collapse": {
        "panels": [
            {
                "title": "BatchNorm",
                "layers": ["stem", "head"],
                "lines": [
                    {"method": "weight", "statistics": "averaged", "values": [[0.9, 0.2]]},
                    {"method": "weight", "statistics": "anew", "values": [[1.0, 0.7], [1.0, 0.8]]},
                ],
            },
            {
                "title": "LayerNorm",
                "layers": ["stem", "head"],
                "lines": [{"method": "naive", "statistics": "none", "values": [[1.0, 0.5]]}],
            },
        ]
    },
    "mended_lines": {
        "lambdas": [0.0, 0.5, 1.0],
        "panels": [
            {
                "title": "Loss",
                "ylabel": "test loss (nats)",
                "lines": [
                    {"method": "naive", "statistics": "averaged", "values": [[0.1, 2.0, 0.1]] * 2},
                    {"method": "weight", "statistics": "anew", "values": [[0.1, 0.3, 0.1]]},
                ],
            }
        ],
    },
    "line_stop": {
        "lambdas": [0.0, 0.5, 1.0],
        "stop": 1,
        "layers": ["stem", "head"],
        "lines": [
            {"method": "naive", "statistics": "none", "loss": [0.1, 2.0, 0.1], "spread": [0.8, 0.2]}
        ],
    },
}
PROVENANCE = figures.Provenance(
    notebook="00_test",
    profile="quick",
    dataset={"name": "tiny", "title": "Tiny", "digest": "abc"},
    seeds=(0, 1),
    settings={"width": 16},
    trained_with=[],
    claims=["fig1-midpoint"],
)


def record(plot, **changes):
    base = {"plot": plot, "size_inches": [4.0, 2.5], "alt": "alt", "caption": "caption"}
    return base | {"numbers": NUMBERS[plot]} | changes


def save(directory, plot="objective"):
    return figures.save_figure(
        directory,
        "figure",
        plot=plot,
        numbers=NUMBERS[plot],
        caption="caption",
        alt="alt",
        provenance=PROVENANCE,
        size=(4.0, 2.5),
    )


@pytest.fixture
def drawings(monkeypatch):
    """A list that grows with every drawing."""
    drawn, draw = [], figures.draw
    monkeypatch.setattr(figures, "draw", lambda record: drawn.append(record) or draw(record))
    return drawn


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_every_plot_has_a_small_record():
    assert NUMBERS.keys() == plots.PLOTS.keys()


def places(value, where=()):
    """Where in numbers there is a value, the whole among them."""
    yield where
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*where, step))


def altered(numbers, where, odd):
    if not where:
        return odd
    numbers = copy.deepcopy(numbers)
    inner = numbers
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = odd
    return numbers


ODD = [None, True, -1, 1e300, "x", [], [None], {"x": 1}]


@pytest.mark.parametrize("plot", NUMBERS)
def test_plot_takes_numbers_that_are_odd_or_refuses_them_in_words(plot):
    numbers = json.loads(json.dumps(NUMBERS[plot]))
    assert plots.checked(plot, numbers).keys() <= numbers.keys()
    num_refused = 0
    everywhere = list(places(numbers))
    for where in everywhere[:: len(everywhere) // 10 + 1]:
        for odd in ODD:
            try:
                found = plots.checked(plot, altered(numbers, where, odd))
            except ValueError as error:
                words, num_refused = str(error), num_refused + 1
            else:
                words = f"Expected {json.dumps(found, allow_nan=False)}"
            assert words.startswith("Expected ")
    assert num_refused > 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("plot", NUMBERS)
def test_plot_draws_without_warnings_on_opaque_white(plot):
    image = pixels(figures.render(record(plot), "png"))
    assert image.shape == (375, 600, 4)  # 4 x 2.5 inches at 150 dots per inch
    assert image[0, 0].tolist() == [255] * 4
    assert (image[..., 3] == 255).all()
    assert (image[..., :3] != 255).any(axis=-1).mean() > 0.01  # something is drawn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("plot", "changes"),
    [
        ("line_position", {"images": [IMAGE], "answers": dict.fromkeys(METHODS, [["3", True]])}),
        ("units", {"rows": {"A": [IMAGE]}, "slots": [0]}),
        ("interpolation", {"curves": {"naive": [CURVE]}}),
        ("barriers", {"pairs": ["0, 1"], "naive": [0.0], "permuted": [-0.01]}),
        ("contour", {"loss": [[9.0] * 3] * 3}),  # everywhere above the cap
        ("objective", {"objectives": {"only the start": [1.0]}}),
        ("symmetry_group", {"rows": [{"name": "w", "fixed": True}], "groups": []}),
        ("symmetry_group", {"rows": [{"name": "scalar", "fixed": False}], "groups": []}),
        ("sorted_barriers", {"barriers": {"naive": [], "best of four": []}}),
        ("two_tests", {"rows": {"A": [[[0.0]]]}, "columns": ["dead"]}),
        ("ascent_visit", {"visit": 2, "best": [0, 1], "gain": 0.0}),
        ("onset", {"lines": [], "marked": None}),
        (
            "widths",
            {
                "widths": [8],
                "names": ["8"],
                "barriers": {"naive": [[0.0]], "weight": [[0.0]]},
                "accuracies": [[0.1]],
            },
        ),
        (
            "ascents",
            {"searches": [{"method": "weight", "visits": [0, 2], "objective": [1.0, 1.0]}]},
        ),
        ("halfway", {"loss": [0.0, 0.0]}),
        ("method_lines", {"curves": {"naive": CURVE}}),
        (
            "similarity_views",
            {"columns": ["dead"], "rows": [{"name": "none", "images": [[[0.0]]]}]},
        ),
        (
            "merge_objective",
            {"searches": {"only one": {"visits": [0], "objective": [0.0]}}, "levels": {}},
        ),
    ],
    ids=[
        "one image",
        "one unit",
        "one curve",
        "no barrier",
        "all capped",
        "no update",
        "no group",
        "nothing to connect",
        "no pair",
        "a dead unit",
        "last visit",
        "barriers alone",
        "one width",
        "nothing to climb",
        "no loss",
        "only the naive line",
        "dead units only",
        "one model",
    ],
)
def test_smallest_records_draw_too(plot, changes):
    assert pixels(figures.render(record(plot, numbers=NUMBERS[plot] | changes), "png")).any()


def test_three_files_are_written(tmp_path):
    path = save(tmp_path / "new" / "folder")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "figure.json",
        "figure.png",
        "figure.svg",
    ]
    assert path.name == "figure.json"
    assert path.with_suffix(".svg").read_bytes().startswith(b"<?xml")


def test_drawing_again_gives_the_same_bytes():
    # The layout's solver is off by a last digit once in a few drawings of a figure of many axes.
    numbers = NUMBERS["two_tests"] | {"columns": [""] * 5, "rows": dict.fromkeys("AB", [IMAGE] * 5)}
    pictures = {figures.render(record("two_tests", numbers=numbers), "svg") for _ in range(8)}
    assert len(pictures) == 1


@pytest.mark.parametrize("plot", ["contour", "interpolation"])
def test_redrawing_from_the_numbers_gives_the_same_bytes(tmp_path, plot):
    path = save(tmp_path, plot)
    pictures = [path.with_suffix(kind) for kind in (".svg", ".png")]
    before = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        picture.unlink()
    figures.redraw(path)
    assert [picture.read_bytes() for picture in pictures] == before


def test_a_figure_is_drawn_once_for_the_same_record_and_code(tmp_path, drawings, monkeypatch):
    first, again = (save(tmp_path / name) for name in ("first", "again"))
    assert len(drawings) == 1
    for kind in (".svg", ".png"):
        assert first.with_suffix(kind).read_bytes() == again.with_suffix(kind).read_bytes()
    monkeypatch.setattr(figures, "_code_digest", lambda: "edited")
    save(tmp_path / "edited")
    assert len(drawings) == 2


def test_a_plot_of_ones_own_is_drawn_each_time(monkeypatch, drawings):
    def mine(fig, numbers):
        plots.PLOTS["objective"](fig, numbers)

    monkeypatch.setitem(plots.PLOTS, "mine", mine)
    for _ in range(2):
        assert figures.stored_pictures(record("objective") | {"plot": "mine"}, ["png"])
    assert len(drawings) == 2


def test_svg_is_the_same_in_another_process():
    program = (
        "import json, sys; from rebasin_lab.lab import figures; "
        "sys.stdout.buffer.write(figures.render(json.load(sys.stdin), 'svg'))"
    )
    drawn = record("contour")
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(drawn).encode(),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        check=True,
    )
    assert done.stdout == figures.render(drawn, "svg")


def test_readers_own_matplotlib_settings_do_not_leak_in():
    drawn = record("objective")
    expected = figures.render(drawn, "svg")
    with matplotlib.rc_context({"lines.linestyle": "--", "axes.labelcolor": "red"}):
        assert figures.render(drawn, "svg") == expected
        assert matplotlib.rcParams["axes.labelcolor"] == "red"  # and are left as they were


def test_threads_draw_the_same_picture():
    drawn, results = record("objective"), []
    threads = [
        threading.Thread(target=lambda: results.append(figures.render(drawn, "svg")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [figures.render(drawn, "svg")] * 3


def test_file_says_where_the_numbers_come_from(tmp_path):
    kept = json.loads(save(tmp_path).read_text())
    assert kept["numbers"] == NUMBERS["objective"]
    assert {key: kept[key] for key in ("profile", "seeds", "claims", "dataset", "settings")} == {
        "profile": "quick",
        "seeds": [0, 1],
        "claims": ["fig1-midpoint"],
        "dataset": {"name": "tiny", "title": "Tiny", "digest": "abc"},
        "settings": {"width": 16},
    }
    assert set(store.PACKAGES) == kept["versions"].keys()
    assert kept["versions"]["matplotlib"] == matplotlib.__version__


def test_dataset_is_described_by_its_digest(tiny_data):
    assert figures.describe_dataset(tiny_data) == {
        "name": "tiny",
        "title": "Tiny",
        "digest": tiny_data.digest,
    }


def test_html_escapes_what_it_quotes():
    html = figures.as_html(record("objective", alt='"><script>', caption="a < b & c"), png=b"png")
    assert 'alt="&quot;&gt;&lt;script&gt;"' in html
    assert "<figcaption>a &lt; b &amp; c</figcaption>" in html
    assert "<script>" not in html
    assert "data:image/png;base64,cG5n" in html


def test_unknown_plot_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match=r"a plot among \['ascent_visit', .*\]; got 'pie'"):
        figures.save_figure(
            tmp_path, "pie", plot="pie", numbers={}, caption="", alt="", provenance=PROVENANCE
        )
    assert list(tmp_path.iterdir()) == []


def test_saved_figures_are_found_in_order(tmp_path):
    for name in ("b", "a"):
        save(tmp_path / name)
    found = figures.saved_figures(tmp_path)
    assert found == [tmp_path / "a" / "figure.json", tmp_path / "b" / "figure.json"]


COMMITTED = pytest.mark.parametrize(
    "path",
    [*figures.saved_figures(), *figures.saved_figures(paths.figures_dir() / "laptop")],
    ids=lambda path: str(path.relative_to(paths.figures_dir())),
)


@COMMITTED
def test_committed_figure_redraws_from_its_numbers_to_its_bytes(path):
    kept = json.loads(path.read_text())
    if kept["versions"]["matplotlib"] != importlib.metadata.version("matplotlib"):
        pytest.skip(f"drawn with matplotlib {kept['versions']['matplotlib']}: other bytes")
    drawn = figures.render(kept, "svg")
    assert drawn == path.with_suffix(".svg").read_bytes(), f"draw it again: figures.redraw({path})"


@COMMITTED
def test_committed_figure_has_alternative_text_and_known_claims(path):
    kept = json.loads(path.read_text())
    assert kept["alt"]
    assert f"[{kept['profile']} profile" in kept["caption"]
    assert set(kept["claims"]) <= claims.CLAIMS.keys()
    assert path.with_suffix(".png").is_file()
