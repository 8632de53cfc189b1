"""The one component that draws in the browser: an anywidget, plain JavaScript without a build step.

`scene.js` draws a scene (`lab.scenes`) as SVG, `guess.js` has the reader predict a line of it,
`dials.js` a figure and its dials, `picture.js` one that the kernel sets, `form.js` a form. They are
joined into one module, because a widget's code may import nothing: JupyterLab loads it from memory,
and a page that is opened from the file system may load no module at all.
"""

import functools
from pathlib import Path

_HERE = Path(__file__).parent
_FILES = ("scene.js", "guess.js", "dials.js", "picture.js", "form.js")


@functools.cache
def code(render: str) -> str:
    """Return the module of a widget: all of the component, and which part of it draws.

    Args:
        render: the name of a function `({model, el}) => clean up`.
    """
    parts = [(_HERE / name).read_text(encoding="utf-8") for name in _FILES]
    return "\n".join([*parts, f"export default {{render: {render}}};\n"])


@functools.cache
def style() -> str:
    """Return the component's style sheet."""
    return (_HERE / "component.css").read_text(encoding="utf-8")
