"""Loss and accuracy against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import metrics


def linear(params, images):
    return images.reshape(images.shape[0], -1) @ params["w"]


def look_up(params, tokens):
    return params["table"][tokens]


def oracle(logits, labels):
    """Mean cross-entropy in nats and fraction correct, in float64."""
    logits = np.asarray(logits, np.float64)
    log_normalizer = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return (log_normalizer - chosen).mean(), (logits.argmax(axis=-1) == labels).mean()


@pytest.fixture
def params():
    return {"w": np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)}


@pytest.mark.parametrize("batch_size", [7, 100, 5000])
def test_metrics_are_numpys_however_the_images_are_batched(
    tiny_data, params, monkeypatch, batch_size
):
    # 100 images: 14 batches of 7 and one of 2; one full batch; one that is not full.
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    images, labels = tiny_data.test_images, tiny_data.test_labels
    loss, accuracy = oracle(images.reshape(100, 64) @ params["w"], labels)
    measured = rl.evaluate(linear, params, images, labels)
    assert measured.loss == pytest.approx(loss, rel=1e-5)  # float32 logits and sums
    assert measured.accuracy == pytest.approx(accuracy, rel=1e-12)  # a count
    assert 0 < accuracy < 1


@pytest.mark.parametrize("each", [(7,), (3, 5)])  # a label a token, a label a pixel
@pytest.mark.parametrize("batch_size", [3, 5000])
def test_loss_and_accuracy_are_means_over_labels(monkeypatch, each, batch_size):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, 11, (2, 40, *each)).astype(np.int32)
    table = {"table": rng.standard_normal((11, 11)).astype(np.float32)}
    loss, accuracy = oracle(table["table"][tokens], labels)
    measured = rl.evaluate(look_up, table, tokens, labels)
    assert measured.loss == pytest.approx(loss, rel=1e-5)
    assert measured.accuracy == pytest.approx(accuracy, rel=1e-12)
    knows_all = {"table": 20 * np.eye(11, dtype=np.float32)}
    assert rl.evaluate(look_up, knows_all, tokens, tokens).accuracy == 1


def test_uniform_logits_cost_log_of_the_number_of_classes(tiny_data):
    params = {"w": np.zeros((64, 10), np.float32)}
    measured = rl.evaluate(linear, params, tiny_data.test_images, tiny_data.test_labels)
    assert measured.loss == pytest.approx(np.log(10), rel=1e-6)
    assert measured.accuracy == 0.1  # ties go to class 0, a tenth of the images


def test_huge_logits_do_not_overflow(tiny_data, params):
    huge = {"w": params["w"] * 1e6}
    assert np.isfinite(rl.evaluate(linear, huge, tiny_data.test_images, tiny_data.test_labels).loss)


@pytest.mark.parametrize("where", ["images", "parameters"])
def test_nan_is_refused_and_named(tiny_data, params, where):
    images = tiny_data.test_images.copy()
    if where == "images":
        images[3, 2, 1] = np.nan
    else:
        params = {"w": params["w"] * np.nan}
    with pytest.raises(ValueError, match=f"numbers in the {where}.*NaN"):
        rl.evaluate(linear, params, images, tiny_data.test_labels)


MISTAKES = {
    "negative": (lambda y: np.where(y == 3, -1, y), "from 0 to 9.* go from -1 to 9"),
    "ignored": (lambda y: np.where(y == 3, -100, y), "weights, with weight 0"),
    "too high": (lambda y: y + 1, "from 0 to 9.* go from 1 to 10"),
    "one-hot": (lambda y: np.eye(10, dtype=np.int32)[y], r"write labels.argmax\(-1\)"),
    "a column": (lambda y: y[:, None], r"Write labels\[..., 0\]"),
    "one short": (lambda y: y[1:], "100 images, 99 labels"),
    "floats": (lambda y: y.astype(np.float32), "Expected integers from 0 to 9.*loss_fn"),
    "texts": (lambda y: y.astype(str), "Expected integers from 0 to 9"),
    "a list": (lambda y: y.tolist(), "labels of images to be an array; got list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_labels_that_are_no_classes_are_refused(tiny_data, params, mistake, without_type_checks):
    spoil, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        rl.evaluate(linear, params, tiny_data.test_images, spoil(tiny_data.test_labels))


OUTPUTS = {
    "one row for all": (lambda z: z[:1], "a row for each of 100 images"),
    "a pair": (lambda z: (z, z), "one array of logits; got tuple"),
    "a dict": (lambda z: {"logits": z}, "one array of logits; got dict"),
    "a number each": (lambda z: z[:, 0], r"logits, floats of shape \[images, ..., classes\]"),
    "classes": (lambda z: z.astype(int), "logits, floats of shape"),
}


@pytest.mark.parametrize("mistake", OUTPUTS)
def test_outputs_that_are_no_logits_are_refused(tiny_data, params, mistake):
    spoil, message = OUTPUTS[mistake]
    apply_fn = lambda params, images: spoil(linear(params, images))  # noqa: E731
    with pytest.raises(ValueError, match=message):
        rl.evaluate(apply_fn, params, tiny_data.test_images, tiny_data.test_labels)


def squared(outputs, targets):
    return (outputs[:, 0] - targets) ** 2


def mean_squared(outputs, targets):
    return squared(outputs, targets).mean()


def masked(logits, labels):
    """Cross-entropy of the labels that are not -100."""
    kept = labels >= 0
    log_p = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    chosen = jnp.take_along_axis(log_p, jnp.where(kept, labels, 0)[..., None], axis=-1)[..., 0]
    return -chosen, kept.astype(jnp.float32)


@pytest.mark.parametrize("loss_fn", [squared, mean_squared])
@pytest.mark.parametrize("batch_size", [7, 5000])
def test_a_regression_has_a_loss_and_no_accuracy(
    tiny_data, params, monkeypatch, loss_fn, batch_size
):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    images = tiny_data.test_images
    targets = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    outputs = images.reshape(100, 64).astype(np.float64) @ params["w"]
    measured = rl.evaluate(linear, params, images, targets, loss_fn=loss_fn)
    assert measured.loss == pytest.approx(((outputs[:, 0] - targets) ** 2).mean(), rel=1e-5)
    assert np.isnan(measured.accuracy)


@pytest.mark.parametrize("batch_size", [3, 5000])
def test_masked_tokens_count_neither_in_loss_nor_in_accuracy(monkeypatch, batch_size):
    monkeypatch.setattr(metrics.batches, "BATCH_SIZE", batch_size)
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, 11, (2, 40, 7)).astype(np.int32)
    kept = rng.random(labels.shape) < 0.4
    table = {"table": rng.standard_normal((11, 11)).astype(np.float32)}
    loss, accuracy = oracle(table["table"][tokens[kept]], labels[kept])
    measured = rl.evaluate(look_up, table, tokens, np.where(kept, labels, -100), loss_fn=masked)
    assert measured == pytest.approx((loss, accuracy), rel=1e-5)
    with pytest.raises(ValueError, match="sum to 0"):
        rl.evaluate(look_up, table, tokens, np.full_like(labels, -100), loss_fn=masked)


def test_losses_that_pair_all_with_all_are_refused(tiny_data, params):
    crossed = lambda z, y: (z[:, :1] - y[None]) ** 2  # noqa: E731
    targets = tiny_data.test_labels.astype(np.float32)
    with pytest.raises(ValueError, match="paired all with all"):
        rl.evaluate(linear, params, tiny_data.test_images, targets, loss_fn=crossed)


def test_fewer_images_at_a_time_where_arrays_would_be_large(tiny_data, params, monkeypatch):
    images, labels = tiny_data.test_images, tiny_data.test_labels
    assert metrics.batch_size_for(linear, params, images) == 100
    expected = rl.evaluate(linear, params, images, labels)
    # The largest array is that of flat images: 64 floats each.
    monkeypatch.setattr(metrics.batches, "BATCH_BYTES", 10 * 64 * 4)
    assert metrics.batch_size_for(linear, params, images) == 10
    assert rl.evaluate(linear, params, images, labels) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_the_mean_over_the_batch():
    logits, labels = np.array([[0.0, 1.0], [3.0, -1.0], [0.5, 0.5]]), np.array([0, 0, 1])
    loss = metrics.cross_entropy(jnp.array(logits), jnp.array(labels))
    assert float(loss) == pytest.approx(oracle(logits, labels)[0], rel=1e-6)
