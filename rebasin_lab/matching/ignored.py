"""Leaves that are moved but not compared, by name."""

import difflib
import re
from collections.abc import Collection

from rebasin_lab import pytrees
from rebasin_lab.symmetry import PermutationSpec


def ignored_leaves(spec: PermutationSpec, ignore: Collection[str] | None) -> set[str]:
    """The paths of the leaves that `ignore` excludes from matching.

    Args:
        spec: of the network.
        ignore: each a path, or the beginning of paths ("batch_stats", "layer1.0"), or, where none
            begins so, whole parts in the middle ("bn1" of "layer1.0.bn1.weight"), or, where there
            are none, parts without their number ("bn" of "bn1", "BatchNorm" of "BatchNorm_0").
            Parts end at "/" or, as in torch, at ".". None is for the `running_statistics`, but
            for those that a permutation moves alone.

    Raises:
        ValueError: for a name that no leaf has, or a permutation that moves only ignored leaves.
    """
    if ignore is None:
        statistics = pytrees.running_statistics(spec.axes)
        moved = [{path for path, _ in places} for places in spec.permutations.values()]
        return statistics.difference(*(paths for paths in moved if paths <= statistics))
    if isinstance(ignore, str) or not isinstance(ignore, Collection):
        advice = f" Write [{ignore!r}]." if isinstance(ignore, str) else ""
        raise ValueError(f"Expected ignore to be a list of paths; got {ignore!r}.{advice}")
    ignored: set[str] = set()
    parts = {path: f"/{_slashed(path)}/" for path in spec.axes}
    for name in ignore:
        if not isinstance(name, str) or not _slashed(name):
            raise ValueError(f"Expected ignore to hold paths of leaves; got {name!r}.")
        inner = f"/{_slashed(name)}/"
        found = {path for path, whole in parts.items() if whole.startswith(inner)}
        found = found or {path for path, whole in parts.items() if inner in whole}
        numbered = re.compile(f"{re.escape(inner[:-1])}_?[0-9]+/")
        found = found or {path for path, whole in parts.items() if numbered.search(whole)}
        if not found:
            every = {part for path in parts for part in (path, *_slashed(path).split("/"))}
            near = difflib.get_close_matches(name, every)
            raise ValueError(
                f"Expected ignore to hold paths of leaves, how they begin, or parts of them; "
                f"'{name}' is none. "
                + (f"Did you mean '{near[0]}'? " if near else "")
                + f"The network has: {', '.join(spec.axes)}."
            )
        ignored |= found
    for name, places in spec.permutations.items():
        if ignored.issuperset(path for path, _ in places):
            raise ValueError(
                f"Expected ignore to leave every permutation a leaf to go by; '{name}' moves only "
                f"{', '.join(dict.fromkeys(path for path, _ in places))}."
            )
    return ignored


def _slashed(path: str) -> str:
    return path.replace(".", "/").strip("/")
