"""Dials as plain Python: no browser, no kernel."""

import json
import sys
import threading
import time

import ipywidgets
import pytest

import rebasin_lab as rl
from rebasin_lab.lab import figures, scenes
from rebasin_lab.lab.widgets import prerendering
from rebasin_lab.lab.widgets.controls import control_of, nearest_first


@pytest.fixture
def quick_pictures(monkeypatch):
    """The text of a record instead of what it draws."""
    monkeypatch.setattr(figures, "as_html", lambda record: repr(record))
    monkeypatch.setattr(figures, "stored_pictures", lambda record, kinds: {})
    monkeypatch.setattr(scenes, "scene_of", lambda record: {"alt": repr(record), "panels": []})


def view(shown):
    """What the reader sees: the message and the figure, if it is that of the dials."""
    assert shown.wait(10.0)
    scene = shown.stored["scenes"].get(",".join(map(str, shown.at)), {})
    return shown.message, scene.get("alt")


def inverse(x):
    """A draw function with one bad value."""
    return {"value": 60 // x}


@pytest.mark.usefixtures("quick_pictures")
def test_first_drawing_is_one_plain_call_with_the_dials_values():
    calls = []
    shown = rl.dials(lambda **v: calls.append(v) or {"n": len(calls)}, x=[3, 4], y=range(3))
    assert calls == [{"x": 3, "y": 1}] == [shown.values]
    assert shown.record == {"n": 1}
    assert view(shown) == ("", "{'n': 1}")


def test_first_drawing_raises_its_error():
    with pytest.raises(ZeroDivisionError):
        rl.dials(inverse, x=[0, 1])


@pytest.mark.usefixtures("quick_pictures")
def test_turning_a_dial_draws():
    shown = rl.dials(inverse, x=[2, 5])
    shown.turn(x=5)
    assert view(shown) == ("", "{'value': 12}")
    assert shown.record == {"value": 12}
    assert shown.values == {"x": 5}


@pytest.mark.usefixtures("quick_pictures")
def test_what_the_browser_sends_turns_the_dial_too():
    shown = rl.dials(inverse, x=[2, 5, 6])
    shown.set_state({"at": [2]})
    assert view(shown) == ("", "{'value': 10}")
    assert shown.values == {"x": 6}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"z": 1}, r"dials of this figure, \['x'\]; got 'z'"),
        ({"x": 3}, r"a stop of 'x' among \[2, 5\]; got 3"),
    ],
)
@pytest.mark.usefixtures("quick_pictures")
def test_what_is_no_stop_is_refused(values, said):
    shown = rl.dials(inverse, x=[2, 5])
    with pytest.raises(ValueError, match=said):
        shown.turn(**values)
    assert shown.values == {"x": 2}


@pytest.mark.usefixtures("quick_pictures")
def test_later_error_is_shown_and_the_next_good_value_clears_it():
    shown = rl.dials(inverse, x=[2, 0, 6])
    shown.turn(x=0)
    message, figure = view(shown)
    assert message == "ZeroDivisionError: integer division or modulo by zero"
    assert figure is None
    shown.turn(x=6)
    assert view(shown) == ("", "{'value': 10}")


@pytest.mark.usefixtures("quick_pictures")
def test_labels_of_dials_are_words_and_lambda_its_symbol():
    shown = rl.dials(lambda lam, and_unit: {}, lam=(0.0, 1.0, 0.5), and_unit=[1, 2])
    assert [control["label"] for control in shown.controls] == ["λ", "and unit"]
    assert shown.controls[0]["options"] == ["0.0", "0.5", "1.0"]


@pytest.mark.usefixtures("quick_pictures")
def test_page_that_nobody_can_turn_dials_on_has_the_first_figure_and_no_dials():
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or {"x": x}, interactive=False, x=[2, 5])
    assert not isinstance(shown, ipywidgets.Widget)
    assert shown.data == "{'x': 2}"
    assert calls == [2]


@pytest.mark.usefixtures("quick_pictures")
def test_the_state_may_be_sent_while_stops_are_stored():
    shown = rl.dials(lambda x: {"x": x}, x=[0, 1])
    state = shown.get_state()["stored"]
    shown.turn(x=1)
    assert view(shown) == ("", "{'x': 1}")
    assert list(state["scenes"]) == ["0"]  # as it was: sending goes through it
    assert list(shown.get_state("stored")["stored"]["scenes"]) == ["0", "1"]


def test_a_run_for_a_site_stores_every_stop_that_has_a_figure_and_a_still_picture(monkeypatch):
    def draw(x):
        numbers = {"objectives": {"one": [0.0, 6 // x]}, "visits_per_sweep": 1}
        return rl.picture("objective", numbers, alt=f"a < {x}")

    monkeypatch.setenv("REBASIN_LIVE_DIALS", "1")
    shown = rl.dials(draw, interactive=False, x=[2, 1, 0, 3])
    assert list(shown.get_state()["stored"]["scenes"]) == ["0", "1", "3"]
    data, *_ = shown._repr_mimebundle_()
    assert 'alt="a &lt; 2"' in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_figure_to_be_sketched_needs_no_dial_there(monkeypatch):
    values = [f"{split}_{metric}" for split in ("train", "test") for metric in ("loss", "accuracy")]
    curve = {"lambdas": [0.0, 1.0], **dict.fromkeys(values, [0.5, 0.5])}
    numbers = {"curves": {"naive": [curve]}}
    monkeypatch.setenv("REBASIN_LIVE_DIALS", "1")
    shown = rl.dials(
        lambda: rl.picture("interpolation", numbers, alt="a line"),
        interactive=False,
        predict="naive, train",
    )
    assert list(shown.get_state()["stored"]["scenes"]) == [""]


def test_first_drawing_raises_its_error_without_dials_too():
    with pytest.raises(ZeroDivisionError):
        rl.dials(inverse, interactive=False, x=[0])


@pytest.mark.usefixtures("quick_pictures")
def test_of_many_moves_the_last_is_answered_and_those_that_nobody_waits_for_are_not():
    drawing, go_on, calls = threading.Event(), threading.Event(), []

    def draw(x):
        calls.append(x)
        if x == 1:
            drawing.set()
            go_on.wait(5.0)  # still at work when others come
        return {"x": x}

    shown = rl.dials(draw, x=[0, 1, 2, 3])
    shown.turn(x=1)
    assert drawing.wait(5.0)
    shown.turn(x=2)
    shown.turn(x=3)
    go_on.set()
    assert view(shown) == ("", "{'x': 3}")
    assert shown.record == shown.values == {"x": 3}
    assert calls == [0, 1, 3]


def test_the_browser_gets_each_part_of_the_figures_once():
    def draw(size):
        numbers = {"objectives": {"one": list(range(50))}, "visits_per_sweep": size}
        return rl.picture("objective", numbers, alt=f"a < b, {size}")

    shown = rl.dials(draw, size=[1, 2, 3])
    sent = []
    shown.send = sent.append
    for size in (2, 3, 2, 1):
        shown.turn(size=size)
        assert shown.wait(10.0)
    assert [list(one["scenes"]) for one in sent] == [["1"], ["2"]]
    (line,) = [part for part in shown.stored["pool"].values() if len(part.get("x", ())) == 50]
    assert line["y"] == list(range(50))
    assert all(len(json.dumps(one)) < 6_000 for one in sent)
    assert shown.stored["scenes"]["0"]["alt"] == "a < b, 1"


# Drawing ahead


class Shell:
    """What an idle kernel's shell offers: callbacks before and after a cell."""

    def __init__(self):
        self.events = self
        self.callbacks = {}

    def register(self, event, callback):
        self.callbacks[event] = callback


@pytest.fixture
def idle_kernel(monkeypatch):
    """A kernel that has run its cell; without the moment it waits for another one."""
    monkeypatch.setattr(prerendering, "SECONDS_OF_QUIET", 0.0)
    shell = Shell()
    one = prerendering.Ahead(shell)
    shell.callbacks["post_run_cell"](None)
    monkeypatch.setattr(prerendering, "for_this_kernel", lambda: one)
    return shell


@pytest.mark.usefixtures("quick_pictures")
def test_stops_beside_the_present_one_are_drawn_before_they_are_asked_for(idle_kernel):
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or {"x": x}, x=range(5))
    assert shown._ahead.wait(5.0)
    assert calls == [2, 1, 3, 0, 4]
    shown.turn(x=3)
    assert view(shown) == ("", "{'x': 3}")
    assert shown._ahead.wait(5.0)
    assert calls == [2, 1, 3, 0, 4]  # nothing is drawn twice


@pytest.mark.usefixtures("quick_pictures")
def test_nothing_is_drawn_ahead_while_a_cell_runs(idle_kernel):
    idle_kernel.callbacks["pre_run_cell"](None)
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or {}, x=range(3))
    assert not shown._ahead.wait(0.2)
    assert calls == [1]
    idle_kernel.callbacks["post_run_cell"](None)
    assert shown._ahead.wait(5.0)
    assert sorted(calls) == [0, 1, 2]


@pytest.mark.usefixtures("quick_pictures")
def test_dial_that_moves_is_next(idle_kernel):
    """Whoever draws ahead could take the lock again before the one that waits for it has woken."""
    calls, begun = [], threading.Event()

    def draw(x):
        calls.append(x)
        begun.set()
        time.sleep(0.02)
        return {}

    shown = rl.dials(draw, x=[*range(31)])
    begun.clear()
    assert begun.wait(5.0)
    being_drawn = len(calls)
    shown.turn(x=30)
    assert shown.wait(10.0)
    assert 30 in calls[being_drawn : being_drawn + 2]  # another may have begun meanwhile


@pytest.mark.usefixtures("quick_pictures")
def test_panels_are_drawn_ahead_one_at_a_time_the_last_that_moved_first(idle_kernel):
    idle_kernel.callbacks["pre_run_cell"](None)
    calls = []
    shown = {
        name: rl.dials(lambda x, name=name: calls.append((name, x)) or {}, x=[0, 1, 2])
        for name in "ab"
    }
    shown["a"].turn(x=1)
    assert shown["a"].wait(5.0)
    del calls[:]
    idle_kernel.callbacks["post_run_cell"](None)
    assert shown["a"]._ahead.wait(5.0)
    assert calls == [("a", 2), ("b", 1), ("b", 2)]


@pytest.mark.usefixtures("quick_pictures")
def test_nothing_is_drawn_ahead_while_the_reader_waits_for_a_picture(idle_kernel):
    calls = []
    with prerendering.for_this_kernel().give_way():
        shown = rl.dials(lambda x: calls.append(x) or {}, x=range(3))
        assert not shown._ahead.wait(0.2)
        assert calls == [1]
    assert shown._ahead.wait(5.0)
    assert sorted(calls) == [0, 1, 2]


@pytest.mark.usefixtures("quick_pictures")
def test_panel_of_long_pictures_draws_one_of_them_ahead(idle_kernel, monkeypatch):
    monkeypatch.setattr(prerendering, "LONG_PICTURE", 0.01)
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or time.sleep(0.02) or {}, x=[*range(100)])
    assert shown._ahead.wait(5.0)
    assert calls == [0, 1]
    shown.turn(x=50)
    assert shown.wait(5.0)
    assert shown._ahead.wait(5.0)
    assert calls == [0, 1, 50, 49]


@pytest.mark.usefixtures("quick_pictures")
def test_dial_that_moves_during_a_long_picture_has_its_neighbours_drawn(idle_kernel, monkeypatch):
    monkeypatch.setattr(prerendering, "LONG_PICTURE", 0.05)
    begun, moved, calls = threading.Event(), threading.Event(), []

    def draw(x):
        calls.append(x)
        if x == 1:
            begun.set()
            moved.wait(5.0)
            time.sleep(0.1)
        return {}

    one = prerendering.for_this_kernel()
    one.ask("panel", (lambda x=x: draw(x) for x in (1, 2)))
    assert begun.wait(5.0)
    one.ask("panel", (lambda x=x: draw(x) for x in (3,)))
    moved.set()
    assert one.wait(5.0)
    assert calls == [1, 3]


@pytest.mark.usefixtures("quick_pictures")
def test_error_ahead_is_told_to_whoever_turns_the_dial_there(idle_kernel):
    shown = rl.dials(inverse, x=[1, 0, 2])
    assert shown._ahead.wait(5.0)
    assert view(shown) == ("", "{'value': 60}")
    shown.turn(x=0)
    assert "ZeroDivisionError" in view(shown)[0]


@pytest.mark.usefixtures("quick_pictures")
def test_of_a_dial_of_many_stops_not_all_are_drawn_ahead(idle_kernel, monkeypatch):
    monkeypatch.setattr(sys.modules["rebasin_lab.lab.widgets.dials"], "MOST_STOPS", 5)
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or {}, x=[*range(1000)])
    assert shown._ahead.wait(5.0)
    assert calls == [0, 1, 2, 3, 4]
    shown.turn(x=500)
    assert view(shown)[1] == "{}"
    assert calls == [0, 1, 2, 3, 4, 500]


@pytest.mark.usefixtures("quick_pictures")
def test_plain_process_draws_nothing_ahead():
    calls = []
    rl.dials(lambda x: calls.append(x) or {}, x=[1, 2])
    assert calls == [1]


# What dials are made of


@pytest.mark.parametrize(
    ("given", "kind", "values", "first"),
    [
        ([1, 3, 2], "slider", (1, 3, 2), 0),
        (["a", "b"], "choice", ("a", "b"), 0),
        ({"a": 1, "b": (2, 3)}, "choice", (1, (2, 3)), 0),
        ((0, 4), "slider", (0, 1, 2, 3, 4), 2),
        ((1, 7, 3), "slider", (1, 4, 7), 1),
        ((0.0, 0.3, 0.1), "slider", (0.0, 0.1, 0.2, 0.3), 1),
        (ipywidgets.IntSlider(min=1, max=7, step=3, value=4), "slider", (1, 4, 7), 1),
        (ipywidgets.FloatSlider(max=0.3, step=0.1, value=0.3), "slider", (0.0, 0.1, 0.2, 0.3), 3),
        (ipywidgets.Checkbox(value=True), "choice", (False, True), 1),
        (ipywidgets.Dropdown(options=["a", "b"]), "choice", ("a", "b"), 0),
        (ipywidgets.Dropdown(options={"a": 1, "b": 2}, value=2), "choice", (1, 2), 1),
        (ipywidgets.SelectionSlider(options=[("a", 1), ("b", 2)]), "slider", (1, 2), 0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_stops_of_what_is_given(given, kind, values, first):
    control = control_of("x", given)
    assert (control.kind, control.values, control.first) == (kind, values, first)


def test_names_of_stops_have_the_digits_that_tell_them_apart():
    assert control_of("lam", (0.0, 1.0, 0.25)).options == ("0.00", "0.25", "0.50", "0.75", "1.00")
    assert control_of("rate", [1e-8, 1e-7]).options == ("1e-08", "1e-07")
    assert control_of("size", [1, 2.5]).options == ("1", "2.5")
    given = ipywidgets.SelectionSlider(options=[("one", 1), ("two", 2)], description="n")
    assert (control_of("x", given).label, control_of("x", given).options) == ("n", ("one", "two"))


@pytest.mark.parametrize(
    "given",
    [[], {}, "text", 3, (2, 1), (0.0, 1.0, 0.0), [[1]], ipywidgets.Text(value="x")],
    ids=repr,
)
def test_what_has_no_stops_is_refused(given):
    with pytest.raises(ValueError, match="'x'"):
        control_of("x", given)


def test_neighbours_that_one_move_of_one_dial_reaches_come_first_and_all_are_near():
    controls = [control_of("x", range(4)), control_of("name", ["a", "b"])]
    near = [*nearest_first(controls, (1, 0), 100)]
    assert near[:4] == [(0, 0), (1, 1), (2, 0), (3, 0)]
    assert len({*near, (1, 0)}) == len(near) + 1 == 8
    assert [*nearest_first(controls, (1, 0), 2)] == near[:2]
    assert [*nearest_first(controls, (1, 0), -3)] == []
    assert [*nearest_first([], (), 5)] == []
