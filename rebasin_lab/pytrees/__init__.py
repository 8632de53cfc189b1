"""Parameter trees as flat tables, and the basic operations on them.

It owns one convention, the *path* of a leaf:
`jax.tree_util.keystr(path, simple=True, separator="/")`, so that a checkpoint, a permutation spec
and an error message all say `layers/0/kernel`. Trees are any pytree of arrays; the lab's own models
have plain nested dicts, with integer keys for list entries (`nnx.to_pure_dict`).

Leaves are arrays of numbers: of NumPy, JAX, or PyTorch, which are read as NumPy arrays; anything
else (a Python number, a string, a function, a PRNG key) is an error that names the leaf. Two models
have one architecture if their leaves have the same paths and shapes; `aligned` puts B into the
containers of A, and combinations of both have A's structure and types. Sums are in float32 or
wider. Leaves that are no floats are treated alike everywhere: permutations move them; on a line and
in a mean, integers are rounded and booleans must agree; random shifts (`verify_equivalence`) do not
change them; gradients are an error. Complex numbers are averaged and measured like pairs of real
ones, but not matched.

In reading order: `leaves`, `leaf_checks`, `pairs`, `arithmetic`.
"""

from rebasin_lab.pytrees.arithmetic import (
    distance,
    in_type_of,
    inner_product,
    lerp,
    num_parameters,
    widened,
)
from rebasin_lab.pytrees.leaf_checks import (
    calling,
    check_arrays,
    check_finite,
    check_floats,
    check_real,
    checked_arrays,
    holds_numbers,
)
from rebasin_lab.pytrees.leaves import (
    as_arrays,
    flatten,
    map_with_path,
    path_string,
    running_statistics,
    shapes_of,
    unflatten,
    with_shapes,
    without_variable,
)
from rebasin_lab.pytrees.pairs import (
    aligned,
    aligned_to_combine,
    aligned_to_match,
    check_same_shapes,
    paired,
)

__all__ = [
    "aligned",
    "aligned_to_combine",
    "aligned_to_match",
    "as_arrays",
    "calling",
    "check_arrays",
    "check_finite",
    "check_floats",
    "check_real",
    "check_same_shapes",
    "checked_arrays",
    "distance",
    "flatten",
    "holds_numbers",
    "in_type_of",
    "inner_product",
    "lerp",
    "map_with_path",
    "num_parameters",
    "paired",
    "path_string",
    "running_statistics",
    "shapes_of",
    "unflatten",
    "widened",
    "with_shapes",
    "without_variable",
]
