"""Baselines for weight matching.

`random_matching` is the control. `one_sweep_matching` is Algorithm 1 stopped after one sweep.
`greedy_matching` matches layer after layer by incoming weights, as was done before the paper
(Ainsworth et al. 2022, A.7). `steepest_descent_matching` follows the gradient of the loss at A
(A.11), a negative result.
"""

import dataclasses
import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from rebasin_lab import checks, datasets, metrics, pytrees
from rebasin_lab.matching import assignment
from rebasin_lab.matching.result import MatchingResult
from rebasin_lab.matching.weight import algorithm_1, weight_matching
from rebasin_lab.symmetry import (
    PermutationSpec,
    apply_permutation,
    identity_permutation,
    permute_axes,
    random_permutation,
    split_into_blocks,
)


@checks.arguments
def random_matching(
    spec: PermutationSpec, params_a: PyTree, params_b: PyTree, *, seed: checks.Seed = 0
) -> MatchingResult:
    """Draw a permutation uniformly from the symmetry group: the control.

    Args:
        spec: which axes each permutation moves; groups may vary along others.
        params_a: only for the objective.
        params_b: the model to move; not changed.
        seed: fixes the permutation.

    Returns:
        Its objective is <A, B>, then <A, pi(B)>, which may be less; `num_sweeps` is 0.
    """
    start = time.perf_counter()
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    permutation = random_permutation(spec, params_b, seed=seed)
    moved = apply_permutation(spec, permutation, params_b)
    return MatchingResult(
        permutation=permutation,
        objective=(
            pytrees.inner_product(params_a, params_b),
            pytrees.inner_product(params_a, moved),
        ),
        converged=True,
        num_sweeps=0,
        seconds=time.perf_counter() - start,
    )


@checks.arguments
def one_sweep_matching(
    spec: PermutationSpec, params_a: PyTree, params_b: PyTree, *, seed: checks.Seed = 0
) -> MatchingResult:
    """Algorithm 1 stopped after one sweep: one block update per group, in random order.

    Ainsworth et al. 2022, A.7 ("one-pass weight matching").

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: fixes the order of the block updates.

    Returns:
        Like that of `weight_matching`; converged only if nothing changed.

    Raises:
        ValueError: as `weight_matching`.
    """
    return algorithm_1(spec, params_a, params_b, seed=seed, max_sweeps=1)


@checks.arguments
def greedy_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    order: Sequence[str] | None = None,
    similarity: Literal["cosine", "inner product"] = "cosine",
) -> MatchingResult:
    """Match layer by layer, each by its incoming weights, in one pass.

    The matching that the paper compares itself with (A.7; its repository has the cosine). Each
    group is one assignment problem, with B already permuted on the inputs. Biases do not count. On
    a tie a group is not moved.

    A spec does not name incoming weights, so this rule decides. Groups are matched in `order`. The
    incoming weights of a group are the leaves of two or more axes whose other groups all come
    earlier. If there are none, it is the first leaf in the spec that has no other group: the first
    layer, not the read-out. (So list the first layer first. Weights with a group on two axes, as
    those of a recurrence, do not count; those of a residual block that writes into a stream matched
    before do.) A group without any is not moved.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: not used; in the signature of all matchers.
        order: all groups, from the input to the output; by default by name, P_2 before P_10, which
            for an inferred spec is the order of the computation.
        similarity: "cosine" between the incoming weights of two units, 0 for a unit without any, or
            their "inner product", which minimises the distance.

    Returns:
        Its objective is 0, then after each group the total gain in similarity of all moves so far,
        each given those before it; not <A, pi(B)>.

    Raises:
        ValueError: if a group varies along another, `order` is not all groups, or for another
            similarity.
    """
    start = time.perf_counter()
    if similarity not in ("cosine", "inner product"):
        raise ValueError(f"Expected 'cosine' or 'inner product'; got {similarity!r}.")
    if spec.dependents:
        raise ValueError(
            f"Expected a spec with one permutation per group; it has groups that vary along "
            f"another ({', '.join(spec.dependents)}); use spec.shared(), whose permutations are "
            "the same in every slot."
        )
    order = _checked_order(spec, order)
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    blocks_spec, blocks_a = split_into_blocks(spec, _in_float64(params_a))
    _, blocks_b = split_into_blocks(spec, _in_float64(params_b))
    current = identity_permutation(blocks_spec, blocks_b)
    history = [0.0]
    for index, name in enumerate(order):
        places = _incoming(spec, blocks_spec, name, earlier=order[:index])
        # The group itself has not moved yet, so this permutes the other axes only.
        moved_b = {
            path: permute_axes(blocks_b[path], blocks_spec.axes[path], current)
            for path, _ in places
        }
        if places:
            units = (_units(blocks, places, similarity) for blocks in (blocks_a, moved_b))
            current[name], gain = _match_units(*units)
            history.append(history[-1] + gain)
        else:
            history.append(history[-1])
    return MatchingResult(
        permutation=current,
        objective=tuple(history),
        converged=True,
        num_sweeps=1,
        seconds=time.perf_counter() - start,
        quantity=f"{similarity} of incoming weights gained",
    )


@checks.arguments
def steepest_descent_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    apply_fn: Callable,
    data: datasets.Dataset,
    batch_size: checks.Count = metrics.BATCH_SIZE,
    loss_fn: Callable | None = None,
) -> MatchingResult:
    """Match so that the train loss falls most steeply at A on the line to pi(B).

    The slope at A is <g, pi(B) - A> with g the gradient of the loss there, so the least one is
    weight matching of -g with B. A negative result of the paper (A.11): the lines have high
    barriers.

    Args:
        spec: which axes each permutation moves.
        params_a: where the gradient is taken; floats, every leaf.
        params_b: the model to move; not changed.
        seed: fixes the order of the block updates.
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        data: the loss is over its whole train split, without augmentation.
        batch_size: images per gradient at most, see `train_loss_gradient`.
        loss_fn: another loss than cross-entropy in nats, see `metrics`.

    Returns:
        Like that of `weight_matching`, of -g with B: its objective is -<g, pi(B)>, in nats. The
        slope at A is <g, pi(B)> - <g, A>.

    Raises:
        ValueError: as `weight_matching`, or if the gradient is not finite.
    """
    start = time.perf_counter()
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    pytrees.check_floats(params_a, "params_a")  # and so is B
    gradient = train_loss_gradient(apply_fn, params_a, data, batch_size=batch_size, loss_fn=loss_fn)
    pytrees.check_finite(gradient, "the gradient of the train loss at params_a")
    downhill = jax.tree.map(np.negative, gradient)
    result = weight_matching(spec, downhill, params_b, seed=seed, ignore=())  # all leaves move
    return dataclasses.replace(result, seconds=time.perf_counter() - start)


@checks.arguments
def train_loss_gradient(
    apply_fn: Callable,
    params: PyTree,
    data: datasets.Dataset,
    *,
    batch_size: checks.Count = metrics.BATCH_SIZE,
    loss_fn: Callable | None = None,
) -> PyTree:
    """The gradient of the mean loss over the whole train split.

    Args:
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        params: where the gradient is taken; floats, every leaf.
        data: the images, in order; the last batch may be smaller.
        batch_size: images per gradient at most, fewer where their activations would fill the
            memory; changes the result by rounding only.
        loss_fn: another loss than cross-entropy in nats, see `metrics`.

    Returns:
        A tree like `params`, of float64 NumPy arrays: float32 per batch, summed in float64.

    Raises:
        ValueError: for a batch size below 1, and as `evaluate`.
    """
    params = pytrees.checked_arrays(params, "params")
    pytrees.check_floats(params, "params")
    images, labels = metrics.checked_examples(
        apply_fn,
        params,
        data.train_images,
        data.train_labels,
        loss_fn=loss_fn,
        name="the train split of data",
    )
    size = metrics.batch_size_for(apply_fn, params, images, most=batch_size, num_kept=2)
    all_weight = metrics.total_weight(apply_fn, params, images, labels, loss_fn=loss_fn)
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), params)
    for first in range(0, len(images), size):
        batch = slice(first, first + size)
        gradient, weight = _batch_gradient(apply_fn, params, images[batch], labels[batch], loss_fn)
        share = float(weight) / all_weight
        total = jax.tree.map(
            lambda t, g, share=share: t + share * np.asarray(g, np.float64), total, gradient
        )
    return total


@functools.partial(jax.jit, static_argnames=("apply_fn", "loss_fn"))
def _batch_gradient(
    apply_fn: Callable, params: PyTree, images: Array, labels: Array, loss_fn: Callable | None
) -> tuple[PyTree, Array | int]:
    """The gradient of the mean loss of a batch, and the weight of its labels."""

    def mean_and_weight(p: PyTree) -> tuple[Array, Array | int]:
        outputs = apply_fn(p, images)
        weight = metrics.weighted_loss(outputs, labels, loss_fn)[1]
        return metrics.mean_loss(outputs, labels, loss_fn), weight

    return jax.grad(mean_and_weight, has_aux=True)(params)


def _incoming(
    spec: PermutationSpec, blocks_spec: PermutationSpec, name: str, *, earlier: Sequence[str]
) -> list[tuple[str, int]]:
    """The places of a group's incoming weights, as (block, axis): the rule of `greedy_matching`.

    An axis that is a concatenation cuts a leaf into blocks: all of them count, or none.
    """
    fixed_before = {}
    for path, axis in blocks_spec.permutations[name]:
        others = {n for i, n in enumerate(blocks_spec.axes[path]) if i != axis and n is not None}
        if len(spec.axes[_leaf_of(path)]) > 1 and others <= set(earlier):
            fixed_before[path, axis] = others
    leaves = {_leaf_of(path): None for (path, _), others in fixed_before.items() if others}
    if not leaves:
        leaves = [_leaf_of(path) for path, _ in fixed_before][:1]
    return [(path, axis) for path, axis in fixed_before if _leaf_of(path) in leaves]


def _leaf_of(block: str) -> str:
    """The leaf that `split_into_blocks` cut this block from."""
    return block.rpartition("#")[0]


def _units(
    blocks: Mapping[str, np.ndarray], places: Sequence[tuple[str, int]], similarity: str
) -> Float[np.ndarray, "units weights"]:
    """A row of incoming weights for each unit, normalised to length one for cosines."""
    rows = [
        np.moveaxis(blocks[path], axis, 0).reshape(blocks[path].shape[axis], -1)
        for path, axis in places
    ]
    units = np.concatenate(rows, axis=1)
    if similarity == "inner product":
        return units
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    return units / np.where(lengths > 0, lengths, 1)


def _match_units(
    units_a: Float[np.ndarray, "units weights"], units_b: Float[np.ndarray, "units weights"]
) -> tuple[Int[np.ndarray, " units"], float]:
    """The best order of B's units, and its gain over the identity."""
    similarity = units_a @ units_b.T
    in_order = np.arange(len(similarity))
    best = assignment.solve_assignment(similarity)
    total, unmoved = (assignment.total_similarity(similarity, p) for p in (best, in_order))
    gain = total - unmoved
    if gain > assignment.FLOAT64_TIE * np.linalg.norm(units_a) * np.linalg.norm(units_b):
        return best, gain
    return in_order, 0.0


def _checked_order(spec: PermutationSpec, order: Sequence[str] | None) -> list[str]:
    if order is None:
        return sorted(spec.permutations, key=_natural)
    if sorted(order) != sorted(spec.permutations):
        raise ValueError(
            f"Expected an order of all groups, {sorted(spec.permutations, key=_natural)}; "
            f"got {list(order)}."
        )
    return list(order)


def _natural(name: str) -> list[Any]:
    """A key by which P_2 comes before P_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _in_float64(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
