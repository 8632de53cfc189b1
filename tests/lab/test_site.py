import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import small_site
from rebasin_lab import paths
from rebasin_lab.lab import jupyter, runner
from rebasin_lab.paper import claims

ROOT = Path(__file__).parents[2]
# Of packages that use names of Sphinx which will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated. Check CHANGES")

if os.environ.get("CI"):
    from rebasin_lab.lab import site
else:  # the extra [site] is not part of [lab]
    site = pytest.importorskip("rebasin_lab.lab.site", exc_type=ModuleNotFoundError)

from rebasin_lab.lab.site import doors, mathml, pages, static_widgets  # noqa: E402


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of a small run, built once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REBASIN_RUNS", str(tmp_path_factory.mktemp("runs")))
        small_site.make_run()
        yield site.build_site(small_site.RUN)


@pytest.fixture(scope="module")
def page(built):
    return (built.folder / "notebooks" / f"{small_site.NOTEBOOK}.html").read_text()


def test_it_is_built_without_a_warning_or_a_dead_link(built):
    assert (built.warnings, built.dead_links) == ([], [])
    assert built.num_pages >= len(runner.notebook_sequence()) + 6
    assert {path.name for path in built.folder.glob("*.html")} >= {"index.html", "scoreboard.html"}


def test_the_pages_ask_for_nothing_from_the_network(built):
    wanted = re.compile(r'<(?:script|link|img|iframe)[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')
    for path in built.folder.rglob("*.html"):
        assert not wanted.findall(path.read_text()), path
    for path in built.folder.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//", path.read_text()), path


def test_the_sidebar_has_the_parts_of_the_sequence_with_all_notebooks(built):
    start = (built.folder / "index.html").read_text()
    found = pages.parts((ROOT / "notebooks" / "START.md").read_text())
    assert len(found) == 4
    named = [name for notebooks in found.values() for name in notebooks]
    assert named == [path.stem for path in runner.notebook_sequence()]
    for part, notebooks in found.items():
        assert part in start
        assert all(f'href="notebooks/{name}.html"' in start for name in notebooks)


def test_a_page_folds_settings_and_leaves_out_what_is_of_one_machine(built, page):
    assert "Show the settings" in page
    assert "run_dir =" not in page
    assert str(paths.project_dir()) not in page
    assert f"in runs/{small_site.RUN}/figures" in page
    everything = [p.read_text() for p in built.folder.rglob("*.html")]
    assert not any(str(built.folder.parent) in text for text in everything)


def test_formulas_are_mathml_and_names_of_notebooks_are_links(page):
    assert page.count("<math") == 2
    assert 'display="block"' in page
    assert 'href="01_symmetries.html"' in page
    assert "MathJax" not in page


def test_pictures_become_files_and_figures_have_an_anchor(built, page):
    assert "data:image" not in page
    assert page.count('id="figure-samples"') == 1
    assert f'src="../figures/{small_site.NOTEBOOK}/samples.png"' in page
    (other,) = (built.folder / "_images").glob("*[0-9a-f].png")
    assert len(other.stem) == 24


def test_a_notebook_that_was_not_executed_says_so(built, page):
    other = (built.folder / "notebooks" / "01_symmetries.html").read_text()
    assert "was not executed" in other
    assert "was not executed" not in page


def test_widgets_have_their_state_on_the_page_and_their_code_in_the_script(built, page):
    states = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert len(states) == 2  # by itself, and in a box
    for state in map(json.loads, states):
        assert state["state"] == {"count": 3, "text": "</script><b>", "bytes": None}
        assert state["buffers"] == [[["bytes"], "AQID"]]
    script = (built.folder / "_static" / "static.js").read_text()
    assert script.count("count is") == 1  # one component, twice on the page
    assert "component = { render }" in script
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)


def test_widgets_of_other_kinds_show_what_stands_in_their_place(page):
    assert page.count("This control needs a kernel") == 1
    assert "a still picture" in page
    assert "widget-view" not in page


@pytest.mark.parametrize(
    ("esm", "why"),
    [
        ("function render() {}", "no or several default exports"),
        ("export default {};\nexport default {};", "no or several default exports"),
        ('import * as d3 from "d3";\nexport default {};', "the line 'import ...'"),
        ("export const x = 1;\nexport default {};", "the line 'export ...'"),
    ],
)
def test_a_component_that_needs_modules_is_refused(esm, why):
    notebook = new_notebook(cells=[new_code_cell(outputs=[small_site.view("one")])])
    models = {"one": small_site.widget(esm)}
    notebook.metadata.widgets = {static_widgets.STATE: {"state": models}}
    with pytest.raises(ValueError, match=re.escape(why)):
        static_widgets.make_static(notebook)


def test_a_default_export_may_be_named():
    component = static_widgets.Component("key", "const x = {};\nexport { x as default };", "")
    assert "component = x;" in static_widgets.as_script([component])


class Rows(html.parser.HTMLParser):
    """Rows of the scoreboard, by claim: attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.row = {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "tr" and "data-verdict" in found:
            self.row = self.rows[found["id"].removeprefix("claim/")] = {**found, "text": ""}

    def handle_data(self, data):
        if self.row is not None:
            self.row["text"] += data

    def handle_endtag(self, tag):
        if tag == "tr":
            self.row = None


def test_the_scoreboard_has_all_claims_and_a_reason_beside_each_that_failed(built):
    rows = Rows((built.folder / "scoreboard.html").read_text()).rows
    assert rows.keys() == claims.CLAIMS.keys()
    assert rows["table1-mlp"]["data-verdict"] == "yes"
    failed = rows["fig3-init"]
    assert (failed["data-verdict"], failed["data-notebook"]) == ("no", "06_onset")
    assert "2 of 3 miss the bound: at worst 0.001 is not at least 0.02" in failed["text"]
    assert json.loads((built.folder / "scoreboard.json").read_text())["claims"]


def test_the_gallery_has_each_figure_with_text_links_and_a_thumbnail(built):
    gallery = (built.folder / "figures" / "README.html").read_text()
    thumbnail = f"_images/thumbnails/{small_site.NOTEBOOK}-samples.webp"
    assert (built.folder / thumbnail).stat().st_size < 50_000
    card = re.search(rf'<li><a href="[^"]*#figure-samples"><img [^>]*{thumbnail}.*?</li>', gallery)
    assert "41 figures" not in gallery, "of other runs"
    assert re.search(r'alt="One image of each class[^"]+"', card.group())
    for kind in ("svg", "png", "json"):
        assert f'href="../figures/{small_site.NOTEBOOK}/samples.{kind}"' in card.group()
        assert (built.folder / "figures" / small_site.NOTEBOOK / f"samples.{kind}").is_file()


def test_dead_links_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="#x"></a><a href="#y"></a><a href="sub/b.html#z"></a>'
        '<a href="sub/b.html?q=1#w"></a><img src="no.png"><a href="https://arxiv.org/no"></a>'
    )
    (tmp_path / "sub" / "b.html").write_text('<a name="z" href="../a.html#x"></a><a href=".."></a>')
    dead = ["a.html: #y", "a.html: no.png", "a.html: sub/b.html?q=1#w", "sub/b.html: .."]
    assert site.dead_links(tmp_path) == dead


def test_a_site_replaces_a_site_and_nothing_else(built, tmp_path, monkeypatch):
    monkeypatch.setenv("REBASIN_RUNS", str(built.folder.parents[1]))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="something else"):
        site.build_site(small_site.RUN, tmp_path)
    with pytest.raises(ValueError, match="Run 'rebasin-lab reproduce' first"):
        site.build_site("nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_formulas_of_all_notebooks_can_be_written():
    for path in sorted(paths.notebooks_dir().glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for formula in re.findall(r"\$\$?([^$]+)\$\$?", cell.source):
                    assert mathml.converter.convert(formula).startswith("<math"), formula


def test_doors_lead_to_this_version():
    door = doors.Doors.of_this_version()
    assert re.fullmatch(r"[0-9a-f]{40}|v\d+\.\d+\.\d+", door.version)
    assert door.binder("lab").endswith(
        f"/{door.version}?urlpath=lab%2Ftree%2Fnotebooks%2Flab.ipynb"
    )
    assert door.colab("lab").endswith("/blob/gh-pages/colab/lab.ipynb")


def install_cell(text):
    """What pip is asked for by the first cell of a notebook for Colab."""
    cell = nbformat.reads(text, as_version=4).cells[0]
    found = re.fullmatch(r'%pip install --quiet "(rebasin_lab\[\w+\]) @ (git\+\S+)"', cell.source)
    assert found, cell.source
    return found.groups()


def test_notebooks_for_colab_install_this_version_first(built):
    for path in runner.notebook_sequence():
        text = (built.folder / "colab" / path.name).read_text()
        package, source = install_cell(text)
        assert source == "git+{0.repository}@{0.version}".format(doors.Doors.of_this_version())
        nbformat.validate(nbformat.reads(text, as_version=4))


IN_COLAB = """
import rebasin_lab as rl
from rebasin_lab.lab import session

rl.dials, rl.explore, rl.open_run
assert len(rl.load_dataset("mnist5k").train_labels) == 4000
run = rl.open_run("00_quickstart", profile="quick", trial=True, interactive=False)
assert run.profile.name == "quick"
"""


@pytest.mark.slow
def test_colabs_install_cell_installs_what_notebooks_need(built, tmp_path):
    """In an empty environment, its requirement, with the wheel in place of the repository."""
    home = tmp_path / "venv"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("REBASIN_DATA", None)

    def run(*arguments, program=home / "bin" / "python"):
        return subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    text = (built.folder / "colab" / f"{small_site.NOTEBOOK}.ipynb").read_text()
    package, _ = install_cell(text)
    try:
        venv.create(home, with_pip=True)
        made = run("-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT)
        if "connection broken by" in made.stderr and not os.environ.get("CI"):
            pytest.skip("no package index can be reached")
        assert made.returncode == 0, made.stderr[-3000:]
        (wheel,) = tmp_path.glob("*.whl")
        pins = ("--constraint", ROOT / "constraints.txt")
        wanted = f"{package} @ {wheel.as_uri()}"
        installed = run("-m", "pip", "install", "--quiet", "--no-compile", *pins, wanted)
        assert installed.returncode == 0, installed.stderr[-3000:]
        packages = run("-m", "pip", "freeze").stdout.lower()
        assert not re.search("^(jupyterlab|ipykernel|papermill|sphinx)[=-]", packages, re.MULTILINE)
        used = run("-c", IN_COLAB)
        assert used.returncode == 0, used.stderr[-3000:]
    finally:
        shutil.rmtree(home, ignore_errors=True)  # pytest keeps what tests leave


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_a_trial_run_becomes_a_site(tmp_path, monkeypatch, live):
    """What papermill wrote, from notebook to page."""
    if live:  # as for `make site`
        monkeypatch.setenv("REBASIN_LIVE_DIALS", "1")
    plan = runner.plan_run(parameters={"trial": True}, only=("00", "05"), run_name="trial")
    assert runner.reproduce(plan) == 0
    built = site.build_site("trial", tmp_path / "site")
    assert (built.warnings, built.dead_links) == ([], [])
    for path in plan.notebooks:
        page = (built.folder / "notebooks" / f"{path.stem}.html").read_text()
        assert '<figure id="figure-' in page
        assert str(tmp_path) not in page
        assert 'src="data:image' not in page
        assert live or "data:image" not in page  # scenes of a dial's stops have images in them


def test_jupyterlab_starts_on_the_page_of_cards_unless_told_otherwise():
    assert (paths.notebooks_dir() / jupyter.START_PAGE).is_file()
    assert jupyter._start(["--no-browser"]) == ["--LabApp.default_url=/lab/tree/START.md"]
    assert jupyter._start(["--ServerApp.root_dir=/elsewhere"]) == []
    assert jupyter._start(["--LabApp.default_url=/lab"]) == []


def test_the_command_says_what_is_missing_without_the_extra():
    program = """
import sys
sys.modules["sphinx"] = sys.modules["sphinx.application"] = None
from rebasin_lab.cli import main
main(["site"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the extra [site]" in done.stderr
    assert "'.[lab,site]'" in done.stderr
