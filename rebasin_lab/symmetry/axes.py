"""What one axis of a parameter holds: a small grammar, read, written and measured.

An axis entry of a `PermutationSpec` is None (nothing moves it) or a text:

    sum := product ("+" product)*;  product := factor ("*" factor)*
    factor := INTEGER | NAME | "(" sum ")"

A name is a group of units with one permutation. A sum is a concatenation, a product is row-major
(the first factor is the slowest, as in `numpy.reshape`), an integer is a block that stays as it is.
So "16*P_0" is a flattened convolution, "P_0+P_1" a concatenation, "h*d" heads times dimensions.
"d[h]" is a group that varies along its parent h, with a permutation of its own for every slot of h,
as the dimensions of attention heads have; "#0" is an axis that never moves and is named only so
that others can vary along it.

This module owns the normal form of an entry: no spaces, no needless brackets, neighbouring integers
worked out. `indexing` says how permutations act on it.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence

_WORD = r"[^\s*+()\[\],]+"
_TOKEN = re.compile(rf"{_WORD}|[*+()\[\],]")


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A block of `size` entries that no permutation moves."""

    size: int

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"Expected a block of at least one entry; got {self.size}.")


@dataclasses.dataclass(frozen=True)
class Group:
    """The units of one permutation or, given parents, of one for every slot of the parents."""

    base: str
    parents: tuple[str, ...] = ()

    def __post_init__(self):
        for name in (self.base, *self.parents):
            if not re.fullmatch(_WORD, name) or re.fullmatch("[0-9]+", name):
                raise ValueError(
                    "Expected a name without spaces, brackets, commas, '*' and '+' that is no "
                    f"number; got {name!r}."
                )
        if self.parents and self.is_fixed:
            raise ValueError(f"Expected '{self.base}', which never moves, without [...].")
        if len({self.base, *self.parents}) <= len(self.parents):
            raise ValueError(f"Expected different names in '{self.key}': no group varies along it.")

    @property
    def key(self) -> str:
        """The name in every dict: "P_0", or "P_2[P_1]" with its parents."""
        return f"{self.base}[{','.join(self.parents)}]" if self.parents else self.base

    @property
    def is_fixed(self) -> bool:
        """Whether this is a "#" name, an axis that never moves."""
        return self.base.startswith("#")


@dataclasses.dataclass(frozen=True)
class Product:
    """Factors in row-major order, the first the slowest. Made by `product_of`."""

    factors: tuple["Entry", ...]


@dataclasses.dataclass(frozen=True)
class Sum:
    """Blocks one after the other. Made by `sum_of`."""

    terms: tuple["Entry", ...]


Entry = Fixed | Group | Product | Sum
Entries = tuple[Entry | None, ...]


def product_of(factors: Sequence[Entry]) -> Entry:
    """The row-major product in normal form; it need not be a `Product`."""
    flat = [g for f in factors for g in (f.factors if isinstance(f, Product) else (f,))]
    merged = [f for f in _merge_fixed(flat, math.prod) if f != Fixed(1)]
    return Product(tuple(merged)) if len(merged) > 1 else (*merged, Fixed(1))[0]


def sum_of(terms: Sequence[Entry]) -> Entry:
    """The concatenation of at least one term in normal form; it need not be a `Sum`."""
    flat = [u for t in terms for u in (t.terms if isinstance(t, Sum) else (t,))]
    merged = _merge_fixed(flat, sum)
    return Sum(tuple(merged)) if len(merged) > 1 else merged[0]


def _merge_fixed(parts: list[Entry], combine: Callable) -> list[Entry]:
    runs = itertools.groupby(parts, key=lambda part: isinstance(part, Fixed))
    return [
        part
        for is_fixed, run in runs
        for part in ([Fixed(combine(block.size for block in run))] if is_fixed else run)
    ]


@functools.lru_cache(maxsize=4096)
def parse_entry(text: str) -> Entry:
    """The structure of one axis entry, in normal form.

    Raises:
        ValueError: if the text does not follow the grammar, saying where.
    """
    reader = _Reader(text)
    entry = reader.read_sum()
    if reader.next is not None:
        raise reader.error("'*', '+' or the end")
    return entry


def parse_group(key: str) -> Group:
    """The group with this key, such as "P_0" or "P_2[P_1]"."""
    entry = parse_entry(key)
    if not isinstance(entry, Group):
        raise ValueError(f"Expected the name of one group, such as 'P_0' or 'd[h]'; got {key!r}.")
    return entry


def format_entry(
    entry: Entry, write_group: Callable[[Group], str] = lambda group: group.key
) -> str:
    """The text of an entry; `parse_entry` reads it back.

    Args:
        entry: what `parse_entry`, `product_of` or `sum_of` returned, or a group or block.
        write_group: what to write for a group, in place of its key.
    """
    match entry:
        case Fixed():
            return str(entry.size)
        case Group():
            return write_group(entry)
        case Product():
            texts = [(factor, format_entry(factor, write_group)) for factor in entry.factors]
            return "*".join(f"({t})" if isinstance(factor, Sum) else t for factor, t in texts)
        case Sum():
            return "+".join(format_entry(term, write_group) for term in entry.terms)


def format_entries(entries: Entries) -> tuple[str | None, ...]:
    """The axes of one array as a spec shows them: None or a text each."""
    return tuple(None if entry is None else format_entry(entry) for entry in entries)


class _Reader:
    """Recursive descent over the tokens of one entry."""

    def __init__(self, text: str):
        self.text, self.tokens, self.at = text, list(_TOKEN.finditer(text)), 0

    @property
    def next(self) -> str | None:
        return self.tokens[self.at].group() if self.at < len(self.tokens) else None

    def error(self, expected: str) -> ValueError:
        if self.next is None:
            return ValueError(f"Expected {expected} at the end of {self.text!r}.")
        column = self.tokens[self.at].start()
        return ValueError(
            f"Expected {expected} at character {column} of {self.text!r}; got {self.next!r}. "
            "An entry is like 'P_0', '16*P_0', 'P_0+P_1' or 'P_2[P_1]'."
        )

    def accept(self, token: str) -> bool:
        found = self.next == token
        self.at += found
        return found

    def take(self, expected: str, pattern: str) -> str:
        if self.next is None or not re.fullmatch(pattern, self.next):
            raise self.error(expected)
        self.at += 1
        return self.tokens[self.at - 1].group()

    def read_sum(self) -> Entry:
        terms = [self.read_product()]
        while self.accept("+"):
            terms.append(self.read_product())
        return sum_of(terms)

    def read_product(self) -> Entry:
        factors = [self.read_factor()]
        while self.accept("*"):
            factors.append(self.read_factor())
        return product_of(factors)

    def read_factor(self) -> Entry:
        if self.accept("("):
            inside = self.read_sum()
            self.take("')'", r"\)")
            return inside
        word = self.take("a name, a number or '('", _WORD)
        return Fixed(int(word)) if re.fullmatch("[0-9]+", word) else self.read_group(word)

    def read_group(self, base: str) -> Group:
        parents = []
        if self.accept("["):
            parents.append(self.take("the name of a parent", _WORD))
            while self.accept(","):
                parents.append(self.take("the name of a parent", _WORD))
            self.take("',' or ']'", r"\]")
        return Group(base, tuple(parents))


def groups_in(entry: Entry | None) -> tuple[Group, ...]:
    """Every group of an entry in reading order, as often as it occurs; "#" names too."""
    match entry:
        case Group():
            return (entry,)
        case Product(factors=parts) | Sum(terms=parts):
            return tuple(group for part in parts for group in groups_in(part))
    return ()


def map_groups(entry: Entry, replace: Callable[[Group], Entry]) -> Entry:
    """The entry with every group replaced, in normal form."""
    match entry:
        case Group():
            return replace(entry)
        case Product():
            return product_of([map_groups(factor, replace) for factor in entry.factors])
        case Sum():
            return sum_of([map_groups(term, replace) for term in entry.terms])
    return entry


def factors_of(entry: Entry | None) -> tuple[Entry, ...]:
    """The factors of a product, and an entry of any other kind alone."""
    if entry is None:
        return ()
    return entry.factors if isinstance(entry, Product) else (entry,)


def total_size(entry: Entry, sizes: Mapping[str, int]) -> int:
    """The length of the axis, from the number of units of each group in it."""
    match entry:
        case Fixed():
            return entry.size
        case Group():
            return sizes[entry.key]
        case Product():
            return math.prod(total_size(factor, sizes) for factor in entry.factors)
        case Sum():
            return sum(total_size(term, sizes) for term in entry.terms)
