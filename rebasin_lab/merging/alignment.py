"""MergeMany: align any number of models, each with the mean of all others.

Ainsworth et al. 2022, Algorithm 3, with a running sum of all models.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.matching import assignment, weight_matching
from rebasin_lab.matching.ignored import ignored_leaves
from rebasin_lab.matching.search import Effort
from rebasin_lab.merging.averaging import Arrays, aligned_networks, mean_of, replaced, sum_of
from rebasin_lab.symmetry import (
    Permutation,
    PermutationSpec,
    apply_permutation,
    compose_permutations,
    identity_permutation,
    invert_permutation,
)

Start = Literal["constructive", "identity"]

# In the first rounds each matching searches from its own start, later it starts from the present
# order. With one such round the result is worse, with more than these hardly better.
NUM_SEARCHING_ROUNDS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class MergeResult:
    """Aligned models, and their mean.

    Attributes:
        params: the mean of the permuted models.
        permutations: one for each model; the first is the identity.
        history: the mean of <pi_i(theta_i), pi_j(theta_j)> over all pairs of models: of the
            identity, after the constructive start if there is one, then after every block update,
            whether it moved the model or not. It never falls, and is 0 for a single model.
        converged: whether another round would move no model.
        num_rounds: passes over all models, the constructive start included.
        seconds: wall time.
    """

    params: PyTree
    permutations: tuple[Permutation, ...]
    history: tuple[float, ...]
    converged: bool
    num_rounds: int
    seconds: float


@checks.arguments
def merge_many(
    spec: PermutationSpec,
    networks: Sequence[PyTree],
    *,
    seed: checks.Seed = 0,
    start: Start = "constructive",
    max_rounds: checks.Count = 100,
    effort: Effort = "default",
    ignore: Collection[str] | None = None,
    on_round: Callable[[float], None] | None = None,
) -> MergeResult:
    """Align any number of models, each with the mean of all others, and average them (MergeMany).

    Ainsworth et al. 2022, Algorithm 3: round by round, in random order, each model is matched by
    its weights to the present mean of all others. An update is made only if the objective rises by
    more than rounding, so the objective never falls and the rounds end. The first rounds search
    from the start that `weight_matching` chooses, later ones from the present order. A model is
    up to date, and not matched again, until another one moves.

    Args:
        spec: which axes each permutation moves.
        networks: at least one; not changed.
        seed: fixes the result.
        start: "identity" is the paper's: the first mean is one of models that are not aligned yet.
            "constructive" first aligns one model after the other, in random order, with the mean
            of the first and those before it (undone if the objective falls). It is faster, and a
            little better for random networks; for trained MLPs both end alike.
        max_rounds: passes over all models before giving up on convergence.
        effort: of each matching, see `weight_matching`.
        ignore: leaves that are moved and averaged but not compared, see `weight_matching`.
        on_round: called with the objective after every round, for progress.

    Returns:
        The result with the identity for the first model: only relative permutations matter, so in
        the end all are composed with the inverse of its permutation. Two models give the result
        of `weight_matching`.

    Raises:
        ValueError: for no models, models of different architectures, a spec that does not fit them,
            parameters that are not finite, an unknown start or effort, or a name in
            `ignore` that no leaf has.
    """
    began = time.perf_counter()
    networks = aligned_networks(networks)
    spec.validate(networks[0])
    for index, params in enumerate(networks):
        pytrees.check_finite(params, f"networks[{index}]")
    rng, num_rounds = np.random.default_rng(seed), 0
    alignment = _Alignment(spec, networks, effort, ignore)
    history = [alignment.objective()]

    def end_round() -> None:
        nonlocal num_rounds
        num_rounds += 1
        if on_round is not None:
            on_round(history[-1])

    if start == "constructive" and alignment.outdated:
        alignment.construct((1 + rng.permutation(len(networks) - 1)).tolist(), int(seed))
        history.append(max(history[-1], alignment.objective()))
        end_round()
    while alignment.outdated and num_rounds < max_rounds:
        for index in rng.permutation(len(networks)).tolist():
            searches, value = num_rounds < NUM_SEARCHING_ROUNDS, history[-1]
            if alignment.update_block(index, int(rng.integers(2**32)), from_present=not searches):
                value = max(value, alignment.objective())
            history.append(value)
        end_round()
    undo = invert_permutation(alignment.orders[0])
    permutations = tuple(compose_permutations(undo, order) for order in alignment.orders)
    return MergeResult(
        params=replaced(networks[0], alignment.mean(permutations)),
        permutations=permutations,
        history=tuple(history),
        converged=not alignment.outdated,
        num_rounds=num_rounds,
        seconds=time.perf_counter() - began,
    )


class _Alignment:
    """Models in their present orders, and the running sum of all.

    A model is permuted only when it is needed, so that there are no copies of large ones.

    Attributes:
        orders: the present permutation of each model.
        total: the sum of all models in these orders, in float64.
        outdated: the models that are not up to date: the mean of the others has changed since the
            last matching, or that has not converged.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        networks: Sequence[PyTree],
        effort: Effort,
        ignore: Collection[str] | None,
    ):
        self.spec, self.effort, self.ignore = spec, effort, ignore
        self.networks = [
            {path: np.asarray(leaf) for path, leaf in pytrees.flatten(params).items()}
            for params in networks
        ]
        ignored = ignored_leaves(spec, ignore)
        moved = {path for places in spec.permutations.values() for path, _ in places}
        self._compared = [path for path in self.networks[0] if path not in ignored]
        self._moving = [path for path in self._compared if path in moved]
        self._identity = identity_permutation(spec, self.networks[0])
        self._squares = math.fsum(_inner(x, x, self._compared) for x in self.networks)
        self._norms = [math.sqrt(_inner(x, x, self._moving)) for x in self.networks]
        self.reset()

    def reset(self) -> None:
        """Start again from the identity."""
        self.orders = [self._identity] * len(self.networks)
        self.outdated = set(range(len(self.networks))) if len(self.networks) > 1 else set()
        self.total = sum_of(self.networks, [1.0] * len(self.networks))

    def mean(self, permutations: Sequence[Permutation]) -> Arrays:
        """The mean of all models with these permutations."""
        networks = zip(permutations, self.networks, strict=True)
        moved = (apply_permutation(self.spec, order, params) for order, params in networks)
        return mean_of(moved, [1.0] * len(self.networks))

    def objective(self) -> float:
        """The mean inner product of two models: the square of a sum holds each pair twice."""
        num_ordered_pairs = len(self.networks) * (len(self.networks) - 1)
        twice = _inner(self.total, self.total, self._compared) - self._squares
        return twice / num_ordered_pairs if num_ordered_pairs else 0.0

    def construct(self, indices: Sequence[int], seed: int) -> None:
        """Match one model after the other to the mean of the first and those before it.

        Args:
            indices: of all models but the first, in this order.
            seed: of each matching.
        """
        before = self.objective()
        self.total = sum_of([self.networks[0]], [1.0])
        for num_others, index in enumerate(indices, start=1):
            present = self._present(index)
            moved = self._matched(index, present, self.total, num_others, seed, start=None)
            self.total = _added(self.total, present if moved is None else moved)
        if len(indices) > 1:
            self.outdated |= {0, *indices[:-1]}  # they were matched to some of the others only
        if self.objective() < before:
            self.reset()

    def update_block(self, index: int, seed: int, *, from_present: bool = True) -> bool:
        """Match one model to the mean of all others, unless it is up to date; True if it moved.

        Args:
            index: of the model.
            seed: of the matching.
            from_present: start from the present order.
        """
        if index not in self.outdated:
            return False
        present = self._present(index)
        others = {path: x - present[path] for path, x in self.total.items()}
        start = self._identity if from_present else None
        moved = self._matched(index, present, others, len(self.networks) - 1, seed, start=start)
        if moved is None:
            return False
        self.total = _added(others, moved)
        return True

    def _matched(
        self,
        index: int,
        present: Arrays,
        others: Arrays,
        num_others: int,
        seed: int,
        *,
        start: Permutation | None,
    ) -> Arrays | None:
        """Match one model to a sum of others; return it as moved, or None if that is no better."""
        mean = {path: x / num_others for path, x in others.items()}
        result = weight_matching(
            self.spec,
            mean,
            present,
            seed=seed,
            effort=self.effort,
            start=start,
            ignore=self.ignore,
        )
        moved = None
        if not all(np.array_equal(x, self._identity[n]) for n, x in result.permutation.items()):
            moved = apply_permutation(self.spec, result.permutation, present)
            if not self._is_better(index, others, present, moved):
                moved = None
        if moved is not None:
            self.orders[index] = compose_permutations(result.permutation, self.orders[index])
            self.outdated |= set(range(len(self.networks))) - {index}
        if result.converged or moved is None:
            self.outdated.discard(index)
            if len(self.networks) == 2:
                self.outdated.clear()  # matching the other would be the same problem
        return moved

    def _is_better(self, index: int, others: Arrays, present: Arrays, moved: Arrays) -> bool:
        """Return whether a move raises the inner product with others by more than rounding."""
        gain = _inner(others, moved, self._moving) - _inner(others, present, self._moving)
        own = self._norms[index]
        return gain > assignment.FLOAT64_TIE * own * (sum(self._norms) - own)

    def _present(self, index: int) -> Arrays:
        return apply_permutation(self.spec, self.orders[index], self.networks[index])


def _inner(a: Arrays, b: Arrays, paths: Sequence[str]) -> float:
    """The inner product of these leaves in float64, without copies of those that are float64."""
    wide = ((np.asarray(x[path], np.float64).ravel() for x in (a, b)) for path in paths)
    return float(sum(np.einsum("i,i", *pair) for pair in wide))


def _added(total: Arrays, params: Arrays) -> Arrays:
    return {path: x + params[path] for path, x in total.items()}
