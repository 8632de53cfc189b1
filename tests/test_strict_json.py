import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab import paths, strict_json

BAD = {
    "empty": (b"", "Expected JSON"),
    "spaces": (b" \n", "Expected JSON"),
    "no JSON": (b"text", "Expected JSON"),
    "cut short": (b'{"a": [1, 2', "Expected JSON"),
    "more after it": (b"{} {}", "Expected JSON"),
    "single quotes": (b"{'a': 1}", "Expected JSON"),
    "a comma too many": (b"[1, 2,]", "Expected JSON"),
    "a comment": (b"[1] // one", "Expected JSON"),
    "a newline in a string": (b'"a\nb"', "Expected JSON"),
    "NUL": (b'"a\x00b"', "Expected JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "latin-1": ('"é"'.encode("latin-1"), "UTF-8; got other bytes at byte 1"),
    "UTF-16": ("{}".encode("utf-16"), "UTF-8"),
    "UTF-16 without mark": ('{"a": 1}'.encode("utf-16-le"), "Expected JSON"),
    "UTF-32": ("{}".encode("utf-32"), "UTF-8"),
    "a surrogate in UTF-8": (b'"\xed\xa0\x80"', "UTF-8"),
    "binary": (bytes(range(256)), "UTF-8"),
    "half of a pair": (rb'"\ud83d"', "half of a surrogate pair"),
    "half of a pair in a name": (rb'{"a\uDC00": 1}', "half of a surrogate pair"),
    "NaN": (b"[NaN]", "finite numbers; got NaN"),
    "infinity": (b"[-Infinity]", "finite numbers; got -Infinity"),
    "too large a float": (b"[1e999]", "finite numbers"),
    "too large an integer": (b"[1%s]" % (b"0" * 20), "of 64 bits"),
    "thousands of digits": (b"9" * 10_000, "Expected"),
    "a name twice": (b'{"a": 1, "b": 2, "a": 3}', "'a' twice"),
    "a name twice, within": (b'[{"a": {"b": 1, "b": 1}}]', "'b' twice"),
    "a long name twice": (b'{"%s": 1, "%s": 2}' % (b"x" * 9000, b"x" * 9000), "characters"),
    "100 lists deep": (b"[" * 100 + b"]" * 100, "64 deep"),
    "a million lists deep": (b"[" * 10**6, "64 deep"),
    "objects, deep": (b'{"a":' * 100 + b"1" + b"}" * 100, "64 deep"),
    "too many values": (b"[" + b"0," * 2_000_001 + b"0]", "2,000,000 values"),
    "too many lists": (b"[" + b"[]," * 2_000_001 + b"[]]", "2,000,000 values"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_no_strict_json_is_refused_in_a_line_and_soon(content, message):
    began = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        strict_json.parsed(content)
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_too_many_bytes_are_refused():
    assert strict_json.parsed(b"[1]", most_bytes=3) == [1]
    with pytest.raises(ValueError, match="Expected 2 bytes at most"):
        strict_json.parsed(b"[1]", most_bytes=2)


def test_commas_in_strings_are_no_values():
    text = json.dumps(['\\",[' * 500_000, "[" * 10**6])
    assert strict_json.parsed(text) == json.loads(text)


@pytest.mark.parametrize("text", ['"\\"' * 10**6, "\\" * 10**6 + '"', '"' + "\\" * 10**6])
def test_strings_without_an_end_take_no_time(text):
    began = time.monotonic()
    with pytest.raises(ValueError, match="Expected"):
        strict_json.parsed("," * 2_000_001 + text + "]")
    assert time.monotonic() - began < 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_python_writes_reads_back(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert strict_json.parsed(text) == strict_json.parsed(text.encode()) == value


def test_numbers_that_are_none_are_taken_where_they_are_asked_for():
    low, high, nan = strict_json.parsed("[-Infinity, 1e999, NaN]", finite=False)
    assert (low, high) == (-float("inf"), float("inf"))
    assert nan != nan


def make_loop(path):
    path.symlink_to(path.name)


NO_FILES = {"folder": os.mkdir, "pipe": os.mkfifo, "loop": make_loop, "gone": lambda path: None}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "a.json")
    with pytest.raises((ValueError, OSError), match=r"a\.json"):
        paths.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [content for content, _ in BAD.values()], ids=BAD)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected '.*a\.json' to hold JSON; it cannot be read"):
        paths.read_json(tmp_path / "a.json")
