"""Files that a command writes: checked before any work, written at its end; and cards."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from rebasin_lab import paths, texts
from rebasin_lab.commands.inputs import Inputs
from rebasin_lab.interop import Checkpoint, write_checkpoint

CARD = "rebasin_lab_card"  # the entry in a file's metadata

_PACKAGES = ("rebasin_lab", "jax", "numpy", "scipy")


def checked_output(
    given: str | None,
    option: str,
    ending: str,
    *,
    force: bool,
    inputs: Sequence[Checkpoint] = (),
) -> Path | None:
    """The path of a file to write, which is not there yet.

    Args:
        given: as it was given; None for no file.
        option: that gave it, for errors.
        ending: of its name.
        force: accept a file that is there, but none that is read.
        inputs: what is read.

    Raises:
        ValueError: for another ending, a folder that cannot be one, or a name that is taken.
    """
    if given is None:
        return None
    path = Path(given).expanduser()
    if path.suffix != ending or not path.stem:
        raise ValueError(
            f"Expected {option} to be a file name that ends in {ending}; got '{path}'."
        )
    path = paths.checked_folder(path.parent, f"the folder of {option}") / path.name
    read = [file.resolve() for checkpoint in inputs for file in checkpoint.files]
    if path.resolve() in read:
        raise ValueError(
            f"Expected {option} to be a new file; '{paths.shown(path)}' is read by this command. "
            "Choose another name."
        )
    if path.exists() and (not force or not path.is_file()):
        advice = "Choose another name" + (", or write over it by --force." if not force else ".")
        raise ValueError(
            f"Expected {option} to be a new file; there is '{paths.shown(path)}'. {advice}"
        )
    return path


def card_place(path: Path, *, force: bool) -> Path:
    """The Markdown file beside a file of weights."""
    beside = path.with_suffix(".md")
    return checked_output(str(beside), "the card beside --to", ".md", force=force) or beside


def record_of(
    command: str, inputs: Inputs, recipe: Mapping[str, Any], measurements: Mapping[str, Any]
) -> dict[str, Any]:
    """What was done to what, for a card or a file of numbers; without paths and times.

    Args:
        command: its name.
        inputs: that it read.
        recipe: its options.
        measurements: numbers that do not differ from run to run.
    """
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    network = inputs.network
    return {
        "made_by": f"rebasin-lab {command}",
        "recipe": dict(recipe),
        "inputs": [
            {"name": each.path.name, "sha256": each.digests()} for each in inputs.checkpoints
        ],
        "network": network and {"name": network.name, "sha256": network.source},
        "data": inputs.examples and inputs.examples.described(),
        "versions": versions | {"python": platform.python_version()},
        "measurements": dict(measurements),
    }


def card(record: Mapping[str, Any], title: str, *, digest: str, cpu_seconds: float) -> str:
    """The record of a file of weights in Markdown.

    Args:
        record: of `record_of`.
        title: the name of the file.
        digest: SHA-256 of the file.
        cpu_seconds: that the command took.
    """
    lines = [f"# {_text(title)}", "", f"Made by `{record['made_by']}`.", ""]
    for heading in ("recipe", "inputs", "network", "data", "versions", "measurements"):
        value = record[heading]
        if value:
            lines += [f"## {heading.capitalize()}", "", *_rows(value), ""]
    lines += ["## File", "", f"- sha256: {digest}", f"- CPU seconds: {cpu_seconds:.1f}", ""]
    return "\n".join(lines)


def _rows(value: Any, indent: str = "") -> list[str]:
    """A record as nested lists."""
    if isinstance(value, Mapping):
        pairs = [(_text(str(name)), one) for name, one in value.items()]
    else:
        pairs = [(str(number + 1), one) for number, one in enumerate(value)]
    rows = []
    for name, one in pairs:
        if isinstance(one, Mapping) or (
            isinstance(one, list | tuple) and any(isinstance(each, Mapping) for each in one)
        ):
            rows += [f"{indent}- {name}:", *_rows(one, f"{indent}  ")]
        else:
            rows.append(f"{indent}- {name}: {_value(one)}")
    return rows


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:.6g}" if isinstance(value, float) else _text(str(value))


def _text(text: str) -> str:
    """A text without Markdown in it."""
    text = texts.in_a_line(text, 300)
    return "".join(f"\\{sign}" if sign in "\\`*<>[]#|&" else sign for sign in text)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON."""
    content = json.dumps(record, indent=1, allow_nan=False)
    paths.write_atomically(path, f"{content}\n".encode())


def say_plan(inputs: Inputs, steps: Sequence[str], written: Sequence[Path | None]) -> None:
    """Print what would be done."""
    for checkpoint in inputs.checkpoints:
        click.echo(
            f"read {paths.shown(checkpoint.path)}: {len(checkpoint)} arrays, "
            f"{checkpoint.num_bytes / 1e6:,.1f} MB, {checkpoint.kind}"
        )
    if inputs.examples is not None:
        labels = "with" if inputs.examples.labels is not None else "without"
        click.echo(
            f"look at {len(inputs.examples):,} of {inputs.examples.num_in_all:,} examples of "
            f"{texts.in_a_line(inputs.examples.name)}, {labels} labels"
        )
    for step in steps:
        click.echo(step)
    for path in written:
        if path is not None:
            click.echo(f"write {paths.shown(path)}")
    click.echo("Nothing is done: --dry-run.")


def with_shapes(inputs: Inputs, like: Checkpoint, leaves: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint with the shapes of other arrays, by path, in its own types."""
    leaf_of = inputs.leaf_of(like)
    shaped = {
        name: leaf._replace(shape=np.shape(leaves[leaf_of[name]])) if name in leaf_of else leaf
        for name, leaf in like.leaves.items()
    }
    return dataclasses.replace(like, leaves=shaped)


def write_weights(
    path: Path,
    place_of_card: Path,
    inputs: Inputs,
    like: Checkpoint,
    leaves: Mapping[str, Any],
    record: Mapping[str, Any],
    *,
    cpu_seconds: float,
) -> None:
    """Write a file of weights with its card, and the card beside it.

    Args:
        path: of the file.
        place_of_card: of the Markdown.
        inputs: of the command.
        like: the checkpoint whose names, types and metadata are kept; what is no parameter is its.
        leaves: arrays by path, or a mapping that computes each when it is asked for.
        record: of `record_of`.
        cpu_seconds: that the command took so far.
    """
    leaf_of = inputs.leaf_of(like)
    digest = write_checkpoint(
        path,
        like,
        lambda name: leaves[leaf_of[name]] if name in leaf_of else like[name],
        {CARD: json.dumps(record)},
    )
    text = card(record, path.name, digest=digest, cpu_seconds=cpu_seconds)
    paths.write_atomically(place_of_card, text.encode())
    click.echo(f"{paths.shown(path)}, its card {paths.shown(place_of_card)}")
