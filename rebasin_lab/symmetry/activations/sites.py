"""Sites where a function shows the units of a spec: operands and results of contractions, sums.

The function is traced on shapes and read by the interpreter of the inference, which records the
atoms of the operands and results of every contraction and sum. `naming` translates atoms into
names of the spec, `origins` distinguishes activations from kernels.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.symmetry import axes, blocks
from rebasin_lab.symmetry.activations.naming import Naming
from rebasin_lab.symmetry.activations.origins import Origin, Origins, Path, find_origins
from rebasin_lab.symmetry.activations.replay import Tap
from rebasin_lab.symmetry.inference import infer
from rebasin_lab.symmetry.inference.atoms import Axis, Step
from rebasin_lab.symmetry.inference.interpreter import Interpreter, Rule
from rebasin_lab.symmetry.inference.values import Array, Stack, Value
from rebasin_lab.symmetry.spec import AxisNames, PermutationSpec

# For values with several groups that do not vary along each other, units are combinations of all;
# a similarity of so many units takes 128 MB in float64.
MAX_JOINT_UNITS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A value that shows units.

    Attributes:
        name: of the activation.
        tap: its place in the function.
        entries: one per axis; those of enclosing scans come first.
        blocks: number -> names of each block that shows units, of the value cut by `blocks`.
        num_blocks: the number of all blocks.
    """

    name: str
    tap: Tap
    entries: axes.Entries
    blocks: Mapping[int, AxisNames]
    num_blocks: int

    @property
    def groups(self) -> set[str]:
        """The groups that it shows."""
        return {name for names in self.blocks.values() for name in names if name is not None}

    def block_name(self, number: int) -> str:
        """The name of one block: that of the value, with a number if there are several."""
        return f"{self.name}#{number}" if self.num_blocks > 1 else self.name


class Shown(NamedTuple):
    """A value that a contraction reads or writes, or a sum of what two layers made.

    Attributes:
        name: of the activation.
        origin: of the value.
        tap: its place in the function.
        contracted: the axes that are summed over; None for a result.
        is_sum: whether it is a sum.
    """

    name: str
    origin: Origin
    tap: Tap
    contracted: tuple[int, ...] | None
    is_sum: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A plan for computing the activations of a function for inputs of given shapes."""

    closed: core.ClosedJaxpr
    sites: tuple[Site, ...]
    sizes: Mapping[str, int]

    @property
    def axes(self) -> dict[str, AxisNames]:
        """Activation name -> one name or None per axis."""
        return {
            site.block_name(number): names
            for site in self.sites
            for number, names in site.blocks.items()
        }


def make_plan(
    apply_fn: Callable,
    spec: PermutationSpec,
    params: PyTree,
    inputs: Sequence[Any],
    *,
    where: str,
    measured: Mapping[int, axes.Entries] | None = None,
) -> Plan:
    """Trace a function and find the values that show the units of a spec.

    Args:
        apply_fn: the function.
        spec: of the function.
        params: arrays or shapes.
        inputs: likewise.
        where: "read", "written" or "summed".
        measured: entries of values by their index in `values_shown`; by default they are read off
            the trace.

    Raises:
        Unproven: if the trace does not prove the spec.
        ValueError: if the spec does not fit the parameters, or the function cannot be traced with
            these inputs.
    """
    sizes = spec.all_sizes(params)
    closed = infer.trace(apply_fn, params, inputs)
    leaves = pytrees.flatten(params)
    shown = values_shown(origins_of(closed, list(leaves)), where)
    found = _Sites(sizes)
    if measured is None:
        reading, parameters, records = _read(closed, leaves)
        reader = _Reader(Naming(reading, parameters, spec, sizes), records)
        for value in shown:
            for entry, entries, counted in reader.entries_of(value):
                found.add(value._replace(tap=value.tap._replace(entry=entry)), entries, counted)
    else:
        for number, value in enumerate(shown):
            if number in measured:
                found.add(value, measured[number], measured[number])
    return Plan(closed, tuple(found.chosen()), sizes)


def origins_of(closed: core.ClosedJaxpr, leaves: Sequence[str]) -> Origins:
    """The origins of what contractions and sums read and write."""
    return find_origins(closed, leaves, CONTRACTED, SUMS)


def values_shown(origins: Origins, where: str) -> Iterator[Shown]:
    """The values of this kind that depend on an input, in order."""
    num_products = itertools.count(1)
    layers: dict[Path, str] = {}  # path of a contraction -> its name
    for path, (equation, operands, results) in origins.items():
        if equation.primitive.name in SUMS:
            if where == "summed" and _joins_layers(*operands):
                joined = [name for at, name in layers.items() if at in results[0].layers]
                name = f"sum with {joined[-1]}" if joined else "sum"
                yield Shown(name, results[0], Tap(path, True, 0), None, is_sum=True)
            continue
        leaves = [origin.leaf for origin in operands]
        product = None if any(leaves) else f"product {next(num_products)}"
        layer = next((leaf for leaf in reversed(leaves) if leaf is not None), product)
        layers[path] = layer
        if where == "written":
            values = [Shown(f"out of {layer}", results[0], Tap(path, True, 0), None)]
        else:
            contracted = CONTRACTED[equation.primitive.name](equation.params)
            values = [
                Shown(
                    f"into {leaves[1 - number] or product}",
                    origin,
                    Tap(path, False, number),
                    contracted[number],
                )
                for number, origin in enumerate(operands)
            ]
        yield from (value for value in values if value.origin.from_input)


def _joins_layers(one: Origin, other: Origin) -> bool:
    """True if each of two operands comes from a layer that the other does not come from."""
    return not (one.layers <= other.layers or other.layers <= one.layers)


def _dot_general_axes(params: Mapping[str, Any]) -> list[tuple[int, ...]]:
    contracted, _ = params["dimension_numbers"]
    return [tuple(map(int, side)) for side in contracted]


def _convolution_axes(params: Mapping[str, Any]) -> list[tuple[int, ...]]:
    numbers = params["dimension_numbers"]
    return [(numbers.lhs_spec[1],), (numbers.rhs_spec[1],)]


# Primitive -> for each operand the axes that are summed over.
CONTRACTED: dict[str, Callable[[Mapping[str, Any]], list[tuple[int, ...]]]] = {
    "conv_general_dilated": _convolution_axes,
    "dot_general": _dot_general_axes,
}
SUMS = ("add", "add_any")


@dataclasses.dataclass(frozen=True, eq=False)
class _Record:
    """The abstract operands and results of one equation in a reading."""

    equation: Any
    operands: list[Value]
    results: list[Value]


def _read(
    closed: core.ClosedJaxpr, leaves: Mapping[str, Any]
) -> tuple[Interpreter, dict[str, Array], dict[Path, _Record]]:
    """Read a function as inference does; record contractions, sums and scans of the last pass."""
    records: dict[Path, _Record] = {}
    names = (*CONTRACTED, *SUMS, "scan")
    recorded = {name: _recorded(infer.RULES[name], records) for name in names}
    # The spec says on what it depends, so ties need not be looked at again.
    reading, parameters = infer.read(closed, leaves, infer.RULES | recorded, assume_no_ties=True)
    return reading, parameters, records


def _recorded(rule: Rule, records: dict[Path, _Record]) -> Rule:
    """The rule with a record; if a loop's body is read again the last record counts."""

    def record(reading: Interpreter, equation: Any, values: list[Value]) -> list[Value]:
        results = rule(reading, equation, values)
        records[_path(reading.atoms.step)] = _Record(equation, values, results)
        return results

    return record


def _path(step: Step | None) -> Path:
    path: list[int] = []
    while step is not None:
        path.insert(0, id(step.equation))
        step = step.caller
    return tuple(path)


class _Reader:
    """The entries of traced values, in the names of the spec."""

    def __init__(self, naming: Naming, records: Mapping[Path, _Record]):
        self.naming = naming
        self.records = records

    def entries_of(
        self, value: Shown
    ) -> Iterator[tuple[tuple[int, int] | None, axes.Entries, axes.Entries]]:
        """The entries of a value, or of each item of a stack whose items differ in role.

        Yields:
            (axis, index) of the item, None for the whole; the entries of its axes, those of
            enclosing scans first; and the entries that must move for units to be shown.
        """
        tap, record = value.tap, self.records.get(value.tap.path)
        if record is None:
            return  # its result is empty, so it was not read
        scans = self._scans_around(tap.path)
        whole = (record.results if tap.is_result else record.operands)[tap.number]
        for entry, axes_of_entry in _parts(whole):
            entries = [self.naming.entry(axis) for axis in axes_of_entry]
            counted = entries
            if value.contracted is not None:
                counted = [entries[axis] for axis in value.contracted]
            elif value.is_sum:
                counted = [entries[axis] for axis in self._moved_together(record.operands)]
            yield entry, (*scans, *entries), tuple(counted)

    def _moved_together(self, operands: Sequence[Value]) -> Iterator[int]:
        """The axes along which both operands of a sum have the same units: a mask has none."""
        sides = [one.axes for one in operands if isinstance(one, Array)]
        for number, pair in enumerate(zip(*sides, strict=False)):  # one may be a number
            if len({self.naming.entry(axis) for axis in pair}) == 1:
                yield number

    def _scans_around(self, path: Path) -> list[axes.Entry]:
        """The entry of the steps of each enclosing scan, the outermost first."""
        paths = (path[:end] for end in range(1, len(path)))
        return [self._steps(self.records[p]) for p in paths if p in self.records]

    def _steps(self, scan: _Record) -> axes.Entry:
        params = scan.equation.params
        for value in scan.operands[params["num_consts"] + params["num_carry"] :]:
            # Operands that differ from step to step are tied to each other.
            if isinstance(value, Array) and not self.naming.atoms.is_uniform(value.axes[0]):
                return self.naming.entry(value.axes[0])
        return axes.Fixed(params["length"])


class _Sites:
    """Collects sites; a value is listed once, even if several layers read it.

    Groups that a sum shows are shown by sums alone.
    """

    def __init__(self, sizes: Mapping[str, int]):
        self.sizes = sizes
        self._sites: list[Site] = []
        self._sums: list[Site] = []
        self._known: set[tuple[int, int | None]] = set()
        self._names: Counter[str] = Counter()

    def add(self, value: Shown, entries: axes.Entries, counted: axes.Entries) -> None:
        """Add a value if one of the counted entries moves and its units can be compared."""
        key = (id(value.origin), None if value.tap.entry is None else value.tap.entry[1])
        if not any(map(moves, counted)) or key in self._known:
            return
        shape = [axes.total_size(entry, self.sizes) for entry in entries]
        # `cut` only slices and reshapes, so this stand-in takes no memory.
        stand_in = np.broadcast_to(np.float32(0), shape)
        parts = blocks.cut(entries, stand_in, self.sizes)
        kept = {
            number: blocks.block_names(part_entries)
            for number, (part_entries, part) in enumerate(parts)
            if _shows_units(part_entries, part.shape)
        }
        if not kept:
            return
        self._known.add(key)
        self._names[value.name] += 1
        times = self._names[value.name]
        name = f"{value.name} ({times})" if times > 1 else value.name
        site = Site(name, value.tap, entries, kept, len(parts))
        (self._sums if value.is_sum else self._sites).append(site)

    def chosen(self) -> Iterator[Site]:
        """The sites, without what shows only groups that are summed."""
        summed = {name for site in self._sums for name in site.groups}
        yield from self._sums
        yield from (site for site in self._sites if not site.groups <= summed)


def _parts(value: Value) -> Iterator[tuple[tuple[int, int] | None, tuple[Axis, ...]]]:
    """A whole value, or the items of a stack, each with its axis at length one."""
    if isinstance(value, Array):
        yield None, value.axes
    else:
        assert isinstance(value, Stack), value
        for index, item in enumerate(value.items):
            yield (
                (value.axis, index),
                (*item.axes[: value.axis], (), *item.axes[value.axis :]),
            )


def moves(entry: axes.Entry) -> bool:
    """True if a permutation moves an entry."""
    return any(not group.is_fixed for group in axes.groups_in(entry))


def _shows_units(entries: axes.Entries, shape: tuple[int, ...]) -> bool:
    """True if units can be compared by this block: they are identified, and not too many.

    Every group is there once, with all its parents. For groups that do not vary along each other
    units are combinations of all, whose number is limited.
    """
    groups = [group for entry in entries for group in axes.groups_in(entry)]
    moved = [group for group in groups if not group.is_fixed]
    bases = [group.base for group in groups]
    parents = {parent for group in moved for parent in group.parents}
    needed = {group.base for group in moved} | parents
    if not moved or any(bases.count(base) != 1 for base in needed):
        return False
    by_depth = sorted(moved, key=lambda group: len(group.parents))
    above: set[str] = set()
    for group in by_depth:
        if not above <= set(group.parents):
            sizes = (n for n, e in zip(shape, entries, strict=True) if moves(e))
            return int(np.prod(list(sizes))) <= MAX_JOINT_UNITS
        above.add(group.base)
    return True
