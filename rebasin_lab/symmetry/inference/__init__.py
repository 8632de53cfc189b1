"""Infer the permutation spec of a network from its computation.

In reading order: `atoms` (the units of an axis), `values` (abstract values of variables),
`interpreter` (abstract interpretation of a jaxpr), `layout` (reshape, slice, concatenate), the
rules of primitives in `primitives`, `windows`, `lookups`, `algebra`, `loops` and `choices`,
`dependence` (which groups vary along which), `explanations`, and `infer`, which puts them together.
"""

from rebasin_lab.symmetry.inference.infer import infer_permutation_spec

__all__ = ["infer_permutation_spec"]
