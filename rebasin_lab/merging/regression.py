"""Linear maps by least squares, from moments that are summed batch by batch."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int

from rebasin_lab.layers.chains import Matrices, Units

Ints = Int[np.ndarray, " _"]


class Moments:
    """Means and centred products of inputs and outputs, in float64, merged exactly.

    Batches are added as by Chan, Golub and LeVeque (1983): a large mean costs no precision.

    Attributes:
        count: samples.
        mean_in: groups x inputs.
        mean_out: groups x outputs.
        xx: summed over samples, groups x inputs x inputs.
        xy: groups x inputs x outputs.
        yy: groups x outputs.
    """

    def __init__(self, count: ArrayLike, *arrays: ArrayLike):
        self.count = int(count)
        self.mean_in, self.mean_out, self.xx, self.xy, self.yy = (
            np.array(array, np.float64) for array in arrays
        )

    def __iadd__(self, other: "Moments") -> "Moments":
        total = self.count + other.count
        weight = self.count * other.count / total
        step_in, step_out = other.mean_in - self.mean_in, other.mean_out - self.mean_out
        self.xx += other.xx + weight * step_in[:, :, None] * step_in[:, None, :]
        self.xy += other.xy + weight * step_in[:, :, None] * step_out[:, None, :]
        self.yy += other.yy + weight * step_out**2
        self.mean_in += step_in * (other.count / total)
        self.mean_out += step_out * (other.count / total)
        self.count = total
        return self

    def of_outputs(self, kept: Ints) -> "Moments":
        """The moments of some of the outputs."""
        return Moments(
            self.count,
            self.mean_in,
            self.mean_out[:, kept],
            self.xx,
            self.xy[:, :, kept],
            self.yy[:, kept],
        )

    def map(self, ridge: float, towards: Matrices, *, has_shift: bool) -> Matrices:
        """The matrix W with the least |W x + b - y|^2 + level |W - towards|^2; see `equations`."""
        left, right = self.equations(ridge, towards, has_shift=has_shift)
        return np.linalg.solve(left, right).transpose(0, 2, 1)

    def equations(
        self, ridge: float, towards: Matrices, *, has_shift: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Left and right side of the normal equations of |W x + b - y|^2 + level |W - towards|^2.

        Args:
            ridge: the level, as a share of the mean variance of the inputs.
            towards: where the penalty is nought.
            has_shift: whether there is a free b; else it is nought.
        """
        xx, xy = self.xx / self.count, self.xy / self.count
        if not has_shift:
            xx = xx + self.mean_in[:, :, None] * self.mean_in[:, None, :]
            xy = xy + self.mean_in[:, :, None] * self.mean_out[:, None, :]
        size = xx.shape[-1]
        mean_square = np.trace(xx, axis1=1, axis2=2) / size
        level = (ridge * np.where(mean_square > 0, mean_square, 1.0))[:, None, None]
        right = xy + level * towards.transpose(0, 2, 1)
        return xx + level * np.eye(size), right

    def variance_of(self, matrix: Matrices) -> Units:
        """The variance of every output of a map."""
        return np.einsum("goi,gij,goj->go", matrix, self.xx / self.count, matrix, optimize=True)

    def mean_of(self, matrix: Matrices) -> Units:
        """The mean of every output of a map."""
        return np.einsum("goi,gi->go", matrix, self.mean_in)

    def explained(self, matrix: Matrices) -> float:
        """The share of the outputs' variance that a map with its best shift explains."""
        error = self.yy - 2 * np.einsum("goi,gio->go", matrix, self.xy)
        error = error.sum() / self.count + self.variance_of(matrix).sum()
        total = self.yy.sum() / self.count
        return float(1 - error / total) if total > 0 else 1.0
