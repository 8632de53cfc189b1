"""Keys of stored results: digests of the content of all that determines them.

`described` gives the content of data and arguments, `source_digest` that of the lab's code,
`computing_environment` JAX, its settings and its device. A name never stands for what it names: two
data sets of one name, or a function put in the place of the lab's, have different keys. A value
without a known content is refused: a function whose source is not the lab's, an iterator, a random
generator, an object of another package.

Bits differ between processors of one kind, too; stored results move between machines all the same.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rebasin_lab import checks, datasets, matching, models, processes
from rebasin_lab.symmetry import PermutationSpec

PACKAGE = Path(__file__).parents[1]

# JAX's settings that change a number; one that the installed JAX does not have is left out.
JAX_SETTINGS = (
    "jax_default_dtype_bits",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_enable_x64",
    "jax_exec_time_optimization_effort",
    "jax_high_dynamic_range_gumbel",
    "jax_legacy_prng_key",
    "jax_memory_fitting_effort",
    "jax_numpy_dtype_promotion",
    "jax_optimization_level",
    "jax_random_seed_offset",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_threefry_partitionable",
    "jax_use_direct_linearize",
)
# Read by the libraries below JAX.
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_CUDNN_DETERMINISTIC",
    "XLA_FLAGS",
)
# Flags of dumps, and of the number of threads, which changes no bit (tested in `train_many`).
_FLAGS_WITHOUT_EFFECT = re.compile(r"--xla_(cpu_multi_thread_eigen|dump_\w+)(=\S*)?")
_COMPUTING_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")


class UnknownContentError(ValueError):
    """A value whose content is not known."""


class EditedError(RuntimeError):
    """Files of the lab were edited since this process loaded them."""


def computing_environment() -> dict[str, Any]:
    """Return what decides the bits of a result besides code and arguments, now; JSON-ready.

    JAX's settings count as they are in this thread, inside `jax.default_matmul_precision(...)` too.
    The runtime's own version includes those of CUDA and cuDNN.
    """
    device = default_device()
    variables = {name: os.environ.get(name, "") for name in VARIABLES}
    flags = _FLAGS_WITHOUT_EFFECT.sub("", variables["XLA_FLAGS"])
    variables["XLA_FLAGS"] = " ".join(flags.split())
    return {
        "backend": device.platform,
        "device": device.device_kind,
        "runtime": device.client.platform_version,
        "settings": jax_settings(),
        "variables": {name: value for name, value in variables.items() if value},
        "versions": {name: _version(name) for name in _COMPUTING_PACKAGES},
    }


def jax_settings() -> dict[str, bool | int | float | str | None]:
    """Return those of JAX's settings that change a number, as they are in this thread."""
    values = {name: getattr(jax.config, name) for name in JAX_SETTINGS if hasattr(jax.config, name)}
    plain = (bool, int, float, str, type(None))  # some are enumerations
    return {n: value if type(value) in plain else str(value) for n, value in values.items()}


def default_device() -> jax.Device:
    """Return the device on which JAX computes by default."""
    chosen = jax.config.jax_default_device
    if isinstance(chosen, jax.Device):
        return chosen
    return jax.devices(chosen)[0]  # of the backend of this name; None is the default one


@functools.cache
def _version(package: str) -> str:
    # Of the loaded module: the files may be of another version since.
    return str(getattr(sys.modules.get(package) or __import__(package), "__version__", ""))


def source_digest(*modules: str) -> str:
    """Return a digest of the code of modules of the lab, without comments and docstrings.

    It reads each file once, see `loaded`.

    Args:
        *modules: modules and folders of the package, such as "models" and "training/training_loop".
    """
    digest = hashlib.sha256()
    for path in files_of(*modules):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {_code_of(path)}\n".encode())
    return digest.hexdigest()


def bytes_digest(folder: Path, files: Iterable[Path]) -> str:
    """Return a digest of files below a folder: their names there, and every byte."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def files_of(*modules: str) -> list[Path]:
    """Return the files of modules, named as for `source_digest`."""
    files = []
    for module in modules:
        folder, file = PACKAGE / module, PACKAGE / f"{module}.py"
        files += sorted(folder.rglob("*.py")) if folder.is_dir() else [file]
    return files


def loaded(*modules: str) -> list[Path]:
    """Return the files of modules, named as for `source_digest`, that this process runs.

    Raises:
        EditedError: if one was edited since this process began to load the lab: it may run the old
            code or the new.
    """
    files = files_of(*modules)
    for path in files:
        _module_of(path)
        # Later than now is no edit, but a wrong clock.
        if processes.loaded_at < path.stat().st_mtime <= time.time():
            raise EditedError(
                f"Expected the code that this process loaded; '{path}' was edited since, and a "
                "stored result could be of the old code or of the new. Start again (in a notebook: "
                "restart the kernel)."
            )
    return files


def _module_of(path: Path) -> types.ModuleType:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return importlib.import_module(".".join(part for part in parts if part != "__init__"))


@functools.cache
def _code_of(path: Path) -> str:
    return hashlib.sha256(code_text(path.read_text(encoding="utf-8")).encode()).hexdigest()


def code_text(source: str) -> str:
    """Return Python code as one text that comments, docstrings and layout do not change."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body[0].value.value = ""
    return ast.unparse(tree)


def digest(value: Any) -> str:
    """Return a digest of the content of a value.

    Raises:
        UnknownContentError: as `described`.
    """
    hashed = hashlib.sha256()
    for text in described(value):
        content = text.encode("utf-8", "surrogatepass")
        hashed.update(f"{len(content)}:".encode() + content)
    return hashed.hexdigest()


def described(value: Any) -> Iterator[str]:
    """Yield texts that two values share only if they are the same, type and content.

    Args:
        value: a number, text, array, or PRNG key; a list, tuple, mapping, set, dataclass or named
            tuple of these; a data set or spec; a function of the lab's modules or a method of its
            models; a `functools.partial` of those. A text that names a matcher stands for it.

    Raises:
        UnknownContentError: for anything else.
    """
    kind = type(value)
    match value:
        case None | bool() | int() | bytes() if kind in (type(None), bool, int, bytes):
            yield f"{kind.__name__} {value!r}"
        case str() if kind is str:
            yield f"str {value}"
            if value in matching.MATCHERS:
                yield "matcher"
                yield from described(matching.MATCHERS[value].function)
        case float() if kind is float:
            yield f"float {value.hex()}"
        case complex() if kind is complex:
            yield f"complex {value.real.hex()} {value.imag.hex()}"
        case range() | np.dtype():
            yield f"{kind.__name__} {value}"
        case jax.Array():
            yield from _described_jax_array(value)
        case np.generic():
            yield "scalar"
            yield from _described_array(np.asarray(value))
        case np.ndarray():
            yield from _described_array(value)
        case datasets.Dataset() if kind is datasets.Dataset:
            yield f"data {value.content_digest()}"
        case PermutationSpec() if kind is PermutationSpec:
            yield f"spec {value.to_json()}"
        case models.Model() if kind is models.Model:
            yield "model"
            yield name_of(models.ARCHITECTURES[value.architecture].constructor)
            yield from described(dataclasses.asdict(value))
        case types.MethodType(__self__=models.Model() as model):
            if value.__func__ is not getattr(models.Model, value.__name__, None):
                raise _unknown(value)
            yield f"method {value.__name__}"
            yield from described(model)
        case types.FunctionType():
            yield f"function {name_of(value)}"
        case functools.partial() if kind is functools.partial and not vars(value):
            yield "partial"
            yield from described([value.func, value.args, value.keywords])
        case Mapping():
            yield f"{_class_name(kind)} of {len(value)}"
            for key, item in value.items():
                yield from described(key)
                yield from described(item)
        case matching.EveryMethod():
            yield from described(tuple(value))
        case set() | frozenset() if kind in (set, frozenset):
            yield f"{kind.__name__} of {len(value)}"
            yield from sorted(map(digest, value))
        case list() | tuple() if kind in (list, tuple) or hasattr(kind, "_fields"):
            yield f"{_class_name(kind)} of {len(value)}"
            for item in value:
                yield from described(item)
        case _ if dataclasses.is_dataclass(kind) and _is_labs(kind):
            yield _class_name(kind)
            yield from described({f.name: getattr(value, f.name) for f in dataclasses.fields(kind)})
        case _:
            raise _unknown(value)


def _described_jax_array(value: jax.Array) -> Iterator[str]:
    """Yield the texts of the same NumPy array, and of all else that a computation may depend on."""
    if isinstance(value, jax.core.Tracer):
        raise UnknownContentError(
            "Expected an array with numbers in it; got one that JAX is tracing. Call the function "
            "outside jit, grad and vmap."
        )
    if getattr(value, "weak_type", False):
        yield "weakly typed"
    device = default_device()
    if elsewhere := {
        f"{one.platform} {one.device_kind}"
        for one in value.devices()
        if (one.platform, one.device_kind) != (device.platform, device.device_kind)
    }:
        yield f"on {sorted(elsewhere)}"
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield f"key {jax.random.key_impl(value)}"
        value = jax.random.key_data(value)
    yield from _described_array(np.asarray(value))


def _described_array(array: np.ndarray) -> Iterator[str]:
    # A subclass has more to it than its numbers (a mask), an array of objects only addresses.
    if type(array) not in (np.ndarray, np.memmap) or array.dtype.hasobject:
        raise _unknown(array)
    yield f"array {array.dtype} {array.shape} {datasets.array_digest(array)}"


def name_of(value: Callable) -> str:
    """Return the module and name of a function or class of the lab, whose source is known.

    Raises:
        UnknownContentError: for any other, also for one that only has the name of the lab's.
    """
    module, name = (getattr(value, field, "") for field in ("__module__", "__qualname__"))
    target = sys.modules.get(module) if _is_labs(value) else None
    for part in name.split("."):
        target = getattr(target, part, None)
    code = getattr(inspect.unwrap(value), "__code__", None)
    file = getattr(sys.modules.get(module), "__file__", None)
    if target is not value or (code is not None and code.co_filename != file):
        got = f"{module}:{name}" if name else checks.shortened(value)
        raise UnknownContentError(
            f"Expected a function of the lab's modules, whose source is known; got {got}, which "
            "is not, or was put in its place. Call it itself."
        )
    return f"{module}:{name}"


def _is_labs(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).split(".")[0] == "rebasin_lab"


def _class_name(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}:{kind.__qualname__}"


def _unknown(value: Any) -> UnknownContentError:
    objects = " of objects" if isinstance(value, np.ndarray) and value.dtype.hasobject else ""
    return UnknownContentError(
        f"Expected arguments that can be told apart when they are met again, by their content; got "
        f"a {type(value).__module__}.{type(value).__qualname__}{objects}, whose content is not "
        "known. Call the function itself."
    )


def constants_digest(*modules: str) -> str:
    """Return a digest of the constants of the lab's modules as they are now.

    Numbers, texts, and tuples and tables of them count, under names in capitals. The modules are
    loaded if they are not yet, so that a constant counts no matter when it was set.

    Args:
        *modules: as for `source_digest`.
    """
    digest = hashlib.sha256()
    for module in _modules_of(*modules):
        for constant in sorted(filter(str.isupper, vars(module))):
            value = vars(module)[constant]
            # An empty one is filled later, such as `pytrees.leaves._PATHS`.
            if _is_plain(value) and value not in ((), [], {}):
                digest.update(f"{module.__name__}:{constant} {value!r}\n".encode())
    return digest.hexdigest()


@functools.cache
def _modules_of(*modules: str) -> list[types.ModuleType]:
    return [_module_of(path) for path in files_of(*modules)]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        held = value.copy()  # entries of dead arrays may go at any time
        return all(map(_is_plain, held)) and all(map(_is_plain, held.values()))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
