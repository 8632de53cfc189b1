"""Dials as plain Python: no browser, no kernel."""

import sys
import threading
import time

import ipywidgets
import pytest

import rebasin_lab as rl
from rebasin_lab.lab import figures
from rebasin_lab.lab.widgets import prerendering


@pytest.fixture
def quick_pictures(monkeypatch):
    """The text of a record instead of its picture, which takes a tenth of a second."""
    monkeypatch.setattr(figures, "as_html", lambda record: repr(record))
    monkeypatch.setattr(figures, "stored_pictures", lambda record, kinds: {})


def view(explorer):
    """What the reader sees: the message and the picture."""
    _, message, picture = explorer.children
    return message.value, picture.value


def slider(value=0, **options):
    return ipywidgets.IntSlider(value=value, **options)


def inverse(x):
    """A draw function with one bad value."""
    return {"value": 60 // x}


@pytest.mark.usefixtures("quick_pictures")
def test_first_drawing_is_one_plain_call_with_the_dials_values():
    calls = []
    explorer = rl.dials(lambda **v: calls.append(v) or {"n": len(calls)}, x=slider(3), y=slider())
    assert calls == [{"x": 3, "y": 0}] == [explorer.values]
    assert explorer.record == {"n": 1}
    assert view(explorer) == ("", "{'n': 1}")


def test_first_drawing_raises_its_error():
    with pytest.raises(ZeroDivisionError):
        rl.dials(inverse, x=slider(0))


@pytest.mark.usefixtures("quick_pictures")
def test_moving_a_dial_redraws():
    dial = slider(2)
    explorer = rl.dials(inverse, x=dial)
    dial.value = 5
    assert explorer.record == {"value": 12}
    assert explorer.values == {"x": 5}
    assert view(explorer) == ("", "{'value': 12}")


@pytest.mark.usefixtures("quick_pictures")
def test_later_error_is_shown_and_the_next_good_value_clears_it():
    dial = slider(2)
    explorer = rl.dials(inverse, x=dial)
    dial.value = 0
    message, picture = view(explorer)
    assert "ZeroDivisionError: integer division or modulo by zero" in message
    assert 'role="alert"' in message
    assert picture == "{'value': 30}"
    dial.value = 6
    assert view(explorer) == ("", "{'value': 10}")


@pytest.mark.usefixtures("quick_pictures")
def test_message_is_escaped():
    def draw(x):
        if x:
            raise ValueError("<script>alert(1)</script>")
        return {}

    dial = slider(0)
    explorer = rl.dials(draw, x=dial)
    dial.value = 1
    assert "&lt;script&gt;" in view(explorer)[0]
    assert "<script>" not in view(explorer)[0]


@pytest.mark.usefixtures("quick_pictures")
def test_labels_of_dials_are_words_and_lambda_its_symbol():
    explorer = rl.dials(lambda lam, and_unit: {}, lam=(0.0, 1.0, 0.5), and_unit=[1, 2])
    row = explorer.children[0]
    assert [control.description for control in row.children] == ["λ", "and unit"]


@pytest.mark.usefixtures("quick_pictures")
def test_page_that_nobody_can_turn_dials_on_has_the_first_figure_and_no_dials():
    calls = []
    dial = slider(2)
    shown = rl.dials(lambda x: calls.append(x) or {"x": x}, interactive=False, x=dial)
    assert not isinstance(shown, ipywidgets.Widget)
    assert shown.data == "{'x': 2}"
    dial.value = 5
    assert calls == [2]


def test_first_drawing_raises_its_error_without_dials_too():
    with pytest.raises(ZeroDivisionError):
        rl.dials(inverse, interactive=False, x=slider(0))


@pytest.mark.usefixtures("quick_pictures")
def test_changes_from_two_threads_leave_the_picture_of_the_last_values():
    drawing = threading.Event()

    def draw(x, y):
        if (x, y) == (1, 0):
            drawing.set()
            time.sleep(0.1)  # still drawing the first change when the second one comes
        return {"x": x, "y": y}

    x, y = slider(0), slider(0)
    explorer = rl.dials(draw, x=x, y=y)
    slow = threading.Thread(target=setattr, args=(x, "value", 1))
    fast = threading.Thread(target=setattr, args=(y, "value", 1))
    slow.start()
    assert drawing.wait(timeout=5)
    fast.start()
    for thread in (slow, fast):
        thread.join(timeout=5)
        assert not thread.is_alive()
    assert explorer.record == explorer.values == {"x": 1, "y": 1}
    assert view(explorer) == ("", "{'x': 1, 'y': 1}")


def test_picture_is_a_record_that_draws():
    numbers = {"objectives": {"one": [0.0, 1.0, 2.0]}, "visits_per_sweep": 1}
    explorer = rl.dials(
        lambda size: rl.picture("objective", numbers, alt="a < b", size=(size, 2.0)),
        size=ipywidgets.FloatSlider(value=3.0),
    )
    assert explorer.record["size_inches"] == [3.0, 2.0]
    _, html = view(explorer)
    assert 'alt="a &lt; b"' in html
    assert "data:image/png;base64,iVBOR" in html


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
def test_pictures_beside_the_present_one_are_drawn_before_they_are_asked_for(idle_kernel):
    calls = []
    dial = slider(2, min=0, max=4)
    shown = rl.dials(lambda x: calls.append(x) or {"x": x}, x=dial)
    assert shown._ahead.wait(5.0)
    assert calls == [2, 1, 3, 0, 4]
    dial.value = 3
    assert shown._ahead.wait(5.0)
    assert calls == [2, 1, 3, 0, 4]  # nothing is drawn twice
    assert view(shown) == ("", "{'x': 3}")


@pytest.mark.usefixtures("quick_pictures")
def test_nothing_is_drawn_ahead_while_a_cell_runs(idle_kernel):
    idle_kernel.callbacks["pre_run_cell"](None)
    calls = []
    shown = rl.dials(lambda x: calls.append(x) or {}, x=slider(1, max=2))
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

    dial = slider(0, max=30)
    rl.dials(draw, x=dial)
    begun.clear()
    assert begun.wait(5.0)
    being_drawn = len(calls)
    dial.value = 30
    assert calls[being_drawn] == 30


@pytest.mark.usefixtures("quick_pictures")
def test_panels_are_drawn_ahead_one_at_a_time_the_last_that_moved_first(idle_kernel):
    idle_kernel.callbacks["pre_run_cell"](None)
    calls = []
    dials = {name: slider(0, max=2) for name in "ab"}
    shown = {
        name: rl.dials(lambda x, name=name: calls.append((name, x)) or {}, x=dial)
        for name, dial in dials.items()
    }
    dials["a"].value = 1
    del calls[:]
    idle_kernel.callbacks["post_run_cell"](None)
    assert shown["a"]._ahead.wait(5.0)
    assert calls == [("a", 2), ("b", 1), ("b", 2)]


@pytest.mark.usefixtures("quick_pictures")
def test_nothing_is_drawn_ahead_while_the_reader_waits_for_a_picture(idle_kernel):
    calls = []
    with prerendering.for_this_kernel().give_way():
        shown = rl.dials(lambda x: calls.append(x) or {}, x=slider(1, max=2))
        assert not shown._ahead.wait(0.2)
        assert calls == [1]
    assert shown._ahead.wait(5.0)
    assert sorted(calls) == [0, 1, 2]


@pytest.mark.usefixtures("quick_pictures")
def test_panel_of_long_pictures_draws_one_of_them_ahead(idle_kernel, monkeypatch):
    monkeypatch.setattr(prerendering, "LONG_PICTURE", 0.01)
    calls = []
    dial = slider(0)
    shown = rl.dials(lambda x: calls.append(x) or time.sleep(0.02) or {}, x=dial)
    assert shown._ahead.wait(5.0)
    assert calls == [0, 1]
    dial.value = 50
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
    dial = slider(1, min=0, max=2)
    shown = rl.dials(inverse, x=dial)
    assert shown._ahead.wait(5.0)
    assert view(shown) == ("", "{'value': 60}")
    dial.value = 0
    assert "ZeroDivisionError" in view(shown)[0]


@pytest.mark.usefixtures("quick_pictures")
def test_of_many_pictures_the_oldest_go(monkeypatch):
    monkeypatch.setattr(sys.modules["rebasin_lab.lab.widgets.dials"], "MOST_PICTURES", 3)
    calls = []
    dial = slider(0)
    rl.dials(lambda x: calls.append(x) or {}, x=dial)
    for value in (1, 2, 3, 2, 1, 0):
        dial.value = value
    assert calls == [0, 1, 2, 3, 0]


@pytest.mark.usefixtures("quick_pictures")
def test_dial_whose_stops_cannot_be_told_keeps_no_other_from_being_drawn_ahead(idle_kernel):
    calls = []
    endless = ipywidgets.FloatSlider(value=0.5, max=1, step=0)
    shown = rl.dials(lambda x: calls.append(x) or {}, x=endless)
    assert shown._ahead.wait(5.0)
    shown = rl.dials(lambda x: calls.append(x) or {}, x=slider(0, max=1))
    assert shown._ahead.wait(5.0)
    assert calls == [0.5, 0, 1]


@pytest.mark.usefixtures("quick_pictures")
def test_plain_process_draws_nothing_ahead():
    calls = []
    rl.dials(lambda x: calls.append(x) or {}, x=slider(1))
    assert calls == [1]


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (ipywidgets.IntSlider(min=1, max=7, step=3), [1, 4, 7]),
        (ipywidgets.FloatSlider(min=0, max=0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
        (ipywidgets.Checkbox(), [False, True]),
        (ipywidgets.Dropdown(options=["a", "b"]), ["a", "b"]),
        (ipywidgets.Dropdown(options={"a": 1, "b": 2}), [1, 2]),
        (ipywidgets.SelectionSlider(options=[("a", 1), ("b", 2)]), [1, 2]),
        (ipywidgets.Text(value="x"), ["x"]),
    ],
)
def test_stops_of_a_control(control, expected):
    assert prerendering.stops(control) == expected


def test_neighbours_come_dial_by_dial_the_nearest_first():
    controls = {"x": slider(1, max=3), "name": ipywidgets.Dropdown(options=["a", "b"])}
    near = prerendering.nearest_first(controls, {"x": 1, "name": "a"})
    assert [tuple(values.values()) for values in near] == [(0, "a"), (1, "b"), (2, "a"), (3, "a")]


def test_value_that_a_browser_rounds_is_the_same_stop():
    assert prerendering.key_of({"lam": 0.1 + 0.05}) == prerendering.key_of({"lam": 0.15})
