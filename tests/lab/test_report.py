import base64
import html.parser
import json
import re

import pytest

from rebasin_lab.lab import report
from rebasin_lab.paper import claims

VOID = {"meta", "img", "br"}
NASTY = """<script>alert("1")</script> & 'quotes' <b>"""


class Page(html.parser.HTMLParser):
    """Elements with their attributes and text; fails on a tag that is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert self.open == [], "a tag was left open"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def by_id(self, name):
        return next(element for element in self.elements if element.get("id") == name)


def notebook(name, **changes):
    return {
        "notebook": name,
        "seconds": 12.3,
        "error": "",
        "started": "2026-11-22T21:06:21+00:00",
        "python": "3.12.1",
        "devices": ["cuda:0 (NVIDIA H200)"],
        "figures": [["barriers", "a digest"]],
        **changes,
    }


def board(*, profile="quick", **changes):
    measured = {"table1-mlp": [3498.0], "fig2-mnist-naive": [0.0]}
    results = claims.scoreboard(profile, measured)
    return {
        "title": f"{profile} profile: MNIST-5k, MLP, 3 pairs",
        "profile": {"name": profile, "num_pairs": 3},
        "parameters": {},
        "networks": "MLP with 3 hidden layers",
        "dataset": {"name": "mnist5k", "title": "MNIST-5k", "digest": "0123456789abcdef" * 4},
        "versions": {"rebasin_lab": "0.1.0", "jax": "0.10.2"},
        "started": "2026-11-22T21:06:11+00:00",
        "ended": "2026-11-22T21:07:31+00:00",
        "figures_dir": "figures",
        "planned": ["01_symmetries", "02_line_and_barrier", "05_later"],
        "notebooks": [notebook("01_symmetries"), notebook("02_line_and_barrier")],
        "claims": [result.as_row() for result in results],
        **changes,
    }


def figure(**changes):
    record = {
        "caption": "Barriers of three pairs.",
        "alt": "Bars: naive high, permuted low.",
        "claims": ["fig2-mnist-naive"],
        "size_inches": [8.0, 3.4],
        **changes,
    }
    return report.ReportedFigure("02_line_and_barrier", "barriers", record, b"\x89PNG picture")


def render(figures=None, **changes):
    return report.render_report(board(**changes), [figure()] if figures is None else figures)


@pytest.mark.parametrize("profile", claims.PROFILES)
def test_it_is_valid_and_every_link_inside_it_leads_somewhere(profile):
    page = Page(render(profile=profile))
    names = [element["id"] for element in page.elements if "id" in element]
    assert len(set(names)) == len(names)
    inside = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert inside
    assert set(inside) <= set(names)


def test_it_loads_nothing_and_runs_nothing():
    page = Page(render())
    assert all(element["src"].startswith("data:") for element in page.elements if "src" in element)
    assert not any("//" in link["href"] for link in page.all("a"))
    assert not page.all("script") + page.all("link")
    assert "url(" not in page.all("style")[0]["text"]
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_the_top_says_what_was_run_on_what():
    page = Page(render())
    terms = [term["text"] for term in page.all("dt")]
    told = dict(zip(terms, [value["text"] for value in page.all("dd")], strict=True))
    assert told["Profile"] == "quick"
    assert told["Data"].startswith("MNIST-5k (SHA-256 0123456789abcdef")
    assert told["Networks"].startswith("MLP with 3 hidden layers")
    assert told["Device"] == "cuda:0 (NVIDIA H200)"
    assert told["Versions"] == "rebasin_lab 0.1.0, jax 0.10.2"
    assert told["Run"].endswith("2 of 3 notebooks")
    assert "Changed settings" not in told


def test_changed_settings_are_named_at_the_top():
    page = Page(render(parameters={"width": 64}))
    assert "width = 64: claims of a notebook that has them stay open" in [
        value["text"] for value in page.all("dd")
    ]


def test_every_claim_has_a_row_with_its_numbers_and_its_status_in_words():
    page = Page(render())
    for row in board()["claims"]:
        text = page.by_id(f"claim/{row['claim']}")["text"]
        for part in ("statement", "quantity", "paper", "measured_text", "tolerance", "status"):
            assert row[part] in text


def test_claims_stand_in_the_order_of_the_paper():
    headings = [h["text"] for h in Page(render()).all("th") if h.get("class") == "section"]
    assert len(set(headings)) == len(headings)
    numbers = [h.split()[1] for h in headings if h.startswith("Section")]
    assert numbers == sorted(numbers, key=lambda n: tuple(map(int, n.split("."))))
    kinds = [heading.split()[0] for heading in headings]
    assert kinds == sorted(kinds, key=lambda kind: {"Section": 0, "Appendix": 2}.get(kind, 1))
    assert {"Section 3.2", "Table 1", "Appendix A.7.2"} <= set(headings)


@pytest.mark.parametrize(
    ("claim", "kind", "status"),
    [
        ("table1-mlp", "yes", "✓ reproduced"),
        ("fig2-mnist-naive", "no", "✗ not reproduced"),
        ("table1-vgg16", "untested", "– not run: its notebook did not measure it"),
        ("fig6-barrier", "untested", "– not run: its notebook is not part of this run"),
        ("lemma2-terminates", "untested", "– not run: its notebook failed"),
    ],
)
def test_what_was_not_tested_is_grey_and_says_why(claim, kind, status):
    failed = notebook("02_line_and_barrier", error="In [3]: KeyError: 1")
    page = Page(render(notebooks=[notebook("01_symmetries"), failed]))
    row = page.by_id(f"claim/{claim}")
    assert row["class"] == kind
    assert status in row["text"]


def test_a_claim_beyond_this_profile_says_which_one_it_needs():
    rows = [row for row in board()["claims"] if row["status"].startswith("needs profile")]
    assert rows
    page = Page(render())
    for row in rows:
        element = page.by_id(f"claim/{row['claim']}")
        assert element["class"] == "untested"
        assert row["status"] in element["text"]


def test_a_claim_whose_notebook_was_not_reached_says_so():
    page = Page(render(notebooks=[notebook("01_symmetries")], figures=[]))
    text = page.by_id("claim/lemma2-terminates")["text"]
    assert "not run: the run ended before its notebook" in text


def test_a_figure_has_picture_caption_and_text_and_is_linked_with_its_claims():
    page = Page(render())
    (image,) = page.all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == figure().png
    assert image["alt"] == figure().record["alt"]
    assert figure().record["caption"] in page.all("figcaption")[0]["text"]
    links = [link["href"] for link in page.all("a")]
    assert "#claim/fig2-mnist-naive" in links
    assert "#figure/02_line_and_barrier/barriers" in links


def test_a_claim_of_a_figure_that_nobody_knows_is_left_out():
    page = Page(render(figures=[figure(claims=["gone"])]))
    assert "gone" not in page.all("figcaption")[0]["text"]


def test_notebooks_are_listed_with_outcome_seconds_device_and_files():
    outcomes = [
        notebook("01_symmetries"),
        notebook("02_line_and_barrier", error="In [3]: KeyError: 1"),
    ]
    page = Page(render(notebooks=outcomes))
    first, second, third = (row["text"] for row in page.all("tr")[-3:])
    assert "ran through12.3cuda:0 (NVIDIA H200)" in first
    assert "failed In [3]: KeyError: 1" in second
    assert third == "05_laternot run"
    links = {link["href"] for link in page.all("a")}
    assert {"scoreboard.json", "02_line_and_barrier.ipynb", "02_line_and_barrier.log"} <= links


def test_everything_is_escaped():
    row = board()["claims"][0] | {name: NASTY for name in ("statement", "paper", "tolerance")}
    failed = notebook("02_line_and_barrier", error=NASTY, devices=[NASTY])
    page = Page(
        render(
            figures=[figure(caption=NASTY, alt=NASTY)],
            claims=[row],
            notebooks=[failed],
            title=NASTY,
            networks=NASTY,
            parameters={"dataset": NASTY},
        )
    )
    assert not page.all("script") + page.all("b")
    assert page.all("img")[0]["alt"] == NASTY
    assert page.all("title")[0]["text"] == f"rebasin_lab, {NASTY}"
    assert NASTY in page.by_id(f"claim/{row['claim']}")["text"]


def test_odd_names_of_files_make_no_odd_links():
    odd = 'a "b" #c?'
    page = Page(render(notebooks=[notebook(odd, figures=[])], planned=[odd], figures=[]))
    assert "a%20%22b%22%20%23c%3F.ipynb" in {link["href"] for link in page.all("a")}
    assert not any(" " in element.get("id", "") for element in page.elements)


def test_the_page_suits_dark_screens_and_paper_and_figures_stay_on_white():
    style = Page(render()).all("style")[0]["text"]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    assert re.search(r"figure img \{[^}]*background: #fff", style)


def luminance(colour):
    linear = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in linear]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_legible_on_its_ground(scheme):
    found = re.findall(r"--(\w+): (#\w{6})", report._STYLE)
    colours = dict(found[:8] if scheme == 0 else found[8:])
    assert len(colours) == 8
    for name in ("ink", "soft", "link", "yes", "no"):
        for ground in ("paper", "head"):
            pair = sorted(luminance(colours[key]) for key in (name, ground))
            # WCAG 2, level AA, for text of any size.
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_a_figure_that_was_drawn_again_since_is_left_out_and_missed(tmp_path):
    folder = tmp_path / "figures" / "02_line_and_barrier"
    folder.mkdir(parents=True)
    names = ("barriers", "contour")
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(figure().record))
        (folder / f"{name}.png").write_bytes(b"picture")
    digests = [[name, report.file_digest(folder / f"{name}.json")] for name in names]
    written = board(notebooks=[notebook("02_line_and_barrier", figures=digests)])
    (tmp_path / "scoreboard.json").write_text(json.dumps(written))
    assert len(Page(report.write_report(tmp_path).read_text()).all("img")) == 2
    (folder / "contour.json").write_text(json.dumps(figure(caption="Another.").record))
    page = Page(report.write_report(tmp_path).read_text())
    assert len(page.all("img")) == 1
    assert "1 drawn again by another run since" in page.by_id("notebooks")["text"]


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", "4", "", "text", "[" * 200_000, '{"profile": {"name": 3}}', b"\xff\xfe"],
)
def test_a_scoreboard_that_is_none_is_refused_in_words(tmp_path, content):
    path = tmp_path / report.SCOREBOARD_NAME
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"Expected '.*scoreboard.json' to"):
        report.write_report(tmp_path)
    assert not (tmp_path / report.REPORT_NAME).exists()


@pytest.mark.parametrize("damage", ["no picture", "picture a folder", "[]", '{"alt": 3}', "\x00"])
def test_a_damaged_figure_is_left_out_of_the_report(tmp_path, damage):
    path = tmp_path / "figures" / "00_quickstart" / "barriers.json"
    path.parent.mkdir(parents=True)
    record = {"caption": "C.", "alt": "A.", "claims": [], "size_inches": [1, 1]}
    path.write_text(json.dumps(record))
    if damage == "picture a folder":
        path.with_suffix(".png").mkdir()
    elif damage != "no picture":
        path.write_text(damage)
        path.with_suffix(".png").write_bytes(b"picture")
    drawn = [["barriers", report.file_digest(path)]]
    content = board(notebooks=[notebook("00_quickstart", figures=drawn)], figures_dir="figures")
    (tmp_path / report.SCOREBOARD_NAME).write_text(json.dumps(content))
    assert "<figure" not in report.write_report(tmp_path).read_text()
