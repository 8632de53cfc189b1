"""Leaves that are moved but not compared: by which names, at every entry that takes `ignore`."""

import jax
import numpy as np
import pytest

import rebasin_lab as rl
from oracles import assert_same_permutation
from rebasin_lab import pytrees
from rebasin_lab.matching.ignored import ignored_leaves

TORCH = "conv1.weight bn1.weight layer1.0.conv1.weight layer1.0.bn1.weight layer1.0.bn2.bias fc.bn"
LINEN = """params/Dense_0/kernel params/BatchNorm_0/scale params/Block_10/bn1/scale
    params/Block_1/bn1/scale batch_stats/BatchNorm_0/mean"""
NAMES = {
    "bn1.weight": (TORCH, "bn1.weight"),
    "bn1": (TORCH, "bn1.weight"),  # what begins so comes first
    "layer1.0.bn1": (TORCH, "layer1.0.bn1.weight"),
    "layer1/0/bn1/": (TORCH, "layer1.0.bn1.weight"),
    "0.bn2": (TORCH, "layer1.0.bn2.bias"),
    "bn2": (TORCH, "layer1.0.bn2.bias"),
    "bn": (TORCH, "fc.bn"),  # the whole part, and no bn1
    "layer": (TORCH, "layer1.0.conv1.weight layer1.0.bn1.weight layer1.0.bn2.bias"),
    "conv": (TORCH, "conv1.weight layer1.0.conv1.weight"),
    "batch_stats": (LINEN, "batch_stats/BatchNorm_0/mean"),
    "BatchNorm_0": (LINEN, "params/BatchNorm_0/scale batch_stats/BatchNorm_0/mean"),
    "BatchNorm": (LINEN, "params/BatchNorm_0/scale batch_stats/BatchNorm_0/mean"),
    "params/BatchNorm": (LINEN, "params/BatchNorm_0/scale"),
    "params/Block_1/bn1": (LINEN, "params/Block_1/bn1/scale"),
    "params/Block_1": (LINEN, "params/Block_1/bn1/scale"),  # and not Block_10
    "bn1/scale": (LINEN, "params/Block_10/bn1/scale params/Block_1/bn1/scale"),
    "a$1+(b)": ("a$1+(b)/w a1/w", "a$1+(b)/w"),
    "[x]": ("x/w [x]/w", "[x]/w"),
}
CASES = [(name, *case) for name, case in NAMES.items()]
CASES += [("bn", LINEN, "params/Block_10/bn1/scale params/Block_1/bn1/scale")]


def spec_of(paths):
    return rl.PermutationSpec({path: (None,) for path in paths.split()})


@pytest.mark.parametrize(("name", "paths", "found"), CASES)
def test_names_of_leaves(name, paths, found):
    assert ignored_leaves(spec_of(paths), [name]) == set(found.split())


@pytest.mark.parametrize("paths", [TORCH, LINEN])
@pytest.mark.parametrize(
    "name", [".*", "b.1", "bn[12]", "bn?", "^bn1", "*", "eight", "weigh", "bn3", "1", "n1"]
)
def test_what_is_no_name_is_none(name, paths):
    with pytest.raises(ValueError, match="or parts of them; '.*' is none.* The network has: "):
        ignored_leaves(spec_of(paths), [name])


SPEC = rl.PermutationSpec(
    {"net.a": (None, "P"), "net.bn1.mean": ("P",), "net.bn1.var": ("P",), "net.o": ("P", None)}
)


def networks():
    """Two alike but for what BatchNorm has counted, which is large and stale in one."""
    rng = np.random.default_rng(0)
    shapes = {"net.a": (5, 16), "net.bn1.mean": (16,), "net.bn1.var": (16,), "net.o": (16, 3)}
    params = {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
    order = rl.random_permutation(SPEC, params, seed=1)
    moved = rl.apply_permutation(SPEC, order, params)
    stale = {name: 1e3 * rng.random(16).astype("f4") for name in ("net.bn1.mean", "net.bn1.var")}
    planted = rl.invert_permutation(order)
    return {**params, **{n: 1e3 * x for n, x in stale.items()}}, {**moved, **stale}, planted


def apply_fn(params, x):
    hidden = x.reshape(len(x), -1)[:, :5] @ params["net.a"] * params["net.bn1.var"][None] ** 0
    return hidden @ params["net.o"]


def merged(ignore, data):
    first, second, _ = networks()
    return rl.merge_many(SPEC, [first, second], ignore=ignore).permutations[1]


def matched(method):
    def call(ignore, data):
        first, second, _ = networks()
        options = {"apply_fn": apply_fn, "data": data} if method == "combined" else {}
        return rl.match(method, SPEC, first, second, ignore=ignore, **options).permutation

    return call


ENTRIES = {method: matched(method) for method in ("weight", "algorithm_1", "combined")}
ENTRIES["merge_many"] = merged
entries = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@entries
def test_every_entry_ignores_the_same(entry, tiny_data):
    for ignore in (["net.bn1"], {"bn1"}, ("bn",), ["mean", "var"], frozenset({"net/bn1"})):
        assert_same_permutation(entry(ignore, tiny_data), networks()[2])


@entries
def test_running_statistics_are_ignored_unless_something_else_is_asked_for(entry, tiny_data):
    assert_same_permutation(entry(None, tiny_data), networks()[2])
    if entry is not ENTRIES["combined"]:  # weights are scaled there, large ones too
        assert (entry((), tiny_data)["P"] != networks()[2]["P"]).any()


STATISTICS = {
    "bn1.running_mean bn1.running_var": "bn1.weight bn1.num_batches_tracked",
    "batch_stats/BatchNorm_0/mean batch_stats/BatchNorm_0/var": "params/BatchNorm_0/scale",
    "bn/moving_mean bn/moving_variance": "bn/gamma",
    "bn/~/mean_ema/average bn/~/var_ema/average": "bn/~/mean_ema/counter",
    "mean var": "scale",
    "": "mean other/var mean.weight var.weight prior_mean prior_var running_mean",
}


@pytest.mark.parametrize(("statistics", "others"), STATISTICS.items())
def test_statistics_have_names(statistics, others):
    paths = [*statistics.split(), *others.split()]
    assert pytrees.running_statistics(paths) == set(statistics.split())
    assert ignored_leaves(spec_of(" ".join(paths)), None) == set(statistics.split())


def test_names_of_statistics_are_those_of_the_models(tiny_data):
    for name in ("resnet8_bn", "resnet8"):
        model = rl.build_model(name, dataset=tiny_data)
        assert (
            pytrees.running_statistics(pytrees.flatten(model.init(jax.random.key(0))))
            == model.statistics_paths
        )


def test_statistics_count_for_a_permutation_that_moves_nothing_else():
    alone, beside = {"mean": ("P",), "var": ("P",)}, {"a/mean": ("Q",), "a/var": ("Q",)}
    spec = rl.PermutationSpec({**alone, **beside, "w": ("Q",)})
    assert ignored_leaves(spec, None) == set(beside)


@entries
def test_every_entry_refuses_the_same(entry, tiny_data, without_type_checks):
    bad = {
        "to be None or a list, each item a text; got 'bn1'": "bn1",
        "to be None or a list, each item a text; got 7": 7,
        "to be None or a list, each item a text; got 5": 5,
        "to be None or a list, each item a text; got a generator": (name for name in ["bn1"]),
        "hold paths of leaves; got ''": [""],
        "hold paths of leaves; got '/'": ["/"],
        "hold paths of leaves; got '.'": ["."],
        ".0. to be a text; got 3": [3],
        ".0. to be a text; got None": [None],
        ".0. to be a text; got b'bn1'": [b"bn1"],
        "'bn2' is none. Did you mean 'bn1'": ["bn2"],
        "'P' moves only net.a": ["net.a", "bn", "o"],
    }
    for message, ignore in bad.items():
        with pytest.raises(ValueError, match=f"Expected ignore.*{message}"):
            entry(ignore, tiny_data)
