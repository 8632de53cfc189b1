"""Merge models: the mean of aligned models, their ensemble, and maps found from data.

The merge of two models is the middle of a line (`interpolation`). For more, `merge_many` aligns
each with the mean of all others (MergeMany, Ainsworth et al. 2022, Algorithm 3) and averages all.
Where the mean of aligned models is poor, as that of thin networks, `least_squares` finds each layer
from unlabelled inputs, with inner layers of any size, and `repair` scales its units. Baselines are
the `average` of the models as they are, and the `ensemble`, which averages their outputs.
`reestimate_statistics` corrects the running statistics of BatchNorm after a merge (A.4). `controls`
says how much of a merge comes from one network alone.
"""

from rebasin_lab.merging.alignment import MergeResult, merge_many
from rebasin_lab.merging.averaging import average
from rebasin_lab.merging.batch_norm import reestimate_statistics
from rebasin_lab.merging.controls import controls, shuffled
from rebasin_lab.merging.ensembles import ensemble
from rebasin_lab.merging.least_squares import LeastSquaresResult, least_squares
from rebasin_lab.merging.repair import repair

__all__ = [
    "LeastSquaresResult",
    "MergeResult",
    "average",
    "controls",
    "ensemble",
    "least_squares",
    "merge_many",
    "reestimate_statistics",
    "repair",
    "shuffled",
]
