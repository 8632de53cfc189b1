"""On random networks, every permutation of an inferred spec leaves the function unchanged.

`CHECK_NETWORKS=5000 pytest tests/symmetry/test_inference_random.py` runs as many by hand, each time
others; `make test` runs the same few every time, `make test-all` the same `NUM_NETWORKS`.
"""

import os

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import given

import rebasin_lab as rl
from numpy_jaxpr import evaluate
from random_networks import Network, grow, networks
from rebasin_lab.symmetry.inference import infer_permutation_spec

# Every primitive these networks use is known.
pytestmark = pytest.mark.filterwarnings("error:Nothing is known of the symmetries")

NUM_NETWORKS = int(os.environ.get("CHECK_NETWORKS", 500))
FEW_NETWORKS = 40

# Adding up in another order changes a float64 output by about 1e-15. When a leaf is left out of a
# permutation, an output changes by more than 1e-4 or, for one leaf in ten, not at all: it is in a
# branch that is not taken, or its units are only added up. Nothing was seen between 1e-12 and 1e-4.
TOLERANCE = 1e-8


class Outputs:
    """The outputs of a network, in float64."""

    def __init__(self, network: Network):
        self.network = network
        self.closed = jax.make_jaxpr(network.apply)(network.params, network.inputs)

    def __call__(self, params: dict, seed: int) -> list[np.ndarray]:
        leaves = jax.tree.leaves(params)
        return evaluate(self.closed, [*leaves, self.network.draw_inputs(seed)])


def largest_change(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Relative to the largest entry of each output; NaN if there is one anywhere.

    Outputs are of order one, or zero up to rounding (1e-11) where everything cancels.
    """
    changes = [
        np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-2)
        for a, b in zip(before, after, strict=True)
    ]
    return float(np.max(changes))


def group_elements(spec: rl.PermutationSpec, params: dict, seed: int) -> list[dict]:
    """A permutation of everything, and for each group one that moves it alone."""
    everything = rl.random_permutation(spec, params, seed=seed)
    identity = rl.identity_permutation(spec, params)
    shifted = {name: np.roll(indices, 1, axis=-1) for name, indices in identity.items()}
    return [everything, *({**identity, name: moved} for name, moved in shifted.items())]


def holds_for(num_networks: int):
    """The law, as a test of so many networks."""
    settings = hypothesis.settings(
        max_examples=num_networks,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        derandomize="CHECK_NETWORKS" not in os.environ,
        database=None,
    )
    return settings(given(networks())(assert_inferred_permutations_change_nothing))


def assert_inferred_permutations_change_nothing(network):
    spec = infer_permutation_spec(network.apply, network.params, network.inputs)
    outputs = Outputs(network)
    for seed in range(2):
        params = network.draw_params(seed)
        spec.validate(params)
        before = outputs(params, seed)
        assert all(np.isfinite(output).all() for output in before)
        elements = group_elements(spec, params, seed)
        for permutation in elements if seed else elements[:1]:
            after = outputs(rl.apply_permutation(spec, permutation, params), seed)
            assert largest_change(before, after) < TOLERANCE, f"\n{spec}"


test_inferred_permutations_leave_the_function_of_a_few_random_networks_unchanged = holds_for(
    FEW_NETWORKS
)
test_inferred_permutations_leave_the_function_of_a_random_network_unchanged = pytest.mark.slow(
    holds_for(NUM_NETWORKS)
)


def some_networks(num_networks: int) -> list[Network]:
    """The same ones every time."""

    def one(seed: int) -> Network:
        rng = np.random.default_rng(seed)
        return grow(lambda num_options: int(rng.integers(num_options)))

    return [one(seed) for seed in range(num_networks)]


@pytest.mark.slow
def test_random_networks_have_symmetries_of_every_kind():
    specs = [
        infer_permutation_spec(network.apply, network.params, network.inputs)
        for network in some_networks(60)
    ]
    entries = [" ".join(str(names) for names in spec.axes.values()) for spec in specs]
    kinds = {
        "a group": sum(bool(spec.permutations) for spec in specs),
        "three groups": sum(len(spec.permutations) > 2 for spec in specs),
        "a sum": sum("+" in text for text in entries),
        "a product": sum("*" in text for text in entries),
        "a dependent": sum(bool(spec.dependents) for spec in specs),
        "one group on two axes of a leaf": sum(
            any(len(names) != len(set(names)) for names in spec.permutations.values())
            or any(a and names.count(a) > 1 for names in spec.axes.values() for a in names)
            for spec in specs
        ),
    }
    # If fewer, the law above has become a law about nothing much.
    least = {"a group": 45, "three groups": 30, "a sum": 12, "a product": 18, "a dependent": 18}
    assert all(kinds[kind] >= count for kind, count in least.items()), kinds


def test_wrong_specs_are_noticed():
    """Each leaf in turn is left out of the spec of a network that has a symmetry."""
    noticed = total = 0
    for network in some_networks(12):
        spec = infer_permutation_spec(network.apply, network.params, network.inputs)
        outputs, params = Outputs(network), network.draw_params(0)
        before = outputs(params, 0)
        for path, names in spec.axes.items():
            if not any(name in spec.permutations for name in names):
                continue  # nothing there moves
            permuted = rl.apply_permutation(spec, group_elements(spec, params, 0)[0], params)
            change = largest_change(before, outputs({**permuted, path: params[path]}, 0))
            noticed, total = noticed + (change > 100 * TOLERANCE), total + 1
    assert noticed >= 0.8 * total > 40, (noticed, total)


@pytest.mark.parametrize("seed", range(3))
def test_numpy_and_jax_agree_on_random_networks(seed):
    network = some_networks(seed + 1)[-1]
    params, inputs = network.draw_params(0), network.draw_inputs(0)
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    typed = np.asarray(inputs, network.inputs.dtype)
    expected = jax.jit(network.apply)(narrow, typed)
    for ours, theirs in zip(Outputs(network)(params, 0), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.max(np.abs(ours)))
