"""The explorer, used as a person would: nothing here knows more of it than what is on the page."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import rebasin_lab as rl
from browser.lab_page import LONG_PATIENCE, PATIENCE, SIZES, THEMES, record
from rebasin_lab.lab import exploration

SMALL = {"dataset": "digits8x8", "width": 16, "depth": 2, "num_epochs": 2}


def cell(**changes):
    """The cell that opens an explorer of small networks."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in (SMALL | changes).items())
    return f"import rebasin_lab as rl\n\nlab = rl.explore({arguments})\nlab"


def open_explorer(page, lab, name, *cells):
    """A notebook with one explorer, opened and run."""
    page.open(lab.write(name, *(cells or [cell()])))
    page.run_all()
    return page.panels("rl-explorer")[0]


def status(panel, text, patience=PATIENCE):
    """Wait until it says so."""
    said = panel.root.locator('[role="status"]', has_text=text)
    expect(said.first).to_be_visible(timeout=patience)


def compare(panel):
    """Train what is missing, and wait for the lines."""
    panel.button("Compare").click()
    expect(panel.root.locator(".rl-lines svg")).to_be_visible(timeout=PATIENCE)


def trained(panel):
    """Wait for networks that are stored, or train them."""
    status(panel, re.compile(r"\((restored|trained)|Not trained yet"))
    if "Not trained yet" in panel.status():
        compare(panel)
        status(panel, re.compile(r"\((restored|trained)"), LONG_PATIENCE)


@pytest.fixture(scope="module")
def found(lab):
    """What the library says of the same two networks, in the lab's own store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REBASIN_RUNS", str(lab.runs))
        choices = exploration.Choices(**SMALL, matchers=("weight", "activation"))
        yield exploration.explore_pair(choices)


@pytest.fixture(scope="module")
def panel(found, lab, shared_page):
    """An explorer of two stored networks."""
    shown = open_explorer(shared_page, lab, "explorer")
    expect(shown.root.locator(".rl-lines svg")).to_be_visible(timeout=PATIENCE)
    return shown


def walked(panel):
    """Where on the line it stands, by which method, and the accuracy it shows."""
    said = panel.root.locator('.rl-walk [role="status"]').inner_text()
    lam, method, accuracy = re.match(r"λ = ([\d.]+), (.+): test accuracy ([\d.]+) %", said).groups()
    return float(lam), method, float(accuracy)


# Two stored networks


def test_stored_networks_are_there_at_once_with_the_librarys_numbers(panel, found):
    status(panel, "(restored)")
    assert walked(panel) == (0.5, "weight matching", pytest.approx(accuracy_of(found, 0.5)))
    barrier = rl.loss_barrier(found.compared["weight"].curve, split="test")
    picture = panel.root.locator(".rl-lines svg")
    assert f"weight matching {barrier:.3f}" in picture.get_attribute("aria-label")
    assert f"{barrier:.3f}" in panel.root.locator(".rl-barriers").inner_text()


def accuracy_of(found, lam, method="weight"):
    return round(100 * found.walk(method, lam).accuracy, 2)


def test_keys_walk_the_line_and_the_network_there_answers(panel, found):
    slider = panel.slider("λ: A to B")
    cursor = panel.root.locator(".rl-lines .rl-cursor")
    before = cursor.bounding_box()["x"]
    for _ in range(5):
        slider.press("ArrowRight")
    status(panel, "λ = 0.55, weight matching")
    assert walked(panel)[2] == pytest.approx(accuracy_of(found, 0.55))
    assert cursor.bounding_box()["x"] > before
    slider.press("Home")
    status(panel, "λ = 0.00, weight matching")
    assert walked(panel)[2] == pytest.approx(accuracy_of(found, 0.0))
    assert panel.root.locator(".rl-walk img").count() == 10  # answers


def test_another_way_to_walk_is_another_network(panel, found):
    panel.choice("walk with").select_option(label="naive")
    panel.slider("λ: A to B").press("Home")
    for _ in range(8):
        panel.slider("λ: A to B").press("PageUp")  # five steps
    status(panel, "λ = 0.40, naive")
    assert walked(panel)[2] == pytest.approx(accuracy_of(found, 0.4, "naive"))
    panel.choice("walk with").select_option(label="weight matching")


def test_another_matcher_joins_the_lines(panel, found):
    panel.choice("activation matching").check()
    barrier = rl.loss_barrier(found.compared["activation"].curve, split="test")
    picture = panel.root.locator(".rl-lines svg")
    said = re.compile(f"activation matching {barrier:.3f}")
    expect(picture).to_have_attribute("aria-label", said, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("tab", "alt"),
    [
        ("Order of units", "paired by weight matching"),
        ("Search", "weight matching: inner product"),
        ("First layer", "weights from the pixels to 16 units"),
        ("Landscape", "Test loss on the plane"),
    ],
)
def test_every_tab_has_its_picture(panel, tab, alt):
    panel.root.locator(".lm-TabBar-tabLabel", has_text=tab).click()
    if tab == "Landscape":
        panel.button("Draw the plane").click()
    picture = panel.root.locator(
        f'.widget-tab-contents :is(svg[aria-label*="{alt}"], [alt*="{alt}"])'
    )
    expect(picture).to_be_visible(timeout=PATIENCE)
    if tab == "Landscape":
        dot = panel.root.locator(".widget-tab-contents .rl-cursor")
        panel.slider("λ: A to B").press("Home")
        before = dot.bounding_box()
        panel.slider("λ: A to B").press("End")
        at_end = dot.bounding_box()
        assert at_end != before  # it walks, too
        panel.button("Move B to π\\(B\\)").click()
        wanderer = panel.root.locator(".widget-tab-contents circle.rl-way")
        expect(panel.button("Move B back")).to_have_attribute("aria-pressed", "true")
        middle = [box["x"] + box["width"] / 2 for box in (wanderer.bounding_box(), at_end)]
        assert middle[0] == pytest.approx(middle[1], abs=1)
        panel.button("Move B back").click()
        panel.slider("λ: A to B").press("Home")


def test_code_of_what_is_on_view_can_be_copied_and_its_figure_saved(panel):
    panel.root.locator(".lm-TabBar-tabLabel", has_text="Code").click()
    code = panel.root.locator("textarea")
    expect(code).to_be_visible()
    assert "rl.compare_matchers(" in code.input_value()
    compile(code.input_value(), "copied", "exec")
    panel.button("Save figure").click()
    status(panel, "saved: ")


def test_every_control_is_reached_by_tab_and_has_a_label(panel):
    panel.root.locator("button").first.focus()
    reached = set()
    for _ in range(60):
        panel.root.page.keyboard.press("Tab")
        reached.add(
            panel.root.page.evaluate(
                """() => { const here = document.activeElement;
                const row = here.closest(".widget-inline-hbox, .jupyter-button, .lm-TabBar-tab");
                const text = here.labels?.length ? here.labels[0].innerText
                    : (row ?? here).innerText;
                return text.split("\\n")[0].trim() || here.type }"""
            )
        )
    assert {"architecture", "width", "epochs", "seed A", "greedy", "Compare", "Help"} <= reached
    assert {"walk with", "λ: A to B", "Pin"} <= reached


def test_it_fits_a_window_of_1280_pixels(panel):
    width, needed = panel.root.evaluate("root => [root.clientWidth, root.scrollWidth]")
    assert needed <= width + 1
    box = panel.root.bounding_box()
    assert box["x"] + box["width"] <= 1280
    chart, answers = (panel.root.locator(part).bounding_box() for part in (".rl-lines", ".rl-walk"))
    slider = panel.slider("λ: A to B").root.bounding_box()
    assert answers["x"] > chart["x"] + chart["width"] - 1  # beside it
    assert slider["y"] + slider["height"] - box["y"] <= 700  # of 800: one screen
    assert answers["y"] + answers["height"] - box["y"] <= 700


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("seed B", "0", "with 0 twice, A and B are one"),
        ("seed B", "-1", "Expected a whole number from 0 to"),
        ("depth", "2.5", "Expected a whole number from 1 to 100; got “2.5”."),
        ("width", "wide", "Expected a number from 0.01 to 100000; got “wide”."),
        ("file A", "nowhere.safetensors", "name the other file, too"),
    ],
)
def test_what_cannot_be_had_is_refused_where_it_is_typed(panel, label, value, message):
    panel.root.locator("summary", has_text="Advanced").click()
    before = panel.choice(label).input_value()
    panel.set(label, value)
    expect(panel.alerts()).to_contain_text(message, timeout=PATIENCE)
    field, why = panel.choice(label), panel.alerts().first
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == why.get_attribute("id")
    panel.button("Compare").click()
    assert panel.status().startswith(f"First choose another {label}")
    panel.set(label, before)
    expect(panel.alerts()).to_have_count(0, timeout=PATIENCE)
    panel.root.locator("summary", has_text="Advanced").click()


def test_what_is_not_stored_leaves_the_old_figures_pale_and_named(panel):
    panel.set("seed B", "77")
    status(panel, "Not trained yet: network B (seed 77)")
    expect(panel.root.locator(".rl-lines .rl-old")).to_be_visible()
    said = panel.root.locator(".rl-lines .rl-status")
    expect(said).to_contain_text("Not what is chosen now, but: Digits")
    panel.set("seed B", "1")
    expect(panel.root.locator(".rl-lines .rl-old")).to_have_count(0, timeout=PATIENCE)


def test_two_settings_stand_beside_each_other_on_one_axis(panel):
    panel.button("Pin").click()
    panel.choice("one sweep of it").check()
    titles = panel.root.locator(".rl-lines svg text", has_text=re.compile("^matchers|matching"))
    expect(panel.root.locator(".rl-lines .rl-cursor")).to_have_count(2, timeout=PATIENCE)
    expect(panel.root.locator(".rl-walk [role=status]")).to_have_count(2, timeout=PATIENCE)
    assert titles.count() >= 2
    panel.slider("λ: A to B").press("PageUp")
    status(panel, "λ = 0.05")
    panel.slider("λ: A to B").press("Home")
    panel.button("Unpin").click()
    expect(panel.root.locator(".rl-lines .rl-cursor")).to_have_count(1, timeout=PATIENCE)
    panel.choice("one sweep of it").uncheck()


def test_images_that_divide_the_networks(panel, found):
    panel.root.get_by_text("A, B, merged disagree").click()
    walk = panel.root.locator(".rl-walk")
    number = len(found.disagreements("weight"))
    expect(walk).to_contain_text(f"name not one class for {number} of", timeout=PATIENCE)
    assert walk.locator("img").count() == min(number, exploration.STRIP)
    panel.root.get_by_text("one of each class").click()
    expect(walk.locator("img")).to_have_count(10, timeout=PATIENCE)


def test_help_leads_to_notebooks_that_are_there(panel, lab):
    panel.root.locator("summary", has_text="Help").click()
    links = panel.root.locator(".rl-form dl a")
    addresses = {link.get_attribute("href") for link in links.all()}
    assert "07_width.ipynb" in addresses
    assert all((lab.folder / address).is_file() for address in addresses)
    for matcher in rl.MATCHERS.values():
        expect(panel.root.locator(".rl-form li", has_text=f"{matcher.label}:")).to_have_count(1)
    panel.root.locator("summary", has_text="Help").click()


@pytest.mark.parametrize("theme", THEMES)
def test_nobody_is_shut_out(panel, shared_page, theme):
    shared_page.wear(theme)
    for part in (".rl-form", ".rl-lines .rl"):  # what is not JupyterLab's or ipywidgets'
        found = Axe().run(shared_page.page, context=f".rl-explorer {part}")
        assert found.violations_count == 0, found.generate_report()


def test_missing_data_are_said_and_the_panel_goes_on(panel):
    panel.choice("data").select_option("cifar100")
    expect(panel.alerts().first).to_contain_text(
        "Expected the files of CIFAR-100", timeout=PATIENCE
    )
    panel.choice("data").select_option("digits8x8")
    for label, value in (("width", "16"), ("depth", "2"), ("epochs", "2")):
        panel.set(label, value)
    status(panel, "(restored)")
    expect(panel.alerts()).to_have_count(0, timeout=PATIENCE)


def test_pictures_in_both_themes(panel, shared_page):
    panel.root.locator(".lm-TabBar-tabLabel", has_text="Order of units").click()
    if SIZES == "trial":
        shared_page.photograph(panel, "explorer")
    shared_page.assert_calm()


@pytest.mark.skipif(SIZES == "trial", reason="its networks are not stored")
def test_lab_opens_on_the_networks_of_the_notebooks(lab, page):
    page.open("lab.ipynb")
    page.run_all()
    shown = page.panels("rl-explorer")[0]
    trained(shown)
    expect(shown.root.locator(".rl-walk img")).to_have_count(10, timeout=PATIENCE)
    page.photograph(shown, "explorer")
    page.photograph_window(shown, "explorer")
    exploration.load_pair(exploration.Choices(seeds=(0, 2)))
    milliseconds_of(page, shown, num_moves=4)  # what is computed once is stored, then
    record("milliseconds-explorer", milliseconds_of(page, shown, num_moves=20))
    example = shown.button("BatchNorm, before and after")
    example.click()
    expect(example).to_have_attribute("aria-pressed", "true")  # the status is no longer the old one
    trained(shown)
    expect(shown.root.locator(".rl-walk img")).to_have_count(20, timeout=PATIENCE)
    page.photograph(shown, "explorer-pinned")
    page.assert_calm()


# How long it takes; nothing is asserted of that.


def controls(panel):
    """Of each control: what keys turn it, and what then changes."""
    root = panel.root
    lines, walk, order = ".rl-lines .rl-picture", ".rl-walk", ".widget-tab-contents .rl-picture"

    def button(name):
        return root.get_by_role("button", name=name, exact=True), " "

    def menu(select):
        return [(select, "ArrowDown"), (select, "ArrowUp")]

    lam = panel.slider("λ: A to B").root.locator("[role=slider]")
    seed, box = panel.choice("seed B"), panel.choice("activation matching")
    answers = ("A, B, merged disagree", "one of each class")
    return {
        "λ, cursor": ([(lam, "ArrowRight")], lines),
        "λ, answers": ([(lam, "ArrowLeft")], walk),
        "metric": ([button("accuracy"), button("loss")], lines),
        "images": ([button("train"), button("test"), button("both")], lines),
        "walk with": (menu(panel.choice("walk with")), walk),
        "answers to": ([button(name) for name in answers], walk),
        "Pin": ([button("Pin"), button("Unpin")], lines),
        "layer": (menu(panel.choice("layer")), order),
        "seed B": ([(seed, "ArrowUp"), (seed, "ArrowDown")], lines),
        "matchers": ([(box, " ")], lines),
        "effort": (menu(panel.choice("effort")), lines),
    }


def milliseconds_of(page, panel, num_moves):
    """From each of some keys on each control to the paint: the median and 95th percentile."""
    panel.root.locator("summary", has_text="Advanced").click()
    found = {}
    for name, (steps, watched) in controls(panel).items():
        page.start_stopwatch(panel.root.locator(watched).first)
        for move in range(num_moves):
            locator, key = steps[move % len(steps)]
            locator.press(key)
            page.page.wait_for_timeout(400)  # as somebody who looks at it
            expect(panel.root.locator(".rl-lines .rl-old")).to_have_count(0, timeout=PATIENCE)
        times = page.times()
        assert times, name
        found[name] = [len(times), *np.percentile(times, [50, 95]).round().tolist()]
    panel.root.locator("summary", has_text="Advanced").click()
    return found


# Trainings


def test_training_can_be_stopped_while_other_cells_run_and_goes_on(lab, page):
    shown = open_explorer(page, lab, "stop", cell(seeds=(12, 13), num_epochs=3000), "print(6 * 7)")
    status(shown, "Not trained yet")
    at_once = """root => { root.querySelector(".rl-start").click();
        return root.querySelector(".rl-form [role=status]").textContent; }"""
    assert shown.root.evaluate(at_once) == "Starting ..."
    status(shown, "training network A")
    other = page.page.locator(".jp-CodeCell").nth(1)
    other.locator(".cm-content").click()
    page.page.keyboard.press("Shift+Enter")
    expect(other.locator(".jp-OutputArea-output")).to_have_text("42")
    expect(other.locator(".jp-InputArea-prompt")).to_have_text("[3]:")  # not queued behind it
    shown.button("Stop").click()
    status(shown, "Stopped. Trained epochs are stored")
    shown.button("Compare").click()
    status(shown, "training network A")
    shown.button("Stop").click()
    status(shown, "Stopped. Trained epochs are stored")
    page.assert_calm()


def test_kernel_restarted_in_the_middle_of_a_training_loses_nothing(lab, page):
    epochs = 200
    shown = open_explorer(page, lab, "restart", cell(seeds=(14, 15), num_epochs=epochs))
    status(shown, "Not trained yet: network A (seed 14) and B (seed 15)")
    shown.button("Compare").click()
    status(shown, re.compile(rf"of {epochs}, \d\d:\d\d left\)"))
    expect(shown.root.locator("svg[aria-label*='Network A after epoch']")).to_be_visible()
    page.page.wait_for_timeout(500)  # some epochs
    page.restart_kernel()
    page.run_all()
    shown = page.panels("rl-explorer")[0]
    compare(shown)
    status(shown, re.compile(r"\((resumed|restored)"))
    page.run_all()
    status(page.panels("rl-explorer")[0], "(restored)")
    page.assert_calm()


# A dial that fails at 0.
DIAL = """import ipywidgets
import rebasin_lab as rl

def draw(x):
    values = [60 // x, 1.0]
    numbers = {"objectives": {"one": values}, "visits_per_sweep": 1}
    return rl.picture("objective", numbers, alt=f"60 // {x}")

rl.dials(draw, x=ipywidgets.IntSlider(value=2, min=0, max=3, description="x"))"""


def test_two_explorers_on_a_page_take_turns_and_an_error_of_a_dial_is_read(lab, page):
    open_explorer(page, lab, "two", cell(seeds=(16, 17)), cell(seeds=(18, 19)), DIAL)
    both = page.panels("rl-explorer")
    assert len(both) == 2
    for shown in both:
        shown.button("Compare").click()
    for shown, seeds in zip(both, ("16 and 17", "18 and 19"), strict=True):
        status(shown, f"seeds {seeds} (trained)")
        shown.slider("λ: A to B").press("ArrowRight")
        status(shown, "λ = 0.51")
    (dial,) = page.panels()
    slider = dial.slider("x")
    dial.changes_when(lambda: slider.press("ArrowRight"))
    slider.press("Home")
    expect(dial.alerts()).to_contain_text("ZeroDivisionError", timeout=PATIENCE)
    slider.press("ArrowRight")
    expect(dial.alerts()).to_have_count(0, timeout=PATIENCE)
    dial.wait_for_alt("60 // 1")
    page.assert_calm()
