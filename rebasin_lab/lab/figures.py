"""Save figures together with the numbers they draw.

A figure is three files: `<name>.json` holds the numbers and their provenance, `<name>.svg` and
`<name>.png` are drawn from that file alone. So every picture can be drawn again, and the same
numbers give the same bytes.
"""

import base64
import contextlib
import dataclasses
import functools
import io
import json
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from rebasin_lab import checks, datasets, paths, strict_json, texts
from rebasin_lab.lab import plots
from rebasin_lab.lab.plots import shapes
from rebasin_lab.paper import fingerprints, store
from rebasin_lab.paper.cache import cached

STYLE_FILE = Path(__file__).with_name("lab.mplstyle")
PNG_DPI = 150
TITLE_LETTERS = 11  # in an inch
MOST_SQUARE_INCHES = 5_000  # of a figure; half a gigabyte of pixels

# matplotlib's settings are global, and widget callbacks may run on another thread.
_drawing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The origin of a figure's numbers.

    Attributes:
        notebook: the notebook that made it.
        profile: the profile of the run.
        dataset: name, title and digest of the data.
        seeds: of the networks drawn.
        settings: sizes, such as width and epochs.
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


@checks.arguments
def describe_dataset(data: datasets.Dataset) -> dict[str, str]:
    """Return the description of a data set that a figure's file holds."""
    return {"name": data.name, "title": data.title, "digest": data.digest}


@checks.arguments
def save_figure(
    directory: Path,
    name: str,
    *,
    plot: str,
    numbers: Mapping[str, Any],
    caption: str,
    alt: str,
    provenance: Provenance,
    title: str = "",
    size: tuple[float, float] = (8.0, 3.4),
) -> Path:
    """Write `<name>.json`, `.svg` and `.png`.

    Args:
        directory: to write to; created if need be.
        name: the file name without ending.
        plot: a name in `plots.PLOTS`.
        numbers: that this plot draws, JSON-ready.
        caption: one or two sentences to stand under the figure.
        alt: text in place of the picture, for a screen reader.
        provenance: of the numbers.
        title: the finding, to stand above the panels.
        size: width and height in inches.

    Returns:
        The path of the JSON file.

    Raises:
        ValueError: for a name that is none, such as a path, for an unknown plot, and for numbers
            that it cannot draw.
    """
    paths.checked_name(name, "the name of a figure")
    plots.checked(plot, numbers)
    record = {
        "plot": plot,
        "size_inches": list(size),
        **({"title": title} if title else {}),
        "caption": caption,
        "alt": alt,
        **dataclasses.asdict(provenance),
        "versions": store.package_versions(),
        "numbers": numbers,
    }
    path = directory / f"{name}.json"
    text = _as_json(record)
    try:
        pictures = stored_pictures(strict_json.parsed(text))  # first: an error leaves no file
    except ValueError as error:
        raise ValueError(f"The figure '{name}' cannot be drawn. {error}") from error
    paths.write_atomically(path, text.encode())
    _write_pictures(path, pictures)
    return path


@checks.arguments
def redraw(path: Path) -> None:
    """Draw the SVG and the PNG beside a figure's JSON file, from its numbers.

    Raises:
        ValueError: if it holds no figure, see `read_figure`; nothing is written.
        OSError: if something cannot be written.
    """
    record = read_figure(path)
    with refused_at(path):
        pictures = _pictures(record)
    _write_pictures(path, pictures)


def read_figure(path: Path) -> dict[str, Any]:
    """Return the record of a figure from its file, with all that `save_figure` writes.

    Raises:
        ValueError: if there is no such file, or it holds anything else.
    """
    with refused_at(path):
        record = _RECORD(paths.read_json(path), "figure", {})
        plots.checked(record["plot"], record["numbers"])
        return record


def read_figures(saved: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Return the records of several figures, by file.

    Raises:
        ValueError: if any file holds no figure; it names all.
    """
    records, refused = {}, {}
    for path in saved:
        try:
            records[path] = read_figure(path)
        except ValueError as error:
            refused[path] = error
    if refused:
        (_, *others), reason = refused, next(iter(refused.values()))
        names = ", ".join(f"'{path}'" for path in others)
        also = f" Nor do {names}." if others else ""
        raise ValueError(f"{reason}{also} Nothing was written.") from reason
    return records


@contextlib.contextmanager
def refused_at(path: Path) -> Iterator[None]:
    """Name the file in an error of a figure's numbers, or of drawing them."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            reason = f"It cannot be read: {error.strerror or error}"
        raise ValueError(
            f"Expected '{path}' to hold a figure as this version of the lab writes it. "
            f"{texts.plain(reason, 1_000).rstrip('.')}. Run its notebook again, or move the file "
            "away."
        ) from error


def stored_pictures(
    record: Mapping[str, Any], kinds: Sequence[str] = ("svg", "png")
) -> dict[str, bytes]:
    """Return the pictures of a record, those that were drawn before from the cache.

    Drawing takes longer than all else in a notebook whose results are stored.
    """
    try:
        plot = plots.PLOTS[record["plot"]]
        text = json.dumps(record, default=_as_plain)
        return cached(_drawn, text, plot, kinds=kinds, code=_code_digest())
    except fingerprints.UnknownContentError:  # a plot of the reader's own, which may change
        return _pictures(record, kinds)


def _drawn(text: str, plot: Callable, *, kinds: Sequence[str], code: str) -> dict[str, bytes]:
    """Return the pictures of a record; plot and code only tell `cached` what draws them."""
    return _pictures(json.loads(text), kinds)


def _as_plain(value: Any) -> Any:
    """Return numbers of NumPy, or a mapping of any kind, for JSON."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else dict(value)


@functools.cache
def _code_digest() -> str:
    files = [*fingerprints.loaded("lab/figures", "lab/plots"), STYLE_FILE]
    return fingerprints.bytes_digest(fingerprints.PACKAGE, files)


def _pictures(record: Mapping[str, Any], kinds: Sequence[str] = ("svg", "png")) -> dict[str, bytes]:
    with drawing():
        fig = draw(record)
        return {kind: _encoded(fig, kind) for kind in kinds}


def _write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    for kind, content in pictures.items():
        paths.write_atomically(path.with_suffix(f".{kind}"), content)


@checks.arguments
def render(record: Mapping[str, Any], kind: str) -> bytes:
    """Return the picture of a figure record, as the bytes of an SVG or a PNG file."""
    checks.choice("kind", kind, ("png", "svg"), "render")
    return _pictures(record, [kind])[kind]


def _encoded(fig: Figure, kind: str) -> bytes:
    # With a date every run would write other bytes.
    metadata = {"Date": None} if kind == "svg" else {}
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


@checks.arguments
def draw(record: Mapping[str, Any]) -> Figure:
    """Draw a figure record as a matplotlib figure, laid out; call and save it in `drawing()`.

    Raises:
        ValueError: for an unknown plot, a size that is none, and numbers that it cannot draw.
    """
    size = check_size(record["size_inches"], "size_inches", {})
    fig = Figure(figsize=tuple(size), layout="constrained")
    plots.draw(fig, record["plot"], record["numbers"])
    if title := record.get("title", ""):
        lines = textwrap.wrap(shapes.letters(title, "title", {}), round(size[0] * TITLE_LETTERS))
        fig.suptitle("\n".join(lines), x=0.01, ha="left")
    settle_layout(fig)
    return fig


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Apply the lab's style, for one thread at a time; all code that draws or saves runs inside."""
    # On matplotlib's defaults, not on the caller's settings or a matplotlibrc.
    with _drawing, matplotlib.style.context(STYLE_FILE, after_reset=True):
        yield


def settle_layout(fig: Figure) -> None:
    """Lay the figure out once, to six digits.

    The layout's solver sums in no fixed order, so places, and the bytes of an SVG, differ in their
    last digits from one drawing to the next.
    """
    if fig.axes:
        fig.get_layout_engine().execute(fig)
    fig.set_layout_engine(None)  # "none" leaves one behind for which every saving draws twice
    for ax in fig.axes:
        ax.set_position([round(value, 6) for value in ax.get_position(original=True).bounds])


def check_size(value: Any, where: str, met: shapes.Met) -> list[float | int]:
    """Check width and height in inches: a picture has a pixel for each 150th of one."""
    width, height = shapes.list_of(shapes.real(0.5, 500), 2)(value, where, met)
    if width * height > MOST_SQUARE_INCHES:
        raise ValueError(
            f"Expected '{where}' to be {MOST_SQUARE_INCHES:,} square inches at most; got {width:g} "
            f"by {height:g}"
        )
    return [width, height]


_WORDS = shapes.by_name(shapes.text(), least=0)
_RECORD = shapes.fields(
    plot=shapes.text(),
    size_inches=check_size,
    title=shapes.optional(shapes.text()),
    caption=shapes.text(),
    alt=shapes.text(),
    notebook=shapes.text(),
    profile=shapes.text(),
    dataset=_WORDS,
    seeds=shapes.list_of(shapes.whole(-(2**63), 2**64), least=0),
    settings=shapes.by_name(shapes.anything, least=0),
    trained_with=shapes.list_of(_WORDS, least=0),
    claims=shapes.list_of(shapes.text(100), least=0, most=shapes.MOST_NAMES),
    versions=_WORDS,
    numbers=shapes.anything,
)


def _as_json(record: Mapping[str, Any]) -> str:
    """Write provenance, a line per field, then each entry of the numbers on a line of its own."""
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


@checks.arguments
def as_html(record: Mapping[str, Any], png: bytes | None = None) -> str:
    """Return a figure for a notebook: an image with alternative text, and its caption.

    HTML, because JupyterLab drops the alternative text of any other kind of output.

    Args:
        record: the figure.
        png: its picture, if already drawn.
    """
    encoded = base64.b64encode(png or render(record, "png")).decode()
    width = round(record["size_inches"][0] * 100)
    return (
        f'<figure style="margin:0 0 1em"><img alt="{texts.as_html(record["alt"])}" '
        f'style="width:100%;max-width:{width}px" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{texts.as_html(record['caption'])}</figcaption></figure>"
    )


@checks.arguments
def saved_figures(directory: Path | None = None) -> list[Path]:
    """Return the JSON files of all figures under a folder, sorted."""
    return sorted((directory or paths.figures_dir()).glob("*/*.json"))
