"""The section on normalisation (A.4) at tiny sizes: lines, layers, and orders of channels."""

import math

import numpy as np
import pytest

from paper.test_sections import check_record, study_of
from rebasin_lab.lab import plots
from rebasin_lab.paper.sections import channel_norms, normalisation, normed_lines


def test_lines_are_walked_with_both_kinds_of_statistics_and_in_every_order():
    study = study_of(normalisation)
    lines = normalisation.walk_lines(study)
    collapse = normalisation.Collapse(lines)
    for record in (lines, collapse):
        check_record(record, normalisation)
        assert record.reading()
    assert set(lines.walks) == {
        (kind, *line) for kind, every in normed_lines.LINES.items() for line in every
    }
    assert {len(each) for each in lines.walks.values()} == {study.profile.num_normed_pairs}
    assert len(str(collapse.table()).splitlines()) == 1 + len(lines.walks)
    assert len(str(lines.quality()).splitlines()) == 3
    for kind in normed_lines.LINES:
        for stop in range(len(lines.lambdas)):
            figure = lines.at(kind, stop)
            plots.checked(figure.plot, figure.numbers)
            assert len(figure.numbers["lines"]) <= 5
    ends = [walk.relative_std[0] for each in lines.walks.values() for walk in each]
    np.testing.assert_allclose(ends, 1, rtol=1e-5)


def test_layers_have_names_that_a_reader_knows():
    layers = ("into stages/0/0/conv1/kernel", "into stages/0/0/conv2/kernel")
    layers += (
        "into stages/0/1/conv1/kernel",
        "into stages/1/0/shortcut/kernel",
        "into head/kernel",
    )
    assert normed_lines.layer_names(layers) == [
        "block 1, conv 1",
        "block 1, conv 2",
        "block 2, conv 1",
        "block 3, shortcut",
        "head",
    ]


def test_instance_norm_allows_every_order_and_group_norm_some():
    norms = normalisation.permute_channels()
    check_record(norms, normalisation)
    assert norms.any_order["InstanceNorm"] < 1e-5 < 0.01 < norms.any_order["GroupNorm"]
    assert max(norms.allowed.values()) < 1e-5
    groups = channel_norms.KINDS["GroupNorm"]
    inside = channel_norms.NUM_CHANNELS // groups
    orders = math.factorial(groups) * math.factorial(inside) ** groups
    assert norms.symmetries["GroupNorm"] == pytest.approx(math.log10(orders))
    assert "does not allow every order" in norms.reading()


def test_the_exercise_is_the_spread_of_a_mean():
    a, noise = np.random.default_rng(0).normal(size=(2, 200_000))
    for (correlation,) in normalisation.EXERCISE.cases:
        b = correlation * a + np.sqrt(1 - correlation**2) * noise
        expected = np.std((a + b) / 2)
        assert normalisation.EXERCISE.oracle(correlation) == pytest.approx(expected, abs=0.01)
