"""The house plan held to the code: which room may import which, and what the front door offers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebasin_lab as rl
from rebasin_lab import records

PACKAGE = Path(rl.__file__).parent

# Each imports only those before it, so any room may use it.
STANDALONE = ("texts", "bounded_json", "paths", "checks", "progress", "unheard", "endings")

# In reading order: a room imports rooms above it only. A new module gets a line here.
ROOMS = (
    "pytrees",
    "datasets",
    "models",
    "evaluation",
    "augmentation",
    "training",
    "checkpoints",
    "symmetry",
    "matching",
    "interpolation",
    "merging",
    "collapse",
    "calibration",
    "comparison",
    "counterexample",
    "identity",
    "experiments",
    "sweeps",
    "published",
    "records",
    "exploration",
    "claims",
    "plots",
    "figures",
    "figure_export",
    "runs",
    "widgets",
    "lab",
    "execution",
    "report",
    "runner",
    "gpu_check",
    "cli",
)

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source: str) -> set[str]:
    """Rooms that a module imports anywhere, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: write the full name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return {part[1] if part[1:] else "" for part in parts if part[0] == "rebasin_lab"}


def test_parser_sees_every_kind_of_import():
    source = """
import rebasin_lab.cli
from rebasin_lab import paths, models as m
from rebasin_lab.datasets.dataset import Dataset
def late():
    import rebasin_lab
    import numpy.rebasin_lab
"""
    assert imported_rooms(source) == {"cli", "paths", "models", "datasets", ""}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_earlier_rooms_only(path):
    room = room_of(path)
    imported = imported_rooms(path.read_text()) - {room}
    if room in STANDALONE:
        assert imported <= {*STANDALONE[: STANDALONE.index(room)]}
        return
    assert room in ROOMS, f"give the new room '{room}' its place in ROOMS (and in HOUSE.md)"
    allowed = {*STANDALONE, *ROOMS[: ROOMS.index(room)]}
    assert imported <= allowed, f"'{room}' imports {sorted(imported - allowed)}, which come later"


def test_records_depend_on_the_rooms_above_them():
    place = ROOMS.index("records")
    assert records._LATER_ROOMS == ROOMS[place + 1 :]


def test_every_room_of_the_table_exists():
    assert {room_of(path) for path in MODULES} == {*STANDALONE, *ROOMS}


def test_reading_order_in_the_docstring_is_the_table():
    order = re.search(r"reading order:(.*?)\.\s", rl.__doc__, re.DOTALL).group(1)
    assert tuple(re.findall(r"`(\w+)`", order)) == ROOMS


def test_no_module_defers_its_annotations():
    # `from __future__ import annotations` would switch jaxtyping's run-time checks off.
    late = [path.name for path in MODULES if "from __future__" in path.read_text()]
    assert late == []


def test_public_face_is_there():
    fixed = """load_dataset build_model train TrainConfig PermutationSpec log10_num_symmetries
        random_permutation apply_permutation invert_permutation compose_permutations match
        MatchingResult interpolation_curve loss_barrier""".split()
    assert set(fixed) <= set(rl.__all__)


@pytest.mark.parametrize("name", rl.__all__)
def test_public_name_resolves(name):
    assert getattr(rl, name) is not None


def test_public_names_are_sorted_and_unique():
    assert sorted(set(rl.__all__)) == sorted(rl.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rebasin_lab' has no attribute 'clever'"):
        rl.clever  # noqa: B018


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for name in [name for name in sys.modules if name.startswith("rebasin_lab.widgets")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ModuleNotFoundError, match=r"rl.explore .* ipywidgets: install the extra \[lab"
    ):
        rl.explore  # noqa: B018


def test_import_is_silent_offline_and_needs_no_extra():
    program = """
import socket, sys
def refuse(*arguments, **options):
    raise RuntimeError("network touched at import")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
# Flax imports IPython where there is one; blocked, the lab must do without.
lab_extra = ["IPython", "ipywidgets", "papermill", "nbformat", "mlxtend", "pooch"]
sys.modules |= dict.fromkeys(lab_extra)
import rebasin_lab
assert not any(map(sys.modules.get, lab_extra))
assert "matplotlib" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_whoever_opens_jupyterlab_does_not_wait_for_what_runs_notebooks():
    program = """
import sys
from rebasin_lab import cli, lab
print([name for name in ("nbformat", "papermill", "jsonschema") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
