"""Student and instructor editions: one source, two sets of valid notebooks."""

import json
import re

import nbformat
import numpy as np
import papermill
import pytest
from click.testing import CliRunner

from rebasin_lab import cli, paths
from rebasin_lab.lab import editions
from rebasin_lab.paper.sections import SECTIONS

SOURCES = sorted(paths.notebooks_dir().glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editions")
    editions.write_editions(folder)
    return folder


def read(folder, edition, name):
    path = folder / edition / name
    nbformat.validate(json.loads(path.read_text()))  # also that no two cells share an id
    notebook = nbformat.read(path, as_version=4)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    return notebook.cells


def folded(source):
    text = "\n".join(cell.source for cell in nbformat.read(source, 4).cells)
    return "".join(re.findall(r"<details>(.*?)</details>", text, re.DOTALL))


def exercise(cells):
    (cell,) = (cell for cell in cells if "exercise" in cell.metadata.get("tags", ()))
    return cell.source


def checked(source, section):
    *body, last = source.strip().splitlines()
    names = {"np": np, "section": section}
    exec("\n".join(body), names)
    return eval(last, names)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
class TestEditions:
    def test_the_student_edition_holds_no_line_of_an_answer(self, folder, source):
        text = "\n".join(cell.source for cell in read(folder, "student", source.name))
        assert "<details>" not in text
        assert "Answers</summary>" not in text
        for line in folded(source).splitlines():
            is_task = line.strip().startswith("def ") or line.strip() in text_of_stub(source)
            assert len(line) < 15 or is_task or line not in text

    def test_both_say_what_the_source_says(self, folder, source):
        cells = nbformat.read(source, 4).cells
        teacher = read(folder, "instructor", source.name)
        assert [one.cell_type for one in teacher] == [one.cell_type for one in cells]
        given = [one.source for one in read(folder, "student", source.name)]
        for cell in cells:
            assert editions._ANSWERS.sub("", cell.source) in given

    def test_a_student_has_room_below_what_is_asked(self, folder, source):
        cells = read(folder, "student", source.name)
        for cell, after in zip(cells, cells[1:], strict=False):
            if "**Predict" in cell.source and cell.cell_type == "markdown":
                assert after.source.startswith("**Your ")

    def test_the_same_source_gives_the_same_bytes(self, folder, source):
        before = (folder / "student" / source.name).read_bytes()
        editions.write_editions(folder)
        assert (folder / "student" / source.name).read_bytes() == before


def text_of_stub(source):
    cells = nbformat.read(source, 4).cells
    return "\n".join(c.source for c in cells if "exercise" in c.metadata.get("tags", ()))


@pytest.mark.parametrize("name", SECTIONS)
def test_the_checked_cell_waits_for_a_student_and_is_right_for_an_instructor(folder, name):
    section = SECTIONS[name]
    student = exercise(read(folder, "student", f"{name}.ipynb"))
    assert "**Your turn.**" in str(checked(student, section))
    teacher = exercise(read(folder, "instructor", f"{name}.ipynb"))
    assert "**Right**" in str(checked(teacher, section))


def test_the_work_of_a_student_is_not_replaced(tmp_path):
    editions.write_editions(tmp_path)
    place = tmp_path / "student" / SOURCES[0].name
    place.write_text(place.read_text().replace("1. ", "1. It is the order.", 1))
    mine = place.read_bytes()
    with pytest.raises(ValueError, match="somebody's work"):
        editions.write_editions(tmp_path)
    assert place.read_bytes() == mine


def test_the_command_says_where_they_are(tmp_path):
    result = CliRunner().invoke(cli.main, ["editions", "--to", str(tmp_path / "class")])
    assert result.exit_code == 0, result.output
    assert result.output.count(f": {len(SOURCES)} notebooks") == 2
    refused = CliRunner().invoke(cli.main, ["editions", "--to", str(paths.notebooks_dir())])
    assert refused.exit_code == 1
    assert "Error: Expected the place of editions" in refused.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00_quickstart", "05_counterexample"])
def test_the_instructor_edition_runs_through(folder, tmp_path, name):
    places = {"run_dir": str(tmp_path / "run"), "figures_dir": str(tmp_path / "figures")}
    executed = papermill.execute_notebook(
        folder / "instructor" / f"{name}.ipynb",
        tmp_path / f"{name}.ipynb",
        parameters={"settings": {"trial": True, "interactive": False, **places}},
        kernel_name="python3",
        progress_bar=False,
    )
    assert "**Right**" in str(executed.cells[-1].outputs)
