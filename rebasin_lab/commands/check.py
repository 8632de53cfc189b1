"""`rebasin-lab check`: the architectures of two checkpoints, and how their weights are related."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from rebasin_lab import metrics, symmetry
from rebasin_lab.commands import alignment, options, outputs
from rebasin_lab.commands.errors import Command
from rebasin_lab.commands.inputs import Inputs, open_inputs

# Fixed in advance, and stated in the help.
SAME = 1e-3  # rounding to bfloat16 is 1e-3, to float16 1e-4
NEAR = 1.0  # cosine of 0.5
NEAR_MOVED = 0.7  # cosine of 0.75: matching brings unrelated weights nearer, too
IN_PLACE = 0.9  # of the units, after matching
DIFFERENT = 3  # exit status for different architectures


HELP = f"""Compare two checkpoints: architecture, then basin.

Architecture: leaves of the same names and shapes. With --torch or --model, also the groups of units
that can be permuted, the largest change of the outputs when they are (relative to the outputs;
rounding for a right spec), and weight matching: the share of units that it leaves in place, and the
distance before and after.

The distance is |A - B| / sqrt((|A|^2 + |B|^2) / 2) over arrays of two axes or more, statistics
aside: 0 for equal weights, 1.41 for orthogonal ones. The verdict is the first that holds:

\b
same weights       distance at most {SAME:g}
permuted copy      distance after matching at most {SAME:g}
same basin         distance at most {NEAR:g}, and matching leaves {IN_PLACE:.0%} of units in place
permuted relative  distance after matching at most {NEAR_MOVED:g}: a permuted copy, trained on
unrelated          none of these

Without a network there is no matching: then it is same weights, same basin (by the distance alone)
or unknown. The exit status is 0 for all verdicts, {DIFFERENT} for different architectures, 1 for
errors and 2 for a wrong call.
"""


@click.command(cls=Command, help=HELP)
@click.argument("networks", nargs=2, metavar="A B")
@options.network
@options.data
@options.output("--json", "Write all numbers to this file, too.")
@options.force
def check(networks: tuple[str, str], **given: Any) -> None:
    """Compare two checkpoints."""
    place = outputs.checked_output(given["json"], "--json", ".json", force=given["force"])
    inputs = open_inputs(networks, may_differ=True, **given)
    if inputs.differences:
        measured: dict[str, Any] = {"differences": list(inputs.differences)}
        verdict = "different architectures"
        for difference in inputs.differences[:20]:
            click.echo(difference)
        if len(inputs.differences) > 20:
            click.echo(f"and {len(inputs.differences) - 20} more differences")
    else:
        measured = _compared(inputs, seed=given["seed"], batch_size=given["batch_size"])
        verdict = verdict_of(measured)
    click.echo(verdict)
    if place:
        record = outputs.record_of("check", inputs, {"seed": given["seed"]}, measured)
        outputs.write_json(place, record | {"verdict": verdict})
        click.echo(f"numbers in {place.name}")
    if inputs.differences:
        sys.exit(DIFFERENT)


def verdict_of(measured: Mapping[str, Any]) -> str:
    """The relation of two networks, by the thresholds."""
    before, after = measured["distance_before"], measured.get("distance_after")
    if before <= SAME:
        return "same weights"
    if after is None:
        advice = "unknown: permuted or unrelated; --torch or --model tells"
        return "same basin, by the distance alone" if before <= NEAR else advice
    if after <= SAME:
        return "permuted copy"
    if before <= NEAR and measured["identity_share"] >= IN_PLACE:
        return "same basin"
    return "permuted relative" if after <= NEAR_MOVED else "unrelated"


def _compared(inputs: Inputs, *, seed: int, batch_size: int) -> dict[str, Any]:
    """Numbers of two checkpoints of one architecture, which are printed."""
    first, other = inputs.checkpoints
    click.echo(f"one architecture: {len(first)} arrays, {first.num_bytes / 1e6:,.1f} MB")
    if inputs.network is None:
        pair = (inputs.leaves(each) for each in inputs.checkpoints)
        before = alignment.relative_distance(*pair, inputs.statistics)
        click.echo(f"distance {before:.4f}")
        return {"distance_before": before}
    spec = inputs.spec()
    inside = inputs.network.example
    if inputs.examples is not None:
        inside = next(iter(inputs.examples.batches(min(batch_size, 16))))
    change = symmetry.verify_equivalence(
        inputs.network.apply, spec, inputs.params(first), inside, num_trials=1, seed=seed
    )
    found = alignment.align(inputs, spec, other, "weight", seed=seed, batch_size=batch_size).record
    click.echo(
        f"{len(spec.permutations)} groups of {found['units']:,} units; outputs change by "
        f"{change:.1e} when they are permuted\n"
        f"distance {found['distance_before']:.4f}, after weight matching "
        f"{found['distance_after']:.4f}; {found['identity_share']:.1%} of units stay in place"
    )
    measured = found | {"groups": len(spec.permutations), "equivalence": change}
    if inputs.examples is not None and inputs.examples.labels is not None:
        images, labels = inputs.examples.all(), inputs.examples.labels
        for name, checkpoint in zip("ab", inputs.checkpoints, strict=True):
            result = metrics.evaluate(
                inputs.network.apply, inputs.params(checkpoint), images, labels
            )
            measured[f"accuracy_{name}"] = result.accuracy
            click.echo(f"accuracy of {name.upper()} {result.accuracy:.4f}")
    return measured
