"""The line and the barrier at tiny sizes: lines, the plane, the arc, and the published curves."""

import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.lab.plots import results
from rebasin_lab.paper.sections import line_and_barrier as section
from rebasin_lab.paper.sections import pair_lines, plane_and_arc
from rebasin_lab.paper.sections.study import params_of


@pytest.fixture(scope="module")
def measured():
    study = study_of(section, num_pairs=2)
    return study, section.lines(study, study.train("MLP"))


def test_lines_are_walked_in_four_orders_of_the_same_networks(measured):
    study, lines = measured
    check_record(lines, section)
    assert lines.pairs == study.profile.pairs
    for method in ("naive", "random", "algorithm_1", "weight"):
        assert len(lines.barriers(method)) == 2
        for one, naive in zip(lines.of(method), lines.of("naive"), strict=True):
            ends = [0, -1]
            np.testing.assert_allclose(one.curve.test_loss[ends], naive.curve.test_loss[ends], 1e-4)
    assert lines.shares("naive") == [1, 1]
    assert len(str(lines.table()).splitlines()) == 5
    assert "on 2 pairs" in lines.reading()
    for method in ("algorithm_1", "random"):
        assert f"{100 * np.mean(lines.shares(method)):.1f} %" in lines.reading()
    assert len(str(section.quality(lines.networks)).splitlines()) == 3


def test_a_dial_draws_any_pair_on_axes_that_stand_still(measured):
    _, lines = measured
    shown = [lines.at(seeds) for seeds in lines.seeds]
    for figure, pair in zip(shown, lines.pairs, strict=True):
        ((naive,), (matched,)) = figure.numbers["curves"].values()
        assert naive["train_loss"] == lines.compared[pair]["naive"].curve.train_loss.tolist()
        assert matched == lines.compared[pair]["algorithm_1"].curve.as_numbers()
    (most,) = {figure.numbers["most_loss"] for figure in shown}
    every = [one.curve for key in ("naive", "algorithm_1") for one in lines.of(key)]
    assert most == max(np.max([one.train_loss, one.test_loss]) for one in every)
    rl.dials(lines.at, predict="Algorithm 1, test", seeds=[*lines.seeds])


def test_learned_parts_are_matched_by_weights_and_cosines_are_those_of_the_networks(measured):
    study, lines = measured
    pair, methods = lines.pairs[0], {"naive": {}, "changes": {"method": "weight"}}
    walked = pair_lines.walk(
        lines.networks, [pair], data=study.data, epoch=1, methods=methods, num_lambdas=3
    )
    now, start = (
        [pytrees.flatten(params_of(lines.networks[seed], epoch)) for seed in pair]
        for epoch in (1, 0)
    )
    learned = [
        {path: np.subtract(leaf, first[path]) for path, leaf in each.items()}
        for each, first in zip(now, start, strict=True)
    ]
    spec = symmetry.PermutationSpec(lines.spec.axes)
    own = matching.match("weight", spec, *learned, seed=0).permutation
    for layer, order in walked.first["changes"].permutation.items():
        np.testing.assert_array_equal(order, own[layer])
    a, b = (np.concatenate([np.ravel(leaf) for leaf in each.values()]) for each in now)
    (cosine,) = walked.cosines("naive")
    assert cosine == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), rel=1e-5)


def test_heights_half_way_are_above_the_mean_of_the_ends(measured):
    lines = measured[1]
    (loss, *_) = [one.curve.test_loss for one in lines.of("algorithm_1")]
    assert lines.above_ends("algorithm_1")[0] == pytest.approx(
        loss[loss.size // 2] - (loss[0] + loss[-1]) / 2
    )
    assert lines.below_both()[0] >= lines.above_ends("algorithm_1")[0]


def test_plane_and_arcs_are_about_the_same_pairs(measured):
    study, lines = measured
    plane, arcs = section.plane(study, lines), section.arcs(study, lines)
    check_record(plane, section)
    check_record(arcs, section)
    assert plane.nearer("naive") == [100, 100]
    assert max(plane.nearer("algorithm_1")) < 100
    assert [len(losses) for losses in arcs.on_arc.values()] == [2, 2]
    assert "of 2 pairs" in arcs.reading()


def test_an_arc_keeps_the_length_that_a_chord_loses():
    a, b = {"w": np.array([2.0, 0.0], np.float32)}, {"w": np.array([0.0, 2.0], np.float32)}
    arc = plane_and_arc.slerp(0.5, a, b)["w"]
    np.testing.assert_allclose(arc, [2**0.5, 2**0.5], rtol=1e-6)
    third = plane_and_arc.slerp(1 / 3, a, b)
    np.testing.assert_allclose(third["w"], [3**0.5, 1.0], rtol=1e-6)
    assert pytrees.inner_product(third, third) == pytest.approx(4)
    for lam, end in ((0, a), (1, b)):
        np.testing.assert_allclose(plane_and_arc.slerp(lam, a, b)["w"], end["w"], atol=1e-6)


def test_a_share_of_a_barrier_that_counts_as_zero_is_one_of_zero(measured):
    lines = measured[1]
    chord = [pair_lines.middle(one.curve.train_loss) for one in lines.of("naive")]
    arcs = plane_and_arc.Arcs(lines, {"naive": [loss - 0.001 for loss in chord]})
    barriers = np.maximum(lines.barriers("naive"), pair_lines.ZERO)
    np.testing.assert_allclose(arcs.changes("naive"), 0.001 / barriers)


def test_an_arc_may_be_higher_than_the_chord(measured):
    lines = measured[1]
    a, b = (pair_lines.middle(one.curve.train_loss) for one in lines.of("algorithm_1"))
    arcs = plane_and_arc.Arcs(lines, {"algorithm_1": [a + 1, b - 1e-9]})
    assert "lower on the arc than on the chord for 1 of 2 pairs" in arcs.reading()
    assert "for 1 of the pairs by more than a tenth" in arcs.reading()


def test_published_curves_say_what_the_67_per_cent_are_of():
    published = section.published()
    check_record(published, section)
    assert published.reduction("loss") == pytest.approx(100 * (1 - 1.35445 / 6.1843), abs=0.01)
    assert round(published.reduction("top-1")) == 67
    assert "top-1" in published.reading()
    assert "OT-Fusion" in str(published.table())


@pytest.mark.slow
def test_the_line_measures_the_further_networks_that_a_profile_has():
    assert section.further(study_of(section)) == []
    found = section.further(study_of(section, profile="laptop"))
    assert [each.name for each in found] == ["CIFAR-10 MLP", "ResNet"]
    for each in found:
        check_record(each, section)


def test_a_map_is_smooth_between_its_points_and_as_measured_on_them():
    x, y = np.linspace(-1, 1, 9), np.linspace(0, 2, 7)
    loss = 1 + np.add.outer(y**2, x**2)
    fine_x, fine_y, fine = results._smoothed(x, y, loss)
    np.testing.assert_allclose(fine[::8, ::8], loss, rtol=1e-9)
    np.testing.assert_allclose(fine, 1 + np.add.outer(fine_y**2, fine_x**2), rtol=1e-6)
    holed = np.where(loss > 4, np.nan, loss)
    assert results._smoothed(x, y, holed)[2] is holed
