"""The activations of any function, found by its permutation spec.

Activation matching, and re-estimating statistics after a merge, need the outputs of hidden units
for every group of a spec. `trace_activations` finds these values in the jaxpr, without names or
hooks of a framework, and returns a record that computes them for any parameters.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import Array, PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.symmetry import blocks
from rebasin_lab.symmetry.activations import measured, replay, sites
from rebasin_lab.symmetry.activations.naming import Unproven
from rebasin_lab.symmetry.axes import Entries
from rebasin_lab.symmetry.spec import AxisNames, PermutationSpec

WHERE = ("read", "written", "summed")


@dataclasses.dataclass(frozen=True, eq=False)
class Activations:
    """The activations of a function that show the units of a spec, and how to compute them.

    Attributes:
        apply_fn: the function.
        spec: the spec with the names in `axes`.
        where: "read", "written" or "summed".
        axes: activation name -> a name or None for each axis. Axes without a name are examples,
            positions, tokens, pixels, steps of a scan. A permutation of the parameters moves named
            axes like those of a leaf.
    """

    apply_fn: Callable
    spec: PermutationSpec
    where: str
    axes: Mapping[str, AxisNames]
    _measured: Mapping[int, Entries] | None = dataclasses.field(default=None, repr=False)
    _plans: dict[Any, sites.Plan] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def unseen(self) -> tuple[str, ...]:
        """Names of the permutations without an activation, those of a single unit included."""
        seen = {name for names in self.axes.values() for name in names}
        return tuple(name for name in self.spec.permutations if name not in seen)

    def compute(self, params: PyTree, *inputs: Any) -> dict[str, Array]:
        """Compute all activations; pure, best called inside a `jax.jit`.

        The function is evaluated once, from its jaxpr. It is traced again for each new batch size
        or other shape.

        Returns:
            Activation name -> array, with the axes of `axes`.

        Raises:
            ValueError: if parameters or inputs do not fit the function, or the function has other
                activations for inputs of these shapes.
        """
        plan = self._plan(params, inputs)
        taps = {number: site.tap for number, site in enumerate(plan.sites)}
        values = replay.tapped(plan.closed, jax.tree.leaves((params, *inputs)), taps)
        activations = {}
        for number, site in enumerate(plan.sites):
            cut = blocks.cut(site.entries, values[number], plan.sizes)
            activations |= {site.block_name(index): cut[index][1] for index in site.blocks}
        return activations

    def _plan(self, params: PyTree, inputs: tuple) -> sites.Plan:
        leaves, structure = jax.tree.flatten((params, *inputs))
        shapes = (structure, *((jax.numpy.shape(x), jax.numpy.result_type(x)) for x in leaves))
        if shapes not in self._plans:
            plan = sites.make_plan(
                self.apply_fn,
                self.spec,
                params,
                inputs,
                where=self.where,
                measured=self._measured,
            )
            if plan.axes != self.axes:
                raise ValueError(
                    f"Expected inputs for which the function has the activations it was traced "
                    f"with, {list(self.axes)}; for inputs of shapes "
                    f"{[tuple(x.shape) for x in jax.tree.leaves(inputs)]} it has "
                    f"{list(plan.axes)}. Trace it with such inputs."
                )
            self._plans[shapes] = plan
        return self._plans[shapes]


@checks.arguments
def trace_activations(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    *example_inputs: Any,
    where: str = "read",
) -> Activations:
    """Find the activations that show the units of every group of a spec.

    The function is traced on shapes only and read as by `infer_permutation_spec`. Activations are
    operands of contractions: products and convolutions, also inside calls and scans, but not inside
    branches and while loops. Activations in a scan have the axis of its steps in front. Axes made
    of several groups are cut as `split_into_blocks` cuts parameters: of "16*P_0" every block is a
    sample, of "P_0+P_1" each block is an activation by itself.

    Values are left out that have a group twice or without its parents, or more than 4096 units of
    several groups that do not vary along each other.

    A spec that the trace does not prove, since it depends on values or on unknown code, is tested
    on `params` as by `verify_equivalence`. If it holds, the activations are those that are measured
    to move as it says; this computes all values at once.

    Args:
        apply_fn: `apply_fn(params, *inputs)`, as for `infer_permutation_spec`.
        spec: of the function, written by hand or inferred; it may contain only part of the
            symmetries.
        params: arrays, or `jax.ShapeDtypeStruct` for a spec that the trace proves.
        *example_inputs: a batch, or its shapes.
        where: "read" is the operand of a product or convolution over the units: the input of the
            next layer, after the nonlinearity (Ainsworth et al. 2022, section 3.1) and pooling,
            and for a residual stream the input of each block. "written" is the result of a
            product or convolution, before its bias and nonlinearity. "summed" is the sum of what
            several layers made, as in a residual stream before its nonlinearity; groups that are
            in no sum are as by "read".

    Returns:
        The record. Activations are named by the parameter on the other side of the contraction:
        "into layers/1/kernel", "out of layers/0/kernel"; a sum by its last layer, "sum with
        blocks/0/down"; those with none are numbered.

    Raises:
        ValueError: if the spec does not fit the parameters; if it does not hold, with the change of
            the outputs; or if the function cannot be traced with these arguments.
    """
    if where not in WHERE:
        raise ValueError(f"Expected where to be one of {list(WHERE)}; got {where!r}.")
    params = pytrees.checked_arrays(params, or_shapes=True)
    try:
        plan = sites.make_plan(apply_fn, spec, params, example_inputs, where=where)
    except Unproven as doubt:
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
            raise  # there is nothing to measure with
        return measure_activations(
            apply_fn, spec, [params], example_inputs, where=where, doubt=doubt
        )
    return Activations(apply_fn, spec, where, plan.axes)


def measure_activations(
    apply_fn: Callable,
    spec: PermutationSpec,
    networks: Sequence[PyTree],
    inputs: tuple,
    *,
    where: str,
    doubt: Unproven,
) -> Activations:
    """Trace activations for a spec that is not proven but holds for some networks.

    Args:
        apply_fn: the function.
        spec: of the function.
        networks: for which it has to hold, of one architecture.
        inputs: a batch, or its shapes.
        where: "read", "written" or "summed".
        doubt: the error of the trace.

    Raises:
        Unproven: if it does not hold.
    """
    entries = measured.find_entries(apply_fn, spec, networks, inputs, where=where, doubt=doubt)
    plan = sites.make_plan(apply_fn, spec, networks[0], inputs, where=where, measured=entries)
    return Activations(apply_fn, spec, where, plan.axes, entries)
