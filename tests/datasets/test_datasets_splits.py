"""Splits: disjoint, covering, seeded; the label-biased one is the paper's own."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lab.datasets import splits

label_lists = st.lists(st.integers(0, 6), min_size=1, max_size=200)

# Labels as data sets have them: their order, and how many there are of each class.
ORDERS = {
    "in turn": np.arange(1000) % 10,
    "in order": np.sort(np.arange(1000) % 10),
    "every class twice in a row": np.arange(1000) // 2 % 10,
    "imbalanced": np.repeat(np.arange(7), [1, 2, 3, 5, 40, 300, 2]),
    "one class": np.full(31, 4),
    "one example of each class": np.arange(40),
    "negative and far apart": np.array([-3, 10**12, -3, 10**12, 7, 7, 7]),
    "unsigned bytes": (np.arange(600) % 256).astype(np.uint8),
}


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


@given(num_examples=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_random_halves_partition(num_examples, seed):
    half, rest = splits.random_halves(num_examples, seed=seed)
    assert len(half) == num_examples // 2
    np.testing.assert_array_equal(np.sort(np.append(half, rest)), np.arange(num_examples))
    np.testing.assert_array_equal(half, splits.random_halves(num_examples, seed=seed)[0])


def test_random_halves_differ_between_seeds():
    assert set(splits.random_halves(100, seed=0)[0]) != set(splits.random_halves(100, seed=1)[0])


def assert_stratified(parts, labels, num_parts):
    """All that is promised: a partition, of equal sizes, in all and of each class."""
    assert len(parts) == num_parts
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts), "indices in ascending order"
    sizes = [part.size for part in parts]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        shares = [np.count_nonzero(labels[part] == label) for part in parts]
        assert max(shares) - min(shares) <= 1
        assert min(shares) > 0 or count < num_parts, "a class that is large enough is in each part"


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5])
@pytest.mark.parametrize("labels", ORDERS.values(), ids=ORDERS)
def test_each_part_has_its_share_of_each_class(labels, num_parts):
    for seed in range(5):
        assert_stratified(splits.stratified_parts(labels, num_parts, seed=seed), labels, num_parts)


@given(labels=label_lists, num_parts=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_any_labels_are_dealt_out_evenly(labels, num_parts, seed):
    num_parts = min(num_parts, len(labels))
    labels = np.array(labels)
    parts = splits.stratified_parts(labels, num_parts, seed=seed)
    assert_stratified(parts, labels, num_parts)
    again = splits.stratified_parts(labels, num_parts, seed=seed)
    assert all(map(np.array_equal, parts, again))


def test_rare_classes_do_not_go_to_parts_by_their_number():
    # Each class once: some part is without it, but not the same one for every second class.
    labels = np.arange(200)
    for seed in range(5):
        first, _ = splits.stratified_parts(labels, seed=seed)
        assert 30 < np.count_nonzero(labels[first] % 2) < 70  # 50, give or take 4 by chance


def test_odd_ones_out_do_not_go_to_parts_by_their_number():
    # Three of each class: one part has two of them, and not of every second class.
    labels = np.repeat(np.arange(200), 3)
    first, _ = splits.stratified_parts(labels)
    has_two = np.flatnonzero(np.bincount(labels[first]) == 2)
    assert 30 < np.count_nonzero(has_two % 2) < 70


def test_parts_differ_between_seeds_and_images_of_a_class_are_shuffled():
    labels = np.arange(1000) % 10
    first, other = (splits.stratified_parts(labels, seed=seed)[0] for seed in range(2))
    assert set(first) != set(other)
    rounds = first // 10  # an image's place within its class, of 100
    assert 20 < np.count_nonzero(rounds < 50) / 10 < 30  # 25 of each class, on average


def test_parts_do_not_depend_on_what_classes_are_called():
    labels = np.random.default_rng(0).integers(0, 7, 100)
    renamed = 3 * labels - 5  # in the same order
    for part, other in zip(
        splits.stratified_parts(labels, 3), splits.stratified_parts(renamed, 3), strict=True
    ):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize(
    ("labels", "num_parts", "message"),
    [
        (np.array([3]), 2, "as many examples as parts or more; got 1 for 2. Take fewer parts"),
        (np.array([], int), 1, "as many examples as parts or more; got 0 for 1"),
        (np.arange(4), 0, "num_parts to be a whole number, 1 or more; got 0"),
        (np.arange(4), -2, "num_parts to be a whole number, 1 or more; got -2"),
        (np.arange(4), 2.0, "num_parts to be a whole number, 1 or more; got 2.0"),
        (np.arange(4), True, "num_parts to be a whole number, 1 or more; got True"),
        (np.eye(4, dtype=int), 2, r"one class index an example.* int64 of shape \(4, 4\)"),
        (np.array([0.0, 1.0]), 2, r"one class index an example.* float64 of shape \(2,\)"),
        (np.array([True, False]), 2, "one class index an example.* bool of shape"),
        (np.array(["a", "b"]), 2, "one class index an example.* <U1 of shape"),
        (np.array(3), 2, r"one class index an example.* int64 of shape \(\)"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(labels, num_parts, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(splits.stratified_parts)(labels, num_parts)


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
