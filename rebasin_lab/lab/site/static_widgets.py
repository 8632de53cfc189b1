"""Widgets of an executed notebook that work on a static page, without a kernel.

The state of an anywidget holds its code (`_esm`, `_css`) and its values. On the page an element has
the values, as JSON; one plain script, `static.js`, has the code of every component and a model in
place of the kernel's. A module could not be loaded from the file system.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import nbformat

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
_REFERENCE = "IPY_MODEL_"  # before the id of another model

_DEFAULT = re.compile(r"^[ \t]*export\s+default\s+", re.MULTILINE)
_NAMED_DEFAULT = re.compile(r"^[ \t]*export\s*\{\s*(\w+)\s+as\s+default\s*,?\s*\}", re.MULTILINE)
_MODULE = re.compile(r"^[ \t]*(export\b|import\b(?!\s*[(.]))", re.MULTILINE)
_NEEDS_KERNEL = '<p class="rl-note">This control needs a kernel: open the notebook to use it.</p>'


class Component(NamedTuple):
    """The code of a kind of widget.

    Attributes:
        key: a digest of the rest.
        esm: its ECMAScript module.
        css: its style sheet.
    """

    key: str
    esm: str
    css: str


def make_static(notebook: nbformat.NotebookNode) -> dict[str, Component]:
    """Put elements for the script in place of widgets, and take the widgets' state out.

    An output with widgets of another kind alone keeps its HTML, or says that it needs a kernel.

    Returns:
        The components that these elements need, by their keys.

    Raises:
        ValueError: if a component is no module that can become part of a script.
    """
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    components: dict[str, Component] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            view = data.pop(VIEW, None)
            if view is None:
                continue
            fallback = data.get("text/html", "")
            found = list(_anywidgets(view.get("model_id", ""), models))
            for model in found:
                component = _component(model["state"])
                components[component.key] = component
            data["text/html"] = (
                "".join(_element(model, fallback) for model in found) or fallback or _NEEDS_KERNEL
            )
    return components


def as_script(components: Iterable[Component]) -> str:
    """Return calls of `define`, one a component, for `static.js`."""
    return "\n".join(
        f"define({json.dumps(each.key)}, {json.dumps(each.css)}, () => {{\n"
        f"let component;\n{_without_exports(each.esm)}\nreturn component;\n}});"
        for each in components
    )


def _anywidgets(model_id: str, models: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a model with code of its own, or those among the children of a box."""
    model = models.get(model_id)
    if model is None:
        return
    if "_esm" in model["state"]:
        yield model
        return
    for child in model["state"].get("children", ()):
        yield from _anywidgets(str(child).removeprefix(_REFERENCE), models)


def _component(state: Mapping[str, Any]) -> Component:
    esm, css = state["_esm"], state.get("_css") or ""
    _without_exports(esm)
    key = hashlib.sha256(json.dumps([esm, css]).encode()).hexdigest()[:16]
    return Component(key, esm, css)


def _without_exports(esm: str) -> str:
    code, num_defaults = _DEFAULT.subn("component = ", esm)
    code, num_named = _NAMED_DEFAULT.subn(r"component = \1", code)
    other = _MODULE.search(code)
    if num_defaults + num_named != 1 or other:
        found = f"the line '{other.group()} ...'" if other else "no or several default exports"
        raise ValueError(
            "Expected the code of a widget to have one default export, and no other export or "
            f"import; got {found}. A static page cannot load modules."
        )
    return code


def _element(model: Mapping[str, Any], fallback: str) -> str:
    state = {
        name: value
        for name, value in model["state"].items()
        if not name.startswith("_") and not str(value).startswith(_REFERENCE)
    }
    buffers = [  # of a kernel's messages they are apart from the JSON
        [each["path"], each["data"]] for each in model.get("buffers", ()) if each.get("path")
    ]
    content = json.dumps({"state": state, "buffers": buffers}).replace("</", "<\\/")
    key = _component(model["state"]).key
    return (
        f'<div class="rl-static-widget" data-component="{key}">'
        f'<script type="application/json">{content}</script>{fallback}</div>'
    )
