"""`rebasin-lab merge`: one network from two or more."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import numpy as np

from rebasin_lab import merging, metrics, paths, pytrees
from rebasin_lab.commands import alignment, options, outputs
from rebasin_lab.commands.config import EXAMPLE, read_config
from rebasin_lab.commands.errors import Command, as_paragraphs
from rebasin_lab.commands.inputs import Inputs, open_inputs

METHODS = ("average", "many", "least-squares")
_OF_CONFIG = ("config", "networks", "to", "method", "weights", "dry_run", "force")


def _read_config(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Let the file give what the command line does not."""
    if value is None:
        return
    own = [each for each in ctx.command.params if each.name not in _OF_CONFIG and not each.is_eager]
    by_option = {each.opts[0].removeprefix("--"): each.name for each in own}
    with as_paragraphs():
        given = read_config(value, by_option)
    ctx.default_map = {by_option.get(name, name): one for name, one in given.items()}


HELP = (
    """Merge two or more checkpoints into one of the same size.

Names, types and metadata of A are kept. A card with the recipe, SHA-256 of all files, versions and
measurements is in the metadata, under rebasin_lab_card, and beside --to in Markdown. All is checked
before any work, and a file is there whole or not at all.

It takes a --torch module or a --model function, but for --method average --align none, which reads
array by array. Else memory holds all networks and, for average, one batch of activations;
re-estimation also the images of --data; least-squares these and what later layers read, of every
network, for all images. With --scratch that lies on disk, and takes a quarter more time.

A merge.yml has the shape of mergekit's; parameters are options without their dashes. Other keys are
refused. Paths are read from the working directory.

\b
"""
    + EXAMPLE
)


@click.command(cls=Command, help=HELP)
@click.argument("networks", nargs=-1, metavar="A B [C]...")
@options.output("--to", "Where the merged network goes: a .safetensors file.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="average",
    show_default=True,
    help="average: of A and what is aligned with it. many: align each with the mean of all others "
    "(MergeMany), then average. least-squares: fit layer after layer to what the aligned networks "
    "compute on unlabelled --data; best for thin networks.",
)
@click.option(
    "--align",
    "by",
    type=click.Choice(["weight", "activation", "none"]),
    help="How each network is aligned with A [default: activation with --data, else weight].",
)
@click.option(
    "--weights",
    type=options.NumbersType(),
    metavar="NUMBERS",
    help="One for each network, with commas between, up to a common factor [default: equal].",
)
@click.option(
    "--size",
    type=click.FloatRange(0, 16, min_open=True),
    help="Of least-squares: choose inner units among those of all networks, as many as this share "
    "of one network's. Above 1 they are wider, for a --model that takes any width. [default: no "
    "choice, each unit is made from aligned ones]",
)
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    metavar="FILE",
    help="Take the arguments from a file such as merge.yml above; the command line wins.",
)
@options.network
@options.data
@click.option(
    "--keep-statistics",
    is_flag=True,
    help="Average running statistics of BatchNorm. By default they are re-estimated on --data.",
)
@click.option(
    "--scratch",
    metavar="FOLDER",
    help="Of least-squares: keep on disk, in this folder, what later layers read. At the end it is "
    "empty again.",
)
@click.option(
    "--controls",
    is_flag=True,
    help="Measure, on labelled --data, what the same merge makes of each network alone and with "
    "the numbers of all but A shuffled, and what an ensemble does. It takes as many merges more.",
)
@options.dry_run
@options.force
def merge(
    networks: tuple[str, ...],
    to: str | None,
    method: str,
    by: str | None,
    weights: tuple[float, ...] | None,
    size: float | None,
    keep_statistics: bool,
    controls: bool,
    scratch: str | None,
    dry_run: bool,
    force: bool,
    **given: Any,
) -> None:
    """Merge two or more checkpoints."""
    began = time.process_time()
    if len(networks) < 2 or to is None:
        raise click.UsageError(
            "Expected two or more checkpoints and --to FILE, here or in the file of --config."
        )
    by = _alignment_of(method, by, has_data=bool(given["data"]))
    _check_weights(weights, method, len(networks))
    for option, value in (("--size", size), ("--scratch", scratch)):
        if value is not None and method != "least-squares":
            raise ValueError(
                f"Expected {option} with --method least-squares; got it with {method}."
            )
    if scratch is not None:
        paths.checked_folder(scratch, "--scratch")
    is_plain = method == "average" and by == "none"
    looks = method == "least-squares" or by == "activation"
    if controls and (is_plain or method == "many"):
        raise ValueError(
            "Expected --controls with --method average or least-squares, of aligned networks; got "
            f"--method {method}{' --align none' if is_plain else ''}."
        )
    inputs = open_inputs(
        networks,
        needs_network="" if is_plain else "its computation says which units can be permuted",
        needs_data=f"{method if by != 'activation' else by} looks at images" if looks else "",
        **given,
    )
    place = outputs.checked_output(
        to, "--to", ".safetensors", force=force, inputs=inputs.checkpoints
    )
    place_of_card = outputs.card_place(place, force=force)
    reestimates = _reestimates(inputs, method, keep_statistics)
    if controls and (inputs.examples is None or inputs.examples.labels is None):
        raise ValueError("Expected --controls with labelled --data, to measure on; there are none.")
    spec = None if is_plain and inputs.network is None else inputs.spec()
    steps = [
        "" if by == "none" else f"align {len(networks) - 1} with A by {by}",
        f"merge by {method}",
        f"re-estimate {len(inputs.statistics)} statistics" if reestimates else "",
        f"merge {len(networks) + 1} times more, as controls" if controls else "",
    ]
    if dry_run:
        outputs.say_plan(inputs, list(filter(None, steps)), [place, place_of_card])
        return
    how = {"seed": given["seed"], "batch_size": given["batch_size"]}
    measurements: dict[str, Any] = {}
    if inputs.network is None:
        leaves: Mapping[str, Any] = _Mean(inputs, weights)
    else:

        def merged(
            inputs: Inputs, weights: Sequence[float] | None, found: dict[str, Any]
        ) -> Mapping[str, Any]:
            leaves = _merged(inputs, spec, method, by, weights, size, found, scratch=scratch, **how)
            return _reestimated(inputs, leaves, given["batch_size"]) if reestimates else leaves

        leaves = merged(inputs, weights, measurements)
        if reestimates:
            measurements["statistics"] = f"{len(inputs.statistics)} re-estimated"
        beside = _controls(inputs, merged) if controls else {}
        _evaluate(inputs, {"merged": leaves} | beside, measurements, ensemble=controls)
    recipe = {"method": method, "align": by, "weights": list(weights or ()) or "equal", **how}
    if size is not None:
        recipe["size"] = size
    record = outputs.record_of("merge", inputs, recipe, measurements)
    seconds = time.process_time() - began
    like = inputs.checkpoints[0]
    if size is not None:
        like = outputs.with_shapes(inputs, like, leaves)
    outputs.write_weights(place, place_of_card, inputs, like, leaves, record, cpu_seconds=seconds)


def _alignment_of(method: str, by: str | None, *, has_data: bool) -> str:
    if method == "many":
        if by not in (None, "weight"):
            raise ValueError(
                f"Expected --align weight with --method many, which aligns by weights; got {by}."
            )
        return "weight"
    return by or ("activation" if has_data else "weight")


def _check_weights(weights: Sequence[float] | None, method: str, num_networks: int) -> None:
    if weights is None:
        return
    if method == "many":
        raise ValueError("Expected no --weights with --method many, which gives all the same.")
    if len(weights) != num_networks or not sum(weights) > 0:
        raise ValueError(
            f"Expected --weights with {num_networks} numbers, one for each network, and a sum "
            f"above 0; got {', '.join(f'{one:g}' for one in weights)}."
        )


def _reestimates(inputs: Inputs, method: str, keep: bool) -> bool:
    """Whether statistics are re-estimated; a warning where they should be and cannot."""
    if keep or not inputs.statistics or method == "least-squares":
        return False
    if inputs.network is not None and inputs.examples is not None:
        return True
    click.echo(
        "Warning: running statistics of BatchNorm are averaged, which is wrong for a merged "
        "network. With a network and --data they are re-estimated.",
        err=True,
    )
    return False


class _Mean(Mapping):
    """The mean of checkpoints, computed array by array."""

    def __init__(self, inputs: Inputs, weights: Sequence[float] | None):
        self._checkpoints, self._weights = inputs.checkpoints, weights

    def __getitem__(self, name: str) -> np.ndarray:
        present = [each for each in self._checkpoints if name in each.leaves]
        if len(present) < len(self._checkpoints):  # a counter, that one does not have
            return self._checkpoints[0][name]
        return merging.average([{name: each[name]} for each in present], self._weights)[name]

    def __iter__(self):
        return iter(self._checkpoints[0])

    def __len__(self) -> int:
        return len(self._checkpoints[0])


def _merged(
    inputs: Inputs,
    spec: Any,
    method: str,
    by: str,
    weights: Sequence[float] | None,
    size: float | None,
    measurements: dict[str, Any],
    *,
    scratch: str | None,
    seed: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """The merged network by path."""
    first, *others = inputs.checkpoints
    if method == "many":
        result = merging.merge_many(
            spec,
            [inputs.leaves(each) for each in inputs.checkpoints],
            seed=seed,
            ignore=inputs.statistics,
            on_round=lambda objective: click.echo(f"objective {objective:.6g}", err=True),
        )
        measurements |= {
            "objective_before": result.history[0],
            "objective_after": result.history[-1],
            "rounds": result.num_rounds,
            "converged": result.converged,
        }
        return dict(result.params)
    aligned = [inputs.leaves(first)]
    for other in others:
        if by == "none":
            aligned.append(inputs.leaves(other))
            continue
        found = alignment.align(inputs, spec, other, by, seed=seed, batch_size=batch_size)
        aligned.append(found.leaves)
        measurements.setdefault("alignments", []).append(found.record)
        click.echo(
            f"aligned {other.path.name}: distance {found.record['distance_before']:.4f}, now "
            f"{found.record['distance_after']:.4f}",
            err=True,
        )
    if method == "average":
        return merging.average(aligned, weights)
    result = merging.least_squares(
        inputs.network.apply,
        [
            inputs.as_params(checkpoint, leaves)
            for checkpoint, leaves in zip(inputs.checkpoints, aligned, strict=True)
        ],
        inputs.examples.batches(batch_size),
        weights=weights,
        size=size,
        statistics_paths=inputs.statistics,
        seed=seed,
        scratch=scratch,
        on_layer=_say_layer,
    )
    measurements |= {"explained": dict(result.explained), "num_samples": result.num_samples}
    return {path: np.asarray(leaf) for path, leaf in pytrees.flatten(result.params).items()}


def _say_layer(path: str, share: float) -> None:
    click.echo(f"{path}: {share:.1%} explained", err=True)


def _reestimated(
    inputs: Inputs, leaves: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    params = inputs.as_params(inputs.checkpoints[0], leaves)
    images = inputs.examples.all()
    found = merging.reestimate_statistics(
        inputs.network.model, params, images, batch_size=batch_size
    )
    measured = pytrees.flatten(found)
    return {path: measured[path] if path in inputs.statistics else x for path, x in leaves.items()}


def _controls(inputs: Inputs, merged: Callable) -> dict[str, Mapping[str, Any]]:
    """What the same merge makes of other networks under the names of these, by name."""

    def merge(networks: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> Mapping[str, Any]:
        checkpoints = tuple(
            dataclasses.replace(each, _read=arrays.__getitem__)
            for each, arrays in zip(inputs.checkpoints, networks, strict=True)
        )
        return merged(dataclasses.replace(inputs, checkpoints=checkpoints), weights, {})

    found = merging.controls(merge, [dict(each) for each in inputs.checkpoints])
    return {f"control: {name}": leaves for name, leaves in found.items()}


def _evaluate(
    inputs: Inputs,
    merged: Mapping[str, Mapping[str, np.ndarray]],
    measurements: dict[str, Any],
    *,
    ensemble: bool,
) -> None:
    """Measure all networks where there are labels."""
    if inputs.examples is None or inputs.examples.labels is None:
        return
    images, labels = inputs.examples.all(), inputs.examples.labels
    results: dict[str, Any] = {}

    def measure(name: str, apply_fn: Callable, params: Any) -> None:
        loss, accuracy = metrics.evaluate(apply_fn, params, images, labels)
        results[name] = {"loss": loss, "accuracy": accuracy}
        click.echo(f"{name}: accuracy {accuracy:.4f}, loss {loss:.4f}")

    apply_fn = inputs.network.apply
    for number, each in enumerate(inputs.checkpoints, start=1):
        measure(f"{number} {each.path.name}", apply_fn, inputs.params(each))
    for name, leaves in merged.items():
        measure(name, apply_fn, inputs.as_params(inputs.checkpoints[0], leaves))
    if ensemble:
        every = [*map(inputs.params, inputs.checkpoints)]
        measure("ensemble", merging.ensemble(apply_fn), every)
    measurements["on the images of --data"] = results
