"""InstanceNorm and GroupNorm (A.4): which orders of channels do they allow?

The paper reasons and has not tried. No training is needed: permute the hidden channels of a small
network at random, and see by how much its outputs change.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rebasin_lab import symmetry
from rebasin_lab.paper.sections.convnext import convolve
from rebasin_lab.paper.sections.record import Column, Prose, Record, Table

NUM_CHANNELS = 32
IMAGES = jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.float32)
KINDS = {"InstanceNorm": NUM_CHANNELS, "GroupNorm": NUM_CHANNELS // 4}  # groups of channels
SHAPES = {
    "first": (3, 3, 3, NUM_CHANNELS),
    "scale": (NUM_CHANNELS,),
    "bias": (NUM_CHANNELS,),
    "second": (3, 3, NUM_CHANNELS, 10),
}
EVERY = symmetry.PermutationSpec(
    {
        "first": (None, None, None, "P"),
        "scale": ("P",),
        "bias": ("P",),
        "second": (None, None, "P", None),
    }
)


def group_norm(num_groups: int) -> Callable[[PyTree, Array], Array]:
    """Return a small network that normalises over groups of neighbouring channels and pixels."""

    def network(params: PyTree, images: Array) -> Array:
        hidden = convolve(images, params["first"])
        grouped = hidden.reshape(*hidden.shape[:-1], num_groups, -1)
        centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
        scale = jnp.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
        scaled = (centred / scale).reshape(hidden.shape) * params["scale"][None, None, None]
        hidden = scaled + params["bias"][None, None, None]
        return convolve(jax.nn.relu(hidden), params["second"]).mean((1, 2))

    return network


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelNorms(Record):
    """By how much outputs change when channels are permuted, relative to the largest output.

    Attributes:
        any_order: by kind of network, under any permutation of the hidden channels.
        allowed: the same under the permutations that the library finds.
        symmetries: log10 of how many these are.
    """

    any_order: Mapping[str, float]
    allowed: Mapping[str, float]
    symmetries: Mapping[str, float]

    def table(self) -> Table:
        """Return all of it."""
        return Table(
            rows=[f"{name}, {groups} groups" for name, groups in KINDS.items()],
            corner=f"{NUM_CHANNELS} channels",
            columns=[
                Column(
                    "change by any order (1 at most)",
                    "",
                    [f"{v:.1e}" for v in self.any_order.values()],
                ),
                Column("symmetries", "", [f"10^{v:.1f}" for v in self.symmetries.values()]),
                Column("change by these", "", [f"{v:.1e}" for v in self.allowed.values()]),
            ],
        )

    def reading(self) -> Prose:
        """Return in words which orders each kind allows."""
        same = {name: change < 1e-5 for name, change in self.any_order.items()}
        sentences = [
            f"{name} {'allows every order' if same[name] else 'does not allow every order'} of "
            f"its channels."
            for name in KINDS
        ]
        if not same["GroupNorm"]:
            sentences.append(
                "The library finds those that it does allow: whole groups may change places, and "
                "channels may within their group."
            )
        return Prose(f"**What we measured.** {' '.join(sentences)}")

    def claims(self) -> Mapping[str, Any]:
        """Return the changes by any permutation."""
        return {
            "a4-instancenorm": self.any_order["InstanceNorm"],
            "a4-groupnorm": self.any_order["GroupNorm"],
        }


def permute_channels() -> ChannelNorms:
    """Permute the channels of both kinds of network, in any order and in those allowed."""
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in SHAPES.items()
    }
    changes, allowed, counts = {}, {}, {}
    for name, num_groups in KINDS.items():
        network = group_norm(num_groups)
        spec = symmetry.infer_permutation_spec(network, params, IMAGES)
        changes[name], allowed[name] = (
            symmetry.verify_equivalence(network, each, params, IMAGES, num_trials=10)
            for each in (EVERY, spec)
        )
        counts[name] = symmetry.log10_num_symmetries(spec, params)
    return ChannelNorms(changes, allowed, counts)
