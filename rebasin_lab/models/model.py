"""`Model`, an architecture with its sizes fixed.

A `Model` hides NNX's split and merge. Parameters are nested dicts of arrays, with integer keys for
list entries. They include all state, such as the running statistics of BatchNorm, so `apply` is a
pure function, in evaluation mode. `apply_training` is the training mode of BatchNorm, also pure: it
returns the parameters with the batch's statistics.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

from rebasin_lab import checks, datasets, pytrees
from rebasin_lab.models import architectures


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
        if not hasattr(key, "dtype"):
            raise ValueError(
                f"Expected key to be one of jax.random.key(seed); got {checks.shortened(key)}."
            )
        _, state = nnx.split(self._build(key))
        return nnx.to_pure_dict(state)

    def apply(
        self, params: PyTree, images: Float[Array, "batch h w c"]
    ) -> Float[Array, "batch classes"]:
        """Logits (not log-probabilities) of a batch of images.

        Raises:
            ValueError: if the images do not have the shape this model was built for.
        """
        self._check(params, images)
        return nnx.merge(self._graph, nnx.State(params))(images)

    def apply_training(
        self, params: PyTree, images: Float[Array, "batch h w c"]
    ) -> tuple[Float[Array, "batch classes"], PyTree]:
        """Logits in training mode, where BatchNorm normalises by the batch, and its statistics.

        Training, and re-estimating the statistics of a merged network (Ainsworth et al. 2022,
        A.4), average them over several batches.

        Returns:
            The logits, and the parameters with the batch's means and variances (over n, not n - 1)
            at `statistics_paths`; all other leaves are those passed in.

        Raises:
            ValueError: if the images do not have the shape this model was built for.
        """
        self._check(params, images)
        # JAX arrays, since BatchNorm would write into the caller's NumPy ones.
        state = nnx.State(jax.tree.map(jnp.asarray, params))
        network = nnx.merge(self._training_graph, state)
        logits = network(images)
        _, statistics, _ = nnx.split(network, nnx.BatchStat, ...)
        of_batch = pytrees.flatten(nnx.to_pure_dict(statistics))
        return logits, pytrees.map_with_path(lambda path, leaf: of_batch.get(path, leaf), params)

    @property
    def shapes(self) -> PyTree:
        """Shapes and types of the parameters, in the structure of `init`."""
        return nnx.to_pure_dict(self._skeleton[1])

    @functools.cached_property
    def statistics_paths(self) -> frozenset[str]:
        """Paths of the leaves that are running statistics of BatchNorm."""
        _, statistics, _ = nnx.split(nnx.merge(*self._skeleton), nnx.BatchStat, ...)
        return frozenset(pytrees.flatten(nnx.to_pure_dict(statistics)))

    @functools.cached_property
    def _leaf_shapes(self) -> dict[str, tuple[int, ...]]:
        return {path: leaf.shape for path, leaf in pytrees.flatten(self.shapes).items()}

    def _check(self, params: PyTree, images: Array) -> None:
        found = {path: np.shape(leaf) for path, leaf in pytrees.flatten(params).items()}
        if found != self._leaf_shapes:
            path, shape = min(found.items() ^ self._leaf_shapes.items())
            wanted, got = (shapes.get(path, "no leaf") for shapes in (self._leaf_shapes, found))
            raise ValueError(
                f"Expected params of this {self.architecture} to have {wanted} at '{path}'; got "
                f"{got}. Are they of another network, or inside another dict?"
            )
        checks.argument("images", images, Array | np.ndarray, self.architecture)
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"Expected images of shape [batch, {', '.join(map(str, self.image_shape))}] for "
                f"this {self.architecture}; got {list(images.shape)}."
            )

    @property
    def _graph(self) -> nnx.GraphDef:
        return self._skeleton[0]

    @functools.cached_property
    def _training_graph(self) -> nnx.GraphDef:
        network = nnx.merge(*self._skeleton)
        network.set_attributes(  # momentum 0: no average over batches
            use_running_average=False, momentum=0.0, raise_if_not_found=False
        )
        graph, _ = nnx.split(network)
        return graph

    @functools.cached_property
    def _skeleton(self) -> tuple[Any, Any]:  # graph and shapes
        """The network with shapes in place of arrays."""
        return nnx.split(nnx.eval_shape(lambda: self._build(jax.random.key(0))))

    def _build(self, key: Key[Array, ""]) -> nnx.Module:
        constructor = architectures.ARCHITECTURES[self.architecture].constructor
        return constructor(self.image_shape, self.num_classes, rngs=_Keys(key), **self.options)


class _Keys(nnx.Rngs):
    """The keys that `nnx.Rngs(key)` gives to layers, counted in Python.

    NNX counts in an array, and each change of that under `eval_shape` formats an unused message,
    which takes half of the time to build a ResNet.
    """

    def __init__(self, key: Key[Array, ""]):
        self._key = key
        self._count = itertools.count()

    def params(self) -> Key[Array, ""]:
        return jax.random.fold_in(self._key, next(self._count))


@checks.arguments
def build_model(architecture: str, *, dataset: datasets.Dataset, **options: Any) -> Model:
    """A model that fits a data set's images and classes.

    Args:
        architecture: a name in `ARCHITECTURES`.
        dataset: gives the image shape and the number of classes.
        **options: sizes of the architecture, those in `ARCHITECTURES[architecture].sizes`. "mlp":
            `width`, `num_hidden_layers`; "vgg16" and the ResNets: `width_multiplier`, 1 for the
            published widths; "vit": `width`, `num_heads`, `num_blocks`, `patch_size`.

    Raises:
        ValueError: for an unknown architecture or size, a size that is not positive (or not whole,
            where it must be), sizes that do not go together, or images of an unsuitable shape.
    """
    architectures.check_options(architecture, options)
    return _model(
        architectures.ARCHITECTURES[architecture].constructor,
        architecture,
        dataset.image_shape,
        dataset.num_classes,
        tuple(sorted(options.items())),
    )


@functools.lru_cache(maxsize=256)  # one object per architecture, so that compiled code is shared
def _model(
    constructor: type[nnx.Module],  # part of the key, as a caller may replace it
    architecture: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    options: tuple[tuple[str, int | float], ...],
) -> Model:
    model = Model(architecture, image_shape, num_classes, dict(options))
    # Built now, so that sizes that do not fit fail before an experiment.
    _ = model._graph
    return model
