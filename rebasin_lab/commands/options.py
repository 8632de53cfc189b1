"""Options that several commands have, and values of their own kinds."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np


class Shape(NamedTuple):
    """The shape and type of one example, without the batch."""

    sizes: tuple[int, ...]
    dtype: str = "float32"


class ShapeType(click.ParamType):
    """A shape such as 3x32x32, or 128:int32 for tokens."""

    name = "SHAPE"

    def convert(self, value: Any, param: Any, ctx: Any) -> Shape:
        """Parse it."""
        if isinstance(value, Shape):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:x\d{1,6}){0,7})(?::(float32|int32))?", str(value))
        sizes = tuple(map(int, found[1].split("x"))) if found else ()
        if not found or not all(sizes):
            self.fail(
                f"Expected the shape of one example without its batch, as 3x32x32, or 128:int32 "
                f"for integers; got {value!r}.",
                param,
                ctx,
            )
        return Shape(sizes, found[2] or "float32")


class NumbersType(click.ParamType):
    """Numbers with commas between."""

    name = "NUMBERS"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Parse them; a list, as from a file, is taken as it is."""
        given = value if isinstance(value, list | tuple) else str(value).split(",")
        try:
            numbers = tuple(float(each) for each in given)
        except (TypeError, ValueError):
            numbers = (math.nan,)
        if not np.isfinite(numbers).all():
            self.fail(f"Expected numbers with commas between; got {value!r}.", param, ctx)
        return numbers


def _all(*decorators: Callable) -> Callable:
    def decorate(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


network = _all(
    click.option(
        "--torch",
        metavar="PKG:CLASS",
        help="The network, as a class or function of PyTorch that is called without arguments.",
    ),
    click.option(
        "--model",
        metavar="PKG:FN",
        help="The network, as fn(params, x) of JAX in evaluation mode, or an object with apply. "
        "Like --torch it is imported from the working directory: code of yours, which runs. Names "
        "with / in the file are nested dicts in params.",
    ),
    click.option(
        "--input",
        "shape",
        type=ShapeType(),
        help="Shape of one example without the batch, as 3x32x32, or 128:int32 for tokens "
        "[default: that of --data].",
    ),
    click.option(
        "--statistics",
        multiple=True,
        metavar="NAME",
        help="Leaves that are running statistics, not weights: a name, its beginning or a part "
        "[default: what the network says, else leaves of BatchNorm by their usual names].",
    ),
    click.option(
        "--torch-file",
        is_flag=True,
        help="Read files of torch.save (.pt, .pth, .th, .bin, .ckpt), by PyTorch's "
        "weights_only=True, which runs nothing. The only pickles that are read.",
    ),
)

data = _all(
    click.option(
        "--data",
        metavar="PATH",
        help="Images to look at: a folder of them, in a folder for each class if there are labels, "
        "or an .npz with 'images' and, if there are, 'labels'. Pixels (uint8, n x height x width "
        "x channels) become [0, 1], then --mean and --std, and channels first for --torch; other "
        "arrays are taken as they are.",
    ),
    click.option(
        "--images",
        "num_images",
        type=click.IntRange(1, 10_000_000),
        default=2000,
        show_default=True,
        help="Look at so many images of --data, drawn at random; at all, if there are fewer.",
    ),
    click.option(
        "--mean",
        type=NumbersType(),
        metavar="NUMBERS",
        help="Subtract from pixels in [0, 1]: a number, or one for each channel.",
    ),
    click.option(
        "--std", type=NumbersType(), metavar="NUMBERS", help="Then divide by these, likewise."
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 100_000),
        default=100,
        show_default=True,
        help="Images in a batch.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        default=0,
        show_default=True,
        help="Of the choice of images and of the matching.",
    ),
)

dry_run = click.option("--dry-run", is_flag=True, help="Check all, say what would be done, stop.")
force = click.option("--force", is_flag=True, help="Write over files that are there.")


def output(name: str, what: str, *, required: bool = False) -> Callable:
    """An option for a file to write."""
    return click.option(name, required=required, metavar="FILE", help=what)
