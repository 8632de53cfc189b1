"""Which axis each permutation moves: laws over all architectures, and the messages."""

import re

import numpy as np
import pytest

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


def test_permutations_are_the_inverse_view(architecture):
    spec = architecture.spec
    places = {
        (path, axis, name)
        for path, names in spec.axes.items()
        for axis, name in enumerate(names)
        if name is not None
    }
    inverse = {(*place, name) for name, moved in spec.permutations.items() for place in moved}
    assert inverse == places
    assert sum(map(len, spec.permutations.values())) == len(places)


def test_sizes_are_those_of_every_axis(architecture):
    params = architecture.init(0)
    leaves, sizes = pytrees.flatten(params), architecture.spec.sizes(params)
    for name, places in architecture.spec.permutations.items():
        assert {leaves[path].shape[axis] for path, axis in places} == {sizes[name]}


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
