"""Modules of PyTorch in JAX: the same numbers, all symmetries, state_dicts there and back."""

import torch_or_skip  # noqa: F401

# isort: split
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rebasin_lab as rl
from rebasin_lab import interop, merging
from torch_modules import GPT, MLP, NETWORKS, images


class Converted:
    """A module with random numbers everywhere, its example, and what from_torch makes of it."""

    def __init__(self, kind, example):
        torch.manual_seed(0)
        self.module, self.inputs = kind().eval(), example()
        with torch.no_grad():
            for one in self.module.state_dict().values():
                if one.is_floating_point() and one.ndim < 2:
                    one += 0.1 * torch.rand_like(one)  # no bias of zero, no variance of one
        self.network = rl.from_torch(self.module, *self.inputs)
        self.arrays = [one.numpy() for one in self.inputs]

    @property
    def spec(self):
        return rl.infer_permutation_spec(self.network.apply, self.network.params, *self.arrays)


CONVERTED = {}


def of(name):
    """One of the networks, converted once."""
    if name not in CONVERTED:
        CONVERTED[name] = Converted(*NETWORKS[name][:2])
    return CONVERTED[name]


@pytest.fixture(params=NETWORKS)
def converted(request):
    return of(request.param)


def assert_close(found, wanted, rounding):
    """Equal relative to the largest number of each array, in the same containers."""
    wanted = torch.utils._pytree.tree_map(lambda one: one if one is None else one.numpy(), wanted)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rounding * np.abs(other).max())


@pytest.mark.parametrize("num_copies", [1, 3])
def test_outputs_are_those_of_pytorch_for_any_batch(converted, num_copies):
    inputs = [torch.cat([one] * num_copies) for one in converted.inputs]
    with torch.no_grad():
        wanted = converted.module(*inputs)
    found = jax.jit(converted.network.apply)(converted.network.params, *(x.numpy() for x in inputs))
    assert_close(found, wanted, 2e-6)


def test_float64_parameters_compute_in_float64(converted):
    inputs = [x.double() if x.is_floating_point() else x for x in converted.inputs]
    with jax.enable_x64(True), torch.no_grad():
        params = {n: np.asarray(p, np.float64) for n, p in converted.network.params.items()}
        found = jax.jit(converted.network.apply)(params, *(x.numpy() for x in inputs))
        wanted = converted.module.double()(*inputs)
    converted.module.float()
    assert_close(found, wanted, 1e-13)


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_counted_by_hand(name):
    converted, params = of(name), of(name).network.params
    assert sorted(converted.spec.sizes(params).values()) == sorted(NETWORKS[name][2])
    change = rl.verify_equivalence(
        converted.network.apply, converted.spec, params, *converted.arrays, num_trials=1
    )
    assert change < 1e-5


def test_planted_permutations_are_recovered(converted):
    network, spec = converted.network, converted.spec
    planted = rl.random_permutation(spec, network.params, seed=1)
    moved = rl.apply_permutation(spec, planted, network.params)
    found = rl.match(
        "weight", spec, network.params, moved, ignore=network.statistics_paths
    ).permutation
    restored = rl.apply_permutation(spec, found, moved)
    assert all((restored[name] == one).all() for name, one in network.params.items())


def test_state_dicts_go_to_jax_and_back(converted):
    network, module = converted.network, type(converted.module)().eval()
    params = network.from_state_dict(module.state_dict())  # other parameters than those converted
    assert params.keys() == network.params.keys()
    back = network.to_state_dict(params)
    assert list(back) == list(module.state_dict())
    assert all(one.dtype == module.state_dict()[name].dtype for name, one in back.items())
    other = type(converted.module)().eval()
    other.load_state_dict(back, strict=True)
    with torch.no_grad():
        found = jax.jit(network.apply)(params, *converted.arrays)
        assert_close(found, other(*converted.inputs), 2e-6)


def test_the_module_stays_as_it_is():
    torch.manual_seed(0)
    for kind, example in ((MLP, images(8)), (GPT, (torch.zeros(1, 7, dtype=torch.int64),))):
        module = kind()
        module[3].eval() if kind is MLP else None
        before = {n: (id(one), one.clone()) for n, one in module.state_dict(keep_vars=True).items()}
        modes = [one.training for one in module.modules()]
        params = rl.from_torch(module, *example).params
        after = module.state_dict(keep_vars=True)
        assert {n: id(one) for n, one in after.items()} == {n: i for n, (i, _) in before.items()}
        assert all(torch.equal(one, before[n][1]) for n, one in after.items())
        assert [one.training for one in module.modules()] == modes
        name, first = next(iter(params.items()))
        with torch.no_grad():
            module.state_dict()[name] += 1  # the parameters are copies
        assert (np.asarray(first) == before[name][1].detach().numpy()).all()


# BatchNorm


@pytest.mark.parametrize("name", ["MLP", "ResNet"])
def test_training_normalises_by_the_batch_and_returns_its_statistics(name):
    converted = of(name)
    network, module = converted.network, type(converted.module)()
    module.load_state_dict(converted.module.state_dict())
    for one in module.modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.momentum = 1.0
    outputs, params = jax.jit(network.apply_training)(network.params, *converted.arrays)
    with torch.no_grad():
        assert_close(outputs, module.train()(*converted.inputs), 1e-5)
    wanted = module.state_dict()
    assert network.statistics_paths == {n for n in wanted if n.endswith(("_mean", "_var"))}
    sizes = {}  # of what each variance is over; PyTorch has n - 1 in its running variances
    for path, one in module.named_modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.register_forward_pre_hook(
                lambda _, inputs, path=path: sizes.update({path: inputs[0][:, 0].numel()})
            )
    module(*converted.inputs)
    for path in params:
        size = sizes.get(path.removesuffix(".running_var"), np.inf)
        unbiased = params[path] * (1 if size == np.inf else size / (size - 1))
        np.testing.assert_allclose(unbiased, wanted[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_statistics_are_re_estimated_without_a_function_of_ones_own():
    network, [batch] = of("ResNet").network, of("ResNet").arrays
    params = merging.batch_norm.reestimate_statistics(network, network.params, batch)
    changed = {n for n, one in params.items() if not np.array_equal(one, network.params[n])}
    assert changed == network.statistics_paths
    wanted = network.apply_training(network.params, batch)[0]
    np.testing.assert_allclose(network.apply(params, batch), wanted, rtol=1e-4, atol=1e-5)


def test_instance_norm_and_batch_norm_without_statistics_are_converted():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.InstanceNorm2d(4, affine=True),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ).eval()
    [batch] = images(6)
    network = rl.from_torch(module, batch)
    with torch.no_grad():
        assert_close(network.apply(network.params, batch.numpy()), module(batch), 2e-6)


# State_dicts of others


def test_prefixes_ties_and_integers_of_a_checkpoint_do_not_matter():
    network, module = of("GPT").network, of("GPT").module
    plain = network.from_state_dict(module.state_dict())
    wrapped = {f"_orig_mod.module.{n}": one.numpy() for n, one in module.state_dict().items()}
    del wrapped["_orig_mod.module.positions"], wrapped["_orig_mod.module.embed.weight"]
    wrapped["_orig_mod.module.num_batches_tracked"] = np.int64(3)
    found = network.from_state_dict(wrapped)
    assert all((found[name] == one).all() for name, one in plain.items())
    back = network.to_state_dict(found)
    assert back["head.weight"] is back["embed.weight"]
    assert torch.equal(back["positions"], torch.arange(7))


def test_types_of_the_module_are_kept():
    module = nn.Linear(3, 4, dtype=torch.bfloat16)
    network = rl.from_torch(module, torch.zeros(2, 3, dtype=torch.bfloat16))
    assert network.params["weight"].dtype == jnp.bfloat16
    assert network.apply(network.params, jnp.ones((5, 3), jnp.bfloat16)).dtype == jnp.bfloat16
    params = network.from_state_dict(nn.Linear(3, 4).state_dict())
    assert params["weight"].dtype == jnp.bfloat16
    assert network.to_state_dict(params)["weight"].dtype == torch.bfloat16
    wide = rl.from_torch(module.double(), torch.zeros(2, 3, dtype=torch.float64))
    assert wide.to_state_dict(wide.params)["weight"].dtype == torch.float64


class Versioned(nn.Linear):
    """Like torchvision's MNASNet, it refuses a state_dict that does not say its version."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_versions_of_modules_are_kept():
    module = nn.Sequential(Versioned(3, 4))
    network = rl.from_torch(module, torch.zeros(2, 3))
    module.load_state_dict(network.to_state_dict(network.params), strict=True)


def gpt_dict(**changed):
    return {
        n: changed.get(n.replace(".", "_"), t) for n, t in of("GPT").module.state_dict().items()
    }


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        (lambda: {"model": gpt_dict(), "epoch": 3}, r"got model, epoch\. Pass its entry 'model'"),
        (dict, "got an empty dict"),
        (lambda: [1], "Expected state_dict to be a dict"),
        (lambda: {"up.weight": torch.ones(48, 16)}, "8 missing: .* and 3 more"),
        (lambda: gpt_dict() | {"extra": torch.ones(2)}, "1 not known: extra"),
        (lambda: gpt_dict(up_weight=torch.ones(48, 3)), r"up.weight \[48, 3\] for \[48, 16\]"),
        (lambda: gpt_dict(embed_weight=torch.ones(30, 16)), "different: embed.weight and head"),
        (lambda: gpt_dict(positions=torch.arange(7) + 1), "other integers .* with: positions"),
    ],
)
def test_state_dicts_that_do_not_fit_are_refused(state_dict, message):
    with pytest.raises(ValueError, match=message):
        of("GPT").network.from_state_dict(state_dict())


# Calls that do not fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, p, x: n.apply(p, x.astype(np.float32)), "like int64; got an array of float32"),
        (lambda n, p, x: n.apply(p, x[:, :3]), r"int64 of shape \[any, 7\]; got .* \(2, 3\)"),
        (lambda n, p, x: n.apply(p, x[0]), r"int64 of shape \[any, 7\]; got .* \(7,\)"),
        (lambda n, p, x: n.apply(p, x.tolist()), r"as in the example, \(\*\); got"),
        (lambda n, p, x: n.apply(p), r"as in the example, \(\*\); got \(\)"),
        (lambda n, p, x: n.apply(p, x, scale=2.0), r"got \(\*, scale=\*\)"),
        (lambda n, p, x: n.apply(p, 3), "int64 of shape .*; got 3"),
        (lambda n, p, x: n.apply([p], x), "params as a dict"),
        (lambda n, p, x: n.apply({}, x), "'embed.weight'; got no leaf"),
        (lambda n, p, x: n.apply(p | {"more": x}, x), "no leaf at 'more'"),
        (lambda n, p, x: n.apply(p | {"up.bias": x}, x), r"have \(48,\) at 'up.bias'; got"),
        (lambda n, p, x: n.to_state_dict({}), "'embed.weight'; got no leaf"),
    ],
)
def test_calls_that_do_not_fit_are_refused(call, message):
    network = of("GPT").network
    with pytest.raises(ValueError, match=message):
        call(network, network.params, of("GPT").arrays[0])


def test_what_is_no_array_is_part_of_the_function():
    network = rl.from_torch(of("GPT").module, of("GPT").inputs[0], scale=0.25)
    found = network.apply(network.params, of("GPT").arrays[0], scale=0.25)
    with torch.no_grad():
        assert_close(found, of("GPT").module(of("GPT").inputs[0], scale=0.25), 2e-6)
    with pytest.raises(ValueError, match="the input scale to be 0.25, as in the example"):
        network.apply(network.params, of("GPT").arrays[0], scale=0.5)


# Modules that cannot be converted


class Calls(nn.Module):
    """A layer, then any function."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.after = nn.Linear(4, 4), Then(function)

    def forward(self, x):
        return self.after(self.layer(x))


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def undefined(module):
    with torch.device("meta"):
        return module()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            torch.special.bessel_j0,
            r"aten.special_bessel_j0.default, called by after \(Then\), has no "
            r"rule.*RULES\['aten.special_bessel_j0.default']",
        ),
        (lambda x: x if x.sum() > 0 else -x, r"tensor, at test_from_torch\.py:\d+ .*torch.where"),
        (
            lambda x: sum(x[i] for i in x[0].nonzero()),
            r"by the value of a tensor, at test_from_torch.py:\d+ in <lambda>\. One",
        ),
        (lambda x: x * x.sum().item(), r"after \(Then\), gives sizes or numbers"),
        (lambda x: x[x > 0].sum(), r"after \(Then\), gives sizes or numbers .* boolean"),
        (lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), "chooses by values"),
        (lambda x: F.dropout(x, 0.5, True), r"after \(Then\), draws random numbers"),
        (lambda x: x + torch.randn(4), r"aten.randn.*draws random numbers"),
        (
            lambda x: nn.functional.max_pool2d(x[None], 2, return_indices=True),
            "positions of maxima",
        ),
        (
            lambda x: x.index_put((x > 0,), x[0, :1].expand(16)),
            "one value for all places where a mask holds",
        ),
        (
            lambda x: x + torch.from_numpy(x.detach().numpy()),
            "torch.export can trace; it raised RuntimeError",
        ),
    ],
)
def test_modules_that_depend_on_values_or_have_no_rule_are_refused(function, message, capsys):
    with pytest.raises(ValueError, match=f"^Expected .*{message}"):
        rl.from_torch(Calls(function), torch.ones(4, 4))
    assert capsys.readouterr() == ("", "")  # the error is all that is said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rl.from_torch(nn.Linear, torch.ones(2, 3)), "the class Linear. Call the class"),
        (
            lambda: rl.from_torch({"w": torch.ones(2)}, torch.ones(2)),
            "got a dict. Build the module",
        ),
        (lambda: rl.from_torch(torch.relu, torch.ones(2)), "Expected a torch.nn.Module"),
        (
            lambda: rl.from_torch(nn.Linear(3, 2)),
            "takes the example in evaluation mode; it raised TypeError",
        ),
        (
            lambda: rl.from_torch(nn.Linear(3, 2), torch.ones(2, 4)),
            "takes the example .* RuntimeError",
        ),
        (lambda: rl.from_torch(nn.LazyLinear(3), torch.ones(2, 4)), "'weight' has none yet"),
        (lambda: rl.from_torch(undefined(MLP), *images(8)), "'1.weight' has none yet"),
    ],
)
def test_what_is_no_module_with_its_example_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"rl.from_torch needs PyTorch: .* \[torch\]"):
        rl.from_torch(None)


class Counts(nn.Module):
    """Keeps in a buffer how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_what_a_call_writes_into_buffers_is_not_kept():
    module = Counts()
    network = rl.from_torch(module, torch.ones(2))
    assert module.calls == 0
    assert network.apply(network.params, np.ones(3)).tolist() == [1, 1, 1]
    assert network.apply({"calls": np.float32(4)}, np.ones(3)).tolist() == [5, 5, 5]


class OneSize(nn.Module):
    def forward(self, x):
        return x.reshape(2, 6).sum(1)


def test_a_module_of_one_batch_size_says_so():
    network = rl.from_torch(OneSize(), torch.ones(3, 4))
    assert network.apply({}, np.ones((3, 4))).tolist() == [6, 6]
    with pytest.raises(ValueError, match=r"shape \[3, 4\]; got .* takes only sizes of the example"):
        network.apply({}, np.ones((6, 4)))


def test_nested_inputs_and_arrays_make_an_example():
    class Sum(nn.Module):
        def forward(self, several, *, last):
            return several["b"][0] - several["a"] * last

    several = {"b": [np.ones((2, 3), np.float32)], "a": jnp.full((2, 3), 2.0)}
    network = rl.from_torch(Sum(), several, last=np.full((2, 3), 3.0, np.float32))
    found = network.apply({}, several, last=jnp.full((2, 3), 3.0))
    assert found.tolist() == [[-5.0] * 3] * 2


def test_a_rule_of_ones_own_is_used(monkeypatch):
    monkeypatch.setitem(interop.RULES, "aten.special_bessel_j0", jnp.cos)
    network = rl.from_torch(Then(torch.special.bessel_j0), torch.ones(3))
    assert network.apply({}, np.zeros(5)).tolist() == [1.0] * 5


# Explanations


def test_explanations_name_modules_of_pytorch():
    spec = of("ResNet").spec
    assert "in layer1.0.bn1 (BatchNorm2d)" in spec.explain("layer1.0.conv1.weight", 0)
    assert "in conv1 (Conv2d)" in spec.explain("conv1.weight", 1)
    for path, one in of("ResNet").network.params.items():
        for axis in range(one.ndim):
            assert ".py" not in spec.explain(path, axis)


def test_explanations_name_a_callers_own_lines_too():
    network, arrays = of("MLP").network, of("MLP").arrays
    spec = rl.infer_permutation_spec(
        lambda params, x: jnp.cumsum(network.apply(params, x)[0]), network.params, *arrays
    )
    assert "cumsum adds units up in order at test_from_torch.py:" in spec.explain("7.weight", 0)
    assert "in 4 (Linear)" in spec.explain("1.weight", 0)


def test_the_network_describes_itself():
    assert repr(of("MLP").network) == "TorchNetwork(MLP, 5,317 numbers in 10 arrays)"
