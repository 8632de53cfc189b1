"""A permutation spec as JSON text.

Reading is strict: text that this version would not write, such as an unknown field, is an error.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rebasin_lab import checks, strict_json

FORMAT = "rebasin_lab.PermutationSpec"
VERSION = 1
MOST_POSITIONS = (
    4 * 10**6
)  # a thousand leaves of 2,000 channels that are shuffled have half of that
_RANGE = re.compile(r"(\d{1,18}):(\d{1,18})")
_FIELDS = ("format", "version", "axes", "group_sizes", "explanations")


def encode(
    axes: dict, group_sizes: dict, explanations: dict, assumptions: Sequence[str] = ()
) -> str:
    """The fields of a spec as JSON, in their order; assumptions only if there are any."""
    values = (FORMAT, VERSION, axes, group_sizes, explanations)
    record = dict(zip(_FIELDS, values, strict=True))
    return json.dumps(
        record | ({"assumptions": list(assumptions)} if assumptions else {}), indent=1
    )


def decode(text: str) -> dict[str, Any]:
    """The fields `axes`, `group_sizes`, `explanations` and `assumptions`, with tuples for lists.

    Raises:
        ValueError: if the text is no JSON, or not what `encode` writes.
    """
    if not isinstance(text, str):
        raise ValueError(
            f"Expected a permutation spec as JSON text; got a {type(text).__name__}. Read the file "
            "first, with Path(...).read_text()."
        )
    try:
        record = strict_json.parsed(text)
    except ValueError as error:
        raise ValueError(
            f"Expected a permutation spec as JSON, such as to_json writes; got "
            f"{checks.shortened(text)}, which cannot be read: {error}."
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"Expected an object with 'format': '{FORMAT}'; got {text[:60]!r}.")
    version = record.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"Expected a permutation spec of format version {VERSION}; got {version!r}. "
            "Write it again with `to_json` of this version of rebasin_lab."
        )
    if sorted(record.keys() - {"assumptions"}) != sorted(_FIELDS):
        raise ValueError(f"Expected the fields {list(_FIELDS)}; got {list(record)}.")
    entries = _mapping(record, "axes", _list_of("texts and nulls", str, type(None)))
    _check_positions(entry for leaf in entries.values() for entry in leaf if entry)
    return {
        "axes": entries,
        "group_sizes": _mapping(record, "group_sizes", _integer),
        "explanations": _mapping(record, "explanations", _list_of("texts", str)),
        "assumptions": _list_of("texts", str)("'assumptions'", record.get("assumptions", [])),
    }


def _check_positions(entries: Iterable[str]) -> None:
    """Check the number of positions in ranges such as 0:64, before they are expanded."""
    ranges = (found for entry in entries for found in _RANGE.findall(entry))
    if sum(max(0, int(end) - int(start)) for start, end in ranges) > MOST_POSITIONS:
        raise ValueError(f"Expected at most {MOST_POSITIONS:,} positions in all; got more.")


def _mapping(record: dict, field: str, read: Callable[[str, Any], Any]) -> dict[str, Any]:
    if not isinstance(record[field], dict):
        raise ValueError(f"Expected '{field}' to be an object; got {record[field]!r}.")
    return {name: read(f"'{field}' of '{name}'", value) for name, value in record[field].items()}


def _list_of(what: str, *kinds: type) -> Callable[[str, Any], tuple]:
    def read(where: str, value: Any) -> tuple:
        if not isinstance(value, list) or not all(isinstance(item, kinds) for item in value):
            raise ValueError(f"Expected {where} to be a list of {what}; got {value!r}.")
        return tuple(value)

    return read


def _integer(where: str, value: Any) -> int:
    if type(value) is not int:  # True is an int for isinstance
        raise ValueError(f"Expected {where} to be a whole number; got {value!r}.")
    return value
