"""Explore one pair of networks: all that the explorer shows, without a widget.

`choices` has the data, networks and matchers, `code` the calls of the library that compute the
same; `pair` finds or trains the two networks; `exploration` matches them and computes what panels
show: merged networks, their answers to some images, similarities, the plane through both.
"""

from rebasin_lab.lab.exploration.choices import EFFORTS, PRESETS, STATISTICS, Choices, Preset
from rebasin_lab.lab.exploration.exploration import (
    STATISTICS_IMAGES,
    STRIP,
    Exploration,
    Walk,
    explore_pair,
)
from rebasin_lab.lab.exploration.pair import OnStep, Pair, load_pair

__all__ = [
    "EFFORTS",
    "PRESETS",
    "STATISTICS",
    "STATISTICS_IMAGES",
    "STRIP",
    "Choices",
    "Exploration",
    "OnStep",
    "Pair",
    "Preset",
    "Walk",
    "explore_pair",
    "load_pair",
]
