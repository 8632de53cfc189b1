"""Sweeps: the same networks wherever they are trained, and nothing lost when one job fails."""

import concurrent.futures
import dataclasses
import os
import re
import signal

import jax
import numpy as np
import pytest

from rebasin_lab import progress, training
from rebasin_lab.datasets import View
from rebasin_lab.paper import train_many
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.store import epochs_stored, path_of, trained

TRAIN = training.TrainConfig(batch_size=50, num_epochs=2)
SMALL = Experiment(
    dataset="digits8x8",
    seed=0,
    train=TRAIN,
    options=(("num_hidden_layers", 1), ("width", 8)),
    view=View(num_train=200),
)
GRID = [dataclasses.replace(SMALL, seed=seed) for seed in range(3)]
DIVERGES = dataclasses.replace(
    SMALL, train=dataclasses.replace(TRAIN, learning_rate=1e30, optimizer="sgd")
)


class Here(concurrent.futures.Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def assert_same_networks(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.experiment == other.experiment
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_array_equal(a, b)


def test_networks_come_in_the_order_asked_for_and_only_once(tmp_path):
    networks = train_many.train_all([GRID[1], GRID[0], GRID[1]], store=tmp_path, style="silent")
    assert [network.experiment.seed for network in networks] == [1, 0, 1]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert train_many.missing_from(GRID, store=tmp_path) == [GRID[2]]


def test_one_network_of_each_recipe_is_trained_before_the_second_of_any(tmp_path):
    """Processes that begin at once then compile different recipes."""
    wide = [one.with_sizes(width=9) for one in GRID]
    submitted = []

    class Noting(Here):
        def submit(self, fn, experiment, *args):
            submitted.append(experiment)
            return super().submit(fn, experiment, *args)

    train_many.train_all([*GRID, *wide], executor=Noting(), store=tmp_path, style="silent")
    assert submitted == [one for both in zip(GRID, wide, strict=True) for one in both]


def test_an_executor_trains_what_a_loop_trains(tmp_path):
    here = train_many.train_all(GRID, store=tmp_path / "a", style="silent")
    there = train_many.train_all(GRID, store=tmp_path / "b", executor=Here(), style="silent")
    assert_same_networks(here, there)
    assert {network.origin for network in there} == {"restored"}


@pytest.mark.slow
def test_processes_train_what_a_loop_trains(tmp_path):
    here = train_many.train_all(GRID, store=tmp_path / "a", style="silent")
    there = train_many.train_all(GRID, store=tmp_path / "b", num_jobs=2, style="silent")
    assert_same_networks(here, there)


def test_epochs_of_networks_that_others_train_are_shown_as_they_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_many, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)

    def half_way(state):
        if state.epoch == 20:
            raise KeyboardInterrupt

    long = GRID[0].with_training(num_epochs=40)
    with pytest.raises(KeyboardInterrupt):
        trained(long, store=tmp_path, style="silent", on_epoch=half_way)
    assert epochs_stored(path_of(long, store=tmp_path)) == 20
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        train_many.train_all([long, GRID[1]], store=tmp_path, executor=executor, style="lines")
    shown = [int(n) for n in re.findall(r"(\d+)/42 in", capsys.readouterr().out)]
    assert shown == sorted(shown)
    assert len({20, *shown}) > 3  # not only when a network is done
    assert shown[-1] == 42


def test_epochs_of_what_was_never_begun_or_is_damaged_are_none(tmp_path):
    path = tmp_path / "network.safetensors"
    assert epochs_stored(path) == 0
    path.write_bytes(b"no checkpoint")
    assert epochs_stored(path) == 0


def test_one_failing_job_is_named_and_the_others_are_kept(tmp_path):
    with pytest.raises(
        train_many.SweepError, match=r"1 of 3 .*seed 0 \(FloatingPointError: .*rate"
    ):
        train_many.train_all([DIVERGES, *GRID[1:]], store=tmp_path, executor=Here(), style="silent")
    assert train_many.missing_from(GRID[1:], store=tmp_path) == []


def test_what_is_stored_is_not_trained_again(tmp_path):
    train_many.train_all(GRID, store=tmp_path, style="silent")

    class Nowhere(concurrent.futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            pytest.fail("trained again")

    networks = train_many.train_all(GRID, store=tmp_path, executor=Nowhere(), style="silent")
    assert {network.origin for network in networks} == {"restored"}


def die_once(experiment, store):
    """Kill this very process, the first time that seed 1 is asked for."""
    marker = os.path.join(store, "died")
    if experiment.seed == 1 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_many.train_here(experiment, store)


@pytest.mark.slow
def test_a_killed_process_costs_no_stored_network_and_the_same_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(train_many, "_job", die_once)
    stored = train_many.train_all(GRID[:1], store=tmp_path, style="silent")
    with pytest.raises(
        train_many.SweepError,
        match=r"seed 1 \(a training process was killed.*the same call trains only what is missing",
    ):
        train_many.train_all(GRID, store=tmp_path, num_jobs=2, style="silent")
    assert train_many.missing_from(GRID[:1], store=tmp_path) == []
    networks = train_many.train_all(GRID, store=tmp_path, num_jobs=2, style="silent")
    assert_same_networks(stored, networks[:1])
    assert [network.experiment for network in networks] == GRID


@pytest.mark.slow
def test_processes_train_with_the_settings_of_jax_that_are_set_here(tmp_path):
    with jax.default_matmul_precision("high"), jax.default_prng_impl("rbg"):
        here = train_many.train_all(GRID, store=tmp_path / "a", style="silent")
        there = train_many.train_all(GRID, store=tmp_path / "b", num_jobs=2, style="silent")
        assert_same_networks(here, there)
    assert len(train_many.missing_from(GRID, store=tmp_path / "b")) == len(GRID)


class OtherSettings(concurrent.futures.Executor):
    """A worker whose JAX is set otherwise."""

    def submit(self, fn, /, *args, **options):
        future = concurrent.futures.Future()
        with jax.default_prng_impl("rbg"):
            future.set_result(fn(*args, **options))
        return future


def test_networks_that_were_trained_otherwise_are_not_taken_for_those_asked_for(tmp_path):
    with pytest.raises(train_many.SweepError, match="3 of 3.*seed 0 .*other settings of JAX"):
        train_many.train_all(GRID, store=tmp_path, executor=OtherSettings(), style="silent")
