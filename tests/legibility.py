"""Text of a drawn figure, and what keeps it from being read."""

import itertools
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D


class DrawnText(NamedTuple):
    """A line of text as drawn: what, how large (points of the layout), and its four corners."""

    content: str
    points: float
    corners: np.ndarray


def drawn_texts(figure):
    """Every line of text that is drawn; ticks outside an axis, for example, have none."""
    width, height = (int(side) for side in figure.bbox.size)
    recorder = _TextRecorder(width, height, figure.dpi)
    figure.draw(recorder)
    return recorder.texts


def problems_of(figure, smallest_points):
    """Text that is too small, leaves the figure or runs into other text; lines behind a legend."""
    texts = drawn_texts(figure)
    high = np.array(figure.bbox.size) + 1  # a pixel is not missed
    found = [f"'{t.content}' has {t.points:g} pt" for t in texts if t.points < smallest_points]
    for text in texts:
        if (text.corners < -1).any() or (text.corners > high).any():
            found.append(f"'{text.content}' leaves the figure")
    for one, other in itertools.combinations(texts, 2):
        if _touch(one.corners, other.corners):
            found.append(f"'{one.content}' runs into '{other.content}'")
    for ax in figure.axes:
        for line in ax.lines if ax.get_legend() else ():
            box, transform = ax.get_legend().get_window_extent(), line.get_transform()
            # Lines across all of an axes, a level or a sweep, are not among the data.
            if transform.contains_branch_seperately(ax.transData) == (True, True):
                path = line.get_path().transformed(transform)
                if path.vertices.size and path.intersects_bbox(box, filled=False):
                    found.append(f"the legend covers '{line.get_label()}'")
    return found


class _TextRecorder(RendererAgg):
    """Notes texts and draws nothing."""

    def __init__(self, width, height, dpi):
        super().__init__(width, height, dpi)
        self.texts = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if s.strip():
            width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
            top = height - descent
            box = [[0, -descent], [width, -descent], [width, top], [0, top]]
            corners = Affine2D().rotate_deg(angle).translate(x, self.height - y).transform(box)
            self.texts.append(DrawnText(s, float(prop.get_size_in_points()), corners))

    def _draw_nothing(self, *arguments, **options):
        pass

    draw_path = draw_markers = draw_path_collection = _draw_nothing
    draw_quad_mesh = draw_gouraud_triangles = draw_image = _draw_nothing


def _touch(one, other):
    """Whether two boxes of text, which may be turned, overlap by more than their margins."""
    if (one.max(0) < other.min(0)).any() or (other.max(0) < one.min(0)).any():
        return False
    one, other = (0.9 * (box - box.mean(0)) + box.mean(0) for box in (one, other))
    return bool(Path(one).intersects_path(Path(other), filled=True))
