"""Two small pairs of networks with closed-form answers (Ainsworth et al. 2022, 4 and A.7.2).

`opposite_tests` is the paper's counterexample: two perfect networks that no permutation joins by a
line without a barrier. `linear_pair` is one that greedy matching lines up wrongly. All of these
networks have two hidden layers of two units, so there are four permutations, which can all be tried
and checked against a formula.

Errors are measured in float64, on the host. It matters: f is exactly 0 on the whole region where
the networks of the counterexample say yes, and rounding must not decide there.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, PyTree

from rebasin_lab import checks, pytrees, symmetry

# Rounding of f in float64 up to which it counts as 0; weights and inputs are about 1.
ROUNDING = 1e-9

_IN_ORDER, _SWAPPED = np.array([0, 1]), np.array([1, 0])

PERMUTATIONS: dict[str, symmetry.Permutation] = {
    "identity": {"P_0": _IN_ORDER, "P_1": _IN_ORDER},
    "swap 1": {"P_0": _SWAPPED, "P_1": _IN_ORDER},
    "swap 2": {"P_0": _IN_ORDER, "P_1": _SWAPPED},
    "swap both": {"P_0": _SWAPPED, "P_1": _SWAPPED},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two networks of one shape, and what may be reordered in them.

    Attributes:
        params_a: a tree of float64 arrays; kernels are [in, out].
        params_b: likewise.
        spec: inferred from `apply_fn`; P_0 is the first hidden layer, P_1 the second.
    """

    params_a: PyTree
    params_b: PyTree
    spec: symmetry.PermutationSpec

    def permuted_b(self, name: str) -> PyTree:
        """Return B under one of `PERMUTATIONS`."""
        return symmetry.apply_permutation(self.spec, _permutation(name), self.params_b)


def hidden_units(
    params: PyTree, inputs: Float[Array | np.ndarray, "n inputs"]
) -> list[Float[Array | np.ndarray, "n units"]]:
    """Return the outputs of each hidden layer: ReLU, with a bias or without.

    Written so that NumPy's float64 arrays pass through it as well as JAX's.
    """
    layers, outputs = params["layers"][:-1], [inputs]
    for layer in layers:
        hidden = outputs[-1] @ layer["kernel"]
        if "bias" in layer:
            hidden = hidden + layer["bias"][None]
        outputs.append(hidden.clip(0))
    return outputs[1:]


def apply_fn(
    params: PyTree, inputs: Float[Array | np.ndarray, "n inputs"]
) -> Float[Array | np.ndarray, " n"]:
    """Return the output f of each input: the last hidden layer, read out without a bias."""
    return (hidden_units(params, inputs)[-1] @ params["layers"][-1]["kernel"])[:, 0]


def opposite_tests() -> Pair:
    """Return the counterexample of section 4 and A.6: one function, its tests in opposite order.

    On the square both networks compute f(x) = -max(0, x1) - max(0, -x2). A tests x2 in its first
    layer and x1 in its second, B the other way round.
    """
    readout = {"kernel": np.array([[-1.0], [-1.0]])}
    params_a = [
        {"kernel": np.diag([-1.0, -1.0]), "bias": np.array([1.0, 0.0])},
        {"kernel": np.diag([-1.0, 1.0]), "bias": np.array([1.0, 0.0])},
        readout,
    ]
    params_b = [
        {"kernel": np.diag([1.0, 1.0]), "bias": np.array([0.0, 1.0])},
        {"kernel": np.diag([1.0, -1.0]), "bias": np.array([0.0, 1.0])},
        readout,
    ]
    return _pair(params_a, params_b)


@checks.arguments
def linear_pair(epsilon: float = 0.01) -> Pair:
    """Return the networks of A.7.2, f(x) = x and f(x) = (1 + epsilon) x for x > 0, without biases.

    A uses its first path from input to output, B its second, of almost equal weights.
    """
    first = {"kernel": np.array([[1.0, 1.0 + epsilon]])}
    params_a = [
        first,
        {"kernel": np.diag([1.0, epsilon])},
        {"kernel": np.array([[1.0], [0.0]])},
    ]
    params_b = [
        first,
        {"kernel": np.diag([0.0, 1.0])},
        {"kernel": np.array([[0.0], [1.0]])},
    ]
    return _pair(params_a, params_b)


def slope(params: PyTree) -> float:
    """Return f(1), the slope of a network without biases to the right of 0."""
    return float(apply_fn(params, np.ones((1, 1)))[0])


def name_of(permutation: symmetry.Permutation) -> str:
    """Return the name of a permutation in `PERMUTATIONS`.

    Raises:
        ValueError: if it is none of them.
    """
    for name, indices in PERMUTATIONS.items():
        if permutation.keys() == indices.keys() and all(
            np.array_equal(permutation[group], indices[group]) for group in indices
        ):
            return name
    raise ValueError(f"Expected a permutation of P_0 and P_1, two units each; got {permutation}.")


@checks.arguments
def grid_points(resolution: checks.Count = 400) -> Float[np.ndarray, "n 2"]:
    """Return the centres of resolution x resolution cells of [-1, 1]^2, row by row of x2.

    On the lines of `opposite_tests`, an error measured on them misses the true one by at most
    1 / resolution, if `resolution` is even: the networks there say yes in a cone between two rays
    from the centre; a ray crosses fewer than `resolution` cells, and each of these is off by at
    most half of itself.
    """
    centres = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    x2, x1 = np.meshgrid(centres, centres, indexing="ij")
    return np.stack([x1.ravel(), x2.ravel()], axis=-1)


@checks.arguments
def random_points(
    num_points: checks.Count = 1024, *, seed: checks.Seed = 0
) -> Float[np.ndarray, "n 2"]:
    """Draw points uniformly from the square; the paper's Fig. 7 has 1024."""
    return np.random.default_rng(seed).uniform(-1, 1, (num_points, 2))


@checks.arguments
def true_labels(points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Return True where x1 < 0 and x2 > 0: a quarter of the square."""
    return (points[:, 0] < 0) & (points[:, 1] > 0)


def predicted_labels(params: PyTree, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Return True where f >= 0, up to rounding."""
    return apply_fn(params, points) >= -ROUNDING


def error_curve(
    params_a: PyTree,
    params_b: PyTree,
    lambdas: Float[np.ndarray, " n"],
    points: Float[np.ndarray, "m 2"],
) -> Float[np.ndarray, " n"]:
    """Return the fraction of wrong labels on the line from A (lambda = 0) to B (1), as in Fig. 6.

    Args:
        params_a: float64 arrays, as those of a `Pair`.
        params_b: permute it first.
        lambdas: in [0, 1].
        points: `grid_points` or `random_points`.
    """
    labels = true_labels(points)
    line = _line(params_a, params_b, lambdas)
    return np.array([(predicted_labels(params, points) != labels).mean() for params in line])


@checks.arguments
def error_curves(
    spec: symmetry.PermutationSpec,
    params_a: PyTree,
    networks: Sequence[PyTree],
    lambdas: Float[np.ndarray, " n"],
    points: Float[np.ndarray, "m 2"],
    *,
    on_network: Callable[[], None] | None = None,
) -> Float[np.ndarray, "networks permutations n"]:
    """Return the `error_curve` from A to each of several networks, under each of `PERMUTATIONS`.

    Args:
        spec: of all of them.
        params_a: float64 arrays, as those of a `Pair`.
        networks: likewise.
        lambdas: in [0, 1].
        points: `grid_points` or `random_points`.
        on_network: called after each network, for progress.
    """
    curves = []
    for params_b in networks:
        orders = (symmetry.apply_permutation(spec, p, params_b) for p in PERMUTATIONS.values())
        curves.append([error_curve(params_a, moved, lambdas, points) for moved in orders])
        if on_network is not None:
            on_network()
    return np.array(curves)


def _line(params_a: PyTree, params_b: PyTree, lambdas: Float[np.ndarray, " n"]) -> Iterator[PyTree]:
    """Yield the networks of `pytrees.lerp`, whose checks take longer than such small networks."""
    params_a, params_b = pytrees.aligned_to_combine(params_a, params_b)
    for lam in lambdas:
        yield jax.tree.map(lambda a, b, lam=lam: (1 - lam) * a + lam * b, params_a, params_b)


def squared_change(
    params_a: PyTree,
    params_b: PyTree,
    lambdas: Float[np.ndarray, " n"],
    points: Float[np.ndarray, "m 2"],
) -> Float[np.ndarray, " n"]:
    """Return the mean of (f - f_A)^2 on the line from A to B; the error sees its sign alone.

    Args:
        params_a: float64 arrays, as those of a `Pair`.
        params_b: permute it first.
        lambdas: in [0, 1].
        points: `grid_points` or `random_points`.
    """
    start = apply_fn(params_a, points)
    line = _line(params_a, params_b, lambdas)
    return np.array([((apply_fn(params, points) - start) ** 2).mean() for params in line])


@checks.arguments
def closed_form_error(name: str, lambdas: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the exact error on the line from A to the permuted B of `opposite_tests`.

    With t the distance to the nearer end: 1/4 wherever t > 0 for the identity and the second swap,
    t / (4 (1 - t)) for both swaps, and (t / (1 - t) + 2 t (1 - t) / (t^2 + (1 - t)^2)) / 8 for the
    first. All reach 1/4 at t = 1/2. The paper draws these curves; the formulas follow from its
    weights.

    Args:
        name: one of `PERMUTATIONS`.
        lambdas: in [0, 1].

    Raises:
        ValueError: for another name, or lambdas outside [0, 1].
    """
    _permutation(name)
    if not ((lambdas >= 0) & (lambdas <= 1)).all():
        raise ValueError(f"Expected lambdas in [0, 1], where the formulas hold; got {lambdas}.")
    near = np.minimum(lambdas, 1 - lambdas)
    far = 1 - near
    if name == "swap both":
        return near / far / 4
    if name == "swap 1":
        return (near / far + 2 * near * far / (near**2 + far**2)) / 8
    return np.where(near > 0, 0.25, 0.0)


@checks.arguments
def train_networks(
    num_networks: checks.Count,
    *,
    seed: checks.Seed = 0,
    num_steps: checks.Count = 4000,
    batch_size: checks.Count = 64,
    learning_rate: checks.Positive = 0.1,
) -> list[PyTree]:
    """Train networks of the counterexample's shape by SGD on its task, from random starts.

    Logistic loss, momentum 0.9, the learning rate falling to 0 along a cosine. Not an experiment of
    the paper. So small a network often fails to learn the task: look at the errors.

    Args:
        num_networks: trained at once, each with starts and batches of its own.
        seed: fixes all of them; the data are `random_points`.
        num_steps: updates.
        batch_size: points an update.
        learning_rate: at the start.

    Returns:
        Trees of float64 NumPy arrays.
    """
    points = random_points()
    data = jnp.asarray(points, jnp.float32), jnp.asarray(true_labels(points), jnp.float32)
    rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    optimizer = optax.sgd(rate, momentum=0.9)

    def loss_fn(params: PyTree, batch: Array) -> Array:
        inputs, labels = (values[batch] for values in data)
        return optax.sigmoid_binary_cross_entropy(apply_fn(params, inputs), labels).mean()

    def train_one(key: Key[Array, ""]) -> PyTree:
        init_key, batch_key = jax.random.split(key)
        params = _random_params(init_key)
        shape = (num_steps, batch_size)
        batches = jax.random.randint(batch_key, shape, 0, len(points))

        def step(carry: tuple[PyTree, PyTree], batch: Array) -> tuple[tuple[PyTree, PyTree], None]:
            params, opt_state = carry
            gradient = jax.grad(loss_fn)(params, batch)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        return params

    stacked = jax.jit(jax.vmap(train_one))(jax.random.split(jax.random.key(seed), num_networks))
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), stacked)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(num_networks)]


def _random_params(key: Key[Array, ""]) -> PyTree:
    keys = iter(jax.random.split(key, 5))
    hidden = [
        {
            "kernel": jax.random.normal(next(keys), (2, 2)),
            "bias": 0.5 * jax.random.normal(next(keys), (2,)),
        }
        for _ in range(2)
    ]
    return {"layers": [*hidden, {"kernel": jax.random.normal(next(keys), (2, 1))}]}


def _pair(layers_a: list[PyTree], layers_b: list[PyTree]) -> Pair:
    params_a, params_b = {"layers": layers_a}, {"layers": layers_b}
    example = jax.ShapeDtypeStruct((1, len(layers_a[0]["kernel"])), jnp.float32)
    return Pair(params_a, params_b, symmetry.infer_permutation_spec(apply_fn, params_a, example))


def _permutation(name: str) -> symmetry.Permutation:
    if name not in PERMUTATIONS:
        raise ValueError(f"Expected a permutation among {list(PERMUTATIONS)}; got {name!r}.")
    return PERMUTATIONS[name]
