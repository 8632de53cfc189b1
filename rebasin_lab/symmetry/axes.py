"""The grammar of axis entries: parse, format, and compute lengths.

An axis entry of a `PermutationSpec` is None (no permutation moves the axis) or a text:

    sum := product ("+" product)* | product "(" places ")" ("+" product "(" places ")")*
    product := factor ("*" factor)*;  factor := INTEGER | NAME | "(" sum ")"
    places := range ("," range)*;  range := POSITION | START ":" STOP | START ":" STOP ":" STEP

A name is a group of units with one permutation. A sum is a concatenation, a product is row-major
(the first factor is the slowest, as in `numpy.reshape`), an integer is a block that never moves.
Where the blocks do not lie end to end, each lists the positions of its units, in ascending order:
"P_0(0:8:2)+P_1(1:8:2)" alternates between two groups of 4, as after a channel shuffle, and
"P_0(0:2,6:8)+P_1(2:6)" has one group on both sides of another, as padded channels are.
So "16*P_0" is a flattened convolution, "P_0+P_1" a concatenation, "h*d" heads times dimensions.
"d[h]" is a group that varies along its parent h, with a permutation of its own for every slot of h,
as the dimensions of attention heads have; "#0" is an axis that never moves and has a
name only so that others can vary along it.

This module owns the normal form of an entry: no spaces, no redundant brackets, adjacent integers
combined. `indexing` defines how permutations act on it.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence

from rebasin_lab import checks

_WORD = r"[^\s*+()\[\],]+"
MAX_POSITIONS = 10**6  # in an entry, which may come from a file
MAX_DIGITS = 18  # so that a size is an integer of 64 bits
_TOKEN = re.compile(rf"{_WORD}|[*+()\[\],]")


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A block of `size` positions that no permutation moves."""

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
        """True for a "#" name, an axis that never moves."""
        return self.base.startswith("#")


@dataclasses.dataclass(frozen=True)
class Product:
    """Factors in row-major order, the first the slowest. Made by `product_of`."""

    factors: tuple["Entry", ...]


@dataclasses.dataclass(frozen=True)
class Sum:
    """Blocks one after the other. Made by `sum_of`."""

    terms: tuple["Entry", ...]


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Blocks whose units lie at given positions of the axis. Made by `arrangement_of`.

    Attributes:
        terms: the blocks.
        positions: for each block the positions of its units, ascending.
    """

    terms: tuple["Entry", ...]
    positions: tuple[tuple[int, ...], ...]


Entry = Fixed | Group | Product | Sum | Arrangement
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


def arrangement_of(terms: Sequence[Entry], positions: Sequence[Sequence[int]]) -> Entry:
    """The entry with each block at its positions in normal form; a sum if they are end to end.

    Raises:
        ValueError: if the positions of a block do not ascend, or those of all are not 0, 1, 2, ...
    """
    placed: list[tuple[Entry, tuple[int, ...]]] = []
    for term, at in zip(terms, positions, strict=True):
        if isinstance(term, Arrangement):
            parts = zip(term.terms, term.positions, strict=True)
            placed += [(part, tuple(at[i] for i in inside)) for part, inside in parts]
        else:
            placed.append((term, tuple(at)))
    _check_positions(placed)
    still = sorted(i for term, at in placed if isinstance(term, Fixed) for i in at)
    runs = [(Fixed(len(run)), tuple(run)) for run in _ranges(still, max_step=1)]
    moving = [pair for pair in placed if not isinstance(pair[0], Fixed)]
    blocks = sorted([*moving, *runs], key=lambda pair: pair[1][0])
    if all(at[-1] - at[0] == len(at) - 1 for _, at in blocks):
        return sum_of([term for term, _ in blocks])
    if still:
        blocks = [*moving, (Fixed(len(still)), tuple(still))]
    blocks.sort(key=lambda pair: pair[1][0])
    return Arrangement(*(tuple(column) for column in zip(*blocks, strict=True)))


def _check_positions(placed: Sequence[tuple[Entry, tuple[int, ...]]]) -> None:
    for _, at in placed:
        if not at or any(after <= before for before, after in itertools.pairwise(at)):
            raise ValueError(
                f"Expected positions that ascend, at least one; got {str(list(at))[:100]}."
            )
    every = sorted(i for _, at in placed for i in at)
    if every != list(range(len(every))):
        raise ValueError(
            f"Expected each position from 0 to {len(every) - 1} in one block; got "
            f"{', '.join(_format_positions(at, max(every) + 1) for _, at in placed)}."
        )
    for term, at in placed:
        if isinstance(term, Fixed) and term.size != len(at):
            raise ValueError(f"Expected {term.size} positions of a block as long; got {len(at)}.")


def _ranges(positions: Sequence[int], max_step: int | None = None) -> list[range]:
    """Ascending positions as a few ranges, greedily; two positions alone do not define a step."""
    ranges, start = [], 0
    while start < len(positions):
        step = positions[start + 1] - positions[start] if start + 1 < len(positions) else 1
        end = start + 1
        if max_step is None or step <= max_step:
            while end < len(positions) and positions[end] - positions[end - 1] == step:
                end += 1
        if step > 1 and end - start == 2:
            end = start + 1
        ranges.append(range(positions[start], positions[end - 1] + 1, step))
        start = end
    return ranges


def _format_positions(positions: Sequence[int], length: int) -> str:
    """Positions on an axis of some length as the fewest ranges."""

    def text(run: range) -> str:
        if len(run) == 1:
            return str(run.start)
        ends = f"{run.start}:{min(run[-1] + run.step, length)}"
        return ends if run.step == 1 else f"{ends}:{run.step}"

    return ",".join(map(text, _ranges(positions)))


def _merge_fixed(parts: list[Entry], combine: Callable) -> list[Entry]:
    runs = itertools.groupby(parts, key=lambda part: isinstance(part, Fixed))
    return [
        part
        for is_fixed, run in runs
        for part in ([Fixed(combine(block.size for block in run))] if is_fixed else run)
    ]


@functools.lru_cache(maxsize=4096)
@checks.arguments
def parse_entry(text: str) -> Entry:
    """The structure of one axis entry, in normal form.

    Raises:
        ValueError: if the text does not follow the grammar, saying where.
    """
    reader = _Reader(text)
    try:
        entry = reader.read_sum()
    except RecursionError:
        raise ValueError(
            f"Expected fewer brackets inside each other; got {text[:40]!r}..."
        ) from None
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
        entry: in normal form, as from `parse_entry`, `product_of` or `sum_of`.
        write_group: the text of a group, by default its key.
    """
    match entry:
        case Fixed():
            return str(entry.size)
        case Group():
            return write_group(entry)
        case Product():
            return "*".join(_within(factor, write_group, Sum) for factor in entry.factors)
        case Sum():
            return "+".join(_within(term, write_group) for term in entry.terms)
        case Arrangement():
            texts = [_within(term, write_group, Sum) for term in entry.terms]
            length = sum(map(len, entry.positions))
            places = [_format_positions(at, length) for at in entry.positions]
            return "+".join(f"{t}({at})" for t, at in zip(texts, places, strict=True))


def _within(part: Entry, write_group: Callable[[Group], str], *bracketed: type) -> str:
    """The text of a part of an entry, in brackets where needed."""
    text = format_entry(part, write_group)
    return f"({text})" if isinstance(part, (Arrangement, *bracketed)) else text


def format_entries(entries: Entries) -> tuple[str | None, ...]:
    """The entries of an array as texts or None."""
    return tuple(None if entry is None else format_entry(entry) for entry in entries)


class _Reader:
    """Recursive descent over the tokens of one entry."""

    def __init__(self, text: str):
        self.text, self.tokens, self.at = text, list(_TOKEN.finditer(text)), 0
        self.num_positions = 0

    @property
    def next(self) -> str | None:
        return self.tokens[self.at].group() if self.at < len(self.tokens) else None

    def error(self, expected: str) -> ValueError:
        if self.next is None:
            return ValueError(f"Expected {expected} at the end of {checks.shortened(self.text)}.")
        column = self.tokens[self.at].start()
        return ValueError(
            f"Expected {expected} at character {column} of {checks.shortened(self.text)}; got "
            f"{checks.shortened(self.next)}. "
            "An entry is like 'P_0', '16*P_0', 'P_0+P_1' or 'P_2[P_1]'."
        )

    def accept(self, token: str) -> bool:
        is_next = self.next == token
        self.at += is_next
        return is_next

    def take(self, expected: str, pattern: str) -> str:
        if self.next is None or not re.fullmatch(pattern, self.next):
            raise self.error(expected)
        self.at += 1
        return self.tokens[self.at - 1].group()

    def read_sum(self) -> Entry:
        terms, places = [], []
        while not terms or self.accept("+"):
            terms.append(self.read_product())
            if self.accept("("):
                places.append(self.read_places())
            if places and len(places) < len(terms):
                raise self.error("'(' and positions, which every block has or none,")
        return arrangement_of(terms, places) if places else sum_of(terms)

    def read_places(self) -> list[int]:
        places: list[int] = []
        while not places or self.accept(","):
            word = self.take("positions such as 3, 0:4 or 0:8:2", r"[0-9]+(:[0-9]+){0,2}")
            first, *rest = map(self.number, word.split(":"))
            if 0 in rest[1:]:
                raise ValueError(f"Expected a step of at least one; got '{word}' in {self.text!r}.")
            run = range(first, *rest) if rest else range(first, first + 1)
            self.num_positions += len(run)
            if self.num_positions > MAX_POSITIONS:
                raise ValueError(
                    f"Expected at most {MAX_POSITIONS} positions; got more in {self.text!r}."
                )
            places += run
        self.take("',' or ')'", r"\)")
        return places

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
        return Fixed(self.number(word)) if re.fullmatch("[0-9]+", word) else self.read_group(word)

    def number(self, digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"Expected numbers of at most {MAX_DIGITS} digits; got {len(digits)}.")
        return int(digits)

    def read_group(self, base: str) -> Group:
        parents = []
        if self.accept("["):
            parents.append(self.take("the name of a parent", _WORD))
            while self.accept(","):
                parents.append(self.take("the name of a parent", _WORD))
            self.take("',' or ']'", r"\]")
        return Group(base, tuple(parents))


def groups_in(entry: Entry | None) -> tuple[Group, ...]:
    """Every occurrence of a group in an entry, in reading order; "#" names too."""
    match entry:
        case Group():
            return (entry,)
        case Product(factors=parts) | Sum(terms=parts) | Arrangement(terms=parts):
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
        case Arrangement():
            terms = [map_groups(term, replace) for term in entry.terms]
            return arrangement_of(terms, entry.positions)
    return entry


def factors_of(entry: Entry | None) -> tuple[Entry, ...]:
    """The factors of a product; of any other entry itself."""
    if entry is None:
        return ()
    return entry.factors if isinstance(entry, Product) else (entry,)


def total_size(entry: Entry, sizes: Mapping[str, int]) -> int:
    """The length of the axis, from the number of units of each group in it."""
    match entry:
        case Fixed():
            return entry.size
        case Group():
            if entry.key not in sizes:
                raise ValueError(f"Expected sizes of all groups; that of '{entry.key}' is missing.")
            return sizes[entry.key]
        case Product():
            return math.prod(total_size(factor, sizes) for factor in entry.factors)
        case Sum():
            return sum(total_size(term, sizes) for term in entry.terms)
        case Arrangement():
            return sum(map(len, entry.positions))
