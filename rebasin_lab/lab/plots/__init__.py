"""Drawing: one function per kind of figure, from plain numbers onto a given matplotlib figure.

Nothing is saved here. Each function takes a `Figure` and the JSON-ready numbers that `figures`
keeps beside the picture, so that any figure can be drawn again from its file. `PLOTS` names them.
Colours are Okabe and Ito's, told apart by colour-blind readers, and never alone: a line style, a
width or a marker says the same. `results` draws what experiments measured, `matching` how matchers
compare, `calibration` what merged networks are worth, `merging` what went into them,
`counterexample` two small pairs of networks, `failures` what does not work, `exploration` what the
explorer shows, `symmetry_group` the symmetries of a network, which `symmetry_rows` lays out, `swap`
two of its units that change places. `losses` names losses and their unit for all of them. Every
plot says what numbers it takes, in words and as a `shapes.Shape`, which checks them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from rebasin_lab import texts
from rebasin_lab.lab.plots.calibration import (
    draw_loss_lines_with_levels,
    draw_merged_bars,
    draw_reliability,
)
from rebasin_lab.lab.plots.counterexample import (
    draw_decision_regions,
    draw_decision_walk,
    draw_error_curves,
    draw_slopes,
    draw_sorted_barriers,
    draw_two_tests,
)
from rebasin_lab.lab.plots.exploration import draw_explored_lines, draw_search, draw_unit_order
from rebasin_lab.lab.plots.failures import (
    draw_collapse,
    draw_line_stop,
    draw_mended_lines,
    draw_recipes,
)
from rebasin_lab.lab.plots.matching import (
    draw_ascent_visit,
    draw_ascents,
    draw_halfway,
    draw_matchers,
    draw_matchers_by_width,
    draw_method_lines,
    draw_similarity_views,
)
from rebasin_lab.lab.plots.merging import (
    draw_class_counts,
    draw_line_reliability,
    draw_merge_objective,
    draw_merged_by_number,
    draw_merged_number,
    draw_minorities,
)
from rebasin_lab.lab.plots.onset import draw_onset, draw_partners, draw_untrained_lines, draw_widths
from rebasin_lab.lab.plots.results import (
    draw_barriers,
    draw_contour,
    draw_history,
    draw_interpolation,
    draw_line_position,
    draw_objective,
    draw_published,
    draw_samples,
    draw_symmetry_counts,
    draw_units,
)
from rebasin_lab.lab.plots.swap import draw_swapped_units
from rebasin_lab.lab.plots.symmetry_group import draw_symmetry_group, symmetry_picture

PLOTS: dict[str, Callable[[Figure, Mapping[str, Any]], None]] = {
    "ascent_visit": draw_ascent_visit,
    "ascents": draw_ascents,
    "barriers": draw_barriers,
    "class_counts": draw_class_counts,
    "collapse": draw_collapse,
    "contour": draw_contour,
    "decision_regions": draw_decision_regions,
    "decision_walk": draw_decision_walk,
    "error_curves": draw_error_curves,
    "explored_lines": draw_explored_lines,
    "halfway": draw_halfway,
    "history": draw_history,
    "interpolation": draw_interpolation,
    "line_position": draw_line_position,
    "line_reliability": draw_line_reliability,
    "line_stop": draw_line_stop,
    "loss_lines_with_levels": draw_loss_lines_with_levels,
    "matchers": draw_matchers,
    "matchers_by_width": draw_matchers_by_width,
    "mended_lines": draw_mended_lines,
    "merge_objective": draw_merge_objective,
    "merged_bars": draw_merged_bars,
    "merged_by_number": draw_merged_by_number,
    "merged_number": draw_merged_number,
    "method_lines": draw_method_lines,
    "minorities": draw_minorities,
    "objective": draw_objective,
    "onset": draw_onset,
    "partners": draw_partners,
    "published_lines": draw_published,
    "recipes": draw_recipes,
    "reliability": draw_reliability,
    "samples": draw_samples,
    "search": draw_search,
    "similarity_views": draw_similarity_views,
    "slopes": draw_slopes,
    "sorted_barriers": draw_sorted_barriers,
    "swapped_units": draw_swapped_units,
    "symmetry_counts": draw_symmetry_counts,
    "symmetry_group": draw_symmetry_group,
    "two_tests": draw_two_tests,
    "unit_order": draw_unit_order,
    "units": draw_units,
    "untrained_lines": draw_untrained_lines,
    "widths": draw_widths,
}


def draw(fig: Figure, plot: str, numbers: Any) -> None:
    """Draw a plot, by its name in `PLOTS`, onto a figure.

    Raises:
        ValueError: for an unknown plot, and for numbers that are not what it draws.
    """
    _known(plot)(fig, numbers)


def checked(plot: str, numbers: Any) -> dict[str, Any]:
    """The numbers of a plot, fit to be drawn.

    Raises:
        ValueError: as `draw`, but nothing is drawn.
    """
    return _known(plot).checked(numbers)


def _known(plot: str) -> Callable:
    if plot not in PLOTS:
        raise ValueError(
            f"Expected a plot among {sorted(PLOTS)}; got {texts.in_a_line(repr(plot), 120)}."
        )
    return PLOTS[plot]


__all__ = ["PLOTS", "checked", "draw", "symmetry_picture"]
