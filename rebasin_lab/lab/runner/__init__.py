"""Run the notebook sequence headlessly and gather its scoreboard.

Everything a run makes lies in `runs/<run>/`: the executed notebooks, a log for each, the claims,
`scoreboard.json`, `report.html`. A failing notebook stops the run with its name, cell and error,
unless `--keep-going`. Every run executes every notebook, and reads stored networks and results
back. `plan` checks a request, `dry_run` lists what it would train, `sequence` runs it, `publishing`
puts figures of a finished run into `figures/`.
"""

from rebasin_lab.lab.runner.dry_run import preview
from rebasin_lab.lab.runner.plan import (
    MINUTES,
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
    "Plan",
    "notebook_sequence",
    "parse_parameter",
    "parse_parameters",
    "plan_run",
    "preview",
    "publish",
    "reproduce",
]
