"""Notebooks one can teach from: the guide's limits, for every notebook of a section.

A notebook reads as sentences: short cells, one question, no typed results, an exercise that is
checked. What is measured, drawn and claimed is the section's (`rebasin_lab.paper.sections`).
"""

import re

import nbformat
import numpy as np
import pytest

from rebasin_lab import paths
from rebasin_lab.paper.sections import SECTIONS

NOTEBOOKS = sorted(SECTIONS)
# Cells that may be longer: the algorithm is the lesson, or the code is the reader's.
LONGER = {"lesson", "exercise"}
IN_THE_SECTION = ("caption=", "alt=", "claim_ids", "json", "size=", "bar(", "run.check(", "figsize")
MANNERED = r"melt|modest|boast|mush|noise follow|whoever|nobody knows|confess"
# What is a name and not a result: code, formulas, links, places in the paper, shapes of data.
NAMES = (
    r"```.*?```",
    r"`[^`]*`",
    r"\$[^$]*\$",
    r"\]\([^)]*\)",
    r"(?:[Ss]ections?|[Aa]ppendix|Definition|Conjecture|Lemma|Theorem|Algorithms?|Fig\.|Figures?|"
    r"Tables?|Equation)\s+[A-Z]?\.?\d[\d.]*(?:(?:,| and| to)\s+[A-Z]?\.?\d[\d.]*)*",
    r"\b[A-Z]\.\d+(?:\.\d+)*",
)


def cells(name, kind=None):
    every = nbformat.read(paths.notebooks_dir() / f"{name}.ipynb", as_version=4).cells
    return [cell for cell in every if kind in (None, cell.cell_type)]


def tags(cell):
    return set(cell.metadata.get("tags", ()))


def lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def unfolded(text):
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


def words(text):
    return re.findall(r"[^\s#*|>-]\S*", text)


def typed_numbers(text):
    """Numbers that read like results: decimals, and any with a unit of one."""
    for name in NAMES:
        text = re.sub(name, " ", text, flags=re.DOTALL)
    return re.findall(r"\d+\.\d+|\d+ ?(?:%|nats|points|per cent|seconds)", text)


def test_typed_numbers_are_seen_and_names_are_not():
    assert typed_numbers("it leaves 0.03 nats of 12 %") == ["0.03", "12 %"]
    assert typed_numbers("section 5.3, Fig. 4, appendix A.1 and A.7.2, `0.5`, $0.5$") == []
    assert typed_numbers("sections 5.1 and 5.2; Table 3; Definition 2.2; ten images") == []


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestGuide:
    def test_it_takes_twenty_minutes(self, name):
        assert 12 <= len(cells(name)) <= 18
        assert sum(len(lines(cell)) for cell in cells(name, "code")) <= 120
        assert sum(len(words(cell.source)) for cell in cells(name, "markdown")) <= 900

    def test_a_cell_is_a_sentence(self, name):
        for cell in cells(name, "code"):
            assert len(lines(cell)) <= (15 if tags(cell) & LONGER else 8), cell.source
        for cell in cells(name, "markdown"):
            assert len(words(unfolded(cell.source))) <= 90, cell.source

    def test_it_asks_one_question_and_ends_as_all_do(self, name):
        first = cells(name)[0].source
        assert first.startswith("# ")
        assert "?" in first
        text = "\n".join(cell.source for cell in cells(name))
        assert text.index("## What to take away") < text.index("## Exercises")
        assert text.count("run.show_claims()") == 1
        assert text.count("<summary>Answers</summary>") == 1
        assert text.count("**Next:**") == 1
        assert "**Predict" in text

    def test_results_are_printed_by_the_run_and_not_typed(self, name):
        cited = " ".join([*(claim.paper for claim in SECTIONS[name].CLAIMS), *papers(name)])
        for cell in cells(name, "markdown"):
            typed = [number for number in typed_numbers(cell.source) if number not in cited]
            assert not typed, cell.source

    def test_captions_claims_and_progress_are_in_the_section(self, name):
        source = "\n".join(cell.source for cell in cells(name, "code"))
        assert not [word for word in IN_THE_SECTION if word in source]
        assert f"import {SECTIONS[name].__name__.rpartition('.')[2]} as section" in source

    def test_figures_of_a_larger_profile_are_kept_here(self, name):
        source = "\n".join(cell.source for cell in cells(name, "code"))
        for figure in re.findall(r"""show_stored\(['"](\w+)""", source):
            assert (paths.figures_dir() / "laptop" / name / f"{figure}.json").is_file()

    def test_it_is_plain(self, name):
        for cell in cells(name, "markdown"):
            assert not re.search(MANNERED, cell.source), cell.source

    def test_its_exercise_waits_for_the_reader_and_takes_the_folded_answer(self, name):
        (stub,) = (cell.source for cell in cells(name, "code") if "exercise" in tags(cell))
        assert ".check(" in stub
        section = SECTIONS[name]
        assert "**Your turn.**" in run_exercise(stub, section)
        folded = "\n".join(cell.source for cell in cells(name, "markdown"))
        answer = re.search(r"<details>.*```python\n(.*?)```.*</details>", folded, re.DOTALL).group(
            1
        )
        check = stub[stub.index("section.EXERCISE") :]
        assert "**Right**" in run_exercise(f"{answer}\n{check}", section)
        wrong = re.sub(r"return .*", "return 12345.0", answer, count=0)
        assert "**Not yet.**" in run_exercise(f"{wrong}\n{check}", section)


def papers(name):
    """Numbers of the paper that a notebook cites beside those of its claims, as texts."""
    return getattr(SECTIONS[name], "CITED", ())


def run_exercise(source, section):
    """The value of the last line of a cell."""
    *body, last = source.strip().splitlines()
    names = {"np": np, "section": section}
    exec("\n".join(body), names)
    return eval(last, names)
