import io
import json
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rebasin_lab import claims, paths, runner

PARAMETERS = """
profile: str = "quick"  # sizes
width: int = 0  # units
run_dir: str = ""
figures_dir: str = ""
interactive: bool = True
"""

MEASURE = """
import json, pathlib
folder = pathlib.Path(run_dir) / "claims"
folder.mkdir(exist_ok=True)
(folder / "{notebook}.json").write_text(json.dumps({{"table1-mlp": [{value}]}}))
"""

SWALLOWED = """
import ipywidgets
output = ipywidgets.Output()
with output:
    raise KeyError("lost inside a widget")
"""


@pytest.fixture
def sequence(tmp_path, monkeypatch):
    """Writes notebooks of given code cells and makes them the sequence."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(paths, "notebooks_dir", lambda: folder)

    def write(kernel="python3", **notebooks):
        for name, sources in notebooks.items():
            parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
            cells = [parameters, *map(new_code_cell, sources)]
            metadata = {
                "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}
            }
            nbformat.write(
                new_notebook(cells=cells, metadata=metadata), folder / f"{name.lstrip('n')}.ipynb"
            )

    return write


def reproduce(**options):
    out = io.StringIO()
    status = runner.reproduce(runner.plan_run(**options), out=out)
    return status, out.getvalue()


@pytest.mark.slow
def test_a_failing_notebook_stops_the_run_and_keeps_what_ran(sequence):
    sequence(
        n00_first=[MEASURE.format(notebook="00_first", value=3498)],
        n01_second=["x = 1", "raise ValueError(f'width {width} is no good')"],
        n02_third=["pass"],
    )
    status, text = reproduce(parameters={"width": 7})
    run_dir = paths.runs_dir() / "quick-changed"
    assert status == 1
    assert "[1/3] 00_first" in text
    assert "02_third" not in text
    assert "FAILED: 01_second: In [4]: ValueError: width 7 is no good" in text
    assert (run_dir / "00_first.ipynb").exists()
    assert "width 7 is no good" in (run_dir / "01_second.log").read_text()
    board = json.loads((run_dir / "scoreboard.json").read_text())
    rows = {row["claim"]: row for row in board["claims"]}
    assert rows["table1-mlp"]["status"] == "not tested: settings changed"
    assert rows["table1-vgg16"]["status"] == "not run"
    assert board["notebooks"][1]["error"].startswith("In [4]")


@pytest.mark.slow
def test_an_error_swallowed_by_a_widget_fails_the_run(sequence):
    sequence(n00_widget=[SWALLOWED])
    status, text = reproduce()
    assert status == 1
    assert "inside a widget: KeyError: 'lost inside a widget'" in text


@pytest.mark.slow
def test_a_kernel_that_dies_is_an_outcome_that_names_its_cell(sequence):
    sequence(n00_dies=["import os\nos.kill(os.getpid(), 9)"], n01_next=["pass"])
    status, text = reproduce()
    assert status == 1
    assert "FAILED: 00_dies: in the cell beginning 'import os': DeadKernelError" in text
    assert "01_next" not in text


@pytest.mark.slow
def test_a_foreign_kernel_name_is_no_obstacle_and_the_kernel_is_this_python(sequence):
    check = "import sys; assert sys.executable == {!r}, sys.executable"
    sequence(kernel="somebodys-conda", n00_any=[check.format(sys.executable)])
    status, text = reproduce()
    assert status == 0, text


@pytest.mark.slow
def test_results_of_an_earlier_run_do_not_pass_for_this_one(sequence):
    sequence(n00_first=[MEASURE.format(notebook="00_first", value=3498)])
    assert reproduce()[0] == 0
    sequence(n00_first=["raise RuntimeError"])
    status, _ = reproduce()
    board = json.loads((paths.runs_dir() / "quick" / "scoreboard.json").read_text())
    assert status == 1
    assert {row["status"] for row in board["claims"]} == {"not run"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"widht": 3}}, r"Expected a parameter.*width.*got 'widht'"),
        ({"parameters": {"run_dir": "x"}}, "got 'run_dir'"),
        ({"parameters": {"width": "wide"}}, "Expected width to be a positive int"),
        ({"profile": "huge"}, "Expected a profile among"),
        ({"only": ["07"]}, "Expected the start of a notebook's name .*00_first.*got '07'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(sequence, options, message):
    sequence(n00_first=["raise AssertionError"])
    with pytest.raises(ValueError, match=message):
        reproduce(**options)
    assert not (paths.runs_dir() / "quick").exists()


def test_missing_data_is_said_before_anything_runs(sequence, tmp_path, monkeypatch):
    sequence(n00_first=["raise AssertionError"])
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        reproduce(profile="laptop")


def test_no_notebooks_says_where_they_are_expected(sequence):
    with pytest.raises(FileNotFoundError, match="Run this from a checkout"):
        runner.notebook_sequence()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("width=64", 64),
        ("rate=1e-3", 1e-3),
        ("rate=0.5", 0.5),
        ("dataset=mnist", "mnist"),
        ("dataset=fashion_mnist", "fashion_mnist"),
        ("interactive=true", True),
        ("seeds=[1, 2]", [1, 2]),
        ("name=a=b", "a=b"),
    ],
)
def test_parameters_have_the_type_they_look_like(text, value):
    name, parsed = runner.parse_parameter(text)
    assert name == text.partition("=")[0]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "name=value; got 'width'"),
        ("width=[1", "cannot be read"),
        ("width=[1e", "cannot be read"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        runner.parse_parameter(text)


@pytest.mark.parametrize(
    ("options", "run", "tracked"),
    [
        ({}, "quick", True),
        ({"only": ["00"]}, "quick-partial", True),
        ({"parameters": {"width": 8}}, "quick-changed", False),
        ({"run_name": "mine"}, "mine", True),
    ],
)
def test_only_quick_as_it_stands_draws_the_tracked_figures(sequence, options, run, tracked):
    sequence(n00_first=["pass"])
    plan = runner.plan_run(**options)
    assert plan.run_dir == paths.runs_dir() / run
    home = paths.figures_dir() if tracked else plan.run_dir / "figures"
    assert plan.figures_dir == home


def test_the_scoreboard_names_every_claim_with_paper_measured_and_tolerance():
    results = claims.scoreboard("quick", {"table1-resnet50": [25638.0], "table1-mlp": [3498.0]})
    text = runner.format_scoreboard(results, "quick profile")
    assert text.startswith("Scoreboard, quick profile\n1 reproduced, ")
    assert "1 not reproduced" in text.splitlines()[1]
    for claim in claims.CLAIMS.values():
        assert claim.quantity in text
    assert "paper 55109 | measured 25638 | must be equal to 55109 | not reproduced" in text
