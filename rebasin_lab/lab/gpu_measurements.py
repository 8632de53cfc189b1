"""Measurements of `gpu_check`: equality, bits, speed and memory on the device that JAX uses.

Each yields lines of the table as it measures them, on data that it makes itself.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PyTree

from rebasin_lab import datasets, matching, metrics, models, pytrees, symmetry, training
from rebasin_lab.datasets import dataset, formats

PRECISIONS = ("default", "highest")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of the measured networks."""

    mlp_width: int
    vit_width: int
    vit_blocks: int
    resnet: str
    resnet_multiplier: float  # of the networks whose equality is measured
    trained_multiplier: float  # of the ResNet whose bits are compared; 0 for the MLP's alone
    timed_multipliers: tuple[float, ...]
    num_images: int  # evaluated at once
    num_steps: int  # timed
    batch_size: int
    pixels: int


FULL = Sizes(512, 192, 12, "resnet20", 1.0, 1 / 2, (4.0, 32.0), 10_000, 10, 100, 32)
TINY = Sizes(32, 16, 2, "resnet8", 1.0, 0.0, (1 / 8,), 40, 2, 10, 8)


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        name: of the quantity.
        value: a number, True or False, or a text; None where this device does not report it.
        unit: of a number.
        held: whether it is within its bound; None without a bound.
        error: the reason why there is no value.
    """

    name: str
    value: int | float | bool | str | None = None
    unit: str = ""
    held: bool | None = None
    error: str = ""


def _machine(sizes: Sizes) -> Iterator[Line]:
    device = jax.devices()[0]
    yield Line("backend", jax.default_backend())
    yield Line("device", device.device_kind)
    for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
        module = __import__(package)
        yield Line(package, str(module.__version__))
    yield Line("precision of products", str(jax.config.jax_default_matmul_precision or "default"))
    for variable in ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE", "JAX_PLATFORMS"):
        yield Line(variable, os.environ.get(variable) or "not set")
    if sizes is FULL:
        on_gpu = jax.default_backend() == "gpu"
        error = "" if on_gpu else f"got the backend {jax.default_backend()}; there, add --tiny"
        yield Line("the GPU is used", on_gpu, error=error)


def _equivalence(sizes: Sizes) -> Iterator[Line]:
    """Measure the largest change of logits, relative to the largest, by shuffling all units."""
    for title, model, data in _networks(sizes):
        params = training.initial_params(model, seed=0)
        images = jnp.asarray(data.test_images)
        spec = symmetry.infer_permutation_spec(model.apply, params, images)
        shuffled = symmetry.apply_permutation(
            spec, symmetry.random_permutation(spec, params, seed=1), params
        )
        for precision in PRECISIONS:
            with jax.default_matmul_precision(precision):
                apply_fn = jax.jit(model.apply)
                before, after = (np.asarray(apply_fn(each, images)) for each in (params, shuffled))
            change = float(np.abs(after - before).max() / np.abs(before).max())
            yield Line(f"change of logits, permuted {title}, {precision}", change)
        # Whatever the settings: it sets the precision itself.
        change = symmetry.verify_equivalence(model.apply, spec, params, images, num_trials=1)
        yield Line(f"change of logits, verify_equivalence of {title}, highest", change)


def _networks(sizes: Sizes) -> Iterator[tuple[str, models.Model, datasets.Dataset]]:
    small, large = _data(sizes.pixels, 1, 100, 100), _data(sizes.pixels, 3, 100, 100)
    width = sizes.mlp_width
    mlp = models.build_model("mlp", dataset=small, width=width, num_hidden_layers=3)
    yield f"MLP 3 x {width}", mlp, small
    multiplier = sizes.resnet_multiplier
    yield f"{sizes.resnet} {multiplier:g}x", _resnet(sizes.resnet, multiplier, large), large
    vit = models.build_model(
        "vit",
        dataset=large,
        width=sizes.vit_width,
        num_heads=4,
        num_blocks=sizes.vit_blocks,
        patch_size=4,
    )
    yield f"ViT of {sizes.vit_blocks} blocks", vit, large


def _statistics(sizes: Sizes) -> Iterator[Line]:
    """Measure correlations of two networks' units on the device against float64 in NumPy."""
    width, num_inputs = sizes.mlp_width, 64
    spec = symmetry.PermutationSpec({"in": (None, "P"), "out": ("P", None)})
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2_000, num_inputs)).astype(np.float32)
    params_a, params_b = (
        {
            # Every unit reads two inputs with weights that every precision holds exactly.
            "in": np.eye(num_inputs, dtype=np.float32)[rng.integers(0, num_inputs, width)].T,
            "out": np.ones((width, 1), np.float32),
        }
        for _ in range(2)
    )

    def apply_fn(params: PyTree, x: jax.Array) -> jax.Array:
        hidden = jnp.matmul(x, params["in"], precision=jax.lax.Precision.HIGHEST)
        return hidden @ params["out"]

    expected = np.corrcoef(
        *(inputs.astype(np.float64) @ params["in"] for params in (params_a, params_b)),
        rowvar=False,
    )[:width, width:]
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):
            gathered = matching.statistics.gather_statistics(
                symmetry.activations.trace_activations(apply_fn, spec, params_a, inputs[:2]),
                params_a,
                params_b,
                [inputs[:1_500], inputs[1_500:]],
            )
            [statistics] = gathered.values()
        error = float(np.abs(statistics.correlation() - expected).max())
        yield Line(f"error of correlations, {precision}", error)


def _matching(sizes: Sizes) -> Iterator[Line]:
    """Time weight matching on a planted permutation, and count wrong units."""
    for title, model, data in list(_networks(sizes))[:2]:
        params = training.initial_params(model, seed=0)
        spec = symmetry.infer_permutation_spec(model.apply, params, jnp.asarray(data.test_images))
        planted = symmetry.random_permutation(spec, params, seed=1)
        moved = symmetry.apply_permutation(spec, planted, params)
        start = time.perf_counter()
        matched = matching.match("weight", spec, params, moved, seed=0).permutation
        seconds = time.perf_counter() - start
        yield Line(f"weight matching of {title}", seconds, "s")
        if title.startswith("MLP"):  # ascent from nothing need not find it in thin networks
            expected = symmetry.invert_permutation(planted)
            wrong = sum(int((matched[name] != expected[name]).sum()) for name in expected)
            yield Line(f"units matched otherwise than planted, {title}", wrong)


def _bits(sizes: Sizes) -> Iterator[Line]:
    """Compare the bits of a training, the same again, resumed, and by the other kind of loop."""
    data = _data(sizes.pixels, 3, 20 * sizes.batch_size, 100)
    multiplier = sizes.trained_multiplier
    mlp = models.build_model("mlp", dataset=data, width=sizes.mlp_width, num_hidden_layers=3)
    networks = {"MLP": mlp}
    if multiplier:
        networks[f"resnet8 {multiplier:g}x"] = _resnet("resnet8", multiplier, data)
    config = training.TrainConfig(batch_size=sizes.batch_size, num_epochs=2)
    for title, model in networks.items():
        for precision in PRECISIONS:
            train = functools.partial(training.train, model, data, config, seed=0)
            with jax.default_matmul_precision(precision):
                states: list[training.TrainState] = []
                first = train(on_epoch=states.append).params
                again = train().params
                resumed = train(state=states[0]).params
                stepwise, scanned = (
                    train(loop=loop).params if loop != _own_loop() else first
                    for loop in ("steps", "scan")
                )
            last = f"{title}, {precision}"
            yield Line(f"same bits from a second training, {last}", _same_bits(first, again))
            yield Line(f"same bits after resuming, {last}", _same_bits(first, resumed))
            yield Line(f"same bits by scan and by steps, {last}", _same_bits(stepwise, scanned))
            distance = pytrees.distance(stepwise, scanned) / pytrees.distance(
                first, training.initial_params(model, seed=0)
            )
            yield Line(f"distance of scan and steps, part of the way, {last}", float(distance))


def _own_loop() -> str:
    return "steps" if jax.default_backend() == "cpu" else "scan"


def _max_pool(sizes: Sizes) -> Iterator[Line]:
    """Take gradients of max-poolings, which some XLA cannot compile with deterministic flags."""
    images = jnp.asarray(_data(sizes.pixels, 3, 10, sizes.batch_size).test_images)
    for size in (2, 3):  # VGG16's windows lie side by side, those of ResNet50's stem overlap

        def pooled(images: jax.Array, size: int = size) -> jax.Array:
            return nnx.max_pool(images, (size, size), strides=(2, 2), padding="SAME").sum()

        gradient = jax.jit(jax.grad(pooled))
        same = _same_bits(gradient(images), gradient(images))
        yield Line(f"same bits of a {size} x {size} max-pooling's gradient, taken twice", same)


def _mlp_speed(sizes: Sizes) -> Iterator[Line]:
    data = _data(28, 1, 10 * sizes.batch_size, 10)
    width = sizes.mlp_width
    model = models.build_model("mlp", dataset=data, width=width, num_hidden_layers=3)
    yield from _speed(f"MLP 3 x {width}", model, data, sizes)


def _resnet_speed(sizes: Sizes, multiplier: float) -> Iterator[Line]:
    data = _data(sizes.pixels, 3, 10 * sizes.batch_size, 10)
    model = _resnet(sizes.resnet, multiplier, data)
    yield from _speed(f"{sizes.resnet} {multiplier:g}x", model, data, sizes)


def _speed(title: str, model: models.Model, data: datasets.Dataset, sizes: Sizes) -> Iterator[Line]:
    """Measure a training step (ms) within one scan, as `train` runs an epoch on a GPU."""
    config = training.TrainConfig(optimizer="sgd", batch_size=sizes.batch_size)
    optimizer = training.make_optimizer(config, sizes.num_steps)
    step = training.make_step(model.apply, optimizer)
    images, labels = jax.device_put((data.train_images, data.train_labels))
    order = np.random.default_rng(0).integers(
        0, len(images), (sizes.num_steps, sizes.batch_size), np.int32
    )
    params = training.initial_params(model, seed=0)
    carry = (params, optimizer.init(params), (np.float32(0), np.float32(0)))
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):

            @jax.jit
            def epoch(carry: Any, images: jax.Array, labels: jax.Array) -> Any:
                def body(carry: Any, batch: jax.Array) -> tuple[Any, None]:
                    return step(carry, images, labels, batch), None

                return jax.lax.scan(body, carry, order)[0]

            start = time.perf_counter()
            jax.block_until_ready(epoch(carry, images, labels))
            middle = time.perf_counter()
            jax.block_until_ready(epoch(carry, images, labels))
            seconds = time.perf_counter() - middle
        milliseconds = 1000 * seconds / sizes.num_steps
        name = f"training step of {title}, {sizes.batch_size} images, {precision}"
        yield Line(name, milliseconds, "ms")
        yield Line(f"compiling and first run, {title}, {precision}", middle - start, "s")


def _memory(sizes: Sizes, multiplier: float) -> Iterator[Line]:
    """Measure the device memory that evaluating many images takes."""
    data = _data(sizes.pixels, 3, 10, sizes.num_images)
    model = _resnet(sizes.resnet, multiplier, data)
    params = jax.device_put(training.initial_params(model, seed=0))
    images, labels = jax.device_put((data.test_images, data.test_labels))
    title = f"evaluating {sizes.resnet} {multiplier:g}x on {sizes.num_images} images"
    before = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    batches = []  # as they are traced

    def apply_fn(params: PyTree, images: jax.Array) -> jax.Array:
        batches.append(len(images))
        return model.apply(params, images)

    start = time.perf_counter()
    metrics.evaluate(apply_fn, params, images, labels)
    yield Line(f"{title}, first time", time.perf_counter() - start, "s")
    yield Line(f"images at once, {title}", max(batches))
    statistics = jax.devices()[0].memory_stats() or {}
    peak, limit = (statistics.get(name) for name in ("peak_bytes_in_use", "bytes_limit"))
    share = peak / limit if peak and limit else None
    yield Line(f"memory before {title}", before and before / 2**30, "GiB")
    yield Line(f"memory while {title}", peak and peak / 2**30, "GiB")
    yield Line(f"peak of memory, part of the limit, {title}", share)


def _resnet(name: str, multiplier: float, data: datasets.Dataset) -> models.Model:
    return models.build_model(name, dataset=data, width_multiplier=multiplier)


def _same_bits(left: PyTree, right: PyTree) -> bool:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@functools.lru_cache
def _data(pixels: int, channels: int, num_train: int, num_test: int) -> datasets.Dataset:
    """Make a data set of ten noisy patterns, in turn."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (10, pixels, pixels, channels))

    def split(count: int) -> formats.Split:
        labels = np.arange(count) % 10
        noise = rng.integers(-40, 41, (count, pixels, pixels, channels))
        return formats.Split((patterns[labels] + noise).astype(np.uint8), labels.astype(np.uint8))

    return dataset.from_splits(
        split(num_train),
        split(num_test),
        name="patterns",
        title="Patterns",
        class_names=tuple("0123456789"),
        source="rebasin_lab/lab/gpu_measurements.py",
    )


MEASUREMENTS: dict[str, Callable[..., Iterator[Line]]] = {
    "machine": _machine,
    "equivalence": _equivalence,
    "statistics": _statistics,
    "matching": _matching,
    "bits": _bits,
    "max_pool": _max_pool,
    "mlp_speed": _mlp_speed,
    "resnet_speed": _resnet_speed,
    "memory": _memory,
}
