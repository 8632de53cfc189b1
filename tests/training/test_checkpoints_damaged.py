"""Checkpoints as no one writes them: each is one clear error, soon and in little memory.

`KINDS` is a table of whole files. Most of them have the right SHA-256 in them, if any: it shows
damage, it keeps no one from making a file by hand.
"""

import errno
import gzip
import io
import json
import os
import pickle
import re
import signal
import socket
import struct
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab import pytrees
from rebasin_lab.training import checkpoints
from tensors import Tensor

TREE = {"layers": {0: {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}, "b": np.ones(2)}
METADATA = {"config": {"width": 3}, "epoch": 1}
HUGE = 10**12  # bytes; MOST_MEMORY is less
MOST_MEMORY = 20_000_000
MOST_SECONDS = 30


def whole(tree=None, metadata=None):
    """The bytes of a checkpoint."""
    written = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints.paths, "write_atomically", lambda _, b: written.append(b))
        checkpoints.save(Path("x"), TREE if tree is None else tree, metadata or METADATA)
    return written[0]


WHOLE = whole()
HEADER = json.loads(WHOLE[8 : 8 + int.from_bytes(WHOLE[:8], "little")])
DATA = WHOLE[-(24 + 16) :]
KERNEL = HEADER["layers/0/kernel"]


def raw(header, data=DATA, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def sealed(text, types="", leaves=None):
    """A file of any metadata and types, with the SHA-256 of its leaves as they are read."""
    leaves = pytrees.flatten(TREE) if leaves is None else leaves
    header = f"{checkpoints._digest(leaves, text)} {text}{types}"
    return safetensors.numpy.save(leaves, {"rebasin_lab": header})


def changed(**fields):
    return raw(HEADER | {"layers/0/kernel": KERNEL | fields})


def meta(value):
    return raw(HEADER | {"__metadata__": value})


def sparse(header, length=None):
    """A file that says it has a terabyte, and takes none of it on a disk."""

    def write(path):
        path.write_bytes(raw(header, b"", length))
        os.truncate(path, HUGE)

    return write


def leaf_of(num_bytes):
    entry = {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}
    return {"w": entry, "__metadata__": HEADER["__metadata__"]}


class Malicious:
    """Unpickling it would make a folder here."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def npz():
    file = io.BytesIO()
    np.savez(file, **{"w": np.ones(3)})
    return file.getvalue()


DEEP = "[" * 10**5 + "]" * 10**5
KINDS = {
    "empty": b"",
    "a byte": b"\0",
    "seven bytes": WHOLE[:7],
    "a length alone": WHOLE[:8],
    "a cut header": WHOLE[:40],
    "a header alone": WHOLE[: -len(DATA)],
    "a byte short": WHOLE[:-1],
    "a byte more": WHOLE + b"\0",
    "twice": WHOLE + WHOLE,
    "zeros": bytes(1000),
    "of no header": raw(HEADER, length=0),
    "a header one byte short": raw(HEADER, length=len(json.dumps(HEADER)) - 1),
    "a header one byte longer": raw(HEADER, length=len(json.dumps(HEADER)) + 1),
    "a header past the end": raw(HEADER, length=10_000),
    "a header of 2**40 bytes": raw(HEADER, length=2**40),
    "a header of 2**63 bytes": raw(HEADER, length=2**63),
    "a header of -1 bytes": raw(HEADER, length=2**64 - 1),
    "a terabyte of header": sparse(HEADER, HUGE - 8),
    "a gigabyte of header": sparse(HEADER, 10**9),
    "a header as long as may be": sparse(HEADER, 99_000_000),
    "a terabyte of zeros": sparse(b"", 0),
    "a terabyte behind": sparse(HEADER),
    "a terabyte of a leaf": sparse(leaf_of(HUGE)),
    **{
        f"a header that is {text[:20]!r}": raw(text)
        for text in (
            *(b"{", b"{}", b"[]", b"null", b"1", b'"text"', b"NaN", b"{1: 2}", b"\xff" * 9),
            *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b" " * 100, b"{} {}", b"9" * 9999),
            *(b'{"a": ' + DEEP.encode() + b"}", b'{"a":' * 10**5 + b"1" + b"}" * 10**5),
        )
    },
    "a leaf twice": raw(
        json.dumps(HEADER)[:-1].encode() + b', "b": ' + json.dumps(HEADER["b"]).encode() + b"}",
        DATA + b"\0",
    ),
    "no metadata": raw({name: HEADER[name] for name in HEADER if name != "__metadata__"}),
    **{
        f"metadata {value!r}"[:40]: meta(value)
        for value in (
            *(None, [], {}, "", 1, {"rebasin_lab": 1}, {"rebasin_lab": None}, {"rebasin_lab": {}}),
            *(
                {"rebasin_lab": ""},
                {"rebasin_lab": " "},
                {"rebasin_lab": "0" * 64},
                {"format": "pt"},
            ),
            *({"rebasin_lab": "0" * 64 + " {}"}, {"rebasin_lab": "\n"}, {"rebasin_lab": " {}\n{}"}),
        )
    },
    **{
        f"a leaf {value!r}"[:40]: raw(HEADER | {"layers/0/kernel": value})
        for value in (None, [], {}, "F32", 3, [1, 2, 3])
    },
    **{
        f"dtype {value!r}": changed(dtype=value)
        for value in ("F31", "f32", "float32", "", None, 4, ["F32"], "F64", "U8", "F4", "O", "BF16")
    },
    **{
        f"shape {value!r}": changed(shape=value)
        for value in (
            *([2, 4], [6], [-1], [-2, -3], [2, -1], [], [0], [2.0, 3], ["2", 3], [True, 6]),
            *(None, 6, "23", [2**62, 3], [2**64, 3], [2**70], [[2, 3]], [1] * 99, {"0": 2}),
        )
    },
    **{
        f"offsets {value!r}": changed(data_offsets=value)
        for value in (
            *([0, 24], [24, 0], [16, 39], [16, 41], [17, 41], [-24, 40], [16, -1], [16.0, 40]),
            *([], [16], [16, 40, 41], None, 16, "01", [16, None], [2**63, 2**63 + 24]),
            *([16, 2**70], [True, 40], [0, 2**40]),
        )
    },
    **{
        f"without {field}": raw(
            HEADER | {"layers/0/kernel": {k: v for k, v in KERNEL.items() if k != field}}
        )
        for field in KERNEL
    },
    "a leaf less": raw({name: HEADER[name] for name in HEADER if name != "b"}),
    "a leaf more": raw(HEADER | {"c": {"dtype": "F32", "shape": [0], "data_offsets": [40, 40]}}),
    "a leaf of another name": raw({("c" if n == "b" else n): x for n, x in HEADER.items()}),
    "leaves that change places": raw(HEADER | {"c": HEADER["b"]} | {"b": KERNEL}),
    "metadata that is no JSON": sealed("{"),
    "metadata of deep nesting": sealed(DEEP),
    "metadata with a huge number": sealed('{"config": ' + "9" * 9999 + "}"),
    "types that are no JSON": sealed("{}", "\n{"),
    "types of deep nesting": sealed("{}", "\n" + DEEP),
    **{
        f"types {types}": sealed("{}", f"\n{json.dumps(types)}")
        for types in (
            *([], None, 3, "b", {"b": 3}, {"b": None}, {"b": "nonsense"}, {"c": "f4"}, [1]),
            *(
                {"b": "O"},
                {"b": "finfo"},
                {"b": "V0"},
                {"b": "S99999999999"},
                {"b": "(2,2)f4"},
                {"b": ","},
                {"b": "<f8,"},
            ),
            *(
                {"b": "f4,f4"},
                {"b": "int4"},
                {"b": "__doc__"},
                {"b": "i4"},
                {"b": "U1"},
                {"b": ["f"]},
            ),
        )
        if types != []
    },
    "another program's": safetensors.numpy.save({"w": np.ones(3)}, {"format": "np"}),
    "a page": b"<!DOCTYPE html><html><body>Log in to the network</body></html>\n",
    "a pickle": pickle.dumps(Malicious()),
    "an npz": npz(),
    "a gzip": gzip.compress(WHOLE),
}
# Files that are whole, and another's.
OTHERS = {
    "of a network with another shape": whole({**TREE, "b": np.ones(3)}),
    "of a network with another type": whole({**TREE, "b": np.ones(2, np.float32)}),
    "of a network with another byte order": whole({**TREE, "b": np.ones(2, ">f8")}),
    "of a network with a leaf more": whole({**TREE, "c": np.ones(2)}),
    "of a network with a leaf less": whole({"b": np.ones(2)}),
    "of nothing": whole({}),
    "of a larger network": whole({"b": np.ones(2), "layers": np.zeros(300_000)}),
    "of a huge network": sparse(leaf_of(HUGE - 8 - len(json.dumps(leaf_of(HUGE - 1000))))),
    "of another config": whole(metadata={"config": {"width": 4}}),
    "of no config": whole(metadata={"other": 1}),
    "of a config that is none": sealed('{"config": [1]}'),
    "of metadata that are none": sealed("[1]"),
    "of metadata that are a text": sealed('"text"'),
}


def within(call):
    """The result of a call that ends soon and takes little memory."""

    def stop(*_):
        raise AssertionError(f"it took longer than {MOST_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    tracemalloc.start()
    try:
        result = call()
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
    return result


def refusal(path, expected, **options):
    """The message of the error that loading ends in."""

    def load():
        with pytest.raises(checkpoints.CheckpointError) as caught:
            checkpoints.load(path, **options)
        return caught.value

    error = within(load)
    assert type(error) is expected
    message = str(error)
    assert "\n" not in message
    assert len(message) < 1000
    assert str(path) in message
    assert re.search(r"\. \S|cannot be used", message), message
    return message


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_every_malformed_checkpoint_is_one_clear_error(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, content = tmp_path / "a.safetensors", KINDS[kind]
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    for like in (TREE, None):
        refusal(path, checkpoints.DamagedCheckpointError, like=like)
    assert isinstance(within(lambda: checkpoints.peek(path)), dict)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_whole_and_anothers_is_not_taken(kind, tmp_path):
    path, content = tmp_path / "a.safetensors", OTHERS[kind]
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    refusal(path, checkpoints.CheckpointError, like=TREE, config=METADATA["config"])


def make_places(folder):
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    for name, target in (("loop", "loop"), ("to a pipe", "pipe"), ("to a device", "/dev/zero")):
        (folder / name).symlink_to(target)
    (folder / "file").write_bytes(b"")
    return [*(p for p in folder.iterdir() if p.name != "file"), folder / ("x" * 300)]


def test_what_is_no_file_is_one_clear_error(tmp_path):
    for path in [*make_places(tmp_path), tmp_path / "file" / "below"]:
        refusal(path, checkpoints.CheckpointError, like=TREE)
        assert within(lambda path=path: checkpoints.peek(path)) == {}
    for name in ("absent", "dangling"):
        (tmp_path / "dangling").is_symlink() or (tmp_path / "dangling").symlink_to("nowhere")
        with pytest.raises(FileNotFoundError, match=f"no checkpoint '.*{name}"):
            checkpoints.load(tmp_path / name)
        assert checkpoints.peek(tmp_path / name) == {}


def test_a_file_that_is_cut_while_it_is_read_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(WHOLE)
    loads = json.loads

    def cutting(text):
        os.truncate(path, len(WHOLE) - 8)
        return loads(text)

    monkeypatch.setattr(json, "loads", cutting)
    refusal(path, checkpoints.DamagedCheckpointError, like=TREE)


def test_a_header_may_be_as_long_as_what_was_saved_and_no_longer(tmp_path):
    """So that what is saved can be loaded."""
    path = tmp_path / "a.safetensors"
    text = "x" * (checkpoints.MOST_HEADER_BYTES - 1000)
    checkpoints.save(path, TREE, {"text": text})
    assert checkpoints.load(path)[1] == {"text": text}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Expected names and metadata of at most"):
        checkpoints.save(path, TREE, {"text": text + "x" * 1000})
    assert path.read_bytes() == before


# --- saving -------------------------------------------------------------------------------------


def deleted():
    array = jnp.ones(3)
    array.delete()
    return array


def traced():
    found = []
    jax.jit(lambda x: found.append(x) or x)(jnp.ones(3))
    return found[0]


NOT_SAVED = {
    "an object": ({"w": np.array([1, None])}, {}),
    "texts of any length": ({"w": np.array(["a"], np.dtypes.StringDType())}, {}),
    "a record": ({"w": np.zeros(2, [("a", "f4")])}, {}),
    "an array of nothing wide": ({"w": np.zeros(2, "V0")}, {}),
    "a number": ({"w": 1}, {}),
    "a float": ({"w": 1.5}, {}),
    "a complex": ({"w": 1j}, {}),
    "a text": ({"w": "abc"}, {}),
    "bytes": ({"w": b"abc"}, {}),
    "a function": ({"w": len}, {}),
    "a set": ({"w": {1, 2}}, {}),
    "an object in a list": ({"w": [np.ones(2), object()]}, {}),
    "a key": ({"w": jax.random.key(0)}, {}),
    "a shape": ({"w": jax.ShapeDtypeStruct((3,), np.float32)}, {}),
    "a deleted array": ({"w": deleted()}, {}),
    "a traced array": ({"w": traced()}, {}),
    "a masked array": ({"w": np.ma.masked_array([1.0, 2.0], [True, False])}, {}),
    "two leaves of one path": ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, {}),
    "a leaf named as the metadata": ({"__metadata__": np.ones(1)}, {}),
    "a name that is no text": ({"\ud800": np.ones(1)}, {}),
    "metadata of bytes": (TREE, {"x": b"1"}),
    "metadata of arrays": (TREE, {"x": np.ones(2)}),
    "metadata of a NumPy number": (TREE, {"x": np.float32(1)}),
    "metadata of a set": (TREE, {"x": {1}}),
    "metadata of a function": (TREE, {"x": len}),
    "metadata with a tuple as a name": (TREE, {"x": {(1, 2): 3}}),
}


def circular():
    metadata = {}
    metadata["x"] = metadata
    return metadata


def nested():
    metadata = {}
    for _ in range(10**5):
        metadata = {"x": metadata}
    return metadata


NOT_SAVED |= {
    "metadata that hold themselves": (TREE, circular()),
    "metadata of deep nesting": (TREE, nested()),
}


@pytest.mark.parametrize("kind", NOT_SAVED)
def test_what_cannot_be_saved_is_one_clear_error_and_leaves_what_was(
    kind, tmp_path, without_type_checks
):
    path = tmp_path / "a.safetensors"
    path.write_bytes(WHOLE)
    tree, metadata = NOT_SAVED[kind]
    with pytest.raises(ValueError, match="^Expected .*") as caught:
        checkpoints.save(path, tree, metadata)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert path.read_bytes() == WHOLE
    assert os.listdir(tmp_path) == [path.name]


def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path):
    places = make_places(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for path in [*places, tmp_path / "file" / "below"]:
        if os.path.islink(path):
            continue
        with pytest.raises(OSError, match="Could not write") as caught:
            checkpoints.save(path, TREE, METADATA)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES]
)
@pytest.mark.parametrize("call", ["fsync", "replace", "open", "mkdir"])
def test_an_error_of_the_system_at_any_step_leaves_what_was(number, call, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(WHOLE)

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os if call == "fsync" else Path, call, fail)
        with pytest.raises(OSError, match=f"Could not write.*{os.strerror(number)}") as caught:
            checkpoints.save(path, {"w": np.ones(9)}, {})
    assert caught.value.errno == number
    assert path.read_bytes() == WHOLE
    assert os.listdir(tmp_path) == [path.name]


# --- what is saved is loaded --------------------------------------------------------------------

LEAVES = {
    "of PyTorch": Tensor(np.arange(3, dtype=np.float32)),
    "0-d": np.float32(3),
    "empty": np.zeros((0, 3), ml_dtypes.bfloat16),
    "empty bool": np.zeros((2, 0), bool),
    "of JAX": jnp.arange(3),
    "half": np.ones(3, np.float16),
    "int4": np.array([-8, 7], ml_dtypes.int4),
    "uint4": np.array([0, 15], ml_dtypes.uint4),
    "float8": np.array([1, np.nan, np.inf]).astype(ml_dtypes.float8_e5m2),
    "nan": np.array([np.nan, -np.nan, np.inf, -0.0]),
    "complex": np.array([1 + 2j, complex(np.nan, np.inf)]),
    "odd, before wide": np.ones(3, np.uint8),
    "wide": np.ones(3, np.complex128),
    "widest": np.ones(3, np.clongdouble),
    "big-endian": np.arange(3, dtype=">c16"),
    "every other": np.arange(12.0).reshape(3, 4)[::2, ::-2],
    "Fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
}


def test_all_kinds_of_leaves_in_one_file_come_back_bit_by_bit(tmp_path):
    tree, path = LEAVES, tmp_path / "a.safetensors"
    checkpoints.save(path, tree, {})
    for like in (None, tree):
        back, _ = checkpoints.load(path, like=like)
        assert back.keys() == tree.keys()
        for name, leaf in tree.items():
            found, leaf = back[name], np.asarray(getattr(leaf, "values", leaf))
            assert (found.dtype, found.shape) == (leaf.dtype, leaf.shape), name
            assert found.tobytes() == leaf.tobytes(), name
            assert found.flags.writeable, name
            assert found.flags.aligned, name


@pytest.mark.parametrize("name", LEAVES)
def test_a_tree_that_is_one_leaf_comes_back(name, tmp_path):
    path, leaf = tmp_path / "a.safetensors", LEAVES[name]
    checkpoints.save(path, leaf, {})
    expected = np.asarray(getattr(leaf, "values", leaf))
    found, _ = checkpoints.load(path, like=leaf)
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())


KEYS = st.one_of(
    st.text(max_size=3).filter(lambda text: text != "__metadata__"),
    st.integers(0, 20),
    st.sampled_from(["0", "00", "01", "1", "\u0661", "\u00b2", "a/b", "/", "", "-1", "1e3"]),
)


@given(tree=st.recursive(st.just(1), lambda sub: st.dictionaries(KEYS, sub, max_size=3)))
def test_any_names_come_back(tree, tmp_path_factory):
    counter = iter(range(10**6))
    tree = jax.tree.map(lambda _: np.int64(next(counter)), _sortable({"x": tree}))
    path = tmp_path_factory.mktemp("store") / "a.safetensors"
    try:
        flat = pytrees.flatten(tree)
    except ValueError:  # one path twice
        return
    checkpoints.save(path, tree, {})
    assert jax.tree.all(jax.tree.map(np.array_equal, checkpoints.load(path, like=tree)[0], tree))
    if any(other.startswith(f"{name}/") for name in flat for other in flat if other != name):
        with pytest.raises(ValueError, match="Expected paths"):
            checkpoints.load(path)
    else:
        assert pytrees.flatten(checkpoints.load(path)[0]) == flat


def _sortable(tree):
    """With names that JAX can sort: of one type in a dictionary."""
    if not isinstance(tree, dict):
        return tree
    kinds = {type(key) for key in tree}
    return {(key if len(kinds) == 1 else str(key)): _sortable(sub) for key, sub in tree.items()}
