"""The channel-wise affine transformation, AN eq. 2: alone, or where another recalibration starts from."""

import torch
from torch import Tensor, nn

from .parts import Part, Recalibration, per_channel


def affine(x_hat: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """gamma_c x_hat + beta_c: x_hat (N, C, *positions), gamma and beta (C,)."""
    return per_channel(gamma, x_hat) * x_hat + per_channel(beta, x_hat)


class Affine(Recalibration):
    """gamma_c x_hat + beta_c. State: weight = gamma and bias = beta (C,), unless `affine` is False and it is x_hat."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_channels: int | None,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Part.__init__(self)
        self.num_channels = num_channels
        self.affine = affine
        shape = None if num_channels is None or not affine else (num_channels,)
        self.add_parameter("weight", shape, 1.0, device, dtype)
        self.add_parameter("bias", shape, 0.0, device, dtype)

    def transform(self, x_hat: Tensor) -> Tensor:
        if self.weight is None or self.bias is None:
            return x_hat
        return affine(x_hat, self.weight, self.bias)

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return self.transform(x_hat)
