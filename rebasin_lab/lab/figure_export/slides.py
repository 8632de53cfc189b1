"""Slides of a lesson: one HTML file with the figures that its page links to, in that order.

It needs no network and no script. A key scrolls from slide to slide; printed, each is a page.
"""

import base64
import re
from pathlib import Path

from rebasin_lab import checks, paths, texts
from rebasin_lab.lab import figures
from rebasin_lab.lab.figure_export import fitting, pictures

_LINK = re.compile(r"\]\(\.\./\.\./figures/([\w/]+)\.svg\)")


@checks.arguments
def write_slides(folder: Path, source: Path | None = None) -> list[Path]:
    """Write the slides of every lesson into a folder; return the files.

    Args:
        folder: created if need be. Slides that are there are written anew.
        source: the folder of figures, by default the published ones.

    Raises:
        ValueError: for a folder that the lab keeps something else in; if a figure is not there.
        OSError: if something cannot be written.
    """
    folder = paths.checked_output(str(folder), "the place of slides")
    lessons = sorted((paths.notebooks_dir() / "teaching").glob("lesson_*.md"))
    decks = {
        folder / f"{lesson.stem}.html": _deck(lesson.read_text(), source or paths.figures_dir())
        for lesson in lessons
    }
    for path, content in decks.items():
        paths.write_atomically(path, content.encode())
    return [*decks]


def _deck(lesson: str, source: Path) -> str:
    title = lesson.partition("\n")[0].removeprefix("# ")
    names = dict.fromkeys(_LINK.findall(lesson))
    records = figures.read_figures([source / f"{name}.json" for name in names])
    slides = []
    for path, record in records.items():
        name = f"{path.parent.name}/{path.stem}"
        with figures.drawing(), figures.refused_at(path):
            drawn = fitting.draw_for_width(record, "slide")
            content = pictures.picture(drawn, "svg", title=name, alt=record["alt"])
        data = base64.b64encode(content).decode()
        slides.append(
            f"<section><h2>{texts.as_html(record.get('title', ''))}</h2>"
            f'<img alt="{texts.as_html(record["alt"])}" src="data:image/svg+xml;base64,{data}">'
            f"<p>{texts.as_html(record['caption'])}</p></section>"
        )
    return _PAGE.format(title=texts.as_html(title), slides="\n".join(slides))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
@page {{ size: 13.333in 7.5in; margin: 0; }}
html {{ scroll-snap-type: y mandatory; }}
body {{ margin: 0; background: #fff; color: #1b1f24; font-family: system-ui, sans-serif; }}
section {{ height: 100vh; box-sizing: border-box; padding: 4vh 4vw; display: flex;
  flex-direction: column; justify-content: center; scroll-snap-align: start; break-after: page; }}
h1 {{ font-size: 4vw; }} h2 {{ font-size: 2.2vw; margin: 0 0 2vh; }}
img {{ flex: 1; min-height: 0; object-fit: contain; }} p {{ font-size: 1.1vw; margin: 2vh 0 0; }}
</style></head><body><main>
<section><h1>{title}</h1></section>
{slides}
</main></body></html>
"""
