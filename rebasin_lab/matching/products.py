"""Products of all units of A with all units of B, which take most of the time of a matcher.

BLAS threads wait for each other by spinning, so on a busy machine a small product can take many
times as long on two cores as on one. A search with small products uses one thread
(`blas_threads`).
"""

import contextlib
import functools
import math
import threading
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import scipy  # loads `scipy.linalg.blas`, which takes long, on first use
import threadpoolctl
from jaxtyping import Float32

# Units whose values lie in slices at least this long are multiplied slice by slice, without a copy.
_MIN_SLICE = 32

# Sums over more entries than this are faster in NumPy's BLAS, in spite of a temporary.
_MIN_DEPTH = 1024

# A search with fewer multiplications than this takes about a second on one core.
_SMALL_SEARCH = 1e11
_SMALL = 4096  # numbers that are faster summed in float64 than in rows
_ROW = 256  # float32 numbers summed in float32; rows are summed in float64


@contextlib.contextmanager
def blas_threads(num_multiplications: float) -> Iterator[None]:
    """Limit BLAS to one thread inside the block, if its products are small in all."""
    # The limit holds for the whole process: of parallel searches the first sets and lifts it.
    if num_multiplications > _SMALL_SEARCH or not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        _limiting.release()


_limiting = threading.Lock()


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # looks for libraries, which takes milliseconds


def inner_product(
    a: Iterable[Float32[np.ndarray, "..."]], b: Iterable[Float32[np.ndarray, "..."]]
) -> float:
    """The sum of all a * b, to about 1e-8 of the norms; faster than a sum in float64."""
    return math.fsum(_inner_product(x, y) for x, y in zip(a, b, strict=True))


def squares(arrays: Mapping[str, Float32[np.ndarray, "..."]]) -> dict[str, float]:
    """The squared norm of each array, see `inner_product`."""
    return {path: _inner_product(x, x) for path, x in arrays.items()}


def _inner_product(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel(), b.ravel()
    if a.size < _SMALL:
        return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))
    whole = a.size // _ROW * _ROW
    rest = float(np.vdot(a[whole:].astype(np.float64), b[whole:].astype(np.float64)))
    rows = np.einsum("ij,ij->i", a[:whole].reshape(-1, _ROW), b[:whole].reshape(-1, _ROW))
    return float(rows.sum(dtype=np.float64)) + rest


def add_unit_products(
    total: Float32[np.ndarray, "n n"],
    a: Float32[np.ndarray, "..."],
    b: Float32[np.ndarray, "..."],
    axis: int,
) -> None:
    """Add <unit i of a, unit j of b> to total[i, j]; a unit is a slice across `axis`.

    BLAS adds in place: a temporary of n x n entries for every array would cost as much as the
    product.

    Args:
        total: in C order; changed.
        a: in C order.
        b: in C order, of a's shape.
        axis: along which the n units lie.
    """
    n = a.shape[axis]
    before, after = math.prod(a.shape[:axis]), math.prod(a.shape[axis + 1 :])
    if after == 1 and before >= _MIN_DEPTH:
        total += a.reshape(before, n).T @ b.reshape(before, n)
    elif after == 1:
        _add_product(total, a.reshape(before, n), b.reshape(before, n), units_first=False)
    elif before == 1 or after < _MIN_SLICE:
        rows_a, rows_b = (np.moveaxis(x, axis, 0).reshape(n, before * after) for x in (a, b))
        _add_product(total, rows_a, rows_b, units_first=True)
    else:
        slices_a, slices_b = (x.reshape(before, n, after) for x in (a, b))
        for rows_a, rows_b in zip(slices_a, slices_b, strict=True):
            _add_product(total, rows_a, rows_b, units_first=True)


def _add_product(total: np.ndarray, a: np.ndarray, b: np.ndarray, *, units_first: bool) -> None:
    """Add a @ b.T if their rows are the units, else a.T @ b.

    BLAS takes arrays in Fortran order: the transposes.
    """
    if 0 in a.shape:
        return
    out = scipy.linalg.blas.sgemm(
        1.0, b.T, a.T, 1.0, total.T, trans_a=units_first, trans_b=not units_first, overwrite_c=True
    )
    assert np.shares_memory(out, total), "BLAS worked on a copy: total is not in C order"
