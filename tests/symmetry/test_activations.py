"""Activations that are read off a function: the law they obey, which there are, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from frameworks import FRAMEWORKS
from numpy_jaxpr import evaluate
from random_networks import grow
from rebasin_lab import symmetry
from rebasin_lab.symmetry.activations import trace_activations
from specs import draw_params, resnet_axes, vgg16_axes

WHERE = ("read", "written", "summed")
F32 = jnp.float32


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, F32)


def draw(*shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(max(shape[-2:][0], 4)), F32)


class InDouble:
    """The activations of a function in float64, by NumPy, which compiles nothing."""

    def __init__(self, activations, params, *inputs):
        self.names = sorted(activations.axes)  # as JAX hands a dict out
        self.closed = jax.make_jaxpr(activations.compute)(params, *inputs)

    def __call__(self, params, *inputs):
        leaves = jax.tree.leaves((params, *inputs))
        return dict(zip(self.names, evaluate(self.closed, leaves), strict=True))


def assert_law(apply_fn, spec, params, *inputs, where="read", seed=0):
    """Permuting the parameters permutes the activations exactly as their entries say."""
    activations = trace_activations(apply_fn, spec, params, *inputs, where=where)
    compute = InDouble(activations, params, *inputs)
    permutation = rl.random_permutation(spec, params, seed=seed)
    before = compute(params, *inputs)
    after = compute(rl.apply_permutation(spec, permutation, params), *inputs)
    said = symmetry.PermutationSpec(activations.axes)
    seen = {name: permutation[name] for name in said.permutations}
    for name, expected in rl.apply_permutation(said, seen, before).items():
        scale = np.abs(before[name]).max()
        # In float64: another order of the sums changes the last digits, a wrong name the first.
        np.testing.assert_allclose(after[name], expected, atol=1e-8 * scale, err_msg=name)
    return activations, before


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("shared", [False, True], ids=["own-order", "shared"])
def test_permuting_parameters_permutes_activations(architecture, where, shared, tiny_data):
    spec = architecture.spec.shared() if shared else architecture.spec
    images = jnp.asarray(tiny_data.test_images[:20])
    params = architecture.init_numpy(0)
    activations, _ = assert_law(architecture.apply_fn, spec, params, images, where=where)
    assert activations.unseen == ()


@functools.cache
def lab_network(name):
    sizes = {"width": 16, "num_heads": 2, "num_blocks": 2} if name == "vit" else {}
    options = {"vit": sizes, "vgg16": {"width_multiplier": 1 / 16}}
    model = rl.Model(name, (16, 16, 3), 10, options.get(name, {"width_multiplier": 1 / 2}))
    return model, draw_params(model)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ["vgg16", "resnet8", "vit"])
def test_permuting_parameters_permutes_activations_of_the_labs_networks(name, where):
    model, params = lab_network(name)
    hand_written = {"vgg16": vgg16_axes(), "resnet8": resnet_axes(1)}
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    spec = (
        rl.PermutationSpec(hand_written[name])
        if name in hand_written
        else rl.infer_permutation_spec(model.apply, params, images)
    )
    activations, _ = assert_law(model.apply, spec, params, images, where=where)
    assert activations.unseen == ()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_permuting_parameters_permutes_activations_in_every_framework(framework, tiny_data):
    subject = FRAMEWORKS[framework]()
    images = jnp.asarray(tiny_data.test_images[:7])
    spec = rl.PermutationSpec(subject.axes)
    activations, values = assert_law(subject.apply_fn, spec, subject.params, images)
    assert list(activations.axes.values()) == [(None, "P_0"), (None, "P_1")]
    assert [value.shape for value in values.values()] == [(7, 20), (7, 20)]


@pytest.mark.parametrize("seed", range(25))
def test_permuting_parameters_permutes_activations_of_random_networks(seed):
    rng = np.random.default_rng(seed)
    network = grow(lambda num_options: int(rng.integers(num_options)))
    spec = rl.infer_permutation_spec(network.apply, network.params, network.inputs)
    params, inputs = network.draw_params(0), network.draw_inputs(0)
    inputs = inputs.astype(network.inputs.dtype)
    for where in WHERE:
        assert_law(network.apply, spec, params, inputs, where=where, seed=seed)


def test_activations_of_an_mlp_are_its_hidden_layers(mlp, tiny_data):
    params, images = mlp.init(0), jnp.asarray(tiny_data.test_images[:9])
    read = trace_activations(mlp.apply_fn, mlp.spec, params, images)
    written = trace_activations(mlp.apply_fn, mlp.spec, params, images, where="written")
    values = read.compute(params, images) | written.compute(params, images)
    hidden = np.asarray(images).reshape(9, -1)
    for layer in range(3):
        kernel, bias = params["layers"][layer]["kernel"], params["layers"][layer]["bias"]
        product = hidden @ np.asarray(kernel)
        hidden = np.maximum(product + np.asarray(bias), 0)
        # float32 sums in another order.
        close = functools.partial(np.testing.assert_allclose, atol=1e-5)
        close(values.pop(f"out of layers/{layer}/kernel"), product)
        close(values.pop(f"into layers/{layer + 1}/kernel"), hidden)
    assert values == {}


def test_only_what_several_layers_add_up_is_summed():
    def apply_fn(params, x, mask):
        stream = x @ params["embed"]  # made by one layer: no sum
        inner = jax.nn.gelu(stream @ params["up"])  # adds x and x^3, of one layer
        stream = stream + inner @ params["down"]
        weights = jnp.einsum("td,hd->ht", stream, params["heads"]) + mask[None]  # of no layer
        stream = jax.nn.relu(stream + jnp.einsum("ht,hd->td", weights, params["values"]))
        return stream @ params["head"]

    shapes = {"embed": (5, 8), "up": (8, 6), "down": (6, 8), "heads": (4, 8), "values": (4, 8)}
    params = {name: draw(*shape) for name, shape in (shapes | {"head": (8, 3)}).items()}
    inputs = draw(7, 5), draw(7)
    spec = rl.infer_permutation_spec(apply_fn, params, *inputs)
    stream, inner, heads = (spec.axes[name][0] for name in ("head", "down", "heads"))
    activations, values = assert_law(apply_fn, spec, params, *inputs, where="summed")
    assert activations.axes == {
        "sum with down": (None, stream),
        "sum with values": (None, stream),
        "into down": (None, inner),
        "into values": (heads, None),
    }
    np.testing.assert_allclose(
        np.maximum(values["sum with values"], 0) @ params["head"],
        apply_fn(params, *inputs),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_sums_of_a_residual_network_are_its_streams(name):
    model, params = lab_network(name)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    spec = rl.infer_permutation_spec(model.apply, params, images)
    activations = trace_activations(model.apply, spec, params, images, where="summed")
    read = trace_activations(model.apply, spec, params, images)
    summed = {site for site in activations.axes if site.startswith("sum with ")}
    streams = {group for site in summed for group in activations.axes[site]} - {None}
    assert len(summed) == {"resnet8": 3, "vit": 4}[name]
    assert len(streams) == {"resnet8": 3, "vit": 1}[name]
    others = {s: names for s, names in read.axes.items() if streams.isdisjoint(names)}
    assert {s: names for s, names in activations.axes.items() if s not in summed} == others


# Of every architecture that is no MLP, what its layers read.
READ = {
    "residual": {
        "into blocks/0/up": (None, "stream"),
        "into blocks/0/down": (None, "inner_0"),
        "into blocks/1/up": (None, "stream"),
        "into blocks/1/down": (None, "inner_1"),
        "into head": (None, "stream"),
    },
    "recurrent": {
        # The first state is zero, whatever the input.
        "into W": (None, "state"),
        "into W (2)": (None, "state"),
        "into head": (None, "state"),
    },
    "convolutional": {
        "into second": (None, None, None, "channels"),
        "into head": (None, "channels"),
    },
    "flattened-convolution": {
        "into dense": (None, None, "channels"),  # 16 positions, each a sample
        "into head": (None, "hidden"),
    },
    "concatenation": {
        "into second#0": (None, "P"),  # the pixels beside them are no units
        "into head#0": (None, "Q"),
        "into head#1": (None, "P"),
    },
    "attention": {
        "into query": (None, None, "stream"),  # keys and values read the same value
        "into product 1": (None, None, "h", "qk[h]"),
        "into product 1 (2)": (None, None, "h", "qk[h]"),
        "into out": (None, None, "h", "v[h]"),
        "into head": (None, "stream"),
    },
    "grouped-convolution": {
        "into grouped": (None, None, None, "g", "c[g]"),
        "into head": (None, "g", "o[g]"),
    },
    "stacked-layers": {
        "into blocks/up": (None, None, "stream"),  # layers are samples of the stream
        "into blocks/down": ("#layer", None, "inner[#layer]"),
        "into head": (None, "stream"),
    },
}


def test_activations_are_what_layers_read(architecture, request):
    params = jax.eval_shape(lambda: architecture.init(0))
    activations = trace_activations(
        architecture.apply_fn, architecture.spec, params, struct(5, 8, 8, 1)
    )
    num_hidden = len(architecture.spec.permutations)
    hidden = {f"into layers/{i + 1}/kernel": (None, f"P_{i}") for i in range(num_hidden)}
    assert activations.axes == READ.get(request.node.callspec.id, hidden)


def test_scanned_layers_are_stacked_like_their_parameters():
    def apply_fn(params, x):
        def block(hidden, layer):
            return hidden + jax.nn.relu(hidden @ layer["up"]) @ layer["down"], None

        return jax.lax.scan(block, x, params, reverse=True)[0]

    def unrolled(params, x):
        seen = {}
        for layer in reversed(range(3)):
            seen[layer] = jax.nn.relu(x @ params["up"][layer])
            x = x + seen[layer] @ params["down"][layer]
        return jnp.stack([seen[layer] for layer in range(3)])

    spec = rl.PermutationSpec(
        {"up": ("#layer", None, "inner[#layer]"), "down": ("#layer", "inner[#layer]", None)}
    )
    params, x = {"up": draw(3, 6, 8), "down": draw(3, 8, 6)}, draw(4, 6)
    activations, values = assert_law(apply_fn, spec, params, x)
    assert activations.axes == {"into down": ("#layer", None, "inner[#layer]")}
    np.testing.assert_allclose(values["into down"], unrolled(params, x), rtol=1e-5, atol=1e-6)


def test_steps_of_a_loop_over_time_are_samples():
    def apply_fn(params, x):  # [batch, time, features]
        def step(state, now):
            return jnp.tanh(state @ params["W"] + now @ params["U"]), None

        state, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 7)), x.swapaxes(0, 1))
        return state @ params["head"]

    spec = rl.PermutationSpec(
        {"W": ("state", "state"), "U": (None, "state"), "head": ("state", None)}
    )
    params = {"W": draw(7, 7), "U": draw(3, 7), "head": draw(7, 2)}
    activations, values = assert_law(apply_fn, spec, params, draw(4, 5, 3))
    assert activations.axes == {"into W": (None, None, "state"), "into head": (None, "state")}
    assert values["into W"].shape == (5, 4, 7)


def test_layers_of_layers_have_both_axes_in_front():
    def apply_fn(params, x):
        def inner(hidden, kernels):
            return jnp.tanh(hidden @ kernels[0]) @ kernels[1], None

        def outer(hidden, stage):
            return jax.lax.scan(inner, hidden, stage)[0], None

        return jax.lax.scan(outer, x, (params["up"], params["down"]))[0]

    spec = rl.PermutationSpec(
        {"up": ("#s", "#l", None, "u[#s,#l]"), "down": ("#s", "#l", "u[#s,#l]", None)}
    )
    params = {"up": draw(2, 3, 4, 5), "down": draw(2, 3, 5, 4)}
    activations, _ = assert_law(apply_fn, spec, params, draw(6, 4))
    assert activations.axes == {"into down": ("#s", "#l", None, "u[#s,#l]")}


def two_layers(params, x, around=lambda f: f, inside=jax.nn.relu):
    hidden = around(lambda x: inside(x @ params["in"]))(x)
    return hidden @ params["out"]


TWO_LAYERS = rl.PermutationSpec({"in": (None, "P"), "out": ("P", None)})


def two_layer_params(num_out=2):
    return {"in": draw(3, 8), "out": draw(8, num_out)}


def _with_own_gradient(f):
    g = jax.custom_vjp(f)
    g.defvjp(lambda x: (f(x), None), lambda _, gradient: (gradient,))
    return g


CALLS = {
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "vmap": jax.vmap,
    "custom_vjp": _with_own_gradient,
    "jit in jit": lambda f: jax.jit(lambda x: jax.jit(f)(x)),
}


@pytest.mark.parametrize("call", CALLS)
def test_activations_inside_calls_are_found(call):
    apply_fn = functools.partial(two_layers, around=CALLS[call])
    for where, name in (("read", "into out"), ("written", "out of in")):
        activations, _ = assert_law(
            apply_fn, TWO_LAYERS, two_layer_params(), draw(5, 3), where=where
        )
        assert activations.axes == {name: (None, "P")}


def test_one_function_called_twice_is_seen_twice():
    def apply_fn(params, x):
        layer = jax.jit(lambda x, kernel: jnp.tanh(x @ kernel))
        return layer(layer(layer(x, params["W"]), params["W"]), params["W"]) @ params["out"]

    spec = rl.PermutationSpec({"W": (None, None), "out": (None, None)})
    params = {"W": draw(4, 4), "out": draw(4, 2)}
    assert trace_activations(apply_fn, spec, params, struct(3, 4)).axes == {}
    spec = rl.PermutationSpec({"W": ("P", "P"), "in": (None, "P"), "out": ("P", None)})
    params |= {"in": draw(3, 4)}
    activations, values = assert_law(
        lambda p, x: apply_fn(p, x @ p["in"]), spec, params, draw(3, 3)
    )
    assert list(activations.axes) == ["into W", "into W (2)", "into W (3)", "into out"]
    hidden = values["into W"]
    for name in ("into W (2)", "into W (3)", "into out"):
        hidden = jnp.tanh(hidden @ params["W"])
        np.testing.assert_allclose(values[name], hidden, atol=1e-6)


def test_branches_and_while_loops_are_left_out():
    def layer(params, hidden):
        return jnp.tanh(hidden @ params["out"]) @ params["in"]

    def branches(params, x):
        hidden = x @ params["in"]
        hidden = jax.lax.cond(x.sum() > 0, lambda h: layer(params, h), jnp.tanh, hidden)
        return jax.lax.fori_loop(0, x[0, 0].astype(int), lambda _, h: layer(params, h), hidden)

    def apply_fn(params, x):
        return branches(params, x) @ params["out"]

    activations, _ = assert_law(apply_fn, TWO_LAYERS, two_layer_params(3), draw(5, 3))
    assert activations.axes == {"into out": (None, "P")}
    activations = trace_activations(
        lambda params, x: branches(params, x).sum(1), TWO_LAYERS, two_layer_params(3), struct(5, 3)
    )
    assert (activations.axes, activations.unseen) == ({}, ("P",))


def test_kernels_made_of_parameters_are_no_activations():
    def apply_fn(params, x):
        kernel = params["down"] @ params["up"]
        return jax.nn.relu(x @ params["in"]) @ (kernel * params["scale"][None]) @ params["out"]

    spec = rl.PermutationSpec(
        {
            "in": (None, "P"),
            "down": ("P", "rank"),
            "up": ("rank", "Q"),
            "scale": ("Q",),
            "out": ("Q", None),
        }
    )
    shapes = {"in": (3, 8), "down": (8, 2), "up": (2, 6), "scale": (6,), "out": (6, 2)}
    params = {name: draw(*shape, seed=1) for name, shape in shapes.items()}
    activations, _ = assert_law(apply_fn, spec, params, draw(5, 3))
    # A kernel goes by the largest parameter in it.
    assert activations.axes == {"into down": (None, "P"), "into out": (None, "Q")}
    assert activations.unseen == ("rank",)


def test_fused_queries_keys_and_values_are_told_apart():
    def apply_fn(params, x):
        fused = (x @ params["qkv"]).reshape(*x.shape[:2], 3, 2, 4)
        query, key, value = (fused[:, :, i] for i in range(3))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return mixed.reshape(*x.shape[:2], -1) @ params["out"]

    params = {"qkv": draw(5, 24), "out": draw(8, 5)}
    spec = rl.infer_permutation_spec(apply_fn, params, struct(2, 6, 5))
    assert spec.axes["qkv"][1] == "P_0*P_1[P_0]+P_0*P_1[P_0]+P_0*P_2[P_0]"
    for where in WHERE:
        activations, _ = assert_law(apply_fn, spec, params, draw(2, 6, 5), where=where)
        assert activations.unseen == ()
    activations = trace_activations(apply_fn, spec, params, draw(2, 6, 5), where="written")
    assert [names[2:] for names in list(activations.axes.values())[:3]] == [
        ("P_0", "P_1[P_0]"),
        ("P_0", "P_1[P_0]"),
        ("P_0", "P_2[P_0]"),
    ]
    assert list(activations.axes)[:3] == ["out of qkv#0", "out of qkv#1", "out of qkv#2"]


def test_one_head_keeps_its_slot():
    def apply_fn(params, x):
        return (
            jax.nn.relu(x @ params["in"]).reshape(*x.shape[:-1], 1, -1).reshape(*x.shape[:-1], -1)
            @ params["out"]
        )

    spec = rl.PermutationSpec(
        {"in": (None, "h*v[h]"), "out": ("h*v[h]", None)}, {"h": 1, "v[h]": 8}
    )
    activations, values = assert_law(apply_fn, spec, two_layer_params(), draw(5, 3))
    assert activations.axes == {"into out": (None, "h", "v[h]")}
    assert values["into out"].shape == (5, 1, 8)


def test_two_orders_on_one_value_are_joint_units_as_long_as_they_are_few():
    def apply_fn(params, x):  # mixes tokens, then channels, as an MLP-Mixer does
        hidden = jnp.tanh(jnp.einsum("btc,tu->buc", x @ params["embed"], params["tokens"]))
        return jnp.einsum("buc,ut->btc", hidden, params["back"]) @ params["head"]

    axes = {"embed": (None, "c"), "tokens": (None, "u"), "back": ("u", None), "head": ("c", None)}
    spec = rl.PermutationSpec(axes)

    def trace(num_channels, num_units):
        sizes = {"embed": (3, num_channels), "tokens": (4, num_units)}
        shapes = sizes | {"back": (num_units, 4), "head": (num_channels, 2)}
        params = {name: struct(*shape) for name, shape in shapes.items()}
        return trace_activations(apply_fn, spec, params, struct(2, 4, 3))

    few, many = trace(32, 128), trace(64, 128)
    assert few.axes["into back"] in {(None, "u", "c"), (None, "c", "u")}
    assert (few.unseen, many.unseen) == ((), ("u",))


def test_a_coarser_spec_names_what_it_moves(mlp):
    params = mlp.init(0)
    axes = mlp.spec.axes | {
        "layers/1/kernel": ("P_0", None),
        "layers/1/bias": (None,),
        "layers/2/kernel": (None, "8*P_2"),  # pairs that move in step
        "layers/2/bias": ("8*P_2",),
        "layers/3/kernel": ("8*P_2", None),
    }
    activations, _ = assert_law(
        mlp.apply_fn, rl.PermutationSpec(axes), params, jnp.ones((5, 8, 8, 1))
    )
    assert activations.axes == {
        "into layers/1/kernel": (None, "P_0"),
        "into layers/3/kernel": (None, None, "P_2"),
    }


def test_another_batch_size_is_traced_anew(mlp, tiny_data):
    params = mlp.init(0)
    activations = trace_activations(mlp.apply_fn, mlp.spec, params, struct(20, 8, 8, 1))
    compute = jax.jit(activations.compute)
    many, few = (compute(params, jnp.asarray(tiny_data.test_images[:n])) for n in (20, 1))
    for name, value in few.items():
        np.testing.assert_allclose(value, many[name][:1], atol=1e-6)


def test_shapes_that_change_the_computation_are_refused():
    def apply_fn(params, x):
        return two_layers(params, x) if x.shape[0] > 1 else x @ params["in"] @ params["out"] * 0

    def other(params, x):
        return two_layers(params, x) if x.shape[0] > 1 else x[:, :2]

    params = two_layer_params()
    trace_activations(apply_fn, TWO_LAYERS, params, struct(4, 3)).compute(params, draw(1, 3))
    activations = trace_activations(other, TWO_LAYERS, params, struct(4, 3))
    with pytest.raises(
        ValueError, match=r"traced with, \['into out'\]; .* \[\(1, 3\)\] it has \[\]"
    ):
        activations.compute(params, draw(1, 3))


def test_half_precision_is_kept():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), two_layer_params())
    activations = trace_activations(two_layers, TWO_LAYERS, params, draw(4, 3).astype(jnp.bfloat16))
    [value] = activations.compute(params, draw(4, 3).astype(jnp.bfloat16)).values()
    assert value.dtype == jnp.bfloat16


def test_parameters_alone_have_no_activations():
    spec = rl.PermutationSpec({"in": (None, None), "out": (None, None)})
    activations = trace_activations(two_layers, spec, two_layer_params(), struct(4, 3))
    assert (activations.axes, activations.unseen) == ({}, ())
    assert activations.compute(two_layer_params(), draw(4, 3)) == {}


REFUSED = {
    "two names for the same units": (
        {"in": (None, "P"), "out": ("Q", None)},
        r"'in' axis 1 and 'out' axis 0 hold the same units; it calls them 'P' and 'Q'",
    ),
    "half a name": (
        {"in": (None, "P"), "out": (None, None)},
        r"'in' axis 1 and 'out' axis 0 hold the same units; it calls them 'P' and '8'",
    ),
    "an output that moves": (
        {"in": (None, "P"), "out": ("P", "Q")},
        r"moves 'out' axis 1 by 'Q', .* Fixed: axis 1 of the output keeps its order",
    ),
    "an input that moves": (
        {"in": ("Q", "P"), "out": ("P", None)},
        r"moves 'in' axis 0 by 'Q', .* Fixed: axis 1 of the input keeps its order",
    ),
    "a missing leaf": ({"in": (None, "P")}, "'out' .* is missing"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_spec_of_another_function_is_refused(mistake):
    axes, message = REFUSED[mistake]
    with pytest.raises(ValueError, match=message):
        trace_activations(two_layers, rl.PermutationSpec(axes), two_layer_params(), struct(4, 3))


def test_units_grouped_in_another_way_are_refused():
    def in_pairs(x):
        half = x.reshape(*x.shape[:-1], 2, 4)
        return (half * jax.nn.softmax(half)).reshape(x.shape)

    apply_fn = functools.partial(two_layers, inside=in_pairs)
    with pytest.raises(ValueError, match=r"takes it apart, 2 \* 4; got 'P', in which the 8 of 'P'"):
        trace_activations(apply_fn, TWO_LAYERS, two_layer_params(), struct(4, 3))

    def split(x):
        left, right = x[..., :3], x[..., 3:]
        return jnp.concatenate([jnp.tanh(left), right], -1)

    apply_fn = functools.partial(two_layers, inside=split)
    with pytest.raises(ValueError, match=r"takes it apart, 3 \+ 5; got 'P', in which the 8 of 'P'"):
        trace_activations(apply_fn, TWO_LAYERS, two_layer_params(), struct(4, 3))
