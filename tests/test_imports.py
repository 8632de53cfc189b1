"""The house plan held to the code: which room may import which, and what the front door offers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebasin_lab as rl
from rebasin_lab.paper import cache

PACKAGE = Path(rl.__file__).parent

# Each imports only those before it, and nothing else of ours.
BASE = ("texts", "strict_json", "paths", "checks", "progress", "processes")

# In reading order: a module imports those above it only. A new one gets a word here.
WINGS = {
    "": """pytrees datasets models metrics training symmetry layers matching merging
        analysis interop""".split(),
    "paper": """settings networks foreign_pair profiles fingerprints store train_many imagenet
        cache counterexample claim sections claims""".split(),
    "lab": """background_errors plots figures scenes figure_export session exploration component
        widgets preloading jupyter execution editions report runner class_kit site
        gpu_measurements gpu_check""".split(),
}
ORDER = (
    *BASE,
    *(f"{wing}.{name}".strip(".") for wing, names in WINGS.items() for name in names),
    "commands",
    "cli",
)

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def place_of(name: str) -> str:
    """`paper.claims` of `rebasin_lab.paper.claims.claim:Claim`; empty for the package itself."""
    parts = name.split(".")[1:]
    return ".".join(parts[: 2 if parts and parts[0] in WINGS else 1])


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_places(source: str) -> set[str]:
    """What a module imports of ours anywhere, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: write the full name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {place_of(name) for name in names if name.split(".")[0] == "rebasin_lab"}


def test_parser_sees_every_kind_of_import():
    source = """
import rebasin_lab.cli
from rebasin_lab import paths, models as m
from rebasin_lab.datasets.dataset import Dataset
from rebasin_lab.lab import session
def late():
    import rebasin_lab
    import numpy.rebasin_lab
"""
    assert imported_places(source) == {"cli", "paths", "models", "datasets", "", "lab.session"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_earlier_modules_only(path):
    place = place_of(module_of(path))
    if place in WINGS:  # the `__init__` of a wing
        assert imported_places(path.read_text()) == set()
        return
    assert place in ORDER, f"give the new module '{place}' its place in WINGS"
    later = imported_places(path.read_text()) - {place, *ORDER[: ORDER.index(place)]}
    assert not later, f"'{place}' imports {sorted(later)}, which come later"
    if place == "commands":  # they need the library alone
        assert not {each for each in imported_places(path.read_text()) if "." in each}
    if place in BASE:
        assert imported_places(path.read_text()) <= {*BASE}


def test_every_module_of_the_table_exists():
    assert {place_of(module_of(path)) for path in MODULES} == {*ORDER, "paper", "lab"}


def test_results_of_the_cache_know_all_code_that_they_can_call():
    later = {each.removesuffix(".py").replace("/", ".") for each in cache._LATER}
    place = ORDER.index("paper.cache")
    assert {each for each in ORDER[place + 1 :] if each not in later and each[:4] != "lab."} == {
        "paper.counterexample"  # whose functions are cached, too
    }
    assert not {each for each in ORDER[:place] if each in later}


def test_reading_order_in_the_docstring_is_the_table():
    wings = re.search(r"Three wings;.*", rl.__doc__, re.DOTALL).group()
    named = [name for name in re.findall(r"`(\w+)`", wings) if name not in ("paper", "lab")]
    assert named == [
        *(name for names in WINGS.values() for name in names),
        *BASE,
        "commands",
        "cli",
    ]


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


@pytest.mark.parametrize("old", rl._RENAMED)
def test_a_name_that_changed_is_found_with_a_warning(old):
    new = rl._RENAMED[old]
    with pytest.warns(DeprecationWarning, match=f"rl.{old} is now rl.{new}"):
        assert getattr(rl, old) is getattr(rl, new)


@pytest.mark.parametrize("name", rl._MOVED)
def test_a_module_is_found_under_its_old_name_and_the_new_one_is_said(name):
    with pytest.warns(DeprecationWarning, match=f"{name} is now rebasin_lab.{rl._MOVED[name]}"):
        module = getattr(rl, name)
    assert module.__name__ == f"rebasin_lab.{rl._MOVED[name]}"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rebasin_lab' has no attribute 'clever'"):
        rl.clever  # noqa: B018


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for name in [name for name in sys.modules if name.startswith("rebasin_lab.lab.widgets")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ModuleNotFoundError, match=r"rl.explore .* ipywidgets: install the extra \[lab"
    ):
        rl.explore  # noqa: B018


def test_import_is_silent_offline_and_needs_no_extra():
    program = """
import importlib.metadata, socket, sys
def refuse(*arguments, **options):
    raise RuntimeError("network touched at import")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
# Flax imports IPython where there is one; blocked, the lab must do without.
lab_extra = "IPython ipywidgets matplotlib papermill nbformat mlxtend pooch".split()
sys.modules |= dict.fromkeys(lab_extra)
installed = importlib.metadata.version
def version(name):
    if name in lab_extra:
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)
importlib.metadata.version = version
import rebasin_lab as rl
for name in rl.__all__:
    if not rl._MODULES[name].startswith("lab."):
        getattr(rl, name)
assert not any(map(sys.modules.get, lab_extra))
import rebasin_lab.cli
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bare_import_loads_no_library_and_every_name_on_use():
    program = """
import sys
import rebasin_lab as rl
print([name for name in ("jax", "numpy", "flax", "optax", "scipy") if name in sys.modules])
print(set(rl.__all__) <= set(dir(rl)))
rl.loss_barrier, rl.symmetry.trace_activations
print([name for name in ("flax", "scipy.optimize") if name in sys.modules])
from rebasin_lab import *
print(TrainConfig.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["[]", "True", "[]", "rebasin_lab.training.training_loop", ""]


def test_a_kernel_loads_neither_jax_nor_widgets_before_its_first_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    program = """
from IPython.core.interactiveshell import InteractiveShell
from rebasin_lab.lab import preloading
preloading.MODULES = ("no_such_module", *preloading.MODULES)
shell = InteractiveShell.instance()
shell.extension_manager.load_extension("rebasin_lab.lab.preloading")
shell.run_cell("import sys; loaded = {'matplotlib.axes', 'jax', 'ipywidgets'} & {*sys.modules}")
shell.run_cell("print(loaded)")
shell.run_cell("print('preloading' in str(get_ipython().events.callbacks['pre_execute']))")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "{'matplotlib.axes'}\nFalse\n"), done.stderr


def test_whoever_opens_jupyterlab_does_not_wait_for_what_runs_notebooks():
    program = """
import sys
from rebasin_lab import cli
from rebasin_lab.lab import jupyter
print([name for name in ("nbformat", "papermill", "jsonschema") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
