"""The component that draws dials, on a page without a kernel: drawn, turned, read, saved."""

import csv
import json
import os
import re
import xml.etree.ElementTree
from pathlib import Path

import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from playwright.sync_api import expect

import rebasin_lab as rl
from browser.lab_page import HEIGHTS, PATIENCE, DialPanel, record
from rebasin_lab import paths
from rebasin_lab.lab import figures
from rebasin_lab.lab.widgets import Dials

if os.environ.get("CI"):
    from rebasin_lab.lab.site import static_widgets
else:  # the extra [site] is not part of [lab]
    static_widgets = pytest.importorskip(
        "rebasin_lab.lab.site.static_widgets", exc_type=ModuleNotFoundError
    )

SAVED = figures.saved_figures() + figures.saved_figures(paths.figures_dir() / "laptop")
PHONE = {"width": 390, "height": 844}
DESKTOP, WIDE = ({"width": width, "height": height} for width, height in HEIGHTS.items())
# Words that stand outside of their picture, or on each other.
FAULTS = """svg => {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].filter(each => each.textContent.trim())
        .map(each => [each.textContent, each.getBoundingClientRect()]);
    const outside = boxes.filter(([, box]) => box.left < frame.left - 2 ||
        box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2);
    return outside.map(([text]) => text); }"""
CONTRAST = """() => {
    const shades = [...document.querySelectorAll(".rl-picture text, .rl-control label")]
        .map(each => getComputedStyle(each)[each.tagName === "text" ? "fill" : "color"]);
    return [getComputedStyle(document.body).backgroundColor, [...new Set(shades)]]; }"""


@pytest.fixture(autouse=True)
def _networks_are_those_of_the_lab():
    """None are needed here, and no JupyterLab."""


def page_of(dials):
    """A page as the site has it, with nothing but these dials."""
    state = {
        key: value for key, value in dials.get_state().items() if value is None or key != "layout"
    }
    model = {"model_name": "AnyModel", "model_module": "anywidget", "state": state}
    output = new_output("display_data", {static_widgets.VIEW: {"model_id": "one"}})
    notebook = new_notebook(
        cells=[new_code_cell("", outputs=[output])],
        metadata={"widgets": {static_widgets.STATE: {"state": {"one": model}}}},
    )
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    code = static_widgets.as_script(static_widgets.make_static(notebook).values())
    script = (Path(static_widgets.__file__).with_name("templates") / "static.js").read_text()
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>dials</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>html { --pst-color-background: #fff; --pst-color-text-base: #222; }"
        'html[data-theme="dark"] { --pst-color-background: #121212; --pst-color-text-base: #eee; '
        "--pst-color-text-muted: #aaa; }"
        "body { background: var(--pst-color-background); color: var(--pst-color-text-base); }"
        "</style>"
        f"<main><h1>dials</h1>{notebook.cells[0].outputs[0].data['text/html']}</main>"
        f"<script>{script.replace('// COMPONENTS', code)}</script>"
    )


@pytest.fixture
def show(browser, tmp_path):
    """Open a page with these dials; what goes wrong there fails the test when it ends."""
    problems, contexts = [], []

    def open_page(dials, size=DESKTOP, theme="light", state=""):
        context = browser.new_context(viewport=size, reduced_motion="reduce")
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        path = tmp_path / "page.html"
        path.write_text(page_of(dials))
        page.goto(f"{path.as_uri()}{state}")
        if theme == "dark":
            page.evaluate("document.documentElement.dataset.theme = 'dark'")
        panel = DialPanel(page.locator(".rl-dials"))
        panel.picture().wait_for()
        return panel

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def drawn(lam, method):
    """Two lines, a rule at lambda."""
    lambdas = np.linspace(0, 1, 5)
    height = {"naive": 4.0, "weight": 0.5}[method]
    curve = {"lambdas": lambdas, "train_loss": 1 + height * lam * lambdas * (1 - lambdas)}
    curve |= {"test_loss": 2 + lambdas}
    numbers = {
        "metric": "loss",
        "splits": ["train", "test"],
        "curves": {method: {name: value.tolist() for name, value in curve.items()}},
    }
    alt = f"{method} at {lam}"
    return rl.picture("explored_lines", numbers, alt=alt, caption=f"λ = {lam}, a pair")


@pytest.fixture(scope="module")
def dials():
    made = rl.dials(drawn, lam=(0.0, 1.0, 0.25), method=["naive", "weight"])
    for lam in (0.0, 0.25, 0.5, 0.75, 1.0):
        made.turn(lam=lam)
        assert made.wait()
    made.turn(lam=0.5)
    made.wait()
    return made


def test_keys_and_the_mouse_move_a_dial_and_it_says_where_it_is(dials, show):
    panel = show(dials)
    slider = panel.slider("λ")
    assert (slider.text, panel.alt()) == ("0.50", "naive at 0.5")
    slider.press("ArrowRight")
    assert (slider.text, panel.alt()) == ("0.75", "naive at 0.75")
    slider.press("Home")
    assert (slider.text, panel.alt()) == ("0.00", "naive at 0.0")
    box = slider.handle.bounding_box()
    panel.root.page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    panel.root.page.mouse.down()
    seen = set()
    for part in np.linspace(0, 1, 20):
        panel.root.page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        seen.add(panel.alt())  # while it is dragged, not after
    panel.root.page.mouse.up()
    assert len(seen) == 5
    assert panel.root.locator("figcaption").inner_text() == "λ = 1.0, a pair"


def test_axes_and_height_stand_still_while_a_dial_moves(dials, show):
    panel = show(dials)
    panel.slider("λ").press("Home")
    heights = set()
    for _ in range(5):
        heights.add(round(panel.root.bounding_box()["height"]))
        panel.slider("λ").press("ArrowRight")
    assert len(heights) == 1


def test_a_stop_that_is_not_stored_leaves_the_old_picture_and_says_what_it_shows(dials, show):
    panel = show(dials)
    panel.dropdown("method").choose("weight")
    said = panel.root.locator('[role="status"]')
    expect(said).to_contain_text("λ = 0.50, method = weight is not stored: run the notebook for it")
    expect(said).to_contain_text("The picture shows λ = 0.50, method = naive.")
    expect(panel.root.locator(".rl-picture")).to_have_class(re.compile("rl-old"))
    panel.root.page.set_viewport_size(PHONE)  # drawn again for the width, it is as old
    expect(panel.root.locator(".rl-picture")).to_have_class(re.compile("rl-old"))
    panel.button("Reset").click()
    assert panel.alt() == "naive at 0.5"
    expect(said).to_be_empty()


def test_a_process_plays_to_its_end_and_stops(dials, show):
    panel = show(dials)
    play = panel.root.get_by_role("button", name="play λ")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    expect(panel.root.locator("output")).to_have_text("1.00")
    expect(play).to_have_attribute("aria-pressed", "false")


def test_a_link_holds_the_state_and_restores_it(dials, show):
    panel = show(dials)
    panel.root.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.slider("λ").press("End")
    panel.button("Copy link").click()
    expect(panel.root.locator('[role="status"]')).to_contain_text("link")
    url = panel.root.page.evaluate("navigator.clipboard.readText()")
    other = show(dials, state=f"#{url.partition('#')[2]}")
    assert other.alt() == "naive at 1.0"
    assert show(dials, state="#rl.another?lam=0.00").alt() == "naive at 0.5"


def test_values_are_shown_under_the_pointer(dials, show):
    panel = show(dials)
    marker = panel.picture().locator('path[transform^="translate"]').nth(1)
    marker.hover(force=True)
    expect(panel.root.locator(".rl-value")).to_have_text(
        re.compile(r"^naive, train: 1\.375 at λ 0\.25$")
    )
    panel.root.page.mouse.move(1, 700)
    expect(panel.root.locator(".rl-value")).to_be_hidden()


def test_pictures_and_numbers_are_saved(dials, show, tmp_path):
    panel = show(dials, theme="dark")
    paths_of = {}
    for kind in ("SVG", "PNG", "CSV"):
        with panel.root.page.expect_download() as waiting:
            panel.button(kind).click()
        paths_of[kind] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(paths_of[kind])
    assert {path.name for path in paths_of.values()} == {
        f"explored-lines.{kind}" for kind in ("svg", "png", "csv")
    }
    svg = paths_of["SVG"].read_text()
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "naive at 0.5"
    assert "var(" not in svg  # no colour of the page, dark or light
    with Image.open(paths_of["PNG"]) as picture:
        assert picture.size == (2 * float(root.attrib["width"]), 2 * float(root.attrib["height"]))
        assert picture.getpixel((2, 2))[:3] == (255, 255, 255)
    rows = list(csv.DictReader(paths_of["CSV"].open()))
    numbers = drawn(0.5, "naive")["numbers"]["curves"]["naive"]
    train = [float(row["y"]) for row in rows if row["series"] == "naive, train"]
    assert train == pytest.approx(numbers["train_loss"])


def test_a_reader_predicts_a_line_and_sees_how_far_it_was(show):
    panel = show(rl.dials(drawn, lam=(0.0, 1.0, 0.25), method=["naive"], predict="naive, train"))
    assert "naive" not in panel.root.locator("figcaption").inner_text()
    assert "0.5" not in panel.alt()  # nothing is told
    assert panel.slider("λ").handle.is_disabled()
    assert panel.picture().locator('path[transform^="translate"]').count() == 0
    assert Axe().run(panel.root.page).violations_count == 0
    compare = panel.root.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    box = panel.picture().bounding_box()
    mouse = panel.root.page.mouse
    mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    mouse.up()
    panel.root.get_by_label("Model B", exact=True).press("Home")  # and by keys
    compare.click()
    said = panel.root.locator('.rl-guess [role="status"]')
    expect(said).to_contain_text(re.compile(r"Your sketch, dotted, is [\d.]+ away in the mean"))
    assert panel.alt() == "naive at 0.5"
    expect(panel.root.locator(".rl-sketch")).to_have_attribute("d", re.compile("^M.*L.*L.*L.*L"))
    panel.slider("λ").press("Home")
    assert panel.root.locator(".rl-sketch").count() == 1  # it stays


def test_on_a_logarithmic_axis_a_sketch_has_the_points_of_its_line_and_is_off_by_a_factor(show):
    widths = [16, 64, 128]
    numbers = {
        "widths": widths,
        "names": [*map(str, widths)],
        "xlabel": "units",
        "barriers": {"naive": [[2.0], [2.0], [2.0]], "weight": [[1.0], [0.1], [0.02]]},
    }
    record = rl.picture("widths", numbers, alt="by width")
    panel = show(rl.dials(lambda: record, predict="weight matching"))
    for width in widths:
        panel.root.get_by_label(str(width), exact=True).press("End")  # the top of the panel
    panel.root.get_by_role("button", name="Compare").click()
    said = panel.root.locator('.rl-guess [role="status"]').inner_text()
    assert re.search(
        r"is a factor of [\d.]+ away in the mean \(train loss barrier \(nats\)\)", said
    )
    factor, _, top, measured = map(float, re.findall(r"\d+(?:\.\d+)?", said))
    assert measured == 0.02  # farthest at the widest
    assert factor == pytest.approx(top / np.prod([1.0, 0.1, 0.02]) ** (1 / 3), rel=0.02)


def test_who_does_not_want_to_predict_sees_the_figure(show):
    panel = show(rl.dials(lambda: drawn(0.5, "weight"), predict="weight matching, test"))
    panel.skip_prediction()
    assert panel.alt() == "weight at 0.5"
    expect(panel.root.locator(".rl-sketch")).to_have_attribute("d", "")
    assert panel.root.locator("input").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_ink_stands_out(dials, show, theme):
    panel = show(dials, theme=theme)
    found = Axe().run(panel.root.page)
    assert found.violations_count == 0, found.generate_report()
    ground, shades = panel.root.page.evaluate(CONTRAST)
    for shade in shades:
        assert contrast(ground, shade) >= 4.5, (ground, shade)


def contrast(first, second):
    """The ratio of the luminances of two colours, as WCAG has it."""

    def luminance(text):
        parts = np.array([float(one) for one in re.findall(r"[\d.]+", text)[:3]]) / 255
        low = parts / 12.92
        return float(
            np.where(parts <= 0.04045, low, ((parts + 0.055) / 1.055) ** 2.4)
            @ (0.2126, 0.7152, 0.0722)
        )

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(scope="module")
def every_figure():
    """A dial with a stop for every figure that the repository keeps."""
    records = [figures.read_figure(path) for path in SAVED]
    made = Dials(lambda figure: records[figure], [_stops(len(records))])
    made.store_all()
    return made


@pytest.mark.parametrize("size", [DESKTOP, WIDE, PHONE], ids=["desktop", "wide", "phone"])
def test_every_figure_is_drawn_with_all_words_inside(show, every_figure, size):
    """All that the repository keeps, one after the other in one panel."""
    names = [f"{path.parent.parent.name}/{path.parent.name}/{path.stem}" for path in SAVED]
    panel = show(every_figure, size=size)
    slider = panel.slider("figure")
    faults, milliseconds = {}, []
    for name in names:
        assert panel.alt()
        outside = panel.picture().evaluate(FAULTS)
        if outside:
            faults[name] = outside
        before = panel.root.page.evaluate("performance.now()")
        slider.press("ArrowRight")
        milliseconds.append(panel.root.page.evaluate("performance.now()") - before)
    record(f"figure_milliseconds_{size['width']}", sorted(map(round, milliseconds)))
    assert faults == {}
    scroll, width = panel.root.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scroll <= width


def _stops(number):
    from rebasin_lab.lab.widgets.controls import control_of

    return control_of("figure", list(range(number)))
