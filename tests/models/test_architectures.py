"""The table of architectures: one record each, and a network of one's own beside the lab's."""

import flax.nnx as nnx
import jax
import pytest

import rebasin_lab as rl
from rebasin_lab import models


class TwoLayers(nnx.Module):
    """A network that is not the lab's."""

    def __init__(self, image_shape, num_classes, *, units: int = 8, rngs):
        self.inner = nnx.Linear(image_shape[0] * image_shape[1], units, rngs=rngs)
        self.outer = nnx.Linear(units, num_classes, rngs=rngs)

    def __call__(self, images):
        return self.outer(nnx.relu(self.inner(images.reshape(len(images), -1))))


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_small_sizes_name_the_width_and_the_depth(name):
    record = models.ARCHITECTURES[name]
    assert {record.width, record.depth} - {""} <= record.small_sizes.keys() <= record.sizes.keys()
    models.check_options(name, record.small_sizes)


def test_network_of_ones_own_is_built_trained_and_matched(monkeypatch, tiny_data):
    mine = models.Architecture(TwoLayers, width="units")
    monkeypatch.setitem(models.ARCHITECTURES, "mine", mine)
    model = rl.build_model("mine", dataset=tiny_data, units=16)
    params = rl.train(model, tiny_data, rl.TrainConfig(batch_size=50, num_epochs=1), seed=0).params
    spec = rl.infer_permutation_spec(model.apply, params, tiny_data.test_images[:1])
    assert spec.axes["inner/kernel"] == (None, "P_0")
    moved = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=1), params)
    aligned = rl.apply_permutation(spec, rl.match("weight", spec, params, moved).permutation, moved)
    assert rl.distance(params, aligned) == 0
    with pytest.raises(ValueError, match=r"a size of mine, \['units'\]; got 'unit'"):
        rl.build_model("mine", dataset=tiny_data, unit=16)


def test_network_put_in_the_place_of_another_is_built(monkeypatch, tiny_data):
    monkeypatch.setitem(models.ARCHITECTURES, "mlp", models.Architecture(TwoLayers, width="units"))
    params = rl.build_model("mlp", dataset=tiny_data).init(jax.random.key(0))
    assert params.keys() == {"inner", "outer"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "sizes of an Architecture, .'units'.; got 'width_multiplier'"),
        ({"width": "units", "depth": "unit"}, r"got 'unit' \(do you mean units"),
        ({"width": "units", "small": {"layers": 2}}, "got 'layers'"),
        ({"width": "units", "num_epochs": 0}, "num_epochs to be a positive int; got 0"),
    ],
)
def test_record_that_names_no_size_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        models.Architecture(TwoLayers, **fields)


@pytest.mark.parametrize("wrong", [TwoLayers, None, "mlp"])
def test_table_holds_records_only(wrong):
    with pytest.raises(ValueError, match="Expected an Architecture under the name .mine.; got"):
        models.ARCHITECTURES["mine"] = wrong
    assert "mine" not in models.ARCHITECTURES
