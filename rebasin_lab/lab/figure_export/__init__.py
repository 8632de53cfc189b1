"""Figures for reports: every saved figure at the width of a column or a slide, ready to paste.

`fitting` redraws a figure for its place (`reflow` stacks its panels), `pictures` writes it as SVG,
PDF or PNG, `snippets` has the Markdown, MyST and LaTeX to include it by, `export` writes all that
with an index, `gallery` a page of the figures in a folder, `slides` those of a lesson. They read
the numbers of figures alone, and compute nothing.
"""

from rebasin_lab.lab.figure_export.export import choose_figures, export_figures, parse_formats
from rebasin_lab.lab.figure_export.fitting import WIDTHS
from rebasin_lab.lab.figure_export.gallery import PAGE, check_page, write_gallery
from rebasin_lab.lab.figure_export.pictures import FORMATS
from rebasin_lab.lab.figure_export.slides import write_slides

__all__ = [
    "FORMATS",
    "PAGE",
    "WIDTHS",
    "check_page",
    "choose_figures",
    "export_figures",
    "parse_formats",
    "write_gallery",
    "write_slides",
]
