"""The command `rebasin-lab`: the commands of the library, and those of the lab, which are here."""

import contextlib
import importlib
import os
import signal
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from rebasin_lab import paths, processes, texts
from rebasin_lab.commands import align, check, errors, line, merge
from rebasin_lab.paper import profiles


class _PlainErrors(click.Group):
    """A command whose errors hold no terminal sequences, on streams of any encoding."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        for stream in (sys.stdout, sys.stderr):
            texts.never_fails(stream)
        with _plain_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with processes.signals_raise(), _plain_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo("\nInterrupted.", err=True)
            sys.exit(128 + getattr(interrupt, "number", signal.SIGINT))


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = texts.plain(error.message)
        raise


@click.group(cls=_PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rebasin_lab")
def main() -> None:
    """Git Re-Basin: match, interpolate and merge neural networks, and reproduce the paper."""


for _command in (check.check, align.align, merge.merge, line.line):
    main.add_command(_command)


@main.command()
@click.option(
    "--profile",
    default="quick",
    show_default=True,
    help=f"Sizes of the run: {', '.join(profiles.PROFILES)}.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A field of the profile."
)
@click.option("--only", multiple=True, metavar="START", help="Notebooks starting so, as in 04.")
@click.option(
    "--run",
    "run_name",
    metavar="NAME",
    help="Name of the run, its folder under runs/ [default: by profile and settings].",
)
@click.option(
    "--figures",
    "figures_dir",
    metavar="DIRECTORY",
    help="Where figures go [default: figures/ in the run's folder].",
)
@click.option(
    "--jobs",
    "num_jobs",
    type=int,
    help="Processes to train in [default: two, if there are two cores].",
)
@click.option(
    "--timeout",
    type=float,
    metavar="MINUTES",
    help="Limit of each notebook [default: 60; laptop 360, paper a week].",
)
@click.option("--keep-going", is_flag=True, help="Go on after a notebook that failed.")
@click.option("--live-dials", is_flag=True, help="Store every stop of the dials, for a site.")
@click.option("--anew", is_flag=True, hidden=True)
@click.option("--dry-run", is_flag=True, help="Only list what would be trained.")
def reproduce(
    profile: str,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    run_name: str | None,
    figures_dir: str | None,
    num_jobs: int | None,
    timeout: float | None,
    keep_going: bool,
    live_dials: bool,
    anew: bool,
    dry_run: bool,
) -> None:
    """Run the notebook sequence and print the scoreboard."""
    runner = _lab_module("runner")
    if anew:
        click.echo("--anew will be removed: every run executes every notebook now.", err=True)
    try:
        with errors.as_paragraphs():
            plan = runner.plan_run(
                profile=profile,
                parameters=runner.parse_parameters(settings),
                only=only,
                run_name=run_name,
                figures_dir=figures_dir,
                num_jobs=num_jobs,
                timeout=timeout,
            )
            if dry_run:
                click.echo(f"{plan.title}\n\n{runner.preview(plan)}")
                return
            if live_dials:
                os.environ["REBASIN_LIVE_DIALS"] = "1"  # kernels inherit it
            status = runner.reproduce(plan, keep_going=keep_going)
    except KeyboardInterrupt as interrupt:
        click.echo("\nInterrupted. What ended is stored; the same command goes on from there.")
        status = 128 + getattr(interrupt, "number", signal.SIGINT)
    sys.exit(status)


@main.command()
@click.option(
    "--run", "run_name", default="quick", show_default=True, metavar="NAME", help="A finished run."
)
def publish(run_name: str) -> None:
    """Put the figures of a finished run into figures/, with gallery and scoreboard."""
    runner = _lab_module("runner")
    with errors.as_paragraphs():
        folder, left = runner.publish(run_name)
    click.echo(f"figures of {run_name} are in {paths.shown(folder)}")
    for path in left:
        click.echo(f"not drawn by this run, so left as it was: {paths.shown(path)}")


@main.command(name="site")
@click.option(
    "--run", "run_name", default="quick", show_default=True, metavar="NAME", help="A run."
)
@click.option(
    "--to",
    "directory",
    metavar="DIRECTORY",
    help="Folder to write to [default: site/ in the run's folder].",
)
def build_site(run_name: str, directory: str | None) -> None:
    """Build static pages of a run: its notebooks, scoreboard and figures."""
    site = _lab_module("site", extra="site")
    with errors.as_paragraphs():
        built = site.build_site(run_name, directory)
    click.echo(
        f"{built.num_pages} pages, {built.num_bytes / 1e6:.1f} MB, in {built.seconds:.0f} s: "
        f"{paths.shown(built.folder / 'index.html')}"
    )
    for problem in (*built.warnings, *(f"dead link: {link}" for link in built.dead_links)):
        click.echo(texts.in_a_line(problem), err=True)
    if built.warnings or built.dead_links:
        raise click.ClickException("The pages are built, with the faults above.")


@main.command(
    name="lab", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION OF JUPYTER LAB]...")
def open_lab(arguments: tuple[str, ...]) -> None:
    """Open JupyterLab on the notebooks, in this interpreter's own kernel."""
    jupyter = _lab_module("jupyter")
    with errors.as_paragraphs():
        status = jupyter.run_lab(arguments)
    sys.exit(status)


def _lab_module(name: str, *, extra: str = "lab") -> types.ModuleType:
    """Return a module that needs an extra, and takes seconds to import."""
    try:
        with processes.signals_end():
            return importlib.import_module(f"rebasin_lab.lab.{name}")
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error}. {_NEEDS[extra]} the extra [{extra}]: in the checkout, "
            f"pip install --editable '.[{extra if extra == 'lab' else f'lab,{extra}'}]'."
        ) from error


_NEEDS = {"lab": "Notebooks and figures need", "site": "The site needs [lab] and"}


@main.command()
def redraw() -> None:
    """Draw every figure again from the numbers stored beside it."""
    figures, figure_export = _lab_module("figures"), _lab_module("figure_export")
    with errors.as_paragraphs():
        saved = figure_export.choose_figures(paths.figures_dir())
    num_failed = 0
    for path in saved:
        try:
            figures.redraw(path)
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            num_failed += 1
            click.echo(f"Error: {texts.plain(str(error))}", err=True)
        else:
            click.echo(paths.shown(path.with_suffix(".svg")))
    if num_failed:
        raise click.ClickException(
            f"{num_failed} of {len(saved)} figures are not drawn again; the others are."
        )


@main.command(name="figures")
@click.option(
    "--to",
    "directory",
    required=True,
    metavar="DIRECTORY",
    help="Folder to write to; created if need be.",
)
@click.option(
    "--format",
    "formats",
    help="Pictures to write, with commas between [default: all].",
)
@click.option(
    "--width",
    default="double",
    show_default=True,
    help="Place of the figures: single (a journal's column), double (two of them), slide.",
)
@click.option("--only", multiple=True, metavar="NAME", help="A figure, or notebooks starting so.")
@click.option(
    "--from",
    "source",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the figures, as runs/NAME/figures [default: figures/].",
)
@click.option("--gallery", is_flag=True, help="Only write README.md of the figures in --to.")
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the gallery [default: README.md in --to].",
)
def export(
    directory: str,
    formats: str | None,
    width: str,
    only: tuple[str, ...],
    source: Path | None,
    gallery: bool,
    page: Path | None,
) -> None:
    """Write figures for a report: pictures of the right size, captions, snippets, provenance."""
    figure_export = _lab_module("figure_export")
    with errors.as_paragraphs():
        folder = paths.checked_folder(directory, "--to")
        if gallery:
            _refuse_beside_gallery("formats", "width", "only", "source")
            click.echo(paths.shown(figure_export.write_gallery(folder, page)))
            return
        if page:
            raise ValueError("Expected --page with --gallery, whose page it is; got it alone.")
        every = figure_export.FORMATS
        kinds = every if formats is None else figure_export.parse_formats(formats)
        index = figure_export.export_figures(
            figure_export.choose_figures(source or paths.figures_dir(), only),
            folder,
            formats=kinds,
            width=width,
            on_figure=_print_figure,
        )
    click.echo(f"\nCaptions, sizes and where the numbers come from: {paths.shown(index)}")


def _refuse_beside_gallery(*names: str) -> None:
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.name in names and source is not click.core.ParameterSource.DEFAULT:
            raise ValueError(
                f"Expected --gallery with --to and --page alone; got {parameter.opts[0]}. A "
                "gallery shows the pictures that are in the folder: write them first, then it."
            )


def _print_figure(entry: Mapping[str, Any]) -> None:
    width, height = entry["size_inches"]
    endings = [path.removeprefix(f"{entry['name']}.") for path in entry["files"]]
    click.echo(
        f"{texts.in_a_line(entry['name'])}: {width:.1f} x {height:.1f} in, "
        f"text {entry['text_points']:g} pt ({', '.join(endings)})"
    )
    if entry["note"]:
        click.echo(f"  {texts.in_a_line(entry['note'])}")


@main.command(name="class-kit")
@click.option(
    "--to", "target", metavar="FILE", help="Where to write it [default: runs/class-kit.zip]."
)
@click.option("--unpack", metavar="FILE", help="Put a kit into this lab's store instead.")
def class_kit(target: str | None, unpack: str | None) -> None:
    """Pack networks and results of 00 to 06 for a class, which then trains nothing.

    It runs these notebooks once, in an empty store. Where a kit is unpacked, no file is replaced.
    """
    kits = _lab_module("class_kit")
    with errors.as_paragraphs():
        if unpack is None:
            path = Path(target) if target else paths.runs_dir() / "class-kit.zip"
            num_bytes = kits.make(path, on_line=click.echo)
            click.echo(f"\nclass kit: {paths.shown(path)}, {num_bytes / 1e6:.1f} MB")
            if num_bytes > kits.MOST_BYTES:
                click.echo(f"That is more than {kits.MOST_BYTES / 1e6:.0f} MB.")
            return
        if target is not None:
            raise ValueError("Expected --to or --unpack; got both. A kit goes into runs/.")
        done = kits.unpack(Path(unpack))
    store = paths.shown(paths.runs_dir())
    click.echo(f"{done.num_written} files are new in {store}.")
    if done.num_there:
        click.echo(f"{done.num_there} were there before, and are as they were.")
    click.echo(f"{', '.join(done.notebooks)}: all {done.num_networks} networks are stored.")
    if done.note:
        click.echo(done.note)


@main.command()
@click.option("--to", "directory", required=True, metavar="DIRECTORY", help="Folder to write to.")
def editions(directory: str) -> None:
    """Write the notebooks as a student edition, without answers, and an instructor edition."""
    made = _lab_module("editions")
    with errors.as_paragraphs():
        written = made.write_editions(Path(directory))
    for folder in sorted({path.parent for path in written}):
        click.echo(f"{paths.shown(folder)}: {sum(p.parent == folder for p in written)} notebooks")


@main.command()
@click.option("--to", "directory", required=True, metavar="DIRECTORY", help="Folder to write to.")
@click.option(
    "--from",
    "source",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the figures, as runs/NAME/figures [default: figures/].",
)
def slides(directory: str, source: Path | None) -> None:
    """Write slides of each lesson: its figures in one HTML file, to be shown or printed."""
    figure_export = _lab_module("figure_export")
    with errors.as_paragraphs():
        for path in figure_export.write_slides(Path(directory), source):
            click.echo(paths.shown(path))


if __name__ == "__main__":
    main()
