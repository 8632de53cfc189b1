"""What a person does in JupyterLab, for tests: open a notebook, run it, turn its dials, read.

Pitfalls that shaped it: text of a cell's source is on the page, too, so that outputs are looked for
as outputs; the status bar says Idle before a run as well as after; with Playwright's synchronous
calls a `time.sleep` would keep JupyterLab's own requests waiting.
"""

import io
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

# "trial": on tiny data. "quick": notebooks as they are, with the networks of the checkout's runs.
SIZES = os.environ.get("REBASIN_BROWSER_SIZES", "trial")
QUICKSTART = "00_quickstart"
# Never cut down: how long the first takes is measured, the other's networks have four weights.
AS_THEY_ARE = (QUICKSTART, "05_counterexample")
THEMES = ("Dark", "Light")
HEIGHTS = {1280: 800, 1920: 1080}  # of windows, by their widths
HIGH = 2400  # of a window that is high enough for any panel
SCREENSHOTS = Path(__file__).parents[2] / "runs" / "browser"
PATIENCE = 120_000  # milliseconds; other tests may want the machine
LONG_PATIENCE = 600_000  # for a whole notebook
BETWEEN_LOOKS = 100  # milliseconds; left to itself Playwright looks at every frame
_BAD_OUTPUT = ", ".join(
    f'.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.{kind}"]'
    for kind in ("error", "stderr")
)
# All cells have run, or one has failed.
_HAS_ENDED = """bad => document.querySelector(bad) || (prompts => prompts.length &&
    prompts.every(text => /^\\[\\d+\\]:$/.test(text)))(
        [...document.querySelectorAll(".jp-CodeCell .jp-InputArea-prompt")]
            .map(prompt => prompt.textContent.trim()))"""
_IS_READY = """path => {
    const context = window.jupyterapp.shell.currentWidget?.context;
    return context?.path === path && context.isReady &&
        context.sessionContext.session?.kernel?.status === "idle"; }"""
# A notebook that is opened again before its kernel has gone takes that kernel, and then has none.
_WAIT_UNTIL_GONE = """async path => {
    const {sessions} = window.jupyterapp.serviceManager;
    do await sessions.refreshRunning();
    while ([...sessions.running()].some(session => session.path === path)); }"""
# A kernel takes a second or two to go, or ten; only who opens its notebook again waits for that.
_CLOSE = """() => {
    for (const each of [...window.jupyterapp.shell.widgets("main")]) {
        const session = each.sessionContext?.session;
        if (session) window.jupyterapp.serviceManager.sessions.shutdown(session.id);
        each.dispose();
    } }"""
# From a key to the paint after the first change inside an element.
_STOPWATCH = """watched => {
    const times = window.rlTimes = [];
    let pressed;
    document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (pressed === undefined || window.rlTimes !== times) return;
        const since = pressed;
        pressed = undefined;
        requestAnimationFrame(() => requestAnimationFrame(
            () => times.push(performance.now() - since)));
    }).observe(watched, {childList: true, subtree: true, attributes: true, characterData: true});
}"""


# A figure is that of its dials, or something has gone wrong.
_IS_CURRENT = """root => root.querySelector('[role="alert"]:not(:empty)') ||
    (root.querySelector(".rl-picture svg") && !root.querySelector(".rl-old"))"""
# Without names that each drawing has anew.
_DRAWN = r"""root => root.querySelector("figure").innerHTML.replace(/rl-clip-\d+/g, "")"""


class LabPage:
    """A browser's page on a JupyterLab, with one notebook open at a time.

    Args:
        page: the page.
        url: of the server.
        screenshots: folder for pictures of what it shows.
    """

    def __init__(self, page: Page, url: str, screenshots: Path):
        self.page = page
        self._screenshots = screenshots
        self.problems: list[str] = []
        self.asked_outside: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.problems.append(said.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

        def refuse(route):
            self.asked_outside.append(route.request.url)
            route.abort()

        # Of other requests Python hears nothing, or JupyterLab would wait for it.
        page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/]|localhost[:/])"), refuse)
        page.goto(f"{url}/lab?reset")
        page.locator(".jp-Launcher").wait_for()  # the last to come of an empty JupyterLab

    def open(self, name: str) -> None:
        """Open a notebook in place of the one that is open, and wait for its kernel."""
        self.close()
        self.problems.clear()
        self.asked_outside.clear()
        self.page.evaluate(_WAIT_UNTIL_GONE, name)
        self.page.evaluate(
            "path => { window.jupyterapp.commands.execute('docmanager:open', {path}); }", name
        )
        self.page.wait_for_function(_IS_READY, arg=name, timeout=PATIENCE, polling=BETWEEN_LOOKS)
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)  # "Select Kernel", say

    def menu(self, bar: str, item: str) -> None:
        """Choose from the menu."""
        for kind, text in ((".lm-MenuBar-itemLabel", bar), (".lm-Menu-itemLabel", item)):
            self.page.locator(kind, has_text=re.compile(f"^{text}$")).click()

    def run_all(self) -> None:
        """Run > Run All Cells, until all have run."""
        self.menu("Run", "Run All Cells")
        self.wait_for_end()

    def seconds_to_figures(self, number: int) -> list[float]:
        """Run > Run All Cells; when each of the first figures came. Cells may still run."""
        began = time.monotonic()
        self.menu("Run", "Run All Cells")
        shown = self.page.locator(f".jp-OutputArea-output figure img, {_BAD_OUTPUT}")
        seconds = []
        for index in range(number):
            shown.nth(index).wait_for(timeout=LONG_PATIENCE)
            seconds.append(round(time.monotonic() - began, 1))
        return seconds

    def wait_for_end(self) -> None:
        """Wait until all cells have run, without error or warning, and all widgets are there."""
        self.page.wait_for_function(
            _HAS_ENDED, arg=_BAD_OUTPUT, timeout=LONG_PATIENCE, polling=BETWEEN_LOOKS
        )
        bad = self.page.locator(_BAD_OUTPUT)
        assert bad.count() == 0, bad.first.inner_text()
        for text in ("Loading widget", "Error displaying widget"):
            expect(self.page.get_by_text(text)).to_have_count(0, timeout=PATIENCE)

    def restart_kernel(self) -> None:
        """Kernel > Restart Kernel and Clear Outputs of All Cells."""
        self.menu("Kernel", "Restart Kernel and Clear Outputs of All Cells…")
        self.page.locator(".jp-Dialog button", has_text="Restart").click()
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=PATIENCE)

    def panels(self, kind: str = "rl-dials") -> list["Panel"]:
        """What the notebook shows of a kind, from top to bottom."""
        found = self.page.locator(f".{kind}")
        made = DialPanel if kind == "rl-dials" else ExplorerPanel
        return [made(found.nth(index)) for index in range(found.count())]

    def wear(self, theme: str) -> None:
        """Change to the theme "Light" or "Dark"."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            f"JupyterLab {theme}",
        )
        background = {"Light": "rgb(255, 255, 255)", "Dark": "rgb(17, 17, 17)"}[theme]
        expect(self.page.locator(".jp-Notebook")).to_have_css("background-color", background)

    def photograph(self, panel: "Panel", name: str, themes: Sequence[str] = THEMES) -> None:
        """Keep a picture of a panel, in each theme; in windows of each width, if it is kept."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        for theme in themes:
            self.wear(theme)
            for width in HEIGHTS if SIZES == "quick" else [min(HEIGHTS)]:
                self.page.set_viewport_size({"width": width, "height": HIGH})
                panel.root.scroll_into_view_if_needed()
                if SIZES == "quick":  # what comes into view may find another height
                    self.page.wait_for_timeout(500)
                self._keep(panel.root, f"{name}-{width}-{theme.lower()}")
        self.page.set_viewport_size({"width": min(HEIGHTS), "height": HIGH})

    def photograph_window(self, panel: "Panel", name: str) -> None:
        """Keep what a reader sees who has scrolled to a panel, in each theme and window."""
        for theme in THEMES:
            self.wear(theme)
            for width, height in HEIGHTS.items():
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.wait_for_timeout(500)
                panel.root.evaluate("root => root.scrollIntoView({block: 'start'})")
                self._keep(self.page, f"{name}-window-{width}-{theme.lower()}")
        self.page.set_viewport_size({"width": min(HEIGHTS), "height": HIGH})

    def _keep(self, shown: Locator | Page, name: str) -> None:
        """Keep a picture, without loss in two fifths of the bytes of a PNG."""
        picture = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
        picture.save(self._screenshots / f"{name}.webp", lossless=True, method=6)

    def start_stopwatch(self, watched: Locator) -> None:
        """From now on, time from every key to the paint of a change inside an element."""
        self.page.bring_to_front()  # what nobody sees is not painted
        watched.evaluate(_STOPWATCH)

    def times(self) -> list[float]:
        """What the stopwatch has taken, in milliseconds."""
        return self.page.evaluate("window.rlTimes")

    def assert_calm(self) -> None:
        """Nothing failed in the browser, and nothing was asked for from elsewhere."""
        assert not self.asked_outside
        said = [each for each in self.problems if "Failed to load resource" not in each]
        assert not said, said

    def close(self) -> None:
        """Shut down the kernel of the notebook that is open, if one is, and close it unsaved."""
        self.page.evaluate(_CLOSE)


class Panel:
    """What belongs together on a page."""

    def __init__(self, root: Locator):
        self.root = root

    def button(self, text: str) -> Locator:
        """The button that says so."""
        return self.root.locator("button", has_text=re.compile(f"^{text}$"))

    def alerts(self) -> Locator:
        """What it says has gone wrong."""
        return self.root.locator('[role="alert"]:not(:empty)')


class ExplorerPanel(Panel):
    """The explorer: a form of the lab's own component, and controls of ipywidgets."""

    def choice(self, label: str) -> Locator:
        """The field, menu or box of a form with this label."""
        return self.root.locator(".rl-form").get_by_label(label, exact=True)

    def status(self) -> str:
        """What it says of its work."""
        return self.root.locator(".rl-form [role=status]").inner_text()

    def set(self, label: str, value: str) -> None:
        """Type into a field of the form, and press Enter."""
        self.choice(label).fill(value)
        self.choice(label).press("Enter")

    def slider(self, label: str) -> "Slider":
        """The slider with this label."""
        return Slider(self.root.locator(".widget-hslider").filter(has=_label(self.root, label)))


class DialPanel(Panel):
    """A figure of the lab's own component, and its dials."""

    def skip_prediction(self) -> None:
        """Show the figure without a sketch, if one is asked for."""
        if self.button("Skip").count():
            self.button("Skip").click()

    def sliders(self) -> list["Range"]:
        """Its sliders."""
        found = self.root.locator(".rl-control:has(input[type=range])")
        return [Range(found.nth(index)) for index in range(found.count())]

    def dropdowns(self) -> list["Dropdown"]:
        """Its dropdowns."""
        found = self.root.locator(".rl-control:has(select)")
        return [Dropdown(found.nth(index)) for index in range(found.count())]

    def slider(self, label: str) -> "Range":
        """The slider with this label."""
        return Range(self._control(label))

    def dropdown(self, label: str) -> "Dropdown":
        """The dropdown with this label."""
        return Dropdown(self._control(label))

    def _control(self, label: str) -> Locator:
        named = self.root.page.get_by_label(label, exact=True)
        return self.root.locator(".rl-control", has=named)

    def picture(self) -> Locator:
        """Its figure."""
        return self.root.locator(".rl-picture svg")

    def alt(self) -> str:
        """What the figure says to those who do not see it."""
        return self.picture().get_attribute("aria-label")

    def shown(self) -> str:
        """The figure as the browser holds it, as soon as it is that of its dials."""
        self.root.page.wait_for_function(
            _IS_CURRENT, arg=self.root.element_handle(), timeout=PATIENCE
        )
        return self.root.evaluate(_DRAWN)

    def wait_for_alt(self, pattern: str) -> None:
        """Wait until the figure is one that says so."""
        expect(self.picture()).to_have_attribute(
            "aria-label", re.compile(pattern), timeout=PATIENCE
        )

    def changes_when(self, act) -> None:
        """Do something, and see another figure, and no complaint."""
        before = self.shown()
        act()
        after = self.shown()
        assert self.alerts().count() == 0, self.alerts().first.inner_text()
        assert before != after


class Range:
    """A slider of the lab's own component."""

    def __init__(self, root: Locator):
        self.root = root
        self.handle = root.locator("input[type=range]")

    @property
    def text(self) -> str:
        """What it shows beside its handle, which is what a screen reader says."""
        text = self.root.locator("output").inner_text()
        assert self.handle.get_attribute("aria-valuetext") == text
        return text

    @property
    def num_stops(self) -> int:
        """How many."""
        return int(self.handle.get_attribute("max")) + 1

    def turn(self) -> None:
        """One stop on; back, where there is none."""
        before = self.text
        for key in ("ArrowRight", "ArrowLeft"):
            self.handle.press(key)
            if self.text != before:
                return

    def press(self, key: str) -> None:
        """A key, such as Home, on its handle."""
        self.handle.press(key)


class Slider:
    """A slider of ipywidgets, turned by keys as everybody can."""

    def __init__(self, root: Locator):
        self.root = root

    def press(self, key: str) -> None:
        """A key, such as Home, on its handle."""
        self.root.locator("[role=slider]").press(key)


class Dropdown:
    """A list to choose from."""

    def __init__(self, root: Locator):
        self.root = root
        self.handle = self.select = root.locator("select")

    @property
    def text(self) -> str:
        """What is chosen."""
        return _plain(self.select.evaluate("select => select.selectedOptions[0].text"))

    @property
    def options(self) -> list[str]:
        """What there is."""
        return [_plain(text) for text in self.select.locator("option").all_text_contents()]

    @property
    def num_stops(self) -> int:
        """How many."""
        return len(self.options)

    def turn(self) -> None:
        """Choose the next one, the first after the last."""
        place = (self.options.index(self.text) + 1) % self.num_stops
        self.select.select_option(index=place)

    def choose(self, text: str) -> None:
        """Choose this."""
        self.select.select_option(index=self.options.index(text))


def record(name: str, measured: object) -> None:
    """Keep what was measured beside the screenshots: times are told, never asserted."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / f"{name}.json").write_text(json.dumps(measured) + "\n")


def _plain(text: str) -> str:
    """Without the spaces that a browser puts into options of a list."""
    return text.replace("\xa0", " ").strip()


def _label(root: Locator, text: str) -> Locator:
    return root.page.locator(".widget-label").filter(has_text=re.compile(f"^{re.escape(text)}$"))
