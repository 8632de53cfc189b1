"""Store trees of arrays in files that are safe to load, with checksums.

The format is safetensors: a JSON header and raw bytes, no code, readable by other frameworks. It
has no checksum, so the header holds a SHA-256 of every leaf and the metadata. Types that
safetensors does not return to NumPy (bfloat16, int4, other byte orders, complex128) are stored in
another type or as bytes, with the name of their type beside the metadata.

This module reads files itself, in one go: a memory map would crash the process if the file were
truncated meanwhile. Sizes are checked against a bound before memory is allocated.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy
from jaxtyping import PyTree

from rebasin_lab import checks, paths, pytrees, strict_json, texts

# The one entry of safetensors' string-to-string metadata: "<sha256> <metadata as JSON>" and, if
# needed, a line of types by leaf as JSON. One entry, since safetensors does not fix the order of
# several, and the same content should give the same bytes.
_KEY = "rebasin_lab"

# The types that safetensors returns to NumPy unchanged.
_PLAIN = {
    **{"BOOL": np.dtype(bool), "C64": np.dtype(np.complex64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
# And the types that it stores under their own names, for other frameworks.
STORED = _PLAIN | {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}

MOST_HEADER_BYTES = 16_000_000  # names, shapes and metadata; 100,000 leaves take 10 MB
MOST_BYTES = 16_000_000_000  # of arrays, by default; the paper's widest ResNet has 1 GB
MOST_UNASKED_BYTES = 100_000_000  # of another model's arrays, to name the difference

_TYPE = re.compile(r"[<>|=][A-Za-z][0-9]+(\[\w+\])?")  # as `numpy.dtype.str` has it

# Errors that an invalid header or type may cause.
_MALFORMED = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or is not what the caller asked for."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are not those that were written."""


@checks.arguments
def save(path: Path, tree: PyTree, metadata: Mapping[str, Any]) -> None:
    """Write a tree of arrays and JSON metadata, atomically.

    Arrays may have any type of NumPy and ml_dtypes except objects and records; each is read back
    with the same type, shape and bits, in C order.

    Raises:
        ValueError: for a leaf that is no array of such a type, naming it; for metadata that are no
            JSON, or too long.
        OSError: if the file cannot be written; an old file stays.
    """
    leaves = pytrees.flatten(tree) | _swapped(tree)
    leaves = {name: _as_array(name, leaf) for name, leaf in leaves.items()}
    text = _as_text(metadata)
    header = f"{_digest(leaves, text)} {text}"
    plain, stored = _PLAIN.values(), STORED.values()
    if types := {n: _type_name(x.dtype) for n, x in leaves.items() if x.dtype not in plain}:
        header += f"\n{json.dumps(types)}"
    leaves = {
        name: x if x.dtype in stored else _bytes(x).reshape(*x.shape, x.dtype.itemsize)
        for name, x in leaves.items()
    }
    content = safetensors.numpy.save(leaves, {_KEY: header})
    if (num_bytes := int.from_bytes(content[:8], "little")) > MOST_HEADER_BYTES:
        raise ValueError(
            f"Expected names and metadata of at most {MOST_HEADER_BYTES:,} bytes, to be stored in "
            f"'{path}'; got {num_bytes:,}. Make arrays of what is long."
        )
    paths.write_atomically(path, content)


@checks.arguments
def load(
    path: Path, *, like: PyTree | None = None, config: Mapping[str, Any] | None = None
) -> tuple[PyTree, dict[str, Any]]:
    """Read a file of `save`, with a check of every byte.

    Args:
        path: the file.
        like: a tree of arrays with the expected structure, shapes and dtypes; without it the
            result is nested dicts.
        config: the expected "config" of the stored metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedCheckpointError: if the file is truncated or changed.
        CheckpointError: if it holds another config or other leaves than expected, or cannot be
            read.
    """
    expected = None if like is None else pytrees.flatten(like) | _swapped(like)
    most_bytes = MOST_BYTES if expected is None else max(_num_bytes(expected), MOST_UNASKED_BYTES)
    try:
        leaves, metadata = _read(path, most_bytes)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no checkpoint '{path}'.") from None
    except _MALFORMED as error:
        if isinstance(error, CheckpointError):
            raise
        raise DamagedCheckpointError(
            f"The checkpoint '{path}' is damaged ({texts.in_a_line(str(error), 250)}) and cannot "
            "be used."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint '{path}' cannot be read ({error}). Mend that, or move it away."
        ) from error
    if config is not None:
        stored = metadata.get("config") if isinstance(metadata, dict) else None
        _check_config(path, dict(config), stored if isinstance(stored, dict) else {})
    if expected is None:
        return pytrees.unflatten(leaves), metadata
    _check_leaves(path, leaves, expected)
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[n] for n in expected]), metadata


@checks.arguments
def peek(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint, unchecked and without reading arrays; {} if there are none."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            _, text, _ = _beside(read_header(file))
        metadata = strict_json.parsed(text, finite=False)
    except (OSError, *_MALFORMED):  # no such file, or a damaged one
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _read(path: Path, most_bytes: int) -> tuple[dict[str, np.ndarray], Any]:
    """The leaves and metadata of a file; a `_MALFORMED` error if it is damaged.

    Leaves share one buffer, and are writable.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait
        raise CheckpointError(f"'{path}' is no file and cannot be read. Move it away.")
    with path.open("rb") as file:
        table = read_header(file)
        seal, text, types = _beside(table)
        entries = {name: entry for name, entry in table.items() if name != "__metadata__"}
        num_bytes = os.fstat(file.fileno()).st_size - file.tell()
        if num_bytes != sum(end - start for start, end in map(_place, entries.values())):
            raise ValueError("it is cut, or holds more than it says")
        if num_bytes > most_bytes:
            raise CheckpointError(
                f"The checkpoint '{path}' is of another model, or no checkpoint: it holds "
                f"{num_bytes:,} bytes of arrays; expected at most {most_bytes:,}. Move it away."
            )
        content = np.empty(num_bytes, np.uint8)
        if file.readinto(content) != num_bytes:
            raise ValueError("it was cut while it was read")
    leaves = {name: _leaf(content, entry, types.pop(name, "")) for name, entry in entries.items()}
    if types or seal != _digest(leaves, text):
        raise ValueError("its SHA-256 is not the one stored in it")
    return leaves, strict_json.parsed(text, finite=False)


def read_header(file: BinaryIO) -> dict[str, Any]:
    """The header of a safetensors file, of whatever program; the file is then at its first byte.

    Raises:
        ValueError: if there is none, or it is longer than `MOST_HEADER_BYTES`.
    """
    num_bytes = int.from_bytes(file.read(8), "little")
    if num_bytes > MOST_HEADER_BYTES:
        raise ValueError(f"its header is of {num_bytes:,} bytes, it says")
    text = file.read(num_bytes)
    if len(text) != num_bytes:
        raise ValueError("it ends in its header")
    return strict_json.parsed(text)


def _beside(table: Mapping[str, Any]) -> tuple[str, str, dict[str, str]]:
    """The entries that `save` adds to the header: SHA-256, metadata as text, and types."""
    header, _, types = table.get("__metadata__", {}).get(_KEY, "").partition("\n")
    seal, _, text = header.partition(" ")
    if not seal:
        raise ValueError(
            f"or no checkpoint of rebasin_lab: a safetensors file without '{_KEY}' metadata. Read "
            "one of another program with safetensors.numpy.load_file"
        )
    return seal, text, dict(strict_json.parsed(types or "{}"))


def _place(entry: Mapping[str, Any]) -> tuple[int, int]:
    start, end = entry["data_offsets"]
    return start, end


def _leaf(content: np.ndarray, entry: Mapping[str, Any], type_name: str) -> np.ndarray:
    stored, shape = STORED[entry["dtype"]], tuple(entry["shape"])
    dtype = _type(type_name) if type_name else stored
    if min(shape, default=0) < 0:
        raise ValueError(f"an array is of shape {shape}, it says")
    if dtype not in STORED.values():
        shape = shape[:-1]  # byte by byte
    leaf = content[slice(*_place(entry))].view(dtype).reshape(shape)
    return leaf if leaf.flags.aligned else leaf.copy()


def _num_bytes(leaves: Mapping[str, Any]) -> int:
    if wrong := [path for path, leaf in leaves.items() if not hasattr(leaf, "dtype")]:
        raise ValueError(
            "Expected like to be a tree of arrays, or of their shapes; got a leaf "
            f"'{wrong[0]}' that is {checks.shortened(leaves[wrong[0]])}."
        )
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves.values())


def _swapped(tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves in non-native byte order, which `flatten` would convert."""
    return {
        pytrees.path_string(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if isinstance(leaf, np.ndarray | np.generic) and not leaf.dtype.isnative
    }


def _as_array(name: str, leaf: Any) -> np.ndarray:
    if name == "__metadata__" or name != name.encode(errors="ignore").decode():
        raise ValueError(
            f"Expected names of leaves that can be stored; got {name!r}, which is no text, or has "
            "another meaning in a safetensors file. Rename it."
        )
    expected = f"Expected every leaf to be an array of numbers, to be stored; '{name}'"
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        what = f"a {type(leaf).__name__}" if dtype is None else f"of type {dtype}"
        raise ValueError(
            f"{expected} is {what}. Write np.asarray(...) around a number, "
            "jax.random.key_data(...) around a key, and leave out what is no array."
        )
    if isinstance(leaf, np.ma.MaskedArray):
        raise ValueError(f"{expected} is masked. Store its data and its mask.")
    try:
        array = np.asarray(leaf, order="C")
    except (RuntimeError, TypeError) as error:  # a deleted array, or a tracer
        reason = texts.in_a_line(str(error), 200)
        raise ValueError(
            f"{expected} cannot be read: {reason} Store an array of values."
        ) from error
    if array.dtype.hasobject or array.dtype.fields or not array.dtype.itemsize:
        raise ValueError(
            f"{expected} holds {array.dtype}, which has no bytes of its own. Store its parts as "
            "arrays."
        )
    return array


def _as_text(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text, checked by reading it again."""
    try:
        text = json.dumps(metadata)
        strict_json.parsed(text, finite=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected metadata that can be stored as JSON; these cannot: {error}. Make them "
            "texts, numbers, lists and dictionaries."
        ) from error
    return text


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _type_name(dtype: np.dtype) -> str:
    """A name of a type with its byte order, for `_type`."""
    return dtype.name if hasattr(ml_dtypes, dtype.name) else dtype.str


def _type(name: str) -> np.dtype:
    own = getattr(ml_dtypes, name, None)
    if not isinstance(own, type) and not _TYPE.fullmatch(name):  # NumPy would evaluate "f4,(2,)f8"
        raise ValueError(f"an array is of type {name!r}, it says")
    return np.dtype(own if isinstance(own, type) else name)


def _digest(leaves: Mapping[str, np.ndarray], metadata_text: str) -> str:
    digest = hashlib.sha256(metadata_text.encode())
    for name in sorted(leaves):
        leaf = leaves[name]
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(_bytes(leaf))
    return digest.hexdigest()


def _check_config(path: Path, expected: dict[str, Any], stored: dict[str, Any]) -> None:
    expected = json.loads(json.dumps(expected))  # tuples become lists, as in the file
    differing = sorted(
        key for key in expected.keys() | stored.keys() if expected.get(key) != stored.get(key)
    )
    if differing:
        differences = "; ".join(
            f"{key}: expected {expected.get(key)!r}, stored {stored.get(key)!r}"
            for key in differing
        )
        raise CheckpointError(
            f"The checkpoint '{path}' belongs to another config "
            f"({texts.in_a_line(differences, 500)}). Move it away, or ask for the config it holds."
        )


def _check_leaves(
    path: Path, leaves: Mapping[str, np.ndarray], expected: Mapping[str, Any]
) -> None:
    for name in [*expected, *leaves]:
        if name not in expected or name not in leaves:
            place = "the checkpoint" if name in expected else "the model"
            raise CheckpointError(
                f"The checkpoint '{path}' is of another model: '{name}' is missing in {place}. "
                "Ask for the model it holds, or move it away."
            )
        found, wanted = leaves[name], expected[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise CheckpointError(
                f"The checkpoint '{path}' is of another model: expected '{name}' to be "
                f"{wanted.dtype}{list(wanted.shape)}; it holds {found.dtype}{list(found.shape)}. "
                "Ask for the model it holds, or move it away."
            )
