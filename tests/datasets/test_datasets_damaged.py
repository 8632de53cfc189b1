"""Files of data sets as no one publishes them: each is one clear error, soon and in little memory.

`KINDS` is a table: a name, and what lies in the folder of data sets. Checksums are left out, so
that the formats themselves are tried. Everything is made here, nothing is unpickled or run.
"""

import functools
import gzip
import io
import os
import pickle
import re
import signal
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rebasin_lab.datasets import embedded, formats, registry, sources

RNG = np.random.default_rng(0)
NUM_TRAIN, NUM_TEST = 4, 2
BOMB = 40_000_000  # bytes of zeros, a thousandth of that when compressed; MOST_MEMORY is less
MOST_MEMORY = 20_000_000
MOST_SECONDS = 30


# --- whole files, to be changed -----------------------------------------------------------------


def idx(array, *, kind=8, shape=None, num_axes=None):
    shape = array.shape if shape is None else shape
    num_axes = len(shape) if num_axes is None else num_axes
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, num_axes, *shape) + array.tobytes()


GREY = {"train": RNG.integers(0, 256, (NUM_TRAIN, 28, 28), np.uint8)}
GREY["test"] = RNG.integers(0, 256, (NUM_TEST, 28, 28), np.uint8)
COLOUR = {name: RNG.integers(0, 256, (len(x), 32, 32, 3), np.uint8) for name, x in GREY.items()}
LABELS = {name: np.arange(len(x), dtype=np.uint8) for name, x in GREY.items()}

IDX_FILES = {
    "train-images": idx(GREY["train"]),
    "train-labels": idx(LABELS["train"]),
    "test-images": idx(GREY["test"]),
    "test-labels": idx(LABELS["test"]),
}


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


BINARY_FILES = {
    f"{name}.bin": np.concatenate([LABELS[name][:, None], planes(x)], axis=1).tobytes()
    for name, x in COLOUR.items()
}


def batch(name, **changes):
    whole = {"data": planes(COLOUR[name]), "labels": LABELS[name].tolist()}
    return pickle.dumps(whole | changes)


PICKLE_FILES = {name: batch(name) for name in COLOUR}


def strip(images, codec="webp", **options):
    file = io.BytesIO()
    Image.fromarray(images).save(file, codec, **{"lossless": True} | options)
    return file.getvalue()


def tall(images):
    return images.reshape(-1, *images.shape[2:])


@functools.cache
def whole_arrays():
    whole = {}
    for name, images in COLOUR.items():
        blobs = [strip(tall(images[:1])), strip(tall(images[1:]))]
        whole[f"{name}_webp"] = np.frombuffer(b"".join(blobs), np.uint8)
        whole[f"{name}_offsets"] = np.cumsum([0, *map(len, blobs)])
        whole[f"{name}_labels"] = LABELS[name]
    return whole


def arrays(**changes):
    return whole_arrays() | changes


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def raw_npy(header, content=b"", version=1):
    head = header.encode()
    return b"\x93NUMPY" + struct.pack("<BBH", version, 0, len(head)) + head + content


def npz(members=None, *, compression=zipfile.ZIP_STORED, **changes):
    members = members or {}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, array in arrays(**changes).items():
            if array is not None:
                archive.writestr(f"{name}.npy", members.get(name) or npy(array))
    return {"a.npz": file.getvalue()}


def strips(*blobs, **changes):
    """An npz whose training strips are these files."""
    offsets = np.cumsum([0, *map(len, blobs)])
    webp = np.frombuffer(b"".join(blobs), np.uint8)
    return npz(**{"train_webp": webp, "train_offsets": offsets} | changes)


def tar(members, *, mode="w:gz", tar_format=tarfile.GNU_FORMAT):
    """A tar file of members: bytes, or a TarInfo by hand."""
    file = io.BytesIO()
    options = {"compresslevel": 1} if mode == "w:gz" else {}
    with tarfile.open(fileobj=file, mode=mode, format=tar_format, **options) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file.getvalue()


def binary_tar(**changes):
    members = {f"binary/{name}": content for name, content in BINARY_FILES.items()}
    return {"binary.tar.gz": tar((members | changes).items())}


def special(name, kind, linkname="", size=0, **pax):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.pax_headers = kind, linkname, size, pax
    return {name: info}


def header_only(name, size, kind=tarfile.REGTYPE):
    """A member that says it holds `size` bytes, and holds none."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return {"binary.tar.gz": gzip.compress(info.tobuf(tarfile.GNU_FORMAT))}


def long_name_bomb(kind):
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = BOMB, kind
    return {"binary.tar.gz": gzip.compress(info.tobuf() + bytes(BOMB))}


# --- the data sets they are files of ------------------------------------------------------------


def source(name, layout, image_shape):
    return sources.Source(
        name=name,
        title=name.title(),
        class_names=tuple("0123456789"),
        train_shape=(NUM_TRAIN, *image_shape),
        test_shape=(NUM_TEST, *image_shape),
        layouts=(layout,),
        remote_files=(),
        folders=(name,),
    )


def layout(files, read, **options):
    return sources.Layout(dict.fromkeys(files), read, **options)


SOURCES = {
    "idx": source("idx", layout(IDX_FILES, formats.read_idx_splits), (28, 28, 1)),
    "binary": source(
        "binary",
        layout(
            BINARY_FILES,
            registry._batches(formats.read_cifar_binary, label_bytes=1),
            folder="binary",
            archive="binary.tar.gz",
        ),
        (32, 32, 3),
    ),
    "pickle": source(
        "pickle",
        layout(PICKLE_FILES, registry._batches(formats.read_cifar_pickle, label_key="labels")),
        (32, 32, 3),
    ),
    "packed": source(
        "packed",
        layout(["a.npz"], functools.partial(formats.read_packed, codec="webp", label_key="labels")),
        (32, 32, 3),
    ),
}
WHOLE = {"idx": IDX_FILES, "binary": binary_tar(), "pickle": PICKLE_FILES, "packed": npz()}


def load(kind, folder):
    return sources.load_source(SOURCES[kind], data_dir=folder, download=False, progress=False)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else content(path)


# --- the kinds ----------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html><body>Log in to the network</body></html>\n"
zipped = gzip.compress(IDX_FILES["train-images"], mtime=0)
KINDS = {}


def kinds(of, prefix, table):
    for name, change in table.items():
        KINDS[f"{prefix}: {name}"] = (of, change)


kinds(
    "idx",
    "idx images",
    {
        name: {"train-images": content}
        for name, content in {
            "empty": b"",
            "a byte": b"\0",
            "magic alone": b"\0\0\x08\x03",
            "half a header": IDX_FILES["train-images"][:10],
            "a page": HTML,
            "another magic": b"\1" + IDX_FILES["train-images"][1:],
            "floats": idx(GREY["train"].astype(">f4"), kind=0x0D),
            "signed": idx(GREY["train"], kind=9),
            "cut": IDX_FILES["train-images"][:-1],
            "trailing": IDX_FILES["train-images"] + b"\0",
            "no axes": idx(GREY["train"][0, 0, 0], shape=()),
            "one axis": idx(GREY["train"].reshape(-1)),
            "two axes": idx(GREY["train"].reshape(NUM_TRAIN, -1)),
            "four axes": idx(GREY["train"][..., None]),
            "65 axes of length 1": idx(GREY["train"][0, 0, 0], shape=(1,) * 65),
            "255 axes": idx(GREY["train"], shape=(1,) * 255),
            "255 axes said": idx(GREY["train"], num_axes=255),
            "nothing of huge axes": idx(np.zeros(0, np.uint8), shape=(0, 2**32 - 1, 2**32 - 1)),
            "65 axes of length 0": idx(np.zeros(0, np.uint8), shape=(0,) * 65),
            "a huge count": idx(GREY["train"], shape=(2**31, 28, 28)),
            "a negative count": idx(GREY["train"], shape=(2**32 - NUM_TRAIN, 28, 28)),
            "huge axes": idx(GREY["train"], shape=(2**32 - 1,) * 3),
            "a product that wraps": idx(GREY["train"], shape=(2**32 - 1, 2**31, 2**31)),
            "one image less": idx(GREY["train"][1:]),
            "no images": idx(GREY["train"][:0]),
            "other pixels": idx(GREY["train"].reshape(-1, 14, 56)),
            "more than any data set": bytes(BOMB),
        }.items()
    },
)
kinds(
    "idx",
    "idx labels",
    {
        name: {"train-labels": content}
        for name, content in {
            "empty": b"",
            "one short": idx(LABELS["train"][1:]),
            "one more": idx(np.append(LABELS["train"], np.uint8(1))),
            "none": idx(LABELS["train"][:0]),
            "a column": idx(LABELS["train"][:, None]),
            "no axes": idx(LABELS["train"][0], shape=()),
            "the images": IDX_FILES["train-images"],
            "out of range": idx(LABELS["train"] + np.uint8(10)),
            "signed": idx(LABELS["train"], kind=9),
        }.items()
    },
)
kinds(
    "idx",
    "gzip",
    {
        name: {"train-images": None, "train-images.gz": content}
        for name, content in {
            "empty": b"",
            "a page": HTML,
            "magic alone": b"\x1f\x8b",
            "header alone": zipped[:10],
            "cut in the middle": zipped[: len(zipped) // 2],
            "cut before its checksum": zipped[:-8],
            "cut in its length": zipped[:-1],
            "trailing": zipped + b"trailing",
            "trailing magic": zipped + b"\x1f\x8b",
            "a second one that is cut": zipped + zipped[:-9],
            "a second one": zipped + gzip.compress(b"more"),
            "another checksum": zipped[:-8] + b"\0\0\0\0" + zipped[-4:],
            "another length": zipped[:-4] + b"\0\0\0\0",
            "a flipped bit": zipped[:1000] + bytes([zipped[1000] ^ 1]) + zipped[1001:],
            "of a gzip": gzip.compress(zipped),
            "another method": zipped[:2] + b"\x07" + zipped[3:],
            "zlib instead": zlib.compress(IDX_FILES["train-images"]),
            "plain instead": IDX_FILES["train-images"],
            "a bomb": gzip.compress(IDX_FILES["train-images"] + bytes(BOMB)),
            "many small bombs": gzip.compress(bytes(BOMB // 40)) * 40,
            "a bomb of bombs": gzip.compress(gzip.compress(bytes(BOMB))),
            "many empty ones": gzip.compress(b"", mtime=0) * 30_000,
            "larger than any data set": os.urandom(4_000_000),
        }.items()
    },
)
kinds(
    "binary",
    "tar",
    {
        "empty": {"binary.tar.gz": b""},
        "of nothing": {"binary.tar.gz": tar([])},
        "a page": {"binary.tar.gz": HTML},
        "zeros": {"binary.tar.gz": bytes(10_240)},
        "cut": {"binary.tar.gz": binary_tar()["binary.tar.gz"][:-5000]},
        "cut, not compressed": {"binary.tar.gz": tar(BINARY_FILES.items(), mode="w")[:9_000]},
        "trailing": {"binary.tar.gz": binary_tar()["binary.tar.gz"] + b"trailing"},
        "a zip": {"binary.tar.gz": npz()["a.npz"]},
        "no folder": {"binary.tar.gz": tar(BINARY_FILES.items())},
        "traversal": {
            "binary.tar.gz": tar((f"binary/../../{n}", c) for n, c in BINARY_FILES.items())
        },
        "absolute": {"binary.tar.gz": tar((f"/binary/{n}", c) for n, c in BINARY_FILES.items())},
        "a link out": binary_tar(**special("binary/test.bin", tarfile.SYMTYPE, "/etc/passwd")),
        "a link to itself": binary_tar(
            **special("binary/test.bin", tarfile.SYMTYPE, "binary/test.bin")
        ),
        "a hard link out": binary_tar(**special("binary/test.bin", tarfile.LNKTYPE, "/etc/passwd")),
        "a hard link to another": binary_tar(
            **special("binary/test.bin", tarfile.LNKTYPE, "binary/train.bin")
        ),
        "a device": binary_tar(**special("binary/test.bin", tarfile.CHRTYPE)),
        "a pipe": binary_tar(**special("binary/test.bin", tarfile.FIFOTYPE)),
        "a folder": binary_tar(**special("binary/test.bin", tarfile.DIRTYPE)),
        "a sparse file": {
            "binary.tar.gz": tar(
                [
                    ("binary/train.bin", BINARY_FILES["train.bin"]),
                    *special(
                        "binary/test.bin",
                        tarfile.REGTYPE,
                        **{"GNU.sparse.size": str(10**12), "GNU.sparse.map": "0,1"},
                    ).items(),
                ],
                tar_format=tarfile.PAX_FORMAT,
            )
        },
        "twice": {
            "binary.tar.gz": tar(
                (f"binary/{name}", content)
                for content in (None, b"\1" * 3073)
                for name, content in (
                    BINARY_FILES | ({"test.bin": content} if content else {})
                ).items()
            )
        },
        "an empty member": binary_tar(**{"binary/test.bin": b""}),
        "a page as member": binary_tar(**{"binary/test.bin": HTML}),
        "a longer member": binary_tar(**{"binary/test.bin": BINARY_FILES["test.bin"] + b"\0"}),
        "another number of records": binary_tar(**{"binary/test.bin": BINARY_FILES["train.bin"]}),
        "labels out of range": binary_tar(**{"binary/test.bin": b"\xff" * 3073 * NUM_TEST}),
        "a huge member": header_only("binary/train.bin", 2**40),
        "a huge member of another name": header_only("readme.html", 2**40),
        "a member of negative size": {
            "binary.tar.gz": gzip.compress(
                tarfile.TarInfo("binary/train.bin")
                .tobuf()
                .replace(b"00000000000\0", b"\xff" * 12, 1)
            )
        },
        "a bomb": binary_tar(**{"binary/test.bin": bytes(BOMB)}),
        "a bomb of another name": binary_tar(**{"readme.html": bytes(BOMB)}),
        "a long name": long_name_bomb(tarfile.GNUTYPE_LONGNAME),
        "a long header": long_name_bomb(tarfile.XHDTYPE),
        "a thousand members": {
            "binary.tar.gz": tar([(str(i), b"") for i in range(1000)] + list(BINARY_FILES.items()))
        },
        "a header of digits": {
            "binary.tar.gz": gzip.compress(
                special("x", tarfile.XHDTYPE, size=500_000)["x"].tobuf() + b"1" * 500_000
            )
        },
        "a pax header of no text": binary_tar(
            **special("binary/test.bin", tarfile.REGTYPE, **{"size": "-5"})
        ),
    },
)


class Malicious:
    """Unpickling it would make a folder here."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def pickle_ops(*parts):
    return b"\x80\x04}(" + b"".join(parts) + b"u."


def key(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


kinds(
    "pickle",
    "pickle",
    {
        name: {"train": content}
        for name, content in {
            "empty": b"",
            "a page": HTML,
            "a stop": b".",
            "cut": PICKLE_FILES["train"][:5_000],
            "without a stop": PICKLE_FILES["train"][:-1],
            "trap alone": pickle.dumps(Malicious()),
            "trap in the labels": batch("train", labels=[Malicious()]),
            "trap in the pixels": batch("train", data=Malicious()),
            "no labels": batch("train", labels=[]),
            "labels of another name": batch("train", labels=None, fine=LABELS["train"].tolist()),
            "a label too few": batch("train", labels=LABELS["train"].tolist()[1:]),
            "a label too many": batch("train", labels=[*LABELS["train"].tolist(), 1]),
            "a label of 256": batch("train", labels=[256, 1, 2, 3]),
            "a negative label": batch("train", labels=[-1, 1, 2, 3]),
            "a huge label": batch("train", labels=[2**600, 1, 2, 3]),
            "labels of text": batch("train", labels=["a", "b", "c", "d"]),
            "labels out of range": batch("train", labels=[10, 1, 2, 3]),
            "no pixels": batch("train", data=b""),
            "a pixel too few": batch("train", data=planes(COLOUR["train"]).tobytes()[:-1]),
            "pixels of float": batch("train", data=planes(COLOUR["train"]).astype(np.float32)),
            "pixels of text": batch("train", data="\u20ac" * 4 * 3072),
            "a huge string": pickle_ops(key("data"), b"\x8e" + struct.pack("<Q", 2**40), b"x"),
            "a huge array of bytes": pickle_ops(b"\x96" + struct.pack("<Q", 2**62), b"x"),
            "a number of a million digits": pickle_ops(key("labels"), b"I" + b"9" * 10**6 + b"\n"),
            "nesting": pickle_ops(b"(" * 10**5),
            "a number of bytes below zero": pickle_ops(key("labels"), b"\x8b\xff\xff\xff\xff"),
            "no text": pickle_ops(b"\x8c\x02\xff\xfe"),
            "two arrays of pixels": batch("train", more=planes(COLOUR["train"]).tobytes()),
            "a bomb": batch("train", more=bytes(BOMB)),
        }.items()
    },
)


def huge_strip():
    """A WebP file of 16,384 x 16,384 pixels, it says, in the 28 bits behind its signature."""
    content = strip(tall(COLOUR["train"]))
    head, signature, rest = content.partition(b"/")
    assert head[-8:-4] == b"VP8L"
    return head + signature + b"\xff\xff\xff\x0f" + rest[4:]


whole_strip = strip(tall(COLOUR["train"]))
num_bytes = len(arrays()["train_webp"])
HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}\n"
kinds(
    "packed",
    "npz",
    {
        "empty": {"a.npz": b""},
        "a page": {"a.npz": HTML},
        "one array": {"a.npz": npy(LABELS["train"])},
        "a pickle": {"a.npz": pickle.dumps(Malicious())},
        "cut": {"a.npz": npz()["a.npz"][:-40]},
        "cut in front": {"a.npz": npz()["a.npz"][40:]},
        "of nothing": {"a.npz": b"PK\5\6" + bytes(18)},
        "a flipped bit": {
            "a.npz": npz()["a.npz"][:2000]
            + bytes([npz()["a.npz"][2000] ^ 1])
            + npz()["a.npz"][2001:]
        },
        **{f"no {name}": npz(**{name: None}) for name in arrays()},
        "objects": npz(train_labels=np.array([1, None, 2, 3])),
        "a trap": npz(train_labels=np.array([Malicious()] * 4)),
        "records": npz(train_labels=np.zeros(4, [("a", "u1")])),
        "labels of float": npz(train_labels=LABELS["train"].astype(float)),
        "labels of int64": npz(train_labels=LABELS["train"].astype(int) - 1),
        "labels of bool": npz(train_labels=LABELS["train"] > 1),
        "labels of text": npz(train_labels=LABELS["train"].astype(str)),
        "labels as a column": npz(train_labels=LABELS["train"][:, None]),
        "one label": npz(train_labels=LABELS["train"][0]),
        "a label too few": npz(train_labels=LABELS["train"][1:]),
        "no labels at all": npz(train_labels=LABELS["train"][:0]),
        "labels out of range": npz(train_labels=LABELS["train"] + np.uint8(7)),
        "huge shape": npz({"train_labels": raw_npy(HEADER.format("'|u1'", (2**40,)))}),
        "huge shape of nothing": npz({"train_labels": raw_npy(HEADER.format("'|u1'", (0, 2**62)))}),
        "shape that wraps": npz({"train_labels": raw_npy(HEADER.format("'|u1'", (2**63, 2)))}),
        "negative shape": npz({"train_labels": raw_npy(HEADER.format("'|u1'", (-4,)), b"1234")}),
        "shape of no integers": npz({"train_labels": raw_npy(HEADER.format("'|u1'", "'abc'"))}),
        "huge items": npz({"train_labels": raw_npy(HEADER.format(f"'S{2**31 - 1}'", (2**20,)))}),
        "nested types": npz({"train_labels": raw_npy(HEADER.format("[" * 500 + "]" * 500, (4,)))}),
        "code in the header": npz({"train_labels": raw_npy("__import__('os').mkdir('unpickled')")}),
        "a header of no text": npz({"train_labels": raw_npy("\0" * 40)}),
        "a long header": npz({"train_labels": raw_npy(" " * 60_000)}),
        "version 9": npz({"train_labels": raw_npy(HEADER.format("'|u1'", (4,)), b"0123", 9)}),
        "array cut": npz({"train_labels": npy(LABELS["train"])[:-1]}),
        "array with more": npz({"train_labels": npy(LABELS["train"]) + b"\0"}),
        "an empty member": npz({"train_labels": b"\n"}),
        "offsets of float": npz(train_offsets=arrays()["train_offsets"].astype(float)),
        "offsets with nan": npz(train_offsets=np.array([0, np.nan, num_bytes])),
        "offsets as a table": npz(train_offsets=arrays()["train_offsets"][:, None]),
        "no offsets at all": npz(train_offsets=arrays()["train_offsets"][:0]),
        "one offset": npz(train_offsets=arrays()["train_offsets"][:1]),
        "negative offsets": npz(train_offsets=-arrays()["train_offsets"]),
        "offsets past the end": npz(train_offsets=arrays()["train_offsets"] + 5),
        "offsets backwards": npz(train_offsets=arrays()["train_offsets"][::-1]),
        "offsets of 2**63": npz(train_offsets=np.array([0, 2**64 - 1], np.uint64)),
        "the same strip again": npz(train_offsets=np.array([0, num_bytes, 0, num_bytes])),
        "more bytes than strips": npz(train_webp=np.append(arrays()["train_webp"], np.uint8(1))),
        "a million empty strips": npz(train_offsets=np.zeros(10**6, int)),
        "bytes as a table": npz(train_webp=arrays()["train_webp"][:, None]),
        "bytes of float": npz(train_webp=arrays()["train_webp"].astype(np.float32)),
        "no strips": npz(train_webp=np.zeros(0, np.uint8), train_offsets=np.zeros(1, int)),
        "strips of noise": strips(os.urandom(99), os.urandom(99)),
        "strips of text": strips(b"webp"),
        "a strip cut": strips(whole_strip[:-400]),
        "strips of png": strips(strip(tall(COLOUR["train"]), "png")),
        "strips of jpeg": strips(strip(tall(COLOUR["train"]), "jpeg")),
        "strips of tiff": strips(strip(tall(COLOUR["train"]), "tiff")),
        "strips of postscript": strips(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 128\n"),
        "strips with alpha": strips(strip(np.dstack([tall(COLOUR["train"])] * 2)[..., :4])),
        "a wider strip": strips(strip(np.zeros((64, 64, 3), np.uint8))),
        "a strip on its side": strips(strip(tall(COLOUR["train"]).transpose(1, 0, 2))),
        "half an image": strips(strip(tall(COLOUR["train"])[:-16])),
        "an image too few": strips(strip(tall(COLOUR["train"][1:]))),
        "an image too many": strips(whole_strip, strip(tall(COLOUR["train"][1:]))),
        "a huge strip": strips(strip(np.zeros((5000, 5000, 3), np.uint8))),
        "a strip that says it is huge": strips(huge_strip()),
        "a high strip": strips(strip(np.zeros((16_000, 32, 3), np.uint8))),
        "many high strips": strips(*[strip(np.zeros((16_000, 32, 3), np.uint8))] * 30),
        "a moving strip": strips(
            strip(
                tall(COLOUR["train"]),
                save_all=True,
                append_images=[Image.fromarray(255 - tall(COLOUR["train"]))],
            )
        ),
        "a bomb": npz(train_labels=np.zeros(BOMB, np.uint8), compression=zipfile.ZIP_DEFLATED),
        "a bomb of bytes": npz(train_webp=np.zeros(BOMB, np.uint8), compression=zipfile.ZIP_BZIP2),
        "larger than any": npz(train_webp=RNG.integers(0, 256, 4_000_000, np.uint8)),
    },
)


def patched(old, new, count=-1):
    content = npz()["a.npz"]
    assert old in content
    return {"a.npz": content.replace(old, new, count)}


def doubled_name(path):
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name, array in [*arrays().items(), ("train_labels", LABELS["train"][::-1])]:
            archive.writestr(f"{name}.npy", npy(array))


def with_fields(flags=None, method=None, size=None):
    """A zip file whose directory and members say so of `train_labels`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays().items():
            archive.writestr(f"{name}.npy", npy(array))
            info = archive.getinfo(f"{name}.npy")
            if name == "train_labels":
                info.flag_bits = info.flag_bits if flags is None else flags
                info.compress_type = info.compress_type if method is None else method
                info.file_size = info.file_size if size is None else size
    return {"a.npz": file.getvalue()}


kinds(
    "packed",
    "zip",
    {
        "encrypted": with_fields(flags=1),
        "a method of another program": with_fields(method=97),
        "deflated, it says": with_fields(method=8),
        "a size too large": with_fields(size=10**6),
        "a huge size": with_fields(size=2**31),
        "a size too small": with_fields(size=10),
        "names with paths": patched(b"train_labels.npy", b"/train_label.npy"),
        "names with another path": patched(b"train_labels.npy", b"../ain_labels.npy"[:16]),
        "a name twice": patched(b"test_labels.npy", b"test_labels.npy".replace(b"test", b"tes\0")),
        "two of a name": {"a.npz": doubled_name},
        "no local header": patched(b"PK\3\4", b"PK\3\5"),
        "no directory": patched(b"PK\1\2", b"PK\1\3"),
    },
)


def fifo(path):
    os.mkfifo(path)


def link_to(target):
    return lambda path: path.symlink_to(target)


places = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": fifo,
    "a link to a device": link_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": link_to("nowhere"),
    "a link to a folder": link_to("."),
    "a file below a file": lambda path: path.symlink_to("test-labels/below"),
    "a name too long": lambda path: path.symlink_to("x" * 300),
}
kinds("idx", "in its place", {name: {"train-labels": make} for name, make in places.items()})
kinds(
    "idx",
    "gzipped in its place",
    {name: {"train-labels": None, "train-labels.gz": make} for name, make in places.items()},
)
kinds("binary", "archive", {name: {"binary.tar.gz": make} for name, make in places.items()})
kinds("packed", "npz in its place", {name: {"a.npz": make} for name, make in places.items()})

FINE = {
    "idx: two gzip members": (
        "idx",
        {
            "train-images": None,
            "train-images.gz": gzip.compress(IDX_FILES["train-images"][:99])
            + gzip.compress(IDX_FILES["train-images"][99:]),
        },
    ),
    "idx: padded gzip": ("idx", {"train-images": None, "train-images.gz": zipped + bytes(512)}),
    "binary: not compressed": (
        "binary",
        {"binary.tar.gz": tar(((f"binary/{n}", c) for n, c in BINARY_FILES.items()), mode="w")},
    ),
    "binary: from the folder itself": (
        "binary",
        {"binary.tar.gz": tar((f"./binary/{n}", c) for n, c in BINARY_FILES.items())},
    ),
    "binary: pax headers": (
        "binary",
        {
            "binary.tar.gz": tar(
                ((f"binary/{n}", c) for n, c in BINARY_FILES.items()), tar_format=tarfile.PAX_FORMAT
            )
        },
    ),
    "binary: others beside": (
        "binary",
        binary_tar(**{"../evil": b"1", "/etc/x": b"2"}, **special("x", tarfile.SYMTYPE, "/etc")),
    ),
    "packed: compressed": ("packed", npz(compression=zipfile.ZIP_DEFLATED)),
    "packed: in Fortran order": ("packed", npz(train_labels=np.asfortranarray(LABELS["train"]))),
    "packed: big-endian offsets": (
        "packed",
        npz(train_offsets=arrays()["train_offsets"].astype(">i8")),
    ),
    "packed: 32-bit offsets": ("packed", npz(train_offsets=arrays()["train_offsets"].astype("u4"))),
    "pickle: others beside": (
        "pickle",
        {"train": pickle.dumps({"x": Malicious()} | pickle.loads(PICKLE_FILES["train"]))},
    ),
}


@pytest.fixture(autouse=True)
def _nothing_else_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "user_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.chdir(tmp_path)


def within(seconds):
    def stop(*_):
        raise AssertionError(f"it took longer than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def refusal(call):
    """The message of the error that a call ends in, which is soon and takes little memory."""
    within(MOST_SECONDS)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert type(caught.value) in (ValueError, OSError, FileNotFoundError)
    assert peak < MOST_MEMORY
    return str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", KINDS)
def test_every_malformed_file_is_one_clear_error(name, tmp_path, without_type_checks):
    of, changes = KINDS[name]
    folder = tmp_path / "data"
    write(
        folder, {n: content for n, content in (WHOLE[of] | changes).items() if content is not None}
    )
    message = refusal(lambda: load(of, folder))
    assert "\n" not in message
    assert len(message) < 1000
    assert re.match(r"Expected .+ (got|holds|is|it|none)\b.*\. [A-Z]", message), message
    wrong = [n for n, content in changes.items() if content is not None]
    assert any(n.removesuffix(".gz") in message for n in wrong), "the file is named"
    assert not (tmp_path / "unpickled").exists()


CSV = b"".join(b"%d," % (i % 17) * 64 + b"%d\n" % (i % 10) for i in range(50))
EMBEDDED = {
    **{f"in its place: {name}": make for name, make in places.items()},
    "empty": b"",
    "of nothing": gzip.compress(b""),
    "plain": CSV,
    "a page": HTML,
    "a page in a gzip": gzip.compress(HTML),
    "cut": gzip.compress(CSV)[:-20],
    "cut lines": gzip.compress(CSV[:-40]),
    "a bomb": gzip.compress(bytes(60_000_000)),
    "a huge value": gzip.compress(CSV.replace(b"3,", b"65539,", 1)),
    "a value below zero": gzip.compress(CSV.replace(b"3,", b"-3,", 1)),
    "too white": gzip.compress(CSV.replace(b"16,", b"17,", 1)),
    "a label out of range": gzip.compress(CSV.replace(b",9\n", b",10\n")),
    "no image of a class": gzip.compress(CSV.replace(b",9\n", b",8\n")),
    "few images": gzip.compress(CSV[: len(CSV) // 2]),
    "a value moved to the next line": gzip.compress(CSV.replace(b",3\n", b"\n3,", 1)),
}


@pytest.mark.filterwarnings("ignore:string or file could not be read:DeprecationWarning")
@pytest.mark.parametrize("name", EMBEDDED)
def test_a_malformed_file_of_a_package_is_one_clear_error(name, tmp_path, monkeypatch):
    path, content = tmp_path / "digits.csv.gz", EMBEDDED[name]
    monkeypatch.setattr(embedded, "_locate", lambda _: path)
    path.write_bytes(gzip.compress(CSV))
    assert len(registry.load_dataset("digits8x8").test_labels) == 10
    path.unlink()
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz") as caught:
        registry.load_dataset("digits8x8")
    assert "\n" not in str(caught.value)
    assert re.search("[Rr]einstall|Replace", str(caught.value))


@pytest.mark.parametrize("name", FINE)
def test_what_is_only_unusual_is_read(name, tmp_path):
    of, changes = FINE[name]
    write(tmp_path, WHOLE[of])
    whole = load(of, tmp_path)
    for path in changes:
        (tmp_path / path).unlink(missing_ok=True)
    write(tmp_path, {n: content for n, content in changes.items() if content is not None})
    assert load(of, tmp_path).digest == whole.digest
    assert not (tmp_path / "unpickled").exists()


@given(data=st.data(), of=st.sampled_from(sorted(WHOLE)))
def test_a_file_changed_anywhere_is_read_or_refused(data, of, tmp_path_factory):
    files = WHOLE[of]
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers and directories are at the ends.
        end = data.draw(st.sampled_from([min(200, len(content)), len(content)]))
        place = data.draw(st.integers(0, end - 1)) * data.draw(st.sampled_from([1, -1]))
        content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, content[place] ^ 1]))
    folder = tmp_path_factory.mktemp("data")
    write(folder, files | {name: bytes(content)})
    message = "Expected nothing else"
    try:
        load(of, folder)
    except ValueError as error:
        message = str(error)
    assert message.startswith("Expected ")
