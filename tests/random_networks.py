"""Random networks for the tests of inference: programs over small arrays.

A network is a tuple of small whole numbers, `Network.choices`. Building it draws on them one by
one: which layer comes next, what it acts on, how wide it is. So one number less is a simpler
network, Hypothesis can shrink it, and `Network(choices)` gives back any network that a test
printed. `Builder` is what layers see: while a network is drawn it asks Hypothesis for every choice
and notes the shapes of parameters, later it repeats the choices with real parameters.

Arrays are [batch, ..., units]; images are [batch, 4, 4, channels] or smaller.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

UNITS = (4, 3, 6, 2)
MAX_UNITS = 24
MAX_ENTRIES = 1200
MAX_DEPTH = 2  # of blocks inside loops, calls and branches
INPUTS = {
    "vector": ((2, 3), np.float32),
    "sequence": ((2, 3, 2), np.float32),
    "image": ((2, 4, 4, 2), np.float32),
    "tokens": ((2, 3), np.int32),
}
NUM_TOKENS = 5

Choose = Callable[[int], int]  # how many options -> the index of one


class Builder:
    """The state of one network under construction.

    Attributes:
        choices: all choices made so far.
        shapes: of the parameters met so far; a parameter is called by its number.
        lines: what was built, in words.
        values: what later layers can act on, the newest last.
        used: the numbers of those that some layer acted on.
    """

    def __init__(self, choices: Sequence[int], choose: Choose | None, params: dict | None):
        self.choices = list(choices)
        self.choose = choose
        self.params = params
        self.shapes: list[tuple[int, ...]] = []
        self.lines: list[str] = []
        self.values: list[Any] = []
        self.used: set[int] = set()
        self.embeddings: list[Any] = []
        self.position = self.num_params = self.depth = 0

    def pick(self, options: Sequence[Any]) -> Any:
        """One of the options; the first is the simplest."""
        if self.position == len(self.choices):
            self.choices.append(self.choose(len(options)) if self.choose else 0)
        choice = self.choices[self.position]
        self.position += 1
        return options[choice % len(options)]

    def chance(self, one_in: int) -> bool:
        """True once in so many times."""
        return self.pick([False] * (one_in - 1) + [True])

    def param(self, *shape: int) -> Any:
        """A parameter; sometimes one that is already in use elsewhere."""
        same = [i for i in range(self.num_params) if self.shapes[i] == shape]
        if same and self.chance(4):
            return self._param(self.pick(same[::-1]))
        self.num_params += 1
        if self.num_params > len(self.shapes):
            self.shapes.append(shape)
        return self._param(self.num_params - 1)

    def param_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Name -> shape of each parameter."""
        shapes = enumerate(self.shapes)
        return {f"p{i}": jax.ShapeDtypeStruct(shape, np.float32) for i, shape in shapes}

    def _param(self, number: int) -> Any:
        if self.params is None:
            return jnp.ones(self.shapes[number], jnp.float32)
        return self.params[f"p{number}"]

    def units(self) -> int:
        """The width of a new layer; often that of some value, so that they can be added."""
        known = [v.shape[-1] for v in self.values if v.shape[-1] in UNITS]
        return self.pick([*UNITS, *known[::-1]])

    def value(self, fits: Callable[[Any], bool] = lambda value: True) -> Any:
        """An earlier value, more often a late one; None if none fits."""
        found = [i for i, v in enumerate(self.values) if fits(v)][::-1]
        if not found:
            return None
        chosen = self.pick(found[:1] * 3 + found)
        self.used.add(chosen)
        return self.values[chosen]

    def block(self, function: Callable) -> Callable:
        """A function that makes the same choices whenever it is traced again."""
        begins: list[tuple[int, int]] = []

        def traced(*arguments: Any) -> Any:
            if not begins:
                begins.append((self.position, self.num_params))
                return function(*arguments)
            now = self.position, self.num_params
            self.position, self.num_params = begins[0]
            result = function(*arguments)
            self.position, self.num_params = now
            return result

        return traced

    def inner(self, x: Any, layers: Sequence[Callable] | None = None) -> Any:
        """A few layers on x alone."""
        outside, self.values, self.used = (self.values, self.used), [x], set()
        self.depth += 1
        for _ in range(self.pick([1, 2, 3])):
            self.step(layers)
        self.depth -= 1
        result = self.values[-1]
        for i, value in enumerate(self.values[:-1]):
            if i not in self.used:  # it should not be without effect
                result = result + jnp.tanh(value.mean())
        self.values, self.used = outside
        return result

    def same(self, x: Any, layers: Sequence[Callable] | None = None) -> Any:
        """A few layers that end in the shape of x."""
        return fitted(self, self.inner(x, layers), x.shape)

    def step(self, layers: Sequence[Callable] | None = None) -> None:
        """One more layer."""
        x = self.value()
        allowed = [f for f in layers or LAYERS if self.depth < MAX_DEPTH or f not in NESTED]
        layer = self.pick([f for f in allowed if FITS[f](x)])
        line = len(self.lines)
        self.lines.append("")
        result = layer(self, x)
        self.lines[line] = f"{'  ' * self.depth}{layer.__name__} {x.shape} -> {result.shape}"
        if result.shape[-1] > MAX_UNITS or result.size > MAX_ENTRIES:
            result = result.mean(-1, keepdims=True) if self.chance(2) else dense(self, result)
        self.values.append(result)


def run(build: Builder, inputs: Any) -> Any:
    """The outputs of the network that the builder's choices describe."""
    x = inputs
    if x.dtype == jnp.int32:
        x = embedding(build, x)
    build.values.append(x)
    for _ in range(build.pick([2, 3, 4, 5, 6, 8])):
        build.step()
    # What no layer has used goes into an output, so that no mistake about it can hide.
    ends = [v for i, v in enumerate(build.values) if i not in build.used]
    return [readout(build, x) for x in ends]


@dataclasses.dataclass(frozen=True)
class Network:
    """One random network."""

    choices: tuple[int, ...]

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """The shape and type of its one input."""
        shape, dtype = list(INPUTS.values())[self.choices[0] % len(INPUTS)]
        return jax.ShapeDtypeStruct(shape, dtype)

    @functools.cached_property
    def params(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of its parameters."""
        return self._build(None).param_shapes()

    def apply(self, params: dict, inputs: Any) -> list[Any]:
        """The network itself."""
        return run(Builder(self.choices[1:], None, params), inputs)

    def draw_params(self, seed: int) -> dict[str, np.ndarray]:
        """Parameters in general position, of a scale that keeps activations moderate."""
        rng = np.random.default_rng(seed)
        return {
            name: rng.standard_normal(leaf.shape) * 1.5 / math.sqrt(max([2, *leaf.shape[-2:]]))
            for name, leaf in self.params.items()
        }

    def draw_inputs(self, seed: int) -> np.ndarray:
        """Inputs in general position, or tokens."""
        rng, inputs = np.random.default_rng([seed, 1]), self.inputs
        if inputs.dtype == np.int32:
            return rng.integers(0, NUM_TOKENS, inputs.shape, np.int32)
        return rng.standard_normal(inputs.shape)

    def __repr__(self) -> str:
        lines = "".join(f"\n#   {line}" for line in self._build(None).lines)
        return f"Network({self.choices}){lines}\n"

    def _build(self, choose: Choose | None) -> Builder:
        build = Builder(self.choices[1:], choose, None)
        jax.make_jaxpr(lambda inputs: run(build, inputs))(self.inputs)
        return build


def grow(choose: Choose) -> Network:
    """A network from a source of choices."""
    seed = Network((choose(len(INPUTS)),))
    build = seed._build(choose)
    network = Network((*seed.choices, *build.choices))
    network.__dict__["params"] = build.param_shapes()  # known already, so not built for it again
    return network


@st.composite
def networks(draw: Callable) -> Network:
    """Random networks."""
    return grow(lambda num_options: draw(_below(num_options)) if num_options > 1 else 0)


_STRATEGIES: dict[int, st.SearchStrategy] = {}


def _below(num_options: int) -> st.SearchStrategy:
    return _STRATEGIES.setdefault(num_options, st.integers(0, num_options - 1))


# What layers are made of.


def along(net: Builder, vector: Any, x: Any) -> Any:
    """A vector that goes with the last axis of x."""
    ones = (1,) * (x.ndim - 1)
    match net.pick(["reshape", "index", "broadcast"]):
        case "reshape":
            return vector.reshape(*ones, -1)
        case "index":
            return vector[(None,) * (x.ndim - 1)]
    return jnp.broadcast_to(vector, x.shape)


def vector(net: Builder, size: int) -> Any:
    """A bias or a scale, or what serves as one."""
    match net.pick(["plain"] * 6 + ["row", "column", "sum", "product"]):
        case "row":
            return net.param(2, size)[net.pick([0, 1])]
        case "column":
            return net.param(size, 2)[:, net.pick([0, 1])]
        case "sum":
            return net.param(3, size).sum(0)
        case "product":
            return net.param(3) @ net.param(3, size)
    return net.param(size)


def weight(net: Builder, *shape: int) -> Any:
    """A weight of this shape, or an expression that serves as one."""
    forms: list[str] = ["plain"] * 8 + ["transposed", "layer", "normed", "columns", "standard"]
    forms += ["flat", "scaled", "softmax", "halves", "masked"]
    if len(shape) == 2:
        forms += ["low rank", "low rank"] + ["symmetric", "gram"] * (shape[0] == shape[1])
    match net.pick(forms):
        case "transposed":
            return net.param(*shape[::-1]).T
        case "layer":
            return net.param(3, *shape)[net.pick([0, 1, 2])]
        case "normed":
            w = net.param(*shape)
            lengths = jnp.sqrt((w**2).sum(tuple(range(w.ndim - 1)), keepdims=True) + 1e-3)
            return w / lengths * along(net, vector(net, shape[-1]), w)
        case "columns":
            w = net.param(*shape[:-1], shape[-1] + net.pick([2, shape[-1]]))
            return w[..., : shape[-1]] if net.chance(2) else w[..., -shape[-1] :]
        case "standard":
            w, axis = net.param(*shape), net.pick([0, len(shape) - 1])
            centred = w - w.mean(axis, keepdims=True)
            return centred / jnp.sqrt(w.var(axis, keepdims=True) + 1e-3)
        case "flat":
            return net.param(math.prod(shape)).reshape(shape)
        case "scaled":
            w = net.param(*shape)
            return w * along(net, vector(net, shape[-1]), w)
        case "softmax":
            return 2 * jax.nn.softmax(net.param(*shape), net.pick([0, -1]))
        case "halves":
            axis = net.pick([0, len(shape) - 1])
            first = max(shape[axis] // 2, 1)
            parts = [first, shape[axis] - first]
            pieces = [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts if part]
            return jnp.concatenate([net.param(*piece) for piece in pieces], axis)
        case "masked":
            rows, columns = shape[0], shape[-1]
            mask = np.add.outer(np.arange(rows), np.arange(columns)) % 3 > 0
            return net.param(*shape) * mask.reshape(rows, *(1,) * (len(shape) - 2), columns)
        case "low rank":
            rank = net.pick([2, 3])
            return net.param(shape[0], rank) @ net.param(rank, shape[1])
        case "symmetric":
            w = net.param(*shape)
            return w + w.T
        case "gram":
            w = net.param(*shape)
            return w @ w.T if net.chance(2) else w.T @ w
    return net.param(*shape)


def activation(net: Builder, x: Any) -> Any:
    """Some nonlinearity."""
    match net.pick(["tanh", "relu", "none", "gelu", "silu", "softplus", "sin", "square", "where"]):
        case "tanh":
            return jnp.tanh(x)
        case "relu":
            return jax.nn.relu(x)
        case "gelu":
            return jax.nn.gelu(x)
        case "silu":
            return jax.nn.silu(x)
        case "softplus":
            return jax.nn.softplus(x)
        case "sin":
            return jnp.sin(x)
        case "square":
            return jnp.tanh(x) ** 2
        case "where":
            return jnp.where(x > 0, x, 0.1 * x)
    return x


def linear(net: Builder, x: Any, units: int) -> Any:
    """x times a weight, in one of the ways people write it."""
    size = x.shape[-1]
    match net.pick(["matmul", "einsum", "out in", "dot", "vmap", "sum"]):
        case "einsum":
            return jnp.einsum("...i,io->...o", x, weight(net, size, units))
        case "out in":
            return jnp.einsum("...i,oi->...o", x, weight(net, units, size))
        case "dot":
            return jnp.dot(x, weight(net, units, size).T)
        case "vmap":
            rows = jax.vmap(lambda row, x: x @ row, in_axes=(0, None), out_axes=-1)
            return rows(weight(net, units, size), x)
        case "sum":
            w = weight(net, size, units)
            return (x[..., None] * w.reshape(*(1,) * (x.ndim - 1), size, units)).sum(-2)
    return x @ weight(net, size, units)


def fitted(net: Builder, x: Any, shape: tuple[int, ...]) -> Any:
    """x brought to some shape, by means a network has."""
    if x.shape == shape:
        return x
    if x.shape[:-1] == shape[:-1]:
        return linear(net, x, shape[-1])
    if x.ndim > len(shape):
        return fitted(net, x.mean(tuple(range(1, 1 + x.ndim - len(shape)))), shape)
    if x.ndim < len(shape):
        while x.ndim < len(shape):
            x = jnp.expand_dims(x, max(x.ndim - 1, 0))
        return fitted(net, x, shape)
    leading = tuple(
        have == want or have == 1 for have, want in zip(x.shape[:-1], shape[:-1], strict=True)
    )
    for axis, fits in enumerate(leading):
        if not fits:
            x = x.mean(axis, keepdims=True)
    return jnp.broadcast_to(linear(net, x, shape[-1]), shape)


def normed(x: Any, axes: tuple[int, ...] | int) -> Any:
    """x with mean zero and variance one over some axes."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axes, keepdims=True) + 0.1)


# Layers.


def embedding(net: Builder, tokens: Any) -> Any:
    """A row of a table for every token."""
    table = net.param(NUM_TOKENS, net.units())
    net.embeddings.append(table)
    match net.pick(["index", "take", "one hot", "vmap"]):
        case "index":
            x = table[tokens]
        case "take":
            x = jnp.take(table, tokens, axis=0)
        case "one hot":
            x = jax.nn.one_hot(tokens, NUM_TOKENS) @ table
        case "vmap":
            x = jax.vmap(lambda row: table[row])(tokens)
    if net.chance(2):
        x = x + net.param(*x.shape[1:])[None]
    return x


def readout(net: Builder, x: Any) -> Any:
    """An output; most leave the units free."""
    kinds = ["dense"] * 6 + ["sum", "mean", "max", "as it is", "norm", "pooled", "flat"]
    tables = [table for table in net.embeddings if table.shape[1] == x.shape[-1]]
    match net.pick(kinds + ["tied"] * 4 * len(tables)):
        case "sum":
            return x.sum(-1)
        case "mean":
            return x.mean(tuple(range(1, x.ndim)))
        case "max":
            return x.max(-1)
        case "as it is":
            return x
        case "norm":
            return (x**2).sum(-1)
        case "pooled":
            return x.mean(tuple(range(1, x.ndim - 1))) @ net.param(x.shape[-1], 2)
        case "flat":
            return x.reshape(x.shape[0], -1) @ net.param(math.prod(x.shape[1:]), 2)
        case "tied":
            return x @ net.pick(tables).T
    return x @ net.param(x.shape[-1], 3)


def dense(net: Builder, x: Any) -> Any:
    y = linear(net, x, net.units())
    if net.chance(2):
        y = y + along(net, vector(net, y.shape[-1]), y)
    return activation(net, y)


def skip(net: Builder, x: Any) -> Any:
    """Meets an earlier value of equal shape, or one brought to it."""
    other = net.value(lambda v: v.shape == x.shape and v is not x)
    if other is None:
        other = fitted(net, net.value(), x.shape)
    match net.pick(["add", "add", "add", "multiply", "gate", "maximum", "stack", "mix", "where"]):
        case "multiply":
            return x * other
        case "gate":
            return x * jax.nn.sigmoid(other)
        case "maximum":
            return jnp.maximum(x, other)
        case "stack":
            return jnp.stack([x, other], net.pick([0, 1, -1])).sum(net.pick([0, -1]))
        case "mix":
            return x + along(net, vector(net, x.shape[-1]), x) * other
        case "where":
            return jnp.where(x > other, x, jnp.tanh(other))
    return x + other


def norm(net: Builder, x: Any) -> Any:
    size = x.shape[-1]
    kinds = ["layer", "rms", "batch eval", "batch train", "length", "instance"]
    kinds += [f"group {n}" for n in (2, 3) if size % n == 0 and size > n]
    kind = net.pick(kinds)
    match kind:
        case "layer":
            y = normed(x, -1)
        case "rms":
            y = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 0.1)
        case "batch eval":
            mean, variance = (along(net, vector(net, size), x) for _ in range(2))
            y = (x - mean) * jax.lax.rsqrt(variance**2 + 0.1)
        case "batch train":
            y = normed(x, tuple(range(x.ndim - 1)))
        case "length":
            y = x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 0.1)
        case "instance":
            y = normed(x, tuple(range(1, x.ndim - 1)) or -1)
        case _:
            groups = x.reshape(*x.shape[:-1], int(kind[-1]), -1)
            axes = (-1, *range(1, x.ndim - 1)) if net.chance(2) else -1
            y = normed(groups, axes).reshape(x.shape)
    if net.chance(2):
        y = y * along(net, vector(net, size), y)
        y = y + along(net, vector(net, size), y) if net.chance(2) else y
    return y


def gated(net: Builder, x: Any) -> Any:
    """A gated linear unit, its two halves cut out of one product."""
    n = net.units()
    y = linear(net, x, 2 * n)
    if net.chance(2):
        y = y + along(net, vector(net, 2 * n), y)
    lead = y.shape[:-1]
    match net.pick(["split", "slice", "leading", "trailing", "unstack"]):
        case "split":
            a, b = jnp.split(y, 2, -1)
        case "slice":
            a, b = y[..., :n], y[..., n:]
        case "leading":
            a, b = (y.reshape(*lead, 2, n)[..., i, :] for i in range(2))
        case "trailing":
            a, b = (y.reshape(*lead, n, 2)[..., i] for i in range(2))
        case "unstack":
            a, b = jnp.moveaxis(y.reshape(*lead, 2, n), -2, 0)
    return a * jax.nn.sigmoid(b)


def concat(net: Builder, x: Any) -> Any:
    """Laid end to end with other values, as in a DenseNet."""
    fits = lambda v: v.shape[:-1] == x.shape[:-1]  # noqa: E731
    parts = [x, net.value(fits)]
    if net.chance(3):
        parts.append(net.value(fits))
    if net.chance(3):
        parts.reverse()
    if net.chance(4):
        parts.append(dense(net, x))
    if sum(part.shape[-1] for part in parts) > MAX_UNITS:
        parts = [part.mean(-1, keepdims=True) for part in parts]
    return jnp.concatenate(parts, -1)


def blocks_meet(net: Builder, x: Any) -> Any:
    """Two concatenations, cut at different points, are added up."""
    parts = [[dense(net, x) for _ in range(net.pick([2, 1, 3]))] for _ in range(2)]
    left, right = (jnp.concatenate(part, -1) for part in parts)
    if left.shape != right.shape:
        right = fitted(net, right, left.shape)
    return left + right if net.chance(2) else left * jnp.tanh(right)


def flatten(net: Builder, x: Any) -> Any:
    """All that one example holds in one vector."""
    if net.chance(3):
        x = jnp.moveaxis(x, -1, 1)
    return x.reshape(x.shape[0], -1)


def channels_per_head(net: Builder, x: Any) -> tuple[Any, int, int]:
    """x with its units as [heads, units of a head]."""
    size = x.shape[-1]
    heads = net.pick([n for n in range(2, size) if size % n == 0] or [1])
    return x.reshape(*x.shape[:-1], heads, size // heads), heads, size // heads


def per_head(net: Builder, x: Any) -> Any:
    """Something is done inside heads, or between them."""
    y, heads, size = channels_per_head(net, x)
    new = net.pick([size, *UNITS[:3]])
    kinds = ["own weight", "shared weight", "softmax", "norm", "scale", "shared scale"]
    match net.pick([*kinds, "mix heads", "between", "gate", "transposed", "merge"]):
        case "own weight":
            y = jnp.einsum("...hd,hde->...he", y, net.param(heads, size, new))
        case "shared weight":
            y = y @ weight(net, size, new)
        case "softmax":
            y = jax.nn.softmax(y, net.pick([-1, -2]))
        case "norm":
            y = normed(y, net.pick([-1, -2]))
        case "scale":
            y = y * net.param(heads, size).reshape(*(1,) * (y.ndim - 2), heads, size)
        case "shared scale":
            y = y * along(net, vector(net, size), y)
        case "mix heads":
            y = jnp.einsum("...hd,hg->...gd", y, weight(net, heads, net.pick([heads, 2, 3])))
        case "between":
            y = y + y.mean(net.pick([-1, -2]), keepdims=True)
        case "gate":
            scores = jnp.einsum("...hd,hd->...h", y, net.param(heads, size))
            y = y * jax.nn.sigmoid(scores)[..., None]
        case "transposed":
            y = y.swapaxes(-1, -2)
        case "merge":
            return y.sum(-2) if net.chance(2) else y.max(-1)
    return y.reshape(*x.shape[:-1], -1)


def shuffle(net: Builder, x: Any) -> Any:
    """Channel shuffle, as between grouped convolutions."""
    return channels_per_head(net, x)[0].swapaxes(-1, -2).reshape(x.shape)


def rotated(x: Any, how: str) -> Any:
    """Rotary-like embedding: halves or pairs turn by an angle that depends on the position."""
    size = x.shape[-1]
    angles = np.arange(x.shape[-3])[:, None] / 3.0 ** np.arange(size // 2)
    cos, sin = (f(angles)[:, None, :].astype(np.float32) for f in (np.cos, np.sin))
    lead = (1,) * (x.ndim - 3)
    cos, sin = (jnp.asarray(table).reshape(*lead, *table.shape) for table in (cos, sin))
    if how == "halves":
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


def attention(net: Builder, x: Any) -> Any:
    """Self-attention over the last axis but one, in many layouts."""
    heads, size = net.pick([(2, 2), (2, 3), (3, 2), (2, 4)])
    shared = net.pick([1, 1, 1, 2])  # query heads per key head
    lead, units = x.shape[:-1], x.shape[-1]
    width = heads * size
    fused = net.pick(["separate", "split", "3hd", "h3d", "transposed", "hd3", "slices"])
    if shared > 1 or fused == "separate":
        q = linear(net, x, shared * width).reshape(*lead, shared * heads, size)
        k, v = (linear(net, x, width).reshape(*lead, heads, size) for _ in range(2))
        if shared > 1:
            spread = net.pick(["repeat", "tile", "broadcast"])
            k, v = (_spread(a, shared, spread) for a in (k, v))
    else:
        y = x @ weight(net, units, 3 * width)
        if net.chance(2):
            y = y + along(net, vector(net, 3 * width), y)
        match fused:
            case "split":
                parts = jnp.split(y, 3, -1)
            case "slices":
                parts = [y[..., i * width : (i + 1) * width] for i in range(3)]
            case "3hd":
                parts = [y.reshape(*lead, 3, heads, size)[..., i, :, :] for i in range(3)]
            case "transposed":
                parts = jnp.moveaxis(y.reshape(*lead, 3, heads, size), -3, 0)
            case "h3d":
                parts = jnp.split(y.reshape(*lead, heads, 3 * size), 3, -1)
            case "hd3":
                parts = [y.reshape(*lead, heads, size, 3)[..., i] for i in range(3)]
        q, k, v = (part.reshape(*lead, heads, size) for part in parts)
    match net.pick(["none"] * 3 + ["qk norm", "shared scale", "own scale", "rotary", "pairs"]):
        case "qk norm":
            q, k = (normed(a, -1) for a in (q, k))
        case "shared scale":
            scale = net.param(size)
            q, k = (normed(a, -1) * along(net, scale, a) for a in (q, k))
        case "own scale":
            q, k = (normed(a, -1) * along(net, net.param(size), a) for a in (q, k))
        case "rotary" if size % 2 == 0:
            q, k = (rotated(a, "halves") for a in (q, k))
        case "pairs" if size % 2 == 0:
            q, k = (rotated(a, "pairs") for a in (q, k))
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k) / math.sqrt(size)
    length = x.shape[-2]
    if net.chance(2):
        mask = jnp.tril(jnp.ones((length, length), bool)).reshape(*(1,) * (scores.ndim - 2), 3, -1)
        scores = jnp.where(mask, scores, net.pick([-1e9, -jnp.inf]))
    if net.chance(4):
        scores = jnp.maximum(scores, -9.0)  # infinite scores cannot be added up
        scores = jnp.einsum("...hqk,hg->...gqk", scores, weight(net, *scores.shape[-3:-2] * 2))
    out = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(scores, -1), v)
    match net.pick(["flat", "einsum", "sum"]):
        case "einsum":
            w = net.param(*out.shape[-2:], net.units())
            return jnp.einsum("...hd,hdo->...o", out, w)
        case "sum":
            return out.sum(-2)
    return linear(net, out.reshape(*lead, -1), units)


def _spread(x: Any, times: int, how: str) -> Any:
    match how:
        case "repeat":
            return jnp.repeat(x, times, -2)
        case "tile":
            return jnp.concatenate([x] * times, -2)
    wide = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], times, x.shape[-1]))
    return wide.reshape(*x.shape[:-2], -1, x.shape[-1])


def channel_attention(net: Builder, x: Any) -> Any:
    """Units attend to units: one group on two axes."""
    k = linear(net, x, x.shape[-1]) if net.chance(2) else x
    gram = jnp.einsum("...tc,...td->...cd", x, k)
    match net.pick(["apply", "softmax", "norm", "flat", "diagonal free"]):
        case "apply":
            return jnp.einsum("...cd,...td->...tc", jnp.tanh(gram), x)
        case "softmax":
            return jnp.einsum("...cd,...td->...tc", jax.nn.softmax(gram, net.pick([-1, -2])), x)
        case "norm":
            return x / (1 + jnp.sqrt((gram**2).sum((-1, -2), keepdims=True)))
        case "flat":
            flat = gram.reshape(*gram.shape[:-2], -1)
            return fitted(net, linear(net, flat, 4), (*x.shape[:-1], 4))
    return x + (gram.sum(-1) * gram.max(-2))[..., None, :]


def mixer(net: Builder, x: Any) -> Any:
    """Positions are mixed: the units are now on the last axis but one."""
    y = x.swapaxes(-1, -2)
    hidden = activation(net, linear(net, y, net.units()))
    if net.chance(2):
        return hidden.swapaxes(-1, -2)
    return linear(net, hidden, x.shape[-2]).swapaxes(-1, -2)


def softmax(net: Builder, x: Any) -> Any:
    return x.shape[-1] * jax.nn.softmax(x, net.pick([-1, x.ndim - 1, max(x.ndim - 2, 0)]))


def squeeze_excite(net: Builder, x: Any) -> Any:
    """A summary of all units and positions scales every one of them."""
    summary = x.mean(tuple(range(1, x.ndim - 1)), keepdims=True) if x.ndim > 2 else x
    match net.pick(["dense", "mean", "max", "both"]):
        case "mean":
            return x * jax.nn.sigmoid(summary.mean(-1, keepdims=True))
        case "max":
            return x - summary.max(-1, keepdims=True)
        case "both":
            return jnp.tanh(x * summary) + x.min(-1, keepdims=True)
    inner = activation(net, linear(net, summary, net.units()))
    return x * jax.nn.sigmoid(linear(net, inner, x.shape[-1]))


def outer(net: Builder, x: Any) -> Any:
    """Products of all pairs of units."""
    y = net.value(lambda v: v.ndim == 2 and v.shape[0] == x.shape[0])
    pairs = jnp.einsum("bi,bj->bij", x, y if y is not None else x)
    match net.pick(["flat", "weight", "sum", "symmetric"]):
        case "flat" if pairs[0].size <= MAX_UNITS:
            return pairs.reshape(pairs.shape[0], -1)
        case "sum":
            return jnp.tanh(pairs).sum(net.pick([1, 2]))
        case "symmetric" if pairs.shape[1] == pairs.shape[2]:
            return jnp.tanh(pairs + pairs.swapaxes(1, 2)).max(1)
    return jnp.einsum("bij,ijo->bo", pairs, net.param(*pairs.shape[1:], net.units()))


def hypernetwork(net: Builder, x: Any) -> Any:
    """Units of a vector are the weights of a layer."""
    rows, columns = net.pick([(2, 3), (3, 4), (4, 2)])
    made = linear(net, x, rows * columns).reshape(*x.shape[:-1], rows, columns)
    y = linear(net, x, rows)
    return jnp.einsum("...i,...io->...o", y, made)


def spread_units(net: Builder, x: Any) -> Any:
    """Every unit, or all of them, several times."""
    match net.pick(["repeat", "tile", "both", "concatenate"]):
        case "repeat":
            return jnp.repeat(x, 2, -1)
        case "tile":
            return jnp.tile(x, (*(1,) * (x.ndim - 1), 2))
        case "both":
            return jnp.repeat(x, 2, -1) * jnp.tile(x, (*(1,) * (x.ndim - 1), 2))
    return jnp.concatenate([x, jnp.tanh(x)], -1)


def padded(net: Builder, x: Any) -> Any:
    """Zero channels, as in the parameter-free shortcut of a ResNet."""
    low, high = net.pick([(0, 2), (1, 1), (2, 0), (1, 2)])
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(low, high)])


def part(net: Builder, x: Any) -> Any:
    """Some of the units."""
    size = x.shape[-1]
    at = net.pick([size // 2, 1, size - 1])
    kinds = ["first", "last", "back", "swap", "middle", "every second", "at", "block", "dynamic"]
    match net.pick(kinds):
        case "first":
            return x[..., :at]
        case "last":
            return x[..., at:]
        case "back":
            return jnp.concatenate([jnp.tanh(x[..., :at]), x[..., at:]], -1)
        case "swap":
            return jnp.concatenate([x[..., at:], x[..., :at]], -1)
        case "middle" if size > 2:
            return x[..., 1:-1]
        case "every second":
            return x[..., ::2]
        case "at":
            return x[..., positions(net, size)]
        case "block":
            return jax.lax.dynamic_slice_in_dim(x, 1, at, -1)
    return jax.lax.dynamic_slice_in_dim(x, jnp.argmax(x.mean(range(x.ndim - 1))), at, -1)


def positions(net: Builder, size: int) -> np.ndarray:
    """Positions of units, written in the function: in turns, each twice, in any order."""
    order = np.arange(size)
    match net.pick(["turns", "twice", "again", "odd", "mixed", "back"]):
        case "turns" if size % 2 == 0:
            return order.reshape(2, -1).T.ravel()
        case "twice":
            return np.repeat(order, 2)
        case "again":
            return np.concatenate([order, order[1:]])
        case "odd":
            return order[1::2]
        case "mixed":
            return np.random.default_rng(size).permutation(size)
    return -1 - order[: size - 1]


def update(net: Builder, x: Any) -> Any:
    """Some entries are overwritten."""
    size = x.shape[-1]
    kinds = ["unit", "position", "block", "add", "where", "wider", "turns", "all", "own", "start"]
    match net.pick([*kinds, "dynamic"]):
        case "wider":
            return jnp.zeros((*x.shape[:-1], size + 3)).at[..., 2:-1].set(x)
        case "turns":
            return jnp.ones((*x.shape[:-1], 2 * size)).at[..., ::2].set(x)
        case "all":
            at = np.random.default_rng(size).permutation(size)
            return jnp.tanh(x).at[..., at].add(x)
        case "own":
            return x.at[..., : size // 2].apply(jnp.tanh)
        case "start":
            return jax.lax.dynamic_update_slice_in_dim(x, jnp.tanh(x[..., 1:]), 0, x.ndim - 1)
        case "unit":
            return x.at[..., 0].set(1.0)
        case "position":
            return x.at[0].set(jnp.tanh(x[0]))
        case "block":
            return x.at[..., : x.shape[-1] // 2].multiply(2.0)
        case "add":
            return x.at[..., -1].add(x.mean(-1))
        case "where":
            late = along(net, jnp.arange(x.shape[-1]) > 1, x)
            return jnp.where(late, x, along(net, vector(net, x.shape[-1]), x))
    return jax.lax.dynamic_update_slice_in_dim(x, jnp.tanh(x[:1]), 1, 0)


def ordered(net: Builder, x: Any) -> Any:
    """The order of the units means something."""
    size = x.shape[-1]
    constant = jnp.linspace(0.5, 1.5, size).reshape(*(1,) * (x.ndim - 1), -1)
    kinds = ["constant", "cumsum", "sort", "flip", "roll", "top_k", "argmax", "argsort", "one_hot"]
    match net.pick([*kinds, "iota", "associative_scan", "searchsorted"]):
        case "constant":
            return x * constant
        case "cumsum":
            return jnp.cumsum(x, -1)
        case "sort":
            return jnp.sort(x, -1)
        case "flip":
            return jnp.flip(x, -1)
        case "roll":
            return jnp.roll(x, 1, -1)
        case "top_k":
            return jax.lax.top_k(x, 2)[0]
        case "argmax":
            return x * jnp.argmax(x, -1, keepdims=True)
        case "argsort":
            return jnp.take_along_axis(x, jnp.argsort(x, -1), -1)
        case "one_hot":
            return x * jax.nn.one_hot(jnp.argmax(x, -1), size)
        case "iota":
            return x + jax.lax.broadcasted_iota(jnp.float32, x.shape, x.ndim - 1)
        case "associative_scan":
            return jax.lax.associative_scan(jnp.add, x, axis=x.ndim - 1)
    return jnp.take_along_axis(x, jnp.zeros((*x.shape[:-1], 2), int), -1)


def along_positions(net: Builder, x: Any) -> Any:
    """The order of positions means something, that of units does not."""
    axis = net.pick(range(1, x.ndim - 1))
    match net.pick(["cumsum", "flip", "sort", "shift", "argmax", "last", "own bias"]):
        case "cumsum":
            return jnp.cumsum(x, axis)
        case "flip":
            return x + jnp.flip(x, axis)
        case "sort":
            return jnp.sort(x, axis)
        case "shift":
            return jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1)
        case "argmax":
            best = jnp.argmax(x, axis, keepdims=True)
            return jnp.take_along_axis(x, best, axis)
        case "last":
            return jax.lax.index_in_dim(x, -1, axis, keepdims=net.chance(2))
    return x + net.param(*x.shape[1:])[None]


def pool_positions(net: Builder, x: Any) -> Any:
    axes = tuple(range(1, x.ndim - 1))
    return x.mean(axes) if net.chance(2) else x.max(axes)


def conv(net: Builder, x: Any) -> Any:
    size = x.shape[-1]
    kinds = ["plain", "plain", "pointwise", "depthwise", "dilated", "transposed"]
    kind = net.pick(kinds + [f"grouped {n}" for n in (2, 3) if size % n == 0])
    groups = {"depthwise": size, "grouped 2": 2, "grouped 3": 3}.get(kind, 1)
    out = net.pick([1, 2]) * groups if groups > 1 else net.units()
    side = 1 if kind == "pointwise" else net.pick([3, 2])
    if min(x.shape[1:3]) < 3:
        side = 1
    kernel = net.param(side, side, size // groups, out)
    if net.chance(6):
        kernel = kernel - kernel.mean((0, 1, 2), keepdims=True)
    numbers = ("NHWC", "HWIO", "NHWC")
    if kind == "transposed":
        y = jax.lax.conv_transpose(x[:, :2, :2], kernel, (2, 2), "SAME", dimension_numbers=numbers)
    else:
        stride = net.pick([1, 2])
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            net.pick(["SAME", "SAME", "VALID"]) if kind != "dilated" else "SAME",
            rhs_dilation=(2, 2) if kind == "dilated" else None,
            dimension_numbers=numbers,
            feature_group_count=groups,
        )
    if net.chance(2):
        y = y + along(net, vector(net, out), y)
    return activation(net, y)


def conv_channels_first(net: Builder, x: Any) -> Any:
    kernel = net.param(net.units(), x.shape[-1], 2, 2)
    y = jax.lax.conv_general_dilated(jnp.moveaxis(x, -1, 1), kernel, (1, 1), "SAME")
    y = jax.nn.relu(y + net.param(kernel.shape[0])[None, :, None, None])
    return jnp.moveaxis(y, 1, -1)


def conv_over_time(net: Builder, x: Any) -> Any:
    """A depthwise or dense one-dimensional convolution, causal, as in Mamba and WaveNet."""
    groups = x.shape[-1] if net.chance(2) else 1
    out = x.shape[-1] if groups > 1 else net.units()
    kernel = net.param(2, x.shape[-1] // groups, out)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [(1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )


def pool(net: Builder, x: Any) -> Any:
    window, strides = (1, 2, 2, 1), (1, 2, 2, 1) if net.chance(2) else (1, 1, 1, 1)
    padding = net.pick(["VALID", "SAME"])
    if net.chance(2):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding) / 4
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)


def patches(net: Builder, x: Any) -> Any:
    """Space to depth: 2 x 2 patches become units, row by row."""
    batch, height, width, channels = x.shape
    y = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, -1)


def as_sequence(net: Builder, x: Any) -> Any:
    """The positions of an image in one row."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def as_stream(net: Builder, x: Any) -> Any:
    """A vector as a short sequence of equal entries, or of pieces."""
    if x.shape[-1] % 2 or net.chance(2):
        return jnp.broadcast_to(x[:, None], (x.shape[0], 3, x.shape[-1]))
    return x.reshape(x.shape[0], 2, -1)


def recurrent(net: Builder, x: Any) -> Any:
    """A cell that runs over the sequence, or over and over."""
    n, size = net.units(), x.shape[-1]
    w, u, bias = weight(net, n, n), weight(net, size, n), vector(net, n)
    kind = net.pick(["rnn", "gru", "lstm", "linear"])
    if kind == "gru":
        gates = net.param(n, 2 * n)
    if kind == "lstm":
        gates = net.param(n + size, 4 * n)
    decay = jax.nn.sigmoid(vector(net, n))

    def cell(carry: Any, inputs: Any) -> tuple[Any, Any]:
        h, c = carry
        match kind:
            case "gru":
                reset, new = jnp.split(jax.nn.sigmoid(h @ gates), 2, -1)
                h = new * h + (1 - new) * jnp.tanh((reset * h) @ w + inputs @ u)
            case "lstm":
                i, f, g, o = jnp.split(jnp.concatenate([h, inputs], -1) @ gates, 4, -1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
            case "linear":
                h = decay.reshape(1, -1) * h + inputs @ u
            case _:
                h = jnp.tanh(h @ w + inputs @ u + bias.reshape(1, -1))
        return (h, c), h

    rows = (x.shape[0], n)
    start = jnp.zeros(rows)
    if net.chance(3):
        start = jnp.broadcast_to(vector(net, n), rows)
    reverse = net.chance(3)
    over = jnp.moveaxis(x, 1, 0)
    (h, _), every = jax.lax.scan(cell, (start, jnp.zeros(rows)), over, reverse=reverse)
    return h if net.chance(2) else jnp.moveaxis(every, 0, 1)


def stacked_layers(net: Builder, x: Any) -> Any:
    """A scan over layers whose weights are stacked."""
    n, hidden, depth = x.shape[-1], net.units(), 3
    up, down = net.param(depth, n, hidden), net.param(depth, hidden, n)
    bias = net.param(depth, hidden)
    kind = net.pick(["mlp", "mlp", "square", "shared", "gated", "carried", "two scans", "flipped"])
    if kind == "square":
        up = net.param(depth, n, n)
    shared = weight(net, n, hidden) if kind == "shared" else None

    def layer(h: Any, weights: Any) -> tuple[Any, Any]:
        a, b, c = weights
        c = c.reshape(*(1,) * (h.ndim - 1), -1)
        match kind:
            case "square":
                return jnp.tanh(h @ a), h.mean(-1)
            case "shared":
                inner = jnp.tanh(h @ shared + c)
            case "gated":
                inner = jnp.tanh(h @ a) * c
            case _:
                inner = jax.nn.relu(h @ a + c)
        return h + inner @ b, inner

    def carried(carry: Any, weights: Any) -> tuple[Any, Any]:
        h, before = carry
        after, inner = layer(h, weights)
        return (after + (before * inner).sum(-1, keepdims=True), inner), None

    weights = (up, down, bias)
    if kind == "carried":
        (h, _), _ = jax.lax.scan(carried, (x, jnp.zeros((*x.shape[:-1], hidden))), weights)
        return h
    h, every = jax.lax.scan(layer, x, weights, reverse=net.chance(3))
    if kind == "two scans":
        h, every = jax.lax.scan(layer, h, weights, reverse=net.chance(2))
    if kind == "flipped":
        h, every = jax.lax.scan(layer, h, (up[::-1], down[::-1], bias[::-1]))
    if kind != "square" and net.chance(3):
        return jnp.moveaxis(every, 0, -2).reshape(*x.shape[:-1], -1)
    if kind != "square" and net.chance(3):
        return every.mean(0)
    return h


def unrolled_layers(net: Builder, x: Any) -> Any:
    """The same in a Python loop, or side by side as an ensemble."""
    n, hidden, depth = x.shape[-1], net.units(), 2
    up, down = net.param(depth, n, hidden), net.param(depth, hidden, n)
    match net.pick(["loop", "vmap", "einsum", "experts"]):
        case "loop":
            for a, b in zip(up, down, strict=True):
                x = x + jnp.tanh(x @ a) @ b
            return x
        case "vmap":
            every = jax.vmap(lambda a, b: jnp.tanh(x @ a) @ b)(up, down)
            return every.mean(0)
        case "einsum":
            inner = jnp.tanh(jnp.einsum("...i,lio->...lo", x, up))
            return jnp.einsum("...lo,loi->...i", inner, down)
    scores = jax.nn.softmax(x @ net.param(n, depth), -1)
    inner = jnp.tanh(jnp.einsum("...i,lio->...lo", x, up))
    return jnp.einsum("...lo,loi,...l->...i", inner, down, scores)


def repeated(net: Builder, x: Any) -> Any:
    """A loop that applies the same layers several times."""
    body = net.block(lambda h: 0.5 * h + jnp.tanh(net.same(h)))
    start = x if net.chance(2) else jnp.zeros_like(x)
    match net.pick(["fori", "while", "scan", "for each unit"]):
        case "fori":
            return x + jax.lax.fori_loop(0, 2, lambda _, h: body(h + x), start)
        case "while":
            goes_on = lambda state: (state[0] < 3) & (jnp.max(state[1]) < 9)  # noqa: E731
            return jax.lax.while_loop(goes_on, lambda s: (s[0] + 1, body(s[1])), (0, x))[1]
        case "for each unit":
            # Under vmap a condition is an array and every unit is done in its own time.
            limits = vector(net, x.shape[-1]) if net.chance(2) else jnp.arange(x.shape[-1]) / 9
            goes_on = lambda state: (state[0] < 4) & (state[1].sum() < state[2])  # noqa: E731
            step = lambda state: (state[0] + 1, state[1] + 0.1, state[2])  # noqa: E731
            one = lambda unit, limit: jax.lax.while_loop(goes_on, step, (0, unit, limit))[1]  # noqa: E731
            return jax.vmap(one, (-1, 0), -1)(x, limits)
    return jax.lax.scan(lambda h, _: (body(h), None), start + x, None, length=2)[0]


def branches(net: Builder, x: Any) -> Any:
    """Which layers are used depends on the values."""
    first, second = (net.block(lambda h: net.same(h)) for _ in range(2))
    if net.chance(2):
        return jax.lax.cond(jnp.sum(x) > 0, first, second, x)
    which = jnp.argmax(x.mean(tuple(range(x.ndim - 1))))
    if net.chance(2):
        which = (x.sum() > 0.3).astype(int)
    return jax.lax.switch(which, [first, second, lambda h: h], x)


def call(net: Builder, x: Any) -> Any:
    """Layers behind one of JAX's transformations."""
    function = net.block(lambda h: net.inner(h))
    kinds = ["jit", "checkpoint", "custom_jvp", "custom_vjp", "stop_gradient"]
    match net.pick(kinds + ["vmap"] * (x.ndim > 1)):
        case "jit":
            return jax.jit(function)(x)
        case "checkpoint":
            return jax.checkpoint(function)(x)
        case "custom_jvp":
            custom = jax.custom_jvp(function)
            custom.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
            return custom(x)
        case "custom_vjp":
            custom = jax.custom_vjp(function)
            custom.defvjp(lambda h: (h, None), lambda _, g: (g,))
            return custom(x)
        case "vmap":
            return jax.vmap(function)(x)
    return jax.lax.stop_gradient(function(x))


def gradient(net: Builder, x: Any) -> Any:
    """How a score of x changes with x."""
    score = net.block(lambda h: jnp.sum(jnp.tanh(net.inner(h, SMOOTH)) ** 2))
    return jax.grad(score)(x)


LAYER_WEIGHTS: dict[Callable, int] = {
    dense: 8,
    skip: 6,
    norm: 4,
    gated: 2,
    concat: 3,
    blocks_meet: 1,
    flatten: 2,
    per_head: 3,
    shuffle: 1,
    attention: 5,
    channel_attention: 2,
    mixer: 2,
    softmax: 1,
    squeeze_excite: 2,
    outer: 2,
    hypernetwork: 1,
    spread_units: 1,
    padded: 1,
    part: 2,
    update: 1,
    ordered: 1,
    along_positions: 2,
    pool_positions: 1,
    conv: 7,
    conv_channels_first: 1,
    conv_over_time: 1,
    pool: 2,
    patches: 1,
    as_sequence: 1,
    as_stream: 1,
    recurrent: 3,
    stacked_layers: 3,
    unrolled_layers: 2,
    repeated: 2,
    branches: 1,
    call: 3,
    gradient: 1,
}
LAYERS = [layer for layer, count in LAYER_WEIGHTS.items() for _ in range(count)]
NESTED = {repeated, branches, call, gradient}
SMOOTH = [dense, skip, norm, gated, concat, per_head, softmax, squeeze_excite, spread_units, mixer]

FITS: dict[Callable, Callable[[Any], bool]] = dict.fromkeys(LAYER_WEIGHTS, lambda x: x.ndim >= 1)
FITS |= dict.fromkeys((channel_attention, mixer), lambda x: x.ndim >= 2)
FITS |= dict.fromkeys((norm, squeeze_excite), lambda x: x.ndim >= 2)
FITS |= dict.fromkeys((concat, spread_units), lambda x: x.shape[-1] <= MAX_UNITS // 2)
FITS |= dict.fromkeys((shuffle, per_head), lambda x: x.shape[-1] in (4, 6, 8, 9, 12, 16, 18, 24))
FITS |= dict.fromkeys((part, ordered), lambda x: x.shape[-1] > 1)
FITS[update] = lambda x: x.ndim >= 2 and x.shape[0] > 1 and x.shape[-1] > 1
FITS |= dict.fromkeys((outer, as_stream), lambda x: x.ndim == 2)
FITS |= dict.fromkeys((along_positions, pool_positions), lambda x: x.ndim >= 3)
FITS |= dict.fromkeys((conv_over_time, recurrent), lambda x: x.ndim == 3)
FITS |= dict.fromkeys((conv, conv_channels_first, as_sequence), lambda x: x.ndim == 4)
FITS[conv] = lambda x: x.ndim == 4 and x.shape[-1] <= 12
FITS |= dict.fromkeys((pool, patches), lambda x: x.ndim == 4 and x.shape[1:3] in ((4, 4), (2, 2)))
FITS[patches] = lambda x: FITS[pool](x) and x.shape[-1] * 4 <= MAX_UNITS
FITS[flatten] = lambda x: x.ndim >= 3 and math.prod(x.shape[1:]) <= 4 * MAX_UNITS
FITS[attention] = lambda x: x.ndim >= 2 and x.shape[-2] == 3
