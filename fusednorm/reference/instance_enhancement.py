"""Instance Enhancement Batch Normalization (IEBN): Liang, Huang, Liang, Yang, AAAI 2020."""

import torch
from torch import Tensor, nn

from .activation import check_act
from .affine import Affine
from .batch_norm import Batch
from .parts import NormLayer, per_plane
from .statistics import plane_mean


class InstanceEnhancement(Affine):
    """y = weight delta x_hat + bias, delta = sigmoid(enhance_weight m + enhance_bias), m the plane mean of x itself.

    State: weight, bias (C,) if `affine`; enhance_weight, enhance_bias (C,), 0 and -1 at the start. The bias is outside
    of delta, and m of x, not of what is multiplied: no gate of gates.py.
    """

    enhance_weight: nn.Parameter
    enhance_bias: nn.Parameter

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Affine.__init__(self, num_channels, affine, device=device, dtype=dtype)
        self.add_parameter("enhance_weight", (num_channels,), 0.0, device, dtype)
        self.add_parameter("enhance_bias", (num_channels,), -1.0, device, dtype)

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        delta = torch.sigmoid(self.enhance_weight * plane_mean(x) + self.enhance_bias)
        return self.transform(per_plane(delta, x_hat) * x_hat)


class _InstanceEnhancementBatchNorm(NormLayer, Batch, InstanceEnhancement):
    """act(y + residual), y as above with x_hat of Batch Normalization; in and out (N, C, *positions).

    State: weight, bias (C,) if `affine`; enhance_weight, enhance_bias (C,); the running statistics of x (C,).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Batch.__init__(self, num_features, eps, momentum, track_running_stats, device=device, dtype=dtype)
        InstanceEnhancement.__init__(self, num_features, affine, device=device, dtype=dtype)
        self.act = check_act(act)


class InstanceEnhancementBatchNorm1d(_InstanceEnhancementBatchNorm):
    __doc__ = _InstanceEnhancementBatchNorm.__doc__
    allowed_dims = (2, 3)


class InstanceEnhancementBatchNorm2d(_InstanceEnhancementBatchNorm):
    __doc__ = _InstanceEnhancementBatchNorm.__doc__
    allowed_dims = (4,)


class InstanceEnhancementBatchNorm3d(_InstanceEnhancementBatchNorm):
    __doc__ = _InstanceEnhancementBatchNorm.__doc__
    allowed_dims = (5,)
