"""The activations of any function, found by its permutation spec.

In reading order: `naming` (what the atoms of a reading are called in a spec), `origins` (which
values an input has a part in), `replay` (a function evaluated with taps), `sites` (where units
show), `measured` (the same where no trace proves the spec), and `record`, which puts them together.
"""

from rebasin_lab.symmetry.activations.naming import Unproven
from rebasin_lab.symmetry.activations.record import (
    Activations,
    measure_activations,
    trace_activations,
)

__all__ = ["Activations", "Unproven", "measure_activations", "trace_activations"]
