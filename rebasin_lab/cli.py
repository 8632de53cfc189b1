"""The command `rebasin-lab`."""

import sys
from pathlib import Path

import click

from rebasin_lab import experiments, figures


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rebasin_lab")
def main() -> None:
    """Git Re-Basin as something to hold."""


@main.command()
@click.option(
    "--profile",
    default="quick",
    show_default=True,
    help=f"Sizes of the run: {', '.join(experiments.PROFILES)}.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option("--only", multiple=True, metavar="START", help="Notebooks starting so, as in 04.")
@click.option("--run", "run_name", default="", help="Folder under runs/ [default: by profile].")
@click.option(
    "--figures",
    "figures_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where figures go [default: figures/ for quick, else the run's folder].",
)
def reproduce(
    profile: str,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    run_name: str,
    figures_dir: Path | None,
) -> None:
    """Run the notebook sequence and print the scoreboard."""
    try:
        from rebasin_lab import runner

        plan = runner.plan_run(
            profile=profile,
            parameters=dict(map(runner.parse_parameter, settings)),
            only=only,
            run_name=run_name,
            figures_dir=figures_dir.resolve() if figures_dir else None,
        )
        status = runner.reproduce(plan)
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error}. Running notebooks needs the extra [lab]: in the checkout, "
            "pip install --editable '.[lab]'."
        ) from error
    except (ValueError, OSError) as error:  # the reader's to mend: a paragraph, not a traceback
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What ran is kept; the same command goes on from there.")
        status = 130
    sys.exit(status)


@main.command()
def redraw() -> None:
    """Draw every figure again from the numbers stored beside it."""
    for path in figures.saved_figures():
        figures.redraw(path)
        click.echo(path.with_suffix(".svg"))
