"""`Dataset`: labelled images with a train and a test split.

`from_splits` makes one from stored bytes with two conventions: pixels become float32 in [0, 1]
(stored value / largest storable value, no mean or standard deviation), and `digest` is over the
stored bytes, so it does not depend on the file format. It is for captions; cached results depend on
`content_digest`, which is over the arrays.
"""

import dataclasses
import hashlib
import weakref

import numpy as np
from jaxtyping import Float32, Int32, Integer, UInt8

from rebasin_lab import checks
from rebasin_lab.datasets import formats


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A labelled image data set with a train and a test split; its arrays are read-only."""

    name: str  # of `load_dataset`
    title: str  # for captions
    train_images: Float32[np.ndarray, "num_train height width channels"]  # in [0, 1]
    train_labels: Int32[np.ndarray, " num_train"]
    test_images: Float32[np.ndarray, "num_test height width channels"]
    test_labels: Int32[np.ndarray, " num_test"]
    num_classes: checks.Count
    class_names: tuple[str, ...]
    digest: str  # sha256 of both splits as stored, or derived from it by `subset`
    source: str  # its file or package

    def __post_init__(self):
        for name in ("name", "title", "digest", "source"):
            checks.argument(name, getattr(self, name), str, "Dataset")
        checks.argument("num_classes", self.num_classes, checks.Count, "Dataset")
        checks.argument("class_names", self.class_names, tuple[str, ...], "Dataset")
        for split in ("train", "test"):
            # Any type and shape are allowed, such as tokens or targets of a regression.
            images, labels = (getattr(self, f"{split}_{what}") for what in ("images", "labels"))
            for name, array in ((f"{split}_images", images), (f"{split}_labels", labels)):
                if not getattr(array, "shape", ()):
                    raise ValueError(
                        f"Expected {name} of {self.title} to be an array; got "
                        f"{checks.shortened(array)}."
                    )
            num_images, num_labels = images.shape[0], labels.shape[0]
            if num_images != num_labels:
                raise ValueError(
                    f"Expected one of {split}_labels of {self.title} for each of {num_images} "
                    f"images; got {num_labels}."
                )

    def __repr__(self) -> str:
        """One line, without the arrays."""
        num_train, num_test = len(self.train_labels), len(self.test_labels)
        return (
            f"Dataset({self.title!r}, {num_train:,} train, {num_test:,} test, "
            f"image_shape={self.image_shape}, num_classes={self.num_classes}, "
            f"digest={self.digest[:12]!r}, source={self.source!r})"
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and number of channels of an image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    def content_digest(self) -> str:
        """SHA-256 of all inputs of a computation: images, labels, and the number of classes.

        Computed from the arrays, not from `digest`; names, titles and source do not count.
        """
        digest = hashlib.sha256(f"{type(self.num_classes).__name__} {self.num_classes}".encode())
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            array = np.asarray(getattr(self, name))
            digest.update(f"{name} {array.dtype} {array.shape} {array_digest(array)}".encode())
        return digest.hexdigest()

    def subset(
        self,
        indices: Integer[np.ndarray, " subset"],
        test_indices: Integer[np.ndarray, " test_subset"] | None = None,
    ) -> "Dataset":
        """The data set with the training examples at `indices`, in that order.

        The test split stays whole unless `test_indices` are given. Title and digest change, so that
        captions and stored results differ from those of the whole set.
        """
        indices = _checked(indices, len(self.train_labels), "training", self.title)
        cut = dataclasses.replace(
            self,
            title=f"{self.title} [{indices.size:,} of {len(self.train_labels):,}]",
            train_images=_read_only(self.train_images[indices]),
            train_labels=_read_only(self.train_labels[indices]),
            digest=hashlib.sha256(
                self.digest.encode() + indices.astype("<i8").tobytes()
            ).hexdigest(),
        )
        if test_indices is None:
            return cut
        chosen = _checked(test_indices, len(self.test_labels), "test", self.title)
        return dataclasses.replace(
            cut,
            title=f"{cut.title[:-1]}, test {chosen.size:,} of {len(self.test_labels):,}]",
            test_images=_read_only(self.test_images[chosen]),
            test_labels=_read_only(self.test_labels[chosen]),
            digest=hashlib.sha256(
                cut.digest.encode() + b"test" + chosen.astype("<i8").tobytes()
            ).hexdigest(),
        )

    @checks.arguments
    def shrunk(self, factor: int) -> "Dataset":
        """The data set with images `factor` times smaller in height and width: means of blocks.

        Title and digest change, as in `subset`.

        Raises:
            ValueError: if the blocks do not fill the images.
        """
        height, width, _ = self.image_shape
        if factor < 1 or height % factor or width % factor:
            raise ValueError(
                f"Expected a factor that divides the images of {self.title}, {height} x {width} "
                f"pixels; got {factor}."
            )
        return dataclasses.replace(
            self,
            title=f"{self.title} at {height // factor}x{width // factor}",
            train_images=_read_only(_block_means(self.train_images, factor)),
            test_images=_read_only(_block_means(self.test_images, factor)),
            digest=hashlib.sha256(f"{self.digest} / {factor}".encode()).hexdigest(),
        )


def _checked(given: np.ndarray, num_examples: int, split: str, title: str) -> np.ndarray:
    indices = np.asarray(given)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
        raise ValueError(
            f"Expected indices to be a list of integers, one or more; "
            f"got {checks.shortened(given)}."
        )
    if indices.min() < 0 or indices.max() >= num_examples:
        raise ValueError(
            f"Expected indices into the {num_examples:,} {split} examples of {title}; "
            f"got {indices.min()} to {indices.max()}."
        )
    return indices


def _block_means(
    images: Float32[np.ndarray, "num height width channels"], factor: int
) -> Float32[np.ndarray, "num h w channels"]:
    num, height, width, channels = images.shape
    blocks = images.reshape(num, height // factor, factor, width // factor, factor, channels)
    return blocks.mean(axis=(2, 4))


def from_splits(
    train: formats.Split,
    test: formats.Split,
    *,
    name: str,
    title: str,
    class_names: tuple[str, ...],
    source: str,
    white: int = 255,
) -> Dataset:
    """The `Dataset` of two splits as stored.

    Args:
        train: training images and labels.
        test: test images and labels.
        name: of `load_dataset`.
        title: for captions.
        class_names: one per class.
        source: the file or package of the splits.
        white: the stored value that becomes 1.0.
    """
    labels_end = len(class_names) - 1
    for what, stored, highest in (
        ("pixel", train.images, white),
        ("label", train.labels, labels_end),
        ("pixel", test.images, white),
        ("label", test.labels, labels_end),
    ):
        if stored.max() > highest:
            raise ValueError(
                f"Expected every {what} of {title} to be in [0, {highest}]; got {stored.max()}, "
                f"in {source}. Replace it."
            )
    return Dataset(
        name=name,
        title=title,
        train_images=_scale(train.images, white),
        train_labels=_read_only(train.labels.astype(np.int32)),
        test_images=_scale(test.images, white),
        test_labels=_read_only(test.labels.astype(np.int32)),
        num_classes=len(class_names),
        class_names=class_names,
        digest=_digest(*train, *test),
        source=source,
    )


def _scale(
    images: UInt8[np.ndarray, "num height width channels"], white: int
) -> Float32[np.ndarray, "num height width channels"]:
    # A table of 256 quotients is faster than a division of every pixel.
    levels = (np.arange(256) / white).astype(np.float32)
    return _read_only(np.ascontiguousarray(levels[images]))


# Arrays of the lab's own data sets: id -> a weak reference, and the digest once it is computed.
# Other arrays are always hashed, since a read-only array may share memory with a writable one.
_OWN: dict[int, tuple[weakref.ref, str]] = {}


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    _remember(array, "")
    return array


def _remember(array: np.ndarray, digest: str) -> None:
    key = id(array)
    _OWN[key] = weakref.ref(array, lambda _: _OWN.pop(key, None)), digest


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in C order; cached for arrays of the lab's data sets.

    Raises:
        ValueError: for an array of objects, whose bytes are addresses.
    """
    if array.dtype.hasobject:
        raise ValueError(f"Expected an array of numbers or texts; got one of {array.dtype}.")
    own, digest = _OWN.get(id(array), (lambda: None, ""))
    if array.flags.writeable:  # it may have been changed
        _OWN.pop(id(array), None)
    elif digest and own() is array:
        return digest
    digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()
    if not array.flags.writeable and own() is array:
        _remember(array, digest)
    return digest


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
