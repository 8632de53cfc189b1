"""What matching costs: networks of the paper, from an MLP to a ResNet20 of 32 times the width.

Three kinds of pairs: two *random* networks, which have nothing in common and are the hardest to
search; a *planted* permutation under noise, which is the easiest; and something *like trained*
networks in between, whose units are alike only a little. Beside the time each benchmark keeps the
objective gained, the sweeps, and the seconds per sweep spent on products and on assignments
(`extra_info`). One BLAS thread is used wherever the library says so; compare CPU seconds on a
machine that has other work to do.
"""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import threadpoolctl

import rebasin_lab as rl
from rebasin_lab import pytrees
from rebasin_lab.matching import assignment, products

SIMILARITY = {"planted": 0.7, "like trained": 0.3}

NETWORKS = {
    "mlp 3x512": ("mlp", (28, 28, 1), {}),
    "vgg16 1x": ("vgg16", (32, 32, 3), {}),
    "resnet20 1x": ("resnet20", (32, 32, 3), {"width_multiplier": 1}),
    "resnet20 4x": ("resnet20", (32, 32, 3), {"width_multiplier": 4}),
    "resnet20 8x": ("resnet20", (32, 32, 3), {"width_multiplier": 8}),
    "resnet20 16x": ("resnet20", (32, 32, 3), {"width_multiplier": 16}),
    "resnet20 32x": ("resnet20", (32, 32, 3), {"width_multiplier": 32}),
    "resnet50": ("resnet50", (224, 224, 3), {}),
    "vit, 4 blocks": ("vit", (32, 32, 3), {}),
}


def draw(shapes, rng):
    """He's initialisation, norms about one, small biases: nothing is zero."""

    def leaf(path, shape):
        noise = rng.standard_normal(shape, np.float32)
        if len(shape) == 1:
            return np.float32(0.1) * noise + np.float32(path.endswith(("scale", "var")))
        return noise * np.float32(np.sqrt(2 / np.prod(shape[:-1])))

    return pytrees.unflatten({path: leaf(path, shape) for path, shape in shapes.items()})


@pytest.fixture(scope="module")
def make_pair(request):
    full = request.config.getoption("benchmark_enable")

    def make(name, kind):
        architecture, image_shape, options = NETWORKS[name]
        if not full:  # a smoke test of the benchmark itself
            architecture, image_shape, options = "mlp", (8, 8, 1), {"width": 16}
        model = rl.Model(architecture, image_shape, 10, options)
        params = model.shapes
        images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
        spec = rl.infer_permutation_spec(model.apply, params, images)
        shapes = {path: leaf.shape for path, leaf in pytrees.flatten(params).items()}
        rng = np.random.default_rng(0)
        params_a, params_b = draw(shapes, rng), draw(shapes, rng)
        if kind == "random":
            return spec, params_a, params_b
        share = np.float32(SIMILARITY[kind])
        rest = np.sqrt(1 - share**2)
        mixed = jax.tree.map(lambda a, b: share * a + rest * b, params_a, params_b)
        planted = rl.random_permutation(spec, mixed, seed=0)
        return spec, params_a, rl.apply_permutation(spec, planted, mixed)

    return make


@pytest.mark.parametrize("kind", ["random", "like trained", "planted"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.benchmark(group="weight matching")
def test_weight_matching(benchmark, make_pair, name, kind):
    pair = make_pair(name, kind)
    cpu = time.process_time()
    rounds = 1 if "32x" in name else 3
    result = benchmark.pedantic(rl.match, ("weight", *pair), rounds=rounds)
    benchmark.extra_info |= {
        "cpu_seconds": (time.process_time() - cpu) / rounds,
        "gain": result.objective[-1] - result.objective[0],
        "sweeps": result.num_sweeps,
        "assignments": result.num_assignments,
        "product_seconds_per_sweep": result.product_seconds / result.num_sweeps,
        "assignment_seconds_per_sweep": result.assignment_seconds / result.num_sweeps,
    }
    assert result.converged


@pytest.mark.parametrize("effort", ["fast", "default", "thorough"])
@pytest.mark.parametrize("name", ["mlp 3x512", "resnet20 4x"])
@pytest.mark.benchmark(group="effort, random networks")
def test_effort(benchmark, make_pair, name, effort):
    pair = make_pair(name, "random")
    result = benchmark.pedantic(rl.match, ("weight", *pair), {"effort": effort}, rounds=1)
    benchmark.extra_info["gain"] = result.objective[-1] - result.objective[0]


@pytest.mark.parametrize("name", ["mlp 3x512", "vgg16 1x", "resnet20 4x"])
@pytest.mark.benchmark(group="Algorithm 1 as the paper has it, random networks")
def test_algorithm_1(benchmark, make_pair, name):
    pair = make_pair(name, "random")
    result = benchmark.pedantic(rl.match, ("algorithm_1", *pair), rounds=1)
    benchmark.extra_info["gain"] = result.objective[-1] - result.objective[0]


def algorithm_1_as_published(spec, params_a, params_b, seed=0):
    """Algorithm 1 the direct way, as the authors' code and its ports have it.

    Each visit permutes the other axes of every array, multiplies it out, and hands the similarity
    to SciPy; a group that gains nothing is visited again in the next sweep. Plain specs only.
    """
    a, b = pytrees.flatten(params_a), pytrees.flatten(params_b)
    order = {name: np.arange(n) for name, n in spec.sizes(params_a).items()}
    rng, gained = np.random.default_rng(seed), True
    while gained:
        gained = False
        for name in rng.permutation(list(order)):
            size = order[name].size
            similarity = np.zeros((size, size))
            for path, axis in spec.permutations[name]:
                moved = b[path]
                for other, its_name in enumerate(spec.axes[path]):
                    if other != axis and its_name is not None:
                        moved = np.take(moved, order[its_name], axis=other)
                rows = (np.moveaxis(x, axis, 0).reshape(size, -1) for x in (a[path], moved))
                similarity += np.matmul(next(rows), next(rows).T)
            _, best = scipy.optimize.linear_sum_assignment(similarity, maximize=True)
            slots = np.arange(size)
            gain = similarity[slots, best].sum() - similarity[slots, order[name]].sum()
            if gain > 1e-6 * abs(similarity[slots, best].sum()):
                order[name], gained = best, True
    return order


def floor(spec, params_a, params_b):
    """Each product once and one assignment a group: what no search can do without."""
    a, b = pytrees.flatten(params_a), pytrees.flatten(params_b)
    for places in spec.permutations.values():
        size = a[places[0][0]].shape[places[0][1]]
        similarity = np.zeros((size, size), np.float32)
        for path, axis in places:
            products.add_unit_products(similarity, a[path], b[path], axis)
        assignment.solve_assignment(similarity)


@pytest.mark.parametrize("what", ["ours", "as published", "floor"])
@pytest.mark.parametrize(
    "name", ["mlp 3x512", "resnet20 1x", "resnet20 4x", "resnet20 8x", "vgg16 1x", "resnet50"]
)
@pytest.mark.benchmark(group="beside Algorithm 1 as published, random networks")
def test_beside_the_published_code(benchmark, make_pair, name, what):
    """CPU seconds of one thread are in `extra_info`: their ratios hold on any machine."""
    pair, best = make_pair(name, "random"), math.inf
    run = {
        "ours": lambda: rl.match("weight", *pair).permutation,
        "as published": lambda: algorithm_1_as_published(*pair),
        "floor": lambda: floor(*pair),
    }[what]

    def timed():
        nonlocal best
        cpu = time.process_time()
        order = run()
        best = min(best, time.process_time() - cpu)
        return order

    with threadpoolctl.threadpool_limits(1):
        order = benchmark.pedantic(timed, rounds=1 if what == "as published" else 3)
    benchmark.extra_info["cpu_seconds"] = best
    if order is not None:
        spec, params_a, params_b = pair
        moved = rl.apply_permutation(spec, order, params_b)
        still, objective = (pytrees.inner_product(params_a, b) for b in (params_b, moved))
        benchmark.extra_info["gain"] = objective - still
        assert objective > still


@pytest.mark.parametrize("solver", ["lapx", "SciPy"])
@pytest.mark.parametrize("size", [64, 256, 512, 1024, 2048])
@pytest.mark.parametrize("kind", ["random", "planted"])
@pytest.mark.benchmark(group="one assignment")
def test_assignment(benchmark, monkeypatch, size, kind, solver):
    """Similarities of units of twice as many weights as there are units."""
    if solver == "SciPy":
        monkeypatch.setattr(assignment, "lapjvs", None)
    elif assignment.lapjvs is None:
        pytest.skip("lapx is not installed")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, 2 * size), np.float32)
    if kind == "planted":
        b = 0.7 * a[rng.permutation(size)] + 0.7 * b
    benchmark.pedantic(assignment.solve_assignment, (a @ b.T,), rounds=3)
