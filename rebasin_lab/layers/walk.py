"""Parents and a merged network on their way through the same layers, on the same inputs."""

import contextlib
import ctypes
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.layers.batches import Batches, scratch_folder
from rebasin_lab.layers.chains import Chain
from rebasin_lab.layers.inputs import inputs_of
from rebasin_lab.layers.layer import Layer, Leaves, Values
from rebasin_lab.layers.program import Program, program_of


class Walk:
    """A loop over layers, in which the caller sets `params` before the next one.

    Of every network and batch it keeps what layers further on read, and nothing else.

    Attributes:
        program: the function.
        own_program: the function as the merged network has it, whose layers may have other widths.
        shares: of each parent in the merge; their sum is 1.
        parents: the networks, by path.
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
        scratch: str | os.PathLike[str] | None = None,
    ):
        """Trace a function on the first batch.

        Args:
            apply_fn: the function.
            networks: the parents; none, where only the merged network goes.
            weights: of each; equal by default.
            mean: of the parents.
            statistics_paths: of running statistics; by default known by their names.
            batches: of inputs, at least one; smaller ones at the end are left out.
            through_streams: whether a target is the stream that a layer adds to, or what it adds.
            scratch: a folder for what is kept of each batch; None keeps it in memory.

        Raises:
            ValueError: for a function without layers, or a scratch that is no folder.
        """
        inputs = [inputs_of(batch, number) for number, batch in enumerate(batches)]
        shapes = [jax.tree.map(np.shape, each) for each in inputs]
        while shapes[-1] != shapes[0]:
            shapes.pop()
        self.program = program_of(apply_fn, mean, inputs[0], through_streams=through_streams)
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
        self._apply_fn, self._mean, self.inputs = apply_fn, mean, inputs[0]
        self.own_program = self.program
        self.parents = [
            pytrees.flatten(pytrees.aligned_to_combine(mean, params)[1]) for params in networks
        ]
        self._scratch = scratch_folder(scratch)
        first: list[Values] = [
            dict(zip(self.program.inputs, jax.tree.leaves(each), strict=True))
            for each in inputs[: len(shapes)]
        ]
        self.own = Batches(first, self._scratch)
        self._others = [Batches(first, self._scratch) for _ in networks]
        self.num_samples = len(self.own) * len(jax.tree.leaves(inputs[0])[0])

    def widen(self, params: Leaves) -> None:
        """Give the merged network these parameters, whose shapes may be others.

        Raises:
            ValueError: for a function that cannot be evaluated with them.
        """
        self.params |= params
        tree = pytrees.map_with_path(lambda path, _: self.params[path], self._mean)
        if all(np.shape(params[path]) == self.parents[0][path].shape for path in params):
            return
        try:
            wide = program_of(self._apply_fn, tree, self.inputs)
        except ValueError as error:
            raise ValueError(
                "Expected a function that takes inner layers of any width, as `size` asks for; "
                f"with other widths it raised: {error}. Use size=1, or a function that reads the "
                "widths from its parameters."
            ) from error
        paths, found = ([layer.path for layer in each.layers] for each in (self.program, wide))
        if paths != found:
            raise ValueError(
                f"Expected the layers {paths} at any width; with other widths found {found}. "
                "Use size=1."
            )
        self.own_program = wide

    def chain(self, layer: Layer) -> Chain:
        """What is affine after a layer of the merged network."""
        return Chain(layer, self.params, self._statistics, self.own[0])

    def parent_chain(self, layer: Layer) -> Chain:
        """What is affine after the present layer of a parent."""
        return Chain(layer, self.parents[0], self._statistics, self._before[0])

    def own_targets(self) -> Iterator[jax.Array]:
        """The target of the present layer in the merged network as it is, for every batch."""
        return (self._present(self.params, front)[0] for front in self.own)

    def targets_ahead(self, number: int) -> Iterator[list[jax.Array]]:
        """For each batch, the target of a later layer in every parent."""
        ahead = self._step(self.program, self.program.layers[number], [])
        for fronts in zip(*self._others, strict=True):
            yield [ahead(*each)[0] for each in zip(self.parents, fronts, strict=True)]

    def __iter__(self) -> Iterator[tuple[Layer, Sequence[list[jax.Array]]]]:
        """Each layer of the merged network, and for every batch its target in each parent."""
        pairs = list(zip(self.program.layers, self.own_program.layers, strict=True))
        for (layer, own), after in zip(pairs, [*pairs[1:], (None, None)], strict=True):
            numbers = [each and each.number for each in after]
            step = self._step(self.program, layer, self.program.frontier(numbers[0]))
            self._present = step  # compiled once, for the parents and the merged network
            if self.own_program is not self.program:
                onward = self.own_program.frontier(numbers[1])
                self._present = self._step(self.own_program, own, onward)
            self._before = [fronts[0] for fronts in self._others]

            def taken(number: int, step: Callable = step) -> list[jax.Array]:
                """The targets of a batch, whose parents go on to the next layer."""
                targets = []
                for parent, fronts in zip(self.parents, self._others, strict=True):
                    target, fronts[number] = step(parent, fronts[number])
                    targets.append(target)
                return targets

            yield own, Batches(map(taken, range(len(self.own))), self._scratch)
            for number, front in enumerate(self.own):
                self.own[number] = self._present(self.params, front)[1]
            _give_back_memory()

    def _step(self, program: Program, layer: Layer, onward: Sequence[int]) -> Callable:
        """From what was computed before a layer to its target, and to what the next one needs."""

        def step(params: Leaves, front: Values) -> tuple[jax.Array, Values]:
            target, *values = program.evaluate(params, front, [layer.target, *onward])
            return target, dict(zip(onward, values, strict=True))

        return program.compiled.setdefault(("step", layer.number, *onward), jax.jit(step))


def _give_back_memory() -> None:
    """Hand freed memory back to the system.

    glibc keeps it, in pieces between blocks that are still in use: after some layers several times
    what is alive.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
