"""Index arrays of permutations along the axes of one array.

An entry of an axis (see `axes`) and a permutation give an index array: the old position of each
position of the permuted array. With a group d that varies along h,

    new[(i, j)] = old[(permutation["h"][i], permutation["d[h]"][i, j])]

so the rows of d's array belong to the slots of the *result*, like the entries of h's.

This module owns the rule that finds a parent: in the products around its child, from the inside
out, then among the factors of all axes of the array outside sums. It must be there exactly once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab.symmetry import axes


def check_groups(groups: Mapping[str, axes.Group]) -> None:
    """Check that a name has one set of parents, and that it lists the parents of its parents.

    Raises:
        ValueError: naming the group and what it should be.
    """
    by_base: dict[str, axes.Group] = {}
    for key, group in groups.items():
        if by_base.setdefault(group.base, group) != group:
            raise ValueError(
                f"Expected one set of parents for '{group.base}'; got '{by_base[group.base].key}' "
                f"and '{key}'. Give different groups different names."
            )
    for key, group in groups.items():
        for parent in group.parents:
            above = by_base.get(parent, axes.Group(parent)).parents
            if lacking := [name for name in above if name not in group.parents]:
                raise ValueError(
                    f"Expected '{key}' to vary along '{lacking[0]}' too, as its parent "
                    f"'{by_base[parent].key}' does: permutations would not compose otherwise. "
                    f"Write '{group.base}[{','.join([*lacking, *group.parents])}]'."
                )


def check_parents(path: str, entries: axes.Entries) -> None:
    """Check that every parent of a group in a leaf is there exactly once, by the rule above.

    Raises:
        ValueError: if one is missing or ambiguous; or if a group and one of its parents vary along
            the same third group but on different axes, in which case they form no symmetry group.
    """
    tops = [
        (factor, (axis, index))
        for axis, entry in enumerate(entries)
        for index, factor in enumerate(axes.factors_of(entry))
    ]
    outer = _visible({}, [factor for factor, _ in tops], [place for _, place in tops])
    found: dict[tuple[int, ...], tuple[axes.Group, dict]] = {}
    for axis, entry in enumerate(entries):
        found |= _resolve(entry, (axis,), outer)
    for group, parents in found.values():
        for parent, place in parents.items():
            if place is None:
                raise ValueError(
                    f"Expected '{path}' to hold '{parent}', along which '{group.key}' varies, "
                    f"exactly once outside sums or once in the same product as '{group.key}'; got "
                    f"{axes.format_entries(entries)}."
                )
            if any(parents.get(name) != at for name, at in found[place][1].items()):
                raise ValueError(
                    f"Expected '{group.key}' and its parent '{found[place][0].key}' to vary along "
                    f"the same axes of '{path}'; got {axes.format_entries(entries)}."
                )


def _resolve(entry: axes.Entry | None, place: tuple[int, ...], outer: Mapping) -> dict:
    """Place of each group below `place` -> the group and the places of its parents, or None."""
    factors = axes.factors_of(entry)
    places = [(*place, index) for index in range(len(factors))]
    visible, found = _visible(outer, factors, places), {}
    for factor, at in zip(factors, places, strict=True):
        if isinstance(factor, axes.Group):
            found[at] = (factor, {parent: visible.get(parent) for parent in factor.parents})
        elif isinstance(factor, axes.Sum | axes.Arrangement):
            for index, term in enumerate(factor.terms):
                found |= _resolve(term, (*at, index), visible)
    return found


def _visible(outer: Mapping, factors: Sequence[axes.Entry], values: Sequence[Any]) -> dict:
    """Name -> the value of its only occurrence, seen from inside a product of these factors."""
    bases = [factor.base if isinstance(factor, axes.Group) else None for factor in factors]
    own = {
        base: value
        for base, value in zip(bases, values, strict=True)
        if base is not None and bases.count(base) == 1
    }
    return {base: value for base, value in outer.items() if base not in bases} | own


def index_arrays(
    entries: axes.Entries,
    shape: tuple[int, ...],
    permutation: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> Iterator[np.ndarray]:
    """For each axis of an array, the old positions of the entries of the permuted array.

    The permuted array is `array[tuple(index_arrays(...))]`.

    Args:
        entries: one per axis; they satisfy `check_parents`.
        shape: of the array.
        permutation: key -> index array, with one leading axis per parent.
        sizes: the number of units of every group and "#" name.

    Returns:
        Arrays with as many axes as the array, that broadcast against each other. One extends along
        other axes than its own only if a group in it varies along those.
    """
    grid = np.ogrid[tuple(map(slice, shape))]
    tops, slots = [], []
    for entry, positions in zip(entries, grid, strict=True):
        tops += axes.factors_of(entry)
        slots += _unravel(positions, axes.factors_of(entry), sizes)
    outer = _visible({}, tops, slots)
    for entry, positions in zip(entries, grid, strict=True):
        yield positions if entry is None else _sources(entry, positions, outer, permutation, sizes)


def _sources(
    entry: axes.Entry,
    positions: np.ndarray,
    slots: Mapping[str, np.ndarray],
    permutation: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> np.ndarray:
    """Old positions within an entry, from new positions and the slots of parents."""
    match entry:
        case axes.Group() if not entry.is_fixed:
            indices = tuple(slots[parent] for parent in entry.parents)
            return permutation[entry.key][(*indices, positions)]
        case axes.Product():
            places = _unravel(positions, entry.factors, sizes)
            inner, old = _visible(slots, entry.factors, places), np.zeros_like(positions)
            for factor, place in zip(entry.factors, places, strict=True):
                source = _sources(factor, place, inner, permutation, sizes)
                old = old * axes.total_size(factor, sizes) + source
            return old
        case axes.Sum():
            old, start = positions, 0
            for term in entry.terms:
                size = axes.total_size(term, sizes)
                if size:
                    place = np.clip(positions - start, 0, size - 1)
                    inside = (positions >= start) & (positions < start + size)
                    source = _sources(term, place, slots, permutation, sizes)
                    old = np.where(inside, start + source, old)
                start += size
            return old
        case axes.Arrangement():
            old = positions
            for term, at in zip(entry.terms, map(np.array, entry.positions), strict=True):
                place = np.clip(np.searchsorted(at, positions), 0, len(at) - 1)
                source = at[_sources(term, place, slots, permutation, sizes)]
                old = np.where(at[place] == positions, source, old)
            return old
    return positions


def _unravel(
    positions: np.ndarray, factors: Sequence[axes.Entry], sizes: Mapping[str, int]
) -> list[np.ndarray]:
    """Positions in each factor, from positions in a row-major product."""
    places = []
    for factor in reversed(factors):
        size = max(axes.total_size(factor, sizes), 1)  # an empty axis has no positions to divide
        places.append(positions % size)
        positions = positions // size
    return places[::-1]
