"""What keeps a figure from being read, found from how it is laid out.

Text that is too small, touches other text or leaves the figure; a legend over lines; a panel much
smaller than an inch and than its design. Whether a reader can tell lines apart is not seen here.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

# The sides of a panel on the page: one of these suffices, inches or a share of its design. Images
# may shrink further than curves.
PANEL_INCHES = 1.0
CHART_SHARE, IMAGE_SHARE = 0.4, 0.3


def problems_of(
    figure: Figure,
    scale: float,
    smallest_points: float,
    design_frames: Sequence[tuple[float, float]] | None,
) -> list[str]:
    """What keeps a figure from being read, in words.

    Args:
        figure: laid out.
        scale: points on the page per point of the layout.
        smallest_points: text below this, on the page, is a problem.
        design_frames: width and height of every axes of the design, in inches, or nothing to
            compare with.
    """
    texts = drawn_texts(figure)
    found = []
    smallest = scale * min((text.points for text in texts), default=np.inf)
    if smallest < smallest_points - 0.01:
        found.append(f"text is {smallest:.1f} pt")
    high = np.array(figure.bbox.size) + 1  # a pixel is not missed
    for text in texts:
        if (text.corners < -1).any() or (text.corners > high).any():
            found.append(f"'{text.content}' leaves the figure")
    for one, other in itertools.combinations(texts, 2):
        if _touch(one.corners, other.corners):
            found.append(f"'{one.content}' runs into '{other.content}'")
    found += _covered_lines(figure)
    panels = zip(figure.axes, frames_of(figure), design_frames or [], strict=bool(design_frames))
    for ax, frame, design_frame in panels:
        share = CHART_SHARE if ax.get_aspect() == "auto" else IMAGE_SHARE
        needed = np.minimum(PANEL_INCHES, share * np.array(design_frame))
        is_colour_bar = ax.get_box_aspect() is not None  # as thin as its images are small
        if (scale * np.array(frame) < needed).any() and not is_colour_bar:
            shown = " x ".join(f"{scale * side:.2f}" for side in frame)
            found.append(f"a panel is {shown} in")
    return found


class DrawnText(NamedTuple):
    """A line of text as drawn: what, how large (points of the layout), and its four corners."""

    content: str
    points: float
    corners: Float[np.ndarray, "4 2"]


def drawn_texts(figure: Figure) -> list[DrawnText]:
    """Every line of text that is drawn; ticks outside an axis, for example, have none."""
    width, height = (int(side) for side in figure.bbox.size)
    recorder = _TextRecorder(width, height, figure.dpi)
    figure.draw(recorder)
    return recorder.texts


class _TextRecorder(RendererAgg):
    """Notes texts and draws nothing."""

    def __init__(self, width: int, height: int, dpi: float):
        super().__init__(width, height, dpi)
        self.texts: list[DrawnText] = []

    def draw_text(
        self,
        gc: Any,
        x: Any,
        y: Any,
        s: str,
        prop: Any,
        angle: Any,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        if not s.strip():
            return
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
        top = height - descent
        box = [[0, -descent], [width, -descent], [width, top], [0, top]]
        corners = Affine2D().rotate_deg(angle).translate(x, self.height - y).transform(box)
        self.texts.append(DrawnText(s, float(prop.get_size_in_points()), corners))

    def _draw_nothing(self, *arguments: Any, **options: Any) -> None:
        pass

    draw_path = draw_markers = draw_path_collection = _draw_nothing
    draw_quad_mesh = draw_gouraud_triangles = draw_image = _draw_nothing


def frames_of(figure: Figure) -> list[tuple[float, float]]:
    """Width and height of every axes, in inches of the layout."""
    extents = (ax.get_window_extent() for ax in figure.axes)
    return [(float(e.width) / figure.dpi, float(e.height) / figure.dpi) for e in extents]


def _touch(one: Float[np.ndarray, "4 2"], other: Float[np.ndarray, "4 2"]) -> bool:
    """Whether two boxes of text, which may be turned, overlap by more than their margins."""
    if (one.max(0) < other.min(0)).any() or (other.max(0) < one.min(0)).any():
        return False
    one, other = (0.9 * (box - box.mean(0)) + box.mean(0) for box in (one, other))
    return bool(Path(one).intersects_path(Path(other), filled=True))


def _covered_lines(figure: Figure) -> list[str]:
    """Lines that run behind the legend of their axes."""
    found = []
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        for line in ax.lines:
            # Lines across all of an axes, a level or a sweep, are not among the data.
            if line.get_transform().contains_branch_seperately(ax.transData) == (True, True):
                path = line.get_path().transformed(line.get_transform())
                if path.vertices.size and path.intersects_bbox(box, filled=False):
                    found.append(f"the legend covers '{line.get_label()}'")
    return found
