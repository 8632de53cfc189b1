"""Display of a permutation spec: a listing, a table for notebooks, a sentence for one axis.

Colours only repeat the names: chips have the colours of Okabe and Ito, which colour-blind readers
can distinguish, and the text keeps the colour of the page.
"""

from collections.abc import Mapping, Sequence

from rebasin_lab import texts
from rebasin_lab.symmetry import axes

Places = tuple[tuple[str, int], ...]

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MAX_PLACES = 6  # named in a sentence; a residual stream has dozens


def listing(
    entries: Mapping[str, axes.Entries],
    num_permutations: int,
    group_sizes: Mapping[str, int],
    assumptions: Sequence[str],
) -> str:
    """One line per leaf, "-" for an axis that no permutation moves."""
    shown = {path: texts.in_a_line(path) for path in entries}
    width = max(map(len, shown.values()), default=0)
    rows = [
        f"{shown[path]:<{width}}  "
        + ", ".join("-" if entry is None else axes.format_entry(entry) for entry in leaf)
        for path, leaf in entries.items()
    ]
    conditions = [f"only if {text}" for text in assumptions]
    heading = f"{num_permutations} permutations{_sizes_text(group_sizes)}"
    return "\n".join(map(texts.in_a_line, [heading, *conditions, *rows]))


def html_table(
    entries: Mapping[str, axes.Entries],
    permutations: Mapping[str, Places],
    group_sizes: Mapping[str, int],
    assumptions: Sequence[str],
) -> str:
    """One row per leaf and one column per axis; each group has a colour chip before its name."""
    colours = {key: OKABE_ITO[i % len(OKABE_ITO)] for i, key in enumerate(permutations)}
    num_columns = max(map(len, entries.values()), default=0)
    header = "".join(f"<th>axis {axis}</th>" for axis in range(num_columns))
    rows = "".join(
        f"<tr><td><code>{texts.as_html(path)}</code></td>"
        + "".join(f"<td>{_cell(entry, colours)}</td>" for entry in leaf)
        + "<td></td>" * (num_columns - len(leaf))
        + "</tr>"
        for path, leaf in entries.items()
    )
    sizes = texts.as_html(_sizes_text(group_sizes))
    conditions = "".join(texts.as_html(f"only if {text}; ") for text in assumptions)
    return (
        f"<p>{len(permutations)} permutations{sizes}; {conditions}one column per axis:</p>"
        f"<table><tr><th>parameter</th>{header}</tr>{rows}</table>"
    )


def sentence(path: str, axis: int, entry: axes.Entry | None, moved: Mapping[str, Places]) -> str:
    """A sentence with the permutations of one axis, and the axes that move with it."""
    groups = [key for key in dict.fromkeys(g.key for g in axes.groups_in(entry)) if key in moved]
    if not groups:
        return f"No permutation moves axis {axis} of '{path}'."
    clauses = "; ".join(_clause(key, (path, axis), moved[key]) for key in groups)
    return f"Axis {axis} of '{path}' is '{axes.format_entry(entry)}': {clauses}."


def _clause(key: str, here: tuple[str, int], moved: Places) -> str:
    others = [f"'{path}' axis {axis}" for path, axis in moved if (path, axis) != here]
    if len(others) > MAX_PLACES:
        others = [*others[:MAX_PLACES], f"{len(others) - MAX_PLACES} more"]
    parents = axes.parse_group(key).parents
    own = f", one for every slot of {' and '.join(parents)}," if parents else ""
    return f"permutation '{key}'{own} moves it" + (
        f" together with {', '.join(others)}" if others else " and nothing else"
    )


def _sizes_text(group_sizes: Mapping[str, int]) -> str:
    sizes = ", ".join(f"{name} = {size}" for name, size in group_sizes.items())
    return f" ({sizes})" if sizes else ""


def _cell(entry: axes.Entry | None, colours: Mapping[str, str]) -> str:
    if entry is None:
        return "&ndash;"

    def write(group: axes.Group) -> str:
        name = texts.as_html(group.key)
        return _chip(colours[group.key]) + name if group.key in colours else name

    return axes.format_entry(entry, write)


def _chip(colour: str) -> str:
    # The border has the colour of the text, so that a pale chip is visible on a white page.
    return (
        '<span style="display:inline-block;width:.7em;height:.7em;margin-right:.3em;'
        f'border:1px solid currentColor;background:{colour}"></span>'
    )
