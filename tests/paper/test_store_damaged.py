"""Files of the store in every state a disk or a hand may leave them in.

Whatever lies there, the network that comes back is the right one, or there is one clear error; and
what is asked while others train never fails.
"""

import dataclasses
import os
import random
import warnings

import jax
import ml_dtypes
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import training
from rebasin_lab.paper import cache, networks
from rebasin_lab.paper.store import epochs_stored, is_stored, path_of, trained
from rebasin_lab.training import checkpoints

EXPERIMENT = networks.Experiment(
    dataset="tiny",
    seed=0,
    train=training.TrainConfig(batch_size=50, num_epochs=3),
    options=(("num_hidden_layers", 1), ("width", 8)),
    snapshot_epochs=(1, 2),
)
FILES = {"network": "", "snapshot": ".epoch1", "later": ".epoch2", "partial": ".partial"}


class Interrupted(Exception):
    pass


def train(store, data, experiment=EXPERIMENT, **options):
    return trained(experiment, data=data, store=store, style="silent", **options)


def interrupt(state):
    if state.epoch == 2:
        raise Interrupted


@pytest.fixture(scope="module")
def stores(tmp_path_factory, tiny_data):
    """What a network comes to, and the bytes of its files and of another's, by name."""
    found = {}
    for prefix, seed in (("", 0), ("another ", 1)):
        experiment = dataclasses.replace(EXPERIMENT, seed=seed)
        store = tmp_path_factory.mktemp("store")
        with pytest.raises(Interrupted):
            train(store, tiny_data, experiment, on_epoch=interrupt)
        path = path_of(experiment, data=tiny_data, store=store)
        partial = path.with_suffix(".partial.safetensors").read_bytes()
        network = train(store, tiny_data, experiment)
        found[prefix] = network
        for name, suffix in FILES.items():
            file = path.with_suffix(f"{suffix}.safetensors")
            found[prefix + name] = partial if name == "partial" else file.read_bytes()
    return found


def changes(content, stores):
    rng = random.Random(0)

    def flip(place):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed)

    yield from (flip(rng.randrange(len(content))) for _ in range(6))
    yield from (flip(rng.randrange(min(700, len(content)))) for _ in range(10))  # the header
    yield from (content[: rng.randrange(len(content))] for _ in range(3))
    yield from (b"", b"\0" * len(content), b"<html>", content + b"\0")
    yield from (other for other in stores.values() if isinstance(other, bytes) and other != content)
    yield from (os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path))


def put(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_the_store_gives_the_right_network_or_one_clear_error(
    name, stores, tiny_data, tmp_path, without_type_checks
):
    expected = stores[""]
    for num, content in enumerate(changes(stores[name], stores)):
        store = tmp_path / str(num)
        store.mkdir()
        path = path_of(EXPERIMENT, data=tiny_data, store=store)
        for each, suffix in FILES.items():
            # A training that was cut short has no network yet.
            if each != ("network" if name == "partial" else "partial"):
                whole = content if each == name else stores[each]
                put(path.with_suffix(f"{suffix}.safetensors"), whole)
        is_stored(EXPERIMENT, data=tiny_data, store=store)
        assert isinstance(epochs_stored(path), int)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                network = train(store, tiny_data)
            except (checkpoints.CheckpointError, OSError) as error:
                message = str(error)
                assert str(store) in message
                assert "\n" not in message
                continue
        assert jax.tree.all(jax.tree.map(np.array_equal, network.params, expected.params))
        assert network.history == expected.history
        for epoch in (1, 2):
            params = network.params_after(epoch), expected.params_after(epoch)
            assert jax.tree.all(jax.tree.map(np.array_equal, *params))
        was_there = isinstance(content, bytes)
        assert network.origin in ("trained", "resumed")
        assert all("\n" not in str(each.message) for each in warned)
        assert len(warned) == 1 or not was_there, (num, content[:60] if was_there else content)


@pytest.mark.parametrize("name", ["network", "partial"])
def test_whatever_byte_is_changed_progress_is_a_number(name, stores, tmp_path):
    path = tmp_path / "x.safetensors"
    content = bytearray(stores[name])
    num_header_bytes = 8 + int.from_bytes(content[:8], "little")
    for place in range(0, num_header_bytes, 3):  # what one leaf says, others say too
        content[place] ^= 1
        path.with_suffix(f"{FILES[name]}.safetensors").write_bytes(content)
        assert isinstance(epochs_stored(path), int)
        content[place] ^= 1


RESULTS = {
    "a record of no result": {},
    "a record of nothing": {"result": {}},
    "an array that is not there": {"result": {"array": "9"}},
    "a list of none": {"result": {"list": 3}},
    "a mapping of none": {"result": {"mapping": [1]}},
    "another's class": {"result": {"record": "pathlib:Path", "fields": {"mapping": []}}},
    "a module that is not there": {"result": {"record": "rebasin_lab.x:X", "fields": None}},
    "a name that is none": {"result": {"record": "", "fields": None}},
    "a name of no text": {"result": {"record": 3, "fields": None}},
    "a class without fields": {
        "result": {"record": "rebasin_lab.metrics:Metrics", "fields": {"mapping": []}}
    },
    "fields of another class": {
        "result": {"record": "rebasin_lab.metrics:Metrics", "fields": {"mapping": [["x", 1]]}}
    },
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_record_that_holds_no_result_is_computed_again(kind, trained_pair, tiny_data):
    model, params, _ = trained_pair
    call = (model.apply, params, tiny_data.test_images, tiny_data.test_labels)
    expected = cache.cached(rl.evaluate, *call)
    (path,) = cache.cache_dir().iterdir()
    whole = path.read_bytes()
    arrays, metadata = checkpoints.load(path)
    del metadata["result"]
    checkpoints.save(path, arrays, metadata | RESULTS[kind])
    with pytest.warns(UserWarning, match=f"{path.name}.* It is computed again") as warned:
        assert cache.cached(rl.evaluate, *call) == expected
    assert "\n" not in str(warned[0].message)
    assert path.read_bytes() == whole


def test_a_damaged_record_is_never_taken(trained_pair, tiny_data):
    model, params, _ = trained_pair
    call = (model.apply, params, tiny_data.test_images, tiny_data.test_labels)
    expected = cache.cached(rl.evaluate, *call)
    (path,) = cache.cache_dir().iterdir()
    content = path.read_bytes()
    for change in changes(content, {"another": content[:100]}):
        path.unlink()
        put(path, change)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cache.cached(rl.evaluate, *call) == expected
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(content)


def test_a_result_comes_back_with_its_types_and_bits(monkeypatch):
    arrays = {
        "0-d": np.array(3, np.float16),
        "empty": np.zeros((0, 3), ml_dtypes.bfloat16),
        "int4": np.array([-8, 7], ml_dtypes.int4),
        "float8": np.array([1, np.nan]).astype(ml_dtypes.float8_e4m3b11fnuz),
        "complex": np.array([1 + 2j, np.nan]),
        "big-endian": np.arange(3, dtype=">f4"),
        "Fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
        "of JAX": jax.numpy.arange(3, dtype="bfloat16"),
        "texts": np.array(["a", "bc"]),
    }
    result = {"arrays": arrays, 3: [(1, 2.5), [None, True, "\u2713"], float("nan"), 2**63]}
    monkeypatch.setattr(cache.fingerprints, "name_of", lambda fn: "rebasin_lab.metrics:evaluate")
    for _ in range(2):
        found = cache.cached(lambda: result)
        assert repr(found[3]) == repr(result[3])
        for name, array in arrays.items():
            array = np.asarray(array)
            assert (found["arrays"][name].dtype, found["arrays"][name].shape) == (
                array.dtype,
                array.shape,
            ), name
            assert found["arrays"][name].tobytes() == array.tobytes(), name
    assert len(list(cache.cache_dir().iterdir())) == 1


def test_a_result_that_is_too_long_to_keep_is_not_lost(monkeypatch):
    monkeypatch.setattr(checkpoints, "MOST_HEADER_BYTES", 10_000)
    monkeypatch.setattr(cache.fingerprints, "name_of", lambda fn: "rebasin_lab.metrics:evaluate")
    with pytest.warns(UserWarning, match="at most 10,000 bytes.* The result is not cached"):
        assert cache.cached(lambda: list(range(5000))) == list(range(5000))


VALUES = {
    "a masked array": np.ma.masked_array([1, 2], [True, False]),
    "a complex number": np.complex64(1 + 2j),
    "a complex number of Python": 1j,
    "a time": np.datetime64("2020-01-01"),
    "a bytearray": bytearray(b"1"),
    "a set": {1},
    "a key": jax.random.key(0),
    "deep nesting": None,
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_result_that_cannot_be_kept_is_one_clear_error(kind, monkeypatch, without_type_checks):
    value = VALUES[kind]
    if kind == "deep nesting":
        for _ in range(5000):
            value = [value]
    # A function of the lab's, so that the call has a name.
    monkeypatch.setattr(cache.fingerprints, "name_of", lambda fn: "rebasin_lab.metrics:evaluate")
    with pytest.raises(ValueError, match="Expected") as caught:
        cache.cached(lambda: value)
    assert "\n" not in str(caught.value)
    assert not cache.cache_dir().exists() or not list(cache.cache_dir().iterdir())
