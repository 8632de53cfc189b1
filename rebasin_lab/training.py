"""Training a model, repeatably.

`train` is one function: seed in, parameters and history out, the same bits every time on one
machine. The images live on the device and a step receives only the indices of its batch. On a CPU
an epoch is a Python loop over a jitted step, because XLA's CPU backend is many times slower at
convolutions inside a `lax.scan` (`make benchmark` times both for the MLP); elsewhere it is one
scan.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, Key, PyTree

from rebasin_lab import datasets, evaluation, models

# Raise this whenever the same config gives other parameters than before: stored checkpoints of the
# old recipe are then left alone and trained anew. A golden test notices.
RECIPE_VERSION = 1

HISTORY_FIELDS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are the paper's MLP on MNIST (Ainsworth et al. 2022, A.3)."""

    optimizer: str = "adam"  # or "adamw" or "sgd"
    learning_rate: float = 1e-3  # the peak, where there is a schedule
    schedule: str = "constant"  # or "warmup_cosine"
    # Of warmup_cosine: linear from 1e-6 to the peak, then cosine to 0; at most half of all steps.
    warmup_steps: int = 0
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0  # sgd: L2 added to the gradient, as in the paper; adamw: decoupled
    batch_size: int = 500
    num_epochs: int = 100

    def __post_init__(self):
        for name, choices in (
            ("optimizer", ("adam", "adamw", "sgd")),
            ("schedule", ("constant", "warmup_cosine")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"Expected {name} among {choices}; got {getattr(self, name)!r}.")
        for name in ("learning_rate", "batch_size", "num_epochs"):
            if not getattr(self, name) > 0:  # so that NaN is refused too
                raise ValueError(f"Expected {name} above 0; got {getattr(self, name)}.")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("Expected weight_decay 0 with adam, which has none; use adamw or sgd.")


class TrainState(NamedTuple):
    """All that the rest of a training depends on, at the end of an epoch."""

    params: PyTree
    opt_state: PyTree
    epoch: int  # epochs completed
    history: dict[str, list[float]]  # HISTORY_FIELDS, one entry per completed epoch


class TrainingResult(NamedTuple):
    """A trained network.

    Attributes:
        params: plain nested dicts of arrays.
        history: per epoch; train metrics are means over the epoch's batches while the weights
            move, test metrics are of the whole test split at its end.
    """

    params: PyTree
    history: dict[str, list[float]]


def train(
    model: models.Model,
    data: datasets.Dataset,
    config: TrainConfig,
    *,
    seed: int,
    state: TrainState | None = None,
    on_epoch: Callable[[TrainState], None] | None = None,
    loop: Literal["auto", "steps", "scan"] = "auto",
) -> TrainingResult:
    """Train from scratch, or on from `state`, to the same final bits.

    Args:
        model: what to train.
        data: its train split is trained on, its test split only evaluated.
        config: optimiser, schedule, batch size, epochs.
        seed: fixes initialisation and the order of the batches.
        state: where an earlier call with the same arguments had got to.
        on_epoch: called with the state after every epoch (to store it, to show progress).
        loop: how an epoch runs; "auto" chooses by backend.

    Raises:
        ValueError: if the data has fewer images than one batch, or the model has BatchNorm, whose
            running statistics this loop does not gather.
        FloatingPointError: if the loss stops being finite.
    """
    _check_trainable(model)
    steps_per_epoch = _steps_per_epoch(data, config)
    epoch_fn = _epoch_fn(model, config, steps_per_epoch, _choose_loop(loop))
    images, labels = jax.device_put((data.train_images, data.train_labels))
    test_images, test_labels = jax.device_put((data.test_images, data.test_labels))
    state = state or initial_state(model, data, config, seed=seed)
    shuffle_key = _named_key(seed, "shuffle")
    for epoch in range(state.epoch, config.num_epochs):
        order = _epoch_order(shuffle_key, epoch, images.shape[0], config.batch_size)
        params, opt_state, totals = epoch_fn(state.params, state.opt_state, images, labels, order)
        test = evaluation.evaluate(model.apply, params, test_images, test_labels)
        metrics = (*(float(total) / steps_per_epoch for total in totals), *test)
        _check_finite_loss(metrics, epoch, config, seed)
        history = {
            field: [*state.history[field], value]
            for field, value in zip(HISTORY_FIELDS, metrics, strict=True)
        }
        state = TrainState(params, opt_state, epoch + 1, history)
        if on_epoch is not None:
            on_epoch(state)
    return TrainingResult(state.params, state.history)


def initial_state(
    model: models.Model, data: datasets.Dataset, config: TrainConfig, *, seed: int
) -> TrainState:
    """The state before the first epoch."""
    params = initial_params(model, seed=seed)
    opt_state = make_optimizer(config, _steps_per_epoch(data, config)).init(params)
    return TrainState(params, opt_state, 0, {field: [] for field in HISTORY_FIELDS})


def initial_params(model: models.Model, *, seed: int) -> PyTree:
    """The parameters a training with this seed starts from."""
    return model.init(_named_key(seed, "init"))


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optax optimiser of a config; the cosine ends at the last step.

    Ainsworth et al. 2022, A.3.
    """
    rate = config.learning_rate
    if config.schedule == "warmup_cosine":
        num_steps = config.num_epochs * steps_per_epoch
        rate = optax.warmup_cosine_decay_schedule(
            init_value=1e-6,
            peak_value=config.learning_rate,
            warmup_steps=min(config.warmup_steps, num_steps // 2),  # a trial run may be short
            decay_steps=num_steps,
        )
    if config.optimizer == "sgd":
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(rate, momentum=config.momentum),
        )
    if config.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.weight_decay)
    return optax.adam(rate)


def make_step(apply_fn: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """One update: (params, opt_state, totals), images, labels, batch -> the same three.

    `totals` sums the batches' loss and accuracy on the device, so that no step waits for the host.
    """

    def loss_fn(params: PyTree, images: Array, labels: Array) -> tuple[Array, Array]:
        logits = apply_fn(params, images)
        accuracy = (jnp.argmax(logits, axis=-1) == labels).mean()
        return evaluation.cross_entropy(logits, labels), accuracy

    def step(
        carry: tuple[PyTree, Any, tuple[Array, Array]],
        images: Array,
        labels: Array,
        batch: Int[Array | np.ndarray, " batch"],
    ) -> tuple[PyTree, Any, tuple[Array, Array]]:
        params, opt_state, (total_loss, total_accuracy) = carry
        (loss, accuracy), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            params, images[batch], labels[batch]
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, opt_state, (total_loss + loss, total_accuracy + accuracy)

    return step


@functools.lru_cache(maxsize=64)  # the seeds of one experiment share one compilation
def _epoch_fn(
    model: models.Model, config: TrainConfig, steps_per_epoch: int, loop: str
) -> Callable:
    step = make_step(model.apply, make_optimizer(config, steps_per_epoch))
    no_totals = (np.float32(0.0), np.float32(0.0))
    if loop == "scan":

        @jax.jit
        def scanned_epoch(params, opt_state, images, labels, order):
            def body(carry, batch):
                return step(carry, images, labels, batch), None

            return jax.lax.scan(body, (params, opt_state, no_totals), order)[0]

        return scanned_epoch

    jitted_step = jax.jit(step)

    def looped_epoch(params, opt_state, images, labels, order):
        carry = (params, opt_state, no_totals)
        for batch in order:
            carry = jitted_step(carry, images, labels, batch)
        return carry

    return looped_epoch


def _choose_loop(loop: str) -> str:
    if loop == "auto":
        return "steps" if jax.default_backend() == "cpu" else "scan"
    return loop


def _check_trainable(model: models.Model) -> None:
    # A gradient step would move means and variances like weights, and end below zero.
    if model.has_running_statistics:
        raise ValueError(
            f"Expected a model without running statistics; {model.architecture} has BatchNorm, "
            "whose statistics this training does not gather. Bring its parameters trained."
        )


def _steps_per_epoch(data: datasets.Dataset, config: TrainConfig) -> int:
    steps = data.train_images.shape[0] // config.batch_size
    if steps == 0:
        raise ValueError(
            f"Expected at least one batch of {config.batch_size} images; {data.title} has "
            f"{data.train_images.shape[0]} for training. Lower batch_size."
        )
    return steps


def _epoch_order(
    key: Key[Array, ""], epoch: int, num_images: int, batch_size: int
) -> Int[np.ndarray, "steps batch"]:
    """A fresh order of all images, cut into batches; an incomplete last batch is left out."""
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), num_images))
    return order[: num_images - num_images % batch_size].reshape(-1, batch_size)


def _named_key(seed: int, name: str) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def _check_finite_loss(
    metrics: tuple[float, ...], epoch: int, config: TrainConfig, seed: int
) -> None:
    if not math.isfinite(metrics[0]):
        raise FloatingPointError(
            f"Training diverged: the train loss is {metrics[0]} after epoch {epoch + 1} of "
            f"{config.num_epochs} (seed {seed}, {config.optimizer}, learning rate "
            f"{config.learning_rate}). Lower the learning rate."
        )
