"""The cache of results of the lab's pure functions, on disk.

    curve = rl.cached(rl.interpolation_curve, model.apply, params_a, params_b, data)

is `rl.interpolation_curve(model.apply, params_a, params_b, data)`, read back if the same call was
made before. *The same* is every byte of every parameter and image, all options, the source of the
library and of the paper, packages, device, and JAX's settings, see `fingerprints`. So an entry is
never out of date, and may be deleted at any time.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from rebasin_lab import paths, texts
from rebasin_lab.matching import assignment
from rebasin_lab.paper import fingerprints, store
from rebasin_lab.training import checkpoints

T = TypeVar("T")

# Nothing above these imports them: they change no result.
_LATER = ("lab", "commands", "cli", "paper/claim", "paper/claims", "paper/sections")
_MODULES = tuple(
    f"{wing}{module.name}"
    for wing in ("", "paper/")
    for module in pkgutil.iter_modules([fingerprints.PACKAGE / wing])
    if f"{wing}{module.name}" not in (*_LATER, "paper")
)


def cached(fn: Callable[..., T], /, *args: Any, **options: Any) -> T:
    """Return the result of `fn(*args, **options)`, from the store if this call was made before.

    Args:
        fn: a function of the lab, without side effects that matter.
        *args: numbers, texts, arrays, trees of these, data sets, specs, functions of the lab's
            modules, and methods of its models, see `fingerprints.described`.
        **options: likewise; callbacks (`on_...`) do not count, and are not called for an entry.

    Returns:
        The result; arrays are NumPy's. Times in it are those of the first call.

    Raises:
        UnknownContentError: for an argument of another kind, a ValueError.
        ValueError: for a result of another kind.
    """
    call = _call(fn, args, options)
    path = cache_dir() / f"{call}.safetensors"
    try:
        return _read(path, call)
    except FileNotFoundError:
        pass
    except checkpoints.CheckpointError as error:
        warnings.warn(f"{error} It is computed again.", stacklevel=2)
    result = fn(*args, **options)
    arrays: dict[str, np.ndarray] = {}
    try:
        encoded = _encoded(result, arrays)
    except RecursionError:
        raise ValueError(
            "Expected a result that does not hold itself; got one that does."
        ) from None
    metadata = {"config": {"call": call}, "function": fingerprints.name_of(fn), "result": encoded}
    try:
        checkpoints.save(path, arrays, metadata)
    except (OSError, ValueError) as error:  # the result is worth more than its entry
        warnings.warn(f"{error} The result is not cached.", stacklevel=2)
    return _decoded(json.loads(json.dumps(encoded)), arrays)


def _read(path: Path, call: str) -> Any:
    """Return the result that an entry holds.

    Raises:
        FileNotFoundError: if there is no such entry.
        CheckpointError: if it is damaged, or another call's, or holds no result.
    """
    arrays, metadata = checkpoints.load(path, config={"call": call})
    try:
        return _decoded(metadata["result"], {str(name): array for name, array in arrays.items()})
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        reason = texts.in_a_line(f"{type(error).__name__}: {error}", 200)
        raise checkpoints.CheckpointError(
            f"The record '{path}' holds no result ({reason})."
        ) from error


def _call(fn: Callable, args: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """Return the name of a call's entry; a default counts as if it had been passed."""
    name = fingerprints.name_of(fn)
    counted = {name: value for name, value in options.items() if not name.startswith("on_")}
    bound = inspect.signature(fn).bind(*args, **counted)
    bound.apply_defaults()
    code = [
        name,
        _code_digest(),
        fingerprints.constants_digest(*_MODULES),
        fingerprints.computing_environment(),
    ]
    try:
        content = fingerprints.digest([*code, dict(bound.arguments)])
    except RecursionError:
        raise fingerprints.UnknownContentError(
            "Expected arguments that do not hold themselves; got one that does."
        ) from None
    return content[:32]


def cache_dir() -> Path:
    """Return the folder of cache entries, shared by all runs."""
    return paths.runs_dir() / "records"


@functools.cache
def _code_digest() -> str:
    """Return a digest of the code as it was loaded: later edits change nothing in this process."""
    files = fingerprints.loaded(*_MODULES)
    code = fingerprints.bytes_digest(fingerprints.PACKAGE, files)
    return fingerprints.digest([code, store.package_versions(), assignment.SOLVER])


def _encoded(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON, with its arrays put into `arrays`."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic() if isinstance(value.item(), bool | int | float | str):
            return value.item()
        case np.ndarray() | jax.Array() if _has_values(value):
            name = str(len(arrays))
            arrays[name] = np.asarray(value)
            return {"array": name}
        case bytes():
            return {"bytes": _encoded(np.frombuffer(value, np.uint8), arrays)["array"]}
        case tuple() if hasattr(value, "_fields"):
            return {"record": _class_name(value), "fields": _encoded(value._asdict(), arrays)}
        case list() | tuple():
            return {type(value).__name__: [_encoded(item, arrays) for item in value]}
        case Mapping() if all(isinstance(key, str | int) for key in value):
            return {"mapping": [[key, _encoded(item, arrays)] for key, item in value.items()]}
        case _ if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return {"record": _class_name(value), "fields": _encoded(fields, arrays)}
    raise ValueError(f"Expected a result of arrays, numbers and texts; got {type(value).__name__}.")


def _decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    match value:
        case {"array": name}:
            return arrays[name]
        case {"bytes": name}:
            return arrays[name].tobytes()
        case {"list": items}:
            return [_decoded(item, arrays) for item in items]
        case {"tuple": items}:
            return tuple(_decoded(item, arrays) for item in items)
        case {"mapping": items}:
            return {key: _decoded(item, arrays) for key, item in items}
        case {"record": name, "fields": fields}:
            return _record_class(name)(**_decoded(fields, arrays))
        case dict() | list():
            raise ValueError(f"Expected what stands for a result; got {value!r}.")
    return value


def _has_values(array: np.ndarray | jax.Array) -> bool:
    """Return False for keys, which NumPy has no type for, and for masks, which it would drop."""
    is_masked = isinstance(array, np.ma.MaskedArray)
    return not is_masked and not jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _record_class(name: str) -> type:
    """Return the dataclass or named tuple of the lab with this name; a file can load no other."""
    module, _, qualname = name.partition(":")
    kind = None
    if module.split(".")[0] == "rebasin_lab":
        kind = getattr(importlib.import_module(module), qualname, None)
    if not (isinstance(kind, type) and (dataclasses.is_dataclass(kind) or kind.__base__ is tuple)):
        raise checkpoints.CheckpointError(f"Expected a record of the lab's; it holds a '{name}'.")
    return kind
