"""Modules of PyTorch on the command line, there and back."""

import torch_or_skip  # noqa: F401

# isort: split
import json

import numpy as np
import pytest
import torch
from torch import nn

import rebasin_lab as rl
import tiny
from rebasin_lab import paths
from rebasin_lab.interop import checkpoints


def network():
    """With BatchNorm, and dropout that is not there when it is evaluated."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(32, 3),
    )


def test_a_merged_file_loads_strictly_and_predicts_as_the_library_says(folder, run):
    torch.manual_seed(0)
    modules = [network().train() for _ in "ab"]
    x = torch.randn(64, 3, 2, 2)
    for name, module in zip("ab", modules, strict=True):
        module(x)  # statistics of its own
        torch.save({"state_dict": module.state_dict(), "epoch": 3}, folder / f"{name}.th")
    torch.save(network, folder / "code.th")
    net = "--torch test_commands_torch:network --torch-file --data data.npz --mean 0.5 --std 0.25"
    refused, output = run(f"merge a.th code.th --to m.safetensors {net}")
    assert refused == 1
    assert "damaged, or holds more" in output
    status, output = run(f"merge a.th b.th --to m.safetensors {net}")
    assert status == 0, output
    merged = checkpoints.open_checkpoint("m.safetensors")
    card = json.loads(merged.metadata["rebasin_lab_card"])
    assert card["measurements"]["statistics"] == "2 re-estimated"
    module = network().eval()
    state = {name: torch.from_numpy(leaf.copy()) for name, leaf in dict(merged).items()}
    module.load_state_dict(state, strict=True)
    stored = tiny.stored_data(folder / "data.npz")
    pixels = torch.from_numpy((stored["images"] / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        found = (module(pixels).argmax(1).numpy() == stored["labels"]).mean()
    wanted = card["measurements"]["on the images of --data"]["merged"]["accuracy"]
    assert found == pytest.approx(wanted)
    fresh = module[0](pixels).permute(1, 0, 2, 3).reshape(8, -1)
    np.testing.assert_allclose(module[1].running_mean, fresh.mean(1).detach(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.realdata
def test_the_pair_of_others_on_cifar10_is_merged_by_files_alone(run, tmp_path):
    given = paths.data_dir()
    pair = given and [given / "resnet-cifar10" / f"resnet20-{name}.safetensors" for name in "ab"]
    if not pair or not pair[0].exists():
        pytest.skip("REBASIN_DATA has no resnet-cifar10")
    for name, path in zip("ab", pair, strict=True):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes())
    data = rl.load_dataset("cifar10")
    pixels = {split: getattr(data, f"{split}_images")[:600] for split in ("train", "test")}
    pixels = {split: np.rint(255 * one).astype(np.uint8) for split, one in pixels.items()}
    np.savez(tmp_path / "train.npz", images=pixels["train"])
    np.savez(tmp_path / "test.npz", images=pixels["test"], labels=data.test_labels[:600])
    net = "--torch resnet_cifar:ResNet20 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
    method = "--method least-squares --data train.npz"
    status, output = run(f"merge a.safetensors b.safetensors --to m.safetensors {net} {method}")
    assert status == 0, output
    status, output = run(f"check a.safetensors m.safetensors {net} --data test.npz --json c.json")
    measured = json.loads((tmp_path / "c.json").read_text())["measurements"]
    assert measured["accuracy_a"] > 0.88
    assert measured["accuracy_b"] > 0.75  # the mean of the weights is at chance
