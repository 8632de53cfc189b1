"""Rewrite the entries of a spec: with canonical names, or without axes that never move."""

from collections.abc import Mapping, Set

from rebasin_lab.symmetry import axes

LeafEntries = Mapping[str, axes.Entries]


def replace_groups(entries: LeafEntries, new: Mapping[str, axes.Entry]) -> dict[str, axes.Entries]:
    """Replace every group by the entry of its key in `new`."""
    return {
        path: tuple(
            None if entry is None else axes.map_groups(entry, lambda group: new[group.key])
            for entry in leaf
        )
        for path, leaf in entries.items()
    }


def canonical_names(groups: Mapping[str, axes.Group]) -> dict[str, axes.Group]:
    """Key -> group with a name by order of appearance: P_0, P_1, ...; #0, #1, ...

    Parents are listed in that order, too.
    """
    numbers: dict[str, tuple[str, int]] = {}
    for group in groups.values():
        prefix = "#" if group.is_fixed else "P_"
        numbers[group.base] = (prefix, sum(prefix == used for used, _ in numbers.values()))

    def rename(group: axes.Group) -> axes.Group:
        prefix, number = numbers[group.base]
        parents = sorted(numbers[parent] for parent in group.parents)
        return axes.Group(f"{prefix}{number}", tuple(f"{p}{n}" for p, n in parents))

    return {key: rename(group) for key, group in groups.items()}


def without_still_axes(
    entries: LeafEntries, keep: Set[str] = frozenset()
) -> dict[str, axes.Entries]:
    """Set None for every axis that never moves and that no group in its array varies along.

    Args:
        entries: leaf path -> one entry per axis.
        keep: "#" names to keep.
    """
    return {
        path: tuple(None if _is_still(entry, keep | _parents(leaf)) else entry for entry in leaf)
        for path, leaf in entries.items()
    }


def names_in_composites(entries: LeafEntries) -> set[str]:
    """The names inside products and sums."""
    return {
        group.base
        for leaf in entries.values()
        for entry in leaf
        if not isinstance(entry, axes.Group)
        for group in axes.groups_in(entry)
    }


def _parents(leaf: axes.Entries) -> set[str]:
    return {parent for entry in leaf for g in axes.groups_in(entry) for parent in g.parents}


def _is_still(entry: axes.Entry | None, keep: Set[str]) -> bool:
    return all(group.is_fixed and group.base not in keep for group in axes.groups_in(entry))
