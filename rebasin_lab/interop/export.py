"""From a PyTorch module to a `Graph`.

`torch.export` traces the module in evaluation mode, with any batch size where the module allows it;
PyTorch then decomposes the operators that have no rule. What is left without one, and what depends
on values (control flow, random numbers), is refused, and the module that does it is named.
"""

import contextlib
import io
import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees, texts
from rebasin_lab.interop.aten import rule_of
from rebasin_lab.interop.aten.normalization import BATCH_NORM
from rebasin_lab.interop.graph import Graph, Input, Step, Value
from rebasin_lab.interop.state import State, is_float, numpy_type

# What PyTorch checks while it runs; no result depends on it.
_CONDITIONS = ("aten._assert", "aten.sym_constrain_range")
# Arguments that say where an array lies, not what is in it.
_PLACEMENT = {"copy", "device", "layout", "memory_format", "non_blocking", "pin_memory"}
_NO_STACK = {"": ("", "the module itself")}
_ON_VALUES = (
    "One graph is for all inputs: write torch.where in place of `if`, masks in place of boolean "
    "indices."
)


def graph_of(module: Any, arguments: tuple, keywords: dict[str, Any], state: State) -> Graph:
    """The computation of a module in evaluation mode.

    Args:
        module: a `torch.nn.Module`; it is left as it is.
        arguments: an example of its inputs, of tensors.
        keywords: likewise.
        state: of the module.

    Raises:
        ValueError: if the module does not take the example, cannot be exported, depends on values,
            or uses an operator without a rule.
    """
    import torch

    with _evaluating(module), _quietly():
        with _explained("Expected a module that torch.export can trace"):
            try:
                exported = _exported(module, arguments, keywords)
            except Exception:  # of any kind: it is the caller's code
                with _explained("Expected a module that takes the example in evaluation mode"):
                    module(*arguments, **keywords)
                raise
            table = torch.export.default_decompositions()
            without_rule = {one: fn for one, fn in table.items() if not rule_of(str(one))}
            exported = exported.run_decompositions(without_rule)
    return _read(exported, state)


def _exported(module: Any, arguments: tuple, keywords: dict[str, Any]) -> Any:
    """The exported program: for any batch size, else for that of the example."""
    import torch
    from torch.utils import _pytree

    example = (arguments, keywords)
    arrays = [one for one in _pytree.tree_leaves(example) if getattr(one, "ndim", 0)]
    if arrays:
        batch = len(arrays[0])
        # torch.export takes a batch of one for a constant.
        grown = {
            id(one): torch.cat([one, one]) if batch == 1 else one
            for one in arrays
            if len(one) == batch
        }
        example = _pytree.tree_map(lambda one: grown.get(id(one), one), example)
        shapes = torch.export.ShapesCollection()
        for one in grown.values():
            shapes[one] = {0: torch.export.Dim.AUTO}
        with contextlib.suppress(Exception):  # of any kind: the module may hold only for its batch
            dynamic = shapes.dynamic_shapes(module, *example)
            return torch.export.export(module, *example, dynamic_shapes=dynamic, strict=False)
    return torch.export.export(module, arguments, keywords, strict=False)


def _read(exported: Any, state: State) -> Graph:
    """The graph of an exported program."""
    nodes = list(exported.graph.nodes)
    signature = exported.graph_signature
    placeholders = [node for node in nodes if node.op == "placeholder"]
    parameters: dict[str, tuple[str, np.dtype]] = {}
    constants: dict[str, np.ndarray] = {}
    fixed: dict[str, np.ndarray] = {}
    inputs: list[Input] = []
    for node, source in zip(placeholders, signature.input_specs, strict=True):
        entry = state.entries.get(source.target)
        if source.kind.name == "USER_INPUT":
            inputs.append(_input(node, source))
        elif is_float(entry):
            parameters[node.name] = (state.first[source.target], numpy_type(entry.dtype))
        elif node.users and source.target is None:
            raise ValueError(
                f"Expected a module without side effects; its graph takes a "
                f"{source.kind.name.lower()}. Take out what prints, checks or calls other programs."
            )
        elif node.users:
            held = exported.constants | exported.state_dict
            constants[node.name] = pytrees.as_arrays(held[source.target])
            if entry is not None:
                fixed[source.target] = constants[node.name]
    steps = _steps(nodes, parameters)
    results = zip(nodes[-1].args[0], signature.output_specs, strict=True)
    leaves = iter([_argument(one) for one, kind in results if kind.kind.name == "USER_OUTPUT"])
    spec = exported.call_spec
    return Graph(
        steps=steps,
        parameters=parameters,
        constants=constants,
        fixed=fixed,
        inputs=tuple(inputs),
        positions=spec.in_spec.unflatten(range(len(inputs))),
        outputs=_structured(spec.out_spec, leaves),
    )


def _input(node: Any, source: Any) -> Input:
    """An input: an array, some sizes of which are free, or a constant."""
    example = node.meta["val"]
    if not hasattr(example, "dtype"):
        return Input(node.name, constant=source.arg.value)
    # A symbol of which the module allows one value is written as that.
    shape = tuple(int(n) if str(n).isdigit() else str(n) for n in example.shape)
    return Input(node.name, shape, numpy_type(example.dtype))


def _steps(nodes: list[Any], parameters: dict[str, tuple[str, np.dtype]]) -> tuple[Step, ...]:
    """The operators of a graph in order."""
    calls = [node for node in nodes if node.op == "call_function"]
    calls = [node for node in calls if not str(node.target).startswith(_CONDITIONS)]
    if refused := [problem for node in calls if (problem := _problem(node))]:
        more = len(refused) - 1
        raise ValueError(
            f"Expected a module that can be written in JAX; {refused[0]}"
            + (f" ({more} more such operators.)" if more else "")
        )
    needed = {one for one in nodes[-1].all_input_nodes}
    steps: list[Step] = []
    for node in reversed(calls):
        last = [one for one in node.all_input_nodes if one not in needed]
        needed.update(last)
        of_batch_norm = node.args[3:5] if str(node.target) == BATCH_NORM else ()
        result = node.meta.get("val")
        steps.append(
            Step(
                value=node.name,
                operator=str(node.target),
                rule=_rule(node.target),
                arguments=_argument(node.args),
                options={k: _argument(v) for k, v in node.kwargs.items() if k not in _PLACEMENT},
                dtype=numpy_type(result.dtype) if hasattr(result, "dtype") else None,
                module=_module_of(node),
                statistics=tuple(
                    parameters[one.name][0] for one in of_batch_norm if one.name in parameters
                ),
                last=tuple(one.name for one in last),
            )
        )
    return tuple(reversed(steps))


def _problem(node: Any) -> str:
    """The reason why an operator cannot be computed in JAX; empty if it can."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    name = f"{node.target}, called by {_module_of(node)},"
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return f"{name} chooses by values what to compute. {_ON_VALUES}"
    if free_unbacked_symbols(node.meta.get("val")):
        return f"{name} gives sizes or numbers that depend on values. {_ON_VALUES}"
    if not isinstance(node.target, torch._ops.OpOverload) or rule_of(str(node.target)):
        return ""
    if torch.Tag.nondeterministic_seeded in node.target.tags:
        return f"{name} draws random numbers in evaluation mode, too. Take it out."
    return (
        f"{name} has no rule. Write the module without it, or add a rule: "
        f"rebasin_lab.interop.RULES[{str(node.target)!r}] = a function of JAX."
    )


def _rule(target: Any) -> Callable:
    """The rule for an operator; arithmetic on sizes is Python's own."""
    if target is operator.getitem:
        return _item
    return rule_of(str(target)) or target


def _item(results: Sequence[Any], index: int) -> Any:
    if results[index] is None:
        raise ValueError(
            f"Expected a module that does not use result {index} of this operator, such as the "
            "positions of maxima: the rule does not compute it."
        )
    return results[index]


def _argument(argument: Any) -> Any:
    """An argument of a step, without classes of PyTorch."""
    import torch

    if isinstance(argument, torch.fx.Node):
        return Value(argument.name)
    if isinstance(argument, torch.dtype):
        return numpy_type(argument)
    if isinstance(argument, list | tuple):
        kind = list if isinstance(argument, list) else tuple
        return kind(map(_argument, argument))
    return argument


def _module_of(node: Any) -> str:
    """The name of the innermost module that calls an operator, and its class; of the root, that."""
    path, kind = next(reversed((node.meta.get("nn_module_stack") or _NO_STACK).values()))
    kind = getattr(kind, "__name__", str(kind)).rpartition(".")[-1]
    return f"{path} ({kind})" if path else kind


def _structured(spec: Any, leaves: Iterator[Any]) -> PyTree:
    """The outputs as dicts, lists and tuples."""
    if spec.is_leaf():
        return next(leaves)
    children = [_structured(child, leaves) for child in spec.children()]
    if issubclass(spec.type, Mapping):
        return dict(zip(spec.context, children, strict=True))
    return children if issubclass(spec.type, list) else tuple(children)


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode without gradients, and without attention's fused path for inference."""
    import torch

    modes = [(one, one.training) for one in module.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for one, mode in modes:
            one.training = mode


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep PyTorch from printing what it tries; its errors tell all that matters."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        # It prints the graph of what it could not trace.
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _explained(expected: str) -> Iterator[None]:
    """Turn an error of a caller's module into one that says what was expected of it."""
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    try:
        yield
    except GuardOnDataDependentSymNode as error:
        where = re.search(
            r'raised this error:\n  File ".*?([^/"]+)", line (\d+), in (.*)', str(error)
        )
        raise ValueError(
            f"{expected}; its forward decides by the value of a tensor"
            f"{f', at {where[1]}:{where[2]} in {where[3]}' if where else ''}. {_ON_VALUES}"
        ) from error
    except Exception as error:  # of any kind: it is the caller's code; ours stay as they are
        if isinstance(error, ValueError) and str(error).startswith("Expected "):
            raise
        text = texts.in_a_line(" ".join(str(error).split("\n\n")[0].split()), 400)
        raise ValueError(f"{expected}; it raised {type(error).__name__}: {text}") from error
