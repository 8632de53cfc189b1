"""Rescale two networks so that float32 products are precise, for a search of weights.

Only the arrays that move are searched. A large common mean does not depend on the order but would
cost float32 precision, so it is subtracted. Networks of an extreme scale are multiplied by a power
of two. Both change <A, pi(B)> by a factor and a constant, which `WeightProblem.objective` undoes.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.matching import products
from rebasin_lab.matching.coordinate_ascent import Arrays, Squares
from rebasin_lab.matching.ignored import ignored_leaves
from rebasin_lab.matching.sorting import Sorted, sort_single_numbers
from rebasin_lab.symmetry import PermutationSpec, split_into_blocks

# Networks whose largest weight is beyond 2 ** +-20 are scaled to 1: squares, and sums of a billion
# of them, stay far from the ends of float32 at 2 ** +-126.
_MAX_EXPONENT = 20


@dataclasses.dataclass(frozen=True, eq=False)
class WeightProblem:
    """The rescaled problem: maximise <a, pi(b)>.

    Attributes:
        spec: of the arrays; every axis holds one name or None.
        a: the arrays of A that a permutation moves, float32 in C order.
        b: likewise of B.
        squares: by path the squared norms, in `a` and in `b`.
        lengths: norms of all arrays that move, of A and of B, in units of `a` and `b`.
        offset: <A, pi(B)> of these arrays minus <a, pi(b)>, in the same units.
        unit: the product of the factors of A and B.
        still: the inner product of the arrays that no permutation moves.
        sorted: what was sorted, and is not in `spec`.
    """

    spec: PermutationSpec
    a: Arrays
    b: Arrays
    squares: Squares
    lengths: tuple[float, float]
    offset: float
    unit: float
    still: float
    sorted: Sorted

    def objective(self, value: float) -> float:
        """<A, pi(B)> where <a, pi(b)> is `value`."""
        return self.unit * (value + self.offset) + self.still


def weight_problem(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    normalize: bool = False,
    ignore: Collection[str] | None = None,
    not_sorted: Collection[str] = (),
) -> WeightProblem:
    """Cut two networks into blocks and rescale them for a search.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed. Float32 arrays of a usual scale and without a
            large mean are not copied.
        normalize: divide by the norms of units first, see `_normalized`.
        ignore: leaves that do not count, see `ignored_leaves`.
        not_sorted: groups that more than their numbers decides on, see `sorting`.

    Raises:
        ValueError: as `pytrees.paired` and `ignored_leaves`.
    """
    ignored = ignored_leaves(spec, ignore)
    params_a, params_b = pytrees.paired(params_a, params_b)
    for name, params in {"params_a": params_a, "params_b": params_b}.items():
        pytrees.check_real(params, name)
    blocks_spec, *pair = split_into_blocks(spec, *jax.tree.map(np.asarray, (params_a, params_b)))
    moved = {path for places in blocks_spec.permutations.values() for path, _ in places}
    counted = [path for path in pair[0] if path.rpartition("#")[0] not in ignored]
    still = [{path: x[path] for path in counted if path not in moved} for x in pair]
    pair = [{path: x[path] for path in counted if path in moved} for x in pair]
    if len(pair[0]) < len(blocks_spec.axes):
        entries = {path: blocks_spec.entries[path] for path in pair[0]}
        blocks_spec = PermutationSpec.of_entries(entries)
    in_order = sort_single_numbers(blocks_spec, pair, not_sorted)
    blocks_spec, pair = in_order.spec, in_order.pair
    if normalize:
        pair = [_normalized(blocks_spec, blocks) for blocks in pair]
    scaled = [_in_float32(blocks) for blocks in pair]
    pair = [arrays for arrays, _, _ in scaled]
    exponents = [exponent for _, exponent, _ in scaled]
    squares = {path: tuple(own[path] for _, _, own in scaled) for path in pair[0]}
    lengths = tuple(math.sqrt(math.fsum(own.values())) for _, _, own in scaled)
    if not np.isfinite(lengths).all():
        for name, params in {"params_a": params_a, "params_b": params_b}.items():
            pytrees.check_finite(params, name)
    offset = 0.0
    for path, names in blocks_spec.axes.items():
        arrays = [blocks[path] for blocks in pair]
        if centred := _without_large_means(names, arrays, squares[path]):
            for blocks, array in zip(pair, centred.arrays, strict=True):
                blocks[path] = array
            offset += centred.shared
            squares[path] = tuple(products.inner_product([x], [x]) for x in centred.arrays)
    return WeightProblem(
        spec=blocks_spec,
        a=pair[0],
        b=pair[1],
        squares=squares,
        lengths=lengths,
        offset=offset,
        unit=math.ldexp(1.0, sum(exponents)),
        still=pytrees.inner_product(*still) if still[0] else 0.0,
        sorted=in_order,
    )


def _in_float32(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], int, dict[str, float]]:
    """Arrays in float32 and C order, divided by a power of two: them, its exponent, squared norms.

    The exponent is 0 for a network of a usual scale.
    """
    limit = math.ldexp(1.0, _MAX_EXPONENT)
    if all(x.dtype == np.float32 for x in arrays.values()):
        plain = {path: np.asarray(x, order="C") for path, x in arrays.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            squares = products.squares(plain)
        # The largest entry lies between the root mean square and the norm.
        sizes = [max(x.size, 1) for x in plain.values()]
        norm = math.sqrt(sum(squares.values()))
        if math.sqrt(sum(sizes)) / limit < norm < limit / 2:
            return plain, 0, squares
    largest = max(
        (max(float(x.max()), -float(x.min())) for x in arrays.values() if x.size), default=0.0
    )
    exponent = math.frexp(largest)[1] if largest else 0
    exponent = exponent if abs(exponent) > _MAX_EXPONENT else 0
    if exponent:
        arrays = {path: np.ldexp(x.astype(np.float64), -exponent) for path, x in arrays.items()}
    arrays = {path: np.asarray(x, np.float32, order="C") for path, x in arrays.items()}
    return arrays, exponent, products.squares(arrays)


@dataclasses.dataclass(frozen=True)
class _Centred:
    """Two arrays without their means, and the change of <a, pi(b)>."""

    arrays: tuple[np.ndarray, np.ndarray]
    shared: float


def _without_large_means(
    names: Sequence[str | None], pair: Sequence[np.ndarray], squares: Sequence[float]
) -> _Centred | None:
    """Two arrays without the means over the axes that move.

    None if the means hold less than half of the squares of each: copies cost memory.
    """
    moving = tuple(i for i, n in enumerate(names) if n is not None and not n.startswith("#"))
    num_moved = math.prod(pair[0].shape[axis] for axis in moving)

    def share_of_means(dtype: type) -> float:
        sums = [x.sum(moving, dtype, keepdims=True) for x in pair]
        return max(
            float(np.square(total, dtype=np.float64).sum()) / max(1, num_moved) / max(square, 1e-99)
            for total, square in zip(sums, squares, strict=True)
        )

    # Sums in float64 are slower: only where those in float32 leave a doubt.
    if share_of_means(np.float32) < 0.4 or share_of_means(np.float64) <= 0.5:
        return None
    means = [x.sum(moving, np.float64, keepdims=True) / max(1, num_moved) for x in pair]
    centred = (x - mean for x, mean in zip(pair, means, strict=True))  # in float64
    return _Centred(
        tuple(np.asarray(x, np.float32, order="C") for x in centred),
        num_moved * float(np.vdot(*means)),
    )


def _normalized(spec: PermutationSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every entry divided by the geometric mean of the norms of its units.

    A unit's norm is over all its weights, in all arrays of its group, so the scale of a unit or a
    network does not matter. Units of norm zero are not scaled. Units of nested groups in different
    slots are different units.
    """
    norms: dict[str, np.ndarray] = {}
    for name, places in spec.permutations.items():
        squares = np.float64(0)
        for path, axis in places:
            kept = _slots_and_units(spec, path, name, axis)
            summed = tuple(i for i in range(arrays[path].ndim) if i not in kept)
            square = np.square(arrays[path], dtype=np.float64).sum(summed)
            squares = squares + np.transpose(square, np.argsort(np.argsort(kept)))
        norms[name] = np.where(squares > 0, np.sqrt(squares), 1.0)
    return {path: _divided(spec, path, array, norms) for path, array in arrays.items()}


def _divided(
    spec: PermutationSpec, path: str, array: np.ndarray, norms: dict[str, np.ndarray]
) -> np.ndarray:
    named = [(axis, name) for axis, name in enumerate(spec.axes[path]) if name in norms]
    for axis, name in named:
        kept = _slots_and_units(spec, path, name, axis)
        factor = np.transpose(norms[name], np.argsort(kept)) ** (-1 / len(named))
        others = tuple(i for i in range(array.ndim) if i not in kept)
        array = array * np.expand_dims(factor.astype(np.float32), others)
    return np.asarray(array, order="C")


def _slots_and_units(spec: PermutationSpec, path: str, name: str, axis: int) -> list[int]:
    """The axes of an array that hold the slots a group varies along, and last its units."""
    bases = [n if n is None else spec.groups[n].base for n in spec.axes[path]]
    return [*(bases.index(parent) for parent in spec.groups[name].parents), axis]
