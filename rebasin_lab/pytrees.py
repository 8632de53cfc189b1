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
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, texts

_WHOLE_NUMBER = re.compile("0|[1-9][0-9]{0,17}")


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


_PATHS: dict[Any, tuple[str, ...]] = {}  # writing a path takes longer than all else `flatten` does
_MAX_STRUCTURES = 64


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


def checked_arrays(params: PyTree, name: str = "", *, or_shapes: bool = False) -> PyTree:
    """The model of `as_arrays`, checked that every leaf is an array of numbers.

    Args:
        params: the model.
        name: of the model, for errors.
        or_shapes: also accept `jax.ShapeDtypeStruct` and the like.

    Raises:
        ValueError: as `as_arrays` and `check_arrays`.
    """
    params = as_arrays(params)
    check_arrays(params, name, or_shapes=or_shapes)
    return params


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


@contextlib.contextmanager
def calling(params: PyTree, inputs: Sequence[Any]) -> Iterator[None]:
    """Turn an error of the caller's function into one that names its arguments and advises.

    Args:
        params: its parameters, arrays or shapes.
        inputs: its inputs, likewise.

    Raises:
        ValueError: in place of any error, naming the parameters and inputs.
    """
    try:
        yield
    except Exception as error:  # of any kind, since it is the caller's code
        leaves = jax.tree_util.tree_leaves_with_path(params)
        first = ""
        if leaves:
            path, leaf = leaves[0]
            first = f" (the first is '{path_string(path)}', shape {np.shape(leaf)})"
        listed = [
            f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else checks.shortened(leaf)
            for leaf in jax.tree.leaves(inputs)
        ]
        text = texts.in_a_line(" ".join(str(error).split()), 200)
        raise ValueError(
            "Expected a function that can be called, and traced, as apply_fn(params, *inputs); it "
            f"raised {type(error).__name__}: {text.rstrip('.?')}. It was called with {len(leaves)} "
            f"parameters{first} and inputs {', '.join(listed) or 'none'}. Check that the "
            "parameters belong to this function, that the inputs have the shapes (batch axis "
            "included) it takes, and that no Python `if` depends on a value; options such as "
            "train=False go into a closure."
        ) from error


def path_string(path: tuple) -> str:
    """The path of a leaf as text, such as `layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paired(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """Two models as arrays, B in the containers of A.

    Leaves are paired by their path: B may hold a list where A has a dict, a FrozenDict, a named
    tuple, keys "0", "1" for 0, 1, or Flax variables around arrays ("kernel/value" for "kernel").

    Raises:
        ValueError: naming a leaf that is no array of numbers, that only one model has, or that has
            other shapes in the two.
    """
    params_a = checked_arrays(params_a, "params_a")
    params_b = checked_arrays(params_b, "params_b")
    structure = jax.tree.structure(params_a)
    if jax.tree.structure(params_b) != structure:
        flat_a, flat_b = flatten(params_a), _renamed(flatten(params_b), flatten(params_a))
        check_same_shapes(flat_a, flat_b)
        return params_a, jax.tree.unflatten(structure, [flat_b[path] for path in flat_a])
    check_same_shapes(params_a, params_b)
    return params_a, params_b


def _renamed(flat: dict[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by the paths of another model, if the two differ only in Flax variables."""
    paths = {without_variable(path): path for path in like}
    names = {path: paths.get(without_variable(path)) for path in flat}
    if len(paths) < len(like) or set(names.values()) != set(like):
        return flat
    return {names[path]: leaf for path, leaf in flat.items()}


def without_variable(path: str) -> str:
    """The path of a leaf without the Flax variable, such as an `nnx.Param`, around it."""
    return path.removesuffix("/value")


def aligned(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """The two models of `paired`, checked that leaves have the same kind of numbers.

    Raises:
        ValueError: as `paired`; or for a leaf with different kinds of numbers.
    """
    params_a, params_b = paired(params_a, params_b)
    flat_b = flatten(params_b)
    for path, leaf in flatten(params_a).items():
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
    check_real(params_a, "params_a")  # and so is B
    return params_a, params_b


def aligned_to_combine(params_a: PyTree, params_b: PyTree) -> tuple[PyTree, PyTree]:
    """The two models of `aligned`, checked for a line or a mean.

    Raises:
        ValueError: as `aligned`; and for booleans that differ, naming the leaf.
    """
    params_a, params_b = aligned(params_a, params_b)
    flat_b = flatten(params_b)
    for path, a in flatten(params_a).items():
        b = flat_b[path]
        if a.dtype != bool or isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
            continue
        if differ := int((np.asarray(a) != np.asarray(b)).sum()):
            raise ValueError(
                f"Expected the same booleans in both models, which have no mean; '{path}' differs "
                f"in {differ} of {np.size(a)}. Make them floats, or one model's those of the other."
            )
    return params_a, params_b


def lerp(lam: Any, params_a: PyTree, params_b: PyTree) -> PyTree:
    """The model `(1 - lam) A + lam B` on the straight line, with the structure and types of A.

    At lam = 0 it is A and at lam = 1 it is B, bit by bit; in between, integers are rounded.

    Raises:
        ValueError: as `aligned_to_combine`; for lam that is no finite real number.
    """
    if not isinstance(lam, jax.core.Tracer) and not (
        np.ndim(lam) == 0 and np.asarray(lam).dtype.kind in "fiub" and np.isfinite(lam)
    ):
        raise ValueError(
            f"Expected lam to be a finite number, 0 for A and 1 for B; got {checks.shortened(lam)}."
        )
    params_a, params_b = aligned_to_combine(params_a, params_b)
    return jax.tree.map(lambda a, b: _lerp(lam, a, b), params_a, params_b)


def _lerp(lam: Any, a: Any, b: Any) -> Any:
    in_jax = isinstance(a, jax.Array) or any(isinstance(x, jax.core.Tracer) for x in (lam, b))
    xp = jnp if in_jax else np
    lam = np.asarray(lam)[()] if isinstance(lam, jax.Array) and not in_jax else lam
    a, b = xp.asarray(a), xp.asarray(b)
    with np.errstate(invalid="ignore"):  # infinity times zero, at an end
        mixed = in_type_of(a, (1 - lam) * widened(a) + lam * widened(b))
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        mixed = xp.where(a == b, a, mixed)  # large integers lose digits in floats
    return xp.where(lam == 0, a, xp.where(lam == 1, in_type_of(a, b), mixed))


def widened(leaf: Any) -> Any:
    """An array as floats of float32 or wider; complex arrays stay complex."""
    dtype = leaf.dtype
    if jnp.issubdtype(dtype, jnp.complexfloating):
        wide = dtype
    elif jnp.issubdtype(dtype, jnp.floating):
        wide = np.promote_types(dtype, np.float32)
    else:
        wide = np.dtype(np.float64)
    return leaf.astype(jax.dtypes.canonicalize_dtype(wide) if isinstance(leaf, jax.Array) else wide)


def in_type_of(leaf: Any, array: Any) -> Any:
    """An array cast to the type of a leaf, of NumPy or JAX like that; rounded for integers.

    Under `jit` it is always of JAX.
    """
    in_jax = isinstance(leaf, jax.Array) or isinstance(array, jax.core.Tracer)
    xp = jnp if in_jax else np
    is_float = jnp.issubdtype(array.dtype, jnp.inexact)
    if is_float and jnp.issubdtype(leaf.dtype, jnp.integer):
        whole, limits = jnp if isinstance(array, jax.Array) else np, jnp.iinfo(leaf.dtype)
        array = whole.clip(whole.rint(array), float(limits.min), float(limits.max))
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if in_jax else leaf.dtype
    return xp.asarray(array).astype(dtype)


def inner_product(params_a: PyTree, params_b: PyTree) -> float:
    """The sum over all leaves of a * b, in float64; leaves are paired by their path.

    Complex numbers count as pairs of real and imaginary part.
    """
    # Not np.vdot: for small products the threads of BLAS cost more than they save.
    pairs = _paired(params_a, params_b)
    return float(sum(np.einsum("i,i", a.conj().ravel(), b.ravel()).real for a, b in pairs))


def distance(params_a: PyTree, params_b: PyTree) -> float:
    """The Euclidean distance between two models, over all parameters, in float64."""
    pairs = _paired(params_a, params_b)
    return math.sqrt(math.fsum(np.square(np.abs(a - b)).sum() for a, b in pairs))


def _paired(params_a: PyTree, params_b: PyTree) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The leaves of both, as float64 or complex128."""
    params_a, params_b = paired(params_a, params_b)
    flat_b = flatten(params_b)
    for path, a in flatten(params_a).items():
        is_complex = any(
            jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in (a, flat_b[path])
        )
        wide = np.complex128 if is_complex else np.float64
        yield np.asarray(a).astype(wide), np.asarray(flat_b[path]).astype(wide)


def num_parameters(params: PyTree) -> int:
    """The number of scalars in a tree."""
    check_arrays(params, "params", or_shapes=True)
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


def check_arrays(params: PyTree, name: str, *, or_shapes: bool = False) -> None:
    """Check that every leaf is an array of numbers.

    Args:
        params: a tree.
        name: of the tree, for errors.
        or_shapes: also accept `jax.ShapeDtypeStruct` and the like.

    Raises:
        ValueError: naming the first leaf that is not, and what to do.
    """
    for path, leaf in flatten(params).items():
        where = f"{name} '{path}'".strip()
        if not (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            raise ValueError(
                f"Expected every leaf to be an array; {where} is a {type(leaf).__name__}. Write "
                "np.asarray(...) around a number, and leave out what is no parameter: apply_fn "
                "can put it back."
            )
        if not holds_numbers(leaf, or_shapes):
            raise ValueError(
                f"Expected every leaf to hold numbers; {where} is a {type(leaf).__name__} "
                f"of type {leaf.dtype}. Leave it out if it is no parameter, or make it an array of "
                "a type that JAX has, such as float32."
            )


def holds_numbers(leaf: Any, or_shapes: bool = False) -> bool:
    """True for arrays of NumPy and JAX in the types of JAX, which exclude long double."""
    if not or_shapes and not isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return False
    return not isinstance(leaf, np.ma.MaskedArray) and _is_number_type(leaf.dtype)


@functools.cache
def _is_number_type(dtype: Any) -> bool:
    if dtype in (np.longdouble, np.clongdouble):
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, np.bool_))


def check_floats(params: PyTree, name: str) -> None:
    """Check that every leaf is floating point, as gradients need.

    Raises:
        ValueError: naming the first leaf that cannot, and what to do.
    """
    for path, leaf in flatten(params).items():
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise ValueError(
                f"Expected floating-point parameters, to take a gradient; {name} '{path}' is "
                f"{leaf.dtype}. Leave it out and let apply_fn put it back, or make it a float."
            )


def check_real(params: PyTree, name: str) -> None:
    """Check that a model holds no complex numbers.

    Raises:
        ValueError: naming the first leaf that does.
    """
    for path, leaf in flatten(params).items():
        if np.iscomplexobj(leaf):
            raise ValueError(
                f"Expected real parameters; {name} '{path}' is complex. Write real and imaginary "
                "parts as two arrays, both with the same axes in the spec."
            )


def check_finite(params: PyTree, name: str) -> None:
    """Check that a model holds real numbers, no NaN and no infinity.

    Raises:
        ValueError: naming the first leaf that does, and the number of such entries.
    """
    check_real(params, name)
    leaves = flatten(params)
    # A leaf with a finite sum is finite; only the others are searched.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = {path: np.sum(np.asarray(leaf)) for path, leaf in leaves.items()}
    for path, leaf in leaves.items():
        if np.isfinite(sums[path]):
            continue
        bad = int(np.size(leaf) - np.isfinite(np.asarray(leaf)).sum())
        if bad:
            raise ValueError(
                f"Expected finite parameters; {name} '{path}' holds {bad} NaN or infinite values "
                f"of {np.size(leaf)}. Did its training diverge?"
            )
