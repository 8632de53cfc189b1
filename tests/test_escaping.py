"""Texts from elsewhere stay text: in figures, snippets, pages and on a terminal.

What is written is read back by a program of somebody else's, which has to find the same text, and
nothing but text.
"""

import html.parser
import json
import os
import re
import string
import warnings
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import legibility
import rebasin_lab as rl
from rebasin_lab import cli, paths, texts
from rebasin_lab.lab import figure_export, figures, plots, session
from rebasin_lab.lab.figure_export import export, snippets
from rebasin_lab.lab.plots import shapes
from rebasin_lab.lab.widgets import fragments
from rebasin_lab.paper import claims
from rebasin_lab.symmetry import display

HOSTILE = [
    r"a$\frac$",
    "$x$ and $y$",
    "x" * 15 + "$" + "y" * 14 + "$",
    r"\$5 or 5\$ \\$ $",
    "_hidden",
    "%s {} #1 ~^&",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='x",
    "&lt;b&gt; &amp;",
    "a|b|c",
    "**bold** `code` [a](javascript:x) ![i](u) ~~no~~ ==mark== {role}`x` {{sub}}",
    "```{include} /etc/passwd```",
    "\\input{/etc/passwd} \\end{figure} ^^5c",
    "# heading",
    "- item",
    "---",
    "===",
    "12) item",
    "+",
    "(target)=",
    "% comment",
    ":::{note}",
    "    code",
    "http://x.example/a_b www.x.example a@b.example",
    "a\x1b[2J\x07b",
    "a\u202egnp.exe",
    "half \ud83d of a pair",
    "层 of 日本語",
    "two\nlines\n\nand more",
    "x" * 5_000,
    "",
]


def in_one_line(text):
    return " ".join(texts.plain(text, 10_000).split())


class Read(html.parser.HTMLParser):
    """The elements of a page, its text, and the values of attributes."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.values = [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.values += [value for _, value in attributes]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


# Figures


SIGNS = st.text(string.printable.strip() + " $\\{}^_λπéß∥∞", max_size=60)


@given(SIGNS)
@example(r"a$\frac$")
@example(r"\\$$\$_$")
@settings(max_examples=60, deadline=None)
def test_figures_show_texts_letter_by_letter(text):
    figure = Figure()
    with figures.drawing(), warnings.catch_warnings(action="error"):
        figure.text(0.5, 0.5, shapes.as_drawn(text))
        shown = [one.content for one in legibility.drawn_texts(figure)]
    assert "".join(shown).removeprefix("\u200b") == (text if text.strip() else "")


@given(st.text(st.characters(), max_size=300))
@example("层 \x00 \ud800 \ufffe \u200d 👩‍🔬")
@example("\\\n" * 100)
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_drawn_without_a_warning(text):
    figure = Figure()
    with figures.drawing(), warnings.catch_warnings(action="error"):
        figure.text(0.5, 0.5, shapes.as_drawn(text))
        figure.draw_without_rendering()


CURVES = {"lambdas": [0.0, 1.0], "levels": {}, "ylabel": "y", "limit": None}
NAMED = {  # plots that draw names of any kind, as keys
    "objective": lambda name: {"objectives": {name: [0.0, 1.0]}, "visits_per_sweep": 1},
    "loss_lines_with_levels": lambda name: (
        CURVES | {"curves": {name: [0.0, 1.0]}, "levels": {name: 0.5}, "ylabel": name}
    ),
    "search": lambda name: {
        "objective": [0.0, 1.0],
        "quantity": name,
        "visits_per_sweep": 1,
        "layers": {name: [0.0, 1.0]},
    },
    "symmetry_group": lambda name: {
        "rows": [{"name": name, "fixed": True}, {"name": f"{name[:20]}/{name}", "fixed": False}],
        "groups": [
            {
                "name": name,
                "shape": [3],
                "kind": "shared",
                "pinned": True,
                "rows": [0, 1],
                "num_leaves": 2,
            }
        ],
    },
}


@pytest.mark.parametrize("plot", NAMED)
def test_names_of_any_kind_are_drawn(plot):
    for name in HOSTILE:
        with figures.drawing():
            figure = Figure(figsize=(8, 4))
            plots.draw(figure, plot, NAMED[plot](name))
            shown = "".join(text.content for text in legibility.drawn_texts(figure))
        # Where it is drawn it may be broken into lines, or cut in front of a slash.
        letters = re.sub(r"\s", "", texts.plain(name, 200))
        if letters.isascii() and plot != "symmetry_group":
            assert letters in re.sub(r"[\s\u200b]", "", shown)


def test_names_that_begin_with_a_line_are_in_the_legend():
    figure = Figure()
    plots.draw(figure, "objective", NAMED["objective"]("_conv"))
    (text,) = figure.axes[0].get_legend().get_texts()
    assert text.get_text().removeprefix("\u200b") == "_conv"


# Snippets


@pytest.fixture(scope="module")
def renderers():
    commonmark = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    tables = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    plugins = ["strikethrough", "url", "table", "footnotes", "task_lists", "def_list", "math"]
    mistune = pytest.importorskip("mistune").create_markdown(escape=False, plugins=plugins)
    return [commonmark.render, tables.render, mistune]


def assert_markdown_reads(renderers, text):
    for render in renderers:
        read = Read(render(snippets.markdown_text(text)))
        expected = in_one_line(text)
        assert read.elements == (["p"] if expected else [])
        assert " ".join(read.text.split()) == expected


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_is_text_again(renderers, text):
    assert_markdown_reads(renderers, text)


@given(st.text(st.sampled_from(string.punctuation + " \nab1"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_markdown_of_signs_is_text_again(renderers, text):
    assert_markdown_reads(renderers, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_of_figures_cells_and_code_has_the_text(renderers, text):
    expected = in_one_line(text)
    for render in renderers:
        page = Read(render(snippets.markdown_figure("a b(c)%.svg", caption=text, alt=text)))
        assert page.elements == ["p", "img", *(["p"] if expected else [])]
        assert "a%20b%28c%29%25.svg" in page.values
        assert page.text.strip() == expected
        code = Read(render(snippets.markdown_code(text)))
        assert code.elements == ["p", "code"]
        assert code.text.strip() == expected
    cell = snippets.markdown_text(text, in_front=False)
    table = Read(renderers[1](f"| a | b |\n| --- | --- |\n| {cell} | c |\n"))
    assert table.elements.count("td") == 2
    assert set(table.elements) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert table.text.split() == ["a", "b", *expected.split(), "c"]


@given(st.text(st.characters(), max_size=80))
@settings(max_examples=60, deadline=None)
def test_myst_options_are_yaml_of_any_text(text):
    yaml = pytest.importorskip("yaml")
    snippet = snippets.myst_figure("a/b", "b.svg", caption=text, alt=text)
    first, rule, alt, name, rest, *_, last, end = snippet.split("\n")
    assert (first, rule, rest, last, end) == ("```{figure} b.svg", "---", "---", "```", "")
    assert yaml.safe_load(f"{alt}\n{name}") == {"alt": in_one_line(text), "name": "fig-a-b"}


@given(st.text(st.characters(), max_size=80) | st.sampled_from(HOSTILE))
@settings(max_examples=200, deadline=None)
def test_latex_of_any_text_has_no_command_of_it(text):
    escaped = snippets.latex_text(text)
    assert "\n" not in escaped
    escaped.encode()
    known = r"\\text[a-z]+\{\}|\\ldots\{\}|\\[{}#$%&_]|\{\}|\[[^\]\\{}]*\]"
    rest = re.sub(r"\$(\\[a-zA-Z]+|[-{}^'\d.])+\$", "", escaped)
    assert not set(re.sub(known, "", rest)) & set("\\{}#$%&_^~<>|")
    without = re.sub(r"\\[{}]", "", escaped)
    assert without.count("{") == without.count("}")


@pytest.mark.parametrize(
    "path", ["a b.pdf", "a%.pdf", "a#b.pdf", "{a}.pdf", "a\\b.pdf", "é.pdf", ""]
)
def test_paths_that_latex_and_myst_would_not_find_are_refused(path):
    words = {"caption": "c", "alt": "a"}
    with pytest.raises(ValueError, match="Expected the path of a picture"):
        snippets.latex_figure("a", path, width_inches=3.5, over_two_columns=False, **words)
    with pytest.raises(ValueError, match="Expected the path of a picture"):
        snippets.myst_figure("a", path, **words)


@given(st.text(st.characters(exclude_characters="/\x00", codec="utf-8"), min_size=1, max_size=60))
def test_names_of_files_of_an_export_are_safe_and_differ(name):
    safe = export.file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", safe)
    assert (safe == name) or safe != export.file_name(f"{name}x")


# Figures whose folder, file, caption and alternative text are hostile


NAMES = ["a b_(1) [x]%#&{}~^$.'\"", "<b>x", "`|`", "日本", "\x1b[2J"]


def save(folder, name, text):
    figures.save_figure(
        folder,
        "figure",
        plot="halfway",
        numbers={"loss": [2.0, 1.0]},
        caption=text,
        alt=text,
        provenance=figures.Provenance("n", "quick", {}, [], {}, [], [text[:50]]),
        size=(3.0, 2.0),
    )
    for ending in ("json", "svg", "png"):
        (folder / f"figure.{ending}").rename(folder / f"{name}.{ending}")


@pytest.fixture(scope="module")
def hostile_figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "figures"
    for name, text in zip(NAMES, HOSTILE[5:], strict=False):
        save(folder / f"n {name}", name, text)
    return folder


def test_gallery_of_hostile_figures_has_their_texts_and_links(hostile_figures, renderers, tmp_path):
    page = figure_export.write_gallery(hostile_figures, hostile_figures / "page.md")
    read = Read(renderers[0](page.read_text()))
    assert set(read.elements) <= {"h1", "h2", "h3", "p", "a", "img", "ul", "li", "code", "pre"}
    assert read.elements.count("pre") == 1  # the gallery's own command
    linked = [value for value in read.values if value and value.endswith((".svg", ".json"))]
    assert len(linked) == 3 * len(NAMES)
    assert all((page.parent / unquote(link)).is_file() for link in linked)
    for name, text in zip(NAMES, HOSTILE[5:], strict=False):
        assert in_one_line(name) in " ".join(read.text.split())
        assert in_one_line(text) in " ".join(read.text.split())


def test_export_of_hostile_figures_has_safe_names(hostile_figures, tmp_path):
    said = CliRunner().invoke(
        cli.main, ["figures", "--from", str(hostile_figures), "--to", str(tmp_path / "paper")]
    )
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output
    index = json.loads((tmp_path / "paper" / "figures.json").read_text())
    assert len(index["figures"]) == len(NAMES)
    for entry in index["figures"]:
        for file in entry["files"]:
            assert re.fullmatch(r"[A-Za-z0-9_./-]+", file)
            assert (tmp_path / "paper" / file).is_file()
        (tex,) = [file for file in entry["files"] if file.endswith(".tex")]
        (picture,) = re.findall(r"\]\{(.*?)\}", (tmp_path / "paper" / tex).read_text())[-1:]
        assert (tmp_path / "paper" / picture).is_file()


# Pages


@pytest.mark.parametrize("text", HOSTILE)
def test_html_is_text_again(text):
    expected = texts.plain(text, 10_000)
    record = {"alt": text, "caption": text, "size_inches": [1, 1]}
    for page, elements in (
        (figures.as_html(record, b"png"), {"figure", "img", "figcaption"}),
        (fragments.note(text), {"p"}),
    ):
        read = Read(page)
        assert set(read.elements) <= elements
        assert len(expected) > 240 or in_one_line(text) in " ".join(read.text.split())
        page.encode()
    assert expected in Read(figures.as_html(record, b"png")).values


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_of_claims_and_of_specs_are_text_again(text, monkeypatch):
    claim = next(iter(claims.CLAIMS.values()))
    result = claims.ClaimResult(claim, "quick")
    monkeypatch.setattr(claims.ClaimResult, "status", text)
    monkeypatch.setattr(claims.ClaimResult, "tolerance", text)
    cells = {"p", "table", "tr", "th", "td", "b"}
    assert set(Read(session._claims_table([result], text)).elements) == cells
    assert set(Read(result._repr_html_()).elements) == {"p", "b"}
    entries = rl.PermutationSpec({text: ("P_0", None)}).entries
    table = display.html_table(entries, {}, {text: 3}, [text])
    assert set(Read(table).elements) <= {"p", "table", "tr", "th", "td", "code"}
    listed = display.listing(entries, 0, {text: 3}, [text])
    assert len(listed.splitlines()) == 3
    assert "\x1b" not in listed
    listed.encode()


def test_a_spec_of_hostile_names_is_shown_as_text():
    spec = rl.PermutationSpec({"<b>x\x1b[2J\n": ("P_0", None), "w": ("P_0",)})
    assert len(str(spec).splitlines()) == 3
    assert "\x1b" not in str(spec)
    assert "b" not in Read(spec._repr_html_()).elements


# What exports and galleries must not write over


def some_figure(folder):
    save(folder / "figures" / "00_a", "one", "A caption.")
    return folder / "figures"


TAKEN = {
    "an index of another program": "figures.json",
    "numbers": "00_a/one.json",
    "a picture": "00_a/one.svg",
    "a snippet": "00_a/one.md",
    "another kind of picture": "00_a/one.png",
}


@pytest.mark.parametrize("place", TAKEN.values(), ids=TAKEN)
def test_export_writes_over_nothing_that_no_export_made(tmp_path, place):
    source, target = some_figure(tmp_path), tmp_path / "paper"
    (target / place).parent.mkdir(parents=True)
    (target / place).write_text("mine")
    chosen = figure_export.choose_figures(source)
    with pytest.raises(ValueError, match=f"there is '.*{place}', which would be written over"):
        figure_export.export_figures(chosen, target, formats=["svg"])
    assert (target / place).read_text() == "mine"
    assert len([path for path in target.rglob("*") if path.is_file()]) == 1


def test_export_writes_again_over_what_an_export_made(tmp_path):
    chosen, target = figure_export.choose_figures(some_figure(tmp_path)), tmp_path / "paper"
    for formats in (["svg"], ["svg", "png"]):
        figure_export.export_figures(chosen, target, formats=formats)
    assert (target / "00_a" / "one.png").is_file()


def test_export_follows_no_link_out_of_its_folder(tmp_path):
    source, target = some_figure(tmp_path), tmp_path / "paper"
    target.mkdir()
    (target / "00_a").symlink_to(source / "00_a")
    before = (source / "00_a" / "one.svg").read_bytes()
    with pytest.raises(ValueError, match="to be a folder of its own"):
        figure_export.export_figures(figure_export.choose_figures(source), target)
    assert (source / "00_a" / "one.svg").read_bytes() == before


@pytest.mark.parametrize("place", [paths.figures_dir, paths.notebooks_dir])
def test_export_goes_nowhere_into_the_repository(tmp_path, place):
    chosen = figure_export.choose_figures(some_figure(tmp_path))
    for target in (place(), place() / "paper"):
        with pytest.raises(ValueError, match="Expected (a folder outside|the place of an export)"):
            figure_export.export_figures(chosen, target)
        assert not (place() / "paper").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# Figures\n",
        "Read `rebasin-lab figures --gallery` of the manual.\n",
        "# Figures\n\nMine. Written by `rebasin-lab figures --gallery`.\n",
        '{"cells": []}',
        b"\xff\xfe",
    ],
)
def test_gallery_is_written_over_a_gallery_alone(tmp_path, content):
    page = tmp_path / "README.md"
    content = content if isinstance(content, bytes) else content.encode()
    page.write_bytes(content)
    with pytest.raises(ValueError, match="Expected no file, or a gallery"):
        figure_export.write_gallery(some_figure(tmp_path), page)
    assert page.read_bytes() == content


def test_the_projects_readme_is_no_gallery():
    readme = Path(rl.__file__).parents[1] / "README.md"
    with pytest.raises(ValueError, match="Expected no file, or a gallery"):
        figure_export.check_page(readme)
    figure_export.check_page(paths.figures_dir() / "README.md")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_gallery_replaces_no_folder_pipe_or_link(tmp_path, make):
    source, page = some_figure(tmp_path), tmp_path / "page.md"
    make(page)
    with pytest.raises(ValueError, match="Expected no file, or a gallery"):
        figure_export.write_gallery(source, page)
