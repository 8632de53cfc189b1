"""The section of the counterexample at tiny sizes, held against its formulas."""

import dataclasses

import numpy as np
import pytest

from paper.test_sections import check_record, study_of
from rebasin_lab.lab import plots
from rebasin_lab.paper import counterexample as toys
from rebasin_lab.paper.sections import counterexample, tiny_networks


@pytest.fixture(scope="module")
def study():
    return study_of(counterexample, num_orders=3, num_tiny=12)


def test_four_lines_are_those_of_the_formulas(study):
    networks = counterexample.two_networks(study)
    check_record(networks, counterexample)
    assert len(networks.table().rows) == 2
    lines = counterexample.lines(study, points=toys.grid_points(100))
    check_record(lines, counterexample)
    assert lines.claims()["fig6-perfect"] == 0
    assert lines.claims()["fig6-barrier"] <= 1 / 100
    assert lines.squared_distances == pytest.approx(
        dict(zip(toys.PERMUTATIONS, (20, 10, 14, 4), strict=True))
    )
    walk = lines.at("swap both", 0.2)
    plots.checked(walk.plot, walk.numbers)
    assert walk.numbers["error"] == pytest.approx(0.2 / (4 * 0.8))


def test_fewer_points_may_miss_the_formulas(study):
    few = counterexample.lines(study, points=toys.random_points(50, seed=1))
    assert few.num_points == 50
    assert few.claims()["fig6-closed-forms"] > 1 / 400


def test_every_matcher_picks_one_of_four_for_every_seed(study):
    lines = counterexample.lines(study, points=toys.grid_points(20))
    picks = counterexample.picks(study, lines)
    check_record(picks, counterexample)
    assert set(picks.picks) == set(counterexample.MATCHERS)
    assert all(len(names) == 3 for names in picks.picks.values())
    assert picks.claims() == {"fig6-weight-matching": 1.0}


def test_greedy_loses_half_of_a_function_and_algorithm_1_nothing(study):
    slopes = tiny_networks.slopes(study)
    check_record(slopes, counterexample)
    assert slopes.claims()["a72-greedy-slope"] == pytest.approx(0.505, abs=1e-3)
    assert slopes.claims()["a72-weight-matching-slope"] <= 1e-9
    assert "swap both" not in slopes.greedy
    (figure,) = slopes.figures()
    assert figure.title.endswith("Algorithm 1 (swap both) nothing")
    # Where Algorithm 1 ends elsewhere, the title says what that loses.
    picks = [slopes.greedy, *slopes.picks]
    (figure,) = dataclasses.replace(slopes, picks=picks).figures()
    assert figure.title.endswith(f"Algorithm 1 ({slopes.greedy}) 49.7 %")
    assert "0.505 (greedy) and 0.505" in figure.alt


def test_a_changed_weight_changes_that_weight_alone():
    pair = toys.opposite_tests()
    names = {}
    for weight in tiny_networks.WEIGHTS:
        changed = tiny_networks.with_weight(pair.params_b, weight, 5.0)
        leaves = zip(*(each["layers"] for each in (pair.params_b, changed)), strict=True)
        moved = [
            (layer, kind, *place)
            for layer, (before, after) in enumerate(leaves)
            for kind in before
            for place in np.argwhere(before[kind] != after[kind]).tolist()
        ]
        assert len(moved) == 1
        names[str(moved)] = weight
    assert len(names) == len(tiny_networks.WEIGHTS)


def test_no_single_weight_of_a_perfect_network_takes_the_barrier_away(study, monkeypatch):
    monkeypatch.setattr(tiny_networks, "VALUES", [-1.0, 1.0])
    one = tiny_networks.one_weight(study)
    assert len(one.curves) == 2 * len(tiny_networks.WEIGHTS)
    # The counterexample itself, and one that no longer says yes.
    assert one.own_error("W1, x1 to unit 1", 1.0) == 0
    assert one.best("W1, x1 to unit 1", 1.0)[0] == pytest.approx(0.25, abs=1 / 60)
    assert one.own_error("b2, unit 1", 1.0) == pytest.approx(0.25)
    for weight in tiny_networks.WEIGHTS:
        figure = one.at(weight, -1.0)
        plots.checked(figure.plot, figure.numbers)
        assert figure.numbers["most_error"] == one.highest
    assert "networks that this dial makes" in one.reading()


def test_trained_pairs_are_measured_in_every_order(study):
    pairs = tiny_networks.trained_pairs(study)
    assert pairs.num_solved >= 2
    assert {len(each) for each in pairs.barriers.values()} == {pairs.num_solved // 2}
    best = np.array(pairs.barriers["best of four"])
    assert all((best <= np.array(each)).all() for each in pairs.barriers.values())
    (figure,) = pairs.figures()
    plots.checked(figure.plot, figure.numbers)
    assert len(pairs.table().rows) == 4
    assert "make" in pairs.reading()
