"""Checkpoints of other programs: names, shapes and types at once, arrays when they are asked for.

Read are safetensors (one file, or shards with an index), Flax's msgpack, folders of Orbax and, only
where it is asked for, files of `torch.save`. Nothing that a file holds is executed: files of
PyTorch are read by its `weights_only=True`, other pickles not at all. Written are safetensors, with
the names, types and metadata of a checkpoint that was read, array by array: neither reading nor
writing needs more memory than one array of a safetensors file. The other formats are read whole.
"""

import dataclasses
import hashlib
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rebasin_lab import checks, paths, pytrees, texts
from rebasin_lab.training import checkpoints

TORCH_ENDINGS = (".pt", ".pth", ".th", ".bin", ".ckpt")
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".npy")
_INDEX = ".safetensors.index.json"
_ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")
_NAMES = {dtype: name for name, dtype in checkpoints.STORED.items()}
_SEALS = "rebasin_lab"  # the entry with a digest of the arrays, of `training.checkpoints`


class Leaf(NamedTuple):
    """The shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """The size of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint(Mapping[str, np.ndarray]):
    """A checkpoint, as a mapping from names to arrays that are read at each access.

    Names are those of the file; of a tree they are paths, see `pytrees`.

    Attributes:
        path: the file or folder.
        kind: "safetensors", "torch", "msgpack" or "orbax".
        leaves: name -> shape and type, in the order of the file.
        metadata: texts by name that a safetensors file holds; {} for other kinds.
        files: all that were read, for digests.
    """

    path: Path
    kind: str
    leaves: Mapping[str, Leaf]
    metadata: Mapping[str, str]
    files: tuple[Path, ...]
    _read: Callable[[str], np.ndarray] = dataclasses.field(repr=False)

    def __getitem__(self, name: str) -> np.ndarray:
        """Read one array.

        Raises:
            KeyError: if there is none of this name.
            ValueError: if the file was cut or replaced since it was opened.
        """
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.leaves)

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def num_bytes(self) -> int:
        """The size of all arrays."""
        return sum(leaf.num_bytes for leaf in self.leaves.values())

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by its name."""
        found = {}
        for path in self.files:
            with path.open("rb") as file:
                name = path.name if path.parent == self.path.parent else str(_below(path, self))
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found


def _below(path: Path, checkpoint: Checkpoint) -> Path:
    return path.relative_to(checkpoint.path if checkpoint.path.is_dir() else path.parent)


@checks.arguments
def open_checkpoint(path: str | os.PathLike[str], *, torch_file: bool = False) -> Checkpoint:
    """Open a checkpoint: read names, shapes and types, and check them.

    Args:
        path: a `.safetensors` file, an index of shards (`.safetensors.index.json`) or a folder with
            one, a `.msgpack` file of Flax, a folder of Orbax; a file of `torch.save`, if allowed.
        torch_file: read files of `torch.save` (.pt, .pth, .th, .bin, .ckpt), by PyTorch with
            `weights_only=True`, which builds tensors and containers only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another kind of file, one that is cut or damaged, or one without arrays.
        ModuleNotFoundError: for a file of PyTorch, without PyTorch.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no checkpoint '{path}'.")
    if path.is_dir():
        opened = _open_folder(path)
    elif path.name.endswith(_INDEX):
        opened = _open_shards(path)
    elif path.suffix == ".safetensors":
        opened = _open_safetensors(path)
    elif path.suffix == ".msgpack":
        opened = _open_msgpack(path)
    elif path.suffix in TORCH_ENDINGS:
        if not torch_file:
            raise ValueError(
                f"Expected a checkpoint without code; '{path}' is a pickle, by its name. With "
                "--torch-file (torch_file=True) PyTorch reads its tensors, and runs nothing "
                "(weights_only=True). Better, save it as safetensors."
            )
        opened = _open_torch(path)
    else:
        advice = (
            "A pickle may run any program, and is not read. " if path.suffix in _PICKLES else ""
        )
        raise ValueError(
            f"Expected a checkpoint as .safetensors, {_INDEX}, .msgpack of Flax, a folder of Orbax "
            f"or, with --torch-file, {', '.join(TORCH_ENDINGS)}; got '{path}'. {advice}Save the "
            "parameters as safetensors."
        )
    if not opened.leaves:
        raise ValueError(f"Expected a checkpoint with arrays; '{path}' holds none.")
    return opened


@checks.arguments
def write_checkpoint(
    path: Path,
    like: Checkpoint,
    array_of: Callable[[str], Any],
    metadata: Mapping[str, str],
) -> str:
    """Write a safetensors file with the names, shapes and types of a checkpoint, atomically.

    Args:
        path: of the new file.
        like: a checkpoint with the same leaves; its metadata are kept.
        array_of: the array of each name, asked for one after the other; its type becomes that of
            the leaf.
        metadata: more texts by name, in place of those of the checkpoint with the same name.

    Returns:
        SHA-256 of the new file.

    Raises:
        ValueError: for a leaf that safetensors cannot hold, or an array of another shape.
        OSError: if the file cannot be written; an old file stays.
    """
    kept = {name: text for name, text in like.metadata.items() if name != _SEALS}
    entries: dict[str, Any] = {"__metadata__": kept | dict(metadata)}
    # Wide types first, as others write it: each array then starts at a multiple of its item size.
    order = sorted(like.leaves, key=lambda name: -like.leaves[name].dtype.itemsize)
    end = 0
    for name in order:
        leaf = like.leaves[name]
        if leaf.dtype not in _NAMES or name == "__metadata__":
            raise ValueError(
                f"Expected leaves that safetensors can hold; '{name}' is {leaf.dtype}. Convert it "
                "to float32, or take it out."
            )
        start, end = end, end + leaf.num_bytes
        entries[name] = {
            "dtype": _NAMES[leaf.dtype],
            "shape": list(leaf.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > checkpoints.MOST_HEADER_BYTES:
        raise ValueError(
            f"Expected names and metadata of at most {checkpoints.MOST_HEADER_BYTES:,} bytes; got "
            f"{len(header):,}."
        )
    digest = hashlib.sha256()
    with paths.written_atomically(path, 8 + len(header) + end) as file:
        for part in (len(header).to_bytes(8, "little"), header):
            file.write(part)
            digest.update(part)
        for name in order:
            leaf = like.leaves[name]
            array = pytrees.in_type_of(np.empty(0, leaf.dtype), np.asarray(array_of(name)))
            if array.shape != leaf.shape:
                raise ValueError(
                    f"Expected '{name}' of shape {list(leaf.shape)}, to be written; got "
                    f"{list(array.shape)}."
                )
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            file.write(content)
            digest.update(content)
    return digest.hexdigest()


def _open_folder(path: Path) -> Checkpoint:
    """The one checkpoint in a folder."""
    if any((path / name).exists() for name in _ORBAX):
        return _open_orbax(path)
    indices = sorted(path.glob(f"*{_INDEX}"))
    files = sorted(path.glob("*.safetensors"))
    found = indices or files
    if len(found) != 1:
        listed = ", ".join(each.name for each in found[:5]) or "none"
        raise ValueError(
            f"Expected a folder with one safetensors file, one index of shards, or a checkpoint "
            f"of Orbax; in '{path}' there are: {listed}. Name the file."
        )
    return _open_shards(found[0]) if indices else _open_safetensors(found[0])


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        with path.open("rb") as file:
            table = checkpoints.read_header(file)
            first = file.tell()
            num_bytes = os.fstat(file.fileno()).st_size - first
        metadata = table.pop("__metadata__", {})
        places = {name: _place(name, entry) for name, entry in table.items()}
        end = 0
        for leaf, start, stop in sorted(places.values(), key=lambda place: place[1:]):
            if start != end or stop - start != leaf.num_bytes:
                raise ValueError("its arrays leave gaps, or overlap")
            end = stop
        if end != num_bytes:
            raise ValueError("it is cut, or holds more than it says")
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no texts")
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a malformed header
        reason = texts.in_a_line(str(error), 250)
        raise ValueError(
            f"Expected '{path}' to be a whole safetensors file; it is damaged, or is none: "
            f"{reason}. Fetch it again."
        ) from error

    def read(name: str) -> np.ndarray:
        leaf, start, stop = places[name]
        content = np.empty(stop - start, np.uint8)
        with path.open("rb") as file:
            file.seek(first + start)
            if file.readinto(content) != content.size:
                raise ValueError(
                    f"Expected '{path}' to stay as it is while it is read; it was cut. Start again."
                )
        return content.view(leaf.dtype).reshape(leaf.shape)

    leaves = {name: place[0] for name, place in places.items()}
    return Checkpoint(path, "safetensors", leaves, metadata, (path,), read)


def _place(name: str, entry: Mapping[str, Any]) -> tuple[Leaf, int, int]:
    start, stop = entry["data_offsets"]
    if entry["dtype"] not in checkpoints.STORED:
        raise ValueError(f"'{name}' is of type {entry['dtype']}, which is not known here")
    shape = tuple(entry["shape"])
    if not all(type(size) is int and size >= 0 for size in (*shape, start, stop)):
        raise ValueError(f"'{name}' has a shape or place that is none")
    return Leaf(shape, checkpoints.STORED[entry["dtype"]]), start, stop


def _open_shards(index: Path) -> Checkpoint:
    """The shards that an index lists, as one."""
    table = paths.read_json(index)
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ValueError(f"Expected '{index}' to have a weight_map, names -> files; it has none.")
    shards: dict[str, Checkpoint] = {}
    for file in dict.fromkeys(places.values()):
        if Path(file).name != file:
            raise ValueError(f"Expected shards beside '{index}'; it names '{file}'.")
        if not (index.parent / file).is_file():
            raise FileNotFoundError(f"There is no '{index.parent / file}', which the index names.")
        shards[file] = _open_safetensors(index.parent / file)
    if missing := [name for name, file in places.items() if name not in shards[file].leaves]:
        raise ValueError(
            f"Expected '{missing[0]}' in '{places[missing[0]]}', as '{index}' says; it is not "
            f"there ({len(missing)} such in all). Fetch the shards again."
        )
    return Checkpoint(
        path=index,
        kind="safetensors",
        leaves={name: shards[file].leaves[name] for name, file in places.items()},
        metadata=next(iter(shards.values())).metadata if shards else {},
        files=(index, *(shard.path for shard in shards.values())),
        _read=lambda name: shards[places[name]][name],
    )


def _open_msgpack(path: Path) -> Checkpoint:
    from flax import serialization

    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # of any other content
        reason = texts.in_a_line(str(error), 250)
        raise ValueError(
            f"Expected '{path}' to be written by flax.serialization; it cannot be read: {reason}."
        ) from error
    return _in_memory(path, "msgpack", tree, (path,))


def _open_orbax(path: Path) -> Checkpoint:
    import orbax.checkpoint

    with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(path.resolve())
    files = tuple(sorted(each for each in path.rglob("*") if each.is_file()))
    return _in_memory(path, "orbax", tree, files)


def _open_torch(path: Path) -> Checkpoint:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Reading '{path}' needs PyTorch: install the extra [torch] (in the checkout: pip "
            "install --editable '.[torch]')."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        reason = texts.in_a_line(str(error).split("\n")[0], 250)
        raise ValueError(
            f"Expected '{path}' to hold tensors and containers alone, as torch.save(model."
            f"state_dict(), ...) writes it; it is damaged, or holds more: {reason}"
        ) from error
    tensors = _state_dict_in(content, path)
    return dataclasses.replace(
        _in_memory(path, "torch", tensors, (path,)), metadata={"format": "pt"}
    )


def _state_dict_in(content: Any, path: Path) -> dict[str, Any]:
    """The state_dict that a file is, or holds beside other things."""

    def is_one(value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and len(value) > 0
            and all(isinstance(n, str) and hasattr(x, "detach") for n, x in value.items())
        )

    if is_one(content):
        return dict(content)
    inside = {}
    if isinstance(content, Mapping):
        inside = {name: value for name, value in content.items() if is_one(value)}
    if len(inside) != 1:
        held = ", ".join(map(str, list(content)[:6])) if isinstance(content, Mapping) else content
        raise ValueError(
            f"Expected '{path}' to hold one state_dict, names -> tensors; "
            f"{len(inside) or 'no'} entries are one. It holds: {texts.in_a_line(str(held), 200)}. "
            "Save the one that is meant, alone."
        )
    return dict(next(iter(inside.values())))


def _in_memory(path: Path, kind: str, tree: Any, files: tuple[Path, ...]) -> Checkpoint:
    """A checkpoint of which all arrays are there already."""
    arrays = {}
    for name, leaf in pytrees.flatten(tree).items():
        if leaf is None or isinstance(leaf, str | bytes):
            raise ValueError(
                f"Expected arrays in '{path}'; '{name}' is {checks.shortened(leaf)}. Save the "
                "parameters alone."
            )
        arrays[name] = np.asarray(leaf)
    leaves = {name: Leaf(array.shape, array.dtype) for name, array in arrays.items()}
    return Checkpoint(path, kind, leaves, {}, files, arrays.__getitem__)
