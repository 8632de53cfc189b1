"""All that is known of a matcher, in one record: its function, what it takes, how it is shown."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rebasin_lab import checks


@dataclasses.dataclass(frozen=True)
class Matcher:
    """One way to find a permutation of B.

    Attributes:
        function: `function(spec, params_a, params_b, *, seed, ...) -> MatchingResult`. Its other
            keyword-only parameters are its options. One that looks at data takes `apply_fn` and
            `data`, one that looks at a loss on it `loss_fn`, too; all else has a default. An
            `on_epoch` is called with a state that has `epoch` and `num_epochs`.
        label: its name on figures and in the explorer.
        colour: of its curves and marks there, as matplotlib takes it.
        marker: of its marks, likewise.
        is_open: whether they are hollow.
        has_visits: whether its objective has an entry for every visit of a group, see
            `MatchingResult`.
        efforts: its options where the explorer's effort is "low" or "high".

    Raises:
        ValueError: for a function that cannot be called like this, or efforts that it does not
            take.
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
        """What its function returns, of models that are not checked; see `match`."""
        return self.function(*args, **options)

    @functools.cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """What it takes by keyword besides a seed."""
        parameters = inspect.signature(self.function).parameters
        return {
            name: one
            for name, one in parameters.items()
            if one.kind is one.KEYWORD_ONLY and name != "seed"
        }

    def accepted(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the offered options that it takes."""
        return {name: value for name, value in offered.items() if name in self.options}

    @property
    def needs_data(self) -> bool:
        """Whether it looks at data: `apply_fn` and `data` are among its options."""
        return "data" in self.options

    @property
    def needs_loss(self) -> bool:
        """Whether it looks at a loss on them: the data have labels, all parameters are floats."""
        return {"data", "loss_fn"} <= self.options.keys()

    @property
    def help(self) -> str:
        """What it does, in a line: the first one of its function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def face(self) -> str:
        """What its marks are filled with."""
        return "none" if self.is_open else self.colour
