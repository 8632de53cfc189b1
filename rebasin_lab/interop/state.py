"""The state_dict of a PyTorch module: its names, ties and types, and what is no parameter."""

import copy
import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rebasin_lab import checks, pytrees

_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_MOST_WRAPPERS = 3
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The layout of a state_dict.

    Attributes:
        entries: name -> a tensor without memory, with shape and type; or what is no parameter, as
            integers, flags and extra state, as it is.
        first: name -> the first name of the same tensor: tied parameters are one.
        versions: of the modules inside, which some of them ask a state_dict for.
    """

    entries: dict[str, Any]
    first: dict[str, str]
    versions: Mapping[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter, by its first name."""
        firsts = dict.fromkeys(self.first.values())
        return {n: tuple(self.entries[n].shape) for n in firsts if is_float(self.entries[n])}

    def read(self, state_dict: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, jax.Array]:
        """The parameters in a state_dict, in the types of the module, as `load_state_dict` does.

        Args:
            state_dict: names -> tensors or arrays.
            fixed: buffers of integers that the computation uses.

        Raises:
            ValueError: listing names that are missing or not known, shapes that differ, ties that
                are not equal, and buffers of integers with other values.
        """
        given = _without_prefix(state_dict, self.entries)
        if not self.entries.keys() & given.keys():
            inside = [n for n, one in given.items() if isinstance(one, Mapping)]
            raise ValueError(
                f"Expected the state_dict of this module, {_listed(self.entries)}; got "
                f"{_listed(given) or 'an empty dict'}."
                + (f" Pass its entry {inside[0]!r}." if inside else "")
            )
        given = pytrees.as_arrays({n: one for n, one in given.items() if hasattr(one, "shape")})
        names: dict[str, list[str]] = {n: [] for n in self.shapes}
        for name, first in self.first.items():
            if first in names and name in given:
                names[first].append(name)
        problems = {
            "missing": [n for n, found in names.items() if not found],
            "not known": [
                n
                for n, one in given.items()
                if n not in self.entries and jnp.issubdtype(one.dtype, jnp.inexact)
            ],
            "of another shape": [
                f"{n} {list(given[n].shape)} for {list(shape)}"
                for first, shape in self.shapes.items()
                for n in names[first]
                if given[n].shape != shape
            ],
            "tied in the module but different": [
                " and ".join(found)
                for found in names.values()
                if not all(np.array_equal(given[found[0]], given[n]) for n in found[1:])
            ],
            "of other integers than the network was converted with": [
                n for n, one in fixed.items() if n in given and not np.array_equal(given[n], one)
            ],
        }
        if any(problems.values()):
            listed = (f"{len(ns)} {what}: {_listed(ns)}" for what, ns in problems.items() if ns)
            raise ValueError(f"Expected the state_dict of this module; {'; '.join(listed)}.")
        return {n: self.as_parameter(n, given[found[0]]) for n, found in names.items()}

    def parameters_of(self, names: Collection[str]) -> dict[str, str]:
        """Name in a state_dict -> name of the parameter it is; without what is no parameter."""
        wanted = self.shapes
        plain = zip(names, _without_prefix(dict.fromkeys(names), self.entries), strict=True)
        return {name: first for name, own in plain if (first := self.first.get(own)) in wanted}

    def write(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The state_dict of these parameters, in the types of the module; ties share a tensor.

        Raises:
            ValueError: for names or shapes of another network.
        """
        self.check(params)
        arrays = pytrees.as_arrays(dict(params))
        tensors = {n: as_tensor(one).to(self.entries[n].dtype) for n, one in arrays.items()}
        state_dict = OrderedDict(
            (name, tensors[self.first[name]] if self.first.get(name) in tensors else _copy(entry))
            for name, entry in self.entries.items()
        )
        state_dict._metadata = copy.deepcopy(self.versions)  # where PyTorch keeps and looks for it
        return state_dict

    def check(self, params: Any) -> None:
        """Check names and shapes of parameters.

        Raises:
            ValueError: naming the first that differs.
        """
        wanted = self.shapes
        if not isinstance(params, Mapping):
            raise ValueError(
                f"Expected params as a dict, names -> arrays; got {checks.shortened(params)}."
            )
        for name in (*wanted, *params):
            shape = np.shape(params[name]) if name in params else "no leaf"
            if shape != wanted.get(name, "no leaf"):
                raise ValueError(
                    f"Expected params of this module to have {wanted.get(name, 'no leaf')} at "
                    f"'{name}'; got {shape}. Are they of another network?"
                )

    def as_parameter(self, name: str, array: Any) -> jax.Array:
        """A copy of an array in the type of the parameter of this name."""
        return jnp.array(array, in_jax(numpy_type(self.entries[name].dtype)))


def state_of(module: Any) -> tuple[State, dict[str, jax.Array]]:
    """The layout of a module's state_dict, and its parameters.

    Raises:
        ValueError: for parameters without values, as of a lazy layer that was never called.
    """
    from torch.nn.parameter import is_lazy

    tensors = module.state_dict(keep_vars=True)
    for name, one in tensors.items():
        if is_lazy(one) or getattr(one, "is_meta", False):
            raise ValueError(
                f"Expected parameters with values; '{name}' has none yet. Call the module once, "
                "or load a state_dict with assign=True."
            )
    firsts: dict[int, str] = {}
    first = {n: firsts.setdefault(id(t), n) for n, t in tensors.items() if hasattr(t, "shape")}
    entries = {n: t.detach().to("meta") if is_float(t) else _copy(t) for n, t in tensors.items()}
    state = State(entries, first, copy.deepcopy(getattr(tensors, "_metadata", {})))
    floats = pytrees.as_arrays({n: tensors[n] for n in state.shapes})
    return state, {n: state.as_parameter(n, array) for n, array in floats.items()}


def is_float(entry: Any) -> bool:
    """True for a tensor of floats or complex numbers."""
    return hasattr(entry, "is_complex") and (entry.is_floating_point() or entry.is_complex())


def numpy_type(dtype: Any) -> np.dtype:
    """NumPy's type of the same name as one of PyTorch."""
    return np.dtype(str(dtype).removeprefix("torch."))


def in_jax(dtype: np.dtype, *, is_wide: bool = False) -> np.dtype:
    """A type of PyTorch in JAX: 64 bits only where JAX has them."""
    wide = {"float32": "float64", "complex64": "complex128"} if is_wide else {}
    return jax.dtypes.canonicalize_dtype(np.dtype(wide.get(dtype.name, dtype)))


def as_tensor(array: Any) -> Any:
    """A tensor with a copy of an array's values, of the same type."""
    import torch

    array = np.array(array)
    dtype = getattr(torch, array.dtype.name)
    if array.dtype.kind == "V":  # bfloat16 and its like, which PyTorch does not take from NumPy
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(dtype)


def _copy(entry: Any) -> Any:
    return entry.detach().cpu().clone() if hasattr(entry, "detach") else entry


def _without_prefix(state_dict: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict without what wrappers put before each name, unless the module has it too."""
    given = dict(state_dict)
    for prefix in itertools.chain.from_iterable(itertools.repeat(_PREFIXES, _MOST_WRAPPERS)):
        wrapped = given and all(isinstance(n, str) and n.startswith(prefix) for n in given)
        if wrapped and not any(name.startswith(prefix) for name in known):
            given = {n.removeprefix(prefix): one for n, one in given.items()}
    return given


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MOST_NAMED
    return ", ".join(map(str, names[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
