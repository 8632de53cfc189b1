"""Runs that are ended from outside: real processes, and what is left of them."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

PARAMETERS = """
profile: str = "quick"  # sizes
run_dir: str = ""
figures_dir: str = ""
interactive: bool = True
"""

# Says which processes it has, then never ends.
CELL = """
import os, pathlib, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
child = subprocess.Popen(sleep)
apart = subprocess.Popen(sleep, start_new_session=True)
started_by = os.environ["JUPYTER_PATH"].split(os.pathsep)[0]
pathlib.Path(run_dir, "folder").write_text(started_by)
pathlib.Path(run_dir, "pids").write_text(f"{{os.getpid()}} {{child.pid}} {{apart.pid}} ")
{forever}
"""

# Blocks in C with the interpreter's lock held: no thread of the kernel can notice anything.
LOCKED = "import ctypes; ctypes.PyDLL(None).sleep(1000)"

COMMAND = """
import pathlib, sys
from rebasin_lab import cli, paths
folder = pathlib.Path(sys.argv[1])
paths.notebooks_dir = lambda: folder / "notebooks"
paths.runs_dir = lambda: folder / "runs"
paths.figures_dir = lambda: folder / "figures"
cli.main(["reproduce", "--run", "ended"])
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for survivors in /proc"),
]


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "forever"),
    [
        (signal.SIGTERM, "time.sleep(1000)"),
        (signal.SIGHUP, "while True: pass"),
        (signal.SIGINT, LOCKED),
        (signal.SIGKILL, LOCKED),
    ],
)
def test_what_a_run_started_ends_with_it(tmp_path, number, forever):
    (tmp_path / "notebooks").mkdir()
    cells = [
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(CELL.format(forever=forever)),
    ]
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "notebooks" / "00_a.ipynb")
    run = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path], stdout=subprocess.PIPE, text=True
    )
    pids = tmp_path / "runs" / "ended" / "pids"
    _wait_for(lambda: pids.exists() and pids.read_text().endswith(" "))
    run.send_signal(number)
    if number != signal.SIGKILL:
        run.send_signal(number)  # the second one must not cut the end short
    text, _ = run.communicate(timeout=30)
    _wait_for(lambda: not any(map(_lives, pids.read_text().split())), seconds=10)
    folder = (tmp_path / "runs" / "ended" / "folder").read_text()
    _wait_for(lambda: not os.path.exists(folder), seconds=10)
    if number == signal.SIGKILL:
        assert run.returncode == -number
    else:
        assert run.returncode == 128 + number
        assert "Interrupted. What ran is kept" in text
        assert (tmp_path / "runs" / "ended" / "report.html").exists()
