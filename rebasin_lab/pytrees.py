"""Parameter trees as flat tables, and the few operations on them that everything else uses.

The first room: it imports nothing of the lab. It owns one convention, the *path* of a leaf:
`jax.tree_util.keystr(path, simple=True, separator="/")`, so that a checkpoint, a permutation spec
and an error message all say `layers/0/kernel`. Trees are any pytree of arrays; what the lab itself
produces are plain nested dicts, with integer keys for list entries (`nnx.to_pure_dict`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves of `tree` keyed by their path, in JAX's leaf order.

    Raises:
        ValueError: if two leaves share a path, as in `{"a/b": x, "a": {"b": y}}`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    flat = {path_string(path): leaf for path, leaf in leaves}
    if len(flat) != len(leaves):
        paths = [path_string(path) for path, _ in leaves]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"Expected one leaf per path; got {twice} more than once.")
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict:
    """Nested dicts from "/"-separated paths; a part made of digits becomes an integer key."""
    tree: dict = {}
    for path, leaf in flat.items():
        # isdecimal, not isdigit: "\u00b2" is a digit that int() refuses.
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def map_with_path(fn: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """Apply `fn(path, leaf)` to every leaf, keeping the structure."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_string(path), leaf), tree)


def path_string(path: tuple) -> str:
    """The lab's name for a leaf, such as `layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def lerp(lam: Any, params_a: PyTree, params_b: PyTree) -> PyTree:
    """The model `(1 - lam) A + lam B` on the straight line; lam = 0 is A, 1 is B."""
    return jax.tree.map(lambda a, b: (1 - lam) * a + lam * b, params_a, params_b)


def inner_product(params_a: PyTree, params_b: PyTree) -> float:
    """The sum over all leaves of a * b, in float64; leaves go by their path."""
    return float(sum(np.vdot(a, b) for a, b in _paired(params_a, params_b)))


def distance(params_a: PyTree, params_b: PyTree) -> float:
    """The Euclidean distance between two models, over all parameters, in float64."""
    return math.sqrt(math.fsum(np.square(a - b).sum() for a, b in _paired(params_a, params_b)))


def _paired(params_a: PyTree, params_b: PyTree) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    flat_a, flat_b = flatten(params_a), flatten(params_b)
    if flat_a.keys() != flat_b.keys():
        check_same_shapes(params_a, params_b)
    return ((np.asarray(flat_a[p], np.float64), np.asarray(flat_b[p], np.float64)) for p in flat_a)


def num_parameters(params: PyTree) -> int:
    """The number of scalars in a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def check_same_shapes(params_a: PyTree, params_b: PyTree) -> None:
    """Check that two models have the same leaves with the same shapes.

    Raises:
        ValueError: naming the first leaf that is missing or differs, and both shapes.
    """
    flat_a, flat_b = flatten(params_a), flatten(params_b)
    for path in [*flat_a, *flat_b]:
        if path not in flat_a or path not in flat_b:
            there, missing = (
                ("params_a", "params_b") if path in flat_a else ("params_b", "params_a")
            )
            raise ValueError(
                f"Expected two models of one architecture; {there} has a leaf '{path}' and "
                f"{missing} has none. Leaves of params_a: {', '.join(flat_a)}; of params_b: "
                f"{', '.join(flat_b)}."
            )
        if flat_a[path].shape != flat_b[path].shape:
            raise ValueError(
                f"Expected two models of one architecture; '{path}' has shape "
                f"{flat_a[path].shape} in params_a and {flat_b[path].shape} in params_b."
            )


def check_arrays(params: PyTree, name: str) -> None:
    """Check that every leaf is an array of numbers.

    Raises:
        ValueError: naming the first leaf that is not, and what to do.
    """
    for path, leaf in flatten(params).items():
        if not hasattr(leaf, "dtype"):
            raise ValueError(
                f"Expected every leaf to be an array; {name} '{path}' is a {type(leaf).__name__}. "
                "Write np.asarray(...) around a number, and leave out what is no parameter."
            )
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise ValueError(
                f"Expected every leaf to hold numbers; {name} '{path}' is of type {leaf.dtype}. "
                "Leave it out: it is no parameter."
            )


def check_floats(params: PyTree, name: str) -> None:
    """Check that every leaf can be differentiated by.

    Raises:
        ValueError: naming the first leaf that cannot, and what to do.
    """
    for path, leaf in flatten(params).items():
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise ValueError(
                f"Expected floating-point parameters, to take a gradient; {name} '{path}' is "
                f"{leaf.dtype}. Leave it out and let apply_fn put it back, or make it a float."
            )


def check_finite(params: PyTree, name: str) -> None:
    """Check that a model holds real numbers, no NaN and no infinity.

    Raises:
        ValueError: naming the first leaf that does, and how many of its entries are affected.
    """
    for path, leaf in flatten(params).items():
        if np.iscomplexobj(leaf):
            raise ValueError(
                f"Expected real parameters; {name} '{path}' is complex. Write real and imaginary "
                "parts as two arrays, both with the same axes in the spec."
            )
        # One that sums to a finite number holds no other; finite ones whose sum is not are counted.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.sum(np.asarray(leaf))):
                continue
        bad = int(np.size(leaf) - np.isfinite(np.asarray(leaf)).sum())
        if bad:
            raise ValueError(
                f"Expected finite parameters; {name} '{path}' holds {bad} NaN or infinite values "
                f"of {np.size(leaf)}. Did its training diverge?"
            )
