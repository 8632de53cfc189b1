"""Experiments: the networks that profiles ask for, restored when stored, trained when not.

`experiment` says what determines one network, `profiles` which ones a run of a certain size is
about, `store` keeps them.
"""

from rebasin_lab.experiments.experiment import Experiment
from rebasin_lab.experiments.profiles import (
    CONVOLUTIONAL,
    PROFILES,
    ConvolutionalFamily,
    Profile,
    get_convolutional_family,
    get_profile,
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
    "CONVOLUTIONAL",
    "PACKAGES",
    "PROFILES",
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
]
