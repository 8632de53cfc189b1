"""One model out of many: their mean once they are lined up, and their ensemble.

Merging two models is the middle of a line (`interpolation`). Of more, `merge_many` lines each up
with the mean of all others (MergeMany, Ainsworth et al. 2022, Algorithm 3) and takes the mean of
all. What it is compared with is here, too: `average` of the models as they came, and `ensemble`,
which runs all of them and averages what they say. `reestimate_statistics` mends what averaging
leaves of the running statistics of BatchNorm (A.4).
"""

from rebasin_lab.merging.alignment import MergeResult, merge_many
from rebasin_lab.merging.averaging import average
from rebasin_lab.merging.batch_norm import reestimate_statistics
from rebasin_lab.merging.ensembles import ensemble

__all__ = ["MergeResult", "average", "ensemble", "merge_many", "reestimate_statistics"]
