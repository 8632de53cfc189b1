"""Figures for reports: text that can be read at the size of the page, and snippets that parse."""

import contextlib
import hashlib
import html
import io
import itertools
import json
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch
from PIL import Image

import legibility
from rebasin_lab import cli, paths, texts
from rebasin_lab.lab import figure_export, figures, plots
from rebasin_lab.lab.figure_export import fitting, pictures, snippets
from rebasin_lab.lab.plots import shapes
from rebasin_lab.paper import claims

CURVE = {
    "lambdas": [0.0, 0.5, 1.0],
    "train_loss": [0.1, 0.9, 0.2],
    "test_loss": [0.2, 1.0, 0.3],
    "train_accuracy": [1.0, 0.6, 0.9],
    "test_accuracy": [0.9, 0.5, 0.8],
}
NUMBERS = {
    "interpolation": {"curves": {"naive": [CURVE], "weight matching": [CURVE]}},
    "objective": {"objectives": {"seeds 0, 1": [0.0, 3.0, 4.0]}, "visits_per_sweep": 2},
}
CAPTION = "50% of A_1 & B: a < b, 10^551.38 {orders}, λ = ε. [quick profile]"
ALT = 'Naive: "up" # and down, π(B) flat.'
PROVENANCE = figures.Provenance(
    notebook="00_test",
    profile="quick",
    dataset={"name": "tiny", "title": "Tiny", "digest": "abc"},
    seeds=(0, 1),
    settings={"width": 16},
    trained_with=[],
    claims=["fig1-midpoint", "a-claim-of-old"],
)
# What a record may hold and a caption may say, whatever it means to Markdown or LaTeX.
NASTY = [
    CAPTION,
    ALT,
    r"\input{x} $x_1^2$ #1 ~ `code` **bold** <b> [a](b) |c| --set ^ {role}`x`",
    "1. no list, - and no dash; 'quotes' of \"two\" kinds; --- ⟨A, B⟩ ‖A‖² ≥ 3 × 10^-3 ° → ∞",
]


def save(directory, name="objective", *, notebook="00_test", size=(8.0, 3.4), caption=CAPTION):
    return figures.save_figure(
        directory / notebook,
        name,
        plot=name,
        numbers=NUMBERS[name],
        caption=caption,
        alt=ALT,
        provenance=PROVENANCE,
        size=size,
    )


def drawn(plot, width, size=(8.0, 3.4), numbers=None):
    record = {"plot": plot, "size_inches": list(size), "numbers": numbers or NUMBERS[plot]}
    with figures.drawing():
        return fitting.draw_for_width(record, width)


def row_of_panels(monkeypatch, num_panels, title, ylabel=""):
    """Adds a plot "row", of panels side by side under a title each."""

    def draw(figure, numbers):
        for ax in figure.subplots(1, num_panels):
            ax.plot([0, 1], [0, 1])
            ax.set_title(title)
            ax.set_ylabel(ylabel)

    monkeypatch.setitem(plots.PLOTS, "row", shapes.takes()(draw))
    monkeypatch.setitem(NUMBERS, "row", {})


def files_under(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# Fitting


@pytest.mark.parametrize("width", fitting.WIDTHS)
@pytest.mark.parametrize("size", [(5.0, 3.0), (8.0, 3.4), (11.0, 6.0), (8.0, 14.0)])
def test_figure_has_the_width_of_the_page_and_text_of_its_size(width, size):
    wanted = fitting.WIDTHS[width]
    figure = drawn("interpolation", width, size)
    smallest, largest = wanted.body_points
    assert figure.size_inches[0] == pytest.approx(wanted.inches)
    assert figure.size_inches[1] <= wanted.max_height + 1e-9
    assert smallest - 1e-9 <= fitting.BODY_POINTS * figure.scale <= largest + 1e-9


def test_design_that_fits_is_only_scaled():
    figure = drawn("interpolation", "double", size=(8.0, 3.4))
    assert figure.scale == pytest.approx(0.9)  # 7.2 of 8 inches
    assert figure.size_inches == pytest.approx((7.2, 0.9 * 3.4))


@pytest.mark.parametrize(("num_panels", "rows"), [(2, 2), (3, 3), (4, 2), (6, 2)])
def test_panels_too_narrow_side_by_side_stand_in_several_rows(monkeypatch, num_panels, rows):
    row_of_panels(monkeypatch, num_panels, "x" * 20)
    axes = drawn("row", "single", size=(9.0, 3.0)).figure.axes
    lefts = {round(ax.get_position().x0, 2) for ax in axes}
    assert (len(axes), len(lefts)) == (num_panels, num_panels // rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(40.0, 10.0), (6.0, 30.0)])
def test_figure_whose_text_takes_all_the_room_is_shrunk_and_says_why(monkeypatch, size):
    row_of_panels(monkeypatch, 3, "x", ylabel="y\n" * 60)
    figure = drawn("row", "single", size)
    assert figure.size_inches[0] == pytest.approx(3.5)
    assert figure.size_inches[1] <= 9.0 + 1e-9
    assert figure.note == "shrunk to its place: its text leaves no room for panels at 3.5 in"


def test_long_titles_and_labels_are_broken_into_lines(monkeypatch):
    def draw(figure, numbers):
        ax = figure.subplots()
        ax.set_title("a title of many short words that goes on and on, longer than a column is")
        ax.set_xlabel("a label of many short words, for an axis that is at the right")
        ax.set_ylabel("a label of many short words, longer than its axis is by far")
        ax.set_yticks([0, 1], ["a label that takes room", "at the left"])

    monkeypatch.setitem(plots.PLOTS, "long", draw)
    figure = drawn("long", "single", size=(7.0, 3.0), numbers={"x": 1}).figure
    (ax,) = figure.axes
    for text in (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()):
        assert "\n" in text
    assert " ".join(ax.get_ylabel().split()).startswith("a label of many short words, longer")
    assert legibility.problems_of(figure, 8.0) == []


def test_labels_of_ticks_that_would_touch_are_turned(monkeypatch):
    def draw(figure, numbers):
        figure.subplots().set_xticks(range(8), ["a long label"] * 8)

    monkeypatch.setitem(plots.PLOTS, "ticks", draw)
    figures_by_width = {w: drawn("ticks", w, numbers={"x": 1}).figure for w in ("single", "double")}
    for width, figure in figures_by_width.items():
        turned = {label.get_rotation() for label in figure.axes[0].get_xticklabels()}
        assert turned == ({90.0} if width == "single" else {0.0})
        assert legibility.problems_of(figure, 8.0) == []


def test_legend_gets_fewer_columns_in_a_column():
    def num_rows(width):
        (legend,) = drawn("interpolation", width).figure.legends
        return len({round(text.get_window_extent().y0) for text in legend.get_texts()})

    assert (num_rows("double"), num_rows("single")) == (1, 2)


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.3])
def test_texts_that_touch_are_a_problem(gap):
    with figures.drawing():
        figure = Figure(figsize=(4, 2))
        left = figure.text(0.1, 0.5, "left side")
        right = figure.text(0.1 + gap, 0.5, "right side")
        touch = left.get_window_extent().overlaps(right.get_window_extent())
        found = legibility.problems_of(figure, 6.0)
    assert found == (["'left side' runs into 'right side'"] if touch else [])


@pytest.mark.parametrize(
    ("x", "size", "problem"),
    [(0.9, 10, "'some text' leaves the figure"), (0.2, 5, "'some text' has 5 pt")],
)
def test_text_outside_or_too_small_is_a_problem(x, size, problem):
    with figures.drawing():
        figure = Figure(figsize=(4, 2))
        figure.text(x, 0.5, "some text", fontsize=size)
        assert legibility.problems_of(figure, 6.0) == [problem]


def test_a_legend_over_lines_is_a_problem():
    with figures.drawing():
        figure = Figure(figsize=(4, 3))
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], label="line")
        ax.axvline(0.9)  # across all of the axes, as a level is: not counted
        ax.legend(loc="center")
        assert legibility.problems_of(figure, 6.0) == ["the legend covers 'line'"]


# Pictures


@pytest.fixture(scope="module")
def picture_files():
    """A figure of an awkward width, and its files."""
    figure = drawn("interpolation", "slide", size=(7.9, 3.4))
    with figures.drawing():
        files = {
            kind: pictures.picture(figure, kind, title="00_test/x", alt=ALT)
            for kind in pictures.FORMATS
        }
    return figure, files


def test_files_have_the_size_of_the_page(picture_files):
    figure, files = picture_files
    size = pytest.approx(figure.size_inches, abs=1e-4)
    image = Image.open(io.BytesIO(files["png"]))
    assert image.width == 3000  # 10 inches at 300 to the inch
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)  # a PNG counts by the metre
    svg = re.search(rb'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', files["svg"])
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", files["pdf"])
    for sides in (svg.groups(), box.groups()):
        assert [float(side) / 72 for side in sides] == size


def test_layout_of_the_svg_fills_its_page(picture_files):
    figure, files = picture_files
    box = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', files["svg"])
    layout = 72 * figure.figure.get_size_inches()
    assert [float(side) for side in box.groups()] == pytest.approx(layout, abs=1e-3)
    assert figure.scale * layout[0] == pytest.approx(10 * 72)


def test_text_of_the_pdf_is_embedded_truetype(picture_files):
    content = opened(picture_files[1]["pdf"])
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"/ToUnicode" in content  # so that it can be searched
    sizes = {float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", content)}
    assert sizes == {9.0, 10.0}  # of the layout, which the matrix in front makes larger
    matrix = re.search(rb"stream\n.*?([\d.]+) 0 0 ([\d.]+) 0 0 cm", content, re.DOTALL)
    assert [float(value) for value in matrix.groups()] == pytest.approx([10 / 7.9] * 2, abs=1e-6)


def test_pdf_draws_all_that_the_png_draws():
    # Marks beyond the page are left out of a PDF: the page has to be measured as the layout is.
    figure = drawn("objective", "single", size=(8.0, 3.4))
    (ax,) = figure.figure.axes
    num_marks = sum(line.get_xdata().size for line in ax.lines if line.get_marker() != "None")
    with figures.drawing():
        content = opened(pictures.picture(figure, "pdf", title="t", alt="a"))
    assert len(re.findall(rb"/M\d+ Do", content)) == num_marks


def test_text_of_the_svg_is_outlines(picture_files):
    assert b"<text" not in picture_files[1]["svg"]
    assert b"font-family" not in picture_files[1]["svg"]


def test_files_carry_the_alternative_text_and_no_date(picture_files):
    svg, pdf, png = picture_files[1].values()
    assert html.escape(ALT, quote=False) in svg.decode()
    assert Image.open(io.BytesIO(png)).text["Description"] == ALT
    assert ("\ufeff" + ALT).encode("utf-16-be") in unescaped(pdf)
    assert b"dc:date" not in svg
    assert b"CreationDate" not in pdf


def test_picture_is_opaque_white(picture_files):
    pixels = np.asarray(Image.open(io.BytesIO(picture_files[1]["png"])).convert("RGBA"))
    assert pixels[0, 0].tolist() == [255] * 4
    assert (pixels[..., 3] == 255).all()


def opened(pdf):
    """A PDF with its compressed streams opened."""
    parts = re.split(rb"(?<=stream\n)(.*?)(?=\nendstream)", pdf, flags=re.DOTALL)
    for index in range(1, len(parts), 2):
        with contextlib.suppress(zlib.error):
            parts[index] = zlib.decompress(parts[index])
    return b"".join(parts)


def unescaped(pdf):
    return re.sub(rb"\\([()\\])", rb"\1", pdf)


# Snippets


@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_escaped_latex_is_a_command_of_the_text(text):
    escaped = snippets.latex_text(text)
    assert escaped.isascii() or set(escaped) - set(map(chr, range(128))) <= set("éß")
    # What is left after known commands and escapes is plain text without a special sign.
    rest = re.sub(r"\$(\\[a-zA-Z]+|[-{}^'\d.])+\$", "", escaped)
    rest = re.sub(r"\\text[a-z]+\{\}|\\ldots\{\}|\\[{}#$%&_]|\{\}", "", rest)
    assert not set(rest) & set("\\{}#$%&_^~<>|")
    assert escaped.count("{") == escaped.count("}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50% #1 {x} $5", r"a\_b \& 50\% \#1 \{x\} \$5"),
        ("a < b > c | d ~ e ^ f", r"a \textless{} b \textgreater{} c \textbar{} d "
         r"\textasciitilde{} e \textasciicircum{} f"),
        (r"\input", r"\textbackslash{}input"),
        ("π(B), λ, ε, Ω", r"$\pi$(B), $\lambda$, $\varepsilon$, $\Omega$"),
        ("‖A - π(B)‖²", r"$\Vert$A - $\pi$(B)$\Vert{}^2$"),
        ("10^551.38 and 10^-3", r"$10^{551.38}$ and $10^{-3}$"),
        ("x10^5", r"x10\textasciicircum{}5"),  # part of a name, not a number
        ('"two" of (“them”)', "``two'' of (``them'')"),
        ("--set", "-{}-set"),
        ("naïve Å", "naïve Å"),
        ("snow ☃", "snow [snowman]"),
        ("two\n\nlines", "two lines"),
    ],
)  # fmt: skip
def test_latex_of_each_kind_of_sign(text, expected):
    assert snippets.latex_text(text) == expected


@pytest.mark.parametrize("text", NASTY)
def test_markdown_reads_back_as_the_text(text):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    rendered = markdown.render(snippets.markdown_text(text))
    assert html.unescape(rendered) == f"<p>{text}</p>\n"
    page = markdown.render(snippets.markdown_figure("x.svg", caption=text, alt=text))
    image = re.match(r'<p><img src="x.svg" alt="(.*?)" /></p>\n<p>(.*)</p>\n$', page)
    assert [html.unescape(part) for part in image.groups()] == [text, text]


@pytest.mark.parametrize("text", NASTY)
def test_myst_options_are_yaml_of_the_text(text):
    yaml = pytest.importorskip("yaml")
    first, rule, *options, last = snippets.myst_figure(
        "00_A/b_c", "b_c.svg", caption="caption", alt=text
    ).split("\n", 4)
    assert (first, rule) == ("```{figure} b_c.svg", "---")
    assert last == "---\ncaption\n```\n"
    assert yaml.safe_load("\n".join(options)) == {"alt": text, "name": "fig-00-a-b-c"}


@pytest.mark.parametrize(("width", "environment"), [(3.5, "figure"), (7.2, "figure*")])
def test_latex_figure_is_whole(width, environment):
    snippet = snippets.latex_figure(
        "00_test/a_b",
        "00_test/a_b.pdf",
        caption=CAPTION,
        alt=ALT,
        width_inches=width,
        over_two_columns=width > 4,
    )
    comment, *lines = snippet.splitlines()
    assert comment.startswith("%")
    assert not any(re.search(r"(?<!\\)%", line) for line in lines)  # nothing is commented out
    assert f"\\begin{{{environment}}}" in lines
    assert lines[-1] == f"\\end{{{environment}}}"
    assert f"{width}in\\fi]{{00_test/a_b.pdf}}" in snippet
    assert r"\label{fig:00-test-a-b}" in snippet
    assert all(line.count("{") == line.count("}") for line in lines if "caption" in line)


# Exporting


def test_export_writes_pictures_snippets_numbers_and_an_index(tmp_path):
    source = save(tmp_path / "figures")
    index = figure_export.export_figures([source], tmp_path / "paper", width="single")
    endings = ("json", "md", "myst.md", "pdf", "png", "svg", "tex")
    expected = {"figures.json", *(f"00_test/objective.{ending}" for ending in endings)}
    written = files_under(tmp_path / "paper")
    assert written.keys() == expected
    assert written["00_test/objective.json"] == source.read_bytes()
    (entry,) = json.loads(index.read_text())["figures"]
    assert set(entry["files"]) == expected - {"figures.json"}
    assert written["00_test/objective.md"].decode().startswith("![Naive: ")
    assert b"](objective.svg)" in written["00_test/objective.md"]
    assert b"{00_test/objective.pdf}" in written["00_test/objective.tex"]


def test_index_says_where_the_numbers_come_from(tmp_path):
    source = save(tmp_path / "figures")
    index = figure_export.export_figures([source], tmp_path / "paper", width="single")
    kept, (entry,) = json.loads(source.read_text()), json.loads(index.read_text())["figures"]
    same = ("caption", "alt", "plot", "profile", "dataset", "seeds", "settings", "versions")
    assert {key: entry[key] for key in same} == {key: kept[key] for key in same}
    assert entry["claims"] == list(PROVENANCE.claims)
    assert entry["numbers_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (entry["width"], entry["size_inches"][0], entry["note"]) == ("single", 3.5, "")
    assert entry["text_points"] == 7.5


@pytest.mark.parametrize(
    ("formats", "snippet_endings"),
    [(["svg"], {"md", "myst.md"}), (["pdf"], {"tex"}), (["png"], {"md", "myst.md", "tex"})],
)
def test_only_snippets_that_can_show_a_picture_are_written(tmp_path, formats, snippet_endings):
    source = save(tmp_path / "figures")
    figure_export.export_figures([source], tmp_path / "paper", formats=formats)
    written = {path.name.partition(".")[2] for path in (tmp_path / "paper/00_test").iterdir()}
    assert written == {"json", *formats, *snippet_endings}


def test_export_in_another_process_gives_the_same_bytes(tmp_path):
    source = save(tmp_path / "figures", "interpolation")
    figure_export.export_figures([source], tmp_path / "here", width="single")
    program = (
        "import sys; from pathlib import Path; from rebasin_lab.lab import figure_export; "
        "figure_export.export_figures([Path(sys.argv[1])], Path(sys.argv[2]), width='single')"
    )
    subprocess.run(
        [sys.executable, "-c", program, source, tmp_path / "there"],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
    )
    assert files_under(tmp_path / "here") == files_under(tmp_path / "there")


def test_export_can_be_exported_from(tmp_path):
    save(tmp_path / "figures")
    first, second = tmp_path / "first", tmp_path / "second"
    for source, target in ((tmp_path / "figures", first), (first, second)):
        figure_export.export_figures(
            figure_export.choose_figures(source), target, formats=["svg"], width="single"
        )
    assert files_under(first) == files_under(second)


def test_figures_are_chosen_by_name_or_by_notebook(tmp_path):
    for notebook, name in (("00_a", "one"), ("00_a", "two"), ("01_b", "one")):
        path = tmp_path / notebook / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def chosen(*only):
        found = figure_export.choose_figures(tmp_path, only)
        return [str(path.relative_to(tmp_path).with_suffix("")) for path in found]

    assert chosen() == ["00_a/one", "00_a/two", "01_b/one"]
    assert chosen("one") == ["00_a/one", "01_b/one"]
    assert chosen("01", "00_a/two", "01_b") == ["00_a/two", "01_b/one"]
    with pytest.raises(ValueError, match=r"got 'three'\. There are: 00_a/one, 00_a/two, 01_b/one"):
        chosen("one", "three")
    with pytest.raises(ValueError, match="got ''"):
        chosen("")


def test_no_figure_is_an_error_with_a_next_step(tmp_path):
    for function in (figure_export.choose_figures, figure_export.write_gallery):
        with pytest.raises(ValueError, match=r"got none. Run 'rebasin-lab reproduce' first"):
            function(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": "triple"}, "a width among single, double, slide; got 'triple'"),
        ({"formats": ["svg", "eps"]}, "formats among svg, pdf, png, .* got 'eps'"),
    ],
)
def test_unknown_options_are_refused_and_nothing_written(tmp_path, options, message):
    source = save(tmp_path / "figures")
    with pytest.raises(ValueError, match=message):
        figure_export.export_figures([source], tmp_path / "paper", **options)
    assert not (tmp_path / "paper").exists()


@pytest.mark.parametrize("target", ["figures", "figures/00_test", "figures/../figures/paper"])
def test_figures_are_not_written_over(tmp_path, target):
    source = save(tmp_path / "figures")
    before = files_under(tmp_path)
    with pytest.raises(ValueError, match="a folder outside '.*', where the figures are kept"):
        figure_export.export_figures([source], tmp_path / target)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "to hold JSON; it cannot be read"),
        ("[]", "'figure' to be an object; got a list"),
        ('{"plot": "x"}', "'figure' to have 'size_inches'"),
    ],
)
def test_file_that_holds_no_figure_is_named(tmp_path, content, message):
    path = tmp_path / "figures/00_test/bad.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        figure_export.export_figures([path], tmp_path / "paper")
    assert str(path) in str(caught.value)


def test_unknown_plot_is_named(tmp_path):
    path = save(tmp_path / "figures")
    path.write_text(path.read_text().replace('"plot": "objective"', '"plot": "pie"'))
    with pytest.raises(ValueError, match=r"objective\.json' to hold .* a plot among .*; got 'pie'"):
        figure_export.export_figures([path], tmp_path / "paper")


def test_formats_are_read_from_a_list():
    assert figure_export.parse_formats("PDF, svg,pdf") == ["pdf", "svg"]
    with pytest.raises(ValueError, match="got '' in 'svg,'"):
        figure_export.parse_formats("svg,")


# Gallery


def test_gallery_shows_every_figure_with_caption_and_claims(tmp_path):
    for notebook in ("01_b", "00_a"):
        save(tmp_path, notebook=notebook)
    page = figure_export.write_gallery(tmp_path).read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert headings == ["Figures", r"00\_a", "objective", r"01\_b", "objective"]
    assert page.count(snippets.markdown_text(CAPTION)) == 2
    assert "2 figures of 2 notebooks" in page
    assert "- claim `fig1-midpoint` (" in page
    assert "- claim `a-claim-of-old`\n" in page  # of which nothing is known any more
    for link in re.findall(r"\]\((.*?)\)", page):
        assert (tmp_path / link).is_file()


def test_gallery_links_notebooks_that_are_there(tmp_path):
    save(tmp_path / "figures", notebook="00_a")
    notebook = tmp_path / "notebooks/00_a.ipynb"
    notebook.parent.mkdir()
    for exists in (False, True):
        if exists:
            notebook.touch()
        page = figure_export.write_gallery(tmp_path / "figures").read_text()
        assert ("[The notebook](../notebooks/00_a.ipynb)" in page) == exists


def test_gallery_elsewhere_links_from_there_and_tells_what_the_run_measured(tmp_path):
    save(tmp_path / "figures/laptop", notebook="00_a")
    row = claims.ClaimResult(claims.CLAIMS["fig1-midpoint"], "laptop", (0.25,)).as_row()
    board = {"title": "laptop profile", "claims": [row | {"paper": "a | b"}]}
    (tmp_path / "figures/scoreboard.json").write_text(json.dumps(board))
    page = figure_export.write_gallery(tmp_path / "figures/laptop", tmp_path / "figures/README.md")
    assert page == tmp_path / "figures/README.md"
    text = page.read_text()
    assert f"Of 1 claims: 1 {row['status']}." in text
    assert f"**{row['status']}**\n" in text
    assert r"| a \| b | " in text
    assert " | 0.25 | " in text
    links = [link for link in re.findall(r"\]\((.*?)\)", text) if not link.startswith("#")]
    assert links
    for link in links:
        assert (page.parent / link).is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "Expecting value"), ("[]", "TypeError"), ('{"title": "", "claims": [{}]}', "'claim'")],
)
def test_gallery_refuses_what_is_no_scoreboard(tmp_path, content, says):
    save(tmp_path / "figures", notebook="00_a")
    (tmp_path / "scoreboard.json").write_text(content)
    with pytest.raises(ValueError, match=f"scoreboard of a run in .*{says}.*move the file away"):
        figure_export.write_gallery(tmp_path / "figures")
    assert not (tmp_path / "figures/README.md").exists()


def test_gallery_does_without_pictures(tmp_path):
    path = save(tmp_path)
    for ending in (".svg", ".png"):
        path.with_suffix(ending).unlink()
    page = figure_export.write_gallery(tmp_path).read_text()
    assert "![" not in page
    assert snippets.markdown_text(CAPTION) in page


def test_gallery_is_the_same_twice(tmp_path):
    save(tmp_path)
    first = figure_export.write_gallery(tmp_path).read_bytes()
    assert figure_export.write_gallery(tmp_path).read_bytes() == first


def test_the_projects_gallery_is_that_of_the_laptop_run(tmp_path):
    """`rebasin-lab figures --gallery --to figures/laptop --page figures/README.md` writes it."""
    committed = paths.figures_dir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "notebooks").symlink_to(paths.notebooks_dir())
    for name in ("laptop", "scoreboard.json"):
        (tmp_path / "figures" / name).symlink_to(committed / name)
    page = figure_export.write_gallery(tmp_path / "figures/laptop", tmp_path / "figures/README.md")
    assert page.read_text() == (committed / "README.md").read_text()
    board = json.loads((committed / "scoreboard.json").read_text())
    assert "laptop" in board["title"]
    assert {row["claim"] for row in board["claims"]} == claims.CLAIMS.keys()
    for path in figures.saved_figures(committed / "laptop"):
        assert json.loads(path.read_text())["profile"] == "laptop"


# The figures of the project

LIGHTNESS_STEP = 10  # of 100: a step that is seen between lines apart from each other


@pytest.fixture(
    scope="module",
    params=figures.saved_figures(),
    ids=lambda path: str(path.relative_to(paths.figures_dir())),
)
def committed(request):
    """A committed figure at the width that is hardest."""
    record = json.loads(request.param.read_text())
    with figures.drawing():
        return record, fitting.draw_for_width(record, "single")


def test_committed_figure_can_be_read_in_a_column(committed):
    _, figure = committed
    with figures.drawing():
        assert legibility.problems_of(figure.figure, 5.99 / figure.scale) == []
    assert figure.note == ""


def test_captions_of_committed_figures_have_only_signs_that_latex_knows(committed):
    for text in (committed[0]["caption"], committed[0]["alt"]):
        # A sign that is not known becomes its name in brackets.
        assert snippets.latex_text(text).count("[") == text.count("[")


def test_legend_of_committed_figure_does_without_colour(committed):
    _, figure = committed
    for legend in figure.figure.findobj(Legend):
        for one, other in itertools.combinations(legend.legend_handles, 2):
            if shape(one) == shape(other):
                assert abs(lightness(one) - lightness(other)) >= LIGHTNESS_STEP


def shape(handle):
    """All that tells an entry of a legend from others, but its colour."""
    if isinstance(handle, Patch):
        return handle.get_hatch(), handle.get_linewidth()
    is_open = handle.get_markerfacecolor() == "none"
    marker = handle.get_marker()
    line = handle.get_linestyle(), handle.get_linewidth() * (handle.get_linestyle() != "None")
    return line, marker, is_open


def lightness(handle):
    """L* of CIELAB, which a grey copy keeps."""
    colour = handle.get_facecolor() if isinstance(handle, Patch) else handle.get_color()
    red, green, blue = (
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in colors.to_rgb(colour)
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


# Slides


def test_slides_of_a_lesson_are_the_figures_that_its_page_links_to(tmp_path):
    folder = tmp_path / "slides"
    result = CliRunner().invoke(cli.main, ["slides", "--to", str(folder)])
    assert result.exit_code == 0, result.output
    lessons = sorted((paths.notebooks_dir() / "teaching").glob("*.md"))
    assert sorted(path.stem for path in folder.iterdir()) == [path.stem for path in lessons]
    for lesson in lessons:
        linked = re.findall(r"figures/(\w+/\w+)\.svg", lesson.read_text())
        records = [figures.read_figure(paths.figures_dir() / f"{n}.json") for n in linked]
        page = (folder / f"{lesson.stem}.html").read_text()
        alts = [html.unescape(alt) for alt in re.findall(r'<img alt="([^"]*)"', page)]
        assert alts == list(dict.fromkeys(record["alt"] for record in records))
        for record in records:
            assert texts.as_html(record["title"]) in page
            assert texts.as_html(record["caption"]) in page
        sources = re.findall(r'src="([^"]*)"', page)
        assert all(each.startswith("data:image/svg+xml;base64,") for each in sources)
        assert "<script" not in page
        assert not re.search(r"https?://", page)


def test_slides_of_a_run_without_a_figure_say_which_one_and_where_they_may_not_go(tmp_path):
    with pytest.raises(ValueError, match=r"00_quickstart/training\.json"):
        figure_export.write_slides(tmp_path / "slides", tmp_path)
    assert not (tmp_path / "slides").exists()
    with pytest.raises(ValueError, match="the place of slides"):
        figure_export.write_slides(paths.notebooks_dir())
