"""Rules for recurrent layers: a scan over time for each layer and direction."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.nn import sigmoid
from jaxtyping import Array

from rebasin_lab.interop.aten.products import linear

State = tuple[Array, ...]  # of one layer and direction: h, and c in an LSTM


def recurrent(cell: Callable) -> Callable:
    """The rule for a stack of layers of one cell.

    Args:
        cell: `cell(from_input, state, w_hh, b_hh, *projection) -> state`, which h comes first in.
    """

    def layers(
        x: Array,
        starts: Sequence[Array],
        weights: Sequence[Array],
        has_biases: bool,
        num_layers: int,
        dropout: int | float,
        training: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Array, ...]:
        x = jnp.swapaxes(x, 0, 1) if batch_first else x
        directions = 2 if bidirectional else 1
        size = len(weights) // (num_layers * directions)
        ends = []
        for layer in range(num_layers):
            outputs = []
            for number in range(layer * directions, (layer + 1) * directions):
                w_ih, w_hh, *rest = weights[number * size : (number + 1) * size]
                b_ih, b_hh = rest[:2] if has_biases else (None, None)
                projection = rest[2:] if has_biases else rest

                def step(
                    state: State, from_input: Array, fixed: tuple = (w_hh, b_hh, *projection)
                ) -> tuple[State, Array]:
                    state = cell(from_input, state, *fixed)
                    return state, state[0]

                state = tuple(start[number] for start in starts)
                is_backwards = number % directions == 1
                end, y = lax.scan(step, state, linear(x, w_ih, b_ih), reverse=is_backwards)
                outputs.append(y)
                ends.append(end)
            x = outputs[0] if directions == 1 else jnp.concatenate(outputs, -1)
        x = jnp.swapaxes(x, 0, 1) if batch_first else x
        return x, *(jnp.stack(one) for one in zip(*ends, strict=True))

    return layers


def lstm_cell(
    from_input: Array, state: State, w_hh: Array, b_hh: Array | None, *projection: Array
) -> State:
    """Long short-term memory, with or without a projection of h."""
    h, c = state
    i, f, g, o = jnp.split(from_input + linear(h, w_hh, b_hh), 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return (linear(h, projection[0]) if projection else h), c


def gru_cell(from_input: Array, state: State, w_hh: Array, b_hh: Array | None) -> State:
    """Gated recurrent unit."""
    [h] = state
    (ri, zi, ni), (rh, zh, nh) = (jnp.split(x, 3, -1) for x in (from_input, linear(h, w_hh, b_hh)))
    z = sigmoid(zi + zh)
    return ((1 - z) * jnp.tanh(ni + sigmoid(ri + rh) * nh) + z * h,)


def simple_cell(activation: Callable) -> Callable:
    """Elman's cell."""

    def cell(from_input: Array, state: State, w_hh: Array, b_hh: Array | None) -> State:
        return (activation(from_input + linear(state[0], w_hh, b_hh)),)

    return cell


def _with_one_state(layers: Callable) -> Callable:
    return lambda x, start, *rest: layers(x, [start], *rest)


RULES: dict[str, Callable] = {
    "aten.lstm.input": recurrent(lstm_cell),
    "aten.gru.input": _with_one_state(recurrent(gru_cell)),
    "aten.rnn_relu.input": _with_one_state(recurrent(simple_cell(lambda x: jnp.maximum(x, 0)))),
    "aten.rnn_tanh.input": _with_one_state(recurrent(simple_cell(jnp.tanh))),
}
