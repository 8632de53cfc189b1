"""Texts from elsewhere, made fit to be shown: error messages, names of files, notebooks' output.

Such a text may be of any length and hold anything. A terminal obeys escape sequences, a page shows
bidirectional overrides, and half a surrogate pair can be written nowhere.
"""

import contextlib
import html
import io
import re

MOST_CHARACTERS = 2_000  # of an error message; about a screen
MOST_LOGGED = 100_000  # of a traceback, or of what a notebook printed at once

# Colours, cursor moves, window titles (ECMA-48). What is no whole sequence is escaped, not removed.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,100}[ -/]{0,10}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,1000}(?:\x07|\x1b\\|\x9c)"
)
# Controls but tab and newline; format characters but soft hyphen and the joiners of scripts and
# emoji; surrogates; line and paragraph separators; what is no character.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f\ud800-\udfff]"
)


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""A text with nothing in it that a terminal, a page or a file would act on, of bounded length.

    Escape sequences are removed. Any other control character, bidirectional override or half of a
    surrogate pair is written as Python would, such as `\x07`. Newlines, tabs and all that is
    written in some language stay; a carriage return becomes a newline.

    Args:
        text: any text.
        most: how many characters to keep, at least 100; of a longer text the middle is left out.
    """
    text = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    text = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if len(text) <= most:
        return text
    head = (most - 50) // 2
    tail = most - 50 - head
    return f"{text[:head]}[... {len(text) - head - tail:,} characters ...]{text[-tail:]}"


def in_a_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The same, with newlines and tabs written out."""
    return plain(text, most).replace("\n", "\\n").replace("\t", "\\t")


def as_html(text: str, most: int = 10_000) -> str:
    """The same, for a page: between tags or in an attribute's quotes."""
    return html.escape(plain(text, most), quote=True)


def never_fails(stream: io.TextIOBase) -> None:
    r"""Have a stream write characters its encoding lacks as `\u2713`: a log may be ASCII."""
    if isinstance(stream, io.TextIOWrapper):
        with contextlib.suppress(ValueError):  # closed
            stream.reconfigure(errors="backslashreplace")
