"""What was computed of each batch: in memory, or in files of a scratch folder."""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import paths


class Batches(Sequence):
    """A list of trees of arrays that can be replaced, one a batch.

    With a folder each tree is a file there, and memory holds what is asked for; files go when the
    list does.
    """

    def __init__(self, values: Iterable[PyTree], folder: Path | None):
        """Store values.

        Args:
            values: one a batch.
            folder: an existing one for their files; None keeps them in memory.
        """
        self._files = folder and tempfile.TemporaryDirectory(prefix="batches-", dir=folder)
        self._kept: list[Any] = []
        for number, value in enumerate(values):
            self._kept.append(None)
            self[number] = value

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> PyTree:
        kept = self._kept[number]
        if not self._files:
            return kept
        structure, leaves = kept
        content = self._path(number % len(self)).read_bytes()
        arrays, start = [], 0
        for shape, dtype, put in leaves:
            count = math.prod(shape)
            arrays.append(put(np.frombuffer(content, dtype, count, start).reshape(shape)))
            start += count * dtype.itemsize
        return jax.tree.unflatten(structure, arrays)

    def __setitem__(self, number: int, value: PyTree) -> None:
        if not self._files:
            self._kept[number] = value
            return
        leaves, structure = jax.tree.flatten(value)
        with self._path(number).open("wb") as file:
            for leaf in leaves:
                file.write(np.asarray(leaf).tobytes())
        self._kept[number] = (
            structure,
            [
                (leaf.shape, leaf.dtype, jnp.asarray if isinstance(leaf, jax.Array) else np.asarray)
                for leaf in leaves
            ],
        )

    def __iter__(self) -> Iterator[PyTree]:
        return (self[number] for number in range(len(self)))

    def _path(self, number: int) -> Path:
        return Path(self._files.name) / str(number)


def scratch_folder(given: str | os.PathLike[str] | None) -> Path | None:
    """The folder for files of batches, made if need be; None for none.

    Raises:
        ValueError: if it is something else than a folder.
    """
    if given is None:
        return None
    folder = paths.checked_folder(given, "scratch")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
