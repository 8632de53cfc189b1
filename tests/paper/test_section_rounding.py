"""Snapshots at 16 bits: near the networks they stand for, and rounded once for all."""

from unittest import mock

import numpy as np
import pytest

from rebasin_lab.paper import store
from rebasin_lab.paper.sections.rounding import STEPS, rounded
from rebasin_lab.paper.sections.study import params_of


def test_rounding_twice_changes_nothing_more(trees_equal):
    params = {"kernel": np.random.default_rng(0).normal(0, 0.05, (20, 30)).astype(np.float32)}
    once = rounded(params)
    assert np.abs(once["kernel"] - params["kernel"]).max() <= 0.5 / STEPS
    trees_equal(rounded(once), once)
    assert not np.signbit(once["kernel"][once["kernel"] == 0]).any()  # zero has one key


@pytest.mark.parametrize("value", [np.nan, np.inf, -70_000.0])
def test_a_weight_that_is_no_multiple_of_a_step_is_named(value):
    with pytest.raises(ValueError, match="'in/bias' to hold numbers below 65,536"):
        rounded({"in": {"bias": np.float32([0.0, value])}})


def test_another_type_is_named():
    with pytest.raises(ValueError, match="'bias' to be float32, to be rounded; got float16"):
        rounded({"bias": np.zeros(2, np.float16)})


@pytest.mark.parametrize(("dataset", "is_rounded"), [("mnist5k", True), ("mnist", False)])
def test_only_networks_of_data_that_a_package_ships_are_rounded(dataset, is_rounded, trees_equal):
    params = {"kernel": np.random.default_rng(0).normal(0, 0.05, (20, 30)).astype(np.float32)}
    experiment = mock.Mock(dataset=dataset)
    experiment.train.num_epochs = 5
    network = mock.Mock(spec=store.Trained, experiment=experiment, params=params)
    network.params_after.return_value = params
    for epoch in (None, 0, 5):
        trees_equal(params_of(network, epoch), params)
    trees_equal(params_of(network, 3), rounded(params) if is_rounded else params)
