"""Check arguments by the annotations of a signature, with errors that advise.

`@arguments` checks the arguments of a public function, and `fields` those of a record. Beartype
reads the same annotations in tests only; here a number must also be finite and in its `Range`, a
string is no list, and True is no number. Trees and arrays are checked by the functions themselves.
"""

import collections
import collections.abc
import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import os
import reprlib
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import jaxtyping
import numpy as np

MOST = 1_000_000_000  # of any whole number: a larger one is a typing error
MOST_SEED = 2**63 - 1  # NumPy's generators take more, JAX's keys do not


@dataclasses.dataclass(frozen=True)
class Range:
    """The limits of a number: `least` and `most` included, `above` excluded."""

    least: int | float = -math.inf
    most: int | float = math.inf
    above: int | float = -math.inf

    def holds(self, value: Any) -> bool:
        """True if the value lies within the limits."""
        return bool(self.least <= value <= self.most and value > self.above)

    def described(self, kind: str) -> str:
        """The limits in words, with those of the type."""
        if self.above == 0 or (self.least == 1 and self.most == MOST):
            return f"a positive {kind.split()[-1]}"
        if self.most in (math.inf, MOST, MOST_SEED):
            return f"{kind} of at least {self.least:,}"
        return f"{kind} from {self.least:,} to {self.most:,}"


Seed = Annotated[int | np.integer, Range(0, MOST_SEED)]
Natural = Annotated[int, Range(0, MOST)]
Count = Annotated[int, Range(1, MOST)]
Points = Annotated[int, Range(2, MOST)]  # on a line, both ends included
Positive = Annotated[int | float, Range(above=0)]
Fraction = Annotated[int | float, Range(0, 1)]
Minority = Annotated[int | float, Range(0, 0.5)]
NotNegative = Annotated[int | float, Range(0, MOST)]

# The functions that make values of these types.
_SOURCES = {
    "Dataset": "load_dataset",
    "Exploration": "explore_pair",
    "HasStatistics": "build_model, or write a class with both around a function",
    "InterpolationCurve": "interpolation_curve",
    "MatchingResult": "match",
    "Model": "build_model",
    "Pair": "load_pair",
    "PermutationSpec": "infer_permutation_spec",
    "Profile": "get_profile",
}


Function = TypeVar("Function", bound=Callable)


def arguments(fn: Function) -> Function:
    """Decorate a function to check its arguments by its annotations.

    Raises:
        ValueError: when called with another kind of argument, naming it.
    """
    signature = inspect.signature(fn)

    @functools.wraps(fn)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            given = {}  # the call below raises the error
        hints = _hints(fn)
        for name, value in given.items():
            hint, kind = hints.get(name, Any), signature.parameters[name].kind
            several = value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
            if kind is not inspect.Parameter.VAR_POSITIONAL:
                for each, one in several.items():
                    argument(each, one, hint, fn.__name__, arrays=_is_array(hint))
        return fn(*args, **kwargs)

    return checked


def renamed(**names: str) -> Callable[[Function], Function]:
    """Decorate a function to take arguments by their old names too, for one release, and warn."""

    def decorated(fn: Function) -> Function:
        @functools.wraps(fn)
        def called(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old in kwargs and new not in kwargs:
                    message = f"The argument {old} of {fn.__name__} is called {new} now."
                    warnings.warn(message, DeprecationWarning, stacklevel=2)
                    kwargs[new] = kwargs.pop(old)
            return fn(*args, **kwargs)

        return called

    return decorated


def fields(record: Any) -> None:
    """Check the fields of a dataclass by their annotations, arrays also by type and shape.

    Raises:
        ValueError: for a field that does not fit its annotation, naming it.
    """
    where, hints = type(record).__name__, _hints(type(record))
    sizes: dict[str, tuple[str, int]] = {}
    for field in dataclasses.fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        argument(field.name, value, hint, where, arrays=True)
        if _is_array(hint):
            for dim, size in zip(hint.dim_str.split(), value.shape, strict=True):
                other, wanted = sizes.setdefault(dim, (field.name, size))
                if size != wanted and dim.isidentifier():
                    raise ValueError(
                        f"Expected {field.name} to have as many {dim} as {other}, {wanted}; got "
                        f"{size} in {where}."
                    )


def argument(name: str, value: Any, hint: Any, where: str, *, arrays: bool = False) -> None:
    """Check one value by an annotation.

    Args:
        name: of the argument.
        value: the value.
        hint: an annotation, such as `Count` or `Literal["train", "test"]`.
        where: the name of the function.
        arrays: whether annotations of arrays are checked.

    Raises:
        ValueError: if it does not fit.
    """
    if not _fits(value, hint, arrays):
        name, value, hint = _misfit(name, value, hint, arrays)
        _refuse(name, value, _described(hint), where, _next_step(value, hint))


def choice(name: str, value: Any, known: Iterable[str], where: str) -> None:
    """Check that a name is known.

    Raises:
        ValueError: if not, listing the known names and the nearest.
    """
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        near = near_matches(value, known) if isinstance(value, str) else ""
        listed = list(known)
        if len(known) > 25:
            listed = f"{listed[:5]} and {len(known) - 5} others"
        raise ValueError(
            f"Expected {name} among {listed}; got {shortened(value)} in {where}{near}."
        )


def options(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that names of keyword arguments are known; `what` names them in the plural.

    Raises:
        ValueError: if not, naming the first unknown one, all known ones, and the nearest.
    """
    known = tuple(known)
    for name in given:
        if name not in known:
            raise ValueError(
                f"Expected {what}, {list(known)}; got {shortened(name)}{near_matches(name, known)}."
            )


class Registry(collections.UserDict):
    """A table of records of one class by name, to which a caller may add.

    Args:
        kind: the class of the records.
        records: the lab's own.
        reserved: names with another meaning.

    Raises:
        ValueError: when a value is no record, or a name is reserved.
    """

    def __init__(self, kind: type, records: Mapping[str, Any], *, reserved: Collection[str] = ()):
        self._kind, self._reserved = kind, reserved
        super().__init__(records)
        self._first = dict(self.data)

    def is_own(self, name: str) -> bool:
        """True if a caller added or replaced the record of this name."""
        return self.data[name] is not self._first.get(name)

    def __setitem__(self, name: str, record: Any) -> None:
        kind = self._kind.__name__
        argument("a name", name, str, f"the table of {kind} records")
        if name in self._reserved:
            raise ValueError(
                f"Expected another name for {_described(self._kind)}; '{name}' stands for none."
            )
        if not isinstance(record, self._kind):
            raise ValueError(
                f"Expected {_described(self._kind)} under the name {shortened(name)}; got "
                f"{shortened(record)}. Write {kind}(...) around it."
            )
        super().__setitem__(name, record)


def near_matches(name: str, known: Iterable[str]) -> str:
    """Similar names as the end of a sentence; "" if there are none."""
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower)]
    return f" (do you mean {' or '.join(near)}?)" if near else ""


def shortened(value: Any) -> str:
    """A value for an error message: on one short line; only the type of a large value."""
    if isinstance(value, np.generic):
        value = value.item()
    if _is_small(value):
        text = _SHORT.repr(value)
        return text if text.isprintable() else ascii(text)[1:-1]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of {value.dtype}, shape {tuple(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return f"the function {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def _is_small(value: Any, most_depth: int = 3) -> bool:
    if isinstance(value, list | tuple | set | frozenset | dict):
        inner = [*value, *value.values()] if isinstance(value, dict) else list(value)[:7]
        return len(inner) < 14 and all(
            isinstance(one, _PLAIN)
            or (most_depth and isinstance(one, list | tuple) and _is_small(one, most_depth - 1))
            for one in inner
        )
    return value is ... or isinstance(value, _PLAIN)


_PLAIN = (str, bytes, numbers.Number, type(None), Path)


def _refuse(name: str, value: Any, wanted: str, where: str, advice: str) -> NoReturn:
    raise ValueError(f"Expected {name} to be {wanted}; got {shortened(value)} in {where}{advice}.")


@functools.cache
def _hints(annotated: Any) -> dict[str, Any]:
    return typing.get_type_hints(inspect.unwrap(annotated), include_extras=True)


def _fits(value: Any, hint: Any, arrays: bool = False) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if _is_array(hint):
        return not arrays or isinstance(value, hint)
    if origin is Annotated:
        base, *limits = inner
        return _fits(value, base, arrays) and all(limit.holds(value) for limit in limits)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one, arrays) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if hint in _KINDS:
        return _KINDS[hint](value)
    if origin is tuple or hint is tuple:
        return isinstance(value, list | tuple) and _items_fit(value, inner, arrays)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return isinstance(value, Mapping) and (
            not inner
            or all(_fits(k, inner[0]) and _fits(v, inner[1], arrays) for k, v in value.items())
        )
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        is_array = hasattr(value, "shape") and len(value.shape) > 0
        is_list = isinstance(value, collections.abc.Sequence) and not isinstance(value, str | bytes)
        return (is_list or is_array) and all(_fits(one, inner[0], arrays) for one in value)
    if origin in (collections.abc.Collection, collections.abc.Iterable):
        fits = isinstance(value, origin) and not isinstance(value, str | bytes | Mapping)
        return fits and (
            not isinstance(value, Collection) or all(_fits(one, inner[0]) for one in value)
        )
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    return not isinstance(hint, type) or hint.__module__ == "jaxtyping" or isinstance(value, hint)


def _misfit(name: str, value: Any, hint: Any, arrays: bool) -> tuple[str, Any, Any]:
    """The part of a value that does not fit: its name, the part, and its annotation."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for one in inner:
            found = _misfit(name, value, one, arrays)
            if found[0] != name:
                return found
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        for key, one in value.items():
            if not _fits(key, inner[0]):
                return f"every key of {name}", key, inner[0]
            if not _fits(one, inner[1], arrays):
                return _misfit(f"{name}[{shortened(key)}]", one, inner[1], arrays)
    elif _wants_items(origin) and isinstance(value, list | tuple):
        if origin is not tuple or inner[1:] == (...,):
            for index, one in enumerate(value):
                if not _fits(one, inner[0], arrays):
                    return _misfit(f"{name}[{index}]", one, inner[0], arrays)
    return name, value, hint


def _is_number(kind: type) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    )


_KINDS: dict[Any, Callable[[Any], bool]] = {
    Any: lambda value: True,
    object: lambda value: True,
    bool: lambda value: isinstance(value, bool | np.bool_),
    int: _is_number(numbers.Integral),
    np.integer: _is_number(np.integer),
    float: _is_number(numbers.Real),
    None: lambda value: value is None,
    type(None): lambda value: value is None,
    Path: lambda value: isinstance(value, Path),
    os.PathLike: lambda value: isinstance(value, os.PathLike),
}
_NUMBERS = {2: "two", 3: "three"}
_WORDS = {
    bool: "true or false",
    int: "an int",
    np.integer: "an int",
    float: "a number",
    str: "a text",
    type(None): "None",
    Any: "anything",
    dict: "a dict",
    Path: "a pathlib.Path",
}
_PROTOCOLS = {"HasStatistics": "a model with statistics_paths and apply_training"}


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _items_fit(values: Collection[Any], inner: tuple[Any, ...], arrays: bool) -> bool:
    if inner[1:] == (...,):
        return all(_fits(one, inner[0], arrays) for one in values)
    return not inner or (
        len(values) == len(inner)
        and all(_fits(one, hint, arrays) for one, hint in zip(values, inner, strict=True))
    )


def _described(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if _is_array(hint):
        array = "a NumPy array" if issubclass(hint.array_type, np.ndarray) else "an array"
        return f"{array} of {hint.__name__.split('[')[0].lower()}, shape [{hint.dim_str.strip()}]"
    if origin is Annotated:
        described = _described(inner[0])
        for limit in inner[1:]:
            described = limit.described(described)
        return described
    if origin in (typing.Union, types.UnionType):
        kinds = inner if float not in inner else [one for one in inner if one is not int]
        texts = dict.fromkeys(map(_described, kinds))
        # None first, where it could be taken for an item of a list.
        return " or ".join(sorted(texts, key=lambda text: "," in text))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is tuple and inner[1:] != (...,):
        each = " or ".join(dict.fromkeys(map(_described, inner)))
        _, kind, *rest = f"{each} ".split(" ", 2)
        return f"{_NUMBERS.get(len(inner), len(inner))} {kind}s {' '.join(rest)}".strip()
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        plain = not inner or inner[1] is Any
        return "a dict" if plain else f"a dict, each value {_described(inner[1])}"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        return f"a list, each item {_described(inner[0])}"
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return "a function"
    name = getattr(hint, "__name__", "")
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    if name == "PyTree" or isinstance(hint, typing.TypeVar):
        return "a tree of arrays"
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _next_step(value: Any, hint: Any) -> str:
    """Advice as the end of a sentence or a sentence after it; "" if there is none."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        most = min(limit.most for limit in inner[1:])
        if _fits(value, inner[0]) and most in (MOST, MOST_SEED) and value > most:
            return f". At most {most:,} will do"
        return _next_step(value, inner[0])
    if origin is Literal and isinstance(value, str):
        return near_matches(value, inner)
    if origin in (typing.Union, types.UnionType):
        return next(filter(None, (_next_step(value, one) for one in inner)), "")
    if _wants_items(origin):
        if isinstance(value, str) and _fits(value, inner[0]):
            return f". Write [{value!r}]"
        is_iterator = isinstance(value, collections.abc.Iterator)
        return ". Write list(...) around it" if is_iterator else ""
    if hint is Path and isinstance(value, str):
        return ". Write pathlib.Path(...) around it"
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return ". Pass its method apply" if callable(getattr(value, "apply", None)) else ""
    source = _SOURCES.get(getattr(hint, "__name__", ""))
    return f". Take one from {source}" if source else ""


def _wants_items(origin: Any) -> bool:
    return origin in (
        tuple,
        collections.abc.Sequence,
        collections.abc.Collection,
        collections.abc.Iterable,
    )
