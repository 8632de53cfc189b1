"""Appendix A.5: planted permutations. Does matching find what is there to be found?

A network is matched with itself, its units shuffled: exactly, and mixed with noise. Vision
transformers as drawn stand for networks with a residual stream, where all blocks hang on one
permutation.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import matching, models, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.quantities import summary
from rebasin_lab.paper.sections.record import Column, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study, spec_of
from rebasin_lab.paper.store import Trained

NUM_TRANSFORMERS = 5
MIXED = 0.7  # of a copy, and of the noise that is added to it
METHODS = {"algorithm_1": "Algorithm 1", "weight": "ours", "random": "random order"}
COPIES = {"exact": "exact copy", "noisy": "copy with noise"}
SUBJECTS = {"mlp": "trained MLPs", "vit": "transformers as drawn"}


Key = tuple[str, str, str]  # network, copy and matcher


class Attempt(NamedTuple):
    """A search for a planted permutation: the share of units put back, and its sweeps."""

    share: float
    num_sweeps: int


@dataclasses.dataclass(frozen=True, eq=False)
class Recovery(Record):
    """Planted permutations, looked for by several matchers.

    Attributes:
        attempts: by network, copy and matcher; one for each network.
    """

    attempts: Mapping[Key, Sequence[Attempt]]

    def whole(self, *key: str) -> np.ndarray:
        """Return for each network if every unit is put back."""
        return np.array([one.share == 1 for one in self.attempts[key]])

    def undone(self, key: Key) -> str:
        """Return in words for how many networks every unit is put back."""
        return f"{self.whole(*key).sum()} of {len(self.attempts[key])}"

    def shares(self, key: Key) -> list[float]:
        """Return the units put back in per cent, one for each network."""
        return [100 * one.share for one in self.attempts[key]]

    def sweeps(self, key: Key) -> list[int]:
        """Return the sweeps of each search."""
        return [one.num_sweeps for one in self.attempts[key]]

    def table(self) -> Table:
        """Return how much of each planted permutation is undone, and in how many sweeps."""
        return Table(
            rows={
                key: f"{SUBJECTS[key[0]]}, {COPIES[key[1]]}: {METHODS[key[2]]}"
                for key in self.attempts
            },
            corner="network, copy and matcher",
            columns=[
                Column("undone exactly", "", self.undone),
                Column("units put back", "%", self.shares),
                Column("sweeps", "", self.sweeps, digits=1),
            ],
        )

    def reading(self) -> Prose:
        """Return in words what is found of exact copies."""
        sentences = []
        for subject, name in SUBJECTS.items():
            told = []
            for method in ("algorithm_1", "weight"):
                key = subject, "exact", method
                sweeps = summary(self.sweeps(key), "", digits=1)
                told.append(
                    f"{METHODS[method]} undoes {self.undone(key)}, and ends after {sweeps} sweeps"
                )
            sentences.append(f"Exact copies of {name}: {'; '.join(told)}.")
        return Prose(f"**What we measured.** {' '.join(sentences)}")

    def claims(self) -> Mapping[str, Any]:
        """Return of each pair of MLPs the share undone by Algorithm 1, and its most passes."""
        found = self.whole("mlp", "exact", "algorithm_1").reshape(-1, 2)
        passes = self.sweeps(("mlp", "exact", "algorithm_1"))
        return {
            "section3-planted": found.mean(axis=1),
            "a5-planted-passes": np.reshape(passes, (-1, 2)).max(axis=1),
        }


def planted(study: Study, trained: Mapping[int, Trained]) -> Recovery:
    """Shuffle networks, mix some of the copies with noise, and match each with its original.

    Args:
        study: the section at work.
        trained: its MLPs.
    """
    first = next(iter(trained.values()))
    vit = models.build_model("vit", dataset=study.data)
    drawn = [vit.init(jax.random.key(seed)) for seed in range(NUM_TRANSFORMERS)]
    spec = symmetry.infer_permutation_spec(vit.apply, drawn[0], study.data.test_images[:1])
    subjects = [("mlp", spec_of(first, study.data), one.params) for one in trained.values()]
    subjects += [("vit", spec, params) for params in drawn]
    rng, attempts = np.random.default_rng(0), {}
    with study.bar(len(subjects), "looking for planted permutations") as bar:
        for seed, (subject, own, params) in enumerate(subjects):
            order = symmetry.random_permutation(own, params, seed=seed)
            for copy, leaves in (("exact", params), ("noisy", _mixed(params, rng))):
                for method in METHODS:
                    attempt = _attempt(method, own, params, leaves, order)
                    attempts.setdefault((subject, copy, method), []).append(attempt)
            bar.update(1)
    return Recovery(attempts)


def _mixed(params: PyTree, rng: np.random.Generator) -> PyTree:
    """Return a copy of which every weight is partly noise, as large as its leaf's weights."""
    return jax.tree.map(
        lambda leaf: (
            MIXED * (leaf + leaf.std() * rng.standard_normal(leaf.shape)).astype(np.float32)
        ),
        jax.device_get(params),
    )


def _attempt(
    method: str,
    spec: symmetry.PermutationSpec,
    params: PyTree,
    copy: PyTree,
    order: Mapping[str, np.ndarray],
) -> Attempt:
    moved = symmetry.apply_permutation(spec, order, copy)
    result = cached(matching.match, method, spec, params, moved)
    undo = symmetry.invert_permutation(order)
    right = [np.ravel(result.permutation[name] == undo[name]) for name in undo]
    return Attempt(float(np.concatenate(right).mean()), result.num_sweeps)
