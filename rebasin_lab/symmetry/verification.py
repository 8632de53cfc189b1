"""Verify a spec: randomly permuted networks must compute the same function.

For specs written by hand or inferred, of any network.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.symmetry.permutations import apply_permutation, random_permutation
from rebasin_lab.symmetry.spec import PermutationSpec


class CannotTell(ValueError):
    """Raised for outputs that show no change under any permutation, such as zeros."""


# The rounding of float32 relative to that of float64.
FINER = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)


@checks.arguments
def verify_equivalence(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    *inputs: PyTree,
    num_trials: checks.Count = 3,
    seed: checks.Seed = 0,
) -> float:
    """The largest change of the outputs under random permutations, relative to the largest output.

    About 1e-6 for a right spec and far above 1e-3 for a wrong one. A right spec holds at *any*
    parameters, so each trial also shifts every leaf at random: a mistake about a bias would not
    show while all biases are zero. Leaves of integers, which are no weights, are not shifted.
    Ainsworth et al. 2022, section 2: f(x; pi(Theta)) = f(x; Theta).

    A right spec changes the outputs by rounding, since sums are in another order. An error behind a
    small factor, as 1e-6 * branch(x), would look the same; so the function is evaluated in float64
    if possible, and the change is scaled by the ratio of float32 to float64 rounding, up to 1. A
    function that casts to float32 or less, or calls Python, is evaluated as it is, with products at
    JAX's highest precision (a GPU's default has three digits): then mistakes below about 1e-5 of
    the outputs do not show.

    Args:
        apply_fn: takes the parameters, then the inputs; returns any pytree of arrays. The change of
            each is taken relative to its own largest entry.
        spec: the spec to verify.
        params: the parameters, before random shifts.
        *inputs: arrays or pytrees of arrays. A `jax.ShapeDtypeStruct` in place of an array is
            drawn in each trial: standard normal floats, and zeros and ones for integers and
            booleans, which are valid tokens, labels or masks. Pass real inputs if other values
            matter.
        num_trials: the number of permutations.
        seed: fixes permutations, shifts and drawn inputs.

    Raises:
        ValueError: for no trial, or outputs that are all zero or not finite.
    """
    return largest_change(apply_fn, spec, params, inputs, range(int(seed), int(seed) + num_trials))


def largest_change(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    inputs: tuple,
    trials: Iterable[int],
    *,
    shift: bool = True,
) -> float:
    """The largest change over trials, one for each seed; without a shift at `params` itself."""
    params = pytrees.checked_arrays(params)
    spec.validate(params)
    with pytrees.calling(params, inputs):
        jax.eval_shape(apply_fn, _as_shapes(params), *_as_shapes(inputs))
    is_wide = computes_in_float64(apply_fn, params, inputs)
    jitted = jax.jit(apply_fn)
    worst = 0.0
    for trial in trials:
        shifted = _shifted(params, np.random.default_rng([trial, 1])) if shift else params
        inputs_drawn = drawn(inputs, np.random.default_rng([trial, 2]))
        permuted = apply_permutation(spec, random_permutation(spec, params, seed=trial), shifted)
        pair = [(shifted, *inputs_drawn), (permuted, *inputs_drawn)]
        if is_wide:
            try:
                change = _change(jitted, pair, is_wide=True)
            # JAX 0.10 traces some functions in float64 but fails to compile them.
            except ValueError:
                is_wide = False
        if not is_wide:
            change = _change(jitted, pair, is_wide=False)
        worst = max(worst, change, min(1.0, FINER * change) if is_wide else 0.0)
    return worst


def _change(jitted: Callable, pair: Sequence[tuple], *, is_wide: bool) -> float:
    """The relative change between the outputs of two calls."""
    with exactly(is_wide):
        return _relative_change(*(jitted(*(widened(call) if is_wide else call)) for call in pair))


@contextlib.contextmanager
def exactly(is_wide: bool) -> Iterator[None]:
    """Evaluate with products at JAX's highest precision, and in float64 if `is_wide`."""
    is_x64 = is_wide or bool(jax.config.jax_enable_x64)
    with jax.default_matmul_precision("highest"), jax.enable_x64(is_x64):
        yield


def widened(tree: PyTree) -> PyTree:
    """Every float in float64, every complex number in complex128."""

    def widen(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        wide = np.complex128 if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else np.float64
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, wide)
        return np.asarray(leaf).astype(wide)

    return jax.tree.map(widen, tree)


def computes_in_float64(apply_fn: Callable, params: PyTree, inputs: tuple) -> bool:
    """True if the function takes float64, and all its intermediate values are float64.

    A function that calls Python does not: XLA may call it from a thread where JAX has only float32.
    """
    with jax.enable_x64(True):
        try:
            closed = jax.make_jaxpr(apply_fn)(*widened((_as_shapes(params), *_as_shapes(inputs))))
        except Exception:  # of any kind: it is the caller's function
            return False
        equations = list(_equations(closed.jaxpr))
        calls_python = any(e.primitive.name in ("pure_callback", "io_callback") for e in equations)
        return not calls_python and all(_is_wide(v.aval) for e in equations for v in e.outvars)


def rounding(apply_fn: Callable, params: PyTree, inputs: tuple) -> float:
    """The largest machine epsilon of the floats in which a function is verified."""
    if computes_in_float64(apply_fn, params, inputs):
        return float(np.finfo(np.float64).eps)
    closed = jax.make_jaxpr(apply_fn)(_as_shapes(params), *_as_shapes(inputs))
    avals = [v.aval for equation in _equations(closed.jaxpr) for v in equation.outvars]
    dtypes = {getattr(aval, "dtype", None) for aval in avals}
    floats = [d for d in dtypes if d is not None and jnp.issubdtype(d, jnp.inexact)]
    return max((float(jnp.finfo(d).eps) for d in floats), default=float(np.finfo("f4").eps))


def _as_shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), tree)


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    yield from jaxpr.eqns
    for inner in core.subjaxprs(jaxpr):
        yield from _equations(inner)


def _is_wide(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is None or not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits == 64


def _relative_change(outputs: PyTree, changed: PyTree) -> float:
    """The largest over all leaves of largest change / largest entry."""
    pairs = zip(_on_host(outputs), _on_host(changed), strict=True)
    sizes = [
        (_largest(before), _largest(after), _largest(after - before)) for before, after in pairs
    ]
    largest = max((before for before, _, _ in sizes), default=0.0)
    change = max((change for _, _, change in sizes), default=0.0)
    if not (largest > 0 and np.isfinite(sizes).all()):
        raise CannotTell(
            "Expected outputs that are finite and not all zero, to compare under permutations; "
            f"the largest is {largest} and changes by {change}. Give other inputs."
        )
    # The change of an output that was zero is relative to its new size.
    return max(change / (before or after or 1.0) for before, after, change in sizes)


def _on_host(outputs: PyTree) -> list[np.ndarray]:
    """The leaves in float64 or complex128, so that booleans and unsigned integers subtract."""
    leaves = map(np.asarray, jax.tree.leaves(outputs))
    return [leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64) for leaf in leaves]


def _largest(values: np.ndarray | np.number) -> float:
    return float(np.max(np.abs(values), initial=0))


def _shifted(params: PyTree, rng: np.random.Generator) -> PyTree:
    """Raise every entry by up to a tenth of its leaf's RMS; a variance stays positive."""

    def shift(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) or np.size(leaf) == 0:
            return leaf
        size = float(np.sqrt(np.mean(np.square(np.abs(np.asarray(leaf)))))) or 1.0
        return leaf + (0.1 * size * rng.random(np.shape(leaf))).astype(leaf.dtype)

    return jax.tree.map(shift, params)


def drawn(inputs: PyTree, rng: np.random.Generator) -> PyTree:
    """The inputs with an array in place of every `jax.ShapeDtypeStruct`."""

    def draw(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool:
            return jnp.asarray(rng.integers(0, 2, leaf.shape), leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
        raise ValueError(
            f"Expected an input of floats, integers or booleans to draw; got {leaf}. Give an array."
        )

    return jax.tree.map(draw, inputs)
