"""The lesson: every number of an answer is that of the figure it links to."""

import json
import re

import pytest

from rebasin_lab import paths

PAGE = paths.notebooks_dir() / "TEACHING.md"
LINKS = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", PAGE.read_text())
ANSWERS = [(text, link) for text, link in LINKS if link.endswith(".svg")]


@pytest.mark.parametrize("link", sorted({link for _, link in LINKS}))
def test_every_link_leads_somewhere(link):
    assert (PAGE.parent / link).is_file()


@pytest.mark.parametrize(("text", "link"), ANSWERS, ids=[f"{t} {ln}" for t, ln in ANSWERS])
def test_every_number_is_that_of_its_figure(text, link):
    record = json.loads((PAGE.parent / link).with_suffix(".json").read_text())
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    assert numbers
    told = re.findall(r"\d+(?:\.\d+)?", record["alt"])
    assert set(numbers) <= set(told)


def test_the_lesson_fills_ninety_minutes_without_a_gap():
    spans = [
        tuple(map(int, span))
        for span in re.findall(r"^\| (\d+) to (\d+) \|", PAGE.read_text(), re.M)
    ]
    assert spans[0][0] == 0
    assert spans[-1][1] == 90
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
