"""Each rule against PyTorch itself: on the samples of PyTorch's own tests, and on drawn shapes."""

import torch_or_skip  # noqa: F401

# isort: split
import collections
import functools
import warnings
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rebasin_lab.interop.aten import RULES
from rebasin_lab.interop.export import _PLACEMENT
from rebasin_lab.interop.state import numpy_type

aten = torch.ops.aten
MOST_CALLS = 1  # of an operator for each type of numbers
MOST_SAMPLES = 12  # of each of PyTorch's tests
# PyTorch's tests call what these are made of, so they are called below.
WHOLE = """
    aten.adaptive_avg_pool1d aten.adaptive_avg_pool2d aten.adaptive_avg_pool3d aten.copy aten.einsum
    aten.gru.input aten.imag aten.linear aten.lstm.input aten.matmul aten.real aten.rnn_relu.input
    aten.rnn_tanh.input aten.scatter.value aten.scaled_dot_product_attention
    aten.upsample_bilinear2d.vec aten.upsample_nearest2d.vec
    aten._native_batch_norm_legit_no_training.default aten._native_batch_norm_legit.no_stats
""".split()
OF_SIZES = "aten.sym_numel aten.sym_size.int aten.empty.memory_format aten.lift_fresh_copy".split()
# Any of equal values comes first in PyTorch.
WITH_POSITIONS = "aten.argmax aten.argmin aten.max.dim aten.min.dim aten.sort aten.topk".split()


@functools.cache
def name_of(operator):
    """The name that its rule has; None without one."""
    names = (str(operator), str(operator).rpartition(".")[0])
    return next((name for name in names if name in RULES), None)


def without_torch(tree):
    def convert(leaf):
        if isinstance(leaf, torch.Tensor):
            return leaf.detach().resolve_conj().resolve_neg().numpy().copy()
        return numpy_type(leaf) if isinstance(leaf, torch.dtype) else leaf

    return _pytree.tree_map(convert, tree)


class Recorder(TorchDispatchMode):
    """Keeps calls of operators that have a rule: the arguments, and what came back."""

    def __init__(self):
        super().__init__()
        self.calls = collections.defaultdict(dict)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        name = name_of(operator)
        if name is not None:
            kept = {k: v for k, v in (kwargs or {}).items() if k not in _PLACEMENT}
            leaves = _pytree.tree_leaves((args, kept))
            arrays = [one for one in leaves if isinstance(one, torch.Tensor)]
            # JAX takes no axis of an array without any, nor the largest of no number.
            is_masked = "index" in name and any(one.dtype == torch.bool for one in arrays)
            if all(one.ndim and one.numel() for one in arrays) and not is_masked:
                shapes = [one.shape if isinstance(one, torch.Tensor) else one for one in leaves]
                kinds = " ".join(sorted({str(one.dtype) for one in arrays}))
                calls, key = self.calls[name], (kinds, str(shapes))
                if key not in calls and sum(kind == kinds for kind, _ in calls) < MOST_CALLS:
                    calls[key] = (without_torch((args, kept)), without_torch(result))
        return result


@pytest.fixture(scope="module")
def calls():
    recorder = Recorder()
    common_utils.set_rng_seed(0)
    # Setting it for each sample, as PyTorch does, takes ten times as long as all else.
    once = mock.patch.object(common_utils, "set_rng_seed")
    with once, warnings.catch_warnings(action="ignore"), torch.no_grad():
        for dtype in (torch.float64, torch.int64):
            for test in op_db:
                if dtype not in test.dtypes or test.name.startswith("jiterator"):
                    continue
                samples = zip(range(MOST_SAMPLES), test.sample_inputs("cpu", dtype), strict=False)
                for _, sample in samples:
                    with recorder:
                        test(sample.input, *sample.args, **sample.kwargs)
    return recorder.calls


def assert_equals_torch(name, calls):
    """One compiled function for all calls, since compiling takes most of the time."""
    arguments, wanted = zip(*calls, strict=True)
    leaves, structure = _pytree.tree_flatten(arguments)
    at = [number for number, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]

    def every(arrays):
        filled = dict(enumerate(leaves)) | dict(zip(at, arrays, strict=True))
        calls = _pytree.tree_unflatten(list(filled.values()), structure)
        return [RULES[name](*args, **options) for args, options in calls]

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        found = jax.jit(every)([leaves[number] for number in at])
        for (args, _), want, got in zip(arguments, wanted, found, strict=True):
            pairs = zip(*map(_pytree.tree_leaves, (want, got)), strict=False)
            for number, (one, other) in enumerate(pairs):
                is_tied = name in WITH_POSITIONS and args[0].dtype.kind != "f"
                if other is None or (is_tied and (number or "arg" in name)):
                    continue
                rounding = 1e-6 if one.dtype.name in ("float32", "complex64") else 1e-10
                assert np.shape(other) == one.shape
                np.testing.assert_allclose(
                    np.asarray(jnp.asarray(other, one.dtype)), one, rtol=rounding, atol=rounding
                )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RULES if name not in (*WHOLE, *OF_SIZES)])
def test_rule_equals_pytorch_on_its_own_samples(name, calls):
    assert calls[name]
    assert_equals_torch(name, calls[name].values())


def check(operator, *args, **options):
    """One call of an operator against its rule."""
    with torch.no_grad():
        want = operator(*args, **options)
    assert_equals_torch(name_of(operator), [(without_torch((args, options)), without_torch(want))])


def drawn(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


few = settings(max_examples=4, deadline=None, derandomize=True)
sizes = st.integers(1, 3)


def each(axes, values=sizes):
    return st.lists(values, min_size=axes, max_size=axes)


@few
@given(st.data(), st.booleans(), st.integers(1, 3), sizes, sizes, sizes, sizes)
def test_convolutions(data, transposed, axes, groups, batch, ins, outs):
    window, strides, dilation = data.draw(each(axes)), data.draw(each(axes)), data.draw(each(axes))
    extra = [
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilation, strict=True)
    ]
    ins, outs = groups * ins, groups * outs
    weight = (ins, outs // groups) if transposed else (outs, ins // groups)
    check(
        aten.convolution.default,
        drawn(batch, ins, *(5 + d * (w - 1) for d, w in zip(dilation, window, strict=True))),
        drawn(*weight, *window),
        data.draw(st.sampled_from([None, drawn(outs)])),
        strides,
        data.draw(each(axes, st.integers(0, 2))),
        dilation,
        transposed,
        extra if transposed else [0] * axes,
        groups,
    )


@few
@given(st.data(), st.sampled_from([2, 3]), st.booleans(), st.booleans())
def test_pooling(data, axes, ceil_mode, counted):
    window = data.draw(each(axes))
    strides = data.draw(st.one_of(st.just([]), each(axes)))
    padding = [data.draw(st.integers(0, w // 2)) for w in window]
    x = drawn(2, 3, *data.draw(each(axes, st.integers(5, 8))))
    average = {2: aten.avg_pool2d, 3: aten.avg_pool3d}[axes].default
    check(average, x, window, strides, padding, ceil_mode, counted)
    largest = {2: aten.max_pool2d_with_indices, 3: aten.max_pool3d_with_indices}[axes].default
    check(largest, x, window, strides, padding, data.draw(each(axes, st.integers(1, 2))), ceil_mode)
    to = data.draw(each(axes, st.integers(1, 9)))
    check({2: aten.adaptive_avg_pool2d, 3: aten.adaptive_avg_pool3d}[axes].default, x, to)
    check(aten.adaptive_avg_pool1d.default, x.flatten(2), to[:1])


@few
@given(each(2, st.integers(1, 9)), each(2, st.sampled_from([0.5, 1.3, 2.0])), st.booleans())
def test_resizing(to, scales, align_corners):
    x = drawn(2, 3, 5, 4)
    for size, scale in ((to, None), (None, scales)):
        check(aten.upsample_nearest2d.vec, x, size, scale)
        check(aten.upsample_bilinear2d.vec, x, size, align_corners, scale)


@few
@given(st.sampled_from([(4, 4, False), (4, 2, True), (6, 2, True)]), st.sampled_from("ncbBf"))
def test_attention(heads, mask):
    heads, kv_heads, grouped = heads
    q, k, v = drawn(2, heads, 5, 4), drawn(2, kv_heads, 7, 4), drawn(2, kv_heads, 7, 3)
    allowed = drawn(2, 1 if mask == "b" else heads, 5, 7) > 0
    allowed[:, :, 2] = False  # a position that attends to nothing
    given = {"b": allowed, "B": allowed, "f": drawn(5, 7)}.get(mask)
    options = {"is_causal": mask == "c", "enable_gqa": grouped}
    check(aten.scaled_dot_product_attention.default, q, k, v, given, **options)


RECURRENT = {"lstm": aten.lstm.input, "gru": aten.gru.input}
RECURRENT |= {"rnn_tanh": aten.rnn_tanh.input, "rnn_relu": aten.rnn_relu.input}


@few
@given(st.sampled_from([*RECURRENT]), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_recurrent_layers(kind, has_biases, both_ways, batch_first, projects):
    ways, h, per_unit = 1 + both_ways, 3, {"lstm": 4, "gru": 3}.get(kind, 1)
    out = 2 if projects and kind == "lstm" else h
    weights = []
    for ins in (4, 4, out * ways, out * ways)[:: 2 - both_ways]:
        weights += [drawn(per_unit * h, ins), drawn(per_unit * h, out)]
        weights += [drawn(per_unit * h)] * 2 * has_biases + [drawn(out, h)] * (out != h)
    start = drawn(2 * ways, 2, out)
    start = [start, drawn(2 * ways, 2, h)] if kind == "lstm" else start
    x = drawn(2, 5, 4) if batch_first else drawn(5, 2, 4)
    check(RECURRENT[kind], x, start, weights, has_biases, 2, 0.0, False, both_ways, batch_first)


def test_operators_that_stay_whole():
    x, w = drawn(2, 5, 4), drawn(3, 4)
    check(aten.linear.default, x, w, drawn(3))
    check(aten.linear.default, x[0, 0], w)
    check(aten.linear.default, x, w[0])
    check(aten.einsum.default, "bti,oi->bto", [x, w])
    check(aten.einsum.default, "...i,i", [x, w[0]])
    for a, b in (
        (x, w.T),
        (w[0], w[1]),
        (w, w[0]),
        (x, x.mT),
        (w[0], x.mT),
        (drawn(3, 1, 2, 4), x.mT),
    ):
        check(aten.matmul.default, a, b)
    check(aten.copy.default, x, x[:1, :1])
    check(aten.scatter.value, x[0], 1, torch.tensor([[0], [3]]), 7.0)
    wave = torch.complex(x, 2 * x)
    check(aten.real.default, wave)
    check(aten.imag.default, wave)
    images, values = drawn(2, 3, 4, 4), drawn(3)
    norm = aten._native_batch_norm_legit_no_training.default
    check(norm, images, values, None, values, values.exp(), 0.1, 1e-5)
    check(aten._native_batch_norm_legit.no_stats, images, None, values, True, 0.1, 1e-5)
    check(aten.index_put.default, x, [None, x[0, :, 0] > 0], torch.tensor(3.0))
    check(aten.index_put.default, x, [x[:, :, 0] > 0], torch.ones(1, dtype=x.dtype), True)
