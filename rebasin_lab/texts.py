"""Make untrusted texts safe to show: error messages, file names, output of notebooks.

Such a text may have any length and content. Terminals interpret escape sequences, web pages apply
bidirectional overrides, and half a surrogate pair cannot be encoded.
"""

import contextlib
import html
import io
import re

MOST_CHARACTERS = 2_000  # of an error message; about a screen
MOST_LOGGED = 100_000  # of a traceback, or of one output of a notebook

# Colours, cursor moves, window titles (ECMA-48). Incomplete sequences are escaped, not removed.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,100}[ -/]{0,10}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,1000}(?:\x07|\x1b\\|\x9c)"
)
# Controls except tab and newline; format characters except soft hyphen and the joiners of scripts
# and emoji; surrogates; line and paragraph separators; noncharacters.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f\ud800-\udfff]"
)


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""The text without control sequences, of bounded length.

    Escape sequences are removed. Other control characters, bidirectional overrides and halves of
    surrogate pairs are written as Python escapes, such as `\x07`. Newlines, tabs and the letters of
    all languages stay; a carriage return becomes a newline.

    Args:
        text: any text.
        most: the largest number of characters, at least 100; a longer text loses its middle.
    """
    text = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    text = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if len(text) <= most:
        return text
    head = (most - 50) // 2
    tail = most - 50 - head
    return f"{text[:head]}[... {len(text) - head - tail:,} characters ...]{text[-tail:]}"


def in_a_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The `plain` text with newlines and tabs escaped."""
    return plain(text, most).replace("\n", "\\n").replace("\t", "\\t")


def as_html(text: str, most: int = 10_000) -> str:
    """The `plain` text for HTML, between tags or in a quoted attribute."""
    return html.escape(plain(text, most), quote=True)


def never_fails(stream: io.TextIOBase) -> None:
    r"""Let a stream escape characters that its encoding lacks, as `\u2713`: a log may be ASCII."""
    if isinstance(stream, io.TextIOWrapper):
        with contextlib.suppress(ValueError):  # closed
            stream.reconfigure(errors="backslashreplace")
