"""A view names the part of a data set that `subset`, `shrunk` and the splits cut out by hand."""

import dataclasses
import pickle

import numpy as np
import pytest

from rebasin_lab.datasets import View, label_biased_split, load_dataset, load_view, random_halves


def test_a_view_of_all_is_the_data_set_itself(tiny_data):
    assert View().apply(tiny_data) is tiny_data
    assert View(num_train=10**6).apply(tiny_data) is tiny_data


@pytest.mark.parametrize(("part", "index"), [("biased a", 0), ("biased b", 1)])
def test_biased_parts_are_those_of_the_papers_split(tiny_data, part, index):
    indices = label_biased_split(tiny_data.train_labels, tiny_data.num_classes)[index]
    assert View(part=part).apply(tiny_data).digest == tiny_data.subset(indices).digest


def test_biased_parts_can_be_as_unequal_as_one_likes(tiny_data):
    view = View(part="biased a", minority=0.0)
    assert set(view.apply(tiny_data).train_labels) == {5, 6, 7, 8, 9}
    even = View(part="biased a", minority=0.5).apply(tiny_data)
    assert (even.train_labels < 5).mean() == 0.5


def test_a_random_half_goes_by_its_seed(tiny_data):
    halves = [View(part="random half", part_seed=seed).apply(tiny_data) for seed in (3, 4)]
    expected = tiny_data.subset(random_halves(len(tiny_data.train_labels), seed=3)[0])
    assert halves[0].digest == expected.digest != halves[1].digest


def test_fields_apply_in_their_order(tiny_data):
    cut = View(num_train=50, part="random half", part_seed=1, shrink=2).apply(tiny_data)
    first = tiny_data.subset(np.arange(50))
    expected = first.subset(random_halves(50, seed=1)[0]).shrunk(2)
    assert cut.digest == expected.digest
    assert cut.image_shape == (4, 4, 1)
    assert len(cut.test_labels) == len(tiny_data.test_labels)


def test_a_view_can_be_sent_and_is_loaded_once():
    view = pickle.loads(pickle.dumps(View(num_train=100)))
    data = load_view("mnist5k", view)
    assert data is load_view("mnist5k", dataclasses.replace(view))
    assert data.digest == load_dataset("mnist5k").subset(np.arange(100)).digest
