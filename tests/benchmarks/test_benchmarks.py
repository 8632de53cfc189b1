"""Timings of what matters: an epoch, a matching, a curve, a checkpoint, the notebook run.

    make benchmark                                   # on MNIST-5k
    REBASIN_DATA=... make benchmark ARGS="-k epoch"  # on full MNIST

No benchmark asserts a wall time: compare the rows of a group. Under `make test-all` each runs once.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rebasin_lab as rl
from rebasin_lab import metrics, training
from rebasin_lab.lab import runner
from rebasin_lab.training import checkpoints, training_loop

pytestmark = pytest.mark.slow

FULL = bool(os.environ.get("REBASIN_DATA"))
CONFIG = rl.TrainConfig(batch_size=500 if FULL else 100, num_epochs=1)


@pytest.fixture(scope="module")
def data(request):
    full = FULL and request.config.getoption("benchmark_enable")
    return rl.load_dataset("mnist" if full else "mnist5k")


@pytest.fixture(scope="module")
def model(data):
    return rl.build_model("mlp", dataset=data, width=512, num_hidden_layers=3)


@pytest.fixture(scope="module")
def two_networks(model):
    return tuple(jax.tree.map(np.asarray, model.init(jax.random.key(seed))) for seed in (0, 1))


def bare_epoch(model, data):
    """What one would write by hand: a jitted step, a Python loop, nothing else."""
    optimizer = optax.adam(CONFIG.learning_rate)
    images, labels = jax.device_put((data.train_images, data.train_labels))

    @jax.jit
    def step(params, opt_state, images, labels, batch):
        def loss_fn(params):
            hidden = images[batch].reshape(batch.shape[0], -1)
            layers = [params["layers"][index] for index in sorted(params["layers"])]
            for layer in layers[:-1]:
                hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"][None])
            logits = hidden @ layers[-1]["kernel"] + layers[-1]["bias"][None]
            return metrics.cross_entropy(logits, labels[batch])

        gradient = jax.grad(loss_fn)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = model.init(jax.random.key(0))
    opt_state = optimizer.init(params)
    order = np.random.default_rng(0).permutation(len(images)).astype(np.int32)
    order = order[: len(order) // CONFIG.batch_size * CONFIG.batch_size]

    def epoch():
        state = params, opt_state
        for batch in order.reshape(-1, CONFIG.batch_size):
            state = step(*state, images, labels, batch)
        return jax.block_until_ready(state)

    return epoch


@pytest.mark.benchmark(group="one epoch of the 3x512 MLP")
def test_epoch_bare(benchmark, model, data):
    benchmark.pedantic(bare_epoch(model, data), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("loop", ["steps", "scan"])
@pytest.mark.benchmark(group="one epoch of the 3x512 MLP")
def test_epoch_of_train(benchmark, model, data, loop):
    """The same epoch as the library runs it: the ratio to the bare one is what we promise."""
    order = training_loop._epoch_order(
        jax.random.key(0), 0, len(data.train_images), CONFIG.batch_size
    )
    epoch_fn = training_loop._epoch_fn(model, CONFIG, len(order), loop)
    state = training.initial_state(model, data, CONFIG, seed=0)
    images, labels = jax.device_put((data.train_images, data.train_labels))

    def epoch():
        return jax.block_until_ready(
            epoch_fn(state.params, state.opt_state, images, labels, (order,))
        )

    benchmark.pedantic(epoch, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="one epoch of the 3x512 MLP")
def test_train_for_one_epoch_with_all_around_it(benchmark, model, data):
    """Initialisation, moving the data to the device, the epoch, and its test evaluation."""
    result = benchmark.pedantic(
        lambda: training.train(model, data, CONFIG, seed=0), rounds=5, warmup_rounds=1
    )
    assert len(result.history["test_loss"]) == 1


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("how", ["one after the other", "vmap"])
@pytest.mark.benchmark(group="four seeds, 20 steps")
def test_several_seeds(benchmark, data, width, how):
    """Seeds train one after the other because vmap does not win here (DESIGN.md, Training)."""
    model = rl.build_model("mlp", dataset=data, width=width, num_hidden_layers=3)
    optimizer = training.make_optimizer(CONFIG, 20)
    step = training.make_step(model.apply, optimizer)
    images, labels = jax.device_put((data.train_images, data.train_labels))
    batches = np.random.default_rng(0).integers(0, len(images), (20, CONFIG.batch_size), np.int32)

    def start(key):
        params = model.init(key)
        return params, optimizer.init(params), (jnp.float32(0), jnp.float32(0))

    keys = jax.random.split(jax.random.key(0), 4)
    if how == "vmap":
        together = jax.jit(jax.vmap(step, in_axes=(0, None, None, None)))
        carries, steps = [jax.vmap(start)(keys)], together
    else:
        carries, steps = [start(key) for key in keys], jax.jit(step)

    def run():
        results = []
        for carry in carries:
            for batch in batches:
                carry = steps(carry, images, labels, batch)
            results.append(carry)
        return jax.block_until_ready(results)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize(
    ("architecture", "image_size", "options"),
    [("resnet20", 32, {}), ("resnet50", 224, {}), ("vit", 32, {"num_blocks": 12})],
)
@pytest.mark.benchmark(group="inferring a spec, tracing included")
def test_inference_of_a_spec(benchmark, architecture, image_size, options):
    model = rl.Model(architecture, (image_size, image_size, 3), 10, options)
    params = model.shapes
    images = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)

    def setup():  # a new function each round: JAX remembers what it has traced
        return (lambda params, images: model.apply(params, images), params, images), {}

    spec = benchmark.pedantic(rl.infer_permutation_spec, setup=setup, rounds=3)
    assert spec.permutations


@pytest.mark.benchmark(group="matching")
def test_weight_matching_of_random_networks(benchmark, two_networks):
    spec = rl.mlp_permutation_spec(3)
    result = benchmark.pedantic(rl.match, ("weight", spec, *two_networks), rounds=5)
    assert result.converged


@pytest.mark.benchmark(group="matching")
def test_weight_matching_of_a_planted_permutation(benchmark, two_networks):
    spec = rl.mlp_permutation_spec(3)
    planted = rl.random_permutation(spec, two_networks[0], seed=0)
    moved = rl.apply_permutation(spec, planted, two_networks[0])
    result = benchmark.pedantic(rl.match, ("weight", spec, two_networks[0], moved), rounds=5)
    assert all(np.array_equal(result.permutation[p], np.argsort(planted[p])) for p in planted)


@pytest.mark.benchmark(group="evaluation")
def test_interpolation_curve_of_five_points(benchmark, model, data, two_networks):
    benchmark.pedantic(
        rl.interpolation_curve,
        (model.apply, *two_networks, data),
        {"num_lambdas": 5},
        rounds=3,
        warmup_rounds=1,
    )


PROGRAMS = {
    "jax": "import jax",
    "rebasin_lab": "import rebasin_lab",
    "all of the library": "import rebasin_lab as rl; [getattr(rl, n) for n in rl.__all__ if not "
    "rl._MODULES[n].startswith('lab.')]",
}


@pytest.mark.parametrize("what", PROGRAMS)
@pytest.mark.benchmark(group="a new process, with an import")
def test_import(benchmark, what):
    command = [sys.executable, "-c", PROGRAMS[what]]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=5)


@pytest.mark.parametrize("what", ["save", "load"])
@pytest.mark.benchmark(group="checkpoint of a network and its Adam state, 11 MB")
def test_checkpoint(benchmark, tmp_path, two_networks, what):
    tree = {"params": two_networks[0], "opt_state": optax.adam(1e-3).init(two_networks[0])}
    path = tmp_path / "network.safetensors"
    checkpoints.save(path, tree, {})
    if what == "save":
        benchmark(checkpoints.save, path, tree, {})
    else:
        benchmark(checkpoints.load, path, like=tree)


@pytest.mark.benchmark(group="the notebook run at quick")
def test_notebook_run(benchmark, tmp_path, monkeypatch):
    """The first round trains, the second finds everything stored."""
    if benchmark.disabled:
        pytest.skip("minutes; tests/lab/test_notebooks.py runs the same once")
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "runs"))

    def reproduce():
        with (tmp_path / "out.txt").open("w") as out:
            return runner.reproduce(runner.plan_run(figures_dir=tmp_path / "figures"), out=out)

    assert benchmark.pedantic(reproduce, rounds=2) == 0
