"""Data sets in pip packages: real digits without a download, for `quick` runs.

The package is located but not imported, since only its file is needed and the import is slow.
"""

import dataclasses
import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from rebasin_lab import paths
from rebasin_lab.datasets import dataset, formats, splits

_MOST_BYTES = 50_000_000  # of text; MNIST-5k, the larger one, is 16 MB at 4 bytes a pixel


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A data set in a comma-separated file of an installed package."""

    name: str
    title: str
    distribution: str  # its name for pip
    package: str  # its name for import
    path: str  # of the gzipped file, inside the package
    image_shape: tuple[int, int]
    white: int  # the stored value that becomes 1.0
    class_names: tuple[str, ...]


def load_embedded(embedded: Embedded) -> dataset.Dataset:
    """Load the data set, classes interleaved; every fifth image of each class is for testing."""
    path = _locate(embedded)
    try:
        packed = paths.read_bytes(path, _MOST_BYTES)
        data = formats.gunzip(packed, most_bytes=_MOST_BYTES, where=path.name)
        images, labels = formats.read_csv(data, image_shape=embedded.image_shape, where=path.name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(error).rstrip('.')}. '{embedded.name}' is a file of the package "
            f"{embedded.distribution}: reinstall that."
        ) from error
    order = splits.classes_in_turn(labels)
    images, labels = images[order], labels[order]
    is_test = splits.every_fifth_of_each_class(labels)
    if np.bincount(labels[is_test], minlength=len(embedded.class_names)).min() == 0:
        raise ValueError(
            f"Expected {path.name} to hold five images of each of {len(embedded.class_names)} "
            f"classes, or more; it does not. Reinstall the package {embedded.distribution}."
        )
    version = importlib.metadata.version(embedded.distribution)
    return dataset.from_splits(
        formats.Split(images[~is_test], labels[~is_test]),
        formats.Split(images[is_test], labels[is_test]),
        name=embedded.name,
        title=embedded.title,
        class_names=embedded.class_names,
        source=f"{path.name} of {embedded.distribution} {version}",
        white=embedded.white,
    )


def _locate(embedded: Embedded) -> Path:
    spec = importlib.util.find_spec(embedded.package)  # of a top-level package: runs none of it
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"Expected the package {embedded.distribution}, which ships the images of "
            f"'{embedded.name}'; it is not installed. Install the extra [lab]: in "
            "the checkout, pip install --editable '.[lab]'"
        )
    path = Path(spec.submodule_search_locations[0], embedded.path)
    if not path.is_file():
        version = importlib.metadata.version(embedded.distribution)
        raise FileNotFoundError(
            f"Expected the package {embedded.distribution} to ship {embedded.path}, the images of "
            f"'{embedded.name}'; version {version} does not. Install another version of it."
        )
    return path
