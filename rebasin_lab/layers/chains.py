"""What the parameters after a layer do: scale and shift, and the running statistics between.

A layer's kernel, a bias and a normalisation by running statistics give the same map in many ways.
The way chosen here is that of a network trained with BatchNorm: the kernel's outputs have variance
one, running mean and variance are true, and scale and shift are those of the target. So statistics
that are re-estimated later stay as they are.
"""

from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from rebasin_lab.layers.layer import Layer, Values

Leaves = dict[str, Any]
Matrices = Float64[np.ndarray, "groups outputs inputs"]
Units = Float64[np.ndarray, "groups outputs"]
NEUTRAL = {"scale": 1.0, "variance": 1.0, "mean": 0.0, "bias": 0.0}


class Chain:
    """The parameters of a layer and of what is affine after it.

    Attributes:
        layer: the layer.
        roles: "scale", "bias", "mean", "variance" -> path of the parameter that plays it.
    """

    def __init__(self, layer: Layer, params: Leaves, statistics: Collection[str], values: Values):
        """Find out what each parameter does, by moving it.

        Args:
            layer: the layer.
            params: parameters by path.
            statistics: paths of running statistics.
            values: what the chain reads besides parameters, for one batch.
        """
        self.layer, self._values = layer, values
        key = ("ends", layer.number)
        self._affine = layer.program.compiled.setdefault(key, jax.jit(layer.ends))
        factor, shift = self.affine(params)
        self.roles: dict[str, str] = {}
        for path in layer.leaves:
            if np.size(params[path]) == factor.size:
                moved = params | {path: 1.5 * np.asarray(params[path]) + 0.125}
                new_factor, new_shift = self.affine(moved)
                if _differ(factor, new_factor):
                    self.roles["variance" if path in statistics else "scale"] = path
                elif _differ(shift, new_shift):
                    self.roles["mean" if path in statistics else "bias"] = path

    def affine(self, params: Leaves) -> tuple[Units, Units]:
        """Factor and shift of every output of the layer, groups x outputs."""
        shape = (self.layer.num_groups, -1)
        ends = [np.asarray(end, np.float64) for end in self._affine(params, self._values)]
        return (ends[1] - ends[0]).reshape(shape), ends[0].reshape(shape)

    @property
    def normalises(self) -> bool:
        """Whether the layer is followed by running statistics, scale and shift."""
        return self.roles.keys() >= NEUTRAL.keys()

    def neutral(self, params: Leaves) -> Leaves:
        """Parameters whose chain only hands on what the layer writes."""
        return params | {
            path: self.filled(params, path, NEUTRAL[role]) for role, path in self.roles.items()
        }

    def filled(self, params: Leaves, path: str, value: Any) -> np.ndarray:
        """A parameter with this number, or these numbers of its units, in its shape and type."""
        leaf = params[path]
        whole = np.broadcast_to(np.ravel(value), (leaf.size,)).reshape(leaf.shape)
        return whole.astype(leaf.dtype)

    def kernel(self, params: Leaves) -> Matrices:
        """The map from what the layer reads to its target, without the shift."""
        matrix = self.layer.kernel_matrix(np.asarray(params[self.layer.path], np.float64))
        return matrix * self.affine(params)[0][..., None]

    def with_map(
        self, neutral: Leaves, matrix: Matrices, mean: Units, variance: Units, wanted: Units
    ) -> Leaves:
        """Parameters with this map from what the layer reads to its target.

        Args:
            neutral: see `neutral`.
            matrix: of the map.
            mean: of its outputs, without a shift.
            variance: of its outputs.
            wanted: the mean of the target, which the shift provides if there is one.

        Raises:
            ValueError: if what follows the layer does more than scale and shift by its parameters.
        """
        factor, before = self.affine(neutral)
        aim = matrix
        new: dict[str, Any] = {"bias": wanted - mean}
        if self.normalises:
            deviation = np.sqrt(np.maximum(variance, np.finfo(np.float32).tiny))
            matrix, new["mean"] = matrix / deviation[..., None], mean / deviation
            new |= {"scale": deviation / factor, "bias": wanted}
        else:
            matrix = matrix / factor[..., None]
        path = self.layer.path
        leaf = np.asarray(neutral[path])
        written = {path: self.layer.kernel_of(matrix, leaf.shape).astype(leaf.dtype)}
        written |= {
            self.roles[role]: self.filled(neutral, self.roles[role], value)
            for role, value in new.items()
            if role in self.roles
        }
        params = neutral | written
        shift = self.affine(params)[1] - before
        if _differ(aim, self.kernel(params)) or (
            "bias" in self.roles and _differ(wanted - mean, shift, np.abs(before).max())
        ):
            raise ValueError(
                f"Expected parameters after '{path}' that scale, shift or hold statistics; with "
                f"{', '.join(map(repr, self.layer.leaves))} it does not compute what was solved "
                "for. Name the running statistics in statistics_paths."
            )
        return params


def _differ(before: np.ndarray, after: np.ndarray, scale: float = 0.0) -> bool:
    """Whether values differ by more than rounding, that of a number of this scale included."""
    scale = max(scale, float(np.abs(before).max()))
    return bool(np.abs(after - before).max() > 1e-3 * scale + 1e-6)
