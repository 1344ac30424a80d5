"""Gates after a standardization, or on a bare map: squeeze-excite, ECA, SRM, gather-excite.

As a recalibration (`SqueezeExcite(64)` of fusednorm.recalibrations) a gate looks at the normalized map z =
weight*x_hat + bias and multiplies it, y = lambda z (AN eq. 5). The layer of the same name (fusednorm.SqueezeExcite)
does so to x itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.heads.planes import Restrict
from fusednorm.parts import Part

from .affine import Affine
from .attentive import norm_of
from .batch_norm import BatchNorm1d
from .layer import Standardization, new_parameter
from .projection import Projection


class Identity(Standardization):
    """x_hat = x."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self._build_identity(num_channels)

    def _build_identity(self, num_channels: int) -> None:
        checks.check_count("num_channels", num_channels)
        self.channels = self.num_channels = num_channels

    def reset_parameters(self) -> None:
        """There are none."""

    def standardization(self, x: Tensor) -> Part:
        return parts.identity()

    def extra_repr(self) -> str:
        return f"{self.num_channels}"


class Gate(Affine):
    """What the gates share: the affine map before them, there with `affine`."""

    def extra_repr(self) -> str:
        return super().extra_repr() if self.affine else ""


class SqueezeExcite(Gate):
    """y = lambda z, lambda = R(W2 relu(W1 m + b1) + b2), m the plane means of z (Hu, Shen & Sun, 2018; AN eq. 5).

    Args:
        num_channels: C.
        reduction: C/h, h the width between the two layers (at least 1).
        affine: z = weight*x_hat + bias; else z = x_hat.
        bias: b1 and b2.
        gate: R: "sigmoid", "tanh" ((1 + tanh)/2), "hsigmoid" (clip(a + 3, 0, 6)/6), or a function of a tensor or
            nn.Module, with which the layer runs in plain PyTorch; the gradients of its parameters are autograd's.

    Parameters: weight, bias (C); reduce.weight (h, C), reduce.bias (h), expand.weight (C, h), expand.bias (C), which
    start as nn.Linear's. The paper's eq. 3 has no b1 and b2.

    Raises:
        ValueError: a reduction below 1, an unknown gate. TypeError: a number that is none.
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
        nn.Module.__init__(self)
        self._build_squeeze_excite(num_channels, reduction, affine, bias, gate, device, dtype)
        self.reset_parameters()

    def _build_squeeze_excite(
        self,
        num_channels: int,
        reduction: int,
        affine: bool,
        bias: bool,
        gate: Restrict,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        self._build_affine(num_channels, affine, device, dtype)
        checks.check_count("reduction", reduction)
        checks.check_restrict("gate", gate)
        self.reduction, self.gate = reduction, gate
        hidden = max(num_channels // reduction, 1)
        self.reduce = Projection(num_channels, hidden, bias, device=device, dtype=dtype)
        self.expand = Projection(hidden, num_channels, bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """weight 1, bias 0, the rest as nn.Linear."""
        super().reset_parameters()
        self.reduce.reset_parameters()
        self.expand.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        layers = (self.reduce.weight, self.reduce.bias, self.expand.weight, self.expand.bias)
        return parts.squeeze_excite(x, self.weight, self.bias, *layers, self.gate)

    def extra_repr(self) -> str:
        own = f"reduction={self.reduction}, gate={self.gate}"
        return ", ".join(filter(None, [super().extra_repr(), own]))


class EfficientChannelAttention(Gate):
    """y = lambda z, lambda = R(conv(m)): a convolution along the channels of the plane means of z (ECA, Wang et al.,
    2020).

    Args:
        num_channels: C.
        kernel_size: k, odd; None for the paper's, |log2(C)/2 + 1/2| made odd (the official layer is given k, with a
            default of 3). Channels beyond the ends are 0.
        affine, gate: as in SqueezeExcite.

    Parameters: weight, bias (C); conv.weight (1, 1, k), which starts as nn.Conv1d's.

    Raises:
        ValueError: an even kernel_size, an unknown gate. TypeError: a number that is none.
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
        nn.Module.__init__(self)
        self._build_eca(num_channels, kernel_size, affine, gate, device, dtype)
        self.reset_parameters()

    def _build_eca(
        self,
        num_channels: int,
        kernel_size: int | None,
        affine: bool,
        gate: Restrict,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        self._build_affine(num_channels, affine, device, dtype)
        checks.check_restrict("gate", gate)
        if kernel_size is None:
            nearest = int(abs(math.log2(num_channels) / 2 + 0.5))
            kernel_size = nearest if nearest % 2 else nearest + 1
        checks.check_count("kernel_size", kernel_size)
        if kernel_size % 2 != 1:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        self.kernel_size, self.gate = kernel_size, gate
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """weight 1, bias 0, the rest as nn.Conv1d."""
        super().reset_parameters()
        self.conv.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        return parts.efficient_channel_attention(x, self.weight, self.bias, self.conv.weight, self.gate)

    def extra_repr(self) -> str:
        own = f"kernel_size={self.kernel_size}, gate={self.gate}"
        return ", ".join(filter(None, [super().extra_repr(), own]))


class StyleRecalibration(Gate):
    """y = lambda z, lambda = sigmoid(BN(style_weight . (mean, std))), channel by channel (SRM, Lee, Kim & Nam, 2019).

    mean and std = sqrt(v + eps), v biased, are those of the planes of z; BN is over samples, per channel, eps 1e-5. The
    paper's v is biased too; the official code takes torch's default, the unbiased one. Its std is sqrt(S/(S - 1)) times
    ours, but for eps: by that multiply style_weight[:, 1] of its checkpoints.

    Args:
        num_channels: C.
        affine: as in SqueezeExcite.
        eps: under the root of std.
        track_running_stats: as BatchNorm's, of the BN.

    Parameters and buffers: weight, bias (C); style_weight (C, 2), which starts as 0; norm.*, a BatchNorm1d's.

    Raises:
        ValueError: eps below 0; one sample in training. TypeError: a number that is none.
    """

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
        nn.Module.__init__(self)
        self._build_style(num_channels, affine, eps, track_running_stats, device, dtype)
        self.reset_parameters()

    def _build_style(
        self,
        num_channels: int,
        affine: bool,
        eps: float,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        self._build_affine(num_channels, affine, device, dtype)
        checks.check_eps("eps", eps)
        self.style_eps = eps
        self.style_weight = new_parameter((num_channels, 2), device, dtype)
        self.norm = BatchNorm1d(num_channels, track_running_stats=track_running_stats, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """weight 1, bias 0, style_weight 0, the BN as at the start."""
        super().reset_parameters()
        nn.init.zeros_(self.style_weight)
        self.norm.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        norm = norm_of(self.norm)
        return parts.style_recalibration(
            x, self.weight, self.bias, self.style_weight, norm, self.training, self.style_eps
        )


class GatherExcite(Gate):
    """y = z sigmoid(m), m the plane means of z: GE-theta-minus of global extent, no parameters of its own (Hu et al.,
    "Gather-Excite", 2018).

    Args:
        num_channels: C.
        affine: as in SqueezeExcite.
    """

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build_affine(num_channels, affine, device, dtype)
        self.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        return parts.gather_excite(x, self.weight, self.bias)
