"""Reproducible training of a model.

`train` maps a seed to parameters and history, the same bits in every run on one machine's CPU. On a
GPU XLA may sum in a different order in each run; identical bits, also after resuming, need
XLA_FLAGS=--xla_gpu_deterministic_ops=true (`make gpu-check` compares).

The images stay on the device; a step receives the indices of its batch, and a key for augmentation.
Running statistics of BatchNorm are parameters that average over batches instead of following the
gradient. On a CPU an epoch is a Python loop over a jitted step, because XLA's CPU backend is much
slower at convolutions inside a `lax.scan` (`make benchmark` times both for the MLP); elsewhere it
is one scan.
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

from rebasin_lab import checks, datasets, metrics, models, pytrees
from rebasin_lab.training import augmentation

# Weight of the old running statistics of BatchNorm at every step. Flax's default of 0.99 is too
# slow for a short training.
STATISTICS_MOMENTUM = 0.9

CLASSES_ONLY = (
    "Networks are trained to name classes here. Train others with what you have, and hand their "
    "parameters to the functions that take a loss_fn, such as interpolation_curve."
)
HISTORY_FIELDS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of a training; by default those of the paper's MLP on MNIST (A.3)."""

    optimizer: str = "adam"  # or "adamw" or "sgd"
    learning_rate: checks.Positive = 1e-3  # the peak, where there is a schedule
    schedule: str = "constant"  # or "warmup_cosine"
    # For warmup_cosine: linear from 1e-6 to the peak, then cosine to 0; at most half of all steps.
    warmup_steps: checks.Natural = 0
    momentum: checks.Fraction = 0.9  # of sgd
    weight_decay: checks.NotNegative = (
        0.0  # sgd: L2 added to the gradient, as in the paper; adamw: decoupled
    )
    batch_size: checks.Count = 500
    num_epochs: checks.Count = 100
    augment: bool = False  # the paper's zoom, flip and rotation, see `augmentation`

    def __post_init__(self):
        checks.fields(self)
        checks.choice("optimizer", self.optimizer, ("adam", "adamw", "sgd"), "TrainConfig")
        checks.choice("schedule", self.schedule, ("constant", "warmup_cosine"), "TrainConfig")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("Expected weight_decay 0 with adam, which has none; use adamw or sgd.")


class TrainState(NamedTuple):
    """The state of a training at the end of an epoch, complete for resuming."""

    params: PyTree
    opt_state: PyTree
    epoch: int  # epochs completed
    history: dict[str, list[float]]  # HISTORY_FIELDS, one entry per completed epoch


class TrainingResult(NamedTuple):
    """A trained network.

    Attributes:
        params: plain nested dicts of arrays.
        history: per epoch; train metrics are means over the epoch's (augmented) batches during
            training; test metrics are of the whole test split at its end.
    """

    params: PyTree
    history: dict[str, list[float]]


@checks.arguments
def train(
    model: models.Model,
    data: datasets.Dataset,
    config: TrainConfig,
    *,
    seed: checks.Seed,
    state: TrainState | None = None,
    on_epoch: Callable[[TrainState], None] | None = None,
    loop: Literal["auto", "steps", "scan"] = "auto",
) -> TrainingResult:
    """Train from scratch or from `state`, with the same final bits (see above for a GPU).

    A caller may keep states: no step writes into earlier arrays, so parameters and the optimiser's
    state are in memory twice during an epoch.

    Args:
        model: the architecture.
        data: the train split is for training, the test split for evaluation.
        config: optimiser, schedule, batch size, epochs, augmentation.
        seed: fixes initialisation, the order of the batches, and augmentation.
        state: of an earlier call with the same arguments.
        on_epoch: called with the state after every epoch (to store it, to show progress).
        loop: a Python loop over steps, or a scan; "auto" chooses by backend.

    Raises:
        ValueError: if the data has fewer images than one batch, labels that are no classes of the
            model, or NaN.
        FloatingPointError: if the loss stops being finite.
    """
    steps_per_epoch = _steps_per_epoch(data, config)
    if model.num_classes != data.num_classes:
        raise ValueError(
            f"Expected a model for the {data.num_classes} classes of {data.title}; got one for "
            f"{model.num_classes}. Build it with dataset=data."
        )
    epoch_fn = _epoch_fn(model, config, steps_per_epoch, _choose_loop(loop))
    state = state or initial_state(model, data, config, seed=seed)
    splits = metrics.checked_data(model.apply, state.params, data, advice=CLASSES_ONLY)
    images, labels = jax.device_put(splits["train"])
    test_images, test_labels = jax.device_put(splits["test"])
    shuffle_key = _named_key(seed, "shuffle")
    augment_key = _named_key(seed, "augment")
    for epoch in range(state.epoch, config.num_epochs):
        batches = (_epoch_order(shuffle_key, epoch, images.shape[0], config.batch_size),)
        if config.augment:
            batches += (_step_keys(augment_key, epoch, steps_per_epoch),)
        params, opt_state, totals = epoch_fn(state.params, state.opt_state, images, labels, batches)
        test = metrics.measure(model.apply, params, test_images, test_labels)
        measured = (*(float(total) / steps_per_epoch for total in totals), *test)
        _check_finite_loss(measured, epoch, config, seed)
        history = {
            field: [*state.history[field], value]
            for field, value in zip(HISTORY_FIELDS, measured, strict=True)
        }
        state = TrainState(params, opt_state, epoch + 1, history)
        if on_epoch is not None:
            on_epoch(state)
    return TrainingResult(state.params, state.history)


def initial_state(
    model: models.Model, data: datasets.Dataset, config: TrainConfig, *, seed: checks.Seed
) -> TrainState:
    """The state before the first epoch."""
    params = initial_params(model, seed=seed)
    opt_state = make_optimizer(config, _steps_per_epoch(data, config)).init(params)
    return TrainState(params, opt_state, 0, {field: [] for field in HISTORY_FIELDS})


def state_shapes(model: models.Model, data: datasets.Dataset, config: TrainConfig) -> TrainState:
    """The state before the first epoch, with shapes and types in place of arrays."""
    optimizer = make_optimizer(config, _steps_per_epoch(data, config))
    opt_state = jax.eval_shape(optimizer.init, model.shapes)
    return TrainState(model.shapes, opt_state, 0, {field: [] for field in HISTORY_FIELDS})


def initial_params(model: models.Model, *, seed: checks.Seed) -> PyTree:
    """The initial parameters of a training with this seed."""
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
            warmup_steps=min(config.warmup_steps, num_steps // 2),  # a smoke test may be short
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


def make_step(
    apply_fn: Callable,
    optimizer: optax.GradientTransformation,
    *,
    statistics_paths: frozenset[str] = frozenset(),
) -> Callable:
    """Make one update: (params, opt_state, totals), images, labels, batch -> the same three.

    `totals` sums loss and accuracy over batches on the device, so that no step waits for the host.
    With a key as last argument the batch is augmented.

    Args:
        apply_fn: `(params, images) -> logits`; of a model with running statistics, its
            `apply_training`.
        optimizer: updates all parameters but running statistics.
        statistics_paths: of the leaves that are running statistics.
    """

    def loss_fn(params: PyTree, images: Array, labels: Array) -> tuple[Array, tuple[Array, PyTree]]:
        applied = apply_fn(params, images)
        logits, of_batch = applied if statistics_paths else (applied, params)
        accuracy = (jnp.argmax(logits, axis=-1) == labels).mean()
        return metrics.cross_entropy(logits, labels), (accuracy, of_batch)

    def step(
        carry: tuple[PyTree, Any, tuple[Array, Array]],
        images: Array,
        labels: Array,
        batch: Int[Array | np.ndarray, " batch"],
        key: Key[Array, ""] | None = None,
    ) -> tuple[PyTree, Any, tuple[Array, Array]]:
        params, opt_state, (total_loss, total_accuracy) = carry
        inputs = images[batch] if key is None else augmentation.augment(key, images[batch])
        (loss, (accuracy, of_batch)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            params, inputs, labels[batch]
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        updated = optax.apply_updates(params, updates)
        params = _with_statistics(updated, params, of_batch, statistics_paths)
        return params, opt_state, (total_loss + loss, total_accuracy + accuracy)

    return step


def _with_statistics(
    updated: PyTree, before: PyTree, of_batch: PyTree, paths: frozenset[str]
) -> PyTree:
    """The updated parameters, with running statistics averaged with the batch's."""
    before, of_batch = pytrees.flatten(before), pytrees.flatten(of_batch)

    def follow(path: str, leaf: Array) -> Array:
        if path not in paths:
            return leaf  # the optimiser's update of a statistic is dropped
        return STATISTICS_MOMENTUM * before[path] + (1 - STATISTICS_MOMENTUM) * of_batch[path]

    return pytrees.map_with_path(follow, updated)


@functools.lru_cache(maxsize=64)  # the seeds of one experiment share one compilation
def _epoch_fn(
    model: models.Model, config: TrainConfig, steps_per_epoch: int, loop: str
) -> Callable:
    step = make_step(
        model.apply_training if model.statistics_paths else model.apply,
        make_optimizer(config, steps_per_epoch),
        statistics_paths=model.statistics_paths,
    )
    no_totals = (np.float32(0.0), np.float32(0.0))
    if loop == "scan":

        @jax.jit
        def scanned_epoch(params, opt_state, images, labels, batches):
            def body(carry, batch):
                return step(carry, images, labels, *batch), None

            return jax.lax.scan(body, (params, opt_state, no_totals), batches)[0]

        return scanned_epoch

    jitted_step = jax.jit(step)

    def looped_epoch(params, opt_state, images, labels, batches):
        carry = (params, opt_state, no_totals)
        for batch in zip(*batches, strict=True):
            carry = jitted_step(carry, images, labels, *batch)
        return carry

    return looped_epoch


def _choose_loop(loop: str) -> str:
    if loop == "auto":
        return "steps" if jax.default_backend() == "cpu" else "scan"
    return loop


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
    """A new order of all images, in batches; an incomplete last batch is left out."""
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), num_images))
    return order[: num_images - num_images % batch_size].reshape(-1, batch_size)


def _step_keys(key: Key[Array, ""], epoch: int, num_steps: int) -> Key[Array, " steps"]:
    """A key for each step of an epoch, the same after resuming."""
    in_epoch = jax.random.fold_in(key, epoch)
    return jax.vmap(jax.random.fold_in, (None, 0))(in_epoch, jnp.arange(num_steps))


def _named_key(seed: int, name: str) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def _check_finite_loss(
    measured: tuple[float, ...], epoch: int, config: TrainConfig, seed: int
) -> None:
    if not math.isfinite(measured[0]):
        raise FloatingPointError(
            f"Training diverged: the train loss is {measured[0]} after epoch {epoch + 1} of "
            f"{config.num_epochs} (seed {seed}, {config.optimizer}, learning rate "
            f"{config.learning_rate}). Lower the learning rate."
        )
