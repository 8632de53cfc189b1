"""Controls for notebooks, drawn by `lab.component` in the browser.

`dials` is a figure that follows its dials (`controls`), drawn ahead of time (`prerendering`);
`explorer` the panel on two networks, chosen in `choosing`, computed on another thread (`work`), and
shown in `view`, which consists of `panels` in `pictures` and `fragments`.
"""

from rebasin_lab.lab.widgets.dials import Dials, dials, picture
from rebasin_lab.lab.widgets.explorer import Explorer, explore

__all__ = ["Dials", "Explorer", "dials", "explore", "picture"]
