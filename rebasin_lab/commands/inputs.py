"""All that a command reads, opened and checked before any work."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, interop, symmetry
from rebasin_lab.commands.examples import Examples, open_examples
from rebasin_lab.commands.networks import Network, jax_network, statistics_of, torch_network

_MOST_LISTED = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """What a command reads.

    Attributes:
        checkpoints: at least two.
        examples: of --data, or None.
        network: of --torch or --model, or None.
        statistics: leaves that are no weights.
        differences: in architecture, of each checkpoint from the first.
    """

    checkpoints: tuple[interop.Checkpoint, ...]
    examples: Examples | None
    network: Network | None
    statistics: frozenset[str]
    differences: tuple[str, ...]

    def leaf_of(self, checkpoint: interop.Checkpoint) -> dict[str, str]:
        """Name in a checkpoint -> path of the leaf that it is."""
        if self.network is None:
            return {name: name for name in checkpoint.leaves}
        return self.network.leaf_of(list(checkpoint.leaves))

    def leaves(self, checkpoint: interop.Checkpoint) -> dict[str, np.ndarray]:
        """The parameters of a checkpoint by path, in the types of the file."""
        return {path: checkpoint[name] for name, path in self.leaf_of(checkpoint).items()}

    def params(self, checkpoint: interop.Checkpoint) -> PyTree:
        """The parameters of a checkpoint as the function takes them."""
        return self.network.read({name: checkpoint[name] for name in checkpoint})

    def as_params(self, checkpoint: interop.Checkpoint, leaves: Mapping[str, np.ndarray]) -> PyTree:
        """Arrays by path as the function takes them, with what is no parameter of a checkpoint."""
        leaf_of = self.leaf_of(checkpoint)
        return self.network.read(
            {n: leaves[leaf_of[n]] if n in leaf_of else checkpoint[n] for n in checkpoint}
        )

    def spec(self) -> symmetry.PermutationSpec:
        """The permutations that leave the function unchanged.

        Raises:
            ValueError: if there are none.
        """
        params = self.params(self.checkpoints[0])
        spec = symmetry.infer_permutation_spec(self.network.apply, params, self.network.example)
        if not spec.permutations:
            raise ValueError(
                "Expected a network with hidden units that can be permuted; found none. Every "
                "axis is fixed by the function."
            )
        return spec


def open_inputs(
    places: Sequence[str],
    *,
    torch: str | None,
    model: str | None,
    shape: Any,
    statistics: Sequence[str],
    torch_file: bool,
    data: str | None = None,
    num_images: int = 2000,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    needs_network: str = "",
    needs_data: str = "",
    may_differ: bool = False,
    **_: Any,
) -> Inputs:
    """Open the checkpoints, the examples and the network of a command, and check them.

    Args:
        places: of the checkpoints.
        torch: of --torch.
        model: of --model.
        shape: of --input.
        statistics: of --statistics.
        torch_file: of --torch-file.
        data: of --data.
        num_images: of --images.
        mean: of --mean.
        std: of --std.
        seed: of --seed.
        needs_network: the reason why a network is needed, for an error; "" if it is not.
        needs_data: likewise.
        may_differ: accept checkpoints of different architectures; the network is not checked then.

    Raises:
        ValueError: for what does not fit, naming it.
        OSError: if something is not there, or cannot be read.
    """
    if torch and model:
        raise ValueError("Expected one network, of --torch or of --model; got both.")
    if needs_network and not (torch or model):
        raise ValueError(f"Expected --torch or --model, the network: {needs_network}.")
    if needs_data and not data:
        raise ValueError(f"Expected --data: {needs_data}.")
    if not data and (mean is not None or std is not None):
        raise ValueError("Expected --mean and --std with --data, whose pixels they are for.")
    checkpoints = tuple(
        interop.open_checkpoint(place, torch_file=torch_file) for place in map(str, places)
    )
    examples = data and open_examples(
        data,
        num_images=num_images,
        seed=seed,
        mean=mean,
        std=std,
        channels_first=bool(torch),
        shape=shape,
    )
    network = None
    if torch or model:
        shape = examples.shape if examples else shape
        if shape is None:
            raise ValueError(
                "Expected --input, the shape of one example without its batch (as 3x32x32), or "
                "--data to take it from."
            )
        network = torch_network(torch, shape) if torch else jax_network(model, shape)
    opened = Inputs(checkpoints, examples or None, network, frozenset(), ())
    differences = tuple(
        difference
        for other in checkpoints[1:]
        for difference in _differences(opened, checkpoints[0], other)
    )
    if differences and not may_differ:
        listed = "; ".join(differences[:_MOST_LISTED])
        more = len(differences) - _MOST_LISTED
        raise ValueError(
            f"Expected checkpoints of one architecture; {listed}"
            f"{f' and {more} more' if more > 0 else ''}. rebasin-lab check compares them."
        )
    if network is not None and not differences:
        for checkpoint in checkpoints:
            network.check(checkpoint)
    paths = list(opened.leaf_of(checkpoints[0]).values())
    found = statistics_of(network, paths, statistics)
    return dataclasses.replace(opened, statistics=found, differences=differences)


def _differences(inputs: Inputs, a: interop.Checkpoint, b: interop.Checkpoint) -> list[str]:
    """The differences of two architectures in words."""
    leaves_a, leaves_b = (_by_path(inputs.leaf_of(each), each.leaves) for each in (a, b))
    found = []
    for path in dict.fromkeys([*leaves_a, *leaves_b]):
        pair = leaves_a.get(path), leaves_b.get(path)
        if None in pair:
            present = pair[0] or pair[1]
            if jnp.issubdtype(present.dtype, jnp.inexact):  # counters may be missing
                where, without = (a, b) if pair[0] else (b, a)
                near = "" if len(found) else checks.near_matches(path, without.leaves)
                found.append(f"'{path}' is in '{where.path}' alone{near}")
        elif pair[0].shape != pair[1].shape:
            found.append(
                f"'{path}' is {list(pair[0].shape)} in '{a.path}' and {list(pair[1].shape)} in "
                f"'{b.path}'"
            )
        elif len({jnp.issubdtype(each.dtype, jnp.inexact) for each in pair}) > 1:
            found.append(
                f"'{path}' is {pair[0].dtype} in '{a.path}' and {pair[1].dtype} in '{b.path}'"
            )
    return found


def _by_path(leaf_of: Mapping[str, str], leaves: Mapping[str, Any]) -> dict[str, Any]:
    return {path: leaves[name] for name, path in leaf_of.items()}
