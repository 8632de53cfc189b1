"""Parameter trees as flat tables."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rebasin_lab import pytrees

ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=4),
    # Values whose squares and products are far from float32's ends.
    elements=st.floats(-100, 100, width=32),
)
# A part made of digits comes back as an integer; "/" separates parts. One dict's keys are
# of one kind, since JAX sorts them.
WORDS = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1).filter(
    lambda text: not text.isdecimal()
)
TREES = st.recursive(
    ARRAYS,
    lambda children: st.one_of(
        st.dictionaries(WORDS, children, min_size=1, max_size=3),
        st.dictionaries(st.integers(0, 12), children, min_size=1, max_size=3),
    ),
    max_leaves=6,
).filter(lambda tree: isinstance(tree, dict))


class Layer(NamedTuple):
    kernel: Any
    bias: Any


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


@example({"x\u00b2": {"\u00b2": np.ones(1, np.float32)}})  # a digit to Unicode, not to int()
@settings(max_examples=50)
@given(TREES)
def test_unflatten_undoes_flatten(tree):
    same(pytrees.unflatten(pytrees.flatten(tree)), tree)


def test_path_of_a_list_entry_has_its_index():
    tree = {"layers": {0: {"kernel": np.ones(2)}}, "norm": [np.ones(1), np.ones(3)]}
    assert list(pytrees.flatten(tree)) == ["layers/0/kernel", "norm/0", "norm/1"]


def test_named_tuples_tuples_and_lists_have_paths_too():
    tree = {"layers": [Layer(np.ones(1), np.ones(2))], "pair": (np.ones(3),)}
    assert list(pytrees.flatten(tree)) == ["layers/0/kernel", "layers/0/bias", "pair/0"]


def test_map_with_path_keeps_the_structure():
    tree = {"layers": [Layer(np.ones(1), np.ones(2))]}
    named = pytrees.map_with_path(lambda path, leaf: f"{path} {leaf.size}", tree)
    assert named == {"layers": [Layer("layers/0/kernel 1", "layers/0/bias 2")]}


def test_leaves_sharing_a_path_are_refused():
    tree = {"a/b": np.ones(1), "a": {"b": np.ones(1)}}
    with pytest.raises(ValueError, match=r"one leaf per path; got \['a/b'\] more than once"):
        pytrees.flatten(tree)


@settings(max_examples=50)
@given(TREES, st.integers(0, 2**32 - 1))
def test_ends_of_the_line_are_exact(tree, seed):
    rng = np.random.default_rng(seed)
    other = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), tree)
    same(pytrees.lerp(np.float32(0), tree, other), tree)
    same(pytrees.lerp(np.float32(1), tree, other), other)


def test_a_quarter_of_the_way_is_nearer_to_a():
    line = pytrees.lerp(0.25, {"w": jnp.zeros(2)}, {"w": jnp.full(2, 8.0)})
    np.testing.assert_array_equal(line["w"], [2, 2])


@settings(max_examples=50)
@given(TREES, st.integers(-9, 9))
def test_distance_and_inner_product_are_those_of_the_concatenated_leaves(tree, shift):
    other = jax.tree.map(lambda leaf: leaf[::-1] + np.float32(shift), tree)
    a, b = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(t)]).astype(np.float64)
        for t in (tree, other)
    )
    # Both in float64: only the order of the sum differs.
    assert pytrees.distance(tree, other) == pytest.approx(np.linalg.norm(a - b), rel=1e-12)
    assert pytrees.inner_product(tree, other) == pytest.approx(a @ b, rel=1e-12, abs=1e-8)


def test_distance_sums_in_double_precision():
    # In float32, 1e8 + 1 is 1e8.
    a = {"large": jnp.array([1e4]), "small": jnp.array([1.0])}
    b = jax.tree.map(jnp.zeros_like, a)
    assert pytrees.distance(a, b) ** 2 == pytest.approx(1e8 + 1, rel=1e-12)


def test_number_of_parameters_counts_scalars():
    assert pytrees.num_parameters({"w": np.ones((3, 4)), "b": np.ones(4), "s": np.ones(())}) == 17


def test_missing_leaf_is_named_on_the_side_that_lacks_it():
    a, b = {"w": np.ones(2), "b": np.ones(2)}, {"w": np.ones(2)}
    with pytest.raises(ValueError, match="params_a has a leaf 'b' and params_b has none"):
        pytrees.check_same_shapes(a, b)
    with pytest.raises(ValueError, match="params_b has a leaf 'b' and params_a has none"):
        pytrees.check_same_shapes(b, a)


def test_differing_shapes_are_both_named():
    a, b = {"w": np.ones((2, 3))}, {"w": np.ones((2, 4))}
    with pytest.raises(ValueError, match=r"'w' has shape \(2, 3\) in params_a and \(2, 4\) in"):
        pytrees.check_same_shapes(a, b)
    pytrees.check_same_shapes(a, a)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad):
    params = {"fine": np.ones(3), "layers": [np.array([1, bad, bad, 2], np.float32)]}
    with pytest.raises(ValueError, match="params_b 'layers/0' holds 2 NaN or infinite values of 4"):
        pytrees.check_finite(params, "params_b")
    pytrees.check_finite({"fine": jnp.ones(3), "counts": np.arange(3)}, "params_a")
