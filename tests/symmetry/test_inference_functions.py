"""Every function of JAX's public modules that takes an array: inference reads it, and is right.

Called on the hidden units of a layer, as it is and differentiated.
"""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rebasin_lab as rl
from numpy_jaxpr import evaluate_each

MODULES = {
    "jax.numpy": jnp,
    "jax.numpy.linalg": jnp.linalg,
    "jax.numpy.fft": jnp.fft,
    "jax.nn": jax.nn,
    "jax.lax": lax,
}
# These read files, talk to other devices, or cannot be called outside of a trace.
SKIPPED = (
    "fromfile genfromtxt infeed loadtxt load outfeed printoptions save savez shape_as_value".split()
)


def functions(module):
    for name in sorted(dir(module)):
        function = getattr(module, name)
        if not (name.startswith("_") or name in SKIPPED or inspect.isclass(function)):
            if callable(function):
                yield name, function


def differentiated(function):
    def total(h):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(h)))

    return jax.grad(total)


WAYS = {"as it is": lambda function: function, "differentiated": differentiated}


def network(change):
    """The function between two layers, whatever it returns."""

    def apply_fn(p, x):
        outputs = jax.tree.leaves(change(jnp.tanh(x @ p["a"])))
        rows = [out if out.ndim else out[None] for out in map(jnp.asarray, outputs)]
        rows = [(jnp.real(row) + 0.5 * jnp.imag(row)).astype(x.dtype) for row in rows]
        return [jnp.sin(row) if row.shape[-1] != 6 else row @ p["o"] for row in rows]

    return apply_fn


def draw(seed):
    rng = np.random.default_rng(seed)
    return {"a": rng.standard_normal((3, 6)), "o": rng.standard_normal((6, 2))}


X = np.random.default_rng(7).standard_normal((4, 3))


def read(change):
    """The network and its spec; None if JAX itself does not take the function so."""
    apply_fn, narrow = network(change), jax.tree.map(np.float32, (draw(0), X))
    try:
        jax.make_jaxpr(apply_fn)(*narrow)
    except Exception:  # it wants other arguments
        return None
    return apply_fn, rl.infer_permutation_spec(apply_fn, *narrow)


def assert_true(apply_fn, spec, where):
    params = draw(1)
    permutation = rl.random_permutation(spec, params, seed=0)
    several = params, rl.apply_permutation(spec, permutation, params)
    before, after = evaluate_each(apply_fn, several, X)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9, err_msg=where)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("way", WAYS)
def test_every_function_is_read_and_what_is_found_is_true(module, way):
    num_free = 0
    for name, function in functions(MODULES[module]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(WAYS[way](function))
            if found is None:
                continue
            if found[1].permutations:
                num_free += 1
                assert_true(*found, f"{module}.{name}, {way}")
    # If fewer, this has become a test of nothing much.
    assert num_free >= {"jax.numpy": 90, "jax.nn": 25, "jax.lax": 25}.get(module, 1)
