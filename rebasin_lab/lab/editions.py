"""Student and instructor editions of the notebooks, made from one source.

A notebook in `notebooks/` holds its exercises with folded answers, and a cell that checks one of
them. The student edition takes the answers out and leaves room: for a guess wherever the text says
*Predict*, for answers below the exercises. Its checked cell is a stub, with the check. The
instructor edition keeps the answers and fills the checked cell, so that it runs through and says
*Right*.
"""

import copy
import re
from pathlib import Path

import nbformat

from rebasin_lab import checks, paths
from rebasin_lab.lab.execution import read_notebook

EDITIONS = ("student", "instructor")

_ANSWERS = re.compile(r"<details><summary>Answers</summary>\n(.*?)</details>\n*", re.DOTALL)
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
_CHECK = "section.EXERCISE"

_MOST_BYTES = 500_000_000  # of a notebook with its outputs

# A cell of the student edition. A widget that takes a guess and holds it against the measurement
# can come in the place of the first.
_GUESS = "**Your guess**, before you run the next cell:"
_ROOM = "**Your answers**\n\n1. \n2. \n3. In the next cell."


@checks.arguments
def write_editions(folder: Path) -> list[Path]:
    """Write both editions of every notebook, as `student/` and `instructor/` in a folder.

    Args:
        folder: created if need be. A notebook that is there is not replaced by another.

    Returns:
        The files.

    Raises:
        ValueError: for a folder that the lab keeps something else in, for one with other notebooks
            of these names, and for exercises that are not as the guide has them.
        OSError: if something cannot be written.
    """
    folder = paths.checked_output(str(folder), "the place of editions")
    sources = {
        path.name: read_notebook(path) for path in sorted(paths.notebooks_dir().glob("*.ipynb"))
    }
    contents = {
        folder / edition / name: (nbformat.writes(edition_of(notebook, edition)) + "\n").encode()
        for edition in EDITIONS
        for name, notebook in sources.items()
    }
    for place, content in contents.items():
        if place.exists() and paths.read_bytes(place, _MOST_BYTES) != content:
            raise ValueError(
                f"Expected '{place}' to be new; there is another notebook, somebody's work "
                "perhaps. Choose another folder, or move that away."
            )
    for place, content in contents.items():
        paths.write_atomically(place, content)
    return [*contents]


def edition_of(notebook: nbformat.NotebookNode, edition: str) -> nbformat.NotebookNode:
    """Return an edition of a notebook; one without exercises stays as it is.

    Raises:
        ValueError: for an edition that is not one of `EDITIONS`; for exercises without answers.
    """
    checks.choice("edition", edition, EDITIONS, "a notebook")
    made = copy.deepcopy(notebook)
    if not any(_is_exercise(cell) for cell in made.cells):
        return made
    answers = _answers(made)
    made.cells = [
        each
        for cell in made.cells
        for each in (_for_student(cell) if edition == "student" else _for_instructor(cell, answers))
    ]
    nbformat.validate(made)
    return made


def _answers(notebook: nbformat.NotebookNode) -> str:
    """Return the code that answers the checked exercise."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    folded = _ANSWERS.search("\n".join(texts))
    code = _CODE.search(folded[1]) if folded else None
    if code is None:
        raise ValueError(
            "Expected folded answers with the code of the checked exercise (<details><summary>"
            "Answers</summary> ... ```python ... ``` ... </details>); the notebook has none."
        )
    return code[1]


def _for_student(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    if cell.cell_type != "markdown":
        return [cell]
    if _ANSWERS.search(cell.source):
        cell.source = _ANSWERS.sub("", cell.source)
        return [cell, _written(cell, "answers", _ROOM)]
    asks = "**Predict" in cell.source
    return [cell, _written(cell, "guess", _GUESS)] if asks else [cell]


def _for_instructor(cell: nbformat.NotebookNode, answers: str) -> list[nbformat.NotebookNode]:
    if _is_exercise(cell):
        cell.source = f"{answers}\n\n{cell.source[cell.source.index(_CHECK) :]}"
    return [cell]


def _written(after: nbformat.NotebookNode, kind: str, text: str) -> nbformat.NotebookNode:
    """Return a cell to write in; the same source gives the same bytes, so its id is not drawn."""
    cell = nbformat.v4.new_markdown_cell(text, metadata={"tags": [kind]})
    cell.id = f"{after.id[: 63 - len(kind)]}-{kind}"
    return cell


def _is_exercise(cell: nbformat.NotebookNode) -> bool:
    return "exercise" in cell.metadata.get("tags", ()) and _CHECK in cell.source
