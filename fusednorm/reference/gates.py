"""Channel gates: each plane of z is multiplied by its lambda (N, C), calculated from statistics of z's planes.

    y = lambda z, z = weight x_hat + bias

So after a normalization the gate sees its output, as Squeeze-Excite over Batch Normalization does in AN eq. 5.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .affine import Affine
from .batch_norm import BatchNorm1d
from .options import Restrict, check_count, check_restrict, restricted
from .parts import linear, per_plane
from .standardize import instance_moments
from .statistics import plane_mean


class Gate(Affine):
    """y = lambda z. State: weight, bias (C,) if `affine`, and the gate's own."""

    def lambda_(self, z: Tensor) -> Tensor:
        """lambda (N, C) of z (N, C, *positions)."""
        raise NotImplementedError

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        z = self.transform(x_hat)
        return per_plane(self.lambda_(z), z) * z


class SqueezeExcite(Gate):
    """lambda = gate(W2 relu(W1 m + b1) + b2), m the plane means: Hu, Shen, Sun, CVPR 2018, eqs. 2-4.

    State: reduce.weight = W1 (h, C), expand.weight = W2 (C, h), h = max(C // reduction, 1), and reduce.bias,
    expand.bias if `bias`.
    """

    def __init__(
        self,
        num_channels: int,
        reduction: int = 16,
        affine: bool = True,
        *,
        bias: bool = True,
        gate: Restrict = "sigmoid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Gate.__init__(self, num_channels, affine, device=device, dtype=dtype)
        check_count("reduction", reduction)
        check_restrict("gate", gate)
        self.reduction, self.gate = reduction, gate
        hidden = max(num_channels // reduction, 1)
        self.reduce = nn.Linear(num_channels, hidden, bias, device=device, dtype=dtype)
        self.expand = nn.Linear(hidden, num_channels, bias, device=device, dtype=dtype)

    def lambda_(self, z: Tensor) -> Tensor:
        hidden = torch.relu(linear(self.reduce, plane_mean(z)))
        return restricted(linear(self.expand, hidden), self.gate)


def adaptive_kernel_size(num_channels: int) -> int:
    """|log2(C)/2 + 1/2|_odd, the nearest odd number (ECA eq. 12 with gamma = 2, b = 1); of two the greater."""
    return 2 * math.floor((math.log2(num_channels) + 1) / 4) + 1


class EfficientChannelAttention(Gate):
    """lambda = gate(convolution of the plane means along the channels): Wang, Wu, Zhu, Li, Zuo, Hu, CVPR 2020, eq. 9.

    State: conv.weight (1, 1, kernel_size); there is no bias, and the ends are padded with 0. kernel_size None is the
    paper's adaptive one.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int | None = None,
        affine: bool = True,
        *,
        gate: Restrict = "sigmoid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Gate.__init__(self, num_channels, affine, device=device, dtype=dtype)
        check_restrict("gate", gate)
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise ValueError(f"kernel_size: expected an odd number or None, got {kernel_size}")
        self.gate = gate
        self.kernel_size = adaptive_kernel_size(num_channels) if kernel_size is None else kernel_size
        self.conv = nn.Conv1d(
            1, 1, self.kernel_size, padding=self.kernel_size // 2, bias=False, device=device, dtype=dtype
        )

    def lambda_(self, z: Tensor) -> Tensor:
        m = plane_mean(z).unsqueeze(1)
        a = functional.conv1d(m, self.conv.weight.to(m.dtype), padding=self.kernel_size // 2)
        return restricted(a.squeeze(1), self.gate)


class StyleRecalibration(Gate):
    """SRM: lambda = sigmoid(BN(w_c . (mu, sigma))), sigma = sqrt(v + eps): Lee, Kim, Nam, ICCV 2019, eqs. 1-6.

    BN is over the samples, of C channels. State: style_weight = w (C, 2), 0 at the start, and norm.* of a
    BatchNorm1d(C), which has running statistics with `track_running_stats`. v is the biased variance of a plane, as
    in eq. 2; the size of eps is not in the paper.
    """

    style_weight: nn.Parameter

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        eps: float = 1e-5,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Gate.__init__(self, num_channels, affine, device=device, dtype=dtype)
        self.eps = eps
        self.add_parameter("style_weight", (num_channels, 2), 0.0, device, dtype)
        self.norm = BatchNorm1d(num_channels, track_running_stats=track_running_stats, device=device, dtype=dtype)

    def lambda_(self, z: Tensor) -> Tensor:
        mu, v = (moment.flatten(1) for moment in instance_moments(z))
        style = torch.stack((mu, torch.sqrt(v + self.eps)), dim=2)
        return torch.sigmoid(self.norm((self.style_weight.to(z.dtype) * style).sum(2)))


class GatherExcite(Gate):
    """GE-theta-minus of global extent: lambda = sigmoid(plane mean): Hu, Shen, Albanie, Sun, Vedaldi, NeurIPS 2018."""

    def lambda_(self, z: Tensor) -> Tensor:
        return torch.sigmoid(plane_mean(z))
