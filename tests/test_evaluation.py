"""Loss and accuracy against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import evaluation


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
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
    images, labels = tiny_data.test_images, tiny_data.test_labels
    loss, accuracy = oracle(images.reshape(100, 64) @ params["w"], labels)
    measured = rl.evaluate(linear, params, images, labels)
    assert measured.loss == pytest.approx(loss, rel=1e-5)  # float32 logits and sums
    assert measured.accuracy == pytest.approx(accuracy, rel=1e-12)  # a count
    assert 0 < accuracy < 1


@pytest.mark.parametrize("each", [(7,), (3, 5)])  # a label a token, a label a pixel
@pytest.mark.parametrize("batch_size", [3, 5000])
def test_loss_and_accuracy_are_means_over_labels(monkeypatch, each, batch_size):
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
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


def test_nan_parameters_give_a_nan_loss(tiny_data, params):
    broken = {"w": params["w"] * np.nan}
    measured = rl.evaluate(linear, broken, tiny_data.test_images, tiny_data.test_labels)
    assert np.isnan(measured.loss)


def test_cross_entropy_is_the_mean_over_the_batch():
    logits, labels = np.array([[0.0, 1.0], [3.0, -1.0], [0.5, 0.5]]), np.array([0, 0, 1])
    loss = evaluation.cross_entropy(jnp.array(logits), jnp.array(labels))
    assert float(loss) == pytest.approx(oracle(logits, labels)[0], rel=1e-6)


def test_images_of_another_shape_are_refused(tiny_data):
    model = rl.build_model("mlp", dataset=tiny_data, width=4, num_hidden_layers=1)
    wrong = np.zeros((3, 16, 4, 1), np.float32)  # as many pixels, so the matrices would fit
    message = r"images of shape \[batch, 8, 8, 1\] for this mlp; got \[3, 16, 4, 1\]"
    with pytest.raises(ValueError, match=message):
        model.apply({}, jnp.asarray(wrong))
    with pytest.raises(ValueError, match=message):
        rl.evaluate(model.apply, {}, wrong, np.zeros(3, np.int32))
