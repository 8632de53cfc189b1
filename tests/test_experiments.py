import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from rebasin_lab import checkpoints, experiments, pytrees, training
from rebasin_lab.datasets import View, views

TRAIN = training.TrainConfig(batch_size=100, num_epochs=6)
EXPERIMENT = experiments.Experiment(
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
    return experiments.trained(experiment, store=store, style="silent")


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
    names = [experiments.digest(experiments.describe(EXPERIMENT, data))]
    for change in changes.values():
        other = dataclasses.replace(EXPERIMENT, **change)
        names.append(experiments.digest(experiments.describe(other, data)))
    half = data.subset(np.arange(700))
    names.append(experiments.digest(experiments.describe(EXPERIMENT, half)))
    assert len(set(names)) == len(changes) + 2


def test_stored_networks_keep_their_names(monkeypatch):
    """A change here orphans every network users have stored; a new field need not change it.

    If all networks are to be trained anew, raise training.RECIPE_VERSION instead.
    """
    from rebasin_lab import datasets

    monkeypatch.setattr(training, "RECIPE_VERSION", 1)
    data = datasets.load_dataset("digits8x8")
    name = experiments.digest(experiments.describe(EXPERIMENT, data))
    assert name == "b81e76e36c532681669a4a0f", "leave a new field out at its old value"
    augmented = dataclasses.replace(EXPERIMENT, train=dataclasses.replace(TRAIN, augment=True))
    assert experiments.digest(experiments.describe(augmented, data)) != name


def test_another_recipe_has_another_name(monkeypatch, tiny_data):
    before = experiments.describe(EXPERIMENT, tiny_data)
    monkeypatch.setattr(training, "RECIPE_VERSION", 99)
    after = experiments.describe(EXPERIMENT, tiny_data)
    assert experiments.digest(before) != experiments.digest(after)


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-7] + b"\0" + b[-6:], bytes])
def test_a_damaged_network_is_named_and_made_again(store, damage):
    first = trained(store)
    content = first.path.read_bytes()
    first.path.write_bytes(damage(content) if damage is not bytes else b"")
    with pytest.warns(UserWarning, match=f"{first.path.name}.*The network is trained again"):
        second = trained(store)
    assert second.origin == "trained"
    assert first.path.read_bytes() == content


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
from rebasin_lab import experiments, training
experiment = experiments.Experiment(
    dataset="digits8x8", seed=0, train=training.TrainConfig(batch_size=10, num_epochs=60),
    options=(("num_hidden_layers", 2), ("width", 32)))
experiments.trained(experiment, store=Path(sys.argv[1]), style="silent")
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
        experiments.trained(EXPERIMENT, store=store, style="silent", on_epoch=on_epoch)
    assert epochs == [1, 2]
    resumed = experiments.trained(EXPERIMENT, store=store, style="silent", on_epoch=on_epoch)
    assert (resumed.origin, epochs) == ("resumed", [1, 2, 3, 4, 5, 6])
    assert same_bits(resumed.params, trained(store.with_name("other")).params)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(_truncated, "damaged"), (_of_another_optax, "missing in")],
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


def test_overrides_replace_fields_and_zero_does_not():
    quick = experiments.PROFILES["quick"]
    assert experiments.get_profile("quick", width=0, dataset="") == quick
    assert experiments.get_profile("quick", width=64).width == 64


def test_networks_of_table_3_are_the_profiles_own_unless_trained_for_longer():
    quick, laptop = (experiments.PROFILES[name] for name in ("quick", "laptop"))
    assert quick.merged_experiment(seed=2) == quick.experiment(seed=2)
    assert laptop.merged_experiment(seed=2).train.num_epochs == laptop.num_merged_epochs == 100
    short = experiments.get_profile("laptop", num_epochs=5)
    assert short.merged_experiment(seed=2) == short.experiment(seed=2)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("huge", {}, "Expected a profile among .*quick.*; got 'huge'"),
        ("quick", {"widht": 3}, "Expected fields of a profile"),
        ("quick", {"width": "wide"}, "Expected width to be a positive int; got 'wide'"),
        ("quick", {"width": -4}, "Expected width to be a positive int; got -4"),
    ],
)
def test_a_wrong_profile_is_refused(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        experiments.get_profile(name, **overrides)


@pytest.mark.parametrize("name", experiments.PROFILES)
def test_every_profile_is_fit_to_train_and_interpolate(name):
    profile = experiments.PROFILES[name]
    assert profile.num_lambdas % 2 == 1, "the middle of the line must be on the grid"
    assert profile.num_pairs >= 3, "claims are tested on several pairs"
    profile.experiment(seed=0)


@pytest.mark.parametrize("name", experiments.CONVOLUTIONAL)
def test_every_convolutional_family_can_be_built(name, tiny_data):
    family = experiments.get_convolutional_family(name)
    for width in family.widths:
        model = family.experiment(width=width, seed=0).build_model(tiny_data)
        shapes = model.shapes
        assert pytrees.num_parameters(shapes) > 1e4 * width**2
        assert f", {family.train.num_epochs} epochs of SGD" in family.networks


def test_a_convolutional_family_takes_single_overrides(monkeypatch, tiny_data):
    monkeypatch.setattr(views, "load_dataset", lambda name: tiny_data)
    assert experiments.get_convolutional_family("quick") is None
    laptop = experiments.get_convolutional_family("laptop")
    assert laptop == experiments.CONVOLUTIONAL["laptop"]["resnet"]
    family = experiments.get_convolutional_family(
        "laptop", dataset="tiny", width=3, num_images=20, num_epochs=2
    )
    assert (family.dataset, family.widths, family.train.num_epochs) == ("tiny", (3,), 2)
    data = family.load_dataset()
    assert len(data.train_labels) == 20
    assert data.image_shape[0] * 2 == tiny_data.image_shape[0]
    assert family.matched_on(data) is data
    few = dataclasses.replace(family, num_evaluated=5).evaluated_on(data)
    assert (len(few.train_labels), len(few.test_labels)) == (5, 5)


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
    by_hand = experiments.trained(EXPERIMENT, data=half.load_dataset(), store=store, style="silent")
    assert by_hand.origin == "restored"
    assert network.path == by_hand.path == experiments.path_of(half, store=store)
    assert network.path != trained(store).path
