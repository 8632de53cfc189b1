"""The activations of any function, found by its permutation spec.

In reading order: `naming` (the names of a spec for the atoms of a reading), `origins` (which values
depend on an input), `replay` (evaluate a function with taps), `sites` (the values that show units),
`measured` (the same for a spec that no trace proves), and `record`, the public record.
"""

from rebasin_lab.symmetry.activations.naming import Unproven
from rebasin_lab.symmetry.activations.record import (
    Activations,
    measure_activations,
    trace_activations,
)

__all__ = ["Activations", "Unproven", "measure_activations", "trace_activations"]
