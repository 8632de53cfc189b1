"""Checks of single settings that a notebook's cell or a command line gives."""

import math
import numbers
from typing import Any

from rebasin_lab import checks


def check_value(
    name: str,
    value: Any,
    kind: type,
    *,
    least: int | float = 0,
    most: int | float = checks.MOST,
    odd: bool = False,
) -> Any:
    """Return a value as the type that it must have: neither a bool nor 3.0 is an int.

    Args:
        name: whose value it is, for an error.
        value: the value; numbers of NumPy will do.
        kind: bool, int, float or str.
        least: of a number; a float must be above it if it is 1, which stands for "positive".
        most: of a number.
        odd: whether an int must be odd.

    Raises:
        ValueError: for another type, or a number out of range.
    """
    expected = {bool: "true or false", str: "a text"}.get(kind, "")
    if kind is bool:
        fits = isinstance(value, bool)
    elif kind is str:
        fits = isinstance(value, str) and value.isprintable()
    else:
        positive = "a positive" if least == 1 else "an odd" if odd else "a"
        article = "an" if positive == "a" and kind is int else positive
        expected = f"{article} {kind.__name__}"
        if not (least == 1 and most == checks.MOST):
            expected += f" from {least:,} to {most:,}"
        number = numbers.Integral if kind is int else numbers.Real
        fits = isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
        fits = (
            fits
            and value <= most
            and (value > 0 if kind is float and least == 1 else value >= least)
        )
        fits = fits and not (odd and value % 2 == 0)
    if not fits:
        raise ValueError(f"Expected {name} to be {expected}; got {checks.shortened(value)}.")
    return kind(value)


def check_list(name: str, value: Any, kind: type, *, may_be_empty: bool) -> tuple[Any, ...]:
    """Return rising numbers as a tuple: positive ints, or shares in [0, 0.5] for floats.

    Args:
        name: whose value it is, for an error.
        value: a list or tuple.
        kind: int or float.
        may_be_empty: whether there may be none.

    Raises:
        ValueError: for anything else.
    """
    share = kind is float
    what = "shares in [0, 0.5]" if share else "positive ints"
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"Expected {name} to be a list of {what}; got {checks.shortened(value)}.")
    if not value and not may_be_empty:
        raise ValueError(f"Expected {name} to be a list of at least one of {what}; got none.")
    limits = {"least": 0, "most": 0.5} if share else {"least": 1}
    items = tuple(check_value(f"every number of {name}", item, kind, **limits) for item in value)
    if list(items) != sorted(set(items)):
        raise ValueError(
            f"Expected {name} to rise, each number once; got {checks.shortened(value)}."
        )
    return items
