"""What a signature's annotations refuse, and how that is said."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import checks

FITS = [
    (checks.Count, [1, np.int64(3), 10**9]),
    (checks.Seed, [0, np.uint32(7), 2**63 - 1]),
    (checks.Positive, [1e-9, 3, np.float32(2)]),
    (checks.Count | None, [None, 1]),
    (bool, [True, np.False_]),
    (Sequence[float], [[1, 2.0], (), np.ones(3), range(3)]),
    (tuple[float, float], [(0, 1), [0.5, 1.0]]),
    (tuple[str, ...], [(), ["a"]]),
    (Mapping[str, int], [{}, {"a": 1}]),
    (Callable[[], None], [print]),
    (Literal["a", "b"], ["a"]),
    (Path, [Path("x")]),
    (Any, [None, object()]),
]
REFUSED = [
    (checks.Count, 0, "x to be a positive int; got 0 in f"),
    (checks.Count, True, "x to be a positive int; got True"),
    (checks.Count, 2.0, "x to be a positive int; got 2.0"),
    (checks.Points, 1, "x to be an int of at least 2; got 1"),
    (checks.Seed, -1, "x to be an int of at least 0; got -1"),
    (checks.Seed, 2**63, r"at least 0; got 9223372036854775808 in f\. At most 9,223,.* will do"),
    (checks.Fraction, float("nan"), "x to be a number from 0 to 1; got nan"),
    (checks.Positive, "1", "x to be a positive number; got '1'"),
    (checks.Count | None, [], r"x to be a positive int or None; got \[\]"),
    (Collection[str] | None, "a", "x to be None or a list, each item a text; got 'a'"),
    (bool, "no", "x to be true or false; got 'no'"),
    (Sequence[str], "ab", r"x to be a list, each item a text; got 'ab' in f\. Write \['ab'\]"),
    (Sequence[str], ["a", 3], r"x\[1\] to be a text; got 3"),
    (Sequence[str], iter("ab"), r"got a str_.*iterator in f\. Write list\(\.\.\.\) around it"),
    (tuple[float, float], (1,), r"x to be two numbers; got \(1,\)"),
    (Mapping[str, int], {"a": "b"}, r"x\['a'\] to be an int; got 'b'"),
    (Mapping[str, int], {3: 4}, "every key of x to be a text; got 3"),
    (Callable[[], None], None, "x to be a function; got None"),
    (
        Literal["low", "high"],
        "hihg",
        r"x to be 'low' or 'high'; got 'hihg' in f \(do you mean high",
    ),
    (Path, "x", r"x to be a pathlib.Path; got 'x' in f\. Write pathlib.Path"),
]


@pytest.mark.parametrize(("hint", "values"), FITS, ids=[str(hint) for hint, _ in FITS])
def test_what_fits_passes(hint, values):
    for value in values:
        checks.argument("x", value, hint, "f")


@pytest.mark.parametrize(("hint", "value", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_does_not_fit_is_named(hint, value, message):
    with pytest.raises(ValueError, match=message):
        checks.argument("x", value, hint, "f")


@checks.arguments
def checked(first: int, *rest: str, last: bool = False, **options: float) -> tuple:
    """A function like any other."""
    return first, rest, last, options


def test_a_checked_function_is_the_function():
    assert checked(1, "a", last=True, z=0.5) == (1, ("a",), True, {"z": 0.5})
    assert (checked.__name__, checked.__doc__) == ("checked", "A function like any other.")
    with pytest.raises(TypeError, match="missing"):  # as Python says it
        checked()


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [(("1",), {}, "first"), ((1,), {"last": 1}, "last"), ((1,), {"z": "0.5"}, "z")],
)
def test_the_argument_is_named(arguments, options, name):
    with pytest.raises(ValueError, match=f"Expected {name} to be .* in checked"):
        checked(*arguments, **options)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.ones((2, 3), "f4"), "an array of float32, shape (2, 3)"),
        ({"w": np.ones(2)}, "a dict"),
        (int, "the class int"),
        (test_what_fits_passes, "the function test_what_fits_passes"),
        (np.float64(0.5), "0.5"),
        ("a\nb", r"'a\nb'"),
        ("x" * 1000, "'" + "x" * 37 + "..." + "x" * 38 + "'"),
        ([1, (2, "a")], "[1, (2, 'a')]"),
    ],
)
def test_what_came_is_short(value, shown):
    assert checks.shortened(value) == shown


def test_a_list_in_itself_is_no_trouble():
    circle = []
    circle.append(circle)
    assert checks.shortened(circle) == "a list"


@checks.renamed(old="new")
def doubled(*, new=1):
    return 2 * new


def test_an_argument_is_taken_by_its_old_name_with_a_warning():
    with pytest.warns(DeprecationWarning, match="argument old of doubled is called new now"):
        assert doubled(old=3) == doubled(new=3) == 6
    with pytest.raises(TypeError, match="old"):
        doubled(old=3, new=3)


@pytest.mark.parametrize(
    ("fn", "old"),
    [
        (rl.compare_matchers, "found"),
        (rl.compare_matchers, "evaluated_on"),
        (rl.reliability_curve, "of"),
        (rl.train_all, "wanted"),
    ],
)
def test_arguments_of_the_last_release_are_known(fn, old):
    with (
        pytest.warns(DeprecationWarning, match=f"{old} of"),
        pytest.raises((TypeError, ValueError)),
    ):
        fn(**{old: None})
