"""Any `torch.nn.Module` as a pure function of JAX."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from rebasin_lab import checks, pytrees
from rebasin_lab.interop.export import graph_of
from rebasin_lab.interop.graph import Graph
from rebasin_lab.interop.state import State, as_tensor, state_of


@dataclasses.dataclass(frozen=True, eq=False)
class TorchNetwork:
    """A PyTorch module in JAX, in evaluation mode.

    Attributes:
        name: the class of the module.
        params: its parameters and buffers of floats when it was converted, by the names of its
            state_dict; tied parameters once, under the first of their names. Integers, such as
            `num_batches_tracked`, are none.
    """

    name: str
    params: dict[str, Array]
    _graph: Graph = dataclasses.field(repr=False)
    _state: State = dataclasses.field(repr=False)

    def apply(self, params: PyTree, *inputs: Any, **keywords: Any) -> PyTree:
        """The outputs of the module with these parameters; pure, for `jax.jit` and the rest of JAX.

        It computes in the types of the module, as PyTorch does; if a parameter is float64, what is
        float32 in the module is float64.

        Args:
            params: by name, as `params`.
            *inputs: arrays in the structure of the example, of its shapes but for the batch.
            **keywords: likewise.

        Returns:
            Dicts, lists and tuples, as the module returns them; the array alone where it is one.

        Raises:
            ValueError: for parameters or inputs of other names, shapes or kinds.
        """
        return self._run(params, inputs, keywords)[0]

    def apply_training(
        self, params: PyTree, *inputs: Any, **keywords: Any
    ) -> tuple[PyTree, dict[str, Array]]:
        """The outputs where BatchNorm normalises by the batch, and its statistics.

        Everything else stays in evaluation mode: no dropout. To re-estimate the statistics of a
        merged network (Ainsworth et al. 2022, A.4) they are averaged over batches.

        Returns:
            The outputs, and the parameters with the batch's means and variances (over n, not n - 1
            as PyTorch's running ones) at `statistics_paths`; all other leaves are those passed in.

        Raises:
            ValueError: as `apply`.
        """
        outputs, measured = self._run(params, inputs, keywords, by_batch=True)
        return outputs, {**params, **measured}

    @property
    def statistics_paths(self) -> frozenset[str]:
        """Names of the running statistics of BatchNorm, which are no weights."""
        return self._graph.statistics

    @checks.arguments
    def from_state_dict(self, state_dict: Mapping[str, Any]) -> dict[str, Array]:
        """The parameters of a state_dict, in the types of the module.

        A prefix of wrappers ("module.", "_orig_mod.") is taken off. Buffers of integers may be
        missing or too many, but those that the computation uses must be the module's. Of tied
        parameters one will do, as in a safetensors file.

        Args:
            state_dict: names -> tensors, or arrays of NumPy or JAX.

        Raises:
            ValueError: listing names and shapes that do not fit.
        """
        return self._state.read(state_dict, self._graph.fixed)

    @checks.arguments
    def to_state_dict(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A state_dict that the module loads with `strict=True`.

        Tied parameters share one tensor, and what is no parameter (integers, extra state) is as it
        was when the module was converted.

        Args:
            params: by name, as `params`.

        Returns:
            Names -> tensors on the CPU, in the types and the order of the module's state_dict.

        Raises:
            ValueError: for parameters of other names or shapes.
        """
        return self._state.write(params)

    @checks.arguments
    def parameters_of(self, names: Collection[str]) -> dict[str, str]:
        """The parameter that each name in a state_dict stands for.

        Args:
            names: in a state_dict, with the prefix of wrappers or without.

        Returns:
            Name -> name in `params`; names of what is no parameter (integers) are not in it.
        """
        return self._state.parameters_of(names)

    def __repr__(self) -> str:
        count = sum(int(np.size(leaf)) for leaf in self.params.values())
        return f"TorchNetwork({self.name}, {count:,} numbers in {len(self.params)} arrays)"

    def _run(
        self, params: PyTree, inputs: tuple, keywords: dict, *, by_batch: bool = False
    ) -> tuple[PyTree, dict[str, Array]]:
        self._state.check(params)
        outputs, measured = self._graph.run(params, (inputs, keywords), by_batch=by_batch)
        leaves = jax.tree.leaves(outputs)
        return leaves[0] if len(leaves) == 1 else outputs, measured


def from_torch(module: Any, *example_inputs: Any, **example_keywords: Any) -> TorchNetwork:
    """Convert a PyTorch module to a function of JAX; the module stays as it is.

    `torch.export` traces it on the example, in evaluation mode, for any batch size where the module
    allows it (the first axis of the inputs). Its operators are then computed by JAX. The result
    works with all of this library:

        network = rl.from_torch(module, images)
        spec = rl.infer_permutation_spec(network.apply, network.params, images)
        result = rl.match("weight", spec, params_a, params_b)

    Here `params_a` and `params_b` are what `network.from_state_dict` makes of two checkpoints, and
    `images` an array; `network.to_state_dict` takes parameters back to PyTorch.

    Args:
        module: a `torch.nn.Module` with its parameters.
        *example_inputs: of its forward: tensors or arrays, or lists, tuples and dicts of them.
            Their values do not matter, but the module must take them. What is no array (a number, a
            flag, None) is part of the function.
        **example_keywords: likewise by name, as `input_ids=tokens`.

    Raises:
        ModuleNotFoundError: without PyTorch; the extra [torch] installs it.
        ValueError: for anything but a module, one that does not take the example or cannot be
            exported, computes what depends on values (control flow, random numbers), or uses an
            operator without a rule in `interop.RULES`. The error names the module inside.
    """
    try:
        import torch
        from torch.utils import _pytree
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "rl.from_torch needs PyTorch: install the extra [torch] (in the checkout: pip install "
            "--editable '.[torch]')."
        ) from error

    if not isinstance(module, torch.nn.Module):
        advice = ""
        if isinstance(module, type):
            advice = " Call the class, to build one."
        elif isinstance(module, Mapping):
            advice = " Build the module that these are the parameters of."
        raise ValueError(
            f"Expected a torch.nn.Module in from_torch; got {checks.shortened(module)}.{advice}"
        )
    state, params = state_of(module)
    device = next((one.device for one in module.parameters()), None)

    def tensor(leaf: Any) -> Any:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            return leaf
        leaf = leaf.detach() if isinstance(leaf, torch.Tensor) else as_tensor(leaf)
        return leaf.to(device)

    arguments, keywords = _pytree.tree_map(tensor, (example_inputs, example_keywords))
    network = TorchNetwork(
        type(module).__name__, params, graph_of(module, arguments, keywords, state), state
    )
    # Every rule meets the shapes of the example now, so that an error comes before any work.
    arguments, keywords = pytrees.as_arrays((arguments, keywords))
    jax.eval_shape(lambda params: network.apply(params, *arguments, **keywords), params)
    return network
