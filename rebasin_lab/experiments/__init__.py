"""Experiments: the networks that profiles ask for, restored when stored, trained when not.

`experiment` says what determines one network, `profiles` which ones a run of a certain size is
about, `grids` which of those each notebook asks for, `store` keeps them.
"""

from rebasin_lab.experiments.experiment import Experiment
from rebasin_lab.experiments.grids import GRIDS, grid
from rebasin_lab.experiments.profiles import (
    BATCH_NORM,
    CIFAR_MLP,
    CONVOLUTIONAL,
    PROFILES,
    SPLIT_DATA,
    ConvolutionalFamily,
    Profile,
    get_convolutional_family,
    get_profile,
    get_split_data,
    trial_experiment,
    trial_family,
    trial_profile,
)
from rebasin_lab.experiments.store import (
    PACKAGES,
    Trained,
    describe,
    digest,
    is_stored,
    package_versions,
    path_of,
    trained,
)

__all__ = [
    "BATCH_NORM",
    "CIFAR_MLP",
    "CONVOLUTIONAL",
    "GRIDS",
    "PACKAGES",
    "PROFILES",
    "SPLIT_DATA",
    "ConvolutionalFamily",
    "Experiment",
    "Profile",
    "Trained",
    "describe",
    "digest",
    "get_convolutional_family",
    "get_profile",
    "get_split_data",
    "grid",
    "is_stored",
    "package_versions",
    "path_of",
    "trained",
    "trial_experiment",
    "trial_family",
    "trial_profile",
]
