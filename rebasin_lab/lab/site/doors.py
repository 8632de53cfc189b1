"""Doors to Binder and Colab, at the version of the code that the site was built from.

Binder builds `environment.yml`, with its pins. Colab opens one notebook alone and installs nothing,
so the site has a copy of each notebook with a first cell that does; notebooks of the repository
need none. The cell pins this package alone: Colab's own kernel, and JAX for its GPU, have versions
that must stay as they are.
"""

import importlib.metadata
import re
import subprocess
from typing import NamedTuple
from urllib.parse import quote

import nbformat

from rebasin_lab import paths

BRANCH = "gh-pages"  # of the repository, where the site is published
PACKAGE = "rebasin_lab"
EXTRA = "colab"


class Doors(NamedTuple):
    """Where notebooks can be opened without installing anything.

    Attributes:
        repository: its address.
        version: a commit, or a tag where the code is in no Git repository.
    """

    repository: str
    version: str

    @classmethod
    def of_this_version(cls) -> "Doors":
        """Return those of the code that runs."""
        metadata = importlib.metadata.metadata(PACKAGE)
        urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL"))
        return cls(urls["Repository"], _commit() or f"v{metadata['Version']}")

    def binder(self, notebook: str) -> str:
        """Return the address of a notebook on Binder, in JupyterLab."""
        place = quote(f"lab/tree/notebooks/{notebook}.ipynb", safe="")
        return f"https://mybinder.org/v2/gh/{self._name}/{self.version}?urlpath={place}"

    def colab(self, notebook: str) -> str:
        """Return the address of a notebook's copy in Colab."""
        start = "https://colab.research.google.com/github"
        return f"{start}/{self._name}/blob/{BRANCH}/colab/{notebook}.ipynb"

    def colab_copy(self, notebook: nbformat.NotebookNode) -> str:
        """Return a notebook, as a file's content, that installs this package first."""
        cell = nbformat.v4.new_code_cell(
            f'%pip install --quiet "{PACKAGE}[{EXTRA}] @ git+{self.repository}@{self.version}"',
            id="install",
        )
        copy = nbformat.from_dict({**notebook, "cells": [cell, *notebook.cells]})
        copy.nbformat_minor = max(copy.nbformat_minor, 5)  # cells have ids since then
        return nbformat.writes(copy) + "\n"

    @property
    def _name(self) -> str:
        return self.repository.removeprefix("https://github.com/")


def _commit() -> str:
    """Return the commit of the checkout; "" if there is none."""
    command = ["git", "-C", str(paths.project_dir()), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = done.stdout.strip()
    return found if done.returncode == 0 and re.fullmatch(r"[0-9a-f]{40,64}", found) else ""
