"""File formats: what is written comes back; damaged files are those of test_datasets_damaged."""

import gzip
import hashlib
import io
import itertools
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image

from rebasin_lab import datasets
from rebasin_lab.datasets import formats


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def random_split(num, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num, 32, 32, 3), np.uint8)
    return formats.Split(images, rng.integers(0, 10, num, np.uint8))


def planes(split):
    return split.images.transpose(0, 3, 1, 2).reshape(len(split.images), -1)


def assert_same(got, expected):
    np.testing.assert_array_equal(got.images, expected.images)
    np.testing.assert_array_equal(got.labels, expected.labels)


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0)))
def test_idx_round_trip(array):
    got = formats.read_idx(idx_bytes(array), where="file")
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_gzip_unfolds_to_its_bound_and_no_further():
    data = gzip.compress(bytes(999))
    assert formats.gunzip(data, most_bytes=999, where="some.gz") == bytes(999)
    with pytest.raises(ValueError, match=r"some\.gz to hold 998 bytes at most.* holds more"):
        formats.gunzip(data, most_bytes=998, where="some.gz")


def test_csv_rows_are_pixels_then_label():
    images, labels = formats.read_csv(b"0,1,2,3,7\n4,5,6,255,9\n", image_shape=(2, 2), where="f")
    assert images[..., 0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 255]]]
    assert labels.tolist() == [7, 9]


@pytest.mark.filterwarnings("ignore:string or file could not be read:DeprecationWarning")
@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"0,1,2,3\n",
            b"0,1,2,3,256\n",
            b"0,-1,2,3,4\n",
            b"a,b\n",
            b"\xff" * 9,
            b"1,2,3,4,\n",
        ),
        *(b"0,1,2,3,65541\n", b"0,1,2,3,4294967301\n", b"0,1,2,3,18446744073709551621\n"),
        *(
            b"0,1,2,3\n4,0,1,2,3,4\n",
            b"0,1,2,3 4\n",
            b"0,1,2,3,4.5\n",
            b"0,1,2,,4\n",
            b"0,1,2,3,0x4",
        ),
    ],
)
def test_csv_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"Expected f\.csv to hold lines of 5 integers"):
        formats.read_csv(text, image_shape=(2, 2), where="f.csv")


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_binary_records_come_back_channels_last(label_bytes):
    expected = random_split(3)
    coarse = np.full((3, label_bytes - 1), 99, np.uint8)
    records = np.concatenate([coarse, expected.labels[:, None], planes(expected)], axis=1)
    got = formats.read_cifar_binary(records.tobytes(), label_bytes=label_bytes, where="f")
    assert_same(got, expected)


def python2_pickle(split, batch_label, filenames):
    """A batch as Python 2's cPickle wrote it, protocol 2: the official edition, byte for byte."""
    counter = itertools.count(1)

    def memoized(data):
        index = next(counter)
        return data + (b"q%c" % index if index < 256 else b"r" + struct.pack("<i", index))

    def string(text):
        return memoized(b"U%c" % len(text) + text.encode())

    def append_all(items):  # in the thousands that pickle appends at a time
        groups = [items[i : i + 1000] for i in range(0, len(items), 1000)]
        return b"".join(b"(" + b"".join(group) + b"e" for group in groups)

    num, pixels = len(split.labels), planes(split).tobytes()
    return b"".join(
        [
            b"\x80\x02" + memoized(b"}") + b"(",
            string("batch_label") + string(batch_label),
            string("labels") + memoized(b"]"),
            append_all([b"K%c" % label for label in split.labels]),
            string("data") + memoized(b"cnumpy.core.multiarray\n_reconstruct\n"),
            memoized(b"cnumpy\nndarray\n") + memoized(b"K\x00\x85U\x01b\x87R"),
            b"(K\x01M" + struct.pack("<H", num) + b"M\x00\x0c\x86",
            memoized(b"cnumpy\ndtype\n") + memoized(b"U\x02u1K\x00K\x01\x87R"),
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
            struct.pack("<i", len(pixels)) + pixels + b"tb",
            string("filenames") + memoized(b"]"),
            append_all([string(name) for name in filenames]),
            b"u.",
        ]
    )


def python3_pickle(split, protocol, order="C"):
    data = np.asarray(planes(split), order=order)
    labels = split.labels.tolist()
    return pickle.dumps({"data": data, "labels": labels, "filenames": ["a"] * 3}, protocol)


PICKLES = {
    "python 2": lambda split: python2_pickle(split, "training batch 1 of 5", ["a", "b", "c"]),
    "protocol 3": lambda split: python3_pickle(split, 3),
    "protocol 4": lambda split: python3_pickle(split, 4),
    "protocol 5": lambda split: python3_pickle(split, 5),
    "column-major": lambda split: python3_pickle(split, 4, order="F"),
}


@pytest.mark.parametrize("write", PICKLES.values(), ids=PICKLES)
def test_cifar_pickle_is_read_without_unpickling(write, monkeypatch):
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.delattr(pickle, name)
    expected = random_split(3)
    assert_same(formats.read_cifar_pickle(write(expected), label_key="labels", where="f"), expected)


def test_python2_pickle_is_one_that_unpickles():
    expected = random_split(3)
    batch = pickle.loads(PICKLES["python 2"](expected), encoding="latin-1")
    np.testing.assert_array_equal(batch["data"], planes(expected))


def test_pickle_of_other_labels_is_refused():
    data = PICKLES["python 2"](random_split(3))
    with pytest.raises(
        ValueError, match=r"train to hold 3072 .* of 'fine_labels'; got 9,216 bytes"
    ):
        formats.read_cifar_pickle(data, label_key="fine_labels", where="train")


def packed_npz(split, codec):
    def strip(images):
        file = io.BytesIO()
        options = {"lossless": True} if codec == "webp" else {"quality": 95}
        Image.fromarray(images.reshape(-1, 32, 3)).save(file, codec, **options)
        return file.getvalue()

    strips = [strip(split.images[:2]), strip(split.images[2:])]
    arrays = {
        codec: np.frombuffer(b"".join(strips), np.uint8),
        "offsets": np.cumsum([0, *map(len, strips)]),
        "labels": split.labels,
    }
    file = io.BytesIO()
    np.savez(file, **{f"{name}_{key}": arrays[key] for name in ("train", "test") for key in arrays})
    return file.getvalue()


def test_packed_strips_round_trip():
    expected = random_split(5)
    digest = hashlib.sha256(expected.images).hexdigest()
    for got in formats.read_packed(
        {"a.npz": packed_npz(expected, "webp")},
        codec="webp",
        label_key="labels",
        sha256=(digest, digest),
    ):
        assert_same(got, expected)


def test_packed_strips_that_decode_to_other_pixels_are_refused():
    contents = {"a.npz": packed_npz(random_split(4), "webp")}
    with pytest.raises(ValueError, match=r"decoded from a\.npz to have sha256 .*; got .*Replace"):
        formats.read_packed(contents, codec="webp", label_key="labels", sha256=("0" * 64,) * 2)


@pytest.fixture(scope="module")
def cifar10():
    """Stored CIFAR-10 as its six official batches: (split, binary file name, python file name)."""
    if "REBASIN_DATA" not in os.environ:
        pytest.skip("REBASIN_DATA names no folder of data sets")
    data = datasets.load_dataset("cifar10", download=False)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    images = [*np.split(data.train_images, 5), data.test_images]
    labels = [*np.split(data.train_labels, 5), data.test_labels]
    stored = [np.rint(batch * 255).astype(np.uint8) for batch in images]
    splits = map(formats.Split, stored, [batch.astype(np.uint8) for batch in labels])
    return data, dict(zip(names, splits, strict=True))


@pytest.mark.realdata
def test_official_binary_edition_is_rebuilt_and_read_back(cifar10, tmp_path):
    data, batches = cifar10
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, batch in batches.items():
        records = np.concatenate([batch.labels[:, None], planes(batch)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    got = datasets.load_dataset("cifar10", data_dir=tmp_path, download=False)
    assert (got.digest, got.source) == (data.digest, "cifar-10-batches-bin")
    np.testing.assert_array_equal(got.train_images, data.train_images)
    np.testing.assert_array_equal(got.test_labels, data.test_labels)


@pytest.mark.realdata
def test_official_python_edition_is_rebuilt_and_read_back(cifar10, tmp_path, official_filenames):
    data, batches = cifar10
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz", compresslevel=1) as archive:
        for i, (name, batch) in enumerate(batches.items()):
            label = "testing batch 1 of 1" if i == 5 else f"training batch {i + 1} of 5"
            content = python2_pickle(batch, label, official_filenames[i])
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    got = datasets.load_dataset("cifar10", data_dir=tmp_path, download=False)
    assert (got.digest, got.source) == (data.digest, "cifar-10-python.tar.gz")


@pytest.fixture
def official_filenames():
    folder = os.environ["REBASIN_DATA"]
    with gzip.open(os.path.join(folder, "cifar10", "cifar10-filenames.txt.gz"), "rt") as file:
        names = file.read().split()
    return [names[i : i + 10_000] for i in range(0, 60_000, 10_000)]
