"""Saving figures together with the numbers they draw.

A figure is three files: `<name>.json` holds the numbers and where they come from, `<name>.svg` and
`<name>.png` are drawn from that file and from nothing else. So every picture can be drawn again,
and the same numbers give the same bytes.
"""

import base64
import contextlib
import dataclasses
import html
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from rebasin_lab import datasets, experiments, paths, plots

STYLE_FILE = Path(__file__).with_name("lab.mplstyle")
PNG_DPI = 150

# matplotlib's settings are global, and widget callbacks may run on another thread.
_drawing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where the numbers of a figure come from.

    Attributes:
        notebook: the notebook that made it.
        profile: the profile of the run.
        dataset: name, title and digest of the data.
        seeds: of the networks drawn.
        settings: sizes worth knowing, such as width and epochs.
        trained_with: versions of the packages the networks were trained with, if there are any;
            those of the process that drew the figure stand beside them.
        claims: ids of the claims the figure supports.
    """

    notebook: str
    profile: str
    dataset: Mapping[str, str]
    seeds: Sequence[int]
    settings: Mapping[str, Any]
    trained_with: Sequence[Mapping[str, str]]
    claims: Sequence[str]


def describe_dataset(data: datasets.Dataset) -> dict[str, str]:
    """What a figure's file says of its data set."""
    return {"name": data.name, "title": data.title, "digest": data.digest}


def save_figure(
    directory: Path,
    name: str,
    *,
    plot: str,
    numbers: Mapping[str, Any],
    caption: str,
    alt: str,
    provenance: Provenance,
    size: tuple[float, float] = (8.0, 3.4),
) -> Path:
    """Write `<name>.json`, `.svg` and `.png`.

    Args:
        directory: where to; created if need be.
        name: the file name without ending.
        plot: a name in `plots.PLOTS`.
        numbers: what that plot draws, JSON-ready.
        caption: one or two sentences to stand under the figure.
        alt: what a reader who cannot see it should be told.
        provenance: where the numbers come from.
        size: width and height in inches.

    Returns:
        The path of the JSON file.

    Raises:
        ValueError: for an unknown plot, or a name that is none, such as a path.
    """
    paths.checked_name(name, "the name of a figure")
    if plot not in plots.PLOTS:
        raise ValueError(f"Expected a plot among {sorted(plots.PLOTS)}; got {plot!r}.")
    record = {
        "plot": plot,
        "size_inches": list(size),
        "caption": caption,
        "alt": alt,
        **dataclasses.asdict(provenance),
        "versions": experiments.package_versions(),
        "numbers": numbers,
    }
    path = directory / f"{name}.json"
    text = _as_json(record)
    pictures = _pictures(text)  # a figure that cannot be drawn leaves no file behind
    paths.write_atomically(path, text.encode())
    _write_pictures(path, pictures)
    return path


def redraw(path: Path) -> None:
    """Draw the SVG and the PNG beside a figure's JSON file, from its numbers."""
    _write_pictures(path, _pictures(path.read_text()))


def _pictures(text: str) -> dict[str, bytes]:
    with drawing():
        fig = draw(json.loads(text))
        return {kind: _encoded(fig, kind) for kind in ("svg", "png")}


def _write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    for kind, content in pictures.items():
        paths.write_atomically(path.with_suffix(f".{kind}"), content)


def render(record: Mapping[str, Any], kind: str) -> bytes:
    """The picture of a figure record, as the bytes of an SVG or a PNG file."""
    with drawing():
        return _encoded(draw(record), kind)


def _encoded(fig: Figure, kind: str) -> bytes:
    # A date would make every run's file another one.
    metadata = {"Date": None} if kind == "svg" else {}
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def draw(record: Mapping[str, Any]) -> Figure:
    """A figure record as a matplotlib figure, laid out; to be called, and saved, in `drawing()`."""
    fig = Figure(figsize=tuple(record["size_inches"]), layout="constrained")
    plots.PLOTS[record["plot"]](fig, record["numbers"])
    settle_layout(fig)
    return fig


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """The style of the lab, for one thread at a time; whatever draws or saves stands inside."""
    # From matplotlib's defaults, not from the caller's settings or a matplotlibrc.
    with _drawing, matplotlib.style.context(STYLE_FILE, after_reset=True):
        yield


def settle_layout(fig: Figure) -> None:
    """Lay the figure out once, to six digits.

    The solver behind the layout adds in an order of its own, so places differ in their last digits
    from one drawing to the next, and with them the bytes of an SVG.
    """
    if fig.axes:
        fig.get_layout_engine().execute(fig)
    fig.set_layout_engine(None)  # "none" leaves one behind for which every saving draws twice
    for ax in fig.axes:
        ax.set_position([round(value, 6) for value in ax.get_position(original=True).bounds])


def _as_json(record: Mapping[str, Any]) -> str:
    """Provenance to read, a line per field; then the numbers, each entry on a line of its own."""
    lines = [
        f" {json.dumps(key)}: {json.dumps(value)}"
        for key, value in record.items()
        if key != "numbers"
    ]
    entries = [
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record["numbers"].items()
    ]
    numbers = ' "numbers": {\n' + ",\n".join(entries) + "\n }"
    return "{\n" + ",\n".join([*lines, numbers]) + "\n}\n"


def as_html(record: Mapping[str, Any], png: bytes | None = None) -> str:
    """A figure for a notebook: an image with alternative text, and its caption.

    HTML, because JupyterLab drops the alternative text of any other kind of output.

    Args:
        record: the figure.
        png: its picture, if already drawn.
    """
    encoded = base64.b64encode(png or render(record, "png")).decode()
    width = round(record["size_inches"][0] * 100)
    return (
        f'<figure style="margin:0"><img alt="{html.escape(record["alt"], quote=True)}" '
        f'style="width:100%;max-width:{width}px" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{html.escape(record['caption'])}</figcaption></figure>"
    )


def saved_figures(directory: Path | None = None) -> list[Path]:
    """The JSON files of all figures under a folder, sorted."""
    return sorted((directory or paths.figures_dir()).glob("*/*.json"))
