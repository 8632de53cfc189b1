"""The README is the front door: every block of it runs, every link of it leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rebasin_lab import paths

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_python_blocks_run_in_order(tmp_path):
    """As one program: a reader types them one after the other."""
    program = tmp_path / "readme.py"
    program.write_text("\n".join(PYTHON_BLOCKS))
    assert PYTHON_BLOCKS
    ran = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("line", SHELL_LINES)
def test_every_shell_line_names_something_that_exists(line):
    words = [word for word in line.split() if "=" not in word or word.startswith("-")]
    if words[0] == "make":
        assert set(words[1:]) <= set(TARGETS)
    elif words[0].endswith("rebasin-lab"):
        from rebasin_lab import cli

        command = cli.main.commands[words[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
    elif words[0] == "conda":
        assert "environment.yml" in line or "activate" in line
    else:
        assert words[0] in ("git", "cd", "pip"), line


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README


def test_the_two_commands_are_there():
    assert {"make reproduce", "make test"} <= set(SHELL_LINES)


def test_every_local_link_and_picture_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^":]+)"', README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_picture_is_one_that_reproduce_made():
    pictures = re.findall(r"\((figures/\d[^)]+)\)", README)  # not those of `make screenshots`
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).with_suffix(".json").exists()


def test_every_notebook_is_listed():
    for notebook in paths.notebooks_dir().glob("*.ipynb"):
        assert f"(notebooks/{notebook.name})" in README
