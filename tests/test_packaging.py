"""One source of truth for versions: pyproject.toml has the bounds, constraints.txt the pins."""

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    requirement.name.lower().replace("_", "-"): requirement
    for requirement in map(Requirement, (ROOT / "constraints.txt").read_text().split("\n")[:-1])
}


def declared(*extras):
    names = [*PROJECT["dependencies"], *(r for extra in extras for r in EXTRAS[extra])]
    return [Requirement(text) for text in names]


@pytest.mark.parametrize("requirement", declared("lab", "test"), ids=str)
def test_every_declared_dependency_is_pinned_within_its_bounds(requirement):
    pin = PINS[requirement.name.lower()]
    version = next(iter(pin.specifier)).version
    assert requirement.specifier.contains(version)
    assert not any(s.operator in ("==", "<", "<=", "~=") for s in requirement.specifier), (
        "the package's own bounds stay open; pins belong in constraints.txt"
    )


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


def test_citation_and_package_have_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_every_extra_of_the_house_is_there():
    assert {"lab", "test", "cuda12", "cuda13"} <= EXTRAS.keys()
    assert all(
        requirement.startswith(f"jax[{extra}]")
        for extra in ("cuda12", "cuda13")
        for requirement in EXTRAS[extra]
    )


@pytest.mark.skipif(not os.environ.get("CI"), reason="only CI promises the pins")
def test_ci_runs_what_the_lock_pins():
    for requirement in declared("lab", "test"):
        pin = next(iter(PINS[requirement.name.lower()].specifier))
        assert Version(importlib.metadata.version(requirement.name)) == Version(pin.version)


def test_the_workflow_and_the_make_targets_agree():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for workflow in ("ci.yml", "gpu.yml"):
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
    readme = (ROOT / "README.md").read_text()
    binder, colab = re.findall(r"https://(?:mybinder|colab)\S+", readme)
    assert (ROOT / "environment.yml").is_file()  # at the root, where Binder looks for it
    assert re.match(r"https://mybinder\.org/v2/gh/OWNER/NAME/main\?urlpath=lab/tree/", binder)
    for door, before in ((binder, "lab/tree/"), (colab, "blob/main/")):
        assert (ROOT / door.partition(before)[2]).is_file()
    extra = re.search(r"rebasin_lab\[(\w+)\] @ git", readme).group(1)
    assert extra in EXTRAS
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as true
