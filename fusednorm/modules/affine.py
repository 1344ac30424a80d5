"""The affine recalibration: a weight and a bias for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.parts import Part

from .layer import Recalibration, new_parameter


class Affine(Recalibration):
    """y = weight*x_hat + bias, weight (1) and bias (0) of shape (C)."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    affine: bool

    def __init__(
        self, num_channels: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._build_affine(num_channels, True, device, dtype)
        self.reset_parameters()

    def _build_affine(
        self, num_channels: int, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        checks.check_count("num_channels", num_channels)
        self.channels, self.affine = num_channels, affine
        for name in ("weight", "bias"):
            self.register_parameter(name, new_parameter((num_channels,), device, dtype) if affine else None)

    def reset_parameters(self) -> None:
        """weight 1, bias 0."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def recalibration(self, x: Tensor) -> Part:
        return parts.affine(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"affine={self.affine}"
