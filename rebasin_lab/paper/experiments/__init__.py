"""Experiments: the networks that profiles ask for, restored when stored, trained when not.

`experiment` says what determines one network, `profiles` which MLPs a run of a certain size is
about, `families` which other networks, `grids` which of all each notebook asks for, `store` keeps
them.
"""

from rebasin_lab.paper.experiments.experiment import Experiment
from rebasin_lab.paper.experiments.families import (
    BATCH_NORM,
    CIFAR_MLP,
    CONVOLUTIONAL,
    SPLIT_DATA,
    ConvolutionalFamily,
    get_convolutional_family,
    get_split_data,
    trial_experiment,
    trial_family,
)
from rebasin_lab.paper.experiments.grids import GRIDS, grid
from rebasin_lab.paper.experiments.profiles import (
    FIELDS,
    PROFILES,
    Profile,
    check_field,
    check_value,
    get_profile,
    leaves_as_it_is,
    trial_profile,
)
from rebasin_lab.paper.experiments.store import (
    PACKAGES,
    Trained,
    describe,
    digest,
    epochs_stored,
    is_stored,
    package_versions,
    path_of,
    trained,
)

__all__ = [
    "BATCH_NORM",
    "CIFAR_MLP",
    "CONVOLUTIONAL",
    "FIELDS",
    "GRIDS",
    "PACKAGES",
    "PROFILES",
    "SPLIT_DATA",
    "ConvolutionalFamily",
    "Experiment",
    "Profile",
    "Trained",
    "check_field",
    "check_value",
    "describe",
    "digest",
    "epochs_stored",
    "get_convolutional_family",
    "get_profile",
    "get_split_data",
    "grid",
    "is_stored",
    "leaves_as_it_is",
    "package_versions",
    "path_of",
    "trained",
    "trial_experiment",
    "trial_family",
    "trial_profile",
]
