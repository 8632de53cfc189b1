"""A group and all that varies along it, against trying every joint order of them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rebasin_lab as rl
from oracles import (
    all_orders,
    assert_same_permutation,
    given_total,
    moved,
    num_orders,
    objective,
    plant,
)
from rebasin_lab.matching import coordinate_ascent, nested_groups
from rebasin_lab.matching.coordinate_ascent import CoordinateAscent
from rebasin_lab.matching.nested_groups import find_nested_groups
from rebasin_lab.matching.similarity import UnitSimilarity

# The axes of the arrays, and along which axes similarities are given.
CHAINS = {
    "heads": (
        {"query": (None, "h", "d[h]"), "bias": ("h", "d[h]"), "out": ("h", "d[h]", None)},
        [("h", "d[h]"), ("h",)],
    ),
    "axes in another order": ({"query": ("d[h]", None, "h"), "bias": ("d[h]", "h")}, [("h",)]),
    "queries and values": (
        {"query": ("h", "qk[h]", None), "value": (None, "h", "v[h]"), "gate": ("h",)},
        [("h", "v[h]"), ("h", "qk[h]")],
    ),
    "stacked layers": (
        {"up": ("#layer", None, "u[#layer]"), "down": ("u[#layer]", "#layer", None)},
        [("#layer", "u[#layer]")],
    ),
    "heads in stacked layers": (
        {"query": ("#l", "h[#l]", None, "d[#l,h]"), "gate": ("h[#l]", "#l")},
        [("#l", "h[#l]", "d[#l,h]"), ("#l", "h[#l]")],
    ),
    "heads the same in all layers": (
        {"query": ("#l", "h", None, "d[h,#l]"), "value": ("h", "e[h]", None), "gate": ("#l", "h")},
        [("#l", "h", "d[h,#l]"), ("h", "e[h]"), ("h",)],
    ),
    "two stacks": (
        {"query": ("#k", "#l", "h[#l]", "d[h,#l,#k]"), "gate": ("#l", "h[#l]")},
        [("#l", "#k", "h[#l]", "d[h,#l,#k]"), ("#l", "h[#l]")],
    ),
    "three levels": (
        {"kernel": ("d[c,g]", "c[g]", None, "g"), "bias": ("g", "c[g]"), "gate": ("g",)},
        [("g", "c[g]", "d[c,g]"), ("g", "c[g]"), ("g",)],
    ),
    "two parents that move": (
        {"kernel": ("g", "h", "d[g,h]"), "left": ("g", None), "right": (None, "h")},
        [("g",), ("h",)],
    ),
}

# One array has two groups that vary along g.
PAIRS = {
    "grouped convolution": (
        {"kernel": (None, "g", "c[g]", "o[g]"), "bias": ("g", "o[g]"), "gate": ("g",)},
        [("g", "c[g]"), ("g", "o[g]"), ("g",)],
    ),
    "stacked grouped convolutions": (
        {"kernel": ("#l", "g[#l]", "c[#l,g]", "o[#l,g]"), "bias": ("#l", "g[#l]", "o[#l,g]")},
        [("#l", "g[#l]", "c[#l,g]"), ("#l", "g[#l]")],
    ),
    "groups the same in all layers": (
        {"kernel": ("g", "#l", "c[g]", "o[#l,g]"), "bias": ("g", "#l", "o[#l,g]")},
        [("#l", "g", "o[#l,g]"), ("g", "c[g]"), ("g",)],
    ),
    "recurrence in each head": ({"kernel": ("h", "d[h]", "d[h]"), "bias": ("h", "d[h]")}, []),
}

# The root stands on two axes of one array: the objective is quadratic in it.
TIED = {
    "talking heads": ({"mix": ("h", "h"), "query": ("h", "d[h]", None)}, [("h", "d[h]"), ("h",)]),
    "stacked recurrences": (
        {"W": ("#l", "u[#l]", "u[#l]"), "bias": ("#l", "u[#l]")},
        [("#l", "u[#l]")],
    ),
}


def base(name):
    return name.split("[")[0]


def draw_problem(data, axes, entries=(), max_orders=300):
    """A spec, two random networks of small random sizes, and random similarities."""
    bases = sorted({base(name) for names in axes.values() for name in names if name})
    sizes = {name: data.draw(st.integers(1, 3), label=name) for name in bases}
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    spec = rl.PermutationSpec(axes)
    pair, similarities = draw_pair(spec, sizes, entries, rng)
    assume(num_orders(spec, pair[0], list(spec.permutations)) <= max_orders)
    return spec, pair, similarities


def draw_pair(spec, sizes, entries, rng):
    def network():
        return {
            path: rng.standard_normal([sizes[base(n)] if n else 2 for n in names], np.float32)
            for path, names in spec.axes.items()
        }

    pair, similarities = (network(), network()), []
    for names in entries:
        slots = [sizes[base(name)] for name in names if name.startswith("#")]
        units = math.prod(sizes[base(name)] for name in names if not name.startswith("#"))
        matrix = rng.standard_normal((*slots, units, units), np.float32)
        similarities.append(UnitSimilarity(names, matrix))
    return pair, similarities


def total(spec, permutation, pair, similarities=()):
    """What is climbed, by its definition."""
    facing = (
        np.vdot(pair[0][path], moved(names, pair[1][path], permutation))
        for path, names in spec.axes.items()
    )
    found = float(sum(facing))
    if similarities:
        found += given_total(similarities, permutation, spec.all_sizes(pair[0]))
    return found


def about(similarities, family):
    members = set(family.keys.values())
    return [one for one in similarities if not members.isdisjoint(one.entries)]


def arrays_of(family, pair):
    return ({path: arrays[path] for path in family.spec.axes} for arrays in pair)


def try_all_insides(spec, a, b, similarities):
    """As a matching of the insides of two units: the permutation and its objective."""
    orders = all_orders(spec, a, list(spec.permutations))
    best = max(orders, key=lambda order: total(spec, order, (a, b), similarities))
    return best, total(spec, best, (a, b), similarities)


@pytest.mark.parametrize("with_similarities", [False, True])
@pytest.mark.parametrize("case", [*CHAINS, *PAIRS])
@settings(max_examples=8)
@given(data=st.data())
def test_no_joint_order_is_better(case, with_similarities, data):
    axes, entries = (CHAINS | PAIRS)[case]
    spec, pair, similarities = draw_problem(data, axes, entries if with_similarities else ())
    still = rl.identity_permutation(spec, pair[1])
    for family in find_nested_groups(spec).values():
        members, own = list(family.keys.values()), about(similarities, family)
        best = max(total(spec, o, pair, own) for o in all_orders(spec, pair[1], members))
        sizes = spec.all_sizes(pair[1])
        moves, gain = family.best_moves(*arrays_of(family, pair), own, sizes, try_all_insides)
        # float32 products of about 100 numbers.
        assert total(spec, still | moves, pair, own) == pytest.approx(best, abs=1e-4)
        assert gain == pytest.approx(best - total(spec, still, pair, own), abs=1e-4)


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("most_choices", [0, 1e6])
def test_pairs_of_units_that_are_skipped_could_not_win(case, most_choices, monkeypatch):
    axes, entries = PAIRS[case]
    spec, rng = rl.PermutationSpec(axes), np.random.default_rng(0)
    sizes = dict.fromkeys("gh", 5) | {"c": 2, "o": 3, "d": 3, "#l": 2}
    monkeypatch.setattr(nested_groups, "_MOST_CHOICES", most_choices)
    [family] = find_nested_groups(spec).values()
    for similarities in (False, True):
        pair, given = draw_pair(spec, sizes, entries if similarities else (), rng)
        _, gain = family.best_moves(*pair, given, spec.all_sizes(pair[0]), try_all_insides)
        with monkeypatch.context() as patched:
            patched.setattr(nested_groups._PairProblem, "bounds", lambda *_: np.full((5, 5), 1e9))
            moves = family.best_moves(*pair, given, spec.all_sizes(pair[0]), try_all_insides)
        assert gain == pytest.approx(moves[1], abs=1e-4)


def test_of_a_planted_permutation_most_pairs_of_units_are_skipped():
    spec, rng = (
        rl.PermutationSpec({"kernel": ("g", "c[g]", "o[g]", None)}),
        np.random.default_rng(0),
    )
    kernel = rng.standard_normal((20, 4, 4, 9), np.float32)
    params_b, planted = plant(spec, {"kernel": kernel})
    [family], solved = find_nested_groups(spec).values(), []

    def submatch(*problem):
        solved.append(problem)
        return coordinate_ascent._match_subproblem(*problem)

    sizes = spec.all_sizes(params_b)
    moves, _ = family.best_moves({"kernel": kernel}, params_b, [], sizes, submatch)
    assert_same_permutation(moves, planted)
    assert len(solved) <= 2 * 20  # of 400


def test_three_heads_of_three_dimensions_are_matched_as_well_as_by_all_1296_orders():
    spec, rng = rl.PermutationSpec(CHAINS["heads"][0]), np.random.default_rng(0)
    shapes = {"query": (5, 3, 3), "bias": (3, 3), "out": (3, 3, 5)}
    pair = [{n: rng.standard_normal(s, np.float32) for n, s in shapes.items()} for _ in range(2)]
    best = max(total(spec, o, pair) for o in all_orders(spec, pair[1], ["h", "d[h]"]))
    [family] = find_nested_groups(spec).values()
    moves, _ = family.best_moves(*pair, [], spec.all_sizes(pair[1]))
    assert total(spec, moves, pair) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("case", CHAINS)
@settings(max_examples=8)
@given(data=st.data())
def test_similarities_alone_are_matched_as_well(case, data):
    axes, entries = CHAINS[case]
    spec, pair, similarities = draw_problem(data, axes, entries)
    still = rl.identity_permutation(spec, pair[1])
    for family in find_nested_groups(spec).values():
        own, sizes = about(similarities, family), spec.all_sizes(pair[1])
        orders = all_orders(spec, pair[1], list(family.keys.values()))
        best = max(given_total(own, order, sizes) for order in orders)
        moves, _ = family.best_moves({}, {}, own, sizes)
        assert given_total(own, still | moves, sizes) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("case", [*CHAINS, *PAIRS, *TIED])
@settings(max_examples=8)
@given(data=st.data())
def test_one_visit_of_the_search_gains_what_it_says(case, data):
    axes, entries = (CHAINS | PAIRS | TIED)[case]
    spec, pair, similarities = draw_problem(data, axes, entries)
    search = CoordinateAscent(spec, *pair, similarities)
    search.keep()
    for root, family in find_nested_groups(spec).items():
        before = search.objective()
        orders = all_orders(spec, pair[1], list(family.keys.values()))
        best = max(
            total(spec, rl.compose_permutations(order, search.order), pair, similarities)
            for order in orders
        )
        gain = search.update_block(root)
        after = total(spec, search.order, pair, similarities)
        assert search.objective() == pytest.approx(after, abs=1e-4)
        assert after - before == pytest.approx(gain, abs=1e-4)
        if case in CHAINS:  # in the others, one visit is a local search or a linearisation
            assert after == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("case", TIED)
def test_gain_of_a_tied_family_is_measured(case):
    axes, entries = TIED[case]
    spec, sizes, gains = rl.PermutationSpec(axes), {"h": 4, "d": 3, "#l": 2, "u": 5}, []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        pair, similarities = draw_pair(spec, sizes, entries, rng)
        search = CoordinateAscent(spec, *pair, similarities)
        search.keep()
        for _ in range(3):
            before = search.objective()
            gains += [search.update_block(name) for name in search.names]
            assert search.objective() - before == pytest.approx(gains[-1], abs=1e-4)
            assert gains[-1] >= 0
    assert sum(gain > 0 for gain in gains) > 3


# Larger, with other groups beside the families.
NETWORKS = {
    "attention": (
        {"q": ("s", "h*d[h]"), "o": ("h", "d[h]", "s"), "embed": (None, "s")},
        {"s": 12, "h": 4, "d[h]": 5},
    ),
    "grouped convolution": (
        {"in": (None, "g*c[g]"), "kernel": ("c[g]", "g*o[g]"), "out": ("g*o[g]", None)},
        {"g": 4, "c[g]": 4, "o[g]": 5},
    ),
    "stacked layers": (
        {"up": ("#l", "s", "u[#l]"), "down": ("#l", "u[#l]", "s"), "embed": (None, "s")},
        {"#l": 3, "s": 12, "u[#l]": 10},
    ),
    "attention in stacked layers": (
        {"q": ("#l", "s", "h[#l]*d[#l,h]"), "o": ("#l", "h[#l]", "d[#l,h]", "s"), "e": (None, "s")},
        {"#l": 2, "s": 12, "h[#l]": 3, "d[#l,h]": 5},
    ),
    "two parents": (
        {"k": ("g", "h", "d[g,h]", None), "left": ("g", None), "right": ("h", None)},
        {"g": 4, "h": 5, "d[g,h]": 6},
    ),
    "convolution beside a stream": (  # while growing, the kernel counts before the rest does
        {"kernel": ("g", "c[g]", "o[g]", None), "write": ("g", "e[g]", "s"), "read": ("s", None)},
        {"g": 3, "c[g]": 4, "o[g]": 5, "e[g]": 6, "s": 8},
    ),
    "stacked recurrences": (
        {"W": ("#l", "u[#l]", "u[#l]"), "in": ("#l", None, "u[#l]")},
        {"#l": 3, "u[#l]": 12},
    ),
    "talking heads": (
        {"mix": ("h", "h"), "q": (None, "h", "d[h]"), "o": ("h*d[h]", None)},
        {"h": 6, "d[h]": 4},
    ),
}


def draw_network(name, seed):
    axes, sizes = NETWORKS[name]
    spec, rng = rl.PermutationSpec(axes), np.random.default_rng(seed)

    def length(entry):
        return 10 if entry is None else math.prod(sizes[name] for name in entry.split("*"))

    shapes = {path: [length(entry) for entry in entries] for path, entries in axes.items()}
    return spec, {path: rng.standard_normal(shape) for path, shape in shapes.items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_planted_permutation_is_recovered(name, noise):
    for seed in range(4):
        spec, params_a = draw_network(name, seed)
        _, other = draw_network(name, 100 + seed)
        params_b, planted = plant(spec, rl.lerp(noise, params_a, other), seed)
        result = rl.match("weight", spec, params_a, params_b)
        assert_same_permutation(result.permutation, planted)
        last = objective(spec, result.permutation, params_a, params_b)
        assert result.objective[-1] == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize("method", ["weight", "algorithm_1"])
@pytest.mark.parametrize("name", NETWORKS)
def test_objective_is_the_inner_product_and_never_falls(name, method):
    for seed in range(2):
        (spec, params_a), (_, params_b) = (draw_network(name, 2 * seed + i) for i in range(2))
        result = rl.match(method, spec, params_a, params_b)
        last = objective(spec, result.permutation, params_a, params_b)
        # float32, of a sum of some hundred numbers.
        assert result.objective[-1] == pytest.approx(last, rel=1e-5, abs=1e-3)
        assert np.diff(result.objective).min() >= 0
        assert result.converged


def test_head_aware_matching_beats_one_order_for_all_heads():
    for seed in range(3):
        (spec, params_a), (_, params_b) = (
            draw_network("attention", 2 * seed + i) for i in range(2)
        )
        own = rl.match("weight", spec, params_a, params_b).objective[-1]
        shared = rl.match("weight", spec.shared(), params_a, params_b).objective[-1]
        assert own > shared
