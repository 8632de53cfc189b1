"""Choose the inner units of a merged network among those of all parents.

For each inner group all units of all parents are predicted from the merged network's own features.
Then units are left out, always the one without which the layer that reads them predicts its target
best, all its other weights solved for anew (optimal brain surgery, Hassibi and Stork 1993, for the
entries of one unit together). Units need no partner, so nothing is lost where a parent's unit has
none; with more units than one network has, less is lost.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
import scipy  # loads `scipy.linalg`, which takes long, on first use
from jaxtyping import Float64, Int, PyTree

from rebasin_lab.layers.chains import Chain, Matrices
from rebasin_lab.layers.layer import Layer, Leaves
from rebasin_lab.layers.walk import Walk
from rebasin_lab.merging import sampling
from rebasin_lab.merging.inner_groups import InnerGroup, find_inner_groups
from rebasin_lab.symmetry.inference import infer

SAMPLES = 20  # for each input of the reader, when units are chosen


@dataclasses.dataclass(frozen=True, eq=False)
class Elimination:
    """Units that were kept, and what leaving out the others cost.

    Attributes:
        kept: ascending.
        costs: added to the mean squared error, with its penalty, by each unit that was left out.
        weights: of the units kept, units x inputs of a unit x outputs.
    """

    kept: Int[np.ndarray, " _"]
    costs: tuple[float, ...]
    weights: Float64[np.ndarray, "kept inputs outputs"]


def eliminate(
    left: Float64[np.ndarray, "n n"],
    right: Float64[np.ndarray, "n outputs"],
    *,
    num_units: int,
    num_kept: int,
    importance: Float64[np.ndarray, " outputs"] | None = None,
) -> Elimination:
    """Leave out units one at a time, always the one that costs least; see the module.

    With P the inverse of the left side and W = P right, leaving out unit g costs
    tr(W_g^T P_gg^-1 W_g). Afterwards P becomes P - P_:g P_gg^-1 P_g:, which is kept as P and its
    pivoted Cholesky factors, one block for each unit that is gone.

    Args:
        left: of the normal equations, with the entries of each unit together.
        right: likewise.
        num_units: units there are.
        num_kept: units to keep.
        importance: of each output's squared error; 1 by default.
    """
    size, num_drops = len(left) // num_units, num_units - num_kept
    inverse = scipy.linalg.cho_solve(scipy.linalg.cho_factor(left), np.eye(len(left)))
    weights = (inverse @ right).reshape(num_units, size, -1)
    every = np.arange(num_units)
    blocks = inverse.reshape(num_units, size, num_units, size)[every, :, every].copy()
    factors = np.zeros((len(left), max(num_drops, 0) * size))
    costs, gone = [], np.zeros(num_units, bool)
    for step in range(num_drops):
        shared = weights * np.linalg.solve(blocks, weights)
        cost = shared.sum((1, 2)) if importance is None else shared.sum(1) @ importance
        unit = int(np.where(gone, np.inf, cost).argmin())
        at, done = slice(unit * size, (unit + 1) * size), step * size
        column = inverse[:, at] - factors[:, :done] @ factors[at, :done].T
        root = np.linalg.cholesky(blocks[unit])
        factor = scipy.linalg.solve_triangular(root, column.T, lower=True).T
        scaled = scipy.linalg.solve_triangular(root, weights[unit], lower=True)
        factors[:, done : done + size] = factor
        weights -= (factor @ scaled).reshape(weights.shape)
        parts = factor.reshape(num_units, size, size)
        blocks -= parts @ parts.transpose(0, 2, 1)
        costs.append(float(cost[unit]))
        gone[unit] = True
        blocks[gone], weights[gone] = np.eye(size), 0.0
    kept = np.flatnonzero(~gone)
    return Elimination(kept, tuple(costs), weights[kept])


class Pruning:
    """The inner groups of a merge, and which of their units were chosen.

    A candidate is a unit of a parent: number `k * n + i` is unit i of parent k, of n.

    Attributes:
        writers: path of a layer -> the group that it writes.
        readers: path of a layer -> the group that it reads.
    """

    def __init__(self, walk: Walk, apply_fn: Callable, mean: PyTree, size: float | int | None):
        """Find the inner groups, and give the merged network's the widths asked for.

        Args:
            walk: at its start.
            apply_fn: the function.
            mean: of the parents.
            size: units of the merged network, as a share of those of one network; None for means
                of aligned units, as a merge without groups has them.

        Raises:
            ValueError: for a function without inner groups, or that knows one width only.
        """
        self._walk, program = walk, walk.program
        self._widths: dict[str, int] = {}
        self._kept: dict[str, np.ndarray] = {}  # path of a reader -> candidates
        self.writers: dict[str, InnerGroup] = {}
        self.readers: dict[str, InnerGroup] = {}
        if size is None:
            return
        spec = infer.infer_permutation_spec(apply_fn, mean, *walk.inputs)
        groups = find_inner_groups(program, spec, walk.params)
        if not groups:
            raise ValueError(
                f"Expected units that one layer writes and one reads, as size={size} needs; found "
                "none. Leave size out."
            )
        self.writers = {program.layers[group.writer].path: group for group in groups}
        self.readers = {program.layers[group.reader].path: group for group in groups}
        resized: Leaves = {}
        for path, group in self.writers.items():
            most = group.size * len(walk.parents)
            self._widths[path] = min(max(round(size * group.size), 1), most)
            # A layer between two groups is resized along both.
            resized |= group.resized({**walk.params, **resized}, self._widths[path])
        walk.widen(resized)

    def blocks(self, layer: Layer, targets: Sequence[jax.Array]) -> list[jax.Array]:
        """The parents' targets as a layer has to meet them: each, or their mean."""
        if layer.path in self.writers:
            return list(targets)
        return [sum(share * one for share, one in zip(self._walk.shares, targets, strict=True))]

    def towards(self, layer: Layer, chain: Chain) -> Matrices:
        """The parents' own maps, as one of a layer that writes candidates and reads units kept."""
        if layer.path not in {*self.readers, *self.writers}:
            return chain.kernel(self._walk.params)
        kept = self._kept.get(layer.path)
        matrix = self._prior(layer, chain, kept)
        if kept is not None:
            order = self.readers[layer.path].inputs_of(layer, len(kept))
            matrix = matrix[:, :, np.argsort(order.ravel())]
        return matrix

    def _prior(self, layer: Layer, chain: Chain, kept: np.ndarray | None) -> Matrices:
        """The parents' own maps, whose inputs are those of each unit kept, one after the other."""
        number = [own.path for own in self._walk.own_program.layers].index(layer.path)
        narrow = self._walk.program.layers[number]
        if layer is not narrow:
            chain = self._walk.parent_chain(narrow)
        maps = [chain.kernel(params) for params in self._walk.parents]
        if kept is not None:
            group = self.readers[layer.path]
            order = group.inputs_of(narrow, group.size)
            for parent, matrix in enumerate(maps):
                mine = kept // group.size == parent
                spread = np.zeros((*matrix.shape[:2], len(kept), order.shape[1]))
                spread[:, :, mine] = matrix[:, :, order[kept[mine] % group.size]]
                maps[parent] = spread.reshape(*matrix.shape[:2], -1)
        if layer.path in self.writers:
            return np.concatenate(maps, axis=1)
        return sum(share * each for share, each in zip(self._walk.shares, maps, strict=True))

    def choose(
        self,
        layer: Layer,
        candidates: Callable[[np.ndarray], Leaves],
        ridge: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The units to keep of the group that a layer writes, as numbers of candidates, ascending.

        Args:
            layer: the writer.
            candidates: parameters of the merged network with some candidates as its units.
            ridge: as of the regressions.
            rng: of windows.
        """
        walk, group, width = self._walk, self.writers[layer.path], self._widths[layer.path]
        every = np.arange(group.size * len(walk.parents))
        reader = walk.own_program.layers[group.reader]
        kept = every
        if width < len(every):
            chain, order = walk.chain(reader), group.inputs_of(reader, width)
            parts = np.resize(every, (-(-len(every) // width), width))
            orders = np.concatenate([order + n * order.size for n in range(len(parts))])
            order = orders[: len(every)].ravel()
            targets = (self.blocks(reader, each) for each in walk.targets_ahead(group.reader))
            moments = sampling.gather(
                reader,
                chain.neutral(walk.params),
                walk.own,
                targets,
                rng,
                variants=[candidates(part) for part in parts],
                order=order,
                enough=SAMPLES * len(order),
            )
            towards = self._prior(reader, chain, every)
            left, right = moments.equations(ridge, towards, has_shift="bias" in chain.roles)
            importance = None
            if reader.path in self.writers:  # as in the mean of what the parents compute
                importance = np.repeat(np.square(walk.shares), right.shape[2] // len(walk.shares))
            kept = eliminate(
                left[0], right[0], num_units=len(every), num_kept=width, importance=importance
            ).kept
        self._kept[reader.path] = kept
        return kept
