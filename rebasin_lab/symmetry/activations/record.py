"""The activations of any function, found by its permutation spec.

Matching by activations, and repairing their statistics after a merge, need the outputs of hidden
units for every group of a spec. No framework's names or hooks are used: `trace_activations` finds
the values in the jaxpr, and the record it returns computes them for any parameters.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Activations:
    """The places where each group's units show in a function, and how to compute them; by tracing.

    Attributes:
        apply_fn: the function.
        spec: whose names `axes` uses.
        where: "read" or "written".
        axes: activation name -> for each axis a name, or None: examples, positions, tokens, pixels,
            steps of a scan. A permutation of the parameters moves the named axes, like those of a
            leaf with these entries.
    """

    apply_fn: Callable
    spec: PermutationSpec
    where: str
    axes: Mapping[str, AxisNames]
    _measured: Mapping[int, Entries] | None = dataclasses.field(default=None, repr=False)
    _plans: dict[Any, sites.Plan] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def unseen(self) -> tuple[str, ...]:
        """Names of the permutations whose units show nowhere, those of a single unit included."""
        seen = {name for names in self.axes.values() for name in names}
        return tuple(name for name in self.spec.permutations if name not in seen)

    def compute(self, params: PyTree, *inputs: Any) -> dict[str, Array]:
        """Return all activations; pure, and best called inside a `jax.jit` of the caller.

        The function is evaluated once, from its jaxpr. Another batch size, or any other shape, is
        traced anew when it comes first.

        Returns:
            Activation name -> array with the axes that `axes` says.

        Raises:
            ValueError: if parameters or inputs do not fit the function, or the function computes
                other activations for inputs of these shapes.
        """
        plan = self._plan(params, inputs)
        taps = {number: site.tap for number, site in enumerate(plan.sites)}
        seen = replay.tapped(plan.closed, jax.tree.leaves((params, *inputs)), taps)
        found = {}
        for number, site in enumerate(plan.sites):
            cut = blocks.cut(site.entries, seen[number], plan.sizes)
            found |= {site.block_name(index): cut[index][1] for index in site.blocks}
        return found

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

    The function is traced on shapes alone and read as `infer_permutation_spec` reads it. Units show
    where they are contracted: in products and convolutions, inside calls and scans too, but not
    inside branches and while loops, which are left out. A scan's activations have the axis of its
    steps in front. Axes made of several groups are cut as `split_into_blocks` cuts parameters:
    of "16*P_0" every block is a sample, of "P_0+P_1" each block is an activation by itself.

    Left out are values on which a group stands twice or without what it varies along, and those
    with more than 4096 units of several groups that do not vary along each other.

    A spec that the trace does not prove, since it rests on values or on code of which nothing is
    known, is tried on `params` as `verify_equivalence` does. If it holds, those activations are
    found that are measured to move as it says, all of them being computed at once for that.

    Args:
        apply_fn: `apply_fn(params, *inputs)`, as for `infer_permutation_spec`.
        spec: of the function, written by hand or inferred; it may leave some units where they are,
            or give all slots the same permutation.
        params: arrays, or `jax.ShapeDtypeStruct` for a spec that the trace proves.
        *example_inputs: a batch, or its shapes.
        where: "read" is the operand that a product or convolution over the units takes: what the
            next layer sees, so after the nonlinearity (Ainsworth et al. 2022, section 3.1), after
            the pooling if there is one, and for a residual stream what each block reads.
            "written" is the result of a product or convolution, before its bias and nonlinearity.

    Returns:
        The record. Activations are named by the parameter on the other side of the contraction:
        "into layers/1/kernel", "out of layers/0/kernel"; those with none are numbered.

    Raises:
        ValueError: if the spec does not fit the parameters; if it is neither proven nor holds, by
            how much it does not; or if the function cannot be traced with these arguments.
    """
    if where not in ("read", "written"):
        raise ValueError(f"Expected where to be 'read' or 'written'; got {where!r}.")
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
        where: "read" or "written".
        doubt: what `trace_activations` raised for shapes.

    Raises:
        Unproven: if it does not hold.
    """
    entries = measured.find_entries(apply_fn, spec, networks, inputs, where=where, doubt=doubt)
    plan = sites.make_plan(apply_fn, spec, networks[0], inputs, where=where, measured=entries)
    return Activations(apply_fn, spec, where, plan.axes, entries)
