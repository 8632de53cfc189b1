"""Image classification data sets, found on disk, shipped by a pip package, or downloaded.

The first room of the experiment after `pytrees`: everything later trains or evaluates on a
`Dataset`, whose images are float32 in [0, 1] and laid out [num, height, width, channels]. Inside
the room data flows one way: `sources` finds, fetches and verifies files, `formats` turns bytes
into uint8 `Split`s, `dataset` scales them and takes their digest; `registry` is the table of what
exists, `splits` divides a set into parts, and `views` names those that are trained on.
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
