"""Checks of images, labels, parameters and functions, before any work."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, PyTree

from rebasin_lab import datasets, pytrees
from rebasin_lab.metrics import arrays, batches
from rebasin_lab.metrics import labels as label_checks

OTHER_LOSS = "Give a loss_fn for another loss than cross-entropy, such as that of a regression."


def checked_data(
    apply_fn: Callable,
    params: PyTree,
    data: datasets.Dataset,
    *,
    loss_fn: Callable | None = None,
    name: str = "data",
    advice: str = OTHER_LOSS,
) -> dict[str, tuple[Array | np.ndarray, Array | np.ndarray]]:
    """The images and labels of both splits of a data set, checked by `checked_examples`.

    Raises:
        ValueError: as `checked_examples`, and for anything but a data set.
    """
    if not isinstance(data, datasets.Dataset):
        raise ValueError(
            f"Expected {name} to be a Dataset: a loss is measured on its images and labels; got "
            f"{type(data).__name__}. Take one from load_dataset, or build a Dataset. (Where only a "
            "matcher looks at batches of your own, give compare_matchers the data set of the lines "
            "as eval_data.)"
        )
    return {
        split: checked_examples(
            apply_fn,
            params,
            getattr(data, f"{split}_images"),
            getattr(data, f"{split}_labels"),
            loss_fn=loss_fn,
            name=f"the {split} split of {name}",
            advice=advice,
        )
        for split in ("train", "test")
    }


def checked_examples(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    loss_fn: Callable | None = None,
    name: str = "images",
    advice: str = OTHER_LOSS,
) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """Images and labels as arrays, checked so that a loss can be measured on them.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: arrays of NumPy or JAX, or tensors of PyTorch.
        labels: one or more per image, likewise.
        loss_fn: as for `evaluate`.
        name: of the images and labels, for errors.
        advice: for an error about labels that are no classes.

    Raises:
        ValueError: naming the argument, and what is wrong with it.
    """
    if loss_fn is not None:
        check_function(loss_fn, "loss_fn", ("outputs", "labels"))
    labels = arrays.in_type_of_jax(
        arrays.as_array(labels, f"labels of {name}"), f"labels of {name}"
    )
    images = arrays.as_array(images, f"images of {name}")
    if len(images) != len(labels):
        raise ValueError(
            f"Expected images with one label each; got {len(images)} images, {len(labels)} labels "
            f"for {name}."
        )
    images, outputs = checked_images(apply_fn, params, images, name=f"images of {name}")
    if loss_fn is None:
        label_checks.check_classes(outputs, labels, name, advice)
    else:
        label_checks.check_losses(outputs, labels, loss_fn, name)
    return images, labels


def checked_images(
    apply_fn: Callable,
    params: PyTree,
    images: Array | np.ndarray,
    *,
    name: str = "images",
) -> tuple[Array | np.ndarray, PyTree]:
    """Images as an array, checked with the network, and the shapes of its outputs.

    Args:
        apply_fn: `apply_fn(params, images) -> outputs`.
        params: the parameters.
        images: the images.
        name: of the images, for errors.

    Returns:
        The images; the outputs of at most `BATCH_SIZE` of them, as `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: naming the argument, and what is wrong with it.
    """
    check_function(apply_fn, "apply_fn", ("params", "images"))
    images = arrays.checked_array(images, name)
    check_parameters(params, "the parameters")
    size = min(batches.BATCH_SIZE, len(images))
    outputs, *_ = batches.forward_pass(apply_fn, params, images, size)
    if hasattr(outputs, "shape") and (not outputs.shape or outputs.shape[0] != size):
        raise ValueError(
            f"Expected apply_fn to return a row for each of {size} images; got outputs of "
            f"shape {outputs.shape}."
        )
    return images, outputs


def check_parameters(params: PyTree, name: str) -> None:
    """Check that a model holds numbers, real or complex, and no NaN.

    Raises:
        ValueError: naming the first leaf that is wrong, and the number of NaN in it.
    """
    for path, leaf in pytrees.flatten(params).items():
        kind = getattr(getattr(leaf, "dtype", None), "kind", type(leaf).__name__)
        if kind in ("O", "S", "U", "M", "str", "bytes", "function"):
            raise ValueError(
                f"Expected numbers in {name} '{path}'; got {getattr(leaf, 'dtype', leaf)!r}. Leave "
                "out what is no parameter."
            )
        arrays.check_no_nan(leaf, f"{name} '{path}'", "Did their training diverge?")


def check_function(function: Any, name: str, arguments: Sequence[str] = ()) -> None:
    """Check that a function can be called, and is hashable, so that it is compiled once.

    Args:
        function: any object.
        name: of the function, for errors.
        arguments: those it must take, if known.

    Raises:
        ValueError: if not, naming it.
    """
    if not callable(function):
        raise ValueError(f"Expected {name} to be a function; got {function!r}.")
    try:
        hash(function)
    except TypeError as error:
        raise ValueError(
            f"Expected {name} to be hashable, as functions and bound methods are; got a "
            f"{type(function).__name__}. Write a lambda around it."
        ) from error
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some builtins
        return
    try:
        if arguments:
            signature.bind(*arguments)
    except TypeError as error:
        raise ValueError(
            f"Expected a function {name}({', '.join(arguments)}); it takes {signature}: {error}. "
            "Write a lambda around it."
        ) from error
