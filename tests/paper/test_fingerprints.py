"""What tells two values apart, and what is refused because nothing could."""

import collections
import dataclasses
import functools
import io
import itertools
import os
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab import datasets, matching, metrics, models
from rebasin_lab.paper import cache, fingerprints, networks, store
from rebasin_lab.training import training_loop

One = collections.namedtuple("One", "x y")
Two = collections.namedtuple("Two", "x y")

# No two of these are the same.
DIFFERENT = [
    *(None, True, 1, 1.0, 1 + 0j, "1", b"1", np.int32(1), np.int64(1), np.float64(1)),
    *(False, 0, 0.0, -0.0, complex(0, -0.0), complex(-0.0, 0), "", b""),
    *("None", "nan", float("nan"), float("inf"), 1e-300, "\ud800", "list of 0"),
    *([], (), {}, set(), frozenset(), [[]], [()], {"": ()}, [1], (1,), [True], ["1"], [1.0]),
    *([1, 2], [2, 1], [[1], 2], [[1, 2]], [1, [2]], {1, 2}, frozenset({1, 2}), range(1, 3)),
    *({1: 2}, {"1": 2}, {True: 2}, {1.0: 2}, {(1,): 2}, {1: {2: 3}}, {1: 2, 2: 3}, {2: 3, 1: 2}),
    *(One(1, 2), Two(1, 2), (1, 2)),
    *(np.zeros(2, dtype) for dtype in ("f4", ">f4", "f8", "f2", "i4", "u4", "c8", "?", "M8[s]")),
    *(np.zeros(2, ml_dtypes.bfloat16), np.zeros(2, ml_dtypes.float8_e4m3fn)),
    *(np.zeros(shape) for shape in ((), (1,), (0,), (0, 2), (2, 0), (2, 2), (1, 2), (2, 1))),
    *(-np.zeros((2, 2)), np.arange(4.0), np.arange(4.0)[::-1], np.array(["a", "b"])),
    *(jnp.asarray(1.0), jnp.float32(1.0), jax.random.key(0), jax.random.key(1)),
    *(jax.random.key(0, impl="rbg"), np.dtype("f4"), np.dtype("f8")),
    *(rl.TrainConfig(), rl.TrainConfig(batch_size=1), datasets.View(), datasets.View(num_train=1)),
    *(rl.mlp_permutation_spec(1), rl.mlp_permutation_spec(2)),
    *(rl.evaluate, rl.match, matching.weight_matching, functools.partial(rl.evaluate)),
    *(functools.partial(rl.match, "weight"), functools.partial(rl.match, method="weight")),
]


def test_what_differs_in_type_or_content_is_told_apart():
    digests = [fingerprints.digest(value) for value in DIFFERENT]
    for i, j in itertools.combinations(range(len(DIFFERENT)), 2):
        assert digests[i] != digests[j], (DIFFERENT[i], DIFFERENT[j])


def copies():
    array = np.arange(24.0).reshape(2, 3, 4)
    model = rl.build_model(
        "mlp", dataset=datasets.load_dataset("digits8x8"), width=8, num_hidden_layers=2
    )
    return {
        "layout": (array, np.asfortranarray(array)),
        "a view": (array[:, ::2], array[:, ::2].copy()),
        "backwards": (array[::-1], array[::-1].copy()),
        "of JAX": (array.astype(np.float32), jnp.asarray(array, jnp.float32)),
        "sets": ({"a", "b", "c"}, {"c", "b", "a"}),
        "a method": (model.apply, models.Model(**_fields(model)).apply),
        "a spec": (rl.mlp_permutation_spec(2), rl.mlp_permutation_spec(2)),
        "a partial": tuple(functools.partial(rl.match, "weight") for _ in range(2)),
    }


def _fields(model):
    return {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}


@pytest.mark.parametrize("what", copies())
def test_an_equal_copy_is_the_same(what):
    one, other = copies()[what]
    assert fingerprints.digest(one) == fingerprints.digest(other)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_plain_values_are_the_same_if_they_are_written_the_same(one, other):
    """An oracle of its own: Python's notation keeps types, order, signs of zero, all but NaNs."""
    assert (fingerprints.digest(one) == fingerprints.digest(other)) == (repr(one) == repr(other))
    assert (fingerprints.digest([one, other]) == fingerprints.digest([[one], other])) is False


class Callable:
    def __call__(self, params, images):
        return images


@functools.wraps(rl.evaluate)
def wrapped(*args):
    return rl.evaluate(*args)


class OwnModel(models.Model):
    def apply(self, params, images):
        return images


class OwnData(datasets.Dataset):
    pass


@dataclasses.dataclass
class OwnConfig:
    x: int = 1


class OwnList(list):
    pass


class OwnInt(int):
    pass


def renamed():
    def evaluate():
        return 1

    evaluate.__module__, evaluate.__qualname__ = "rebasin_lab.metrics", "evaluate"
    return evaluate


def unknown():
    model = rl.build_model(
        "mlp", dataset=datasets.load_dataset("digits8x8"), width=8, num_hidden_layers=2
    )
    data = datasets.load_dataset("digits8x8")
    with_attribute = functools.partial(rl.match)
    with_attribute.more = 1
    return {
        "object": object(),
        "lambda": lambda: 1,
        "built-in": len,
        "class": int,
        "instance": Callable(),
        "method": Callable().__call__,
        "wrapped": wrapped,
        "renamed": renamed(),
        "own model's method": OwnModel(**_fields(model)).apply,
        "own data": OwnData(**_fields(data)),
        "own dataclass": OwnConfig(),
        "own list": OwnList(),
        "own integer": OwnInt(1),
        "own lambda in a partial": functools.partial(lambda: 1),
        "partial with an attribute": with_attribute,
        "jitted": jax.jit(model.apply),
        "ensemble": rl.ensemble(model.apply),
        "generator": (i for i in range(3)),
        "iterator": iter([1]),
        "count": itertools.count(),
        "map": map(int, []),
        "lock": threading.Lock(),
        "file": io.BytesIO(b""),
        "random generator": np.random.default_rng(0),
        "array of objects": np.array([object()]),
        "masked array": np.ma.masked_array([1, 2], [True, False]),
        "module": np,
        "memory": memoryview(b"1"),
        "weights of bytes": bytearray(b"1"),
    }


@pytest.mark.parametrize("what", unknown())
def test_what_has_no_content_that_can_be_known_is_refused(what):
    value = unknown()[what]
    for nested in (value, [value], {"a": (value,)}):
        with pytest.raises(ValueError, match=r"Expected .*Call (it|the function) itself"):
            fingerprints.digest(nested)
    if getattr(value, "__hash__", None) is not None and not isinstance(value, memoryview):
        with pytest.raises(ValueError, match="Expected"):
            fingerprints.digest({value: 1})


def test_an_array_that_is_traced_is_refused():
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(fingerprints.digest)(np.ones(3))


def test_data_is_hashed_again_when_it_may_have_changed(tiny_data):
    """Read-only or not: it may be a view of what can be written to, or have such views."""
    base, locked = (tiny_data.test_images.copy() for _ in range(2))
    view, window = base[:], locked[:]
    for array in (view, locked):
        array.flags.writeable = False
    for images, written in ((base, base), (view, base), (view[:], base), (locked, window)):
        data = dataclasses.replace(tiny_data, test_images=images)
        before = data.content_digest()
        written[0, 0, 0, 0] += 1
        assert data.content_digest() != before


def test_data_of_the_lab_that_was_unlocked_is_hashed_again():
    data = datasets.load_dataset("digits8x8")
    before = data.content_digest()
    data.test_labels.flags.writeable = True
    assert data.content_digest() == before
    data.test_labels[0] += 1
    data.test_labels.flags.writeable = False
    assert data.content_digest() != before


def test_data_that_cannot_change_is_hashed_once(tiny_data, monkeypatch):
    before = dataclasses.replace(tiny_data).content_digest()
    monkeypatch.setattr(np, "ascontiguousarray", lambda array: pytest.fail("hashed again"))
    assert dataclasses.replace(tiny_data, digest="").content_digest() == before


@pytest.mark.parametrize(
    "field", ["train_images", "train_labels", "test_images", "test_labels", "num_classes"]
)
def test_every_field_of_data_that_is_computed_with_counts(field, tiny_data):
    value = getattr(tiny_data, field)
    other = value + 1 if field == "num_classes" else value[::-1]
    changed = dataclasses.replace(tiny_data, **{field: other})
    assert changed.digest == tiny_data.digest
    assert fingerprints.digest(changed) != fingerprints.digest(tiny_data)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (training_loop, "STATISTICS_MOMENTUM", 0.5),
        (metrics, "BATCH_SIZE", 7),
        (training_loop, "HISTORY_FIELDS", ("train_loss",)),
    ],
)
def test_a_constant_that_was_set_to_another_value_is_other_code(
    module, name, value, monkeypatch, tiny_data
):
    experiment = networks.Experiment("digits8x8", 0, rl.TrainConfig())

    def names():
        return (
            cache._call(rl.log10_num_symmetries, (rl.mlp_permutation_spec(1), {"a": 1}), {}),
            store.digest(store.describe(experiment, tiny_data)),
        )

    before = names()
    with monkeypatch.context() as patched:
        patched.setattr(module, name, value)
        assert all(one != other for one, other in zip(names(), before, strict=True))
    assert names() == before


def test_a_constant_counts_that_was_set_before_anything_looked_at_it():
    program = """
import subprocess
import sys
import rebasin_lab as rl
if len(sys.argv) > 1:
    from rebasin_lab.training import training_loop
    training_loop.STATISTICS_MOMENTUM = 0.5
from rebasin_lab.paper import cache, networks, store
experiment = networks.Experiment("digits8x8", 0, rl.TrainConfig())
print(store.digest(store.describe(experiment, experiment.load_dataset())))
print(cache._call(rl.log10_num_symmetries, (rl.mlp_permutation_spec(1), {"a": 1}), {}))
"""
    as_it_is, again, changed = (
        subprocess.run(
            [sys.executable, "-c", program, *more], capture_output=True, text=True, check=True
        ).stdout.split()
        for more in ([], [], ["changed"])
    )
    assert as_it_is == again
    assert all(one != other for one, other in zip(as_it_is, changed, strict=True))


@pytest.mark.parametrize("asked", ["store", "cache"])
def test_code_that_was_edited_after_a_part_was_loaded_is_no_identity(tmp_path, asked):
    """The process may run the old code of a module while its file has the new."""
    shutil.copytree(fingerprints.PACKAGE, tmp_path / "rebasin_lab")
    program = """
import sys
import rebasin_lab as rl
rl.match  # loads the matchers
if len(sys.argv) > 2:
    edited = rl.matching.__file__ if sys.argv[1] == "cache" else rl.pytrees.__file__
    with open(edited, "a") as file:
        file.write("# edited")
from rebasin_lab.paper import cache, networks, store
if sys.argv[1] == "store":
    experiment = networks.Experiment("digits8x8", 0, rl.TrainConfig())
    store.describe(experiment, experiment.load_dataset())
else:
    cache._call(rl.log10_num_symmetries, (rl.mlp_permutation_spec(1), {"a": 1}), {})
"""
    for more in ([], ["edited"]):
        done = subprocess.run(
            [sys.executable, "-c", program, asked, *more],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        last_line = done.stderr.splitlines()[-1] if done.returncode else ""
        assert ("EditedError" in last_line and "restart the kernel" in last_line) == bool(more)


def test_what_goes_while_constants_are_looked_at_is_no_error(monkeypatch):
    # As entries of `dataset._OWN` do, whenever garbage is collected.
    table, is_plain = {1: 2, 3: 4}, fingerprints._is_plain

    def collecting(value):
        table.pop(3, None)
        return is_plain(value)

    monkeypatch.setattr(datasets.dataset, "TABLE", table, raising=False)
    monkeypatch.setattr(fingerprints, "_is_plain", collecting)
    fingerprints.constants_digest("datasets")
    table[3] = 4
    assert is_plain(table)
    assert table == {1: 2}
