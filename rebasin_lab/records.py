"""Results that are there already: what a pure function of the lab returned, kept in the store.

    curve = records.remembered(rl.interpolation_curve, model.apply, params_a, params_b, data)

is `rl.interpolation_curve(model.apply, params_a, params_b, data)`, read back if the same call was
made before. *The same* is taken strictly: every byte of every parameter, the data's digest, all
options, the source of all rooms above this one, and the versions of the packages that compute. So a
record is never out of date, and one that nobody asks for again may be deleted at any time.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from rebasin_lab import checkpoints, datasets, experiments, models, paths, pytrees
from rebasin_lab.matching import assignment
from rebasin_lab.symmetry import PermutationSpec

T = TypeVar("T")

_PACKAGE = Path(__file__).parent
# Rooms below this one: what is above cannot import them, so they change no result.
_LATER_ROOMS = (
    "exploration",
    "claims",
    "plots",
    "figures",
    "figure_export",
    "runs",
    "widgets",
    "lab",
    "execution",
    "report",
    "runner",
    "cli",
)


def remembered(fn: Callable[..., T], /, *args: Any, **options: Any) -> T:
    """The result of `fn(*args, **options)`, from the store if this call was made before.

    Args:
        fn: a function of the lab, without side effects that matter.
        *args: numbers, texts, arrays, trees and dataclasses of these, data sets, specs, functions
            of modules, and methods of models.
        **options: likewise; callbacks (`on_...`) do not count, and are not called for a record.

    Returns:
        The result; arrays are NumPy's. Times in it are those of the call that was made.

    Raises:
        ValueError: for an argument, or a result, of another kind.
    """
    counted = {name: value for name, value in options.items() if not name.startswith("on_")}
    call = [_name_of(fn), _code_digest(), *_described([list(args), counted])]
    path = (
        records_dir() / f"{hashlib.sha256(json.dumps(call).encode()).hexdigest()[:32]}.safetensors"
    )
    try:
        arrays, metadata = checkpoints.load(path)
        return _decoded(metadata["result"], pytrees.flatten(arrays))
    except FileNotFoundError:
        pass
    except checkpoints.CheckpointError as error:
        warnings.warn(f"{error} It is computed again.", stacklevel=2)
    result = fn(*args, **options)
    arrays: dict[str, np.ndarray] = {}
    encoded = _encoded(result, arrays)
    try:
        checkpoints.save(path, arrays, {"function": _name_of(fn), "result": encoded})
    except OSError as error:  # the result is worth more than its record
        warnings.warn(f"{error} The result is not kept.", stacklevel=2)
    return _decoded(json.loads(json.dumps(encoded)), arrays)


def records_dir() -> Path:
    """Where records are kept, shared by all runs."""
    return paths.runs_dir() / "records"


@functools.cache
def _code_digest() -> str:
    with_what = {
        **experiments.package_versions(),
        "backend": jax.default_backend(),
        "assignment": assignment.SOLVER,
    }
    digest = hashlib.sha256(json.dumps(with_what, sort_keys=True).encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        place = path.relative_to(_PACKAGE)
        if place.parts[0].removesuffix(".py") not in _LATER_ROOMS:
            digest.update(place.as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _described(value: Any) -> Iterator[str]:
    """Texts that two values share only if they are the same."""
    match value:
        case None | bool() | int() | float() | str():
            yield f"{type(value).__name__} {value!r}"
        case np.ndarray() | np.generic() | jax.Array():
            array = np.asarray(value)
            content = hashlib.sha256(array.tobytes()).hexdigest()
            yield f"array {array.dtype} {array.shape} {content}"
        case datasets.Dataset():
            yield f"data {value.digest}"
        case PermutationSpec():
            yield f"spec {value.to_json()}"
        case types.MethodType(__self__=models.Model() as model):
            yield f"{value.__name__} of"
            yield from _described(dataclasses.asdict(model))
        case types.FunctionType():
            yield f"function {_name_of(value)}"
        case Mapping():
            yield f"mapping of {len(value)}"
            for key, item in value.items():
                yield f"{key!r}"
                yield from _described(item)
        case list() | tuple():
            yield f"{type(value).__name__} of {len(value)}"
            for item in value:
                yield from _described(item)
        case _ if dataclasses.is_dataclass(value):
            yield f"{type(value).__qualname__}"
            yield from _described(
                {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            )
        case _:
            raise ValueError(
                f"Expected arguments that can be told apart when they are met again; got a "
                f"{type(value).__name__}. Call the function itself."
            )


def _name_of(fn: Callable) -> str:
    name = f"{fn.__module__}:{fn.__qualname__}"
    if not name.startswith("rebasin_lab") or "<" in name:
        raise ValueError(
            f"Expected a function of the lab's modules, whose source is known; got {name}. Call "
            "it itself."
        )
    return name


def _encoded(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON, with its arrays put into `arrays`."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case np.ndarray() | jax.Array():
            name = str(len(arrays))
            arrays[name] = np.asarray(value)
            return {"array": name}
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
        case {"list": items}:
            return [_decoded(item, arrays) for item in items]
        case {"tuple": items}:
            return tuple(_decoded(item, arrays) for item in items)
        case {"mapping": items}:
            return {key: _decoded(item, arrays) for key, item in items}
        case {"record": name, "fields": fields}:
            return _record_class(name)(**_decoded(fields, arrays))
    return value


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _record_class(name: str) -> type:
    """The dataclass or named tuple of the lab with this name: a file names nothing else."""
    module, _, qualname = name.partition(":")
    found = None
    if module.split(".")[0] == "rebasin_lab":
        found = getattr(importlib.import_module(module), qualname, None)
    if not (
        isinstance(found, type) and (dataclasses.is_dataclass(found) or found.__base__ is tuple)
    ):
        raise checkpoints.CheckpointError(f"Expected a record of the lab's; it holds a '{name}'.")
    return found
