"""Parameter trees as flat tables."""

import collections
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from flax.core import freeze
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rebasin_lab import pytrees
from tensors import Tensor

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


@settings(max_examples=50)
@given(TREES, st.integers(0, 2**32 - 1))
def test_ends_of_the_line_are_exact(tree, seed):
    rng = np.random.default_rng(seed)
    other = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), tree)
    same(pytrees.lerp(np.float32(0), tree, other), tree)
    same(pytrees.lerp(np.float32(1), tree, other), other)


# Everything NumPy and ml_dtypes have that a network may hold; on a JAX without float64 its arrays
# are NumPy's.
DTYPES = (
    "float32 bfloat16 float16 float64 float8_e4m3fn float8_e5m2 complex64 complex128 "
    "int8 int32 int64 uint8 int4 uint4"
).split()
kinds = pytest.mark.parametrize("make", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


def drawn(dtype, seed, make=np.asarray):
    values = 3 + np.random.default_rng(seed).uniform(-3, 3, (3, 5))  # unsigned and small, too
    if "complex" in dtype:
        values = values + 2j * values[::-1]
    return {"layers": [{"w": make(values.astype(np.dtype(dtype)))}]}


def same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert isinstance(one, jax.Array) == isinstance(other, jax.Array)
        # Of int4 NumPy sees no bits; all others are the same byte by byte: -0.0, too.
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@kinds
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_line_keeps_the_types_and_its_ends_are_the_models(dtype, make, jit):
    if make is jnp.asarray and dtype in ("float64", "complex128", "int64"):
        pytest.skip("JAX has no 64 bits here")
    a, b = drawn(dtype, 0, make), drawn(dtype, 1, make)
    if jit:
        a, b = jax.device_put((a, b))
    line = jax.jit(pytrees.lerp) if jit else pytrees.lerp
    same_bits(line(np.float32(0), a, b), a)
    same_bits(line(np.float32(1), a, b), b)
    (got,), (left,), (right,) = (
        [np.asarray(x).astype(complex) for x in jax.tree.leaves(tree)]
        for tree in (line(np.float32(0.25), a, b), a, b)
    )
    wanted = 0.75 * left + 0.25 * right
    # Half a step of the type: three bits of float8_e5m2 are the coarsest, integers are rounded.
    coarse = 0.5 if "int" in dtype else 0.13 * abs(wanted)
    assert (abs(got - wanted) <= coarse + 1e-6).all()


def test_ends_keep_signed_zeros_and_let_nothing_of_the_other_end_in():
    a, b = ({"w": jnp.array(x)} for x in ([-0.0, 1.0, jnp.inf], [jnp.nan, jnp.inf, -0.0]))
    for line in (pytrees.lerp, jax.jit(pytrees.lerp)):
        same_bits(line(0.0, a, b), a)
        same_bits(line(1.0, a, b), b)
    same_bits(pytrees.lerp(0, *jax.tree.map(np.asarray, (a, b))), jax.tree.map(np.asarray, a))


def test_line_of_float32_is_the_formula_bit_by_bit():
    a, b = drawn("float32", 0, jnp.asarray), drawn("float32", 1, jnp.asarray)
    for lam in (0.3, np.float32(0.7), -1, 3.0):
        same_bits(
            pytrees.lerp(lam, a, b), jax.tree.map(lambda x, y, t=lam: (1 - t) * x + t * y, a, b)
        )


def test_gradient_passes_through_the_line_in_half_precision():
    a, b = drawn("bfloat16", 0, jnp.asarray), drawn("bfloat16", 1, jnp.asarray)
    gradient = jax.grad(lambda b: pytrees.lerp(0.25, a, b)["layers"][0]["w"].sum())(b)
    assert gradient["layers"][0]["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient["layers"][0]["w"].astype(float), 0.25)


def test_integers_on_a_line_are_rounded_and_equal_ones_stay():
    a, b = {"n": np.int64([2**60 + 1, 0, 250])}, {"n": np.int64([2**60 + 1, 3, 255])}
    np.testing.assert_array_equal(pytrees.lerp(0.5, a, b)["n"], [2**60 + 1, 2, 252])  # to even
    small = [jax.tree.map(lambda x: x[1:].astype(np.uint8), tree) for tree in (a, b)]
    np.testing.assert_array_equal(pytrees.lerp(2.0, *small)["n"], [6, 255])  # the type's largest


def test_booleans_on_a_line_have_to_agree():
    a, b = {"mask": np.array([True, False, True])}, {"mask": np.array([True, True, False])}
    assert pytrees.lerp(0.5, a, a)["mask"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match="same booleans .* 'mask' differs in 2 of 3"):
        pytrees.lerp(0.5, a, b)


@pytest.mark.parametrize(("left", "right"), [("float32", "complex64"), ("int32", "float32")])
def test_numbers_of_another_kind_are_refused(left, right):
    with pytest.raises(ValueError, match=f"one kind; 'layers/0/w' is {left} in params_a and "):
        pytrees.lerp(0.5, drawn(left, 0), drawn(right, 1))


@pytest.mark.parametrize("lam", [None, "0.5", np.nan, np.inf, 1j, np.zeros(2)])
def test_lambda_that_is_no_number_is_refused(lam):
    with pytest.raises(ValueError, match="lam to be a finite number"):
        pytrees.lerp(lam, {"w": np.ones(2)}, {"w": np.ones(2)})


def test_b_is_brought_into_the_containers_of_a():
    layers = [Layer(np.full(2, float(i)), np.full(3, -float(i))) for i in range(12)]
    dicts = [layer._asdict() for layer in layers]
    trees = {
        "list": {"layers": layers},
        "tuple": {"layers": tuple(dicts)},
        "integers": {"layers": dict(enumerate(dicts))},
        "text": serialization.to_state_dict({"layers": dicts}),  # "10" comes before "2"
        "frozen": freeze({"layers": dict(enumerate(dicts))}),
        "ordered": collections.OrderedDict(layers=list(reversed(list(reversed(dicts))))),
    }
    for a, b in itertools.product(trees.values(), repeat=2):
        same_bits(pytrees.aligned(a, b)[1], a)
        same_bits(pytrees.lerp(0.5, a, b), a)
        assert pytrees.distance(a, b) == 0


@pytest.mark.parametrize("dtype", ["float32", "int64", "bfloat16", "float8_e4m3fn"])
def test_torch_tensors_are_read_as_arrays(dtype):
    a, b = drawn(dtype, 0), drawn(dtype, 1)
    a_torch, b_torch = (
        jax.tree.map(lambda leaf: Tensor(leaf, f"torch.{dtype}"), tree) for tree in (a, b)
    )
    same_bits(pytrees.as_arrays(a_torch), a)
    same_bits(pytrees.unflatten(pytrees.flatten(a_torch)), pytrees.unflatten(pytrees.flatten(a)))
    same_bits(pytrees.lerp(0.5, a_torch, b), pytrees.lerp(0.5, a, b))
    assert pytrees.distance(a_torch, b_torch) == pytrees.distance(a, b)


def test_tensor_that_numpy_cannot_hold_is_named():
    tree = {"w": Tensor(np.ones(2), "torch.qint8")}
    with pytest.raises(ValueError, match=r"'w' is a Tensor of qint8: Got unsupported .* dense"):
        pytrees.flatten(tree)


def test_byte_order_becomes_that_of_the_machine():
    swapped = {"w": np.arange(3, dtype=np.dtype(np.float32).newbyteorder())}
    same_bits(pytrees.as_arrays(swapped), {"w": np.arange(3, dtype=np.float32)})
    assert pytrees.lerp(0.5, swapped, swapped)["w"].dtype.isnative


@pytest.mark.parametrize(
    "leaf",
    [
        np.array(["a"]),
        np.array([None]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, np.longdouble),
        np.zeros(2, [("x", "f4")]),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        jax.random.key(0),
        jax.ShapeDtypeStruct((2,), np.float32),
        1.5,
        "text",
    ],
    ids=str,
)
def test_what_holds_no_numbers_is_named(leaf):
    fine, wrong = {"layers": [np.ones(2)]}, {"layers": [leaf]}
    calls = (pytrees.aligned, pytrees.distance, lambda a, b: pytrees.lerp(0.5, a, b))
    for call, (pair, side) in itertools.product(
        calls, [((wrong, fine), "params_a"), ((fine, wrong), "params_b")]
    ):
        with pytest.raises(ValueError, match=f"every leaf to .* {side} 'layers/0' is a "):
            call(*pair)


def test_complex_numbers_are_measured_like_pairs_of_real_ones():
    rng = np.random.default_rng(0)
    a, b = ({"w": x[0] + 1j * x[1], "v": x[2]} for x in rng.standard_normal((2, 3, 4)))
    apart = [np.stack([tree["w"].real, tree["w"].imag, tree["v"]]) for tree in (a, b)]
    assert pytrees.distance(a, b) == pytest.approx(np.linalg.norm(apart[0] - apart[1]), rel=1e-12)
    assert pytrees.inner_product(a, b) == pytest.approx((apart[0] * apart[1]).sum(), rel=1e-12)
    assert pytrees.distance({"w": np.array([3 + 4j])}, {"w": np.zeros(1, np.complex64)}) == 5


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
