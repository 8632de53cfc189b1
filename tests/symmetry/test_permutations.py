"""Acting with permutations: what must hold for every architecture, and the direction."""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import pytrees

SEEDS = range(3)


@st.composite
def three_permutations(draw):
    """Three elements of one symmetry group, with groups of different sizes."""
    sizes = {"P": draw(st.integers(1, 6)), "Q": draw(st.integers(1, 6))}
    return [
        {name: np.array(draw(st.permutations(range(n)))) for name, n in sizes.items()}
        for _ in range(3)
    ]


def matrix(indices):
    """P with P[i, indices[i]] = 1, so that P @ w is w[indices]."""
    return np.eye(len(indices))[np.asarray(indices)]


@pytest.mark.parametrize("seed", SEEDS)
def test_permuting_preserves_logits(architecture, tiny_data, seed):
    params = architecture.init_numpy(seed)
    permutation = rl.random_permutation(architecture.spec, params, seed=seed)
    permuted = rl.apply_permutation(architecture.spec, permutation, params)
    apply_fn, images = jax.jit(architecture.apply_fn), tiny_data.test_images[:20]
    logits, scale = apply_fn(params, images), jnp.abs(apply_fn(params, images)).max()
    # float32 sums in another order differ by about 1e-7 a layer.
    np.testing.assert_allclose(apply_fn(permuted, images) / scale, logits / scale, atol=1e-5)
    assert pytrees.distance(params, permuted) > 1  # it did move


@pytest.mark.parametrize("seed", SEEDS)
def test_invert_undoes_apply_exactly(architecture, trees_equal, seed):
    spec, params = architecture.spec, architecture.init_numpy(seed)
    permutation = rl.random_permutation(spec, params, seed=seed)
    permuted = rl.apply_permutation(spec, permutation, params)
    inverse = rl.invert_permutation(permutation)
    trees_equal(rl.apply_permutation(spec, inverse, permuted), params)


@pytest.mark.parametrize("seed", SEEDS)
def test_applying_a_composition_is_applying_first_then_second(architecture, trees_equal, seed):
    spec, params = architecture.spec, architecture.init_numpy(seed)
    first, second = (rl.random_permutation(spec, params, seed=10 * seed + i) for i in range(2))
    in_turn = rl.apply_permutation(spec, second, rl.apply_permutation(spec, first, params))
    at_once = rl.apply_permutation(spec, rl.compose_permutations(second, first), params)
    trees_equal(at_once, in_turn)


def test_identity_changes_nothing(architecture, trees_equal):
    spec, params = architecture.spec, architecture.init_numpy(0)
    identity = rl.identity_permutation(spec, params)
    trees_equal(rl.apply_permutation(spec, identity, params), params)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_permutation_is_a_bijection_of_every_group(architecture, seed):
    params = architecture.init_numpy(0)
    permutation = rl.random_permutation(architecture.spec, params, seed=seed)
    shapes = {name: indices.shape for name, indices in permutation.items()}
    assert shapes == architecture.spec.shapes(params)
    for indices in permutation.values():
        rows = indices.reshape(-1, indices.shape[-1])
        assert all(sorted(row) == list(range(len(row))) for row in rows)


def test_random_permutation_reaches_every_element_equally_often():
    spec, params = rl.PermutationSpec({"w": ("h", "d[h]")}), {"w": np.ones((2, 2))}
    draws = [rl.random_permutation(spec, params, seed=seed) for seed in range(800)]
    counts = collections.Counter((*p["h"], *p["d[h]"].ravel()) for p in draws)
    # 2 orders of h, and 2 in each of its 2 slots: 100 of each expected, with deviation 10.
    assert len(counts) == 8
    assert all(60 < count < 140 for count in counts.values())


def test_random_permutation_depends_on_its_seed_alone(mlp):
    params = mlp.init(0)
    draws = [rl.random_permutation(mlp.spec, params, seed=seed)["P_0"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("kind", [np.ndarray, jax.Array])
def test_leaves_keep_their_kind_dtype_and_place(architecture, kind):
    params = architecture.init_numpy(0) if kind is np.ndarray else architecture.init(0)
    permutation = rl.random_permutation(architecture.spec, params, seed=0)
    permuted = rl.apply_permutation(architecture.spec, permutation, params)
    assert jax.tree.structure(permuted) == jax.tree.structure(params)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(permuted), strict=True):
        assert isinstance(after, kind)
        assert (after.dtype, after.shape) == (before.dtype, before.shape)


def test_unit_j_goes_to_slot_i():
    spec = rl.PermutationSpec({"w": (None, "P"), "v": ("P",)})
    params = {"w": np.array([[10, 11, 12], [20, 21, 22]]), "v": np.array([0, 1, 2])}
    permuted = rl.apply_permutation(spec, {"P": np.array([2, 0, 1])}, params)
    np.testing.assert_array_equal(permuted["v"], [2, 0, 1])
    np.testing.assert_array_equal(permuted["w"], [[12, 10, 11], [22, 20, 21]])


def test_permuting_both_axes_is_p_w_p_transposed(architecture):
    spec, params = rl.PermutationSpec({"W": ("P", "P")}), {"W": np.arange(16.0).reshape(4, 4)}
    indices = rl.random_permutation(spec, params, seed=1)["P"]
    permuted = rl.apply_permutation(spec, {"P": indices}, params)
    expected = matrix(indices) @ params["W"] @ matrix(indices).T
    np.testing.assert_array_equal(permuted["W"], expected)


@given(three_permutations())
def test_permutations_form_a_group(permutations):
    p, q, r = permutations
    compose, invert = rl.compose_permutations, rl.invert_permutation
    for name, indices in p.items():
        np.testing.assert_array_equal(compose(invert(p), p)[name], np.arange(indices.size))
        np.testing.assert_array_equal(compose(p, invert(p))[name], np.arange(indices.size))
        left, right = compose(compose(p, q), r), compose(p, compose(q, r))
        np.testing.assert_array_equal(left[name], right[name])


@given(three_permutations())
def test_composing_and_inverting_are_products_and_transposes_of_matrices(permutations):
    p, q, _ = permutations
    for name in p:
        composed = matrix(rl.compose_permutations(p, q)[name])
        np.testing.assert_array_equal(composed, matrix(p[name]) @ matrix(q[name]))
        np.testing.assert_array_equal(matrix(rl.invert_permutation(p)[name]), matrix(p[name]).T)


def test_one_unit_has_one_order(tiny_data):
    model = rl.build_model("mlp", dataset=tiny_data, width=1, num_hidden_layers=2)
    params, spec = jax.eval_shape(model.init, jax.random.key(0)), rl.mlp_permutation_spec(2)
    assert rl.log10_num_symmetries(spec, params) == pytest.approx(0, abs=1e-12)
    permutation = rl.random_permutation(spec, params, seed=0)
    assert {name: p.tolist() for name, p in permutation.items()} == {"P_0": [0], "P_1": [0]}


HEADS = rl.PermutationSpec({"w": ("h", "d[h]")})


@pytest.mark.parametrize(
    "rows",
    [np.array([0, 1, 2]), np.array([[0, 1, 2], [0, 1, 1]]), np.array([[0, 1, 2], [3, 4, 5]])],
    ids=["no rows", "duplicate in a row", "out of range"],
)
def test_bad_permutation_of_a_varying_group_is_refused(rows):
    message = r"'d\[h\]' to be an array of shape \(2, 3\) with a permutation of 0 ... 2 along its"
    with pytest.raises(ValueError, match=message):
        rl.apply_permutation(HEADS, {"h": np.arange(2), "d[h]": rows}, {"w": np.ones((2, 3))})


def test_varying_group_without_its_parent_is_refused():
    rows = {"d[h]": np.array([[0, 1], [1, 0]])}
    message = r"of 'h', along which 'd\[h\]' varies, beside that of 'd\[h\]'; it is missing"
    with pytest.raises(ValueError, match=message):
        rl.invert_permutation(rows)
    with pytest.raises(ValueError, match=message):
        rl.compose_permutations(rows, rows)


def test_rows_belong_to_slots_of_the_result():
    permutation = {"h": np.array([1, 0]), "d[h]": np.array([[2, 0, 1], [0, 1, 2]])}
    moved = rl.apply_permutation(HEADS, permutation, {"w": np.arange(6).reshape(2, 3)})["w"]
    np.testing.assert_array_equal(moved, [[5, 3, 4], [0, 1, 2]])
    inverse = rl.invert_permutation(permutation)
    np.testing.assert_array_equal(inverse["d[h]"], [[0, 1, 2], [1, 2, 0]])


def test_stacked_layers_keep_their_place():
    spec = rl.PermutationSpec({"w": ("#0", "P[#0]")})
    permutation = {"P[#0]": np.array([[1, 0], [0, 1]])}
    moved = rl.apply_permutation(spec, permutation, {"w": np.array([[1, 2], [3, 4]])})["w"]
    np.testing.assert_array_equal(moved, [[2, 1], [3, 4]])
    assert rl.random_permutation(spec, {"w": np.ones((2, 2))}, seed=0).keys() == {"P[#0]"}


NO_PERMUTATIONS = {
    "None": (None, "a dict from names to index arrays; got a NoneType"),
    "an array": (np.arange(3), "a dict from names to index arrays; got a ndarray"),
    "a list": ([np.arange(3)], "a dict from names to index arrays; got a list"),
    "a result": (
        types.SimpleNamespace(permutation={}),
        r"got a SimpleNamespace. Write result.permutation",
    ),
    "a number as name": ({0: np.arange(3)}, "names of a spec, such as 'P_0', as keys; got 0"),
    "no name": ({None: np.arange(3)}, "as keys; got None"),
    "a scalar": ({"P": np.int64(0)}, "'P' to be a list of indices, one for each unit; got 0"),
    "floats": (
        {"P": np.array([0.0, 1.0])},
        "'P' to be an array of integers, .* got an array of float64",
    ),
    "booleans": (
        {"P": np.array([False, True])},
        "'P' to be an array of integers, .* got an array of bool",
    ),
    "text": ({"P": "01"}, "'P' to be an array of integers, .* got '01'"),
    "objects": (
        {"P": np.array([0, None])},
        "'P' to be an array of integers, .* got an array of object",
    ),
    "nothing": ({"P": None}, "'P' to be an array of integers, .* got None"),
    "ragged rows": ({"d[h]": [[0, 1], [0]], "h": [0, 1]}, r"'d\[h\]' to be an index array"),
    "twice the same": ({"P": np.array([0, 0, 1])}, "'P' to be a permutation of 0 ... 2"),
    "from one": ({"P": np.array([1, 2, 3])}, "'P' to be a permutation of 0 ... 2"),
    "negative": ({"P": np.array([-1, 0, 1])}, "'P' to be a permutation of 0 ... 2"),
    "a matrix": (
        {"P": np.eye(2, dtype=int)[::-1]},
        r"the axes of 'P' to be its units; .* \(2, 2\)",
    ),
    "rows without slots": ({"P": np.array([[0, 1]])}, "the axes of 'P' to be its units"),
    "no rows": ({"h": [0, 1], "d[h]": [0, 1]}, r"'d\[h\]' to be the slots of 'h', its units"),
    "a row too few": ({"h": [0, 1], "d[h]": [[0, 1]]}, r"the slots of 'h', its units.* \(1, 2\)"),
    "a mask": ({"P": np.ma.masked_array([0, 1], [True, False])}, "'P' .*; got one with a mask"),
    "a PRNG key": ({"P": jax.random.key(0)}, "'P' to be an index array; JAX array with PRNG"),
    "a set": ({"P": {0, 1}}, "'P' to be an array of integers, .* got {0, 1}"),
    "a generator": ({"P": (i for i in range(2))}, "'P' to be an array of integers"),
    "complex numbers": ({"P": np.arange(2) * 1j}, "'P' to be an array of integers"),
    "NaN": ({"P": np.array([0, np.nan])}, "'P' to be an array of integers"),
    "too large": ({"P": np.array([0, 2**63], np.uint64)}, "'P' to be a permutation of 0 ... 1"),
    "shapes": ({"P": jax.ShapeDtypeStruct((2,), int)}, "'P' to be an array of integers"),
    "tokens of text": ({"P": np.array(["0", "1"])}, "'P' to be an array of integers"),
    "an expression": ({"P*Q": [0, 1]}, "the name of one group"),
    "half a name": ({"P[": [0, 1]}, "Expected"),
    "an empty name": ({"": [0, 1]}, "Expected"),
    "an axis that stays": ({"#0": [0, 1]}, "'#0' is an axis that never moves"),
    "one base twice": ({"P": [0, 1], "P[h]": [[0, 1]], "h": [0]}, "one set of slots for 'P'"),
    "trees": ({"layers": {"P": [0, 1]}}, "'layers' to be an array of integers"),
    "duplicate in a row": ({"h": [0, 1], "d[h]": [[0, 1], [1, 1]]}, r"'d\[h\]' to be an array"),
}


@pytest.mark.parametrize("case", NO_PERMUTATIONS)
def test_what_is_no_permutation_is_neither_inverted_nor_composed(without_type_checks, case):
    wrong, message = NO_PERMUTATIONS[case]
    right = rl.random_permutation(HEADS, {"w": np.ones((2, 3))}, seed=0)
    for call in (
        lambda: rl.invert_permutation(wrong),
        lambda: rl.compose_permutations(wrong, right),
        lambda: rl.compose_permutations(right, wrong),
    ):
        with pytest.raises(ValueError, match=rf"(?s)(Expected.*)?{message}"):
            call()
    params = {"w": np.ones((2, 3))}
    with pytest.raises(ValueError, match=r"^Expected"):
        rl.apply_permutation(HEADS, wrong, params)
    if wrong is not None:
        with pytest.raises(ValueError, match=r"^Expected"):
            rl.match("weight", HEADS, params, params, start=wrong)


@pytest.mark.parametrize("kind", [list, np.uint8, np.int32, jnp.asarray])
def test_lists_and_other_integers_are_permutations(without_type_checks, kind):
    def convert(indices):
        return indices.tolist() if kind is list else kind(indices)

    params = {"w": np.arange(6).reshape(2, 3)}
    order = rl.random_permutation(HEADS, params, seed=3)
    converted = {name: convert(indices) for name, indices in order.items()}
    for got, want in (
        (rl.invert_permutation(converted), rl.invert_permutation(order)),
        (rl.compose_permutations(converted, order), rl.compose_permutations(order, order)),
        (
            rl.apply_permutation(HEADS, converted, params),
            rl.apply_permutation(HEADS, order, params),
        ),
    ):
        jax.tree.map(np.testing.assert_array_equal, got, want)
