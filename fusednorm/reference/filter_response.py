"""Filter Response Normalization (FRN): Singh, Krishnan, CVPR 2020."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .affine import Affine
from .parts import NormLayer, Part, Standardization, per_channel
from .statistics import instance_statistic


class FilterResponse(Standardization):
    """x_hat = x / sqrt(nu2 + eps), eq. 1, nu2 the mean of x^2 over the positions of a plane."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        Part.__init__(self)
        self.num_channels = num_channels
        self.eps = eps

    def standardize(self, x: Tensor) -> Tensor:
        self.check_input(x, self.num_channels)
        nu2 = instance_statistic(x.square(), "mean")
        return x / torch.sqrt(nu2 + self.eps)


class FilterResponseNorm(NormLayer, FilterResponse, Affine):
    """max(y + residual, tau), y = gamma x_hat + beta, eqs. 1-3; in and out (N, C, *positions).

    State: weight = gamma, bias = beta and threshold = tau (C,), 1, 0 and 0 at the start. threshold=False has no tau:
    y + residual. The paper makes eps learnable for planes of one position and has no residual before the threshold.
    """

    threshold: nn.Parameter | None

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        threshold: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        FilterResponse.__init__(self, num_channels, eps)
        Affine.__init__(self, num_channels, device=device, dtype=dtype)
        self.add_parameter("threshold", (num_channels,) if threshold else None, 0.0, device, dtype)

    def finish(self, y: Tensor, residual: Tensor | None) -> Tensor:
        z = y if residual is None else y + residual
        if self.threshold is None:
            return z
        tau = per_channel(self.threshold, z)
        return functional.relu(z - tau) + tau  # max(z, tau), eq. 3
