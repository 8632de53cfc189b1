"""Matchers side by side: every number is that of the calls a reader would write."""

import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import pytrees
from rebasin_lab.analysis import interpolation

SPEC = rl.mlp_permutation_spec(2)
SHORT = {"straight_through": {"num_epochs": 1, "batch_size": 50}}


@pytest.fixture(scope="module")
def compare(trained_pair, tiny_data):
    """`compare_matchers` on the pair."""
    model, params_a, params_b = trained_pair

    def compare(**options):
        options = {"apply_fn": model.apply, "data": tiny_data, "num_lambdas": 3} | options
        return rl.compare_matchers(SPEC, params_a, params_b, **options)

    return compare


def test_numbers_are_those_of_each_method(trained_pair, compare, tiny_data):
    model, params_a, params_b = trained_pair
    told = []
    methods = dict.fromkeys(("naive", *rl.MATCHERS), {}) | SHORT
    compared = compare(methods=methods, on_method=told.append)
    assert [*compared] == told == ["naive", *rl.MATCHERS]
    for method, one in compared.items():
        moved = params_b
        if method != "naive":
            own = {"apply_fn": model.apply, "data": tiny_data} | SHORT.get(method, {})
            own = own if rl.MATCHERS[method].needs_data else {}
            permutation = rl.match(method, SPEC, params_a, params_b, **own).permutation
            for name, order in permutation.items():
                np.testing.assert_array_equal(one.result.permutation[name], order, err_msg=method)
            moved = rl.apply_permutation(SPEC, permutation, params_b)
        curve = rl.interpolation_curve(model.apply, params_a, moved, tiny_data, num_lambdas=3)
        for field, values in curve.as_numbers().items():
            # Permuted, B is the same function, but for the order that it is summed in.
            np.testing.assert_allclose(one.curve.as_numbers()[field], values, rtol=1e-5, atol=1e-6)
        assert one.inner_product == pytrees.inner_product(params_a, moved)
        assert one.distance == rl.distance(params_a, moved)
        for split, barrier in (("train", one.train_barrier), ("test", one.test_barrier)):
            assert barrier == pytest.approx(rl.loss_barrier(curve, split=split), abs=1e-6)
    assert compared["naive"].result is None


def test_both_ends_are_evaluated_once_for_all_lines(monkeypatch, compare):
    calls, measure = [], interpolation.measure_splits

    def counted(*arguments, **options):
        calls.append(arguments)
        return measure(*arguments, **options)

    monkeypatch.setattr(interpolation, "measure_splits", counted)
    methods = ["naive", "weight", "random"]
    lines = [one.curve for one in compare(methods=methods, num_lambdas=5).values()]
    assert len(calls) == 2 + 3 * len(methods)
    assert len({line.train_loss[end] for line in lines for end in (0, -1)}) == 2


def test_what_prepare_returns_is_evaluated_at_every_point(trained_pair, compare):
    _, params_a, params_b = trained_pair
    seen = []

    def prepare(params):
        seen.append(params)
        return params_a

    compared = compare(methods=["naive", "weight"], prepare=prepare)
    for one in compared.values():
        assert np.ptp(one.curve.test_loss) == 0  # A is everywhere
    assert len(seen) == 2 + 2  # both ends once
    for params, lam in zip(seen, (0.0, 0.5, 1.0), strict=False):
        assert rl.distance(params, rl.lerp(lam, params_a, params_b)) < 1e-5


def test_what_is_found_is_not_matched_again(trained_pair, compare):
    _, params_a, params_b = trained_pair
    found = rl.match("random", SPEC, params_a, params_b, seed=7)
    compared = compare(methods=["weight"], results={"weight": found})
    assert compared["weight"].result is found


def test_lines_can_be_evaluated_on_other_images(compare, tiny_data):
    fewer = tiny_data.subset(np.arange(50))
    one = compare(methods=["activation"], eval_data=fewer)["activation"]
    other = compare(methods=["activation"])["activation"]
    assert one.curve.train_loss[0] != other.curve.train_loss[0]
    assert one.result.objective == other.result.objective


@pytest.mark.parametrize(
    ("methods", "problem"),
    [
        (["naive", "nearest"], r"a matcher among .* got 'nearest'"),
        ({"other": {"method": ["weight"]}}, r"a matcher among .* got \['weight'\]"),
        ("weight", r"Write \['weight'\]"),
        ({"naive": {"effort": "fast"}}, "no options for 'naive'"),
        ({"naive": {}, "weight": {"efort": "fast"}}, r"options of .* got \['efort'\]"),
    ],
)
def test_wrong_names_and_options_are_told_before_any_work(compare, methods, problem):
    done = []
    with pytest.raises(ValueError, match=problem):
        compare(methods=methods, on_method=done.append)
    assert not done


@pytest.mark.parametrize("wrong", [list, iter, tuple], ids=lambda kind: kind.__name__)
def test_lines_on_batches_of_ones_own_are_refused_before_any_work(
    compare, tiny_data, wrong, without_type_checks
):
    done, batches = [], wrong([tiny_data.train_images[:100]])
    for given in ({"data": batches}, {"eval_data": batches}):
        with pytest.raises(ValueError, match=f"Expected {next(iter(given))} to be a Dataset"):
            compare(methods=["activation"], on_method=done.append, **given)
    assert not done


def test_batches_of_ones_own_are_matched_on_where_lines_have_a_data_set(
    compare, tiny_data, without_type_checks
):
    batches = [tiny_data.train_images[:100]]
    one = compare(methods=["activation"], data=batches, eval_data=tiny_data)["activation"]
    assert one.curve.lambdas.size == 3


def test_a_method_may_have_a_seed_of_its_own(compare):
    methods = {"random": {"seed": 3}, "other": {"method": "random"}, "plain": {"method": "naive"}}
    compared = compare(methods=methods, seed=4)
    other = compare(methods=["random"], seed=3)
    assert compared["random"].inner_product == other["random"].inner_product
    assert compared["other"].inner_product != other["random"].inner_product
    assert compared["plain"].result is None


def test_a_variant_goes_by_its_own_name(trained_pair, compare):
    _, params_a, params_b = trained_pair
    methods = {"weight": {}, "normalized": {"method": "weight", "normalize": True}}
    compared = compare(methods=methods)
    expected = rl.match("weight", SPEC, params_a, params_b, normalize=True)
    assert compared["normalized"].result.objective == expected.objective
    assert compared["weight"].result.quantity != expected.quantity


def test_table_holds_means_and_each_barrier(compare):
    pairs = [compare(methods=["naive", "random"], seed=seed) for seed in (1, 2)]
    header, naive, random, ends = rl.comparison_table(pairs).splitlines()
    assert header.split()[:3] == ["seconds", "<A,π(B)>", "distance"]
    assert naive.split()[:2] == ["naive", "-"]
    barriers = [one["random"].train_barrier for one in pairs]
    shown = [f"{value:.4f}" for value in (np.mean(barriers), *barriers)]
    assert random.split()[-3:] == shown
    accuracy = np.mean([one["random"].curve.test_accuracy[1] for one in pairs])
    assert f" {100 * accuracy:.1f} % " in random
    curve = pairs[0]["naive"].curve
    assert ends.split()[2] == f"{50 * (curve.test_accuracy[0] + curve.test_accuracy[-1]):.1f}"


def test_table_of_an_even_number_of_points_shows_no_middle(compare):
    compared = compare(methods=["naive"], num_lambdas=4)
    row = rl.comparison_table([compared]).splitlines()[1].split()
    assert row[:2] == ["naive", "-"]
    assert row[4] == "-"
