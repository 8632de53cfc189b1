"""Which axis of which parameter each permutation moves.

A `PermutationSpec` names, for every leaf of a parameter tree, one permutation (or None) per axis.
Axes that carry the same name must be permuted together: the output of one layer and the input of
the next, or every layer that reads or writes one residual stream. It is the input of everything
that permutes, matches or counts.
"""

import dataclasses
import functools
import html
from collections.abc import Mapping

from jaxtyping import PyTree

from rebasin_lab import pytrees

AxisNames = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class PermutationSpec:
    """Leaf path -> one permutation name or None per axis.

    Example: `PermutationSpec({"layers/0/kernel": (None, "P_0"), "layers/0/bias": ("P_0",), ...})`.

    Attributes:
        axes: one entry per leaf; see `pytrees` for how a leaf's path is written.
    """

    axes: Mapping[str, AxisNames]

    def __post_init__(self):
        object.__setattr__(self, "axes", {path: tuple(names) for path, names in self.axes.items()})

    @functools.cached_property
    def permutations(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """The inverse view: permutation name -> every (leaf path, axis) it moves."""
        moved: dict[str, list[tuple[str, int]]] = {}
        for path, names in self.axes.items():
            for axis, name in enumerate(names):
                if name is not None:
                    moved.setdefault(name, []).append((path, axis))
        return {name: tuple(places) for name, places in moved.items()}

    def sizes(self, params: PyTree) -> dict[str, int]:
        """The number of units each permutation moves, once `params` has been validated."""
        self.validate(params)
        leaves = pytrees.flatten(params)
        return {
            name: leaves[places[0][0]].shape[places[0][1]]
            for name, places in self.permutations.items()
        }

    def validate(self, params: PyTree) -> None:
        """Check that this spec describes exactly the leaves of `params`.

        Raises:
            ValueError: for a leaf that is no array or that only one of the two has, a wrong number
                of axes, or one permutation on axes of different sizes.
        """
        leaves = pytrees.flatten(params)
        if no_arrays := sorted(path for path, leaf in leaves.items() if not hasattr(leaf, "shape")):
            raise ValueError(
                f"Expected every leaf to be an array; '{no_arrays[0]}' is a "
                f"{type(leaves[no_arrays[0]]).__name__}. Take the arrays out of the model first."
            )
        if missing := sorted(set(leaves) - set(self.axes)):
            raise ValueError(
                f"Expected the spec to name every parameter; '{missing[0]}' (shape "
                f"{leaves[missing[0]].shape}) is missing, {len(missing)} in all. Give it one "
                "permutation name or None per axis."
            )
        if unknown := sorted(set(self.axes) - set(leaves)):
            raise ValueError(
                f"Expected only parameters of the model in the spec; '{unknown[0]}' is none of "
                f"them, {len(unknown)} in all. The model has: {', '.join(leaves)}."
            )
        sizes: dict[str, tuple[int, str]] = {}
        for path, names in self.axes.items():
            shape = leaves[path].shape
            if len(names) != len(shape):
                raise ValueError(
                    f"Expected one entry per axis of '{path}' (shape {shape}); got {names}."
                )
            for axis, (name, size) in enumerate(zip(names, shape, strict=True)):
                if name is None:
                    continue
                expected, where = sizes.setdefault(name, (size, path))
                if size != expected:
                    raise ValueError(
                        f"Expected '{path}' axis {axis} to have size {expected} (permutation "
                        f"'{name}', as in '{where}'); got {size}."
                    )

    def __str__(self) -> str:
        width = max(map(len, self.axes), default=0)
        rows = [
            f"{path:<{width}}  " + ", ".join(name or "-" for name in names)
            for path, names in self.axes.items()
        ]
        return "\n".join([f"{len(self.permutations)} permutations", *rows])

    def _repr_html_(self) -> str:
        """A table for notebooks: one row per parameter."""
        rows = "".join(
            f"<tr><td><code>{html.escape(path)}</code></td>"
            + "".join(f"<td>{html.escape(name) if name else '&ndash;'}</td>" for name in names)
            + "</tr>"
            for path, names in self.axes.items()
        )
        caption = f"<p>{len(self.permutations)} permutations; one column per axis:</p>"
        return f"{caption}<table>{rows}</table>"


def mlp_permutation_spec(num_hidden_layers: int) -> PermutationSpec:
    """The spec of the lab's MLP: one permutation per hidden layer (Ainsworth et al., section 2).

    Flax kernels are [in, out], the transpose of the paper's matrices.
    """
    names = [None, *(f"P_{layer}" for layer in range(num_hidden_layers)), None]
    axes: dict[str, AxisNames] = {}
    for layer, (before, after) in enumerate(zip(names[:-1], names[1:], strict=True)):
        axes[f"layers/{layer}/bias"] = (after,)
        axes[f"layers/{layer}/kernel"] = (before, after)
    return PermutationSpec(axes)
