"""Any loss, any kind of array, any mistake: at every entry that puts images through a network."""

import dataclasses
import functools
import json
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import rebasin_lab as rl
from rebasin_lab import matching, merging, metrics
from rebasin_lab.analysis import calibration, variance_collapse
from rebasin_lab.lab import exploration, figures
from rebasin_lab.matching import baselines
from tensors import Tensor

pytestmark = pytest.mark.usefixtures("without_type_checks")

RNG = np.random.default_rng(0)
SPEC = rl.PermutationSpec({"w1": (None, "P_0"), "w2": ("P_0", None)})


def hidden(params, x):
    return jax.nn.relu(x.reshape(*x.shape[:-1], -1) @ params["w1"]) @ params["w2"]


def one_output(params, x):
    return hidden(params, x)[:, 0]


def tokens_out(params, tokens):
    return jax.nn.relu(params["w1"][tokens]) @ params["w2"]


def network(seed, num_in, num_out, width=6):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (num_in, width), "w2": (width, num_out)}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def data_of(train, test, num_classes=5):
    """A data set of two pairs of images and labels."""
    return rl.Dataset(
        name="own",
        title="Own",
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        num_classes=num_classes,
        class_names=tuple("abcdefghijk"[:num_classes]),
        digest="",
        source="tests",
    )


# -- other losses --------------------------------------------------------------------------------


def mean_squared(outputs, targets):
    return ((outputs - targets) ** 2).mean()


def masked(logits, labels):
    kept = labels != -100
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(kept, labels, 0))
    return losses, kept


def sigmoid(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels)


def forward(params, x, is_tokens=False):
    """The network in float64."""
    w1, w2 = (params[name].astype(np.float64) for name in ("w1", "w2"))
    return np.maximum(w1[x] if is_tokens else x.astype(np.float64) @ w1, 0) @ w2


def log_softmax(z):
    return (
        z
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - z.max(-1, keepdims=True)
    )


def squared_oracle(params, x, y):
    return np.square(forward(params, x)[:, 0] - y).mean(), np.nan


def masked_oracle(params, x, y):
    logits, kept = forward(params, x, is_tokens=True), y != -100
    log_p = np.take_along_axis(log_softmax(logits), np.where(kept, y, 0)[..., None], -1)[..., 0]
    return -log_p[kept].mean(), (logits.argmax(-1) == y)[kept].mean()


def sigmoid_oracle(params, x, y):
    z = forward(params, x)
    return (np.logaddexp(0, z) - y * z).mean(), np.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network, what it is for, and its loss in NumPy."""

    apply_fn: object
    loss_fn: object
    oracle: object
    train: tuple
    test: tuple
    nets: tuple

    @property
    def model(self):
        return types.SimpleNamespace(apply=self.apply_fn)

    @functools.cached_property
    def data(self):
        return data_of(self.train, self.test)

    @functools.cached_property
    def line(self):
        return [rl.lerp(lam, *self.nets[:2]) for lam in (0.0, 0.5, 1.0)]


def task(apply_fn, loss_fn, oracle, images, labels, num_in, num_out):
    nets = tuple(network(seed, num_in, num_out) for seed in range(3))
    train, test = (images[:40], labels[:40]), (images[40:], labels[40:])
    return Task(apply_fn, loss_fn, oracle, train, test, nets)


_X = RNG.standard_normal((60, 8)).astype(np.float32)
_TOKENS = RNG.integers(0, 11, (60, 7)).astype(np.int32)
TASKS = {
    "regression": task(
        one_output, mean_squared, squared_oracle, _X, RNG.standard_normal(60).astype("f4"), 8, 1
    ),
    "masked tokens": task(
        tokens_out,
        masked,
        masked_oracle,
        _TOKENS,
        np.where(RNG.random((60, 7)) < 0.6, RNG.integers(0, 11, (60, 7)), -100).astype(np.int32),
        11,
        11,
    ),
    "multi-label": task(
        hidden, sigmoid, sigmoid_oracle, _X, RNG.integers(0, 2, (60, 4)).astype("f4"), 8, 4
    ),
}
of_task = pytest.mark.parametrize("one", TASKS.values(), ids=TASKS.keys())


@of_task
@pytest.mark.parametrize("batch_size", [7, 5000])
def test_any_loss_is_numpys(one, batch_size, monkeypatch):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    for params in one.nets:
        measured = rl.evaluate(one.apply_fn, params, *one.test, loss_fn=one.loss_fn)
        assert measured == pytest.approx(one.oracle(params, *one.test), rel=1e-5, nan_ok=True)


@of_task
def test_lines_planes_and_walks_have_any_loss(one):
    options = {"num_lambdas": 3, "loss_fn": one.loss_fn}
    loss, accuracy = np.array([one.oracle(params, *one.test) for params in one.line]).T
    curves = [
        rl.interpolation_curve(one.apply_fn, *one.nets[:2], one.data, **options),
        variance_collapse.walk_line(
            one.model, SPEC, *one.nets[:2], one.data, images=one.data.train_images, **options
        ).curve,
    ]
    for curve in curves:
        np.testing.assert_allclose(curve.test_loss, loss, rtol=1e-5)
        np.testing.assert_allclose(curve.test_accuracy, accuracy, rtol=1e-6)
        assert curve.loss_name == one.loss_fn.__name__
        assert rl.loss_barrier(curve) == pytest.approx(loss.max() - (loss[0] + loss[2]) / 2, 1e-4)
    plane = rl.loss_contour(
        one.apply_fn,
        *one.nets,
        *one.test,
        resolution=2,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        loss_fn=one.loss_fn,
    )
    np.testing.assert_allclose(plane.loss[0], loss[[0, 2]], rtol=1e-4)
    assert plane.loss_name == one.loss_fn.__name__


@of_task
def test_matchers_that_look_at_a_loss_look_at_any(one):
    short = {"num_epochs": 2, "batch_size": 10, "num_eval_images": 1000}
    compared = rl.compare_matchers(
        SPEC,
        *one.nets[:2],
        apply_fn=one.apply_fn,
        data=one.data,
        methods={"naive": {}, "straight_through": short, "steepest_descent": {}},
        num_lambdas=3,
        loss_fn=one.loss_fn,
    )
    for name, of_it in compared.items():
        moved = rl.apply_permutation(SPEC, of_it.permutation, one.nets[1])
        middle = rl.lerp(0.5, one.nets[0], moved)
        assert of_it.curve.test_loss[1] == pytest.approx(one.oracle(middle, *one.test)[0], rel=1e-5)
        if name == "straight_through":
            half_way = one.oracle(middle, *one.train)[0]
            assert -of_it.result.objective[-1] == pytest.approx(half_way, rel=1e-5)
    table = rl.comparison_table([compared])
    assert f"train barrier {one.loss_fn.__name__}" in table
    assert "nan" not in table


@of_task
@pytest.mark.parametrize("batch_size", [7, 5000])
def test_the_gradient_of_any_loss_is_its_slope(one, batch_size):
    gradient = baselines.train_loss_gradient(
        one.apply_fn, one.nets[0], one.data, loss_fn=one.loss_fn, batch_size=batch_size
    )
    ahead, behind = (
        {name: leaf + step * gradient[name] for name, leaf in one.nets[0].items()}
        for step in (1e-6, -1e-6)
    )
    slope = (one.oracle(ahead, *one.train)[0] - one.oracle(behind, *one.train)[0]) / 2e-6
    assert slope == pytest.approx(sum(np.square(g).sum() for g in gradient.values()), rel=1e-3)


@of_task
def test_an_ensemble_of_any_network_is_the_mean_of_outputs(one):
    together = rl.ensemble(one.apply_fn, combine="outputs")
    outputs = np.mean([one.apply_fn(params, one.test[0]) for params in one.nets], axis=0)
    np.testing.assert_allclose(together(list(one.nets), one.test[0]), outputs, rtol=1e-5)
    rl.evaluate(together, list(one.nets), *one.test, loss_fn=one.loss_fn)


def test_an_ensemble_of_numbers_has_no_probabilities():
    one = TASKS["regression"]
    with pytest.raises(ValueError, match="combine='outputs'"):
        rl.evaluate(rl.ensemble(one.apply_fn), list(one.nets), *one.test, loss_fn=one.loss_fn)
    column = lambda params, x: one_output(params, x)[:, None]  # noqa: E731
    with pytest.raises(ValueError, match="two classes or more"):
        rl.ensemble(column)(list(one.nets), one.test[0])


NAMES = {
    "a function": (mean_squared, "mean_squared"),
    "a part of one": (functools.partial(mean_squared), "mean_squared"),
    "a lambda": (lambda z, y: mean_squared(z, y), "loss"),
    "none": (None, None),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_loss_is_called_by_the_name_of_its_function(kind):
    loss_fn, name = NAMES[kind]
    assert metrics.loss_name(loss_fn) == name


def test_a_table_of_lines_with_two_losses_is_refused():
    one = TASKS["multi-label"]
    compared = [
        rl.compare_matchers(
            SPEC, *one.nets[:2], apply_fn=one.apply_fn, data=one.data, methods=["naive"],
            num_lambdas=2, loss_fn=loss_fn,
        )
        for loss_fn in (sigmoid, mean_squared)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="lines of one loss"):
        rl.comparison_table(compared)


def test_sums_of_half_precision_do_not_overflow():
    params = jax.tree.map(lambda leaf: (20 * leaf).astype(np.float16), network(0, 8, 5))
    images, labels = RNG.standard_normal((3000, 8)).astype(np.float16), RNG.integers(0, 5, 3000)
    logits = np.asarray(hidden(params, images), np.float64)
    loss = -np.take_along_axis(log_softmax(logits), labels[:, None], 1).mean()
    assert loss * 3000 > np.finfo(np.float16).max
    assert rl.evaluate(hidden, params, images, labels).loss == pytest.approx(loss, rel=1e-5)
    each = lambda z, y: z[:, 0] ** 2  # noqa: E731
    measured = rl.evaluate(hidden, params, images / 100, labels, loss_fn=each)
    assert measured.loss == pytest.approx(np.square(logits[:, 0] / 100).mean(), rel=1e-2)


# -- entries -------------------------------------------------------------------------------------


class Normed:
    """A network with a running mean: what `reestimate_statistics` takes."""

    statistics_paths = frozenset({"mean"})

    def __init__(self, apply_fn):
        self.apply_fn = apply_fn

    def __hash__(self):
        return hash(self.apply_fn)

    def __eq__(self, other):
        return self.apply_fn == other.apply_fn

    def apply_training(self, params, images):
        outputs = self.apply_fn(params, images)
        mean = images.reshape(len(images), -1).astype(jnp.float32).mean(0)
        return outputs, {**params, "mean": mean}


PARAMS = network(0, 8, 5), network(1, 8, 5), network(2, 8, 5)
IMAGES = RNG.integers(0, 2, (60, 8)).astype(np.float32)
LABELS = RNG.integers(0, 5, 60).astype(np.int32)


def by_matcher(method):
    def call(apply_fn, nets, images, labels, **options):
        short = {"num_epochs": 1, "batch_size": 10} if method == "straight_through" else {}
        data = data_of((images, labels), (images, labels))
        result = rl.match(
            method, SPEC, *nets[:2], apply_fn=apply_fn, data=data, **(short | options)
        )
        return result.objective

    return call


def activations_of(apply_fn, nets):
    example = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    return rl.symmetry.trace_activations(apply_fn, SPEC, nets[0], example)


def curve_numbers(curve):
    return [values for field, values in vars(curve).items() if field != "loss_name"]


def line(apply_fn, nets, images, labels, **options):
    data = data_of((images, labels), (images, labels))
    options = {"num_lambdas": 3} | options
    return curve_numbers(rl.interpolation_curve(apply_fn, *nets[:2], data, **options))


def plane(apply_fn, nets, images, labels, **options):
    options = {"resolution": 2} | options
    return rl.loss_contour(apply_fn, *nets, images, labels, **options).loss


def compared(apply_fn, nets, images, labels, **options):
    options = {"num_lambdas": 2, "methods": ["naive", "activation"]} | options
    data = data_of((images, labels), (images, labels))
    found = rl.compare_matchers(SPEC, *nets[:2], apply_fn=apply_fn, data=data, **options)
    return [curve_numbers(one.curve) for one in found.values()]


def walked(apply_fn, nets, images, labels, **options):
    options = {"num_lambdas": 2} | options
    walk = variance_collapse.walk_line(
        types.SimpleNamespace(apply=apply_fn),
        SPEC,
        *nets[:2],
        data_of((images, labels), (images, labels)),
        images=images,
        **options,
    )
    return [*curve_numbers(walk.curve), walk.std]


def gathered(apply_fn, nets, images, labels):
    found = matching.statistics.gather_statistics(activations_of(hidden, nets), *nets[:2], [images])
    return [one.comoment for one in found.values()]


# Entry -> a call with (apply_fn, three networks, images, labels), of which the result is numbers.
ENTRIES = {
    "evaluate": lambda f, nets, x, y, **options: rl.evaluate(f, nets[0], x, y, **options),
    "curve": line,
    "contour": plane,
    "compare": compared,
    "walk": walked,
    "straight-through": by_matcher("straight_through"),
    "steepest descent": by_matcher("steepest_descent"),
    "ensemble": lambda f, nets, x, y: rl.evaluate(rl.ensemble(f), list(nets), x, y),
    "calibration": lambda f, nets, x, y, **options: dataclasses.astuple(
        rl.calibration_summary(f, nets[0], x, y, **options)
    ),
    # These have no use for labels.
    "activation": by_matcher("activation"),
    "combined": by_matcher("combined"),
    "logits": lambda f, nets, x, y: calibration.predicted_logits(f, nets[0], x),
    "spread": lambda f, nets, x, y: [
        *variance_collapse.activation_std(activations_of(f, nets), nets[0], x).values()
    ],
    "running statistics": lambda f, nets, x, y, **options: merging.reestimate_statistics(
        Normed(f), {**nets[0], "mean": np.zeros(8, np.float32)}, x, **({"batch_size": 20} | options)
    )["mean"],
    "statistics": gathered,
}
WITHOUT_LABELS = tuple(ENTRIES)[9:]
of_entry = pytest.mark.parametrize("entry", ENTRIES)


# -- kinds of arrays -----------------------------------------------------------------------------

ARRAYS = {
    "JAX": (jnp.asarray, jnp.asarray),
    "tensors": (Tensor, lambda y: Tensor(y.astype(np.int64), "torch.int64")),
    "Fortran": (np.asfortranarray, np.asfortranarray),
    "read-only": (lambda x: _frozen(x.copy()), lambda y: _frozen(y.copy())),
    "strided": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda y: np.repeat(y, 2)[::2]),
    "backwards": (lambda x: x[::-1].copy()[::-1], lambda y: y[::-1].copy()[::-1]),
    "big-endian": (lambda x: x.astype(">f4"), lambda y: y.astype(">i4")),
    "float64": (lambda x: x.astype(np.float64), lambda y: y.astype(np.int64)),
    "bytes": (lambda x: x.astype(np.uint8), lambda y: y.astype(np.uint8)),
    "bool": (lambda x: x.astype(bool), lambda y: y.astype(np.uint64)),
    "float16": (lambda x: x.astype(np.float16), lambda y: y.astype(np.int16)),
    "bfloat16": (lambda x: x.astype(ml_dtypes.bfloat16), lambda y: y.astype(np.int8)),
}


def _frozen(array):
    array.flags.writeable = False
    return array


@functools.cache
def numbers_of(entry, kind=None):
    """The numbers of an entry, for NumPy's arrays or another kind."""
    of_images, of_labels = ARRAYS.get(kind, (np.asarray, np.asarray))
    found = ENTRIES[entry](hidden, PARAMS, of_images(IMAGES), of_labels(LABELS))
    return np.hstack([np.ravel(x) for x in found])


@of_entry
@pytest.mark.parametrize("kind", ARRAYS)
def test_any_kind_of_array_gives_what_numpy_gives(entry, kind):
    # Images of zeros and ones are the same in every type; sums over half of one are not.
    rtol = 1e-5 if kind in ("float16", "bfloat16") else 1e-6
    np.testing.assert_allclose(numbers_of(entry, kind), numbers_of(entry), rtol=rtol)


# -- mistakes ------------------------------------------------------------------------------------


def spoiled(array, index, value):
    array = array.copy()
    array[index] = value
    return array


LABEL_MISTAKES = {
    "a column": lambda y: y[:, None],
    "one-hot": lambda y: np.eye(5, dtype=np.int32)[y],
    "soft": lambda y: np.eye(5, dtype=np.float32)[y],
    "floats": lambda y: y.astype(np.float32),
    "bool": lambda y: y == 0,
    "complex": lambda y: y.astype(np.complex64),
    "texts": lambda y: y.astype(str),
    "objects": lambda y: y.astype(object),
    "dates": lambda y: y.astype("datetime64[s]"),
    "masked": lambda y: np.ma.masked_equal(y, 3),
    "a list": lambda y: y.tolist(),
    "none": lambda y: None,
    "one number": lambda y: np.int32(3),
    "too high": lambda y: spoiled(y, 7, 5),
    "far too high": lambda y: spoiled(y.astype(np.int64), 7, 2**40),
    "unsigned -1": lambda y: spoiled(y, 7, -1).astype(np.uint32),
    "-1": lambda y: spoiled(y, -1, -1),
    "-100": lambda y: spoiled(y, -1, -100),
    "one more axis": lambda y: np.stack([y, y]),
}
IMAGE_MISTAKES = {
    "NaN": lambda x: spoiled(x, (59, 3), np.nan),
    "NaN in one": lambda x: spoiled(x, (3, 3), np.nan),
    "none": lambda x: None,
    "a list": lambda x: x.tolist(),
    "a text": lambda x: "images",
    "objects": lambda x: x.astype(object),
    "texts": lambda x: x.astype(str),
    "masked": lambda x: np.ma.masked_less(x, 0.5),
    "too large": lambda x: spoiled(x.astype(np.float64), (0, 0), 1e300),
    "long doubles": lambda x: x.astype(np.longdouble),
    "one number": lambda x: np.float32(1),
    "empty": lambda x: x[:0],
}


class Unhashable:
    __hash__ = None

    def __call__(self, params, x):
        return hidden(params, x)


FUNCTION_MISTAKES = {
    "one row": lambda params, x: hidden(params, x)[:1],
    "a row less": lambda params, x: hidden(params, x)[1:],
    "a number": lambda params, x: hidden(params, x).sum(),
    "NumPy": lambda params, x: jnp.asarray(np.asarray(x)) @ params["w1"] @ params["w2"],
    "an if": lambda params, x: hidden(params, x) if x.sum() > 0 else hidden(params, -x),
    "no function": "hidden",
    "nothing": None,
    "one argument": lambda params: params,
    "three arguments": lambda params, x, key: hidden(params, x),
    "unhashable": Unhashable(),
    "raises": lambda params, x: params["nowhere"],
    "does not fit": lambda params, x: x @ params["w2"],
    "of other images": lambda params, x: hidden(params, x[:, :4]),
}
OUTPUT_MISTAKES = {
    "a pair": lambda params, x: (hidden(params, x), x),
    "a dict": lambda params, x: {"logits": hidden(params, x)},
    "returns None": lambda params, x: None,
    "a number each": lambda params, x: hidden(params, x)[:, 0],
    "integers": lambda params, x: hidden(params, x).astype(int),
    "complex": lambda params, x: hidden(params, x) + 0j,
}


def mistakes():
    """(entry, which argument is wrong, how)."""
    for entry in ENTRIES:
        wrong = {"images": IMAGE_MISTAKES}
        if entry not in WITHOUT_LABELS:
            wrong["labels"] = LABEL_MISTAKES
        # These two take functions that have been traced before, and this one a model.
        if entry not in ("statistics", "spread", "running statistics"):
            wrong["apply_fn"] = FUNCTION_MISTAKES
        if entry not in WITHOUT_LABELS or entry == "logits":
            wrong["outputs"] = OUTPUT_MISTAKES
        yield from ((entry, what, kind) for what, kinds in wrong.items() for kind in kinds)


LOSS_MISTAKES = {
    "no function": "mean squared",
    "one argument": lambda z: z.mean(),
    "NumPy": lambda z, y: np.mean((np.asarray(z) - y[:, None]) ** 2),
    "an if": lambda z, y: z.mean() if z.mean() > 0 else -z.mean(),
    "does not fit": lambda z, y: ((z - y) ** 2).mean(),  # [60, 5] and [60]
    "raises": lambda z, y: z["logits"],
    "all with all": lambda z, y: (z[:, :1] - y[None]) ** 2,
    "nothing": lambda z, y: None,
    "three": lambda z, y: (z, y, y),
    "weights of another shape": lambda z, y: (z, y),
    "complex": lambda z, y: z[:, 0] * 1j,
}
LOSSES = ("evaluate", "curve", "contour", "compare", "walk", "straight-through", "steepest descent")


@pytest.mark.parametrize("entry", LOSSES)
@pytest.mark.parametrize("kind", LOSS_MISTAKES)
def test_a_loss_that_is_none_is_refused_in_a_sentence(entry, kind):
    with pytest.raises(ValueError, match="Expected .*loss_fn") as refusal:
        ENTRIES[entry](hidden, PARAMS, IMAGES, LABELS, loss_fn=LOSS_MISTAKES[kind])
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 900


@pytest.mark.parametrize("entry", LOSSES)
def test_a_mean_over_all_pairs_is_refused(entry):
    """Outputs [n, 1] and targets [n] make n * n differences, and their mean is a number."""
    column = lambda params, x: hidden(params, x)[:, :1]  # noqa: E731
    targets = LABELS.astype(np.float32)
    message = r"shape \(60, 60\) for labels of shape \(60,\)"
    # Tests refuse such sums anyway; a user's JAX makes them.
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=message):
        ENTRIES[entry](column, PARAMS, IMAGES, targets, loss_fn=mean_squared)
    ENTRIES[entry](column, PARAMS, IMAGES, targets[:, None], loss_fn=mean_squared)


PARAMETER_MISTAKES = {
    "NaN": {"w1": spoiled(PARAMS[0]["w1"], (2, 3), np.nan), "w2": PARAMS[0]["w2"]},
    "a text": {"w1": "weights", "w2": PARAMS[0]["w2"]},
    "texts": {"w1": PARAMS[0]["w1"].astype(str), "w2": PARAMS[0]["w2"]},
    "objects": {"w1": PARAMS[0]["w1"].astype(object), "w2": PARAMS[0]["w2"]},
    "a function": {"w1": hidden, "w2": PARAMS[0]["w2"]},
    "one missing": {"w1": PARAMS[0]["w1"]},
    "a list": [PARAMS[0]["w1"]],
    "nothing": None,
    "of other images": {"w1": PARAMS[0]["w1"][:7], "w2": PARAMS[0]["w2"]},
}


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "running statistics"])
@pytest.mark.parametrize("kind", PARAMETER_MISTAKES)
def test_parameters_that_are_none_are_refused_in_a_sentence(entry, kind):
    with pytest.raises(ValueError, match="Expected") as refusal:
        ENTRIES[entry](hidden, [PARAMETER_MISTAKES[kind]] * 3, IMAGES, LABELS)
    assert type(refusal.value) is ValueError


def test_running_statistics_are_those_of_a_model_or_a_function():
    wanted = "a model with statistics_paths and apply_training or a function"
    with pytest.raises(ValueError, match=wanted):
        merging.reestimate_statistics("hidden", PARAMS[0], IMAGES)
    assert merging.reestimate_statistics(hidden, PARAMS[0], IMAGES) is PARAMS[0]


@pytest.mark.parametrize(("entry", "what", "kind"), list(mistakes()))
def test_a_mistake_is_refused_in_a_sentence(entry, what, kind):
    function, images, labels = hidden, IMAGES, LABELS
    if what == "images":
        images = IMAGE_MISTAKES[kind](images)
    elif what == "labels":
        labels = LABEL_MISTAKES[kind](labels)
    else:
        function = (FUNCTION_MISTAKES | OUTPUT_MISTAKES)[kind]
    with pytest.raises(ValueError, match="Expected") as refusal:
        ENTRIES[entry](function, PARAMS, images, labels)
    assert type(refusal.value) is ValueError
    text = str(refusal.value)
    assert "\n" not in text
    assert 40 < len(text) < 700


# -- counts and lambdas --------------------------------------------------------------------------

COUNTS = [
    ("curve", "num_lambdas"),
    ("compare", "num_lambdas"),
    ("walk", "num_lambdas"),
    ("contour", "resolution"),
    ("activation", "batch_size"),
    ("activation", "num_images"),
    ("combined", "batch_size"),
    ("combined", "num_images"),
    ("steepest descent", "batch_size"),
    *(
        ("straight-through", name)
        for name in ("batch_size", "num_epochs", "match_every", "num_eval_images")
    ),
    ("calibration", "num_bins"),
    ("running statistics", "batch_size"),
    ("running statistics", "num_batches"),
]


@pytest.mark.parametrize(("entry", "name"), COUNTS)
@pytest.mark.parametrize("value", [0, -1, 2.5, np.nan, np.inf, True, "3", [3]], ids=str)
def test_counts_are_integers_above_zero(entry, name, value):
    with pytest.raises(ValueError, match="Expected.*got") as refusal:
        ENTRIES[entry](hidden, PARAMS, IMAGES, LABELS, **{name: value})
    assert type(refusal.value) is ValueError


@pytest.mark.parametrize(("entry", "name"), [one for one in COUNTS if one[1] == "batch_size"])
def test_batches_larger_than_the_data_are_all_of_it(entry, name):
    call = functools.partial(ENTRIES[entry], hidden, PARAMS, IMAGES, LABELS)
    np.testing.assert_array_equal(call(batch_size=np.int64(60)), call(batch_size=10**9))


@pytest.mark.parametrize("name", ["x_range", "y_range"])
@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, np.nan), (0.0,), (0.0, 0.0), None], ids=str)
def test_a_plane_has_two_ranges(name, ends):
    with pytest.raises(ValueError, match=f"Expected {name} to be two numbers"):
        plane(hidden, PARAMS, IMAGES, LABELS, **{name: ends})


LINES = {
    "unsorted": [0.0, 0.7, 0.3, 1.0],
    "NaN": [0.0, np.nan, 1.0],
    "twice the same": [0.0, 0.5, 0.5, 1.0],
    "beyond B": [0.0, 0.5, 1.5],
    "before A": [-0.5, 0.5, 1.0],
    "without A": [0.1, 1.0],
    "without B": [0.0, 0.9],
    "one point": [0.0],
    "empty": [],
    "of two axes": [[0.0, 1.0]],
}


@pytest.mark.parametrize("kind", LINES)
def test_a_barrier_is_that_of_a_line_from_a_to_b(kind):
    lambdas = np.array(LINES[kind])
    with pytest.raises(ValueError, match="Expected (lambdas|a line)"):
        rl.loss_barrier(rl.InterpolationCurve(lambdas, *[np.ones(lambdas.shape)] * 4))


def test_a_curve_has_a_value_for_each_lambda():
    values = np.ones(3)
    with pytest.raises(ValueError, match="test_loss for each of 3 lambdas"):
        rl.InterpolationCurve(np.linspace(0, 1, 3), values, values[:2], values, values)


# -- overflow ------------------------------------------------------------------------------------


def divided(params, x):
    """Infinite, and then NaN, where a scale is 0: half-way between 1 and -1."""
    return hidden(params, x) / params["scale"]


SCALED = tuple(
    {**net, "scale": np.float32(scale)} for net, scale in zip(PARAMS, (1, -1, 3), strict=True)
)
SCALED_SPEC = rl.PermutationSpec({**SPEC.axes, "scale": ()})


def test_a_line_that_is_nan_half_way_says_so_and_has_no_barrier():
    data = data_of((IMAGES, LABELS), (IMAGES, LABELS))
    half_way = r"loss is not finite at 1 of 3 points of the line, at lambda 0\.5 \(nan\)"
    with pytest.warns(UserWarning, match=half_way):
        curve = rl.interpolation_curve(divided, *SCALED[:2], data, num_lambdas=3)
    with pytest.warns(UserWarning, match=half_way):
        walk = variance_collapse.walk_line(
            types.SimpleNamespace(apply=divided),
            SCALED_SPEC,
            *SCALED[:2],
            data,
            images=IMAGES,
            num_lambdas=3,
        )
    with pytest.warns(UserWarning, match=half_way):
        compared = rl.compare_matchers(
            SCALED_SPEC, *SCALED[:2], apply_fn=divided, data=data, methods=["naive"], num_lambdas=3
        )
    for one in (curve, walk.curve, compared["naive"].curve):
        for split in ("train", "test"):
            loss, accuracy = getattr(one, f"{split}_loss"), getattr(one, f"{split}_accuracy")
            assert np.isnan(loss).tolist() == np.isnan(accuracy).tolist() == [False, True, False]
            for baseline in ("mean", "chord"):
                with pytest.warns(UserWarning, match=f"The {split}.*the barrier is nan"):
                    assert np.isnan(rl.loss_barrier(one, split=split, baseline=baseline))
    with pytest.warns(UserWarning, match="barrier is nan"):
        rows = rl.comparison_table([compared]).splitlines()
    assert rows[1].split()[4:] == ["-", "nan", "nan"]


def test_a_plane_with_holes_says_so():
    with pytest.warns(UserWarning, match=r"not finite at 1 of 9 points of the plane"):
        plane = rl.loss_contour(
            divided, *SCALED, IMAGES, LABELS, resolution=3, x_range=(0.0, 1.0), y_range=(0.0, 1.0)
        )
    assert np.argwhere(np.isnan(plane.loss)).tolist() == [[0, 1]]
    numbers = json.loads(json.dumps(plane.as_numbers(), allow_nan=False))
    assert numbers["loss"][0][1] is None


def test_nan_in_one_batch_says_so(monkeypatch):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", 10)
    marked = spoiled(IMAGES, (33, 0), 7)

    def fails_at_mark(params, x):
        return jnp.where((x[:, :1] == 7).any(), jnp.nan, hidden(params, x))

    with pytest.warns(UserWarning, match="The loss is NaN"):
        assert np.isnan(rl.evaluate(fails_at_mark, PARAMS[0], marked, LABELS)).all()
    # One of the images in that batch would be called right by accident.
    with pytest.raises(ValueError, match="10 of 60 images with NaN"):
        rl.calibration_summary(fails_at_mark, PARAMS[0], marked, LABELS)


def test_a_last_batch_of_another_number_of_rows_is_refused(monkeypatch):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", 50)
    cut = lambda params, x: hidden(params, x)[: 1 if len(x) < 50 else 50]  # noqa: E731
    with pytest.raises(ValueError, match=r"each of 10 images; got outputs of shape \(1, 5\)"):
        rl.evaluate(cut, PARAMS[0], IMAGES, LABELS)


def test_losses_that_are_infinite_on_the_line_are_told_of():
    ends, high = np.ones(3), np.array([1, np.inf, 1])
    with pytest.warns(UserWarning, match="and the barrier is inf"):
        barrier = rl.loss_barrier(
            rl.InterpolationCurve(np.linspace(0, 1, 3), *[high] * 2, *[ends] * 2)
        )
    assert barrier == np.inf


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", ["evaluate", "logits", "spread", "activation", "steepest descent", "curve", "walk"]
)
def test_fewer_images_at_a_time_give_the_same_numbers(entry, monkeypatch):
    seen = []

    def counted(params, x):
        seen.append(len(x))
        return hidden(params, x)

    def numbers():
        seen.clear()
        found = ENTRIES[entry](counted, PARAMS, IMAGES, LABELS)
        return np.hstack([np.ravel(x) for x in found]), min(seen)

    whole, all_at_once = numbers()
    monkeypatch.setattr(metrics.batches, "BATCH_BYTES", 60 * 8 * 4 // 3)
    parts, a_part = numbers()
    assert a_part < 25 < all_at_once or entry == "spread"
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_bytes_of_all_products_count_where_they_are_kept(monkeypatch):
    size = functools.partial(metrics.batch_size_for, hidden, PARAMS[0], IMAGES)
    # Of an image there are 6 numbers, as many of their ReLU, and 5 outputs.
    assert size() == 60
    monkeypatch.setattr(metrics.batches, "BATCH_BYTES", 4 * 6 * 30)
    assert size() == 30
    assert size(most=10) == 10
    assert size(num_kept=1) == 6 * 30 // (6 + 5)  # the ReLU is part of a product
    assert size(num_kept=2) == 6 * 30 // (2 * (6 + 5))
    monkeypatch.setattr(metrics.batches, "BATCH_BYTES", 1)
    assert size() == 1


@pytest.mark.parametrize("wrong", [(np.nan, 1.0), (1.0, np.nan), (np.inf, -np.inf)])
def test_a_mean_that_is_nan_is_refused(wrong):
    networks = [{"v": np.zeros(2), "w": np.array([1.0, value])} for value in wrong]
    with pytest.raises(ValueError, match="mean of the networks, 'w'.* 1 NaN"):
        rl.average(networks)
    rl.average([networks[0], {"v": np.ones(2), "w": np.ones(2)}], weights=[0, 1])


# -- figures -------------------------------------------------------------------------------------


def drawn(plot, numbers):
    """The figure of numbers that have been in a file."""
    with figures.drawing():
        return figures.draw(
            {
                "plot": plot,
                "size_inches": [8, 4],
                "numbers": json.loads(json.dumps(numbers, allow_nan=False)),
            }
        )


def labels_of(fig):
    return {label for ax in fig.axes for label in (ax.get_xlabel(), ax.get_ylabel()) if label}


def in_legends(fig):
    legends = [*fig.legends, *(ax.get_legend() for ax in fig.axes)]
    return [[text.get_text() for text in one.get_texts()] for one in legends if one is not None]


def plot_numbers(one):
    """Plot -> numbers as its docstring has them, of lines with a loss, and one barrier each."""
    options = {"loss_fn": one.loss_fn, "num_lambdas": 3}
    curve = rl.interpolation_curve(one.apply_fn, *one.nets[:2], one.data, **options)
    line, barrier = curve.as_numbers(), [rl.loss_barrier(curve)]
    plane = rl.loss_contour(
        one.apply_fn, *one.nets, *one.test, resolution=3, loss_fn=one.loss_fn
    ).as_numbers()
    named = {"loss_name": curve.loss_name} if curve.loss_name else {}
    lines = {"naive": line, "weight": line}
    method = {"method": "weight", "statistics": "none"}
    return {
        "interpolation": {"curves": {"naive": [line, line], "weight matching": [line, line]}},
        "barriers": {"pairs": ["1"], "naive": [2.0], "permuted": [1.0], "floor": 0.1} | named,
        "contour": plane | {"cap": 2.0},
        "line_position": {
            "curves": {"naive": line, "weight matching": line},
            "lam": 0.5,
            "images": [[[0.0]]],
            "answers": {"naive": [["a", True]]},
        },
        "halfway": {"loss": [2.0, 1.0]} | named,
        "method_lines": {"curves": lines},
        "matchers": {"methods": {"weight": {"cosines": [0.5], "barriers": [1.0]}}, "naive": [2.0]}
        | named,
        "matchers_by_width": {"widths": [8], "barriers": {"weight": [[1.0]]}} | named,
        "explored_lines": {"curves": lines, "metric": "loss", "splits": ["train", "test"]},
        "onset": {
            "epochs": [0, 1, 2],
            "barriers": {"naive": {"train": [[1.0, 2.0, 3.0]]}},
            "lines": [{"title": "epoch 1", "curves": {"naive": [line]}}],
            "marked": None,
        }
        | named,
        "untrained_lines": {"curves": {"naive": [line]}, "chance": 0.1},
        "widths": {
            "widths": [8],
            "names": ["8"],
            "xlabel": "width",
            "barriers": {"naive": [barrier], "weight": [barrier]},
            "accuracies": [[0.5]],
        }
        | named,
        "recipes": {
            "recipes": ["Adam"],
            "barriers": {"naive": [[1.0]]},
            "losses": [[1.0]],
            "moved": [[1.0]],
        }
        | named,
        "line_stop": {
            "lambdas": line["lambdas"],
            "stop": 1,
            "layers": ["w2"],
            "lines": [method | {"loss": line["test_loss"], "spread": [1.0]}],
        }
        | named,
    }


CLASSIFIER = Task(hidden, None, None, (IMAGES, LABELS), (IMAGES, LABELS), PARAMS)


@of_task
def test_axes_of_figures_name_the_loss(one):
    for plot, numbers in plot_numbers(one).items():
        found = labels_of(drawn(plot, numbers))
        assert any(one.loss_fn.__name__ in label for label in found), plot
        assert not any("nats" in label or "entropy" in label for label in found), plot


def test_axes_of_figures_say_nats_for_cross_entropy():
    for plot, numbers in plot_numbers(CLASSIFIER).items():
        assert any("nats" in label for label in labels_of(drawn(plot, numbers))), plot


@of_task
def test_where_there_is_no_accuracy_there_is_no_panel_and_no_legend(one):
    numbers = plot_numbers(one)
    undefined = one is not TASKS["masked tokens"]
    fig = drawn("interpolation", numbers["interpolation"])
    assert [ax.get_ylabel() for ax in fig.axes][1:] == ([] if undefined else ["accuracy (%)"])
    explored = drawn("explored_lines", numbers["explored_lines"] | {"metric": "accuracy"})
    assert bool(explored.axes[0].lines) is not undefined
    for each in (fig, explored):
        assert all(in_legends(each))
    assert bool(in_legends(explored)) is not undefined


def test_curves_of_two_losses_share_no_axis():
    numbers = [plot_numbers(TASKS[name]) for name in ("regression", "multi-label")]
    mixed = {"naive": numbers[0], "weight": numbers[1]}
    curves = {name: found["method_lines"]["curves"][name] for name, found in mixed.items()}
    with pytest.raises(ValueError, match=r"one loss .*\['mean_squared', 'sigmoid'\]"):
        drawn("method_lines", {"curves": curves})


def test_lines_with_a_hole_are_drawn_around_it():
    data = data_of((IMAGES, LABELS), (IMAGES, LABELS))
    with pytest.warns(UserWarning, match="not finite"):
        line = rl.interpolation_curve(divided, *SCALED[:2], data, num_lambdas=5).as_numbers()
    assert line["test_loss"][2] is None
    assert line["test_accuracy"][2] is None
    for plot, numbers in (
        ("interpolation", {"curves": {"naive": [line]}}),
        ("method_lines", {"curves": {"naive": line, "weight": line}}),
        ("explored_lines", {"curves": {"naive": line}, "metric": "accuracy", "splits": ["test"]}),
        (
            "loss_lines_with_levels",
            {
                "lambdas": line["lambdas"],
                "curves": {"naive": line["test_loss"]},
                "levels": {},
                "ylabel": "",
                "limit": None,
            },
        ),
    ):
        first = drawn(plot, numbers).axes[0].lines[0]
        assert np.isnan(first.get_ydata()).tolist() == [False, False, True, False, False], plot


@pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0), (1e5, 0), (1, -50), (1, 0)])
@pytest.mark.parametrize("name", [None, "likelihood"])
def test_losses_of_any_scale_are_in_view(scale, shift, name):
    """Those of a density may be negative, those of a regression of any size."""
    values = (scale * np.array([1.0, 3.0, 2.0]) + shift).tolist()
    named = {"loss_name": name} if name else {}
    curve = {"lambdas": [0.0, 0.5, 1.0], "train_loss": values, "test_loss": values} | named
    curve |= {"train_accuracy": [None] * 3, "test_accuracy": [None] * 3}
    plane = {"x": [0, 1, 2], "y": [0, 1, 2], "loss": [values] * 3, "cap": max(values)}
    models = {"A": [0, 0], "B": [1, 0], "C": [1, 1]}
    contour = drawn("contour", plane | {"models": models} | named)
    assert contour.axes[0].collections[0].levels[-1] == pytest.approx(max(values), rel=0.06)
    line = {"method": "weight", "statistics": "none", "loss": values, "spread": [1.0]}
    lines = {"lambdas": curve["lambdas"], "stop": 1, "layers": ["w"], "lines": [line]}
    for plot, numbers in (
        ("interpolation", {"curves": {"naive": [curve]}}),
        ("method_lines", {"curves": {"weight": curve}}),
        ("halfway", {"loss": values} | named),
        ("line_stop", lines | named),
    ):
        low, high = drawn(plot, numbers).axes[0].get_ylim()
        assert low <= min(values) < max(values) <= high, plot


def test_losses_half_way_that_were_infinite_are_left_out():
    history = [-np.inf, -2.0, -1.0]
    numbers = {"objective": history, "quantity": "minus the loss half-way", "visits_per_sweep": 0}
    with figures.drawing():
        fig = figures.draw(
            {
                "plot": "search",
                "size_inches": [8, 4],
                "numbers": numbers | {"layers": {"w": [0.1, 0.2]}},
            }
        )
    assert np.isnan(fig.axes[0].lines[0].get_ydata()).tolist() == [True, False, False]
    low, high = drawn("halfway", {"loss": [None, 2.0, 1.0]}).axes[0].get_ylim()
    assert (low, high) == pytest.approx((0, 2.3))


def test_an_exploration_of_what_names_no_classes_is_refused():
    one = TASKS["regression"]
    pair = exploration.Pair("own", one.data, one.apply_fn, *one.nets[:2])
    with pytest.raises(ValueError, match="compare_matchers, which takes a loss_fn"):
        exploration.explore_pair(exploration.Choices(), pair=pair)
