"""Whatever of JAX has no rule: the spec that comes out is right, and a warning names the line.

Each of `OPAQUE` does something to the hidden units of one layer in front of another layer, whose
units must stay free.
"""

import functools
import inspect
import re

import jax
import jax.experimental.pallas as pl
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify, io_callback, sparse
from jax.extend.core import Primitive

import rebasin_lab as rl


def result(h):
    return jax.ShapeDtypeStruct(h.shape, h.dtype)


def kernel(h_ref, out_ref):
    out_ref[...] = jnp.sin(h_ref[...])


def pallas(h):
    return pl.pallas_call(kernel, out_shape=result(h), interpret=True)(h)


def pure_callback(h):
    return jax.pure_callback(np.sin, result(h), h, vmap_method="sequential")


def ordered_callback(h):
    return io_callback(np.sin, result(h), h, ordered=True)


def debug(h):
    jax.debug.print("{h}", h=h)
    return h


def foreign(h):
    return jax.ffi.ffi_call("someone_elses", result(h))(h)


def exported(h):
    return jax.export.export(jax.jit(jnp.sin))(result(h)).call(h)


def reference(h):
    ref = jax.new_ref(h)
    ref[...] = jnp.sin(ref[...])
    return ref[...]


def sparse_product(h):
    return (sparse.BCOO.fromdense(jnp.eye(4), nse=4) @ h).astype(h.dtype)


def checked(h):
    def positive(h):
        checkify.check(jnp.all(h < 2), "too large")
        return jnp.sin(h)

    error, out = checkify.checkify(positive, errors=checkify.user_checks)(h)
    return out


def of_the_reader(h):
    return OWN.bind(h)


OWN = Primitive("own_without_a_rule")
OWN.def_abstract_eval(lambda h: h)
OWN.def_impl(lambda h: jnp.sin(h))


def spread(change):
    """On every one of two devices, which need not be there to be traced for."""
    mesh, by = jax.sharding.AbstractMesh((2,), ("d",)), jax.sharding.PartitionSpec

    inside = jax.shard_map(change, mesh=mesh, in_specs=by("d"), out_specs=by("d"))
    return functools.wraps(change)(lambda h: inside(h))


OPAQUE = {
    "a Pallas kernel": pallas,
    "a callback": pure_callback,
    "a callback in order": ordered_callback,
    "a print": debug,
    "a foreign function": foreign,
    "an exported function": exported,
    "a reference": reference,
    "a sparse matrix": sparse_product,
    "a primitive of the reader": of_the_reader,
    "gathered": spread(lambda h: lax.all_gather(h, "d").sum(0)),
    "exchanged": spread(lambda h: lax.all_to_all(h, "d", 0, 0, tiled=True)),
    "scattered sums": spread(lambda h: lax.psum_scatter(jnp.tile(h, (2, 1)), "d", tiled=True)),
}
# These move numbers alone, or are gone once the function is traced.
HARMLESS = {"a check": checked, "the number of a device": spread(lambda h: h * lax.axis_index("d"))}
NOT_COMPUTED_HERE = ("a foreign function", "gathered", "exchanged", "scattered sums")


def example(change):
    def apply_fn(p, x):
        return jnp.tanh(change(jnp.tanh(x @ p["a"])) @ p["b"]) @ p["o"]

    rng = np.random.default_rng(0)
    shapes = {"a": (3, 6), "b": (6, 5), "o": (5, 2)}
    params = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
    return apply_fn, params, rng.standard_normal((4, 3), np.float32)


@pytest.mark.parametrize("name", OPAQUE)
def test_spec_is_right_and_the_warning_names_the_line(name):
    change = OPAQUE[name]
    apply_fn, params, x = example(change)
    with pytest.warns(UserWarning, match="Nothing is known of the symmetries") as caught:
        spec = rl.infer_permutation_spec(apply_fn, params, x)
    [warning] = [w for w in caught if "Nothing is known" in str(w.message)]
    lines, first = inspect.getsourcelines(change)
    [named] = {int(n) for n in re.findall(r"test_opaque.py:(\d+)", str(warning.message))}
    assert first <= named < first + len(lines)
    assert spec.axes["b"][1] == spec.axes["o"][0] is not None
    if name not in NOT_COMPUTED_HERE:
        before = apply_fn(params, x)
        permutation = rl.random_permutation(spec, params, seed=0)
        after = apply_fn(rl.apply_permutation(spec, permutation, params), x)
        np.testing.assert_allclose(before, after, atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HARMLESS)
def test_what_holds_no_units_does_not_warn(name):
    apply_fn, params, x = example(HARMLESS[name])
    assert sorted(rl.infer_permutation_spec(apply_fn, params, x).sizes(params).values()) == [5, 6]
