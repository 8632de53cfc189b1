"""The same sweep on a real Dask cluster, a worker killed on the way included."""

import dataclasses
import os
import signal

import pytest

from rebasin_lab import training
from rebasin_lab.datasets import View
from rebasin_lab.paper import train_many
from rebasin_lab.paper.networks import Experiment

distributed = pytest.importorskip("distributed")

SMALL = Experiment(
    dataset="digits8x8",
    seed=0,
    train=training.TrainConfig(batch_size=50, num_epochs=2),
    options=(("num_hidden_layers", 1), ("width", 8)),
    view=View(num_train=200),
)
GRID = [dataclasses.replace(SMALL, seed=seed) for seed in range(3)]
DIVERGES = SMALL.with_training(learning_rate=1e30, optimizer="sgd")


@pytest.fixture(scope="module")
def executor():
    """Two workers, each a process of its own."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(host="127.0.0.1", processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def die_once(experiment, store):
    """Kill this worker, the first time that seed 1 is asked for."""
    marker = os.path.join(store, "died")
    if experiment.seed == 1 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_many.train_here(experiment, store)


@pytest.mark.slow
def test_a_cluster_trains_what_fails_is_named_and_a_killed_worker_is_replaced(
    executor, tmp_path, monkeypatch
):
    with pytest.raises(train_many.SweepError, match=r"1 of 2 .*FloatingPointError"):
        train_many.train_all([DIVERGES, GRID[0]], store=tmp_path, executor=executor, style="silent")
    assert train_many.missing_from([GRID[0]], store=tmp_path) == []
    monkeypatch.setattr(train_many, "_job", die_once)
    networks = train_many.train_all(GRID, store=tmp_path, executor=executor, style="silent")
    assert (tmp_path / "died").exists()
    assert [network.experiment for network in networks] == GRID
    assert {network.origin for network in networks} == {"restored"}
