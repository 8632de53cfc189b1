"""The section of `01_symmetries` at tiny sizes: what moves, what stays, and how many ways."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab.paper.sections import symmetries, symmetry_rows


@pytest.fixture(scope="module")
def study():
    return study_of(symmetries)


@pytest.fixture(scope="module")
def network(study):
    (network,) = study.train("MLP").values()
    return network


@pytest.fixture(scope="module")
def swaps(study, network):
    return symmetries.swaps(study, network)


@pytest.fixture(scope="module")
def seen(study):
    return symmetries.point_at(study)


def test_a_swap_is_missed_by_what_two_units_send_and_how_they_respond(swaps, network):
    first, second = (jax.tree.map(np.asarray, network.params["layers"][i]) for i in (0, 1))
    pixels = np.asarray(swaps.images).reshape(len(swaps.images), -1)
    responses = np.maximum(pixels @ first["kernel"] + first["bias"], 0)
    missed = {
        (i, j): np.linalg.norm(second["kernel"][i] - second["kernel"][j])
        * np.sqrt(np.mean((responses[:, i] - responses[:, j]) ** 2))
        for j in range(responses.shape[1])
        for i in range(j)
    }
    assert missed[swaps.most_alike()] == pytest.approx(min(missed.values()), abs=1e-5)
    *_, (_, _, (twins,)) = swaps.measured.values()
    assert twins < 1e-4 < swaps.measured["units 0 and 1"][2][0]
    assert len(str(swaps.table()).splitlines()) == 5
    assert "in the mean" in swaps.reading()


def test_why_two_units_are_not_missed_is_said_of_those_that_were_found(swaps, monkeypatch):
    random, same = ([], [], [1.0]), ([], [], [0.0])
    for change, silent, said in (
        (0.0, True, "neither ever responds"),
        (0.0, False, "what they send, or how they respond"),
        (0.5, False, "no two are alike enough"),
    ):
        responses = np.zeros((9, 3)) if silent else np.ones((9, 3))
        found = {"0, 1": random, "random": random, "least": ([], [], [change]), "twins": same}
        for name, value in (("measured", found), ("_responses", responses)):
            monkeypatch.setitem(swaps.__dict__, name, value)
        monkeypatch.setattr(type(swaps), "most_alike", lambda self: (0, 1))
        assert said in swaps.reading()


def test_the_axis_of_logits_stands_still_while_units_change_places(swaps):
    shown = [swaps.at(i, j, lines) for i, j in ((0, 1), (2, 5)) for lines in symmetries.LINES]
    assert len({tuple(figure.numbers["limits"]) for figure in shown}) == 1
    for figure in shown:
        low, high = figure.numbers["limits"]
        assert low <= min(figure.numbers["after"]) <= max(figure.numbers["after"]) <= high
        rl.picture(figure.plot, figure.numbers, alt=figure.alt)
    assert [figure.numbers["change"] < 1e-3 for figure in shown[:3]] == [True, False, False]


def test_a_shuffled_network_is_the_same_function_unless_a_layer_is_forgotten(study, network):
    spec = rl.infer_permutation_spec(
        network.model.apply, network.params, study.data.test_images[:1]
    )
    shuffles = symmetries.shuffles(study, network, spec)
    check_record(shuffles, symmetries)
    kept, undone, forgotten = shuffles.changes.values()
    assert kept < 1e-5
    assert undone == 0
    assert forgotten > 1e-2
    assert "apart as two unrelated" in shuffles.reading()
    for length, said in ((1.0, "farther apart than"), (9.0, "less far apart than")):
        moved = dataclasses.replace(shuffles, length=length, distances={"by the spec": 3.0})
        assert said in moved.reading()
    assert len(str(shuffles.table()).splitlines()) == 4


def test_numbered_units_keep_their_places_and_equal_ones_do_not(study, network):
    def function(constants):
        def apply_fn(params, images):
            layers = dict(params["layers"])
            layers[1] = layers[1] | {"bias": layers[1]["bias"] + constants}
            return network.model.apply({"layers": layers}, images)

        return symmetries.numbered(study, network, apply_fn)

    width = study.profile.width
    numbered = function(jnp.arange(width))
    check_record(numbered, symmetries)
    assert symmetry_rows.pinned(numbered.picture.numbers) == ["P_1"]
    wrong, right = numbered.changes.values()
    assert right < 1e-4 < wrong
    assert symmetry_rows.pinned(function(jnp.ones(width)).picture.numbers) == []


def test_dials_say_how_many_groups_a_change_pins(seen):
    check_record(seen, symmetries)
    expected = {"nothing": "none of 9 groups is", "+ 0, 1, 2, ...": "2 of 9 groups are"}
    for change, text in expected.items():
        figure = seen.at("vit", change, "of fewest parameters")
        assert f"{text} pinned" in figure.title
        rl.picture(figure.plot, figure.numbers, alt=figure.alt)
    assert "mlp: 3 permutations" in seen.at("mlp", "nothing", "of most parameters").caption


def test_orders_are_counted_as_in_the_table_and_exactly(seen):
    counts = symmetries.counts(seen)
    check_record(counts, symmetries)
    assert counts.claims() == {
        "table1-mlp": 3498,
        "table1-vgg16": 35160,
        "table1-resnet50": 25638,
    }
    assert symmetries.log10_num_orders([3, 4]) == pytest.approx(math.log10(6 * 24))
    assert len(str(counts.table()).splitlines()) == 6
