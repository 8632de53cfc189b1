"""PyTorch tensors without PyTorch."""

import numpy as np


class Tensor:
    """As much of a PyTorch tensor as the lab touches; NumPy cannot read it by itself."""

    def __init__(self, values, dtype="torch.float32"):
        self.values, self.dtype, self.requires_grad = values, dtype, True
        self.shape, self.ndim = values.shape, values.ndim

    def __array__(self, *args, **options):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        detached = Tensor(self.values, self.dtype)
        detached.requires_grad = False
        return detached

    def cpu(self):
        return self

    def float(self):
        detached = Tensor(self.values.astype(np.float32))
        detached.requires_grad = self.requires_grad
        return detached

    def numpy(self):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype not in ("torch.float32", "torch.int64"):
            raise TypeError(f"Got unsupported ScalarType {self.dtype}")
        return self.values
