"""Permutation specs of the lab's networks, written by hand from the paper.

They owe nothing to any inference, so that a spec that is inferred can be held against them. Keys
are leaf paths of the lab's own models; each entry names one permutation, or None, per axis.
"""

import zlib

import jax
import numpy as np

import rebasin_lab as rl
from rebasin_lab import pytrees

Axes = dict[str, tuple[str | None, ...]]

VGG16_NUM_CONVS = 13
RESNET50_NUM_BLOCKS = (3, 4, 6, 3)


def vgg16_axes() -> Axes:
    """A chain of 13 convolutions and 3 dense layers: 15 permutations."""
    names = [None, *(f"conv_{i}" for i in range(VGG16_NUM_CONVS)), "dense_0", "dense_1", None]
    axes: Axes = {}
    for i in range(VGG16_NUM_CONVS):
        axes |= _conv(f"convs/{i}", *names[i : i + 2]) | _norm(f"norms/{i}", names[i + 1])
        axes[f"convs/{i}/bias"] = (names[i + 1],)
    for i in range(3):
        axes |= _dense(f"dense/{i}", *names[VGG16_NUM_CONVS + i : VGG16_NUM_CONVS + i + 2])
    return axes


def resnet_axes(num_blocks_per_group: int) -> Axes:
    """A CIFAR ResNet: one permutation per stream, which is a group's, and one inside each block."""
    axes = _conv("stem/conv", None, "stream_0") | _norm("stem/norm", "stream_0")
    for group in range(3):
        stream = f"stream_{group}"
        for block in range(num_blocks_per_group):
            path = f"stages/{group}/{block}"
            starts = group > 0 and block == 0
            before = f"stream_{group - 1}" if starts else stream
            axes |= _conv(f"{path}/conv1", before, f"inner_{group}_{block}")
            axes |= _norm(f"{path}/norm1", f"inner_{group}_{block}")
            axes |= _conv(f"{path}/conv2", f"inner_{group}_{block}", stream)
            axes |= _norm(f"{path}/norm2", stream)
            if starts:
                axes |= _conv(f"{path}/shortcut/conv", before, stream)
                axes |= _norm(f"{path}/shortcut/norm", stream)
    return axes | _dense("head", "stream_2", None)


def resnet50_axes() -> Axes:
    """Five streams (the stem's and one per stage), two permutations inside each of 16 blocks.

    Running means and variances move with their layer; the authors' spec leaves them out and
    re-estimates them.
    """
    axes = _conv("stem/conv", None, "stem") | _batch_norm("stem/norm", "stem")
    for stage, num_blocks in enumerate(RESNET50_NUM_BLOCKS):
        stream = f"stream_{stage}"
        for block in range(num_blocks):
            path, inner = f"stages/{stage}/{block}", f"inner_{stage}_{block}"
            before = stream if block else f"stream_{stage - 1}" if stage else "stem"
            for i, names in enumerate(
                [(before, f"{inner}_1"), (f"{inner}_1", f"{inner}_2"), (f"{inner}_2", stream)], 1
            ):
                axes |= _conv(f"{path}/conv{i}", *names) | _batch_norm(f"{path}/norm{i}", names[1])
            if block == 0:
                axes |= _conv(f"{path}/shortcut/conv", before, stream)
                axes |= _batch_norm(f"{path}/shortcut/norm", stream)
    return axes | _dense("head", "stream_3", None)


def draw_params(model: rl.Model, *, seed: int = 0) -> dict:
    """Parameters of a model in which nothing hides: no bias is zero and no two variances equal.

    Drawn by NumPy, which compiles nothing; a real `init` takes seconds for a deep network.
    """

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
        if path.endswith(("/scale", "/var")):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(int(np.prod(leaf.shape[:-1])), 4)
        return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return pytrees.map_with_path(draw, model.shapes)


def _conv(path: str, before: str | None, after: str | None) -> Axes:
    return {f"{path}/kernel": (None, None, before, after)}


def _dense(path: str, before: str | None, after: str | None) -> Axes:
    return {f"{path}/kernel": (before, after), f"{path}/bias": (after,)}


def _norm(path: str, name: str | None) -> Axes:
    return {f"{path}/scale": (name,), f"{path}/bias": (name,)}


def _batch_norm(path: str, name: str | None) -> Axes:
    return _norm(path, name) | {f"{path}/mean": (name,), f"{path}/var": (name,)}
