"""What a GPU changes is measured in minutes there, and the measuring is tested on a CPU."""

import json
import os
import subprocess
import sys

import pytest

from rebasin_lab.lab import gpu_check
from rebasin_lab.lab.gpu_check import DETERMINISTIC, TINY, Line


@pytest.mark.slow
def test_it_runs_without_what_notebooks_need_and_all_that_must_hold_does(tmp_path):
    # Processes it starts find this first: none of these can be imported.
    for name in ("papermill", "nbformat", "mlxtend", "IPython", "ipywidgets", "pooch"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)")
    program = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
os.environ["JAX_PLATFORMS"] = "cpu"
from rebasin_lab.lab import gpu_check
sys.exit(gpu_check.main(["--tiny", "--out", {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "out" / "gpu_check.md").read_text()
    assert table.strip() == done.stdout.strip()
    lines = [Line(**fields) for fields in json.loads((tmp_path / "out/gpu_check.json").read_text())]
    assert not any(line.error for line in lines)
    names = "\n".join(line.name for line in lines)
    assert len(lines) == len(set(names.split("\n"))), "each line has a name of its own"
    for start, end, _ in gpu_check.BOUNDS[1:]:
        assert any(line.name.startswith(start) and line.name.endswith(end) for line in lines), start


@pytest.mark.parametrize(
    ("name", "value", "held"),
    [
        ("change of logits, permuted MLP, highest", 9e-6, True),
        ("change of logits, permuted MLP, highest", 2e-4, False),
        ("change of logits, permuted MLP, highest", float("nan"), False),
        ("change of logits, permuted MLP, default", 2e-4, None),  # shown only
        (f"same bits after resuming, MLP, default, {DETERMINISTIC}", True, True),
        (f"same bits after resuming, MLP, default, {DETERMINISTIC}", False, False),
        ("same bits after resuming, MLP, default", False, None),
        ("peak of memory, part of the limit, MLP", None, None),
        ("units matched otherwise than planted, MLP", 0, True),
        ("units matched otherwise than planted, MLP", 1, False),
        ("training step of MLP", 1e9, None),
    ],
)
def test_a_line_is_judged_by_the_bound_of_its_name(name, value, held):
    assert gpu_check.with_verdict(Line(name, value)).held is held


def test_full_sizes_need_a_gpu(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpu_check.main(["--out", str(tmp_path)]) == 1
    *_, line, _, verdict = capsys.readouterr().out.splitlines()
    assert "the GPU is used | failed: got the backend cpu; there, add --tiny" in line
    assert verdict == "1 did not hold: the GPU is used."
    assert "the GPU is used" in (tmp_path / "gpu_check.md").read_text()


def _measured(**options):
    given = {"name": "machine", "label": "label", "tiny": True, "multiplier": None, "flags": ""}
    return gpu_check._in_process(**given | {"seconds": 60} | options)


def test_a_measurement_that_fails_or_does_not_end_is_a_line_of_the_table(tmp_path, monkeypatch):
    [line] = _measured(name="memory", multiplier=-1.0)
    assert (line.name, line.held) == ("label", False)
    assert "ValueError" in line.error
    # Python imports this before anything else: no machine is fast enough to end in time.
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    [line] = _measured(seconds=1.1)
    assert "not done within 1 s" in line.error
    [line] = _measured(seconds=0)
    assert line.error == "no time was left"
    assert "failed: no time was left" in gpu_check._row(line)


def test_flags_reach_the_process_and_the_names_of_its_lines(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    lines = _measured(flags=DETERMINISTIC)
    assert all(line.name.endswith(f", {DETERMINISTIC}") for line in lines)
    values = {line.name.partition(",")[0]: line.value for line in lines}
    assert values["XLA_FLAGS"] == f"--xla_cpu_multi_thread_eigen=false {DETERMINISTIC}"


@pytest.mark.parametrize("name", ["statistics", "max_pool"])
def test_measurements_hold_in_this_process_too(name):
    lines = list(map(gpu_check.with_verdict, gpu_check.MEASUREMENTS[name](TINY)))
    assert lines
    assert not any(line.held is False for line in lines)
