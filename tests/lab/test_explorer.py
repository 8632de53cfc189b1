"""The explorer as plain Python: its controls set as a front end would, no browser, no kernel."""

import base64
import contextvars
import io
import json
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
from PIL import Image

import rebasin_lab as rl
from rebasin_lab import models
from rebasin_lab.lab import exploration, figures
from rebasin_lab.lab.widgets import fragments, pictures, work

SMALL = {"dataset": "digits8x8", "width": 16, "depth": 2, "num_epochs": 2}
PATIENCE = 60.0  # seconds


@pytest.fixture
def explorer():
    """An explorer of two small stored networks, at rest."""
    exploration.load_pair(exploration.Choices(**SMALL))
    shown = rl.explore(**SMALL)
    assert shown.wait(PATIENCE)
    return shown


def text_of(widget):
    """What a reader sees of an HTML widget."""
    return re.sub(r"<[^>]*>", " ", widget.value).strip()


def control(explorer, description):
    """The control with this label."""
    (found,) = [
        one
        for one in all_of(explorer)
        if getattr(one, "description", None) == description and not isinstance(one, ipywidgets.HTML)
    ]
    return found


def choose(explorer, **values):
    """Set fields of its form, as a browser does."""
    explorer._form.values = {**explorer._form.values, **values}


def ask(explorer, what="start", **more):
    """Press a button of its form."""
    explorer._form.ask({what: True} | more)


def field(explorer, name):
    """A field of its form."""
    (found,) = [one for one in explorer._form.fields if one["name"] == name]
    return found


def options(explorer, name):
    """The values that a field of its form may have."""
    return [value for value, *_ in field(explorer, name)["options"]]


def all_of(widget):
    """A widget and all inside it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from all_of(child)


def texts(explorer):
    """All that is written in it."""
    written = [text_of(one) for one in all_of(explorer) if isinstance(one, ipywidgets.HTML)]
    return " ".join([explorer._form.status, explorer._form.message, *written])


# What is on view


def test_stored_networks_are_shown_at_once(explorer):
    assert explorer.result.methods == ("naive", "weight")
    assert explorer.method == "weight"
    walk = explorer.result.walk("weight", 0.5)
    assert f"test accuracy {100 * walk.accuracy:.2f} %" in texts(explorer)
    assert f"test loss {walk.loss:.4f} nats" in texts(explorer)
    assert "(restored)" in texts(explorer)
    assert not explorer._form.is_busy


def figures_of(explorer):
    """Its figures that the browser draws."""
    return [one for one in all_of(explorer) if isinstance(one, pictures.Picture)]


def test_moving_along_the_line_asks_the_network_there(explorer):
    before = [one.scene for one in figures_of(explorer)]
    written = [one.value for one in all_of(explorer) if "<figure" in str(getattr(one, "value", ""))]
    control(explorer, "λ: A to B").value = 0.2
    assert explorer.wait(PATIENCE)
    walk = explorer.result.walk("weight", 0.2)
    assert f"λ = 0.20, weight matching: test accuracy {100 * walk.accuracy:.2f} %" in texts(
        explorer
    )
    after = [one.value for one in all_of(explorer) if "<figure" in str(getattr(one, "value", ""))]
    assert sum(a != b for a, b in zip(written, after, strict=True)) == 1
    assert [one.scene for one in figures_of(explorer)] == before  # no figure is drawn for it


def test_cursor_follows_lambda_in_the_browser(explorer):
    slider, view = control(explorer, "λ: A to B"), explorer._view
    assert {link.source for link in view._links} == {(slider, "value")}
    followed = dict(link.target for link in view._links)
    assert followed == {view._lines: "cursor", view._landscape: "cursor"}


def test_barriers_are_on_view(explorer):
    compared = explorer.result.compared
    shown = text_of(explorer._view._barriers)
    for one in compared.values():
        assert f"{one.test_barrier:.3f}" in shown
        assert f"{one.train_barrier:.3f}" in shown
    share = 100 * compared["weight"].test_barrier / compared["naive"].test_barrier
    assert f"{share:.1f}" in shown


def test_walking_naively_is_another_network(explorer):
    explorer._view._method.value = "naive"
    assert explorer.wait(PATIENCE)
    walk = explorer.result.walk("naive", 0.5)
    assert f"naive: test accuracy {100 * walk.accuracy:.2f} %" in texts(explorer)
    assert "there is no search" in explorer._view._search.note
    assert explorer._view._search.scene == {}
    assert "compared['naive'].permutation" in explorer.as_code()


@pytest.mark.parametrize(
    ("label", "value"), [("metric", "accuracy"), ("images", "train"), ("images", "test")]
)
def test_choice_of_curves_draws_them_anew(explorer, label, value):
    before = explorer._view._lines.scene
    control(explorer, label).value = value
    assert explorer._view._lines.scene != before
    assert value in json.dumps(explorer._view._lines.scene)


def test_every_layer_can_be_looked_at(explorer):
    seen = {explorer._view._order.scene["alt"]}
    groups = explorer._view._group
    names = [name for name, *_ in groups.fields[0]["options"]]
    for group in names[1:]:
        groups.value = group
        seen.add(explorer._view._order.scene["alt"])
    assert len(seen) == len(names) == 2


def test_every_picture_has_an_alternative_text_and_every_control_a_label(explorer):
    for one in all_of(explorer):
        for image in re.findall(r"<img [^>]*>", str(getattr(one, "value", ""))):
            assert re.search(r'alt="[^"]{10,}"', image)
        if isinstance(one, pictures.Picture) and one.scene:
            assert len(one.scene["alt"]) >= 10
        if isinstance(one, ipywidgets.ValueWidget) and not isinstance(
            one, ipywidgets.HTML | ipywidgets.IntProgress | ipywidgets.Textarea
        ):
            assert one.description


def test_landscape_is_computed_when_asked_for(explorer):
    said = explorer._form.status
    control(explorer, "Draw the plane").click()
    assert explorer.wait(PATIENCE)
    assert explorer._form.status == said
    landscape = explorer._view._landscape
    assert "Test loss on the plane" in landscape.scene["alt"]
    models = landscape.record["numbers"]["models"]
    assert landscape.track == [list(models[name]) for name in ("A", "C", "B")]
    explorer._view._method.value = "naive"
    control(explorer, "Draw the plane").click()
    assert "choose a matcher" in landscape.note
    assert landscape.scene == {}


def test_figure_is_saved_with_its_numbers(explorer):
    control(explorer, "Save figure").click()
    (saved,) = re.findall(r"saved: (\S+)", texts(explorer))
    record = json.loads(explorer.save_figure().read_text())
    assert saved.endswith(".json")
    curve = explorer.result.compared["weight"].curve
    assert record["numbers"]["curves"]["weight"]["test_loss"] == curve.test_loss.tolist()
    assert record["seeds"] == [0, 1]


# Choosing networks


def test_what_is_not_stored_is_trained_only_when_asked_for(explorer):
    choose(explorer, seed_b=5)
    assert explorer.wait(PATIENCE)
    assert "Not trained yet: network B (seed 5). Compare trains for 2 epochs" in texts(explorer)
    assert explorer.result.choices.seeds == (0, 1)
    ask(explorer)
    assert explorer.wait(PATIENCE)
    assert explorer.result.choices.seeds == (0, 5)
    assert explorer.result.pair.origins == ("restored", "trained")
    choose(explorer, seed_b=1)
    assert explorer.wait(PATIENCE)
    assert explorer.result.choices.seeds == (0, 1)  # at once


def test_stopped_training_is_kept_and_goes_on():
    shown = rl.explore(**SMALL | {"num_epochs": 200})
    assert shown.wait(PATIENCE)
    under_way = threading.Event()
    shown._form.observe(lambda change: under_way.set(), names="progress")
    ask(shown)
    assert under_way.wait(PATIENCE)
    assert shown._form.is_busy
    ask(shown, "stop")
    assert shown.wait(PATIENCE)
    assert "Stopped. Trained epochs are stored" in texts(shown)
    assert shown.result is None
    ask(shown)
    assert shown.wait(PATIENCE)
    assert shown.result.pair.origins[0] == "resumed"


def test_another_choice_in_the_middle_of_a_training_ends_it(explorer):
    under_way = threading.Event()
    explorer._form.observe(lambda change: under_way.set(), names="progress")
    choose(explorer, num_epochs=200)
    assert explorer.wait(PATIENCE)
    under_way.clear()
    ask(explorer)
    assert under_way.wait(PATIENCE)
    choose(explorer, num_epochs=2)
    assert explorer.wait(PATIENCE)
    assert explorer.result.choices.num_epochs == 2
    assert "(restored)" in texts(explorer)


def test_two_explorers_train_in_turns():
    shown = [rl.explore(**SMALL | {"seeds": (seed, seed + 1)}) for seed in (3, 4)]
    for one in shown:
        assert one.wait(PATIENCE)
        ask(one)
    for one in shown:
        assert one.wait(PATIENCE)
    assert [one.result.choices.seeds for one in shown] == [(3, 4), (4, 5)]
    origins = [origin for one in shown for origin in one.result.pair.origins]
    assert sorted(origins) == ["restored", "trained", "trained", "trained"]  # seed 4 once


def test_more_matchers_stand_beside_each_other(explorer):
    choose(explorer, matchers=("weight", "activation"))
    assert explorer.wait(PATIENCE)
    assert explorer.result.methods == ("naive", "weight", "activation")
    assert explorer.method == "weight"  # what was walked with stays
    assert "activation matching" in json.dumps(explorer._view._lines.scene)


def test_all_matchers_and_one_of_ones_own_stand_beside_each_other(
    trained_pair, tiny_data, monkeypatch
):
    def mine(spec, params_a, params_b, *, seed):
        """Draw lots."""
        return rl.match("random", spec, params_a, params_b, seed=seed + 1)

    monkeypatch.setitem(rl.MATCHERS, "mine", rl.Matcher(mine, "my matching"))
    model, *params = trained_pair
    shown = rl.explore(
        params=tuple(params), apply_fn=model.apply, data=tiny_data, effort="low", num_lambdas=2
    )
    assert field(shown, "matchers")["options"][-1] == ("mine", "my matching", "Draw lots.")
    choose(shown, matchers=[*rl.MATCHERS])
    assert shown.wait(PATIENCE)
    assert shown._form.message == ""
    assert shown.result.methods == ("naive", *rl.MATCHERS)
    for method in rl.MATCHERS:
        shown._view._method.value = method
        assert shown.wait(PATIENCE)
        assert f"{rl.MATCHERS[method].label}: test accuracy" in texts(shown)
    assert "rl.MATCHERS['mine'] is your own" in shown.as_code()
    control(shown, "Draw the plane").click()
    assert shown.wait(PATIENCE)
    assert "B permuted by my matching" in shown._view._landscape.scene["caption"]
    record = json.loads(shown.save_figure().read_text())
    assert [*record["numbers"]["curves"]] == ["naive", *rl.MATCHERS]


def test_every_architecture_can_be_chosen(explorer):
    for name in reversed(options(explorer, "architecture")):
        choose(explorer, architecture=name)
        assert explorer.wait(PATIENCE)
        record = models.ARCHITECTURES[name]
        assert explorer._form.values["width"] == record.small_sizes[record.width]
        assert explorer._form.off == ([] if record.depth else ["depth"])
        assert explorer._form.message == ""
        assert "Not trained yet" in texts(explorer)


def test_architecture_of_ones_own_is_offered_and_one_of_unknown_code_is_refused(
    explorer, monkeypatch
):
    own = models.Architecture(models.MLP, width="width", depth="num_hidden_layers", num_epochs=3)
    monkeypatch.setitem(models.ARCHITECTURES, "mine", own)
    shown = rl.explore(**SMALL)
    choose(shown, architecture="mine")
    assert shown._form.values["num_epochs"] == 3
    assert shown.wait(PATIENCE)
    assert "Not trained yet" in texts(shown)
    unknown = models.Architecture(lambda *a, width=3, **o: models.MLP(*a, **o), width="width")
    monkeypatch.setitem(models.ARCHITECTURES, "mine", unknown)
    shown = rl.explore(**SMALL | {"architecture": "mine", "depth": 0})
    assert shown.wait(PATIENCE)
    assert "Train it with rl.train" in shown._form.message


def test_another_architecture_brings_its_own_sizes(explorer):
    choose(explorer, architecture="resnet8")
    assert explorer.wait(PATIENCE)
    assert explorer._form.values["width"] == 1
    assert explorer._form.off == ["depth"]
    assert explorer.choices.architecture == "resnet8"
    assert "Not trained yet" in texts(explorer)
    choose(explorer, architecture="mlp")
    assert explorer._form.values["width"] == 512
    assert explorer._form.values["depth"] == 3
    assert explorer._form.off == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed_b", 0, "with 0 twice, A and B are one"),
        ("file_a", "somewhere.safetensors", "name the other file, too"),
        ("width", 0.5, "Expected width of mlp"),
    ],
)
def test_what_cannot_be_had_is_said_where_it_was_chosen(explorer, name, value, message):
    before = explorer._form.values[name]
    choose(explorer, **{name: value})
    assert [*explorer._form.refused] == [name]
    assert message in explorer._form.refused[name]
    assert explorer.result.choices.seeds == (0, 1)
    choose(explorer, effort="high")  # mends nothing
    assert [*explorer._form.refused] == [name]
    choose(explorer, **{name: before})  # taken back
    assert explorer._form.refused == {}


def test_missing_data_are_said_and_the_panel_goes_on(explorer, monkeypatch):
    def missing(name, *args, **options):
        raise FileNotFoundError(f"Expected the files of {name}; none is there. " + "x" * 400)

    with monkeypatch.context() as patch:
        patch.setattr("rebasin_lab.datasets.views.load_dataset", missing)
        choose(explorer, dataset="cifar100")
        assert explorer.wait(PATIENCE)
    assert "Expected the files of cifar100" in explorer._form.message
    choose(explorer, dataset="digits8x8")
    for name in ("width", "depth", "num_epochs"):
        choose(explorer, **{name: SMALL[name]})
        assert explorer.wait(PATIENCE)
    assert explorer._form.message == ""
    assert "(restored)" in texts(explorer)


def test_networks_of_ones_own(trained_pair, tiny_data):
    model, *params = trained_pair
    shown = rl.explore(
        params=tuple(params),
        apply_fn=lambda params, images: model.apply(params, images),
        data=tiny_data,
    )
    assert shown.wait(PATIENCE)
    assert shown._form.message == ""
    assert "networks of your own (given)" in texts(shown)
    assert {*shown._form.values} == {"matchers", "effort", "statistics"}
    assert shown._form.presets == []
    choose(shown, effort="high")
    assert shown.wait(PATIENCE)
    assert shown.result.choices.effort == "high"
    with pytest.raises(ValueError, match="together; got params"):
        rl.explore(params=tuple(params))


# Stories, and two settings beside each other


@pytest.fixture
def stories(monkeypatch):
    """Examples of small networks, one of which is two explorations."""
    thin = exploration.Choices(**SMALL | {"width": 4})
    two = exploration.Preset("two", "Look at both.", thin, beside=exploration.Choices(**SMALL))
    found = (exploration.Preset("thin", "Look.", thin), two)
    for module in ("choosing", "explorer"):
        monkeypatch.setattr(f"rebasin_lab.lab.widgets.{module}.PRESETS", found)


def test_example_sets_the_choices_and_waits_to_be_trained(stories, explorer):
    shown = rl.explore(**SMALL)
    assert shown.wait(PATIENCE)
    ask(shown, preset=0)
    assert shown.wait(PATIENCE)
    assert shown._form.preset == 0
    assert shown._form.values["width"] == 4
    assert "Not trained yet" in texts(shown)
    ask(shown)
    assert shown.wait(PATIENCE)
    assert dict(shown.result.choices.experiment(0).options)["width"] == 4
    choose(shown, seed_b=7)
    assert shown._form.preset == -1


def test_example_of_two_pairs_shows_both_beside_each_other(stories, explorer):
    exploration.load_pair(exploration.Choices(**SMALL | {"width": 4}))
    shown = rl.explore(**SMALL)
    assert shown.wait(PATIENCE)
    ask(shown, preset=1)
    assert shown.wait(PATIENCE)
    numbers = shown._view._lines.record["numbers"]
    assert (numbers["pinned"]["title"], numbers["title"]) == ("width 16", "width 4")
    assert len(shown._view._lines.scene["panels"]) == 2
    ask(shown, preset=0)
    assert shown.wait(PATIENCE)
    assert "pinned" not in shown._view._lines.record["numbers"]


def test_a_pinned_pair_stays_beside_others_until_it_is_not(explorer):
    exploration.load_pair(exploration.Choices(**SMALL | {"width": 4}))
    first = explorer.result
    control(explorer, "Pin").click()
    choose(explorer, width=4)
    assert explorer.wait(PATIENCE)
    numbers = explorer._view._lines.record["numbers"]
    barrier = first.compared["weight"].test_barrier
    assert numbers["pinned"]["curves"]["weight"] == first.compared["weight"].curve.as_numbers()
    assert numbers["pinned"]["title"] == "width 16"
    assert f"{barrier:.3f}" in text_of(explorer._view._barriers)
    accuracy = 100 * first.walk("weight", 0.5).accuracy
    assert f"weight matching (width 16): test accuracy {accuracy:.2f} %" in texts(explorer)
    control(explorer, "Unpin").click()
    assert "pinned" not in explorer._view._lines.record["numbers"]
    assert explorer.wait(PATIENCE)
    assert "(width 16)" not in texts(explorer)


def test_what_was_not_chosen_is_pale_and_says_what_it_is(explorer):
    title = explorer.result.pair.title
    choose(explorer, seed_b=5)
    assert explorer.wait(PATIENCE)
    view = explorer._view
    for picture in (view._lines, view._order, view._search):
        assert title in picture.note
    assert "rl-old" in view._walk._dom_classes
    control(explorer, "metric").value = "accuracy"  # drawn anew, it is still not what was chosen
    assert title in view._lines.note
    choose(explorer, seed_b=1)
    assert explorer.wait(PATIENCE)
    assert not any(one.note for one in (view._lines, view._order, view._search))
    assert "rl-old" not in view._walk._dom_classes


def test_images_that_divide_the_networks_are_shown_with_all_three_answers(explorer):
    control(explorer, "answers to").value = True
    assert explorer.wait(PATIENCE)
    found = explorer.result.disagreements("weight")
    shown = text_of(explorer._view._walk)
    assert f"for {len(found)} of" in shown
    assert shown.count("A: ") == shown.count("B: ") == min(len(found), exploration.STRIP)


def test_training_is_drawn_as_it_goes_on_with_the_time_that_is_left(monkeypatch):
    for name in ("SECONDS_BETWEEN_CURVES", "SECONDS_BETWEEN_STEPS", "SECONDS_OF_QUIET"):
        monkeypatch.setattr(f"rebasin_lab.lab.widgets.explorer.{name}", 0.0)
    shown = rl.explore(**SMALL | {"num_epochs": 6})
    assert shown.wait(PATIENCE)
    drawn, said = [], []
    shown._training.observe(lambda change: drawn.append(change["new"]["alt"]), names="scene")
    shown._form.observe(lambda change: said.append(change["new"]), names="status")
    ask(shown)
    assert said[0] == "Starting ..."
    assert shown.wait(PATIENCE)
    assert [alt.split(":")[0] for alt in drawn] == [
        f"Network {name} after epoch {epoch} of 6" for name in "AB" for epoch in range(1, 7)
    ]
    assert any(re.search(r"network B, seed 1 \(3 of 6, \d\d:\d\d left\)", text) for text in said)
    assert shown._training.layout.display == "none"


def test_steps_of_quick_work_are_not_told_but_one_that_takes_long_is(explorer, monkeypatch):
    said = []
    explorer._form.observe(lambda change: said.append(change["new"]), names="status")
    monkeypatch.setattr("rebasin_lab.lab.widgets.explorer.SECONDS_OF_QUIET", PATIENCE)
    choose(explorer, effort="high")
    assert explorer.wait(PATIENCE)
    assert not [text for text in said if " of " in text]
    monkeypatch.setattr("rebasin_lab.lab.widgets.explorer.SECONDS_OF_QUIET", 0.1)
    was_told = threading.Event()

    def explore_pair(choices, *, on_step, **_):
        on_step("the only step", 0, 2)
        assert was_told.wait(PATIENCE)
        raise ValueError("enough")

    explorer._form.observe(
        lambda change: change["new"] == "the only step (0 of 2)" and was_told.set(), names="status"
    )
    monkeypatch.setattr(exploration, "explore_pair", explore_pair)
    choose(explorer, effort="usual")
    assert explorer.wait(PATIENCE)
    assert was_told.is_set()


def test_steps_that_come_too_fast_to_be_read_are_not_all_told(explorer, monkeypatch):
    told = []
    explorer._form.observe(lambda change: told.append(change["new"]), names="status")
    monkeypatch.setattr("rebasin_lab.lab.widgets.explorer.SECONDS_OF_QUIET", 0.0)

    def explore_pair(choices, *, on_step, **_):
        for step in range(10_001):
            on_step("counting", step, 10_000)
        raise ValueError("enough")

    monkeypatch.setattr(exploration, "explore_pair", explore_pair)
    began = time.monotonic()
    choose(explorer, effort="high")
    assert explorer.wait(PATIENCE)
    steps = [text for text in told if text.startswith("counting")]
    assert "(10000 of 10000" in steps[-1]
    assert 2 <= len(steps) <= 3 + (time.monotonic() - began) / 0.1


# Nobody watches


def test_page_without_controls_has_the_same_pictures(explorer):
    page = rl.explore(**SMALL, interactive=False)
    assert not isinstance(page, ipywidgets.Widget)
    assert explorer._view._walk.value in page.data
    for picture in (explorer._view._search, explorer._view._order):
        assert figures.as_html(picture.record) in page.data
    assert "Test loss on the plane" in page.data


def test_page_without_controls_trains_and_raises():
    page = rl.explore(**SMALL | {"num_epochs": 1}, interactive=False)
    assert "test accuracy" in page.data
    with pytest.raises(FileNotFoundError):
        rl.explore(files=("a", "b"), interactive=False)


# Fragments and threads


def pixels(source):
    """The pixels of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_strip_shows_each_image_and_what_it_is_taken_for():
    images = np.linspace(0, 1, 2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4, 1)
    shown = fragments.strip(images, ["<3>", "4"], [("<3>", 0.9), ("5", 0.4)], method="x")
    assert shown.count("✓") == shown.count("✗") == 1
    assert "<3>" not in shown
    assert 'alt="a test image of 4, taken for 5"' in shown
    first, second = (pixels(source) for source in re.findall(r'src="([^"]*)"', shown))
    np.testing.assert_array_equal(first, 255 - np.uint8(np.rint(255 * images[0, ..., 0])))
    assert second.shape == (4, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_tiles_in_colours_symmetric_about_zero(channels):
    weights = np.zeros((9, 5, 4, channels), np.float32)
    weights[1], weights[2] = 1, -5  # beyond the limit is at the limit
    (source,) = re.findall(r'src="([^"]*)"', fragments.filters(weights, 1.0))
    sheet = pixels(source)
    assert sheet.shape == (2 * 6 - 1, 8 * 5 - 1, 3)
    zero, high, low = (sheet[2, 5 * index + 1] for index in range(3))
    assert not (zero == high).all()
    assert not (zero == low).all()
    assert abs(int(zero[0]) - int(zero[2])) < 5  # neither of the two colours
    assert (sheet[-1, 8:] == 255).all()  # no tile there


def test_only_the_newest_of_many_requests_is_answered():
    begun, go_on, answered = threading.Event(), threading.Event(), []

    def answer(request):
        answered.append(request)
        begun.set()
        assert go_on.wait(PATIENCE)

    latest = work.Latest(answer, on_error=lambda error: answered.append(error))
    latest.ask(0)
    assert begun.wait(PATIENCE)
    for request in (1, 2, 3):
        latest.ask(request)
    go_on.set()
    assert latest.wait(PATIENCE)
    assert answered == [0, 3]


def test_error_of_a_request_is_told_and_the_next_is_answered():
    told = []
    latest = work.Latest(lambda x: told.append(60 // x), on_error=lambda e: told.append(type(e)))
    for request in (0, 4):
        latest.ask(request)
        assert latest.wait(PATIENCE)
    assert told == [ZeroDivisionError, 15]


def test_work_ends_where_it_is_told_to_stop():
    ends, steps, begun = [], [], threading.Event()

    def job(report):
        for step in range(10_000):
            report("counting", step, 10_000)
            begun.set()
        return "whole"

    one = work.Work(lambda *step: steps.append(step), lambda *end: ends.append(end))
    one.start(job)
    assert begun.wait(PATIENCE)
    if one.is_busy:
        one.stop()
    assert one.wait(PATIENCE)
    (result, error) = ends[0]
    assert (result, error) == ("whole", None) or isinstance(error, work.Stopped)
    one.start(lambda report: "again")
    assert one.wait(PATIENCE)
    assert ends[1] == ("again", None)


def test_work_that_fails_says_so_and_leaves_the_turn_to_others():
    ends = []
    for _ in range(2):
        one = work.Work(lambda *step: None, lambda *end: ends.append(end))
        one.start(lambda report: 1 // 0)
        assert one.wait(PATIENCE)
    assert [type(error) for _, error in ends] == [ZeroDivisionError] * 2


def test_work_in_the_background_answers_the_message_that_it_was_started_for():
    parent = contextvars.ContextVar("parent", default="the last message of all")
    answered = []

    def answer(*_):
        answered.append(parent.get())

    parent.set("this message")
    one = work.Work(answer, answer)
    one.start(lambda report: report("a step", 0, 1))
    latest = work.Latest(answer, on_error=answer)
    latest.ask("anything")
    assert one.wait(PATIENCE)
    assert latest.wait(PATIENCE)
    assert answered == 3 * ["this message"]
