"""A form of choices, drawn in the browser: fields, examples, and a button that starts long work."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from rebasin_lab.lab import component


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a form.

    Attributes:
        name: of its value.
        label: beside it.
        kind: "choice" of a menu, "number", "text", or "many" of a few.
        help: in a sentence.
        link: where it is explained, a text and an address.
        place: "", "wide" for a row of its own, or "advanced" to be folded away.
        options: of a choice, values with their text and their help.
        least: a number may be.
        most: a number may be.
        is_whole: for a number without a fraction.
        placeholder: of a text.
    """

    name: str
    label: str
    kind: str
    help: str
    link: tuple[str, str] | None = None
    place: str = ""
    options: Sequence[tuple[str, str, str]] = ()
    least: int | float = 0
    most: int | float = 0
    is_whole: bool = False
    placeholder: str = ""


class Form(anywidget.AnyWidget):
    """Fields, examples and a start button; the browser refuses numbers that no field may have.

    Attributes:
        values: of the fields, by name.
        refused: why a value cannot be, by the name of its field.
        off: names of fields that mean nothing now, which are hidden.
        preset: index of the example chosen last, or -1.
        status: a sentence on the work that goes on.
        progress: how much of it is done, and of how much; of nothing, there is no bar.
        is_busy: whether it may be stopped.
        message: an error.
    """

    _esm = component.code("renderForm")
    _css = component.style()

    fields = traitlets.List().tag(sync=True)
    presets = traitlets.List().tag(sync=True)
    start = traitlets.Unicode().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    refused = traitlets.Dict().tag(sync=True)
    off = traitlets.List().tag(sync=True)
    preset = traitlets.Int(-1).tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    progress = traitlets.List([0, 0]).tag(sync=True)
    is_busy = traitlets.Bool(False).tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        fields: Sequence[Field],
        values: Mapping[str, Any],
        *,
        presets: Sequence[tuple[str, str]] = (),
        start: str = "",
        on_ask: Callable[[Mapping[str, Any]], None] | None = None,
    ):
        """Make a form.

        Args:
            fields: from top to bottom.
            values: their first ones.
            presets: names and stories of the examples.
            start: the text of the button; without one there are the fields alone.
            on_ask: called with {"start": True}, {"stop": True} or {"preset": index}.
        """
        super().__init__(
            fields=[dataclasses.asdict(field) for field in fields],
            presets=[{"name": name, "story": story} for name, story in presets],
            start=start,
            values=dict(values),
        )
        self._on_ask = on_ask
        self.on_msg(lambda _, what, __: self.ask(what))

    def ask(self, what: Mapping[str, Any]) -> None:
        """Do what a button asks for; until there is news, its status is what the browser says."""
        says = {"start": "Starting ...", "stop": "Stopping ..."}
        self.status = says.get(next(iter(what)), "")
        if self._on_ask is not None:
            self._on_ask(what)


class Menu(Form):
    """One menu. Unlike that of ipywidgets it has its arrow keys in JupyterLab.

    Args:
        label: beside it.
        help: in a sentence.
        on_choice: called when another option was chosen.
    """

    def __init__(self, label: str, help: str, on_choice: Callable[[], None]):  # noqa: A002
        self._field = Field("chosen", label, "choice", help)
        super().__init__([self._field], {"chosen": ""})
        self.observe(lambda _: on_choice(), names="values")

    @property
    def value(self) -> str:
        """What is chosen; "" of no options."""
        return self.values["chosen"]

    @value.setter
    def value(self, value: str) -> None:
        self.values = {"chosen": value}

    def offer(self, options: Mapping[str, str], default: str) -> None:
        """Give it other options, texts by values; its choice stays if it is among them."""
        field = dataclasses.replace(
            self._field, options=[(value, text, "") for value, text in options.items()]
        )
        with self.hold_sync():
            self.fields = [dataclasses.asdict(field)]
            if self.value not in options:
                self.value = default
