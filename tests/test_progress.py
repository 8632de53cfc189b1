import io
import sys

import pytest

from rebasin_lab import progress


def run(style, monkeypatch, seconds=0.0):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    with progress.progress_bar(3, "training seed 0", style=style) as bar:
        for loss in (3, 2, 1):
            bar.set_postfix_str(f"loss {loss}", refresh=False)
            bar.update(1)
    return out.getvalue()


def test_lines_are_lines_and_the_last_one_is_complete(monkeypatch):
    lines = run("lines", monkeypatch).splitlines()
    assert all(line.startswith("training seed 0: ") for line in lines)
    assert all(map(progress.is_line, lines))
    assert not progress.is_line("test accuracy of B: 3/4")
    assert lines[-1].startswith("training seed 0: 3/3 in ")
    assert "loss 1" in lines[-1]


def test_a_description_is_text_in_one_line(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress_bar(2, "training a\x1b[2J\nb\u202e", style="lines") as bar:
        bar.update(1)
    assert out.getvalue().startswith("training a\\nb\\u202e: ")


def test_quick_work_prints_nothing(monkeypatch):
    assert run("lines", monkeypatch, seconds=5.0) == ""


def test_a_resumed_bar_starts_where_it_was(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress_bar(5, "training", done=3, style="lines") as bar:
        bar.update(1)
    assert "4/5" in out.getvalue()


def test_silent_prints_nothing(monkeypatch, capsys):
    assert run("silent", monkeypatch) == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("terminal", "bar"), [(True, True), (False, False)])
def test_auto_draws_a_bar_only_where_is_interactive(monkeypatch, terminal, bar):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert progress._is_interactive() == bar
