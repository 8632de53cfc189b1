"""A page of all figures in a folder, for people who look before they read."""

import itertools
import json
from pathlib import Path

from rebasin_lab import claims, figures, paths
from rebasin_lab.figure_export import snippets

PAGE = "README.md"


def write_gallery(directory: Path) -> Path:
    """Write a Markdown page of the figures under a folder: by notebook, with captions and claims.

    It has no date, so it changes only if a figure does. The pictures shown are those in the folder.

    Args:
        directory: a folder as `figures/` is, or as an export writes.

    Returns:
        The path of the page.

    Raises:
        ValueError: if there is no figure.
        OSError: if the page cannot be written.
    """
    saved = figures.saved_figures(directory)
    if not saved:
        raise ValueError(
            f"Expected figures under '{directory}', as in NOTEBOOK/NAME.json; got none. Run "
            "'rebasin-lab reproduce' first, or name another folder."
        )
    by_notebook = {
        name: list(group) for name, group in itertools.groupby(saved, lambda path: path.parent.name)
    }
    lines = [
        "# Figures",
        "",
        f"{len(saved)} figures of {len(by_notebook)} notebooks. Each is drawn from the numbers "
        "beside it, which say how they came about; captions name the profile of the run. Written "
        "by `rebasin-lab figures --gallery`.",
        "",
    ]
    for notebook, group in by_notebook.items():
        lines += _section(directory, notebook, group)
    page = directory / PAGE
    paths.write_atomically(page, ("\n".join(lines).rstrip("\n") + "\n").encode())
    return page


def _section(directory: Path, notebook: str, group: list[Path]) -> list[str]:
    heading = f"## {snippets.markdown_text(notebook)}"
    source = f"../notebooks/{notebook}.ipynb"
    has_source = (directory / source).is_file()
    lines = [heading, "", *([f"[The notebook]({source})", ""] if has_source else [])]
    for path in group:
        lines += _figure(path)
    return lines


def _figure(path: Path) -> list[str]:
    record = json.loads(path.read_text())
    link = f"{path.parent.name}/{path.stem}"
    kinds = [kind for kind in ("svg", "png", "pdf") if path.with_suffix(f".{kind}").is_file()]
    texts = {"caption": record["caption"], "alt": record["alt"]}
    lines = [f"### {snippets.markdown_text(path.stem)}", ""]
    if kinds and kinds[0] != "pdf":
        lines += snippets.markdown_figure(f"{link}.{kinds[0]}", **texts).splitlines()
    else:
        lines.append(snippets.markdown_text(record["caption"]))
    lines += ["", *[_claim(claim) for claim in record["claims"]]]
    files = [f"[numbers]({link}.json)", *(f"[{kind.upper()}]({link}.{kind})" for kind in kinds)]
    return [*lines, *([""] if record["claims"] else []), " · ".join(files), ""]


def _claim(claim: str) -> str:
    """A line of a list; of a claim that is no longer kept, its id."""
    known = claims.CLAIMS.get(claim)
    if known is None:
        return f"- claim `{claim}`"
    section = snippets.markdown_text(known.section)
    return f"- claim `{claim}` ({section}): {snippets.markdown_text(known.statement)}"
