"""Infer a permutation spec from a function.

The function is traced to a jaxpr and interpreted with axes in place of numbers (`interpreter`),
which gives every axis of every parameter as products and sums of atoms. Atoms that are not pinned
are the groups of the spec.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.symmetry import axes
from rebasin_lab.symmetry.inference import (
    algebra,
    choices,
    dependence,
    lookups,
    loops,
    primitives,
    windows,
)
from rebasin_lab.symmetry.inference.atoms import Atom, Atoms, Axis, size_of
from rebasin_lab.symmetry.inference.explanations import Explainer, Place, no_ties, step_names
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Array, Record
from rebasin_lab.symmetry.spec import PermutationSpec

RULES = (
    primitives.RULES | windows.RULES | lookups.RULES | algebra.RULES | loops.RULES | choices.RULES
)
MAX_NAMED = 4  # primitives in one warning
MAX_READINGS = 5  # each cuts what slices in the one before asked for; real networks need one or two


@checks.arguments
def infer_permutation_spec(
    apply_fn: Callable, params: PyTree, *example_inputs: Any, assume_no_ties: bool = False
) -> PermutationSpec:
    """Infer the permutations of units that leave a function unchanged, from its computation.

    Works for any pure JAX function of a parameter tree: Flax NNX and Linen, Equinox, Haiku, plain
    JAX. Only shapes are needed, of parameters and inputs. An axis is free only if the trace proves
    it; `spec.explain(path, axis)` gives the reason. For the result,
    `apply_fn(apply_permutation(spec, p, params), *inputs)` equals `apply_fn(params, *inputs)` for
    every p, all parameters and all inputs of these shapes; with `spec.assumptions`, only if no two
    of certain values are equal.

    Units that are chosen by their values, as experts by `top_k` or `argmax`, can be permuted except
    for ties, where the first of equal values wins. Where ties are a coincidence (scores that are a
    product with a parameter, or a softmax of them, in float32), the units are free and
    `spec.assumptions` states the condition. Where ties are common (scores after a relu, a mask or
    in bfloat16) the units are fixed, unless `assume_no_ties`.

    Args:
        apply_fn: `apply_fn(params, *inputs)` gives arrays (or a pytree of them). Axes of inputs and
            outputs are never permuted.
        params: any pytree of arrays, or of `jax.ShapeDtypeStruct`.
        *example_inputs: arrays, `jax.ShapeDtypeStruct`, or pytrees of them.
        assume_no_ties: assume that no two values are equal where units are chosen by them.

    Raises:
        ValueError: if a parameter is no array, or the function cannot be traced with these
            arguments (shapes that do not fit, Python control flow on values).

    Warns:
        UserWarning: if an unknown primitive, such as a host callback or a Pallas kernel, pins axes
            that might be free otherwise. It names these with their lines.
    """
    params = pytrees.checked_arrays(params, or_shapes=True)
    leaves = pytrees.flatten(params)
    closed = trace(apply_fn, params, example_inputs)
    reading, parameters = _read_used(closed, leaves, assume_no_ties=assume_no_ties)
    if reading.opaque:
        without = _read_used(closed, leaves, assume_no_ties=assume_no_ties, lenient=True)
        lost = _num_lost(reading.atoms, parameters, *without)
        if lost:
            warnings.warn(_opaque_text(reading, lost), stacklevel=3)
    return _Result(reading, parameters).spec()


def trace(apply_fn: Callable, params: PyTree, example_inputs: Sequence[Any]) -> core.ClosedJaxpr:
    """The jaxpr of a function of parameters and inputs; shapes are enough.

    Raises:
        ValueError: if it cannot be traced with these arguments.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    with pytrees.calling(params, example_inputs):
        return jax.make_jaxpr(apply_fn)(shapes, *example_inputs)


def read(
    closed: core.ClosedJaxpr,
    leaves: Mapping[str, Any],
    rules: Mapping[str, Rule] = RULES,
    **options: bool,
) -> tuple[Interpreter, dict[str, Array]]:
    """Read a function until no slice asks for another cut.

    Args:
        closed: the function of parameters and inputs.
        leaves: the parameters, arrays or shapes, by path.
        rules: primitive name -> its rule.
        **options: of the `Interpreter`.

    Returns:
        The last reading, and the parameters in it.
    """
    cuts: frozenset = frozenset()
    for _ in range(MAX_READINGS):
        reading = Interpreter(rules, primitives.unknown, cuts, choices.FOLLOWING, **options)
        parameters = {path: _parameter(reading, leaf) for path, leaf in leaves.items()}
        inputs = [
            _fixed_input(reading, number, variable.aval)
            for number, variable in enumerate(closed.jaxpr.invars[len(leaves) :])
        ]
        for result in reading.run(closed, [*parameters.values(), *inputs]):
            for axis, units in enumerate(reading.flat(result).axes):
                reading.atoms.pin(units, f"axis {axis} of the output keeps its order")
        if reading.atoms.wanted_cuts <= cuts:
            break
        cuts |= reading.atoms.wanted_cuts
    return reading, parameters


def _read_used(
    closed: core.ClosedJaxpr, leaves: Mapping[str, Any], **options: bool
) -> tuple[Interpreter, dict[str, Array]]:
    """Read a function, and pin the units that no equation uses."""
    reading, parameters = read(closed, leaves, **options)
    used = set(_groups_in(reading.atoms, reading.records))
    for group in _groups_in(reading.atoms, _records_of(parameters)):
        if group not in used:
            reading.atoms.pin((group,), "the function never uses it")
    return reading, parameters


def _num_lost(
    atoms: Atoms,
    parameters: Mapping[str, Array],
    lenient: Interpreter,
    lenient_parameters: Mapping[str, Array],
) -> int:
    """The number of parameter axes with fewer free units than in a lenient reading."""

    def num_free(atoms: Atoms, axis: Axis) -> int:
        sites = dependence.sites(atoms, [("axis", axis)])
        return sum(site.group.size for site in sites if site.group.pin is None)

    return sum(
        num_free(atoms, axis) < num_free(lenient.atoms, without)
        for path, parameter in parameters.items()
        for axis, without in zip(parameter.axes, lenient_parameters[path].axes, strict=True)
    )


def _opaque_text(reading: Interpreter, num_lost: int) -> str:
    """The warning about primitives that pin axes, and how many."""
    named = step_names(reading.opaque.values())
    more = len(named) - MAX_NAMED
    listed = ", ".join(named[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    return (
        f"Nothing is known of the symmetries of {listed}: units that go in or come out may not "
        f"move. That holds {num_lost} {'axes' if num_lost > 1 else 'axis'} of the parameters that "
        "might be free otherwise. The spec is right, but it may be smaller than it could be; "
        "spec.explain(path, axis) says what holds an axis. Write these lines in operations of "
        "jax.numpy and jax.lax, or write the spec by hand and try it with verify_equivalence."
    )


def _parameter(reading: Interpreter, leaf: Any) -> Array:
    """A parameter; two floats in it are equal only by coincidence."""
    axes = tuple(reading.atoms.fresh(size) for size in leaf.shape)
    if not jax.dtypes.issubdtype(leaf.dtype, np.floating):
        return Array(axes)
    return Array(axes, distinct=frozenset(range(len(axes))), drawn=True)


def _fixed_input(reading: Interpreter, number: int, aval: Any) -> Array:
    """An input of the function, with all axes pinned."""
    name = f"input {number}" if number else "the input"
    return Array(
        tuple(
            reading.atoms.pinned(size, f"axis {axis} of {name} keeps its order")
            for axis, size in enumerate(getattr(aval, "shape", ()))
        )
    )


def _records_of(parameters: Mapping[str, Array]) -> list[Record]:
    """A record for every parameter, like an equation with it as the only operand."""
    return [
        [[((path, number), axis) for number, axis in enumerate(parameter.axes)]]
        for path, parameter in parameters.items()
    ]


def _groups_in(atoms: Atoms, records: Sequence[Record]) -> list[Atom]:
    """The groups in some records, in order of first occurrence."""
    arrays = (array for record in records for array in record)
    return list(dict.fromkeys(site.group for a in arrays for site in dependence.sites(atoms, a)))


class _Result:
    """The result of one reading as a spec."""

    def __init__(self, reading: Interpreter, parameters: Mapping[str, Array]):
        self.atoms = reading.atoms
        self.choices = list(reading.used.values())
        self.parameters = parameters
        self.leaf_axes: dict[Place, Axis] = {
            (path, number): axis
            for path, parameter in parameters.items()
            for number, axis in enumerate(parameter.axes)
        }
        of_parameters = _records_of(parameters)
        records = [*reading.records, *of_parameters]
        self.parents = dependence.find_parents(self.atoms, records)
        self.groups = self._name_groups(records, of_parameters)

    def spec(self) -> PermutationSpec:
        """The spec, with an explanation for every axis."""
        explainer = Explainer(self.atoms, self.leaf_axes)
        present = set(self.groups)
        return PermutationSpec(
            {
                path: tuple(self._text(axis) for axis in parameter.axes)
                for path, parameter in self.parameters.items()
            },
            group_sizes={group.key: atom.size for atom, group in self.groups.items()},
            explanations={
                path: tuple(
                    self._explanation(explainer, (path, number))
                    for number in range(len(parameter.axes))
                )
                for path, parameter in self.parameters.items()
            },
            assumptions=tuple(dict.fromkeys(self._assumptions(present))),
        )

    def _assumptions(self, groups: Set[Atom]) -> Iterator[str]:
        """The conditions under which these groups are free."""
        for chosen in self.choices:
            units = dependence.sites(self.atoms, [("axis", chosen.axis)])
            if any(site.group in groups and site.group.pin is None for site in units):
                yield no_ties(chosen.step)

    def _text(self, axis: Axis) -> str | None:
        entry = self._entry(axis)
        return None if isinstance(entry, axes.Fixed) else axes.format_entry(entry)

    def _name_groups(
        self, records: Sequence[Record], of_parameters: Sequence[Record]
    ) -> dict[Atom, axes.Group]:
        """Name groups P_0, P_1, ... in order of the computation; pinned ones #0, ..."""
        present = {group for group in _groups_in(self.atoms, of_parameters) if group.pin is None}
        needed = present | {parent for group in present for parent in self.parents[group]}
        number, number_fixed = itertools.count(), itertools.count()
        bases: dict[Atom, str] = {}
        for group in _groups_in(self.atoms, records):
            if group in needed:
                bases[group] = (
                    f"P_{next(number)}" if group.pin is None else f"#{next(number_fixed)}"
                )
        return {
            group: axes.Group(base, tuple(bases[p] for p in self.parents.get(group, ())))
            for group, base in bases.items()
        }

    def _entry(self, axis: Axis) -> axes.Entry:
        return axes.product_of([self._factor(factor) for factor in self.atoms.factors(axis)])

    def _factor(self, atom: Atom) -> axes.Entry:
        if atom in self.groups:
            return self.groups[atom]
        if atom.pin is not None or atom.segments is None:
            return axes.Fixed(atom.size)
        blocks = self.atoms.leaf_blocks(atom)
        return axes.arrangement_of(
            [self._entry(segment) for segment, _ in blocks], [at.tolist() for _, at in blocks]
        )

    def _explanation(self, explainer: Explainer, place: Place) -> str:
        axis = self.leaf_axes[place]
        if size_of(axis) <= 1:
            return "Fixed: there is only one position."
        if self.atoms.is_fixed(axis):
            factors = self.atoms.factors(axis)
            return explainer.why_fixed(axis[0] if len(factors) == 1 else factors[0])
        groups = [site.group for site in dependence.sites(self.atoms, [("axis", axis)])]
        if groups == self.atoms.factors(axis) and len(groups) == 1:
            sentence = explainer.why_free(axis[0], self.groups[groups[0]].key, place)
            conditions = [f" Only if {text}." for text in self._assumptions(set(groups))]
            return sentence + "".join(dict.fromkeys(conditions))
        sentences = [
            explainer.why_free(group, self.groups[group].key, place)
            if group.pin is None
            else f"A block of {group.size} stays. {explainer.why_fixed(group)}"
            for group in dict.fromkeys(groups)
        ]
        sentences += [f"Only if {text}." for text in self._assumptions(set(groups))]
        made_of = self._text(axis)
        beginning = f"Made of {made_of}." if made_of else "Fixed, block by block."
        return " ".join([beginning, *sentences])
