"""An affine layer that can hold the weights of many networks at once."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dense(nn.Linear):
    """`nn.Linear`, whose weights may also be those of T networks, stacked: (T, out, in).

    Maps (B, in) to (B, out), or (T, B, in) to (T, B, out) by one batched matrix product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)
