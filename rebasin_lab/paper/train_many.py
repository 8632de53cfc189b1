"""Train many networks through any executor: one process, several, or a cluster.

`train_all` takes any `concurrent.futures.Executor`. By default that is a pool of spawned processes
on this machine; `dask.distributed.Client(...).get_executor()` makes the same sweep run on a cluster
(its workers must see the folder of the store). Networks travel through the store, not through the
executor: a job is a small recipe and returns a number.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import jax

from rebasin_lab import checks, paths, progress
from rebasin_lab.paper import fingerprints
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.store import Trained, epochs_stored, is_stored, path_of, trained

SECONDS_BETWEEN_LOOKS = 2.0  # at the progress of trainings


class SweepError(RuntimeError):
    """Some networks of a sweep could not be trained; the others are in the store."""


@checks.renamed(wanted="experiments")
@checks.arguments
def train_all(
    experiments: Sequence[Experiment],
    *,
    num_jobs: int = 1,
    executor: Executor | None = None,
    store: Path | None = None,
    style: progress.Style = "auto",
) -> list[Trained]:
    """Return the networks of many experiments, those that are not stored yet trained first.

    Args:
        experiments: to train; one that is listed twice is trained once.
        num_jobs: processes to train in, each on its share of the cores. With 1 (and no executor)
            everything happens here, one network after the other.
        executor: where to train instead; it is not shut down.
        store: the folder of checkpoints, which all processes must see.
        style: how to show progress.

    Returns:
        One network for each experiment, in order.

    Raises:
        SweepError: if trainings failed, naming each and why, or were made with other settings of
            JAX, another device or other versions than this process has, or if a process that
            trains was killed. Trained networks are stored, so the same call goes on from there.
        ValueError: for less than one job, or too many for this machine.
    """
    check_num_jobs(num_jobs)
    store = store or paths.checkpoints_dir()
    if executor is not None or num_jobs > 1:
        missing = missing_from(experiments, store=store)
        if len(missing) > 1 or (missing and executor is not None):
            _train_elsewhere(missing, num_jobs, executor, store, style)
    return [trained(each, store=store, style=style) for each in experiments]


def default_num_jobs() -> int:
    """Return 2 where there are two cores to train on, 1 on a GPU, which one training fills."""
    return min(2, os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def check_num_jobs(num_jobs: int) -> None:
    """Check that so many processes make sense here; raises a ValueError."""
    checks.argument("num_jobs", num_jobs, int, "this process")
    if num_jobs < 1:
        raise ValueError(f"Expected at least 1 job; got {num_jobs}.")
    cores = os.cpu_count() or 1
    if num_jobs > 8 * cores:
        raise ValueError(
            f"Expected at most {8 * cores} jobs, eight for each of {cores} cores; got {num_jobs}. "
            "More would wait for each other and fill the memory."
        )


@checks.arguments
def missing_from(
    experiments: Iterable[Experiment], *, store: Path | None = None
) -> list[Experiment]:
    """Return those experiments, each once, whose networks are not stored yet."""
    return [each for each in dict.fromkeys(experiments) if not is_stored(each, store=store)]


def _train_elsewhere(
    missing: Sequence[Experiment],
    num_jobs: int,
    executor: Executor | None,
    store: Path,
    style: progress.Style,
) -> None:
    total = sum(each.train.num_epochs for each in missing)
    places = [path_of(each, store=store) for each in missing]
    description = f"training {len(missing)} networks"

    def epochs() -> int:
        return sum(map(epochs_stored, places))

    with progress.progress_bar(total, description, done=epochs(), style=style) as bar:

        def on_look() -> None:
            num_ended = sum(place.exists() for place in places)
            bar.set_postfix_str(f"{num_ended} of them ended", refresh=False)
            bar.update(epochs() - bar.n)

        if executor is not None:
            failed = _submit(missing, executor, store, on_look)
        else:
            failed = _in_own_processes(missing, num_jobs, store, on_look)
    elsewhere = SweepError(
        "it was trained with other settings of JAX, or on another device, or by other versions "
        "than here, and is another network"
    )
    for experiment in missing_from(missing, store=store):
        failed.setdefault(experiment, elsewhere)
    if failed:
        reasons = "; ".join(
            f"{experiment.title} ({_reason(error)})" for experiment, error in failed.items()
        )
        raise SweepError(
            f"{len(failed)} of {len(missing)} networks could not be trained: {reasons}. The others "
            "are stored; the same call trains only what is missing."
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, BrokenExecutor):  # one process that dies takes the pool with it
        return "a training process was killed, perhaps for want of memory"
    return f"{type(error).__name__}: {error}"


def _in_own_processes(
    missing: Sequence[Experiment], num_jobs: int, store: Path, on_look: Callable[[], None]
) -> dict[Experiment, BaseException]:
    """Train everything in processes of this machine; returns what `_submit` does."""
    num_threads = max(1, (os.cpu_count() or 1) // num_jobs)
    context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    until, going = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        min(num_jobs, len(missing)),
        mp_context=context,
        initializer=_set_up,
        initargs=(num_threads, fingerprints.jax_settings(), until),
    )
    with until, going, pool:
        try:
            return _submit(missing, pool, store, on_look)
        except BaseException:  # an interrupt: running trainings end, too
            going.close()
            raise


def _submit(
    missing: Sequence[Experiment],
    executor: Executor,
    store: Path,
    on_look: Callable[[], None],
) -> dict[Experiment, BaseException]:
    """Train everything there; returns what failed, and why.

    Args:
        missing: to train.
        executor: to train in.
        store: the folder that networks and their unfinished trainings are written to.
        on_look: called every few seconds.
    """
    failed: dict[Experiment, BaseException] = {}
    futures: dict[Future, Experiment] = {}
    for experiment in _one_of_each_first(missing):
        futures[executor.submit(_job, experiment, str(store))] = experiment
    waiting = set(futures)
    try:
        while waiting:
            ended, waiting = concurrent.futures.wait(
                waiting, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED
            )
            for future in ended:
                if error := future.exception():
                    failed[futures[future]] = error
            on_look()
    except BaseException:  # an interrupt: no other training may start
        for future in futures:
            future.cancel()
        raise
    return failed


def _one_of_each_first(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The same in another order: one of each recipe, then the second of each, and so on.

    Two processes then compile two recipes, and read from JAX's cache what the other has compiled.
    """
    num_seen = collections.Counter()

    def turn(experiment: Experiment) -> int:
        recipe = experiment.with_seed(0)
        num_seen[recipe] += 1
        return num_seen[recipe]

    return sorted(experiments, key=turn)


def train_here(experiment: Experiment, store: str) -> float:
    """Train one network into the store, as a job; returns the seconds it took."""
    start = time.perf_counter()
    trained(experiment, store=Path(store), style="silent")
    return time.perf_counter() - start


_job = train_here  # a test replaces it by one that dies


def _set_up(num_threads: int, settings: Mapping[str, Any], until: Connection) -> None:
    """Prepare a new process: its end, its share of the cores, and JAX as in the first one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first one
    threading.Thread(target=_end_with_parent, args=[until], daemon=True).start()
    for name, value in settings.items():
        jax.config.update(name, value)
    # JAX reads this when it first computes something, which in a new process is later.
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    if num_threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    # Several processes share a GPU: none may take most of its memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _end_with_parent(until: Connection) -> None:
    """End this process when the one that started it ends or asks for it."""
    wait([until, multiprocessing.parent_process().sentinel])
    os._exit(1)
