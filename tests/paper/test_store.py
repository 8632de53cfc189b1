import ast
import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import jax
import numpy as np
import pytest

from rebasin_lab import models, paths, training
from rebasin_lab.datasets import View
from rebasin_lab.paper import fingerprints, networks
from rebasin_lab.paper import store as store_
from rebasin_lab.training import checkpoints

TRAIN = training.TrainConfig(batch_size=100, num_epochs=6)
EXPERIMENT = networks.Experiment(
    dataset="digits8x8", seed=0, train=TRAIN, options=(("num_hidden_layers", 2), ("width", 32))
)


def same_bits(a, b) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def trained(store, experiment=EXPERIMENT):
    return store_.trained(experiment, store=store, style="silent")


def test_the_second_time_nothing_is_trained(store, monkeypatch):
    first = trained(store)
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    second = trained(store)
    assert (first.origin, second.origin) == ("trained", "restored")
    assert same_bits(first.params, second.params)
    assert first.history == second.history


def test_every_field_of_an_experiment_has_its_own_network(store):
    changes = {
        "seed": {"seed": 1},
        "learning rate": {"train": dataclasses.replace(TRAIN, learning_rate=2e-3)},
        "epochs": {"train": dataclasses.replace(TRAIN, num_epochs=7)},
        "width": {"options": (("num_hidden_layers", 2), ("width", 33))},
    }
    from rebasin_lab import datasets

    data = datasets.load_dataset("digits8x8")
    names = [store_.digest(store_.describe(EXPERIMENT, data))]
    for change in changes.values():
        other = dataclasses.replace(EXPERIMENT, **change)
        names.append(store_.digest(store_.describe(other, data)))
    half = data.subset(np.arange(700))
    names.append(store_.digest(store_.describe(EXPERIMENT, half)))
    assert len(set(names)) == len(changes) + 2


def name_of(experiment, data):
    return store_.digest(store_.describe(experiment, data))


def test_other_training_code_has_another_name_and_other_comments_do_not(tiny_data, monkeypatch):
    before, name = (
        fingerprints.source_digest(*store_.TRAINING_MODULES),
        name_of(EXPERIMENT, tiny_data),
    )
    for edited in ("training_loop.py", "mlp.py", "leaves.py"):
        code_of = fingerprints._code_of
        with monkeypatch.context() as patched:
            patched.setattr(fingerprints, "_code_of", lambda p: p.name != edited and code_of(p))  # noqa: B023
            assert fingerprints.source_digest(*store_.TRAINING_MODULES) != before
    monkeypatch.setattr(store_, "_code_digest", lambda: "other")
    assert name_of(EXPERIMENT, tiny_data) != name
    path = fingerprints.PACKAGE / "training/training_loop.py"
    source = path.read_text()
    assert "# Weight of the old" in source
    for commented in (
        source.replace("# Weight of", "# Share of"),
        source.replace("Reproducible", "x"),
    ):
        assert commented != source
        assert fingerprints.code_text(commented) == fingerprints.code_text(source)
    other = source.replace("STATISTICS_MOMENTUM = 0.9", "STATISTICS_MOMENTUM = 0.99")
    assert fingerprints.code_text(other) != fingerprints.code_text(source)


def test_a_name_is_made_without_parsing_code(tiny_data, monkeypatch):
    """A thread may ask for it while another parses, which CPython 3.11 may not survive."""
    expected = name_of(EXPERIMENT, tiny_data)
    store_._code_digest.cache_clear()
    monkeypatch.setattr(ast, "parse", None)
    assert name_of(EXPERIMENT, tiny_data) == expected


def test_a_network_is_known_by_the_content_of_its_data(store, tiny_data):
    """Whatever its digest says, which may be empty, wrong, or another set's."""
    small = EXPERIMENT.with_training(num_epochs=1, batch_size=50)
    first = store_.trained(small, data=tiny_data, store=store, style="silent")
    labels = np.roll(tiny_data.train_labels, 1)
    for changes, origin in (
        ({"digest": ""}, "restored"),
        ({"digest": "", "train_labels": labels}, "trained"),
        ({"train_images": 1 - tiny_data.train_images}, "trained"),
        ({"test_labels": np.roll(tiny_data.test_labels, 1)}, "trained"),
        ({"num_classes": 11}, "trained"),
    ):
        data = dataclasses.replace(tiny_data, **changes)
        again = store_.trained(small, data=data, store=store, style="silent")
        assert again.origin == origin, changes
        assert (again.path == first.path) == (origin == "restored")


def test_an_architecture_that_is_not_the_labs_is_refused(store, tiny_data, monkeypatch):
    class MLP(models.MLP):
        """Another one of the same name."""

    MLP.__module__, MLP.__qualname__ = models.MLP.__module__, models.MLP.__qualname__
    before = EXPERIMENT.build_model(tiny_data)
    own = models.Architecture(MLP, width="width")
    monkeypatch.setitem(models.ARCHITECTURES, "mlp", own)
    with pytest.raises(ValueError, match="put in its place"):
        store_.trained(EXPERIMENT, data=tiny_data, store=store, style="silent")
    assert EXPERIMENT.build_model(tiny_data) is not before


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-7] + b"\0" + b[-6:], bytes])
def test_a_damaged_network_is_named_and_made_again(store, damage):
    first = trained(store)
    content = first.path.read_bytes()
    first.path.write_bytes(damage(content) if damage is not bytes else b"")
    with pytest.warns(UserWarning, match=f"{first.path.name}.*The network is trained again"):
        second = trained(store)
    assert second.origin == "trained"
    assert first.path.read_bytes() == content


SNAPSHOTS = dataclasses.replace(EXPERIMENT, snapshot_epochs=(1, 3)).with_training(num_epochs=4)


def flipped(content):
    return content[:-7] + bytes([content[-7] ^ 1]) + content[-6:]


def snapshot_of(network, epoch):
    return network.path.with_suffix(f".epoch{epoch}.safetensors")


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content, _: content[:-7], "damaged"),
        (lambda content, _: flipped(content), "damaged.*SHA-256"),
        (lambda content, _: b"", "damaged"),
        (lambda content, other: other.read_bytes(), "another one"),
    ],
    ids=["truncated", "flipped", "empty", "another epoch's"],
)
def test_a_damaged_snapshot_is_named_and_made_again(store, epoch, damage, message):
    first = trained(store, SNAPSHOTS)
    path, other = snapshot_of(first, epoch), snapshot_of(first, 4 - epoch)
    content = path.read_bytes()
    path.write_bytes(damage(content, other))
    with pytest.raises(checkpoints.CheckpointError, match=f"{message}.*makes it anew"):
        first.params_after(epoch)
    with pytest.warns(UserWarning, match=f"{message}.*The network is trained again") as warned:
        second = trained(store, SNAPSHOTS)
    assert len(warned) == 1
    assert second.origin == "trained"
    assert path.read_bytes() == content
    assert same_bits(second.params, first.params)
    assert trained(store, SNAPSHOTS).origin == "restored"


def test_a_snapshot_that_is_gone_is_made_again(store):
    first = trained(store, SNAPSHOTS)
    expected = first.params_after(3)
    snapshot_of(first, 3).unlink()
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint.*makes it anew"):
        first.params_after(3)
    assert same_bits(trained(store, SNAPSHOTS).params_after(3), expected)


def test_a_foreign_snapshot_is_no_reason_to_resume(store):
    first = trained(store, SNAPSHOTS)

    def on_epoch(state):
        if state.epoch == 2:
            raise Interrupted

    again = store.with_name("again")
    with pytest.raises(Interrupted):
        store_.trained(SNAPSHOTS, store=again, style="silent", on_epoch=on_epoch)
    (path,) = again.glob("*.epoch1.*")
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="epoch1.*starts over"):
        second = trained(again, SNAPSHOTS)
    assert second.origin == "trained"
    assert path.read_bytes() == snapshot_of(first, 1).read_bytes()


def test_a_folder_in_the_place_of_a_network_is_an_error_before_any_training(store, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained"))
    store_.path_of(EXPERIMENT, store=store).mkdir(parents=True)
    with pytest.raises(checkpoints.CheckpointError, match="no file"):
        trained(store)


def test_what_a_process_left_that_was_killed_at_its_end_is_removed_unless_one_trains(store):
    first = trained(store)
    partial = first.path.with_suffix(".partial.safetensors")
    partial.write_bytes(b"of the epoch before")
    with concurrent.futures.ThreadPoolExecutor(1) as executor, paths.locked(first.path, "training"):
        assert executor.submit(trained, store).result().origin == "restored"
        assert partial.exists()
    assert trained(store).origin == "restored"
    assert not partial.exists()


def test_what_a_killed_process_was_writing_of_a_network_goes_when_it_is_trained(store):
    final = store_.path_of(EXPERIMENT, store=store)
    mine = store / f".{final.stem}.partial.safetensors.{'0' * 16}.tmp"
    other = store / f".{'0' * 24}.partial.safetensors.{'0' * 16}.tmp"
    store.mkdir(exist_ok=True)
    mine.touch()
    other.touch()
    store_.trained(EXPERIMENT, store=store, style="silent")
    assert not mine.exists()
    assert other.exists(), "another process may be writing it"


def test_a_store_that_can_only_be_read_is_read(store, monkeypatch):
    first = trained(store)
    monkeypatch.setattr(paths, "locked", lambda *_, **__: pytest.fail("locked"))
    assert trained(store).path == first.path


def test_threads_that_want_one_network_train_it_once(store):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with concurrent.futures.ThreadPoolExecutor(3) as executor:
            found = list(executor.map(trained, [store] * 3))
    assert sorted(network.origin for network in found) == ["restored", "restored", "trained"]
    assert {name for name in os.listdir(store) if not name.startswith(".")} == {found[0].path.name}


@pytest.mark.slow
def test_a_process_that_wants_a_network_in_training_waits_for_it(store):
    """And goes on with it, if the other is killed."""
    long = EXPERIMENT.with_training(batch_size=10, num_epochs=60)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(store)])
    while not list(store.glob("*.partial.safetensors")):
        assert process.poll() is None, "it ended before anything was stored"
        time.sleep(0.01)
    threading.Timer(0.3, process.kill).start()
    with pytest.warns(UserWarning, match=f"in use by process {process.pid} on .*training digits"):
        assert trained(store, long).origin == "resumed"
    assert process.wait() == -signal.SIGKILL


def test_a_file_of_another_experiment_is_an_error_and_stays(store):
    first = trained(store)
    other = trained(store, dataclasses.replace(EXPERIMENT, seed=1))
    first.path.write_bytes(other.path.read_bytes())
    with pytest.raises(checkpoints.CheckpointError, match="another config.*seed: expected 0"):
        trained(store)
    assert first.path.read_bytes() == other.path.read_bytes()


PROGRAM = """
import sys
from pathlib import Path
from rebasin_lab.paper import networks, store
from rebasin_lab import training
experiment = networks.Experiment(
    dataset="digits8x8", seed=0, train=training.TrainConfig(batch_size=10, num_epochs=60),
    options=(("num_hidden_layers", 2), ("width", 32)))
store.trained(experiment, store=Path(sys.argv[1]), style="silent")
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store):
    long_train = training.TrainConfig(batch_size=10, num_epochs=60)
    experiment = dataclasses.replace(EXPERIMENT, train=long_train)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(store)])
    deadline = time.monotonic() + 120
    while not list(store.glob("*.partial.safetensors")):
        assert process.poll() is None, "it ended before anything was stored"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, metadata = checkpoints.load(next(store.glob("*.partial.safetensors")))
    assert 1 <= metadata["epoch"] < 60
    resumed = trained(store, experiment)
    whole = trained(store.with_name("other"), experiment)
    assert (resumed.origin, whole.origin) == ("resumed", "trained")
    assert same_bits(resumed.params, whole.params)
    assert resumed.history == whole.history
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert not list(store.glob("*.partial.safetensors"))


class Interrupted(Exception):
    pass


def _truncated(path):
    return path.read_bytes()[:1000]


def _of_another_optax(path):
    tree, metadata = checkpoints.load(path)
    tree["opt_state"] = {"renamed": tree["opt_state"]}
    checkpoints.save(path, tree, metadata)
    return path.read_bytes()


def test_a_callback_that_raises_ends_a_training_that_goes_on_later(store):
    epochs = []

    def on_epoch(state):
        epochs.append(state.epoch)
        if state.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        store_.trained(EXPERIMENT, store=store, style="silent", on_epoch=on_epoch)
    assert epochs == [1, 2]
    resumed = store_.trained(EXPERIMENT, store=store, style="silent", on_epoch=on_epoch)
    assert (resumed.origin, epochs) == ("resumed", [1, 2, 3, 4, 5, 6])
    assert same_bits(resumed.params, trained(store.with_name("other")).params)


@pytest.mark.parametrize(
    ("damage", "message"), [(_truncated, "damaged"), (_of_another_optax, "missing in")]
)
def test_an_unusable_partial_training_starts_over(store, monkeypatch, damage, message):
    whole = trained(store.with_name("other"))
    save = checkpoints.save

    def save_until_epoch_3(path, tree, metadata):
        save(path, tree, metadata)
        if metadata.get("epoch") == 3:
            raise Interrupted

    monkeypatch.setattr(checkpoints, "save", save_until_epoch_3)
    with pytest.raises(Interrupted):
        trained(store)
    monkeypatch.setattr(checkpoints, "save", save)
    partial = next(store.glob("*.partial.safetensors"))
    partial.write_bytes(damage(partial))
    with pytest.warns(UserWarning, match=f"partial.*{message}.*starts over"):
        result = trained(store)
    assert result.origin == "trained"
    assert same_bits(result.params, whole.params)


# --- snapshots and views ------------------------------------------------------------------------

WATCHED = dataclasses.replace(EXPERIMENT, snapshot_epochs=(1, 3))


def test_parameters_of_snapshots_are_those_of_shorter_trainings(store):
    network = trained(store, WATCHED)
    for epoch in (1, 3):
        shorter = dataclasses.replace(
            EXPERIMENT, train=dataclasses.replace(TRAIN, num_epochs=epoch)
        )
        assert same_bits(network.params_after(epoch), trained(store, shorter).params)
    assert same_bits(network.params_after(6), network.params)
    first = training.initial_params(network.model, seed=0)
    assert same_bits(network.params_after(0), first)
    with pytest.raises(ValueError, match=r"are kept, \[0, 1, 3, 6\]; got 2"):
        network.params_after(2)


def test_snapshots_do_not_make_another_network(store):
    plain, watched = trained(store), trained(store, WATCHED)
    assert plain.path == watched.path
    assert same_bits(plain.params, watched.params)
    # Trained again, for the sake of the snapshots; then everything is there.
    assert watched.origin == "trained"
    assert trained(store, WATCHED).origin == "restored"
    assert trained(store).origin == "restored"


def test_a_killed_training_keeps_the_snapshots_it_had(store, monkeypatch):
    save = checkpoints.save

    def dying(path, *args):
        if ".epoch3" in path.name:
            raise KeyboardInterrupt
        save(path, *args)

    monkeypatch.setattr(checkpoints, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(store, WATCHED)
    monkeypatch.setattr(checkpoints, "save", save)
    network = trained(store, WATCHED)
    assert network.origin == "resumed"
    assert same_bits(network.params, trained(store).params)
    assert network.params_after(3) is not None


def test_a_view_is_what_the_network_sees(store):
    half = dataclasses.replace(EXPERIMENT, view=View(num_train=300))
    network = trained(store, half)
    by_hand = store_.trained(EXPERIMENT, data=half.load_dataset(), store=store, style="silent")
    assert by_hand.origin == "restored"
    assert network.path == by_hand.path == store_.path_of(half, store=store)
    assert network.path != trained(store).path


@pytest.mark.slow
def test_two_processes_that_want_one_network_train_it_once(store):
    program = PROGRAM.replace("store.trained", "network = store.trained")
    program += "print(network.origin)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, str(store)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert sorted(process.communicate()[0] for process in processes) == ["restored\n", "trained\n"]
    assert [
        name for name in os.listdir(store) if not name.endswith((".lock", ".safetensors"))
    ] == []
