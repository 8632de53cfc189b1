"""The networks of the paper in Flax NNX, and a small vision transformer, behind one record.

`build_model` returns a `Model`: `init(key)` makes parameters as plain nested dicts of arrays and
`apply(params, images)` is a pure function of them. `model` defines that record, `architectures` is
the table of all architectures; `mlp`, `vgg`, `resnet` and `vit` define one family each, and
`widths` scales widths.
"""

from rebasin_lab.models.architectures import ARCHITECTURES, Architecture, check_options
from rebasin_lab.models.mlp import MLP
from rebasin_lab.models.model import Model, build_model

__all__ = ["ARCHITECTURES", "MLP", "Architecture", "Model", "build_model", "check_options"]
