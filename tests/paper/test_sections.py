"""Sections at tiny sizes, without a notebook: what they measure, and what is shown of it."""

import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab.lab import plots
from rebasin_lab.paper import profiles
from rebasin_lab.paper.sections import SECTIONS, quantities, record, width
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.study import Study


def study_of(section, **changes):
    """A study of a section, a few steps on tiny data."""
    profile = profiles.get_profile(changes.pop("profile", "quick"), trial=True, **changes)
    return Study(
        notebook=section.NAME,
        profile=profile,
        trainings=section.networks(profile),
        progress_style="silent",
    )


def check_record(measured, section):
    """What holds for every record: its figures can be drawn and its claims are the section's."""
    own = {claim.id for claim in section.CLAIMS}
    assert set(measured.claims()) <= own
    for figure in measured.figures():
        plots.checked(figure.plot, figure.numbers)
        assert set(figure.claims or ()) <= own
        assert figure.title[0].isupper() or figure.title[0].isdigit()
        assert figure.alt.endswith(".")


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_all_that_its_notebook_asks_for(name):
    section = SECTIONS[name]
    assert {claim.notebook for claim in section.CLAIMS} <= {name}
    for profile in profiles.PROFILES.values():
        for group in section.networks(profile).values():
            assert isinstance(group, dict)
    assert isinstance(section.EXERCISE, Exercise)


def test_width_measures_barriers_of_every_width_and_pair():
    study = study_of(width, num_pairs=2)
    trained = study.train("MLP")
    lines = width.lines(study, trained)
    check_record(lines, width)
    assert lines.widths == sorted({size for size, _ in trained})
    assert lines.pairs == study.profile.pairs
    for method in ("naive", "weight", "activation", "changes"):
        assert [len(row) for row in lines.barriers(method)] == [2] * len(lines.widths)
    assert [len(row) for row in lines.barriers("random")].count(2) == 1
    assert len(str(lines.table()).splitlines()) == 1 + len(lines.widths)
    assert "rank correlation" in lines.reading()
    random, naive = (
        np.mean(lines.barriers(method)[lines.widths.index(study.profile.width)])
        for method in ("random", "naive")
    )
    leaves = f"a random order leaves {random:.3f} nats, the naive one {naive:.3f} nats."
    assert leaves in lines.reading()
    for size in lines.widths:
        plots.checked("interpolation", lines.at(size).numbers)
    sketched = rl.dials(lines.before_and_after, predict="weight matching").record
    assert [*sketched["numbers"]["barriers"]] == ["naive", "weight"]
    assert len(str(width.quality(trained)).splitlines()) == 1 + len(lines.widths)


@pytest.mark.slow
def test_width_measures_the_convolutional_families_that_a_profile_has():
    assert width.convolutional(study_of(width)) == []
    families = width.convolutional(study_of(width, profile="laptop"))
    assert [each.family for each in families] == ["VGG", "ResNet"]
    for each in families:
        check_record(each, width)
        assert not any(each.barriers("random"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0256, "nats", "0.026 nats"),
        (0.00004, "nats", "4e-05 nats"),
        (0.0, "nats", "0.000 nats"),
        (-0.0, "nats", "0.000 nats"),
        (95.66, "%", "95.7 %"),
        (512, "", "512"),
        (12345.0, "", "12,345"),
        (12345.678, "", "12,345.678"),
        (float("nan"), "nats", "nan nats"),
        (float("inf"), "", "inf"),
    ],
)
def test_a_quantity_has_its_unit_and_plain_decimals(value, unit, text):
    assert quantities.quantity(value, unit) == text


def test_a_mean_stands_with_its_range_and_its_number():
    table = record.Table(
        rows=["a", "b"],
        columns=[record.Column("loss", "nats", [[0.1, 0.2], [0.3, 0.3]])],
        corner="method",
    )
    assert table.as_texts() == [
        ["method", "loss (nats)", "n"],
        ["a", "0.150 (0.100 to 0.200)", "2"],
        ["b", "0.300", "2"],
    ]
    assert "(0.100\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.200)</td>" in table._repr_html_()


def test_a_column_may_ask_for_the_cell_of_each_key():
    table = record.Table(
        rows={2: "two", 3: "three"},
        columns=[record.Column("square", "", lambda number: number**2)],
    )
    assert table.as_texts() == [["", "square"], ["two", "4"], ["three", "9"]]


def test_a_table_has_a_cell_for_every_row():
    with pytest.raises(ValueError, match="Expected 2 cells in the column 'loss', .*; got 1"):
        record.Table(rows=["a", "b"], columns=[record.Column("loss", "", [1.0])])


def test_a_bar_ends_as_complete_though_read_back_results_never_move_it():
    study = study_of(width)
    with study.bar(3, "read back") as bar:
        pass
    assert bar.total == bar.n  # otherwise JupyterLab keeps it
    with pytest.raises(KeyError), study.bar(3, "stopped") as bar:
        raise KeyError
    assert bar.total == 3


def test_a_figure_says_what_it_shows():
    options = {"name": "x", "plot": "halfway", "numbers": {}, "caption": "C.", "alt": "A."}
    with pytest.raises(ValueError, match="Expected title of the figure to be a text"):
        record.Figure(title="", **options)


EXERCISE = Exercise(oracle=lambda x: 2 * x, cases=[(1.0,), (np.arange(3),)], hint="twice")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: None, "**Your turn.** Hint: twice."),
        (lambda x: 2 * x, "**Right**, on 2 cases."),
        (lambda x: x + 1, "**Not yet.** For ([0, 1, 2]) the library gives [0, 2, 4]"),
        (lambda: 1, "it stopped: TypeError"),
        (lambda x: "a word", "it stopped: ValueError"),
        (lambda x: np.zeros(7), "**Not yet.**"),
        (lambda x: float("nan"), "**Not yet.**"),
    ],
)
def test_an_exercise_is_kind(answer, says):
    assert says in EXERCISE.check(answer)
