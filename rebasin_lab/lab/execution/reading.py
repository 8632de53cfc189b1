"""Read a notebook file, which may be half written, of another version, or no notebook."""

import warnings
from pathlib import Path

import nbformat

from rebasin_lab import paths

MOST_BYTES = 500_000_000  # of a notebook with its outputs


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Return a notebook of format 4, valid by its schema.

    Raises:
        ValueError: for any other file.
        OSError: if there is no such file, or it cannot be read.
    """
    content = paths.read_json(path, MOST_BYTES)
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        version = content.get("nbformat", "none") if isinstance(content, dict) else "none"
        raise ValueError(f"Expected '{path}' to be a notebook of format 4; its format is {version}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of cells without ids: they are given some
            nbformat.validate(content)
            return nbformat.v4.to_notebook(content)
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"Expected '{path}' to be a notebook of format 4; it breaks the schema: {reason}"
        ) from error


def notebook_there(path: Path) -> nbformat.NotebookNode | None:
    """Return the same, or None for a file that is missing, cut short, or no notebook."""
    try:
        return read_notebook(path)
    except (OSError, ValueError):
        return None
