"""The function that checkpoints hold the parameters of: a module of PyTorch, or a function of JAX.

Code that --torch or --model names is imported, and so is run. It is the caller's own.
"""

import dataclasses
import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import checks, interop, metrics, pytrees, texts
from rebasin_lab.commands.options import Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network without its parameters.

    Attributes:
        name: as it was asked for.
        source: SHA-256 of the file of its code; "" if there is none.
        apply: `apply(params, x)`, a pure function of JAX.
        model: what `reestimate_statistics` takes: an object with `apply_training` and
            `statistics_paths`, or the function.
        example: a batch of two, as shapes.
        read: the parameters in a checkpoint, as arrays by path or a tree, in the function's types.
        leaf_of: name in a checkpoint -> path of the leaf that it is; without what is no parameter.
    """

    name: str
    source: str
    apply: Callable
    model: Any
    example: jax.ShapeDtypeStruct
    read: Callable[[Mapping[str, np.ndarray]], PyTree]
    leaf_of: Callable[[Sequence[str]], dict[str, str]]

    def check(self, checkpoint: interop.Checkpoint) -> None:
        """Check that a checkpoint fits the function; of floats only shapes are looked at.

        Raises:
            ValueError: naming what does not fit.
        """
        params = self.read(_without_values(checkpoint))
        with pytrees.calling(params, (self.example,)):
            jax.eval_shape(self.apply, params, self.example)


def _without_values(checkpoint: interop.Checkpoint) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint; of floats, which may be large, zeros in their place."""
    return {
        name: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else checkpoint[name]
        for name, leaf in checkpoint.leaves.items()
    }


def statistics_of(
    network: Network | None, names: Sequence[str], given: Sequence[str]
) -> frozenset[str]:
    """The leaves that are running statistics.

    Args:
        network: says so itself, if it can.
        names: paths of all leaves.
        given: names, beginnings of names or parts of them, in place of that.

    Raises:
        ValueError: for a name that no leaf has.
    """
    if not given:
        if network is not None and hasattr(network.model, "statistics_paths"):
            return frozenset(network.model.statistics_paths)
        return frozenset(pytrees.running_statistics(names))
    found: set[str] = set()
    for each in given:
        part = f"/{each.replace('.', '/').strip('/')}/"
        inside = {name for name in names if part in f"/{name.replace('.', '/')}/"}
        if not inside:
            raise ValueError(
                f"Expected names of leaves in --statistics; no leaf has {each!r}"
                f"{checks.near_matches(each, names)}."
            )
        found |= inside
    return frozenset(found)


def nested(arrays: Mapping[str, Any]) -> PyTree:
    """Arrays as nested dicts where their names are paths with /; else as they are."""
    return pytrees.unflatten(arrays) if any("/" in name for name in arrays) else dict(arrays)


def torch_network(name: str, shape: Shape) -> Network:
    """A network of PyTorch, from a class or function that is called without arguments.

    Raises:
        ValueError: if there is none of this name, or it cannot be built or converted.
        ModuleNotFoundError: without PyTorch.
    """
    factory, source = _imported(name, "--torch")
    if isinstance(factory, type) or not hasattr(factory, "state_dict"):
        try:
            factory = factory()
        except Exception as error:  # of any kind: it is the caller's code
            raise ValueError(
                f"Expected '{name}' of --torch to give a module when it is called without "
                f"arguments; it raised {type(error).__name__}: "
                f"{texts.in_a_line(str(error), 300)}. Write a function that calls it with yours."
            ) from error
    example = np.zeros((2, *shape.sizes), shape.dtype)
    converted = interop.from_torch(factory, example)
    return Network(
        name=f"torch {name}",
        source=source,
        apply=converted.apply,
        model=converted,
        example=jax.ShapeDtypeStruct(example.shape, example.dtype),
        read=converted.from_state_dict,
        leaf_of=lambda names: converted.parameters_of(list(names)),
    )


def jax_network(name: str, shape: Shape) -> Network:
    """A network from a function of JAX, or an object with `apply`.

    Raises:
        ValueError: if there is none of this name, or it cannot be called.
    """
    found, source = _imported(name, "--model")
    apply = getattr(found, "apply", found)
    metrics.check_function(apply, f"'{name}' of --model", ("params", "x"))
    has_statistics = hasattr(found, "apply_training") and hasattr(found, "statistics_paths")
    return Network(
        name=f"jax {name}",
        source=source,
        apply=apply,
        model=found if has_statistics else apply,
        example=jax.ShapeDtypeStruct((2, *shape.sizes), shape.dtype),
        read=lambda arrays: nested(dict(arrays)),
        leaf_of=lambda names: {each: each for each in names},
    )


def _imported(name: str, option: str) -> tuple[Any, str]:
    """An object by the name of its module and its own, and the digest of the module's file."""
    module_name, _, attribute = name.partition(":")
    if not re.fullmatch(r"[\w.]+", module_name) or not attribute.isidentifier():
        raise ValueError(
            f"Expected {option} as module:name, such as resnet:ResNet20 of resnet.py here; got "
            f"{name!r}."
        )
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # of any kind: it is the caller's code
        raise ValueError(
            f"Expected {option} to name a module that can be imported from here; '{module_name}' "
            f"raised {type(error).__name__}: {texts.in_a_line(str(error), 300)}."
        ) from error
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise ValueError(
            f"Expected '{attribute}' in the module '{module_name}'; it has none"
            f"{checks.near_matches(attribute, public)}."
        )
    file = inspect.getsourcefile(module)
    source = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    return getattr(module, attribute), source
