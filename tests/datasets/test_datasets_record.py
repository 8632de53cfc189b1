"""The `Dataset` record: scaling, digest, subsets."""

import dataclasses

import jaxtyping
import numpy as np
import pytest

from rebasin_lab.datasets import dataset, formats


def split(num, shape=(2, 3, 1), seed=0):
    rng = np.random.default_rng(seed)
    return formats.Split(
        rng.integers(0, 256, (num, *shape), np.uint8), np.arange(num, dtype=np.uint8) % 4
    )


def build(train=None, test=None, **changes):
    options = {"name": "tiny", "title": "Tiny", "class_names": tuple("abcd"), "source": "nowhere"}
    return dataset.from_splits(train or split(12), test or split(4, seed=1), **options | changes)


def test_every_stored_value_is_divided_exactly():
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    data = build(formats.Split(values, np.zeros(4, np.uint8)), split(4, (8, 8, 1)))
    np.testing.assert_array_equal(data.train_images, values.astype(np.float32) / np.float32(255))


def test_white_becomes_one():
    images = np.full((1, 2, 2, 1), 16, np.uint8)
    tiny = formats.Split(images, np.zeros(1, np.uint8))
    assert (build(tiny, tiny, white=16).train_images == 1).all()
    with pytest.raises(
        ValueError, match=r"every pixel of Tiny to be in \[0, 15\]; got 16, in nowh"
    ):
        build(tiny, tiny, white=15)


def test_label_without_a_class_is_refused():
    with pytest.raises(
        ValueError, match=r"every label of Tiny to be in \[0, 2\]; got 3, in nowhere"
    ):
        build(class_names=("a", "b", "c"))


def test_arrays_are_read_only_and_contiguous():
    data = build()
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_repr_is_one_short_line():
    text = repr(build())
    assert text.startswith("Dataset('Tiny', 12 train, 4 test, image_shape=(2, 3, 1)")
    assert len(text) < 200
    assert "\n" not in text


@pytest.mark.parametrize("field", ["train", "test"])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_digest_sees_every_byte(field, part):
    splits = {"train": split(12), "test": split(4, seed=1)}
    array = getattr(splits[field], part).copy()
    array.flat[-1] ^= 1
    changed = {**splits, field: splits[field]._replace(**{part: array})}
    assert build(**changed).digest != build(**splits).digest


def test_digest_sees_shapes():
    wide, tall = (
        formats.Split(split(4).images.reshape(4, *s, 1), split(4).labels) for s in [(2, 3), (3, 2)]
    )
    assert build(wide, wide).digest != build(tall, tall).digest


def test_digest_does_not_depend_on_memory_layout():
    images, labels = split(12)
    assert build(formats.Split(np.asfortranarray(images), labels)).digest == build().digest


def test_subset_restricts_training_alone():
    data = build()
    part = data.subset(np.array([5, 0, 7]))
    np.testing.assert_array_equal(part.train_images, data.train_images[[5, 0, 7]])
    np.testing.assert_array_equal(part.train_labels, data.train_labels[[5, 0, 7]])
    assert part.test_images is data.test_images
    assert part.title == "Tiny [3 of 12]"


def test_subset_restricts_tests_too_if_asked():
    data = build()
    part = data.subset(np.array([5, 0, 7]), np.array([2, 1]))
    np.testing.assert_array_equal(part.test_images, data.test_images[[2, 1]])
    np.testing.assert_array_equal(part.test_labels, data.test_labels[[2, 1]])
    np.testing.assert_array_equal(part.train_images, data.train_images[[5, 0, 7]])
    num_test = len(data.test_labels)
    assert part.title == f"Tiny [3 of 12, test 2 of {num_test}]"
    digests = {
        cut.digest
        for cut in (
            part,
            data.subset(np.array([5, 0, 7])),
            data.subset(np.array([5, 0, 7]), np.array([1, 2])),
        )
    }
    assert len(digests) == 3
    with pytest.raises(ValueError, match=f"{num_test} test examples of Tiny; got 0 to {num_test}"):
        data.subset(np.array([5]), np.array([0, num_test]))


def test_subset_digest_follows_from_digest_and_indices():
    data = build()
    digest = data.subset(np.array([5, 0])).digest
    assert digest == data.subset(np.array([5, 0], np.int32)).digest
    others = [
        data.subset(np.array([0, 5])),
        dataclasses.replace(data, digest="x").subset(np.array([5, 0])),
        data,
    ]
    assert digest not in {other.digest for other in others}


@pytest.mark.parametrize("indices", [np.ones(12, bool), np.array([]), np.array([0.5])])
def test_subset_by_anything_but_integers_is_refused(indices):
    # Under run-time checks jaxtyping refuses first, and names the same argument.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="indices"):
        build().subset(indices)


def test_shrunk_images_are_the_means_of_their_blocks():
    data = build(split(12, (4, 6, 3)), split(4, (4, 6, 3), seed=1))
    small = data.shrunk(2)
    assert small.image_shape == (2, 3, 3)
    np.testing.assert_allclose(
        small.test_images[2, 1, 0], data.test_images[2, 2:4, :2].mean((0, 1)), rtol=1e-6
    )
    np.testing.assert_array_equal(small.train_labels, data.train_labels)
    assert (small.title, small.digest != data.digest) == ("Tiny at 2x3", True)
    assert not small.train_images.flags.writeable
