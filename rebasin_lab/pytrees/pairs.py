"""Two models of one architecture, the second in the containers of the first."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab.pytrees import leaf_checks, leaves


def paired(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """Two models as arrays, B in the containers of A.

    Leaves are paired by their path: B may hold a list where A has a dict, a FrozenDict, a named
    tuple, keys "0", "1" for 0, 1, or Flax variables around arrays ("kernel/value" for "kernel").

    Raises:
        ValueError: naming a leaf that is no array of numbers, that only one model has, or that has
            other shapes in the two.
    """
    params_a = leaf_checks.checked_arrays(params_a, "params_a")
    params_b = leaf_checks.checked_arrays(params_b, "params_b")
    structure = jax.tree.structure(params_a)
    if jax.tree.structure(params_b) != structure:
        flat_a, flat_b = (
            leaves.flatten(params_a),
            _renamed(leaves.flatten(params_b), leaves.flatten(params_a)),
        )
        check_same_shapes(flat_a, flat_b)
        return params_a, jax.tree.unflatten(structure, [flat_b[path] for path in flat_a])
    check_same_shapes(params_a, params_b)
    return params_a, params_b


def _renamed(flat: dict[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by the paths of another model, if the two differ only in Flax variables."""
    paths = {leaves.without_variable(path): path for path in like}
    names = {path: paths.get(leaves.without_variable(path)) for path in flat}
    if len(paths) < len(like) or set(names.values()) != set(like):
        return flat
    return {names[path]: leaf for path, leaf in flat.items()}


def aligned(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """The two models of `paired`, checked that leaves have the same kind of numbers.

    Raises:
        ValueError: as `paired`; or for a leaf with different kinds of numbers.
    """
    params_a, params_b = paired(params_a, params_b)
    flat_b = leaves.flatten(params_b)
    for path, leaf in leaves.flatten(params_a).items():
        if leaf.dtype == flat_b[path].dtype:
            continue
        kinds = [
            kind
            for kind in (jnp.floating, jnp.complexfloating, jnp.integer, np.bool_)
            if jnp.issubdtype(leaf.dtype, kind) != jnp.issubdtype(flat_b[path].dtype, kind)
        ]
        if kinds:
            raise ValueError(
                f"Expected two models with numbers of one kind; '{path}' is {leaf.dtype} in "
                f"params_a and {flat_b[path].dtype} in params_b. Convert one of them."
            )
    return params_a, params_b


def aligned_to_match(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """The two models of `aligned`, checked to be real.

    Raises:
        ValueError: as `aligned`; and for complex numbers, naming the leaf.
    """
    params_a, params_b = aligned(params_a, params_b)
    leaf_checks.check_real(params_a, "params_a")  # and so is B
    return params_a, params_b


def aligned_to_combine(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """The two models of `aligned`, checked for a line or a mean.

    Raises:
        ValueError: as `aligned`; and for booleans that differ, naming the leaf.
    """
    params_a, params_b = aligned(params_a, params_b)
    flat_b = leaves.flatten(params_b)
    for path, a in leaves.flatten(params_a).items():
        b = flat_b[path]
        if a.dtype != bool or isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
            continue
        if differ := int((np.asarray(a) != np.asarray(b)).sum()):
            raise ValueError(
                f"Expected the same booleans in both models, which have no mean; '{path}' differs "
                f"in {differ} of {np.size(a)}. Make them floats, or one model's those of the other."
            )
    return params_a, params_b


def check_same_shapes(params_a: PyTree, params_b: PyTree) -> None:
    """Check that two models have the same leaves with the same shapes.

    Raises:
        ValueError: naming the first leaf that is missing or differs, and both shapes.
    """
    flat_a, flat_b = leaves.flatten(params_a), leaves.flatten(params_b)
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
