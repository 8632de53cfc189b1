"""What the explorer shows is what the library says: every number against a call by hand."""

import contextlib
import dataclasses
import io
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import datasets, models, pytrees
from rebasin_lab.analysis import variance_collapse
from rebasin_lab.lab import exploration
from rebasin_lab.lab.exploration import Choices, Pair
from rebasin_lab.paper.store import path_of
from rebasin_lab.training import checkpoints

SMALL = {"dataset": "digits8x8", "width": 16, "depth": 2, "num_epochs": 2}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An exploration of two small networks by two matchers."""
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REBASIN_RUNS", str(store))
        return exploration.explore_pair(Choices(**SMALL, matchers=("weight", "activation")))


@pytest.fixture
def planted(trained_pair, tiny_data):
    """A network, and itself in another order."""
    model, params, _ = trained_pair
    spec = rl.infer_permutation_spec(model.apply, params, tiny_data.test_images[:1])
    moved = rl.apply_permutation(spec, rl.random_permutation(spec, params, seed=3), params)
    pair = Pair("planted", tiny_data, model.apply, params, moved)
    return exploration.explore_pair(Choices(), pair=pair)


def output_of(code):
    """What a program prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "copied", "exec"), {})
    return printed.getvalue()


# The numbers


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    """Networks with BatchNorm, whose statistics are re-estimated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REBASIN_RUNS", str(tmp_path_factory.mktemp("store")))
        sizes = {"dataset": "digits8x8", "architecture": "resnet8_bn", "num_epochs": 1}
        yield exploration.explore_pair(
            Choices(**sizes, width=0.5, statistics="re-estimated", num_lambdas=3)
        )


@pytest.mark.slow
def test_statistics_of_batch_norm_are_re_estimated_at_every_point(normed):
    pair = normed.pair
    images = pair.data.train_images[: exploration.STATISTICS_IMAGES]
    walked = variance_collapse.walk_line(
        pair.model,
        pair.spec,
        pair.params_a,
        normed.moved["weight"],
        pair.data,
        images=images[:10],
        num_lambdas=3,
        statistics_from=images,
    )
    for field in ("train_loss", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(
            getattr(normed.compared["weight"].curve, field),
            getattr(walked.curve, field),
            rtol=1e-5,
        )
    step = normed.walk("weight", 0.5)
    assert step.loss == pytest.approx(walked.curve.test_loss[1], rel=1e-5)
    assert f"loss={step.loss}" in output_of(normed.as_code("weight", 0.5))


@pytest.mark.parametrize("method", ["naive", "weight"])
def test_images_that_divide_the_networks_are_found(small, method):
    pair, images = small.pair, jnp.asarray(small.pair.data.test_images)
    answers = [
        np.asarray(pair.apply_fn(params, images)).argmax(-1)
        for params in (pair.params_a, pair.params_b, small.merged(method, 0.5))
    ]
    differ = [len({*each}) for each in zip(*answers, strict=True)]
    found = small.disagreements(method)
    assert sorted(found) == [index for index, number in enumerate(differ) if number > 1]
    assert [differ[index] for index in found] == sorted((differ[i] for i in found), reverse=True)
    step = small.walk(method, 0.5, disagreeing=True)
    assert len(step.images) == len(step.answers)
    assert [answer for answer, _ in step.answers] == [answers[2][index] for index in step.images]


def test_lines_are_those_of_compare_matchers(small):
    pair = small.pair
    compared = rl.compare_matchers(
        pair.spec,
        pair.params_a,
        pair.params_b,
        apply_fn=pair.apply_fn,
        data=pair.data,
        methods=("naive", "weight", "activation"),
        num_lambdas=13,
    )
    assert small.methods == tuple(compared)
    for name, expected in compared.items():
        found = small.compared[name].curve.as_numbers()
        for field, values in expected.curve.as_numbers().items():
            # A comparison evaluates B once for all methods, in one order of its units.
            assert found[field] == pytest.approx(values, rel=1e-5), (name, field)


@pytest.mark.parametrize("method", ["naive", "weight"])
@pytest.mark.parametrize("lam", [0.0, 0.37, 1.0])
def test_walk_is_the_network_there(small, method, lam):
    pair = small.pair
    moved = rl.apply_permutation(pair.spec, small.compared[method].permutation, pair.params_b)
    merged = rl.lerp(np.float32(lam), pair.params_a, moved)
    expected = rl.evaluate(pair.apply_fn, merged, pair.data.test_images, pair.data.test_labels)
    walk = small.walk(method, lam)
    assert (walk.loss, walk.accuracy) == pytest.approx(tuple(expected))
    shown = jnp.asarray(pair.data.test_images[small.strip])
    logits = np.asarray(pair.apply_fn(merged, shown))
    chances = np.asarray(jax.nn.softmax(logits))
    assert [answer for answer, _ in walk.answers] == logits.argmax(1).tolist()
    np.testing.assert_allclose([c for _, c in walk.answers], chances.max(1), rtol=1e-5)


def test_strip_has_an_image_of_each_class(small):
    assert small.pair.data.test_labels[small.strip].tolist() == list(range(10))


def test_filters_go_from_those_of_a_to_those_of_b_in_its_order(small):
    end_a, end_b = (
        np.asarray(pytrees.flatten(params)["layers/0/kernel"])
        for params in (small.pair.params_a, small.moved["weight"])
    )
    strongest = np.argsort(-np.square(end_a).sum(0))
    for lam, end in ((0.0, end_a), (1.0, end_b), (0.5, (end_a + end_b) / 2)):
        expected = end.T[strongest].reshape(-1, 8, 8, 1)
        np.testing.assert_allclose(small.filters("weight", lam), expected, atol=1e-6)


def test_filters_of_a_convolution_are_its_kernels(tiny_data):
    model = rl.build_model("resnet8", dataset=tiny_data, width_multiplier=0.5)
    params = [model.init(jax.random.key(seed)) for seed in range(2)]
    pair = Pair("untrained", tiny_data, model.apply, *params)
    found = exploration.explore_pair(Choices(num_lambdas=2), pair=pair)
    assert found.filters("weight", 0.5).shape == (8, 3, 3, 1)


def test_network_that_reads_no_pixels_has_no_filters(tiny_data):
    def apply_fn(params, images):
        return images.mean((1, 2)) @ params["up"] @ params["head"]

    rng = np.random.default_rng(0)
    params = [
        {"up": rng.normal(size=(1, 4)).astype("f"), "head": rng.normal(size=(4, 10)).astype("f")}
        for _ in range(2)
    ]
    pair = Pair("linear", tiny_data, apply_fn, *params)
    found = exploration.explore_pair(Choices(num_lambdas=2), pair=pair)
    assert found.first_layer == ""
    with pytest.raises(ValueError, match="reads pixels; there is none"):
        found.filters("weight", 0.5)


# What a planted order makes certain


def test_planted_order_is_found_and_seen(planted):
    assert planted.walk("weight", 0.5).loss == pytest.approx(planted.walk("naive", 0.0).loss, 1e-4)
    for cosine in planted.layers("weight").values():
        assert cosine == pytest.approx(1)
    assert min(planted.layers("naive").values()) < 0.9
    for group in planted.groups():
        numbers = planted.unit_matrices("weight", group)
        rows = np.arange(len(numbers["after"]))
        np.testing.assert_allclose(numbers["after"].diagonal(), 1, rtol=1e-5)
        np.testing.assert_allclose(numbers["before"][rows, numbers["partners"]], 1, rtol=1e-5)


def test_units_before_stand_in_the_order_of_b(planted):
    group = planted.groups()[0]
    numbers = planted.unit_matrices("weight", group)
    order = planted.compared["weight"].permutation[group]
    assert numbers["num_units"] == len(order)
    # All units are shown here, so a row's partner is in the column of its number in B.
    assert numbers["partners"].tolist() == order.tolist()
    np.testing.assert_array_equal(
        np.sort(numbers["before"], axis=1), np.sort(numbers["after"], axis=1)
    )


def test_contour_of_few_images_is_of_all_classes(small, monkeypatch):
    # In their order the first 20 are of one class.
    data = small.pair.data
    by_class = np.argsort(data.test_labels, kind="stable")
    ordered = data.subset(np.arange(len(data.train_labels)), by_class)
    used = []
    monkeypatch.setattr(exploration.exploration, "CONTOUR_IMAGES", 20)
    monkeypatch.setattr(exploration.exploration, "CONTOUR_RESOLUTION", 3)
    monkeypatch.setattr(
        exploration.exploration,
        "_computed",
        lambda fn, *args, **options: used.append(args[-2:]) or fn(*args, **options),
    )
    pair = dataclasses.replace(small.pair, data=ordered)
    dataclasses.replace(small, pair=pair).contour("weight")
    [(images, labels)] = used
    assert np.bincount(labels).tolist() == [2] * 10
    # Which are the first of the set itself, where classes come in turn.
    np.testing.assert_array_equal(images, data.test_images[:20])


def test_contour_is_the_plane_through_both(small):
    steps = []
    numbers = small.contour("weight", on_step=lambda *step, **_: steps.append(step))
    assert numbers["models"]["A"] == [0, 0]
    assert numbers["models"]["B"] == [1, 0]
    assert steps[-1][1:] == (len(steps), len(steps))
    with pytest.raises(ValueError, match="lie on one line"):
        small.contour("naive")


# Finding the networks


def test_defaults_are_the_networks_of_the_notebooks():
    data = datasets.load_dataset("mnist5k")
    for seed in (0, 1):
        ours = Choices().experiment(seed)
        theirs = rl.get_profile("quick").experiment(seed=seed)
        assert path_of(ours, data=data) == path_of(theirs, data=data)


def test_whole_number_of_a_control_is_the_size_of_a_stored_network():
    assert Choices(width=16.0).experiment(0) == Choices(width=16).experiment(0)
    with pytest.raises(ValueError, match=r"width of mlp to be a positive int; got 16.5"):
        Choices(width=16.5).experiment(0).build_model(datasets.load_dataset("digits8x8"))


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("dataset", ["mnist5k", "mnist", "cifar10", "digits8x8"])
def test_every_choice_can_be_built(architecture, dataset, tiny_data):
    one = Choices(dataset=dataset, architecture=architecture).experiment(seed=1)
    assert one.seed == 1
    sizes = dict(one.options)
    record = models.ARCHITECTURES[architecture]
    assert record.width in sizes
    assert not record.depth or record.depth in sizes
    model = one.build_model(tiny_data)
    assert model.shapes


class Enough(Exception):  # noqa: N818
    """Raised in the middle of a training."""


def test_stopped_training_goes_on_where_it_was():
    steps = []

    def stop(what, done, total, histories):
        steps.append((what, done, total))
        raise Enough

    choices = Choices(**SMALL)
    with pytest.raises(Enough):
        exploration.load_pair(choices, on_step=stop)
    assert steps == [("training network A, seed 0", 1, 2)]
    steps.clear()
    pair = exploration.load_pair(choices, on_step=lambda *step, **_: steps.append(step))
    assert pair.origins == ("resumed", "trained")
    assert [(what[-1], done) for what, done, _ in steps] == [("0", 2), ("1", 1), ("1", 2)]
    again = exploration.load_pair(choices)
    assert again.origins == ("restored", "restored")
    assert rl.distance(pair.params_b, again.params_b) == 0


@pytest.fixture
def files(tmp_path):
    """Checkpoints of two trained networks, somewhere else than in the store."""
    choices = Choices(**SMALL)
    exploration.load_pair(choices)
    copies = []
    for name, seed in zip("ab", choices.seeds, strict=True):
        copy = tmp_path / f"{name}.safetensors"
        copy.write_bytes(path_of(choices.experiment(seed)).read_bytes())
        copies.append(str(copy))
    return tuple(copies)


def test_two_files_are_looked_at_like_the_networks_they_hold(files):
    by_seed = exploration.load_pair(Choices(**SMALL))
    by_file = exploration.load_pair(Choices(files=files))
    assert by_file.origins == ("file", "file")
    assert by_file.data.digest == by_seed.data.digest
    assert rl.distance(by_file.params_a, by_seed.params_a) == 0
    assert rl.distance(by_file.params_b, by_seed.params_b) == 0


def test_a_file_of_networks_of_other_data_is_said_to_be_one(files, tmp_path):
    changed = []
    for name in files:
        params, metadata = checkpoints.load(Path(name))
        metadata["config"]["data_digest"] = "another"
        changed.append(str(tmp_path / f"other-{Path(name).name}"))
        checkpoints.save(Path(changed[-1]), params, metadata)
    with pytest.warns(UserWarning, match="digits8x8.* is not known here"):
        pair = exploration.load_pair(Choices(files=tuple(changed)))
    assert pair.origins == ("file", "file")


def test_files_of_different_networks_are_refused(files, tmp_path):
    other = Choices(**SMALL | {"width": 8}).experiment(0)
    rl.trained(other)
    with pytest.raises(ValueError, match=r"one architecture and data set; got options .*16.*8"):
        exploration.load_pair(Choices(files=(files[0], str(path_of(other)))))
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        exploration.load_pair(Choices(files=(files[0], str(tmp_path / "c.safetensors"))))
    path = tmp_path / "d.safetensors"
    checkpoints.save(path, {"w": np.zeros(3)}, {})
    with pytest.raises(checkpoints.CheckpointError, match=r"d.safetensors.*rl.explore\(params="):
        exploration.load_pair(Choices(files=(files[0], str(path))))


def test_file_of_a_view_is_looked_at_with_that_view(tmp_path, monkeypatch):
    few = dataclasses.replace(models.ARCHITECTURES["mlp"], view=datasets.View(num_train=300))
    monkeypatch.setitem(models.ARCHITECTURES, "mlp", few)
    wanted = dataclasses.replace(Choices(**SMALL).experiment(0), view=few.view)
    paths = []
    for seed in range(2):
        rl.trained(wanted.with_seed(seed))
        paths.append(str(path_of(wanted.with_seed(seed))))
    found = exploration.load_pair(Choices(files=tuple(paths)))
    assert len(found.data.train_labels) == 300
    assert "View(num_train=300)" in found.code


# The code to copy


def test_copied_code_prints_what_is_on_view(small):
    printed = output_of(small.as_code("activation", 0.25))
    walk = small.walk("activation", 0.25)
    assert f"loss={walk.loss}, accuracy={walk.accuracy}" in printed
    for name, one in small.compared.items():
        (row,) = [line for line in printed.splitlines() if line.startswith(name)]
        assert f"{one.train_barrier:.4f}" in row


def test_copied_code_of_files_and_of_a_view_runs(files):
    for choices in (
        Choices(files=files, matchers=("weight",), num_lambdas=2),
        Choices(
            dataset="digits8x8", architecture="resnet8", width=0.5, num_epochs=1, num_lambdas=2
        ),
    ):
        found = exploration.explore_pair(choices)
        printed = output_of(found.as_code("weight", 0.5))
        assert f"loss={found.walk('weight', 0.5).loss}" in printed


@pytest.mark.parametrize("effort", ["low", "usual"])
def test_matcher_of_ones_own_is_explored_like_the_labs(effort, small, monkeypatch):
    steps, met = [], []

    def mine(spec, params_a, params_b, *, seed, apply_fn, data, depth: int = 3, on_epoch=None):
        met.append((depth, data is small.pair.data))
        on_epoch(types.SimpleNamespace(epoch=1, num_epochs=2))
        return rl.match("random", spec, params_a, params_b, seed=seed)

    own = rl.Matcher(mine, "my matching", efforts={"low": {"depth": 1}})
    monkeypatch.setitem(rl.MATCHERS, "mine", own)
    choices = Choices(**SMALL, matchers=("weight", "mine"), effort=effort, num_lambdas=3)
    found = exploration.explore_pair(
        choices, pair=small.pair, on_step=lambda *step: steps.append(step)
    )
    assert found.methods == ("naive", "weight", "mine")
    assert met == [(1 if effort == "low" else 3, True)]
    assert ("matching: mine", 1, 2) in steps
    assert found.walk("mine", 0.0).loss == found.walk("naive", 0.0).loss
    code = found.as_code("mine", 0.5)
    assert "\n# rl.MATCHERS['mine'] is your own: register it first.\n" in code


def test_architecture_that_joins_the_table_is_explored(monkeypatch):
    own = models.Architecture(models.MLP, width="width", depth="num_hidden_layers", num_epochs=2)
    monkeypatch.setitem(models.ARCHITECTURES, "mine", own)
    found = exploration.explore_pair(Choices(**SMALL, architecture="mine", num_lambdas=2))
    assert found.pair.title.startswith("Digits 8x8: mine (num hidden layers 2, width 16), 2 epochs")
    assert f"loss={found.walk('weight', 0.5).loss}" in output_of(found.as_code("weight", 0.5))
    # Under one name another network is another network.
    wanted = found.choices.experiment(0)
    before = path_of(wanted)
    own = dataclasses.replace(own, constructor=models.ARCHITECTURES["vit"].constructor, depth="")
    monkeypatch.setitem(models.ARCHITECTURES, "mine", own)
    assert path_of(wanted) != before


@pytest.mark.parametrize("effort", exploration.EFFORTS)
def test_effort_reaches_every_matcher(effort, trained_pair, tiny_data):
    model, *params = trained_pair
    pair = Pair("tiny", tiny_data, model.apply, *params)
    matchers = ("weight", "activation", "combined", "straight_through")
    choices = Choices(matchers=matchers, effort=effort, num_lambdas=2)
    found = exploration.explore_pair(choices, pair=pair)
    assert found.methods == ("naive", *matchers)
