"""Functions of JAX for networks of other people, held against PyTorch's."""

import torch_or_skip  # noqa: F401

# isort: split
import numpy as np
import torch

from commands.resnet_cifar import ResNet20
from rebasin_lab.paper import foreign_pair


def test_networks_of_others_are_those_of_pytorch():
    torch.manual_seed(0)
    module = ResNet20(num_blocks=2)
    for name, value in module.state_dict().items():  # statistics that are not 0 and 1
        if "running" in name:
            value.uniform_(0.5, 1.5)
    images = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    seen = (images - np.array(foreign_pair.MEAN)) / np.array(foreign_pair.STD)
    with torch.no_grad():
        wanted = module.eval()(torch.tensor(seen, dtype=torch.float32).permute(0, 3, 1, 2)).numpy()
    params = {name: value.numpy() for name, value in module.state_dict().items()}
    given = foreign_pair.theirs(params, images)
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
