"""The record of a matcher: its function, its options, and its style on figures."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rebasin_lab import checks


@dataclasses.dataclass(frozen=True)
class Matcher:
    """A method that finds a permutation of B.

    Attributes:
        function: `function(spec, params_a, params_b, *, seed, ...) -> MatchingResult`. Its other
            keyword-only parameters are its options. One that uses data takes `apply_fn` and
            `data`, one that uses a loss takes `loss_fn` as well; all other options have a default.
            `on_epoch` is called with a state that has `epoch` and `num_epochs`.
        label: its name on figures and in the explorer.
        colour: of its curves and markers, a Matplotlib colour.
        marker: a Matplotlib marker.
        is_open: whether markers are hollow.
        has_visits: whether its objective has an entry for every block update, see
            `MatchingResult`.
        efforts: its options where the explorer's effort is "low" or "high".

    Raises:
        ValueError: for a function with another signature, or efforts with unknown options.
    """

    function: Callable
    label: str
    colour: str = "#0072B2"
    marker: str = "h"
    is_open: bool = False
    has_visits: bool = False
    efforts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        checks.fields(self)
        needed = [name for name, one in self.options.items() if one.default is one.empty]
        try:
            inspect.signature(self.function).bind(
                *("spec", "params_a", "params_b"), seed=0, **dict.fromkeys(needed)
            )
        except TypeError as error:
            raise ValueError(
                "Expected function(spec, params_a, params_b, *, seed, ...) for the matcher "
                f"'{self.label}'; got {checks.shortened(self.function)}: {error}."
            ) from error
        if without := [name for name in needed if name not in ("apply_fn", "data")]:
            raise ValueError(
                f"Expected the options of the matcher '{self.label}' to have defaults, all but "
                f"apply_fn and data; {' and '.join(without)} has none."
            )
        for options in self.efforts.values():
            checks.options(options, self.options, f"options of the matcher '{self.label}'")

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function, without the checks of `match`."""
        return self.function(*args, **options)

    @functools.cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of the function, without `seed`."""
        parameters = inspect.signature(self.function).parameters
        return {
            name: one
            for name, one in parameters.items()
            if one.kind is one.KEYWORD_ONLY and name != "seed"
        }

    def accepted(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """The offered options that the function takes."""
        return {name: value for name, value in offered.items() if name in self.options}

    @property
    def needs_data(self) -> bool:
        """True if it uses data: `apply_fn` and `data` are among its options."""
        return "data" in self.options

    @property
    def needs_loss(self) -> bool:
        """True if it uses a loss: it needs labels, and parameters that are all floats."""
        return {"data", "loss_fn"} <= self.options.keys()

    @property
    def help(self) -> str:
        """The first line of the docstring of the function."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def face(self) -> str:
        """The fill colour of its markers."""
        return "none" if self.is_open else self.colour
