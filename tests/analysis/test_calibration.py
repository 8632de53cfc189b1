"""Calibration against small cases by hand, a slow loop, and labels drawn from the probabilities."""

import inspect
import json

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import metrics
from rebasin_lab.analysis import calibration
from rebasin_lab.datasets import splits

# Two classes; in thirds, the likelier ones are in the second, third and third bin.
BY_HAND = np.log([[0.6, 0.4], [0.2, 0.8], [0.1, 0.9]]), np.array([1, 1, 0])


def draw_predictions(num_images, *, seed=0, num_classes=10, scale=2.0):
    """Logits, and labels drawn from the very probabilities they stand for."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((num_images, num_classes))
    # Gumbel noise makes the largest a sample of the softmax: no softmax of ours is involved.
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def slow_curve(logits, labels, num_bins, *, of):
    """Counts, mean probabilities and frequencies, one prediction at a time."""
    members = [[] for _ in range(num_bins)]
    for row, label in zip(np.asarray(logits, np.float64).tolist(), labels.tolist(), strict=True):
        weights = [np.exp(value - max(row)) for value in row]
        probabilities = [weight / sum(weights) for weight in weights]
        likeliest = row.index(max(row))
        for k, probability in enumerate(probabilities):
            if of == "all classes" or k == likeliest:
                members[min(int(probability * num_bins), num_bins - 1)].append(
                    (probability, k == label)
                )
    means = [np.mean(member, axis=0) if member else (np.nan, np.nan) for member in members]
    return [len(member) for member in members], *zip(*means, strict=True)


def predictions(max_images=8, max_classes=5):
    """Strategy: float64 logits and a label for each row."""
    shapes = st.tuples(st.integers(1, max_images), st.integers(1, max_classes))
    elements = st.floats(-50, 50)

    def with_labels(shape):
        labels = hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1))
        return st.tuples(hnp.arrays(np.float64, shape, elements=elements), labels)

    return shapes.flatmap(with_labels)


def scores(logits, labels):
    return list(vars(calibration.summarise_logits(logits, labels)).values())


def test_top_class_curve_by_hand():
    curve = calibration.reliability_curve(*BY_HAND, num_bins=3, predictions="top class")
    np.testing.assert_allclose(curve.edges, [0, 1 / 3, 2 / 3, 1])
    assert curve.count.tolist() == [0, 1, 2]
    np.testing.assert_allclose(curve.confidence, [np.nan, 0.6, 0.85])
    np.testing.assert_array_equal(curve.frequency, [np.nan, 0.0, 0.5])


def test_all_classes_curve_by_hand():
    curve = calibration.reliability_curve(*BY_HAND, num_bins=3)
    assert curve.count.tolist() == [2, 2, 2]
    np.testing.assert_allclose(curve.confidence, [0.15, 0.5, 0.85])
    np.testing.assert_array_equal(curve.frequency, [0.5, 0.5, 0.5])


def test_scores_by_hand():
    summary = calibration.summarise_logits(*BY_HAND, num_bins=3)
    assert summary.nll == pytest.approx(-np.log([0.4, 0.8, 0.1]).mean())
    assert summary.ece == pytest.approx((1 * 0.6 + 2 * 0.35) / 3)
    assert summary.brier == pytest.approx(2 * (0.6**2 + 0.2**2 + 0.9**2) / 3)
    assert summary.accuracy == pytest.approx(1 / 3)


def test_sure_networks_have_the_extreme_scores():
    logits, right = np.array([[0.0, -np.inf], [-np.inf, 0.0]]), np.array([0, 1])
    assert scores(logits, right) == [0, 0, 0, 1]
    assert scores(logits, 1 - right) == [np.inf, 1, 2, 0]


@pytest.mark.parametrize("of", ["all classes", "top class"])
@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_curve_is_that_of_a_slow_loop(of, num_bins):
    logits, labels = draw_predictions(200, num_classes=4)
    curve = calibration.reliability_curve(logits, labels, num_bins=num_bins, predictions=of)
    count, confidence, frequency = slow_curve(logits, labels, num_bins, of=of)
    assert curve.count.tolist() == count
    # The same float64 sums in another order.
    np.testing.assert_allclose(curve.confidence, confidence, rtol=1e-12)
    np.testing.assert_allclose(curve.frequency, frequency, rtol=1e-12)


def test_probability_on_an_edge_is_in_the_upper_bin_only():
    # 1/2, 1/4 and 1/8 are edges of eight bins, and exact; sure rows are in the first and the last.
    probabilities = np.array([[0.5, 0.25, 0.125, 0.125], [1, 0, 0, 0]])
    with np.errstate(divide="ignore"):
        logits = np.log2(probabilities) * np.log(2)
    curve = calibration.reliability_curve(logits, np.array([0, 0]), num_bins=8)
    assert curve.count.tolist() == [3, 2, 1, 0, 1, 0, 0, 1]


def test_network_that_says_what_is_so_is_calibrated():
    num_images, num_bins = 200_000, 15
    logits, labels = draw_predictions(num_images)
    error = calibration.expected_calibration_error(logits, labels, num_bins=num_bins)
    # n_b labels of a bin miss their mean by sqrt(n_b) / 2 at most, in expectation, so all bins by
    # sqrt(num_bins * n) / 2 together; one label moves their sum by 1, so that by McDiarmid's
    # inequality a sample in a million exceeds it by sqrt(n ln(1e6) / 2).
    bound = np.sqrt(num_bins / num_images) / 2 + np.sqrt(np.log(1e6) / (2 * num_images))
    assert 0 < error < bound < 0.011


def test_every_bin_of_a_calibrated_network_lies_on_the_diagonal():
    curve = calibration.reliability_curve(*draw_predictions(200_000))
    # Five standard errors; pairs of one image are no more than independent pairs would be.
    spread = np.sqrt(curve.confidence * (1 - curve.confidence) / curve.count)
    assert (np.abs(curve.frequency - curve.confidence) < 5 * spread).all()
    assert curve.count.min() > 1000


def test_overconfidence_and_doubt_cost():
    logits, labels = draw_predictions(20_000)
    fair, bold, shy = (scores(factor * logits, labels) for factor in (1, 3, 1 / 3))
    for other in (bold, shy):
        assert other[1] > 0.1 > 10 * fair[1]
        # The truth minimises the expectation of both proper scores; here by far.
        assert other[0] > fair[0] + 0.1
        assert other[2] > fair[2] + 0.02
        assert other[3] == fair[3]


def test_overconfident_curve_lies_below_the_diagonal():
    logits, labels = draw_predictions(20_000)
    curve = calibration.reliability_curve(3 * logits, labels, predictions="top class")
    sure = curve.confidence > 0.5
    assert (curve.frequency < curve.confidence)[sure].all()


@pytest.mark.parametrize("batch_size", [7, 100, 5000])
def test_scores_of_a_network_are_those_of_evaluate(
    tiny_data, trained_pair, monkeypatch, batch_size
):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    model, params, _ = trained_pair
    images, labels = tiny_data.test_images, tiny_data.test_labels
    loss, accuracy = rl.evaluate(model.apply, params, images, labels)
    summary = calibration.calibration_summary(model.apply, params, images, labels)
    assert summary.nll == pytest.approx(loss, rel=1e-4)  # evaluate adds in float32
    assert summary.accuracy == accuracy
    assert 0 < summary.brier < 2


def test_logits_are_the_networks_in_order(tiny_data, trained_pair, monkeypatch):
    model, params, _ = trained_pair
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", 30)
    logits = calibration.predicted_logits(model.apply, params, tiny_data.test_images)
    expected = model.apply(params, jnp.asarray(tiny_data.test_images))
    # float32; a batch of another size may be added up in another order.
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_logits_on_a_line_are_those_of_its_networks(tiny_data, trained_pair):
    model, params_a, params_b = trained_pair
    images = tiny_data.test_images
    line = calibration.logits_on_line(model.apply, params_a, params_b, images, num_lambdas=3)
    middle = rl.lerp(np.float32(0.5), params_a, params_b)
    for logits, params in zip(line, (params_a, middle, params_b), strict=True):
        expected = calibration.predicted_logits(model.apply, params, images)
        np.testing.assert_array_equal(logits, expected)


def test_mean_of_logits_is_the_papers_ensemble():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 50, 4))
    labels = rng.integers(0, 4, 50)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    geometric = probabilities.prod(axis=0) ** (1 / 3)
    log_probabilities = np.log(geometric / geometric.sum(axis=1, keepdims=True))
    expected = scores(log_probabilities, labels)
    assert scores(logits.mean(axis=0), labels) == pytest.approx(expected, rel=1e-12)


def test_huge_logits_neither_overflow_nor_lose_the_label():
    logits, labels = np.array([[1e6, 0.0], [-3e5, -2e5]]), np.array([1, 1])
    assert scores(logits, labels) == [5e5, 0.5, 1, 0.5]


def test_arrays_of_jax_are_taken_too():
    logits, labels = draw_predictions(50)
    in_float32 = logits.astype(np.float32)
    expected = scores(in_float32, labels)
    assert scores(jnp.asarray(in_float32), jnp.asarray(labels)) == expected


@hypothesis.given(predictions(), st.integers(1, 20))
def test_counts_are_complete_and_the_error_is_a_fraction(drawn, num_bins):
    logits, labels = drawn
    for of, total in (("all classes", logits.size), ("top class", len(labels))):
        curve = calibration.reliability_curve(logits, labels, num_bins=num_bins, predictions=of)
        assert curve.count.sum() == total
        assert (np.isnan(curve.confidence) == (curve.count == 0)).all()
    assert 0 <= calibration.expected_calibration_error(logits, labels, num_bins=num_bins) <= 1
    assert 0 <= calibration.brier_score(logits, labels) <= 2
    assert calibration.negative_log_likelihood(logits, labels) >= 0


@hypothesis.given(predictions(), st.data())
def test_a_constant_added_to_a_row_changes_nothing(drawn, data):
    # In eighths, sums below 2^50 are exact, so no probability changes bins by rounding.
    logits, labels = np.round(8 * drawn[0]) / 8, drawn[1]
    eighths = hnp.arrays(np.int64, (len(logits), 1), elements=st.integers(-8000, 8000))
    shifted = logits + data.draw(eighths) / 8
    for of in ("all classes", "top class"):
        left, right = (
            calibration.reliability_curve(x, labels, predictions=of) for x in (logits, shifted)
        )
        for field, values in vars(left).items():
            np.testing.assert_array_equal(values, getattr(right, field))
    assert scores(shifted, labels) == scores(logits, labels)


@hypothesis.given(predictions(), st.randoms())
def test_the_order_of_images_does_not_matter(drawn, random):
    logits, labels = drawn
    order = random.sample(range(len(labels)), len(labels))
    # The same float64 numbers added in another order.
    assert scores(logits[order], labels[order]) == pytest.approx(
        scores(logits, labels), rel=1e-12, abs=1e-12
    )
    left, right = (
        calibration.reliability_curve(logits[rows], labels[rows]) for rows in (order, ...)
    )
    np.testing.assert_array_equal(left.count, right.count)
    np.testing.assert_allclose(left.confidence, right.confidence, rtol=1e-12)


@hypothesis.given(predictions(), predictions())
def test_curves_of_two_sets_of_images_add_up(first, second):
    num_classes = min(first[0].shape[1], second[0].shape[1])
    halves = [(logits[:, :num_classes], labels % num_classes) for logits, labels in (first, second)]
    whole = [np.concatenate(parts) for parts in zip(*halves, strict=True)]
    *parts, total = (calibration.reliability_curve(*pair) for pair in (*halves, whole))
    np.testing.assert_array_equal(parts[0].count + parts[1].count, total.count)
    true = sum(np.nan_to_num(part.count * part.frequency) for part in parts)
    # Sums of ones, divided by a count and multiplied by it again.
    np.testing.assert_allclose(np.nan_to_num(total.count * total.frequency), true, rtol=1e-12)


def test_numbers_are_json_with_null_in_empty_bins():
    curve = calibration.reliability_curve(*BY_HAND, num_bins=3, predictions="top class")
    numbers = json.loads(json.dumps(curve.as_numbers(), allow_nan=False))
    assert list(numbers) == ["confidence", "frequency", "count", "edges"]
    assert numbers["frequency"] == [None, 0.0, 0.5]
    assert numbers["count"] == [0, 1, 2]


def grid_loss(logits, labels, *, seed=0):
    """`tempered_loss` by trying 20,001 factors on each half, with a softmax written out."""

    def losses(rows, factors):
        scaled = factors[:, None, None] * (logits - logits.max(axis=1, keepdims=True))[rows]
        own = scaled[:, np.arange(len(rows)), labels[rows]]
        return (np.log(np.exp(scaled).sum(axis=2)) - own).mean(axis=1)

    factors, total, found = np.geomspace(1e-3, 1e3, 20_001), 0.0, []
    first, second = splits.stratified_parts(labels, seed=seed)
    for fit, rest in ((first, second), (second, first)):
        best = np.concatenate([losses(fit, some) for some in np.array_split(factors, 100)]).argmin()
        found.append(factors[best])
        total += len(rest) * losses(rest, factors[[best]])[0]
    return total / len(labels), float(np.prod(found) ** 0.5)


@pytest.mark.parametrize("confidence", [0.1, 1, 7])
@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("num_images", [60, 151])
def test_tempered_loss_is_that_of_a_fine_grid(num_images, num_classes, confidence):
    logits, labels = draw_predictions(num_images, num_classes=num_classes)
    found = calibration.tempered_loss(confidence * logits, labels)
    loss, factor = grid_loss(confidence * logits, labels)
    # Neighbours on the grid are 0.07 % apart.
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.temperature == pytest.approx(1 / factor, rel=1e-3)


@pytest.mark.parametrize(
    "score",
    [
        calibration.tempered_loss,
        calibration.negative_log_likelihood,
        calibration.brier_score,
        calibration.expected_calibration_error,
        calibration.summarise_logits,
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_logits_of_a_network_are_scored_in_float64(score, dtype):
    logits, labels = draw_predictions(60)
    single = logits.astype(dtype)
    assert score(single, labels) == score(single.astype(np.float64), labels)


@pytest.mark.parametrize("lead", [1e-6, 0.3, 5, 1e4])
@pytest.mark.parametrize("num_right", [6, 8, 9])
def test_tempered_loss_in_closed_form(lead, num_right):
    # The same answer to all images, by the same lead, is right on so many of ten: then its best
    # probability is that fraction, and the loss its entropy. Both halves hold the same mixture.
    right = np.tile([True] * num_right + [False] * (10 - num_right), 40)
    labels = np.where(right, 0, 1)
    logits = np.tile([lead, 0.0], (len(labels), 1))
    share = num_right / 10
    found = calibration.tempered_loss(logits, labels)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert found.loss == pytest.approx(entropy, rel=1e-9)
    assert found.temperature == pytest.approx(lead / np.log(share / (1 - share)), rel=1e-4)


@hypothesis.given(
    st.integers(0, 1000), st.floats(1e-30, 1e30), st.floats(-20, 20), st.integers(0, 3)
)
def test_tempered_loss_does_not_depend_on_the_scale_of_logits(draw, scale, shift, seed):
    logits, labels = draw_predictions(30, seed=draw, num_classes=4, scale=1.0)
    plain = calibration.tempered_loss(logits, labels, seed=seed)
    scaled = calibration.tempered_loss(scale * (logits + shift), labels, seed=seed)
    # The search stops within 1e-5 of the logarithm of a factor.
    assert scaled.loss == pytest.approx(plain.loss, rel=1e-4)
    assert scaled.temperature / scale == pytest.approx(plain.temperature, rel=1e-3)


def test_a_temperature_divides_logits_and_the_best_one_is_that_of_the_tempered_loss():
    logits, labels = draw_predictions(400)
    found = calibration.tempered_loss(4 * logits, labels)
    losses = [
        calibration.negative_log_likelihood(
            calibration.with_temperature(4 * logits, found.temperature * change), labels
        )
        for change in (1, 0.7, 1.4)
    ]
    assert min(losses) == losses[0] == pytest.approx(found.loss, rel=0.02)
    same = calibration.with_temperature(logits, 1)
    assert np.exp(same).sum(axis=1) == pytest.approx(1)
    assert (same.argmax(axis=1) == logits.argmax(axis=1)).all()
    with pytest.raises(ValueError, match="temperature.* got 0"):
        calibration.with_temperature(logits, 0)


def test_tempered_loss_of_a_calibrated_network_is_its_loss():
    logits, labels = draw_predictions(20_000)
    fair = calibration.negative_log_likelihood(logits, labels)
    for confidence in (1, 3, 1 / 3):
        found = calibration.tempered_loss(confidence * logits, labels)
        # A factor fitted on n / 2 images costs 1 / n nats on others, on average.
        assert found.loss == pytest.approx(fair, abs=1e-3)
        assert found.temperature / confidence == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("order", ["in turn", "in order", "shuffled"])
def test_tempered_loss_is_fair_where_classes_differ(order):
    # Right about even classes, at a loss about odd ones: every second image would not do for a
    # half if classes come in turn, nor the first half if they come in order.
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    guesses = np.where(labels % 2, rng.integers(0, 10, 1000), labels)
    logits = 5.0 * (np.arange(10) == guesses[:, None])
    ordered = {"in turn": ..., "in order": np.argsort(labels), "shuffled": rng.permutation(1000)}
    rows = ordered[order]
    found = calibration.tempered_loss(logits[rows], labels[rows])
    factors = np.geomspace(0.1, 10, 401)
    best = min(calibration.negative_log_likelihood(f * logits, labels) for f in factors)
    assert found.loss == pytest.approx(best, rel=0.01)


def test_masked_classes_do_not_matter_to_tempered_loss():
    logits, labels = draw_predictions(200, num_classes=4)
    plain = calibration.tempered_loss(logits, labels)
    for nothing in (-np.inf, -1e9):
        masked = np.concatenate([logits, np.full((200, 6), nothing)], axis=1)
        found = calibration.tempered_loss(masked, labels)
        assert found == pytest.approx(plain, rel=1e-6)


def test_where_all_temperatures_are_alike_it_is_1():
    labels = np.arange(20) % 2
    assert calibration.tempered_loss(np.zeros((20, 2)), labels) == (pytest.approx(np.log(2)), 1)
    assert calibration.tempered_loss(np.zeros((20, 1)), np.zeros(20, int)) == (0, 1)
    sure = np.where(labels[:, None] == np.arange(2), 0.0, -np.inf)
    assert calibration.tempered_loss(sure, labels) == (0, 1)
    assert calibration.tempered_loss(sure, 1 - labels) == (np.inf, 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_tempering_is_bounded_at_both_ends(scale):
    labels = np.arange(100) % 10
    right = scale * (labels[:, None] == np.arange(10))
    assert calibration.tempered_loss(right, labels).loss < 1e-7
    # Of a network that is always wrong nothing is left, not even the wrong answers.
    always_wrong = calibration.tempered_loss(right, (labels + 1) % 10)
    assert always_wrong.loss == pytest.approx(np.log(10), rel=1e-3)
    # One mistake after so many right answers is expensive, and no more.
    labels[0] = 5
    assert calibration.tempered_loss(right, labels).loss < 0.5


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_ties_do_not_hide_the_scale_of_logits(scale):
    # Two classes always share the first place, so that none has a lead over the second.
    logits, labels = draw_predictions(60, num_classes=3)
    logits = np.concatenate([logits, logits.max(axis=1, keepdims=True)], axis=1)
    plain, scaled = (calibration.tempered_loss(f * logits, labels) for f in (1, scale))
    assert scaled.loss == pytest.approx(plain.loss, rel=1e-4)
    assert scaled.temperature / scale == pytest.approx(plain.temperature, rel=1e-3)


def test_two_images_are_needed_to_fit_and_measure():
    with pytest.raises(ValueError, match="two images or more, .* got 1"):
        calibration.tempered_loss(np.zeros((1, 2)), np.zeros(1, int))
    calibration.tempered_loss(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))


# Where types are checked, as in these tests, some annotations refuse first: ask the functions.
FUNCTIONS = [
    inspect.unwrap(function)
    for function in (
        calibration.reliability_curve,
        calibration.expected_calibration_error,
        calibration.negative_log_likelihood,
        calibration.brier_score,
        calibration.summarise_logits,
        calibration.tempered_loss,
    )
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"logits of shape \(3, 2\) and labels of shape \(2,"),
        (np.zeros((0, 2)), np.zeros(0, int), r"neither of them 0.* shape \(0, 2\)"),
        (np.zeros((2, 0)), np.zeros(2, int), r"neither of them 0.* shape \(2, 0\)"),
        (np.zeros(3), np.zeros(3, int), r"shape \[images, classes\].* got logits of shape \(3,\)"),
        (np.zeros((2, 2)), np.eye(2, dtype=int), r"labels of shape \(2, 2\)"),
        (np.zeros((2, 2)), np.zeros(2), "class indices; got an array of float64"),
        (np.zeros((2, 2)), np.array([0, 2]), "from 0 to 1, .* got 2 for image 1"),
        (np.zeros((2, 2)), np.array([-1, 0]), "from 0 to 1, .* got -1 for image 0"),
        (np.array([[0, 1], [np.nan, 0]]), np.zeros(2, int), r"1 of 2 images .*\(image 1: \[nan, 0"),
        (np.array([[np.inf, 0.0]]), np.zeros(1, int), r"1 of 1 images .*\(image 0: \[inf, 0"),
        (np.full((1, 2), -np.inf), np.zeros(1, int), "nothing but -inf"),
    ],
)
def test_what_has_no_probabilities_or_labels_is_refused(function, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        function(logits, labels)


def test_broken_networks_are_refused(tiny_data):
    def broken(params, images):
        return jnp.full((images.shape[0], 10), jnp.nan)

    with pytest.raises(ValueError, match="100 of 100 images with NaN"):
        calibration.calibration_summary(broken, {}, tiny_data.test_images, tiny_data.test_labels)
