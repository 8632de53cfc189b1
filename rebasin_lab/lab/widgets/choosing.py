"""The explorer's form: fields of data, networks and matchers, and the `Choices` they stand for."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rebasin_lab import datasets, matching, models
from rebasin_lab.lab import exploration
from rebasin_lab.lab.exploration import PRESETS, Choices
from rebasin_lab.lab.widgets.form import Field, Form

_MATCHING = ("matchers", "effort", "statistics")  # the rest are of networks
_SEEDS = ("02: the line and its barrier (section 5.1)", "02_line_and_barrier.ipynb")
_OWN = ("12: networks of your own", "12_networks_of_your_own.ipynb")


class ChoiceForm(Form):
    """The form of a `Choices`; with networks passed in, of matchers alone.

    Args:
        choices: its first values.
        is_given: whether the networks were passed in.
        on_choice: called with the present choices, whenever they have become others.
        on_ask: as `Form` calls it.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        is_given: bool,
        on_choice: Callable[[Choices], None],
        on_ask: Callable[[Mapping[str, Any]], None],
    ):
        self._first = choices
        self._on_choice = on_choice
        self._is_settling = False
        fields = [field for field in _fields() if field.name in _MATCHING or not is_given]
        names = [field.name for field in fields]
        super().__init__(
            fields,
            {name: value for name, value in choices.values.items() if name in names},
            presets=[] if is_given else [(one.name, one.story) for one in PRESETS],
            start="Compare",
            on_ask=on_ask,
        )
        self.off = _without_meaning(choices)
        self.observe(self._on_values, names="values")

    def show(self, choices: Choices, preset: int = -1) -> None:
        """Show these choices, as an example if it is one, and call nobody."""
        self._is_settling = True
        try:
            with self.hold_sync():
                self.values = {
                    name: value for name, value in choices.values.items() if name in self.values
                }
                self.refused, self.preset = {}, preset
                self.off = _without_meaning(choices)
        finally:
            self._is_settling = False

    def _on_values(self, change: Any) -> None:
        if self._is_settling:
            return
        old, new = change["old"], dict(change["new"])
        changed = [name for name, value in new.items() if old.get(name) != value]
        try:
            if {"architecture", "dataset"} & {*changed}:  # which have usual sizes and epochs
                kind = {name: new[name] for name in ("dataset", "architecture")}
                new |= {name: Choices(**kind).values[name] for name in _SIZES}
            choices = _chosen(new, self._first)
            choices.values  # noqa: B018 (sizes that its architecture cannot have)
        except ValueError as error:
            # Where the same is said already, it stays: this change has not mended it.
            stays = [name for name, said in self.refused.items() if said == str(error)]
            self.refused = {name: str(error) for name in (stays or changed)[:1]}
            return
        self.show(choices)
        self._on_choice(choices)


_SIZES = ("width", "depth", "num_epochs")


def _without_meaning(choices: Choices) -> list[str]:
    return [] if choices.record.depth else ["depth"]


def _chosen(values: Mapping[str, Any], first: Choices) -> Choices:
    """Return what the fields choose.

    Raises:
        ValueError: if they are not valid.
    """
    matching_choices = {
        "matchers": tuple(values["matchers"]),
        "effort": values["effort"],
        "statistics": values["statistics"],
    }
    if "dataset" not in values:  # networks were passed in
        return dataclasses.replace(first, **matching_choices)
    files = [values[name].strip() for name in ("file_a", "file_b")]
    if any(files) and not all(files):
        raise ValueError("Expected two checkpoints, or none: name the other file, too.")
    return dataclasses.replace(
        first,
        dataset=values["dataset"],
        architecture=values["architecture"],
        width=values["width"],
        depth=values["depth"] if models.ARCHITECTURES[values["architecture"]].depth else 0,
        num_epochs=values["num_epochs"],
        seeds=(values["seed_a"], values["seed_b"]),
        files=tuple(files) if all(files) else (),
        **matching_choices,
    )


def _fields() -> list[Field]:
    """Return the fields, with all data sets, architectures and matchers that there are now."""

    def plain(names: Any) -> list[tuple[str, str, str]]:
        return [(name, name, "") for name in names]

    whole = {"kind": "number", "is_whole": True}
    return [
        Field(
            "dataset",
            "data",
            "choice",
            "What both networks were trained on.",
            options=plain(datasets.dataset_names()),
        ),
        Field(
            "architecture",
            "architecture",
            "choice",
            "The shape of both networks. Another one brings its usual sizes and epochs.",
            ("01: what may be permuted (section 2)", "01_symmetries.ipynb"),
            options=plain(models.ARCHITECTURES),
        ),
        Field(
            "width",
            "width",
            "number",
            "Units per layer, or the multiple of the published width.",
            ("07: barriers fall with width (section 5.3)", "07_width.ipynb"),
            least=0.01,
            most=100_000,
        ),
        Field("depth", "depth", help="Hidden layers, or blocks.", least=1, most=100, **whole),
        Field(
            "num_epochs",
            "epochs",
            help="Passes over the training images.",
            link=("06: when matching begins to work (section 5.2)", "06_onset.ipynb"),
            least=1,
            most=10_000,
            **whole,
        ),
        *(
            Field(
                f"seed_{name.lower()}",
                f"seed {name}",
                help=f"Of network {name}: its first weights, and the order of its images.",
                link=_SEEDS,
                least=0,
                most=2**31 - 1,
                **whole,
            )
            for name in "AB"
        ),
        Field(
            "matchers",
            "matchers",
            "many",
            "Each puts the units of B in an order of its own.",
            ("04: three methods (section 3)", "04_three_methods.ipynb"),
            place="wide",
            options=[(name, one.label, one.help) for name, one in matching.MATCHERS.items()],
        ),
        Field(
            "effort",
            "effort",
            "choice",
            "How long matchers search, and how many images they look at.",
            place="advanced",
            options=plain(exploration.EFFORTS),
        ),
        Field(
            "statistics",
            "BatchNorm statistics",
            "choice",
            "Of a merged network: averaged like weights, or re-estimated on training images.",
            ("09: BatchNorm (appendix A.4)", "09_normalisation.ipynb"),
            place="advanced",
            options=plain(exploration.STATISTICS),
        ),
        *(
            Field(
                f"file_{name.lower()}",
                f"file {name}",
                "text",
                f"A checkpoint of the lab, as network {name}.",
                _OWN,
                place="advanced",
                placeholder="or a checkpoint",
            )
            for name in "AB"
        ),
    ]
