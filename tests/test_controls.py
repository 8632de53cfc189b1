"""Controls of a merge: networks that a merge is held against."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rebasin_lab import merging

NETWORK = {
    "kernel": np.arange(12.0).reshape(3, 4),
    "half": np.arange(5).astype(ml_dtypes.bfloat16),
    "inside": {"bias": jnp.arange(4.0), "steps": np.arange(7)},
}


def test_a_shuffled_network_has_the_same_numbers_elsewhere(trees_equal):
    junk = merging.shuffled(NETWORK)
    for was, now in (
        (NETWORK["kernel"], junk["kernel"]),
        (NETWORK["half"], junk["half"]),
        (NETWORK["inside"]["bias"], junk["inside"]["bias"]),
    ):
        assert now.dtype == was.dtype
        np.testing.assert_array_equal(np.sort(now, axis=None), np.sort(was, axis=None))
    assert not np.array_equal(junk["kernel"], NETWORK["kernel"])
    np.testing.assert_array_equal(junk["inside"]["steps"], np.arange(7))  # a counter
    trees_equal(junk, merging.shuffled(NETWORK))
    assert not np.array_equal(junk["kernel"], merging.shuffled(NETWORK, seed=1)["kernel"])


def test_controls_are_the_ends_and_a_merge_with_junk():
    networks = [{"w": np.arange(6.0) + 10 * n} for n in range(3)]
    asked = []

    def merge(networks, weights):
        asked.append(networks)
        return merging.average(networks, weights)

    found = merging.controls(merge, networks)
    assert list(found) == [*(f"all weight on {n}" for n in (1, 2, 3)), "others shuffled"]
    for number, network in enumerate(networks, start=1):
        np.testing.assert_array_equal(found[f"all weight on {number}"]["w"], network["w"])
    first, *junk = asked[-1]
    np.testing.assert_array_equal(first["w"], networks[0]["w"])
    for own, other in zip(networks[1:], junk, strict=True):
        np.testing.assert_array_equal(np.sort(other["w"]), own["w"])
    assert not np.array_equal(junk[0]["w"] - 10, junk[1]["w"] - 20)  # each is mixed by itself
    np.testing.assert_allclose(found["others shuffled"]["w"], merging.average(asked[-1])["w"])


def test_one_network_has_no_controls():
    with pytest.raises(ValueError, match="Expected two or more networks to merge; got 1"):
        merging.controls(merging.average, [NETWORK])
