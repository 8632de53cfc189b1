"""Inner groups: units that one layer writes, one other layer reads, and nothing else knows.

Such units do not act on each other before they are read, so each can be taken from any network, and
there can be more or fewer of them. Units of a residual stream, of several readers and of normalised
layers are no inner groups.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from rebasin_lab.layers.layer import Layer, Leaves
from rebasin_lab.layers.program import Program
from rebasin_lab.symmetry import PermutationSpec, axes


@dataclasses.dataclass(frozen=True, eq=False)
class InnerGroup:
    """Units between two layers.

    Attributes:
        size: units in one network.
        writer: number of the layer that writes them.
        reader: number of the layer that reads them.
        places: path of a parameter -> its axis along these units, and the entry of that axis.
    """

    size: int
    writer: int
    reader: int
    places: Mapping[str, tuple[int, axes.Entry]]

    def units_of(self, layer: Layer, size: int) -> np.ndarray:
        """The unit of every entry of a layer's kernel, outputs x inputs.

        Args:
            layer: the writer or the reader.
            size: number of units.
        """
        axis, entry = self.places[layer.path]
        factors = axes.factors_of(entry)
        lengths = [each.size if isinstance(each, axes.Fixed) else size for each in factors]
        [place] = [n for n, each in enumerate(factors) if isinstance(each, axes.Group)]
        along = np.unravel_index(np.arange(np.prod(lengths)), lengths)[place]
        shape = layer.leaf_shape
        labels = np.broadcast_to(along.reshape([-1, *[1] * (len(shape) - axis - 1)]), shape)
        return layer.kernel_matrix(labels)[0]

    def inputs_of(self, reader: Layer, size: int) -> np.ndarray:
        """For every unit, which inputs of the reader are its own: units x inputs of a unit."""
        return np.argsort(self.units_of(reader, size)[0], kind="stable").reshape(size, -1)

    def resized(self, params: Leaves, size: int) -> dict[str, np.ndarray]:
        """Its parameters for another number of units, each the mean of the units there are."""
        leaves = {}
        for path, (axis, _) in self.places.items():
            leaf = np.asarray(params[path])
            shape = list(leaf.shape)
            shape[axis] = shape[axis] // self.size * size
            leaves[path] = np.broadcast_to(leaf.mean(axis, keepdims=True), shape).astype(leaf.dtype)
        return leaves


def find_inner_groups(program: Program, spec: PermutationSpec, params: Leaves) -> list[InnerGroup]:
    """All inner groups of a function, in the order of their writers.

    Args:
        program: the function.
        spec: its permutations.
        params: by path.
    """
    found = []
    parents = {base for group in spec.groups.values() for base in group.parents}
    for name, size in spec.sizes(params).items():
        group = spec.groups[name]
        if not group.parents and group.base not in parents:
            found.append(_inner_group(program, spec, name, size))
    inner = [group for group in found if group and _is_independent(program, group, params)]
    return sorted(inner, key=lambda group: group.writer)


def _inner_group(
    program: Program, spec: PermutationSpec, name: str, size: int
) -> InnerGroup | None:
    """The group, if one layer writes it, one reads it, and other parameters are the writer's."""
    moved = spec.permutations[name]
    places = {path: (axis, spec.entries[path][axis]) for path, axis in moved}
    numbers = [n for n, layer in enumerate(program.layers) if layer.path in places]
    if len(numbers) != 2 or len(places) < len(moved):
        return None
    factors = [axes.factors_of(entry) for _, entry in places.values()]
    others = [[each for each in some if each != spec.groups[name]] for some in factors]
    if not all(len(some) == len(rest) + 1 for some, rest in zip(factors, others, strict=True)):
        return None
    if not all(isinstance(each, axes.Fixed) for rest in others for each in rest):
        return None
    group = InnerGroup(size, *numbers, places)
    writer, reader = (program.layers[number] for number in numbers)
    if max(writer.num_groups, reader.num_groups) > 1:
        return None
    if not places.keys() <= {writer.path, reader.path, *writer.leaves}:
        return None
    written, read = group.units_of(writer, size), group.units_of(reader, size)
    is_written = len(written) == size and (written == np.arange(size)[:, None]).all()
    return group if is_written and (read == read[0]).all() else None


def _is_independent(program: Program, group: InnerGroup, params: Leaves) -> bool:
    """Whether every unit is read by itself, before anything later is computed.

    The units' path is run on random numbers: half of the units change, and only their inputs of the
    reader may.
    """
    writer, reader = program.layers[group.writer], program.layers[group.reader]
    layers = {id(layer.equation) for layer in program.layers}
    known = [*program.frontier(writer.number), writer.target]
    if layers & program.needed([reader.read], known):
        return False
    if layers & program.needed([reader.target], [*known, reader.written]):
        return False
    after = {writer.target}
    for equation in program.equations:
        if not after.isdisjoint(equation.reads):
            after |= set(equation.results)
    path = program.needed([reader.read], (program.from_input - after) | {writer.target})
    read = {value for each in program.equations if id(each) in path for value in each.reads}
    sides = (read & program.from_input) - after | {writer.target}
    rng = np.random.default_rng(0)
    values = {
        value: rng.standard_normal(program.shapes[value].shape, np.float32)
        for value in sorted(sides)
    }
    target = values[writer.target]
    units = np.asarray(writer.units(jnp.arange(target.size).reshape(target.shape)))[:, 0]
    moved = target.copy()
    moved.ravel()[units[:, 1::2]] *= -2
    ends = []
    for start in (target, moved):
        [value] = program.evaluate(params, values | {writer.target: start}, [reader.read])
        zeros = jnp.zeros(program.shapes[reader.written].shape)
        samples, _ = reader.samples(value, zeros, [0] * len(reader.positions), 1)
        ends.append(np.asarray(samples)[:, 0][:, group.inputs_of(reader, group.size)[::2]])
    return np.array_equal(*ends)
