"""A site of static pages: the executed notebooks of a run, its scoreboard and its figures.

    site.build_site("quick")  # runs/quick/site/index.html

Sphinx makes the pages, with myst-nb for notebooks; nothing is executed. A folder of sources is laid
out as the repository is, so links between its pages need no change. The pages load nothing from the
network and open from the file system. `notebooks` prepares what was executed, `static_widgets` lets
widgets work without a kernel, `pages` writes scoreboard, gallery and start page, `links` looks for
dead links in what was built. It needs the extra [site].
"""

from rebasin_lab.lab.site.building import Site, build_site
from rebasin_lab.lab.site.links import dead_links

__all__ = ["Site", "build_site", "dead_links"]
