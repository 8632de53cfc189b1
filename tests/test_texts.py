import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rebasin_lab import paths, texts

HOSTILE = {
    "clears the screen": "a\x1b[2Jb",
    "colours": "a\x1b[0;31mb\x1b[0m",
    "8-bit CSI": "a\x9b2Jb",
    "window title": "a\x1b]0;title\x07b",
    "link": "a\x1b]8;;http://example.org\x1b\\b",
    "unfinished sequence": "a\x1b[12",
    "reset": "a\x1bcb",
    "bell": "a\x07b",
    "NUL": "a\x00b",
    "backspaces": "a\x08\x08b",
    "carriage return": "a\rb",
    "vertical": "a\x0b\x0cb",
    "bidirectional override": "a\u202eb",
    "isolate": "a\u2066b",
    "mark": "a\u200f\u061cb",
    "surrogate": "a\udc80b",
    "separators": "a\u2028b\u2029",
    "next line": "a\x85b",
    "byte order mark": "\ufeffab",
    "tags": "a\U000e0041b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_a_terminal_obeys_is_left_and_what_is_to_be_read_stays(text):
    shown = texts.plain(text)
    left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Cf")}
    assert left <= {"\n"}
    assert "a" in shown
    shown.encode()


@given(st.text(alphabet=st.characters(), max_size=400), st.integers(100, 300))
@example("\x1b]" * 200, 100)
@example("\ud83d\ude00" * 100, 100)
def test_any_text_becomes_one_that_can_be_written_and_is_no_longer_than_asked(text, most):
    shown = texts.plain(text, most)
    assert len(shown) <= most
    assert not set(shown) & {*map(chr, range(9)), *map(chr, range(11, 32)), "\x7f", "\u202e"}
    shown.encode()
    assert texts.plain(shown, most) == shown
    assert len(texts.in_a_line(text, most).splitlines()) <= 1


def test_ordinary_text_is_kept_as_it_is():
    for text in ("λ = 0.5\n\tloss ✓", "日本語", "שלום", "می‌خواهم", "👩‍🔬", "C:\\new\\table", ""):
        assert texts.plain(text) == text


def test_the_middle_of_a_long_text_is_left_out():
    shown = texts.plain("begin" + "x" * 1_000_000 + "end")
    assert len(shown) <= texts.MOST_CHARACTERS
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "characters ...]" in shown


def test_a_path_is_shown_in_one_line_without_escapes(tmp_path):
    shown = paths.shown(tmp_path / "a\x1b[2J\nb\udcff")
    assert shown.endswith("a\\nb\\udcff")


def test_a_stream_of_few_characters_takes_all():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    texts.never_fails(stream)
    print("✓", file=stream, flush=True)
    assert raw.getvalue().split() == [b"\\u2713"]
    stream.close()
    texts.never_fails(stream)
    texts.never_fails(io.StringIO())
