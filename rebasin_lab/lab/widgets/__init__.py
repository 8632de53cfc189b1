"""Controls for notebooks: each figure is drawn once plainly, then again as a dial turns.

`dials` is a figure that follows its dials; `explorer` the panel on two networks, chosen in
`choosing`, computed on another thread (`work`), and shown in `view`, which consists of `panels` and
`fragments`.
"""

from rebasin_lab.lab.widgets.dials import Dials, dials, picture
from rebasin_lab.lab.widgets.explorer import Explorer, explore

__all__ = ["Dials", "Explorer", "dials", "explore", "picture"]
