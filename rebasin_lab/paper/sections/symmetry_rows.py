"""A network's symmetry group as a picture's numbers: layers as rows, groups as lines over them.

Rows come in the order in which the function first uses them, which a trace shows. A vector, such as
a bias or a norm, shares the row of the kernel before it where it belongs to that kernel's units; so
a ResNet50 of 267 leaves has 54 rows.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core
from jaxtyping import PyTree

from rebasin_lab import pytrees, symmetry
from rebasin_lab.paper.sections.record import Figure

ROW_INCHES = 0.19


@dataclasses.dataclass
class _Row:
    """One layer.

    Attributes:
        paths: its leaves, the kernel first.
        fixed: whether it has an axis where units could be and nothing moves: pixels, classes.
    """

    paths: list[str]
    fixed: bool


def picture(
    name: str,
    spec: symmetry.PermutationSpec,
    apply_fn: Callable,
    params: PyTree,
    *inputs: Any,
    title: str,
    caption: str,
    before: symmetry.PermutationSpec | None = None,
) -> Figure:
    """Return the picture of a network's symmetries; see `symmetry_numbers` for the arguments."""
    numbers = symmetry_numbers(spec, apply_fn, params, *inputs, before=before)
    kinds = {"pinned" if group["pinned"] else group["kind"] for group in numbers["groups"]}
    # A title, a header, the rows, and the legend in two columns.
    num_lines = 3 + len(numbers["rows"]) + -(-(len(kinds) + 1) // 2)
    return Figure(
        name=name,
        plot="symmetry_group",
        numbers=numbers,
        title=title,
        caption=caption,
        alt=_alt(numbers),
        size=(8.0, round(ROW_INCHES * num_lines + 0.2, 2)),
    )


def pinned(numbers: Mapping[str, Any]) -> list[str]:
    """Return the names of groups that a change has pinned."""
    return [group["name"] for group in numbers["groups"] if group["pinned"]]


def symmetry_numbers(
    spec: symmetry.PermutationSpec,
    apply_fn: Callable,
    params: PyTree,
    *inputs: Any,
    before: symmetry.PermutationSpec | None = None,
) -> dict[str, Any]:
    """Return the numbers that `draw_symmetry_group` draws, JSON-ready.

    Args:
        spec: the symmetries.
        apply_fn: the network, `apply_fn(params, *inputs)`; only traced, for the order of its
            layers.
        params: arrays or their shapes.
        *inputs: arrays or their shapes.
        before: the spec of the network before it was changed; `apply_fn` is best the network
            before, too, which keeps the rows. Groups keep the names they have there, and those that
            `spec` has lost are listed as pinned.
    """
    rows = _rows(spec, before or spec, order_of_use(apply_fn, params, *inputs))
    names = _names_kept(spec, before)
    groups = [
        _group(names[key], key, spec, params, rows, is_pinned=False) for key in spec.permutations
    ]
    for key in _lost(spec, before):
        groups.append(_group(key, key, before, params, rows, is_pinned=True))
    # In order of appearance. One along which others vary comes first, as it does in their names.
    groups.sort(key=lambda group: (group["rows"][0], group["kind"] == "varying"))
    return {
        "rows": [{"name": _row_name(row, rows), "fixed": row.fixed} for row in rows],
        "groups": groups,
    }


def order_of_use(apply_fn: Callable, params: PyTree, *inputs: Any) -> list[str]:
    """Return the paths of all leaves in the order in which the function first uses them."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    jaxpr = jax.make_jaxpr(apply_fn)(shapes, *inputs).jaxpr
    paths = list(pytrees.flatten(params))
    used = _uses(jaxpr, dict(zip(jaxpr.invars, paths, strict=False)))
    return list(dict.fromkeys([*used, *paths]))


def _uses(jaxpr: core.Jaxpr, paths: Mapping[core.Var, str]) -> Iterator[str]:
    for equation in jaxpr.eqns:
        operands = equation.invars
        met = [v in paths if isinstance(v, core.Var) else False for v in operands]
        if not any(met):
            continue
        inner = _inner_jaxpr(equation)
        if inner is not None:
            pairs = zip(inner.invars, operands, met, strict=True)
            yield from _uses(inner, {v: paths[outer] for v, outer, is_met in pairs if is_met})
        yield from (paths[v] for v, is_met in zip(operands, met, strict=True) if is_met)


def _inner_jaxpr(equation: core.JaxprEqn) -> core.Jaxpr | None:
    """Return the body of a call or a scan; of a branch or a loop, whose operands differ, none."""
    for value in equation.params.values():
        body = value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
        if isinstance(body, core.Jaxpr) and len(body.invars) == len(equation.invars):
            return body
    return None


def _rows(
    spec: symmetry.PermutationSpec, before: symmetry.PermutationSpec, order: Sequence[str]
) -> list[_Row]:
    moved: dict[str, set[str]] = {path: set() for path in order}
    for key, places in before.permutations.items():
        for path, _ in places:
            moved[path].add(key)
    rows: list[_Row] = []
    for path in order:
        is_vector = len(spec.axes[path]) <= 1
        kernel = rows[-1].paths[0] if rows else ""
        if is_vector and kernel and moved[path] <= moved[kernel] and _is_near(path, kernel):
            rows[-1].paths.append(path)
        else:
            rows.append(_Row([path], _num_fixed(spec, path) > 0))
    return rows


def _num_fixed(spec: symmetry.PermutationSpec, path: str) -> int:
    """Count the axes that could hold units, one of a vector and two of a kernel, and do not."""
    moved = [
        any(not group.is_fixed for group in symmetry.groups_in(entry))
        for entry in spec.entries[path]
    ]
    return max(min(len(moved), 2) - sum(moved), 0)


def _is_near(path: str, kernel: str) -> bool:
    """Return True if a vector is of the same layer as a kernel, or of one beside it."""
    layer, kernel_layer = (p.rpartition("/")[0] for p in (path, kernel))
    return layer == kernel_layer or (
        layer.rpartition("/")[0] == kernel_layer.rpartition("/")[0] != ""
    )


def _row_name(row: _Row, rows: Sequence[_Row]) -> str:
    """Return the path of a layer, and what shares its row: "stages/0/0/conv1, norm1"."""
    kernel, *vectors = row.paths
    layer = kernel.rpartition("/")[0]
    alone = all(other is row or not other.paths[0].startswith(f"{layer}/") for other in rows)
    name = layer if layer and alone else kernel
    beside = (path.rpartition("/")[0] for path in vectors)
    others = dict.fromkeys(p.rpartition("/")[2] for p in beside if p != layer)
    return ", ".join([name, *others])


def _names_kept(
    spec: symmetry.PermutationSpec, before: symmetry.PermutationSpec | None
) -> dict[str, str]:
    """Name -> the name of the same group before the change; one that is new gets a prime."""
    if before is None:
        return {key: key for key in spec.permutations}
    same = {places: key for key, places in before.permutations.items()}
    return {key: same.get(places, f"{key}′") for key, places in spec.permutations.items()}


def _lost(spec: symmetry.PermutationSpec, before: symmetry.PermutationSpec | None) -> Iterator[str]:
    """Yield groups of `before` of which nothing is left, not even in groups of another kind."""
    if before is None:
        return
    old, new = set(before.permutations.values()), set(spec.permutations.values())
    changed = {place for places in new - old for place in places}
    for key, places in before.permutations.items():
        if places not in new and changed.isdisjoint(places):
            yield key


def _group(
    name: str,
    key: str,
    spec: symmetry.PermutationSpec,
    params: PyTree,
    rows: Sequence[_Row],
    *,
    is_pinned: bool,
) -> dict[str, Any]:
    places = spec.permutations[key]
    paths = [path for path, _ in places]
    kernels = {path for path in paths if len(spec.axes[path]) > 1}
    kind = "varying" if spec.groups[key].parents else "shared" if len(kernels) > 2 else "single"
    return {
        "name": name,
        "shape": list(spec.shapes(params)[key]),
        "kind": kind,
        "pinned": is_pinned,
        "rows": [i for i, row in enumerate(rows) if set(row.paths) & set(paths)],
        "num_leaves": len(set(paths)),
    }


def _alt(numbers: Mapping[str, Any]) -> str:
    groups = [group for group in numbers["groups"] if not group["pinned"]]
    text = f"{len(groups)} groups of units as lines over {len(numbers['rows'])} layers."
    if groups:
        longest = max(groups, key=lambda group: group["num_leaves"])
        text += (
            f" The one that touches most, {longest['name']} of {longest['shape'][-1]} units, moves "
            f"{longest['num_leaves']} parameters in {len(longest['rows'])} layers."
        )
    if lost := pinned(numbers):
        text += f" Pinned, and drawn in grey: {', '.join(lost)}."
    return text
