"""Solve for the number of units of each group, from the shapes of the parameters.

An axis with a single name gives the size of that group. An axis such as "16*P_0" gives it once
everything else in the entry is known; this is repeated until nothing changes. A block with
positions has as many units as positions. Sizes that shapes do not determine ("h*d" alone, when
neither is known) must be in `group_sizes`.
"""

from collections.abc import Iterator, Mapping

from rebasin_lab.symmetry import axes

Place = tuple[str, int]  # leaf path, axis


def solve_sizes(
    entries: Mapping[str, axes.Entries],
    shapes: Mapping[str, tuple[int, ...]],
    group_sizes: Mapping[str, int],
) -> dict[str, int]:
    """The number of units of every group and "#" name; for a varying group, per slot.

    Args:
        entries: leaf path -> one entry per axis.
        shapes: leaf path -> shape, with as many axes.
        group_sizes: known sizes.

    Raises:
        ValueError: naming the leaf and axis, if sizes disagree or one is not determined.
    """
    known: dict[str, tuple[int, str]] = {
        name: (size, "group_sizes") for name, size in group_sizes.items()
    }
    composite: list[tuple[Place, axes.Entry, int]] = []
    for path, leaf_entries in entries.items():
        for axis, (whole, length) in enumerate(zip(leaf_entries, shapes[path], strict=True)):
            for entry, size in [(whole, length), *_placed_blocks(whole)]:
                if isinstance(entry, axes.Group):
                    _set_size(known, entry.key, size, (path, axis))
                elif entry is not None:
                    composite.append(((path, axis), entry, size))
    while any([_solve_one(known, entry, size, place) for place, entry, size in composite]):
        pass
    for place, entry, size in composite:
        _check_total(known, entry, size, place)
    return {name: size for name, (size, _) in known.items()}


def _placed_blocks(entry: axes.Entry | None) -> Iterator[tuple[axes.Entry, int]]:
    """Every block with positions inside an entry, and the number of positions."""
    match entry:
        case axes.Product(factors=parts) | axes.Sum(terms=parts):
            for part in parts:
                yield from _placed_blocks(part)
        case axes.Arrangement():
            for term, at in zip(entry.terms, entry.positions, strict=True):
                yield term, len(at)
                yield from _placed_blocks(term)


def _without_placed_blocks(entry: axes.Entry) -> axes.Entry:
    """The entry with blocks at positions replaced by their fixed length."""
    match entry:
        case axes.Product(factors=parts):
            return axes.product_of(list(map(_without_placed_blocks, parts)))
        case axes.Sum(terms=parts):
            return axes.sum_of(list(map(_without_placed_blocks, parts)))
        case axes.Arrangement():
            return axes.Fixed(axes.total_size(entry, {}))
    return entry


def _set_size(known: dict[str, tuple[int, str]], name: str, size: int, place: Place) -> None:
    path, axis = place
    expected, where = known.setdefault(name, (size, f"'{path}'"))
    if size != expected:
        raise ValueError(
            f"Expected '{path}' axis {axis} to have size {expected} (permutation '{name}', as in "
            f"{where}); got {size}."
        )


def _unknown(known: Mapping[str, tuple[int, str]], entry: axes.Entry) -> list[str]:
    return sorted({group.key for group in axes.groups_in(entry)} - known.keys())


def _solve_one(
    known: dict[str, tuple[int, str]], entry: axes.Entry, size: int, place: Place
) -> bool:
    """Solve for the only unknown group of an entry; returns False if there is not exactly one."""
    unknown = _unknown(known, _without_placed_blocks(entry))
    if len(unknown) != 1:
        return False
    sizes = {name: n for name, (n, _) in known.items()}
    # The total grows with the number of units, so bisection finds the first that is large enough.
    low, high = 1, max(size, 1)
    while low < high:
        middle = (low + high) // 2
        enough = axes.total_size(entry, sizes | {unknown[0]: middle}) >= size
        low, high = (low, middle) if enough else (middle + 1, high)
    if axes.total_size(entry, sizes | {unknown[0]: low}) != size:
        raise ValueError(
            f"Expected '{place[0]}' axis {place[1]} to have a size that "
            f"{_describe(known, entry)} can have for some number of units '{unknown[0]}'; "
            f"got {size}."
        )
    known[unknown[0]] = (low, f"'{place[0]}'")
    return True


def _check_total(
    known: Mapping[str, tuple[int, str]], entry: axes.Entry, size: int, place: Place
) -> None:
    if unknown := _unknown(known, entry):
        raise ValueError(
            f"Expected the shapes to tell the size of every group; '{place[0]}' axis {place[1]} "
            f"(size {size}) is {_describe(known, entry)} and {unknown} stay unknown. Give "
            f"group_sizes, such as {{'{unknown[0]}': 8}}, to the PermutationSpec."
        )
    expected = axes.total_size(entry, {name: n for name, (n, _) in known.items()})
    if size != expected:
        raise ValueError(
            f"Expected '{place[0]}' axis {place[1]} to have size {expected} "
            f"({_describe(known, entry)}); got {size}."
        )


def _describe(known: Mapping[str, tuple[int, str]], entry: axes.Entry) -> str:
    """The entry and the origins of its sizes, in words."""
    keys = dict.fromkeys(group.key for group in axes.groups_in(entry))
    origins = [f"{key} = {known[key][0]} as in {known[key][1]}" for key in keys if key in known]
    return f"'{axes.format_entry(entry)}'" + (f" with {', '.join(origins)}" if origins else "")
