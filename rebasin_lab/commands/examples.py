"""Images, or other examples, in a folder or an .npz file; read when they are asked for."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rebasin_lab import texts
from rebasin_lab.commands.options import Shape

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_NAMES = ("images", "inputs", "x")  # of an array in an .npz


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples that a command looks at.

    Attributes:
        name: of the file or folder.
        digest: SHA-256 of the file; of a folder, of the names and sizes of all its images.
        num_in_all: examples there are, of which these are a choice.
        shape: of one.
        labels: the class of each; None if there are none.
    """

    name: str
    digest: str
    num_in_all: int
    shape: Shape
    labels: np.ndarray | None
    _indices: np.ndarray
    _read: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self._indices)

    def all(self) -> np.ndarray:
        """All of them in one array."""
        return self._read(self._indices)

    def batches(self, size: int) -> "Batches":
        """Batches, which are read one after the other at each iteration."""
        return Batches(self, size)

    def described(self) -> dict:
        """Where they are from, for a card."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "examples": len(self),
            "of": self.num_in_all,
        }


class Batches:
    """Examples in batches of one size, and a smaller last one."""

    def __init__(self, examples: Examples, size: int):
        self._examples, self._size = examples, size

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._examples), self._size):
            yield self._examples._read(self._examples._indices[start : start + self._size])


def open_examples(
    place: str,
    *,
    num_images: int,
    seed: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels_first: bool,
    shape: Shape | None,
) -> Examples:
    """Find examples and check what they are; those of a folder are not read yet.

    Args:
        place: a folder of images, or an .npz file.
        num_images: how many to draw at random.
        seed: of the draw.
        mean: of pixels in [0, 1], to be subtracted: one, or one for each channel.
        std: to divide by, likewise.
        channels_first: put the channels of pixels first.
        shape: of one example, if it is given. Images of a folder are then scaled and cut to its
            height and width.

    Raises:
        ValueError: for no examples, of other kinds or shapes, or labels that do not fit.
        OSError: if there is no such place, or it cannot be read.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no '{path}', which --data names.")
    pixels = _Pixels(mean, std, channels_first)
    if path.is_dir():
        found = _of_folder(path, pixels, shape)
    elif path.suffix == ".npz":
        found = _of_npz(path, pixels)
    else:
        raise ValueError(f"Expected --data to be a folder of images or an .npz file; got '{path}'.")
    if shape is not None and found.shape != shape:
        raise ValueError(
            f"Expected examples of the shape in --input, {_words(shape)}; those in '{path}' are "
            f"{_words(found.shape)}."
        )
    chosen = np.random.default_rng(seed).permutation(found.num_in_all)[:num_images]
    labels = None if found.labels is None else found.labels[chosen]
    return dataclasses.replace(found, labels=labels, _indices=chosen)


def _words(shape: Shape) -> str:
    return f"{'x'.join(map(str, shape.sizes))}:{shape.dtype}"


@dataclasses.dataclass(frozen=True)
class _Pixels:
    """The way from bytes to the input of a network."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    channels_first: bool

    def check(self, num_channels: int) -> None:
        for name, numbers in {"--mean": self.mean, "--std": self.std}.items():
            if numbers is not None and len(numbers) not in (1, num_channels):
                raise ValueError(
                    f"Expected {name} with 1 number, or {num_channels}, one for each channel; got "
                    f"{len(numbers)}."
                )
        if self.std is not None and not min(self.std) > 0:
            raise ValueError(f"Expected numbers above 0 in --std; got {min(self.std):g}.")

    def shape(self, height: int, width: int, num_channels: int) -> Shape:
        self.check(num_channels)
        first = self.channels_first
        return Shape((num_channels, height, width) if first else (height, width, num_channels))

    def scaled(self, stored: np.ndarray) -> np.ndarray:
        scaled = stored.astype(np.float32) / 255
        if self.mean is not None:
            scaled -= np.asarray(self.mean, np.float32)
        if self.std is not None:
            scaled /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(np.moveaxis(scaled, 3, 1) if self.channels_first else scaled)


def _of_npz(path: Path, pixels: _Pixels) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        reason = texts.in_a_line(str(error), 200)
        raise ValueError(
            f"Expected '{path}' to be a whole .npz of arrays of numbers; it cannot be read: "
            f"{reason}"
        ) from error
    named = [name for name in _NAMES if name in arrays]
    if len(named) != 1:
        raise ValueError(
            f"Expected one array 'images' in '{path}', or 'inputs' or 'x'; there are "
            f"{', '.join(arrays) or 'none'}."
        )
    stored = arrays[named[0]]
    if not stored.ndim or not len(stored) or stored.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected numbers in '{named[0]}' of '{path}', an example after the other; got "
            f"{stored.dtype} of shape {list(stored.shape)}."
        )
    labels = arrays.get("labels")
    if labels is not None and (labels.shape != stored.shape[:1] or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"Expected labels in '{path}' to be one whole number for each of {len(stored):,} "
            f"examples; got {labels.dtype} of shape {list(labels.shape)}."
        )
    if stored.dtype == np.uint8:
        stored = stored[..., None] if stored.ndim == 3 else stored
        if stored.ndim != 4:
            raise ValueError(
                f"Expected pixels (uint8) of shape n x height x width x channels in '{path}'; got "
                f"{list(stored.shape)}. Store other inputs as float32 or int32."
            )
        shape = pixels.shape(*stored.shape[1:])
    elif pixels.mean is not None or pixels.std is not None:
        raise ValueError(
            f"Expected --mean and --std with pixels (uint8); '{path}' holds {stored.dtype}, which "
            "is taken as it is. Leave them out."
        )
    else:
        stored = stored.astype(np.float32 if stored.dtype.kind == "f" else np.int32)
        shape = Shape(stored.shape[1:], stored.dtype.name)

    def read(indices: np.ndarray) -> np.ndarray:
        return pixels.scaled(stored[indices]) if stored.dtype == np.uint8 else stored[indices]

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    labels = None if labels is None else labels.astype(np.int32)
    return Examples(path.name, digest, len(stored), shape, labels, np.arange(len(stored)), read)


def _of_folder(folder: Path, pixels: _Pixels, shape: Shape | None) -> Examples:
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in ENDINGS)
    if not files:
        raise ValueError(
            f"Expected images ({', '.join(ENDINGS)}) in the folder '{folder}'; there are none."
        )
    classes = sorted({each.relative_to(folder).parts[0] for each in files if each.parent != folder})
    if classes and any(each.parent == folder for each in files):
        raise ValueError(
            f"Expected all images of '{folder}' in folders, one for each class, or none; some lie "
            "beside the folders."
        )
    first = _opened(files[0], "")
    mode = "L" if first.mode in ("1", "L") else "RGB"
    num_channels = len(mode) if mode == "RGB" else 1
    width, height = first.size
    if shape is not None and len(shape.sizes) == 3:
        height, width = shape.sizes[1:] if pixels.channels_first else shape.sizes[:2]
        num_channels = shape.sizes[0 if pixels.channels_first else 2]
        mode = "L" if num_channels == 1 else "RGB"

    def image(path: Path) -> np.ndarray:
        picture = _opened(path, mode)
        if picture.size != (width, height):
            if shape is None:
                raise ValueError(
                    f"Expected images of one size, {width} x {height}; '{path}' is "
                    f"{picture.size[0]} x {picture.size[1]}. With --input they are scaled and cut."
                )
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        stored = np.asarray(picture, np.uint8)
        return stored[..., None] if mode == "L" else stored

    def read(indices: np.ndarray) -> np.ndarray:
        return pixels.scaled(np.stack([image(files[index]) for index in indices]))

    listed = "\n".join(f"{each.relative_to(folder)} {each.stat().st_size}" for each in files)
    labels = None
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        labels = np.array([numbers[each.relative_to(folder).parts[0]] for each in files], np.int32)
    return Examples(
        name=folder.resolve().name,
        digest=hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest(),
        num_in_all=len(files),
        shape=pixels.shape(height, width, num_channels),
        labels=labels,
        _indices=np.arange(len(files)),
        _read=read,
    )


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert(mode) if mode else picture.copy()
    except (OSError, SyntaxError, Image.DecompressionBombError, ValueError) as error:
        reason = texts.in_a_line(str(error), 200)
        raise ValueError(
            f"Expected '{path}' to be an image; it cannot be read: {reason}. Take it out."
        ) from error
