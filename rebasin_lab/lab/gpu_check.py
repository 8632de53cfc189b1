"""`make gpu-check`: measure on a GPU, in minutes, what a CPU cannot show, and print a table.

On a GPU, equality of permuted networks and the same bits from the same training depend on the
precision of products and on XLA's flags; speed and memory are measured, too. The check needs the
library alone and makes its own data. Each measurement is a process of its own with a time limit, so
that one that fails or runs out of memory leaves the others as they are. `BOUNDS` has what must
hold. `--tiny` runs the same measurements in seconds, on a CPU too.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rebasin_lab import paths, processes
from rebasin_lab.lab.gpu_measurements import FULL, MEASUREMENTS, TINY, Line, Sizes

SECONDS = 470  # of all measurements together
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

# Bounds that must hold: start of the line's name, end of it, and the largest number, or True. Other
# lines are only shown.
BOUNDS: tuple[tuple[str, str, float | bool], ...] = (
    ("the GPU is used", "", True),
    # float32 sums in another order, about 1e-6; the bound of the claim functional-equivalence.
    ("change of logits", "highest", 1e-5),
    # Averages of float32 products about their means, beside float64.
    ("error of correlations", "", 1e-5),
    ("same bits from a second training", DETERMINISTIC, True),
    ("same bits after resuming", DETERMINISTIC, True),
    # The same arithmetic compiled apart, over a few steps; deeper networks part faster.
    ("distance of scan and steps, part of the way, MLP", f"highest, {DETERMINISTIC}", 1e-3),
    ("units matched otherwise than planted", "", 0),
    # A CPU, and some GPUs, do not report their memory: no number, no bound.
    ("peak of memory", "", 0.9),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write it with `--out`; return 0 if all held that must."""
    parser = argparse.ArgumentParser(prog="rebasin_lab.lab.gpu_check", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on any backend")
    parser.add_argument("--out", type=_folder, help="folder for gpu_check.md and gpu_check.json")
    parser.add_argument("--seconds", type=_seconds, default=SECONDS, help="limit of all together")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--multiplier", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        processes.end_with_parent()
        _measure(options.measure, TINY if options.tiny else FULL, options.multiplier)
        return 0
    lines = []
    for line in _all_lines(options.tiny, options.seconds):
        lines.append(line)
        print(_row(line), flush=True) if len(lines) > 1 else print(f"{_HEAD}\n{_row(line)}")
    failed = [line.name for line in lines if line.held is False]
    verdict = f"{len(failed)} did not hold: {'; '.join(failed)}" if failed else "All held that must"
    print(f"\n{verdict}.")
    if options.out is not None:
        table = "\n".join([_HEAD, *map(_row, lines)])
        text = f"{table}\n\n{verdict}.\n"
        paths.write_atomically(options.out / "gpu_check.md", text.encode())
        as_json = json.dumps([dataclasses.asdict(line) for line in lines], indent=1)
        paths.write_atomically(options.out / "gpu_check.json", f"{as_json}\n".encode())
    return 1 if failed else 0


def _folder(text: str) -> Path:
    try:
        return paths.checked_folder(text, "--out")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds; got {text}")
    return seconds


def with_verdict(line: Line) -> Line:
    """Return the line with its bound's verdict; a line that has failed did not hold."""
    if line.error:
        return dataclasses.replace(line, held=False)
    for start, end, limit in BOUNDS:
        if line.name.startswith(start) and line.name.endswith(end) and line.value is not None:
            within = line.value is True if limit is True else bool(line.value <= limit)
            return dataclasses.replace(line, held=within)  # NaN is within no bound
    return line


def _all_lines(tiny: bool, seconds: int | float) -> Iterator[Line]:
    """Yield the lines of all measurements, each when it is measured."""
    end = time.monotonic() + seconds
    sizes = TINY if tiny else FULL
    plan: list[tuple[str, float, float | None, str]] = [  # name, limit, multiplier, XLA's flags
        ("machine", 60, None, ""),
        ("equivalence", 100, None, ""),
        ("statistics", 60, None, ""),
        ("matching", 60, None, ""),
        *([] if tiny else [("bits", 90, None, "")]),
        ("bits", 90, None, DETERMINISTIC),
        ("max_pool", 60, None, DETERMINISTIC),
        ("mlp_speed", 60, None, ""),
        *(("resnet_speed", 120, multiplier, "") for multiplier in sizes.timed_multipliers),
        *(("memory", 90, multiplier, "") for multiplier in sizes.timed_multipliers),
    ]
    for name, limit, multiplier, flags in plan:
        label = " ".join(filter(None, [name, multiplier and f"{multiplier:g}x", flags]))
        left = min(limit, end - time.monotonic())
        lines = _in_process(name, label, tiny, multiplier, flags, left)
        yield from lines
        if name == "machine" and any(line.held is False for line in lines):
            return  # full sizes would take a CPU hours


def _in_process(
    name: str, label: str, tiny: bool, multiplier: float | None, flags: str, seconds: int | float
) -> list[Line]:
    """Return the lines of one measurement in a process of its own; its failure is a line too."""
    if seconds <= 1:
        return [Line(label, held=False, error="no time was left")]
    command = [sys.executable, "-m", "rebasin_lab.lab.gpu_check", "--measure", name]
    command += ["--tiny"] if tiny else []
    command += ["--multiplier", str(multiplier)] if multiplier else []
    given = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), flags]))
    environment = {**os.environ, "XLA_FLAGS": given, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        with processes.lifeline() as alive:
            done = subprocess.run(
                command,
                env=environment,
                stdin=alive,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
    except subprocess.TimeoutExpired as error:
        output, why = error.stdout or b"", f"not done within {seconds:.0f} s"
        output = output.decode() if isinstance(output, bytes) else output
    else:
        output = done.stdout
        why = _last_line(done.stderr, done.returncode) if done.returncode else ""
    printed = [json.loads(text) for text in output.splitlines() if text.startswith('{"name"')]
    lines = [Line(**fields) for fields in printed]
    if flags:
        lines = [dataclasses.replace(line, name=f"{line.name}, {flags}") for line in lines]
    if why:
        lines.append(Line(label, error=why))
    return [with_verdict(line) for line in lines]


def _last_line(stderr: str, returncode: int) -> str:
    """Return the error that ended a process."""
    texts = [text for text in stderr.splitlines() if text.strip() and not text.startswith("-----")]
    errors = [text for text in texts if "Error" in text or "EXHAUSTED" in text]
    return " ".join(f"exit status {returncode}: {(errors or texts or ['no message'])[-1]}".split())


_HEAD = "| measured | value | must hold |\n| --- | --- | --- |"


def _row(line: Line) -> str:
    value = f"{line.value:.3g}" if isinstance(line.value, float) else str(line.value)
    shown = f"{value} {line.unit}".strip() if line.value is not None else "not reported here"
    shown = (f"failed: {line.error}" if line.error else shown).replace("|", "/")
    held = {True: "held", False: "**did not hold**", None: ""}[line.held]
    return f"| {line.name} | {shown} | {held} |"


def _measure(name: str, sizes: Sizes, multiplier: float | None) -> None:
    """Print the lines of one measurement as JSON, each when it is measured."""
    arguments = () if multiplier is None else (multiplier,)
    for line in MEASUREMENTS[name](sizes, *arguments):
        print(json.dumps(dataclasses.asdict(line)), flush=True)


if __name__ == "__main__":
    try:
        with processes.signals_raise():
            status = main()
    except processes.Ended as ended:
        print("\nInterrupted.", file=sys.stderr)
        status = 128 + ended.number
    sys.exit(status)
