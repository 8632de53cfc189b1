"""Reading the permutation spec of a network off its computation.

In reading order: `atoms` (what an axis is made of), `values` (what is known of a variable),
`interpreter` (walking through a jaxpr), `layout` (reshaping, cutting, laying end to end), the rules
in `primitives`, `windows`, `lookups`, `algebra`, `loops` and `choices` (what each primitive does),
`dependence` (which groups vary along which), `explanations`, and `infer`, which puts them together.
"""

from rebasin_lab.symmetry.inference.infer import infer_permutation_spec

__all__ = ["infer_permutation_spec"]
