"""The section of split data at tiny sizes: every record, held against the library."""

import numpy as np
import pytest
import scipy.special

from paper.test_sections import check_record, study_of
from rebasin_lab.analysis import calibration
from rebasin_lab.lab import plots
from rebasin_lab.paper.sections import (
    confidence,
    merged_pairs,
    minorities,
    split_data,
    split_pairs,
)


@pytest.fixture(scope="module")
def study():
    return study_of(split_data, num_pairs=2, num_lambdas=5)


@pytest.fixture(scope="module")
def pairs(study):
    return split_pairs.pairs(study, study.train("pairs"))


@pytest.fixture(scope="module")
def lines(study, pairs):
    return split_data.lines(study, pairs)


@pytest.fixture(scope="module")
def merged(study, lines):
    return merged_pairs.merged(study, lines)


def test_the_parts_share_no_image_and_hold_all(study):
    parts = split_pairs.parts(study)
    check_record(parts, split_data)
    counts = np.array([split_pairs.class_counts(each) for each in parts.parts.values()])
    assert counts.sum(axis=0).tolist() == split_pairs.class_counts(parts.data)
    lower = counts[:, : parts.data.num_classes // 2].sum(axis=1)
    assert lower[0] < lower[1]  # A has the upper classes


def test_ends_of_every_line_are_a_and_b(pairs, lines):
    check_record(lines, split_data)
    assert {"naive", "random", "Algorithm 1", "learned part", "ensemble"} == set(lines.scores)
    for way in lines.scores:
        for end, name in ((0.0, "A"), (1.0, "B")):
            own = lines.values("loss", name)
            assert lines.values("loss", way, end) == pytest.approx(own, rel=1e-4)
    assert len(lines.table(0.25).rows) == 8
    assert len(pairs.table().rows) == 3
    assert "half-way has a lower test loss" in lines.reading()


def test_differences_are_to_the_better_of_the_others(lines):
    for metric, best in (("loss", np.minimum), ("accuracy", np.maximum)):
        ends = best(lines.values(metric, "A"), lines.values(metric, "B"))
        expected = np.array(lines.values(metric, "ensemble")) - ends
        assert lines.difference(metric, "ensemble", "A", "B") == pytest.approx(expected)


def test_an_ensemble_is_the_weighted_geometric_mean():
    said = scipy.special.log_softmax(np.random.default_rng(0).normal(size=(2, 4, 3)), axis=-1)
    p, q = np.exp(said)
    expected = p**0.25 * q**0.75
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.exp(split_pairs.together(*said, 0.75)) == pytest.approx(expected)


def test_five_likeliest_are_those_of_the_image_itself(pairs):
    chance = np.zeros((len(pairs.data.test_labels), pairs.data.num_classes))
    chance[:, :5] = 1.0
    said = scipy.special.log_softmax(chance, axis=1)
    expected = 100 * np.mean(pairs.data.test_labels < 5)
    assert split_pairs.score(said, pairs.data).top5 == pytest.approx(expected)


def test_every_matcher_is_tried_on_every_pair(merged, lines):
    check_record(merged, split_data)
    assert {*merged_pairs.NO_IMAGES, *merged_pairs.IMAGES} <= set(merged.said)
    assert {len(each) for each in merged.said.values()} == {2}
    ends = np.minimum(merged.values("loss", "A"), merged.values("loss", "B"))
    assert merged.below_both("B") == pytest.approx(np.array(merged.values("loss", "B")) - ends)
    assert merged.values("loss", "Algorithm 1") == lines.values("loss", "Algorithm 1")
    assert len(merged.table().rows) == len(merged.said) - 2
    assert "on every pair by" in merged.reading()


def test_a_temperature_is_taken_away_before_networks_are_compared(merged):
    sure = confidence.Confidence(merged)
    check_record(sure, split_data)
    for name in merged.said:
        plain = merged.values("loss", name)
        assert [one.loss for one in sure.tempered[name]] <= [1.1 * loss for loss in plain]
    assert min(np.minimum(sure.left("A"), sure.left("B"))) >= 0
    assert len(sure.table().rows) == len(merged.said)
    assert "best temperatures" in sure.reading()


def test_the_walk_changes_its_loss_and_no_answer_with_the_temperature(study, merged):
    walk = confidence.walk(study, merged)
    assert len(walk.said) <= 5
    for way in walk.said:
        cold, hot = (walk.at(way, 0.5, temperature) for temperature in (1.0, 4.0))
        for figure in (cold, hot):
            plots.checked(figure.plot, figure.numbers)
            assert figure.numbers["loss"] <= walk.most_loss
        assert cold.numbers["accuracy"] == hot.numbers["accuracy"]
    said = walk.said["ensemble"][5]
    expected = calibration.negative_log_likelihood(said / 4, merged.data.test_labels)
    assert walk.at("ensemble", 0.5, 4.0).numbers["loss"] == pytest.approx(expected)


def test_other_splits_are_merged_without_an_image(study):
    others = minorities.minorities(study, study.train("minorities"))
    assert others.percent[0] == 0
    for rare in others.percent:
        figure = others.at(rare)
        plots.checked(figure.plot, figure.numbers)
    rows = others.table().rows
    assert {"naive", "random", "Algorithm 1", "learned part", "ensemble", "A", "B"} == set(rows)
