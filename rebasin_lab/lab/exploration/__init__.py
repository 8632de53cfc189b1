"""One pair of networks looked at from all sides: what the explorer shows, without a widget.

`choices` says what is looked at, and as which calls of the library; `pair` finds or trains the two
networks; `exploration` matches them and answers what a panel asks: merged networks, what they say
to some images, how alike units and layers are, the plane through both.
"""

from rebasin_lab.lab.exploration.choices import EFFORTS, Choices
from rebasin_lab.lab.exploration.exploration import Exploration, Walk, explore_pair
from rebasin_lab.lab.exploration.pair import OnStep, Pair, load_pair

__all__ = [
    "EFFORTS",
    "Choices",
    "Exploration",
    "OnStep",
    "Pair",
    "Walk",
    "explore_pair",
    "load_pair",
]
