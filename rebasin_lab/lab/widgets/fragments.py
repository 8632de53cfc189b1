"""HTML that a panel swaps many times a second: no matplotlib, a few kilobytes each.

Colours are the notebook's own, so that text is legible on a light and on a dark page.
"""

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image

from rebasin_lab import texts

RIGHT, WRONG = "#009E73", "#D55E00"  # and a sign besides


def note(text: str) -> str:
    """Return a sentence on the present state as HTML."""
    return f'<p role="status" style="margin:0">{texts.as_html(text)}</p>'


def strip(
    images: Float[np.ndarray, "n h w c"],
    truths: Sequence[str],
    answers: Sequence[tuple[str, float]],
    *,
    method: str,
    ends: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return images in a row, each with a network's answer and its probability below.

    Args:
        images: to show.
        truths: the class of each.
        answers: the merged network's, with their probabilities.
        method: that it is merged by.
        ends: answers of A and of B, to be shown above those.
    """
    cells = []
    for index, (image, truth, (answer, chance)) in enumerate(
        zip(images, truths, answers, strict=True)
    ):
        is_right = answer == truth
        sign, colour = ("✓", RIGHT) if is_right else ("✗", WRONG)
        above = "".join(
            f"<div><small>{name}: {texts.as_html(said[index])} "
            f"{'✓' if said[index] == truth else '✗'}</small></div>"
            for name, said in (ends or {}).items()
        )
        alt = f"a test image of {truth}, taken for {answer}"
        cells.append(
            '<div style="text-align:center;width:64px;line-height:1.25">'
            f'<img alt="{texts.as_html(alt)}" src="{_png(image)}" '
            'style="width:56px;height:56px;image-rendering:pixelated">'
            f'{above}<div style="border-bottom:3px solid {colour};overflow:hidden;'
            'white-space:nowrap;text-overflow:ellipsis">'
            f"<b>{texts.as_html(answer)}</b> {sign}</div>"
            f"<small>{100 * chance:.0f} %</small></div>"
        )
    label = texts.as_html(f"answers of the network merged by {method}")
    return (
        f'<div role="group" aria-label="{label}" style="display:flex;flex-wrap:wrap;gap:4px">'
        f"{''.join(cells)}</div>"
    )


def filters(weights: Float[np.ndarray, "n h w c"], limit: float) -> str:
    """Return first-layer weights as tiles of one image, in colours symmetric about zero.

    Args:
        weights: of each unit; with three channels, as colours.
        limit: the weight at which colours stop.
    """
    num, height, width, channels = weights.shape
    scaled = np.clip(weights / (limit or 1), -1, 1) / 2 + 0.5
    if channels == 3:
        tiles = np.uint8(255 * scaled)
    else:
        tiles = matplotlib.colormaps["PuOr_r"](scaled.mean(-1), bytes=True)[..., :3]
    columns = 8
    rows = -(-num // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (height + 1) * (index // columns), (width + 1) * (index % columns)
        sheet[top : top + height, left : left + width] = tile
    return (
        f'<figure style="margin:0"><img alt="weights from the pixels to {num} units of the first '
        f'layer" src="{_encoded(Image.fromarray(sheet))}" style="width:100%;max-width:520px;'
        'image-rendering:pixelated">'
        f"<figcaption><small>first layer: weights of {num} units</small></figcaption></figure>"
    )


def _png(image: Float[np.ndarray, "h w c"]) -> str:
    pixels = np.uint8(np.rint(255 * np.clip(image, 0, 1)))
    if pixels.shape[-1] == 1:  # dark ink on white paper
        return _encoded(Image.fromarray(255 - pixels[..., 0]))
    return _encoded(Image.fromarray(pixels))


def _encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
