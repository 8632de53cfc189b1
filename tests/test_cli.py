import re

import pytest
from click.testing import CliRunner

from rebasin_lab import cli, paths


def invoke(*arguments):
    return CliRunner().invoke(cli.main, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "huge"], "Error: Expected a profile among"),
        (["--set", "widht=3"], "Error: Expected a parameter of the chosen notebooks"),
        (["--set", "width"], "Error: Expected a parameter as name=value"),
        (["--set", "width=[1"], "Error: Expected a value in 'width="),
        (["--set", "dataset=mnits"], "Error: .*mnist"),
        (["--only", "99"], "Error: Expected the start of a notebook's name"),
    ],
)
def test_bad_input_is_one_paragraph_without_a_traceback(arguments, message):
    result = invoke("reproduce", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert re.search(message, result.output)
    assert "Traceback" not in result.output


def test_a_missing_data_folder_is_one_paragraph(monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "nowhere"))
    result = invoke("reproduce", "--profile", "laptop")
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert "Traceback" not in result.output


def test_redraw_draws_every_figure_from_its_numbers(monkeypatch, tmp_path):
    folder = tmp_path / "figures" / "00_quickstart"
    folder.mkdir(parents=True)
    committed = paths.figures_dir() / "00_quickstart" / "interpolation.json"
    (folder / committed.name).write_text(committed.read_text())
    monkeypatch.setattr(paths, "figures_dir", lambda: tmp_path / "figures")
    assert invoke("redraw").exit_code == 0
    assert {path.suffix for path in folder.iterdir()} == {".json", ".svg", ".png"}


def test_help_names_the_commands():
    assert all(command in invoke("--help").output for command in ("reproduce", "redraw"))
