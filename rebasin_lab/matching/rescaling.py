"""Two networks as arrays that float32 products can bear: what a search of weights works on.

Only what moves is searched. A mean that all entries share says nothing about their order, and in
float32 its square would drown what does; so it is taken off where it is large. And networks of an
extreme scale are multiplied by a power of two. All this changes <A, pi(B)> by a factor and a
constant, which `WeightProblem.objective` puts back.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.matching import products
from rebasin_lab.matching.coordinate_ascent import Arrays
from rebasin_lab.symmetry import PermutationSpec, split_into_pieces

# Networks whose largest weight is beyond 2 ** +-20 are scaled to 1: squares, and sums of a billion
# of them, stay far from the ends of float32 at 2 ** +-126.
_MAX_EXPONENT = 20


@dataclasses.dataclass(frozen=True, eq=False)
class WeightProblem:
    """What is left of <A, pi(B)> to search: <a, pi(b)>.

    Attributes:
        spec: of the arrays; every axis holds one name or None.
        a: the arrays of A that any permutation moves, float32 in C order.
        b: likewise of B.
        lengths: of all that moves, for A and for B, in units of `a` and `b`.
        offset: <A, pi(B)> of what moves less <a, pi(b)>, in the same units.
        unit: the product of the factors that were taken out of A and B.
        still: the inner product of what no permutation moves.
    """

    spec: PermutationSpec
    a: Arrays
    b: Arrays
    lengths: tuple[float, float]
    offset: float
    unit: float
    still: float

    def objective(self, value: float) -> float:
        """<A, pi(B)> where <a, pi(b)> is `value`."""
        return self.unit * (value + self.offset) + self.still


def weight_problem(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    normalize: bool = False,
    ignore: Collection[str] = (),
) -> WeightProblem:
    """Cut two networks into pieces and make them ready for a search.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed. Nothing is copied that is float32 already, of a
            usual scale, and without a large mean.
        normalize: divide by the norms of units first, see `_normalized`.
        ignore: leaves that do not count, see `ignored_leaves`.

    Raises:
        ValueError: as `pytrees.paired`; if nothing is called what `ignore` says, or a permutation
            would move nothing that counts.
    """
    ignored = ignored_leaves(spec, ignore)
    params_a, params_b = pytrees.paired(params_a, params_b)
    for name, params in {"params_a": params_a, "params_b": params_b}.items():
        pytrees.check_real(params, name)
    pieces_spec, *pair = _pieces(spec, params_a, params_b)
    pair = [
        {path: x for path, x in pieces.items() if path.rpartition("#")[0] not in ignored}
        for pieces in pair
    ]
    pieces_spec = PermutationSpec({path: pieces_spec.axes[path] for path in pair[0]})
    moved = {path for places in pieces_spec.permutations.values() for path, _ in places}
    still = [{path: x for path, x in pieces.items() if path not in moved} for pieces in pair]
    pair = [{path: x for path, x in pieces.items() if path in moved} for pieces in pair]
    pieces_spec = PermutationSpec({path: pieces_spec.axes[path] for path in pair[0]})
    if normalize:
        pair = [_normalized(pieces_spec, pieces) for pieces in pair]
    exponents = [_exponent(pieces) for pieces in pair]
    pair = [_as_float32(pieces, e) for pieces, e in zip(pair, exponents, strict=True)]
    lengths = tuple(math.sqrt(products.inner_product(x.values(), x.values())) for x in pair)
    if not np.isfinite(lengths).all():
        for name, params in {"params_a": params_a, "params_b": params_b}.items():
            pytrees.check_finite(params, name)
    offset = 0.0
    for path, names in pieces_spec.axes.items():
        arrays = [pieces[path] for pieces in pair]
        arrays, shared = _without_large_means(names, *arrays)
        offset += shared
        for pieces, array in zip(pair, arrays, strict=True):
            pieces[path] = array
    return WeightProblem(
        spec=pieces_spec,
        a=pair[0],
        b=pair[1],
        lengths=lengths,
        offset=offset,
        unit=math.ldexp(1.0, sum(exponents)),
        still=pytrees.inner_product(*still),
    )


def ignored_leaves(spec: PermutationSpec, ignore: Collection[str]) -> set[str]:
    """Paths of the leaves that a reader leaves out of a comparison.

    Args:
        spec: of the network.
        ignore: each a path, or how paths begin ("batch_stats", "layer1.0"), or, where none begins
            so, whole parts from their middle ("bn1" of "layer1.0.bn1.weight"), or, where there are
            none, parts without their number ("bn" of "bn1", "BatchNorm" of "BatchNorm_0"). Parts
            end at "/" or, as torch names them, at ".".

    Raises:
        ValueError: if nothing is called so, or a permutation would move nothing that counts.
    """
    if isinstance(ignore, str) or not isinstance(ignore, Collection):
        advice = f" Write [{ignore!r}]." if isinstance(ignore, str) else ""
        raise ValueError(f"Expected ignore to be a list of paths; got {ignore!r}.{advice}")
    ignored: set[str] = set()
    parts = {path: f"/{_slashed(path)}/" for path in spec.axes}
    for name in ignore:
        if not isinstance(name, str) or not _slashed(name):
            raise ValueError(f"Expected ignore to hold paths of leaves; got {name!r}.")
        inner = f"/{_slashed(name)}/"
        found = {path for path, whole in parts.items() if whole.startswith(inner)}
        found = found or {path for path, whole in parts.items() if inner in whole}
        numbered = re.compile(f"{re.escape(inner[:-1])}_?[0-9]+/")
        found = found or {path for path, whole in parts.items() if numbered.search(whole)}
        if not found:
            every = {part for path in parts for part in (path, *_slashed(path).split("/"))}
            near = difflib.get_close_matches(name, every)
            raise ValueError(
                f"Expected ignore to hold paths of leaves, how they begin, or parts of them; "
                f"'{name}' is none. "
                + (f"Did you mean '{near[0]}'? " if near else "")
                + f"The network has: {', '.join(spec.axes)}."
            )
        ignored |= found
    for name, places in spec.permutations.items():
        if ignored.issuperset(path for path, _ in places):
            raise ValueError(
                f"Expected ignore to leave every permutation a leaf to go by; '{name}' moves only "
                f"{', '.join(dict.fromkeys(path for path, _ in places))}."
            )
    return ignored


def _slashed(path: str) -> str:
    return path.replace(".", "/").strip("/")


def _pieces(
    spec: PermutationSpec, *networks: PyTree
) -> tuple[PermutationSpec, dict[str, np.ndarray], dict[str, np.ndarray]]:
    split = [split_into_pieces(spec, jax.tree.map(np.asarray, params)) for params in networks]
    return split[0][0], *(pieces for _, pieces in split)


def _exponent(arrays: Mapping[str, np.ndarray]) -> int:
    """The power of two to take out: 0 for a network of a usual scale."""
    largest = max(
        (max(float(x.max()), -float(x.min())) for x in arrays.values() if x.size), default=0.0
    )
    exponent = math.frexp(largest)[1] if largest else 0
    return exponent if abs(exponent) > _MAX_EXPONENT else 0


def _as_float32(arrays: Mapping[str, np.ndarray], exponent: int) -> dict[str, np.ndarray]:
    if exponent:
        arrays = {path: np.ldexp(x.astype(np.float64), -exponent) for path, x in arrays.items()}
    return {path: np.asarray(x, np.float32, order="C") for path, x in arrays.items()}


def _without_large_means(
    names: Sequence[str | None], *pair: np.ndarray
) -> tuple[tuple[np.ndarray, ...], float]:
    """Two arrays without the means over the axes that move, and what that takes from <a, pi(b)>.

    As they are, if less than half of the squares of each is in its means: copies cost memory.
    """
    moving = tuple(i for i, n in enumerate(names) if n is not None and not n.startswith("#"))
    num_moved = math.prod(pair[0].shape[axis] for axis in moving)
    means = [x.sum(moving, np.float64, keepdims=True) / max(1, num_moved) for x in pair]
    if not any(
        2 * num_moved * np.square(mean).sum() > products.inner_product([x], [x])
        for x, mean in zip(pair, means, strict=True)
    ):
        return pair, 0.0
    centred = (x - mean for x, mean in zip(pair, means, strict=True))  # in float64
    return (
        tuple(np.asarray(x, np.float32, order="C") for x in centred),
        num_moved * float(np.vdot(*means)),
    )


def _normalized(spec: PermutationSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every entry divided by the geometric mean of the norms of its units.

    A unit's norm is over all its weights, in every array its group stands in. So neither the size
    of a unit nor that of a network matters. Units without any weight stay as they are; of groups
    that vary along others, units in different slots are different units.
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
