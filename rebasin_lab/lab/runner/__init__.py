"""Running the notebook sequence headlessly and gathering its scoreboard.

Everything a run makes lies in `runs/<run>/`: the executed notebooks, a log for each, the claims,
`scoreboard.json`, `report.html`. A failing notebook stops the run with its name, cell and error, or
does not if asked to keep going. `plan` checks a request, `dry_run` says what it would train,
`sequence` runs it, `publishing` puts figures of a finished run into `figures/`. Every run executes
every notebook: networks and results that are stored are read back.
"""

from rebasin_lab.lab.runner.dry_run import preview
from rebasin_lab.lab.runner.plan import (
    MINUTES,
    RESERVED_PARAMETERS,
    Plan,
    notebook_sequence,
    parse_parameter,
    parse_parameters,
    plan_run,
)
from rebasin_lab.lab.runner.publishing import publish
from rebasin_lab.lab.runner.sequence import reproduce

__all__ = [
    "MINUTES",
    "RESERVED_PARAMETERS",
    "Plan",
    "notebook_sequence",
    "parse_parameter",
    "parse_parameters",
    "plan_run",
    "preview",
    "publish",
    "reproduce",
]
