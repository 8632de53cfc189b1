"""Storing trees of arrays in files that are safe to load and cannot go bad unnoticed.

The format is safetensors: a JSON header and raw bytes, nothing that executes, one file that other
frameworks read too. It has no checksum of its own, so the header carries a SHA-256 over every leaf
and over the metadata.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from rebasin_lab import paths, pytrees

# The one entry of safetensors' string-to-string metadata: "<sha256> <metadata as JSON>". One, since
# safetensors does not promise an order for several, and the same content should be the same bytes.
_KEY = "rebasin_lab"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or is not what the caller asked for."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are not those that were written."""


def save(path: Path, tree: PyTree, metadata: Mapping[str, Any]) -> None:
    """Write a tree of arrays and JSON metadata, atomically.

    Raises:
        OSError: if the file cannot be written (a full disk, say); what was there before stays.
    """
    leaves = {name: np.asarray(leaf, order="C") for name, leaf in pytrees.flatten(tree).items()}
    text = json.dumps(metadata)
    content = safetensors.numpy.save(leaves, {_KEY: f"{_digest(leaves, text)} {text}"})
    paths.write_atomically(path, content)


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
            stored, _, text = (file.metadata() or {}).get(_KEY, "").partition(" ")
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no checkpoint '{path}'.") from None
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
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
    metadata = json.loads(text)
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
            found = json.loads((file.metadata() or {}).get(_KEY, "").partition(" ")[2] or "{}")
    except (OSError, ValueError, safetensors.SafetensorError):  # not there, or not whole
        return {}
    return found if isinstance(found, dict) else {}


def _digest(leaves: Mapping[str, np.ndarray], metadata_text: str) -> str:
    digest = hashlib.sha256(metadata_text.encode())
    for name in sorted(leaves):
        leaf = leaves[name]
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
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
    expected = pytrees.flatten(like)
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
