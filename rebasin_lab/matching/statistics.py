"""Joint statistics of the units of two models over data, in one pass.

For every activation: means, variances, and the covariances of units of A with units of B. The
authors make two passes, one for the means and one for products about them. Here every batch has
its own means and its products about those, and batches are merged exactly (Chan, Golub and LeVeque
1983): one pass is enough, a large mean costs no precision, and memory does not depend on the number
of images. Products are float32 on the device, sums over batches float64 on the host.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, PyTree

from rebasin_lab.layers.inputs import inputs_of
from rebasin_lab.symmetry import PermutationSpec, axes
from rebasin_lab.symmetry.activations import Activations

# A standard deviation below this fraction of the mean is rounding: four steps of float32.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class CrossStatistics:
    """Moments of the units of A and of B in one activation, over all samples.

    Attributes:
        entries: names of its axes: "#" names first, then groups, a group before those that vary
            along it. Units of several groups are counted row by row.
        count: number of samples: examples times positions, tokens, pixels, blocks.
        mean_a: of every unit of A, for every slot of the "#" axes.
        mean_b: of B.
        variance_a: mean squared distance from the mean.
        variance_b: of B.
        comoment: sum over samples of (a - mean_a)(b - mean_b); rows are units of A.
    """

    entries: tuple[str, ...]
    count: int
    mean_a: Float64[np.ndarray, "*slots n"]
    mean_b: Float64[np.ndarray, "*slots n"]
    variance_a: Float64[np.ndarray, "*slots n"]
    variance_b: Float64[np.ndarray, "*slots n"]
    comoment: Float64[np.ndarray, "*slots n n"]

    def second_moment(self) -> Float64[np.ndarray, "*slots n n"]:
        """E[a b^T], uncentred: the paper's similarity for MLPs, section 3.1 (there a sum)."""
        return self.comoment / self.count + _outer(self.mean_a, self.mean_b)

    def correlation(self) -> Float64[np.ndarray, "*slots n n"]:
        """Pearson's coefficient, in [-1, 1] up to rounding; exactly 0 for units that never change.

        The authors' similarity for convolutions.
        """
        alive = _outer(_varies(self.mean_a, self.variance_a), _varies(self.mean_b, self.variance_b))
        scale = self.count * _outer(np.sqrt(self.variance_a), np.sqrt(self.variance_b))
        return np.divide(self.comoment, scale, out=np.zeros_like(self.comoment), where=alive)


def gather_statistics(
    activations: Activations,
    params_a: PyTree,
    params_b: PyTree,
    batches: Iterable[Any],
) -> dict[str, CrossStatistics]:
    """The joint statistics of two models' activations, in one pass over the data.

    Every example, position, token and pixel is a sample. Both models see a batch in one compiled
    step; a batch of another size, such as a last one, is compiled once more.

    Args:
        activations: of `trace_activations`.
        params_a: one model.
        params_b: the other.
        batches: inputs of the function, as an array or a pytree, or several of them as a tuple.

    Returns:
        Activation name -> its statistics.

    Raises:
        ValueError: if there is no batch or an empty one, or activations are not finite.
    """
    step, layouts = _step(activations), _layouts(activations)
    sums: dict[str, _Sums] = {}
    number = 0
    for number, batch in enumerate(batches, start=1):
        inputs = inputs_of(batch, number)
        for name, moments in step(params_a, params_b, inputs).items():
            _check(name, number, moments)
            if name in sums:
                sums[name].add(_Sums(moments))
            else:
                sums[name] = _Sums(moments)
    if not number:
        raise ValueError(
            "Expected at least one batch of inputs; got an empty data stream. A generator can be "
            "run through once: make a new one for each call."
        )
    return {name: sums[name].statistics(layouts[name].entries) for name in layouts}


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The order of an activation's axes as [slots of "#" axes, samples, units].

    Attributes:
        entries: see `CrossStatistics`.
        slots: the axes of "#" names.
        samples: the axes without a name.
        units: the axes of groups.
    """

    entries: tuple[str, ...]
    slots: tuple[int, ...]
    samples: tuple[int, ...]
    units: tuple[int, ...]

    def arrange(self, values: Array) -> Float[Array, "*slots samples n"]:
        """The activation in that order, in float32 or wider.

        Raises:
            ValueError: for complex numbers, whose similarity would be another one.
        """
        if jnp.iscomplexobj(values):
            raise ValueError(
                f"Expected real activations; those of {self.entries} are {values.dtype}."
            )
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        shape = [values.shape[axis] for axis in self.slots]
        num_units = math.prod(values.shape[axis] for axis in self.units)
        order = (*self.slots, *self.samples, *self.units)
        return values.transpose(order).reshape(*shape, -1, num_units)


def _layouts(activations: Activations) -> dict[str, _Layout]:
    return {name: _layout(activations.spec, names) for name, names in activations.axes.items()}


def _layout(spec: PermutationSpec, names: tuple[str | None, ...]) -> _Layout:
    order = list(spec.groups)

    def rank(axis: int) -> tuple[int, int]:
        group = axes.parse_group(names[axis])
        return len(group.parents), order.index(group.key)

    named = [axis for axis, name in enumerate(names) if name is not None]
    slots = sorted((axis for axis in named if names[axis].startswith("#")), key=rank)
    units = sorted((axis for axis in named if axis not in slots), key=rank)
    samples = tuple(axis for axis, name in enumerate(names) if name is None)
    entries = tuple(names[axis] for axis in (*slots, *units))
    return _Layout(entries, tuple(slots), samples, tuple(units))


@functools.lru_cache(maxsize=32)  # compiled once per traced function
def _step(activations: Activations) -> Callable[[PyTree, PyTree, tuple], dict[str, dict]]:
    layouts = _layouts(activations)

    def step(params_a: PyTree, params_b: PyTree, inputs: tuple) -> dict[str, dict]:
        of_a, of_b = (activations.compute(params, *inputs) for params in (params_a, params_b))
        return {
            name: _moments(layout.arrange(of_a[name]), layout.arrange(of_b[name]))
            for name, layout in layouts.items()
        }

    return jax.jit(step)


def _moments(
    a: Float[Array, "*slots samples n"], b: Float[Array, "*slots samples n"]
) -> dict[str, Any]:
    """The moments of one batch.

    A mean is a sum of three parts, each small relative to the one before; squares and products are
    about the sum of the first two.
    """
    result: dict[str, Any] = {"count": a.shape[-2]}
    centred = {}
    for model, values in (("a", a), ("b", b)):
        # About the first sample the sum of many large numbers is a sum of small ones.
        first = values[..., :1, :]
        values = values - first
        mean = values.mean(-2, keepdims=True)
        centred[model] = values - mean
        rest = centred[model].mean(-2)
        result[model] = {
            "mean": (first[..., 0, :], mean[..., 0, :], rest),
            "squares": jnp.square(centred[model]).sum(-2),
        }
    # HIGHEST: by default a GPU would multiply in TF32, with 10 bits.
    product = jnp.matmul(
        jnp.swapaxes(centred["a"], -1, -2), centred["b"], precision=jax.lax.Precision.HIGHEST
    )
    return result | {"products": product}


def _check(name: str, number: int, moments: Mapping[str, Any]) -> None:
    for model in ("a", "b"):
        if not np.isfinite(moments[model]["squares"]).all():
            raise ValueError(
                f"Expected finite activations; '{name}' of params_{model} holds NaN, infinite or "
                f"very large values in batch {number}. Did the model's training diverge, or are "
                "there such values in the data?"
            )


class _Sums:
    """Means and centred sums over some samples, in float64 on the host."""

    def __init__(self, moments: Mapping[str, Any]):
        self.count = int(moments["count"])
        host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dict(moments))
        self.mean_a, self.mean_b = (sum(host[model]["mean"]) for model in ("a", "b"))
        # The products were taken about means that differ from the true ones by these rests.
        rest_a, rest_b = (host[model]["mean"][2] for model in ("a", "b"))
        self.squares_a = np.maximum(host["a"]["squares"] - self.count * rest_a**2, 0)
        self.squares_b = np.maximum(host["b"]["squares"] - self.count * rest_b**2, 0)
        self.products = host["products"] - self.count * _outer(rest_a, rest_b)

    def add(self, other: "_Sums") -> None:
        """Add other samples (Chan et al.)."""
        total = self.count + other.count
        weight = self.count * other.count / total
        step_a, step_b = other.mean_a - self.mean_a, other.mean_b - self.mean_b
        self.squares_a += other.squares_a + weight * step_a**2
        self.squares_b += other.squares_b + weight * step_b**2
        self.products += other.products
        self.products += weight * _outer(step_a, step_b)
        self.mean_a += step_a * (other.count / total)
        self.mean_b += step_b * (other.count / total)
        self.count = total

    def statistics(self, entries: tuple[str, ...]) -> CrossStatistics:
        """The record."""
        return CrossStatistics(
            entries=entries,
            count=self.count,
            mean_a=self.mean_a,
            mean_b=self.mean_b,
            variance_a=self.squares_a / self.count,
            variance_b=self.squares_b / self.count,
            comoment=self.products,
        )


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., :, None] * b[..., None, :]


def _varies(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return variance > (ROUNDING * mean) ** 2
