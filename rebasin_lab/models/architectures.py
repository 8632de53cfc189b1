"""The table of architectures, one record each.

A new architecture is a file with its network and a line here; `build_model`, the store and the
explorer then know it. Add one of your own at run time:

    models.ARCHITECTURES["mine"] = models.Architecture(MyNetwork, width="width")
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from rebasin_lab import checks, datasets
from rebasin_lab.models import mlp, resnet, vgg, vit


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A family of networks by size, with small sizes and settings that a CPU trains in minutes.

    Attributes:
        constructor: builds it from an image shape, a number of classes, `rngs` and, by keyword, its
            sizes, each with a default. A size annotated `int` is at least 1; any other is a
            positive number.
        width: the name of the size that scales its layers.
        depth: the name of the size that counts its layers; "" if their number is fixed.
        small: for a CPU: sizes other than the defaults.
        view: for a CPU: the part of a data set; by default few images at half the resolution.
        learning_rate: for a CPU: of Adam.
        num_epochs: for a CPU: passes over the training images.

    Raises:
        ValueError: for an unknown size.
    """

    constructor: Callable[..., nnx.Module]
    width: str = "width_multiplier"
    depth: str = ""
    small: Mapping[str, int | float] = dataclasses.field(default_factory=dict)
    view: datasets.View = datasets.View(num_train=20_000, shrink=2)
    learning_rate: checks.Positive = 1e-3
    num_epochs: checks.Count = 5

    def __post_init__(self):
        checks.fields(self)
        named = filter(None, (self.width, self.depth, *self.small))
        checks.options(named, self.sizes, "sizes of an Architecture")

    @functools.cached_property
    def sizes(self) -> dict[str, inspect.Parameter]:
        """The sizes with their defaults and types."""
        make = self.constructor
        # The metaclass of Flax hides the signature.
        parameters = inspect.signature(make.__init__ if isinstance(make, type) else make).parameters
        # `rngs` has no default, so what has one is a size.
        return {name: one for name, one in parameters.items() if one.default is not one.empty}

    @property
    def small_sizes(self) -> dict[str, int | float]:
        """The sizes that a CPU trains in minutes: depth (if any), width, and `small`.

        Width and depth are always included, so that an experiment shows them.
        """
        defaults = {name: self.sizes[name].default for name in (self.depth, self.width) if name}
        return defaults | dict(self.small)


ARCHITECTURES = checks.Registry(
    Architecture,
    {
        "mlp": Architecture(
            mlp.MLP, width="width", depth="num_hidden_layers", view=datasets.View(), num_epochs=30
        ),
        "vgg16": Architecture(vgg.VGG16, small={"width_multiplier": 1 / 8}, learning_rate=3e-4),
        "resnet8": Architecture(resnet.ResNet8, learning_rate=3e-3),
        "resnet8_bn": Architecture(resnet.ResNet8BatchNorm, learning_rate=3e-3),
        "resnet20": Architecture(resnet.ResNet20, learning_rate=3e-3),
        "resnet20_bn": Architecture(resnet.ResNet20BatchNorm, learning_rate=3e-3),
        "resnet32": Architecture(resnet.ResNet32, learning_rate=3e-3),
        "resnet50": Architecture(
            resnet.ResNet50,
            small={"width_multiplier": 1 / 8},
            learning_rate=3e-3,
            num_epochs=10,
        ),
        "vit": Architecture(
            vit.ViT,
            width="width",
            depth="num_blocks",
            small={"num_blocks": 2},
            view=datasets.View(num_train=20_000),  # at full resolution, for its patches
            num_epochs=10,
        ),
    },
)


def check_options(architecture: str, options: Mapping[str, Any]) -> None:
    """Check the sizes of an architecture.

    Raises:
        ValueError: for an unknown architecture or size, or one that is no positive number.
    """
    checks.choice("an architecture", architecture, ARCHITECTURES, "build_model")
    sizes = ARCHITECTURES[architecture].sizes
    checks.options(options, sizes, f"a size of {architecture}")
    for name, value in options.items():
        kind = checks.Count if sizes[name].annotation is int else checks.Positive
        checks.argument(f"{name} of {architecture}", value, kind, "build_model")
