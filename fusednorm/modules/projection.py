"""The linear layers within layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Module):
    """y = x weight^T + bias: nn.Linear's parameters, names and start, but none of that class.

    Networks that initialize every nn.Linear they find, or every one's bias, would take it for one of their own.

    Parameters: weight (out_features, in_features), bias (out_features) or None.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty((out_features, in_features), device=device, dtype=dtype))
        own = nn.Parameter(torch.empty((out_features,), device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", own)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1/sqrt(in_features), as nn.Linear's."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
        for p in self.parameters():
            nn.init.uniform_(p, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
