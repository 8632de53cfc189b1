"""Image classification data sets: on disk, in a pip package, or downloaded.

A `Dataset` has float32 images in [0, 1] of shape [num, height, width, channels]. `sources` finds,
downloads and verifies files, `formats` turns bytes into uint8 `Split`s, `dataset` scales them and
computes digests; `registry` is the table of data sets, `splits` divides a set into parts, and
`views` names the parts for training.
"""

from rebasin_lab.datasets.dataset import Dataset, array_digest
from rebasin_lab.datasets.registry import dataset_names, load_dataset
from rebasin_lab.datasets.splits import (
    classes_in_turn,
    label_biased_split,
    random_halves,
    stratified_parts,
)
from rebasin_lab.datasets.views import View, load_view

__all__ = [
    "Dataset",
    "View",
    "array_digest",
    "classes_in_turn",
    "dataset_names",
    "label_biased_split",
    "load_dataset",
    "load_view",
    "random_halves",
    "stratified_parts",
]
