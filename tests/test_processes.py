"""Runs that are ended from outside: real processes, and what is left of them."""

import contextlib
import gc
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rebasin_lab import processes

PARAMETERS = """
profile: str = "quick"  # sizes
settings: dict = {}
"""

# Says which processes it has, then never ends.
CELL = """
import os, pathlib, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
child = subprocess.Popen(sleep)
apart = subprocess.Popen(sleep, start_new_session=True)
started_by = os.environ["JUPYTER_PATH"].split(os.pathsep)[0]
folder = pathlib.Path(settings["run_dir"])
(folder / "folder").write_text(started_by)
(folder / "pids").write_text(f"{{os.getpid()}} {{child.pid}} {{apart.pid}} ")
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


def _wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _catches(pid, number):
    """Whether a process has a handler for this signal."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1


PROGRAMS = {
    "command": ["{folder}/rebasin-lab", "reproduce", "--dry-run"],
    "module": ["-m", "rebasin_lab.cli", "reproduce", "--dry-run"],
    "gpu_check": ["-m", "rebasin_lab.lab.gpu_check", "--tiny"],
}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def _program(tmp_path, name):
    # As pip writes it.
    (tmp_path / "rebasin-lab").write_text(
        "import sys\nfrom rebasin_lab.cli import main\nsys.exit(main())\n"
    )
    arguments = [each.format(folder=tmp_path) for each in PROGRAMS[name]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], **pipes)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_signal_at_the_first_moment_is_one_line(tmp_path, name, number):
    program = _program(tmp_path, name)
    _wait_for(lambda: _catches(program.pid, signal.SIGTERM))
    program.send_signal(number)
    said = program.communicate(timeout=120)
    assert (program.returncode, *said) == (128 + number, "", "\nInterrupted.\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_first_moment_is_before_anything_heavy(tmp_path, name):
    hook = """
import signal, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "jax", "click", "matplotlib", "scipy", "IPython"):
            import os
            print(signal.getsignal(signal.SIGINT) is not signal.default_int_handler, flush=True)
            os._exit(0)
sys.meta_path.insert(0, Hook())
"""
    (tmp_path / "sitecustomize.py").write_text(hook)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        program = _program(tmp_path, name)
    assert program.communicate(timeout=120) == ("True\n", "")


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0, 7.0])
def test_a_signal_while_importing_or_planning_is_no_traceback(tmp_path, seconds):
    program = _program(tmp_path, "command")
    _wait_for(lambda: _catches(program.pid, signal.SIGTERM))
    time.sleep(seconds)
    program.send_signal(signal.SIGINT)
    text, errors = program.communicate(timeout=120)
    assert "Traceback" not in errors
    if program.returncode == -signal.SIGINT:  # all was said, and Python had taken its handlers down
        assert errors == ""
    elif program.returncode != 0:  # it had not ended
        assert program.returncode == 130
        assert errors.count("\n") + text.count("\n") <= 3


class _Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def _collected():
    def callback(phase, _):
        if phase == "start":
            gc.callbacks.remove(callback)
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(callback)
    gc.collect()


@pytest.mark.parametrize("lose", [_collected, _Deleted])
def test_a_signal_in_a_callback_that_drops_exceptions_ends_the_work_after_it(lose, capfd):
    def work():
        lose()
        time.sleep(10)

    before = sys.unraisablehook
    with pytest.raises(processes.Ended, match="SIGINT"), processes.signals_raise():
        work()
    assert sys.unraisablehook is before
    assert capfd.readouterr().err == ""


def test_other_exceptions_that_are_dropped_are_reported_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append(str(what.exc_value)))

    class Fails:
        def __del__(self):
            raise ValueError("in a destructor")

    with processes.signals_raise():
        Fails()
    assert seen == ["in a destructor"]


def test_no_signal_of_another_program_is_touched():
    program = (
        "import signal, rebasin_lab; print(signal.getsignal(signal.SIGINT).__name__, "
        "signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "default_int_handler True\n"


LATER = """
import pathlib, sys, time
from rebasin_lab import cli, datasets
from rebasin_lab.lab.execution import kernels
place, here = sys.argv[1:]
def forever(*_, **__):
    pathlib.Path(here).touch()
    time.sleep(1000)
if place == "planning":
    datasets.load_dataset = forever
else:
    lines = f"import pathlib, time; pathlib.Path('{here}').touch(); time.sleep(1000)"
    kernels._ARGUMENTS[-1] = f"--IPKernelApp.exec_lines={lines}"
sys.argv[1:] = ["reproduce", "--only", "00", "--set", "trial=true"]
cli.main()
"""


def _descendants(process):
    return [each.pid for each in psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.parametrize(
    ("place", "number"),
    [("planning", signal.SIGTERM), *(("kernel", number) for number in (*SIGNALS, signal.SIGKILL))],
)
def test_a_signal_while_planning_or_while_a_kernel_starts_leaves_nothing(tmp_path, place, number):
    run = subprocess.Popen(
        [sys.executable, "-c", LATER, place, tmp_path / "here"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _wait_for((tmp_path / "here").exists)
    left = _descendants(run)
    assert len(left) == (0 if place == "planning" else 2), "a kernel and the reaper"
    run.send_signal(number)
    text = run.communicate(timeout=120)[0]
    assert run.returncode == (128 + number if number != signal.SIGKILL else -number)
    assert "Traceback" not in text
    assert ("Interrupted." in text) == (number != signal.SIGKILL)
    _wait_for(lambda: not any(map(_lives, left)), seconds=10)


# In the place of JupyterLab: it does not end when asked, and has a terminal of its own session.
STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
if {ignores}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
terminal = subprocess.Popen(sleep, start_new_session=True)
pathlib.Path("{folder}/pids").write_text(f"{{os.getpid()}} {{terminal.pid}} ")
time.sleep(1000)
"""

LAB = """
import sys
from rebasin_lab import cli, processes, paths
processes.SECONDS_TO_END = 1.0
folder = sys.argv[1]
paths.notebooks_dir = lambda: folder
sys.argv[1:] = ["lab"]
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "ignores"),
    [*((number, True) for number in (*SIGNALS, signal.SIGKILL)), (signal.SIGHUP, False)],
)
def test_the_lab_leaves_no_server_and_no_terminal_of_it(tmp_path, monkeypatch, number, ignores):
    (tmp_path / "jupyterlab").mkdir()
    (tmp_path / "jupyterlab" / "__init__.py").touch()
    (tmp_path / "jupyterlab" / "__main__.py").write_text(
        STUBBORN.format(ignores=ignores, folder=tmp_path)
    )
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    opened = subprocess.Popen(
        [sys.executable, "-c", LAB, tmp_path],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    pids = tmp_path / "pids"
    _wait_for(lambda: pids.exists() and pids.read_text().endswith(" "))
    opened.send_signal(number)
    _, errors = opened.communicate(timeout=120)
    assert opened.returncode == (128 + number if number != signal.SIGKILL else -number)
    assert "Traceback" not in errors
    _wait_for(lambda: not any(map(_lives, pids.read_text().split())), seconds=15)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_jupyterlab_is_left(tmp_path, number):
    (tmp_path / "rebasin-lab").write_text("from rebasin_lab.cli import main; main()")
    command = [sys.executable, tmp_path / "rebasin-lab", "lab", "--no-browser", "--port=0"]
    command.append("--allow-root")  # CI may be
    opened = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert any(b"?token=" in line for line in opened.stdout), "it started"
    left = _descendants(opened)
    assert len(left) == 2, "the server and the reaper"
    opened.send_signal(number)
    opened.communicate(timeout=120)
    assert opened.returncode == (128 + number if number != signal.SIGKILL else -number)
    _wait_for(lambda: not any(map(_lives, left)), seconds=30)


SWEEP = """
import sys, time
from rebasin_lab.paper import networks, train_many
from rebasin_lab import training
if __name__ == "__main__":
    wanted = [
        networks.Experiment(
            dataset="digits8x8",
            seed=seed,
            train=training.TrainConfig(batch_size=100, num_epochs=100_000),
            options=(("num_hidden_layers", 1), ("width", 4)),
        )
        for seed in range(4)
    ]
    train_many.train_all(wanted, num_jobs=2, style="silent")
"""


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL, "group"])
def test_a_sweep_leaves_no_worker(tmp_path, monkeypatch, number):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "runs"))
    (tmp_path / "sweep.py").write_text(SWEEP)
    sweep = subprocess.Popen(
        [sys.executable, tmp_path / "sweep.py"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    store = tmp_path / "runs" / "checkpoints"
    _wait_for(lambda: len(list(store.glob("*.partial.safetensors"))) == 2)
    left = _descendants(sweep)
    assert len(left) >= 2
    if number == "group":  # Ctrl-C in a terminal
        os.killpg(sweep.pid, signal.SIGINT)
    else:
        sweep.send_signal(number)
    _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode != 0
    assert "SpawnProcess" not in errors
    _wait_for(lambda: not any(map(_lives, left)), seconds=10)


def test_a_second_signal_ends_an_end_that_hangs(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_END", 0.3)

    def hang():
        with processes.signals_raise():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            except processes.Ended:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(10)

    with pytest.raises(processes.Ended, match="SIGHUP"):
        hang()


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
    text, _ = run.communicate(timeout=120)
    _wait_for(lambda: not any(map(_lives, pids.read_text().split())), seconds=10)
    folder = (tmp_path / "runs" / "ended" / "folder").read_text()
    _wait_for(lambda: not os.path.exists(folder), seconds=10)
    if number == signal.SIGKILL:
        assert run.returncode == -number
    else:
        assert run.returncode == 128 + number
        assert "Interrupted. What ended is stored" in text
        assert (tmp_path / "runs" / "ended" / "report.html").exists()


TRIAL = "from rebasin_lab import cli; cli.main()"
OPTIONS = ["reproduce", "--only", "00", "--set", "trial=true", "--run", "killed"]


def _started(runs):
    environment = {**os.environ, "REBASIN_RUNS": str(runs)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", TRIAL, *OPTIONS], env=environment, **pipes)


def _measured(runs):
    board = json.loads((runs / "killed" / "scoreboard.json").read_text())
    figures = (runs / "killed" / "figures").rglob("*.json")
    numbers = {path.name: json.loads(path.read_text())["numbers"] for path in figures}
    assert [notebook["error"] for notebook in board["notebooks"]] == [""]
    return [(row["claim"], row["measured"]) for row in board["claims"]], numbers


def _processes_of(runs):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("REBASIN_RUNS") == str(runs):
                found.append(process)
    return found


def test_a_run_killed_again_and_again_goes_on_to_the_results_of_one_that_was_not(tmp_path):
    undisturbed = _started(tmp_path / "alone")
    text, _ = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, text
    expected = _measured(tmp_path / "alone")

    runs = tmp_path / "runs"
    log = runs / "killed" / "00_quickstart.log"
    reached = ["Executing notebook with kernel"]
    reached += [f"Executing Cell {number}---" for number in (4, 6)]
    for place in ["", *reached]:
        log.unlink(missing_ok=True)  # of the run before
        run = _started(runs)
        if place:
            _wait_for(lambda place=place: log.exists() and place in log.read_text())
        if place == reached[-1]:
            run.send_signal(signal.SIGSTOP)  # that it does not end meanwhile
            second = _started(runs)
            assert "killed' is in use by process" in second.communicate(timeout=120)[0]
            assert second.returncode == 1
        run.kill()
        run.communicate(timeout=120)
        _wait_for(lambda: not _processes_of(runs), seconds=30)
    last = _started(runs)
    text, _ = last.communicate(timeout=300)
    assert last.returncode == 0, text
    assert _measured(runs) == expected
    assert not list(runs.rglob("*.tmp"))
