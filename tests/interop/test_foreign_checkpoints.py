"""Files of other programs: what they hold, and nothing run or half read."""

import json
import os

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from rebasin_lab import interop
from rebasin_lab.training import checkpoints

RNG = np.random.default_rng(0)
ARRAYS = {
    "w": RNG.normal(size=(3, 4)).astype(np.float32),
    "half": RNG.normal(size=5).astype(np.float16),
    "brain": RNG.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "wide": RNG.normal(size=2),
    "steps": np.array(7),
    "mask": np.array([True, False, True]),
    "none": np.zeros((0, 3), np.float32),
}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, leaf in wanted.items():
        assert (found[name].dtype, found[name].shape) == (leaf.dtype, leaf.shape)
        np.testing.assert_array_equal(found[name], leaf)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.numpy.save(ARRAYS, {"about": "A"}))
    return path


def test_a_safetensors_file_is_read_as_it_is(path):
    opened = interop.open_checkpoint(path)
    assert_same(dict(opened), ARRAYS)
    assert opened.metadata == {"about": "A"}
    assert opened.num_bytes == sum(leaf.nbytes for leaf in ARRAYS.values())
    assert opened.digests().keys() == {"a.safetensors"}


def test_arrays_are_read_when_they_are_asked_for(path):
    opened = interop.open_checkpoint(path)
    first = opened["wide"]
    os.truncate(path, path.stat().st_size - 20)
    np.testing.assert_array_equal(first, ARRAYS["wide"])
    with pytest.raises(ValueError, match="to stay as it is while it is read; it was cut"):
        dict(opened)


def test_written_is_what_was_read_with_more_metadata(path, tmp_path):
    opened = interop.open_checkpoint(path)
    copy = tmp_path / "b.safetensors"
    arrays = {n: x.astype(np.float64) if n == "w" else x for n, x in ARRAYS.items()}
    digest = interop.write_checkpoint(copy, opened, arrays.__getitem__, {"more": "é"})
    again = interop.open_checkpoint(copy)
    assert_same(dict(again), ARRAYS)
    assert again.metadata == {"about": "A", "more": "é"}
    assert again.digests() == {"b.safetensors": digest}
    plain = {n: x for n, x in ARRAYS.items() if n != "brain"}
    assert_same({n: x for n, x in safetensors.numpy.load_file(copy).items() if n in plain}, plain)


def test_a_seal_over_other_arrays_is_not_kept(tmp_path):
    checkpoints.save(tmp_path / "ours.safetensors", {"w": ARRAYS["w"]}, {"a": 1})
    opened = interop.open_checkpoint(tmp_path / "ours.safetensors")
    copy = tmp_path / "b.safetensors"
    interop.write_checkpoint(copy, opened, lambda name: 2 * ARRAYS["w"], {"by": "me"})
    assert interop.open_checkpoint(copy).metadata == {"by": "me"}


def test_shards_are_one_checkpoint(tmp_path):
    names = list(ARRAYS)
    places = {n: f"model-{1 + (i > 2)}-of-2.safetensors" for i, n in enumerate(names)}
    for file in set(places.values()):
        inside = {n: ARRAYS[n] for n in names if places[n] == file}
        (tmp_path / file).write_bytes(safetensors.numpy.save(inside, {"format": "pt"}))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    for place in (index, tmp_path):
        opened = interop.open_checkpoint(place)
        assert_same(dict(opened), ARRAYS)
        assert opened.metadata == {"format": "pt"}
        assert len(opened.digests()) == 3
    index.write_text(json.dumps({"weight_map": places | {"w": "../a.safetensors"}}))
    with pytest.raises(ValueError, match="Expected shards beside"):
        interop.open_checkpoint(index)
    index.write_text(json.dumps({"weight_map": places | {"w": places["none"]}}))
    with pytest.raises(ValueError, match="Expected 'w' in"):
        interop.open_checkpoint(index)


TREE = {"layers": {"0": {"kernel": ARRAYS["w"]}, "1": {"bias": ARRAYS["brain"]}}}
LEAVES = {"layers/0/kernel": ARRAYS["w"], "layers/1/bias": ARRAYS["brain"]}


def test_flax_msgpack_is_a_tree_by_path(tmp_path):
    path = tmp_path / "a.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(TREE))
    assert_same(dict(interop.open_checkpoint(path)), LEAVES)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="to be written by flax.serialization"):
        interop.open_checkpoint(path)


@pytest.mark.slow
def test_orbax_is_a_tree_by_path(tmp_path):
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "a", TREE)
    assert_same(dict(interop.open_checkpoint(tmp_path / "a")), LEAVES)


class Code:
    """Tells when it is built."""

    ran = False

    def __reduce__(self):
        return setattr, (Code, "ran", True)


def test_files_of_pytorch_are_read_where_it_is_allowed_and_run_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {"w": torch.ones(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    for content in (tensors, {"state_dict": tensors, "epoch": 3}):
        torch.save(content, tmp_path / "a.th")
        opened = interop.open_checkpoint(tmp_path / "a.th", torch_file=True)
        assert_same(dict(opened), {n: opened[n] for n in ("w", "b")})
        assert opened["b"].dtype == ml_dtypes.bfloat16
    with pytest.raises(ValueError, match="is a pickle, by its name"):
        interop.open_checkpoint(tmp_path / "a.th")
    for content in ({**tensors, "code": Code()}, {"a": tensors, "b": tensors}, {"epoch": 3}):
        torch.save(content, tmp_path / "a.th")
        with pytest.raises(ValueError, match="damaged, or holds more|to hold one state_dict"):
            interop.open_checkpoint(tmp_path / "a.th", torch_file=True)
    assert not Code.ran


DAMAGED = {
    "cut in its header": lambda header: header[:-5],
    "another type": lambda header: header.replace(b'"F64"', b'"F65"'),
    "a shape that is larger": lambda header: header.replace(b"[3,4]", b"[3,5]"),
    "a negative size": lambda header: header.replace(b"[3,4]", b"[3,-4]"),
    "no dict": lambda header: b"[]",
    "an entry without a place": lambda header: header.replace(b"data_offsets", b"data_offset"),
    "metadata that are none": lambda header: header.replace(b'"about":"A"', b'"about":1'),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_header_is_an_error_with_the_name_of_the_file(path, damage):
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    changed = damage(content[8:end])
    assert changed != content[8:end]
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[end:])
    with pytest.raises(ValueError, match=r"Expected '.*a.safetensors' to be a whole safetensors"):
        interop.open_checkpoint(path)
