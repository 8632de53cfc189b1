"""The line between two models, its barrier, and the plane through three."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rebasin_lab as rl

METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


@pytest.fixture(scope="module")
def models(mlp):
    return [mlp.init(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def curve(mlp, models, tiny_data):
    return rl.interpolation_curve(mlp.apply_fn, *models[:2], tiny_data, num_lambdas=5)


def by_hand(test_loss, train_loss=None):
    """A curve with given losses at equally spaced points."""
    test_loss = np.asarray(test_loss, float)
    train_loss = test_loss if train_loss is None else np.asarray(train_loss, float)
    lambdas, nothing = np.linspace(0, 1, test_loss.size), np.zeros(test_loss.size)
    return rl.InterpolationCurve(lambdas, train_loss, test_loss, nothing, nothing)


def test_ends_of_the_curve_are_the_two_models(mlp, models, tiny_data, curve):
    splits = {
        "train": (tiny_data.train_images, tiny_data.train_labels),
        "test": (tiny_data.test_images, tiny_data.test_labels),
    }
    for end, params in ((0, models[0]), (-1, models[1])):
        for split, examples in splits.items():
            metrics = rl.evaluate(mlp.apply_fn, params, *examples)
            # The ends of a line are the models bit by bit, so are their metrics.
            assert getattr(curve, f"{split}_loss")[end] == metrics.loss
            assert getattr(curve, f"{split}_accuracy")[end] == metrics.accuracy


def test_middle_of_the_curve_is_the_mean_model(mlp, models, tiny_data, curve):
    middle = jax.tree.map(lambda a, b: (a + b) / 2, *models[:2])
    loss = rl.evaluate(mlp.apply_fn, middle, tiny_data.test_images, tiny_data.test_labels).loss
    assert curve.lambdas.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.test_loss[2] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "chord"])
def test_model_has_no_barrier_with_itself(mlp, models, tiny_data, baseline):
    curve = rl.interpolation_curve(mlp.apply_fn, models[0], models[0], tiny_data, num_lambdas=7)
    for split in ("train", "test"):
        # (1 - lam) x + lam x is x up to a rounding of float32.
        assert abs(rl.loss_barrier(curve, split=split, baseline=baseline)) < 1e-6


@pytest.mark.parametrize(
    ("losses", "mean", "chord"),
    [
        ([1, 3, 1], 2, 2),
        ([2, 1, 2], 0, 0),  # a valley: the ends themselves are the highest
        ([0, 1, 4], 2, 0),  # convex, yet half the difference of its unequal ends by the mean
        ([0, 3, 2], 2, 2),
        ([0, 5, 4, 3, 4], 3, 4),  # the chord's barrier may be the larger one
        ([1, 1], 0, 0),
    ],
)
def test_barrier_of_curves_by_hand(losses, mean, chord):
    assert rl.loss_barrier(by_hand(losses)) == pytest.approx(mean)
    assert rl.loss_barrier(by_hand(losses), baseline="chord") == pytest.approx(chord)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=9))
def test_mean_barrier_is_at_least_half_the_difference_of_the_ends(losses):
    curve = by_hand(losses)
    half = abs(losses[0] - losses[-1]) / 2
    assert rl.loss_barrier(curve) >= half - 1e-12
    assert 0 <= rl.loss_barrier(curve, baseline="chord") <= rl.loss_barrier(curve) + half + 1e-12


def test_barrier_is_of_the_split_asked_for():
    curve = by_hand([1, 4, 1], train_loss=[1, 2, 1])
    assert rl.loss_barrier(curve) == rl.loss_barrier(curve, split="test") == 3
    assert rl.loss_barrier(curve, split="train") == 1


def test_diverged_curve_has_no_barrier():
    for baseline in ("mean", "chord"):
        with pytest.warns(
            UserWarning, match=r"1 of 3 points .* 0.5 \(nan\), and the barrier is nan"
        ):
            assert np.isnan(rl.loss_barrier(by_hand([1, np.nan, 1]), baseline=baseline))


def squared(outputs, targets):
    return (outputs[:, 0] - targets) ** 2


def test_line_of_a_regression_has_its_own_loss(mlp, models, tiny_data, without_type_checks):
    targets = {
        f"{split}_labels": getattr(tiny_data, f"{split}_labels") / np.float32(10)
        for split in ("train", "test")
    }
    data = dataclasses.replace(tiny_data, **targets)
    with pytest.raises(ValueError, match="Expected integers .* Give a loss_fn"):
        rl.interpolation_curve(mlp.apply_fn, *models[:2], data, num_lambdas=3)
    curve = rl.interpolation_curve(mlp.apply_fn, *models[:2], data, num_lambdas=3, loss_fn=squared)
    outputs = np.asarray(mlp.apply_fn(models[1], data.test_images), np.float64)[:, 0]
    assert curve.test_loss[-1] == pytest.approx(((outputs - data.test_labels) ** 2).mean())
    assert np.isnan(curve.test_accuracy).all()


def test_nan_in_either_model_or_split_is_refused_before_any_work(mlp, models, tiny_data):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, models[1])
    points = []
    tick = lambda: points.append(0)  # noqa: E731
    with pytest.raises(ValueError, match="params_b '.*' holds .* NaN"):
        rl.interpolation_curve(mlp.apply_fn, models[0], broken, tiny_data, on_point=tick)
    images = dataclasses.replace(tiny_data, test_images=tiny_data.test_images * np.float32("nan"))
    with pytest.raises(ValueError, match="images of the test split of data; .* NaN"):
        rl.interpolation_curve(mlp.apply_fn, *models[:2], images, on_point=tick)
    assert not points


def test_progress_is_reported_point_by_point(mlp, models, tiny_data):
    points = []
    tick = lambda: points.append(0)  # noqa: E731
    rl.interpolation_curve(mlp.apply_fn, *models[:2], tiny_data, num_lambdas=3, on_point=tick)
    assert len(points) == 3
    images, labels = tiny_data.test_images[:5], tiny_data.test_labels[:5]
    rl.loss_contour(mlp.apply_fn, *models, images, labels, resolution=2, on_point=tick)
    assert len(points) == 3 + 4


def test_numbers_survive_json(curve):
    numbers = json.loads(json.dumps(curve.as_numbers()))
    assert numbers.keys() == {"lambdas", *METRICS}
    for field, values in numbers.items():
        np.testing.assert_array_equal(values, getattr(curve, field))


def plane_coordinates(models):
    """Where C lies, from the law of cosines on the three distances."""
    a, b, c = models
    ab, ac, bc = rl.distance(a, b), rl.distance(a, c), rl.distance(b, c)
    x = (ab**2 + ac**2 - bc**2) / (2 * ab**2)
    return x, np.sqrt((ac / ab) ** 2 - x**2)


@pytest.fixture(scope="module")
def contour(mlp, models, tiny_data):
    """A grid of four points: A and B below, and C above one of them or the other."""
    x, y = plane_coordinates(models)
    return [
        rl.loss_contour(
            mlp.apply_fn,
            *models,
            tiny_data.test_images,
            tiny_data.test_labels,
            resolution=2,
            x_range=(0.0, right),
            y_range=(0.0, float(y)),
        )
        for right in (1.0, float(x))
    ]


def test_corners_of_the_contour_are_the_three_models(mlp, models, tiny_data, contour):
    to_b, to_c = contour
    corners = (to_b.loss[0, 0], to_b.loss[0, 1], to_c.loss[1, 1])
    for corner, params in zip(corners, models, strict=True):
        loss = rl.evaluate(mlp.apply_fn, params, tiny_data.test_images, tiny_data.test_labels).loss
        # A + x (B - A) + ... rounds to float32 a few times.
        assert corner == pytest.approx(loss, rel=1e-4)


def test_coordinates_of_c_are_those_of_the_triangle(models, contour):
    x, y = contour[0].models["C"]
    assert (x, y) == pytest.approx(plane_coordinates(models), rel=1e-5)
    a, b, c = models
    assert np.hypot(x, y) == pytest.approx(rl.distance(a, c) / rl.distance(a, b), rel=1e-5)
    assert (contour[0].models["A"], contour[0].models["B"]) == ((0, 0), (1, 0))


def test_contour_along_b_is_the_interpolation_curve(mlp, models, tiny_data, curve):
    contour = rl.loss_contour(
        mlp.apply_fn,
        *models,
        tiny_data.test_images,
        tiny_data.test_labels,
        resolution=5,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )
    np.testing.assert_allclose(contour.loss[0], curve.test_loss, rtol=1e-4)


@pytest.mark.parametrize("apart", [1.0, 1e-3])  # the fraction of the way from A to B
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0, 3.0, -1.0])
def test_three_models_on_a_line_span_no_plane(mlp, models, tiny_data, where, apart):
    first, second = models[0], rl.lerp(apart, *models[:2])
    third = rl.lerp(where, first, second)
    images, labels = tiny_data.test_images[:5], tiny_data.test_labels[:5]
    with pytest.raises(ValueError, match="three models that span a plane; these lie on one line"):
        rl.loss_contour(mlp.apply_fn, first, second, third, images, labels, resolution=2)


def test_plane_through_close_models_is_found(mlp, models, tiny_data):
    close = [rl.lerp(1e-3, models[0], other) for other in models]
    images, labels = tiny_data.test_images[:5], tiny_data.test_labels[:5]
    contour = rl.loss_contour(mlp.apply_fn, *close, images, labels, resolution=2)
    # Differences of 1e-3 keep three or four of float32's seven digits.
    assert contour.models["C"] == pytest.approx(plane_coordinates(models), rel=1e-2)


def test_contour_numbers_survive_json(contour):
    numbers = json.loads(json.dumps(contour[0].as_numbers()))
    assert numbers.keys() == {"x", "y", "loss", "models"}
    np.testing.assert_array_equal(numbers["loss"], contour[0].loss)
    assert numbers["models"]["B"] == [1.0, 0.0]


def convolution(params, images):
    hidden = jax.lax.conv_general_dilated(  # refuses operands of two types
        images.astype(params["v"].dtype),
        params["k"].reshape(3, 3, 1, 8),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(hidden).mean((1, 2)) @ params["w"] + params["v"][None]


def recurrence(params, images):
    rows = images[..., 0].astype(params["v"].dtype).swapaxes(0, 1)

    def step(hidden, row):  # has to return the type it takes
        read = row @ params["k"].reshape(8, 9)[:, :8]
        return jnp.tanh(read + hidden).astype(hidden.dtype), None

    start = jnp.zeros((len(images), 8), params["v"].dtype)
    return jax.lax.scan(step, start, rows)[0] @ params["w"] + params["v"][None]


def half_network(seed, dtype):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {"k": 72, "w": (8, 10), "v": 10}
    return {
        name: jax.random.normal(key, np.atleast_1d(shape), dtype)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


@pytest.mark.parametrize("apply_fn", [convolution, recurrence])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_so_on_lines_and_planes(apply_fn, dtype, tiny_data):
    def fn(params, images):
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
        return apply_fn(params, images)

    networks = [half_network(seed, dtype) for seed in range(3)]
    test = tiny_data.test_images, tiny_data.test_labels
    ends = [rl.evaluate(fn, params, *test).loss for params in networks]
    curve = rl.interpolation_curve(fn, *networks[:2], tiny_data, num_lambdas=3)
    assert curve.test_loss[[0, 2]].tolist() == ends[:2]
    plane = rl.loss_contour(
        fn, *networks, *test, resolution=2, x_range=(0.0, 1.0), y_range=(0.0, 1.0)
    )
    # B is found as A + (B - A), in float32 and then rounded to B's type.
    np.testing.assert_allclose(plane.loss[0], ends[:2], rtol=1e-6)


def test_integers_and_equal_masks_are_on_the_line_and_other_masks_are_refused(mlp, tiny_data):
    def with_rest(params, count, mask):
        return {**params, "count": np.int32(count), "mask": np.array([mask, True])}

    def fn(params, images):
        assert (params["count"].dtype, params["mask"].dtype) == (np.int32, bool)
        return mlp.apply_fn({"layers": params["layers"]}, images) + params["count"]

    one, other = with_rest(mlp.init(0), 3, True), with_rest(mlp.init(1), 6, True)
    alone = rl.interpolation_curve(mlp.apply_fn, mlp.init(0), mlp.init(1), tiny_data, num_lambdas=3)
    curve = rl.interpolation_curve(fn, one, other, tiny_data, num_lambdas=3)
    np.testing.assert_allclose(curve.test_loss, alone.test_loss, rtol=1e-5)
    with pytest.raises(ValueError, match="same booleans .* 'mask' differs in 2 of 2"):
        rl.interpolation_curve(fn, one, other | {"mask": ~other["mask"]}, tiny_data)


def test_the_line_between_complex_networks_is_walked(tiny_data):
    def apply_fn(params, images):
        return jnp.abs(images.reshape(len(images), -1) @ params["w"])

    rng = np.random.default_rng(0)
    a, b = (
        {"w": (rng.standard_normal((64, 10)) + 1j * rng.standard_normal((64, 10))).astype("c8")}
        for _ in range(2)
    )
    curve = rl.interpolation_curve(apply_fn, a, b, tiny_data, num_lambdas=3)
    test = tiny_data.test_images, tiny_data.test_labels
    middle = {"w": (a["w"] + b["w"]) / 2}
    for loss, params in zip(curve.test_loss, (a, middle, b), strict=True):
        assert loss == pytest.approx(rl.evaluate(apply_fn, params, *test).loss, rel=1e-5)
