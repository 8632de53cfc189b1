"""File formats of the data sets: bytes in, uint8 arrays out.

The bottom of the room: nothing here knows where a file lies or which data set it belongs to;
`where` names it in errors. Images come back [num, height, width, channels]. Nothing is unpickled:
the Python edition of CIFAR is a pickle, and a pickle can run any program, so its opcodes are read
as text. A reader of a whole data set takes `Contents`: where each of its files lies and the bytes
of it, in a fixed order.
"""

import gzip
import hashlib
import io
import math
import pickletools
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Contents = dict[str, bytes]

CIFAR_PIXELS = 3 * 32 * 32
# Opcodes that push an integer; the argument of others, such as BINPUT, is a memo index.
_INTEGER_OPCODES = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"}


class Split(NamedTuple):
    """Images and labels of one split, as stored."""

    images: UInt8[np.ndarray, "num height width channels"]
    labels: UInt8[np.ndarray, " num"]


def gunzip(data: bytes, *, where: str) -> bytes:
    """Uncompressed bytes of a whole gzip file."""
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"Expected {where} to be a whole gzip file; got one that is cut or damaged ({error}). "
            "Delete it and fetch it again."
        ) from error


def read_tar(path: Path, members: Collection[str]) -> Contents:
    """Bytes of the named members of a tar archive, read in memory; absent ones are left out."""
    contents: Contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in members and member.isfile():
                    contents[name] = archive.extractfile(member).read()
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise ValueError(
            f"Expected {path} to be a whole tar archive; got one that is cut or damaged ({error}). "
            "Delete it and fetch it again."
        ) from error
    return contents


def read_idx(data: bytes, *, where: str) -> UInt8[np.ndarray, "..."]:
    """Array of an (uncompressed) IDX file of unsigned bytes, MNIST's format."""
    header = 4 + 4 * data[3] if len(data) > 3 else 4
    if data[:3] != b"\0\0\x08" or len(data) < header:
        raise ValueError(
            f"Expected {where} to start with an IDX header of unsigned bytes (00 00 08, then the "
            f"number of axes and their sizes); got {data[:4].hex(' ') or 'an empty file'}."
        )
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).tolist()
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"Expected {where} to hold {math.prod(shape):,} bytes, the shape {shape} of its header;"
            f" got {len(data) - header:,}. Delete it and fetch it again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_idx_splits(contents: Contents) -> tuple[Split, Split]:
    """Train and test split of four IDX files: train images and labels, test images and labels."""
    arrays = [read_idx(data, where=name) for name, data in contents.items()]
    train_images, train_labels, test_images, test_labels = arrays
    return Split(train_images[..., None], train_labels), Split(test_images[..., None], test_labels)


def read_csv(data: bytes, *, image_shape: tuple[int, int], where: str) -> Split:
    """Split of comma-separated text: a line an image, its pixels by row, then its label."""
    columns = math.prod(image_shape) + 1
    text = b",".join(data.split())
    # A hundred times faster than np.genfromtxt; int16, to see a value over 255 and not wrap it.
    try:
        values = np.fromstring(text, dtype=np.int16, sep=",")
    except ValueError:  # NumPy before 2.4 stops at what it cannot read, and warns
        values = np.empty(0, np.int16)
    num_values = text.count(b",") + 1
    is_table = values.size == num_values and values.size % columns == 0
    if not is_table or values.min() < 0 or values.max() > 255:
        raise ValueError(
            f"Expected {where} to hold lines of {columns} integers in [0, 255]; got "
            f"{values.size:,} readable values of {num_values:,}. Reinstall its package."
        )
    table = values.astype(np.uint8).reshape(-1, columns)
    return Split(table[:, :-1].reshape(-1, *image_shape, 1), table[:, -1])


def read_cifar_binary(data: bytes, *, label_bytes: int, where: str) -> Split:
    """Split of a file of CIFAR's binary edition: records of labels, then red, green, blue planes.

    Args:
        data: the file.
        label_bytes: labels a record; the last is the one wanted (CIFAR-100: coarse, then fine).
        where: the file's name.
    """
    record = label_bytes + CIFAR_PIXELS
    if not data or len(data) % record:
        raise ValueError(
            f"Expected {where} to be a whole number of {record}-byte records; got {len(data):,} "
            "bytes. Delete it and fetch it again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    return Split(_channels_last(records[:, label_bytes:]), records[:, label_bytes - 1])


def read_cifar_pickle(data: bytes, *, label_key: str, where: str) -> Split:
    """Split of a file of CIFAR's Python edition, read without unpickling it.

    The file is a pickled dictionary. `pickletools.genops` lists its opcodes and runs none; the
    pixels are the one long string among them and the labels the integers that follow `label_key`.
    """
    key, column_major, pixels, labels = "", False, b"", []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("NEWTRUE", "NEWFALSE") and not pixels:
                column_major = opcode.name == "NEWTRUE"  # precedes the bytes in an array's state
            elif opcode.name in _INTEGER_OPCODES and key == label_key:
                labels.append(argument)
            elif isinstance(argument, str | bytes | bytearray):
                if len(argument) < CIFAR_PIXELS:
                    key = argument
                else:
                    pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
        labels = np.frombuffer(bytes(labels), np.uint8)
    except ValueError as error:
        raise ValueError(
            f"Expected {where} to be a whole pickle of CIFAR's Python edition; got one that is cut "
            f"or damaged ({error}). Delete it and fetch it again."
        ) from error
    if not labels.size or len(pixels) != CIFAR_PIXELS * labels.size:
        raise ValueError(
            f"Expected {where} to hold {CIFAR_PIXELS} pixel bytes for each entry of '{label_key}'; "
            f"got {len(pixels):,} bytes and {labels.size:,} entries."
        )
    order = "F" if column_major else "C"
    planes = np.frombuffer(pixels, np.uint8).reshape((-1, CIFAR_PIXELS), order=order)
    return Split(_channels_last(planes), labels)


def read_batches(contents: Contents, *, read_batch: Callable[..., Split]) -> tuple[Split, Split]:
    """Train and test split of files that hold a batch each; the last file is the test split."""
    *train, test = [read_batch(data, where=name) for name, data in contents.items()]
    return Split(*map(np.concatenate, zip(*train, strict=True))), test


def read_packed(
    contents: Contents,
    *,
    codec: str,
    label_key: str,
    sha256: tuple[str, str] | None = None,
) -> tuple[Split, Split]:
    """Train and test split of an npz of image strips: 500 images on top of each other in a file.

    Args:
        contents: the one npz file, with arrays `train_<codec>`, `train_offsets`, ...
        codec: "webp" or "jpeg".
        label_key: the labels' array is `train_<label_key>`.
        sha256: of the decoded train and test images; None where decoders may differ.
    """
    [(where, data)] = contents.items()
    try:
        with np.load(io.BytesIO(data)) as arrays:
            blobs = [arrays[f"{split}_{codec}"].data for split in ("train", "test")]
            offsets = [arrays[f"{split}_offsets"] for split in ("train", "test")]
            labels = [arrays[f"{split}_{label_key}"] for split in ("train", "test")]
        images = [_decode_strips(*strips) for strips in zip(blobs, offsets, strict=True)]
    except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"Expected {where} to be a whole npz of {codec} strips; got one that is cut or damaged "
            f"({error}). Replace it."
        ) from error
    got = tuple(hashlib.sha256(split).hexdigest() for split in images)
    if sha256 is not None and got != sha256:
        raise ValueError(
            f"Expected the images decoded from {where} to have sha256 {sha256}; got {got}. "
            "Replace the file, or use another version of Pillow."
        )
    train, test = map(Split, images, labels)
    return train, test


def _channels_last(planes: UInt8[np.ndarray, "num pixels"]) -> UInt8[np.ndarray, "num 32 32 3"]:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _decode_strips(blob: memoryview, offsets: np.ndarray) -> UInt8[np.ndarray, "num 32 32 3"]:
    def decode(start: int, stop: int) -> UInt8[np.ndarray, "height 32 3"]:
        return np.asarray(Image.open(io.BytesIO(blob[start:stop])))

    with futures.ThreadPoolExecutor() as pool:  # Pillow's decoders release the interpreter lock
        strips = list(pool.map(decode, offsets[:-1].tolist(), offsets[1:].tolist()))
    return np.concatenate(strips).reshape(-1, 32, 32, 3)
