"""Weights and activations together: at its two ends, either alone."""

import numpy as np
import pytest

import rebasin_lab as rl
from oracles import assert_same_permutation, given_total, objective, plant
from rebasin_lab.matching import combined_matching
from rebasin_lab.matching.activation import unit_similarities


@pytest.fixture
def options(architecture, tiny_data):
    """Units as they are written: none of them is silent for all images."""
    return {"apply_fn": architecture.apply_fn, "data": tiny_data, "where": "written"}


def test_without_activations_it_is_weight_matching(architecture, options):
    pair = architecture.init_numpy(0), architecture.init_numpy(1)
    ignore = [path for path, names in architecture.spec.axes.items() if len(names) == 1][:1]
    options |= {"ignore": ignore}
    found = combined_matching(architecture.spec, *pair, activation_share=0.0, **options)
    expected = rl.match("weight", architecture.spec, *pair, normalize=True, ignore=ignore)
    assert_same_permutation(found.permutation, expected.permutation)
    # Up to the length of the weights, by which a cosine is divided, and to what nobody moves.
    climbed, wanted = (np.subtract(one.objective, one.objective[0]) for one in (found, expected))
    scale = wanted[-1] / climbed[-1]
    np.testing.assert_allclose(scale * climbed, wanted, rtol=1e-5, atol=1e-4 * wanted[-1])
    assert -1 <= found.objective[0] < found.objective[-1] <= 1


def test_without_weights_it_is_activation_matching(architecture, options):
    spec, pair = architecture.spec, (architecture.init_numpy(0), architecture.init_numpy(1))
    found = combined_matching(spec, *pair, activation_share=1.0, **options)
    alone = rl.match("activation", spec, *pair, **options).permutation
    similarities, sizes = unit_similarities(spec, *pair, **options), spec.all_sizes(pair[0])

    def mean(permutation):
        totals = [given_total([one], permutation, sizes) for one in similarities]
        sizes_of = [np.prod([sizes[name] for name in one.entries]) for one in similarities]
        return np.mean(np.divide(totals, sizes_of))

    assert found.objective[-1] == pytest.approx(mean(found.permutation), abs=1e-5)
    assert found.objective[-1] >= mean(alone) - 1e-5
    if spec.is_plain:  # two similarities about the same heads are not weighed alike in the two
        assert_same_permutation(found.permutation, alone)


def test_in_between_both_count(mlp, tiny_data):
    pair, options = (mlp.init_numpy(0), mlp.init_numpy(1)), {"apply_fn": mlp.apply_fn}
    orders, ends = {}, []
    for share in (0.0, 0.5, 1.0):
        found = combined_matching(
            mlp.spec, *pair, data=tiny_data, activation_share=share, effort="thorough", **options
        )
        orders[share] = found.permutation
        ends.append(found.objective[-1])
    # The best mix is no better than the mix of what is best for each.
    assert ends[1] <= (ends[0] + ends[2]) / 2 + 1e-6
    weights = [objective(mlp.spec, orders[share], *pair) for share in (0.0, 0.5, 1.0)]
    assert weights[0] > weights[1] > weights[2]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_planted_permutation_is_recovered(architecture, options, share):
    params_a = architecture.init_numpy(0)
    params_b, planted = plant(architecture.spec, params_a)
    found = combined_matching(
        architecture.spec, params_a, params_b, activation_share=share, **options
    )
    assert_same_permutation(found.permutation, planted)
    # The cosine of weights and the correlations are 1 then, where all units ever change.
    assert found.objective[-1] == pytest.approx(1, abs=1e-3)
