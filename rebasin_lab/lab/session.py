"""The session of a notebook: one handle on its profile, networks, figures and claims.

    run = rl.open_run("02_line_and_barrier", profile=profile, run_dir=run_dir, interactive=...)

Headless and in JupyterLab a notebook makes the same calls; only the place of its claims (a run's
folder) and the look of its progress bars differ.
"""

import dataclasses
import json
import os
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from IPython.display import HTML, display

from rebasin_lab import checks, paths, pytrees, texts
from rebasin_lab.lab import figures
from rebasin_lab.paper import claims, profiles, sections, store, train_many
from rebasin_lab.paper.claim import PROFILES
from rebasin_lab.paper.networks import described
from rebasin_lab.paper.sections.record import Figure, Record
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.settings import check_value

MOST_CLAIMS_BYTES = 10_000_000


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Run(Study):
    """A notebook at work: a study, and the places of what it shows; made by `open_run`.

    Attributes:
        run_dir: folder of the run's claims.
        figures_dir: folder of its figures.
        interactive: False in a headless run.
        results: of claims measured so far.
    """

    run_dir: Path
    figures_dir: Path
    interactive: bool
    results: dict[str, claims.ClaimResult] = dataclasses.field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """True if any setting is not the profile's own: then every claim stays open."""
        return self.profile.changed

    @checks.arguments
    def show(self, record: Record) -> None:
        """Hold a record against its claims, then save its figures and show them."""
        measured = record.claims()
        for claim_id, numbers in measured.items():
            self.check(claim_id, numbers)
        for figure in record.figures():
            self._save(figure, [*measured] if figure.claims is None else figure.claims)

    def _save(self, figure: Figure, claim_ids: Sequence[str]) -> None:
        for claim_id in claim_ids:
            checks.choice("claims of a figure", claim_id, sorted(claims.CLAIMS), figure.name)
        data = figure.data or self.data
        ran = f"{self.profile.name} profile{', changed' if self.changed else ''}"
        networks = [network.experiment for network in figure.networks]
        if networks:
            ran += f": {data.title}, {described(networks)}"
        versions = [network.versions for network in figure.networks]
        path = figures.save_figure(
            self.figures_dir / self.notebook,
            figure.name,
            plot=figure.plot,
            numbers=figure.numbers,
            title=figure.title,
            caption=f"{figure.caption} [{ran}]",
            alt=figure.alt,
            provenance=figures.Provenance(
                notebook=self.notebook,
                profile=self.profile.name,
                dataset=figures.describe_dataset(data),
                seeds=sorted({network.seed for network in networks}),
                settings=self.profile.settings,
                trained_with=[v for i, v in enumerate(versions) if v not in versions[:i]],
                claims=list(claim_ids),
            ),
            size=figure.size,
        )
        _display(path)

    def show_stored(self, name: str, *, profile: str = "laptop") -> None:
        """Show a figure of this notebook that the repository keeps from a larger profile.

        A run at that profile, or a larger one, has drawn its own: then nothing is shown.

        Args:
            name: of its files.
            profile: "laptop", whose figures are kept.
        """
        if PROFILES.index(self.profile.name) < PROFILES.index(profile):
            _display(paths.figures_dir() / profile / self.notebook / f"{name}.json")

    @checks.arguments
    def check(self, claim_id: str, measured: Any) -> claims.ClaimResult:
        """Hold measured numbers against a claim of the paper, and store the result."""
        result = claims.measure(claim_id, self.profile.name, measured, changed=self.changed)
        if result.claim.notebook != self.notebook:
            raise ValueError(
                f"Expected '{claim_id}' to be tested in {result.claim.notebook}, as its "
                f"section says; got {self.notebook}."
            )
        self.results[claim_id] = result
        numbers = {name: list(result.measured) for name, result in self.results.items()}
        paths.write_atomically(
            claims_file(self.run_dir, self.notebook), json.dumps(numbers, indent=1).encode()
        )
        return result

    def show_claims(self) -> None:
        """Show this notebook's claims as a table, or say that it has none.

        Above it stand the data and networks that the section names, or else the profile's.
        """
        own = [claim for claim in claims.CLAIMS.values() if claim.notebook == self.notebook]
        if not own:
            display(HTML("<p>This notebook tests no claim of the paper.</p>"))
            return
        missing = [
            claim.id
            for claim in own
            if claim.id not in self.results and self.profile.name in claim.bounds
        ]
        section = sections.SECTIONS.get(self.notebook)
        why = getattr(section, "not_measured", lambda profile: "")(self.profile)
        assert why or not missing, missing
        results = [
            self.results.get(claim.id, claims.ClaimResult(claim, self.profile.name))
            for claim in own
        ]
        measured_on = f"{self.data.title}, {self.profile.networks}"
        if hasattr(section, "measured_on"):
            measured_on = section.measured_on(self.profile)
        title = f"{self.profile.name} profile: {measured_on}"
        display(HTML(_claims_table(results, f"{title}. {why}".removesuffix(". "))))


@checks.arguments
def open_run(
    notebook: str,
    *,
    profile: str = "quick",
    run_dir: str = "",
    figures_dir: str = "",
    interactive: bool = True,
    trial: bool = False,
    num_jobs: int = 0,
    **overrides: Any,
) -> Run:
    """Open a notebook's run and show its profile, data and devices.

    Args:
        notebook: the notebook's name, without ending.
        profile: "quick", "laptop" or "paper".
        run_dir: folder of results; "" is that of interactive work.
        figures_dir: folder of figures; "" is one of the run.
        interactive: False when run headlessly.
        trial: cut everything down to a smoke test, a few steps on tiny data.
        num_jobs: processes that train at once, 0 for two where there are two cores (but one for a
            trial); no influence on any number.
        **overrides: fields of the profile to replace (`profiles.FIELDS`), such as width=32.

    Raises:
        ValueError: for an unknown profile, field, data set or architecture, a wrong value, or a
            folder that cannot be one or is for other things; if JAX computes on another platform
            than the environment asks for.
        FileNotFoundError: if the profile's data set is not to be had.
    """
    check_platform()
    paths.checked_name(notebook, "the name of a notebook")
    flags = {"interactive": interactive, "trial": trial}
    for name, value in flags.items():
        check_value(name, value, bool)
    if check_value("num_jobs", num_jobs, int) == 0:
        num_jobs = 1 if trial else train_many.default_num_jobs()
    train_many.check_num_jobs(num_jobs)
    chosen = profiles.get_profile(profile, trial=trial, **overrides)
    folder = paths.runs_dir() / "interactive"
    if run_dir:
        folder = paths.checked_output(run_dir, "run_dir")
    drawn = folder / "figures"
    if figures_dir:
        drawn = paths.checked_output(figures_dir, "figures_dir")
    run = Run(
        notebook=notebook,
        profile=chosen,
        # A notebook of one's own has none.
        trainings=sections.trainings(notebook, chosen) if notebook in sections.SECTIONS else {},
        num_jobs=num_jobs,
        progress_style="auto" if interactive else "lines",
        run_dir=folder,
        figures_dir=drawn,
        interactive=interactive,
    )
    display(HTML(_banner(run)), metadata={"rebasin_lab": environment()})
    return run


def _display(path: Path) -> None:
    """Show a figure from its files."""
    png = path.with_suffix(".png")
    drawn = png.read_bytes() if png.exists() else None
    display(HTML(figures.as_html(figures.read_figure(path), drawn)))


def check_platform() -> None:
    """Check that JAX computes on what the variable `JAX_PLATFORMS` names first, if it is set.

    Raises:
        ValueError: if not; hours on a CPU must not pass for a GPU's.
    """
    requested = os.environ.get("JAX_PLATFORMS", "").split(",")[0].strip().lower()
    backend = jax.default_backend()
    if requested and {"cuda": "gpu", "rocm": "gpu"}.get(requested, requested) != backend:
        raise ValueError(
            f"Expected JAX to compute on '{requested}', as JAX_PLATFORMS asks for; this kernel "
            f"computes on '{backend}'. Install JAX for that device, or change JAX_PLATFORMS."
        )


def environment() -> dict[str, Any]:
    """Describe what this process computes with, JSON-ready: devices, versions, Python, platform."""
    return {
        "devices": [f"{device} ({device.device_kind})" for device in jax.devices()],
        "versions": store.package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def claims_file(run_dir: Path, notebook: str) -> Path:
    """Return the file of the numbers measured for a notebook's claims."""
    return run_dir / "claims" / f"{notebook}.json"


def read_claims(run_dir: Path, notebook: str) -> dict[str, list[float]]:
    """Return the numbers measured for a notebook's claims, by claim; none if there is no file.

    A file that `Run.check` did not write counts as none, with a warning.
    """
    path = claims_file(run_dir, notebook)
    try:
        numbers = paths.read_json(path, MOST_CLAIMS_BYTES, finite=False)
        if not isinstance(numbers, dict) or not all(map(_are_numbers, numbers.values())):
            raise ValueError(f"Expected '{path}' to hold a list of numbers for each claim")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{error}. Its claims count as not measured.", stacklevel=2)
        return {}
    return {claim: list(map(float, values)) for claim, values in numbers.items()}


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and values != []
        and all(type(v) is float or (type(v) is int and abs(v) < 2**63) for v in values)
    )


def _banner(run: Run) -> str:
    profile, section = run.profile, sections.SECTIONS.get(run.notebook)
    versions = ", ".join(f"{name} {version}" for name, version in store.package_versions().items())
    rows = {
        "profile": f"<b>{texts.as_html(profile.name)}</b>",
        **(_data_and_networks(run) if section is None or run.trainings else {}),
        "device": texts.as_html(", ".join(str(device) for device in jax.devices())),
        "versions": texts.as_html(versions),
        "figures": texts.as_html(paths.shown(run.figures_dir / run.notebook)),
    }
    body = "".join(
        f'<tr><td style="text-align:left"><i>{name}</i></td>'
        f'<td style="text-align:left">{value}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table>{body}</table>"


def _data_and_networks(run: Run) -> dict[str, str]:
    data, num_parameters = run.data, pytrees.num_parameters(run.model.shapes)
    images = f"{len(data.train_images):,} train, {len(data.test_images):,} test images"
    return {
        "data": f"{texts.as_html(data.title)}: {images}, from {texts.as_html(data.source)}",
        "networks": f"{texts.as_html(run.profile.networks)}; {num_parameters:,} parameters each",
    }


def _verdict(result: claims.ClaimResult) -> dict[str, Any]:
    """Return a row of the scoreboard whose status has the reason for a failure, if it is known."""
    row = result.as_row()
    return row | {"status": ": ".join(filter(None, (row["status"], result.why)))}


def _claims_table(results: Iterable[claims.ClaimResult], title: str) -> str:
    def row(tag: str, cells: Mapping[str, Any]) -> str:
        shown = {name: texts.as_html(cells[name]) for name in claims.COLUMNS}
        shown["status"] = f"<b>{shown['status']}</b>"
        style = 'style="text-align:left"'
        return "".join(f"<{tag} {style}>{cell}</{tag}>" for cell in shown.values())

    rows = [row("th", claims.COLUMNS), *(row("td", _verdict(result)) for result in results)]
    return f"<p>{texts.as_html(title)}</p><table><tr>{'</tr><tr>'.join(rows)}</tr></table>"
