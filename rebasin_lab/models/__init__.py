"""The networks of the paper in Flax NNX, and a small vision transformer, behind one record.

`build_model` gives a `Model`: `init(key)` makes parameters as plain nested dicts of arrays and
`apply(params, images)` is a pure function of them, which is all the rest of the lab needs. `model`
holds that record, and `architectures` the table of what exists; `mlp`, `vgg`, `resnet` and `vit`
hold a family of networks each, and `widths` the one rule they share.
"""

from rebasin_lab.models.architectures import ARCHITECTURES, Architecture, check_options
from rebasin_lab.models.mlp import MLP
from rebasin_lab.models.model import Model, build_model

__all__ = ["ARCHITECTURES", "MLP", "Architecture", "Model", "build_model", "check_options"]
