"""The section of `00_quickstart` at tiny sizes: orders of B, and what they do to the average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab.paper.sections import quickstart


@pytest.fixture(scope="module")
def measured():
    """A and B, the order of weight matching, and the lines."""
    study = study_of(quickstart)
    pair = a, b = tuple(study.train("MLP").values())
    spec = rl.infer_permutation_spec(a.model.apply, a.params, study.data.test_images[:1])
    found = rl.match("weight", spec, a.params, b.params, seed=0)
    orders = quickstart.orders(study, pair, spec, found.permutation)
    matched = rl.apply_permutation(spec, found.permutation, b.params)
    naive, after = (
        rl.interpolation_curve(a.model.apply, a.params, end, study.data, num_lambdas=3)
        for end in (b.params, matched)
    )
    return study, orders, quickstart.merges(orders, naive=naive, matched=after)


def test_the_task_and_its_learning_are_shown(measured):
    study, orders, _ = measured
    for record in (quickstart.task(study), quickstart.learning(*orders.pair)):
        check_record(record, quickstart)


def test_an_order_moves_the_weights_of_b_and_not_what_it_reads(measured, monkeypatch):
    _, orders, _ = measured
    check_record(orders, quickstart)
    a, b = (jax.flatten_util.ravel_pytree(one.params)[0] for one in orders.pair)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert orders.distances()["naive"] == pytest.approx(np.linalg.norm(a - b), rel=1e-5)
    assert orders.angles()["naive"] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-4)
    assert orders.distances()["weight matching"] < orders.distances()["naive"]
    assert len({*orders.accuracies().values()}) == 1
    assert len(str(orders.table()).splitlines()) == 4
    assert "of the distance" in orders.reading()
    for random, said in ((9.0, "nearer to A than"), (10.1, "as far from A"), (11.0, "farther")):
        distances = dict(zip(quickstart.ORDERS, (10.0, random, 8.0), strict=True))
        monkeypatch.setattr(type(orders), "distances", lambda self, told=distances: told)
        assert said in orders.reading()
        assert "leaves 80.0 %" in orders.reading()


def test_the_learned_part_moves_with_the_units(measured):
    _, orders, _ = measured
    b = orders.pair[1]
    first = [np.asarray(b.params_after(epoch)["layers"][0]["kernel"]) for epoch in (2, 0)]
    learned, order = orders.learned(), orders.permutations["weight matching"]["P_0"]
    np.testing.assert_allclose(learned["naive"], first[0] - first[1], atol=1e-6)
    np.testing.assert_array_equal(learned["weight matching"], learned["naive"][:, order])


def test_averages_are_held_against_their_parents_and_an_ensemble(measured):
    study, orders, merges = measured
    check_record(merges, quickstart)
    assert [*merges.measured][2:5] == [f"average, {order}" for order in quickstart.ORDERS]
    assert len(str(merges.table()).splitlines()) == 1 + 6
    assert "ensemble" in merges.reading()
    apply_fn, data = orders.pair[0].model.apply, study.data
    half_way = rl.lerp(0.5, *(one.params for one in orders.pair))
    right = (
        np.asarray(apply_fn(half_way, jnp.asarray(data.test_images))).argmax(-1) == data.test_labels
    )
    assert merges.measured["average, naive"].accuracy == pytest.approx(right.mean())
    for lam in (0.0, 0.5, 1.0):
        shown = merges.at(lam)
        rl.picture(shown.plot, shown.numbers, alt=shown.alt)
    assert f"naive: {100 * right.mean():.1f} % of all" in merges.at(0.5).alt
