"""Texts that are no spec: each is one clear, short error, soon."""

import json
import signal
import tracemalloc

import pytest

import rebasin_lab as rl

WHOLE = json.loads(
    rl.PermutationSpec({"a": (None, "P"), "b": ("P", "Q")}, group_sizes={"Q": 3}).to_json()
)
BIG = "x" * 10**6
MOST_MEMORY = 100_000_000
MOST_SECONDS = 30


def changed(**fields):
    return json.dumps(WHOLE | fields)


TEXTS = {
    "empty": "",
    "a page": "<!DOCTYPE html>",
    "a number": "3",
    "null": "null",
    "a list": "[]",
    "nothing": "{}",
    "cut": changed()[:-9],
    "twice": changed() * 2,
    "a field twice": changed()[:-1] + ', "axes": {}}',
    "deep": "[" * 10**5,
    "nan": changed(version=float("nan")),
    "another format": changed(format="x"),
    "a long format": changed(format=BIG),
    "no format": changed(format=None),
    **{
        f"version {str(version)[:9]}": changed(version=version)
        for version in (0, 2, -1, 1.0, True, "1", None, [], BIG, 2**63)
    },
    **{
        f"without {field}": json.dumps({k: v for k, v in WHOLE.items() if k != field})
        for field in WHOLE
    },
    "a field more": changed(more=1),
    "a long field more": changed(**{BIG: 1}),
    "many fields more": changed(**{str(i): i for i in range(10**4)}),
    **{
        f"{field} {str(value)[:9]}": changed(**{field: value})
        for field in ("axes", "group_sizes", "explanations")
        for value in (
            None,
            3,
            BIG,
            [],
            [1] * 10**5,
            {"a": BIG},
            {BIG: BIG},
            {"a": None},
            {"a\nb": 2.5},
        )
        if (field, value) != ("group_sizes", {})
    },
    **{
        f"entries {str(value)[:20]}": changed(axes={"a": value})
        for value in (
            *(3, "P", [3], [[]], [True], [{}], ["P", BIG + "("], ["P"] * 20_000, [None] * 65),
            *(
                [""],
                [" "],
                ["("],
                ["(" * 10**5],
                ["P["],
                ["P[" * 500],
                ["P[P]"],
                ["+"],
                ["P+"],
                ["*P"],
            ),
            *(["P(0"], ["P(0,0)"], ["P(1)"], ["P(1,0)"], ["P(0:0)"], ["P(0:4:0)"], ["P(-1)"]),
            *(["P(0:99999999999)"], ["+".join(["P(0:999999)"] * 200)], ["P(" + "9" * 9999 + ")"]),
            *(["9" * 9999], ["P\n("], ["P\x1b[31m("], ["P)"], ["P]"], ["((P)"], ["P(0)+Q"]),
        )
    },
    "a few positions of each of many leaves": changed(
        axes={str(i): ["P(0:199999:2)+Q(1:199999:2)"] for i in range(1000)}
    ),
    "a size below zero": changed(group_sizes={"Q": -1}),
    "a size of none": changed(group_sizes={"R": 1}),
    "a long size of none": changed(group_sizes={BIG: 1}),
    "a size that is a text": changed(group_sizes={"Q": "3"}),
    "an explanation too few": changed(explanations={"a": ["x"]}),
    "an explanation of none": changed(explanations={"c": ["x"]}),
    "many explanations": changed(explanations={"a": [BIG] * 3}),
    "explanations of numbers": changed(explanations={"a": [1, 2]}),
    **{
        f"assumptions {str(v)[:9]}": changed(assumptions=v)
        for v in (None, 3, BIG, [3], {}, [BIG, 3])
    },
}


def test_the_whole_one_is_read():
    assert rl.PermutationSpec.from_json(changed()).group_sizes == {"Q": 3}


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_no_spec_is_one_clear_error(kind):
    def stop(*_):
        raise AssertionError(f"it took longer than {MOST_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"Expected|expected") as caught:
            rl.PermutationSpec.from_json(TEXTS[kind])
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "value", [None, 3, b"{}", WHOLE, [], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_text_is_one_clear_error(value, without_type_checks):
    with pytest.raises(ValueError, match="Expected a permutation spec as JSON text; got"):
        rl.PermutationSpec.from_json(value)
