"""Networks of other frameworks, as functions of JAX: any `torch.nn.Module` by `from_torch`.

In reading order: `aten` (a rule for each operator), `graph` (the computation of a module, and its
execution by rules), `state` (names, ties and types of its state_dict), and `network`. Beside them
`checkpoints`: parameters in files that other programs wrote.
"""

from rebasin_lab.interop.aten import RULES
from rebasin_lab.interop.checkpoints import Checkpoint, open_checkpoint, write_checkpoint
from rebasin_lab.interop.network import TorchNetwork, from_torch

__all__ = [
    "RULES",
    "Checkpoint",
    "TorchNetwork",
    "from_torch",
    "open_checkpoint",
    "write_checkpoint",
]
