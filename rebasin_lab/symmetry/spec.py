"""`PermutationSpec`: the axes of each parameter that each permutation moves.

A `PermutationSpec` holds, for every leaf of a parameter tree, one entry per axis: None, the name of
a permutation, or an expression of names (see `axes`): "16*P_0" after a flatten, "P_0+P_1" after a
concatenation, "h*d[h]" for attention heads with dimensions of their own. Axes that carry the same
name must be permuted together: the output of one layer and the input of the next, or every layer
that reads or writes one residual stream. Functions that permute, match or count take it
as an argument.
"""

import dataclasses
import functools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import PyTree

from rebasin_lab import checks, pytrees, texts
from rebasin_lab.symmetry import axes, display, indexing, rewriting, spec_json
from rebasin_lab.symmetry.sizes import solve_sizes

AxisNames = tuple[str | None, ...]

MAX_AXES = 64  # of an array of NumPy


@dataclasses.dataclass(frozen=True)
class PermutationSpec:
    """Leaf path -> one entry per axis: None, a permutation name or an expression of names.

    Example: `PermutationSpec({"layers/0/kernel": (None, "P_0"), "layers/0/bias": ("P_0",), ...})`.

    Attributes:
        axes: one tuple per leaf, in normal form; see `pytrees` for the path of a leaf and `axes`
            for the grammar.
        group_sizes: the number of units of groups (per slot) and "#" names that the shapes of the
            parameters do not determine.
        explanations: one sentence per axis of a leaf, on the reason for its entry; leaves may be
            missing. They do not count for equality.
        assumptions: conditions of the symmetries, such as "no two of the values that top_k
            compares are equal"; mostly none.
        entries: the parsed `axes`: one entry or None per axis.

    Raises:
        ValueError: for an invalid entry, a group with two sets of parents, or one whose parents are
            missing.
    """

    axes: Mapping[str, AxisNames]
    group_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    explanations: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )
    assumptions: tuple[str, ...] = ()
    entries: Mapping[str, axes.Entries] = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self):
        checks.argument("axes", self.axes, Mapping[str, Any], "PermutationSpec")
        checks.argument("group_sizes", self.group_sizes, Mapping[str, Any], "PermutationSpec")
        entries = {path: _parsed(path, names) for path, names in self.axes.items()}
        object.__setattr__(self, "axes", _names(entries))
        object.__setattr__(self, "entries", entries)  # in the normal form of these names
        indexing.check_groups(self.groups)
        for path, leaf in entries.items():
            indexing.check_parents(path, leaf)
        sizes = _checked_sizes(self.group_sizes, self.groups)
        object.__setattr__(self, "group_sizes", sizes)
        checks.argument(
            "explanations", self.explanations, Mapping[str, tuple[str, ...]], "PermutationSpec"
        )
        explanations = {path: tuple(lines) for path, lines in self.explanations.items()}
        _check_explanations(explanations, self.axes)
        object.__setattr__(self, "explanations", explanations)
        object.__setattr__(self, "assumptions", _checked_assumptions(self.assumptions))

    @classmethod
    def of_entries(cls, entries: Mapping[str, axes.Entries]) -> "PermutationSpec":
        """A spec of entries that need no checks, such as parts of another spec's."""
        spec = object.__new__(cls)
        fields = {"axes": _names(entries), "group_sizes": {}, "explanations": {}}
        for name, value in (fields | {"assumptions": (), "entries": dict(entries)}).items():
            object.__setattr__(spec, name, value)
        return spec

    @functools.cached_property
    def groups(self) -> dict[str, axes.Group]:
        """Name -> group, "#" names too, in order of first appearance."""
        leaves = self.entries.values()
        return {g.key: g for leaf in leaves for entry in leaf for g in axes.groups_in(entry)}

    @functools.cached_property
    def permutations(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """The inverse view: permutation name -> every (leaf path, axis) it moves."""
        moved: dict[str, dict[tuple[str, int], None]] = {}
        for path, entries in self.entries.items():
            for axis, entry in enumerate(entries):
                for group in axes.groups_in(entry):
                    if not group.is_fixed:
                        moved.setdefault(group.key, {})[path, axis] = None
        return {name: tuple(places) for name, places in moved.items()}

    @functools.cached_property
    def dependents(self) -> tuple[str, ...]:
        """Names of the groups that vary along others."""
        return tuple(name for name, group in self.groups.items() if group.parents)

    @functools.cached_property
    def is_plain(self) -> bool:
        """True if every axis has None or one name: no sum, product, varying group or "#" name."""
        return all(
            entry is None
            or (isinstance(entry, axes.Group) and not entry.is_fixed and not entry.parents)
            for entries in self.entries.values()
            for entry in entries
        )

    def sizes(self, params: PyTree) -> dict[str, int]:
        """The number of units each permutation moves; of one that varies, in each slot.

        Raises:
            ValueError: as `validate`.
        """
        known = self.all_sizes(params)
        return {name: known[name] for name in self.permutations}

    def all_sizes(self, params: PyTree) -> dict[str, int]:
        """The `sizes`, and the lengths of the "#" axes."""
        shapes = self._checked_shapes(params)
        solved = self._solved[-1]  # read once, as threads may replace it
        if solved is None or solved[0] != shapes:
            solved = shapes, solve_sizes(self.entries, shapes, self.group_sizes)
            self._solved[-1] = solved
        return dict(solved[1])

    @functools.cached_property
    def _solved(self) -> list:
        """A one-entry cache: shapes, and the sizes solved for them."""
        return [None]

    def shapes(self, params: PyTree) -> dict[str, tuple[int, ...]]:
        """The shape of each permutation's index array: the sizes of its parents, then its own."""
        return self.shapes_of_sizes(self.all_sizes(params))

    def shapes_of_sizes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The `shapes`, from the sizes of `all_sizes`."""
        keys = {group.base: key for key, group in self.groups.items()}
        return {
            name: (*(sizes[keys[parent]] for parent in self.groups[name].parents), sizes[name])
            for name in self.permutations
        }

    def validate(self, params: PyTree) -> None:
        """Check that this spec describes exactly the leaves of `params`.

        Raises:
            ValueError: for a leaf that is no array or is missing, a wrong number of axes, an axis
                of another size than its entry (one permutation on axes of different sizes), or a
                size that no shape determines.
        """
        self.all_sizes(params)

    def _checked_shapes(self, params: PyTree) -> dict[str, tuple[int, ...]]:
        pytrees.check_arrays(params, "", or_shapes=True)
        leaves = pytrees.flatten(params)
        variables = {pytrees.without_variable(path): path for path in leaves}
        if set(leaves) != set(self.axes) == set(variables):
            raise ValueError(
                f"Expected the parameters by the paths of the spec; '{next(iter(self.axes))}' is "
                f"'{variables[next(iter(self.axes))]}' here, in a variable of Flax. Take the "
                "arrays out, as nnx.to_pure_dict(state) does, or infer the spec with such "
                "parameters."
            )
        if missing := sorted(set(leaves) - set(self.axes)):
            raise ValueError(
                f"Expected the spec to name every parameter; '{missing[0]}' (shape "
                f"{leaves[missing[0]].shape}) is missing, {len(missing)} in all. Give it one "
                "permutation name or None per axis."
            )
        if unknown := sorted(set(self.axes) - set(leaves)):
            raise ValueError(
                f"Expected only parameters of the model in the spec; '{unknown[0]}' is none of "
                f"them, {len(unknown)} in all. The model has: {', '.join(leaves)}."
            )
        for path, names in self.axes.items():
            if len(names) != len(leaves[path].shape):
                raise ValueError(
                    f"Expected one entry per axis of '{path}' (shape {leaves[path].shape}); "
                    f"got {names}."
                )
        return {path: leaf.shape for path, leaf in leaves.items()}

    def renamed(self) -> "PermutationSpec":
        """The spec with names P_0, P_1, ... and #0, #1, ... in order of first appearance.

        Parents are listed in that order, too. Explanations use the old names and are dropped.
        """
        new = rewriting.canonical_names(self.groups)
        return self._rewritten(rewriting.replace_groups(self.entries, new), new)

    @checks.arguments
    def same_as(self, other: "PermutationSpec") -> bool:
        """True if two specs have the same symmetries, up to names and the order of leaves.

        An axis that never moves may be None, a number, or a "#" name that no group varies along.
        Sizes are compared if both specs give them: "h*d" differs for 2 x 8 and 4 x 4.
        """
        mine, theirs = self._canonical(), other._canonical()
        both = mine.group_sizes.keys() & theirs.group_sizes.keys()
        return mine.axes == theirs.axes and all(
            mine.group_sizes[name] == theirs.group_sizes[name] for name in both
        )

    def shared(self) -> "PermutationSpec":
        """The subset of symmetries in which no group varies: "d[h]" becomes one permutation "d".

        "#" names become None or their size; one inside a product or sum stays if it is not in
        `group_sizes`.
        """
        new = {
            key: axes.Fixed(self.group_sizes[key])
            if group.is_fixed and key in self.group_sizes
            else axes.Group(group.base)
            for key, group in self.groups.items()
        }
        entries = rewriting.replace_groups(self.entries, new)
        still_needed = rewriting.names_in_composites(entries)
        entries = rewriting.without_still_axes(entries, still_needed)
        shared = self._rewritten(entries, new)
        return dataclasses.replace(shared, explanations=self.explanations)

    def _canonical(self) -> "PermutationSpec":
        entries = rewriting.without_still_axes({p: self.entries[p] for p in sorted(self.entries)})
        return self._rewritten(entries, self.groups).renamed()

    def _rewritten(
        self, entries: Mapping[str, axes.Entries], new: Mapping[str, axes.Entry]
    ) -> "PermutationSpec":
        """A spec of other entries; `new` maps old groups to new ones, for their sizes."""
        present = {
            group.key for leaf in entries.values() for e in leaf for group in axes.groups_in(e)
        }
        sizes = {
            new[key].key: size
            for key, size in self.group_sizes.items()
            if isinstance(new[key], axes.Group) and new[key].key in present
        }
        return type(self)(_names(entries), sizes, assumptions=self.assumptions)

    @checks.arguments
    def explain(self, path: str, axis: int) -> str:
        """A sentence on the permutations of this axis, or on why it is fixed.

        Raises:
            ValueError: for an unknown leaf or axis.
        """
        if path not in self.axes:
            raise ValueError(f"Expected a leaf among {', '.join(self.axes)}; got '{path}'.")
        if axis not in range(len(self.axes[path])):
            raise ValueError(
                f"Expected an axis of '{path}' among {list(range(len(self.axes[path])))}; "
                f"got {axis!r}."
            )
        sentences = self.explanations.get(path)
        return (sentences and sentences[axis]) or display.sentence(
            path, axis, self.entries[path][axis], self.permutations
        )

    def to_json(self) -> str:
        """This spec as JSON text for `from_json`, explanations included."""
        return spec_json.encode(
            dict(self.axes), dict(self.group_sizes), dict(self.explanations), self.assumptions
        )

    @classmethod
    def from_json(cls, text: str) -> "PermutationSpec":
        """The spec of a text of `to_json`.

        Raises:
            ValueError: for any other text, saying what is wrong with it.
        """
        try:
            return cls(**spec_json.decode(text))
        except ValueError as error:  # with quotes of any length
            raise ValueError(texts.in_a_line(str(error), 800)) from error

    def __str__(self) -> str:
        return display.listing(
            self.entries, len(self.permutations), self.group_sizes, self.assumptions
        )

    def _repr_html_(self) -> str:
        """A table for notebooks: one row per parameter."""
        return display.html_table(
            self.entries, self.permutations, self.group_sizes, self.assumptions
        )


def _names(entries: Mapping[str, axes.Entries]) -> dict[str, AxisNames]:
    return {path: axes.format_entries(leaf) for path, leaf in entries.items()}


def _parsed(path: str, names: Sequence[str | None]) -> axes.Entries:
    if isinstance(names, str):
        raise ValueError(
            f"Expected a tuple with one entry per axis of '{path}'; got the text {names!r}. "
            f"Write ({names!r},)."
        )
    checks.argument(f"the entries of '{path}'", names, Sequence[Any], "PermutationSpec")
    if len(names) > MAX_AXES:
        raise ValueError(
            f"Expected at most {MAX_AXES} entries, one per axis of '{path}'; got {len(names):,}."
        )
    return tuple(_parsed_entry(path, axis, name) for axis, name in enumerate(names))


def _parsed_entry(path: str, axis: int, name: Any) -> axes.Entry | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise ValueError(f"Expected None or a text for '{path}' axis {axis}; got {name!r}.")
    try:
        return axes.parse_entry(name)
    except ValueError as error:
        raise ValueError(f"In the entry of '{path}' axis {axis}: {error}") from error


def _checked_sizes(
    group_sizes: Mapping[str, int], groups: Mapping[str, axes.Group]
) -> dict[str, int]:
    sizes = {}
    for name, size in group_sizes.items():
        key = axes.parse_group(name).key
        if key not in groups:
            raise ValueError(
                f"Expected group_sizes of groups in the spec, which are {list(groups)}; "
                f"got '{name}'."
            )
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"Expected a whole number of units for '{name}'; got {size!r}.")
        sizes[key] = int(size)
    return sizes


def _checked_assumptions(assumptions: Sequence[str]) -> tuple[str, ...]:
    if isinstance(assumptions, str) or not all(isinstance(text, str) for text in assumptions):
        raise ValueError(f"Expected assumptions as a tuple of texts; got {assumptions!r}.")
    return tuple(assumptions)


def _check_explanations(
    explanations: Mapping[str, tuple[str, ...]], names: Mapping[str, AxisNames]
) -> None:
    for path, sentences in explanations.items():
        if path not in names or len(sentences) != len(names[path]):
            raise ValueError(
                f"Expected explanations of leaves in the spec, one per axis; got {len(sentences)} "
                f"for '{path}', whose entries are {names.get(path)}."
            )


@checks.arguments
def mlp_permutation_spec(num_hidden_layers: checks.Natural) -> PermutationSpec:
    """The spec of the lab's MLP: one permutation per hidden layer (Ainsworth et al., section 2).

    Flax kernels are [in, out], the transpose of the paper's matrices.
    """
    names = [None, *(f"P_{layer}" for layer in range(num_hidden_layers)), None]
    axes: dict[str, AxisNames] = {}
    for layer, (before, after) in enumerate(zip(names[:-1], names[1:], strict=True)):
        axes[f"layers/{layer}/bias"] = (after,)
        axes[f"layers/{layer}/kernel"] = (before, after)
    return PermutationSpec(axes)
