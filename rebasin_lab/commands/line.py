"""`rebasin-lab line`: loss and accuracy on the straight line from A to B."""

from typing import Any

import click
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import merging, metrics, paths, progress, pytrees
from rebasin_lab.analysis import interpolation
from rebasin_lab.commands import alignment, options, outputs
from rebasin_lab.commands.errors import Command
from rebasin_lab.commands.inputs import Inputs, open_inputs


@click.command(cls=Command)
@click.argument("networks", nargs=2, metavar="A B")
@options.output("--to", "Where the numbers go: a .json file.", required=True)
@click.option(
    "--points",
    type=click.IntRange(2, 1001),
    default=11,
    show_default=True,
    help="On each line, both ends included.",
)
@click.option(
    "--align",
    "by",
    type=click.Choice(["weight", "activation", "none"]),
    default="weight",
    show_default=True,
    help="How B is aligned with A for a second line, beside that to B as it is.",
)
@options.network
@options.data
@click.option(
    "--keep-statistics",
    is_flag=True,
    help="Interpolate running statistics of BatchNorm. By default they are re-estimated on the "
    "images at each point.",
)
@options.dry_run
@options.force
def line(
    networks: tuple[str, str],
    to: str,
    points: int,
    by: str,
    keep_statistics: bool,
    dry_run: bool,
    force: bool,
    **given: Any,
) -> None:
    """Measure cross-entropy and accuracy on the line from A to B, on labelled images.

    There are two lines: to B as it is (naive), and to B in the order of A's units (permuted). A
    barrier is the largest loss above the mean of the two ends. Memory holds both networks and the
    images.
    """
    inputs = open_inputs(
        networks,
        needs_network="its outputs are measured",
        needs_data="the line is measured on images",
        **given,
    )
    if inputs.examples.labels is None:
        raise ValueError(
            f"Expected labels in --data; '{inputs.examples.name}' has none. Put images into a "
            "folder for each class, or an array 'labels' into the .npz."
        )
    place = outputs.checked_output(to, "--to", ".json", force=force, inputs=inputs.checkpoints)
    spec = None if by == "none" else inputs.spec()
    reestimates = bool(inputs.statistics) and not keep_statistics
    if dry_run:
        lines = "one line" if spec is None else f"two lines, B aligned by {by} on the second"
        steps = [f"measure {points} points of {lines}"]
        outputs.say_plan(inputs, steps, [place])
        return
    first, other = inputs.checkpoints
    ends = {"naive": inputs.params(other)}
    measurements: dict[str, Any] = {"statistics_reestimated": reestimates}
    if spec is not None:
        how = {"seed": given["seed"], "batch_size": given["batch_size"]}
        found = alignment.align(inputs, spec, other, by, **how)
        ends["permuted"] = inputs.as_params(other, found.leaves)
        measurements["alignment"] = found.record
    images = inputs.examples.all()
    with progress.progress_bar(points * len(ends), "points") as bar:
        for name, params_b in ends.items():
            curve = _curve(
                inputs,
                inputs.params(first),
                params_b,
                images,
                points,
                given["batch_size"] if reestimates else 0,
                bar,
            )
            numbers = {
                "loss": interpolation.finite_numbers(curve.test_loss),
                "accuracy": interpolation.finite_numbers(curve.test_accuracy),
                "barrier": interpolation.loss_barrier(curve),
            }
            measurements |= {"lambdas": curve.lambdas.tolist(), name: numbers}
    recipe = {"align": by, "points": points, "seed": given["seed"]}
    outputs.write_json(place, outputs.record_of("line", inputs, recipe, measurements))
    for name in ends:
        half = measurements[name]["accuracy"][points // 2]
        click.echo(
            f"{name}: barrier {measurements[name]['barrier']:.4f} nats, accuracy at "
            f"{measurements['lambdas'][points // 2]:.2f} {half:.4f}"
        )
    click.echo(paths.shown(place))


def _curve(
    inputs: Inputs,
    params_a: PyTree,
    params_b: PyTree,
    images: np.ndarray,
    num_points: int,
    reestimation: int,
    bar: Any,
) -> interpolation.InterpolationCurve:
    """The line on one set of images, with statistics re-estimated in batches of this size."""
    lambdas, measured = np.linspace(0, 1, num_points), []
    for lam in lambdas:
        params = pytrees.lerp(lam, params_a, params_b)
        if reestimation:
            params = merging.reestimate_statistics(
                inputs.network.model, params, images, batch_size=reestimation
            )
        measured.append(
            metrics.evaluate(inputs.network.apply, params, images, inputs.examples.labels)
        )
        bar.update(1)
    loss, accuracy = map(np.array, zip(*measured, strict=True))
    return interpolation.InterpolationCurve(lambdas, loss, loss, accuracy, accuracy)
