"""The networks of the paper in Flax NNX, and a small vision transformer, behind one record.

`build_model` gives a `Model`: `init(key)` makes parameters as plain nested dicts of arrays and
`apply(params, images)` is a pure function of them, which is all the rest of the lab needs. `model`
holds that record and the table of what exists; `mlp`, `vgg`, `resnet` and `vit` hold a family of
networks each, and `widths` the one rule they share.
"""

from rebasin_lab.models.mlp import MLP
from rebasin_lab.models.model import ARCHITECTURES, Model, build_model, check_options

__all__ = ["ARCHITECTURES", "MLP", "Model", "build_model", "check_options"]
