"""The onset at tiny sizes: barriers by epoch, orders of units, partners, and untrained networks."""

import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab.lab import plots
from rebasin_lab.paper.sections import onset as section
from rebasin_lab.paper.sections import pair_lines


@pytest.fixture(scope="module")
def measured():
    study = study_of(section, num_pairs=2)
    trained = study.train("MLP")
    return study, trained, section.ages(study, trained)


@pytest.mark.filterwarnings("ignore:.*NearConstantInput|.*ConstantInput")
def test_onset_measures_every_order_at_every_epoch_and_pair(measured):
    study, trained, ages = measured
    check_record(ages, section)
    assert ages.epochs == [0, 1, study.profile.num_epochs]
    for method in pair_lines.NAMES:
        assert np.shape(ages.barriers(method)) == (len(ages.epochs), 2)
    assert len(str(section.quality(trained)).splitlines()) == len(ages.epochs)
    assert len(str(ages.table()).splitlines()) == 1 + len(ages.epochs)
    assert "on 2 pairs" in ages.reading()


def test_at_the_end_the_permutation_of_the_end_is_algorithm_1s(measured):
    ages = measured[2]
    last = ages.epochs[-1]
    assert ages.at_epoch("late", last) == ages.at_epoch("algorithm_1", last)
    for pair in ages.pairs:
        first, end = (ages.lines[epoch].compared[pair] for epoch in (0, last))
        for layer, order in first["late"].permutation.items():
            np.testing.assert_array_equal(order, end["algorithm_1"].permutation[layer])
        # Nothing has changed at epoch 0: its learned part is that of the end.
        for layer, order in first["changes"].permutation.items():
            np.testing.assert_array_equal(order, end["changes"].permutation[layer])


def test_dials_draw_any_pair_at_any_epoch_on_axes_that_stand_still(measured):
    ages = measured[2]
    figures = [ages.at(epoch, seeds) for epoch in ages.epochs[1:] for seeds in ages.seeds]
    for figure in figures:
        plots.checked(figure.plot, figure.numbers)
    assert len({figure.numbers["most_loss"] for figure in figures}) == 1
    rl.dials(ages.at, predict="Algorithm 1", epoch=ages.epochs[1:], seeds=[*ages.seeds])


def test_orders_partners_and_untrained_networks_are_about_the_same_ages(measured):
    ages = measured[2]
    for record in (section.Orders(ages), section.Partners(ages), section.Untrained(ages)):
        check_record(record, section)
    partners, untrained = section.Partners(ages), section.Untrained(ages)
    for shares in partners.shares().values():
        assert [row[-1] for row in shares] == [1, 1]
    np.testing.assert_array_less(np.abs(partners.cosines("random")), 1)
    assert "cosines" in partners.reading()
    beaten = [max(untrained.lines.accuracies(each)[0] for each in ("naive", "algorithm_1")), 10.0]
    assert (
        untrained.above_controls()[0] <= untrained.lines.accuracies("late")[0] - max(beaten) + 1e-9
    )
    assert "learned part" in section.Orders(ages).reading()


def test_a_network_at_its_start_has_not_moved(measured):
    orders = section.Orders(measured[2])
    assert orders.moved(0) == [0] * len(measured[1])
    assert min(orders.moved(1)) > 0


@pytest.mark.slow
def test_photographs_are_measured_where_a_profile_has_them(measured):
    assert section.photographs(*measured[::2]) == []
    study = study_of(section, profile="laptop")
    (photographs,) = section.photographs(study, section.ages(study, study.train("MLP")))
    check_record(photographs, section)
    assert min(photographs.rises()) >= 0


def test_sentences_follow_the_barriers(measured, monkeypatch):
    ages = measured[2]

    def leave(line, **heights):
        def barriers(self, method):
            return [[height * heights.get(method, 1.0)] * 2 for height in line]

        def at_epoch(self, method, epoch):
            return barriers(self, method)[self.epochs.index(epoch)]

        for patched in (barriers, at_epoch):
            monkeypatch.setattr(type(ages), patched.__name__, patched)

    falling, rising = [0.0, 2.0, 1.0], [0.0, 1.0, 2.0]
    leave(falling)
    assert "at 1 of 1 stops" in ages.reading()
    leave(rising)
    assert "does not clearly fall" in ages.reading()
    assert "at 0 of 1 stops" in ages.reading()
    orders, partners = section.Orders(ages), section.Partners(ages)
    for height, fault in ((0.2, "largely"), (0.7, "in part"), (3.0, "not")):
        leave(falling, late=height, activation=4.0, changes=5.0)
        assert f"So that barrier is {fault} a failure of the matcher" in orders.reading()
    for own, late, says in (
        (0.2, 0.1, ("*nearer* to A", "the *higher* barrier. Nearness is not all")),
        (0.1, 0.2, ("no nearer to A", "the *higher* barrier.")),
    ):
        monkeypatch.setattr(
            section.Partners,
            "cosines",
            lambda self, method, cosines=(own, late): [[cosines[method == "late"]] * 3] * 2,
        )
        leave(falling, late=0.5)
        assert all(text in partners.reading() for text in says)
    leave(falling, late=2.0)
    assert "the lower barrier." in partners.reading()
    assert "not all that counts" not in partners.reading()
    for percent, is_said in ((20.0, True), (80.0, False)):
        monkeypatch.setattr(section.Orders, "moved", lambda self, _, percent=percent: [percent])
        assert ("most of each weight is still its random start" in orders.reading()) is is_said
