"""Encode a drawn figure as a file of its size on the page, without a date.

The layout is larger or smaller than the page (`fitting`), so each format scales it: an SVG by its
view box, a PNG by its resolution, a PDF by a matrix before everything else.

Text is drawn in DejaVu Sans, which comes with matplotlib and which few readers have. So a PDF
embeds it, as TrueType: its text can be searched, copied and edited, and publishers who refuse
Type 3 fonts take it. In an SVG text is outlines, so that it looks the same everywhere: named there
as text, another font of another width would run into what stands beside it.

Figures are opaque white: on a dark page a transparent one would lose its black lines and text.
"""

import io
import re
from typing import Any

from matplotlib.backends import backend_mixed, backend_pdf

from rebasin_lab.lab.figure_export import fitting

FORMATS = ("svg", "pdf", "png")
DPI = 300  # as journals ask of pictures; images in SVG and PDF have it too


def picture(drawn: fitting.Drawn, kind: str, *, title: str, alt: str) -> bytes:
    """Return the file of a drawn figure; to be called inside `figures.drawing`.

    Args:
        drawn: the figure.
        kind: one of `FORMATS`.
        title: written into the file, as is `alt`.
        alt: text in place of the picture, for a screen reader.
    """
    return {"svg": _svg, "pdf": _pdf, "png": _png}[kind](drawn, title, alt)


def _svg(drawn: fitting.Drawn, title: str, alt: str) -> bytes:
    metadata = {"Date": None, "Title": title, "Description": alt}
    content = _saved(drawn, "svg", metadata=metadata).decode()
    width, height = (f"{72 * side:.6g}pt" for side in drawn.size_inches)
    # The size of the root element; its view box, which is the layout's, stays.
    return re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"',
        rf'\1width="{width}" height="{height}"',
        content,
        count=1,
    ).encode()


def _pdf(drawn: fitting.Drawn, title: str, alt: str) -> bytes:
    metadata = {"CreationDate": None, "Title": title, "Subject": alt}
    figure, dpi = drawn.figure, DPI * drawn.scale
    width, height = figure.get_size_inches()
    buffer = io.BytesIO()
    file = _ScaledPdf(buffer, metadata=metadata)
    file.scale = drawn.scale
    # As `savefig` does, which has no option for a matrix.
    previous_dpi = figure.dpi
    figure.dpi = 72
    try:
        file.newPage(width, height)
        vectors = backend_pdf.RendererPdf(file, dpi, height, width)
        renderer = backend_mixed.MixedModeRenderer(figure, width, height, dpi, vectors)
        figure.draw(renderer)
        renderer.finalize()
        file.finalize()
    finally:
        file.close()
        figure.dpi = previous_dpi
    return buffer.getvalue()


class _ScaledPdf(backend_pdf.PdfFile):
    """A PDF whose pages are larger or smaller than what is drawn on them, by one factor."""

    scale = 1.0

    def newPage(self, width: Any, height: Any) -> None:  # noqa: N802 (matplotlib's name)
        super().newPage(self.scale * width, self.scale * height)
        self.width, self.height = width, height  # nothing outside is drawn
        self.output(self.scale, 0, 0, self.scale, 0, 0, backend_pdf.Op.concat_matrix)


def _png(drawn: fitting.Drawn, title: str, alt: str) -> bytes:
    metadata = {"Title": title, "Description": alt}
    return _saved(drawn, "png", metadata=metadata, pil_kwargs={"dpi": (DPI, DPI)})


def _saved(drawn: fitting.Drawn, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format=kind, dpi=DPI * drawn.scale, **options)
    return buffer.getvalue()
