"""Experts chosen by top_k, argmax or argsort: every order of them, by hand, against inference."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl

SHAPES = {"gate": (8, 4), "up": (4, 8, 10), "down": (4, 10, 4)}
X = jax.random.normal(jax.random.key(1), (64, 8))


def experts(p, x):
    h = jax.nn.relu(jnp.einsum("bi,eih->beh", x, p["up"]))
    return jnp.einsum("beh,eho->beo", h, p["down"])


def mixed(p, x, weights):
    return jnp.einsum("be,beo->bo", weights, experts(p, x))


def one_hot(p, x, scores=lambda s: s):
    top, chosen = jax.lax.top_k(scores(x @ p["gate"]), 2)
    weights = (jax.nn.one_hot(chosen, 4) * jax.nn.softmax(top, -1)[..., None]).sum(1)
    return mixed(p, x, weights)


def gathered(p, x):
    top, chosen = jax.lax.top_k(jax.nn.softmax(x @ p["gate"]), 2)
    h = jax.nn.relu(jnp.einsum("bi,bkih->bkh", x, p["up"][chosen]))
    return jnp.einsum("bk,bkh,bkho->bo", top, h, jnp.take(p["down"], chosen, axis=0))


def summed_before_the_second_product(p, x):
    """Hidden units of two experts meet, so that all experts share their order."""
    top, chosen = jax.lax.top_k(x @ p["gate"], 2)
    h = jnp.einsum("bk,bi,bkih->bh", top, x, p["up"][chosen])
    return jax.nn.relu(h) @ p["down"].sum(0)


def scattered(p, x):
    top, chosen = jax.lax.top_k(x @ p["gate"], 2)
    rows = jnp.arange(len(x))[:, None]
    weights = jnp.zeros((len(x), 4)).at[rows, chosen].set(jax.nn.softmax(top))
    return mixed(p, x, weights)


def put_along(p, x):
    top, chosen = jax.lax.top_k(x @ p["gate"], 2)
    zeros = jnp.zeros((len(x), 4))
    return mixed(p, x, jnp.put_along_axis(zeros, chosen, top, axis=-1, inplace=False))


def taken_along(p, x):
    scores = jax.nn.softmax(x @ p["gate"])
    _, chosen = jax.lax.top_k(jnp.log(scores), 2)
    top = jnp.take_along_axis(scores, chosen, axis=-1)
    return mixed(p, x, (jax.nn.one_hot(chosen, 4) * top[..., None]).sum(1))


def switch(p, x):
    scores = jax.nn.softmax(x @ p["gate"])
    return mixed(p, x, jax.nn.one_hot(jnp.argmax(scores, -1), 4) * scores.max(-1, keepdims=True))


def argsorted(p, x):
    chosen = jnp.argsort(x @ p["gate"], -1)[:, -2:]
    return mixed(p, x, jax.nn.one_hot(chosen, 4).sum(1))


def with_capacity(p, x):
    """The first tokens of each expert are served: an order of tokens, not of experts."""
    chosen = jax.nn.one_hot(jnp.argmax(x @ p["gate"], -1), 4)
    served = chosen * (jnp.cumsum(chosen, 0) <= 10)
    return mixed(p, x, served)


def expert_choice(p, x):
    scores = jax.nn.softmax(x @ p["gate"])
    top, tokens = jax.lax.top_k(scores.T, 8)
    h = jax.nn.relu(jnp.einsum("eti,eih->eth", x[tokens], p["up"]))
    y = jnp.einsum("et,eth,eho->eto", top, h, p["down"])
    return jnp.zeros((len(x), 4)).at[tokens.ravel()].add(y.reshape(-1, 4))


def noisy(p, x):
    noise = jax.random.normal(jax.random.key(0), (64, 4)).max()
    return one_hot(p, x, lambda s: s + noise * 0.1)


def in_a_scan(p, x):
    def token(carry, row):
        return carry, one_hot(p, row[None])[0]

    return jax.lax.scan(token, 0.0, x)[1]


def under_vmap(p, x):
    return jax.vmap(lambda row: gathered(p, row[None])[0])(x)


def thresholded(p, x):
    """Those at least as large as the second: the values alone, so that ties do not matter."""
    scores = x @ p["gate"]
    top, _ = jax.lax.top_k(scores, 2)
    return mixed(p, x, jax.nn.softmax(jnp.where(scores >= top[:, 1:], scores, -jnp.inf)))


def spread_of_scores(p, x):
    """In order, and only their values used."""
    return mixed(p, x, jax.nn.softmax(x @ p["gate"])) * jax.lax.top_k(x @ p["gate"], 4)[0][:, :1]


def rectified(p, x):
    return one_hot(p, x, jax.nn.relu)


def rounded(p, x):
    return one_hot(p, x, jnp.round)


def masked(p, x):
    return one_hot(p, x, lambda s: jnp.where(s > 0, s, -1e9))


def in_bfloat16(p, x):
    return one_hot(p, x, lambda s: s.astype(jnp.bfloat16))


def cancelled(p, x):
    return one_hot(p, x, lambda s: s - s)


def times_zero(p, x):
    return one_hot(p, x, lambda s: s * 0.0)


def numbers_used(p, x):
    """The number of an expert as a number: no symmetry."""
    return one_hot(p, x) + jax.lax.top_k(x @ p["gate"], 2)[1].sum(-1, keepdims=True)


def next_expert(p, x):
    """The expert after the one chosen: no symmetry."""
    chosen = jax.lax.top_k(x @ p["gate"], 1)[1][:, 0]
    return mixed(p, x, jax.nn.one_hot((chosen + 1) % 4, 4))


def shifted_look_up(p, x):
    chosen = jnp.argmax(x @ p["gate"], -1)
    return mixed(p, x, jnp.eye(4)[chosen - 1])


def cumulated_over_experts(p, x):
    chosen = jax.nn.one_hot(jnp.argmax(x @ p["gate"], -1), 4)
    return mixed(p, x, jnp.cumsum(chosen, -1))


def two_tables_misaligned(p, x):
    """The first product is of the best expert, the second of the next one."""
    _, chosen = jax.lax.top_k(x @ p["gate"], 2)
    h = jax.nn.relu(jnp.einsum("bi,bih->bh", x, p["up"][chosen[:, 0]]))
    return jnp.einsum("bh,bho->bo", h, p["down"][chosen[:, 1]])


def by_position_of_another(p, x):
    """Chosen among experts, looked up in a table that is no expert's: that is tied to them."""
    chosen = jnp.argmax(x @ p["gate"], -1)
    return jnp.einsum("bi,bih->bh", x, p["up"][chosen]) @ p["down"][0]


def sorted_tokens(p, x):
    """Tokens put in the order of their experts' numbers, then back."""
    chosen = jnp.argmax(x @ p["gate"], -1)
    order = jnp.argsort(chosen)
    sizes = jnp.bincount(chosen, length=4)
    h = jax.nn.relu(jax.lax.ragged_dot(x[order], p["up"], sizes))
    return jax.lax.ragged_dot(h, p["down"], sizes)[jnp.argsort(order)]


# Function -> whether every order of experts computes the same; found by default; with the option.
ROUTINGS = {
    one_hot: (True, True, True),
    gathered: (True, True, True),
    summed_before_the_second_product: (True, True, True),
    scattered: (True, True, True),
    put_along: (True, True, True),
    taken_along: (True, True, True),
    switch: (True, True, True),
    argsorted: (True, True, True),
    with_capacity: (True, True, True),
    expert_choice: (True, False, False),  # tokens and experts are flattened to one axis
    noisy: (True, True, True),
    in_a_scan: (True, True, True),
    under_vmap: (True, True, True),
    thresholded: (True, True, True),
    spread_of_scores: (True, True, True),
    two_tables_misaligned: (True, True, True),
    rectified: (False, False, True),
    rounded: (False, False, True),
    masked: (False, False, True),
    in_bfloat16: (None, False, True),
    cancelled: (False, False, True),
    times_zero: (False, False, True),
    numbers_used: (False, False, False),
    next_expert: (False, False, False),
    shifted_look_up: (False, False, False),
    cumulated_over_experts: (False, False, False),
    sorted_tokens: (True, False, False),
}


def draw(seed=0):
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(v).astype(np.float32) / 2 for k, v in SHAPES.items()}


def largest_change(apply_fn, params):
    """Over all orders of experts."""
    run = jax.jit(apply_fn)
    expected = run(params, X)
    orders = map(np.array, itertools.permutations(range(4)))
    moved = (
        {"gate": params["gate"][:, q], "up": params["up"][q], "down": params["down"][q]}
        for q in orders
    )
    return max(float(jnp.abs(run(m, X) - expected).max()) for m in moved)


@pytest.mark.parametrize("apply_fn", ROUTINGS, ids=lambda f: f.__name__)
def test_experts_are_free_where_every_order_computes_the_same(apply_fn):
    true, by_default, by_option = ROUTINGS[apply_fn]
    params = draw()
    if true is not None:
        assert (largest_change(apply_fn, params) < 1e-4) == true
    for assume, found in ((False, by_default), (True, by_option)):
        spec = rl.infer_permutation_spec(apply_fn, params, X, assume_no_ties=assume)
        assert (spec.axes["gate"][1] in spec.permutations) == found, f"\n{spec}"
        if true:
            assert rl.verify_equivalence(apply_fn, spec, params, X) < 1e-4
        if found and spec.assumptions:
            assert "no two of the values" in spec.explain("gate", 1)
        if not found:
            assert not spec.assumptions
            assert spec.explain("gate", 1).startswith("Fixed")


@pytest.mark.parametrize("apply_fn", [thresholded, spread_of_scores])
def test_values_in_order_need_no_assumption(apply_fn):
    spec = rl.infer_permutation_spec(apply_fn, draw(), X)
    assert spec.axes["gate"][1] is not None
    assert not spec.assumptions


def test_dense_experts_have_hidden_units_of_their_own_and_looked_up_ones_share_them():
    params = draw()
    own = rl.infer_permutation_spec(one_hot, params, X)
    assert own.sizes(params) == {"P_0": 4, "P_1[P_0]": 10}
    shared = rl.infer_permutation_spec(gathered, params, X)
    assert shared.sizes(params) == {"P_0": 4, "P_1": 10}


def test_what_is_assumed_is_kept_and_shown():
    spec = rl.infer_permutation_spec(one_hot, draw(), X)
    [assumed] = spec.assumptions
    assert assumed.startswith("no two of the values that top_k compares at test_inference_choices")
    again = rl.PermutationSpec.from_json(spec.to_json())
    assert again == spec
    assert again.assumptions == (assumed,)
    for text in (str(spec), spec._repr_html_(), spec.explain("gate", 1)):
        assert assumed in text
    assert spec.shared().assumptions == spec.renamed().assumptions == (assumed,)
    without = rl.PermutationSpec(spec.axes, spec.group_sizes)
    assert without.same_as(spec)
    assert "assumptions" not in without.to_json()
    with pytest.raises(ValueError, match="'assumptions' to be a list of texts; got 3"):
        rl.PermutationSpec.from_json(json.dumps(json.loads(spec.to_json()) | {"assumptions": 3}))


def test_explanation_names_ties_where_they_hold_experts():
    spec = rl.infer_permutation_spec(rectified, draw(), X)
    assert "of equal values the first wins" in spec.explain("gate", 1)
    assert "see assume_no_ties" in spec.explain("gate", 1)


@pytest.mark.parametrize("method", ["weight", "activation"])
def test_planted_order_of_experts_is_found(method):
    params = draw()
    for spec in (
        rl.infer_permutation_spec(one_hot, params, X),
        rl.PermutationSpec(
            {"gate": (None, "E"), "up": ("E", None, "H[E]"), "down": ("E", "H[E]", None)}
        ),
    ):
        moved = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=3), params)
        options = {} if method == "weight" else {"apply_fn": one_hot, "data": [X]}
        found = rl.match(method, spec, params, moved, seed=0, **options).permutation
        assert rl.distance(params, rl.apply_permutation(spec, found, moved)) < 1e-4


ONE_SCORE = {
    "squeezed": lambda scores: jnp.squeeze(scores, -1),
    "squeezed with another": lambda scores: jnp.squeeze(scores[:, None], (1, 2)),
    "squeezed in front": lambda scores: jnp.squeeze(scores.T, 0),
    "taken": lambda scores: scores[:, 0],
    "reshaped": lambda scores: scores.reshape(-1),
    "moved, then squeezed": lambda scores: jnp.squeeze(scores[:, :, None].transpose(1, 0, 2), 0),
    "summed": lambda scores: scores.sum(-1),
}


@pytest.mark.parametrize("case", ONE_SCORE)
def test_an_axis_of_one_score_may_go(case):
    def apply_fn(params, x):
        return ONE_SCORE[case](jax.nn.relu(x @ params["up"]) @ params["down"])

    rng = np.random.default_rng(0)
    params = {
        "up": rng.standard_normal((3, 4), np.float32),
        "down": rng.standard_normal((4, 1), np.float32),
    }
    x = rng.standard_normal((5, 3), np.float32)
    spec = rl.infer_permutation_spec(apply_fn, params, x)
    assert list(spec.sizes(params).values()) == [4]
    assert rl.verify_equivalence(apply_fn, spec, params, x) < 1e-5
