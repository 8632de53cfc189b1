"""Storing trees of arrays in files that are safe to load and cannot go bad unnoticed.

The format is safetensors: a JSON header and raw bytes, nothing that executes, one file that other
frameworks read too. It has no checksum of its own, so the header carries a SHA-256 over every leaf
and over the metadata. What safetensors does not give back as it was (bfloat16 to NumPy, int4, other
byte orders, complex128) is kept as it is stored or byte by byte, with the name of its type beside
the metadata.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from rebasin_lab import bounded_json, paths, pytrees

# The one entry of safetensors' string-to-string metadata: "<sha256> <metadata as JSON>" and, where
# there are any, a line of types as JSON, by leaf. One, since safetensors does not promise an order
# for several, and the same content should be the same bytes.
_KEY = "rebasin_lab"

# safetensors gives these back to NumPy as they were, in the machine's byte order.
_PLAIN = frozenset(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64"),
    )
)
# These it stores under their own names, for other frameworks to read.
_NAMED = frozenset(
    np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or is not what the caller asked for."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are not those that were written."""


def save(path: Path, tree: PyTree, metadata: Mapping[str, Any]) -> None:
    """Write a tree of arrays and JSON metadata, atomically.

    Arrays may be of any type of NumPy's and ml_dtypes' but objects and records; each is read back
    with the same type, shape and bits, in C order.

    Raises:
        ValueError: for a leaf that is no array of such a type, naming it.
        OSError: if the file cannot be written (a full disk, say); what was there before stays.
    """
    leaves = pytrees.flatten(tree) | _swapped(tree)
    leaves = {name: _as_array(name, leaf) for name, leaf in leaves.items()}
    text = json.dumps(metadata)
    header = f"{_digest(leaves, text)} {text}"
    if types := {n: _type_name(x.dtype) for n, x in leaves.items() if x.dtype not in _PLAIN}:
        header += f"\n{json.dumps(types)}"
    stored = {
        name: x if x.dtype in _PLAIN | _NAMED else _bytes(x).reshape(*x.shape, x.dtype.itemsize)
        for name, x in leaves.items()
    }
    paths.write_atomically(path, safetensors.numpy.save(stored, {_KEY: header}))


def load(
    path: Path, *, like: PyTree | None = None, config: Mapping[str, Any] | None = None
) -> tuple[PyTree, dict[str, Any]]:
    """Read back what `save` wrote, after checking every byte of it.

    Args:
        path: the file.
        like: a tree of arrays; the result takes its structure and must have its shapes and dtypes.
            Without it the result is nested dicts.
        config: what the stored metadata must hold under "config".

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedCheckpointError: if the file is truncated or changed.
        CheckpointError: if it holds another config or other leaves than expected, or cannot be
            read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise CheckpointError(f"'{path}' is no file and cannot be read. Move it away.")
        with safetensors.safe_open(path, framework="numpy") as file:
            header, _, types = (file.metadata() or {}).get(_KEY, "").partition("\n")
            stored, _, text = header.partition(" ")
            types = dict(bounded_json.parsed(types or "{}"))
            names = [name for name in file.keys() if name not in types]  # noqa: SIM118
            leaves = {name: file.get_tensor(name) for name in names}
        if types:
            leaves |= _typed(path, types)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no checkpoint '{path}'.") from None
    # A type NumPy does not know is a KeyError, what does not fit it a ValueError or TypeError.
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise DamagedCheckpointError(
            f"The checkpoint '{path}' is damaged ({error}) and cannot be used."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint '{path}' cannot be read ({error}). Mend that, or move it away."
        ) from error
    if not stored:
        raise DamagedCheckpointError(
            f"'{path}' is damaged, or no checkpoint of rebasin_lab: it is a safetensors file "
            f"without '{_KEY}' metadata. Read a file of another program with "
            "safetensors.numpy.load_file."
        )
    if stored != _digest(leaves, text):
        raise DamagedCheckpointError(
            f"The checkpoint '{path}' is damaged and cannot be used: its SHA-256 is not the one "
            "stored in it."
        )
    try:
        metadata = bounded_json.parsed(text, finite=False)
    except ValueError as error:
        raise CheckpointError(f"The metadata of '{path}' cannot be read: {error}.") from error
    if config is not None:
        stored_config = metadata.get("config") if isinstance(metadata, dict) else None
        _check_config(path, dict(config), stored_config or {})
    tree = pytrees.unflatten(leaves) if like is None else _restructure(path, leaves, like)
    return tree, metadata


def peek(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint, unchecked, without reading its arrays; empty if it has none."""
    if not path.is_file():
        return {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "").partition(" ")[2].partition("\n")[0]
            found = bounded_json.parsed(text or "{}", finite=False)
    except (OSError, ValueError, safetensors.SafetensorError):  # not there, or not whole
        return {}
    return found if isinstance(found, dict) else {}


def _swapped(tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves in another byte order than this machine's, which `flatten` turns."""
    return {
        pytrees.path_string(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if isinstance(leaf, np.ndarray | np.generic) and not leaf.dtype.isnative
    }


def _as_array(name: str, leaf: Any) -> np.ndarray:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        what = f"a {type(leaf).__name__}" if dtype is None else f"of type {dtype}"
        raise ValueError(
            f"Expected every leaf to be an array of numbers, to be stored; '{name}' is {what}. "
            "Write np.asarray(...) around a number, jax.random.key_data(...) around a key, and "
            "leave out what is no array."
        )
    array = np.asarray(leaf, order="C")
    if array.dtype.hasobject or array.dtype.fields or not array.dtype.itemsize:
        raise ValueError(
            f"Expected every leaf to be an array of numbers, to be stored; '{name}' holds "
            f"{array.dtype}, which has no bytes of its own. Store its parts as arrays."
        )
    return array


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _type_name(dtype: np.dtype) -> str:
    """A name for `_type`, which says the byte order, too."""
    return dtype.name if hasattr(ml_dtypes, dtype.name) else dtype.str


def _type(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def _typed(path: Path, types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The leaves whose types are written beside the metadata, from their bytes."""
    found = {}
    for name, tensor in safetensors.deserialize(path.read_bytes()):
        if name in types:
            dtype, shape = _type(types[name]), tensor["shape"]
            shape = shape if dtype in _NAMED else shape[:-1]
            found[name] = np.frombuffer(tensor["data"], dtype).reshape(shape)
    return found


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
            f"The checkpoint '{path}' belongs to another config ({differences}). Move it away, or "
            "ask for the config it holds."
        )


def _restructure(path: Path, leaves: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    expected = pytrees.flatten(like) | _swapped(like)
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
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in expected])
