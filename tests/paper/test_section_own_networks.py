"""The section on networks of one's own at tiny sizes: files, merges and their controls."""

import dataclasses

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab import interop
from rebasin_lab.lab import plots
from rebasin_lab.paper import foreign_pair, profiles
from rebasin_lab.paper.sections import merge_efforts, own_networks


@pytest.fixture(scope="module")
def study():
    return study_of(own_networks)


@pytest.fixture(scope="module")
def pair(study, tmp_path_factory):
    return own_networks.open_pair(study, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def spec(pair):
    return rl.infer_permutation_spec(pair.apply_fn, pair.params[0], pair.images.test_images[:1])


@pytest.fixture(scope="module")
def ladder(study, pair, spec):
    return own_networks.merge_in_all_ways(study, pair, spec)


def test_networks_of_the_lab_are_the_same_functions_under_the_names_of_pytorch():
    data = rl.load_dataset("digits8x8")
    model = rl.build_model("resnet8_bn", dataset=data, width_multiplier=0.5)
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)  # statistics, scales and shifts that are not those of the start
    params = jax.tree.map(lambda leaf: leaf + rng.uniform(0.1, 0.5, leaf.shape), params)
    renamed = foreign_pair.as_torch(params)
    images = jax.numpy.asarray(data.test_images[:8])
    np.testing.assert_allclose(
        foreign_pair.ours(renamed, images), model.apply(params, images), rtol=1e-4
    )
    assert renamed["layer2.0.conv1.weight"].shape == (16, 8, 3, 3)
    assert {"bn1.running_mean", "layer2.0.shortcut.1.running_var", "linear.bias"} <= renamed.keys()


def test_files_of_others_are_found_where_both_are(tmp_path, monkeypatch):
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path))
    folder = tmp_path / foreign_pair.FOLDER
    folder.mkdir()
    laptop = profiles.get_profile("laptop")
    for one in "ab":
        assert foreign_pair.files("resnet20") == ()
        assert "are not in resnet-cifar10" in own_networks.not_measured(laptop)
        assert list(own_networks.networks(laptop)) == ["BatchNorm"]
        (folder / f"resnet20-{one}.safetensors").touch()
    assert [path.parent for path in foreign_pair.files("resnet20")] == [folder] * 2
    assert foreign_pair.files("") == foreign_pair.files("resnet56") == ()
    assert own_networks.networks(laptop) == {}
    assert own_networks.not_measured(laptop) == ""
    for pair_of_its_own in ({"trial": True}, {"foreign_pair": ""}):
        profile = profiles.get_profile("laptop", **pair_of_its_own)
        assert "a pair of its own" in own_networks.not_measured(profile)


def test_without_a_folder_of_data_there_are_none(monkeypatch):
    monkeypatch.delenv("REBASIN_DATA", raising=False)
    assert foreign_pair.files("resnet20") == ()


def test_the_pair_is_read_from_its_files(pair):
    assert len(pair.networks) == 2
    for path, params, network in zip(pair.paths, pair.params, pair.networks, strict=True):
        assert params.keys() == interop.open_checkpoint(path).keys()
        images = jax.numpy.asarray(pair.data.test_images[:4])
        np.testing.assert_allclose(
            pair.apply_fn(params, images),
            network.model.apply(network.params, images),
            rtol=1e-4,
            atol=1e-5,
        )
    assert len(pair.table().as_texts()) == 3


def test_all_ways_are_measured_with_controls(ladder, pair):
    check_record(ladder, own_networks)
    assert {*ladder.accuracies} == {"A", "B", *own_networks.LOOKS_AT}
    assert ladder.accuracies["A"] == pair.accuracy(pair.params[0])
    assert ladder.accuracies[own_networks.FITTED] == pair.accuracy(ladder.fitted.params)
    assert len(ladder.table().as_texts()) == 1 + len(ladder.accuracies)
    assert ladder.claims() == {}  # they are about networks of others


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "It needs B, and B's units in order."),
        ({own_networks.UNMATCHED: 83.0}, "It needs B; matching adds nothing to it here."),
        ({own_networks.JUNK: 90.0}, "It gains nothing from B, and B's units in order."),
    ],
)
def test_a_control_decides_what_is_said(ladder, changes, says):
    fixed = dict.fromkeys(ladder.accuracies, 50.0) | {own_networks.FITTED: 83.0} | changes
    theirs = dataclasses.replace(ladder.pair, networks=())
    measured = dataclasses.replace(ladder, pair=theirs, accuracies=fixed)
    assert says in measured.reading()
    gains = measured.claims()
    assert gains.keys() == {claim.id for claim in own_networks.CLAIMS}
    assert gains["own-least-squares"] == 33.0
    assert gains["own-junk"] == 83.0 - fixed[own_networks.JUNK]


def test_more_images_and_larger_layers_are_measured_with_their_control(study, pair, ladder):
    efforts = merge_efforts.by_images(study, pair, ladder.aligned, ladder.junk)
    sizes = merge_efforts.by_size(study, pair, ladder.aligned, ladder.junk)
    check_record(efforts, own_networks)
    assert efforts.values == [100, 200]  # of 200 images
    assert "without a label" in efforts.reading()
    assert sizes.numbers[0] == sum(array.size for array in pair.params[0].values())
    assert sizes.numbers == sorted(sizes.numbers)
    for stop, size in enumerate(sizes.values):
        figure = sizes.at(stop)
        plots.checked(figure.plot, figure.numbers)
        assert f"Size {size:g}" in figure.alt
    assert len(sizes.table().as_texts()) == 1 + len(sizes.values)


def test_a_merged_network_is_written_under_the_names_of_a(pair, ladder, tmp_path):
    path = tmp_path / "merged.safetensors"
    said = pair.written(ladder.fitted.params, path)
    read = interop.open_checkpoint(path)
    assert read.keys() == pair.params[0].keys()
    assert f"{ladder.accuracies[own_networks.FITTED]:.1f} %" in said
    for name, array in read.items():
        np.testing.assert_array_equal(array, ladder.fitted.params[name])
