"""What a layer reads and what its target lacks, over all batches, as moments for a regression."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rebasin_lab.layers.layer import Layer, Leaves, Values
from rebasin_lab.merging.regression import Moments

WINDOW = 12  # output positions along each spatial axis of a convolution that one image gives


def gather(
    layer: Layer,
    params: Leaves,
    fronts: Iterable[Values],
    targets: Iterable[Sequence[jax.Array]],
    rng: np.random.Generator,
    *,
    variants: Sequence[Leaves] = (),
    order: np.ndarray | None = None,
    enough: int | None = None,
) -> Moments:
    """Moments of a layer's inputs and of its targets, less what is there without the layer.

    Products are float32 on the device, sums over batches float64 on the host.

    Args:
        layer: the layer.
        params: with a neutral chain after the layer.
        fronts: for each batch, what the network has computed before.
        targets: for each batch, targets of which the units are put together.
        rng: draws the windows.
        variants: networks whose inputs of the layer are put together; by default that of `params`.
        order: which of these inputs to take, in which order; all by default.
        enough: samples after which no more batches are looked at; None for all.
    """

    def summed(variants, params, front, targets, corner, order):
        reads = [layer.program.evaluate(each, front, [layer.read])[0] for each in variants]
        rest = layer.target_of(params, front, 0.0)
        pairs = [layer.samples(reads[0], each, corner, WINDOW) for each in (rest, *targets)]
        inputs = [layer.samples(each, rest, corner, WINDOW)[0] for each in reads]
        inputs = jnp.concatenate(inputs, axis=2)
        if order is not None:
            inputs = inputs[:, :, order]
        rest, *outputs = (units for _, units in pairs)
        outputs = jnp.concatenate(outputs, axis=2)
        if outputs.shape != rest.shape:  # units of a group, between which the rest is the same
            rest = rest[:, :, :1]
        return _sums(inputs, outputs - rest)

    sums = layer.program.compiled.setdefault(("moments", layer.number), jax.jit(summed))
    total: Moments | None = None
    most = [max(0, length - WINDOW) for length in layer.positions]
    for front, each in zip(fronts, targets, strict=False):
        corner = [int(rng.integers(n, endpoint=True)) for n in most]
        read_by = list(variants) or [params]
        batch = Moments(*sums(read_by, params, front, tuple(each), corner, order))
        if total is None:
            total = batch
        else:
            total += batch
        if enough is not None and total.count >= enough:
            break
    assert total is not None, "a walk has at least one batch"
    return total


def _sums(inputs: jax.Array, outputs: jax.Array) -> tuple:
    """The arguments of `Moments` for one batch."""
    inputs, outputs = inputs.astype(jnp.float32), outputs.astype(jnp.float32)
    means = inputs.mean(axis=0, keepdims=True), outputs.mean(axis=0, keepdims=True)
    inputs, outputs = inputs - means[0], outputs - means[1]
    return (
        len(inputs),
        means[0][0],
        means[1][0],
        jnp.einsum("ngi,ngj->gij", inputs, inputs),
        jnp.einsum("ngi,ngo->gio", inputs, outputs),
        jnp.square(outputs).sum(axis=0),
    )
