"""Entry points x kinds of trees: whatever holds the arrays of a network, the answer is the same."""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, serialization
from flax.core import freeze

import rebasin_lab as rl
from rebasin_lab import matching, pytrees, symmetry
from rebasin_lab.analysis import variance_collapse
from rebasin_lab.matching import baselines, rescaling
from rebasin_lab.training import checkpoints
from tensors import Tensor

SPEC = rl.mlp_permutation_spec(2)


def draw(seed, widths=(8, 12, 12, 10)):
    rng = np.random.default_rng(seed)
    layers = [
        {
            "kernel": rng.standard_normal(shape).astype(np.float32),
            "bias": rng.standard_normal(shape[1]).astype(np.float32),
        }
        for shape in zip(widths[:-1], widths[1:], strict=True)
    ]
    return {"layers": layers}


def apply_fn(params, images):
    """An MLP by the paths of its leaves, whatever holds them."""
    leaf = {path.removesuffix("/value"): x for path, x in pytrees.flatten(params).items()}
    x = images.reshape(len(images), -1)[:, :8]
    for layer in range(3):
        x = x if layer == 0 else jax.nn.relu(x)
        x = x @ leaf[f"layers/{layer}/kernel"] + leaf[f"layers/{layer}/bias"][None]
    return x


class Layer(NamedTuple):
    kernel: Any
    bias: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class DataLayer:
    bias: Any
    kernel: Any


class EquinoxLayer(eqx.Module):
    kernel: Any
    bias: Any
    activation: Any = eqx.field(static=True, default=jax.nn.relu)


class EquinoxNet(eqx.Module):
    layers: list


def each_layer(make):
    return lambda params: {"layers": [make(**layer) for layer in params["layers"]]}


KINDS = {
    "list": lambda params: params,
    "tuple": lambda params: {"layers": tuple(params["layers"])},
    "integer keys": lambda params: {"layers": dict(enumerate(params["layers"]))},
    "text keys": serialization.to_state_dict,
    "FrozenDict": lambda params: freeze({"layers": dict(enumerate(params["layers"]))}),
    "OrderedDict": lambda params: collections.OrderedDict(
        layers=[collections.OrderedDict(reversed(layer.items())) for layer in params["layers"]]
    ),
    "named tuples": each_layer(Layer),
    "dataclasses": each_layer(DataLayer),
    "Equinox": lambda params: EquinoxNet([EquinoxLayer(**x) for x in params["layers"]]),
    "nnx.State of arrays": lambda params: nnx.State({"layers": dict(enumerate(params["layers"]))}),
    "nnx.State": lambda params: nnx.State(
        {"layers": {i: jax.tree.map(nnx.Param, x) for i, x in enumerate(params["layers"])}}
    ),
    "tensors": lambda params: jax.tree.map(Tensor, params),
    "JAX arrays": lambda params: jax.tree.map(jnp.asarray, params),
    "swapped bytes": lambda params: jax.tree.map(
        lambda leaf: leaf.astype(leaf.dtype.newbyteorder()), params
    ),
}


def spec_for(params):
    """The spec by the paths of a tree."""
    return rl.PermutationSpec(
        {path: SPEC.axes[path.removesuffix("/value")] for path in pytrees.flatten(params)}
    )


def options_of(method, data):
    options = {"apply_fn": apply_fn, "data": data} if rl.MATCHERS[method].needs_data else {}
    return options | ({"num_epochs": 1} if method == "straight_through" else {})


def by_path(tree):
    flat = pytrees.flatten(tree)
    return {path.removesuffix("/value"): flat[path] for path in sorted(flat)}


def compared(spec, a, b, data):
    found = rl.compare_matchers(
        spec, a, b, apply_fn=apply_fn, data=data, methods={"weight": {}}, num_lambdas=2
    )
    return [(one.distance, one.curve.as_numbers()) for one in found.values()]


# Of a pair: each returns numbers, or a model in A's structure.
PAIRS = {
    "lerp": lambda spec, a, b, data: rl.lerp(0.3, a, b),
    "lerp under jit": lambda spec, a, b, data: jax.jit(rl.lerp)(0.3, a, b),
    "average": lambda spec, a, b, data: rl.average([a, b]),
    "merge_many": lambda spec, a, b, data: rl.merge_many(spec, [a, b, a]).params,
    "distance": lambda spec, a, b, data: rl.distance(a, b),
    "curve": lambda spec, a, b, data: rl.interpolation_curve(
        apply_fn, a, b, data, num_lambdas=3
    ).as_numbers(),
    "contour": lambda spec, a, b, data: rl.loss_contour(
        apply_fn, a, b, draw(2), data.test_images, data.test_labels, resolution=2
    ).as_numbers(),
    "contour of c": lambda spec, a, b, data: rl.loss_contour(
        apply_fn, a, draw(2), b, data.test_images, data.test_labels, resolution=2
    ).as_numbers(),
    "compare": compared,
    "ensemble": lambda spec, a, b, data: tuple(
        rl.evaluate(rl.ensemble(apply_fn), [a, b], data.test_images, data.test_labels)
    ),
    "similarities": lambda spec, a, b, data: [
        one.matrix
        for one in matching.activation.unit_similarities(spec, a, b, apply_fn=apply_fn, data=data)
    ],
    "weight problem": lambda spec, a, b, data: rescaling.weight_problem(spec, a, b).lengths,
}
PAIRS |= {
    f"match {method}": lambda spec, a, b, data, method=method: (
        rl.match(method, spec, a, b, **options_of(method, data)).objective
    )
    for method in rl.MATCHERS
}
PAIRS |= {
    f"{method} called directly": lambda spec, a, b, data, method=method: (
        rl.MATCHERS[method](spec, a, b, **options_of(method, data)).objective
    )
    for method in rl.MATCHERS
}
# Of one network.
ALONE = {
    "infer": lambda spec, a, data: symmetry.PermutationSpec(
        {
            path.removesuffix("/value"): names
            for path, names in rl.infer_permutation_spec(apply_fn, a, data.test_images).axes.items()
        }
    ),
    "verify": lambda spec, a, data: rl.verify_equivalence(apply_fn, spec, a, data.test_images),
    "evaluate": lambda spec, a, data: tuple(
        rl.evaluate(apply_fn, a, data.test_images, data.test_labels)
    ),
    "calibration": lambda spec, a, data: dataclasses.astuple(
        rl.calibration_summary(apply_fn, a, data.test_images, data.test_labels)
    ),
    "permute": lambda spec, a, data: rl.apply_permutation(
        spec, rl.random_permutation(spec, a, seed=0), a
    ),
    "permutations": lambda spec, a, data: rl.random_permutation(spec, a, seed=0),
    "count": lambda spec, a, data: rl.log10_num_symmetries(spec, a),
    "blocks": lambda spec, a, data: [
        x for _, x in sorted(symmetry.split_into_blocks(spec, a)[1].items())
    ],
    "spread": lambda spec, a, data: list(
        variance_collapse.activation_std(
            symmetry.trace_activations(apply_fn, spec, a, data.test_images), a, data.test_images
        ).values()
    ),
    "number of parameters": lambda spec, a, data: pytrees.num_parameters(a),
    "gradient": lambda spec, a, data: by_path(baselines.train_loss_gradient(apply_fn, a, data)),
}


def assert_alike(got, wanted, like):
    """The same numbers; of a model by path, in the structure and the types of `like`."""
    if jax.tree.structure(wanted) == jax.tree.structure(draw(0)):
        structure = jax.tree.structure(like)
        assert jax.tree.structure(got) == structure
        for one, leaf in zip(jax.tree.leaves(got), jax.tree.leaves(like), strict=True):
            assert np.asarray(one).dtype == np.float32 or isinstance(leaf, Tensor)
        got, wanted = by_path(got), by_path(wanted)
    if isinstance(wanted, symmetry.PermutationSpec):
        assert got.same_as(wanted)
    else:
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, got, wanted)


# Where a compiler or a matcher takes its time, of each kind of difference one.
SLOW = {name for name in PAIRS if name.startswith(("match", *rl.MATCHERS))}
SLOW |= {"merge_many", "compare", "ensemble", "curve", "contour", "contour of c", "similarities"}
SLOW_KINDS = ["text keys", "nnx.State", "tensors", "swapped bytes"]


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_networks_either_may_be_held_by_anything(name, tiny_data):
    a, b = draw(0), draw(1)
    wanted = PAIRS[name](SPEC, a, b, tiny_data)
    for kind in SLOW_KINDS if name in SLOW else KINDS:
        if name == "lerp under jit" and kind in ("tensors", "swapped bytes"):
            continue  # JAX takes neither
        for pair in ((a, KINDS[kind](b)), (KINDS[kind](a), b)):
            got = PAIRS[name](spec_for(pair[0]), *pair, tiny_data)
            assert_alike(got, wanted, pair[0])


@pytest.mark.parametrize("name", ALONE)
def test_a_network_may_be_held_by_anything(name, tiny_data):
    wanted = ALONE[name](SPEC, draw(0), tiny_data)
    for kind in KINDS:
        params = KINDS[kind](draw(0))
        assert_alike(ALONE[name](spec_for(params), params, tiny_data), wanted, params)


FLOATS_ONLY = ("match straight_through", "straight_through called directly", "gradient")
FLOATS_ONLY += ("match steepest_descent", "steepest_descent called directly")

NUMBERS = {
    "int32": np.arange(12, dtype=np.int32),
    "a scalar": np.int64(3),
    "uint8": jnp.arange(12, dtype=jnp.uint8),
    "bool": np.ones(12, bool),
    "a key of old": jax.random.PRNGKey(0),
}
NO_NUMBERS = {
    "a key": jax.random.key(0),
    "a text": "relu",
    "bytes": b"relu",
    "a function": jax.nn.relu,
    "a float of Python": 1.5,
    "an int of Python": 3,
    "a bool of Python": True,
    "objects": np.array([None] * 12),
    "texts": np.array(["a"] * 12),
    "dates": np.array(["2020-01-01"] * 12, "M8[D]"),
    "long doubles": np.zeros(12, np.longdouble),
    "records": np.zeros(12, [("x", "f4")]),
}


def with_extra(leaf):
    """Two networks and a spec with one more leaf, which no permutation moves, in a third one."""
    axes = (None,) * np.ndim(leaf)
    spec = rl.PermutationSpec({**SPEC.axes, "extra": axes})
    return spec, {**draw(0), "extra": leaf}, {**draw(1), "extra": leaf}


def called(name, spec, a, b, data):
    return PAIRS[name](spec, a, b, data) if name in PAIRS else ALONE[name](spec, a, data)


# With a third network of its own, which has no such leaf.
EVERYWHERE = [name for name in (*PAIRS, *ALONE) if not name.startswith("contour")]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_numbers_that_are_no_floats_go_along_everywhere(name, tiny_data):
    for kind in ("a scalar", "bool") if name in SLOW else NUMBERS:
        args = with_extra(NUMBERS[kind])
        if name in FLOATS_ONLY:
            with pytest.raises(ValueError, match="to take a gradient; params(_a)? 'extra' is"):
                called(name, *args, tiny_data)
            continue
        got = called(name, *args, tiny_data)
        if isinstance(got, dict) and "extra" in got:
            jitted = name == "lerp under jit"  # where JAX has 32 bits
            wanted = jnp.asarray(NUMBERS[kind]) if jitted else NUMBERS[kind]
            assert got["extra"].dtype == wanted.dtype
            np.testing.assert_array_equal(got["extra"], NUMBERS[kind])


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused_by_name_everywhere(kind, tiny_data):
    args = with_extra(NO_NUMBERS[kind])
    for name in EVERYWHERE:
        if name == "lerp under jit":
            continue  # JAX refuses it, or makes a number of it
        with pytest.raises(ValueError, match="every leaf to .* '(0/)?extra' is a"):
            called(name, *args, tiny_data)


def test_none_is_no_leaf(tiny_data):
    for name in EVERYWHERE:
        if name not in SLOW:
            _, a, b = with_extra(None)
            called(name, SPEC, a, b, tiny_data)


COMPLEX = np.arange(12) * 1j


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name in PAIRS])
def test_complex_numbers_are_measured_and_averaged_but_not_matched(name, tiny_data):
    args = with_extra(COMPLEX)
    if name in ("lerp", "lerp under jit", "average", "distance", "curve", "ensemble"):
        called(name, *args, tiny_data)
    else:
        with pytest.raises(ValueError, match="Expected (real|floating-point) .* 'extra' is comp"):
            called(name, *args, tiny_data)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named_where_a_matcher_is_called(value, normalize):
    broken = draw(1)
    broken["layers"][1]["kernel"][2, 3] = value
    with pytest.raises(ValueError, match="params_b 'layers/1/kernel' holds 1 NaN or infinite"):
        matching.weight_matching(SPEC, draw(0), broken, normalize=normalize)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_loads_in_its_containers(kind, tmp_path):
    params = KINDS[kind](draw(0))
    checkpoints.save(tmp_path / "net", params, {})
    loaded, _ = checkpoints.load(tmp_path / "net", like=params)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    plain, _ = checkpoints.load(tmp_path / "net")
    for got in (loaded, plain):
        jax.tree.map(np.testing.assert_array_equal, by_path(got), by_path(draw(0)))


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_not_saved_but_for_types_of_numpy(kind, tmp_path):
    _, params, _ = with_extra(NO_NUMBERS[kind])
    if kind in ("texts", "dates", "long doubles"):  # which a file holds bit by bit
        checkpoints.save(tmp_path / "net", params, {})
    else:
        with pytest.raises(ValueError, match="every leaf to be an array of numbers.* 'extra'"):
            checkpoints.save(tmp_path / "net", params, {})


def test_a_spec_without_flax_variables_says_what_to_do():
    params = KINDS["nnx.State"](draw(0))
    for call in (
        lambda: SPEC.validate(params),
        lambda: rl.match("weight", SPEC, params, draw(1)),
        lambda: rl.apply_permutation(SPEC, rl.identity_permutation(SPEC, draw(0)), params),
    ):
        with pytest.raises(ValueError, match="'layers/0/bias' is 'layers/0/bias/value' here.*pure"):
            call()


def test_a_leaf_called_value_is_no_variable_of_flax():
    tree = {"a": {"value": np.ones(2), "bias": np.zeros(2)}}
    assert pytrees.paired(tree, {"a": dict(reversed(tree["a"].items()))})[1]["a"]["value"][0] == 1
    with pytest.raises(ValueError, match="has a leaf 'a/value' and params_b has none"):
        pytrees.paired(tree, {"a": {"bias": np.zeros(2)}})
    both = {"a": np.ones(2), "b": np.zeros(2)}
    assert rl.distance({"a": {"value": np.ones(2)}, "b": np.zeros(2)}, both) == 0
