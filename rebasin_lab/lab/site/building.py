"""Build the site: lay out the sources, run Sphinx, add files, look for dead links."""

import io
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx
from sphinx.util import docutils

from rebasin_lab import checks, paths, texts
from rebasin_lab.lab import report
from rebasin_lab.lab.execution import read_notebook
from rebasin_lab.lab.jupyter import START_PAGE
from rebasin_lab.lab.runner import notebook_sequence
from rebasin_lab.lab.site import doors, links, notebooks, pages, static_widgets

TEMPLATES = Path(__file__).with_name("templates")
MARK = ".rebasin_site"  # a folder with this file may be built anew

# Of the repository, at the same place in the sources; and all pages in the folder of notebooks.
_DOCUMENTS = ("README.md", "LICENSE", "CITATION.cff", "rebasin_lab/DESIGN.md")


class Site(NamedTuple):
    """A site that was built.

    Attributes:
        folder: with its index.html.
        num_pages: HTML pages.
        num_bytes: of all files.
        seconds: that building took.
        warnings: of Sphinx, one a line.
        dead_links: as `links.dead_links` returns them.
    """

    folder: Path
    num_pages: int
    num_bytes: int
    seconds: float
    warnings: list[str]
    dead_links: list[str]


@checks.arguments
def build_site(run_name: str = "quick", to: str | Path | None = None) -> Site:
    """Build the pages of a run.

    Notebooks that the run does not have are shown as they stand, without outputs.

    Args:
        run_name: a folder under `runs/` with a scoreboard and executed notebooks.
        to: the folder to write; by default `site` in the run's folder. An earlier site there is
            replaced.

    Raises:
        ValueError: if there is no such run, if its scoreboard cannot be read, and if there is
            anything in the folder but a site.
        OSError: if a file cannot be read or written.
    """
    start = time.perf_counter()
    run_dir = paths.run_dir(run_name)
    target = run_dir / "site" if to is None else paths.checked_output(to, "--to")
    _check_target(target)
    board = _read_board(run_dir)
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name) / "source", Path(name) / "out"
        extra = _lay_out(source, run_dir, board)
        warnings = _run_sphinx(source, out, Path(name) / "doctrees")
        for path, content in extra.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
        shutil.copytree(source / "figures", out / "figures", dirs_exist_ok=True, ignore=_no_files)
        for unused in [*(out / "_static").rglob("*.map"), *(out / "_static").glob("*.html")]:
            unused.unlink()  # of the theme's makers
        for file in (MARK, ".nojekyll"):  # GitHub leaves out folders such as _static otherwise
            (out / file).touch()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(out, target)
    files = [path for path in target.rglob("*") if path.is_file()]
    return Site(
        folder=target,
        num_pages=sum(path.suffix == ".html" for path in files),
        num_bytes=sum(path.stat().st_size for path in files),
        seconds=time.perf_counter() - start,
        warnings=warnings,
        dead_links=links.dead_links(target),
    )


def _check_target(target: Path) -> None:
    if target.exists() and not (target / MARK).is_file() and any(target.iterdir()):
        raise ValueError(
            f"Expected no folder, an empty one, or a site to build anew at '{target}'; there is "
            "something else. Choose another folder with --to, or move it away."
        )


def _read_board(run_dir: Path) -> dict[str, Any]:
    path = run_dir / report.SCOREBOARD_NAME
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a run at '{run_dir}'; there is none. Run 'rebasin-lab "
            "reproduce' first, or name another with --run."
        )
    board = paths.read_json(path, finite=False)
    try:
        paths.checked_name(board["profile"]["name"], "the profile of the run")
        for row in board["claims"]:
            row["claim"], row["notebook"], row["status"], row["measured"]
        board["title"], board["ended"], board["notebooks"], board["figures_dir"]
        return board
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected the scoreboard of a run in '{path}'; it cannot be read as one "
            f"({type(error).__name__}: {error}). Run 'rebasin-lab reproduce' again."
        ) from error


def _lay_out(source: Path, run_dir: Path, board: Mapping[str, Any]) -> dict[str, bytes]:
    """Write the sources; returns more files of the site, by their place in it."""
    documents = _copy_documents(source)
    drawn = _copy_figures(source, run_dir, board)
    images = notebooks.Images(drawn, source)
    components: dict[str, static_widgets.Component] = {}
    extra: dict[str, bytes] = {}
    sequence = [*notebook_sequence(), paths.notebooks_dir() / "lab.ipynb"]
    opened = doors.Doors.of_this_version()
    for path in sequence:
        executed = run_dir / path.name
        notebook = read_notebook(executed if executed.is_file() else path)
        components |= static_widgets.make_static(notebook)
        content = notebooks.as_page(
            notebook, path.stem, opened, images, sequence, was_run=executed.is_file()
        )
        (source / "notebooks" / path.name).write_text(content)
        extra[f"colab/{path.name}"] = opened.colab_copy(read_notebook(path)).encode()
    (source / "scoreboard.md").write_text(pages.scoreboard(board, drawn, images))
    gallery, thumbnails = pages.gallery(drawn, images)
    (source / "figures" / "README.md").write_text(gallery)
    (source / "index.md").write_text(
        pages.start(
            board,
            (paths.notebooks_dir() / START_PAGE).read_text(),
            (TEMPLATES / "index.md").read_text(),
            documents,
        )
    )
    static = source / "_static"
    shutil.copytree(TEMPLATES, static, ignore=shutil.ignore_patterns("*.md"))
    script, code = static / "static.js", static_widgets.as_script(components.values())
    script.write_text(script.read_text().replace("// COMPONENTS", code))
    return extra | thumbnails | images.files | {"scoreboard.json": _board_file(run_dir)}


def _copy_documents(source: Path) -> list[str]:
    """Copy the repository's pages; returns their places, without ending."""
    folder = paths.project_dir()
    pages_there = [
        path
        for path in paths.notebooks_dir().rglob("[!.]*.md")
        if path.name != START_PAGE and ".ipynb_checkpoints" not in path.parts
    ]
    copied = []
    for path in [*(folder / name for name in _DOCUMENTS), *sorted(pages_there)]:
        target = source / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(pages.with_links_of_the_site(path.read_text()))
            copied.append(target.relative_to(source).with_suffix("").as_posix())
        else:
            shutil.copy(path, target)
    return copied


def _board_file(run_dir: Path) -> bytes:
    return (run_dir / report.SCOREBOARD_NAME).read_bytes()


def _copy_figures(source: Path, run_dir: Path, board: Mapping[str, Any]) -> list[Path]:
    """Copy figures: published ones, which documents show, and the run's over them.

    Those of the run go where publishing would put them.

    Returns:
        The JSON files of the run's figures.
    """
    figures = source / "figures"
    shutil.copytree(paths.figures_dir(), figures, ignore=shutil.ignore_patterns("laptop", "*.md"))
    profile = board["profile"]["name"]
    target = figures if profile == "quick" else figures / profile
    copied = []
    for notebook in board["notebooks"]:
        name = paths.checked_name(notebook["notebook"], "the name of a notebook")
        drawn = run_dir / board["figures_dir"] / name
        if drawn.is_dir():
            shutil.copytree(drawn, target / name, dirs_exist_ok=True)
            copied += [target / name / path.name for path in sorted(drawn.glob("*.json"))]
    return copied


def _no_files(folder: str, names: list[str]) -> list[str]:
    """Return what the site does not offer as files: pages, and screenshots that they show."""
    return [name for name in names if name.endswith(".md") or name == "lab"]


def _run_sphinx(source: Path, out: Path, doctrees: Path) -> list[str]:
    """Run Sphinx; returns its warnings."""
    warnings = io.StringIO()
    with docutils.patch_docutils(source), docutils.docutils_namespace():
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=out,
            doctreedir=doctrees,
            buildername="html",
            confoverrides=_SETTINGS,
            status=None,
            warning=warnings,
        )
        app.build()
    found = [
        texts.plain(line).replace(f"{source}/", "") for line in warnings.getvalue().split("\n")
    ]
    return [line for line in found if line.strip()]


_SETTINGS: dict[str, Any] = {
    "project": "rebasin_lab",
    "author": "The rebasin_lab authors",
    "copyright": "The rebasin_lab authors",
    "html_title": "Git Re-Basin, in notebooks",
    "extensions": ["myst_nb", "sphinx_design", "rebasin_lab.lab.site.mathml"],
    "exclude_patterns": ["_static"],
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {
        "show_navbar_depth": 1,
        "show_toc_level": 2,
        "home_page_in_toc": True,
        "use_download_button": False,
        "use_fullscreen_button": False,
        "navbar_persistent": [],  # a second search field
    },
    "html_sidebars": {"**": ["search-button-field.html", "sbt-sidebar-nav.html"]},
    "html_static_path": ["_static"],
    "html_css_files": ["site.css"],
    "html_js_files": ["site.js", ("static.js", {"defer": "defer"})],
    "html_favicon": "_static/favicon.svg",
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_domain_indices": False,
    "html_use_index": False,
    "html_math_renderer": "mathml",
    "html_context": {"default_mode": "auto"},  # light or dark as the reader's system is
    "nb_execution_mode": "off",
    "nb_render_markdown_format": "myst",
    "nb_code_prompt_show": "Show the settings",
    "nb_code_prompt_hide": "Hide the settings",
    "nb_merge_streams": True,
    "nb_ipywidgets_js": {},  # of a content delivery network
    "myst_enable_extensions": ["attrs_inline", "colon_fence", "dollarmath"],
    "myst_heading_anchors": 4,
}
