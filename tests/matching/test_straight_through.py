"""The straight-through estimator: it keeps what has the lowest loss half-way, by value."""

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from oracles import assert_same_permutation
from rebasin_lab import metrics, pytrees
from rebasin_lab.matching import straight_through_matching

SPEC = rl.mlp_permutation_spec(2)
SHORT = {"num_epochs": 3, "batch_size": 50, "match_every": 2, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def run(trained_pair, tiny_data):
    """The matcher on the two networks."""
    model, params_a, params_b = trained_pair

    def run(**options):
        options = {"apply_fn": model.apply, "data": tiny_data} | SHORT | options
        return straight_through_matching(SPEC, params_a, params_b, **options)

    return run


def loss_half_way(trained_pair, permutation, images, labels):
    model, params_a, params_b = trained_pair
    middle = jax.tree.map(
        lambda a, b: 0.5 * a + 0.5 * b, params_a, rl.apply_permutation(SPEC, permutation, params_b)
    )
    return metrics.evaluate(model.apply, middle, images, labels).loss


@pytest.mark.parametrize("match_every", [1, 2])
def test_best_permutation_is_kept_by_value(trained_pair, run, tiny_data, match_every):
    result = run(match_every=match_every)
    images, labels = tiny_data.train_images, tiny_data.train_labels
    loss = loss_half_way(trained_pair, result.permutation, images, labels)
    # float32 sums of 200 losses in another order.
    assert -result.objective[-1] == pytest.approx(loss, rel=1e-5)
    assert result.objective[-1] == max(result.objective)


def test_it_ends_no_worse_than_weight_matching_and_the_identity(trained_pair, run, tiny_data):
    _, params_a, params_b = trained_pair
    images, labels = tiny_data.train_images, tiny_data.train_labels
    identity = rl.identity_permutation(SPEC, params_b)
    matched = rl.match("weight", SPEC, params_a, params_b).permutation
    losses = [loss_half_way(trained_pair, order, images, labels) for order in (identity, matched)]
    result = run()
    np.testing.assert_allclose(-np.array(result.objective[:2]), [losses[0], min(losses)], rtol=1e-5)
    assert np.diff(result.objective).min() >= 0
    assert -result.objective[-1] < losses[1]  # here training has found a better one
    assert len(result.objective) == 2 + SHORT["num_epochs"]


def test_it_is_algorithm_2_written_out(trained_pair, run, tiny_data):
    model, params_a, params_b = trained_pair
    images, labels = tiny_data.train_images, tiny_data.train_labels
    rng = np.random.default_rng(0)
    rng.permutation(200)  # the judged images: all of them here

    @jax.jit
    def gradient(params, batch_images, batch_labels):
        def loss(params):
            middle = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, params_a, params)
            return metrics.cross_entropy(model.apply(middle, batch_images), batch_labels)

        return jax.grad(loss)(params)

    free, velocity = params_a, jax.tree.map(np.zeros_like, params_a)
    order, losses, step = rl.match("weight", SPEC, free, params_b).permutation, [], 0
    num_changes, told = 0, []
    for _ in range(SHORT["num_epochs"]):
        for batch in rng.permutation(200).reshape(-1, 50):
            losses.append(loss_half_way(trained_pair, order, images, labels))
            slope = gradient(
                rl.apply_permutation(SPEC, order, params_b), images[batch], labels[batch]
            )
            velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, slope)
            free = jax.tree.map(lambda w, v: w - 1.0 * v, free, velocity)
            step += 1
            if step % 2 == 0:
                # From where it is, and not from the identity (PAPER 4.3: warm start).
                options = {"start": order, "seed": step}
                before, order = (
                    order,
                    rl.match("weight", SPEC, free, params_b, **options).permutation,
                )
                num_changes += any(np.any(before[name] != order[name]) for name in order)
    losses.append(loss_half_way(trained_pair, order, images, labels))
    assert -run(learning_rate=1.0, on_epoch=told.append).objective[-1] == pytest.approx(
        min(losses), rel=1e-4
    )
    assert told[-1].num_changes == num_changes > 1


def test_only_the_judged_images_decide(trained_pair, run, tiny_data):
    judged = np.sort(np.random.default_rng(5).permutation(200)[:30])
    result = run(seed=5, num_eval_images=30)
    images, labels = tiny_data.train_images[judged], tiny_data.train_labels[judged]
    loss = loss_half_way(trained_pair, result.permutation, images, labels)
    assert -result.objective[-1] == pytest.approx(loss, rel=1e-5)


def test_epochs_are_told(run):
    told = []
    result = run(on_epoch=told.append)
    assert [(state.epoch, state.num_epochs) for state in told] == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal([-state.loss for state in told], result.objective[2:])
    changes = [state.num_changes for state in told]
    assert changes == sorted(changes)
    assert result.num_sweeps == 3
    assert result.converged == (result.objective[-1] == result.objective[-2])


def test_seed_fixes_the_result(run):
    first, again, other = (run(seed=seed, num_eval_images=50) for seed in (0, 0, 1))
    assert_same_permutation(first.permutation, again.permutation)
    assert first.objective == again.objective != other.objective


def test_a_batch_is_at_most_all_images(run):
    assert len(run(num_epochs=1, batch_size=1000).objective) == 3


def test_step_is_compiled_once_for_all_runs(trained_pair, tiny_data):
    model, params_a, params_b = trained_pair
    calls = []

    def apply_fn(params, images):
        calls.append(0)
        return model.apply(params, images)

    options = {"apply_fn": apply_fn, "data": tiny_data} | SHORT
    straight_through_matching(SPEC, params_a, params_b, **options)
    num_traced = len(calls)
    straight_through_matching(SPEC, params_b, params_a, seed=1, **options)
    assert len(calls) == num_traced


@pytest.mark.filterwarnings("ignore:overflow")
def test_weights_that_stop_being_finite_are_told(run):
    with pytest.raises(FloatingPointError, match="after step 2. Lower the learning rate"):
        run(learning_rate=1e300)


@pytest.fixture(scope="module")
def normalised_pair(tiny_data):
    """Two networks with BatchNorm that have learned `tiny_data`, and their spec."""
    model = rl.build_model("resnet8_bn", dataset=tiny_data, width_multiplier=0.25)
    config = rl.TrainConfig(num_epochs=10, batch_size=50, learning_rate=0.01)
    pair = [rl.train(model, tiny_data, config, seed=seed).params for seed in range(2)]
    return model, rl.infer_permutation_spec(model.apply, pair[0], tiny_data.train_images[:2]), pair


def test_running_statistics_are_measured_anew_half_way(normalised_pair, tiny_data):
    model, spec, pair = normalised_pair
    options = {"apply_fn": model.apply, "data": tiny_data} | SHORT
    result = straight_through_matching(spec, *pair, **options)
    images, labels = tiny_data.train_images, tiny_data.train_labels

    def loss(permutation):
        middle = rl.lerp(0.5, pair[0], rl.apply_permutation(spec, permutation, pair[1]))
        measured = rl.merging.reestimate_statistics(model.apply, middle, images)
        averaged = metrics.evaluate(model.apply, middle, images, labels).loss
        return metrics.evaluate(model.apply, measured, images, labels).loss, averaged

    for permutation, objective in (
        (rl.identity_permutation(spec, pair[1]), result.objective[0]),
        (result.permutation, result.objective[-1]),
    ):
        measured, averaged = loss(permutation)
        assert -objective == pytest.approx(measured, rel=1e-4)  # images in another order
        assert abs(measured - averaged) > 0.05  # nats


def test_without_running_statistics_the_plain_mean_is_measured(trained_pair, run, tiny_data):
    model, params_a, params_b = trained_pair
    middle = rl.lerp(0.5, params_a, params_b)
    plain = metrics.evaluate(model.apply, middle, tiny_data.train_images, tiny_data.train_labels)
    assert -run(num_epochs=1).objective[0] == plain.loss  # to the last bit


def test_averaged_running_statistics_have_no_influence(normalised_pair, tiny_data):
    model, spec, pair = normalised_pair
    options = {"apply_fn": model.apply, "data": tiny_data} | SHORT
    stale = [  # of no network
        pytrees.map_with_path(
            lambda path, leaf: leaf + 3 if path in model.statistics_paths else leaf, params
        )
        for params in pair
    ]
    one, other = (straight_through_matching(spec, *each, **options) for each in (pair, stale))
    assert_same_permutation(one.permutation, other.permutation)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-4)
