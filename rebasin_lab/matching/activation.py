"""Activation matching: pair units of two models whose activations are similar.

The similarity of a unit of A and a unit of B is their correlation over the training images; for
every group of units the permutation that maximises the total is a linear assignment problem
(Ainsworth et al. 2022, section 3.1). A permutation of one layer does not change the activations of
another, so layers are matched independently, all from one pass over the data.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets, metrics, pytrees
from rebasin_lab.layers.inputs import inputs_of
from rebasin_lab.matching import assignment, nested_groups, statistics
from rebasin_lab.matching.result import MatchingResult
from rebasin_lab.matching.search import search
from rebasin_lab.matching.similarity import UnitSimilarity, as_arrays, is_nested
from rebasin_lab.symmetry import (
    Activations,
    PermutationSpec,
    identity_permutation,
    split_into_blocks,
    trace_activations,
)
from rebasin_lab.symmetry.activations import Unproven, measure_activations

SIMILARITIES: dict[str, Callable[[statistics.CrossStatistics], np.ndarray]] = {
    "correlation": statistics.CrossStatistics.correlation,
    "second_moment": statistics.CrossStatistics.second_moment,
}


@checks.arguments
def unit_similarities(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    apply_fn: Callable,
    data: datasets.Dataset | Iterable[Any],
    similarity: str = "correlation",
    where: str = "read",
    batch_size: checks.Count = 500,
    num_images: checks.Count | None = None,
) -> list[UnitSimilarity]:
    """The similarities of the units of two models, from one pass over data.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to be moved.
        apply_fn: `apply_fn(params, *inputs)`, any JAX function; see `trace_activations`.
        data: a data set, whose training images are used in order, without augmentation; or batches
            of inputs, each an array or a tuple of arrays.
        similarity: "correlation" (Pearson) or "second_moment", E[a b^T].
        where: "read", the input of the next layer, after the nonlinearity, as in the paper;
            "written", the output of a product or convolution; or "summed", the sum before the
            nonlinearity for residual streams, as "read" for all other units.
        batch_size: images of a data set per step, fewer where the activations of both models would
            fill the memory; 500 in the paper.
        num_images: use only the first images; shuffle a data set that is sorted by class.

    Returns:
        One similarity for each set of groups: the mean over all activations of these groups. A
        group without activations has none. For several groups that do not vary along each other
        it compares units of all of them together.

    Raises:
        ValueError: if spec, parameters, function and data do not fit each other, there is no data,
            or activations are not finite.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"Expected a similarity among {list(SIMILARITIES)}; got {similarity!r}.")
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    batches = batches_of(data, batch_size, num_images, apply_fn, params_a)
    first = next(batches)
    inputs = inputs_of(first, 1)
    try:
        activations = _traced(
            apply_fn, spec.to_json(), where, *pytrees.shapes_of((params_a, inputs))
        )
    except Unproven as doubt:
        activations = measure_activations(
            apply_fn, spec, [params_a, params_b], inputs, where=where, doubt=doubt
        )
    gathered = statistics.gather_statistics(
        activations, params_a, params_b, itertools.chain([first], batches)
    )
    return _averaged(gathered.values(), SIMILARITIES[similarity])


@checks.arguments
def activation_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    apply_fn: Callable,
    data: datasets.Dataset | Iterable[Any],
    similarity: str = "correlation",
    where: str = "read",
    batch_size: checks.Count = 500,
    num_images: checks.Count | None = None,
) -> MatchingResult:
    """The permutation of B with the activations most similar to A's; one assignment per group.

    Ainsworth et al. 2022, section 3.1. Groups in one activation that do not vary along each other,
    such as query heads that share keys and the dimensions of their values, are searched together,
    see `as_arrays`: a local optimum.

    The authors take the second moment for MLPs and the correlation for convolutions. Here the
    correlation is the default for all: it does not depend on the scale or the mean of a unit, and
    units that never respond have no influence.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: of the search of groups that share an activation; all others are matched
            independently of each other.
        apply_fn: see `unit_similarities`, like all that follows.
        data: the training data.
        similarity: "correlation" or "second_moment".
        where: "read", "written" or "summed".
        batch_size: images per step.
        num_images: use only the first images.

    Returns:
        Its objective is the total similarity of paired units, summed over groups: of the identity,
        then after each group.

    Raises:
        ValueError: as `unit_similarities`; or for a group without activations.
    """
    start = time.perf_counter()
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    similarities = unit_similarities(
        spec,
        params_a,
        params_b,
        apply_fn=apply_fn,
        data=data,
        similarity=similarity,
        where=where,
        batch_size=batch_size,
        num_images=num_images,
    )
    check_activations(spec, params_b, similarities, where)
    quantity = f"{similarity.replace('_', ' ')} of activations"
    if not all(map(is_nested, similarities)):
        return _searched(spec, params_b, similarities, seed, quantity, start)
    permutation, history, num_assignments = _match(spec, params_b, similarities)
    return MatchingResult(
        permutation=permutation,
        objective=tuple(history),
        converged=True,
        num_sweeps=1,
        seconds=time.perf_counter() - start,
        quantity=quantity,
        num_assignments=num_assignments,
    )


def _match(
    spec: PermutationSpec, params: PyTree, similarities: Sequence[UnitSimilarity]
) -> tuple[dict[str, np.ndarray], list[float], int]:
    """The best order of every group, or nested groups, and the total after each."""
    blocks_spec, blocks = split_into_blocks(spec, jax.tree.map(np.asarray, params))
    sizes = blocks_spec.all_sizes(blocks)
    nests = nested_groups.find_nested_groups(blocks_spec)
    roots = nested_groups.roots_of_groups(blocks_spec)
    permutation = identity_permutation(spec, params)
    history = [float(sum(one.total() for one in similarities))]
    for root in dict.fromkeys(root for each in roots.values() for root in each):
        about = [one for one in similarities if root in roots[one.entries[-1]]]
        if not about:  # a single unit, which `check_activations` accepts
            history.append(history[-1])
            continue
        largest = math.fsum(one.scale() for one in about)
        if root in nests:
            moves, gain = nests[root].best_moves({}, {}, about, sizes, None)
        else:
            matrix = sum(one.matrix for one in about)
            moves = {root: assignment.solve_assignment(matrix)}
            gain = assignment.total_similarity(matrix, moves[root]) - float(np.trace(matrix))
        if gain > assignment.FLOAT32_TIE * largest:
            permutation |= moves
            history.append(history[-1] + gain)
        else:
            history.append(history[-1])
    return permutation, history, len(history) - 1


def _searched(
    spec: PermutationSpec,
    params: PyTree,
    similarities: Sequence[UnitSimilarity],
    seed: int,
    quantity: str,
    began: float,
) -> MatchingResult:
    """The result of a search, for groups of which some share an activation."""
    result = search(
        *as_arrays(similarities, spec.all_sizes(params)),
        effort="thorough",
        seed=seed,
        quantity=quantity,
    )
    return dataclasses.replace(
        result,
        permutation=identity_permutation(spec, params) | result.permutation,
        seconds=time.perf_counter() - began,
    )


def batches_of(
    data: datasets.Dataset | Iterable[Any],
    batch_size: int,
    num_images: int | None,
    apply_fn: Callable,
    params: PyTree,
) -> Iterator[Any]:
    """The inputs of a data set's training images, or batches as they are given.

    Args:
        data: a data set, or batches of inputs.
        batch_size: images of a data set per step, fewer where activations would fill the memory.
        num_images: use only the first images of a data set.
        apply_fn: the function they are inputs of.
        params: of one network.

    Raises:
        ValueError: for what is neither, no batches, or more images than there are.
    """
    if not isinstance(data, datasets.Dataset):
        if isinstance(data, str) or not isinstance(data, Iterable):
            raise ValueError(
                f"Expected a data set or batches of inputs; got {data!r}. Load one with "
                "load_dataset, or write [images] for a single batch."
            )
        if hasattr(data, "shape"):
            raise ValueError(
                f"Expected a data set or batches of inputs; got one array of shape {data.shape}. "
                "Write [images] for a single batch."
            )
        if num_images is not None:
            raise ValueError(
                f"Expected num_images with a data set only; got {num_images} with batches. Leave "
                "out batches instead."
            )
        batches = iter(data)
        first = next(batches, None)
        if first is None:
            raise ValueError(
                "Expected at least one batch of inputs; got an empty data stream. A generator can "
                "be run through once: make a new one for each call."
            )
        return itertools.chain([first], batches)
    images = metrics.as_array(data.train_images, "images of the train split of data")
    if num_images is not None:
        if num_images > len(images):
            raise ValueError(
                f"Expected num_images from 1 to the {len(images)} training images of {data.title}; "
                f"got {num_images}."
            )
    images, _ = metrics.checked_images(
        apply_fn, params, images[:num_images], name="images of the train split of data"
    )
    size = metrics.batch_size_for(apply_fn, params, images, most=batch_size, num_kept=2)
    return (images[start : start + size] for start in range(0, len(images), size))


@functools.lru_cache(maxsize=32)  # pairs of one network share its tracing and compilation
def _traced(
    apply_fn: Callable, spec: str, where: str, structure: Any, shapes: tuple
) -> Activations:
    params, inputs = pytrees.with_shapes(structure, shapes)
    return trace_activations(
        apply_fn, PermutationSpec.from_json(spec), params, *inputs, where=where
    )


def _averaged(
    gathered: Iterable[statistics.CrossStatistics],
    similarity: Callable[[statistics.CrossStatistics], np.ndarray],
) -> list[UnitSimilarity]:
    totals: dict[tuple[str, ...], np.ndarray] = {}
    counts: dict[tuple[str, ...], int] = {}
    for one in gathered:
        totals[one.entries] = totals.get(one.entries, 0) + similarity(one)
        counts[one.entries] = counts.get(one.entries, 0) + 1
    return [UnitSimilarity(entries, totals[entries] / counts[entries]) for entries in totals]


def check_activations(
    spec: PermutationSpec, params: PyTree, similarities: Iterable[UnitSimilarity], where: str
) -> None:
    """Check that there is a similarity for every group of more than one unit.

    Raises:
        ValueError: naming the groups without one, and what to do.
    """
    seen = {name for one in similarities for name in one.entries}
    unseen = [n for n, size in spec.sizes(params).items() if n not in seen and size > 1]
    if unseen:
        other = "read" if where == "written" else "written"
        raise ValueError(
            f"Expected activations of every group; those of {unseen} are "
            f"{'written' if where == 'written' else 'read'} by no product or "
            "convolution that takes an input's part, outside branches and while loops. Try "
            f"where='{other}', or 'combined', which matches them by their weights, or write None "
            "for these groups in the spec, so that they stay."
        )
