"""The activations of any function, found by its permutation spec.

In reading order: `naming` (what the atoms of a reading are called in a spec), `origins` (which
values an input has a part in), `replay` (a function evaluated with taps), `sites` (where units
show), and `record`, which puts them together.
"""

from rebasin_lab.symmetry.activations.record import Activations, trace_activations

__all__ = ["Activations", "trace_activations"]
