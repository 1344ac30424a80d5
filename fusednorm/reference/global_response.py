"""Global Response Normalization (GRN) of ConvNeXt V2: Woo, Debnath, Hu, Chen, Liu, Kweon, Xie, CVPR 2023."""

import torch
from torch import Tensor, nn

from .parts import Part, Recalibration, per_channel
from .statistics import deviation


class GlobalResponse(Recalibration):
    """y = weight (x_hat G / (mean_c G + eps)) + bias + x_hat, eqs. 1-3.

    G (N, C) is the l2 norm of a plane of x_hat over its positions; its derivative at 0 is 0. State: weight, bias (C,),
    0 at the start.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Part.__init__(self)
        self.num_channels = num_channels
        self.eps = eps
        self.add_parameter("weight", (num_channels,), 0.0, device, dtype)
        self.add_parameter("bias", (num_channels,), 0.0, device, dtype)

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        squares = x_hat.square()
        G = deviation(squares.sum(tuple(range(2, x_hat.dim())), keepdim=True) if x_hat.dim() > 2 else squares)
        response = x_hat * (G / (G.mean(1, keepdim=True) + self.eps))
        return per_channel(self.weight, x_hat) * response + per_channel(self.bias, x_hat) + x_hat
