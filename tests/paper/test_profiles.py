import dataclasses
import math

import numpy as np
import pytest

from rebasin_lab import pytrees
from rebasin_lab.datasets import views
from rebasin_lab.paper import profiles, sections


def test_overrides_replace_fields():
    assert profiles.get_profile("quick", width=64).width == 64


def test_a_seed_is_that_of_the_first_network_and_all_others_count_on():
    """So that a whole run can be made again with other networks."""
    other = profiles.get_profile("quick", seed=20)
    assert other.pairs == [(20, 21), (22, 23), (24, 25)]
    for notebook in sections.SECTIONS:
        seeds = {
            (each.seed, each.view.part_seed if each.view.part == "random half" else each.seed)
            for each in sections.experiments(notebook, other)
        }
        assert all(min(both) >= 20 for both in seeds), notebook


def test_networks_of_table_3_are_the_profiles_own_unless_trained_for_longer():
    quick, laptop = (profiles.PROFILES[name] for name in ("quick", "laptop"))
    assert quick.merged_experiment(seed=2) == quick.experiment(seed=2)
    assert laptop.merged_experiment(seed=2).train.num_epochs == laptop.num_merged_epochs == 100
    short = profiles.get_profile("laptop", num_epochs=5)
    assert short.merged_experiment(seed=2) == short.experiment(seed=2)


NO_NUMBERS = [True, False, "7", math.nan, math.inf, -math.inf, -1, 10**12, None, [1], {}, 1 + 2j]
WRONG = {
    int: [*NO_NUMBERS, 1.5, 3.0],
    float: NO_NUMBERS,
    str: [1, True, None, ["mnist"], math.nan, "a\nb"],
    tuple[int, ...]: [3, "3", True, [0], [-1], [1.5], [True], ["3"], [3, 2], [2, 2], [[1]], None],
    tuple[float, ...]: [0.1, "0.1", [0.7], [-0.1], [math.nan], [True], [0.2, 0.1], ["0"], None],
}


@pytest.mark.parametrize("field", profiles.FIELDS)
def test_every_field_refuses_what_it_cannot_be(field):
    for value in WRONG[profiles.FIELDS[field]]:
        with pytest.raises(ValueError, match=rf"Expected .*{field}.*; got") as caught:
            profiles.get_profile("quick", **{field: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("field", profiles.FIELDS)
def test_every_field_can_be_set_and_its_own_value_is_no_change(field, profile):
    own = getattr(profiles.PROFILES[profile], field)
    assert not profiles.get_profile(profile, **{field: own}).changed
    other = {str: "digits8x8", float: 0.25, int: 3, tuple[int, ...]: [3, 7]}.get(
        profiles.FIELDS[field], [0.25]
    )
    other = "resnet56" if field == "foreign_pair" else other
    changed = profiles.get_profile(profile, **{field: other})
    assert getattr(changed, field) == (tuple(other) if isinstance(other, list) else other)
    assert type(getattr(changed, field)) is type(own)
    assert changed.changed == (other != own)


def test_ranges_of_fields():
    get = profiles.get_profile
    assert get("quick", num_coarse_images=0).num_coarse_images == 0  # all; no "as it has it"
    assert get("quick", minorities=[]).minorities == ()
    assert get("quick", width=np.int64(8)) == get("quick", width=8)
    assert type(get("quick", width=np.int64(8)).width) is int
    assert get("paper", num_pairs=1).num_normed_pairs == 1
    wrong = {"num_lambdas": [1, 2, 4], "num_coarse_lambdas": [1, 2], "mlp_widths": [[]]}
    wrong |= {"contour_resolution": [1], "num_merged": [1], "num_halves": [1]}
    wrong |= {"num_normed_pairs": [4]}
    for field, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=f"Expected {field} to be"):
                get("quick", **{field: value})


def test_a_trial_keeps_what_was_asked_for():
    cut = profiles.get_profile("quick", trial=True, width=64)
    assert (cut.width, cut.num_epochs, cut.dataset) == (64, 2, "digits8x8")


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_is_fit_to_train_and_interpolate(name):
    profile = profiles.PROFILES[name]
    assert profile.num_lambdas % 2 == 1, "the middle of the line must be on the grid"
    assert profile.num_pairs >= 3, "claims are tested on several pairs"
    profile.experiment(seed=0)


FAMILIES = [
    (name, field)
    for name, profile in profiles.PROFILES.items()
    for field in ("resnet", "compared_resnet", "vgg", "mnist_vgg")
    if getattr(profile, field)
]


@pytest.mark.parametrize(("name", "field"), FAMILIES)
def test_every_convolutional_family_can_be_built(name, field, tiny_data):
    family = getattr(profiles.PROFILES[name], field)
    for width in family.widths:
        shapes = family.experiment(width=width, seed=0).build_model(tiny_data).shapes
        assert pytrees.num_parameters(shapes) > 1e4 * width**2
        assert f", {family.train.num_epochs} epochs of " in family.networks


def test_the_family_that_matchers_are_compared_on_takes_single_settings(monkeypatch, tiny_data):
    monkeypatch.setattr(views, "load_dataset", lambda name: tiny_data)
    assert profiles.get_profile("quick", convolutional_width=3).compared_resnet is None
    laptop = profiles.get_profile(
        "laptop",
        dataset="tiny",
        convolutional_width=3,
        convolutional_images=20,
        convolutional_epochs=2,
    )
    assert laptop.resnet == profiles.PROFILES["laptop"].resnet
    family = laptop.compared_resnet
    assert (family.dataset, family.widths, family.train.num_epochs) == ("tiny", (3,), 2)
    data = family.load_dataset()
    assert len(data.train_labels) == 20
    assert data.image_shape[0] * 2 == tiny_data.image_shape[0]
    assert family.matched_on(data) is data
    few = dataclasses.replace(family, num_evaluated=5).evaluated_on(data)
    assert (len(few.train_labels), len(few.test_labels)) == (5, 5)


def test_single_settings_scale_the_width_of_the_split_network_by_its_name():
    changes = {"dataset": "cifar10", "width": 4, "num_epochs": 3}
    paper, quick = (profiles.get_profile(name, **changes) for name in ("paper", "quick"))
    assert paper.split_experiment.options == (("width_multiplier", 4),)
    assert quick.split_experiment.options == (("num_hidden_layers", 3), ("width", 4))
    for one in (paper.split_experiment, quick.split_experiment):
        assert (one.dataset, one.train.num_epochs) == ("cifar10", 3)
    own = profiles.get_profile("paper", dataset="mnist", width=512, num_epochs=100)
    assert own.split_experiment == profiles.PROFILES["paper"].split_data


@pytest.mark.parametrize("name", ["laptop", "paper"])
def test_vggs_of_the_claim_about_mnist_are_trained_on_mnist(name):
    group = sections.trainings("08_failures", profiles.PROFILES[name])["VGG"]
    assert {(one.dataset, one.architecture) for one in group.values()} == {("mnist", "vgg16")}


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_trial_trains_for_seconds(name):
    trial = profiles.get_profile(name, trial=True)
    assert trial.changed
    for notebook in sections.SECTIONS:
        for one in sections.experiments(notebook, trial):
            assert one.dataset == "digits8x8"
            assert one.train.num_epochs <= 2
            assert max(size for size_name, size in one.options if "width" in size_name) <= 16
