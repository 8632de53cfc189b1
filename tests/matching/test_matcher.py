"""A matcher of one's own: one record, and the library treats it like its own."""

import functools

import numpy as np
import pytest

import rebasin_lab as rl
from rebasin_lab import matching

SPEC = rl.mlp_permutation_spec(2)


def reversing(spec, params_a, params_b, *, seed, apply_fn, data, loss_fn=None, times: int = 1):
    """Every group from its end to its start.

    Whatever the data.
    """
    assert callable(apply_fn)
    assert isinstance(data, rl.Dataset)
    sizes = rl.identity_permutation(spec, params_b)
    order = {name: one[::-1] if times % 2 else one for name, one in sizes.items()}
    return rl.MatchingResult(order, (0.0, float(times)), True, 0, 0.0)


@pytest.fixture
def registered(monkeypatch):
    """Register a function as a matcher of this name, until the test ends."""

    def register(function, name="mine", label="my matching", **fields):
        monkeypatch.setitem(rl.MATCHERS, name, rl.Matcher(function, label, **fields))

    return register


def test_match_and_compare_know_it_at_once(registered, trained_pair, tiny_data):
    registered(reversing)
    model, *params = trained_pair
    given = {"apply_fn": model.apply, "data": tiny_data}
    result = rl.match("mine", SPEC, *params, **given)
    assert result.permutation["P_0"].tolist() == [*range(8)][::-1]
    compared = rl.compare_matchers(SPEC, *params, num_lambdas=3, **given)
    assert [*compared] == ["naive", *rl.MATCHERS]
    assert compared["mine"].result.objective == (0.0, 1.0)
    rows = rl.comparison_table([compared]).splitlines()
    assert [row.split()[0] for row in rows[1:-1]] == ["naive", *rl.MATCHERS]
    methods = {"twice": {"method": "mine", "times": 2}}
    compared = rl.compare_matchers(SPEC, *params, num_lambdas=2, methods=methods, **given)
    assert compared["twice"].result.permutation["P_0"].tolist() == [*range(8)]


def test_another_loss_reaches_a_matcher_that_takes_one(registered, trained_pair, tiny_data):
    met = []

    def noting(spec, params_a, params_b, *, seed, apply_fn, data, loss_fn=None):
        met.append(loss_fn)
        return rl.match("random", spec, params_a, params_b, seed=seed)

    def squares(logits, labels):
        return (logits**2).mean(-1)

    registered(noting)
    model, *params = trained_pair
    given = {"apply_fn": model.apply, "data": tiny_data, "num_lambdas": 2}
    rl.compare_matchers(SPEC, *params, methods=["mine", "weight"], loss_fn=squares, **given)
    assert met == [squares]
    with pytest.raises(ValueError, match=r"'mine', which needs labels; got list"):
        rl.match("mine", SPEC, *params, apply_fn=model.apply, data=[tiny_data.train_images])


def test_options_of_the_call_are_checked_against_its_own(registered, trained_pair, tiny_data):
    registered(reversing)
    model, *params = trained_pair
    with pytest.raises(ValueError, match=r"apply_fn and data for the matcher 'mine'.* missing"):
        rl.match("mine", SPEC, *params)
    with pytest.raises(ValueError, match=r"options of the matcher 'mine', .*'times'.*\['time'\]"):
        rl.match("mine", SPEC, *params, apply_fn=model.apply, data=tiny_data, time=2)


def test_what_it_returns_is_checked(registered, trained_pair):
    registered(lambda spec, params_a, params_b, *, seed: rl.identity_permutation(spec, params_a))
    _, *params = trained_pair
    with pytest.raises(ValueError, match="'mine' to return a MatchingResult; got"):
        rl.match("mine", SPEC, *params)


def test_record_can_be_called_as_its_function(trained_pair):
    _, *params = trained_pair
    one = rl.MATCHERS["greedy"](SPEC, *params, seed=0)
    other = matching.greedy_matching(SPEC, *params, seed=0)
    for name, order in other.permutation.items():
        np.testing.assert_array_equal(one.permutation[name], order)


def test_help_is_the_first_line_of_the_docstring():
    assert rl.Matcher(reversing, "mine").help == "Every group from its end to its start."
    assert rl.Matcher(lambda spec, a, b, *, seed: None, "mine").help == ""
    assert all(one.help for one in rl.MATCHERS.values())


@pytest.mark.parametrize(
    ("function", "fields", "message"),
    [
        ("weight", {}, "function to be a function; got 'weight'"),
        (lambda spec, a, b: None, {}, r"function\(spec, params_a, .*got an unexpected keyword"),
        (lambda a, b, *, seed: None, {}, r"for the matcher 'mine'.*too many positional"),
        (lambda spec, a, b, c, *, seed: None, {}, "missing a required argument: 'c'"),
        (lambda spec, a, b, *, seed, depth: None, {}, "apply_fn and data; depth has none"),
        (reversing, {"efforts": {"low": {"time": 1}}}, "options of the matcher 'mine'.* 'time'"),
        (reversing, {"colour": 3}, "colour to be a text; got 3"),
    ],
)
def test_record_of_what_is_no_matcher_is_refused(function, fields, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        rl.Matcher(function, "mine", **fields)


def test_table_takes_records_only_and_keeps_naive_free(without_type_checks):
    for wrong in (reversing, functools.partial(reversing), None):
        with pytest.raises(ValueError, match=r"a Matcher under the name 'mine'; got .*Matcher\("):
            rl.MATCHERS["mine"] = wrong
    with pytest.raises(ValueError, match="another name for a Matcher; 'naive' stands for none"):
        rl.MATCHERS["naive"] = rl.Matcher(reversing, "mine")
    with pytest.raises(ValueError, match="a name to be a text; got 3"):
        rl.MATCHERS.update({3: rl.Matcher(reversing, "mine")})
    assert not {"mine", "naive", 3} & rl.MATCHERS.keys()
