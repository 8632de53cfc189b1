"""Two ResNets for CIFAR-10 as files with PyTorch's names, and functions of JAX that compute them.

Other people trained one pair; its files lie in a folder of data sets. Where there is none a pair of
the lab's own ResNets is written under such names. Neither function knows the widths of layers: they
are those of the parameters, so a merged network may be wider than its parents.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rebasin_lab import paths, pytrees

FOLDER = "resnet-cifar10"
NETWORKS = ("", "resnet20", "resnet56")  # "" is none
# Of the images that the networks of others were trained on: ImageNet's, per channel.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-5  # of BatchNorm, in PyTorch and Flax alike
# The lab's names and PyTorch's, part by part.
_NAMES = (
    (r"^stem/conv/", "conv1/"),
    (r"^stem/norm/", "bn1/"),
    (r"^head/", "linear/"),
    (r"^stages/(\d)", lambda found: f"layer{int(found[1]) + 1}"),
    (r"/norm(\d)/", r"/bn\1/"),
    (r"/shortcut/conv/", "/shortcut/0/"),
    (r"/shortcut/norm/", "/shortcut/1/"),
    (r"/(kernel|scale)$", "/weight"),
    (r"/mean$", "/running_mean"),
    (r"/var$", "/running_var"),
)

Params = Mapping[str, Array | np.ndarray]
Images = Float[Array | np.ndarray, "batch height width channels"]


def files(network: str) -> tuple[Path, ...]:
    """Return the files of two networks of others; none where the folder lacks them.

    Args:
        network: of `NETWORKS`.
    """
    folder = paths.data_dir()
    if folder is None or not network:
        return ()
    pair = tuple(folder / FOLDER / f"{network}-{one}.safetensors" for one in "ab")
    return pair if all(path.is_file() for path in pair) else ()


def theirs(params: Params, images: Images) -> Float[Array, "batch classes"]:
    """Return the logits of a ResNet of others: He et al. 2016, shortcuts without parameters.

    Args:
        params: by PyTorch's names, in its layouts.
        images: with pixels in [0, 1], as in every data set of the lab.
    """
    return _resnet(params, (images - _channels(MEAN)) / _channels(STD), ((1, 1), (1, 1)))


def ours(params: Params, images: Images) -> Float[Array, "batch classes"]:
    """Return the logits of a ResNet of the lab with BatchNorm, from parameters `as_torch`."""
    return _resnet(params, images, "SAME")


def as_torch(params: PyTree) -> dict[str, np.ndarray]:
    """Return the parameters of one of the lab's ResNets by PyTorch's names, in its layouts."""
    renamed = {}
    for path, leaf in pytrees.flatten(params).items():
        for ours_, torchs in _NAMES:
            path = re.sub(ours_, torchs, path)
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, (0,))
        renamed[path.replace("/", ".")] = np.ascontiguousarray(np.transpose(leaf, axes))
    return renamed


def _resnet(params: Params, images: Images, padding: Any) -> Float[Array, "batch classes"]:
    stream = jax.nn.relu(_conv_norm(params, "conv1", "bn1", images, 1, padding))
    blocks = {name.rsplit(".conv1.")[0] for name in params if ".conv1." in name}
    for block in sorted(blocks):  # at most nine stages of ten blocks
        stride = 2 if block.endswith(".0") and not block.startswith("layer1") else 1
        hidden = _conv_norm(params, f"{block}.conv1", f"{block}.bn1", stream, stride, padding)
        hidden = jax.nn.relu(hidden)
        hidden = _conv_norm(params, f"{block}.conv2", f"{block}.bn2", hidden, 1, padding)
        if f"{block}.shortcut.0.weight" in params:
            names = f"{block}.shortcut.0", f"{block}.shortcut.1"
            stream = _conv_norm(params, *names, stream, stride, padding)
        elif stride == 2:  # every other pixel, and channels of zeros on both sides
            stream = stream[:, ::2, ::2]
            more = hidden.shape[-1] - stream.shape[-1]
            stream = jnp.pad(stream, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        stream = jax.nn.relu(hidden + stream)
    logits = stream.mean(axis=(1, 2)) @ jnp.asarray(params["linear.weight"]).T
    return logits + jnp.reshape(jnp.asarray(params["linear.bias"]), (1, -1))


def _conv_norm(params: Params, conv: str, norm: str, x: Any, stride: int, padding: Any) -> Array:
    layouts = ("NHWC", "OIHW", "NHWC")
    kernel = jnp.asarray(params[f"{conv}.weight"])
    y = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layouts
    )
    mean, variance, weight, bias = (
        _channels(params[f"{norm}.{name}"])
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (y - mean) * (weight * jax.lax.rsqrt(variance + EPSILON)) + bias


def _channels(values: Any) -> Float[Array, "1 1 1 channels"]:
    return jnp.reshape(jnp.asarray(values), (1, 1, 1, -1))
