"""A real JupyterLab and a real Chromium; both as a person has them, in folders of their own.

Where there is no Chromium these tests are skipped, in CI that is a failure. What the panels looked
like is kept under `runs/browser`.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from browser.lab_page import (
    AS_THEY_ARE,
    HEIGHTS,
    HIGH,
    PATIENCE,
    SCREENSHOTS,
    SIZES,
    LabPage,
)
from rebasin_lab import paths

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none", "maxNumberOutputs": 200},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


@dataclasses.dataclass(frozen=True)
class Lab:
    """A JupyterLab at work.

    Attributes:
        url: of the server.
        folder: of its notebooks.
        runs: where what they make is kept.
    """

    url: str
    folder: Path
    runs: Path

    def write(self, name: str, *cells: str) -> str:
        """Put a notebook of these cells into its folder; returns the file's name."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        return f"{name}.ipynb"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


# Playwright keeps an event loop running in this thread. It ends with its folder, not the session:
# tests after it may start loops of their own.
@pytest.fixture(scope="package")
def browser(request):
    """Chromium."""
    assert request.node.path == Path(__file__).parent, "without __init__.py it outlives its folder"
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        message = f"no browser among {', '.join(BROWSERS)}; name one in CHROMIUM"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="package")
def lab(browser, tmp_path_factory):
    """JupyterLab as `make lab` starts it, on a copy of the notebooks."""
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("lab")
    runs = ROOT / "runs" if SIZES == "quick" else tmp_path_factory.mktemp("runs")
    for path in paths.notebooks_dir().glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        if SIZES == "trial":
            (_as_read if path.stem in AS_THEY_ARE else _cut_down)(notebook, path.stem)
        nbformat.write(notebook, folder / path.name)
    for name, values in SETTINGS.items():
        settings = home / "settings" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(values))
    # A kernel of that name in the user's home is the wrong one, and must not be taken.
    impostor = home / "data" / "kernels" / "python3" / "kernel.json"
    impostor.parent.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "Python 3 (another)", "language": "python"}
    impostor.write_text(json.dumps(spec))
    port = _free_port()
    environment = {
        **os.environ,
        "REBASIN_RUNS": str(runs),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing is downloaded
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "JAX_PLATFORMS": "cpu",
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(home / "ipython"),
        **{f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data")},
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        **{f"JUPYTERLAB_{n.upper()}_DIR": str(home / n) for n in ("settings", "workspaces")},
    }
    environment.pop("REBASIN_DATA", None)
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
    ]
    program = "from rebasin_lab.cli import main; main()"
    command = [sys.executable, "-c", program, "lab", *options]
    with _server(command, environment, home / "server.log", f"http://127.0.0.1:{port}") as url:
        yield Lab(url, folder, runs)


@pytest.fixture(autouse=True)
def _networks_are_those_of_the_lab(lab, monkeypatch):
    monkeypatch.setenv("REBASIN_RUNS", str(lab.runs))


@pytest.fixture(scope="package")
def window(lab, browser):
    """A browser's window on it, of a laptop's width, and high enough for any panel."""
    size = {"width": min(HEIGHTS), "height": HIGH}
    context = browser.new_context(viewport=size, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield LabPage(context.new_page(), lab.url, SCREENSHOTS)
    context.close()


@pytest.fixture
def page(window):
    """The window, for one test; what it leaves open goes, with its kernel."""
    yield window
    window.close()


@pytest.fixture(scope="module")
def shared_page(window):
    """The window, for all tests that look at one panel; those come first in their file."""
    return window


# Programs of every size of a network are compiled anew.
FEWER = {
    "12_networks_of_your_own": """
from rebasin_lab.paper.sections import merge_efforts

merge_efforts.SIZES, merge_efforts.COUNTS = (1.0, 2.0), (100, 200)
"""
}


def _as_read(notebook, _name):
    """As a reader runs it: without the flags of these tests."""
    first = 'import os\n\nos.environ.pop("XLA_FLAGS", None)'
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))


def _cut_down(notebook, name):
    """A few steps on tiny data, without what only a reader has use for.

    Nothing is drawn ahead.
    """
    first = f"""from rebasin_lab.lab.widgets import prerendering

prerendering.SECONDS_OF_QUIET = 3600
{FEWER.get(name, "")}"""
    for cell in notebook.cells:
        cell.source = cell.source.replace("settings: dict = {}", 'settings: dict = {"trial": True}')
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _server(command, environment, log, url):
    with log.open("w") as out:
        server = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        patience = time.monotonic() + 120
        while True:
            if server.poll() is not None or time.monotonic() > patience:
                raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-3000:]}")
            try:
                urllib.request.urlopen(f"{url}/api/status", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
