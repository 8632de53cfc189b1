"""The permutation symmetries of a network: name, infer, apply, verify and count them."""

from rebasin_lab.symmetry.activations import Activations, trace_activations
from rebasin_lab.symmetry.axes import (
    groups_in,
)
from rebasin_lab.symmetry.blocks import split_into_blocks
from rebasin_lab.symmetry.counting import log10_num_symmetries
from rebasin_lab.symmetry.inference import infer_permutation_spec
from rebasin_lab.symmetry.permutations import (
    Permutation,
    apply_permutation,
    checked_permutation,
    compose_permutations,
    identity_permutation,
    invert_permutation,
    permute_axes,
    random_permutation,
)
from rebasin_lab.symmetry.spec import PermutationSpec, mlp_permutation_spec
from rebasin_lab.symmetry.verification import verify_equivalence

__all__ = [
    "Activations",
    "Permutation",
    "PermutationSpec",
    "apply_permutation",
    "checked_permutation",
    "compose_permutations",
    "groups_in",
    "identity_permutation",
    "infer_permutation_spec",
    "invert_permutation",
    "log10_num_symmetries",
    "mlp_permutation_spec",
    "permute_axes",
    "random_permutation",
    "split_into_blocks",
    "trace_activations",
    "verify_equivalence",
]
