"""The site as a reader has it: from the file system, in two themes, on a phone."""

import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import small_site
from browser.lab_page import PATIENCE

if os.environ.get("CI"):
    from rebasin_lab.lab import site
else:  # the extra [site] is not part of [lab]
    site = pytest.importorskip("rebasin_lab.lab.site", exc_type=ModuleNotFoundError)

# Of packages that use names of Sphinx which will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated. Check CHANGES")

PAGES = (
    "index.html",
    "scoreboard.html",
    "figures/README.html",
    f"notebooks/{small_site.NOTEBOOK}.html",
    "notebooks/README.html",
    "README.html",
    "notebooks/TEACHING.html",
    "notebooks/03_weight_matching.html",
    "rebasin_lab/DESIGN.html",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
WIDER = """() => [...document.querySelectorAll("main *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
    .filter(each => !each.closest(SCROLLING))
    .map(each => `${each.tagName} ${each.className} ${each.textContent.slice(0, 40)}`)""".replace(
    "SCROLLING", '".wide, table, pre, .output, div.math, .bd-sidebar-secondary"'
)
GROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.fixture(autouse=True)
def _networks_are_those_of_the_lab():
    """None are needed here, and no JupyterLab."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REBASIN_RUNS", str(tmp_path_factory.mktemp("runs")))
        small_site.make_run(broken=True)
        yield site.build_site(small_site.RUN).folder


@pytest.fixture
def visit(browser, folder):
    """Open a page of the site; what goes wrong there fails the test when it ends."""
    problems, contexts = [], []

    def open_page(name, size=DESKTOP, theme="light"):
        context = browser.new_context(viewport=size, color_scheme=theme)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith("http") and problems.append(f"asks for {asked.url}"),
        )
        page.goto(f"{folder.as_uri()}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # Of the widget that is broken on purpose.
    assert [each for each in problems if "broken on purpose" not in each] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_open_from_the_file_system_in_both_themes(visit, folder, theme):
    page = visit(PAGES[0], theme=theme)
    for name in PAGES:
        page.goto(f"{folder.as_uri()}/{name}")
        expect(page.locator("article h1")).to_have_count(1)
        shade = [int(part) for part in re.findall(r"\d+", page.evaluate(GROUND))[:3]]
        assert (sum(shade) > 600) == (theme == "light"), (name, shade)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_a_reader_out(visit, folder, theme):
    page = visit(PAGES[0], theme=theme)
    for name in PAGES[1:4]:
        page.goto(f"{folder.as_uri()}/{name}")
        # It would fetch style sheets, which browsers refuse to pages of the file system.
        found = Axe().run(page, options={"preload": False}).response["violations"]
        seen = [(each["id"], each["nodes"][0]["target"]) for each in found]
        assert seen == [], name


def test_no_page_is_wider_than_a_phone(visit, folder):
    page = visit(PAGES[0], PHONE)
    for name in PAGES:
        page.goto(f"{folder.as_uri()}/{name}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert (width, page.evaluate(WIDER)) == (PHONE["width"], []), name


def test_what_scrolls_sideways_can_be_reached_by_the_keyboard(visit):
    page = visit(f"notebooks/{small_site.NOTEBOOK}.html", PHONE)
    wide = page.locator(".cell_output .output", has_text="widewide")
    expect(wide).to_have_attribute("tabindex", "0")


def test_search_finds_pages_from_the_file_system(visit):
    page = visit("search.html?q=barrier")
    results = page.locator("#search-results li")
    expect(results.first).to_be_visible()
    assert "How high is the barrier" in " ".join(results.all_inner_texts())


def test_the_scoreboard_is_filtered_with_the_keyboard(visit):
    page = visit("scoreboard.html")
    rows, count = page.locator("tr[data-verdict]:visible"), page.locator(".rl-filter output")
    everything = rows.count()
    page.get_by_label("Verdict").focus()
    page.keyboard.type("not rep")
    expect(count).to_have_text(f"1 of {everything} claims")
    expect(rows).to_contain_text("at worst 0.001 is not at least 0.02")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # shows all
    expect(rows).to_have_count(everything)
    page.get_by_label("Text").fill("resnet50 has")
    expect(rows).to_have_count(1)
    page.get_by_label("Text").fill("")
    page.get_by_label("Notebook").select_option("06_onset")
    expect(page.locator("tr[data-verdict]:not([data-notebook='06_onset']):visible")).to_have_count(
        0
    )
    expect(rows.first).to_be_visible()


def test_a_widget_counts_without_a_kernel(visit):
    page = visit(f"notebooks/{small_site.NOTEBOOK}.html")
    first, second = (page.get_by_role("button", name="count is").nth(each) for each in (0, 1))
    expect(first).to_have_text("count is 3")
    first.click()
    first.press("Enter")
    expect(first).to_have_text("count is 5")
    expect(second).to_have_text("count is 3")  # each has a model of its own
    expect(second).to_have_id("counter-1")  # of one module
    expect(first).to_have_attribute("title", "1,2,3 </script><b>")
    expect(first).to_have_css("outline-color", "rgb(1, 2, 3)")


def test_a_widget_that_fails_leaves_what_stands_in_its_place(visit):
    page = visit(f"notebooks/{small_site.NOTEBOOK}.html")
    expect(page.get_by_text("a picture in its place")).to_be_visible()
    expect(page.get_by_text("a still picture")).to_be_visible()


def test_a_thumbnail_leads_to_the_figure_on_its_page(visit):
    page = visit("figures/README.html")
    page.get_by_role("link", name="One image of each class").click()
    expect(page.locator("#figure-samples")).to_be_in_viewport()


def test_jupyterlab_shows_the_start_page_as_cards(browser, lab):
    start = (small_site.paths.notebooks_dir() / "START.md").read_text()
    (lab.folder / "START.md").write_text(start)
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{lab.url}/lab/tree/START.md?reset")
    page.get_by_role("link", name="Your own networks").click()
    expect(page.get_by_role("tab", name="12_networks_of_your_own.ipynb")).to_be_visible()
    # A server that is stopped in the middle of a request takes ten seconds to end.
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
    context.close()
