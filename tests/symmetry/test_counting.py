"""Counting symmetries: against whole numbers, by enumeration, and against Table 1."""

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rebasin_lab as rl
from rebasin_lab.symmetry import counting
from specs import resnet50_axes


@given(st.integers(0, 400))
def test_factorial_agrees_with_whole_numbers(n):
    # math.log10 of an int is exact to a rounding, beyond the range of floats too.
    expected = math.log10(math.factorial(n))
    assert counting.log10_factorial(n) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_count_is_the_number_of_different_networks():
    spec = rl.PermutationSpec({"w": (None, "P"), "v": ("P", "Q"), "u": ("Q", None)})
    rng = np.random.default_rng(0)
    params = {"w": rng.random((2, 3)), "v": rng.random((3, 4)), "u": rng.random((4, 2))}
    networks = {
        b"".join(leaf.tobytes() for leaf in rl.apply_permutation(spec, move, params).values())
        for p, q in itertools.product(
            itertools.permutations(range(3)), itertools.permutations(range(4))
        )
        for move in [{"P": np.array(p), "Q": np.array(q)}]
    }
    assert len(networks) == 144
    assert 10 ** rl.log10_num_symmetries(spec, params) == pytest.approx(144, rel=1e-9)


VARYING = {
    "heads": ({"w": ("h", "d[h]"), "v": ("h*d[h]",)}, (3, 2), math.factorial(3) * 2**3),
    "stack": ({"w": ("#0", "d[#0]"), "v": (None,)}, (2, 3), 6**2),
    "two parents": ({"w": ("g", "h[g]*d[g,h]"), "v": ("g*h[g]*d[g,h]",)}, (2, 4), 2 * 2**2 * 2**4),
    "sum": ({"w": ("P", "P+Q"), "v": ("Q",)}, (2, 5), 2 * 6),
}


@pytest.mark.parametrize(("axes", "shape", "expected"), VARYING.values(), ids=VARYING.keys())
def test_count_with_varying_groups_is_the_number_of_networks_reached(axes, shape, expected):
    sizes = {"h[g]": 2} if "g" in str(axes) else {}
    spec, rng = rl.PermutationSpec(axes, sizes), np.random.default_rng(0)
    length = shape[1] - shape[0] if "Q" in str(axes) else shape[0] * shape[1]
    params = {"v": rng.random(length), "w": rng.random(shape)}
    generators = [rl.random_permutation(spec, params, seed=seed) for seed in range(12)]
    reached, new = {}, [params]
    while new:
        network = new.pop()
        text = b"".join(leaf.tobytes() for leaf in network.values())
        if text not in reached:
            reached[text] = network
            new += [rl.apply_permutation(spec, move, network) for move in generators]
    assert len(reached) == expected
    assert 10 ** rl.log10_num_symmetries(spec, params) == pytest.approx(expected, rel=1e-9)


def test_tied_axes_count_once(architecture):
    params = architecture.init_numpy(0)
    shapes = architecture.spec.shapes(params).values()
    exact = math.prod(math.factorial(size) ** math.prod(slots) for *slots, size in shapes)
    expected = math.log10(exact)
    assert rl.log10_num_symmetries(architecture.spec, params) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("widths", "printed", "exact"),
    [
        (counting.MLP_WIDTHS, 3498, 3499.62),
        (counting.VGG16_WIDTHS, 35160, 35168.55),
        (counting.RESNET50_WIDTHS, 55109, 55138.90),
    ],
    ids=["mlp", "vgg16", "resnet50"],
)
def test_table_1_is_a_sum_of_floors(widths, printed, exact):
    assert counting.log10_by_paper(widths) == printed
    # Totals worked out from the paper's widths beforehand, kept to two decimals.
    assert sum(map(counting.log10_factorial, widths)) == pytest.approx(exact, abs=0.005)


def test_tied_resnet50_has_37_groups_and_half_the_digits():
    model = rl.Model("resnet50", (32, 32, 3), 1000, {})
    params = jax.eval_shape(model.init, jax.random.key(0))
    spec = rl.PermutationSpec(resnet50_axes())
    assert len(spec.permutations) == 37
    assert rl.log10_num_symmetries(spec, params) == pytest.approx(25638.29, abs=0.005)
    assert counting.log10_by_paper(spec.sizes(params).values()) == 25616


def test_mlp_of_the_paper_counts_through_its_spec():
    params = {
        "layers": {
            i: {"kernel": np.empty((n, m), np.int8), "bias": np.empty(m, np.int8)}
            for i, (n, m) in enumerate(itertools.pairwise([784, 512, 512, 512, 10]))
        }
    }
    spec = rl.mlp_permutation_spec(3)
    assert rl.log10_num_symmetries(spec, params) == pytest.approx(3499.62, abs=0.005)


def test_network_without_hidden_units_has_one_symmetry():
    params = {"layers": {0: {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}}
    assert rl.log10_num_symmetries(rl.mlp_permutation_spec(0), params) == 0
