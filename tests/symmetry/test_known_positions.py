"""Indices that are written in the function: entries taken, in another order, twice, overwritten."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl

TURNS = np.arange(8).reshape(2, 4).T.ravel()  # 0, 4, 1, 5, ...: a channel shuffle
X = jax.random.normal(jax.random.key(9), (16, 8))
ROWS = len(X)


def rolled(h):
    """A loop that hands positions on: they are known at its start only."""

    def step(i, carry):
        total, at = carry
        return total + h[:, at], (at + 1) % 8

    return jax.lax.fori_loop(0, 3, step, (jnp.zeros_like(h), jnp.arange(8)))[0]


# What is done to 8 hidden units -> the sizes of the groups there are.
CHANGES = {
    "shuffled by an index": (lambda h: h[:, TURNS], [4, 4]),
    "taken": (lambda h: jnp.take(h, TURNS, axis=-1), [4, 4]),
    "some": (lambda h: h[:, np.array([1, 3, 5])], [3, 5]),
    "by a mask": (lambda h: h[:, np.arange(8) % 2 == 0], [4, 4]),
    "each twice": (lambda h: h[:, np.repeat(np.arange(8), 2)], [8]),
    "all again": (lambda h: h[:, np.tile(np.arange(8), 2)], [8]),
    "each twice, counted": (lambda h: h[:, jnp.arange(16) // 2], [8]),
    "in rows of two": (lambda h: h[:, np.arange(8).reshape(4, 2)].max(-1), [4, 2]),
    "backwards": (lambda h: h[:, -1 - np.arange(8)], []),
    "one": (lambda h: h + h[:, jnp.int32(3)][:, None], [7]),
    "a block": (lambda h: jax.lax.dynamic_slice_in_dim(h, 2, 4, 1), [4, 4]),
    "a block at the end": (lambda h: jax.lax.dynamic_slice_in_dim(h, 7, 4, 1), [4, 4]),
    "outside": (lambda h: jnp.take(h, np.array([0, 1, 9]), axis=1, mode="clip"), []),
    "written among zeros": (lambda h: jnp.zeros((ROWS, 12)).at[:, 3:11].set(h), [8, 4]),
    "written in turns": (lambda h: jnp.ones((ROWS, 16)).at[:, ::2].set(h), [8, 8]),
    "block among zeros": (
        lambda h: jax.lax.dynamic_update_slice(jnp.zeros((ROWS, 12)), h, (0, 2)),
        [8, 4],
    ),
    "one set": (lambda h: h.at[:, 3].set(0.0), [7]),
    "some scaled": (lambda h: h.at[:, 2:4].multiply(2.0), [6, 2]),
    "some met by others": (lambda h: h.at[:, 2:5].add(h[:, 5:]), [2, 3]),
    "one written twice": (lambda h: h.at[:, np.array([1, 1])].set(0.0), []),
    "changed by a function": (lambda h: h.at[:, 2:4].apply(jnp.exp), []),
    "a loop over positions": (rolled, []),
}


def network(change, params, x):
    h = jax.nn.relu(x @ params["in"] + params["bias"][None])
    return change(h) @ params["out"]


def built(change):
    wide = jax.eval_shape(change, jax.ShapeDtypeStruct((ROWS, 8), jnp.float32)).shape[-1]
    shapes = {"in": (8, 8), "bias": (8,), "out": (wide, 3)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    return functools.partial(network, change), params


@pytest.mark.parametrize("name", CHANGES)
def test_units_taken_at_known_positions_are_free_and_all_orders_found_are_true(name):
    change, sizes = CHANGES[name]
    apply_fn, params = built(change)
    spec = rl.infer_permutation_spec(apply_fn, params, X)
    assert sorted(spec.sizes(params).values()) == sorted(sizes), f"\n{spec}"
    assert rl.verify_equivalence(apply_fn, spec, params, X) < 1e-5
    assert rl.PermutationSpec.from_json(spec.to_json()) == spec


def test_a_shuffle_by_index_and_one_by_reshape_have_the_same_symmetries():
    def shuffled(params, x, how):
        halves = [jax.nn.relu(x @ params["a"]), jnp.tanh(x @ params["b"])]
        return jax.nn.relu(how(jnp.concatenate(halves, -1)) @ params["mix"]) @ params["out"]

    shapes = {"a": (8, 4), "b": (8, 4), "mix": (8, 5), "out": (5, 3)}
    params = {n: jax.random.normal(jax.random.key(k), s) for k, (n, s) in enumerate(shapes.items())}
    by_index, by_reshape = (
        rl.infer_permutation_spec(functools.partial(shuffled, how=how), params, X)
        for how in (
            lambda h: h[:, TURNS],
            lambda h: h.reshape(ROWS, 2, 4).swapaxes(1, 2).reshape(ROWS, 8),
        )
    )
    assert by_index.same_as(by_reshape)
    assert by_index.axes["mix"][0] == "P_0(0:8:2)+P_1(1:8:2)"
