"""The grammar of axis entries, and index arrays against axes built one entry at a time."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import symmetry
from rebasin_lab.symmetry import axes, indexing

# beartype looks at a random item of each container, and so inside strategies, too.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")

Fixed, Group, Product, Sum = axes.Fixed, axes.Group, axes.Product, axes.Sum
Arrangement = axes.Arrangement

SIZES = {"a": 2, "b": 3, "h": 2, "d[h]": 3, "g[h]": 2, "e[h,g]": 2, "#0": 2, "f[#0]": 3}
NAMES = ["P_0", "stream", "layers.0", "1x1", "#0", "d[h]", "e[g,h]", "µ/β"]


def entries_of(names, depth=2):
    """Any entry over these groups, in normal form."""
    leaves = st.sampled_from([axes.parse_group(name) for name in names]) | st.builds(
        Fixed, st.integers(1, 3)
    )
    return st.recursive(
        leaves,
        lambda parts: (
            st.lists(parts, min_size=2, max_size=3).map(axes.product_of)
            | st.lists(parts, min_size=2, max_size=3).map(axes.sum_of)
            | arrangements_of(parts)
        ),
        max_leaves=4,
    )


@st.composite
def arrangements_of(draw, parts):
    """Blocks whose units are mixed at random."""
    terms = draw(st.lists(parts, min_size=2, max_size=3))
    sizes = {group.key: SIZES.get(group.key, 2) for t in terms for group in axes.groups_in(t)}
    blocks = [k for k, term in enumerate(terms) for _ in range(axes.total_size(term, sizes))]
    assume(len(blocks) < 60)
    mixed = draw(st.permutations(blocks))
    positions = [[i for i, b in enumerate(mixed) if b == k] for k in range(len(terms))]
    return axes.arrangement_of(terms, positions)


NORMAL = {
    " 16 * P_0 ": "16*P_0",
    "2*8*P_0": "16*P_0",
    "1*P_0": "P_0",
    "P_0*(2*Q)": "P_0*2*Q",
    "(P_0+(Q+3))+1": "P_0+Q+4",
    "4*( P_0 + P_1 )": "4*(P_0+P_1)",
    "((P_0))": "P_0",
    "P_2[ P_1 ]": "P_2[P_1]",
    "P_3 [P_1, P_2]*2": "P_3[P_1,P_2]*2",
    "layers.0": "layers.0",
    "007": "7",
    "2*(1+2)*P": "6*P",
    "P(0:8:2) + Q(1:8:2)": "P(0:8:2)+Q(1:8:2)",
    "Q(1, 3)+P( 0,2,4 )": "P(0:5:2)+Q(1,3)",
    "P(0:2)+Q(2:4)": "P+Q",
    "P(0:3)": "P",
    "P(0:2,6:8)+Q(2:6)": "P(0:2,6:8)+Q(2:6)",
    "1(0)+P(1:6:2)+1(2)+1(4)": "3(0:6:2)+P(1:6:2)",
    "2(0:2)+P(2:5)+1(5)": "2+P+1",
    "2*(P(0:3:2)+1(1))": "2*(P(0,2)+1(1))",
    "(P(0:3:2)+1(1))+Q": "(P(0,2)+1(1))+Q",
    "(P+Q)(0:4,8:10)+R(4:8)": "(P+Q)(0:4,8:10)+R(4:8)",
    "(P(0:3:2)+1(1))(0:5:2)+Q(1:5:2)": "P(0,4)+Q(1,3)+1(2)",
    "2*P(0:8:2)+h*d[h](1:8:2)": "2*P(0:8:2)+h*d[h](1:8:2)",
}


@pytest.mark.parametrize(("text", "normal"), NORMAL.items())
def test_text_is_brought_into_normal_form(text, normal):
    assert axes.format_entry(axes.parse_entry(text)) == normal
    assert axes.format_entry(axes.parse_entry(normal)) == normal


def test_structure_of_an_entry():
    heads, dims = Group("h"), Group("d", ("h",))
    expected = Product((heads, Sum((dims, Fixed(3)))))
    assert axes.parse_entry("h*(d[h]+3)") == expected
    assert axes.product_of([heads, axes.sum_of([dims, Fixed(3)])]) == expected
    assert dims.key == "d[h]"
    assert axes.groups_in(expected) == (heads, dims)
    assert axes.total_size(expected, {"h": 2, "d[h]": 5}) == 16


@given(entries_of(NAMES))
def test_parsing_undoes_formatting(entry):
    assert axes.parse_entry(axes.format_entry(entry)) == entry


@given(entries_of(NAMES), st.data())
def test_spaces_between_tokens_mean_nothing(entry, data):
    text = axes.format_entry(entry)
    spaced = "".join(
        f"{data.draw(st.sampled_from(['', ' ']))}{c}" if c in "*+()[]," else c for c in text
    )
    assert axes.parse_entry(spaced) == entry


BAD = {
    "": "Expected a name, a number or '\\(' at the end of ''",
    "P_0*": "Expected a name, a number or '\\(' at the end",
    "P_0 P_1": "Expected '\\*', '\\+' or the end at character 4 of 'P_0 P_1'; got 'P_1'",
    "(P_0": "Expected '\\)' at the end",
    "P_0)": "the end at character 3 of 'P_0\\)'; got '\\)'",
    "+P_0": "at character 0",
    "P[": "the name of a parent at the end",
    "P[]": "the name of a parent at character 2",
    "P[a*b]": "',' or '\\]' at character 3",
    "P[Q[R]]": "',' or '\\]' at character 3",
    "0*P": "a block of at least one entry; got 0",
    "16[P]": "got '\\['",
    "P[3]": "is no number; got '3'",
    "P[P]": "different names in 'P\\[P\\]'",
    "P[Q,Q]": "different names in 'P\\[Q,Q\\]'",
    "#0[P]": "'#0', which never moves, without",
    "P(0:2)+Q": "positions, which every block has or none, at the end",
    "P+Q(0:2)": "positions, which every block has or none, at the end",
    "P(0:2)+Q(3:5)": "each position from 0 to 3 in one block; got 0:2, 3:5",
    "P(0:2)+Q(1:3)": "each position from 0 to 3 in one block",
    "P(1,0)": "positions that ascend",
    "P()": "positions such as 3, 0:4 or 0:8:2 at character 2",
    "P(0:4:0)": "a step of at least one",
    "P(-1)": "positions such as",
    "3(0:2)+P(2:4)": "Expected 3 positions of a block as long; got 2",
    "P(0:9999999999)": "at most 1000000 positions",
    "P(0:2": "',' or '\\)' at the end",
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_text_against_the_grammar_is_refused_saying_where(text, message):
    with pytest.raises(ValueError, match=message):
        axes.parse_entry(text)


@pytest.mark.parametrize("name", ["", "P 0", "a*b", "a,b", "12", "P[Q]"])
def test_group_with_a_name_that_could_not_be_read_back_is_refused(name):
    with pytest.raises(ValueError, match="Expected a name without spaces"):
        Group(name)


def test_key_of_an_expression_is_no_group():
    with pytest.raises(ValueError, match=r"the name of one group, .*; got 'P\+Q'"):
        axes.parse_group("P+Q")


# The oracle: it names every entry of an axis by its address, and never multiplies or divides.


def addresses(entry, sizes):
    """One address per position of an axis, in order: what a nested list would be indexed with."""
    match entry:
        case None:
            return [("fixed", i) for i in range(sizes[None])]
        case Fixed():
            return [("fixed", i) for i in range(entry.size)]
        case Group():
            return [("group", entry, i) for i in range(sizes[entry.key])]
        case Product():
            return [
                ("product", *parts)
                for parts in itertools.product(*(addresses(f, sizes) for f in entry.factors))
            ]
        case Sum():
            return [
                ("sum", k, part)
                for k, term in enumerate(entry.terms)
                for part in addresses(term, sizes)
            ]
        case Arrangement():
            whole = {
                position: ("sum", k, part)
                for k, (term, at) in enumerate(zip(entry.terms, entry.positions, strict=True))
                for position, part in zip(at, addresses(term, sizes), strict=True)
            }
            return [whole[position] for position in range(len(whole))]


def units(address):
    """The groups in an address that stand in no sum, with their slots."""
    if address[0] == "group":
        return [(address[1].base, address[2])]
    return [unit for part in address[1:] for unit in units(part)] if address[0] == "product" else []


def once(pairs):
    names = [name for name, _ in pairs]
    return {name: slot for name, slot in pairs if names.count(name) == 1}


def source(address, seen, permutation):
    """The address whose entry comes to this one, given the slots that can be seen from here."""
    match address:
        case ("group", group, slot) if not group.is_fixed:
            row = permutation[group.key]
            for parent in group.parents:
                row = row[seen[parent]]
            return ("group", group, int(row[slot]))
        case ("product", *parts):
            direct = [(part[1].base, part[2]) for part in parts if part[0] == "group"]
            inside = seen | once(direct)
            return ("product", *(source(part, inside, permutation) for part in parts))
        case ("sum", k, part):
            return ("sum", k, source(part, seen, permutation))
    return address


def permute_by_addresses(entries, array, permutation, sizes):
    axes_addresses = [
        addresses(entry, sizes | {None: length})
        for entry, length in zip(entries, array.shape, strict=True)
    ]
    positions = [{address: i for i, address in enumerate(line)} for line in axes_addresses]
    permuted = np.empty_like(array)
    for index in np.ndindex(array.shape):
        cell = [line[i] for line, i in zip(axes_addresses, index, strict=True)]
        seen = once([unit for address in cell for unit in units(address)])
        came_from = [source(address, seen, permutation) for address in cell]
        permuted[index] = array[tuple(at[a] for at, a in zip(positions, came_from, strict=True))]
    return permuted


PARENTS_ON_AXES = [
    (),
    ("h",),
    ("#0",),
    ("h", "g[h]"),
    ("h*g[h]",),
    ("g[h]", "h*2"),
    ("#0", "3*h"),
    ("h*(g[h]*e[h,g]+d[h])",),
    ("2*#0*(f[#0]+1)",),
    ("h*d[h]+h*g[h]", "3"),
    ("h*(h*d[h]+1)",),  # the nearer h counts
    ("h*(d[h](0:5:2)+g[h](1:5:2))",),
]


@st.composite
def arrays_and_permutations(draw, num_permutations=1):
    """Entries of one array that may stand together, and random elements of their group."""
    parents = [axes.parse_entry(text) for text in draw(st.sampled_from(PARENTS_ON_AXES))]
    rest = st.lists(st.none() | entries_of(list(SIZES)), max_size=3 - len(parents))
    entries = tuple(draw(st.permutations([*parents, *draw(rest)])))
    names = tuple(None if entry is None else axes.format_entry(entry) for entry in entries)
    try:
        spec = rl.PermutationSpec({"w": names})
    except ValueError:
        assume(False)
    sizes = {name: SIZES[name] for name in spec.groups}
    spec = rl.PermutationSpec({"w": names}, sizes)
    shape = tuple(2 if entry is None else axes.total_size(entry, sizes) for entry in entries)
    assume(np.prod(shape) < 500)
    array = np.arange(np.prod(shape)).reshape(shape)
    seeds = draw(
        st.lists(st.integers(0, 999), min_size=num_permutations, max_size=num_permutations)
    )
    drawn = [rl.random_permutation(spec, {"w": array}, seed=seed) for seed in seeds]
    return spec, array, drawn, sizes


@given(arrays_and_permutations())
def test_permuting_an_array_is_permuting_the_addresses_of_its_entries(case):
    spec, array, (permutation,), sizes = case
    expected = permute_by_addresses(spec.entries["w"], array, permutation, sizes)
    moved = rl.apply_permutation(spec, permutation, {"w": array})["w"]
    np.testing.assert_array_equal(moved, expected)
    indices = tuple(indexing.index_arrays(spec.entries["w"], array.shape, permutation, sizes))
    np.testing.assert_array_equal(array[indices], expected)


@given(arrays_and_permutations(num_permutations=3))
def test_permutations_of_any_array_form_a_group(case):
    spec, array, (p, q, r), _ = case
    compose, invert = rl.compose_permutations, rl.invert_permutation

    def apply(permutation, leaf):
        return rl.apply_permutation(spec, permutation, {"w": leaf})["w"]

    np.testing.assert_array_equal(apply(compose(p, q), array), apply(p, apply(q, array)))
    np.testing.assert_array_equal(apply(invert(p), apply(p, array)), array)
    left, right = compose(compose(p, q), r), compose(p, compose(q, r))
    identity = rl.identity_permutation(spec, {"w": array})
    for name in p:
        np.testing.assert_array_equal(left[name], right[name])
        np.testing.assert_array_equal(compose(p, invert(p))[name], identity[name])
        np.testing.assert_array_equal(compose(invert(p), p)[name], identity[name])


@given(arrays_and_permutations())
def test_blocks_are_moved_as_the_array_is(case):
    spec, array, (permutation,), _ = case
    if spec.dependents:
        spec = spec.shared()
        permutation = rl.random_permutation(spec, {"w": array}, seed=0)
    blocks_spec, blocks = symmetry.split_into_blocks(spec, {"w": array})
    assert blocks_spec.is_plain
    assert sum(block.size for block in blocks.values()) == array.size
    moved = rl.apply_permutation(spec, permutation, {"w": array})
    _, expected = symmetry.split_into_blocks(spec, moved)
    permuted = rl.apply_permutation(blocks_spec, permutation, blocks)
    for path in expected:
        np.testing.assert_array_equal(permuted[path], expected[path], err_msg=path)


def test_blocks_that_names_cannot_tell_apart_are_refused():
    axes = {"mix": ("h*d[h]", "h*d[h]"), "read": ("h*d[h]", None)}
    spec, params = rl.PermutationSpec(axes, {"h": 2}), {"mix": np.eye(6), "read": np.ones((6, 3))}
    with pytest.raises(ValueError, match=r"'h', .* on one axis .* 'mix'; got .* spec\.shared\(\)"):
        rl.match("weight", spec, params, params)
    assert rl.match("weight", spec.shared(), params, params).objective[-1] == 24


def test_heads_move_with_their_dimensions():
    spec = rl.PermutationSpec({"w": ("h*d[h]",)}, {"h": 2})
    permutation = {"h": np.array([1, 0]), "d[h]": np.array([[2, 0, 1], [0, 1, 2]])}
    # Slot 0 takes head 1 (3, 4, 5) and orders it by row 0.
    moved = rl.apply_permutation(spec, permutation, {"w": np.arange(6)})["w"]
    np.testing.assert_array_equal(moved, [5, 3, 4, 0, 1, 2])


def test_flattened_channels_and_concatenations_by_hand():
    spec = rl.PermutationSpec({"flat": ("2*P",), "after": ("P*2",), "joined": ("P+Q+1",)}, {"P": 3})
    permutation = {"P": np.array([2, 0, 1]), "Q": np.array([1, 0])}
    params = {"flat": np.arange(6), "after": np.arange(6), "joined": np.arange(6)}
    moved = rl.apply_permutation(spec, permutation, params)
    np.testing.assert_array_equal(moved["flat"], [2, 0, 1, 5, 3, 4])
    np.testing.assert_array_equal(moved["after"], [4, 5, 0, 1, 2, 3])
    np.testing.assert_array_equal(moved["joined"], [2, 0, 1, 4, 3, 5])


def test_positions_tell_how_many_units_there_are():
    spec = rl.PermutationSpec({"w": ("P(0:2,6:8)+h*d[h](2:6)",)}, {"h": 2})
    assert spec.sizes({"w": np.arange(8)}) == {"P": 4, "h": 2, "d[h]": 2}
    assert rl.PermutationSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ValueError, match="size 4 .* got 5"):
        rl.PermutationSpec({"w": spec.axes["w"], "v": ("P",)}, {"h": 2}).validate(
            {"w": np.arange(8), "v": np.arange(5)}
        )
    with pytest.raises(ValueError, match="size 8"):
        spec.validate({"w": np.arange(9)})


def test_alternating_and_spread_groups_by_hand():
    spec = rl.PermutationSpec({"shuffled": ("P(0:6:2)+Q(1:6:2)",), "padded": ("Q(0,4:6)+3(1:4)",)})
    permutation = {"P": np.array([2, 0, 1]), "Q": np.array([1, 2, 0])}
    params = {"shuffled": np.arange(6), "padded": np.arange(6)}
    moved = rl.apply_permutation(spec, permutation, params)
    np.testing.assert_array_equal(moved["shuffled"], [4, 3, 0, 5, 2, 1])
    np.testing.assert_array_equal(moved["padded"], [4, 1, 2, 3, 5, 0])
    result = rl.match("weight", spec, params, moved, seed=0)
    back = rl.apply_permutation(spec, result.permutation, moved)
    assert rl.distance(params, back) == 0
