"""Which axis each permutation moves: laws over all architectures, and the messages."""

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import pytrees

TWO_LAYERS = {
    "layers/0/kernel": (None, "P_0"),
    "layers/0/bias": ("P_0",),
    "layers/1/kernel": ("P_0", None),
    "layers/1/bias": (None,),
}


def two_layers(hidden_out=4, hidden_in=4):
    return {
        "layers": {
            0: {"kernel": np.ones((3, hidden_out)), "bias": np.ones(hidden_out)},
            1: {"kernel": np.ones((hidden_in, 2)), "bias": np.ones(2)},
        }
    }


def test_spec_covers_exactly_the_leaves(architecture):
    params = architecture.init(0)
    architecture.spec.validate(params)
    assert set(architecture.spec.axes) == set(pytrees.flatten(params))


def test_dropping_any_leaf_is_an_error_that_names_it(architecture):
    params = architecture.init(0)
    for path in architecture.spec.axes:
        fewer = {p: names for p, names in architecture.spec.axes.items() if p != path}
        with pytest.raises(ValueError, match=rf"'{re.escape(path)}' \(shape .*\) is missing, 1 in"):
            rl.PermutationSpec(fewer).validate(params)


def test_leaf_the_model_lacks_is_named():
    spec = rl.PermutationSpec(TWO_LAYERS | {"layers/2/kernel": (None, None)})
    with pytest.raises(ValueError, match=r"'layers/2/kernel' is none of them, 1 in all"):
        spec.validate(two_layers())


@pytest.mark.parametrize("names", [(None, "P_0"), ()], ids=["too many", "too few"])
def test_wrong_number_of_axes_is_named(names):
    spec = rl.PermutationSpec(TWO_LAYERS | {"layers/0/bias": names})
    with pytest.raises(ValueError, match=r"one entry per axis of 'layers/0/bias' \(shape \(4,\)\)"):
        spec.validate(two_layers())


def test_sizes_that_disagree_are_named_with_leaf_axis_and_permutation():
    message = (
        r"'layers/1/kernel' axis 0 to have size 4 \(permutation 'P_0', as in 'layers/0/kernel'\); "
        "got 5"
    )
    with pytest.raises(ValueError, match=message):
        rl.PermutationSpec(TWO_LAYERS).validate(two_layers(hidden_in=5))


def keys_in(entry):
    """Names of the permutations in an entry, found in its text alone."""
    return {key for key in re.findall(r"[^\s*+()]+", entry or "") if key[0] not in "#0123456789"}


def test_permutations_are_the_inverse_view(architecture):
    spec = architecture.spec
    places = {
        (path, axis, name)
        for path, names in spec.axes.items()
        for axis, entry in enumerate(names)
        for name in keys_in(entry)
    }
    inverse = [(*place, name) for name, moved in spec.permutations.items() for place in moved]
    assert set(inverse) == places
    assert len(inverse) == len(places)


def test_sizes_are_those_of_every_axis(architecture):
    params = architecture.init(0)
    leaves, sizes = pytrees.flatten(params), architecture.spec.all_sizes(params)
    for path, names in architecture.spec.axes.items():
        for entry, length in zip(names, leaves[path].shape, strict=True):
            # An entry is an expression in Python, too, once names are numbers.
            numbers = re.sub(
                r"[^\s*+()]+", lambda key: str(sizes.get(key[0], key[0])), entry or "0"
            )
            assert entry is None or eval(numbers) == length


def test_mlp_spec_is_the_one_written_by_hand():
    assert dict(rl.mlp_permutation_spec(1).axes) == TWO_LAYERS
    assert rl.mlp_permutation_spec(3).axes["layers/2/kernel"] == ("P_1", "P_2")
    assert len(rl.mlp_permutation_spec(3).axes) == 8


def test_spec_does_not_follow_changes_of_the_mapping_it_was_made_from():
    axes = {"w": (None, "P")}
    spec = rl.PermutationSpec(axes)
    axes["v"] = ("P",)
    assert spec.axes == {"w": (None, "P")}


def test_text_and_table_contain_every_path_and_name(architecture):
    spec = architecture.spec
    for shown in (str(spec), spec._repr_html_()):
        assert f"{len(spec.permutations)} permutations" in shown
        assert all(word in shown for word in [*spec.axes, *spec.permutations])


def test_table_escapes_html():
    table = rl.PermutationSpec({"<b>&w": ("<i>P", None)})._repr_html_()
    assert "&lt;b&gt;&amp;w" in table
    assert "&lt;i&gt;P" in table
    assert "<b>" not in table
    assert "<i>" not in table


ATTENTION = {
    "query": ("stream", "h * qk[ h ]"),
    "key": ("stream", "h", "qk[h]"),
    "out": ("(h) * v[h]", "stream"),
    "stack": ("#0", None, "w[#0]"),
    "flat": ("4*2*P + 3 + 1",),
}
ATTENTION_PARAMS = {
    "query": np.ones((6, 20)),
    "key": np.ones((6, 4, 5)),
    "out": np.ones((28, 6)),
    "stack": np.ones((3, 2, 9)),
    "flat": np.ones(28),
}


def attention(**options):
    return rl.PermutationSpec(ATTENTION, **options)


def test_entries_are_kept_in_normal_form():
    spec = attention()
    assert spec.axes["query"] == ("stream", "h*qk[h]")
    assert spec.axes["out"] == ("h*v[h]", "stream")
    assert spec.axes["flat"] == ("8*P+4",)
    assert rl.PermutationSpec(spec.axes) == spec


def test_sizes_and_shapes_of_a_spec_with_everything():
    spec = attention()
    sizes = {"stream": 6, "h": 4, "qk[h]": 5, "v[h]": 7, "w[#0]": 9, "P": 3}
    assert spec.sizes(ATTENTION_PARAMS) == sizes
    assert spec.all_sizes(ATTENTION_PARAMS) == sizes | {"#0": 3}
    assert spec.shapes(ATTENTION_PARAMS) == {
        "stream": (6,),
        "h": (4,),
        "qk[h]": (4, 5),
        "v[h]": (4, 7),
        "w[#0]": (3, 9),
        "P": (3,),
    }
    assert spec.dependents == ("qk[h]", "v[h]", "w[#0]")
    assert not spec.is_plain


def test_group_with_two_parents_has_a_row_for_each_pair_of_slots():
    spec = rl.PermutationSpec({"w": ("g", "h[g]*d[h,g]")})
    with pytest.raises(ValueError, match=r"'w' axis 1 \(size 24\) is 'h\[g\]\*d\[h,g\]' and "):
        spec.sizes({"w": np.ones((2, 24))})
    spec = dataclasses.replace(spec, group_sizes={"h[g]": 3})
    assert spec.shapes({"w": np.ones((2, 24))}) == {"g": (2,), "h[g]": (2, 3), "d[h,g]": (3, 2, 8)}


def test_same_group_twice_in_an_axis_is_solved():
    spec = rl.PermutationSpec({"sum": ("P+P",), "square": ("Q*Q",)})
    assert spec.sizes({"sum": np.ones(8), "square": np.ones(49)}) == {"P": 4, "Q": 7}
    assert spec.permutations == {"P": (("sum", 0),), "Q": (("square", 0),)}


WRONG_SIZES = {
    "product": (
        {"a": ("P",), "b": ("16*P",)},
        {"a": (4,), "b": (65,)},
        r"'b' axis 0 to have size 64 \('16\*P' with P = 4 as in 'a'\); got 65",
    ),
    "no number of units": (
        {"b": ("16*P",)},
        {"b": (65,)},
        r"'b' axis 0 to have a size that '16\*P' can have for some number of units 'P'; got 65",
    ),
    "too small": ({"b": ("P+3",)}, {"b": (3,)}, r"a size that 'P\+3' can have .* got 3"),
    "block": ({"b": ("16",)}, {"b": (15,)}, r"'b' axis 0 to have size 16 \('16'\); got 15"),
    "unknown": (
        {"b": ("P*Q",)},
        {"b": (16,)},
        r"'b' axis 0 \(size 16\) is 'P\*Q' and \['P', 'Q'\] stay unknown. Give group_sizes",
    ),
}


@pytest.mark.parametrize(("axes", "shapes", "message"), WRONG_SIZES.values(), ids=WRONG_SIZES)
def test_axis_of_another_size_than_its_entry_is_named(axes, shapes, message):
    params = {path: np.ones(shape) for path, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        rl.PermutationSpec(axes).validate(params)


def test_group_sizes_tell_what_shapes_do_not():
    spec = rl.PermutationSpec({"w": ("P*Q",)}, {"P": 2})
    assert spec.sizes({"w": np.ones(16)}) == {"P": 2, "Q": 8}
    with pytest.raises(ValueError, match=r"size 3 \(permutation 'P', as in group_sizes\); got 4"):
        rl.PermutationSpec({"w": ("P",)}, {"P": 3}).validate({"w": np.ones(4)})


WRONG_SPECS = {
    "grammar": (
        {"w": ("P*",)},
        {},
        r"entry of 'w' axis 0: Expected a name, .* at the end of 'P\*'",
    ),
    "no parent": ({"w": ("d[h]",)}, {}, r"'w' to hold 'h', along which 'd\[h\]' varies"),
    "two parents": ({"w": ("h", "h", "d[h]")}, {}, r"exactly once .* got \('h', 'h', 'd\[h\]'\)"),
    "parent in a sum": ({"w": ("h+3", "d[h]")}, {}, "exactly once outside sums"),
    "two sets of parents": (
        {"w": ("h", "d[h]"), "v": ("d",)},
        {},
        r"for 'd'; got 'd\[h\]' and 'd'",
    ),
    "not closed": ({"w": ("g", "h[g]", "d[h]")}, {}, r"'d\[h\]' to vary along 'g' .* 'd\[g,h\]'"),
    "cycle": ({"w": ("a[b]", "b[a]")}, {}, r"'a\[b\]' to vary along 'a' too"),
    "parents apart": (
        {"w": ("g*h[g]", "g*d[g,h]")},
        {},
        r"'d\[g,h\]' and its parent 'h\[g\]' to vary along the same axes of 'w'",
    ),
    "size of nothing": ({"w": ("P",)}, {"Q": 3}, r"groups in the spec, .*\['P'\]; got 'Q'"),
    "size of base": ({"w": ("#0", "P[#0]")}, {"P": 3}, r"\['#0', 'P\[#0\]'\]; got 'P'"),
    "size zero": ({"w": ("P",)}, {"P": 0}, "whole number of units for 'P'; got 0"),
}


@pytest.mark.parametrize(("axes", "sizes", "message"), WRONG_SPECS.values(), ids=WRONG_SPECS)
def test_spec_without_a_meaning_is_refused(axes, sizes, message):
    with pytest.raises(ValueError, match=message):
        rl.PermutationSpec(axes, sizes)


def test_parents_may_stand_on_another_axis_or_around_a_bracket():
    for names in [
        ("h", "d[h]"),
        ("h*d[h]",),
        ("h*(d[h]+3)", "h"),
        ("h*d[h]+h*e[h]",),
        ("d[h]", "h"),
    ]:
        rl.PermutationSpec({"w": names})


def test_renamed_goes_by_first_appearance():
    renamed = attention(group_sizes={"#0": 3, "v[h]": 7}).renamed()
    assert dict(renamed.axes) == {
        "query": ("P_0", "P_1*P_2[P_1]"),
        "key": ("P_0", "P_1", "P_2[P_1]"),
        "out": ("P_1*P_3[P_1]", "P_0"),
        "stack": ("#0", None, "P_4[#0]"),
        "flat": ("8*P_5+4",),
    }
    assert renamed.group_sizes == {"#0": 3, "P_3[P_1]": 7}
    assert renamed.renamed() == renamed


def test_same_as_ignores_names_and_the_order_of_leaves(architecture):
    spec = architecture.spec
    backwards = rl.PermutationSpec(dict(reversed(spec.axes.items())))
    assert spec.same_as(backwards.renamed())
    assert spec.renamed().same_as(spec)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"w": ("a", "b")}, {"w": ("b", "a")}, True),
        ({"w": ("a", "b")}, {"w": ("a", "a")}, False),
        ({"w": ("a", "b"), "v": ("a",)}, {"w": ("a", "b"), "v": ("b",)}, False),
        ({"w": ("2*a",)}, {"w": ("a*2",)}, False),
        ({"w": ("a", "3", "#0")}, {"w": ("x", None, None)}, True),
        ({"w": ("#0", "a[#0]")}, {"w": ("#layers", "b[#layers]")}, True),
        ({"w": ("#0", "a[#0]")}, {"w": (None, "a")}, False),
        ({"w": ("g", "h[g]", "d[g,h]")}, {"w": ("g", "h[g]", "d[h,g]")}, True),
        ({"w": ("a",)}, {"w": ("a",), "v": (None,)}, False),
    ],
)
def test_same_as_is_about_the_symmetries(left, right, same):
    assert rl.PermutationSpec(left).same_as(rl.PermutationSpec(right)) is same
    assert rl.PermutationSpec(right).same_as(rl.PermutationSpec(left)) is same


def test_same_as_compares_sizes_that_both_know():
    specs = [rl.PermutationSpec({"w": ("h*d",)}, sizes) for sizes in ({"h": 2}, {"h": 4}, {})]
    assert not specs[0].same_as(specs[1])
    assert specs[0].same_as(specs[2])


def test_shared_spec_has_one_permutation_for_all_slots():
    shared = attention(group_sizes={"qk[h]": 5}).shared()
    assert dict(shared.axes) == {
        "query": ("stream", "h*qk"),
        "key": ("stream", "h", "qk"),
        "out": ("h*v", "stream"),
        "stack": (None, None, "w"),
        "flat": ("8*P+4",),
    }
    assert shared.group_sizes == {"qk": 5}
    assert shared.dependents == ()
    assert shared.shared() == shared


def test_stacked_axis_inside_a_product_stays_or_becomes_its_size():
    axes = {"w": ("#0*P[#0]",), "v": ("#0", "P[#0]")}
    assert dict(rl.PermutationSpec(axes).shared().axes) == {"w": ("#0*P",), "v": ("#0", "P")}
    known = rl.PermutationSpec(axes, {"#0": 3}).shared()
    assert dict(known.axes) == {"w": ("3*P",), "v": (None, "P")}
    for spec in (rl.PermutationSpec(axes).shared(), known):
        assert spec.sizes({"w": np.ones(12), "v": np.ones((3, 4))}) == {"P": 4}


def test_shared_permutations_are_symmetries(architecture, tiny_data):
    params, images = architecture.init_numpy(0), tiny_data.test_images[:20]
    spec = architecture.spec.shared()
    assert rl.verify_equivalence(architecture.apply_fn, spec, params, images) < 1e-5


def test_explanation_is_the_stored_one_or_made_from_the_spec():
    spec = attention(explanations={"query": ("Reads the stream.", "")})
    assert spec.explain("query", 0) == "Reads the stream."
    made = spec.explain("query", 1)
    assert "Axis 1 of 'query' is 'h*qk[h]'" in made
    assert "permutation 'h' moves it together with 'key' axis 1, 'out' axis 0" in made
    assert "'qk[h]', one for every slot of h, moves it together with 'key' axis 2" in made
    assert spec.explain("flat", 0).endswith("permutation 'P' moves it and nothing else.")
    assert spec.explain("stack", 1) == "No permutation moves axis 1 of 'stack'."


def test_explanation_names_some_of_many_places():
    spec = rl.PermutationSpec({f"w{i}": ("P",) for i in range(9)})
    assert spec.explain("w0", 0).endswith("'w6' axis 0, 2 more.")


@pytest.mark.parametrize("explanations", [{"w": ("a", "b")}, {"flat": ("a", "b")}])
def test_explanations_fit_the_leaves(explanations):
    with pytest.raises(ValueError, match="explanations of leaves in the spec, one per axis; got 2"):
        attention(explanations=explanations)


def test_explanations_do_not_make_specs_differ():
    explained = attention(explanations={"flat": ("The flattened image.",)})
    assert explained == attention()
    assert "flattened image" not in repr(explained)


def assert_json_round_trip(spec):
    text = spec.to_json()
    back = rl.PermutationSpec.from_json(text)
    assert back == spec
    assert back.explanations == spec.explanations
    assert list(back.axes) == list(spec.axes)
    assert back.to_json() == text


def test_json_round_trip(architecture):
    assert_json_round_trip(architecture.spec)
    sizes, sentences = {"h": 4, "#0": 3}, {"flat": ('quotes " and \u00e9 and \n',)}
    assert_json_round_trip(attention(group_sizes=sizes, explanations=sentences))


@given(
    st.dictionaries(
        st.text(), st.lists(st.sampled_from([None, "P", "16*Q", "P+3", "Q"])), max_size=4
    )
)
def test_json_round_trip_with_any_path(axes):
    spec = rl.PermutationSpec({path: tuple(names) for path, names in axes.items()})
    sentences = {path: tuple("x" * i for i in range(len(names))) for path, names in axes.items()}
    assert_json_round_trip(dataclasses.replace(spec, explanations=sentences))


def altered(**fields):
    record = json.loads(attention(group_sizes={"h": 4}).to_json()) | fields
    return json.dumps({name: value for name, value in record.items() if value != "absent"})


BAD_JSON = {
    "no json": ("{", "Expected a permutation spec as JSON"),
    "no object": ("[]", "an object with 'format'"),
    "another format": (altered(format="x"), "an object with 'format'"),
    "later version": (altered(version=2), "of format version 1; got 2"),
    "version that is no number": (altered(version=True), "of format version 1; got True"),
    "unknown field": (altered(extra=1), "the fields .* got .*'extra'"),
    "missing field": (altered(explanations="absent"), "the fields"),
    "axes no object": (altered(axes=[]), "'axes' to be an object; got"),
    "entries no list": (altered(axes={"w": "P"}), "'axes' of 'w' to be a list of texts and nulls"),
    "entry no text": (altered(axes={"w": [3]}), r"texts and nulls; got \[3\]"),
    "entry no grammar": (altered(axes={"w": ["P+"]}, group_sizes={}), "entry of 'w' axis 0"),
    "size no integer": (altered(group_sizes={"h": 4.0}), "of 'h' to be a whole number; got 4.0"),
    "size a boolean": (altered(group_sizes={"h": True}), "of 'h' to be a whole number; got True"),
    "sentence no text": (altered(explanations={"flat": [None]}), "to be a list of texts; got"),
    "name twice": ('{"format": 1, "format": 2}', "every name once .* got 'format' twice"),
}


@pytest.mark.parametrize(("text", "message"), BAD_JSON.values(), ids=BAD_JSON.keys())
def test_text_that_is_no_spec_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        rl.PermutationSpec.from_json(text)


def test_sizes_are_shown_where_known():
    spec = attention(group_sizes={"h": 4})
    for shown in (str(spec), spec._repr_html_()):
        assert "6 permutations (h = 4)" in shown


def test_table_has_a_colour_for_each_group_and_equal_rows():
    table = attention()._repr_html_()
    rows = table.split("<tr>")[1:]
    assert {row.count("<td>") + row.count("<th>") for row in rows} == {4}
    chips = dict(re.findall(r"background:(#\w+)\"></span>([^<*+]+)", table))
    assert len(chips) == len(attention().permutations)
