"""The paper's specs of VGG16 and the ResNets hold for the lab's networks, and count as it counts.

Likewise the networks of other frameworks and what `frameworks` says of them.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from frameworks import FRAMEWORKS
from rebasin_lab import pytrees
from specs import draw_params, resnet50_axes, resnet_axes, vgg16_axes

# Axes, how many permutations, and a width at which the check is quick.
SPECS = {
    "vgg16": (vgg16_axes(), 15, 1 / 8),
    "resnet8": (resnet_axes(1), 6, 1 / 2),
    "resnet20": (resnet_axes(3), 12, 1 / 2),
    "resnet50": (resnet50_axes(), 37, 1 / 8),
}

# PAPER, section 1.1: the whole part of log10 of the number of permutations.
NUM_SYMMETRIES = {
    "resnet20": {1: 551, 2: 1360, 4: 3246, 8: 7556, 16: 17252, 32: 38801},
    "vgg16": {1 / 8: 854, 1 / 4: 2089, 1 / 2: 4951, 1: 11462, 2: 26062, 4: 58419},
    "resnet50": {1: 25638},
}


IMAGES = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)


@functools.cache  # tests of one network share its compilation
def network(architecture):
    options = {"width_multiplier": SPECS[architecture][2]}
    model = rl.Model(architecture, image_shape=(16, 16, 3), num_classes=10, options=options)
    return model, draw_params(model)


def largest_change(architecture, axes):
    model, params = network(architecture)
    spec = rl.PermutationSpec(axes)
    spec.validate(params)
    return rl.verify_equivalence(model.apply, spec, params, jnp.asarray(IMAGES), num_trials=1)


@pytest.mark.parametrize("architecture", SPECS)
def test_spec_has_the_papers_number_of_permutations(architecture):
    axes, num_permutations, _ = SPECS[architecture]
    assert len(rl.PermutationSpec(axes).permutations) == num_permutations


@pytest.mark.parametrize("architecture", SPECS)
def test_permuting_by_the_papers_spec_preserves_logits(architecture):
    # Right specs stay below 1e-5 here; the wrong ones below change the logits by 1e-2 and more.
    assert largest_change(architecture, SPECS[architecture][0]) < 1e-4


@pytest.mark.parametrize("path", ["stages/1/0/norm2/mean", "stages/1/0/norm2/var"])
def test_running_statistics_belong_to_their_layer(path):
    assert largest_change("resnet50", resnet50_axes() | {path: (None,)}) > 1e-3


@pytest.mark.parametrize(
    ("architecture", "width_multiplier"),
    [(name, width) for name, counts in NUM_SYMMETRIES.items() for width in counts],
)
def test_number_of_symmetries_is_the_papers(architecture, width_multiplier):
    options = {"width_multiplier": width_multiplier}
    model = rl.Model(architecture, image_shape=(32, 32, 3), num_classes=10, options=options)
    # Shapes suffice: the widest of these has 270 million parameters.
    params = model.shapes
    count = rl.log10_num_symmetries(rl.PermutationSpec(SPECS[architecture][0]), params)
    assert math.floor(count) == NUM_SYMMETRIES[architecture][width_multiplier]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_spec_of_another_framework_preserves_logits(framework, tiny_data):
    subject = FRAMEWORKS[framework]()
    spec = rl.PermutationSpec(subject.axes)
    assert spec.axes.keys() == pytrees.flatten(subject.params).keys()
    images = jnp.asarray(tiny_data.test_images[:16])
    assert subject.apply_fn(subject.params, images).shape == (16, 10)
    assert rl.verify_equivalence(subject.apply_fn, spec, subject.params, images) < 1e-4
