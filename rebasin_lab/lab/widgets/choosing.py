"""The explorer's controls of data, networks and matchers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets

from rebasin_lab import datasets, matching, models
from rebasin_lab.lab import exploration
from rebasin_lab.lab.exploration import Choices

_MATCHING = ("matchers", "effort")  # the rest are of networks


class ChoiceControls:
    """The controls of a `Choices`; with networks passed in, those of matchers alone.

    Args:
        choices: their first values.
        is_given: whether the networks were passed in.
        on_choice: called with the present choices, whenever a control was turned.
        on_error: called instead with a ValueError, if these are not valid.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        is_given: bool,
        on_choice: Callable[[Choices], None],
        on_error: Callable[[ValueError], None],
    ):
        self._first = choices
        self._on_choice = on_choice
        self._on_error = on_error
        self._is_settling = False
        self._controls = _controls(choices, is_given=is_given)
        for control in self._controls.values():
            control.observe(self._on_change, names="value")

    @property
    def network_controls(self) -> list[ipywidgets.ValueWidget]:
        """The controls of data and networks; none for networks passed in."""
        return [control for name, control in self._controls.items() if name not in _MATCHING]

    @property
    def matcher_controls(self) -> list[ipywidgets.ValueWidget]:
        """The controls of matchers."""
        return [self._controls[name] for name in _MATCHING]

    def _on_change(self, change: Any) -> None:
        if self._is_settling:
            return
        kinds = [self._controls.get(name) for name in ("architecture", "dataset")]
        try:
            if change["owner"] in kinds:
                self._settle_sizes()
            choices = _chosen(self._controls, self._first)
        except ValueError as error:
            self._on_error(error)
            return
        self._on_choice(choices)

    def _settle_sizes(self) -> None:
        """Set the usual sizes and epochs of another architecture, or of other data."""
        kind = {name: self._controls[name].value for name in ("dataset", "architecture")}
        usual = Choices(**kind)
        self._is_settling = True  # the values set below are no choice of the reader's
        try:
            for name, value in _sizes(usual).items():
                self._controls[name].value = value
        finally:
            self._is_settling = False
        self._controls["depth"].disabled = not usual.record.depth


def _chosen(controls: Mapping[str, ipywidgets.ValueWidget], first: Choices) -> Choices:
    """Return what the controls choose.

    Raises:
        ValueError: if they are not valid.
    """
    values = {name: control.value for name, control in controls.items()}
    matching_choices = {"matchers": tuple(values["matchers"]), "effort": values["effort"]}
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


def _sizes(choices: Choices) -> dict[str, int | float]:
    """Return width, depth (0 if that is fixed) and epochs of its networks."""
    experiment, record = choices.experiment(seed=0), choices.record
    sizes = dict(experiment.options)
    return {
        "width": sizes[record.width],
        "depth": sizes.get(record.depth, 0),
        "num_epochs": experiment.train.num_epochs,
    }


def _controls(choices: Choices, *, is_given: bool) -> dict[str, ipywidgets.ValueWidget]:
    """Return the controls of a `Choices`; with networks passed in, those of matchers alone."""
    short = {"layout": {"width": "128px"}, "style": {"description_width": "56px"}}
    wide = {"layout": {"width": "210px"}, "style": {"description_width": "80px"}}
    sizes = _sizes(choices)
    networks = {
        "dataset": ipywidgets.Dropdown(
            options=datasets.dataset_names(), value=choices.dataset, description="data", **wide
        ),
        "architecture": ipywidgets.Dropdown(
            options=list(models.ARCHITECTURES),
            value=choices.architecture,
            description="architecture",
            **wide,
        ),
        "width": ipywidgets.BoundedFloatText(
            value=sizes["width"], min=0, max=1e5, description="width", **short
        ),
        "depth": ipywidgets.BoundedIntText(
            value=sizes["depth"], min=0, max=100, description="depth", **short
        ),
        "num_epochs": ipywidgets.BoundedIntText(
            value=sizes["num_epochs"], min=1, max=10_000, description="epochs", **short
        ),
        "seed_a": ipywidgets.BoundedIntText(
            value=choices.seeds[0], min=0, max=2**31 - 1, description="seed A", **short
        ),
        "seed_b": ipywidgets.BoundedIntText(
            value=choices.seeds[1], min=0, max=2**31 - 1, description="seed B", **short
        ),
        "file_a": ipywidgets.Text(
            value=choices.files[0] if choices.files else "",
            placeholder="or a checkpoint",
            description="file A",
            continuous_update=False,
            **wide,
        ),
        "file_b": ipywidgets.Text(
            value=choices.files[1] if choices.files else "",
            placeholder="or a checkpoint",
            description="file B",
            continuous_update=False,
            **wide,
        ),
    }
    matchers = {
        "matchers": ipywidgets.SelectMultiple(
            options=[(one.label, name) for name, one in matching.MATCHERS.items()],
            tooltip="\n".join(f"{one.label}: {one.help}" for one in matching.MATCHERS.values()),
            value=choices.matchers,
            rows=4,
            description="matchers",
            layout={"width": "270px"},
            style={"description_width": "80px"},
        ),
        "effort": ipywidgets.Dropdown(
            options=exploration.EFFORTS, value=choices.effort, description="effort", **short
        ),
    }
    return matchers if is_given else networks | matchers
