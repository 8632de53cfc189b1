"""Experiments: the networks that profiles ask for, restored when stored, trained when not.

`experiment` says what determines one network, `profiles` which ones a run of a certain size is
about, `store` keeps them.
"""

from rebasin_lab.experiments.experiment import Experiment
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
    "is_stored",
    "package_versions",
    "path_of",
    "trained",
    "trial_experiment",
    "trial_family",
    "trial_profile",
]
