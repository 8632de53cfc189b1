"""The straight-through estimator: a permutation trained by the loss in the middle of the line.

Ainsworth et al. 2022, section 3.3 and Algorithm 2. Free weights, which start at A, are trained so
that the network half-way between A and their *projection* has a low loss; the projection is the
permuted B closest to them, found by weight matching, and the gradient passes straight through it.

Unlike the authors' code, this copies the best permutation (theirs is overwritten by later ones) and
chooses it on a fixed set of images (theirs on single mini-batches). Between two projections the
gradient does not depend on the free weights, so projecting only every few steps changes little and
is much faster.

Averaged running statistics of BatchNorm are wrong half-way (A.4), so they are measured there at
each new projection, for its loss and for the steps that follow.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from rebasin_lab import checks, datasets, metrics, pytrees
from rebasin_lab.layers.statistics import measured_statistics
from rebasin_lab.matching.result import MatchingResult
from rebasin_lab.matching.weight import weight_matching
from rebasin_lab.symmetry import (
    PermutationSpec,
    apply_permutation,
    identity_permutation,
)

NUM_MEASURED = 1000  # training images on which running statistics are measured

Measured = tuple[float, dict[str, np.ndarray]]  # a loss, and running statistics by path


@dataclasses.dataclass(frozen=True)
class StraightThroughState:
    """The progress of a run.

    Attributes:
        epoch: epochs completed.
        num_epochs: epochs in all.
        loss: of the best permutation so far, at the middle, over the fixed images (nats).
        num_changes: projections so far that differed from the one before.
    """

    epoch: int
    num_epochs: int
    loss: float
    num_changes: int


@checks.arguments
def straight_through_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: checks.Seed = 0,
    apply_fn: Callable,
    data: datasets.Dataset,
    num_epochs: checks.Count = 20,
    batch_size: checks.Count = 1000,
    learning_rate: checks.Positive = 1e-2,
    momentum: checks.Fraction = 0.9,
    match_every: checks.Count = 10,
    num_eval_images: checks.Count = 5000,
    loss_fn: Callable | None = None,
    on_epoch: Callable[[StraightThroughState], None] | None = None,
) -> MatchingResult:
    """The permutation of lowest loss half-way among all projections in training (Algorithm 2).

    Half-way, running statistics of BatchNorm, known by their names, are those of 1,000 training
    images at most, drawn once: what `merging.reestimate_statistics` measures there.

    Args:
        spec: which axes each permutation moves.
        params_a: the reference, and the start of the free weights.
        params_b: the model to move; not changed.
        seed: fixes the order of the batches and the evaluation images.
        apply_fn: `apply_fn(params, images) -> logits`, pure.
        data: its train split is used, without augmentation.
        num_epochs: passes over it; 250 in the paper.
        batch_size: images per step, all of them if there are fewer.
        learning_rate: of SGD.
        momentum: of SGD.
        match_every: steps between projections, besides one at the end of every epoch; 1 in the
            paper.
        num_eval_images: training images, drawn once, on which permutations are compared.
        loss_fn: another loss than cross-entropy in nats, see `metrics`.
        on_epoch: called after every epoch.

    Returns:
        Its objective is minus the loss half-way, in nats, on the evaluation images: of the
        identity, of weight matching, then of the best so far after every epoch; -inf as long as no
        loss was finite. With a `loss_fn` it has the unit of that. Converged if the last epoch
        brought no better permutation.

    Raises:
        ValueError: for a count below 1, a learning rate that is not positive, or
            images and labels that the loss cannot be measured on, as `evaluate`; for running
            statistics in a function without layers, see `layers.statistics`.
        FloatingPointError: if the free weights stop being finite, or no loss half-way is.
    """
    params_a, params_b = pytrees.aligned_to_match(params_a, params_b)
    pytrees.check_floats(params_a, "params_a")  # and so is B
    examples = metrics.checked_examples(
        apply_fn,
        params_a,
        data.train_images,
        data.train_labels,
        loss_fn=loss_fn,
        name="the train split of data",
    )
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    images, labels = jax.device_put(examples)
    params_a, params_b = jax.device_put((params_a, params_b))
    num_images = len(labels)
    drawn = rng.permutation(num_images)
    eval_rows = np.sort(drawn[:num_eval_images])
    measure = functools.partial(
        _measured_half_way,
        apply_fn,
        params_a,
        images=images[eval_rows],
        labels=labels[eval_rows],
        seen=images[drawn[:NUM_MEASURED]],
        loss_fn=loss_fn,
    )
    projection = _Projection(spec, params_b, measure)
    history = [-projection.best_loss]
    projection.project(params_a)
    history.append(-projection.best_loss)
    optimizer = _sgd(learning_rate, momentum)
    free = jax.tree.map(pytrees.widened, params_a)  # small steps would be lost in half precision
    opt_state = optimizer.init(free)
    size = min(batch_size, num_images)
    step = last_gain = epoch = num_changes = 0
    for epoch in range(1, num_epochs + 1):
        batches = rng.permutation(num_images)[: num_images // size * size].reshape(-1, size)
        for index, batch in enumerate(batches, 1):
            free, opt_state = _step(
                apply_fn,
                optimizer,
                free,
                opt_state,
                params_a,
                projection.params,
                projection.statistics,
                images,
                labels,
                batch,
                loss_fn,
            )
            step += 1
            if step % match_every == 0 or index == len(batches):
                _check_finite(free, step)
                best_loss = projection.best_loss
                num_changes += projection.project(free, seed=step, start=projection.order)
                last_gain = epoch if projection.best_loss < best_loss else last_gain
        history.append(-projection.best_loss)
        if on_epoch is not None:
            on_epoch(StraightThroughState(epoch, num_epochs, projection.best_loss, num_changes))
    if not math.isfinite(projection.best_loss):
        raise FloatingPointError(
            "Expected a finite loss half-way for some permutation; the loss half-way is not finite "
            "for any that was met. Look for NaN in the data, or in what the network computes."
        )
    matchings = projection.matchings
    return MatchingResult(
        permutation=projection.best,
        objective=tuple(history),
        converged=last_gain < epoch,
        num_sweeps=epoch,
        seconds=time.perf_counter() - began,
        quantity="minus the loss half-way",
        num_assignments=sum(each.num_assignments for each in matchings),
        assignment_seconds=math.fsum(each.assignment_seconds for each in matchings),
        product_seconds=math.fsum(each.product_seconds for each in matchings),
    )


class _Projection:
    """B permuted to be closest to the free weights, and the best such permutation so far.

    Attributes:
        order: the present permutation of B; the identity until the first projection.
        params: B so permuted.
        statistics: of the network half-way to it, by path; none without BatchNorm.
        best: the permutation so far with the lowest loss half-way.
        best_loss: its loss.
        matchings: results of all projections.
    """

    def __init__(
        self, spec: PermutationSpec, params_b: PyTree, measure: Callable[[PyTree], Measured]
    ):
        self._spec, self._params_b, self._measure = spec, params_b, measure
        self.order = self.best = identity_permutation(spec, params_b)
        self.params = params_b
        self.best_loss, self.statistics = measure(params_b)
        self.matchings: list[MatchingResult] = []

    def project(self, free: PyTree, **options: Any) -> bool:
        """Match B to the free weights; returns True if the permutation changed."""
        result = weight_matching(self._spec, free, self._params_b, **options)
        self.matchings.append(result)
        if all(np.array_equal(result.permutation[name], self.order[name]) for name in self.order):
            return False
        self.order = result.permutation
        self.params = jax.device_put(apply_permutation(self._spec, self.order, self._params_b))
        loss, self.statistics = self._measure(self.params)
        if loss < self.best_loss:
            self.best, self.best_loss = self.order, loss
        return True


@functools.lru_cache(maxsize=32)  # one object per setting, so that a step is compiled once
def _sgd(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=momentum)


@functools.partial(jax.jit, static_argnames=("apply_fn", "optimizer", "loss_fn"))
def _step(
    apply_fn: Callable,
    optimizer: optax.GradientTransformation,
    free: PyTree,
    opt_state: PyTree,
    params_a: PyTree,
    permuted_b: PyTree,
    statistics: dict[str, Array | np.ndarray],
    images: Shaped[Array, "n ..."],
    labels: Shaped[Array, "n ..."],
    batch: Int[Array | np.ndarray, " size"],
    loss_fn: Callable | None,
) -> tuple[PyTree, PyTree]:
    """One step of the free weights along the gradient at their projection."""

    def loss_at(projection: PyTree) -> Float[Array, ""]:
        outputs = apply_fn(_middle(params_a, projection, statistics), images[batch])
        return metrics.mean_loss(outputs, labels[batch], loss_fn)

    updates, opt_state = optimizer.update(jax.grad(loss_at)(permuted_b), opt_state, free)
    return optax.apply_updates(free, updates), opt_state


def _measured_half_way(
    apply_fn: Callable,
    params_a: PyTree,
    params_b: PyTree,
    *,
    images: Shaped[Array, "n ..."],
    labels: Shaped[Array, "n ..."],
    seen: Shaped[Array, "m ..."],
    loss_fn: Callable | None,
) -> Measured:
    """The loss half-way, and the running statistics there: those of the images that are seen."""
    statistics = measured_statistics(apply_fn, _middle(params_a, params_b, {}), seen)
    middle = _middle(params_a, params_b, statistics)
    loss = metrics.measure(apply_fn, middle, images, labels, loss_fn=loss_fn).loss
    # Of two, NaN would count as the lower.
    return (loss if math.isfinite(loss) else math.inf), statistics


def _middle(params_a: PyTree, params_b: PyTree, statistics: Mapping[str, Any]) -> PyTree:
    middle = pytrees.lerp(0.5, params_a, params_b)
    return pytrees.map_with_path(lambda path, leaf: statistics.get(path, leaf), middle)


def _check_finite(params: PyTree, step: int) -> None:
    if not all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(params)):
        raise FloatingPointError(
            f"The free weights are not finite any more after step {step}. Lower the learning rate, "
            "or look for NaN in the data."
        )
