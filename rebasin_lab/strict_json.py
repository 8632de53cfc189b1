"""Read untrusted JSON, strictly and within bounds.

A file may have been edited, truncated, or written to do harm. Extensions of Python's reader are
errors here (duplicate names, other encodings, NaN, numbers beyond every type, half a surrogate
pair), and so are values that would fill the memory or the stack.
"""

import collections
import json
import math
import re
from typing import Any

from rebasin_lab import texts

MOST_BYTES = 100_000_000
MOST_VALUES = 2_000_000  # a figure of this project has some ten thousand
MOST_DEPTH = 64  # lists and objects inside each other; a figure has 7, a notebook about 10

# A string, to its end or that of the text, without backtracking.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_TOO_LARGE = "Expected whole numbers of 64 bits at most; got a larger one"
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def parsed(content: bytes | str, *, most_bytes: int = MOST_BYTES, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        content: bytes are UTF-8, without a byte order mark.
        most_bytes: of the text.
        finite: False also accepts NaN and the infinities, as Python writes them.

    Raises:
        ValueError: for anything else, saying what is wrong and, if known, where.
    """
    if len(content) > most_bytes:
        raise ValueError(f"Expected {most_bytes:,} bytes at most; got more")
    if isinstance(content, bytes):
        try:
            content = content.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"Expected UTF-8; got other bytes at byte {error.start:,}") from error
    _check_num_values(content)
    try:
        value = json.loads(
            content,
            object_pairs_hook=_without_repeats,
            parse_constant=float if finite is False else _refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"Expected JSON; got something else: {error}") from error
    except ValueError as error:
        if str(error).startswith("Expected"):
            raise
        raise ValueError(_TOO_LARGE) from error  # Python reads no more than 4,300 digits
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check_values(value, finite=finite)
    if _SURROGATE.search(content) or not content.isascii():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("Expected text; got half of a surrogate pair in a string") from error
    return value


def _check_num_values(text: str) -> None:
    if sum(map(text.count, ",[{")) <= MOST_VALUES:  # an upper bound
        return
    if sum(map(_STRING.sub("", text).count, ",[{")) > MOST_VALUES:
        raise ValueError(f"Expected {MOST_VALUES:,} values at most; got more")


def _check_values(value: Any, *, finite: bool) -> None:
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, float) and finite and not math.isfinite(each):
                raise ValueError("Expected finite numbers; got one too large for any type")
            elif isinstance(each, int) and abs(each) >= 2**64:
                raise ValueError(_TOO_LARGE)
        level, depth = below, depth + 1
        if depth > MOST_DEPTH + 1:
            raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"Expected lists and objects {MOST_DEPTH} deep at most; got deeper ones"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        shown = texts.in_a_line(repr(twice), 120)
        raise ValueError(f"Expected every name once in a JSON object; got {shown} twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"Expected finite numbers; got {name}")
