"""Weight matching: the permutation of B whose weights are closest to A's.

Minimising ||A - pi(B)||^2 is maximising <A, pi(B)>, a sum of bilinear terms that is NP-hard in
general (Ainsworth et al. 2022, section 3.2, Lemma 1). Algorithm 1 is coordinate ascent: hold all
permutations but one and the best choice for that one is a linear assignment problem.
"""

import time

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from rebasin_lab import pytrees
from rebasin_lab.matching import assignment
from rebasin_lab.matching.record import MatchingResult
from rebasin_lab.symmetry import (
    Permutation,
    PermutationSpec,
    identity_permutation,
    permute_axes,
    split_into_pieces,
)

# A gain below this fraction of ||A|| ||B|| is float32 rounding in the products, not progress.
RELATIVE_TOLERANCE = 1e-7


def weight_matching(
    spec: PermutationSpec,
    params_a: PyTree,
    params_b: PyTree,
    *,
    seed: int = 0,
    max_sweeps: int = 100,
) -> MatchingResult:
    """Coordinate ascent on <A, pi(B)> (Algorithm 1), every parameter with weight one.

    Each sweep visits the permutations in a fresh random order. The incumbent is kept unless the
    objective really rises, so the history never falls and the search ends (Lemma 2).

    Args:
        spec: which axes each permutation moves.
        params_a: the reference.
        params_b: the model to move; not changed.
        seed: fixes the visiting order and with it the result.
        max_sweeps: passes over all permutations before giving up on convergence.

    Raises:
        ValueError: if a group varies along another.
    """
    start = time.perf_counter()
    if spec.dependents:
        raise ValueError(
            f"Expected a spec with one permutation per group; it has groups that vary along "
            f"another ({', '.join(spec.dependents)}); weight matching does not handle these yet; "
            "use spec.shared(), whose permutations are the same in every slot."
        )
    if not spec.is_plain:
        spec, params_a, params_b = _in_pieces(spec, params_a, params_b)
    search = _CoordinateAscent(spec, params_a, params_b)
    names = list(search.current)
    rng = np.random.default_rng(seed)
    history = [search.objective(search.current)]
    converged, sweep = False, 0
    while not converged and sweep < max_sweeps:
        sweep += 1
        gains = [search.improve(names[index]) for index in rng.permutation(len(names))]
        history.extend(history[-1] + np.cumsum(gains))
        converged = not any(gains)
    return MatchingResult(
        permutation=search.current,
        objective=tuple(map(float, history)),
        converged=converged,
        num_sweeps=sweep,
        seconds=time.perf_counter() - start,
    )


def _in_pieces(
    spec: PermutationSpec, params_a: PyTree, params_b: PyTree
) -> tuple[PermutationSpec, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The same matching problem on arrays whose axes carry one name or None."""
    pieces_spec, pieces_a = split_into_pieces(spec, jax.tree.map(np.asarray, params_a))
    _, pieces_b = split_into_pieces(spec, jax.tree.map(np.asarray, params_b))
    return pieces_spec, pieces_a, pieces_b


class _CoordinateAscent:
    """The state of the search: the permutations so far, and products that are still valid.

    The similarity of one group of units is a sum over the (leaf, axis) places it moves; a term
    depends on the permutations of that leaf's *other* axes only. So a move makes few terms stale,
    and a group none of whose terms changed since it was last solved need not be solved again.
    """

    def __init__(self, spec: PermutationSpec, params_a: PyTree, params_b: PyTree):
        self.spec = spec
        self.weights_a, self.weights_b = _host_weights(params_a), _host_weights(params_b)
        self.current = identity_permutation(spec, params_b)
        norms = [np.sqrt(pytrees.inner_product(w, w)) for w in (self.weights_a, self.weights_b)]
        self.tolerance = RELATIVE_TOLERANCE * norms[0] * norms[1]
        self._terms: dict[tuple[str, int], np.ndarray] = {}
        self._settled: set[str] = set()

    def improve(self, name: str) -> float:
        """Give one group its best order while the others are held; returns the gain, often 0."""
        if name in self._settled:
            return 0.0
        self._settled.add(name)
        similarity = self._similarity(name)
        candidate = assignment.solve_assignment(similarity)
        gain = self._gain(name, similarity, candidate)
        if gain <= self.tolerance:
            return 0.0
        self.current = {**self.current, name: candidate}
        for path, moved_axis in self.spec.permutations[name]:
            for axis, other in enumerate(self.spec.axes[path]):
                if axis != moved_axis and other is not None:
                    self._terms.pop((path, axis), None)
                    self._settled.discard(other)
        return gain

    def objective(self, permutation: Permutation) -> float:
        """<A, pi(B)>, summed in float64."""
        moved = {
            path: permute_axes(leaf, self.spec.axes[path], permutation)
            for path, leaf in self.weights_b.items()
        }
        return pytrees.inner_product(self.weights_a, moved)

    def _gain(
        self, name: str, similarity: Float[np.ndarray, "n n"], candidate: Int[np.ndarray, " n"]
    ) -> float:
        if any(self.spec.axes[path].count(name) > 1 for path, _ in self.spec.permutations[name]):
            # One permutation on two axes of an array makes the objective quadratic in it: the
            # assignment only maximises a linearisation, so the true gain decides.
            return self.objective({**self.current, name: candidate}) - self.objective(self.current)
        return assignment.total_similarity(similarity, candidate) - assignment.total_similarity(
            similarity, self.current[name]
        )

    def _similarity(self, name: str) -> Float[np.ndarray, "n n"]:
        """S[i, j]: what putting B's unit j into slot i adds to <A, pi(B)>, the rest held.

        Products in float32 (enough, and twice as fast), sums over parameters in float64.
        """
        total = np.zeros((self.current[name].size,) * 2)
        for path, axis in self.spec.permutations[name]:
            if (path, axis) not in self._terms:
                others = [n if i != axis else None for i, n in enumerate(self.spec.axes[path])]
                moved = permute_axes(self.weights_b[path], others, self.current)
                units_a = _units_first(self.weights_a[path], axis)
                self._terms[path, axis] = units_a @ _units_first(moved, axis).T
            total += self._terms[path, axis]
        return total


def _units_first(weights: np.ndarray, axis: int) -> Float[np.ndarray, "n rest"]:
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)


def _host_weights(params: PyTree) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf, np.float32) for path, leaf in pytrees.flatten(params).items()}
