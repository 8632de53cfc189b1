"""Splits: disjoint, covering, seeded; the label-biased one is the paper's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab.datasets import splits

label_lists = st.lists(st.integers(0, 6), min_size=1, max_size=200)


def reference_split(labels, label_split):
    """Arithmetic of the authors' script, which has 50,000 labels and 25,000 in each half."""
    order = np.random.default_rng(123).permutation(50_000)
    low, high = order[labels[order] < label_split], order[labels[order] >= label_split]
    return np.append(low[:5000], high[5000:]), np.append(high[:5000], low[5000:])


@pytest.mark.parametrize("num_classes", [10, 100])
def test_label_biased_split_is_the_papers(num_classes):
    labels = np.random.default_rng(0).permutation(np.arange(50_000) % num_classes)
    got = splits.label_biased_split(labels, num_classes)
    np.testing.assert_array_equal(got, reference_split(labels, num_classes // 2))


def test_label_biased_split_golden():
    labels = (np.arange(50_000) % 100).astype(np.int32)
    indices_a, indices_b = splits.label_biased_split(labels, 100)
    message = "the paper's split for seed 123 changed: has NumPy changed its generator?"
    assert indices_a[:4].tolist() == [49045, 15732, 1613, 3536], message
    assert indices_b[:4].tolist() == [23996, 15458, 49899, 28268], message


@given(labels=label_lists, seed=st.integers(0, 2**32), minority=st.floats(0, 1))
def test_label_biased_split_partitions_any_labels(labels, seed, minority):
    labels = np.array(labels)
    indices_a, indices_b = splits.label_biased_split(labels, 7, seed=seed, minority=minority)
    both = np.concatenate([indices_a, indices_b])
    np.testing.assert_array_equal(np.sort(both), np.arange(len(labels)))
    num_low = np.count_nonzero(labels < 3.5)
    assert np.count_nonzero(labels[indices_a] < 3.5) == round(minority * num_low)


@given(labels=label_lists, seed=st.integers(0, 100))
def test_label_biased_split_depends_on_the_seed_alone(labels, seed):
    first, second = (splits.label_biased_split(np.array(labels), 7, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_label_biased_split_refuses_a_percentage():
    with pytest.raises(ValueError, match=r"minority, a fraction, to be in \[0, 1\]; got 20"):
        splits.label_biased_split(np.array([0, 1]), 2, minority=20.0)


@given(num_examples=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_random_halves_partition(num_examples, seed):
    half, rest = splits.random_halves(num_examples, seed=seed)
    assert len(half) == num_examples // 2
    np.testing.assert_array_equal(np.sort(np.append(half, rest)), np.arange(num_examples))
    np.testing.assert_array_equal(half, splits.random_halves(num_examples, seed=seed)[0])


def test_random_halves_differ_between_seeds():
    assert set(splits.random_halves(100, seed=0)[0]) != set(splits.random_halves(100, seed=1)[0])


def test_random_halves_refuse_a_negative_number():
    with pytest.raises(ValueError, match="num_examples to be 0 or more; got -1"):
        splits.random_halves(-1, seed=0)


@given(labels=label_lists)
def test_every_fifth_takes_a_fifth_of_each_class(labels):
    labels = np.array(labels)
    is_test = splits.every_fifth_of_each_class(labels)
    for label in np.unique(labels):
        places = np.flatnonzero(is_test[labels == label])
        np.testing.assert_array_equal(places, np.arange(4, np.sum(labels == label), 5))


@given(labels=label_lists)
def test_classes_in_turn_is_an_order_that_never_lets_a_class_run_ahead(labels):
    labels = np.array(labels)
    order = splits.classes_in_turn(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    for label in np.unique(labels):
        assert np.all(np.diff(order[labels[order] == label]) > 0), "a class keeps its own order"
    seen = np.cumsum(labels[order][:, None] == np.arange(labels.max() + 1), axis=0)
    total = np.bincount(labels)
    unfinished = seen < total
    for counts, open_classes in zip(seen, unfinished, strict=True):
        if open_classes.any():
            assert counts.max() - counts[open_classes].min() <= 1
