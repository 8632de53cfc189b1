"""The permutation symmetries of a network: naming, applying, verifying and counting them."""

from rebasin_lab.symmetry.counting import log10_num_symmetries
from rebasin_lab.symmetry.permutations import (
    Permutation,
    apply_permutation,
    compose_permutations,
    identity_permutation,
    invert_permutation,
    permute_axes,
    random_permutation,
    verify_equivalence,
)
from rebasin_lab.symmetry.spec import PermutationSpec, mlp_permutation_spec

__all__ = [
    "Permutation",
    "PermutationSpec",
    "apply_permutation",
    "compose_permutations",
    "identity_permutation",
    "invert_permutation",
    "log10_num_symmetries",
    "mlp_permutation_spec",
    "permute_axes",
    "random_permutation",
    "verify_equivalence",
]
