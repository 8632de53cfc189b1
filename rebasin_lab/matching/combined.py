"""Matching by weights and activations together.

In narrow layers the weights of independently trained networks are too different to match well,
while activations still identify similar units. But activations are compared layer by layer, so on
a residual stream layers can disagree. Here both enter every assignment of the coordinate ascent
(as in MuDSC, CVPR 2024).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, datasets
from rebasin_lab.matching.activation import unit_similarities
from rebasin_lab.matching.ignored import ignored_leaves
from rebasin_lab.matching.rescaling import weight_problem
from rebasin_lab.matching.result import MatchingResult
from rebasin_lab.matching.search import Effort, search
from rebasin_lab.matching.similarity import UnitSimilarity, as_arrays, is_nested
from rebasin_lab.symmetry import PermutationSpec


@checks.arguments
def combined_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    apply_fn: Callable,
    data: datasets.Dataset | Iterable[Any],
    activation_share: checks.Fraction = 0.5,
    effort: Effort = "default",
    ignore: Collection[str] | None = None,
    where: str = "read",
    batch_size: checks.Count = 500,
    num_images: checks.Count | None = None,
) -> MatchingResult:
    """Coordinate ascent on a mix of normalised weights and activations.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: see `weight_matching`, like `effort`.
        apply_fn: see `activation_matching`.
        data: the training data.
        activation_share: the weight of activations, in [0, 1]; that of weights is the rest.
        effort: see `weight_matching`.
        ignore: likewise.
        where: "read", "written" or "summed".
        batch_size: images per step.
        num_images: use only the first images.

    Returns:
        Its objective is (1 - share) times the cosine of the normalised weights that move,
        plus share times the mean correlation of paired units, with equal weight for each group.

    Raises:
        ValueError: as `activation_matching`, or for a share outside [0, 1].
    """
    if not 0 <= activation_share <= 1:
        raise ValueError(f"Expected activation_share in [0, 1]; got {activation_share}.")
    began = time.perf_counter()
    ignored_leaves(spec, ignore)  # what it refuses is refused before any work
    similarities = unit_similarities(
        spec,
        params_a,
        params_b,
        apply_fn=apply_fn,
        data=data,
        where=where,
        batch_size=batch_size,
        num_images=num_images,
    )
    seen = {name for one in similarities for name in one.entries}
    problem = weight_problem(
        spec, params_a, params_b, normalize=True, ignore=ignore, not_sorted=seen
    )
    length = math.prod(problem.lengths)
    scale = np.float32((1 - activation_share) / length) if length else np.float32(1)
    similarities = [
        UnitSimilarity(
            one.entries,
            one.matrix
            * (activation_share / (math.prod(one.matrix.shape[:-1]) * len(similarities))),
        )
        for one in similarities
    ]
    together, a, b = as_arrays(
        [one for one in similarities if not is_nested(one)], spec.all_sizes(params_a)
    )
    result = search(
        PermutationSpec({**problem.spec.axes, **together.axes}),
        {path: scale * array for path, array in problem.a.items()} | a,
        {**problem.b, **b},
        [one for one in similarities if is_nested(one)],
        effort=effort,
        seed=seed,
        quantity="cosine of normalised weights and mean correlation of activations",
        restore=lambda value: value + float(scale) * problem.offset,
    )
    return dataclasses.replace(
        result,
        permutation=problem.sorted.restored(result.permutation),
        seconds=time.perf_counter() - began,
    )
