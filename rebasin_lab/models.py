"""The networks of the paper in Flax NNX, behind one small record.

A `Model` hides NNX's split and merge: `init(key)` gives parameters as plain nested dicts of arrays
and `apply(params, images)` is a pure function of them, which is all the rest of the lab needs.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

from rebasin_lab import datasets


class MLP(nnx.Module):
    """Dense layers with ReLU between them, no normalisation (Ainsworth et al. 2022, A.3)."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        width: int = 512,
        num_hidden_layers: int = 3,
        rngs: nnx.Rngs,
    ):
        num_pixels = 1
        for size in image_shape:
            num_pixels *= size
        sizes = [num_pixels, *[width] * num_hidden_layers, num_classes]
        self.layers = nnx.List(
            [
                nnx.Linear(num_in, num_out, rngs=rngs)
                for num_in, num_out in zip(sizes[:-1], sizes[1:], strict=True)
            ]
        )

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        """Logits of a batch of images."""
        hidden = images.reshape(images.shape[0], -1)
        for layer in self.layers[:-1]:
            hidden = nnx.relu(layer(hidden))
        return self.layers[-1](hidden)


ARCHITECTURES: dict[str, Callable[..., nnx.Module]] = {"mlp": MLP}


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """An architecture with its sizes fixed.

    Attributes:
        architecture: a name in `ARCHITECTURES`.
        image_shape: height, width, channels of one input.
        num_classes: the number of logits.
        options: the architecture's own sizes, such as `width`.
    """

    architecture: str
    image_shape: tuple[int, ...]
    num_classes: int
    options: dict[str, Any]

    def init(self, key: Key[Array, ""]) -> PyTree:
        """Fresh parameters as plain nested dicts; the key is consumed."""
        _, state = nnx.split(self._build(key))
        return nnx.to_pure_dict(state)

    def apply(
        self, params: PyTree, images: Float[Array, "batch h w c"]
    ) -> Float[Array, "batch classes"]:
        """Logits (not log-probabilities) of a batch of images.

        Raises:
            ValueError: if the images do not have the shape this model was built for.
        """
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"Expected images of shape [batch, {', '.join(map(str, self.image_shape))}] for "
                f"this {self.architecture}; got {list(images.shape)}."
            )
        return nnx.merge(self._graph, nnx.State(params))(images)

    @functools.cached_property
    def _graph(self) -> nnx.GraphDef:
        graph, _ = nnx.split(nnx.eval_shape(lambda: self._build(jax.random.key(0))))
        return graph

    def _build(self, key: Key[Array, ""]) -> nnx.Module:
        constructor = ARCHITECTURES[self.architecture]
        return constructor(self.image_shape, self.num_classes, rngs=nnx.Rngs(key), **self.options)


def build_model(architecture: str, *, dataset: datasets.Dataset, **options: Any) -> Model:
    """A model that fits a data set's images and classes.

    Args:
        architecture: a name in `ARCHITECTURES`.
        dataset: gives the image shape and the number of classes.
        **options: sizes of the architecture; for "mlp" `width` and `num_hidden_layers`.

    Raises:
        ValueError: for an unknown architecture or size, or one that is no positive integer.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"Expected an architecture among {sorted(ARCHITECTURES)}; got {architecture!r}."
        )
    known = inspect.signature(ARCHITECTURES[architecture].__init__).parameters
    for name, value in options.items():
        if name not in known or known[name].default is inspect.Parameter.empty:
            sizes = [n for n, p in known.items() if p.default is not inspect.Parameter.empty]
            raise ValueError(f"Expected a size of {architecture}, {sizes}; got {name!r}.")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"Expected {name} of {architecture} to be at least 1; got {value!r}.")
    return _model(
        architecture, dataset.image_shape, dataset.num_classes, tuple(sorted(options.items()))
    )


@functools.lru_cache(maxsize=256)  # one object per architecture, so that compiled code is shared
def _model(
    architecture: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    options: tuple[tuple[str, int], ...],
) -> Model:
    return Model(architecture, image_shape, num_classes, dict(options))
