"""File formats of the data sets: bytes in, uint8 arrays out.

Readers do not depend on paths or data sets; `where` names the file in errors. Images have shape
[num, height, width, channels]. Nothing is unpickled: the Python edition of CIFAR is a pickle, which
could run any program, so its opcodes are only listed. The reader of a whole data set takes
`Contents`: file -> bytes, in a fixed order. Compressed files and headers may claim any size, so
sizes are checked against a bound before data is read.
"""

import gzip
import hashlib
import io
import math
import pickletools
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from rebasin_lab import texts

Contents = dict[str, bytes]

CIFAR_PIXELS = 3 * 32 * 32
_DAMAGED = (Image.DecompressionBombError, zipfile.BadZipFile, zlib.error)
# Opcodes that push an integer; the argument of others, such as BINPUT, is a memo index.
_INTEGER_OPCODES = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"}


class Split(NamedTuple):
    """Images and labels of one split, as stored."""

    images: UInt8[np.ndarray, "num height width channels"]
    labels: UInt8[np.ndarray, " num"]


def gunzip(data: bytes, *, most_bytes: int, where: str) -> bytes:
    """The uncompressed bytes of a whole gzip file, at most `most_bytes`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(most_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"Expected {where} to be a whole gzip file; got one that is cut or damaged ({error}). "
            "Delete it and fetch it again."
        ) from error
    if len(content) > most_bytes:
        raise ValueError(
            f"Expected {where} to hold {most_bytes:,} bytes at most once uncompressed; it holds "
            "more. Delete it and fetch it again."
        )
    return content


def read_tar(data: bytes, members: Collection[str], *, most_bytes: int, where: str) -> Contents:
    """The bytes of named members of a tar archive, plain or gzipped; absent ones are left out.

    A link, a device or another special member counts as absent. Headers are read one by one here,
    since `tarfile.open` accepts extension headers of any length and number, and negative sizes.
    """
    if data[:2] == b"\x1f\x8b":
        data = gunzip(data, most_bytes=most_bytes, where=where)
    contents: Contents = {}
    start = 0
    try:
        while any(header := data[start : start + tarfile.BLOCKSIZE]):
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            name, start = info.name.removeprefix("./"), start + len(header)
            if not 0 <= info.size <= len(data) - start:
                raise ValueError(f"{name!r} does not end in it")
            if name in contents:
                raise ValueError(f"{name!r} comes twice")
            if name in members and info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                contents[name] = data[start : start + info.size]
            start += -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    except (ValueError, tarfile.TarError) as error:
        raise ValueError(
            f"Expected {where} to be a whole tar archive; got one that is cut or damaged "
            f"({texts.in_a_line(str(error), 200)}). Delete it and fetch it again."
        ) from error
    return contents


def read_idx(
    data: bytes, *, where: str, num_axes: Collection[int] = range(1, 9)
) -> UInt8[np.ndarray, "..."]:
    """Array of an (uncompressed) IDX file of unsigned bytes, MNIST's format.

    Args:
        data: the file.
        where: the file's name.
        num_axes: the allowed numbers of axes.
    """
    ndim = data[3] if len(data) > 3 else 0
    header = 4 + 4 * ndim
    if data[:3] != b"\0\0\x08" or ndim not in num_axes or len(data) < header:
        raise ValueError(
            f"Expected {where} to start with an IDX header of unsigned bytes (00 00 08, then the "
            f"number of axes, {' or '.join(map(str, num_axes))}, and their sizes); got "
            f"{data[:4].hex(' ') or 'an empty file'}. Delete it and fetch it again."
        )
    shape = np.frombuffer(data, ">u4", count=ndim, offset=4).tolist()
    too_long = math.prod(size or 1 for size in shape) > sys.maxsize  # for NumPy, even of nothing
    if len(data) - header != math.prod(shape) or too_long:
        raise ValueError(
            f"Expected {where} to hold {math.prod(shape):,} bytes, the shape {shape} of its header;"
            f" got {len(data) - header:,}. Delete it and fetch it again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_idx_splits(contents: Contents) -> tuple[Split, Split]:
    """Train and test split of four IDX files: train images and labels, test images and labels."""
    train_images, train_labels, test_images, test_labels = (
        read_idx(data, where=name, num_axes=[num_axes])
        for (name, data), num_axes in zip(contents.items(), (3, 1, 3, 1), strict=True)
    )
    return Split(train_images[..., None], train_labels), Split(test_images[..., None], test_labels)


def read_csv(data: bytes, *, image_shape: tuple[int, int], where: str) -> Split:
    """Split of comma-separated text: a line an image, its pixels by row, then its label."""
    columns = math.prod(image_shape) + 1
    lines = data.split()
    text = b",".join(lines)
    # Much faster than np.genfromtxt. With 64 bits a value over 255 does not wrap around.
    try:
        values = np.fromstring(text, dtype=np.int64, sep=",")
    except ValueError:  # NumPy before 2.4 stops at what it cannot read, and warns
        values = np.empty(0, np.int64)
    num_values = text.count(b",") + 1
    is_table = values.size == num_values and {line.count(b",") + 1 for line in lines} == {columns}
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
        label_bytes: labels per record, of which the last is used (CIFAR-100: coarse, then fine).
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
    """Split of a file of CIFAR's Python edition, read without unpickling.

    The file is a pickled dictionary. `pickletools.genops` lists its opcodes without running them;
    the pixels are the one long string and the labels the integers after `label_key`.
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
                elif pixels:
                    raise ValueError("pixels come twice")
                else:
                    pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
        labels = np.frombuffer(bytes(labels), np.uint8)
    except ValueError as error:
        raise ValueError(
            f"Expected {where} to be a whole pickle of CIFAR's Python edition; got one that is cut "
            f"or damaged ({texts.in_a_line(str(error), 200)}). Delete it and fetch it again."
        ) from error
    if not labels.size or len(pixels) != CIFAR_PIXELS * labels.size:
        raise ValueError(
            f"Expected {where} to hold {CIFAR_PIXELS} pixel bytes for each entry of '{label_key}'; "
            f"got {len(pixels):,} bytes and {labels.size:,} entries. Delete it and fetch it again."
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
        train, test = (_read_strips(data, split, codec, label_key) for split in ("train", "test"))
    # RuntimeError: encrypted, packed by another method, nested too deeply.
    except (EOFError, KeyError, OSError, RuntimeError, ValueError, *_DAMAGED) as error:
        raise ValueError(
            f"Expected {where} to be a whole npz of {codec} strips; got one that is cut or damaged "
            f"({texts.in_a_line(str(error), 200)}). Replace it."
        ) from error
    got = tuple(hashlib.sha256(split.images).hexdigest() for split in (train, test))
    if sha256 is not None and got != sha256:
        raise ValueError(
            f"Expected the images decoded from {where} to have sha256 {sha256}; got {got}. "
            "Replace the file, or use another version of Pillow."
        )
    return train, test


def _read_strips(data: bytes, split: str, codec: str, label_key: str) -> Split:
    names = (f"{split}_{codec}", f"{split}_offsets", f"{split}_{label_key}")
    blob, offsets, labels = (_read_array(data, name) for name in names)
    if not (blob.dtype == labels.dtype == np.uint8 and offsets[:1] == 0):
        raise ValueError("bytes and labels are not of 8 bits, or offsets do not begin at 0")
    if not (offsets[1:] > offsets[:-1]).all() or offsets[-1] != blob.size:
        raise ValueError("offsets do not rise to the number of bytes")
    bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return Split(_decode_strips([blob.data[i:j] for i, j in bounds], codec, labels.size), labels)


def _read_array(data: bytes, name: str) -> Integer[np.ndarray, " num"]:
    """One array of an npz file, of integers on one axis.

    `numpy.load` would allocate any size that the file claims.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if info.filename == f"{name}.npy"]
        if len(members) != 1:
            raise ValueError(f"it has {len(members)} arrays '{name}'")
        [info] = members
        # NumPy writes no others; zipfile reads other methods without a limit.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{name}' is packed by method {info.compress_type}")
        if info.file_size > 2 * len(
            data
        ):  # most of the file are strips, which are compressed already
            raise ValueError(f"'{name}' unfolds to {info.file_size:,} bytes")
        with archive.open(info) as member:
            content = member.read(info.file_size)
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"'{name}' is of a later version of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    is_list = dtype.kind in "iu" and len(shape) == 1
    if not is_list or shape[0] * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"'{name}' is no list of integers, or not as long as it says")
    return np.frombuffer(content, dtype, offset=file.tell())


def _channels_last(planes: UInt8[np.ndarray, "num pixels"]) -> UInt8[np.ndarray, "num 32 32 3"]:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _decode_strips(
    strips: Sequence[memoryview], codec: str, num_images: int
) -> UInt8[np.ndarray, "num 32 32 3"]:
    heights = []
    for strip in strips:  # before decoding, as the header gives the decoded size
        with _opened(strip, codec) as image:
            heights.append(image.height)
            if (image.mode, image.width, getattr(image, "n_frames", 1)) != ("RGB", 32, 1):
                raise ValueError(f"a strip is {image.mode}, {image.width} x {image.height}")
    if sum(heights) != 32 * num_images:
        raise ValueError(f"strips are {sum(heights):,} pixels high, of {num_images:,} images")

    def decode(strip: memoryview) -> UInt8[np.ndarray, "height 32 3"]:
        return np.asarray(_opened(strip, codec))

    with futures.ThreadPoolExecutor() as pool:  # Pillow's decoders release the interpreter lock
        return np.concatenate(list(pool.map(decode, strips))).reshape(-1, 32, 32, 3)


def _opened(strip: memoryview, codec: str) -> Image.Image:
    return Image.open(io.BytesIO(strip), formats=[codec])
