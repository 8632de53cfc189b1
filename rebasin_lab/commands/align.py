"""`rebasin-lab align`: write B with its units in the order of A's."""

import time
from typing import Any

import click

from rebasin_lab.commands import alignment, options, outputs
from rebasin_lab.commands.errors import Command
from rebasin_lab.commands.inputs import open_inputs


@click.command(cls=Command)
@click.argument("networks", nargs=2, metavar="A B")
@options.output("--to", "Where B goes, in the order of A: a .safetensors file.", required=True)
@click.option(
    "--method",
    type=click.Choice(["weight", "activation"]),
    help="What is matched [default: activation with --data, else weight].",
)
@options.network
@options.data
@options.output("--json", "Write the permutation and all numbers to this file.")
@options.dry_run
@options.force
def align(
    networks: tuple[str, str],
    to: str,
    method: str | None,
    json: str | None,
    dry_run: bool,
    force: bool,
    **given: Any,
) -> None:
    """Put the hidden units of B into the order of A's. B computes the same function as before.

    Names, types and metadata of B are kept; entries are moved, not changed. A card with the recipe,
    SHA-256 of all files, versions and distances is in the metadata, under rebasin_lab_card, and
    beside --to in Markdown. It takes a --torch module or a --model function. Memory holds both
    networks and one batch of activations.
    """
    began = time.process_time()
    method = method or ("activation" if given["data"] else "weight")
    inputs = open_inputs(
        networks,
        needs_network="its computation says which units can be permuted",
        needs_data="activation matching looks at images" if method == "activation" else "",
        **given,
    )
    place = outputs.checked_output(
        to, "--to", ".safetensors", force=force, inputs=inputs.checkpoints
    )
    place_of_card = outputs.card_place(place, force=force)
    numbers = outputs.checked_output(json, "--json", ".json", force=force)
    spec = inputs.spec()
    if dry_run:
        step = f"match {len(spec.permutations)} groups of units by {method}"
        outputs.say_plan(inputs, [step], [place, place_of_card, numbers])
        return
    other = inputs.checkpoints[1]
    found = alignment.align(
        inputs, spec, other, method, seed=given["seed"], batch_size=given["batch_size"]
    )
    recipe = {"method": method, "seed": given["seed"]}
    record = outputs.record_of("align", inputs, recipe, found.record)
    seconds = time.process_time() - began
    outputs.write_weights(
        place, place_of_card, inputs, other, found.leaves, record, cpu_seconds=seconds
    )
    if numbers:
        permutation = {name: indices.tolist() for name, indices in found.permutation.items()}
        outputs.write_json(numbers, record | {"permutation": permutation})
    click.echo(
        f"distance {found.record['distance_before']:.4f}, now "
        f"{found.record['distance_after']:.4f}; {found.record['identity_share']:.1%} of "
        f"{found.record['units']:,} units stayed in place"
    )
