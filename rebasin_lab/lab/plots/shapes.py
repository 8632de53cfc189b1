"""Check the numbers of a figure before any of them is drawn: fields, kinds, lengths, bounds.

A figure's file may have been edited. matplotlib draws texts in the place of numbers as categories,
leaves out NaNs, and its errors do not name the place. So every plot declares its numbers,
`@takes(lambdas=..., curves=...)`, and gets these, or an error of one paragraph is raised. Values of
one name (`"lambdas"`) have the same length, or the same keys; `alone` gives a value names of its
own.

`letters` makes a text such that matplotlib draws it letter by letter.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from rebasin_lab import texts

Met = dict[str, Any]  # lengths and sets of keys by name
# Returns the value, fit to be drawn; raises a ValueError that names the place.
Shape = Callable[[Any, str, Met], Any]

LARGEST = 1e40  # more than any float32: beyond, matplotlib computes infinities
MOST_LETTERS = 200  # of a label
MOST_ITEMS = 20_000  # of a list
MOST_PANELS = 40  # side by side, or above each other
MOST_NAMES = 100  # such as curves
MOST_LAYERS = 2_000


def fields(**shapes: Shape) -> Shape:
    """Return the shape of an object with these fields; other ones are left out."""

    def check(value: Any, where: str, met: Met) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _unexpected(where, "an object", value)
        result = {}
        for name, shape in shapes.items():
            if name in value:
                result[name] = shape(value[name], f"{where}/{name}", met)
            elif not getattr(shape, "is_optional", False):
                raise ValueError(
                    f"Expected '{texts.in_a_line(where, 200)}' to have '{name}'; got only "
                    f"{_shortened(', '.join(map(repr, value)) or 'an empty object')}"
                )
        return result

    return check


def optional(shape: Shape) -> Shape:
    """Return a field that may be missing."""

    def check(value: Any, where: str, met: Met) -> Any:
        return shape(value, where, met)

    check.is_optional = True
    return check


def or_none(shape: Shape) -> Shape:
    """Return the same, or null."""
    return lambda value, where, met: None if value is None else shape(value, where, met)


def alone(shape: Shape) -> Shape:
    """Return the same, with names of its own besides those met before."""
    return lambda value, where, met: shape(value, where, dict(met))


def by_name(
    shape: Shape,
    among: Iterable[str] = (),
    *,
    names: str = "",
    least: int = 1,
    most: int = MOST_NAMES,
) -> Shape:
    """Return an object of values alike.

    Args:
        shape: of each value.
        among: the keys there may be; any, if there are none.
        names: a name for the keys, which are the same wherever it stands.
        least: how many there are at least.
        most: and at most.
    """
    known = tuple(among)

    def check(value: Any, where: str, met: Met) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise _unexpected(where, "an object", value)
        _check_size(where, len(value), least, most)
        for name in value if known else ():
            one_of(*known)(name, where, met)
        if names and met.setdefault(names, set(value)) != set(value):
            keys = ", ".join(sorted(map(repr, met[names])))
            raise _unexpected(where, f"an object of {_shortened(keys)}", ", ".join(value))
        result = {
            letters(name, where, met): shape(one, f"{where}/{name}", met)
            for name, one in value.items()
        }
        if len(result) < len(value):
            raise _unexpected(where, "an object of names that differ", ", ".join(value))
        return result

    return check


def list_of(
    shape: Shape, length: int | str = "", *, least: int = 1, most: int = MOST_ITEMS
) -> Shape:
    """Return a list of values alike.

    Args:
        shape: of each value.
        length: how many there are; or a name for that, which is the same wherever it stands.
        least: how many there are at least.
        most: and at most.
    """

    def check(value: Any, where: str, met: Met) -> list[Any]:
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(value, list | tuple):
            raise _unexpected(where, "a list", value)
        _check_size(where, len(value), least, most)
        expected = length or len(value)
        if isinstance(length, str) and length:
            expected = met.setdefault(length, len(value))
        if len(value) != expected:
            as_many = f", as many as {length}" if isinstance(length, str) else ""
            raise ValueError(
                f"Expected '{texts.in_a_line(where, 200)}' to hold {expected} values{as_many}; "
                f"got {len(value)}"
            )
        if shape is _ANY_REAL and all(type(one) is float and _fits(one) for one in value):
            return list(value)  # most numbers; without an error no place needs a name
        return [shape(one, f"{where}/{number}", met) for number, one in enumerate(value)]

    return check


def tuple_of(*shapes: Shape) -> Shape:
    """Return a list of one value of each shape."""

    def check(value: Any, where: str, met: Met) -> list[Any]:
        list_of(lambda one, *_: one, len(shapes))(value, where, met)
        return [
            shape(one, f"{where}/{number}", met)
            for number, (shape, one) in enumerate(zip(shapes, value, strict=True))
        ]

    return check


def _fits(value: float | int, low: float | int = -LARGEST, high: float | int = LARGEST) -> bool:
    return low <= value <= high  # NaN is in no range


def real(low: float | int = -LARGEST, high: float | int = LARGEST) -> Shape:
    """Return a finite number in a range."""

    def check(value: Any, where: str, met: Met) -> Any:
        kinds = int | float | np.integer | np.floating
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _unexpected(where, "a number", value)
        if not _fits(value, low, high):
            raise _unexpected(where, f"a number from {low:g} to {high:g}", value)
        return value

    return check


_ANY_REAL = real()


def whole(low: int = 0, high: int = 1_000_000) -> Shape:
    """Return a whole number in a range, which JSON may write with `.0`."""

    def check(value: Any, where: str, met: Met) -> int:
        if _ANY_REAL(value, where, met) != int(value) or not _fits(value, low, high):
            raise _unexpected(where, f"a whole number from {low} to {high}", value)
        return int(value)

    return check


def place_in(length: str) -> Shape:
    """Return the place of a value in a list, whose length has this name."""
    return lambda value, where, met: whole(0, met[length] - 1)(value, where, met)


def one_of(*names: str) -> Shape:
    """Return one of these texts."""

    def check(value: Any, where: str, met: Met) -> str:
        if not isinstance(value, str) or value not in names:
            raise _unexpected(where, f"one of {', '.join(names)}", value)
        return value

    return check


def one_met(names: str) -> Shape:
    """Return one of the keys that have this name."""

    def check(value: Any, where: str, met: Met) -> str:
        return letters(one_of(*met[names])(value, where, met), where, met)

    return check


def anything(value: Any, where: str, met: Met) -> Any:
    """Return any value, unchecked."""
    return value


def flag(value: Any, where: str, met: Met) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise _unexpected(where, "true or false", value)
    return value


def text(most: int = 10_000) -> Shape:
    """Return the shape of any text, as it is."""

    def check(value: Any, where: str, met: Met) -> str:
        if not isinstance(value, str):
            raise _unexpected(where, "a text", value)
        if len(value) > most:
            raise ValueError(
                f"Expected '{texts.in_a_line(where, 200)}' to have {most:,} letters at most; got "
                f"{len(value):,}"
            )
        return value

    return check


def letters(value: Any, where: str, met: Met) -> str:
    """Return a text for a figure, as matplotlib draws it letter by letter."""
    return as_drawn(text()(value, where, met))


# In a curve, or beside all numbers; see `losses`.
LOSS = {"loss_name": optional(or_none(letters))}


def takes(**shapes: Shape) -> Callable:
    """Make a plot check its numbers first: an object of these fields, and a `loss_name`.

    The plot's attribute `checked` is the check alone, which returns numbers fit to be drawn.
    """
    shape = fields(**LOSS, **shapes)

    def decorate(draw: Callable[[Figure, Mapping[str, Any]], None]) -> Callable:
        def checked(numbers: Any) -> dict[str, Any]:
            return shape(numbers, "numbers", {})

        @functools.wraps(draw)
        def draw_checked(fig: Figure, numbers: Mapping[str, Any]) -> None:
            draw(fig, checked(numbers))

        draw_checked.checked = checked
        return draw_checked

    return decorate


def array(*lengths: int | str, least: int = 1) -> Shape:
    """Return a list of numbers; with several lengths, an array of so many dimensions."""
    shape = _ANY_REAL
    for length in reversed(lengths or ("",)):
        shape = list_of(shape, length, least=least)
    return shape


def hole(value: Any, where: str, met: Met) -> float | int | None:
    """Return a number; or null, NaN or an infinity, where nothing is drawn."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return _ANY_REAL(value, where, met)


def holed(*lengths: str) -> Shape:
    """Return an array in which numbers may be missing."""
    shape = hole
    for length in reversed(lengths):
        shape = list_of(shape, length)
    return shape


def pixels(value: Any, where: str, met: Met) -> list[Any]:
    """Return H x W numbers, or H x W x 3, of any size."""
    colours = (3,) if _is_nested(value) else ()
    return alone(array("height", "width", *colours))(value, where, met)


def _is_nested(value: Any) -> bool:
    lists = (list, tuple, np.ndarray)
    return (
        isinstance(value, lists)
        and len(value) > 0
        and (isinstance(value[0], lists) and len(value[0]) > 0 and isinstance(value[0][0], lists))
    )


def as_drawn(content: str) -> str:
    r"""Return a text such that matplotlib draws it letter by letter.

    Dollar signs start no formula. Characters that a terminal would obey, or that the font lacks,
    are escaped as in Python, such as `\u5c42`. A leading underscore, which would hide a label from
    a legend, follows a space of no width. The middle of a long text is left out.
    """
    shown = texts.plain(content, MOST_LETTERS).expandtabs(4)
    lacking = {sign for sign in set(shown) if ord(sign) > 126 and ord(sign) not in _font_signs()}
    for sign in lacking:
        shown = shown.replace(sign, sign.encode("unicode_escape").decode())
    return ("\u200b" if shown.startswith("_") else "") + shown.replace("$", r"\$")


@functools.cache
def _font_signs() -> frozenset[int]:
    """Return the characters that the font of all figures can draw; it comes with matplotlib."""
    path = font_manager.findfont("DejaVu Sans")
    return frozenset(font_manager.get_font(path).get_charmap())


def _check_size(where: str, size: int, least: int, most: int) -> None:
    if not least <= size <= most:
        raise ValueError(
            f"Expected '{texts.in_a_line(where, 200)}' to hold {least} to {most:,} values; got "
            f"{size:,}"
        )


def _unexpected(where: str, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"Expected '{texts.in_a_line(where, 200)}' to be {expected}; got {_shortened(value)}"
    )


def _shortened(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", type(None): "null", bool: str(value).lower()}
    shown = kinds.get(type(value)) or (value if isinstance(value, str) else repr(value))
    return texts.in_a_line(shown, 120)
