"""Numbers as a reader sees them: in their unit and plain decimals, alone, listed, or as a range."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Digits after the point, by unit.
_DIGITS = {"nats": 3, "%": 1, "points": 1, "s": 2}


def quantity(
    value: float | int | Sequence[float | int], unit: str, *, digits: int | None = None
) -> str:
    """Return a number, or the mean of several, in its unit: "0.026 nats", "95.7 %", "512"."""
    value = float(np.mean(value))
    digits = _DIGITS.get(unit, 3) if digits is None else digits
    if not math.isfinite(value):
        text = str(value)
    elif value == int(value) and unit not in _DIGITS:
        text = f"{int(value):,}"
    else:
        text = f"{value:,.{digits}f}"
        if round(value, digits) == 0:  # a small number is not none at all
            text = text.lstrip("-") if value == 0 else f"{value:.1g}"
    return f"{text} {unit}".rstrip()


def listed(values: Mapping[str, Any], unit: str, *, digits: int | None = None) -> str:
    """Return quantities by name in words: "naive 0.871 nats, Algorithm 1 0.026 nats"."""
    return ", ".join(f"{name} {quantity(one, unit, digits=digits)}" for name, one in values.items())


def summary(values: Sequence[float | int], unit: str, *, digits: int | None = None) -> str:
    """Return mean and range of several numbers, without their unit: "0.026 (0.020 to 0.031)"."""
    if not len(values):
        return ""
    mean, low, high = (
        quantity(value, unit, digits=digits).removesuffix(f" {unit}")
        for value in (float(np.mean(values)), float(min(values)), float(max(values)))
    )
    return mean if len(values) == 1 or low == high else f"{mean} ({low} to {high})"


def num_pairs(number: int) -> str:
    """Return a number of pairs of networks in words: "one pair", "3 pairs"."""
    return "one pair" if number == 1 else f"{number} pairs"
