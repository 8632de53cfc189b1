"""The pages a reader opens: every block of code on them runs, every link leads somewhere."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebasin_lab as rl
import test_imports
from rebasin_lab import cli, paths

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "notebooks/README.md",
    "notebooks/START.md",
    "figures/README.md",
    "rebasin_lab/DESIGN.md",
)
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
README = TEXTS["README.md"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE)
VARIABLES = re.findall(r"\$\((\w+)\)", MAKEFILE)


def blocks(page, *languages):
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", TEXTS[page], re.DOTALL)


SHELL_LINES = [
    line
    for page in PAGES
    for block in blocks(page, "sh", "bash")
    for line in (line.split(" #")[0].strip() for line in block.splitlines())
    if line
]


def test_the_front_page_is_short():
    assert len(README.encode()) <= 8 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path):
    """As one program: a reader types them one after the other."""
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks(page, "python")))
    ran = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "REBASIN_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


def test_every_block_is_of_a_language_that_is_tested():
    known = {"python", "sh", "text", "mermaid"}
    for page, text in TEXTS.items():
        assert {opening for opening in re.findall(r"^```(\w*)$", text, re.M) if opening} <= known
        assert len(re.findall(r"^```$", text, re.M)) == len(re.findall(r"^```\w+$", text, re.M))
        assert page == "rebasin_lab/DESIGN.md" or "```mermaid" not in text


@pytest.mark.parametrize("line", SHELL_LINES)
def test_every_shell_line_names_what_exists(line):
    words = line.split()
    if words[0] == "make":
        assert {word for word in words[1:] if re.fullmatch(r"[\w-]+", word)} <= set(TARGETS)
        assert set(re.findall(r"\b([A-Z]+)=", line)) <= set(VARIABLES)
        check_options("reproduce", re.findall(r"--[\w-]+", line))
    elif words[0].endswith("rebasin-lab"):
        check_options(words[1], [word for word in words if word.startswith("--")])
    else:
        assert line == "conda env create --file environment.yml"


def check_options(name, options):
    command = cli.main.commands[name]
    if not command.context_settings.get("ignore_unknown_options"):  # `lab` passes them on
        assert set(options) <= {each for parameter in command.params for each in parameter.opts}


def test_the_table_of_options_is_that_of_the_command():
    table = re.findall(r"^\| `(--[\w-]+)", TEXTS["notebooks/README.md"], re.M)
    shown = [each for each in cli.main.commands["reproduce"].params if not each.hidden]
    command = {option for each in shown for option in each.opts}
    assert command - {*table} == {"--profile", "--figures"}  # PROFILE of make; for tests
    assert {*table} <= command


def test_the_commands_in_the_text_exist():
    """Those in backquotes on a line, such as `make lab`."""
    for text in TEXTS.values():
        assert set(re.findall(r"`make ([\w-]+)", text)) <= set(TARGETS)
        assert set(re.findall(r"`(?:\S*/)?rebasin-lab ([\w-]+)", text)) <= set(cli.main.commands)
    assert {"make reproduce", "make test"} <= set(SHELL_LINES)


@pytest.mark.parametrize("page", PAGES)
def test_public_names_in_the_text_exist(page):
    for name in set(re.findall(r"\brl\.(\w+)", TEXTS[page])):
        assert hasattr(rl, name), name


def test_every_matcher_and_every_notebook_is_on_the_front_page():
    assert set(rl.MATCHERS) <= set(re.findall(r'`"(\w+)"`', README))
    for notebook in paths.notebooks_dir().glob("*.ipynb"):
        assert f"(notebooks/{notebook.name})" in README


def test_files_named_in_the_design_exist():
    names = re.findall(r"`([a-z]+/[\w/]+(?:\.py)?)`", TEXTS["rebasin_lab/DESIGN.md"])
    assert names
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "rebasin_lab" / name).exists(), name


def heading_ids(page):
    """The ends of links to its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_local_link_and_picture_exists(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if not re.match(r"https?:", link):
            path, _, heading = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), link
            assert not heading or heading in heading_ids(target), link


def test_the_picture_is_one_that_reproduce_made():
    (picture,) = re.findall(r"\((figures/\S+\.svg)\)", README)
    assert (ROOT / picture).with_suffix(".json").exists()


def docstring_blocks():
    """Indented paragraphs of docstrings that call the public face."""
    for path in sorted((ROOT / "rebasin_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                for block in (ast.get_docstring(node) or "").split("\n\n"):
                    lines = block.splitlines()
                    if "rl." in block and all(line.startswith("    ") for line in lines):
                        yield "\n".join(line[4:] for line in lines)


def test_calls_in_docstrings_are_calls_of_the_public_face():
    """Their arguments are only bound: what they compute is on the pages, and runs there."""
    found = 0
    for block in docstring_blocks():
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call):
                function = re.fullmatch(r"rl\.(\w+)", ast.unparse(node.func)).group(1)
                options = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(getattr(rl, function)).bind(*node.args, **options)
                found += 1
    assert found


def test_every_decision_has_evidence_and_an_alternative():
    entries = re.split(r"^### ", TEXTS["rebasin_lab/DESIGN.md"], flags=re.M)[1:]
    for entry in entries:
        assert re.findall(r"^- \*(\w+):\* ", entry, re.M) == ["Decision", "Evidence", "Alternative"]


def test_the_picture_of_the_layout_names_every_module():
    """In the order in which `tests/test_imports.py` holds them to their imports."""
    picture = blocks("rebasin_lab/DESIGN.md", "text")[0]
    for names in (*test_imports.WINGS.values(), test_imports.BASE):
        assert " ".join(names) in " ".join(picture.split())
