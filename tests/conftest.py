"""What all tests share: strict JAX, a tiny data set, a place for runs, and the architectures.

`architecture` is a registry: a test that takes it runs once per entry, so that a new model is one
entry of `ARCHITECTURES` and inherits every law of `tests/symmetry` and `tests/matching`.
"""

import dataclasses
import os
import signal
import tempfile
from collections.abc import Callable
from typing import Any

# For a GPU, and before JAX is imported; processes that tests start inherit both. Tests measure
# equality to float32's rounding, and products there are coarser unless asked otherwise.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Each process of pytest-xdist would take three quarters of the memory for itself.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Most of a test's time is compiling what runs once. (Fusions take a third as long the old way. A
# JAX that does not know the second flag says so and ends: then it can go.)
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
# All processes of a run share what they compile. It goes with the run: entries are trusted when
# they are read back, and another machine may lack some of this one's instructions.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="rebasin-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Images of containers set this one, and each process would compile all modules of ours anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Under nohup a process and all it starts ignore this one, and tests send it.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import type_checks  # noqa: F401, I001 before anything of ours

import hypothesis
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees
from rebasin_lab.datasets import dataset, formats, views

jax.config.update("jax_numpy_rank_promotion", "raise")
# Some tests interrupt processes that they start; those of a shell's `pytest &` would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a test may compile, so no deadline; in CI a failure must be repeatable.
hypothesis.settings.register_profile("lab", deadline=None)
hypothesis.settings.register_profile("lab-ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("lab-ci" if os.environ.get("CI") else "lab")


# About how many of them a file of tests takes, where it is many.
MINUTES = {"test_notebooks": 20, "test_sequence": 4, "test_processes": 3, "test_runner": 2}


def pytest_collection_modifyitems(config, items):
    """In several processes what takes minutes begins first, so that all end together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -MINUTES.get(item.path.stem, 0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """In CI, with data at hand, a test of real data that skips has failed."""
    report = yield
    demanded = os.environ.get("CI") and os.environ.get("REBASIN_DATA")
    if report.skipped and demanded and item.get_closest_marker("realdata"):
        report.outcome = "failed"
        report.longrepr = f"skipped although REBASIN_DATA is set: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _runs_go_to_a_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def _data_is_loaded_anew():
    """Tests put other data sets, and other folders of them, in place of the real ones."""
    views.load_view.cache_clear()


@pytest.fixture
def without_type_checks():
    """What a user meets: only the tests have beartype look at every argument."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def make_tiny_data() -> dataset.Dataset:
    """Ten noisy patterns of 8 x 8 pixels, 20 training and 10 test images of each."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (10, 8, 8, 1))

    def split(num_per_class: int) -> formats.Split:
        labels = np.tile(np.arange(10, dtype=np.uint8), num_per_class)
        noise = rng.integers(-40, 41, (labels.size, 8, 8, 1))
        return formats.Split((patterns[labels] + noise).astype(np.uint8), labels)

    return dataset.from_splits(
        split(20),
        split(10),
        name="tiny",
        title="Tiny",
        class_names=tuple("0123456789"),
        source="tests/conftest.py",
    )


TINY_DATA = make_tiny_data()


@pytest.fixture(scope="session")
def tiny_data() -> dataset.Dataset:
    """200 training and 100 test images of 8 x 8 x 1, ten classes, learnable in an epoch or two."""
    return TINY_DATA


@pytest.fixture(scope="session")
def trained_pair(tiny_data):
    """A small MLP, and two networks that have learned `tiny_data`."""
    model = rl.build_model("mlp", dataset=tiny_data, width=8, num_hidden_layers=2)
    config = rl.TrainConfig(batch_size=20, num_epochs=30)
    return model, *(rl.train(model, tiny_data, config, seed=seed).params for seed in range(2))


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """A network on the images of `tiny_data`, with a spec known to be right."""

    apply_fn: Callable[[Any, Any], jax.Array]
    spec: rl.PermutationSpec
    init: Callable[[int], Any]  # seed -> parameters as JAX arrays, no leaf of them zero
    recovers: bool  # whether coordinate ascent must find a planted permutation

    def init_numpy(self, seed: int) -> Any:
        """The same parameters as read-only NumPy arrays: writing to them is an error."""
        return jax.tree.map(np.asarray, self.init(seed))


def _mlp(num_hidden_layers: int, width: int) -> Architecture:
    model = rl.build_model(
        "mlp", dataset=TINY_DATA, width=width, num_hidden_layers=num_hidden_layers
    )

    shapes = jax.tree.map(lambda leaf: leaf.shape, model.shapes)
    axes = rl.mlp_permutation_spec(num_hidden_layers).axes
    return _plain(model.apply, axes, shapes, recovers=True)


def _plain(
    apply_fn: Callable, axes: dict[str, tuple], shapes: Any, *, recovers: bool = False
) -> Architecture:
    """A network from its function and its parameter tree, with a shape in place of every leaf.

    All leaves are drawn from NumPy, which needs no compiling; a bias too, since the usual zero
    bias would hide a wrong spec.
    """

    def init(seed: int) -> Any:
        rng = np.random.default_rng(seed)

        def draw(shape: tuple[int, ...]) -> jax.Array:
            scale = 1 / np.sqrt(max(np.prod(shape[:-1]), 4))
            return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

        return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))

    return Architecture(apply_fn, rl.PermutationSpec(axes), init, recovers)


def _residual() -> Architecture:
    """Two blocks add into one stream, so they share its permutation; each has its own inside."""

    def apply_fn(params, images):
        hidden = images.reshape(images.shape[0], -1) @ params["stem"] + params["stem_bias"][None]
        for block in params["blocks"]:
            inner = jax.nn.relu(hidden @ block["up"] + block["up_bias"][None])
            hidden = hidden + inner @ block["down"]
        return jax.nn.relu(hidden) @ params["head"] + params["head_bias"][None]

    axes = {"stem": (None, "stream"), "stem_bias": ("stream",)}
    for i in range(2):
        axes[f"blocks/{i}/up"] = ("stream", f"inner_{i}")
        axes[f"blocks/{i}/up_bias"] = (f"inner_{i}",)
        axes[f"blocks/{i}/down"] = (f"inner_{i}", "stream")
    axes |= {"head": ("stream", None), "head_bias": (None,)}
    block = {"up": (16, 24), "up_bias": (24,), "down": (24, 16)}
    shapes = {"stem": (64, 16), "stem_bias": (16,), "blocks": [block, block]}
    return _plain(apply_fn, axes, shapes | {"head": (16, 10), "head_bias": (10,)})


def _recurrent() -> Architecture:
    """One square matrix used three times: one permutation sits on both of its axes."""

    def apply_fn(params, images):
        flat = images.reshape(images.shape[0], -1)
        hidden = jnp.zeros((flat.shape[0], 20))
        for _ in range(3):
            hidden = jax.nn.relu(hidden @ params["W"] + flat @ params["U"] + params["b"][None])
        return hidden @ params["head"]

    axes = {"W": ("state", "state"), "U": (None, "state"), "b": ("state",), "head": ("state", None)}
    return _plain(apply_fn, axes, {"W": (20, 20), "U": (64, 20), "b": (20,), "head": (20, 10)})


def _convolutional() -> Architecture:
    """Two convolutions with a per-channel scale between: the permuted axes are not the first."""

    def apply_fn(params, images):
        hidden = images
        for kernel in (params["first"], params["second"]):
            hidden = jax.lax.conv_general_dilated(
                hidden, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            hidden = jax.nn.relu(hidden * params["scale"][None, None, None])
        return hidden.mean((1, 2)) @ params["head"]

    axes = {
        "first": (None, None, None, "channels"),
        "second": (None, None, "channels", "channels"),
        "scale": ("channels",),
        "head": ("channels", None),
    }
    shapes = {"first": (3, 3, 1, 16), "second": (3, 3, 16, 16), "scale": (16,), "head": (16, 10)}
    return _plain(apply_fn, axes, shapes)


def _flattened_convolution() -> Architecture:
    """4 x 4 positions of 16 channels flattened into one axis of a matrix."""

    def apply_fn(params, images):
        hidden = _conv(images, params["kernel"]) + params["bias"][None, None, None]
        flat = jax.nn.relu(hidden).reshape(images.shape[0], -1)
        return jax.nn.relu(flat @ params["dense"] + params["dense_bias"][None]) @ params["head"]

    axes = {
        "kernel": (None, None, None, "channels"),
        "bias": ("channels",),
        "dense": ("16*channels", "hidden"),
        "dense_bias": ("hidden",),
        "head": ("hidden", None),
    }
    shapes = {"kernel": (3, 3, 1, 16), "bias": (16,), "dense": (256, 20), "dense_bias": (20,)}
    return _plain(apply_fn, axes, shapes | {"head": (20, 10)}, recovers=True)


def _concatenation() -> Architecture:
    """Every layer sees all before it, as in a DenseNet: the pixels stay, the features move."""

    def apply_fn(params, images):
        seen = images.reshape(images.shape[0], -1)
        for layer in ("first", "second"):
            new = jax.nn.relu(seen @ params[layer] + params[f"{layer}_bias"][None])
            seen = jnp.concatenate([new, seen], axis=1)
        return seen @ params["head"]

    axes = {
        "first": (None, "P"),
        "first_bias": ("P",),
        "second": ("P + 64", "Q"),
        "second_bias": ("Q",),
        "head": ("Q + P + 64", None),
    }
    shapes = {"first": (64, 16), "first_bias": (16,), "second": (80, 20), "second_bias": (20,)}
    return _plain(apply_fn, axes, shapes | {"head": (100, 10)}, recovers=True)


def _attention() -> Architecture:
    """Rows of pixels attend to each other; every head has dimensions of its own to permute."""

    def apply_fn(params, images):
        stream = images[..., 0] @ params["embed"]
        split = (*stream.shape[:2], 4, 5)
        queries = (stream @ params["query"]).reshape(split) + params["query_bias"][None, None]
        keys = jnp.einsum("ntc,chd->nthd", stream, params["key"])
        values = jnp.einsum("ntc,chd->nthd", stream, params["value"])
        weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", queries, keys))
        mixed = jnp.einsum("nhts,nshd->nthd", weights, values).reshape(*stream.shape[:2], -1)
        return (stream + mixed @ params["out"]).mean(1) @ params["head"]

    axes = {
        "embed": (None, "stream"),
        "query": ("stream", "h * qk[h]"),
        "query_bias": ("h", "qk[h]"),
        "key": ("stream", "h", "qk[h]"),
        "value": ("stream", "h", "v[h]"),
        "out": ("h * v[h]", "stream"),
        "head": ("stream", None),
    }
    shapes = {
        "embed": (8, 16),
        "query": (16, 20),
        "query_bias": (4, 5),
        "key": (16, 4, 5),
        "value": (16, 4, 6),
        "out": (24, 16),
        "head": (16, 10),
    }
    return _plain(apply_fn, axes, shapes)


def _grouped_convolution() -> Architecture:
    """The kernel holds the inputs of one group on an axis and the outputs of all on the next."""

    def apply_fn(params, images):
        hidden = jax.nn.relu(_conv(images, params["first"]))
        hidden = _conv(hidden, params["grouped"], feature_group_count=4)
        return jax.nn.relu(hidden + params["bias"][None, None, None]).mean((1, 2)) @ params["head"]

    axes = {
        "first": (None, None, None, "g*c[g]"),
        "grouped": (None, None, "c[g]", "g*o[g]"),
        "bias": ("g*o[g]",),
        "head": ("g*o[g]", None),
    }
    shapes = {"first": (3, 3, 1, 16), "grouped": (3, 3, 4, 20), "bias": (20,), "head": (20, 10)}
    return _plain(apply_fn, axes, shapes)


def _stacked_layers() -> Architecture:
    """A scan over the weights of three residual blocks, stacked on their first axis."""

    def apply_fn(params, images):
        def block(hidden, layer):
            inner = jax.nn.relu(hidden @ layer["up"] + layer["bias"][None])
            return hidden + inner @ layer["down"], None

        hidden = images.reshape(images.shape[0], -1) @ params["stem"]
        hidden, _ = jax.lax.scan(block, hidden, params["blocks"])
        return hidden @ params["head"]

    axes = {
        "stem": (None, "stream"),
        "blocks/up": ("#layer", "stream", "inner[#layer]"),
        "blocks/bias": ("#layer", "inner[#layer]"),
        "blocks/down": ("#layer", "inner[#layer]", "stream"),
        "head": ("stream", None),
    }
    blocks = {"up": (3, 16, 18), "bias": (3, 18), "down": (3, 18, 16)}
    return _plain(apply_fn, axes, {"stem": (64, 16), "blocks": blocks, "head": (16, 10)})


def _conv(images: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


ARCHITECTURES: dict[str, Architecture] = {
    "mlp-1x32": _mlp(1, 32),
    "mlp-2x24": _mlp(2, 24),
    "mlp-3x16": _mlp(3, 16),
    "residual": _residual(),
    "recurrent": _recurrent(),
    "convolutional": _convolutional(),
    "flattened-convolution": _flattened_convolution(),
    "concatenation": _concatenation(),
    "attention": _attention(),
    "grouped-convolution": _grouped_convolution(),
    "stacked-layers": _stacked_layers(),
}


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES.keys(), scope="session")
def architecture(request) -> Architecture:
    """Every architecture in turn."""
    return request.param


@pytest.fixture(scope="session")
def mlp() -> Architecture:
    """One of them, where one is enough: three hidden layers of 16 units."""
    return ARCHITECTURES["mlp-3x16"]


def assert_trees_equal(left: Any, right: Any) -> None:
    """Same leaves, bit by bit."""
    flat_left, flat_right = pytrees.flatten(left), pytrees.flatten(right)
    assert flat_left.keys() == flat_right.keys()
    for path, leaf in flat_left.items():
        np.testing.assert_array_equal(leaf, flat_right[path], err_msg=path)


@pytest.fixture(scope="session")
def trees_equal() -> Callable[[Any, Any], None]:
    """`assert_trees_equal`, for tests that cannot import this file by name."""
    return assert_trees_equal
