"""The engine of the search: what it keeps up to date is what multiplying anew would give."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from oracles import assert_same_permutation, given_total, norms
from rebasin_lab import pytrees, symmetry
from rebasin_lab.matching import products
from rebasin_lab.matching.coordinate_ascent import CoordinateAscent
from rebasin_lab.matching.similarity import GivenSimilarities, UnitSimilarity


def blocks_of(architecture, seed):
    """The spec of the blocks of two unrelated networks, and the blocks, ready for the engine."""
    pair = []
    for params in (architecture.init_numpy(2 * seed), architecture.init_numpy(2 * seed + 1)):
        spec, blocks = symmetry.split_into_blocks(architecture.spec, params)
        pair.append({path: np.ascontiguousarray(block) for path, block in blocks.items()})
    return spec, *pair


def draw_similarity(spec, sizes, entries, rng):
    slots = [sizes[name] for name in entries if name.startswith("#")]
    units = math.prod(sizes[name] for name in entries if not name.startswith("#"))
    return UnitSimilarity(entries, rng.standard_normal((*slots, units, units), np.float32))


def visit_at_random(search, rng, num_visits=30):
    """Gains of visits in random order, some groups more often than others."""
    return [search.update_block(name) for name in rng.choice(search.names, num_visits)]


def test_objective_is_the_sum_of_all_gains(architecture, seed):
    spec, a, b = blocks_of(architecture, seed)
    search, rng = CoordinateAscent(spec, a, b), np.random.default_rng(seed)
    search.keep()
    before = search.objective()
    gains = visit_at_random(search, rng)
    assert all(gain == 0 or gain > min(search.tolerances.values()) for gain in gains)
    # Every gain comes from a float32 similarity: 1e-7 of the norms each.
    slack = 3e-6 * norms(a, b)
    assert search.objective() == pytest.approx(before + sum(gains), rel=0, abs=slack)
    assert search.objective() > before


def test_order_applied_to_b_is_b_bit_for_bit(architecture, seed, trees_equal):
    spec, a, b = blocks_of(architecture, seed)
    search, rng = CoordinateAscent(spec, a, b), np.random.default_rng(seed)
    search.construct()
    visit_at_random(search, rng)
    trees_equal(search.b, rl.apply_permutation(spec, search.order, b))
    trees_equal(search.a, blocks_of(architecture, seed)[1])
    trees_equal(b, blocks_of(architecture, seed)[2])


def test_a_new_search_from_a_local_optimum_gains_nothing(architecture, seed):
    spec, a, b = blocks_of(architecture, seed)
    search = CoordinateAscent(spec, a, b)
    search.construct()
    while search.sweep():
        pass
    anew = CoordinateAscent(spec, a, b, start=search.order)
    anew.keep()
    # What it kept up to date by many small updates is what multiplying out gives: no group moves.
    assert anew.sweep() == 0
    assert_same_permutation(anew.order, search.order)
    assert anew.objective() == pytest.approx(search.objective(), rel=1e-9)


def test_what_many_updates_leave_behind_is_multiplied_anew():
    # A stream beside 60 groups: each of them moves, and with it what is known about the stream.
    axes = {f"W_{i}": ("stream", f"P_{i}") for i in range(60)} | {"in": (None, "stream")}
    spec, rng = rl.PermutationSpec(axes), np.random.default_rng(0)
    shapes = dict.fromkeys(axes, (5, 4)) | {"in": (3, 5)}
    a, b = ({n: rng.standard_normal(s, np.float32) for n, s in shapes.items()} for _ in "ab")
    a["in"] *= 100  # what is fixed decides in the end
    search = CoordinateAscent(spec, a, b)
    search.keep()
    moves = [search.update_block(f"P_{i}") > 0 for i in range(60)]
    assert sum(moves) > 50
    before = search.objective()
    gain = search.update_block("stream")
    assert gain > 0
    assert search.objective() == pytest.approx(before + gain, abs=1e-3)


def test_a_start_is_where_b_was_moved_to(architecture, trees_equal):
    spec, a, b = blocks_of(architecture, 0)
    start = rl.random_permutation(spec, b, seed=0)
    from_start, moved = (
        CoordinateAscent(spec, a, b, start=start),
        rl.apply_permutation(spec, start, b),
    )
    from_identity = CoordinateAscent(
        spec, a, {path: np.ascontiguousarray(w) for path, w in moved.items()}
    )
    for search in (from_start, from_identity):
        search.keep()
        search.sweep()
    trees_equal(from_start.b, from_identity.b)
    expected = rl.compose_permutations(from_identity.order, start)
    assert_same_permutation(from_start.order, expected)


def test_part_of_the_groups_is_grown_around_the_others(architecture):
    spec, a, b = blocks_of(architecture, 0)
    search = CoordinateAscent(spec, a, b)
    grown = set(search.names[::2])
    held = [name for name in search.names if name not in grown]
    search.construct(grown)
    assert set(search.names[len(held) :]) == grown
    for name in held:
        in_place = rl.identity_permutation(spec, b)[name]
        np.testing.assert_array_equal(search.order[name], in_place)


def test_growth_begins_with_the_group_most_is_known_about():
    spec = rl.PermutationSpec({"in": (None, "P"), "W": ("P", "Q"), "out": ("Q", None)})
    for num_in, num_out, expected in ((9, 2, ["P", "Q"]), (2, 9, ["Q", "P"])):
        rng, shapes = (
            np.random.default_rng(0),
            {"in": (num_in, 4), "W": (4, 4), "out": (4, num_out)},
        )
        a, b = ({n: rng.standard_normal(s, np.float32) for n, s in shapes.items()} for _ in "ab")
        search = CoordinateAscent(spec, a, b)
        search.construct()
        assert search.names == expected


# --- similarities that are given ----------------------------------------------------------------

GIVEN = rl.PermutationSpec(
    {"W": (None, "P"), "q": ("h", "d[h]", None), "up": ("#l", None, "u[#l]"), "f": ("#l", "h")}
)
SIZES = {"P": 5, "h": 3, "d[h]": 4, "#l": 2, "u[#l]": 6}
ENTRIES = [("P",), ("h",), ("h", "d[h]"), ("#l", "u[#l]")]
GIVEN_SHAPES = {"W": (7, 5), "q": (3, 4, 2), "up": (2, 3, 6), "f": (2, 3)}


def draw_arrays(rng):
    return {name: rng.standard_normal(shape, np.float32) for name, shape in GIVEN_SHAPES.items()}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_given_similarities_move_with_the_permutation(seed):
    rng = np.random.default_rng(seed)
    arrays, items = draw_arrays(rng), [draw_similarity(GIVEN, SIZES, e, rng) for e in ENTRIES]
    kept, order = GivenSimilarities(GIVEN, items, SIZES), rl.identity_permutation(GIVEN, arrays)
    for step in range(3):
        assert kept.total() == pytest.approx(given_total(items, order, SIZES), abs=1e-4)
        move = rl.random_permutation(GIVEN, arrays, seed=step)
        kept.move(move)
        order = rl.compose_permutations(move, order)
    assert kept.total() == pytest.approx(given_total(items, order, SIZES), abs=1e-4)
    # Not even nearly the largest there could be, for similarities drawn at random.
    assert kept.total() < sum(kept.scale(name) for name in ("P", "h", "u[#l]"))


def test_what_faces_what_after_a_move_is_read_off_the_matrix():
    matrix, move = np.arange(16.0, dtype=np.float32).reshape(4, 4), np.array([2, 0, 3, 1])
    spec = rl.PermutationSpec({"W": ("P", None)})
    given_one = GivenSimilarities(spec, [UnitSimilarity(("P",), matrix)], {"P": 4})
    assert given_one.total() == 0 + 5 + 10 + 15
    given_one.move({"P": move})
    assert given_one.total() == 2 + 4 + 11 + 13
    np.testing.assert_array_equal(given_one.about("P")[0].matrix, matrix[:, move])
    given_one.move({"Q": np.arange(3)})  # of a group that is not here
    assert given_one.total() == 2 + 4 + 11 + 13


def test_similarities_about_a_family_are_found_by_its_root():
    rng = np.random.default_rng(0)
    items = [draw_similarity(GIVEN, SIZES, entries, rng) for entries in ENTRIES]
    kept = GivenSimilarities(GIVEN, items, SIZES)
    found = {name: [one.entries for one in kept.about(name)] for name in ("P", "h", "u[#l]")}
    assert found == {"P": [("P",)], "h": [("h",), ("h", "d[h]")], "u[#l]": [("#l", "u[#l]")]}


def test_similarity_of_the_wrong_size_is_refused():
    one = UnitSimilarity(("P",), np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="size 5"):
        GivenSimilarities(GIVEN, [one], SIZES)


def test_search_climbs_weights_and_similarities_together():
    rng = np.random.default_rng(0)
    a, b = draw_arrays(rng), draw_arrays(rng)
    items = [draw_similarity(GIVEN, SIZES, entries, rng) for entries in ENTRIES]
    search = CoordinateAscent(GIVEN, a, b, items)
    search.keep()
    before, gains = search.objective(), visit_at_random(search, rng, 12)
    moved = rl.apply_permutation(GIVEN, search.order, b)
    expected = pytrees.inner_product(a, moved) + given_total(items, search.order, SIZES)
    assert search.objective() == pytest.approx(expected, abs=1e-4)
    assert search.objective() == pytest.approx(before + sum(gains), abs=1e-4)


# --- products -----------------------------------------------------------------------------------

SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 7, 33, 40]), min_size=1, max_size=4)


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_products_of_units_are_those_of_einsum(shape, seed):
    rng = np.random.default_rng(seed)
    shape = [min(n, 5) for n in shape] if math.prod(shape) > 1e5 else shape
    a, b = (rng.standard_normal(shape, np.float32) for _ in range(2))
    for axis, n in enumerate(shape):
        start = rng.standard_normal((n, n), np.float32)
        total = start.copy()
        products.add_unit_products(total, a, b, axis)
        rows = [np.moveaxis(x, axis, 0).reshape(n, math.prod(shape) // max(n, 1)) for x in (a, b)]
        expected = start + np.einsum("ir,jr->ij", *np.float64(rows))
        # float32 sums of r products of order one.
        slack = 1e-6 * (1 + math.prod(shape) / max(n, 1))
        np.testing.assert_allclose(total, expected, rtol=0, atol=slack)
