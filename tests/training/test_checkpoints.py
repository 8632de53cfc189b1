import errno
import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab.training import checkpoints

TREE = {
    "layers": {0: {"bias": np.arange(3, dtype=np.float32), "kernel": np.eye(3, dtype=np.float32)}},
    "step": np.int32(4),
}
METADATA = {
    "config": {"width": 3, "sizes": [1, 2]},
    "history": {"loss": [0.1, 0.30000000000000004]},
}


class State(NamedTuple):
    count: np.ndarray
    mu: dict


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "network.safetensors"
    checkpoints.save(path, TREE, METADATA)
    return path


def equal(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) and x.dtype == y.dtype
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_what_is_saved_is_loaded(stored):
    tree, metadata = checkpoints.load(stored)
    assert equal(tree, TREE)
    assert metadata == METADATA


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from(["float32", "float16", "int32", "uint8", "bool"]),
)
def test_any_array_survives(tmp_path_factory, shape, dtype):
    path = tmp_path_factory.mktemp("store") / "x.safetensors"
    leaf = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    checkpoints.save(path, {"leaf": leaf}, {})
    assert equal(checkpoints.load(path)[0], {"leaf": leaf})


def test_a_transposed_view_survives(tmp_path):
    leaf = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    checkpoints.save(tmp_path / "x.safetensors", {"leaf": leaf}, {})
    assert np.array_equal(checkpoints.load(tmp_path / "x.safetensors")[0]["leaf"], leaf)


def test_an_optimiser_state_keeps_its_structure(tmp_path):
    state = {"opt": (State(np.int32(2), {0: np.ones(2, np.float32)}), ())}
    checkpoints.save(tmp_path / "x.safetensors", state, {})
    assert equal(checkpoints.load(tmp_path / "x.safetensors", like=state)[0], state)


def test_other_programs_can_read_the_file(stored):
    leaves = safetensors.numpy.load_file(stored)
    assert sorted(leaves) == ["layers/0/bias", "layers/0/kernel", "step"]


def test_the_same_content_gives_the_same_bytes(stored, tmp_path):
    again = tmp_path / "again.safetensors"
    checkpoints.save(again, TREE, METADATA)
    assert again.read_bytes() == stored.read_bytes()


def _damaged(tmp_path_factory, damage) -> None:
    path = tmp_path_factory.mktemp("store") / "network.safetensors"
    checkpoints.save(path, TREE, METADATA)
    content = path.read_bytes()
    changed = damage(content)
    if changed == content:
        return
    path.write_bytes(changed)
    with pytest.raises(checkpoints.DamagedCheckpointError, match=r"network\.safetensors.*damaged"):
        checkpoints.load(path, like=TREE)


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_noticed_wherever_it_is_cut(tmp_path_factory, fraction):
    _damaged(tmp_path_factory, lambda content: content[: int(fraction * len(content))])


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_noticed_wherever_it_is(stored, bit):
    content = stored.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        stored.write_bytes(bytes(changed))
        with pytest.raises(checkpoints.DamagedCheckpointError, match="damaged"):
            checkpoints.load(stored, like=TREE)


def test_another_config_is_refused_naming_the_field(stored):
    config = {"width": 4, "sizes": (1, 2)}
    with pytest.raises(checkpoints.CheckpointError, match="width: expected 4, stored 3"):
        checkpoints.load(stored, config=config)
    checkpoints.load(stored, config={"width": 3, "sizes": (1, 2)})


def test_another_shape_is_refused_naming_the_leaf(stored):
    like = {**TREE, "layers": {0: {**TREE["layers"][0], "kernel": np.ones((3, 4), np.float32)}}}
    with pytest.raises(
        checkpoints.CheckpointError, match=r"'layers/0/kernel' to be float32\[3, 4\].*\[3, 3\]"
    ):
        checkpoints.load(stored, like=like)


def test_a_missing_leaf_is_named(stored):
    with pytest.raises(checkpoints.CheckpointError, match="'more' is missing in the checkpoint"):
        checkpoints.load(stored, like={**TREE, "more": np.ones(1)})


def test_a_full_disk_is_said_and_loses_nothing(stored, tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"Could not write .* MB to .*Free some space") as caught:
        checkpoints.save(stored, {"x": np.ones(10)}, {})
    assert caught.value.errno == errno.ENOSPC
    assert equal(checkpoints.load(stored)[0], TREE)
    assert [path.name for path in tmp_path.iterdir()] == [stored.name]


def test_metadata_is_json_in_the_header(stored):
    with safetensors.safe_open(stored, framework="numpy") as file:
        _, _, text = file.metadata()["rebasin_lab"].partition(" ")
    assert json.loads(text) == METADATA


def test_what_cannot_be_read_is_an_error(stored, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read .*Permission denied"):
        checkpoints.load(stored)


def _types():
    """Every type of NumPy's and ml_dtypes' that has bytes of its own."""
    names = [*np.typecodes["AllInteger"], *np.typecodes["AllFloat"], "?", "S3", "U2", "M8[s]"]
    own = [getattr(ml_dtypes, name) for name in dir(ml_dtypes)]
    extra = [np.dtype(t) for t in own if isinstance(t, type) and issubclass(t, np.generic)]
    swapped = [np.dtype(f">{code}") for code in ("f4", "f8", "i2", "c8")]
    return sorted({*map(np.dtype, names), *extra, *swapped}, key=str)


LAYOUTS = {
    "C order": lambda x: x,
    "Fortran order": np.asfortranarray,
    "every other": lambda x: x[::2, ::3],
    "backwards": lambda x: x[::-1, ::-1],
    "broadcast": lambda x: np.broadcast_to(x[0], (4, *x[0].shape)),
    "a scalar": lambda x: x[0, 0, ...],
    "nothing": lambda x: x[:0],
    "read-only": lambda x: (x.setflags(write=False), x)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", _types(), ids=str)
def test_every_type_and_layout_comes_back_bit_by_bit(dtype, layout, tmp_path):
    values = np.random.default_rng(0).integers(0, 100, (4, 6))
    if dtype.itemsize == 1 and "int" in dtype.name and dtype.name not in ("int8", "uint8"):
        values = values % 2  # int4, int2, uint1: as it is stored
    array = LAYOUTS[layout](values.astype(dtype))
    path = tmp_path / "a.safetensors"
    tree = {"x": {"leaf": array}, "plain": np.arange(3, dtype=np.float32)}
    checkpoints.save(path, tree, {"config": {"text": "a\nb"}})
    for like in (tree, None):
        back, metadata = checkpoints.load(path, like=like, config={"text": "a\nb"})
        leaf = back["x"]["leaf"]
        assert (leaf.dtype, leaf.shape) == (array.dtype, array.shape)
        assert leaf.tobytes() == array.tobytes()
    assert metadata == checkpoints.peek(path) == {"config": {"text": "a\nb"}}


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float16", "int4"])
def test_parameters_of_few_bits_come_back(dtype, tmp_path):
    tree = {"w": jax.random.normal(jax.random.key(0), (3, 4)).astype(dtype)}
    checkpoints.save(tmp_path / "a.safetensors", tree, {})
    back, _ = checkpoints.load(tmp_path / "a.safetensors", like=tree)
    assert back["w"].tobytes() == np.asarray(tree["w"]).tobytes()


def test_bfloat16_is_stored_under_its_own_name(tmp_path):
    """So that other frameworks read it."""
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"w": np.ones(2, ml_dtypes.bfloat16)}, {})
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.get_slice("w").get_dtype() == "BF16"


@pytest.mark.parametrize("position", [-1, -5])
def test_a_flipped_bit_of_another_type_is_noticed(position, tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"w": np.ones(4, ml_dtypes.bfloat16)}, {})
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoints.DamagedCheckpointError, match="damaged"):
        checkpoints.load(path)
