"""Parents and a merged network on their way through the same layers, on the same inputs."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.matching.statistics import inputs_of
from rebasin_lab.merging.chains import Chain
from rebasin_lab.merging.layers import Layer, Leaves, Program, Values


class Walk:
    """A loop over layers, in which the caller sets `params` before the next one.

    Of every network and batch it keeps what layers further on read, and nothing else.

    Attributes:
        program: the function.
        shares: of each parent in the merge; their sum is 1.
        params: of the merged network, by path: at first the mean.
        own: for each batch, what the merged network has computed so far.
        num_samples: inputs in all batches.
    """

    def __init__(
        self,
        apply_fn: Callable,
        networks: Sequence[PyTree],
        weights: Sequence[float] | None,
        mean: PyTree,
        statistics_paths: Collection[str] | None,
        batches: Iterable[Any],
        *,
        through_streams: bool = True,
    ):
        """Trace a function on the first batch.

        Args:
            apply_fn: the function.
            networks: the parents.
            weights: of each; equal by default.
            mean: of the parents.
            statistics_paths: of running statistics; by default known by their names.
            batches: of inputs; smaller ones at the end are left out.
            through_streams: whether a target is the stream that a layer adds to, or what it adds.

        Raises:
            ValueError: for no inputs, or a function without layers.
        """
        inputs = [inputs_of(batch, number) for number, batch in enumerate(batches)]
        if not inputs:
            raise ValueError("Expected at least one batch of inputs; got an empty data stream.")
        shapes = [jax.tree.map(np.shape, each) for each in inputs]
        while shapes[-1] != shapes[0]:
            shapes.pop()
        self.program = Program(apply_fn, mean, inputs[0], through_streams=through_streams)
        if not self.program.layers:
            raise ValueError(
                "Expected a function with a product or convolution of its inputs with a parameter; "
                "found none outside loops and branches."
            )
        weights = [1.0] * len(networks) if weights is None else list(map(float, weights))
        self.shares = [weight / math.fsum(weights) for weight in weights]
        self.params: Leaves = {p: np.asarray(x) for p, x in pytrees.flatten(mean).items()}
        if statistics_paths is None:
            statistics_paths = pytrees.running_statistics(self.params)
        self._statistics = frozenset(statistics_paths)
        self._parents = [
            pytrees.flatten(pytrees.aligned_to_combine(mean, params)[1]) for params in networks
        ]
        self.own: list[Values] = [
            dict(zip(self.program.inputs, jax.tree.leaves(each), strict=True))
            for each in inputs[: len(shapes)]
        ]
        self._others = [list(self.own) for _ in networks]
        self.num_samples = len(self.own) * len(jax.tree.leaves(inputs[0])[0])

    def chain(self, layer: Layer) -> Chain:
        """What is affine after a layer of the merged network."""
        return Chain(layer, self.params, self._statistics, self.own[0])

    def own_targets(self) -> list[jax.Array]:
        """The target of the present layer in the merged network as it is, for every batch."""
        return [self._present(self.params, front)[0] for front in self.own]

    def __iter__(self) -> Iterator[tuple[Layer, list[list[jax.Array]]]]:
        """Each layer, with its target in every parent for every batch."""
        layers = self.program.layers
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            step = self._step(layer, self.program.frontier(after and after.number))
            self._present = step  # compiled once, for the parents and the merged network
            targets: list[list[jax.Array]] = [[] for _ in self.own]
            for parent, fronts in zip(self._parents, self._others, strict=True):
                for number, front in enumerate(fronts):
                    target, fronts[number] = step(parent, front)
                    targets[number].append(target)
            yield layer, targets
            self.own = [step(self.params, front)[1] for front in self.own]

    def _step(self, layer: Layer, onward: Sequence[int]) -> Callable:
        """From what was computed before a layer to its target, and to what the next one needs."""

        @jax.jit
        def step(params: Leaves, front: Values) -> tuple[jax.Array, Values]:
            target, *values = self.program.evaluate(params, front, [layer.target, *onward])
            return target, dict(zip(onward, values, strict=True))

        return step
