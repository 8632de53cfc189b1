"""Cut a network into blocks, so that each axis of each block has one name or None.

So a matcher for arrays with one permutation per axis handles concatenations and flattened axes:
inner products and distances between networks are sums over the blocks.
"""

import itertools
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.symmetry import axes
from rebasin_lab.symmetry.spec import PermutationSpec


def split_into_blocks(
    spec: PermutationSpec, *networks: PyTree
) -> tuple[PermutationSpec | dict[str, Any], ...]:
    """Cut every leaf along its sums and arrangements, and reshape it along its products.

    The blocks of two networks with one spec correspond, and a permutation of the blocks is a
    permutation of the network. Groups that vary along others keep their names with brackets.

    Args:
        spec: of the networks.
        *networks: one or more, of the same shapes.

    Returns:
        A spec of the blocks, and for each network its blocks by path: "leaf#0", "leaf#1", ...

    Raises:
        ValueError: as `PermutationSpec.validate`; or if a group varies along one that is on two
            axes of a block, as in ("h*d[h]", "h*d[h]"): the names are ambiguous.
    """
    sizes = spec.all_sizes(networks[0])
    blocks_entries: dict[str, axes.Entries] = {}
    every_blocks = []
    for leaves in map(pytrees.flatten, networks):
        blocks = {}
        for path, whole in spec.entries.items():
            for index, (entries, block) in enumerate(cut(whole, leaves[path], sizes)):
                if f"{path}#{index}" not in blocks_entries:
                    _check_parents_once(path, whole, entries)
                    blocks_entries[f"{path}#{index}"] = _named(entries)
                blocks[f"{path}#{index}"] = block
        every_blocks.append(blocks)
    return PermutationSpec.of_entries(blocks_entries), *every_blocks


def _check_parents_once(path: str, whole: axes.Entries, entries: axes.Entries) -> None:
    bases = [entry.base for entry in entries if isinstance(entry, axes.Group)]
    for entry in entries:
        for parent in entry.parents if isinstance(entry, axes.Group) else ():
            if bases.count(parent) > 1:
                raise ValueError(
                    f"Expected '{parent}', along which '{entry.key}' varies, on one axis of each "
                    f"part of '{path}'; got {axes.format_entries(whole)}, which can be permuted "
                    "but not cut into parts as matching needs. Match with spec.shared(): one order "
                    "in all slots."
                )


def cut(entries: axes.Entries, array: Any, sizes: dict[str, int]) -> list[tuple[axes.Entries, Any]]:
    """The blocks of one array and their entries, none of them a product or a sum."""
    for axis, entry in enumerate(entries):
        before, after = entries[:axis], entries[axis + 1 :]
        if isinstance(entry, axes.Product):
            lengths = [axes.total_size(factor, sizes) for factor in entry.factors]
            shape = (*array.shape[:axis], *lengths, *array.shape[axis + 1 :])
            return cut((*before, *entry.factors, *after), array.reshape(shape), sizes)
        if isinstance(entry, axes.Sum):
            blocks, start = [], 0
            for term in entry.terms:
                stop = start + axes.total_size(term, sizes)
                part = array[(slice(None),) * axis + (slice(start, stop),)]
                blocks += cut((*before, term, *after), part, sizes)
                start = stop
            return blocks
        if isinstance(entry, axes.Arrangement):
            parts = zip(entry.terms, entry.positions, strict=True)
            return [
                block
                for term, at in parts
                for block in cut((*before, term, *after), _taken(array, axis, at), sizes)
            ]
    return [(entries, array)]


def _taken(array: Any, axis: int, positions: tuple[int, ...]) -> Any:
    """The entries at some positions; a view if the positions have one step."""
    steps = {b - a for a, b in itertools.pairwise(positions)} or {1}
    at = slice(positions[0], positions[-1] + 1, *steps) if len(steps) == 1 else np.array(positions)
    return array[(slice(None),) * axis + (at,)]


def block_names(entries: axes.Entries) -> tuple[str | None, ...]:
    """The names on the axes of a block; a "#" name only if a group varies along it."""
    return axes.format_entries(_named(entries))


def _named(entries: axes.Entries) -> axes.Entries:
    """The groups on the axes of a block; a "#" name only if a group varies along it."""
    parents = {parent for entry in entries for g in axes.groups_in(entry) for parent in g.parents}
    return tuple(
        entry
        if isinstance(entry, axes.Group) and (not entry.is_fixed or entry.base in parents)
        else None
        for entry in entries
    )
