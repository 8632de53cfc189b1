"""One MLP in four more dialects of JAX, for what must work with any of them.

Each function gives `apply_fn(params, images) -> logits`, the parameters as the framework hands them
out, and the axes of the one right spec, by the paths `pytrees.flatten` gives those parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp

from specs import Axes

NUM_PIXELS, NUM_CLASSES = 64, 10  # of the images of conftest.TINY_DATA, 8 x 8 x 1
WIDTH, NUM_HIDDEN_LAYERS = 20, 2


class Subject(NamedTuple):
    """A network and what is known about it."""

    apply_fn: Callable[[Any, jax.Array], jax.Array]
    params: Any
    axes: Axes


def plain_jax_mlp() -> Subject:
    """A list of (kernel, bias) tuples; kernels are [in, out]."""
    sizes = [NUM_PIXELS, *[WIDTH] * NUM_HIDDEN_LAYERS, NUM_CLASSES]
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    params = [
        (jax.random.normal(key, (before, after)) / before**0.5, jnp.zeros(after))
        for key, before, after in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]

    def apply_fn(params, images):
        hidden = images.reshape(len(images), -1)
        for kernel, bias in params[:-1]:
            hidden = jax.nn.relu(hidden @ kernel + bias[None])
        kernel, bias = params[-1]
        return hidden @ kernel + bias[None]

    return Subject(apply_fn, params, _axes("{layer}/0", "{layer}/1"))


class LinenMLP(nn.Module):
    """Linen names its dense layers Dense_0, Dense_1, ..."""

    @nn.compact
    def __call__(self, images):
        hidden = images.reshape(len(images), -1)
        for _ in range(NUM_HIDDEN_LAYERS):
            hidden = nn.relu(nn.Dense(WIDTH)(hidden))
        return nn.Dense(NUM_CLASSES)(hidden)


def linen_mlp() -> Subject:
    """The variables of a Linen module, collection and all; kernels are [in, out]."""
    module = LinenMLP()
    variables = module.init(jax.random.key(0), jnp.zeros((1, NUM_PIXELS)))
    path = "params/Dense_{layer}"
    return Subject(module.apply, variables, _axes(f"{path}/kernel", f"{path}/bias"))


def equinox_mlp() -> Subject:
    """The arrays of an Equinox module, None in place of the rest; weights are [out, in]."""
    module = eqx.nn.MLP(
        NUM_PIXELS, NUM_CLASSES, WIDTH, depth=NUM_HIDDEN_LAYERS, key=jax.random.key(0)
    )
    params, static = eqx.partition(module, eqx.is_array)

    def apply_fn(params, images):
        return jax.vmap(eqx.combine(params, static))(images.reshape(len(images), -1))

    path = "layers/{layer}"
    axes = _axes(f"{path}/weight", f"{path}/bias")
    return Subject(apply_fn, params, {name: names[::-1] for name, names in axes.items()})


def haiku_mlp() -> Subject:
    """The parameters of a transformed function; Haiku's paths hold a "~"."""

    def forward(images):
        sizes = [*[WIDTH] * NUM_HIDDEN_LAYERS, NUM_CLASSES]
        return hk.nets.MLP(sizes)(images.reshape(len(images), -1))

    network = hk.without_apply_rng(hk.transform(forward))
    params = network.init(jax.random.key(0), jnp.zeros((1, NUM_PIXELS)))
    path = "mlp/~/linear_{layer}"
    return Subject(network.apply, params, _axes(f"{path}/w", f"{path}/b"))


def _axes(kernel: str, bias: str) -> Axes:
    """The MLP's spec from how a layer's leaves are called; kernels are [in, out]."""
    names = [None, *(f"P_{i}" for i in range(NUM_HIDDEN_LAYERS)), None]
    axes: Axes = {}
    for layer in range(NUM_HIDDEN_LAYERS + 1):
        axes[kernel.format(layer=layer)] = (names[layer], names[layer + 1])
        axes[bias.format(layer=layer)] = (names[layer + 1],)
    return axes


FRAMEWORKS: dict[str, Callable[[], Subject]] = {
    "plain JAX": plain_jax_mlp,
    "Flax Linen": linen_mlp,
    "Equinox": equinox_mlp,
    "Haiku": haiku_mlp,
}
