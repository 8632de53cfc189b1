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
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = re.findall(r"make (\w+)", str(workflow))
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands
    assert set(commands) <= set(targets)


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
