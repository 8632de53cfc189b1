r"""Snippets for a paper or a page: a figure with its caption and alternative text.

Captions and alternative texts are plain text, so signs that Markdown or LaTeX would take for a
command are escaped, and letters that a LaTeX font may lack are written as commands. Paths are
relative to the snippet's own folder in Markdown and MyST; in LaTeX, which looks from the main
document, they are relative to the folder of the export.

No snippet needs a package beyond `graphicx`. The alternative text goes to `\Description`, as ACM's
class has it; other classes get a definition that drops it.
"""

import itertools
import json
import os
import re
import unicodedata
from urllib.parse import quote

from rebasin_lab import texts

MOST_LETTERS = 10_000  # of a caption

_GREEK = "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma"
_GREEK += " tau upsilon varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
_MATHEMATICS = {
    letter: rf"\{name}"
    for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ", _GREEK.split(), strict=True)
} | {
    "µ": r"\mu",
    "×": r"\times",
    "·": r"\cdot",
    "±": r"\pm",
    "−": "-",
    "≤": r"\leq",
    "≥": r"\geq",
    "≠": r"\neq",
    "≈": r"\approx",
    "→": r"\to",
    "∞": r"\infty",
    "∈": r"\in",
    "∘": r"\circ",
    "∇": r"\nabla",
    "∂": r"\partial",
    "√": r"\surd",
    "‖": r"\Vert",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    "°": r"{}^{\circ}",
    "′": r"{}'",
    "²": "{}^2",
    "³": "{}^3",
}
_TEXT = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",  # the old fonts have other signs in the places of these three
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"{}\textquoteleft{}",  # after ? or ! it would make one sign with it
    "‘": "{}`",
    "’": "'",
    "“": "``",
    "”": "''",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "\u00a0": "~",
}
# Of a Markdown with mathematics, roles and tables: MyST's and GitHub's, which also makes links of
# texts like one. In front of a paragraph any sign may mean more: a rule, a comment, a list.
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~$^&@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_IN_FRONT = re.compile(r"\A(?:\d+[.)](?=\s|\Z)|[!-/:-?])")
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def latex_text(text: str) -> str:
    """Escape plain text for LaTeX.

    A power of numbers, such as 10^551, becomes one. A sign that is neither in the tables here nor
    a Latin letter is replaced by its Unicode name, in brackets: LaTeX would stop at it.
    """
    parts = re.split(r"(?<![\w.])(\d+\^-?\d+(?:\.\d+)?)", _one_line(text))
    return "".join(
        _power(part) if index % 2 else _escaped(part) for index, part in enumerate(parts)
    )


def _power(text: str) -> str:
    base, exponent = text.split("^")
    return f"${base}^{{{exponent}}}$"


def _escaped(text: str) -> str:
    # Straight quotes are curly in print.
    text = re.sub(r'(^|[\s(\[])"', r"\1“", text).replace('"', "”")
    runs = itertools.groupby(text, key=_MATHEMATICS.__contains__)
    escaped = "".join(
        f"${''.join(map(_MATHEMATICS.get, run))}$" if is_math else "".join(map(_latex_sign, run))
        for is_math, run in runs
    )
    return re.sub("[-,](?=[-,])", r"\g<0>{}", escaped)  # two of them would be joined to one sign


def _latex_sign(sign: str) -> str:
    if sign in _TEXT:
        return _TEXT[sign]
    name = unicodedata.name(sign, f"U+{ord(sign):04X}")
    if sign.isascii() or (sign < "\u0180" and name.startswith("LATIN")):
        return sign
    return f"[{name.lower()}]"


def markdown_text(text: str, *, in_front: bool = True) -> str:
    """Escape plain text for Markdown.

    Args:
        text: plain text.
        in_front: whether it may begin a line; the cell of a table does not.
    """
    escaped = _MARKDOWN.sub(r"\\\g<0>", _one_line(text))
    if in_front:
        escaped = _IN_FRONT.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", escaped)
    return escaped


def markdown_code(text: str) -> str:
    """Return plain text as code in Markdown."""
    text = _one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * (not text or text.startswith("`") or text.endswith("`"))
    return f"{fence}{space}{text}{space}{fence}"


def markdown_link(path: str) -> str:
    """Return a relative path as where a link of Markdown leads."""
    return quote(os.fsencode(path))


def latex_figure(
    name: str,
    picture: str,
    *,
    caption: str,
    alt: str,
    width_inches: float,
    over_two_columns: bool,
) -> str:
    """Return a `figure` environment with caption and label.

    Args:
        name: "notebook/figure", from which the label is made.
        picture: path of a PDF or PNG, relative to the folder of the export, of letters that LaTeX
            takes, see `export.file_name`.
        caption: plain text.
        alt: plain text.
        width_inches: as drawn, so that text keeps its size; in a narrower column it is smaller.
        over_two_columns: whether it is a `figure*`.

    Raises:
        ValueError: for another path.
    """
    _check_path(picture)
    environment = "figure*" if over_two_columns else "figure"
    drawn = f"{width_inches:g}in"
    width = rf"\ifdim\linewidth<{drawn} \linewidth\else{drawn}\fi"
    lines = [
        r"% Needs \usepackage{graphicx}; \graphicspath{{FOLDER/}} says where the figures are.",
        r"\providecommand{\Description}[2][]{}",
        rf"\begin{{{environment}}}",
        r"  \centering",
        rf"  \includegraphics[width={width}]{{{picture}}}",
        rf"  \Description{{{latex_text(alt)}}}",
        rf"  \caption{{{latex_text(caption)}}}",
        rf"  \label{{fig:{identifier(name)}}}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def markdown_figure(picture: str, *, caption: str, alt: str) -> str:
    """Return an image with alternative text, and the caption under it.

    Args:
        picture: path of an SVG or PNG, relative to the page.
        caption: plain text.
        alt: plain text.
    """
    return f"![{markdown_text(alt)}]({markdown_link(picture)})\n\n{markdown_text(caption)}\n"


def myst_figure(name: str, picture: str, *, caption: str, alt: str) -> str:
    """Return MyST's `figure` directive, with a name to refer to.

    Options stand in a block of YAML, in quotes: MyST-Parser and mystmd read both alike there, while
    in `:alt: text` one takes the quotes off and the other does not, and a colon or a # in a text
    without quotes is taken for something else.

    Raises:
        ValueError: for a path of other letters than `export.file_name` has.
    """
    _check_path(picture)
    options = {"alt": _one_line(alt), "name": f"fig-{identifier(name)}"}
    block = "\n".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in options.items()
    )
    return f"```{{figure}} {picture}\n---\n{block}\n---\n{markdown_text(caption)}\n```\n"


def identifier(name: str) -> str:
    """Return a name for a label: of small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _one_line(text: str) -> str:
    """Join lines: an empty one ends a caption in LaTeX, and a paragraph in Markdown."""
    return " ".join(texts.plain(text, MOST_LETTERS).split())


def _check_path(picture: str) -> None:
    if not _PATH.fullmatch(picture):
        raise ValueError(
            "Expected the path of a picture to have letters (of ASCII), digits, '.', '_' and '-' "
            f"only; got {texts.in_a_line(repr(picture), 120)}. LaTeX and MyST take others for "
            "commands: rename the file."
        )
