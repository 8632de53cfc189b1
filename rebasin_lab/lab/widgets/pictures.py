"""A figure that follows what the kernel computes, drawn in the browser."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from rebasin_lab.lab import component, scenes


class Picture(anywidget.AnyWidget):
    """One figure, none at first.

    Attributes:
        name: of the files that a reader saves.
        note: a sentence in place of the figure, or about it, which is pale as long as it stands.
        cursor: where on lambda's axis of each panel a rule stands, or none.
        track: of the plane: A, B permuted, and B. Then the cursor is a dot on the way from A to
            permuted B, and a button lets B wander there.
        record: the figure record on view.
    """

    _esm = component.code("renderPicture")
    _css = component.style()

    name = traitlets.Unicode().tag(sync=True)
    scene = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    cursor = traitlets.Float(None, allow_none=True).tag(sync=True)
    track = traitlets.List().tag(sync=True)

    record: Mapping[str, Any] | None = None

    def show(self, record: Mapping[str, Any], *, track: Sequence[Sequence[float]] = ()) -> None:
        """Show a figure record."""
        self.record = record
        with self.hold_sync():
            self.track = [list(point) for point in track]
            self.scene = scenes.scene_of(record)
            self.note = ""

    def clear(self, note: str = "") -> None:
        """Show no figure."""
        self.record = None
        with self.hold_sync():
            self.scene = {}
            self.note = note
