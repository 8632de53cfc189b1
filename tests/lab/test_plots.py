"""The picture of a symmetry group: layers in computing order, tied units on one line.

And the pictures of the two small pairs of networks, of how matchers compare, and of what merged
networks are worth.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import rebasin_lab as rl
from rebasin_lab import pytrees
from rebasin_lab.lab import plots
from rebasin_lab.lab.plots import (
    calibration,
    counterexample,
    matching,
    symmetry_group,
)
from rebasin_lab.paper import counterexample as toys
from rebasin_lab.paper.sections import symmetry_rows

IMAGES = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)


def look_at(architecture, **sizes):
    """A network, the shapes of its parameters and its spec."""
    model = rl.Model(architecture, image_shape=(16, 16, 3), num_classes=10, options=sizes)
    shapes = model.shapes
    return model, shapes, rl.infer_permutation_spec(model.apply, shapes, IMAGES)


def numbers_of(architecture, **sizes):
    model, shapes, spec = look_at(architecture, **sizes)
    return symmetry_rows.symmetry_numbers(spec, model.apply, shapes, IMAGES)


def changed_numbers(architecture, leaf, change, **sizes):
    """The numbers when `change` is applied to one leaf before the network sees it."""
    model, shapes, spec = look_at(architecture, **sizes)

    def apply_fn(params, images):
        changed = pytrees.map_with_path(lambda path, x: change(x) if path == leaf else x, params)
        return model.apply(changed, images)

    found = rl.infer_permutation_spec(apply_fn, shapes, IMAGES)
    return symmetry_rows.symmetry_numbers(found, model.apply, shapes, IMAGES, before=spec)


def number_units(units):
    return units + jnp.arange(units.shape[-1])


def kinds(numbers):
    return [group["kind"] for group in numbers["groups"]]


def pinned(numbers):
    return [group["name"] for group in numbers["groups"] if group["pinned"]]


def test_layers_of_an_mlp_are_rows_and_its_groups_a_staircase():
    numbers = numbers_of("mlp", width=8, num_hidden_layers=3)
    assert numbers["rows"] == [
        {"name": "layers/0", "fixed": True},
        {"name": "layers/1", "fixed": False},
        {"name": "layers/2", "fixed": False},
        {"name": "layers/3", "fixed": True},
    ]
    assert [group["rows"] for group in numbers["groups"]] == [[0, 1], [1, 2], [2, 3]]
    assert [group["shape"] for group in numbers["groups"]] == [[8]] * 3
    assert kinds(numbers) == ["single"] * 3
    assert symmetry_group._lanes(numbers["groups"]) == [0, 1, 2]


def test_residual_streams_of_a_resnet_are_the_shared_lines():
    numbers = numbers_of("resnet20")
    assert len(numbers["rows"]) == 1 + 9 * 2 + 2 + 1  # a norm shares the row of its convolution
    assert numbers["rows"][1]["name"] == "stages/0/0/conv1, norm1"
    streams = [group for group in numbers["groups"] if group["kind"] == "shared"]
    assert [group["shape"] for group in streams] == [[16], [32], [64]]
    assert [len(group["rows"]) for group in streams] == [9, 8, 7]
    assert kinds(numbers).count("single") == 9
    # A block's own units stand one lane to the right of the stream that it reads.
    assert symmetry_group._lanes(numbers["groups"]) == [0, 1, 1, 1, 1, 2, 3, 3, 3, 4, 5, 5]


@pytest.mark.parametrize(
    ("architecture", "num_rows", "num_groups"), [("vgg16", 29, 15), ("resnet50", 54, 37)]
)
def test_deep_networks_have_a_row_per_layer(architecture, num_rows, num_groups):
    numbers = numbers_of(architecture)
    assert (len(numbers["rows"]), len(numbers["groups"])) == (num_rows, num_groups)
    assert [row["name"] for row in numbers["rows"]][-1] in ("head", "dense/2")


def test_heads_are_shared_and_their_dimensions_vary():
    numbers = numbers_of("vit", width=8, num_heads=2, num_blocks=1)
    groups = {group["name"]: group for group in numbers["groups"]}
    assert kinds(numbers) == ["shared", "shared", "varying", "varying", "single"]
    assert [group["shape"] for group in groups.values()] == [[8], [2], [2, 4], [2, 4], [32]]
    fixed = [row["name"] for row in numbers["rows"] if row["fixed"]]
    assert fixed == ["patch_embedding", "position_embedding", "head"]


def test_order_of_use_looks_into_calls_and_scans_and_keeps_unused_leaves():
    @jax.jit
    def apply_fn(params, x):
        x, _ = jax.lax.scan(lambda x, _: (x @ params["z"] + params["y"][None], None), x, length=2)
        return x @ params["a"]

    params = {name: jnp.ones((3, 3)) for name in ("a", "unused", "z")} | {"y": jnp.ones(3)}
    assert symmetry_rows.order_of_use(apply_fn, params, jnp.ones((2, 3))) == [
        "z",
        "y",
        "a",
        "unused",
    ]


def test_leaves_of_one_dict_have_a_row_each_if_several_are_kernels():
    def apply_fn(params, x):
        stream = x @ params["embed"]
        stream = stream + jax.nn.relu(stream @ params["block"]["up"]) @ params["block"]["down"]
        return stream @ params["head"] * params["scale"]

    shapes = {"embed": (3, 8), "block": {"up": (8, 4), "down": (4, 8)}, "head": (8, 2), "scale": ()}
    params = jax.tree.map(jnp.ones, shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    x = jnp.ones((2, 3))
    spec = rl.infer_permutation_spec(apply_fn, params, x)
    numbers = symmetry_rows.symmetry_numbers(spec, apply_fn, params, x)
    assert [row["name"] for row in numbers["rows"]] == ["embed", "block/up", "block/down", "head"]
    assert kinds(numbers) == ["shared", "single"]


@pytest.mark.parametrize("change", [number_units, jnp.cumsum, jnp.sort])
def test_a_change_that_looks_at_positions_pins_one_group_and_keeps_the_layout(change):
    before = numbers_of("mlp", width=8, num_hidden_layers=3)
    numbers = changed_numbers("mlp", "layers/1/bias", change, width=8, num_hidden_layers=3)
    assert pinned(numbers) == ["P_1"]
    assert [row["fixed"] for row in numbers["rows"]] == [True] * 4
    for key in ("name", "rows", "shape"):
        assert [g[key] for g in numbers["groups"]] == [g[key] for g in before["groups"]]


def test_the_same_change_of_every_unit_pins_nothing():
    sizes = {"width": 8, "num_hidden_layers": 2}
    assert changed_numbers("mlp", "layers/1/bias", lambda u: u + 1, **sizes) == numbers_of(
        "mlp", **sizes
    )


def test_numbering_the_values_of_heads_pins_the_heads_too():
    sizes = {"width": 8, "num_heads": 2, "num_blocks": 1}
    numbers = changed_numbers("vit", "blocks/0/attention/value/bias", number_units, **sizes)
    assert pinned(numbers) == ["P_1", "P_3[P_1]"]
    # The dimensions of queries and keys may still be reordered, inside each head.
    assert [g["name"] for g in numbers["groups"]] == ["P_0", "P_1", "P_2[P_1]", "P_3[P_1]", "P_4"]


def test_picture_is_ready_for_a_figure_and_says_in_words_what_it_shows():
    model, shapes, spec = look_at("resnet20")
    picture = symmetry_rows.picture(
        "resnet20", spec, model.apply, shapes, IMAGES, title="T", caption="C"
    )
    assert picture.plot in plots.PLOTS
    assert json.loads(json.dumps(picture.numbers)) == picture.numbers
    assert picture.alt == (
        "12 groups of units as lines over 22 layers. The one that touches most, P_0 of 16 units, "
        "moves 17 parameters in 9 layers."
    )
    assert picture.size[1] > 4


def drawn(plot, numbers):
    """The figure that a plot draws from numbers that have been through a file."""
    fig = Figure(layout="constrained")
    plots.PLOTS[plot](fig, json.loads(json.dumps(numbers)))
    return fig


def test_every_permutation_has_a_colour_and_a_marker_of_its_own():
    assert counterexample.STYLES.keys() == toys.PERMUTATIONS.keys()
    for looks in zip(*counterexample.STYLES.values(), strict=True):
        assert len(set(looks)) == 4


def test_square_shows_what_is_said_against_what_is_right():
    numbers = {
        "lambdas": [0.0],
        "truth": ["0011", "0011"],
        "panels": {"swap 1": [{"yes": ["0101", "0000"], "error": 0.5}]},
    }
    (ax,) = drawn("decision_regions", numbers).axes
    # No, wrong yes, wrong no, yes; the first row of the file is the lowest.
    outcomes = ["right: no", "wrong: yes", "wrong: no", "right: yes"]
    index = [list(counterexample.OUTCOMES).index(name) for name in outcomes]
    assert ax.images[0].get_array()[0].tolist() == index
    assert ax.images[0].origin == "lower"
    assert (ax.get_title(), ax.get_ylabel(), ax.get_xlabel()) == ("0.50", "swap 1", "λ = 0")


def test_outline_of_the_quadrant_is_no_fifth_colour_in_the_legend():
    numbers = {"lambdas": [0.0], "truth": ["1"], "panels": {"swap 1": [{"yes": ["1"], "error": 0}]}}
    (legend,) = drawn("decision_regions", numbers).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*counterexample.OUTCOMES, "outlined: where yes is right"]
    assert len(legend.get_patches()) == len(counterexample.OUTCOMES)
    assert legend.get_lines()[0].get_markerfacecolor() == "none"


def test_marks_lie_on_the_lines_they_are_compared_with():
    lambdas = np.linspace(0, 1, 5)
    errors = {name: toys.closed_form_error(name, lambdas).tolist() for name in toys.PERMUTATIONS}
    numbers = {"lambdas": lambdas.tolist(), "measured": errors, "exact_lambdas": lambdas.tolist()}
    distances = dict(zip(toys.PERMUTATIONS, (20, 10, 14, 4), strict=True))
    fig = drawn("error_curves", numbers | {"exact": errors, "squared_distances": distances})
    seen = {}
    for ax in fig.axes:
        _, *pairs = ax.lines
        for line, marks in zip(pairs[::2], pairs[1::2], strict=True):
            name = marks.get_label().split(":")[0]
            assert (line.get_color(), marks.get_marker()) == counterexample.STYLES[name]
            assert line.get_ydata().tolist() == marks.get_ydata().tolist() == errors[name]
            seen[name] = marks
    assert seen.keys() == errors.keys()
    assert seen["swap both"].get_label().endswith("= 4")
    # Where two curves are one, the marks of neither hide those of the other.
    assert [seen[name].get_markevery() for name in ("identity", "swap 2")] == [(0, 2), (1, 2)]


def test_permutations_with_the_same_networks_on_their_lines_share_a_row():
    empty, whole = ([{"yes": [answer], "error": 0.25}] for answer in "01")
    panels = {"identity": empty, "swap 1": whole, "swap 2": empty}
    first, second = drawn(
        "decision_regions", {"lambdas": [0.5], "truth": ["1"], "panels": panels}
    ).axes
    assert (first.get_ylabel(), second.get_ylabel()) == ("identity\nswap 2", "swap 1")


def test_barriers_are_sorted_method_by_method():
    numbers = {"barriers": {"naive": [0.3, 0.1, 0.2], "best of four": [0.0, 0.2, 0.1]}}
    (ax,) = drawn("sorted_barriers", numbers).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1, 0.2, 0.3], [0.0, 0.1, 0.2]]
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_the_network_on_the_walk_is_marked_on_its_curve():
    curves = {name: [0.1, 0.2] for name in toys.PERMUTATIONS}
    square = {"truth": ["01", "00"], "yes": ["01", "11"]}
    ends = {name: [0.0, 0.05] for name in toys.PERMUTATIONS}
    chosen = {"permutation": "swap 2", "lam": 0.25, "error": 0.125}
    lines = {"lambdas": [0.1, 0.9], "curves": curves, "ends": ends}
    fig = drawn("decision_walk", {**lines, **chosen, **square})
    *_, of_ends, walker = fig.axes[0].lines
    assert [data.tolist() for data in of_ends.get_data()] == [[0, 1], [0.0, 0.05]]
    (x, y) = walker.get_data()
    assert (x[0], y[0]) == (0.25, 0.125)


def test_lines_to_a_changed_network_end_where_the_dial_says_and_keep_their_looks():
    curves = {name: [0.0, 0.25, 0.0] for name in toys.PERMUTATIONS}
    square = {"truth": ["01", "00"], "yes": ["01", "11"]}
    numbers = {"lambdas": [0.0, 0.5, 1.0], "curves": curves, "most_error": 0.8, **square}
    fig = drawn("changed_weight", numbers)
    ax, region = fig.axes
    assert ax.get_ylim()[1] == pytest.approx(0.84)
    looks = [(line.get_color(), line.get_marker()) for line in ax.lines]
    assert looks == list(counterexample.STYLES.values())
    assert len(region.images) == 1
    (legend,) = fig.legends
    assert {text.get_text() for text in legend.get_texts()} >= {*curves, *counterexample.OUTCOMES}


def test_units_of_two_networks_share_one_scale_of_colours():
    numbers = {
        "columns": ["unit 1", "f"],
        "rows": {"A": [[[0.0, 2.0]], [[-1.0, 0.0]]], "B": [[[0.0, 1.0]], [[-1.0, 0.0]]]},
    }
    axes = [ax for ax in drawn("two_tests", numbers).axes if ax.images]
    assert {ax.images[0].get_clim() for ax in axes} == {(-2.0, 2.0)}
    # x1 below the last row; x2 right of the last column, since rows are named on the left.
    assert [ax.get_xlabel() for ax in axes] == ["", "", "x1", "x1"]
    assert [ax.get_ylabel() for ax in axes] == ["A", "x2", "B", "x2"]


@pytest.mark.parametrize("highest", [1.1, 1.5])
def test_slopes_are_drawn_from_zero_to_above_the_highest(highest):
    numbers = {"lambdas": [0.0, 1.0], "slopes": {"greedy": [1.0, highest], "naive": [1.0, 1.1]}}
    (ax,) = drawn("slopes", numbers).axes
    low, high = ax.get_ylim()
    assert low == 0
    assert high > highest


def test_every_matcher_has_a_look_of_its_own():
    assert set(rl.MATCHERS) <= set(matching.LOOKS)
    looks = [(look.colour, look.marker, look.is_open) for look in matching.LOOKS.values()]
    assert len(set(looks)) == len(looks)
    assert len({look.label for look in matching.LOOKS.values()}) == len(looks)


@pytest.mark.parametrize("is_known", [True, False])
def test_matcher_of_ones_own_is_drawn_by_every_plot_of_matchers(is_known, monkeypatch):
    """Also where it is not registered: a figure is drawn again in other processes."""
    label, colour = "mine", "#0072B2"
    if is_known:
        label, colour = "my matching", "#123456"
        own = rl.Matcher(lambda spec, a, b, *, seed: None, label, colour, "P")
        monkeypatch.setitem(rl.MATCHERS, "mine", own)
    curve = {"lambdas": [0.0, 1.0], "train_loss": [0.5, 0.6], "test_loss": [0.5, 0.6]}
    curves = {"mine": curve, "naive": curve}
    search = {"method": "mine", "visits": [0, 1], "objective": [0.0, 1.0]}
    for plot, numbers in {
        "explored_lines": {"metric": "loss", "splits": ["test"], "curves": curves},
        "method_lines": {"curves": curves},
        "matchers": {"methods": {"mine": {"cosines": [0.5], "barriers": [1.0]}}, "naive": [2.0]},
        "matchers_by_width": {"widths": [8], "barriers": {"mine": [[0.5]]}},
        "ascents": {"searches": [search], "in_place": {"mine": [3]}, "chance": 1.0},
        "onset": {
            "epochs": [0, 1, 2],
            "barriers": {"mine": {"train": [[0.1, 0.2, 0.3]]}},
            "lines": [],
            "marked": None,
        },
    }.items():
        axes = drawn(plot, numbers).axes
        lines = [line for ax in axes for line in ax.lines if line.get_color() == colour]
        assert lines, plot
        texts = [text.get_text() for ax in axes for text in ax.get_yticklabels()]
        assert any(label in text for text in [*(str(line.get_label()) for line in lines), *texts])


def test_stages_of_one_method_share_a_scale_of_colours():
    rows = [
        {"name": "weights", "images": [[[0.1, -0.2]], [[0.4, 0.0]]]},
        {"name": "activations", "images": [[[0.9, 0.0]], [[0.1, 0.0]]]},
    ]
    fig = drawn("similarity_views", {"columns": ["before", "after"], "rows": rows})
    limits = [ax.images[0].get_clim() for ax in fig.axes[:4]]
    # The 99th percentile of four entries: 0.97 of the way from the third to the last.
    ends = [
        pytest.approx((-end, end)) for end in (0.97 * 0.4 + 0.03 * 0.2, 0.97 * 0.9 + 0.03 * 0.1)
    ]
    assert limits == [ends[0]] * 2 + [ends[1]] * 2


def test_visit_marks_what_is_paired_and_what_would_be_best():
    layer = {"name": "layer", "matrix": [[0.0, 1.0], [1.0, 0.0]], "limit": 1.0}
    numbers = {"layers": [layer] * 3, "visited": 1, "best": [1, 0], "visit": 2, "gain": 2.0}
    fig = drawn("ascent_visit", numbers | {"objective": [0.0, 0.5, 1.0, 3.0]})
    first, visited, last, curve = fig.axes
    assert [len(ax.lines) for ax in (first, visited, last)] == [1, 2, 1]
    now, best = visited.lines
    assert list(now.get_xdata()) == list(now.get_ydata()) == [0, 1]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([1, 0], [0, 1])
    # The thick step of the curve is this visit's gain.
    assert list(curve.lines[2].get_xdata()) == [2, 3]
    assert list(curve.lines[2].get_ydata()) == [1.0, 3.0]


def test_searches_of_one_method_have_one_entry_in_the_legend():
    search = {"method": "algorithm_1", "visits": [0, 1], "objective": [0.0, 90.0]}
    grown = {"method": "weight", "visits": [0, 3], "objective": [0.0, 100.0]}
    numbers = {"in_place": {"weight": [1], "algorithm_1": [4, 6]}, "chance": 3}
    ax, place_ax = drawn("ascents", numbers | {"searches": [grown, search, search]}).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["weight matching", "Algorithm 1"]
    assert ax.get_ylim() == pytest.approx((80, 101))  # the last fifth
    assert [list(line.get_xdata()) for line in place_ax.lines] == [[1], [4, 6], [3, 3]]


def test_estimator_starts_where_weight_matching_is():
    (ax,) = drawn("halfway", {"loss": [0.03, 0.03, 0.01]}).axes
    curve, level, start = ax.lines
    assert list(curve.get_ydata()) == [0.03, 0.03, 0.01]
    assert set(level.get_ydata()) == {0.03}
    assert (list(start.get_xdata()), list(start.get_ydata())) == ([0], [0.03])


def test_naive_line_leaves_the_panel_and_matched_lines_do_not():
    def curve(middle):
        loss = [0.2, middle, 0.2]
        return {"lambdas": [0.0, 0.5, 1.0], "train_loss": loss, "test_loss": loss}

    fig = drawn(
        "method_lines",
        {"curves": {"naive": curve(9.0), "random": curve(9.0), "weight": curve(0.3)}},
    )
    for ax in fig.axes:
        low, high = ax.get_ylim()
        assert low <= 0.2
        assert 0.3 < high < 9


def test_matchers_are_marked_where_they_were_measured():
    values = {"cosines": [0.1, 0.2], "barriers": [0.1, 0.2]}
    fig = drawn("matchers", {"methods": {"weight": values}, "naive": [0.5, 1.5]})
    ax, cosine_ax = fig.axes
    naive, mean, marks, _ = ax.lines
    assert (list(naive.get_xdata()), list(naive.get_ydata())) == ([0.5, 1.5], [0, 0])
    assert set(mean.get_xdata()) == {1.0}
    assert (list(marks.get_xdata()), list(marks.get_ydata())) == (values["barriers"], [1, 1])
    assert list(cosine_ax.lines[1].get_xdata()) == values["cosines"]
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1", "0.2", "0.5", "1"]


def test_only_test_losses_are_dashed():
    curve = {"lambdas": [0.0, 1.0], "train_loss": [0.5, 0.6], "test_loss": [0.5, 0.6]}
    train_ax, test_ax = drawn("method_lines", {"curves": {"naive": curve, "weight": curve}}).axes
    assert {line.get_linestyle() for line in train_ax.lines} == {"-"}
    assert {line.get_linestyle() for line in test_ax.lines} == {"--"}
    search = {"method": "algorithm_1", "visits": [0, 1], "objective": [0.0, 90.0]}
    ax = drawn("ascents", {"searches": [search], "in_place": {"weight": [1]}, "chance": 3}).axes[0]
    assert {line.get_linestyle() for line in ax.lines} == {"-"}


def test_methods_at_one_stage_stand_side_by_side():
    rows = [{"name": name, "images": [[[0.1, -0.2]]]} for name in ("weights", "activations")]
    fig = drawn("similarity_views", {"columns": ["as it came"], "rows": rows})
    left, right = fig.axes[:2]
    assert left.get_subplotspec().rowspan == right.get_subplotspec().rowspan
    assert [ax.get_title() for ax in (left, right)] == ["as it came"] * 2


def test_barriers_of_each_width_are_marked_in_their_panel():
    barriers = {"naive": [[0.9, 0.7], [0.5, 0.6]], "weight": [[0.3, 0.2], [0.1, 0.1]]}
    fig = drawn("matchers_by_width", {"widths": [1, 4], "barriers": barriers})
    assert [ax.get_title() for ax in fig.axes] == ["width 1", "width 4"]
    for index, ax in enumerate(fig.axes):
        marks, means = ax.lines[::2], ax.lines[1::2]
        for row, values in enumerate(barriers.values()):
            assert list(marks[row].get_xdata()) == values[index]
            assert set(marks[row].get_ydata()) == {row}
            assert means[row].get_xdata()[0] == pytest.approx(np.mean(values[index]))
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == ["naive", "weight matching"]


def test_names_that_can_meet_in_a_figure_look_different():
    names = ["A", "B", "single", "naive", "MergeMany", "ensemble", "all data", *"pqrs"]
    looks = calibration.looks_of([*names, "A", "p"])
    assert list(looks) == names
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(names)
    # Without colours too: by marker.
    assert len({look.marker for look in looks.values()}) == len(names)


def test_a_method_looks_the_same_in_every_module():
    methods = {look.label: look for look in map(matching.LOOKS.__getitem__, rl.MATCHERS)}
    assert calibration.looks_of([*methods, "naive"]) == {
        **methods,
        "naive": matching.LOOKS["naive"],
    }


@pytest.mark.parametrize("plot", ["loss_lines_with_levels", "merged_by_number"])
def test_metrics_of_test_images_are_dashed(plot):
    values = {"naive": [0.4, 9.0], "ensemble": [0.4, 0.3]}
    panel = {"title": "", "ylabel": "nats", "curves": values, "limit": None}
    numbers = {
        "loss_lines_with_levels": {"lambdas": [0.0, 1.0], "curves": values, "levels": {}}
        | {"ylabel": "nats", "limit": None},
        "merged_by_number": {"counts": [1, 2], "panels": [panel]},
    }
    (ax,) = drawn(plot, numbers[plot]).axes
    assert {line.get_linestyle() for line in ax.lines} == {"--"}


def test_reliability_skips_empty_bins_and_names_the_error():
    curve = {"confidence": [0.1, None, 0.9], "frequency": [0.2, None, 0.7], "count": [9, 0, 90]}
    panel = {"title": "test", "curves": {"A": curve, "ensemble": curve}}
    errors = {"A": 0.1234, "ensemble": 0.02}
    fig = drawn("reliability", {"panels": [panel | {"ece": errors}, panel | {"ece": errors}]})
    assert len(fig.axes) == 4
    diagonal, *curves = fig.axes[0].lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    for line in curves:
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.1, 0.9], [0.2, 0.7])
    assert fig.axes[1].patches[0].get_data().values.tolist() == [9, 0, 90]
    assert fig.axes[1].get_ylim() == fig.axes[3].get_ylim()  # panels can be compared
    labels = [text.get_text() for text in fig.subfigs[0].legends[0].get_texts()]
    assert labels == ["A: 0.12", "ensemble: 0.020"]


@pytest.mark.parametrize(
    "names", [["A", "B"], ["ensemble", "weight matching", "trained on all data"]]
)
def test_legend_of_reliability_stays_in_its_panel(names):
    curve = {"confidence": [0.1, 0.9], "frequency": [0.2, 0.7], "count": [9, 90]}
    panel = {
        "title": "",
        "curves": dict.fromkeys(names, curve),
        "ece": dict.fromkeys(names, 0.0012),
    }
    fig = Figure(figsize=(8, 5), layout="constrained")
    plots.PLOTS["reliability"](fig, {"panels": [panel, panel]})
    fig.draw_without_rendering()
    for part in fig.subfigs:
        legend = part.legends[0].get_window_extent()
        assert part.bbox.x0 <= legend.x0 < legend.x1 <= part.bbox.x1


@pytest.mark.parametrize(("limit", "top"), [(None, 9.0), (2.0, 2.0), (0.5, 1.0)])
def test_curves_leave_the_panel_at_the_limit_and_levels_do_not(limit, top):
    curves = {"naive": [0.4, 9.0, 0.4], "weight matching": [0.4, 0.3, 0.4]}
    numbers = {"lambdas": [0.0, 0.5, 1.0], "curves": curves, "levels": {"all": 0.2, "A": 1.0}}
    (ax,) = drawn("loss_lines_with_levels", numbers | {"ylabel": "nats", "limit": limit}).axes
    assert [line.get_label() for line in ax.lines[:2]] == list(curves)
    assert list(ax.lines[0].get_ydata()) == curves["naive"]
    assert [line.get_ydata()[0] for line in ax.lines[2:]] == [0.2, 1.0]
    margin = 0.05 * (top - 0.2)
    assert ax.get_ylim() == pytest.approx((0.2 - margin, top + margin))


def test_names_of_neighbouring_levels_do_not_touch():
    levels = {"trained on all of the data": 1.0, "B": 1.01, "A": 1.02, "chance": 2.0}
    numbers = {"lambdas": [0.0, 1.0], "curves": {"naive": [1.0, 2.0]}, "levels": levels}
    fig = Figure(figsize=(6, 3.6), layout="constrained")
    plots.PLOTS["loss_lines_with_levels"](fig, numbers | {"ylabel": "nats", "limit": None})
    fig.draw_without_rendering()
    # Of the names, without the lines that lead to them.
    boxes = [Text.get_window_extent(text) for text in fig.axes[0].texts]
    assert [text.get_text() for text in fig.axes[0].texts][1:] == ["B", "A", "chance"]
    for lower, upper in zip(boxes, boxes[1:], strict=False):
        assert lower.y1 < upper.y0
    assert all(0 <= box.x0 < box.x1 <= fig.bbox.width for box in boxes)


def test_networks_are_marked_beside_their_mean():
    values = {"single": [0.1, 0.3], "MergeMany": [0.05]}
    group = {"title": "loss", "values": values, "lower_is_better": True}
    wide = group | {"values": values | {"naive mean": [2.0]}, "lower_is_better": False}
    near, far = drawn("merged_bars", {"groups": [group, wide]}).axes
    assert (near.get_xscale(), far.get_xscale()) == ("linear", "log")
    bars, marks = near.lines[::2], near.lines[1::2]
    assert [bar.get_xdata()[0] for bar in bars] == pytest.approx([0.2, 0.05])
    assert [list(mark.get_xdata()) for mark in marks] == list(values.values())
    assert [list(mark.get_ydata()) for mark in marks] == [[-0.25, 0.25], [1]]
    assert near.get_ylim()[0] > near.get_ylim()[1]  # the first method is at the top
    assert [text.get_text() for text in far.texts] == ["0.200", "0.0500", "2.00", "mean"]
    assert [label.get_text() for label in far.get_yticklabels()] == [*wide["values"]]
    for ax, better in ((near, "lower"), (far, "higher")):
        assert ax.get_title() == f"loss\n{better} is better"


def test_values_of_zero_are_not_put_on_a_logarithmic_axis():
    group = {"title": "loss", "values": {"single": [0.0], "naive": [2.0]}, "lower_is_better": True}
    (ax,) = drawn("merged_bars", {"groups": [group]}).axes
    assert ax.get_xscale() == "linear"


def test_names_of_methods_stand_once_in_a_row_of_panels():
    values = {"single": [0.1, 0.3], "MergeMany": [0.05]}
    groups = [
        {"title": title, "values": values, "lower_is_better": True} for title in ("loss", "error")
    ]
    named = [
        [label.get_text() for label in ax.get_yticklabels()]
        for ax in drawn("merged_bars", {"groups": groups}).axes
    ]
    assert named == [[*values], ["", ""]]


def test_training_images_of_a_class_are_stacked():
    counts = {"A": [20, 80], "B": [70, 10]}
    (ax,) = drawn("class_counts", {"classes": ["cat", "dog"], "counts": counts}).axes
    assert [bar.get_height() for bar in ax.patches] == [20, 80, 70, 10]
    assert [bar.get_y() for bar in ax.patches] == [0, 0, 20, 80]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]


def test_network_on_the_line_is_marked_with_its_reliability():
    line = {"loss": [0.4, 0.2, 0.5]}
    sure = {"confidence": [None, 0.9], "frequency": [None, 0.7], "count": [0, 9]}
    numbers = {"lambdas": [0.0, 0.5, 1.0], "lines": {"naive": line, "ensemble": line}}
    numbers |= {"method": "ensemble", "index": 1, "temperature": 2}
    numbers |= {"loss": 0.3, "most_loss": 2.0}  # beside the line: it is tempered
    fig = drawn("line_reliability", numbers | {"reliability": sure | {"edges": [0.0, 0.5, 1.0]}})
    ax, sure_ax = fig.axes
    mark = ax.lines[-1]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([0.5], [0.3])
    assert ax.get_ylim() == (0, pytest.approx(2.1))
    _, curve = sure_ax.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([0.9], [0.7])
    # An empty bin is no bar.
    assert sure_ax.patches[0].get_data().values.tolist() == [0, 0.7]


def test_split_that_is_looked_at_is_marked_on_the_curves_over_all_splits():
    counts = {"A": [10, 90], "B": [90, 10]}
    curve = {"accuracy": [60.0, 90.0]}
    numbers = {"classes": ["0", "1"], "counts": counts, "minorities": [10, 50], "index": 1}
    bars, ax = drawn("minorities", numbers | {"curves": {"ensemble": curve}}).axes
    assert [bar.get_height() for bar in bars.patches] == [10, 90, 90, 10]
    mark, line = ax.lines
    assert list(mark.get_xdata()) == [50, 50]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([10, 50], curve["accuracy"])


def swapped_units(i, j):
    return drawn(
        "swapped_units",
        {
            "weights": np.linspace(-1, 1, 3 * 4).reshape(3, 2, 2).tolist(),
            "swapped": [i, j],
            "classes": ["0", "1"],
            "before": [0.2, 1.0],
            "after": [0.2, 0.9],
            "change": 1e-7,
            "accuracy": [95.0, 94.0],
        },
    )


def test_units_that_changed_places_are_framed_and_the_others_are_not():
    *slots, empty, logits = swapped_units(0, 2).axes
    framed = [ax.spines["top"].get_visible() for ax in slots]
    assert framed == [True, False, True]
    assert not empty.images
    before, after = [bar.get_height() for bar in logits.patches], logits.lines[0].get_ydata()
    assert (before, list(after)) == ([0.2, 1.0], [0.2, 0.9])
    assert "95.0 % before, 94.0 % after" in logits.get_title()


def test_unit_swapped_with_itself_is_not_framed():
    assert not any(ax.spines["top"].get_visible() for ax in swapped_units(1, 1).axes[:3])


def test_climb_of_many_networks_is_drawn_whole_and_at_its_end():
    searches = {
        "grown": {"visits": [0, 5, 6], "objective": [0.0, 199.0, 200.0]},
        "as they came": {"visits": [0, 1, 2], "objective": [0.0, 100.0, 198.0]},
    }
    numbers = {"searches": searches, "levels": {"untrained": 90.0}, "visits_per_round": 5}
    whole, end = drawn("merge_objective", numbers).axes
    for ax in (whole, end):
        assert [list(line.get_ydata()) for line in ax.lines[:2]] == [
            search["objective"] for search in searches.values()
        ]
    assert end.get_ylim() == pytest.approx((190, 201))  # the last 5 % of 200
    assert whole.get_ylim()[0] < 0 < 90 < 200 < whole.get_ylim()[1]


def test_climb_that_has_not_begun_is_drawn_too():
    searches = {"one model": {"visits": [0], "objective": [0.0]}}
    fig = drawn("merge_objective", {"searches": searches, "levels": {}, "visits_per_round": 1})
    assert len(fig.axes) == 2


@pytest.mark.parametrize("limit", [None, 0.5])
def test_only_curves_above_the_limit_leave_the_panel(limit):
    curves = {"single": [0.4, 0.4], "naive mean": [0.4, 9.0]}
    panel = {"title": "", "ylabel": "nats", "curves": curves, "limit": limit}
    fig = drawn("merged_by_number", {"counts": [1, 2], "panels": [panel, panel]})
    for ax in fig.axes:
        assert [line.get_label() for line in ax.lines] == list(curves)
        low, high = ax.get_ylim()
        assert low < 0.4
        assert high == limit if limit else high > 9


def test_number_of_models_that_was_chosen_is_behind_its_values():
    sure = {"confidence": [None, 0.9], "frequency": [None, 0.7], "count": [0, 9]}
    curves = {"single": [0.4, 0.4, 0.4], "MergeMany": [0.4, 0.3, 0.2]}
    panel = {"title": "", "ylabel": "nats", "curves": curves, "limit": None}
    numbers = {"counts": [1, 2, 4], "panel": panel, "number": 2, "title": "2 networks"}
    ax, sure_ax = drawn("merged_number", numbers | {"reliability": {"MergeMany": sure}}).axes
    behind, *lines = ax.lines
    assert set(behind.get_xdata()) == {2}
    assert [list(line.get_ydata()) for line in lines] == list(curves.values())
    assert list(sure_ax.lines[-1].get_ydata()) == [0.7]
    # A name looks alike on both sides.
    assert sure_ax.lines[-1].get_color() == lines[1].get_color()


def test_every_pair_and_network_of_a_recipe_is_marked():
    numbers = {
        "recipes": ["Adam, 8 units", "SGD, 8 units"],
        "barriers": {"naive": [[1.0, 2.0], [3.0]], "changes": [[0.1, 0.2], [0.3]]},
        "moved": [[1.0, 1.5], [0.2]],
    }
    axes = drawn("recipes", numbers).axes
    for ax, shown in zip(
        axes,
        (
            [*numbers["barriers"]["naive"], *numbers["barriers"]["changes"]],
            numbers["moved"],
        ),
        strict=True,
    ):
        marks = [line for line in ax.lines if line.get_marker() != "None"]
        assert [list(mark.get_ydata()) for mark in marks] == shown
    assert [label.get_text() for label in axes[-1].get_xticklabels()] == [
        "Adam\n8 units",
        "SGD\n8 units",
    ]


def test_averaged_statistics_are_pale_and_lines_of_layers_are_solid():
    lines = [
        {"method": "weight", "statistics": statistics, "values": [[1.0, level]]}
        for statistics, level in (("averaged", 0.2), ("anew", 0.8))
    ]
    panel = {"title": "BatchNorm", "layers": ["block 1, conv 1", "head"], "lines": lines}
    ax = drawn("collapse", {"panels": [panel]}).axes[0]
    averaged, anew, ends = ax.lines
    assert averaged.get_color() == anew.get_color()
    assert averaged.get_alpha() < anew.get_alpha() == 1
    assert averaged.get_linewidth() < anew.get_linewidth()
    assert {line.get_linestyle() for line in ax.lines} == {"-"}
    assert list(ends.get_ydata()) == [1, 1]
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["block 1\nconv 1", "head"]


def test_lines_on_test_images_are_dashed():
    line = {"method": "weight", "statistics": "anew", "values": [[0.1, 0.2]]}
    panel = {"title": "Loss", "ylabel": "test loss (nats)", "lines": [line]}
    (ax,) = drawn("mended_lines", {"lambdas": [0.0, 1.0], "panels": [panel]}).axes
    assert [drawn_line.get_linestyle() for drawn_line in ax.lines] == ["--"]


def test_axes_of_a_stop_on_the_line_stand_still():
    line = {"method": "weight", "statistics": "none", "loss": [0.1, 0.4], "spread": [0.9, 0.6]}
    numbers = {"lambdas": [0.0, 1.0], "layers": ["stem", "head"], "lines": [line]}
    ends = {"most_loss": 2.0, "most_spread": 1.2}
    for stop in (0, 1):
        limits = [ax.get_ylim() for ax in drawn("line_stop", numbers | ends | {"stop": stop}).axes]
        assert limits == [pytest.approx((0, 2.1)), pytest.approx((0, 1.26))]


def test_pairs_are_thin_lines_around_their_mean_and_one_pair_is_its_own():
    pairs = {"method": "naive", "statistics": "averaged", "values": [[0.0, 1.0], [0.0, 3.0]]}
    alone = {"method": "weight", "statistics": "none", "values": [[0.0, 0.5]]}
    panel = {"title": "Loss", "ylabel": "nats", "lines": [pairs, alone]}
    (ax,) = drawn("mended_lines", {"lambdas": [0.0, 1.0], "panels": [panel]}).axes
    *thin, mean, single = ax.lines
    assert [list(line.get_ydata()) for line in thin] == pairs["values"]
    assert list(mean.get_ydata()) == [0, 2]
    assert list(single.get_ydata()) == [0, 0.5]
    assert max(line.get_linewidth() for line in thin) < mean.get_linewidth()


def test_stop_on_the_line_is_marked_beside_what_its_layers_do():
    line = {"method": "weight", "statistics": "anew", "loss": [0.1, 0.4, 0.2], "spread": [0.9, 0.6]}
    numbers = {"lambdas": [0.0, 0.5, 1.0], "stop": 1, "layers": ["stem", "head"], "lines": [line]}
    ax, spread_ax = drawn("line_stop", numbers).axes
    curve, mark = ax.lines
    assert list(curve.get_ydata()) == line["loss"]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([0.5], [0.4])
    assert list(spread_ax.lines[0].get_ydata()) == line["spread"]


@pytest.mark.parametrize("plot", ["collapse", "mended_lines"])
def test_legend_of_both_statistics_stays_on_the_page(plot):
    lines = [
        {"method": method, "statistics": statistics, "values": [[0.5, 0.5]]}
        for method in ("naive", "weight")
        for statistics in ("averaged", "anew")
    ]
    panel = {"title": "", "ylabel": "", "layers": ["stem", "head"], "lines": lines}
    fig = Figure(figsize=(9, 4), layout="constrained")
    plots.PLOTS[plot](fig, {"lambdas": [0.0, 1.0], "panels": [panel, panel]})
    fig.draw_without_rendering()
    legend = fig.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= fig.bbox.width
    assert len(fig.legends[0].get_texts()) == 4


def test_lines_that_are_pinned_stand_first_on_the_same_axis():
    def curve(top):
        return {"lambdas": [0.0, 1.0], "test_loss": [0.5, top]}

    numbers = {
        "metric": "loss",
        "splits": ["test"],
        "curves": {"naive": curve(0.6)},
        "title": "width 512",
        "pinned": {"title": "width 16", "curves": {"naive": curve(3.0)}},
    }
    pinned, now = axes = drawn("explored_lines", numbers).axes
    assert [ax.get_title() for ax in axes] == ["width 16", "width 512"]
    assert pinned.get_ylim() == now.get_ylim()
    assert pinned.lines[0].get_ydata().tolist() == [0.5, 3.0]
    assert now.lines[0].get_ydata().tolist() == [0.5, 0.6]


def test_epochs_of_a_training_have_an_axis_that_stands_still():
    fields = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    limits = set()
    for epochs in (1, 3):
        history = dict.fromkeys(fields, [0.5] * epochs)
        fig = drawn("history", {"histories": {"A": history}, "num_epochs": 10})
        limits |= {ax.get_xlim() for ax in fig.axes}
    assert limits == {(0.0, 11.0)}
