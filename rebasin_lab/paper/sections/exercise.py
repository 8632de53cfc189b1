"""Exercises: a reader's function, held against the library's on small cases."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rebasin_lab.paper.sections.record import Prose


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function that a reader writes.

    Attributes:
        oracle: the right one.
        cases: arguments to try it on.
        hint: how to begin, after "Hint:".
    """

    oracle: Callable
    cases: Sequence[tuple[Any, ...]]
    hint: str

    def check(self, answer: Callable) -> Prose:
        """Say if a reader's function gives what the library's does; never raises."""
        for case in self.cases:
            shown = ", ".join(map(_shown, case))
            try:
                given, expected = answer(*case), self.oracle(*case)
                if given is None:
                    return Prose(f"**Your turn.** Hint: {self.hint}.")
                assert np.allclose(np.asarray(given, float), np.asarray(expected, float), 1e-3)
            except AssertionError:
                return Prose(
                    f"**Not yet.** For ({shown}) the library gives {_shown(expected)}, your "
                    f"function {_shown(given)}. Hint: {self.hint}."
                )
            except Exception as error:  # noqa: BLE001 (the reader's own code)
                return Prose(
                    f"**Not yet.** For ({shown}) it stopped: {type(error).__name__}: {error}. "
                    f"Hint: {self.hint}."
                )
        return Prose(f"**Right**, on {len(self.cases)} cases.")


def _shown(value: Any) -> str:
    return np.array2string(np.asarray(value), precision=3, threshold=20, separator=", ")
