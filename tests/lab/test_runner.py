import asyncio
import contextlib
import datetime
import errno
import io
import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import jax
import nbformat
import psutil
import pytest
import yaml
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell, new_notebook

import rebasin_lab as rl
from rebasin_lab import paths
from rebasin_lab.lab import execution, jupyter, report, runner, session
from rebasin_lab.lab.execution import kernels, status
from rebasin_lab.paper import claims, profiles, sections, store
from rebasin_lab.paper.networks import Experiment

ROOT = Path(__file__).parents[2]

PARAMETERS = """
profile: str = "quick"  # sizes
settings: dict = {}  # changes
"""

MEASURE = """
import json, pathlib
folder = pathlib.Path(settings["run_dir"]) / "claims"
folder.mkdir(exist_ok=True)
(folder / "{notebook}.json").write_text(json.dumps({{"table1-mlp": [{value}]}}))
"""

DRAW = """
import pathlib
folder = pathlib.Path(settings["figures_dir"]) / "{notebook}"
folder.mkdir(parents=True, exist_ok=True)
record = {{"caption": "C.", "alt": "A.", "claims": [], "size_inches": [1, 1]}}
(folder / "{name}.json").write_text(json.dumps(record))
(folder / "{name}.png").write_bytes(b"picture")
"""

# What `open_run` does in a real notebook.
DESCRIBE = """
import IPython.display, jax
devices = [f"{d} ({d.device_kind})" for d in jax.devices()]
metadata = {"rebasin_lab": {"devices": devices, "platform": "a machine"}}
IPython.display.display(IPython.display.HTML(""), metadata=metadata)
"""

SWALLOWED = """
import ipywidgets
output = ipywidgets.Output()
with output:
    raise KeyError("lost inside a widget")
"""


@pytest.fixture
def sequence(tmp_path, monkeypatch):
    """Writes notebooks of given code cells and makes them the sequence."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(paths, "notebooks_dir", lambda: folder)
    monkeypatch.setattr(paths, "figures_dir", lambda: tmp_path / "figures")
    monkeypatch.setattr(kernels, "code_digest", lambda: "code")  # it may be edited meanwhile

    def write(kernel="python3", **notebooks):
        for name, sources in notebooks.items():
            parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
            cells = [parameters, *map(new_code_cell, sources)]
            metadata = {
                "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}
            }
            nbformat.write(
                new_notebook(cells=cells, metadata=metadata), folder / f"{name.lstrip('n')}.ipynb"
            )

    return write


def reproduce(*, keep_going=False, **options):
    out = io.StringIO()
    plan = runner.plan_run(**options)
    status = runner.reproduce(plan, keep_going=keep_going, out=out)
    return status, out.getvalue()


def metadata_of(notebook):
    return nbformat.read(paths.runs_dir() / "quick" / f"{notebook}.ipynb", as_version=4).metadata


def scoreboard(run="quick"):
    return json.loads((paths.runs_dir() / run / "scoreboard.json").read_text())


FIGURE = {
    "plot": "halfway",
    "size_inches": [1, 1],
    "caption": "C.",
    "alt": "A.",
    "notebook": "00_a",
    "profile": "quick",
    "dataset": {},
    "seeds": [],
    "settings": {},
    "trained_with": [],
    "claims": ["table1-mlp"],
    "versions": {},
    "numbers": {"loss": [0.2, 0.1]},
}


@pytest.fixture
def executed(monkeypatch):
    """Puts a quick stand-in for papermill: it writes the copy, claims and a figure at once."""
    order = []

    def execute(notebook, output, parameters, *, status, **_):
        status.close()
        order.append((notebook.stem, dict(parameters)))
        error = "In [1]: ValueError: no good" if "no good" in notebook.read_text() else ""
        if "interrupt" in notebook.read_text():
            raise KeyboardInterrupt
        output.write_text(notebook.read_text())
        folder = Path(parameters["settings"]["run_dir"]) / "claims"
        folder.mkdir(exist_ok=True)
        (folder / f"{notebook.stem}.json").write_text(json.dumps({"table1-mlp": [3498]}))
        figure = Path(parameters["settings"]["figures_dir"]) / notebook.stem / "one.json"
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_text(json.dumps(FIGURE))
        figure.with_suffix(".png").write_bytes(b"picture")
        now = datetime.datetime.now(datetime.UTC)
        return execution.NotebookOutcome(notebook.stem, 1.0, error, output, parameters, now)

    monkeypatch.setattr(execution, "execute", execute)
    return order


@pytest.mark.slow
def test_a_failing_notebook_stops_the_run_and_keeps_what_ran(sequence):
    sequence(
        n00_first=[MEASURE.format(notebook="00_first", value=3498)],
        n01_second=["x = 1", "raise ValueError(f\"width {settings['width']} is no good\")"],
        n02_third=["pass"],
    )
    status, text = reproduce(parameters={"width": 7}, run_name="mine")
    run_dir = paths.runs_dir() / "mine"
    assert status == 1
    assert "[1/3] 00_first" in text
    assert "02_third" not in text
    assert "FAILED: 01_second: In [4]: ValueError: width 7 is no good" in text
    assert (run_dir / "00_first.ipynb").exists()
    assert "width 7 is no good" in (run_dir / "01_second.log").read_text()
    board = json.loads((run_dir / "scoreboard.json").read_text())
    rows = {row["claim"]: row for row in board["claims"]}
    assert rows["table1-mlp"]["status"] == "not tested: settings changed"
    assert rows["table1-vgg16"]["status"] == "not run"
    assert board["notebooks"][1]["error"].startswith("In [4]")


@pytest.mark.slow
def test_an_error_swallowed_by_a_widget_fails_the_run(sequence):
    sequence(n00_widget=[SWALLOWED])
    status, text = reproduce()
    assert status == 1
    assert "inside a widget: KeyError: 'lost inside a widget'" in text


DIALS = """
from rebasin_lab.lab import widgets
def draw(level):
    if level > 1:
        raise ValueError(f"no figure of level {level}")
    bars = {"title": "loss", "values": {"A": [level]}, "lower_is_better": True}
    return widgets.picture("merged_bars", {"groups": [bars]}, alt="A.", size=(3, 3))
panel = widgets.dials(draw, level=[0, 1, 2, 3])
"""

LATEST = """
from rebasin_lab.lab import background_errors
from rebasin_lab.lab.widgets.work import Latest
def answer(request):
    time.sleep(0.5)
    raise ValueError("no answer")
import time
tell = background_errors.report
latest = Latest(answer, tell)
"""

EXPLORER = """
import rebasin_lab as rl
data = rl.load_dataset("digits8x8")
def apply_fn(params, images):
    raise ValueError("no network")
"""

LATE_ERRORS = {
    "dial": ([DIALS, "panel.turn(level=1)\npanel.turn(level=2)", "x = 1"], "no figure of level 2"),
    "latest": ([LATEST, "latest.ask(1)"], "no answer"),
    "callback": (
        [LATEST.replace("background_errors.report", "lambda e: 1 / 0"), "latest.ask(1)"],
        "division",
    ),
    "thread": (["import threading\nthreading.Thread(target=lambda: {}['key']).start()"], "key"),
    "explorer": ([EXPLORER, "rl.explore(({}, {}), apply_fn=apply_fn, data=data)"], "In [4]: "),
}


@pytest.mark.slow
def test_an_error_that_a_panel_shows_later_or_another_thread_raises_fails_the_run(sequence):
    cells = {f"n0{i}_{name}": cells for i, (name, (cells, _)) in enumerate(LATE_ERRORS.items())}
    sequence(**cells, n09_moved=[DIALS, "panel.turn(level=1)\nassert panel.values['level'] == 1"])
    status, text = reproduce(keep_going=True)
    assert status == 1
    errors = [outcome["error"] for outcome in scoreboard()["notebooks"]]
    assert errors.pop() == "", "a dial that moves well is no error"
    for error, (name, (_, message)) in zip(errors, LATE_ERRORS.items(), strict=True):
        assert message in error, (name, error)
        assert error.startswith("In ["), "the error names its cell"


@pytest.mark.slow
def test_of_a_long_and_hostile_error_no_control_character_is_shown_and_the_middle_is_left_out(
    sequence,
):
    shout = "print('\\x1b[2J\\x07 printed')"
    raises = "raise ValueError('\\x1b[2Jbegin\\x07\\u202e' + 'x' * 1_000_000 + 'end')"
    deep = "def deep(n):\n    return deep(n - 1) if n else 1 / 0\ndeep(900)"
    surrogate = "raise ValueError('\\ud800')"
    sequence(n00_a=[shout, raises], n01_b=[deep], n02_c=[surrogate])
    status, text = reproduce(keep_going=True)
    run_dir = paths.runs_dir() / "quick"
    assert status == 1
    logs = [path.read_text() for path in sorted(run_dir.glob("*.log"))]
    for shown in (text, *logs, (run_dir / "report.html").read_text()):
        assert not set(shown) & set("\x1b\x07\u202e\ud800")
    assert len(text) < 30_000
    assert max(map(len, logs)) < 300_000
    error = scoreboard()["notebooks"][0]["error"]
    assert error.startswith("In [4]: ValueError: begin")
    assert error.endswith("end")
    assert "ZeroDivisionError" in scoreboard()["notebooks"][1]["error"]
    assert scoreboard()["notebooks"][2]["error"]


@pytest.mark.parametrize(("timeout", "found"), [(None, True), (60.0, True), (0.1, False)])
def test_a_reply_that_nobody_was_told_of_is_looked_for(monkeypatch, timeout, found):
    """jupyter_client sends past the event loop, which may then miss what came at that moment."""
    looks = []

    async def get_msg(self, timeout=None):
        looks.append(timeout)
        if timeout is None or len(looks) < 3:
            await asyncio.sleep(min(timeout, 0.1))
            raise queue.Empty
        return {"msg_type": "execute_reply"}

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", get_msg)
    channel = kernels._PatientChannel.__new__(kernels._PatientChannel)
    if found:
        assert asyncio.run(channel.get_msg(timeout)) == {"msg_type": "execute_reply"}
    else:
        with pytest.raises(queue.Empty):
            asyncio.run(channel.get_msg(timeout))
    assert all(0 <= each <= 1 for each in looks)


@pytest.mark.slow
def test_a_kernel_that_dies_is_an_outcome_that_names_its_cell(sequence):
    sequence(n00_dies=["import os\nos.kill(os.getpid(), 9)"], n01_next=["pass"])
    status, text = reproduce()
    assert status == 1
    assert "FAILED: 00_dies: in cell 3 of 3, beginning 'import os': DeadKernelError" in text
    assert "01_next" not in text


# Each says which processes it has, then never ends.
CHILDREN = """
import os, pathlib, signal, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
children = [
    subprocess.Popen(sleep),
    subprocess.Popen(sleep, start_new_session=True),
    subprocess.Popen(sleep, env={{}}, process_group=0),
]
daemon = f"{{sleep[0]}} -S -c '{{sleep[-1]}}' >/dev/null 2>&1 & echo $!"
daemon = subprocess.run(["sh", "-c", daemon], capture_output=True, start_new_session=True).stdout
pids = [os.getpid(), *(child.pid for child in children), int(daemon)]
pathlib.Path(settings["run_dir"], "pids.new").write_text(" ".join(map(str, pids)))
os.replace(pathlib.Path(settings["run_dir"], "pids.new"), pathlib.Path(settings["run_dir"], "pids"))
{forever}
"""

FOREVER = {
    "sleeps": "time.sleep(1000)",
    "ignores_signals": "[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]\nwhile True: pass",
    "is_stuck_in_c": "import ctypes; ctypes.PyDLL(None).sleep(1000)",
    "waits_for_a_subprocess": "children[0].wait()",
    "prints": "while True: print('more')",
    "retries": """
while True:
    try:
        time.sleep(1000)
    except KeyboardInterrupt:
        pass
""",
}


@pytest.fixture
def time_is_up_with_children(monkeypatch):
    """The time of a notebook ends when it has started what it starts, however slow that is."""

    class Timer(threading.Timer):
        def run(self):
            _wait_for(lambda: self.finished.is_set() or (paths.runs_dir() / "quick/pids").exists())
            self.interval = 0.5
            super().run()

    names = {name: getattr(threading, name) for name in ("Event", "TIMEOUT_MAX")}
    monkeypatch.setattr(kernels, "threading", types.SimpleNamespace(Timer=Timer, **names))


@pytest.mark.slow
@pytest.mark.parametrize("forever", FOREVER)
def test_a_notebook_that_never_ends_is_stopped_with_all_it_started(
    sequence, time_is_up_with_children, forever
):
    first = MEASURE.format(notebook="00_a", value=3498)
    sequence(
        n00_a=[first, "x = 1", CHILDREN.format(forever=FOREVER[forever]), "y = 2"], n01_b=["pass"]
    )
    status, text = reproduce(timeout=0.2)
    pids = (paths.runs_dir() / "quick" / "pids").read_text().split()
    assert len(pids) == 5
    _wait_for(lambda: not any(_runs(int(pid)) for pid in pids))
    assert status == 1
    message = (
        r"FAILED: 00_a: in cell 5 of 6, beginning 'import os, .*': it was stopped after 0.2 "
        r"minutes, .* --timeout"
    )
    assert re.search(message, text)
    assert "Traceback" not in text
    assert "01_b" not in text
    copy = execution.read_notebook(paths.runs_dir() / "quick" / "00_a.ipynb")
    assert copy.cells[3].execution_count == 4, "what ran is kept"
    assert "--timeout" in (paths.runs_dir() / "quick" / "report.html").read_text()
    assert "--timeout" in (paths.runs_dir() / "quick" / "00_a.log").read_text()


@pytest.mark.slow
def test_a_kernel_that_never_starts_is_stopped_and_the_next_notebook_runs(sequence, monkeypatch):
    sequence(n00_a=["pass"], n01_b=["pass"])
    stuck = "--IPKernelApp.exec_lines=import time; time.sleep(1000)"
    arguments = [*kernels._ARGUMENTS[:-1], stuck]
    monkeypatch.setattr(kernels, "_ARGUMENTS", arguments)
    started = kernels.Kernels._started

    def second_time(self):
        manager = started(self)
        arguments[-1] = "--IPKernelApp.exec_lines=pass"
        return manager

    monkeypatch.setattr(kernels.Kernels, "_started", second_time)
    status, text = reproduce(timeout=0.15, keep_going=True)
    assert status == 1
    assert "FAILED: 00_a: before its first cell: it was stopped after 0.15 minutes" in text
    assert re.search(r"01_b .* ok", text)
    monkeypatch.setattr(execution, "SECONDS_TO_START", 1)
    arguments[-1] = stuck
    _, text = reproduce(only=["00"])
    assert re.search(r"FAILED: 00_a: before its first cell: .* 1 seconds.*did not start", text)


@pytest.mark.slow
def test_processes_that_a_notebook_left_end_with_it(sequence):
    sequence(n00_a=[CHILDREN.format(forever="")])
    assert reproduce()[0] == 0
    pids = (paths.runs_dir() / "quick" / "pids").read_text().split()
    assert not any(_runs(int(pid)) for pid in pids)


def test_each_profile_has_a_time_for_a_notebook_and_the_option_says_them(sequence, executed):
    assert runner.MINUTES.keys() == profiles.PROFILES.keys()
    assert runner.MINUTES == {"quick": 60, "laptop": 360, "paper": 7 * 24 * 60}
    sequence(n00_a=["pass"])
    assert runner.plan_run().timeout == 60
    assert runner.plan_run(timeout=1.5).timeout == 1.5
    assert runner.plan_run(timeout=1.5).run_dir == runner.plan_run().run_dir


@pytest.mark.slow
def test_a_foreign_kernel_name_is_no_obstacle_and_the_kernel_is_this_python(sequence):
    check = "import sys; assert sys.executable == {!r}, sys.executable"
    sequence(kernel="somebodys-conda", n00_any=[check.format(sys.executable)])
    status, text = reproduce()
    assert status == 0, text


@pytest.mark.slow
def test_results_of_an_earlier_run_do_not_pass_for_this_one(sequence):
    sequence(n00_first=[MEASURE.format(notebook="00_first", value=3498)])
    assert reproduce()[0] == 0
    sequence(n00_first=["raise RuntimeError"])
    status, _ = reproduce()
    assert status == 1
    assert not {row["status"] for row in scoreboard()["claims"]} & {"reproduced", "not reproduced"}


def test_keep_going_runs_what_comes_after_a_failure_and_reports_each(sequence, executed):
    sequence(n00_a=["no good"], n01_b=["pass"], n02_c=["no good"])
    status, text = reproduce(keep_going=True)
    assert status == 1
    assert [name for name, _ in executed] == ["00_a", "01_b", "02_c"]
    for name in ("00_a", "02_c"):
        assert f"FAILED: {name}: In [1]: ValueError: no good" in text
        assert re.search(rf"full traceback: .*{name}\.log", text)
    assert [bool(n["error"]) for n in scoreboard()["notebooks"]] == [True, False, True]


def test_an_interrupted_run_keeps_the_scoreboard_of_what_had_ended(sequence, executed):
    sequence(n00_a=["pass"], n01_b=["interrupt"], n02_c=["pass"])
    with pytest.raises(KeyboardInterrupt):
        reproduce(keep_going=True)
    board = scoreboard()
    assert [n["notebook"] for n in board["notebooks"]] == ["00_a"]
    assert board["planned"] == ["00_a", "01_b", "02_c"]
    assert "reproduced" in {row["status"] for row in board["claims"]}
    report = (paths.runs_dir() / "quick" / "report.html").read_text()
    assert "1 of 3 notebooks" in report


def test_what_a_killed_run_was_writing_is_gone_after_the_next(sequence, executed):
    sequence(n00_a=["pass"])
    reproduce()
    run = paths.runs_dir() / "quick"
    left = [run, run / "claims", run / "figures" / "00_a"]
    left = [folder / f".some.json.{'0' * 16}.tmp" for folder in left]
    others = [run / ".mine.tmp", paths.runs_dir() / f".other.holder.{'0' * 16}.tmp"]
    for path in (*left, *others):
        path.touch()
    reproduce()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def _fails_to_write(monkeypatch, name, number):
    """Has each writing of a file of this name fail as a full disk does, or a broken one."""
    sync = os.fsync

    def fsync(file):
        if f"/.{name}." in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(number, os.strerror(number))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)


NO_DISK = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="knows files by /proc")
@pytest.mark.parametrize("number", NO_DISK)
@pytest.mark.parametrize(
    "name", ["scoreboard.json", "report.html", "00_a.ipynb", "quick.holder", ".quick.holder"]
)
def test_what_cannot_be_written_is_said_and_nothing_is_half_written(
    sequence, executed, monkeypatch, name, number
):
    sequence(n00_a=["pass"])
    _fails_to_write(monkeypatch, name, number)
    try:
        status, text = reproduce()
    except OSError as error:
        status, text = 1, str(error)
    if name == "quick.holder":  # there is no such file
        assert status == 0
    else:
        assert status == 1
        assert f"/{name}': {os.strerror(number)}" in text
    assert not [path for path in paths.runs_dir().rglob("*.tmp")]
    for path in paths.runs_dir().rglob("*.json"):
        json.loads(path.read_text())
    monkeypatch.undo()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="knows files by /proc")
@pytest.mark.parametrize("name", ["report.html", "00_a.ipynb"])
def test_an_error_while_writing_does_not_hide_the_first_one(sequence, executed, monkeypatch, name):
    sequence(n00_a=["no good"])
    _fails_to_write(monkeypatch, name, errno.ENOSPC)
    if name == "report.html":
        monkeypatch.setattr(report, "write_report", _second_time(report.write_report))
    status, text = reproduce()
    assert status == 1
    assert "FAILED: 00_a: In [1]: ValueError: no good" in text
    assert ("There is no report: " in text) == (name == "report.html")


def test_an_interrupt_counts_though_no_report_can_be_written(sequence, executed, monkeypatch):
    sequence(n00_a=["interrupt"])
    monkeypatch.setattr(report, "write_report", _second_time(_no_space))
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        runner.reproduce(runner.plan_run(), out=out)
    assert "There is no report: [Errno 28] No space" in out.getvalue()


def _no_space(*_):
    raise OSError(errno.ENOSPC, "No space")


def _second_time(fn):
    """A function that does nothing when it is first called."""
    calls = []

    def call(*arguments):
        calls.append(arguments)
        return fn(*arguments) if len(calls) > 1 else None

    return call


SMALL_DISK = """
import pathlib, resource, sys
from rebasin_lab import cli, paths
folder = pathlib.Path(sys.argv[1])
paths.notebooks_dir = lambda: folder / "notebooks"
paths.runs_dir = lambda: folder / "runs"
paths.figures_dir = lambda: folder / "figures"
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
cli.main(["reproduce", "--run", "small"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("most", "cell", "named"),
    [
        (60_000, "print('x' * 200_000)", "00_a.ipynb"),
        (60_000, "import sys; [print('x' * 3000, flush=True) for _ in range(40)]", "00_a."),
        (30_000, "pass", "scoreboard.json"),
    ],
)
def test_a_disk_that_fills_up_is_a_paragraph(sequence, tmp_path, most, cell, named):
    sequence(n00_a=[cell])
    program = [sys.executable, "-c", SMALL_DISK, tmp_path, str(most)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert re.search(rf"{re.escape(named)}.*File too large", said), said
    run = tmp_path / "runs" / "small"
    assert not [*run.rglob("*.tmp")]
    for path in (*run.glob("*.ipynb"), *run.glob("*.json")):
        json.loads(path.read_text())


def test_a_scoreboard_of_an_earlier_run_is_gone_when_the_first_notebook_starts(sequence, executed):
    sequence(n00_a=["pass"])
    reproduce()
    sequence(n00_a=["interrupt"])
    with pytest.raises(KeyboardInterrupt):
        reproduce()
    assert scoreboard()["notebooks"] == []


@pytest.mark.parametrize("name", ["00_a.ipynb", "scoreboard.json", "report.html"])
def test_a_folder_in_the_place_of_a_file_is_named_and_left_as_it_is(sequence, executed, name):
    sequence(n00_a=["pass"])
    kept = paths.runs_dir() / "quick" / name / "mine"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(OSError, match=name):
        reproduce()
    assert kept.exists()
    assert len(executed) == (name == "00_a.ipynb"), "what is in the way is seen at the start"


@pytest.mark.parametrize(
    ("content", "warns"),
    [
        ("{}", False),
        ("[]", True),
        ("", True),
        ("text", True),
        ("\x00", True),
        ('{"table1-mlp": "3498"}', True),
        ('{"table1-mlp": 3498}', True),
        ('{"table1-mlp": []}', True),
        ('{"table1-mlp": ["3498"]}', True),
        ('{"table1-mlp": [true]}', True),
        (f'{{"table1-mlp": [1{"0" * 400}]}}', True),
        ('{"table1-mlp": {"mean": 1}}', True),
        ("[" * 200_000, True),
    ],
)
def test_a_file_of_claims_that_no_run_wrote_counts_as_none_with_a_warning(
    sequence, executed, monkeypatch, content, warns
):
    sequence(n00_a=["pass"])
    execute = execution.execute

    def measure_oddly(*args, **options):
        outcome = execute(*args, **options)
        (paths.runs_dir() / "quick" / "claims" / "00_a.json").write_text(content)
        return outcome

    monkeypatch.setattr(execution, "execute", measure_oddly)
    expected = pytest.warns(UserWarning, match="count as not measured")
    with expected if warns else contextlib.nullcontext():
        assert reproduce()[0] == 0
    assert not [row for row in scoreboard()["claims"] if row["measured"]]


@pytest.mark.parametrize("content", ["{}", "[]", "null", "4", '"a"', "", "[" * 200_000])
def test_a_notebook_that_is_none_is_refused_before_anything_runs(sequence, executed, content):
    sequence(n00_a=["pass"])
    (paths.notebooks_dir() / "01_b.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"Expected '.*01_b.ipynb' to"):
        reproduce()
    assert executed == []


def test_the_digest_of_the_code_sees_every_module(monkeypatch, tmp_path):
    (tmp_path / "deep").mkdir()
    module = tmp_path / "deep" / "module.py"
    module.write_text("x = 1")
    monkeypatch.setattr(kernels.fingerprints, "PACKAGE", tmp_path)
    before = kernels.code_digest()
    module.write_text("x = 2")
    changed = kernels.code_digest()
    module.rename(tmp_path / "deep" / "other.py")
    assert len({before, changed, kernels.code_digest()}) == 3


def test_jobs_go_to_notebooks_and_are_no_changed_setting(sequence, executed):
    sequence(n00_a=["pass"])
    plan = runner.plan_run(num_jobs=3)
    assert plan.run_dir == paths.runs_dir() / "quick"
    assert reproduce(num_jobs=3)[0] == 0
    assert executed[-1][1]["settings"]["num_jobs"] == 3
    assert "not tested: settings changed" not in {row["status"] for row in scoreboard()["claims"]}
    assert reproduce()[0] == 0
    assert "num_jobs" not in executed[-1][1]["settings"]


def test_figures_of_a_run_are_those_its_notebooks_wrote(sequence, executed):
    sequence(n00_a=["pass"])
    old = paths.runs_dir() / "quick" / "figures" / "00_a" / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    (old.parent / "one.json").write_text("{}")
    reproduce()
    reproduce()  # the same bytes, but written anew
    assert [name for name, _ in scoreboard()["notebooks"][0]["figures"]] == ["one"]


@pytest.mark.slow
def test_an_executed_notebook_carries_the_record_of_its_run(sequence):
    cells = [DESCRIBE, MEASURE.format(notebook="00_a", value=3498)]
    sequence(kernel="somebodys-conda", n00_a=[*cells, DRAW.format(notebook="00_a", name="one")])
    assert reproduce()[0] == 0
    metadata = metadata_of("00_a")
    record = metadata["rebasin_lab"]
    assert metadata.kernelspec.name == "python3"
    assert record["profile"] == "quick"
    assert record["devices"] == [f"{each} ({each.device_kind})" for each in jax.devices()]
    assert record["platform"] == "a machine"
    assert {"jax", "rebasin_lab"} <= record["versions"].keys()
    assert record["started"] < record["ended"]
    assert [name for name, _ in record["figures"]] == ["one"]


def test_an_executed_notebook_has_its_prints_without_the_lines_of_progress_bars(tmp_path):
    bar = "training seed 0: 1/2 in 00:03, 00:03 left\n"
    printed = [bar, bar + "training seed 0: 2/2 in 00:06, 00:00 left, loss 1\n", "seven\n" + bar]
    outputs = [nbformat.v4.new_output("stream", text=text) for text in printed]
    cells = [
        nbformat.v4.new_code_cell("print(7)", outputs=outputs),
        nbformat.v4.new_markdown_cell(),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    execution.write_record(tmp_path / "a.ipynb", {})
    code, _ = execution.read_notebook(tmp_path / "a.ipynb").cells
    assert [output.text for output in code.outputs] == printed[2:]


@pytest.mark.slow
def test_an_interrupt_from_the_keyboard_ends_the_run_and_its_kernel(sequence):
    sleep = """
import os, pathlib, time
pathlib.Path(settings["run_dir"], "pid").write_text(str(os.getpid()))
time.sleep(60)
"""
    sequence(n00_a=[sleep], n01_b=["pass"])
    program = f"""
from pathlib import Path
from rebasin_lab import paths
from rebasin_lab.lab import runner
paths.notebooks_dir = lambda: Path({str(paths.notebooks_dir())!r})
paths.figures_dir = lambda: Path({str(paths.figures_dir())!r})
runner.reproduce(runner.plan_run(), keep_going=True)
"""
    started = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    pid = paths.runs_dir() / "quick" / "pid"
    _wait_for(lambda: pid.exists() and pid.read_text())
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert scoreboard()["notebooks"] == []
    assert "rebasin_lab" not in metadata_of("00_a")
    _wait_for(lambda: not _runs(int(pid.read_text())))


PROCESS = """
import json, os, pathlib, sys, psutil
me = psutil.Process()
had = [name for name in ("rebasin_lab", "left_behind") if name in sys.modules]
siblings = [p.pid for p in me.parent().children() if "ipykernel_launcher" in p.cmdline()]
said = {"pid": me.pid, "had": had, "names": sorted(globals()), "siblings": siblings}
pathlib.Path(settings["run_dir"], f"{name}.json").write_text(json.dumps(said))
sys.modules["left_behind"] = None
"""


def _said(name):
    return json.loads((paths.runs_dir() / "quick" / f"{name}.json").read_text())


@pytest.mark.slow
def test_the_next_kernel_starts_while_one_is_at_work_and_is_as_new(sequence):
    wait_for_sibling = """
import time
deadline = time.monotonic() + 60
while len(siblings) < 2 and time.monotonic() < deadline:
    time.sleep(0.1)
    siblings = [p.pid for p in me.parent().children() if "ipykernel_launcher" in p.cmdline()]
    said["siblings"] = siblings
pathlib.Path(settings["run_dir"], f"{name}.json").write_text(json.dumps(said))
"""
    sequence(n00_a=["name = 'a'", PROCESS, wait_for_sibling], n01_b=["name = 'b'", PROCESS])
    status, text = reproduce()
    assert status == 0, text
    first, second = _said("a"), _said("b")
    assert second["pid"] in first["siblings"]
    assert second["siblings"] == [second["pid"]]  # the last notebook prepares none
    for said in (first, second):
        assert said["had"] == ["rebasin_lab"]
        assert not {"rebasin_lab", "rl"} & set(said["names"])
        assert not _runs(said["pid"])


@pytest.mark.slow
def test_a_prepared_kernel_is_used_only_alive_and_with_the_code_it_imported(sequence, monkeypatch):
    with execution.Kernels(paths.notebooks_dir()) as pool:
        first = pool.take(prepare_next=True)
        prepared = pool._ready
        assert pool.take(prepare_next=True) is prepared
        assert not _runs(first.provisioner.pid)
        outdated = pool._ready
        monkeypatch.setattr(kernels, "code_digest", lambda: "edited")
        assert pool.take(prepare_next=True) is not outdated
        assert not _runs(outdated.provisioner.pid)
        dead = pool._ready
        os.kill(dead.provisioner.pid, signal.SIGKILL)
        dead.provisioner.process.wait()
        last = pool.take(prepare_next=True)
        assert last is not dead
        ready = pool._ready
    assert not _runs(last.provisioner.pid)
    assert not _runs(ready.provisioner.pid)


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_compiled_code_is_kept_where_the_user_says_or_under_runs(
    sequence, tmp_path, monkeypatch, own
):
    if own:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    else:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    sequence(n00_a=["import jax", "jax.jit(lambda x: x + 1)(1.0)"])
    status, text = reproduce()
    assert status == 0, text
    folder = tmp_path / "mine" if own else jupyter._compiled_dir()
    assert own or folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir() if path.name.startswith("jit__lambda")]
    assert paths.compiled_dir().exists() != own


@pytest.mark.parametrize("name", jupyter._MEMORY)
def test_what_the_user_says_of_a_gpus_memory_stands(monkeypatch, name):
    for each in jupyter._MEMORY:
        monkeypatch.delenv(each, raising=False)
    preallocate = "XLA_PYTHON_CLIENT_PREALLOCATE"
    for options, expected in (
        ({}, None),
        ({"shares_device": True}, "false"),
        ({"interactive": True}, "false"),
    ):
        with jupyter.KernelEnvironment(**options):
            assert os.environ.get(preallocate) == expected
        assert preallocate not in os.environ
    monkeypatch.setenv(name, "0.5")
    with jupyter.KernelEnvironment(interactive=True):
        assert {n: os.environ[n] for n in jupyter._MEMORY if n in os.environ} == {name: "0.5"}


@pytest.mark.parametrize("interactive", [True, False])
def test_only_kernels_of_jupyterlab_load_what_draws_before_their_first_cell(interactive):
    with jupyter.KernelEnvironment(interactive=interactive):
        manager, client = start_new_kernel(kernel_name="python3")
        try:
            said = []
            code = "import sys; print({'matplotlib.axes', 'jax', 'ipywidgets'} & {*sys.modules})"
            client.execute_interactive(code, output_hook=said.append, timeout=60)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    texts = [one["content"]["text"] for one in said if one["msg_type"] == "stream"]
    assert texts == ["{'matplotlib.axes'}\n" if interactive else "set()\n"]


@pytest.mark.parametrize(
    ("asked", "fits"),
    [("cuda", False), ("tpu,cpu", False), ("gpu", False), ("cpu", True), ("", True)],
)
def test_a_kernel_on_another_platform_than_asked_for_is_an_error(monkeypatch, asked, fits):
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    expected = pytest.raises(ValueError, match="this kernel computes on 'cpu'")
    with contextlib.nullcontext() if fits else expected:
        session.check_platform()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    session.check_platform()


def test_importing_the_library_holds_no_device():
    """A kernel that waits must not hold memory of a GPU that another one works on."""
    program = "import rebasin_lab; from jax._src import xla_bridge; assert not xla_bridge._backends"
    subprocess.run([sys.executable, "-c", program], check=True)


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_a_kernel_of_that_name_elsewhere_is_not_taken_for_ours(sequence, monkeypatch, tmp_path):
    foreign = tmp_path / "data" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/nowhere/python"], "display_name": "Other", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "data"))
    sequence(n00_any=[f"import sys; assert sys.executable == {sys.executable!r}"])
    status, text = reproduce()
    assert status == 0, text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(line, text):
    line.handle(logging.LogRecord("papermill", logging.INFO, "", 0, text, None, None))


def test_a_terminal_shows_notebook_time_in_all_work_and_time_left():
    out, now = Terminal(), [100.0]
    line = execution.StatusLine("[2/5] 01_b", out, since=10.0, clock=lambda: now[0])
    progress(line, "training seed 0: 3/30 in 00:10, 01:30 left")
    line.close()
    shown = out.getvalue().split("\r\033[K")
    assert "[2/5] 01_b 01:30 | running ..." in shown
    assert "[2/5] 01_b 01:30 | training seed 0: 3/30 in 00:10, 01:30 left" in shown
    assert shown[-1] == "", "the line is cleared"


def test_a_terminal_that_has_gone_ends_the_line_and_nothing_else():
    class Gone(Terminal):
        def write(self, text):
            raise BrokenPipeError

    line = execution.StatusLine("[2/5] 01_b\x1b[2J", Gone())
    progress(line, "training seed 0: 3/30 in 00:10, 01:30 left")
    line.close()


def test_the_clock_ticks_while_nothing_is_said():
    out, now = Terminal(), iter(range(1000))
    line = execution.StatusLine("[2/5] 01_b", out, clock=lambda: next(now))
    _wait_for(lambda: out.getvalue().count("running") >= 3)
    line.close()
    times = re.findall(r"(\d\d:\d\d) \|", out.getvalue())
    assert len(set(times)) >= 3
    assert times == sorted(times)


def test_a_log_gets_one_line_a_minute_at_most():
    out, now = io.StringIO(), [0.0]
    line = execution.StatusLine("[2/5] 01_b", out, since=0.0, clock=lambda: now[0])
    for second in range(0, 200, 3):
        now[0] = float(second)
        progress(line, f"training seed 0: {second}/200 in 00:10, 01:30 left")
        progress(line, "whatever else a notebook prints")
    line.close()
    lines = out.getvalue().splitlines()
    assert [re.search(r"b (\S+) \|", text).group(1) for text in lines] == [
        "01:00",
        "02:00",
        "03:00",
    ]
    assert all("left" in text for text in lines)


def test_a_log_gets_a_line_a_minute_though_nothing_is_said(monkeypatch):
    monkeypatch.setattr(status, "SECONDS_BETWEEN_LINES", 0.5)
    monkeypatch.setattr(status, "SECONDS_BETWEEN_LOOKS", 0.05)
    out = io.StringIO()
    line = execution.StatusLine("[2/5] 01_b", out)
    line.place.begin(notebook=new_notebook(cells=[new_code_cell("a"), new_code_cell("b")]))
    line.place.move(cell=new_code_cell("a"), cell_index=0)
    progress(line, "training seed 0: 3/30 in 00:10, 01:30 left")
    _wait_for(lambda: out.getvalue().count("\n") >= 2)
    line.place.move(cell=new_code_cell("b"), cell_index=1)
    _wait_for(lambda: out.getvalue().count("\n") >= 4)
    line.close()
    lines = out.getvalue().splitlines()
    assert len(lines) < 6
    said = " | training seed 0: 3/30 in 00:10, 01:30 left"
    assert re.fullmatch(rf"\[2/5\] 01_b 00:0\d \| cell 1 of 2{re.escape(said)}", lines[0])
    assert re.fullmatch(r"\[2/5\] 01_b 00:0\d \| cell 2 of 2", lines[-1])
    time.sleep(0.6)
    assert out.getvalue().splitlines() == lines, "none after its end"


@pytest.mark.slow
def test_a_silent_notebook_shows_its_cell_where_there_is_no_terminal(sequence, monkeypatch):
    monkeypatch.setattr(status, "SECONDS_BETWEEN_LINES", 2.0)
    sequence(n00_a=["import time; time.sleep(5)"])
    code, text = reproduce()
    assert code == 0
    ticks = [line for line in text.splitlines() if "00_a" in line and "|" in line]
    assert 2 <= len(ticks) <= 12
    assert ticks[-1].endswith("| cell 3 of 3")


GPU = yaml.safe_load((ROOT / ".github" / "workflows" / "gpu.yml").read_text())


def test_the_gpu_workflow_calls_what_make_and_the_command_line_have():
    steps = "\n".join(step.get("run", "") for step in GPU["jobs"]["reproduce"]["steps"])
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = re.findall(r"make ([\w-]+)", steps)
    assert "reproduce" in called
    assert set(called) <= set(targets)
    from rebasin_lab import cli

    options = {o for parameter in cli.main.commands["reproduce"].params for o in parameter.opts}
    assert set(re.findall(r"(?<= )--[a-z-]+", steps)) <= options


def test_the_gpu_workflow_offers_the_profiles_and_runs_weekly_on_a_gpu():
    events = GPU[True]  # YAML 1.1 reads the key `on` as true
    inputs = events["workflow_dispatch"]["inputs"]
    assert set(inputs["profile"]["options"]) == set(claims.PROFILES)
    assert inputs["profile"]["default"] == "paper"
    assert "only" in inputs
    assert len(events["schedule"]) == 1
    job = GPU["jobs"]["reproduce"]
    assert job["runs-on"] == ["self-hosted", "gpu"]
    assert job["timeout-minutes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"widht": 3}}, r"Expected a field of the profile.*width.*got 'widht'"),
        ({"parameters": {"run_dir": "x"}}, "got 'run_dir'"),
        ({"parameters": {"num_jobs": 2}}, "got 'num_jobs'. Use --jobs for it"),
        ({"num_jobs": 0}, "Expected at least 1 job; got 0"),
        ({"parameters": {"width": "wide"}}, "Expected width to be a positive int"),
        ({"parameters": {"trial": "false"}}, "Expected trial to be true or false; got 'false'"),
        ({"parameters": {"trial": 1}}, "Expected trial to be true or false; got 1"),
        ({"parameters": {"settings": "{}"}}, "got 'settings'"),
        ({"parameters": {"name": "paper"}}, "got 'name'"),
        ({"parameters": {"batch_size": 0}}, "Expected batch_size to be a positive int; got 0"),
        ({"parameters": {"width": 0}}, "Expected width to be a positive int; got 0"),
        ({"parameters": {"batch_size": 10**6}}, "Expected batch_size to be at most 4000"),
        ({"parameters": {"widht": 3}}, r"do you mean width"),
        ({"num_jobs": -1}, "Expected at least 1 job; got -1"),
        ({"num_jobs": 10**6}, "Expected at most .* jobs"),
        ({"num_jobs": True}, "Expected num_jobs to be an int"),
        ({"timeout": 0}, r"Expected timeout to be minutes, above 0 .*got 0\."),
        ({"timeout": -1}, "got -1"),
        ({"timeout": float("nan")}, "got nan"),
        ({"timeout": float("inf")}, "got inf"),
        ({"timeout": 1e9}, "got 1000000000.0"),
        ({"timeout": True}, "got True"),
        ({"profile": ""}, "Expected a profile among .*got ''"),
        ({"only": [""]}, "Expected the start of a notebook's name"),
        ({"profile": "huge"}, "Expected a profile among"),
        ({"only": ["07"]}, "Expected the start of a notebook's name .*00_first.*got '07'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(sequence, options, message):
    sequence(n00_first=["raise AssertionError"])
    with pytest.raises(ValueError, match=message):
        reproduce(**options)
    assert not (paths.runs_dir() / "quick").exists()


def test_missing_data_is_said_before_anything_runs(sequence, tmp_path, monkeypatch):
    sequence(n00_first=["raise AssertionError"])
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        reproduce(profile="laptop")


def test_no_notebooks_says_where_they_are_expected(sequence):
    with pytest.raises(FileNotFoundError, match="Run this from a checkout"):
        runner.notebook_sequence()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("width=64", 64),
        ("rate=1e-3", 1e-3),
        ("rate=0.5", 0.5),
        ("dataset=mnist", "mnist"),
        ("dataset=fashion_mnist", "fashion_mnist"),
        ("interactive=true", True),
        ("seeds=[1, 2]", [1, 2]),
        ("name=a=b", "a=b"),
        ("seed=010", "010"),  # no octal number
        ("seed=1:30", "1:30"),  # no number in base 60
        (" width =3", 3),
    ],
)
def test_parameters_have_the_type_they_look_like(text, value):
    name, parsed = runner.parse_parameter(text)
    assert name == text.partition("=")[0].strip()
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "name=value; got 'width'"),
        ("width=[1", "cannot be read"),
        ("width=[1e", "cannot be read"),
        ("=3", "name=value; got '=3'"),
        ("x=" + "[" * 3000, "cannot be read"),
        ("x=2020-13-45", "cannot be read"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        runner.parse_parameter(text)


def test_scoreboard_printed_is_of_the_chosen_notebooks(sequence, executed):
    names = {f"n{claim.notebook}": [] for claim in claims.CLAIMS.values()}
    sequence(**names)
    _, text = reproduce(only=["05"])
    of = {claim.notebook: claim.statement[:30] for claim in claims.CLAIMS.values()}
    assert of["05_counterexample"] in text
    assert not [name for name in of if name != "05_counterexample" and of[name] in text]
    every = {row["notebook"] for row in scoreboard("quick-partial")["claims"]}
    assert every == set(of)  # the file holds all


@pytest.mark.parametrize(
    ("options", "run"),
    [
        ({}, "quick"),
        ({"only": ["00"]}, "quick-partial"),
        ({"parameters": {"width": 8}}, "quick-width-8-[0-9a-f]{8}"),
        ({"parameters": {"width": 8}, "only": ["00"]}, "quick-width-8-[0-9a-f]{8}-partial"),
        ({"parameters": {"width": 512}}, "quick"),
        ({"parameters": {"trial": True}}, "quick-trial-[0-9a-f]{8}"),
        ({"parameters": {"trial": False}}, "quick"),
        ({"parameters": {"mlp_widths": [16, 32]}}, "quick-mlp-widths-16-32-[0-9a-f]{8}"),
        ({"run_name": "mine"}, "mine"),
    ],
)
def test_every_run_draws_into_its_own_folder_named_by_its_settings(sequence, options, run):
    sequence(n00_first=["pass"])
    plan = runner.plan_run(**options)
    assert plan.run_dir.parent == paths.runs_dir()
    assert re.fullmatch(run, plan.run_dir.name)
    assert plan.figures_dir == plan.run_dir / "figures"
    assert runner.plan_run(**options).run_dir == plan.run_dir


def test_other_settings_have_another_folder(sequence):
    sequence(n00_first=["pass"])
    settings = [{"width": 8}, {"width": 9}, {"num_pairs": 1}, {"mlp_widths": [8]}, {"trial": True}]
    settings += [{"minorities": []}, {"width": 8, "trial": True}]
    folders = {runner.plan_run(parameters=each).run_dir for each in settings}
    assert len(folders) == len(settings)


NO_NAMES = ["../notebooks", "a/b", "/tmp/x", "", ".", "..", ".x", "x.", "-x", "a b", "ä", "a\nb"]
NO_NAMES += ["{x}", "~", "x" * 101, "checkpoints", "Records", "INTERACTIVE", "compiled", "browser"]
NO_NAMES += ["con", "NUL.txt", "com1", "a\\b", "a:b", "a\0b"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_run_is_a_name_and_no_source_is_lost(sequence, executed, name):
    sequence(n00_first=["pass"])
    source = paths.notebooks_dir() / "00_first.ipynb"
    before = source.read_bytes()
    with pytest.raises(ValueError, match="Expected .*name.*got"):
        reproduce(run_name=name)
    assert source.read_bytes() == before
    assert not executed


def test_a_run_folder_that_leads_elsewhere_is_refused(sequence, executed):
    sequence(n00_first=["pass"])
    before = (paths.notebooks_dir() / "00_first.ipynb").read_bytes()
    paths.runs_dir().mkdir()
    (paths.runs_dir() / "mine").symlink_to(paths.notebooks_dir())
    with pytest.raises(ValueError, match="it is a link to .*notebooks"):
        reproduce(run_name="mine")
    (paths.runs_dir() / "other").mkdir()
    (paths.runs_dir() / "other" / "figures").symlink_to(paths.notebooks_dir())
    with pytest.raises(ValueError, match="it is a link to .*notebooks"):
        reproduce(run_name="other")
    (paths.runs_dir() / "third").mkdir()
    (paths.runs_dir() / "third" / "claims").symlink_to(paths.notebooks_dir())
    with pytest.raises(ValueError, match="Remove the link"):
        reproduce(run_name="third")
    assert (paths.notebooks_dir() / "00_first.ipynb").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_links_from_a_run_to_the_source_are_removed_and_the_source_stays(sequence, link):
    sequence(n00_first=["pass"])
    source, run = paths.notebooks_dir() / "00_first.ipynb", paths.runs_dir() / "quick"
    before = source.read_bytes()
    run.mkdir(parents=True)
    for ending in ("ipynb", "log"):
        getattr(run / f"00_first.{ending}", link)(source)
    status, text = reproduce()
    assert status == 0, text
    assert source.read_bytes() == before
    assert metadata_of("00_first")["rebasin_lab"]["error"] == ""


def test_a_notebook_is_not_executed_onto_itself(sequence):
    sequence(n00_first=["pass"])
    source = paths.notebooks_dir() / "00_first.ipynb"
    with pytest.raises(ValueError, match="to differ"):
        execution.execute(
            source,
            source,
            {},
            kernels=execution.Kernels(source.parent),
            status=execution.StatusLine("", io.StringIO()),
            minutes=1.0,
        )
    assert source.is_file()


def test_two_runs_in_one_folder_are_refused_naming_the_first(sequence, executed, tmp_path):
    sequence(n00_first=["pass"])
    plan = runner.plan_run(run_name="mine", figures_dir=tmp_path / "drawn")
    with paths.locked(plan.run_dir, "running something"):
        with pytest.raises(paths.LockedError, match=rf"process {os.getpid()} on .* --run NAME"):
            reproduce(run_name="mine")
    assert not executed
    assert reproduce(run_name="mine")[0] == 0


def test_two_runs_that_draw_into_one_folder_are_refused(sequence, executed, monkeypatch, tmp_path):
    sequence(n00_first=["pass"])
    execute = execution.execute

    def second(*arguments, **options):
        monkeypatch.setattr(execution, "execute", execute)
        with pytest.raises(paths.LockedError, match="in use by process"):
            reproduce(run_name="second", figures_dir=tmp_path / "drawn")
        return execute(*arguments, **options)

    monkeypatch.setattr(execution, "execute", second)
    assert reproduce(run_name="first", figures_dir=tmp_path / "drawn")[0] == 0
    assert reproduce(run_name="second", figures_dir=tmp_path / "drawn")[0] == 0


@pytest.mark.parametrize("where", ["file", "file/below", "notebooks", "notebooks/below"])
def test_figures_go_to_a_folder_that_is_for_them(sequence, tmp_path, where):
    sequence(n00_first=["pass"])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Expected --figures to be a folder"):
        runner.plan_run(figures_dir=tmp_path / where)


ODD_FOLDERS = [
    "with space",
    "ünï",
    "{x}",
    "{0}",
    "100%",
    "$HOME",
    'it\'s "q"',
    "a\nb",
    "a\\nb",
    "#",
]


@pytest.mark.slow
def test_folders_of_any_name_work(sequence, tmp_path, monkeypatch):
    draw = DRAW.format(notebook="00_first", name="one")
    sequence(n00_first=[MEASURE.format(notebook="00_first", value=3498), draw])
    runs = tmp_path.joinpath(*ODD_FOLDERS)
    monkeypatch.setenv("REBASIN_RUNS", f"{runs}/")
    status, text = reproduce()
    assert status == 0, text
    assert {path.name for path in (runs / "quick").iterdir()} >= {
        "00_first.ipynb",
        "00_first.log",
        "claims",
        "figures",
        "report.html",
        "scoreboard.json",
    }


@pytest.mark.slow
def test_a_relative_folder_is_one_for_the_command_and_its_kernels(sequence, tmp_path, monkeypatch):
    say = """
import os, pathlib
names = ("REBASIN_RUNS", "REBASIN_DATA", "JAX_COMPILATION_CACHE_DIR")
pathlib.Path(settings["run_dir"], "said").write_text("\\n".join(os.environ[name] for name in names))
"""
    sequence(n00_first=[say])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REBASIN_RUNS", "mine")
    monkeypatch.setenv("REBASIN_DATA", "../data")
    (tmp_path.parent / "data").mkdir(exist_ok=True)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "compiled")
    status, text = reproduce()
    assert status == 0, text
    said = (tmp_path / "mine" / "quick" / "said").read_text().splitlines()
    assert said == [
        str(tmp_path / "mine"),
        str(tmp_path.parent / "data"),
        str(tmp_path / "compiled"),
    ]
    assert os.environ["REBASIN_RUNS"] == "mine"


def test_settings_reach_every_notebook_with_the_places_of_the_run(sequence, executed):
    sequence(n00_a=["pass"], n01_b=["pass"])
    reproduce(parameters={"mlp_widths": [16, 32], "width": 8}, num_jobs=1)
    for _, given in executed:
        assert given["profile"] == "quick"
        settings = given["settings"]
        assert {settings.pop("run_dir"), settings.pop("figures_dir")} == {
            str(next(paths.runs_dir().glob("quick-*"))),
            str(next(paths.runs_dir().glob("quick-*")) / "figures"),
        }
        changes = {"mlp_widths": [16, 32], "width": 8}
        assert settings == {**changes, "num_jobs": 1, "interactive": False}


_ENDINGS = ("json", "svg", "png")


def _tracked():
    folder = paths.figures_dir()
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def drawing(executed, monkeypatch):
    """The stand-in for papermill, which draws an SVG, too."""
    execute = execution.execute

    def draw(notebook, output, parameters, **options):
        outcome = execute(notebook, output, parameters, **options)
        for path in (Path(parameters["settings"]["figures_dir"]) / notebook.stem).glob("*.png"):
            path.with_suffix(".svg").write_text("<svg/>")
        return outcome

    monkeypatch.setattr(execution, "execute", draw)


def test_figures_change_by_publishing_a_finished_run_alone(sequence, drawing):
    sequence(n00_a=["pass"])
    assert reproduce()[0] == 0
    assert _tracked() == set()
    folder, left = runner.publish("quick")
    assert (folder, left) == (paths.figures_dir(), [])
    assert _tracked() == {f"00_a/one.{ending}" for ending in _ENDINGS}
    (folder / "00_a" / "old.json").write_text("{}")
    assert runner.publish("quick")[1] == [folder / "00_a" / "old.json"]
    assert (folder / "00_a" / "old.json").exists()


def test_another_profile_is_published_with_scoreboard_and_gallery(sequence, drawing):
    sequence(n00_a=["pass"])
    reproduce(run_name="mine")
    _as_laptop("mine")
    folder, _ = runner.publish("mine")
    assert folder == paths.figures_dir() / "laptop"
    pictures = {f"laptop/00_a/one.{ending}" for ending in _ENDINGS}
    assert _tracked() == pictures | {"README.md", "scoreboard.json"}
    assert "laptop/00_a/one.svg" in (paths.figures_dir() / "README.md").read_text()


def _as_laptop(run_name):
    """The scoreboard of a run, as if its profile were `laptop`."""
    board = paths.runs_dir() / run_name / "scoreboard.json"
    board.write_text(board.read_text().replace('"name": "quick"', '"name": "laptop"'))
    return board


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_a_run_of_some_notebooks_replaces_theirs(profile, sequence, drawing):
    sequence(n00_a=["pass"], n01_b=["pass"])
    for name, only in (("whole", ()), ("second", ["01"])):
        reproduce(run_name=name, only=only)
        if profile == "laptop":
            _as_laptop(name)
    with pytest.raises(ValueError, match="00_a did not end"):
        runner.publish("second")  # 00_a is not published either
    assert _tracked() == set()
    runner.publish("whole")
    before = _tracked()
    assert runner.publish("second")[1] == []
    assert _tracked() == before
    if profile == "laptop":
        board = json.loads((paths.figures_dir() / "scoreboard.json").read_text())
        whole, second = (
            json.loads((paths.runs_dir() / name / "scoreboard.json").read_text())["notebooks"]
            for name in ("whole", "second")
        )
        times = [(each["notebook"], each["ended"]) for each in board["notebooks"]]
        assert times == [("00_a", whole[0]["ended"]), ("01_b", second[0]["ended"])]
        assert str(paths.runs_dir()) not in json.dumps(board)  # places say nothing elsewhere


@pytest.mark.parametrize("field", ["versions", "profile"])
def test_notebooks_of_other_versions_or_settings_do_not_stand_in_one_scoreboard(
    field, sequence, drawing
):
    sequence(n00_a=["pass"], n01_b=["pass"])
    reproduce(run_name="whole")
    board = _as_laptop("whole")
    changed = json.loads(board.read_text())
    changed[field] |= {"numpy": "1", "num_pairs": 99}
    board.write_text(json.dumps(changed))
    runner.publish("whole")
    reproduce(run_name="second", only=["01"])
    _as_laptop("second")
    with pytest.raises(ValueError, match="published with the same versions; 00_a did not end"):
        runner.publish("second")


@pytest.mark.parametrize("board", ["{}", "[]", "3", "{", '{"notebooks": 3}'])
def test_no_scoreboard_is_not_published(sequence, board):
    sequence(n00_a=["pass"])
    path = paths.runs_dir() / "quick" / "scoreboard.json"
    path.parent.mkdir(parents=True)
    path.write_text(board)
    with pytest.raises(ValueError, match="Expected .* in '|Expected '.*' to hold JSON"):
        runner.publish("quick")
    assert not paths.figures_dir().exists()


def test_a_run_that_is_not_whole_is_not_published(sequence, drawing):
    sequence(n00_a=["pass"])
    with pytest.raises(ValueError, match="there is none"):
        runner.publish("quick")
    reproduce(run_name="changed", parameters={"width": 8})
    with pytest.raises(ValueError, match="settings were changed"):
        runner.publish("changed")
    reproduce(run_name="edited")
    (paths.runs_dir() / "edited" / "figures" / "00_a" / "one.json").write_text("{}")
    with pytest.raises(ValueError, match="as the run drew it"):
        runner.publish("edited")
    with paths.locked(paths.runs_dir() / "edited", "running"):
        with pytest.raises(paths.LockedError, match="running"):
            runner.publish("edited")
    reproduce(run_name="part")
    sequence(n01_b=["no good"])
    with pytest.raises(ValueError, match="01_b did not end"):
        runner.publish("part")
    assert not paths.figures_dir().exists()


def test_a_dry_run_tells_what_is_stored_and_what_is_not_and_trains_nothing(monkeypatch, tiny_data):
    wanted = [
        Experiment(
            dataset="digits8x8",
            seed=seed,
            train=rl.TrainConfig(batch_size=100, num_epochs=1),
            options=(("num_hidden_layers", 1), ("width", 4)),
        )
        for seed in range(3)
    ]
    grids = {"00_quickstart": wanted[:2], "01_symmetries": wanted}
    for name, networks in grids.items():
        groups = {"all": dict(enumerate(networks))}
        section = types.SimpleNamespace(networks=lambda _, groups=groups: groups)
        monkeypatch.setitem(sections.SECTIONS, name, section)
    store.trained(wanted[0], style="silent")
    before = sorted(paths.checkpoints_dir().iterdir())
    text = runner.preview(runner.plan_run(only=["00", "01"]))
    assert sorted(paths.checkpoints_dir().iterdir()) == before
    rows = [line.split() for line in text.splitlines()[1:4]]
    assert rows[0] == ["00_quickstart", "2", "1", "1"]
    assert rows[1] == ["01_symmetries", "3", "1", "1"]
    assert rows[2] == ["together,", "each", "once", "3", "1", "2"]
    assert "2 x digits8x8, mlp (num hidden layers 1, width 4), 1 epochs of adam" in text


def test_a_dry_run_with_everything_stored_says_so(monkeypatch):
    nothing = types.SimpleNamespace(networks=lambda _: {})
    monkeypatch.setitem(sections.SECTIONS, "00_quickstart", nothing)
    assert "Nothing is left to train." in runner.preview(runner.plan_run(only=["00"]))
