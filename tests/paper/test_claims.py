"""Claims and the scoreboard: a bound decides, a NaN never passes, nothing drops out."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab import paths
from rebasin_lab.paper import claims, profiles
from rebasin_lab.paper.sections import SECTIONS

NAN = math.nan
FINITE = st.floats(allow_nan=False)


def claim(**bounds):
    return claims.Claim("id", "1", "statement", "paper", "quantity", "notebook", bounds)


@pytest.mark.parametrize(
    ("relation", "just_below", "at", "just_above"),
    [
        ("below", True, False, False),
        ("at most", True, True, False),
        ("at least", False, True, True),
        ("equal to", False, True, False),
    ],
)
def test_bound_at_its_value_and_one_rounding_away(relation, just_below, at, just_above):
    bound = claims.Bound(relation, 0.3)
    around = [math.nextafter(0.3, -1), 0.3, math.nextafter(0.3, 1)]
    assert [bound.holds(value) for value in around] == [just_below, at, just_above]


@given(FINITE, st.sampled_from(["below", "at most", "at least", "equal to"]))
def test_nan_satisfies_no_bound(value, relation):
    assert not claims.Bound(relation, value).holds(NAN)


@given(FINITE, FINITE)
def test_below_and_at_least_exclude_each_other(measured, value):
    holds = [claims.Bound(r, value).holds(measured) for r in ("below", "at least")]
    assert sum(holds) == 1


@pytest.mark.parametrize(
    ("profile", "measured", "status"),
    [
        ("quick", (), "not run"),
        ("quick", (0.1,), "reproduced"),
        ("quick", (0.1, 0.5), "reproduced"),
        ("quick", (0.1, 0.6), "not reproduced"),  # every pair must hold, not the mean
        ("quick", (NAN,), "not reproduced"),
        ("quick", (0.1, NAN), "not reproduced"),
        ("paper", (0.1,), "needs profile quick"),
        ("paper", (), "needs profile quick"),
    ],
)
def test_status(profile, measured, status):
    bounded = claim(quick=claims.Bound("at most", 0.5))
    assert claims.ClaimResult(bounded, profile, measured).status == status


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        ((), "-"),
        ((3498.0,), "3498"),
        ((0.25, 0.75), "0.5 (0.25 ... 0.75, 2 pairs)"),
        ((1.2e-6,), "1.20e-06"),
        ((NAN,), "nan"),
        ((math.inf,), "inf"),
    ],
)
def test_measured_text(measured, text):
    assert claims.ClaimResult(claim(), "quick", measured).measured_text == text


def test_row_of_a_diverged_run_can_be_shown():
    row = claims.measure("fig2-mnist-matched", "laptop", [0.01, NAN]).as_row()
    assert (row["status"], row["measured"][0]) == ("not reproduced", 0.01)
    assert "nan" in row["measured_text"]


def test_bounds_and_notebooks_are_those_that_exist():
    assert tuple(profiles.PROFILES) == claims.PROFILES
    for one in claims.CLAIMS.values():
        assert bool(one.bounds) != bool(one.untestable), one.id
        assert set(one.bounds) <= set(claims.PROFILES), one.id
        assert set(one.resolution) <= set(one.bounds), one.id
        assert (paths.notebooks_dir() / f"{one.notebook}.ipynb").is_file(), one.id


def test_relations_are_the_known_ones():
    known = {"below", "at most", "at least", "equal to"}
    assert {b.relation for one in claims.CLAIMS.values() for b in one.bounds.values()} <= known


def test_ids_are_unique_and_listed_in_the_order_written():
    written = [one.id for section in SECTIONS.values() for one in section.CLAIMS]
    assert len(set(written)) == len(written)
    assert list(claims.CLAIMS) == written


@pytest.mark.parametrize("measured", [0.01, np.float64(0.01), [0.01], np.array([0.01])])
def test_measure_takes_one_number_or_several(measured):
    result = claims.measure("fig2-mnist-matched", "laptop", measured)
    assert result.measured == (0.01,)
    assert result.status == "reproduced"


def test_scoreboard_has_every_claim_in_order():
    rows = claims.scoreboard("quick", {"fig1-midpoint": [0.4]})
    assert [row.claim.id for row in rows] == list(claims.CLAIMS)
    assert {row.claim.id: row.status for row in rows if row.measured} == {
        "fig1-midpoint": "reproduced"
    }
    for row in rows:
        if not row.measured:
            is_tested = "quick" in row.claim.bounds
            assert row.status == "not run" if is_tested else row.status.startswith(("needs", "not"))
            assert row.status in claims.STATUSES


@pytest.mark.parametrize(
    ("measured", "status"),
    [
        ([0.1], "reproduced"),
        ([0.7], "not reproduced"),
        ([0.35], "too small to judge"),
        ([0.45], "too small to judge"),
        ([0.1, 0.35], "too small to judge"),
        ([0.35, 0.7], "not reproduced"),
        ([0.35, NAN], "not reproduced"),
    ],
)
def test_numbers_nearer_to_the_bound_than_the_resolution_decide_nothing(measured, status):
    claim = dataclasses.replace(
        claims.CLAIMS["table1-mlp"],
        bounds={"quick": claims.Bound("below", 0.4)},
        resolution={"quick": claims.Resolution(0.1, "1,000 test images")},
    )
    result = claims.ClaimResult(claim, "quick", tuple(measured))
    assert result.status == status
    assert "must be below 0.4, by 0.1 or more (1,000 test images)" in result._repr_html_()
    assert claims.ClaimResult(claim, "quick").status == "not run"
    assert claims.kind_of("too small to judge") == "untested"


def test_what_nothing_here_can_test_says_why():
    one = claims.CLAIMS["table2-vgg11"]
    result = claims.ClaimResult(one, "laptop")
    assert result.status == "not testable here"
    assert "OT-Fusion" in result.tolerance
    assert claims.tally([result.status, result.status]) == "2 not testable here"


def test_a_network_that_diverged_is_on_the_scoreboard_as_nan(without_type_checks):
    claim = next(iter(claims.CLAIMS))
    row = claims.scoreboard("paper", {claim: [NAN, 0.1]})[0]
    assert "nan" in row.measured_text
    assert row.status != "reproduced"


def test_the_scoreboard_as_text_names_every_claim_with_paper_measured_and_tolerance():
    results = claims.scoreboard("quick", {"table1-resnet50": [25638.0], "table1-mlp": [3498.0]})
    text = claims.as_text(results, "quick profile")
    assert text.startswith("Scoreboard, quick profile\n1 reproduced, ")
    assert "1 not reproduced" in text.splitlines()[1]
    for claim in claims.CLAIMS.values():
        assert claim.quantity in text
    assert "paper 55109 | measured 25638 | must be equal to 55109 | not reproduced" in text


def test_a_claim_that_failed_says_by_how_much():
    row = claims.measure("fig3-init", "quick", [0.5, 0.001, 0.002]).as_row()
    assert (
        claims.reason(row, "quick") == "2 of 3 miss the bound: at worst 0.001 is not at least 0.02"
    )
    row = claims.measure("table1-resnet50", "quick", 3.0).as_row()
    assert claims.reason(row, "quick") == "3 is not equal to 55109"
    for status in ("reproduced", "not run"):
        assert claims.reason(row | {"status": status}, "quick") == ""
