"""Telling right specs from wrong ones, on inputs and outputs of any kind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees


def test_right_spec_is_verified(architecture, tiny_data):
    params, images = architecture.init_numpy(0), tiny_data.test_images[:20]
    # As for the logits above; a wrong spec is off by more than 1e-2 (below).
    worst = rl.verify_equivalence(architecture.apply_fn, architecture.spec, params, images)
    assert worst < 1e-5


def test_leaf_left_out_of_a_permutation_is_noticed(architecture, tiny_data):
    params, images = architecture.init_numpy(0), tiny_data.test_images[:20]
    sizes = architecture.spec.all_sizes(params)
    for path, names in architecture.spec.axes.items():
        if any(names):
            wrong = rl.PermutationSpec({**architecture.spec.axes, path: (None,) * len(names)})
            # The leaf left out may have been the one that told a size.
            known = {name: sizes[name] for name in wrong.groups}
            wrong = dataclasses.replace(wrong, group_sizes=known)
            change = rl.verify_equivalence(architecture.apply_fn, wrong, params, images)
            assert change > 1e-2, path


def test_a_spec_wrong_about_a_zero_bias_is_noticed(mlp, tiny_data):
    """At these very parameters, as every fresh network has them, the mistake has no effect."""
    zero = pytrees.map_with_path(
        lambda path, leaf: np.zeros_like(leaf) if path.endswith("bias") else np.asarray(leaf),
        mlp.init(0),
    )
    images = tiny_data.test_images[:20]
    wrong = rl.PermutationSpec({**mlp.spec.axes, "layers/0/bias": (None,)})
    assert rl.verify_equivalence(mlp.apply_fn, mlp.spec, zero, images) < 1e-5
    assert rl.verify_equivalence(mlp.apply_fn, wrong, zero, images) > 1e-3


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        (lambda out: out * np.nan, {}, "finite and not all zero"),
        (lambda out: out * 0, {}, "finite and not all zero"),
        (lambda out: out, {"num_trials": 0}, "num_trials to be a positive int; got 0"),
    ],
)
def test_a_check_that_cannot_tell_is_refused(outputs, options, message):
    spec = rl.PermutationSpec({"w": (None, "P"), "v": ("P", None)})
    params = {"w": np.ones((2, 3), np.float32), "v": np.ones((3, 1), np.float32)}
    with pytest.raises(ValueError, match=message):
        rl.verify_equivalence(
            lambda p, x: outputs(x @ p["w"] @ p["v"]), spec, params, np.ones((1, 2)), **options
        )


SPEC = rl.PermutationSpec({"v": ("P", None), "w": (None, "P")})
WRONG = rl.PermutationSpec({"v": ("P", None), "w": (None, None)})


def two_matrices():
    rng = np.random.default_rng(0)
    return {name: rng.random(shape, np.float32) for name, shape in [("v", (5, 2)), ("w", (3, 5))]}


def test_several_inputs_and_any_tree_of_outputs():
    def apply_fn(params, tokens, mask):
        hidden = params["w"][tokens] * mask[:, None]
        return {"hidden": hidden.sum(), "outputs": (hidden @ params["v"], None)}

    tokens, mask = np.array([0, 2]), {"mask": np.array([1.0, 0.5])}
    apply = lambda params, tokens, tree: apply_fn(params, tokens, tree["mask"])  # noqa: E731
    assert rl.verify_equivalence(apply, SPEC, two_matrices(), tokens, mask) < 1e-5
    assert rl.verify_equivalence(apply, WRONG, two_matrices(), tokens, mask) > 1e-2


def test_described_inputs_are_drawn():
    seen = []

    def apply_fn(params, images, tokens, mask):
        jax.debug.callback(lambda *drawn: seen.append(drawn), images, tokens, mask)
        return jnp.where(mask[:, None], images @ params["w"] @ params["v"], tokens[:, None])

    described = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in [((64, 3), jnp.bfloat16), ((64,), jnp.int32), ((64,), bool)]
    ]
    change = rl.verify_equivalence(apply_fn, SPEC, two_matrices(), *described)
    jax.effects_barrier()
    assert change < 1e-2
    images, tokens, mask = (np.stack(parts) for parts in zip(*seen, strict=True))
    assert abs(float(images.std()) - 1) < 0.2
    assert set(tokens.ravel().tolist()) == {0, 1}
    assert set(mask.ravel().tolist()) == {False, True}
    # Before and after the permutation on the same inputs, and on others in another trial.
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_input_that_cannot_be_drawn_is_refused():
    key = jax.eval_shape(lambda: jax.random.key(0))
    with pytest.raises(
        ValueError, match="floats, integers or booleans to draw; got Shape.*an array"
    ):
        rl.verify_equivalence(lambda params, key: 0, SPEC, two_matrices(), key)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_each_output_is_measured_by_its_own_size(scale):
    def apply_fn(params, inputs):
        right = inputs @ params["w"] @ params["v"]
        return right, scale * (inputs @ params["w"]), 0 * right

    inputs = np.ones((4, 3), np.float32)
    assert rl.verify_equivalence(apply_fn, SPEC, two_matrices(), inputs) > 1e-2


def test_output_that_becomes_nonzero_has_changed():
    def apply_fn(params, inputs):
        return inputs.sum(), params["w"][0] - jnp.sort(params["w"][0])

    params = {"v": np.ones((5, 2), np.float32), "w": np.zeros((3, 5), np.float32)}
    params["w"] += np.arange(5, dtype=np.float32) * 100  # sorted, whatever the shift
    assert rl.verify_equivalence(apply_fn, SPEC, params, np.ones((2, 3))) == pytest.approx(1)


def test_integer_outputs_are_compared_exactly():
    def apply_fn(params, inputs):
        return jnp.argmax(inputs @ params["w"], axis=1).astype(jnp.uint8)

    inputs = np.random.default_rng(1).standard_normal((30, 3)).astype(np.float32)
    assert rl.verify_equivalence(apply_fn, WRONG, two_matrices(), inputs) == 0
    assert rl.verify_equivalence(apply_fn, SPEC, two_matrices(), inputs) > 0.2


def test_integer_parameters_are_not_shifted_and_statistics_stay_positive():
    spec = rl.PermutationSpec({"steps": (), "variance": ("P",)})
    params = {"steps": np.array(7), "variance": np.array([1e-3, 1, 2], np.float32)}

    def apply_fn(params):
        return jnp.sum(1 / jnp.sqrt(params["variance"])) + jnp.log(8 - params["steps"])

    assert rl.verify_equivalence(apply_fn, spec, params) < 1e-5


def test_function_without_outputs_cannot_tell():
    with pytest.raises(ValueError, match="finite and not all zero"):
        rl.verify_equivalence(lambda params: None, SPEC, two_matrices())


def _gated(gate):
    def apply_fn(params, x):
        hidden = jax.nn.relu(x @ params["up"])
        return x @ params["skip"] + gate * (hidden @ params["down"])

    return apply_fn


def _layer_scaled(params, x):
    """A residual block behind a LayerScale and a head that begin at nearly nothing."""
    hidden = jax.nn.relu(x @ params["up"])
    stream = x + params["scale"].reshape(1, -1) * (hidden @ params["down"])
    return x[:, :3] + stream @ params["head"]


def _gated_params(**changes):
    rng = np.random.default_rng(0)
    shapes = {"skip": (8, 3), "up": (8, 12), "down": (12, 3)} | changes
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


X = np.random.default_rng(1).standard_normal((16, 8), np.float32)
SCALED = _gated_params(skip=(1,), down=(12, 8), head=(8, 3)) | {"scale": np.full(8, 1e-6, "f4")}
RIGHT_AXES = {"up": (None, "P"), "down": ("P", None)}
MISTAKES = {
    "left out": {"down": (None, None)},
    "another order": {"down": ("Q", None)},
    "the wrong axis": {"up": (None, None), "down": ("P", None)},
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("gate", [1.0, 1e-3, 1e-6, 1e-8])
@pytest.mark.parametrize("wrong", MISTAKES)
def test_a_mistake_behind_a_small_gate_is_noticed(gate, wrong, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), _gated_params())
    axes = {"skip": (None, None)} | RIGHT_AXES
    right, spec = rl.PermutationSpec(axes), rl.PermutationSpec(axes | MISTAKES[wrong])
    assert rl.verify_equivalence(_gated(gate), right, params, X) < 1e-5
    assert rl.verify_equivalence(_gated(gate), spec, params, X) > 1e-2


@pytest.mark.parametrize("wrong", MISTAKES)
def test_a_mistake_behind_layer_scale_and_a_zero_head_is_noticed(wrong):
    params = SCALED | {"head": np.zeros((8, 3), np.float32)}
    axes = {"skip": (None,), "scale": (None,), "head": (None, None)} | RIGHT_AXES
    right, spec = rl.PermutationSpec(axes), rl.PermutationSpec(axes | MISTAKES[wrong])
    assert rl.verify_equivalence(_layer_scaled, right, params, X) < 1e-5
    assert rl.verify_equivalence(_layer_scaled, spec, params, X) > 1e-2


def test_a_function_that_rounds_to_less_is_taken_as_it_is():
    """Its rounding is not multiplied, and one that refuses float64 is no error."""

    def half(params, x):
        return _gated(1.0)(params, x.astype(jnp.bfloat16))

    def convolved(params, x):  # one type for both operands
        assert params["up"].dtype == jnp.float32
        return _gated(1.0)(params, x)

    spec = rl.PermutationSpec({"skip": (None, None)} | RIGHT_AXES)
    params = _gated_params()
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert rl.verify_equivalence(half, spec, halved, X) < 0.1
    assert rl.verify_equivalence(convolved, spec, params, X) < 1e-5


def test_settings_of_the_caller_stay_as_they_are():
    spec = rl.PermutationSpec({"skip": (None, None)} | RIGHT_AXES)
    before = jax.config.jax_default_matmul_precision
    rl.verify_equivalence(_gated(1.0), spec, _gated_params(), X)
    assert jnp.ones(1).dtype == jnp.float32
    assert jax.config.jax_default_matmul_precision == before
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), _gated_params())
        assert rl.verify_equivalence(_gated(1.0), spec, wide, X) < 1e-5


def test_positions_of_numpy_do_not_keep_a_function_from_being_verified():
    """Traced under both widths of integers, JAX 0.10 cannot compile it in float64."""
    at = np.tile(np.arange(3), 2)

    def apply_fn(params, x):
        return jnp.take(jax.nn.relu(x @ params["a"]), at, axis=-1) @ params["b"]

    rng = np.random.default_rng(0)
    shapes = {"a": (4, 3), "b": (6, 2), "x": (5, 4)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x = params.pop("x")
    jax.make_jaxpr(apply_fn)(params, x)
    right = rl.PermutationSpec({"a": (None, "P"), "b": ("P+P", None)})
    assert rl.verify_equivalence(apply_fn, right, params, x) < 1e-5
    wrong = rl.PermutationSpec({"a": (None, "P"), "b": ("P+3", None)})
    assert rl.verify_equivalence(apply_fn, wrong, params, x) > 1e-2
