import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rebasin_lab import cli, paths
from rebasin_lab.lab import jupyter, runner


def invoke(*arguments):
    return CliRunner().invoke(cli.main, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "huge"], "Error: Expected a profile among"),
        (["--set", "widht=3"], "Error: Expected a field of the profile"),
        (["--set", "width"], "Error: Expected a parameter as name=value"),
        (["--set", "width=[1"], "Error: Expected a value in 'width="),
        (["--set", "dataset=mnits"], "Error: .*mnist"),
        (["--only", "99"], "Error: Expected the start of a notebook's name"),
        (["--jobs", "0"], "Error: Expected at least 1 job; got 0"),
        (["--timeout", "0"], "Error: Expected timeout to be minutes, above 0"),
        (["--timeout", "-1"], "Error: Expected timeout .*got -1"),
        (["--timeout", "nan"], "Error: Expected timeout .*got nan"),
        (["--timeout", "inf"], "Error: Expected timeout .*got inf"),
        (["--set", "num_jobs=2"], "Error: Expected a field .* Use --jobs for it"),
    ],
)
def test_bad_input_is_one_paragraph_without_a_traceback(arguments, message):
    result = invoke("reproduce", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert re.search(message, result.output)
    assert "Traceback" not in result.output


ESCAPES = "\x1b[2J\x07\u202e\udc80" + "x" * 100_000


@pytest.mark.parametrize(
    "arguments",
    [
        [ESCAPES],
        [f"--{ESCAPES}"],
        ["reproduce", "--profile", ESCAPES],
        ["reproduce", "--set", ESCAPES],
        ["reproduce", "--only", ESCAPES],
        ["reproduce", "--jobs", ESCAPES],
        ["reproduce", f"--{ESCAPES}"],
        ["figures", "--to", "nowhere", "--format", ESCAPES],
        ["figures", "--to", "nowhere", "--width", ESCAPES],
        ["figures", "--to", "nowhere", "--only", ESCAPES],
        ["figures", "--to", "nowhere", "--from", ESCAPES],
    ],
    ids=lambda arguments: repr(" ".join(arguments))[:40],
)
def test_no_control_character_and_no_long_text_reaches_the_terminal(arguments):
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert not set(result.output) & set("\x1b\x07\u202e\udc80")
    assert len(result.output) < 4000


def command(*arguments, **options):
    program = "from rebasin_lab import cli; cli.main()"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], **options)


@pytest.mark.parametrize("arguments", [("--help",), ("reproduce", "--dry-run")])
def test_a_reader_who_has_gone_is_no_traceback(arguments):
    started = command(*arguments)
    started.stdout.close()
    assert started.stderr.read() == ""
    assert started.wait() in (0, 1)
    started.stderr.close()


def test_an_ascii_terminal_is_no_traceback():
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"}
    _, errors = command("reproduce", "--profile", "größer", env=environment).communicate()
    assert errors.startswith("Error: Expected a profile among")
    assert "Traceback" not in errors


def test_a_missing_data_folder_is_one_paragraph(monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "nowhere"))
    result = invoke("reproduce", "--profile", "laptop")
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert "Traceback" not in result.output


def test_how_to_run_is_passed_on(monkeypatch):
    asked = {}

    def reproduce(plan, **how):
        asked.update(how, num_jobs=plan.num_jobs, timeout=plan.timeout)
        return 0

    monkeypatch.setattr(runner, "reproduce", reproduce)
    options = ("--jobs", "2", "--timeout", "0.5", "--keep-going", "--anew")
    result = invoke("reproduce", *options)
    assert result.exit_code == 0
    assert "--anew will be removed: every run executes every notebook now." in result.output
    assert asked == {"keep_going": True, "num_jobs": 2, "timeout": 0.5}
    assert invoke("reproduce").exit_code == 0
    assert asked == {"keep_going": False, "num_jobs": None, "timeout": 60}


def test_the_defaults_of_the_time_limit_are_said():
    text = invoke("reproduce", "--help").output
    week = runner.MINUTES["paper"] == 7 * 24 * 60
    assert week
    said = f"{runner.MINUTES['quick']:g}; laptop {runner.MINUTES['laptop']:g}, paper a week"
    assert said in " ".join(text.split())


@pytest.mark.parametrize("value", ["abc", "", "1e", "0x10"])
def test_a_time_limit_that_is_no_number_is_refused(value):
    result = invoke("reproduce", "--timeout", value)
    assert result.exit_code == 2
    assert "Invalid value for '--timeout'" in result.output


def test_an_interrupt_says_how_to_go_on(monkeypatch):
    def reproduce(plan, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "reproduce", reproduce)
    result = invoke("reproduce")
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.output


def test_options_of_jupyter_lab_are_passed_on(monkeypatch):
    asked = []
    monkeypatch.setattr(jupyter, "run_lab", lambda arguments: asked.append(arguments) or 3)
    assert invoke("lab", "--no-browser", "--port=9999").exit_code == 3
    assert asked == [("--no-browser", "--port=9999")]


def test_redraw_draws_every_figure_from_its_numbers(monkeypatch, tmp_path):
    folder = tmp_path / "figures" / "00_quickstart"
    folder.mkdir(parents=True)
    committed = paths.figures_dir() / "00_quickstart" / "interpolation.json"
    (folder / committed.name).write_text(committed.read_text())
    monkeypatch.setattr(paths, "figures_dir", lambda: tmp_path / "figures")
    assert invoke("redraw").exit_code == 0
    assert {path.suffix for path in folder.iterdir()} == {".json", ".svg", ".png"}


def test_figures_are_written_for_a_report_with_a_line_each(tmp_path):
    committed = paths.figures_dir() / "05_counterexample" / "slopes.json"
    source = tmp_path / "figures" / "05_counterexample" / committed.name
    source.parent.mkdir(parents=True)
    source.write_text(committed.read_text())
    options = ("--format", "pdf", "--width", "single", "--only", "slopes", "--from")
    result = invoke("figures", "--to", str(tmp_path / "paper"), *options, str(tmp_path / "figures"))
    assert result.exit_code == 0
    assert re.match(r"05_counterexample/slopes: 3\.5 x \d\.\d in, text 7\.5 pt \(", result.output)
    assert (tmp_path / "paper/05_counterexample/slopes.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "paper/figures.json").is_file()
    gallery = invoke("figures", "--to", str(tmp_path / "figures"), "--gallery")
    assert gallery.exit_code == 0
    assert (tmp_path / "figures/README.md").read_text().startswith("# Figures")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "svg,eps"], r"Error: Expected formats among svg, pdf, png.*got 'eps'"),
        (["--width", "wide"], r"Error: Expected a width among single, double, slide; got 'wide'"),
        (["--only", "pie"], r"Error: Expected the name of a figure.*got 'pie'\. There are: "),
        (["--from", "nowhere"], r"Error: Expected figures under 'nowhere'.*rebasin-lab reproduce"),
        (
            ["--gallery", "--only", "pie"],
            r"Error: Expected --gallery with --to and --page alone; got --only",
        ),
        (["--page", "here.md"], r"Error: Expected --page with --gallery"),
        (["--gallery"], r"Error: Expected figures under '.*paper'.*got none"),
    ],
)
def test_bad_export_is_one_paragraph_without_a_traceback(tmp_path, arguments, message):
    result = invoke("figures", "--to", str(tmp_path / "paper"), *arguments)
    assert result.exit_code == 1
    assert re.search(message, result.output)
    assert "Traceback" not in result.output
    assert not (tmp_path / "paper").exists()


def test_folder_that_cannot_be_written_to_is_one_paragraph(tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "paper"  # below a file
    result = invoke("figures", "--to", str(target), "--only", "05_counterexample/slopes")
    assert result.exit_code == 1
    assert re.search(
        r"Error: Expected --to to be a folder.*paper.*file' is no folder", result.output
    )
    assert "Traceback" not in result.output


def test_a_gallery_replaces_galleries_alone(tmp_path):
    committed = paths.figures_dir() / "05_counterexample" / "slopes.json"
    figure = tmp_path / "figures" / "05_counterexample" / committed.name
    figure.parent.mkdir(parents=True)
    figure.write_text(committed.read_text())
    (tmp_path / "mine.md").write_text("# My own")
    os.mkfifo(tmp_path / "pipe")
    for page in (tmp_path / "mine.md", tmp_path / "pipe", Path("/dev/null")):
        options = ("--gallery", "--to", str(tmp_path / "figures"), "--page", str(page))
        result = invoke("figures", *options)
        assert result.exit_code == 1
        assert re.search(r"Error: Expected no file, or a gallery to write anew", result.output)
    assert (tmp_path / "mine.md").read_text() == "# My own"
    for _ in range(2):
        options = ("--gallery", "--to", str(tmp_path / "figures"), "--page", str(tmp_path / "g.md"))
        assert invoke("figures", *options).exit_code == 0


def test_help_names_the_commands():
    assert all(command in invoke("--help").output for command in ("reproduce", "lab", "figures"))
