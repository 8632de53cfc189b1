"""Records: the same result without the work, and never another call's."""

import dataclasses
import functools
import json
import os

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import matching, paths, pytrees
from rebasin_lab.analysis import interpolation
from rebasin_lab.paper import cache, fingerprints
from rebasin_lab.training import checkpoints

SPEC = rl.mlp_permutation_spec(2)


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of the functions under test that do work."""
    counted = []
    measure = interpolation.metrics.measure

    def counting(*args, **options):
        counted.append(args)
        return measure(*args, **options)

    monkeypatch.setattr(interpolation.metrics, "measure", counting)
    return counted


def same(one, other):
    """Equal, field by field and bit by bit."""
    assert type(one) is type(other)
    fields, others = vars(one), vars(other)
    assert fields.keys() == others.keys()
    for name, value in fields.items():
        np.testing.assert_equal(value, others[name], err_msg=name)


def test_a_curve_is_computed_once(trained_pair, tiny_data, calls):
    model, params_a, params_b = trained_pair
    line = (model.apply, params_a, params_b, tiny_data)
    expected = rl.interpolation_curve(*line, num_lambdas=3)
    first = cache.cached(rl.interpolation_curve, *line, num_lambdas=3)
    del calls[:]
    again = cache.cached(rl.interpolation_curve, *line, num_lambdas=3)
    assert not calls
    same(first, expected)
    same(again, expected)


def test_a_matching_comes_back_whole(trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    for options in ({}, {"effort": "thorough"}):
        call = ("weight", SPEC, params_a, params_b)
        first = cache.cached(rl.match, *call, **options)
        again = cache.cached(rl.match, *call, **options)
        same(again, first)  # its seconds, too: they are those of the first call
        assert isinstance(again, matching.MatchingResult)
        assert all(isinstance(start, matching.Start) for start in again.starts)
        permuted = rl.apply_permutation(SPEC, again.permutation, params_b)
        assert pytrees.inner_product(params_a, permuted) == pytest.approx(again.objective[-1])


def test_a_named_tuple_keeps_its_names(trained_pair, tiny_data):
    model, params, _ = trained_pair
    call = (model.apply, params, tiny_data.test_images, tiny_data.test_labels)
    for _ in range(2):
        metrics = cache.cached(rl.evaluate, *call)
        assert metrics == rl.evaluate(*call)
        assert metrics.loss == metrics[0]


def changed_calls(trained_pair, data):
    model, params_a, params_b = trained_pair
    nudged = jax.tree.map(np.array, params_b)
    nudged["layers"][1]["bias"][3] += 1e-6
    other_model = rl.build_model("mlp", dataset=data, width=9, num_hidden_layers=2)
    return {
        "a weight": ((model.apply, params_a, nudged, data), {}),
        "another data set": ((model.apply, params_a, params_b, data.subset(np.arange(150))), {}),
        "the order": ((model.apply, params_b, params_a, data), {}),
        "an option": ((model.apply, params_a, params_b, data), {"num_lambdas": 5}),
        "the network": ((other_model.apply, params_a, params_b, data), {}),
    }


@pytest.mark.parametrize(
    "what", ["a weight", "another data set", "the order", "an option", "the network"]
)
def test_anything_that_changes_is_another_call(what, trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    args, options = changed_calls(trained_pair, tiny_data)[what]
    line = (model.apply, params_a, params_b, tiny_data)
    texts = [
        cache._call(rl.interpolation_curve, call, {"num_lambdas": 3} | extra)
        for call, extra in ((line, {}), (args, options))
    ]
    assert texts[0] != texts[1]


def test_an_equal_copy_is_the_same_call(trained_pair, tiny_data, calls):
    model, params_a, params_b = trained_pair
    line = (model.apply, params_a, params_b, tiny_data)
    cache.cached(rl.interpolation_curve, *line, num_lambdas=2, on_point=lambda: None)
    del calls[:]
    copies = [jax.tree.map(np.array, params) for params in (params_a, params_b)]
    other = rl.build_model("mlp", dataset=tiny_data, width=8, num_hidden_layers=2)
    cache.cached(rl.interpolation_curve, other.apply, *copies, tiny_data, num_lambdas=2)
    assert not calls


def test_other_code_is_another_call(monkeypatch, trained_pair, tiny_data, calls):
    model, params_a, params_b = trained_pair
    line = (model.apply, params_a, params_b, tiny_data)
    cache.cached(rl.interpolation_curve, *line, num_lambdas=2)
    del calls[:]
    monkeypatch.setattr(cache, "_code_digest", lambda: "edited")
    cache.cached(rl.interpolation_curve, *line, num_lambdas=2)
    assert calls


def test_a_damaged_record_is_computed_again(trained_pair, tiny_data, calls):
    model, params_a, params_b = trained_pair
    line = (model.apply, params_a, params_b, tiny_data)
    expected = cache.cached(rl.interpolation_curve, *line, num_lambdas=2)
    (path,) = cache.cache_dir().iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged .* computed again"):
        same(cache.cached(rl.interpolation_curve, *line, num_lambdas=2), expected)
    del calls[:]
    cache.cached(rl.interpolation_curve, *line, num_lambdas=2)
    assert not calls


def test_a_record_of_another_call_or_of_another_kind_is_computed_again(
    trained_pair, tiny_data, calls
):
    model, *params = trained_pair
    line = (model.apply, *params, tiny_data)
    expected = cache.cached(rl.interpolation_curve, *line, num_lambdas=2)
    (path,) = cache.cache_dir().iterdir()
    cache.cached(rl.interpolation_curve, *line, num_lambdas=3)
    (other,) = set(cache.cache_dir().iterdir()) - {path}
    network = checkpoints.save
    for damage in (
        lambda: path.write_bytes(other.read_bytes()),
        lambda: path.write_bytes(b""),
        lambda: network(path, params[0], {"result": {"list": []}}),
    ):
        damage()
        with pytest.warns(UserWarning, match="computed again"):
            same(cache.cached(rl.interpolation_curve, *line, num_lambdas=2), expected)
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="no file.*computed again|not cached"):
        same(cache.cached(rl.interpolation_curve, *line, num_lambdas=2), expected)


def test_data_is_known_by_its_content_whatever_its_digest_says(trained_pair, tiny_data):
    model, *params = trained_pair
    images = 1 - tiny_data.test_images

    def accuracy(**changes):
        data = dataclasses.replace(tiny_data, **changes)
        curve = cache.cached(rl.interpolation_curve, model.apply, *params, data, num_lambdas=2)
        again = rl.interpolation_curve(model.apply, *params, data, num_lambdas=2)
        same(curve, again)
        return curve.test_accuracy[0]

    assert accuracy() > 0.5
    assert accuracy(test_images=images) < 0.5
    assert accuracy(digest="", test_images=images) < 0.5
    assert accuracy(digest="") > 0.5


def test_a_default_counts_as_if_it_were_written(trained_pair, tiny_data, calls):
    model, *params = trained_pair
    line = (model.apply, *params)
    cache.cached(rl.interpolation_curve, *line, tiny_data, num_lambdas=25)
    del calls[:]
    cache.cached(rl.interpolation_curve, *line, data=tiny_data)
    assert not calls


def test_a_matcher_in_the_place_of_the_labs_has_no_record(monkeypatch, trained_pair, tiny_data):
    """Its name stands for its code, in a default too."""
    model, *params = trained_pair
    compared = {"apply_fn": model.apply, "data": tiny_data}
    other = dataclasses.replace(rl.MATCHERS["weight"], function=lambda *a, **o: None, efforts={})
    monkeypatch.setitem(rl.MATCHERS, "weight", other)
    for call in (
        lambda: cache.cached(rl.match, "weight", SPEC, *params),
        lambda: cache.cached(rl.compare_matchers, SPEC, *params, **compared),
        lambda: cache.cached(
            rl.compare_matchers, SPEC, *params, **compared, methods={"mine": {"method": "weight"}}
        ),
    ):
        with pytest.raises(ValueError, match="put in its place"):
            call()
    cache.cached(rl.match, "greedy", SPEC, *params)


def test_a_matcher_of_ones_own_has_no_record_unless_it_is_made_of_the_labs(
    monkeypatch, trained_pair, tiny_data
):
    model, *params = trained_pair
    compared = {"apply_fn": model.apply, "data": tiny_data, "num_lambdas": 2}

    def name_of_all():
        return cache._call(rl.compare_matchers, (SPEC, *params), compared)

    before = name_of_all()
    variant = rl.Matcher(functools.partial(matching.weight_matching, effort="fast"), "fast")
    monkeypatch.setitem(rl.MATCHERS, "mine", variant)
    fast = name_of_all()
    variant = rl.Matcher(functools.partial(matching.weight_matching, effort="thorough"), "fast")
    monkeypatch.setitem(rl.MATCHERS, "mine", variant)
    assert len({before, fast, name_of_all()}) == 3
    own = rl.Matcher(lambda spec, a, b, *, seed: None, "mine")
    monkeypatch.setitem(rl.MATCHERS, "mine", own)
    for call in (
        name_of_all,
        lambda: cache.cached(rl.match, "mine", SPEC, *params),
        lambda: cache.cached(rl.compare_matchers, SPEC, *params, **compared, methods=["mine"]),
    ):
        with pytest.raises(fingerprints.UnknownContentError, match="whose source is known"):
            call()


def test_settings_of_jax_are_part_of_a_call(trained_pair, monkeypatch):
    _, *params = trained_pair

    def name():
        return cache._call(rl.match, ("weight", SPEC, *params), {})

    names = [name()]
    for setting in (jax.default_matmul_precision("high"), jax.enable_x64(True)):
        with setting:
            names.append(name())
    with jax.default_prng_impl("rbg"):
        names.append(name())
    for variable, value in (
        ("NVIDIA_TF32_OVERRIDE", "0"),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
    ):
        monkeypatch.setenv(variable, value)
        names.append(name())
    monkeypatch.undo()
    assert len({*names}) == len(names)
    assert name() == names[0]
    flags = os.environ["XLA_FLAGS"]
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_cpu_multi_thread_eigen=false ")
    assert name() == names[0], "threads change no bits"


def test_a_record_that_cannot_be_written_costs_no_result(monkeypatch, trained_pair, tiny_data):
    def full(path, content):
        raise OSError("Could not write: the disk is full.")

    monkeypatch.setattr(paths, "write_atomically", full)
    model, params_a, params_b = trained_pair
    with pytest.warns(UserWarning, match="full.* not cached"):
        curve = cache.cached(
            rl.interpolation_curve, model.apply, params_a, params_b, tiny_data, num_lambdas=2
        )
    assert curve.train_loss.shape == (2,)


def test_a_record_names_nothing_but_the_labs_records(tmp_path):
    for name in ("pathlib:Path", "rebasin_lab.training.checkpoints:save"):
        with pytest.raises(checkpoints.CheckpointError, match="record of the lab"):
            cache._decoded({"record": name, "fields": {"mapping": []}}, {})


@dataclasses.dataclass
class Other:
    """Nothing the lab knows."""

    value: complex


def test_bytes_come_back_as_they_were():
    for value in (b"", b"\x00\xff"):
        arrays = {}
        encoded = json.loads(json.dumps(cache._encoded([value], arrays)))
        assert cache._decoded(encoded, arrays) == [value]


def test_a_result_of_another_kind_is_refused():
    for value in (1j, {(1, 2): 3}, Other(1j), {1, 2}):
        with pytest.raises(ValueError, match="Expected a result"):
            cache._encoded(value, {})
