"""Leaves of a tree by path, and trees by leaves."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks

# The mean among the running statistics of PyTorch, Flax, Keras and Haiku, at the end of its path.
_RUNNING_MEAN = re.compile(r"((?:.*[/.])?(?:running_|moving_)?)mean((?:_ema/(?:average|hidden))?)")
_WHOLE_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
_MAX_STRUCTURES = 64
_PATHS: dict[Any, tuple[str, ...]] = {}  # by structure, since writing paths takes most of `flatten`


def flatten(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, in JAX's leaf order, with the leaves of `as_arrays`.

    Raises:
        ValueError: if two leaves share a path, as in `{"a/b": x, "a": {"b": y}}`.
    """
    try:
        leaves, structure = jax.tree.flatten(tree)
    except ValueError as error:  # JAX sorts the keys of a dict
        raise ValueError(
            f"Expected keys of each dict that can be sorted, all texts or all numbers: {error}"
        ) from error
    return {
        path: _as_array(path, leaf)
        for path, leaf in zip(_paths(tree, structure), leaves, strict=True)
    }


def _paths(tree: PyTree, structure: Any) -> tuple[str, ...]:
    """The path of every leaf, cached by structure."""
    try:
        if structure in _PATHS:
            return _PATHS[structure]
    except TypeError:  # a node with data that cannot be hashed
        return _paths_of_leaves(tree)
    if len(_PATHS) >= _MAX_STRUCTURES:
        _PATHS.clear()
    _PATHS[structure] = paths = _paths_of_leaves(tree)
    return paths


def _paths_of_leaves(tree: PyTree) -> tuple[str, ...]:
    paths = [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if len(set(paths)) != len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"Expected one leaf per path; got {twice} more than once.")
    return tuple(paths)


@checks.arguments
def unflatten(flat: Mapping[str, Any]) -> dict:
    """Nested dicts from "/"-separated paths; keys that are all whole numbers become integers.

    Raises:
        ValueError: if a path goes on where another one ends, as in `{"a": x, "a/b": y}`.
    """
    tree: dict = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last in node:
            raise ValueError(
                f"Expected paths of which none goes on where another ends; got '{path}' and "
                "another. Give the structure of the tree, too."
            )
        node[last] = leaf
    return _with_integers(tree)


def _with_integers(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    # JAX sorts no mixed keys; and "01" would be the same number as "1".
    are_numbers = all(_WHOLE_NUMBER.fullmatch(key) for key in node)
    return {int(k) if are_numbers else k: _with_integers(sub) for k, sub in node.items()}


@checks.arguments
def map_with_path(fn: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """Apply `fn(path, leaf)` to every leaf of `as_arrays(tree)`, keeping the structure."""
    leaves, structure = jax.tree.flatten(tree)
    paths = _paths(tree, structure)
    mapped = [fn(p, _as_array(p, leaf)) for p, leaf in zip(paths, leaves, strict=True)]
    return jax.tree.unflatten(structure, mapped)


def as_arrays(tree: PyTree) -> PyTree:
    """The tree with PyTorch tensors as NumPy arrays, and NumPy arrays in native byte order.

    All other leaves are unchanged.

    Raises:
        ValueError: for a tensor that NumPy cannot hold, naming it.
    """
    return map_with_path(lambda path, leaf: leaf, tree)


def _as_array(path: str, leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf if leaf.dtype.isnative else leaf.astype(leaf.dtype.newbyteorder("="))
    if not all(hasattr(leaf, name) for name in ("detach", "cpu", "numpy")):
        return leaf
    dtype = str(leaf.dtype).removeprefix("torch.")
    try:
        tensor = leaf.detach().cpu()
        if dtype.startswith(("bfloat", "float8")):  # PyTorch cannot convert these
            return tensor.float().numpy().astype(np.dtype(dtype))
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"Expected tensors that NumPy can hold; '{path}' is a {type(leaf).__name__} of "
            f"{dtype}: {error} Make it a dense tensor of floats with values first."
        ) from error


def path_string(path: tuple) -> str:
    """The path of a leaf as text, such as `layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def without_variable(path: str) -> str:
    """The path of a leaf without the Flax variable, such as an `nnx.Param`, around it."""
    return path.removesuffix("/value")


def shapes_of(tree: PyTree) -> tuple[Any, tuple]:
    """The structure of a tree, and shape and type of its leaves: a key of what is compiled for it.

    `with_shapes` is the way back.
    """
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)


def with_shapes(structure: Any, shapes: tuple) -> PyTree:
    """The tree of `jax.ShapeDtypeStruct` that `shapes_of` has described."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return jax.tree.unflatten(structure, leaves)


def running_statistics(paths: Collection[str]) -> set[str]:
    """The paths that name running statistics of BatchNorm, by the conventions of the frameworks.

    A mean with a variance beside it: `running_mean` and `running_var` of PyTorch, `mean` and `var`
    of Flax, `moving_mean` and `moving_variance` of Keras, averages in `mean_ema` and `var_ema` of
    Haiku.

    Args:
        paths: of all leaves.
    """
    found: set[str] = set()
    for path in paths:
        if mean := _RUNNING_MEAN.fullmatch(path):
            before, after = mean.groups()
            partners = {f"{before}{word}{after}" for word in ("var", "variance")} & set(paths)
            if partners:
                found |= {path, *partners}
    return found
