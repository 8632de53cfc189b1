"""Appendix A.10 at tiny sizes: MergeMany, its orders, and networks on random halves."""

import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab import pytrees
from rebasin_lab.lab import plots
from rebasin_lab.paper.sections import answers, merging_many, merging_orders, random_halves


@pytest.fixture(scope="module")
def study():
    return study_of(merging_many, num_merged=3, num_halves=3)


@pytest.fixture(scope="module")
def search(study):
    return merging_many.search(study, study.train("singles"))


def test_both_starts_end_and_the_paper_s_is_networks_as_they_came(search):
    check_record(search, merging_many)
    own = rl.merge_many(search.spec, search.params, start="identity")
    assert search.merges["paper"].history == own.history
    assert all(merge.converged for merge in search.merges.values())
    assert "by themselves" in search.reading()


def test_table_3_is_what_the_library_says_of_each_network(search, study):
    table = merging_many.table_3(search)
    check_record(table, merging_many)
    model = search.networks[0].model
    for way, params in (
        ("single", search.params[0]),
        ("naive mean", rl.average(search.params)),
        ("MergeMany", search.merges["paper"].params),
    ):
        own = rl.evaluate(model.apply, params, study.data.test_images, study.data.test_labels)
        assert table.values("loss", way)[0] == pytest.approx(own.loss, rel=1e-4)
        assert table.values("error", way)[0] == pytest.approx(100 - 100 * own.accuracy, abs=0.01)
    images, labels = study.data.test_images, study.data.test_labels
    own = rl.evaluate(rl.ensemble(model.apply), search.params, images, labels)
    assert table.values("loss", "ensemble")[0] == pytest.approx(own.loss, rel=1e-4)
    assert len(str(table.table()).splitlines()) == 7


def test_parts_of_an_inner_product_add_up_to_that_of_the_networks(study, search):
    orders = merging_orders.orders(study, search)
    check_record(orders, merging_many)
    whole, initial, mixed, learned = orders.products["MergeMany"]
    assert initial + mixed + learned == pytest.approx(whole)
    moved = [
        rl.apply_permutation(search.spec, order, params)
        for order, params in zip(search.merges["paper"].permutations, search.params, strict=True)
    ]
    pairs = [(0, 1), (0, 2), (1, 2)]
    direct = np.mean([pytrees.inner_product(moved[i], moved[j]) for i, j in pairs])
    assert whole == pytest.approx(direct, rel=1e-4)
    assert [len(points) for points in orders.by_number.values()] == [3] * 5
    assert "initial" in orders.reading()


def test_halves_are_merged_in_several_numbers_and_a_dial_shows_each(study, search):
    halves = random_halves.halves(study, study.train("halves"), search)
    check_record(halves, merging_many)
    assert halves.counts == [1, 2, 3]
    for count in halves.counts:
        for metric in merging_many.METRICS.values():
            figure = halves.at(count, metric)
            plots.checked(figure.plot, figure.numbers)
    one = answers.score_all(halves.by_count[1], study.data)
    assert one["MergeMany"] == one["single"]
    assert len(str(halves.table()).splitlines()) == 6


def test_a_better_merged_network_is_called_so_by_the_metrics_that_say_it(search, monkeypatch):
    table = merging_many.table_3(search)
    single = {"loss": 0.3, "tempered": 0.2, "error": 5.0}
    says = {
        "single": single,
        "MergeMany": single | {"loss": 0.1},
        "ensemble": {"loss": 0.1, "tempered": 0.1, "error": 4.0},
    }
    monkeypatch.setattr(
        merging_many.Table3, "values", lambda self, metric, way, *_: [says[way][metric]]
    )
    assert "merged network test loss; of the ensemble test loss, tempered" in table.reading()
    says["MergeMany"] = single
    assert "of the merged network none of the three" in table.reading()
